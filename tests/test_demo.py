from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from unmask.demo import run_demo
from unmask.demo.forging import MARK, SOURCE_TYPE, forge, save_marked
from unmask.errors import DataError
from unmask.faces.finding import FaceFinder


def test_the_forgery_changes_the_inner_face_and_nothing_else(portrait: Path, tmp_path: Path) -> None:
    with Image.open(portrait) as picture:
        pixels = np.asarray(picture.convert("RGB"))
    (face,) = FaceFinder().find(pixels)
    forged, mask = forge(pixels, face.landmarks)
    assert forged.shape == pixels.shape and forged.dtype == np.uint8
    assert mask.shape == pixels.shape[:2] and mask.min() == 0.0 and mask.max() <= 1.0
    change = np.abs(forged.astype(int) - pixels).mean(axis=2)
    assert change[mask == 0].max() == 0
    assert change[mask > 0.9].mean() > 3
    x, y, width, height = (round(value) for value in face.box)
    inside = mask[y : y + height, x : x + width].sum() / mask.sum()
    assert inside > 0.95
    (again,) = FaceFinder().find(forged)  # still a face, in the same place
    assert np.abs(again.landmarks - face.landmarks).max() < 0.1 * width

    save_marked(forged, tmp_path / "forgery.png")
    with Image.open(tmp_path / "forgery.png") as saved:
        metadata = str(saved.info["XML:com.adobe.xmp"])
        shown = np.asarray(saved)
    assert SOURCE_TYPE in metadata and MARK in metadata
    rows = np.flatnonzero((shown != forged).any(axis=(1, 2)))
    assert rows.size and rows.min() > y + height  # the visible mark leaves the face alone
    assert rows.size < 0.1 * shown.shape[0]


@pytest.mark.parametrize("name", ["photograph.jpg", "forgery.png", "report.html"])
def test_pictures_of_the_users_are_kept(name: str, tiny_pack: Path, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"mine")
    with pytest.raises(DataError, match="is kept"):
        run_demo(tmp_path, tiny_pack)
    assert [path.name for path in tmp_path.iterdir()] == [name] and (tmp_path / name).read_bytes() == b"mine"


def test_a_demonstration_replaces_an_earlier_one(tiny_pack: Path, tmp_path: Path) -> None:
    for _ in range(2):
        run_demo(tmp_path, tiny_pack)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["forgery.png", "photograph.jpg", "report.html"]
