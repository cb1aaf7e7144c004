from dataclasses import replace
from pathlib import Path

import pytest
from layout_files import add_mapping, draw, faceforensics, forgery_nir, refusal, write_json

from unmask.datasets.layouts import LAYOUTS, detect_layout, read_layout
from unmask.datasets.layouts.celebamask_hq import load_celebamask_hq
from unmask.datasets.layouts.plain_folders import load_folders
from unmask.datasets.manifest import Sample, read_manifest, write_manifest
from unmask.plugins import Entry


def test_every_layout_is_told_apart(folders: Path, sequences: Path, celebamask: Path, tmp_path: Path) -> None:
    forgery_nir(tmp_path / "ForgeryNIR-std")
    forgery_nir(tmp_path / "nir" / "ForgeryNIR-std")
    draw(tmp_path / "split" / "test" / "fake" / "a.jpg")
    draw(tmp_path / "known" / "forensics" / "ffhq_stylegan_256" / "real" / "00000.jpg")
    write_manifest(load_folders(folders), tmp_path / "m.csv")
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
    assert read_layout(folders) == read_layout(tmp_path / "m.csv") == load_folders(folders)
    assert read_layout(celebamask) == load_celebamask_hq(celebamask)
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
    reals = load_celebamask_hq(celebamask)
    write_manifest(reals, tmp_path / "m.csv")
    assert "m.csv: no forged sample in train; add some" in refusal(read_manifest, tmp_path / "m.csv")
    write_manifest(reals + load_folders(folders), tmp_path / "m.csv")
    assert read_manifest(tmp_path / "m.csv")[: len(reals)] == reals


def test_a_manifest_named_from_its_own_folder_has_paths_that_hold(
    folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = load_folders(folders)
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
    assert "no permission to list this folder" in refusal(load_folders, folders)


class OneFile:
    """A layout of another package: a text file with a line "name label" for each picture beside it."""

    def recognises(self, path: Path) -> bool:
        return path.suffix == ".list"

    def load(self, path: Path) -> list[Sample]:
        rows = [line.split() for line in path.read_text().splitlines()]
        return [
            Sample(
                path=str(path.absolute().parent / name),
                label=int(label),
                family="mine" if int(label) else "real",
                source="elsewhere",
                subject=name,
                split="test",
            )
            for name, label in rows
        ]


@pytest.fixture
def one_file(tmp_path: Path) -> Path:
    draw(tmp_path / "a.jpg")
    (tmp_path / "faces.list").write_text("a.jpg 1\nb.jpg 0\n")
    return tmp_path / "faces.list"


def test_a_layout_of_another_package_is_named_in_full(one_file: Path) -> None:
    assert "not in a layout that can be read" in refusal(read_layout, one_file)
    samples = read_layout(one_file, f"{__name__}:OneFile")
    assert [(Path(s.path).name, s.family) for s in samples] == [("a.jpg", "mine"), ("b.jpg", "real")]
    assert "no layout nothing; name one of celebamask_hq" in refusal(read_layout, one_file, "nothing")


def test_an_installed_layout_is_detected(one_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(LAYOUTS.__dict__, "installed", {"one_file": Entry("one_file", f"{__name__}:OneFile")})
    assert detect_layout(one_file) == "one_file"
    assert [s.label for s in read_layout(one_file)] == [1, 0]
    assert "one_file" in refusal(read_layout, one_file.with_name("a.jpg"))
