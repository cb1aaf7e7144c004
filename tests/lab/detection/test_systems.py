"""What can be measured is found by name: runs, fused runs, packs."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_faces import make_face

from unmask.errors import DataError
from unmask.forgery.plain import Plain
from unmask.lab.detection import systems as contenders
from unmask.lab.detection.systems import resolve_system
from unmask.lab.run import DetectionTrainConfig, Run

pytestmark = pytest.mark.lab


@pytest.mark.parametrize(("detector", "members"), [("a", 1), ("a,b", 2)])
def test_runs_with_commas_between_them_are_evaluated_fused(
    detector: str, members: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_runs(tmp_path, a=DetectionTrainConfig(), b=DetectionTrainConfig())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(contenders, "load_network", lambda _: Plain("rgb", weights="none"))
    monkeypatch.setattr(contenders, "logits_of", lambda fused, *_: len(fused.members))
    found: Any = resolve_system(detector).scorer(np.zeros(0))
    assert found == members


def test_runs_that_crop_differently_are_not_fused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_runs(tmp_path, a=DetectionTrainConfig(), b=DetectionTrainConfig(margin=1.2))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"margins \(1\.2, 1\.4\)"):
        resolve_system("a,b")


def test_faces_of_a_spectrum_that_a_detector_does_not_know_are_refused(tiny_pack: Path) -> None:
    pack = resolve_system(str(tiny_pack))
    visible = make_face(1, split="test")
    infrared = replace(visible, sample=replace(visible.sample, spectrum="nir", split="val"))
    pack.check([visible, infrared], "test")
    with pytest.raises(DataError, match=r"0001\.png: spectrum nir, but .* trained for visible; leave such rows"):
        pack.check([visible, infrared], "val")


def write_runs(folder: Path, **protocols: DetectionTrainConfig) -> None:
    for name, config in protocols.items():
        Run(folder / name, config, "0")
