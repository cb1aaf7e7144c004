import re
import shutil
from collections import Counter
from pathlib import Path
from typing import get_args

import cv2
import numpy as np
import pytest
from fake_faces import make_picture

from unmask.datasets.layouts.collection import load_collection
from unmask.datasets.manifest import (
    SHARES,
    SPLITS,
    check_samples,
    manifest_sha256,
    read_manifest,
    split_of,
    write_manifest,
)
from unmask.errors import DataError
from unmask.forging.families import Kind, kind_of, real_sources


def save(path: Path, seed: int, quality: int = 95) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = cv2.cvtColor(make_picture(48, seed), cv2.COLOR_RGB2BGR)
    assert cv2.imwrite(str(path), picture, [cv2.IMWRITE_JPEG_QUALITY, quality])


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real layout with drawn pictures; three of UTKFace are the first one over again."""
    root = tmp_path_factory.mktemp("data")
    for number in range(60):
        save(root / "forensics/ffhq_stylegan_256/real" / f"{number:05d}.jpg", number)
        save(root / "forensics/ffhq_stylegan_256/fake" / f"{number:05d}.jpg", 100 + number)
        save(root / "forensics/gan2018/pggan" / f"{number:05d}.jpg", 200 + number)
        save(root / "faces/celebamask_256/images" / f"{number}.jpg", 300 + number)
    for number in range(20):
        save(root / "forensics/ciplab_256/real" / f"real_{number:05d}.jpg", 400 + number)
        save(root / "forensics/ciplab_256/fake" / f"easy_{number}_{number % 16:04b}.jpg", 500 + number)
        save(root / "faces/utkface_200" / f"{number}_0_0_2017.jpg", 600 + number)
    for number, quality in ((20, 90), (21, 70), (22, 50)):
        save(root / "faces/utkface_200" / f"{number}_0_0_2017.jpg", 600, quality)
    (root / "faces/utkface_200" / "notes.txt").write_text("no picture")
    return root


def test_a_collection_has_labels_families_and_sources(collection: Path) -> None:
    counts = Counter((sample.label, sample.family, sample.source) for sample in load_collection(collection))
    assert counts == {
        (0, "real", "ffhq"): 60,
        (1, "stylegan", "ffhq"): 60,
        (0, "real", "ciplab"): 20,
        (1, "ciplab", "ciplab"): 20,
        (1, "pggan", "celebamask"): 60,
        (0, "real", "celebamask"): 60,
        (0, "real", "utkface"): 23,
    }


def test_ciplabs_flags_are_read_from_the_names(collection: Path) -> None:
    flags = {Path(s.path).name: s.flags for s in load_collection(collection) if s.flags}
    assert flags == {f"easy_{number}_{number % 16:04b}.jpg": f"{number % 16:04b}" for number in range(20)}


def test_every_split_is_filled_and_the_rows_pass_their_own_checks(collection: Path, tmp_path: Path) -> None:
    samples = load_collection(collection)
    assert {sample.split for sample in samples} == set(SPLITS)
    write_manifest(samples, tmp_path / "m.csv")
    assert read_manifest(tmp_path / "m.csv") == samples


def test_copies_of_a_picture_stay_on_its_side(tmp_path: Path) -> None:
    """Three copies each of thirty faces: split by file name, some would be in train and in test."""
    for number in range(30):
        for copy, quality in enumerate((95, 80, 60)):
            save(tmp_path / "faces" / "utkface_200" / f"{number}_{copy}.jpg", 700 + number, quality)
    splits: dict[str, set[str]] = {}
    for sample in load_collection(tmp_path):
        splits.setdefault(Path(sample.path).stem.split("_")[0], set()).add(sample.split)
    assert [len(sides) for sides in splits.values()] == [1] * 30
    assert len(set.union(*splits.values())) > 1
    by_name = [{split_of(f"utkface/real/{number}_{copy}", SHARES) for copy in range(3)} for number in range(30)]
    assert any(len(sides) > 1 for sides in by_name)  # by itself the hash keeps no copies together


def test_the_unseen_generator_is_neither_trained_nor_calibrated_on(collection: Path) -> None:
    splits = {sample.split for sample in load_collection(collection) if sample.family == "pggan"}
    assert splits == {"val", "test"}


def test_near_duplicates_are_one_subject(collection: Path) -> None:
    subject = {Path(s.path).stem.split("_")[0]: s.subject for s in load_collection(collection) if s.source == "utkface"}
    assert len({subject[number] for number in ("0", "20", "21", "22")}) == 1
    assert len(set(subject.values())) == 20


def test_near_duplicates_are_linked_by_what_lies_between(tmp_path: Path) -> None:
    """Two bits apart is the same picture; so are the ends of a chain of such steps, in whatever order they come."""
    folder = tmp_path / "faces" / "utkface_200"
    folder.mkdir(parents=True)
    for name, changed in (("a", 4), ("b", 0), ("c", 2), ("d", 8)):
        levels = np.tile(np.linspace(200, 40, 9), (8, 1))
        levels[:changed, 1] = 230  # one bit of the difference hash each
        cv2.imwrite(str(folder / f"{name}.jpg"), np.kron(levels, np.ones((20, 20))).astype(np.uint8))
    subjects = {Path(s.path).stem: s.subject for s in load_collection(tmp_path)}
    assert subjects["a"] == subjects["b"] == subjects["c"] != subjects["d"]


def test_a_large_source_is_thinned_evenly_and_by_name(collection: Path) -> None:
    def names(most: int) -> dict[str, list[str]]:
        kept: dict[str, list[str]] = {}
        for sample in load_collection(collection, most_per_source=most):
            kept.setdefault(f"{sample.source}/{sample.family}", []).append(Path(sample.path).name)
        return kept

    few, more, every = names(10), names(15), names(1000)
    assert {len(some) for some in few.values()} == {10} and {len(some) for some in more.values()} == {15}
    for key, some in few.items():
        assert set(some) < set(more[key]) < set(every[key]) and some == sorted(some)
        assert some != every[key][:10]  # names often follow the order in which pictures were taken


def test_synthetic_faces_join_as_a_family(collection: Path, tmp_path: Path) -> None:
    save(tmp_path / "00000.jpg", 1)
    (made,) = (s for s in load_collection(collection, tmp_path) if s.family == "mobilestylegan")
    assert (made.label, made.source) == (1, "ffhq")


def test_a_folder_without_collections_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="UNMASK_DATA"):
        load_collection(tmp_path)


def test_the_hash_does_not_depend_on_the_place(collection: Path, tmp_path: Path) -> None:
    shutil.copytree(collection, tmp_path / "elsewhere")
    here, there = load_collection(collection), load_collection(tmp_path / "elsewhere")
    assert manifest_sha256(here) == manifest_sha256(there[::-1])


@pytest.mark.data
def test_the_real_collections_are_read(data_dir: Path) -> None:
    samples = load_collection(data_dir, most_per_source=200)
    check_samples(samples, data_dir)
    own = {s.family for s in samples if "wild_256" not in s.path}
    assert own == {"real", "stylegan", "ciplab", "pggan"}
    wild = [s for s in samples if "wild_256" in s.path]
    assert len(wild) == 4057 and sum(s.label for s in wild) == 2223
    assert len({s.family for s in wild}) == 18 and {kind_of(s) for s in wild if s.label} < set(get_args(Kind))
    real = {s.source for s in samples if not s.label}
    assert all(real_sources(s, real) for s in samples if s.label)
    assert sum(bool(s.original) for s in wild) == 382 + 70 + 6 - 14 - 0
    assert {s.split for s in samples if s.family == "pggan"} == {"val", "test"}
    flags = [s.flags for s in samples if s.family == "ciplab"]
    assert len(flags) == 200 and all(re.fullmatch("[01]{4}", flag) for flag in flags)
    assert not any(s.flags for s in samples if s.family != "ciplab")
