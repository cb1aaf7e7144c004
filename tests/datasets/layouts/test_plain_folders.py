from dataclasses import replace
from pathlib import Path

import pytest
from layout_files import by_name, draw, refusal, stems

from unmask.datasets.layouts import detect_layout, read_layout
from unmask.datasets.layouts.plain_folders import load_folders
from unmask.datasets.manifest import SHARES, read_manifest, split_of, write_manifest


def test_plain_folders_have_labels_families_videos_and_masks(folders: Path) -> None:
    one, two = stems("train")
    samples = {str(Path(s.path).relative_to(folders)): s for s in load_folders(folders)}
    assert {name: (s.label, s.family, s.subject, s.video) for name, s in samples.items()} == {
        f"real/{one}.jpg": (0, "real", one, ""),
        f"real/{two}.PNG": (0, "real", two, ""),
        "real/clip 1/000.webp": (0, "real", "clip 1", "real/clip 1"),
        f"fake/{one}.png": (1, "fake", one, ""),
        f"fake/swap/{two}.jpg": (1, "swap", two, ""),
        "fake/swap/clip 1/take 2/000.jpg": (1, "swap", "clip 1/take 2", "swap/clip 1/take 2"),
    }
    assert all(s.split == split_of(s.subject, SHARES) and s.source == "mine" for s in samples.values())
    assert {name for name, s in samples.items() if s.mask} == {f"fake/swap/{two}.jpg"}
    assert samples[f"fake/swap/{two}.jpg"].mask == str(folders / "masks" / "fake" / "swap" / f"{two}.png")


def test_a_manifest_in_the_folder_says_more_than_its_names(folders: Path) -> None:
    samples = [replace(sample, subject="one", split="test") for sample in load_folders(folders)]
    write_manifest(samples, folders / "manifest.csv")
    assert detect_layout(folders) == "manifest"
    assert {(sample.subject, sample.split) for sample in read_layout(folders)} == {("one", "test")}


def test_splits_given_by_folders_are_kept(tmp_path: Path) -> None:
    for number, split in enumerate(("train", "val", "cal", "test")):
        draw(tmp_path / split / "real" / f"r{number}.jpg")
        draw(tmp_path / split / "fake" / "gan" / f"f{number}.jpg")
    mask = draw(tmp_path / "masks" / "test" / "fake" / "gan" / "f3.jpg")
    samples = load_folders(tmp_path)
    assert all(Path(s.path).is_relative_to(tmp_path / s.split) for s in samples)
    assert {s.split for s in samples} == {"train", "val", "cal", "test"}
    assert by_name(samples)["f3.jpg"].mask == str(mask)


def test_linked_folders_are_followed(tmp_path: Path) -> None:
    one, two = stems("train")
    draw(tmp_path / "elsewhere" / f"{one}.jpg")
    draw(tmp_path / "root" / "real" / f"{two}.jpg")
    (tmp_path / "root" / "fake").mkdir()
    (tmp_path / "root" / "fake" / "gan").symlink_to(tmp_path / "elsewhere")
    assert [s.family for s in load_folders(tmp_path / "root")] == ["real", "gan"]


def test_paths_hold_from_any_working_folder(folders: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    samples = load_folders(Path("mine"))
    (tmp_path / "lists").mkdir()
    write_manifest(samples, tmp_path / "lists" / "m.csv")
    monkeypatch.chdir(tmp_path / "lists")
    assert read_manifest(Path("m.csv")) == samples


def test_a_person_on_two_sides_is_refused(tmp_path: Path) -> None:
    for place in ("train/real/a", "train/fake/b", "test/real/c", "test/fake/gan/a"):
        draw(tmp_path / f"{place}.jpg")
    message = refusal(load_folders, tmp_path)
    assert "subject 'a' is in test here and in train in" in message and "tell them apart by name" in message


def test_a_folder_of_unknown_label_is_refused(tmp_path: Path, folders: Path) -> None:
    draw(folders / "forged" / "a.jpg")
    assert "forged: holds pictures, but its name is none of fake, masks, real" in refusal(load_folders, folders)


def test_a_folder_of_unknown_split_is_refused(tmp_path: Path) -> None:
    for split in ("train", "valid"):
        draw(tmp_path / split / "real" / f"{split}1.jpg")
        draw(tmp_path / split / "fake" / f"{split}2.jpg")
    assert "valid: holds pictures, but its name is none of masks, train" in refusal(load_folders, tmp_path)
    (tmp_path / "valid").rename(tmp_path / "val")
    assert len(load_folders(tmp_path)) == 4
    draw(tmp_path / "train" / "masks" / "fake" / "train2.jpg")
    assert "train/masks: holds pictures, but its name is none of fake, real" in refusal(load_folders, tmp_path)


@pytest.mark.parametrize(("missing", "reason"), [("real", "no real sample"), ("fake", "no forged sample")])
def test_folders_of_one_class_are_refused(tmp_path: Path, missing: str, reason: str) -> None:
    for name in {"real", "fake"} - {missing}:
        draw(tmp_path / "train" / name / "a.jpg")
    draw(tmp_path / "test" / missing / "b.jpg")
    assert f"{reason} in train; add some" in refusal(load_folders, tmp_path)


def test_empty_and_absent_folders_are_refused(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    assert "no samples" in refusal(load_folders, tmp_path)
    assert "no such folder" in refusal(load_folders, tmp_path / "gone")


def test_a_mask_of_another_size_is_refused(folders: Path) -> None:
    draw(folders / "masks" / "fake" / "swap" / f"{stems('train')[1]}.png", side=4)
    assert "has 4 x 4 pixels, its picture 8 x 8" in refusal(load_folders, folders)
