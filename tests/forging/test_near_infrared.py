import cv2
import numpy as np
import pytest
from fake_faces import make_mesh, make_picture

from unmask.faces.mesh import LEFT_EYE, RIGHT_EYE
from unmask.forging.near_infrared import simulate_nir, single_band
from unmask.forging.perturbation import is_single_band

SIZE = 128
MESH = make_mesh(SIZE)
PICTURE = make_picture(SIZE, 1)


def average(pixels: np.ndarray, mesh: np.ndarray | None, seeds: int = 24) -> np.ndarray:
    """The mean over cameras, float (H, W): the noise is gone, what all have in common is left."""
    return np.mean([simulate_nir(np.random.default_rng(seed), pixels, mesh)[..., 0] for seed in range(seeds)], axis=0)


@pytest.mark.parametrize("mesh", [MESH, None], ids=["mesh", "no mesh"])
@pytest.mark.parametrize("shape", [(128, 128), (97, 121)])
def test_it_has_one_band_in_three_and_repeats(mesh: np.ndarray | None, shape: tuple[int, int]) -> None:
    pixels = np.ascontiguousarray(PICTURE[: shape[0], : shape[1]])
    before = pixels.copy()
    one, two, other = (simulate_nir(np.random.default_rng(seed), pixels, mesh) for seed in (3, 3, 4))
    assert one.shape == pixels.shape and one.dtype == np.uint8
    assert is_single_band(one)
    np.testing.assert_array_equal(one, two)
    assert (one != other).any()
    np.testing.assert_array_equal(pixels, before)


def test_it_follows_red() -> None:
    red, blue = (np.full((64, 64, 3), colour, np.uint8) for colour in ((200, 60, 60), (60, 60, 200)))
    assert average(red, None)[32, 32] > average(blue, None)[32, 32] + 60


def test_corners_are_darker() -> None:
    out = average(np.full((SIZE, SIZE, 3), 180, np.uint8), None)
    corners = np.mean([out[:10, :10], out[-10:, :10], out[:10, -10:], out[-10:, -10:]])
    assert corners < 0.85 * out[54:74, 54:74].mean()


def test_skin_is_smoothed_and_the_surroundings_are_not() -> None:
    rng = np.random.default_rng(0)
    rough = np.clip(150 + rng.normal(0, 8, (SIZE, SIZE, 1)), 0, 255).repeat(3, axis=2).astype(np.uint8)
    fine = average(rough, MESH)
    fine = fine - cv2.GaussianBlur(fine, (0, 0), 2)
    x, y = np.round(MESH.mean(axis=0)).astype(int)
    skin = fine[y + 12 : y + 18, x - 26 : x - 16]  # a cheek
    assert skin.std() < 0.6 * fine[5:25, 5:25].std()


def test_only_a_mesh_changes_the_eyes() -> None:
    flat = np.full((SIZE, SIZE, 3), 120, np.uint8)
    change = np.abs(average(flat, MESH) - average(flat, None))
    for eye in (LEFT_EYE, RIGHT_EYE):
        x, y = np.round(MESH[list(eye)].mean(axis=0)).astype(int)
        assert change[y - 3 : y + 4, x - 3 : x + 4].max() > 15
    assert change[100:, :].max() < 8


def test_there_is_noise_and_brightness_has_more() -> None:
    spreads = []
    for value in (30, 220):
        out = simulate_nir(np.random.default_rng(1), np.full((SIZE, SIZE, 3), value, np.uint8))[..., 0].astype(float)
        spreads.append(np.diff(out, axis=1).std())
    assert 0.5 < spreads[0] < spreads[1] < 15


def test_a_strayed_band_is_brought_back() -> None:
    grey = np.repeat(PICTURE[..., :1], 3, axis=2)
    np.testing.assert_array_equal(single_band(grey), grey)
    assert is_single_band(single_band(PICTURE))
