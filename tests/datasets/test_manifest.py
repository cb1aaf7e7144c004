import csv
import io
import sys
from dataclasses import asdict, replace
from pathlib import Path

import cv2
import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from unmask.datasets.layouts import read_layout
from unmask.datasets.manifest import (
    SHARES,
    SPLITS,
    Sample,
    check_samples,
    manifest_sha256,
    read_manifest,
    split_of,
    write_manifest,
)
from unmask.errors import DataError


def rows(folder: Path) -> list[Sample]:
    """One row of each split, and one more so that both classes are in train, with files that exist."""
    samples = []
    for number, (split, label) in enumerate([*zip(SPLITS, (0, 1, 0, 1), strict=True), ("train", 1)]):
        path = folder / f"{number}.jpg"
        path.write_bytes(b"x")
        samples.append(
            Sample(
                path=str(path),
                label=label,
                family="real",
                source="a",
                subject=f"s{number}",
                split=split,
                flags="1",
            )
        )
    return samples


def test_a_manifest_comes_back_as_it_was_written(tmp_path: Path) -> None:
    samples = rows(tmp_path)
    write_manifest(samples, tmp_path / "m.csv")
    assert read_manifest(tmp_path / "m.csv") == samples


def test_relative_paths_are_taken_from_the_manifests_folder(tmp_path: Path) -> None:
    samples = rows(tmp_path)
    write_manifest([replace(s, path=Path(s.path).name) for s in samples], tmp_path / "m.csv")
    assert read_manifest(tmp_path / "m.csv") == samples


def test_columns_it_does_not_know_are_no_obstacle(tmp_path: Path) -> None:
    (sample, *_) = rows(tmp_path)
    with (tmp_path / "m.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["path", "label", "family", "source", "subject", "split", "remark"])
        writer.writerow([sample.path, 0, "real", "a", "s0", "test", "a fine picture"])
    (read,) = read_manifest(tmp_path / "m.csv")
    assert read == replace(sample, flags="", split="test")


@pytest.mark.parametrize(
    ("change", "row", "reason"),
    [
        ({"family": ""}, 3, "fill the column"),
        ({"label": "2"}, 3, "write 0 for real, 1 for forged"),
        ({"label": "fake"}, 3, "write 0 for real, 1 for forged"),
        ({"split": "holdout"}, 3, "write one of train, val, cal, test"),
        ({"path": "gone.jpg"}, 3, "correct the path or drop the row"),
        ({"subject": "s0"}, 3, "in train in row 2"),
        ({"path": "0.jpg"}, 3, "in train in row 2"),
        ({"spectrum": "infrared"}, 3, "write one of visible, nir"),
        ({"mask": "gone.png"}, 3, "no file"),
        ({"mask": "0.jpg"}, 3, "no readable picture"),
    ],
)
def test_a_faulty_row_is_named_with_its_remedy(tmp_path: Path, change: dict[str, str], row: int, reason: str) -> None:
    samples = rows(tmp_path)
    faulty = [samples[0], replace(samples[1], **change), *samples[2:]]
    write_manifest(faulty, tmp_path / "m.csv")
    with pytest.raises(DataError) as caught:
        read_manifest(tmp_path / "m.csv")
    message = str(caught.value)
    assert f"m.csv, row {row}:" in message and reason in message
    assert "\n" not in message


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    (sample, *_) = rows(tmp_path)
    (tmp_path / "m.csv").write_text(f"path,label,family,source,split\n{sample.path},0,real,a,train\n")
    with pytest.raises(DataError, match=r"line 1: no column subject; there are path, label, family, source, split"):
        read_manifest(tmp_path / "m.csv")


def written(samples: list[Sample], separator: str, head: str = "", spaces: str = "", end: str = "\n") -> str:
    """A manifest as a spreadsheet writes it."""
    stream = io.StringIO(newline="")
    stream.write(head)
    writer = csv.writer(stream, delimiter=separator, lineterminator=end)
    writer.writerow([f"{spaces}{name.title()}{spaces}" for name in asdict(samples[0])])
    writer.writerows([f"{spaces}{value}{spaces}" for value in asdict(sample).values()] for sample in samples)
    return stream.getvalue()


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
@pytest.mark.parametrize(
    ("head", "spaces", "end"),
    [("", "", "\n"), ("sep=SEP\r\n", "", "\r\n"), ("Our pictures\n\n", " ", "\n"), ("", "  ", "\r")],
)
def test_a_manifest_reads_the_same_however_a_spreadsheet_writes_it(
    tmp_path: Path, separator: str, encoding: str, head: str, spaces: str, end: str
) -> None:
    samples = [replace(sample, family="größer") for sample in rows(tmp_path)]
    text = written(samples, separator, head.replace("SEP", separator), spaces, end)
    for name in ("m.csv", "m.CSV", "m.tsv"):
        (tmp_path / name).write_bytes(text.encode(encoding))
        assert read_manifest(tmp_path / name) == samples
        assert read_layout(tmp_path / name) == [replace(one, path=str(Path(one.path).absolute())) for one in samples]


def test_a_faulty_row_is_named_by_its_line(tmp_path: Path) -> None:
    samples = rows(tmp_path)
    faulty = [samples[0], replace(samples[1], label=2), *samples[2:]]
    (tmp_path / "m.csv").write_text(written(faulty, ";", "Our pictures\n\n"))
    with pytest.raises(DataError, match=r"m\.csv, row 5: label '2'; write 0 for real, 1 for forged"):
        read_manifest(tmp_path / "m.csv")
    lines = written(samples, ";").splitlines()
    (tmp_path / "m.csv").write_text("\n".join([*lines[:3], lines[3] + ";more", *lines[4:]]))
    with pytest.raises(DataError, match=r"m\.csv: cannot be read: line 4 has 15 values, but line 1 names 14 columns"):
        read_manifest(tmp_path / "m.csv")


def test_labels_may_be_floats(tmp_path: Path) -> None:
    samples = rows(tmp_path)
    text = written(samples, ",").replace(",0,real", ",0.0,real").replace(",1,real", ",1.0,real")
    (tmp_path / "m.csv").write_text(text)
    assert read_manifest(tmp_path / "m.csv") == samples


def test_a_column_that_is_there_twice_is_named(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("path,label,family,source,subject,split,Path\na,0,real,a,s,test,b\n")
    with pytest.raises(DataError, match="line 1: two columns are named 'path'"):
        read_manifest(tmp_path / "m.csv")


@pytest.mark.parametrize("content", [b"", b"path,label,family,source,subject,split\n", b"\xff\xfe\x00nonsense\n\xff"])
def test_a_file_without_rows_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "m.csv").write_bytes(content)
    with pytest.raises(DataError, match=r"m\.csv"):
        read_manifest(tmp_path / "m.csv")


def test_a_manifest_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not a readable CSV"):
        read_manifest(tmp_path / "m.csv")


def draw(path: Path, width: int, height: int, turned: bool = False) -> Path:
    """A grey picture; `turned` by its EXIF orientation, as phones store what was held upright."""
    picture = Image.new("L", (width, height), 128)
    exif = picture.getexif()
    if turned:
        exif[0x0112] = 6
    picture.save(path, exif=exif)
    return path


def test_a_mask_is_found_from_the_manifests_folder(tmp_path: Path) -> None:
    samples = rows(tmp_path)
    draw(tmp_path / "1.jpg", 8, 6)
    mask = draw(tmp_path / "mask.png", 8, 6)
    write_manifest([samples[0], replace(samples[1], mask="mask.png"), *samples[2:]], tmp_path / "m.csv")
    assert read_manifest(tmp_path / "m.csv")[1] == replace(samples[1], mask=str(mask))


def test_an_empty_field_has_its_default(tmp_path: Path) -> None:
    samples = rows(tmp_path)
    write_manifest([replace(sample, spectrum="") for sample in samples], tmp_path / "m.csv")
    assert read_manifest(tmp_path / "m.csv") == samples


def test_a_mask_of_another_size_is_refused(tmp_path: Path) -> None:
    samples = rows(tmp_path)
    draw(tmp_path / "1.jpg", 8, 6)
    draw(tmp_path / "mask.png", 4, 3)
    write_manifest([samples[0], replace(samples[1], mask="mask.png"), *samples[2:]], tmp_path / "m.csv")
    with pytest.raises(DataError, match=r"row 3: mask .*mask\.png has 4 x 3 pixels, its picture 8 x 6; scale it"):
        read_manifest(tmp_path / "m.csv")


def test_a_mask_fits_a_picture_as_it_is_decoded(tmp_path: Path) -> None:
    picture, mask = draw(tmp_path / "p.jpg", 8, 6, turned=True), draw(tmp_path / "m.png", 6, 8)
    decoded = cv2.imread(str(picture))
    assert decoded is not None and decoded.shape[:2] == (8, 6)
    sample = Sample(
        path=str(picture), label=1, family="x", source="a", subject="s", split="test", mask=str(mask), spectrum="nir"
    )
    check_samples([sample], "here")
    with pytest.raises(DataError, match="its picture 6 x 8"):
        check_samples([replace(sample, mask=str(draw(tmp_path / "n.png", 8, 6)))], "here")


def test_the_parts_of_a_face_may_be_a_folder(tmp_path: Path) -> None:
    check_samples([replace(rows(tmp_path)[3], mask=str(tmp_path))], "here")


@pytest.mark.parametrize(("label", "absent"), [(0, "forged"), (1, "real")])
def test_a_class_without_a_sample_in_train_is_refused(tmp_path: Path, label: int, absent: str) -> None:
    write_manifest([s for s in rows(tmp_path) if s.split != "train" or s.label == label], tmp_path / "m.csv")
    with pytest.raises(DataError, match=rf"m\.csv: no {absent} sample in train; add some"):
        read_manifest(tmp_path / "m.csv")


def test_a_set_to_test_on_may_hold_one_class(tmp_path: Path) -> None:
    write_manifest([s for s in rows(tmp_path) if s.split == "cal"], tmp_path / "m.csv")
    assert len(read_manifest(tmp_path / "m.csv")) == 1
    check_samples(rows(tmp_path)[:1], "here", training=False)


def test_all_missing_files_are_counted_and_the_first_is_named(tmp_path: Path) -> None:
    samples = rows(tmp_path)
    for number in (1, 3, 4):
        (tmp_path / f"{number}.jpg").unlink()
    with pytest.raises(DataError, match=r"here, .*: no file .*1\.jpg \(nor 2 more\); correct the path"):
        check_samples(samples, "here")


def test_no_samples_are_refused() -> None:
    with pytest.raises(DataError, match="here: no samples"):
        check_samples([], "here")


def write_parquet(samples: list[Sample], path: Path) -> None:
    table = pyarrow.Table.from_pylist([{**asdict(sample), "mask": None} for sample in samples])
    pyarrow.parquet.write_table(table, path)


def test_a_parquet_manifest_holds_the_same(tmp_path: Path) -> None:
    samples = rows(tmp_path)
    write_parquet(samples, tmp_path / "m.parquet")
    assert read_manifest(tmp_path / "m.parquet") == samples


def test_rows_of_a_parquet_manifest_count_from_one(tmp_path: Path) -> None:
    samples = rows(tmp_path)
    write_parquet([samples[0], replace(samples[1], split="holdout")], tmp_path / "m.parquet")
    with pytest.raises(DataError, match=r"m\.parquet, row 2: split 'holdout'"):
        read_manifest(tmp_path / "m.parquet")


def test_a_damaged_parquet_manifest_is_refused(tmp_path: Path) -> None:
    write_parquet(rows(tmp_path), tmp_path / "m.parquet")
    (tmp_path / "m.parquet").write_text("no table")
    with pytest.raises(DataError, match=r"m\.parquet: not a readable Parquet manifest"):
        read_manifest(tmp_path / "m.parquet")


def test_parquet_without_pyarrow_names_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(DataError, match=r"m\.parquet: Parquet needs pyarrow: pip install pyarrow"):
        read_manifest(tmp_path / "m.parquet")


def test_the_split_of_a_subject_never_changes() -> None:
    # Written down once: a change of the hash would move subjects from test to train.
    known = {"ffhq/real/00001": "train", "e": "train", "f": "test", "g": "val", "42": "test"}
    assert {name: split_of(name, SHARES) for name in known} == known


@given(st.text(), st.integers(0, 9))
def test_a_split_is_one_of_the_shares(subject: str, seed: int) -> None:
    assert split_of(subject, SHARES, seed) in SHARES
    assert split_of(subject, {"val": 0, "test": 100}, seed) == "test"


def test_splits_respect_their_shares() -> None:
    splits = [split_of(f"subject {number}", SHARES) for number in range(20_000)]
    for split, share in SHARES.items():
        assert splits.count(split) / 200 == pytest.approx(share, abs=1.5)


def test_shares_that_leave_a_gap_are_a_mistake() -> None:
    with pytest.raises(ValueError, match="less than 100"):
        for number in range(50):
            split_of(str(number), {"train": 50})


@pytest.mark.parametrize(
    "change",
    [{"label": 1}, {"family": "x"}, {"source": "x"}, {"subject": "x"}, {"split": "cal"}, {"sequence": "nose"}],
)
def test_the_hash_sees_every_change_that_counts(tmp_path: Path, change: dict[str, object]) -> None:
    samples = rows(tmp_path)
    assert manifest_sha256(samples) != manifest_sha256([replace(samples[0], **change), *samples[1:]])
