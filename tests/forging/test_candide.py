"""Candide: the fit, swaps and expression transfer, with a small model made here and the real one."""

from pathlib import Path

import numpy as np
import pytest
from fake_faces import make_mesh, make_picture

from unmask.errors import DataError
from unmask.forging.candide import LANDMARKS_68, Candide

SIZE = 128


@pytest.fixture(scope="module")
def candide(data_dir: Path) -> Candide:
    return Candide(data_dir / "weights" / "candide" / "candide.npz")


def posed(candide: Candide, expression: np.ndarray, turn: float = 0.3) -> np.ndarray:
    """A mesh whose landmarks are the model's own, turned by `turn` radians about the vertical."""
    camera = 50 * np.array([(np.cos(turn), 0, np.sin(turn)), (0, 1, 0)])
    shape = candide.neutral + np.tensordot(expression, candide.units, 1)
    mesh = make_mesh(SIZE)
    mesh[candide.points] = (shape @ camera.T + SIZE / 2)[candide.seen]
    return mesh


@pytest.mark.data
def test_the_fit_finds_pose_and_expression_again(candide: Candide) -> None:
    expression = np.zeros(10)
    expression[[1, 3]] = 0.8, -0.5  # jaw and brows
    mesh = posed(candide, expression)
    fit = candide.fit(mesh)
    assert np.abs(fit.expression - expression).max() < 0.25
    assert np.linalg.norm(fit.camera[0]) == pytest.approx(50, rel=0.03)
    vertices = candide.project(fit)
    assert np.abs(vertices[candide.seen] - mesh[candide.points]).max() < 1e-3


@pytest.mark.data
def test_another_expression_moves_the_mouth_and_leaves_the_brow(candide: Candide) -> None:
    fit = candide.fit(posed(candide, np.zeros(10), turn=0.0))
    jaw = fit.expression.copy()
    jaw[1] += 1
    moved = np.linalg.norm(candide.project(fit, jaw) - candide.project(fit), axis=1)
    assert moved[8] > 5  # below the lower lip
    assert moved[16] < 0.1  # on a brow


@pytest.mark.data
@pytest.mark.parametrize("donor", [True, False])
def test_forgeries_change_the_face_alone_and_follow_from_the_seed(candide: Candide, donor: bool) -> None:
    pixels, mesh = make_picture(SIZE, 1), posed(candide, np.zeros(10), turn=0.1)
    other = (make_picture(SIZE, 2), posed(candide, np.full(10, 0.4), turn=-0.1)) if donor else ()
    before = pixels.copy()
    for seed in range(12):
        made = [candide.reenact(np.random.default_rng(seed), pixels, mesh, *other) for _ in range(2)]
        if donor:
            made += [candide.swap(np.random.default_rng(seed), pixels, mesh, *other) for _ in range(2)]
        for (forged, mask), (again, same) in zip(made[::2], made[1::2], strict=True):
            assert np.array_equal(forged, again) and np.array_equal(mask, same)
            assert forged.shape == pixels.shape and forged.dtype == np.uint8
            assert mask.dtype == np.float32 and 0 <= mask.min() <= mask.max() <= 1
            assert (forged != pixels)[mask > 0.5].any()
            untouched = mask == 0
            assert untouched[:4].all()
            # Bands of a pyramid reach a little beyond the mask.
            assert np.abs(forged.astype(int) - pixels)[untouched].mean() < 1.5
    assert np.array_equal(pixels, before)


@pytest.mark.data
def test_any_mesh_is_taken(candide: Candide) -> None:
    pixels, folded = make_picture(SIZE, 1), make_mesh(SIZE)  # its points lie anywhere
    for seed in range(4):
        forged, _ = candide.swap(np.random.default_rng(seed), pixels, folded, make_picture(SIZE, 2), folded)
        assert forged.shape == pixels.shape


def test_landmarks_are_68() -> None:
    assert len(set(LANDMARKS_68)) == 68


@pytest.mark.parametrize("content", [None, b"nothing of the kind"])
def test_another_file_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "candide.npz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match="candide"):
        Candide(path)
    np.savez(path, mesh=np.zeros((1, 3)))
    with pytest.raises(DataError, match="candide"):
        Candide(path)
