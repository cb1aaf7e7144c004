from pathlib import Path

from layout_files import GENERATORS, draw, forgery_nir, refusal

from unmask.datasets.layouts import read_layout
from unmask.datasets.layouts.forgerynir import load_forgerynir
from unmask.datasets.manifest import SHARES, split_of


def test_forgerynir_is_read_as_its_readme_lays_it_out(tmp_path: Path) -> None:
    for name in ("ForgeryNIR/ForgeryNIR-std", "ForgeryNIR/ForgeryNIR-rand", "ForgeryNIR+"):
        forgery_nir(tmp_path / name)
    samples = load_forgerynir(tmp_path, "std")
    assert len(samples) == 60
    assert {(s.label, s.family) for s in samples} == {(0, "real"), *((1, generator) for generator in GENERATORS)}
    assert {(s.spectrum, s.source) for s in samples} == {("nir", "forgerynir")}
    assert all(s.split == split_of(s.subject, SHARES) for s in samples)
    assert {s.subject for s in samples} == {f"forgerynir/{number}" for number in range(12)}
    again = load_forgerynir(tmp_path / "ForgeryNIR", "rand")
    assert [(s.subject, s.split) for s in again] == [(s.subject, s.split) for s in samples]
    assert len(load_forgerynir(tmp_path, "+")) == len(load_forgerynir(tmp_path / "ForgeryNIR+", "+")) == 60


def test_forgerynir_is_read_as_hfc_mffd_lays_it_out(tmp_path: Path) -> None:
    for split in ("train", "val", "test"):
        forgery_nir(tmp_path / "ForgeryNIR/ForgeryNIR-mix_multi" / split, tmp_path / "NIR_VIS 2.0" / split)
    samples = load_forgerynir(tmp_path, "mix_multi")
    assert len(samples) == 180
    assert {Path(s.path).relative_to(tmp_path).parts[0] for s in samples if not s.label} == {"NIR_VIS 2.0"}
    assert all(s.split in Path(s.path).parts and s.subject.startswith(f"forgerynir/{s.split}/") for s in samples)


def test_folders_by_person_are_its_subjects(tmp_path: Path) -> None:
    people = [str(person) for person in range(10001, 10009)]
    for person in people:
        forgery_nir(tmp_path / "ForgeryNIR-std", tmp_path / "ForgeryNIR-std" / "0_real" / person)
    reals = [s for s in load_forgerynir(tmp_path, "std") if not s.label]
    assert {s.subject for s in reals} == {f"forgerynir/{person}" for person in people}


def test_a_faulty_forgerynir_is_refused(tmp_path: Path) -> None:
    forgery_nir(tmp_path / "ForgeryNIR-std")
    assert "no folder ForgeryNIR-hard; subsets there: ForgeryNIR-std" in refusal(load_forgerynir, tmp_path, "hard")
    (tmp_path / "empty").mkdir()
    assert "subsets there: none" in refusal(load_forgerynir, tmp_path / "empty", "std")
    draw(tmp_path / "ForgeryNIR-std" / "stargan" / "0.png")
    assert "stargan: holds pictures, but its name is none of 0_real" in refusal(load_forgerynir, tmp_path, "std")


def test_forgerynir_without_reals_is_refused(tmp_path: Path) -> None:
    forgery_nir(tmp_path / "ForgeryNIR-std", tmp_path / "somewhere")
    assert "no real sample in train" in refusal(load_forgerynir, tmp_path, "std")
    (tmp_path / "ForgeryNIR-std").rename(tmp_path / "old")
    (tmp_path / "ForgeryNIR-std" / "0_real").mkdir(parents=True)
    assert "no samples" in refusal(load_forgerynir, tmp_path, "std")


def test_one_subset_is_found_and_several_are_not_mixed(tmp_path: Path) -> None:
    forgery_nir(tmp_path / "ForgeryNIR" / "ForgeryNIR-std")
    assert read_layout(tmp_path) == read_layout(tmp_path / "ForgeryNIR") == load_forgerynir(tmp_path, "std")
    forgery_nir(tmp_path / "ForgeryNIR" / "ForgeryNIR-rand")
    assert "subsets ForgeryNIR-rand, ForgeryNIR-std show the same faces" in refusal(read_layout, tmp_path)
    assert read_layout(tmp_path / "ForgeryNIR/ForgeryNIR-std") == load_forgerynir(tmp_path, "std")
    forgery_nir(tmp_path / "plus" / "ForgeryNIR+")
    assert read_layout(tmp_path / "plus") == load_forgerynir(tmp_path / "plus", "+")
