"""Sets of sketches and photos: layouts, splits, and what is refused."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from unmask.datasets.sketch_sets import UNSEEN, check_apart, read_items, read_sketches
from unmask.errors import DataError


def picture(path: Path, value: int = 128) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.full((8, 8, 3), value, np.uint8))


def of_classes(root: Path, names: list[str], count: int = 4) -> Path:
    for name in names:
        for number in range(count):
            picture(root / "photo" / name / f"{number}.png")
            picture(root / "sketch" / name / f"{number}.png")
    return root


def test_classes_named_unseen_are_in_the_test_split_alone(tmp_path: Path) -> None:
    made = read_sketches(of_classes(tmp_path, ["cat", "dog", "cow", "hen"]), ["cow"])
    assert made.unseen == ("cow",) and made.classes == ("cat", "dog", "hen")
    assert not made.people
    labels = {item.label for split in ("train", "val") for item in made.splits[split]}
    assert "cow" not in labels
    assert sum(map(len, made.splits.values())) == 32


def test_default_split_is_the_same_every_time(tmp_path: Path) -> None:
    root = of_classes(tmp_path, [f"class{number}" for number in range(20)], 2)
    one, other = read_sketches(root), read_sketches(root)
    assert one == other
    assert 1 <= len(one.unseen) <= 10
    assert read_sketches(root, seed=1).unseen != one.unseen


def test_limit_bounds_every_class_and_kind(tmp_path: Path) -> None:
    made = read_sketches(of_classes(tmp_path, ["cat", "dog", "cow"], 6), ["cow"], photos_per_class=2)
    assert len(made.splits["test"]) == 4


def test_pairs_are_people(tmp_path: Path) -> None:
    for number in range(12):
        picture(tmp_path / "photos" / f"{number:02}.png")
        picture(tmp_path / "sketches" / f"{number:02}.jpg")
    made = read_sketches(tmp_path)
    assert made.people
    for split, items in made.splits.items():
        kinds = {item.label: set() for item in items}
        for item in items:
            kinds[item.label].add(item.sketch)
        assert all(both == {True, False} for both in kinds.values()), split


def test_names_of_cuhk_and_cufsf_are_paired(tmp_path: Path) -> None:
    picture(tmp_path / "a" / "photos" / "f-005-01.jpg")
    picture(tmp_path / "a" / "sketches" / "F2-005-01-sz1.jpg")
    picture(tmp_path / "b" / "photos" / "00001fa001_930831.png")
    picture(tmp_path / "b" / "sketches" / "00001.png")
    assert {item.label for item in read_items(tmp_path / "a")[0]} == {"f-005-01"}
    assert {item.label for item in read_items(tmp_path / "b")[0]} == {"00001"}


def test_a_folder_of_sets_is_one_set_with_the_same_people_on_the_same_side(tmp_path: Path) -> None:
    for part in ("one", "two"):
        for number in range(30):
            picture(tmp_path / part / "photos" / f"{part}{number:02}.png")
            picture(tmp_path / part / "sketches" / f"{part}{number:02}.png")
    both, alone = read_sketches(tmp_path), read_sketches(tmp_path / "one")
    assert {name.removeprefix("one/") for name in both.unseen if name.startswith("one/")} == set(alone.unseen)


def test_published_layouts(tmp_path: Path) -> None:
    ready = "tx_000000000000_ready"
    sketchy, berlin, quick = tmp_path / "sketchy", tmp_path / "berlin", tmp_path / "quick"
    picture(sketchy / "256x256" / "sketch" / ready / "cat" / "a-1.png")
    picture(sketchy / "256x256" / "photo" / ready / "cat" / "a.jpg")
    picture(sketchy / "EXTEND_image_sketchy_ready" / "cat" / "b.jpg")
    picture(berlin / "png_ready" / "cat" / "1.png")
    picture(berlin / "ImageResized_ready" / "cat" / "1.jpg")
    picture(quick / "photos" / "hot-air balloon" / "1.jpg")
    line = json.dumps({"drawing": [[[0, 10], [0, 10]]]})
    (quick / "hot-air balloon.ndjson").write_text(f"{line}\n{line}\n")
    for root, sketches, photos in ((sketchy, 1, 2), (berlin, 1, 1), (quick, 2, 1)):
        items, people = read_items(root)
        assert (sum(item.sketch for item in items), sum(not item.sketch for item in items)) == (sketches, photos)
        assert not people


def test_published_lists_have_as_many_classes_as_their_names_say() -> None:
    assert {name: len(classes) for name, classes in UNSEEN.items()} == {
        "sketchy-25": 25,
        "sketchy-21": 21,
        "tuberlin-30": 30,
        "quickdraw-30": 30,
    }
    assert all(len(set(classes)) == len(classes) for classes in UNSEEN.values())


def test_a_class_on_both_sides_is_refused_however_it_is_spelt() -> None:
    with pytest.raises(DataError, match="never seen"):
        check_apart(["teddy bear", "cat"], ["Teddy_Bear"])
    check_apart(["cat"], ["dog"])


@pytest.mark.parametrize(
    ("missing", "message"),
    [("photo/dog", "class dog has no photos"), ("sketch/dog", "class dog has no sketches")],
)
def test_a_class_without_one_kind_is_refused(tmp_path: Path, missing: str, message: str) -> None:
    of_classes(tmp_path, ["cat", "dog", "cow"])
    for path in (tmp_path / missing).iterdir():
        path.unlink()
    with pytest.raises(DataError, match=message):
        read_sketches(tmp_path)


def test_no_set_an_unknown_class_and_nothing_left_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no folder"):
        read_items(tmp_path / "nowhere")
    with pytest.raises(DataError, match="no set of sketches"):
        read_items(tmp_path)
    of_classes(tmp_path, ["cat", "dog"])
    with pytest.raises(DataError, match="no class bird"):
        read_sketches(tmp_path, ["bird"])
    with pytest.raises(DataError, match="left to train on"):
        read_sketches(tmp_path, ["dog"])
