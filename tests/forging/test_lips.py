"""Lip re-synthesis and what is seen in an opened mouth."""

import numpy as np
import pytest
from fake_faces import make_mesh, make_picture

from unmask.forging.blending import multi_band
from unmask.forging.lips import resynthesise_lips
from unmask.forging.mouth import draw_interior

SIZE = 128


@pytest.fixture
def mesh() -> np.ndarray:
    points = make_mesh(SIZE)
    around = np.linspace(np.pi, -np.pi, 20, endpoint=False)  # from the right corner over the lower lip
    for ring, wide, high in ((OUTER, 12, 5), (INNER, 9, 0.5)):
        points[list(ring)] = np.c_[64 + wide * np.cos(around), 87 + high * np.sin(around)]
    points[1], points[152] = (64, 72), (64, 108)
    return points


OUTER = (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 409, 270, 269, 267, 0, 37, 39, 40, 185)
INNER = (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308, 415, 310, 311, 312, 13, 82, 81, 80, 191)


def test_the_lower_face_alone_is_forged(mesh: np.ndarray) -> None:
    pixels = make_picture(SIZE, 1)
    before = pixels.copy()
    for seed in range(30):
        forged, mask = resynthesise_lips(np.random.default_rng(seed), pixels, mesh)
        again, same = resynthesise_lips(np.random.default_rng(seed), pixels, mesh)
        assert np.array_equal(forged, again) and np.array_equal(mask, same)
        assert forged.dtype == np.uint8 and mask.dtype == np.float32 and 0 <= mask.min() <= mask.max() <= 1
        assert mask[87, 64] > 0.5 and not mask[: SIZE // 3].any()
        assert np.array_equal(forged[mask == 0], pixels[mask == 0])
        assert (forged != pixels)[mask > 0.5].any()
    assert np.array_equal(pixels, before)


def test_the_face_is_redrawn_small(mesh: np.ndarray) -> None:
    seen = []

    def redraw(small: np.ndarray, _: np.random.Generator) -> np.ndarray:
        seen.append(small.shape)
        return np.full_like(small, 200)

    large = make_picture(4 * SIZE, 1)
    forged, mask = resynthesise_lips(np.random.default_rng(4), large, 4 * mesh, redraw)
    assert seen and all(90 <= max(shape[:2]) <= 190 for shape in seen)
    assert np.median(forged[mask > 0.99]) > 170


def test_a_mouth_shows_anothers_or_a_hollow() -> None:
    pixels = np.full((SIZE, SIZE, 3), 180, np.uint8)
    around = np.linspace(0, 2 * np.pi, 16, endpoint=False)
    opening = np.c_[64 + 20 * np.cos(around), 64 + 10 * np.sin(around)]
    hollow = draw_interior(np.random.default_rng(0), pixels, opening, 80.0)
    assert hollow[66:70, 60:68].mean() < 120 and (hollow[:40] == 180).all()
    donor = np.full((SIZE, SIZE, 3), 90, np.uint8)
    shown = draw_interior(np.random.default_rng(0), pixels, opening, 80.0, (donor, opening + 5))
    assert np.abs(shown[60:68, 60:68].astype(int) - 90).max() <= 1
    shut = np.c_[opening[:, 0], 64 + 0.02 * (opening[:, 1] - 64)]
    assert np.array_equal(draw_interior(np.random.default_rng(0), pixels, opening, 80.0, (donor, shut)), hollow)


def test_pyramids_give_back_what_went_in() -> None:
    one, other = make_picture(SIZE, 1), make_picture(SIZE, 2)
    for mask, expected in ((0.0, one), (1.0, other)):
        out = multi_band(one, other, np.full((SIZE, SIZE), mask))
        assert np.abs(out.astype(int) - expected).max() <= 1
    tiny = multi_band(one[:5, :5], other[:5, :5], np.ones((5, 5)))
    assert np.array_equal(tiny, other[:5, :5])
