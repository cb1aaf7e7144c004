"""The public split files of the eleven sets."""

import json
from pathlib import Path

import pytest

from unmask.errors import DataError
from unmask.lab.prompting.split_files import PUBLIC_SETS, read_public_set, read_split_file

pytestmark = pytest.mark.lab
ROWS = {
    "train": [["a/1.jpg", 0, "cat"], ["b/2.jpg", 1, "dog"]],
    "val": [["a/3.jpg", 0, "cat"]],
    "test": [["b/4.jpg", 1, "dog"], ["a/5.jpg", 0, "cat"]],
}


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


@pytest.mark.parametrize("name", [name for name, one in PUBLIC_SETS.items() if one.split])
def test_a_split_file_in_the_published_folders(name: str, tmp_path: Path) -> None:
    known = PUBLIC_SETS[name]
    pictures = tmp_path / known.folder / known.pictures
    touch(*(pictures / row[0] for rows in ROWS.values() for row in rows))
    (tmp_path / known.folder / known.split).write_text(json.dumps(ROWS))
    splits = read_public_set(name, tmp_path)
    assert splits.names == ("cat", "dog")
    assert [(one.path, one.label) for one in splits.test] == [(pictures / "b/4.jpg", 1), (pictures / "a/5.jpg", 0)]
    assert (len(splits.train), len(splits.val)) == (2, 1)


def test_aircraft_has_lists_of_its_own(tmp_path: Path) -> None:
    folder = tmp_path / "fgvc_aircraft"
    touch(*(folder / "images" / f"{number}.jpg" for number in (11, 12, 13)))
    (folder / "variants.txt").write_text("707-320\nA330 200\n")
    for split, line in (("train", "11 A330 200\n"), ("val", "12 707-320\n"), ("test", "13 707-320\n")):
        (folder / f"images_variant_{split}.txt").write_text(line)
    splits = read_public_set("fgvc_aircraft", tmp_path)
    assert (splits.train[0].label, splits.train[0].name) == (1, "A330 200")
    assert splits.test[0].label == 0 and splits.test[0].path == folder / "images/13.jpg"


def test_imagenet_has_a_folder_a_class_and_tests_on_its_validation_split(tmp_path: Path) -> None:
    folder = tmp_path / "imagenet"
    touch(
        *(folder / "images/train" / name for name in ("n02/b.JPEG", "n02/a.JPEG", "n01/c.JPEG")),
        *(folder / "images/val" / name for name in ("n01/d.JPEG", "n02/e.JPEG")),
    )
    (folder / "classnames.txt").write_text("n02 great white shark\nn01 tench\nn09 unused\n")
    splits = read_public_set("imagenet", tmp_path)
    assert splits.names == ("tench", "great white shark") and splits.val == splits.test
    assert [one.path.name for one in splits.train] == ["c.JPEG", "a.JPEG", "b.JPEG"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "not a split file"),
        (json.dumps({"train": []}), "not a split file"),
        (json.dumps({**ROWS, "test": [["x"]]}), "not a split file"),
        (json.dumps({**ROWS, "train": []}), "empty"),
        (json.dumps({**ROWS, "test": [["b/4.jpg", 1, "wolf"]]}), "is called"),
        (json.dumps(ROWS), "unpack the pictures"),
    ],
)
def test_files_that_are_not_as_they_must_be(text: str, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "split.json"
    path.write_text(text)
    with pytest.raises(DataError, match=reason):
        read_split_file(path, tmp_path / "pictures")


def test_unknown_sets_and_missing_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="eurosat"):
        read_public_set("eurosat2", tmp_path)
    for name in ("eurosat", "imagenet", "fgvc_aircraft"):
        with pytest.raises(DataError):
            read_public_set(name, tmp_path)
