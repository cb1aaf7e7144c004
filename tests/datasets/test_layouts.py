import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from unmask.datasets.layouts import (
    detect_layout,
    read_celebamask_hq,
    read_deepfakebench,
    read_folders,
    read_forgerynir,
    read_layout,
    read_seq_deepfake,
)
from unmask.datasets.manifest import SHARES, Sample, read_manifest, split_of, write_manifest
from unmask.errors import DataError


def draw(path: Path, side: int = 8) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (side, side), (120, 90, 80)).save(path)
    return path


def stems(split: str, count: int = 2) -> list[str]:
    """Names that the hash puts in a split."""
    return [name for name in (f"p{number}" for number in range(400)) if split_of(name, SHARES) == split][:count]


def by_name(samples: list[Sample]) -> dict[str, Sample]:
    return {Path(sample.path).name: sample for sample in samples}


def refusal(read: Callable[..., list[Sample]], *args: Any) -> str:
    """What a reader says; always one line."""
    with pytest.raises(DataError) as caught:
        read(*args)
    message = str(caught.value)
    assert "\n" not in message
    return message


# Plain folders


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    root = tmp_path / "mine"
    one, two = stems("train")
    draw(root / "real" / f"{one}.jpg")
    draw(root / "real" / f"{two}.PNG")
    draw(root / "real" / "clip 1" / "000.webp")
    draw(root / "fake" / f"{one}.png")
    draw(root / "fake" / "swap" / f"{two}.jpg")
    draw(root / "fake" / "swap" / "clip 1" / "take 2" / "000.jpg")
    draw(root / "masks" / "fake" / "swap" / f"{two}.png")
    (root / "real" / "notes.txt").write_text("no picture")
    (root / "papers").mkdir()
    return root


def test_plain_folders_have_labels_families_videos_and_masks(folders: Path) -> None:
    one, two = stems("train")
    found = {str(Path(s.path).relative_to(folders)): s for s in read_folders(folders)}
    assert {name: (s.label, s.family, s.subject, s.video) for name, s in found.items()} == {
        f"real/{one}.jpg": (0, "real", one, ""),
        f"real/{two}.PNG": (0, "real", two, ""),
        "real/clip 1/000.webp": (0, "real", "clip 1", "real/clip 1"),
        f"fake/{one}.png": (1, "fake", one, ""),
        f"fake/swap/{two}.jpg": (1, "swap", two, ""),
        "fake/swap/clip 1/take 2/000.jpg": (1, "swap", "clip 1/take 2", "swap/clip 1/take 2"),
    }
    assert all(s.split == split_of(s.subject, SHARES) and s.source == "mine" for s in found.values())
    assert {name for name, s in found.items() if s.mask} == {f"fake/swap/{two}.jpg"}
    assert found[f"fake/swap/{two}.jpg"].mask == str(folders / "masks" / "fake" / "swap" / f"{two}.png")


def test_a_manifest_in_the_folder_says_more_than_its_names(folders: Path) -> None:
    found = [replace(sample, subject="one", split="test") for sample in read_folders(folders)]
    write_manifest(found, folders / "manifest.csv")
    assert detect_layout(folders) == "manifest"
    assert {(sample.subject, sample.split) for sample in read_layout(folders)} == {("one", "test")}


def test_splits_given_by_folders_are_kept(tmp_path: Path) -> None:
    for number, split in enumerate(("train", "val", "cal", "test")):
        draw(tmp_path / split / "real" / f"r{number}.jpg")
        draw(tmp_path / split / "fake" / "gan" / f"f{number}.jpg")
    mask = draw(tmp_path / "masks" / "test" / "fake" / "gan" / "f3.jpg")
    samples = read_folders(tmp_path)
    assert all(Path(s.path).is_relative_to(tmp_path / s.split) for s in samples)
    assert {s.split for s in samples} == {"train", "val", "cal", "test"}
    assert by_name(samples)["f3.jpg"].mask == str(mask)


def test_linked_folders_are_followed(tmp_path: Path) -> None:
    one, two = stems("train")
    draw(tmp_path / "elsewhere" / f"{one}.jpg")
    draw(tmp_path / "root" / "real" / f"{two}.jpg")
    (tmp_path / "root" / "fake").mkdir()
    (tmp_path / "root" / "fake" / "gan").symlink_to(tmp_path / "elsewhere")
    assert [s.family for s in read_folders(tmp_path / "root")] == ["real", "gan"]


def test_paths_hold_from_any_working_folder(folders: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    samples = read_folders(Path("mine"))
    (tmp_path / "lists").mkdir()
    write_manifest(samples, tmp_path / "lists" / "m.csv")
    monkeypatch.chdir(tmp_path / "lists")
    assert read_manifest(Path("m.csv")) == samples


def test_a_person_on_two_sides_is_refused(tmp_path: Path) -> None:
    for place in ("train/real/a", "train/fake/b", "test/real/c", "test/fake/gan/a"):
        draw(tmp_path / f"{place}.jpg")
    message = refusal(read_folders, tmp_path)
    assert "subject 'a' is in test here and in train in" in message and "tell them apart by name" in message


def test_a_folder_of_unknown_label_is_refused(tmp_path: Path, folders: Path) -> None:
    draw(folders / "forged" / "a.jpg")
    assert "forged: holds pictures, but its name is none of fake, masks, real" in refusal(read_folders, folders)


def test_a_folder_of_unknown_split_is_refused(tmp_path: Path) -> None:
    for split in ("train", "valid"):
        draw(tmp_path / split / "real" / f"{split}1.jpg")
        draw(tmp_path / split / "fake" / f"{split}2.jpg")
    assert "valid: holds pictures, but its name is none of masks, train" in refusal(read_folders, tmp_path)
    (tmp_path / "valid").rename(tmp_path / "val")
    assert len(read_folders(tmp_path)) == 4
    draw(tmp_path / "train" / "masks" / "fake" / "train2.jpg")
    assert "train/masks: holds pictures, but its name is none of fake, real" in refusal(read_folders, tmp_path)


@pytest.mark.parametrize(("missing", "told"), [("real", "no real sample"), ("fake", "no forged sample")])
def test_folders_of_one_class_are_refused(tmp_path: Path, missing: str, told: str) -> None:
    for name in {"real", "fake"} - {missing}:
        draw(tmp_path / "train" / name / "a.jpg")
    draw(tmp_path / "test" / missing / "b.jpg")
    assert f"{told} in train; add some" in refusal(read_folders, tmp_path)


def test_empty_and_absent_folders_are_refused(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    assert "no samples" in refusal(read_folders, tmp_path)
    assert "no such folder" in refusal(read_folders, tmp_path / "gone")


def test_a_mask_of_another_size_is_refused(folders: Path) -> None:
    draw(folders / "masks" / "fake" / "swap" / f"{stems('train')[1]}.png", side=4)
    assert "has 4 x 4 pixels, its picture 8 x 8" in refusal(read_folders, folders)


# DeepfakeBench


def listed(label: str, *frames: str, masks: list[str] | None = None) -> dict[str, Any]:
    return {"label": label, "frames": list(frames)} | ({} if masks is None else {"masks": masks})


def faceforensics() -> dict[str, Any]:
    """As `rearrange.py` writes FF-DF.json: a level of compression, frames in no order, masks for some."""
    real, fake = "FaceForensics++/original_sequences/youtube", "FaceForensics++/manipulated_sequences/Deepfakes"
    return {
        "FF-DF": {
            "FF-real": {
                "train": {
                    "c23": {"003": listed("FF-real", f"{real}/c23/frames/003/000.png")},
                    "c40": {"003": listed("FF-real", f"{real}/c40/frames/003/000.png")},
                },
                "val": {"c23": {}, "c40": {}},
                "test": {"c23": {"100": listed("FF-real", f"{real}/c23/frames/100/7.png")}},
            },
            "FF-DF": {
                "train": {
                    "c23": {
                        "000_003": listed(
                            "FF-DF",
                            f"{fake}/c23/frames/000_003/10.png",
                            f"{fake}\\c23\\frames\\000_003\\9.png",
                            masks=[f"{fake}/c23/masks/000_003/9.png"],
                        )
                    }
                },
                "val": {"c23": {}},
                "test": {"c23": {"200_100": listed("FF-DF", f"{fake}/c23/frames/200_100/000.png", masks=[])}},
            },
        }
    }


def write_json(content: Any, path: Path, root: Path | None = None) -> Path:
    """The file, and below `root` every frame and mask it names."""

    def make(node: Any) -> None:
        if isinstance(node, dict):
            for name, inner in node.items():
                if name in ("frames", "masks") and root is not None:
                    for frame in inner:
                        draw(root / frame.replace("\\", "/"))
                else:
                    make(inner)

    make(content)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def test_deepfakebench_is_read(tmp_path: Path) -> None:
    path = write_json(faceforensics(), tmp_path / "FF-DF.json", tmp_path / "rgb")
    samples = read_deepfakebench(path, tmp_path / "rgb")
    assert [(s.video, s.label, s.family, s.split, Path(s.path).name) for s in samples] == [
        ("FF-real/c23/003", 0, "real", "train", "000.png"),
        ("FF-real/c40/003", 0, "real", "train", "000.png"),
        ("FF-real/c23/100", 0, "real", "test", "7.png"),
        ("FF-DF/c23/000_003", 1, "FF-DF", "train", "9.png"),
        ("FF-DF/c23/000_003", 1, "FF-DF", "train", "10.png"),
        ("FF-DF/c23/200_100", 1, "FF-DF", "test", "000.png"),
    ]
    assert {s.source for s in samples} == {"FF-DF"}
    assert [bool(s.mask) for s in samples] == [False, False, False, True, False, False]
    assert samples[3].mask.endswith("c23/masks/000_003/9.png")


def test_exchanged_faces_are_one_subject(tmp_path: Path) -> None:
    path = write_json(faceforensics(), tmp_path / "FF-DF.json", tmp_path)
    subject = {s.video: s.subject for s in read_deepfakebench(path, tmp_path)}
    assert subject["FF-real/c23/003"] == subject["FF-real/c40/003"] == subject["FF-DF/c23/000_003"] == "FF-DF/000"
    assert subject["FF-real/c23/100"] == subject["FF-DF/c23/200_100"] != subject["FF-DF/c23/000_003"]


def test_a_chain_of_exchanges_is_one_subject(tmp_path: Path) -> None:
    videos = {name: listed("x_fake", f"{name}.png") for name in ("005_007", "003_005", "001_002", "007")}
    content = {"x": {"x_fake": {"test": videos}}}
    samples = read_deepfakebench(write_json(content, tmp_path / "x.json", tmp_path), tmp_path)
    assert [s.subject for s in samples] == ["x/003", "x/003", "x/001", "x/003"]


@pytest.mark.parametrize("above", ["preprocessing/dataset_json", "", "a/b/c"])
def test_the_folder_of_the_frames_is_found_above_the_file(tmp_path: Path, above: str) -> None:
    path = write_json(faceforensics(), tmp_path / above / "FF-DF.json", tmp_path)
    assert read_deepfakebench(path) == read_deepfakebench(path, tmp_path) == read_layout(path)


def test_frames_may_have_absolute_paths(tmp_path: Path) -> None:
    frames = [str(tmp_path / "far" / f"{name}.png") for name in "ab"]
    content = {"x": {"x_real": {"test": {"a": listed("x_real", frames[0])}}, "x_fake": {"test": {}}}}
    write_json(content, tmp_path / "json" / "x.json", tmp_path)
    assert [s.path for s in read_deepfakebench(tmp_path / "json" / "x.json")] == frames[:1]


LABELS = {
    "FF-real": 0,
    "DFD_real": 0,
    "CelebDFv2_real": 0,
    "DFDCP_Real": 0,
    "real": 0,
    "FF-F2F": 1,
    "FF-FS": 1,
    "FF-NT": 1,
    "FF-SH": 1,
    "FF-FH": 1,
    "DFD_fake": 1,
    "DFDCP_FakeA": 1,
    "DFDCP_FakeB": 1,
    "UADFV_Fake": 1,
    "simswap_Fake": 1,
    "fake": 1,
}


@pytest.mark.parametrize(("label", "forged"), LABELS.items())
def test_labels_of_the_benchmark_become_ours(tmp_path: Path, label: str, forged: int) -> None:
    content = {"x": {label: {"test": {"v": listed(label, "v.png")}}}}
    (sample,) = read_deepfakebench(write_json(content, tmp_path / "x.json", tmp_path))
    assert (sample.label, sample.family) == (forged, label if forged else "real")


def names_by_split(samples: list[Sample]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for sample in samples:
        found.setdefault(sample.split, set()).add(Path(sample.path).stem)
    return found


def test_a_video_listed_in_several_splits_stands_in_one(tmp_path: Path) -> None:
    """As in Celeb-DF (train holds all, val is test) and DFDC (val is train)."""

    def label(name: str) -> dict[str, Any]:
        videos = {v: listed(f"C_{name}", f"{name}/{v}.png") for v in (f"{name}1", f"{name}2", f"{name}3")}
        held_out = {f"{name}3": videos[f"{name}3"]}
        return {"train": videos, "val": held_out | {f"{name}2": videos[f"{name}2"]}, "test": held_out}

    content = {"C": {"C_real": label("real"), "C_fake": label("fake")}}
    samples = read_deepfakebench(write_json(content, tmp_path / "C.json", tmp_path))
    assert names_by_split(samples) == {"train": {"real1", "real2", "fake1", "fake2"}, "test": {"real3", "fake3"}}


def test_a_file_that_gives_no_split_is_split_by_hash(tmp_path: Path) -> None:
    """As in UADFV: every video in every split."""
    content: dict[str, Any] = {"U": {}}
    for label in ("U_Real", "U_Fake"):
        videos = {f"{n:04d}": listed(label, f"{label}/{n}.png") for n in range(30)}
        content["U"][label] = dict.fromkeys(("train", "val", "test"), videos)
    samples = read_deepfakebench(write_json(content, tmp_path / "U.json", tmp_path))
    assert len(samples) == 60
    assert all(s.split == split_of(s.subject, SHARES) for s in samples)


def test_a_subject_stays_where_one_of_its_videos_stands_alone(tmp_path: Path) -> None:
    """As in DF40's e4e: forgeries in every split, the real videos they were made from in one."""
    fakes = {"001": listed("e_Fake", "f1.png"), "002": listed("e_Fake", "f2.png")}
    content = {
        "e": {
            "e_Real": {"train": {"001": listed("e_Real", "1.png")}, "test": {"002": listed("e_Real", "2.png")}},
            "e_Fake": {"train": fakes, "test": fakes},
        }
    }
    samples = read_deepfakebench(write_json(content, tmp_path / "e.json", tmp_path))
    assert names_by_split(samples) == {"train": {"1", "f1"}, "test": {"2", "f2"}}


def test_the_stray_video_of_dfdc_is_passed_over(tmp_path: Path) -> None:
    last = listed("DFDC_Real", "b.png")
    content = {"DFDC": {"DFDC_Real": {"test": {"a": listed("DFDC_Real", "a.png"), "b": last}, "val": dict(last)}}}
    samples = read_deepfakebench(write_json(content, tmp_path / "DFDC.json", tmp_path))
    assert names_by_split(samples) == {"test": {"a", "b"}}


def change(content: dict[str, Any], **changes: Any) -> dict[str, Any]:
    content["FF-DF"]["FF-DF"]["train"]["c23"]["000_003"].update(changes)
    return content


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (change(faceforensics(), label="manipulated"), "FF-DF/FF-DF/train/000_003: label 'manipulated'; write one of"),
        (change(faceforensics(), label=None), "label None"),
        (change(faceforensics(), frames="000.png"), "frames is no list of paths"),
        (change(faceforensics(), masks=[1]), "masks is no list of paths"),
        ({"x": {"x_real": {"holdout": {}}}}, "this layout has train, val and test"),
        ({"x": {"x_real": {"train": {"c23": {"v": {"label": "x_real"}}}}}}, "train/c23/v: no frames"),
        ({"x": {"x_real": {"train": ["a.png"]}}}, "x/x_real/train: not {data set"),
        ({"x": {"x_real": {"train": {"v": 3}}}}, "not {data set"),
        ([["071", "054"]], "not {data set"),
        ({}, "no samples"),
        ({"x": {"x_real": {"train": {"v": {"label": "x_real", "frames": []}}}}}, "no samples"),
        (
            {"x": {"x": {"train": {"v": listed("x_real", "v.png")}, "test": {"v": listed("x_fake", "v.png")}}}},
            "real in one split and forged in another",
        ),
        (
            {
                "x": {
                    "x_real": {"train": {"001": listed("x_real", "1.png"), "002": listed("x_real", "2.png")}},
                    "x_fake": {
                        "test": {"001_002": listed("x_fake", "3.png")},
                        "train": {"9": listed("x_fake", "9.png")},
                    },
                }
            },
            "video x_fake/001_002: subject 'x/001' is in test here and in train in video x_real/001",
        ),
        ({"x": {"x_real": {"train": {"v": listed("x_real", "v.png")}}}}, "no forged sample in train"),
    ],
)
def test_a_faulty_deepfakebench_file_is_refused(tmp_path: Path, content: Any, told: str) -> None:
    frames = None if "no list" in told else tmp_path
    message = refusal(read_deepfakebench, write_json(content, tmp_path / "bench.json", frames))
    assert told in message and "bench.json" in message


def test_frames_that_are_not_there_are_named_with_their_root(tmp_path: Path) -> None:
    path = write_json(faceforensics(), tmp_path / "FF-DF.json")
    (tmp_path / "rgb").mkdir()
    message = refusal(read_deepfakebench, path, tmp_path / "rgb")
    assert f"(pictures from {tmp_path / 'rgb'}), video FF-real/c23/003: no file" in message
    assert "(nor 5 more)" in message and "correct the path" in message
    assert "no such folder" in refusal(read_deepfakebench, path, tmp_path / "gone")


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe\x00", b"[" * 100_000])
def test_a_file_that_is_no_json_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.json").write_bytes(content)
    assert "x.json: not a readable JSON file" in refusal(read_layout, tmp_path / "x.json")


# Seq-DeepFake


@pytest.fixture
def sequences(tmp_path: Path) -> Path:
    root = tmp_path / "seq"
    rows = {
        "facial_components": [("nose-eye-lip", "[1, 2, 4, 0, 0]"), ("original", "[0, 0, 0, 0, 0]")],
        "facial_attributes": [("Young-Bangs-Beard-Smiling-Eyeglasses", "[5,1,3,4,2]"), ("original", "[0,0,0,0,0]")],
    }
    for track, kinds in rows.items():
        for split in ("train", "val", "test"):
            table = root / track / "annotations" / f"{split}.csv"
            table.parent.mkdir(parents=True, exist_ok=True)
            lines = ["file_path,label"]
            for folder, label in kinds:
                name = f"{track}/images/{split}/{folder}/000001.jpg"
                draw(root / name)
                lines.append(f'{name},"{label}"')
            table.write_text("\n".join(lines) + "\n")
    return root


def test_seq_deepfake_is_read(sequences: Path) -> None:
    samples = read_seq_deepfake(sequences)
    assert len(samples) == 12
    first, second = samples[:2]
    assert first == Sample(
        path=str(sequences / "facial_components/images/train/nose-eye-lip/000001.jpg"),
        label=1,
        family="stylemapgan",
        source="seq-deepfake/facial_components",
        subject="facial_components/train/000001",
        split="train",
        sequence="nose-eye-lip",
    )
    assert (second.label, second.family, second.sequence) == (0, "real", "")
    attributes = [s for s in samples if s.source == "seq-deepfake/facial_attributes" and s.label]
    assert {(s.family, s.sequence) for s in attributes} == {("talk-to-edit", "Young-Bangs-Beard-Smiling-Eyeglasses")}
    assert [s.split for s in attributes] == ["train", "val", "test"]
    assert all(s.sequence in (Path(s.path).parent.name, "") for s in samples)


def test_annotations_read_the_same_however_a_spreadsheet_writes_them(sequences: Path) -> None:
    before = read_seq_deepfake(sequences)
    for table in sequences.glob("*/annotations/*.csv"):
        text = (
            table.read_text().replace('","', '";"').replace(',"', ';"').replace("file_path,label", " File_Path ;Label")
        )
        table.write_bytes(text.encode("utf-8-sig"))
    assert read_layout(sequences) == read_seq_deepfake(sequences) == before
    table = sequences / "facial_components" / "annotations" / "val.csv"
    assert detect_layout(table) == "seq_deepfake"


def test_a_track_or_one_annotation_file_can_be_read_alone(sequences: Path) -> None:
    track = sequences / "facial_components"
    assert {s.source for s in read_layout(track)} == {"seq-deepfake/facial_components"}
    assert [s.split for s in read_layout(track / "annotations" / "val.csv")] == ["val", "val"]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('NAME,"[1, 2, 4, 0]"', "row 3: label '[1, 2, 4, 0]'; write five numbers"),
        ('NAME,"[1, 2, 6, 0, 0]"', "6 is none of the numbers 0 to 5; correct it or drop the row"),
        ('NAME,"[1, -2, 4, 0, 0]"', "-2 is none of the numbers 0 to 5"),
        ('NAME,"[1, 0, 2, 0, 0]"', "an edit stands after a zero; zeros go to the end"),
        ('NAME,"[1, 2, 1, 0, 0]"', "edit 1 stands twice; each can be made once"),
        ('NAME,"[1, 2, 3, 4, 5, 1]"', "6 places; a sequence has at most 5"),
        ("NAME,fake", "write five numbers"),
        ("NAME,", "row 3: no label; fill the column"),
        ('gone.jpg,"[0,0,0,0,0]"', "facial_components/annotations/train.csv, row 3: no file"),
        ('OTHER,"[0,0,0,0,0]"', "is in val here and in train in facial_components/annotations/train.csv, row 3"),
    ],
)
def test_a_faulty_annotation_is_named(sequences: Path, line: str, told: str) -> None:
    table = sequences / "facial_components" / "annotations" / "train.csv"
    header, first, _ = table.read_text().splitlines()
    line = line.replace("NAME", first.split(",")[0])
    line = line.replace("OTHER", "facial_components/images/val/original/000001.jpg")
    table.write_text(f"{header}\n{first}\n{line}\n")
    message = refusal(read_seq_deepfake, sequences)
    assert told in message and str(sequences) in message


def test_annotations_that_are_not_there_or_elsewhere_are_refused(sequences: Path, tmp_path: Path) -> None:
    (tmp_path / "facial_components").mkdir()
    assert "no annotations/train.csv" in refusal(read_seq_deepfake, tmp_path)
    assert "no annotations/train.csv" in refusal(read_layout, tmp_path)
    table = tmp_path / "train.csv"
    table.write_text((sequences / "facial_components" / "annotations" / "train.csv").read_text())
    assert "train.csv: not at facial_components" in refusal(read_layout, table)
    (sequences / "facial_components" / "annotations" / "train.csv").write_bytes(b"\xff\xfe")
    assert "cannot be read: it is empty" in refusal(read_seq_deepfake, sequences)


def test_originals_alone_are_refused(sequences: Path) -> None:
    for table in sequences.glob("*/annotations/train.csv"):
        header, _, original = table.read_text().splitlines()
        table.write_text(f"{header}\n{original}\n")
    assert "no forged sample in train" in refusal(read_seq_deepfake, sequences)


PAIRED = """\
facial_components/images/train/nose-eye/7.png,"[1, 2, 0, 0, 0]",ORIGINALS/1.png,MASKS/7.png,STEPS/7
facial_components/images/train/lip/8.png,"[4, 0, 0, 0, 0]",ORIGINALS/1.png,MASKS/8.png,STEPS/8
facial_components/images/train/original/9.png,"[0, 0, 0, 0, 0]",ORIGINALS/1.png,,
facial_components/images/train/original/5.png,"[0, 0, 0, 0, 0]",,,
"""


@pytest.fixture
def paired(tmp_path: Path) -> Path:
    """Two edited faces and one drawn anew, all of one original, and an untouched face without one."""
    root = tmp_path / "paired"
    for name in ("nose-eye/7", "lip/8", "original/9", "original/5"):
        draw(root / "facial_components" / "images" / "train" / f"{name}.png")
    draw(root / "facial_components" / "originals" / "1.png")
    for number, edits in ((7, 2), (8, 1)):
        draw(root / "facial_components" / "masks" / f"{number}.png")
        for step in range(1, edits + 1):
            draw(root / "facial_components" / "steps" / f"{number}" / f"{step}-mask.png")
    (root / "facial_components" / "annotations").mkdir()
    annotate(root, PAIRED)
    return root


def annotate(root: Path, lines: str, header: str = "file_path,label,original,mask,steps") -> None:
    for folder in ("originals", "masks", "steps"):
        lines = lines.replace(folder.upper(), f"facial_components/{folder}")
    (root / "facial_components" / "annotations" / "train.csv").write_text(f"{header}\n{lines}")


def test_originals_masks_and_steps_are_read_as_paths_that_hold(paired: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(paired.parent)
    top = paired / "facial_components"
    samples = read_layout(Path("paired"))
    found = [(Path(s.path).name, s.original, s.mask, s.steps) for s in samples]
    original = str(top / "originals" / "1.png")
    assert found == [
        ("7.png", original, str(top / "masks" / "7.png"), str(top / "steps" / "7")),
        ("8.png", original, str(top / "masks" / "8.png"), str(top / "steps" / "8")),
        ("9.png", original, "", ""),
        ("5.png", "", "", ""),
    ]
    assert samples == read_layout(Path("paired/facial_components/annotations/train.csv"))


def test_pictures_of_one_original_are_of_one_subject(paired: Path) -> None:
    subjects = {Path(s.path).stem: s.subject for s in read_seq_deepfake(paired)}
    one = "facial_components/train/1"
    assert subjects == {"7": one, "8": one, "9": one, "5": "facial_components/train/5"}


def test_paired_annotations_can_be_kept_as_a_manifest(paired: Path, tmp_path: Path) -> None:
    samples = read_layout(paired)
    write_manifest(samples, tmp_path / "m.csv")
    assert read_manifest(tmp_path / "m.csv") == samples


@pytest.mark.parametrize(
    ("name", "cells"), [("original", "ORIGINALS/1.png"), ("mask", "MASKS/8.png"), ("steps", "STEPS/8")]
)
def test_a_column_filled_for_some_edited_faces_only_is_refused(paired: Path, name: str, cells: str) -> None:
    edited = PAIRED.splitlines()[1]
    annotate(paired, PAIRED.replace(edited, edited.replace(cells, "")))
    told = f"train.csv, row 3: no {name}, which other edited faces have; fill it or drop the column"
    assert told in refusal(read_seq_deepfake, paired)


def test_it_is_told_how_many_more_cells_are_empty(paired: Path) -> None:
    lines = PAIRED.splitlines(keepends=True)
    annotate(paired, lines[0] + 3 * lines[1].replace("MASKS/8.png", ""))
    assert "row 3 (nor 2 more): no mask, which other edited faces have" in refusal(read_seq_deepfake, paired)


@pytest.mark.parametrize(
    "header", ["file_path,label,original", "file_path,label,a,mask", "file_path,label,a,b,steps", "file_path,label"]
)
def test_columns_may_be_dropped(paired: Path, header: str) -> None:
    width = header.count(",") + 4  # a label's own commas
    annotate(paired, "".join(",".join(line.split(",")[: width + 1]) + "\n" for line in PAIRED.splitlines()), header)
    known = {name for s in read_seq_deepfake(paired) for name in ("original", "mask", "steps") if getattr(s, name)}
    assert known == set(header.split(",")) & {"original", "mask", "steps"}


def test_an_original_of_another_size_is_refused(paired: Path) -> None:
    original = draw(paired / "facial_components" / "originals" / "1.png", side=4)
    message = refusal(read_seq_deepfake, paired)
    told = f"facial_components/annotations/train.csv, row 2: original {original} has 4 x 4 pixels, its picture 8 x 8"
    assert told in message and "scale it to the picture's size" in message


@pytest.mark.parametrize(
    ("name", "row"), [("originals/1.png", 2), ("originals/2.png", 3), ("masks/8.png", 3), ("steps/8", 3)]
)
def test_an_original_a_mask_or_steps_that_are_not_there_are_named_with_their_row(
    paired: Path, name: str, row: int
) -> None:
    edited = PAIRED.splitlines()[1]
    if name == "originals/2.png":
        annotate(paired, PAIRED.replace(edited, edited.replace("ORIGINALS/1.png", "ORIGINALS/2.png")))
    else:
        path = paired / "facial_components" / name
        path.rename(path.with_name("aside"))
    message = refusal(read_seq_deepfake, paired)
    assert (
        f"facial_components/annotations/train.csv, row {row}: no file {paired / 'facial_components' / name}" in message
    )
    assert message.endswith("correct the path or drop the row")


# ForgeryNIR

GENERATORS = ("cyclegan", "progan", "stylegan", "stylegan2")


def forgery_nir(top: Path, reals: Path | None = None) -> None:
    for folder in (reals or top / "0_real", *(top / generator for generator in GENERATORS)):
        for number in range(12):
            draw(folder / f"{number}.png")


def test_forgerynir_is_read_as_its_readme_lays_it_out(tmp_path: Path) -> None:
    for name in ("ForgeryNIR/ForgeryNIR-std", "ForgeryNIR/ForgeryNIR-rand", "ForgeryNIR+"):
        forgery_nir(tmp_path / name)
    samples = read_forgerynir(tmp_path, "std")
    assert len(samples) == 60
    assert {(s.label, s.family) for s in samples} == {(0, "real"), *((1, generator) for generator in GENERATORS)}
    assert {(s.spectrum, s.source) for s in samples} == {("nir", "forgerynir")}
    assert all(s.split == split_of(s.subject, SHARES) for s in samples)
    assert {s.subject for s in samples} == {f"forgerynir/{number}" for number in range(12)}
    again = read_forgerynir(tmp_path / "ForgeryNIR", "rand")
    assert [(s.subject, s.split) for s in again] == [(s.subject, s.split) for s in samples]
    assert len(read_forgerynir(tmp_path, "+")) == len(read_forgerynir(tmp_path / "ForgeryNIR+", "+")) == 60


def test_forgerynir_is_read_as_hfc_mffd_lays_it_out(tmp_path: Path) -> None:
    for split in ("train", "val", "test"):
        forgery_nir(tmp_path / "ForgeryNIR/ForgeryNIR-mix_multi" / split, tmp_path / "NIR_VIS 2.0" / split)
    samples = read_forgerynir(tmp_path, "mix_multi")
    assert len(samples) == 180
    assert {Path(s.path).relative_to(tmp_path).parts[0] for s in samples if not s.label} == {"NIR_VIS 2.0"}
    assert all(s.split in Path(s.path).parts and s.subject.startswith(f"forgerynir/{s.split}/") for s in samples)


def test_folders_by_person_are_its_subjects(tmp_path: Path) -> None:
    people = [str(person) for person in range(10001, 10009)]
    for person in people:
        forgery_nir(tmp_path / "ForgeryNIR-std", tmp_path / "ForgeryNIR-std" / "0_real" / person)
    reals = [s for s in read_forgerynir(tmp_path, "std") if not s.label]
    assert {s.subject for s in reals} == {f"forgerynir/{person}" for person in people}


def test_a_faulty_forgerynir_is_refused(tmp_path: Path) -> None:
    forgery_nir(tmp_path / "ForgeryNIR-std")
    assert "no folder ForgeryNIR-hard; subsets there: ForgeryNIR-std" in refusal(read_forgerynir, tmp_path, "hard")
    (tmp_path / "empty").mkdir()
    assert "subsets there: none" in refusal(read_forgerynir, tmp_path / "empty", "std")
    draw(tmp_path / "ForgeryNIR-std" / "stargan" / "0.png")
    assert "stargan: holds pictures, but its name is none of 0_real" in refusal(read_forgerynir, tmp_path, "std")


def test_forgerynir_without_reals_is_refused(tmp_path: Path) -> None:
    forgery_nir(tmp_path / "ForgeryNIR-std", tmp_path / "somewhere")
    assert "no real sample in train" in refusal(read_forgerynir, tmp_path, "std")
    (tmp_path / "ForgeryNIR-std").rename(tmp_path / "old")
    (tmp_path / "ForgeryNIR-std" / "0_real").mkdir(parents=True)
    assert "no samples" in refusal(read_forgerynir, tmp_path, "std")


def test_one_subset_is_found_and_several_are_not_mixed(tmp_path: Path) -> None:
    forgery_nir(tmp_path / "ForgeryNIR" / "ForgeryNIR-std")
    assert read_layout(tmp_path) == read_layout(tmp_path / "ForgeryNIR") == read_forgerynir(tmp_path, "std")
    forgery_nir(tmp_path / "ForgeryNIR" / "ForgeryNIR-rand")
    assert "subsets ForgeryNIR-rand, ForgeryNIR-std show the same faces" in refusal(read_layout, tmp_path)
    assert read_layout(tmp_path / "ForgeryNIR/ForgeryNIR-std") == read_forgerynir(tmp_path, "std")
    forgery_nir(tmp_path / "plus" / "ForgeryNIR+")
    assert read_layout(tmp_path / "plus") == read_forgerynir(tmp_path / "plus", "+")


# CelebAMask-HQ


@pytest.fixture
def celebamask(tmp_path: Path) -> Path:
    """Pictures 0, 1, 2 and 2001, of which 2 has no parts; two show the same person."""
    root = tmp_path / "CelebAMask-HQ"
    for number in (0, 1, 2, 2001):
        draw(root / "CelebA-HQ-img" / f"{number}.jpg")
    for number, folder in ((0, 0), (1, 0), (2001, 1)):
        for part in ("hair", "skin"):
            draw(root / "CelebAMask-HQ-mask-anno" / str(folder) / f"{number:05d}_{part}.png", side=4)
    return root


def add_mapping(root: Path) -> None:
    (root / "CelebA-HQ-to-CelebA-mapping.txt").write_text(
        "idx    orig_idx   orig_file\n"
        "0          162769  162770.jpg\n1          162770  162771.jpg\n"
        "2          182637  182638.jpg\n2001            8  000009.jpg\n"
    )


def test_celebamask_hq_is_read(celebamask: Path) -> None:
    samples = read_celebamask_hq(celebamask)
    assert [Path(s.path).name for s in samples] == ["0.jpg", "1.jpg", "2.jpg", "2001.jpg"]
    assert {(s.label, s.family, s.source) for s in samples} == {(0, "real", "celebamask")}
    parts = celebamask / "CelebAMask-HQ-mask-anno"
    assert [s.mask for s in samples] == [str(parts / "0"), str(parts / "0"), "", str(parts / "1")]
    assert [s.subject for s in samples] == [f"celebamask-hq/{number}" for number in (0, 1, 2, 2001)]
    assert all(s.split == split_of(s.subject, SHARES) for s in samples)


@pytest.mark.parametrize("name", ["CelebAMaskHQ-mask", "CelebAMask-HQ-mask"])
def test_merged_masks_stand_in_for_parts(celebamask: Path, name: str) -> None:
    for number in (1, 2):
        draw(celebamask / name / f"{number}.png")
    masks = [Path(s.mask).relative_to(celebamask).as_posix() for s in read_celebamask_hq(celebamask)]
    parts = "CelebAMask-HQ-mask-anno"
    assert masks == [f"{parts}/0", f"{parts}/0", f"{name}/2.png", f"{parts}/1"]
    draw(celebamask / name / "2.png", side=4)
    assert "has 4 x 4 pixels, its picture 8 x 8" in refusal(read_celebamask_hq, celebamask)


def test_the_mapping_gives_celebas_own_split(celebamask: Path) -> None:
    add_mapping(celebamask)
    samples = read_celebamask_hq(celebamask)
    assert [s.split for s in samples] == ["train", "val", "test", "train"]
    assert [s.subject for s in samples][:2] == ["celeba/162770.jpg", "celeba/162771.jpg"]


def test_identities_are_the_subjects(celebamask: Path) -> None:
    add_mapping(celebamask)
    people = "162770.jpg 17\n162771.jpg 18\n182638.jpg 19\n000009.jpg 17\n"
    (celebamask / "identity_CelebA.txt").write_text(people)
    assert [s.subject for s in read_celebamask_hq(celebamask)] == [f"celeba/{n}" for n in (17, 18, 19, 17)]
    (celebamask / "identity_CelebA.txt").write_text(people.replace(" 18", " 17"))
    assert "is in val here and in train in" in refusal(read_celebamask_hq, celebamask)


@pytest.mark.parametrize(
    ("file", "content", "told"),
    [
        (
            "CelebA-HQ-to-CelebA-mapping.txt",
            b"0 1 000002.jpg\n",
            "1.jpg: CelebA-HQ-to-CelebA-mapping.txt has no line for 1;",
        ),
        ("CelebA-HQ-to-CelebA-mapping.txt", b"idx\n", "line 1: 1 columns instead of 3"),
        ("CelebA-HQ-to-CelebA-mapping.txt", b"\xff\xfe", "not a readable text file"),
        ("CelebA-HQ-to-CelebA-mapping.txt", b"0 1 a.jpg\n", "names a.jpg, no picture of CelebA"),
        ("identity_CelebA.txt", b"000001.jpg 1\n", "identity_CelebA.txt has no line for 162770.jpg"),
    ],
)
def test_a_faulty_mapping_is_named(celebamask: Path, file: str, content: bytes, told: str) -> None:
    add_mapping(celebamask)
    (celebamask / file).write_bytes(content)
    assert told in refusal(read_celebamask_hq, celebamask)


def test_a_faulty_celebamask_hq_is_refused(celebamask: Path, tmp_path: Path) -> None:
    draw(celebamask / "CelebA-HQ-img" / "copy of 1.jpg")
    assert "the name is no number of CelebA-HQ" in refusal(read_celebamask_hq, celebamask)
    (tmp_path / "other" / "CelebA-HQ-img").mkdir(parents=True)
    assert "no samples" in refusal(read_layout, tmp_path / "other")
    assert "no such folder" in refusal(read_celebamask_hq, tmp_path / "gone")


# Whichever


def test_every_layout_is_told_apart(folders: Path, sequences: Path, celebamask: Path, tmp_path: Path) -> None:
    forgery_nir(tmp_path / "ForgeryNIR-std")
    forgery_nir(tmp_path / "nir" / "ForgeryNIR-std")
    draw(tmp_path / "split" / "test" / "fake" / "a.jpg")
    draw(tmp_path / "known" / "forensics" / "ffhq_stylegan_256" / "real" / "00000.jpg")
    write_manifest(read_folders(folders), tmp_path / "m.csv")
    (tmp_path / "m.parquet").touch()
    (tmp_path / "b.json").touch()
    expected = {
        folders: "folders",
        tmp_path / "split": "folders",
        sequences: "seq_deepfake",
        sequences / "facial_attributes": "seq_deepfake",
        sequences / "facial_attributes" / "annotations" / "test.csv": "seq_deepfake",
        celebamask: "celebamask_hq",
        tmp_path / "ForgeryNIR-std": "forgerynir",
        tmp_path / "nir": "forgerynir",
        tmp_path / "known": "collection",
        tmp_path / "m.csv": "manifest",
        tmp_path / "m.parquet": "manifest",
        tmp_path / "b.json": "deepfakebench",
    }
    assert {path: detect_layout(path) for path in expected} == expected
    assert read_layout(folders) == read_layout(tmp_path / "m.csv") == read_folders(folders)
    assert read_layout(celebamask) == read_celebamask_hq(celebamask)
    assert [s.source for s in read_layout(tmp_path / "known")] == ["ffhq"]


def test_what_was_read_can_be_kept_as_a_manifest(folders: Path, sequences: Path, tmp_path: Path) -> None:
    forgery_nir(tmp_path / "ForgeryNIR-std")
    bench = write_json(faceforensics(), tmp_path / "bench" / "FF-DF.json", tmp_path)
    for path in (folders, sequences, tmp_path / "ForgeryNIR-std", bench):
        samples = read_layout(path)
        write_manifest(samples, tmp_path / "m.csv")
        assert read_manifest(tmp_path / "m.csv") == samples


def test_reals_alone_are_a_part_of_a_manifest_but_no_whole_one(celebamask: Path, folders: Path, tmp_path: Path) -> None:
    add_mapping(celebamask)
    reals = read_celebamask_hq(celebamask)
    write_manifest(reals, tmp_path / "m.csv")
    assert "m.csv: no forged sample in train; add some" in refusal(read_manifest, tmp_path / "m.csv")
    write_manifest(reals + read_folders(folders), tmp_path / "m.csv")
    assert read_manifest(tmp_path / "m.csv")[: len(reals)] == reals


def test_a_manifest_named_from_its_own_folder_has_paths_that_hold(
    folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = read_folders(folders)
    write_manifest([replace(s, path=str(Path(s.path).relative_to(tmp_path))) for s in samples], tmp_path / "m.csv")
    monkeypatch.chdir(tmp_path)
    assert read_layout(Path("m.csv")) == samples


def test_what_fits_no_layout_is_told_which_do(tmp_path: Path) -> None:
    (tmp_path / "readme.txt").touch()
    for path in (tmp_path, tmp_path / "readme.txt"):
        message = refusal(read_layout, path)
        for known in (
            "manifest",
            "DeepfakeBench",
            "Seq-DeepFake",
            "ForgeryNIR",
            "CelebAMask-HQ",
            "collections",
            "real/",
        ):
            assert known in message
    assert "no such file or folder" in refusal(read_layout, tmp_path / "gone")


def test_a_file_nobody_can_read_is_refused_as_a_manifest(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_bytes(b"\0")
    assert "m.csv" in refusal(read_layout, tmp_path / "m.csv")


def test_an_unlistable_folder_is_refused(folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(self: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", denied)
    assert "mine: cannot be listed (Permission denied)" in refusal(read_layout, folders)
    monkeypatch.undo()

    def denied_scan(path: str) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("os.scandir", denied_scan)
    assert "no permission to list this folder" in refusal(read_folders, folders)
