import io
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from unmask.demo import DESCRIPTION, marked_png, run_demo
from unmask.demo.mirror_swap import mirror_swap
from unmask.errors import DataError
from unmask.faces.finding import FaceFinder
from unmask.media.synthetic_mark import FORGED, mark, read_synthetic_mark, with_band, without_band


def test_the_forgery_changes_the_inner_face_and_nothing_else(portrait: Path, tmp_path: Path) -> None:
    with Image.open(portrait) as picture:
        pixels = np.asarray(picture.convert("RGB"))
    (face,) = FaceFinder().find(pixels)
    forged, mask = mirror_swap(pixels, face.landmarks)
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


def test_the_forgery_is_marked_for_people_and_for_software(portrait: Path) -> None:
    with Image.open(portrait) as picture:
        pixels = np.asarray(picture.convert("RGB"))
    encoded = marked_png(pixels)
    with Image.open(io.BytesIO(encoded)) as saved:
        assert saved.info["Description"] == DESCRIPTION
        shown = np.asarray(saved)
    assert read_synthetic_mark(encoded) == "compositeSynthetic"
    np.testing.assert_array_equal(without_band(shown), pixels)  # the visible mark leaves the picture alone
    np.testing.assert_array_equal(shown, with_band(pixels, FORGED))


def test_the_reports_say_which_picture_is_marked(tiny_pack: Path, tmp_path: Path) -> None:
    real, forged = run_demo(tmp_path, tiny_pack)
    assert real.media is not None and real.media.synthetic_mark is None
    assert forged.media is not None and forged.media.synthetic_mark == "compositeSynthetic"
    assert "compositeSynthetic" in (tmp_path / "report.html").read_text(encoding="utf-8")


MARKED_BY_OTHERS = mark(cv2.imencode(".png", np.zeros((8, 8, 3), np.uint8))[1].tobytes(), "compositeSynthetic")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("photograph.jpg", b"mine"),
        ("forgery.png", b"mine"),
        ("forgery.png", MARKED_BY_OTHERS),
        ("report.html", b"mine"),
    ],
    ids=["photograph", "forgery", "marked", "page"],
)
def test_pictures_of_the_users_are_kept(name: str, content: bytes, tiny_pack: Path, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match="is kept"):
        run_demo(tmp_path, tiny_pack)
    assert [path.name for path in tmp_path.iterdir()] == [name] and (tmp_path / name).read_bytes() == content


def test_a_demonstration_replaces_an_earlier_one(tiny_pack: Path, tmp_path: Path) -> None:
    for _ in range(2):
        run_demo(tmp_path, tiny_pack)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["forgery.png", "photograph.jpg", "report.html"]
