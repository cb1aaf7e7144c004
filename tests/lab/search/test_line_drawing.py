"""Drawings made from photos."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from unmask.errors import DataError
from unmask.lab.search.drawing_set import draw_photos
from unmask.lab.search.line_drawing import (
    EdgeNetwork,
    edge_network,
    hed_drawing,
    jittered,
    pencil_drawing,
    with_gaps,
    xdog_drawing,
)

pytestmark = pytest.mark.lab


def square() -> np.ndarray:
    """A dark square on light grey, uint8 (64, 64, 3)."""
    out = np.full((64, 64, 3), 220, np.uint8)
    out[20:44, 20:44] = 30
    return out


def test_lines_stand_where_the_edges_are_and_the_rest_is_white() -> None:
    lines = xdog_drawing(square())
    assert lines.shape == (64, 64) and lines.dtype == np.uint8
    assert lines[18:46, 18:46].min() < 100
    assert lines[:10].min() > 200 and lines[30:34, 30:34].min() > 200


def test_pencil_keeps_dark_areas_darker() -> None:
    lines = pencil_drawing(square())
    assert lines[5, 5] > 200 and lines[21, 21] < 150


def test_white_paper_stays_white() -> None:
    white = np.full((32, 32, 3), 255, np.uint8)
    for lines in (xdog_drawing(white), pencil_drawing(white)):
        assert lines.min() == 255


def test_bent_lines_keep_their_ink_and_move() -> None:
    lines = np.full((128, 128), 255, np.uint8)
    cv2.line(lines, (20, 64), (108, 64), 0, 2)
    bent = jittered(lines, np.random.default_rng(0))
    assert not np.array_equal(bent, lines)
    ink = [(255.0 - one).sum() for one in (lines, bent)]
    assert 0.7 < ink[1] / ink[0] < 1.3
    rows = np.argwhere(bent < 128)[:, 0]
    assert np.abs(rows - 64).max() <= 4  # 0.015 of 128 pixels, and the line's width


def test_gaps_take_the_share_of_the_ink() -> None:
    lines = np.full((128, 128), 255, np.uint8)
    for row in range(8, 120, 8):
        cv2.line(lines, (8, row), (120, row), 0, 1)
    left = with_gaps(lines, np.random.default_rng(0), 0.25)
    share = 1 - (left < 200).sum() / (lines < 200).sum()
    assert 0.2 < share < 0.35
    assert bool((left >= lines).all())  # nothing is drawn
    assert np.array_equal(with_gaps(np.full((9, 9), 255, np.uint8), np.random.default_rng(0)), np.full((9, 9), 255))


def test_edge_network_takes_any_side_and_gives_probabilities() -> None:
    torch.manual_seed(0)
    network = EdgeNetwork().eval()
    for side in (33, 48):
        drawn = hed_drawing(network, np.zeros((side, side + 5, 3), np.uint8))
        assert drawn.shape == (side, side + 5)


def test_weights_of_something_else_are_refused(tmp_path: Path) -> None:
    (tmp_path / "other.h5").write_bytes(b"no HDF5")
    with pytest.raises(DataError):
        edge_network(tmp_path / "other.h5")


def photos(folder: Path, count: int = 3) -> Path:
    folder.mkdir()
    for number in range(count):
        assert cv2.imwrite(str(folder / f"{number}.png"), square()[:, ::-1] if number % 2 else square())
    return folder


def test_a_set_is_finished_when_asked_again_and_never_another(tmp_path: Path) -> None:
    source, out = photos(tmp_path / "in"), tmp_path / "out"
    assert draw_photos(source, out, ("xdog", "pencil"), size=48) == 3
    first = {path.name: path.read_bytes() for path in (out / "sketches").iterdir()}
    (out / "sketches" / "1.png").unlink()
    assert draw_photos(source, out, ("xdog", "pencil"), size=48) == 3
    assert {path.name: path.read_bytes() for path in (out / "sketches").iterdir()} == first
    assert cv2.imread(str(out / "photos" / "0.png")).shape == (48, 48, 3)
    with pytest.raises(DataError, match="styles"):
        draw_photos(source, out, ("xdog",), size=48)


def test_what_cannot_be_drawn_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no folder"):
        draw_photos(tmp_path / "nowhere", tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no photos"):
        draw_photos(tmp_path / "empty", tmp_path / "out")
    with pytest.raises(DataError, match="no style oil"):
        draw_photos(photos(tmp_path / "in"), tmp_path / "out", ("oil",))
    (tmp_path / "in" / "bad.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match="not a picture"):
        draw_photos(tmp_path / "in", tmp_path / "out", ("xdog",))
