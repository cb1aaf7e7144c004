"""What can be measured is found by name: runs, fused runs, packs."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from fake_faces import make_face
from stored_paths import write_run

from unmask.errors import DataError, PackError
from unmask.lab.detection.scoring import logits_of
from unmask.lab.detection.systems import resolve_system
from unmask.lab.train import load_network
from unmask.packs import load_pack

pytestmark = pytest.mark.lab
CPU = torch.device("cpu")
CROPS = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), np.uint8)


def test_a_run_scores_as_its_network_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_run(tmp_path / "a", seed=1, margin=1.3, spectra=("nir",))
    monkeypatch.chdir(tmp_path)
    system = resolve_system("a")
    assert (system.name, system.size, system.margin, system.spectra) == ("a", 64, 1.3, ("nir",))
    assert system.calibration is None
    expected, _ = logits_of(load_network(tmp_path / "a"), CROPS, CPU)
    logits, maps = system.scorer(CROPS)
    np.testing.assert_allclose(logits, expected, atol=1e-4)
    assert maps.shape == (3, 8, 8) and maps.min() >= 0 and maps.max() <= 1


@pytest.mark.slow
def test_runs_with_commas_between_them_are_fused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is heard: the ratio is the mean of theirs. The fused know what all of them know."""
    write_run(tmp_path / "a", seed=1, spectra=("nir", "visible"))
    write_run(tmp_path / "b", seed=2, spectra=("visible",))
    monkeypatch.chdir(tmp_path)
    alone = [resolve_system(name).scorer(CROPS)[0] for name in ("a", "b")]
    fused = resolve_system("a,b")
    assert np.abs(alone[0] - alone[1]).min() > 0
    np.testing.assert_allclose(fused.scorer(CROPS)[0], np.log(np.mean(np.exp(alone), axis=0)), rtol=1e-4, atol=1e-6)
    assert fused.name == "a,b" and fused.spectra == ("visible",)


def test_runs_that_crop_differently_are_not_fused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_run(tmp_path / "a")
    write_run(tmp_path / "b", margin=1.2)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"margins \(1\.2, 1\.4\)"):
        resolve_system("a,b")


def test_a_pack_scores_as_the_runtime_does(tiny_pack: Path) -> None:
    """Its logit is 4 (R + 2 G - 3 B) of the mean colour; more faces than one batch are scored in several."""
    system, pack = resolve_system(str(tiny_pack)), load_pack(tiny_pack)
    crops = np.random.default_rng(1).integers(0, 256, (35, 64, 64, 3), np.uint8)
    logits, maps = system.scorer(crops)
    assert (system.size, system.margin, system.calibration) == (64, 1.4, pack.card.calibration)
    means = crops.reshape(35, -1, 3).mean(1) / 255
    np.testing.assert_allclose(logits, means @ np.array([4.0, 8.0, -12.0]), atol=1e-4)
    assert maps.shape == (35, 16, 16)


@pytest.mark.parametrize("name", ["no-such-thing", "a,no-such-thing"])
def test_what_is_neither_runs_nor_a_pack_is_refused(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_run(tmp_path / "a")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PackError):
        resolve_system(name)


def test_a_pack_of_another_task_is_refused(tiny_edit_model: Path) -> None:
    with pytest.raises(PackError, match="edit_reading"):
        resolve_system(str(tiny_edit_model))


def test_faces_of_a_spectrum_that_a_detector_does_not_know_are_refused(tiny_pack: Path) -> None:
    pack = resolve_system(str(tiny_pack))
    visible = make_face(1, split="test")
    infrared = replace(visible, sample=replace(visible.sample, spectrum="nir", split="val"))
    pack.check([visible, infrared], "test")
    with pytest.raises(DataError, match=r"0001\.png: spectrum nir, but .* trained for visible; leave such rows"):
        pack.check([visible, infrared], "val")
