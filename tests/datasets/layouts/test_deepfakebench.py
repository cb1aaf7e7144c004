from pathlib import Path
from typing import Any

import pytest
from layout_files import faceforensics, listed, refusal, write_json

from unmask.datasets.layouts import read_layout
from unmask.datasets.layouts.deepfakebench import load_deepfakebench
from unmask.datasets.manifest import SHARES, Sample, split_of


def test_deepfakebench_is_read(tmp_path: Path) -> None:
    path = write_json(faceforensics(), tmp_path / "FF-DF.json", tmp_path / "rgb")
    samples = load_deepfakebench(path, tmp_path / "rgb")
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
    subject = {s.video: s.subject for s in load_deepfakebench(path, tmp_path)}
    assert subject["FF-real/c23/003"] == subject["FF-real/c40/003"] == subject["FF-DF/c23/000_003"] == "FF-DF/000"
    assert subject["FF-real/c23/100"] == subject["FF-DF/c23/200_100"] != subject["FF-DF/c23/000_003"]


def test_a_chain_of_exchanges_is_one_subject(tmp_path: Path) -> None:
    videos = {name: listed("x_fake", f"{name}.png") for name in ("005_007", "003_005", "001_002", "007")}
    content = {"x": {"x_fake": {"test": videos}}}
    samples = load_deepfakebench(write_json(content, tmp_path / "x.json", tmp_path), tmp_path)
    assert [s.subject for s in samples] == ["x/003", "x/003", "x/001", "x/003"]


@pytest.mark.parametrize("above", ["preprocessing/dataset_json", "", "a/b/c"])
def test_the_folder_of_the_frames_is_found_above_the_file(tmp_path: Path, above: str) -> None:
    path = write_json(faceforensics(), tmp_path / above / "FF-DF.json", tmp_path)
    assert load_deepfakebench(path) == load_deepfakebench(path, tmp_path) == read_layout(path)


def test_frames_may_have_absolute_paths(tmp_path: Path) -> None:
    frames = [str(tmp_path / "far" / f"{name}.png") for name in "ab"]
    content = {"x": {"x_real": {"test": {"a": listed("x_real", frames[0])}}, "x_fake": {"test": {}}}}
    write_json(content, tmp_path / "json" / "x.json", tmp_path)
    assert [s.path for s in load_deepfakebench(tmp_path / "json" / "x.json")] == frames[:1]


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
    (sample,) = load_deepfakebench(write_json(content, tmp_path / "x.json", tmp_path))
    assert (sample.label, sample.family) == (forged, label if forged else "real")


def names_by_split(samples: list[Sample]) -> dict[str, set[str]]:
    names: dict[str, set[str]] = {}
    for sample in samples:
        names.setdefault(sample.split, set()).add(Path(sample.path).stem)
    return names


def test_a_video_listed_in_several_splits_stands_in_one(tmp_path: Path) -> None:
    """As in Celeb-DF (train holds all, val is test) and DFDC (val is train)."""

    def label(name: str) -> dict[str, Any]:
        videos = {v: listed(f"C_{name}", f"{name}/{v}.png") for v in (f"{name}1", f"{name}2", f"{name}3")}
        held_out = {f"{name}3": videos[f"{name}3"]}
        return {"train": videos, "val": held_out | {f"{name}2": videos[f"{name}2"]}, "test": held_out}

    content = {"C": {"C_real": label("real"), "C_fake": label("fake")}}
    samples = load_deepfakebench(write_json(content, tmp_path / "C.json", tmp_path))
    assert names_by_split(samples) == {"train": {"real1", "real2", "fake1", "fake2"}, "test": {"real3", "fake3"}}


def test_a_file_that_gives_no_split_is_split_by_hash(tmp_path: Path) -> None:
    """As in UADFV: every video in every split."""
    content: dict[str, Any] = {"U": {}}
    for label in ("U_Real", "U_Fake"):
        videos = {f"{n:04d}": listed(label, f"{label}/{n}.png") for n in range(30)}
        content["U"][label] = dict.fromkeys(("train", "val", "test"), videos)
    samples = load_deepfakebench(write_json(content, tmp_path / "U.json", tmp_path))
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
    samples = load_deepfakebench(write_json(content, tmp_path / "e.json", tmp_path))
    assert names_by_split(samples) == {"train": {"1", "f1"}, "test": {"2", "f2"}}


def test_the_stray_video_of_dfdc_is_passed_over(tmp_path: Path) -> None:
    last = listed("DFDC_Real", "b.png")
    content = {"DFDC": {"DFDC_Real": {"test": {"a": listed("DFDC_Real", "a.png"), "b": last}, "val": dict(last)}}}
    samples = load_deepfakebench(write_json(content, tmp_path / "DFDC.json", tmp_path))
    assert names_by_split(samples) == {"test": {"a", "b"}}


def change(content: dict[str, Any], **changes: Any) -> dict[str, Any]:
    content["FF-DF"]["FF-DF"]["train"]["c23"]["000_003"].update(changes)
    return content


@pytest.mark.parametrize(
    ("content", "reason"),
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
def test_a_faulty_deepfakebench_file_is_refused(tmp_path: Path, content: Any, reason: str) -> None:
    frames = None if "no list" in reason else tmp_path
    message = refusal(load_deepfakebench, write_json(content, tmp_path / "bench.json", frames))
    assert reason in message and "bench.json" in message


def test_frames_that_are_not_there_are_named_with_their_root(tmp_path: Path) -> None:
    path = write_json(faceforensics(), tmp_path / "FF-DF.json")
    (tmp_path / "rgb").mkdir()
    message = refusal(load_deepfakebench, path, tmp_path / "rgb")
    assert f"(pictures from {tmp_path / 'rgb'}), video FF-real/c23/003: no file" in message
    assert "(nor 5 more)" in message and "correct the path" in message
    assert "no such folder" in refusal(load_deepfakebench, path, tmp_path / "gone")


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe\x00", b"[" * 100_000])
def test_a_file_that_is_no_json_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.json").write_bytes(content)
    assert "x.json: not a readable JSON file" in refusal(read_layout, tmp_path / "x.json")
