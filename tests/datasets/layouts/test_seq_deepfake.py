from pathlib import Path

import pytest
from layout_files import draw, refusal

from unmask.datasets.layouts import detect_layout, read_layout
from unmask.datasets.layouts.seq_deepfake import load_seq_deepfake
from unmask.datasets.manifest import Sample, read_manifest, write_manifest


def test_seq_deepfake_is_read(sequences: Path) -> None:
    samples = load_seq_deepfake(sequences)
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
    before = load_seq_deepfake(sequences)
    for table in sequences.glob("*/annotations/*.csv"):
        text = (
            table.read_text().replace('","', '";"').replace(',"', ';"').replace("file_path,label", " File_Path ;Label")
        )
        table.write_bytes(text.encode("utf-8-sig"))
    assert read_layout(sequences) == load_seq_deepfake(sequences) == before
    table = sequences / "facial_components" / "annotations" / "val.csv"
    assert detect_layout(table) == "seq_deepfake"


def test_a_track_or_one_annotation_file_can_be_read_alone(sequences: Path) -> None:
    track = sequences / "facial_components"
    assert {s.source for s in read_layout(track)} == {"seq-deepfake/facial_components"}
    assert [s.split for s in read_layout(track / "annotations" / "val.csv")] == ["val", "val"]


@pytest.mark.parametrize(
    ("line", "reason"),
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
def test_a_faulty_annotation_is_named(sequences: Path, line: str, reason: str) -> None:
    table = sequences / "facial_components" / "annotations" / "train.csv"
    header, first, _ = table.read_text().splitlines()
    line = line.replace("NAME", first.split(",")[0])
    line = line.replace("OTHER", "facial_components/images/val/original/000001.jpg")
    table.write_text(f"{header}\n{first}\n{line}\n")
    message = refusal(load_seq_deepfake, sequences)
    assert reason in message and str(sequences) in message


def test_annotations_that_are_not_there_or_elsewhere_are_refused(sequences: Path, tmp_path: Path) -> None:
    (tmp_path / "facial_components").mkdir()
    assert "no annotations/train.csv" in refusal(load_seq_deepfake, tmp_path)
    assert "no annotations/train.csv" in refusal(read_layout, tmp_path)
    table = tmp_path / "train.csv"
    table.write_text((sequences / "facial_components" / "annotations" / "train.csv").read_text())
    assert "train.csv: not at facial_components" in refusal(read_layout, table)
    (sequences / "facial_components" / "annotations" / "train.csv").write_bytes(b"\xff\xfe")
    assert "cannot be read: it is empty" in refusal(load_seq_deepfake, sequences)


def test_originals_alone_are_refused(sequences: Path) -> None:
    for table in sequences.glob("*/annotations/train.csv"):
        header, _, original = table.read_text().splitlines()
        table.write_text(f"{header}\n{original}\n")
    assert "no forged sample in train" in refusal(load_seq_deepfake, sequences)


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
    rows = [(Path(s.path).name, s.original, s.mask, s.steps) for s in samples]
    original = str(top / "originals" / "1.png")
    assert rows == [
        ("7.png", original, str(top / "masks" / "7.png"), str(top / "steps" / "7")),
        ("8.png", original, str(top / "masks" / "8.png"), str(top / "steps" / "8")),
        ("9.png", original, "", ""),
        ("5.png", "", "", ""),
    ]
    assert samples == read_layout(Path("paired/facial_components/annotations/train.csv"))


def test_pictures_of_one_original_are_of_one_subject(paired: Path) -> None:
    subjects = {Path(s.path).stem: s.subject for s in load_seq_deepfake(paired)}
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
    reason = f"train.csv, row 3: no {name}, which other edited faces have; fill it or drop the column"
    assert reason in refusal(load_seq_deepfake, paired)


def test_it_is_told_how_many_more_cells_are_empty(paired: Path) -> None:
    lines = PAIRED.splitlines(keepends=True)
    annotate(paired, lines[0] + 3 * lines[1].replace("MASKS/8.png", ""))
    assert "row 3 (nor 2 more): no mask, which other edited faces have" in refusal(load_seq_deepfake, paired)


@pytest.mark.parametrize(
    "header", ["file_path,label,original", "file_path,label,a,mask", "file_path,label,a,b,steps", "file_path,label"]
)
def test_columns_may_be_dropped(paired: Path, header: str) -> None:
    width = header.count(",") + 4  # a label's own commas
    annotate(paired, "".join(",".join(line.split(",")[: width + 1]) + "\n" for line in PAIRED.splitlines()), header)
    known = {name for s in load_seq_deepfake(paired) for name in ("original", "mask", "steps") if getattr(s, name)}
    assert known == set(header.split(",")) & {"original", "mask", "steps"}


def test_an_original_of_another_size_is_refused(paired: Path) -> None:
    original = draw(paired / "facial_components" / "originals" / "1.png", side=4)
    message = refusal(load_seq_deepfake, paired)
    reason = f"facial_components/annotations/train.csv, row 2: original {original} has 4 x 4 pixels, its picture 8 x 8"
    assert reason in message and "scale it to the picture's size" in message


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
    message = refusal(load_seq_deepfake, paired)
    assert (
        f"facial_components/annotations/train.csv, row {row}: no file {paired / 'facial_components' / name}" in message
    )
    assert message.endswith("correct the path or drop the row")
