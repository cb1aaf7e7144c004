"""A detector from outside the package: trained, measured, exported and inspected with, from the command line."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from unmask.datasets.manifest import Sample, write_manifest

pytestmark = [pytest.mark.lab, pytest.mark.slow]

MODULE = '''
"""One detector, in a package that knows of Unmask what its documentation says."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from unmask.forgery.detector import DetectorOutput, Learner


class Speckle(Learner):
    """Looks for speckles by two convolutions.

    Args:
        width: channels.
        deep: whether there is one more layer.
    """

    size = 64
    step = 16

    def __init__(self, width: int = 8, deep: bool = False) -> None:
        super().__init__()
        layers = [nn.Conv2d(3, width, 3, 2, 1), nn.ReLU(), nn.Conv2d(width, width, 3, 2, 1), nn.ReLU()]
        if deep:
            layers += [nn.Conv2d(width, width, 3, 1, 1), nn.ReLU()]
        self.body = nn.Sequential(*layers)
        self.head = nn.Conv2d(width, 1, 1)

    def forward(self, faces: Tensor) -> DetectorOutput:
        heat = self.head(self.body(self.normalised(faces)))
        return DetectorOutput(heat.mean((1, 2, 3)), heat)

    def training_losses(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        logit = self(batch["faces"]).logit.float()
        return {"verdict": functional.binary_cross_entropy_with_logits(logit, batch["labels"])}
'''


@pytest.fixture(scope="session")
def manifest(tmp_path_factory: pytest.TempPathFactory, portrait: Path) -> Path:
    """The portrait under many lights, each light another subject's, and some of them with speckles on the face."""
    folder, photo = tmp_path_factory.mktemp("portraits"), cv2.imread(str(portrait))
    assert photo is not None
    ground = cv2.resize(photo[10:230, 50:270], (128, 128), interpolation=cv2.INTER_AREA).astype(np.float32)
    samples = []
    for split, reals, forged in (("train", 4, 4), ("val", 3, 2), ("cal", 17, 17), ("test", 3, 3)):
        for number in range(reals + forged):
            label, name = int(number >= reals), f"{split}-{number}"
            rng = np.random.default_rng(len(samples))
            pixels = rng.uniform(0.85, 1.1, 3) * ground + rng.normal(0, 2, ground.shape)
            if label:
                pixels[40:90, 40:90] += rng.normal(0, 40, (50, 50, 1))
            cv2.imwrite(str(folder / f"{name}.png"), np.clip(pixels, 0, 255).astype(np.uint8))
            samples.append(
                Sample(
                    path=f"{name}.png",
                    label=label,
                    family="speckles" if label else "real",
                    source="portrait",
                    subject=name,
                    split=split,
                )
            )
    write_manifest(samples, folder / "manifest.csv")
    return folder / "manifest.csv"


def commands(lines: list[str], folder: Path, path: Path) -> subprocess.CompletedProcess[str]:
    """Command lines one after another, in one process that has a folder on its path; torch is loaded once."""
    code = (
        "import sys\nfrom unmask import cli\n"
        f"for words in {[line.split() for line in lines]!r}:\n"
        "    sys.argv = ['unmask', *words]\n"
        "    try:\n        cli.main()\n"
        "    except SystemExit as end:\n        assert end.code in (0, None), words\n"
    )
    environment = {**os.environ, "PYTHONPATH": f"{path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=folder,
        env=environment,
        timeout=300,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.parametrize("installed", [True, False], ids=["by an entry point", "as module:Class"])
def test_a_detector_from_outside_does_all_that_ones_own_do(
    installed: bool, manifest: Path, portrait: Path, tmp_path: Path
) -> None:
    package = tmp_path / "site"
    package.mkdir()
    (package / "speckle_detector.py").write_text(MODULE)
    method = "speckle_detector:Speckle"
    if installed:
        method = "speckle"
        record = package / "speckle_detector-1.0.dist-info"
        record.mkdir()
        (record / "METADATA").write_text("Metadata-Version: 2.1\nName: speckle-detector\nVersion: 1.0\n")
        (record / "entry_points.txt").write_text("[unmask.methods]\nspeckle = speckle_detector:Speckle\n")
    data = f"--data {manifest} --work {manifest.parent / 'work'} --workers 1"
    few = "--pairs 8 --steps 2 --batch-pairs 4 --without resynthesis"
    done = commands(
        [
            f"train {method} --run run {data} --width 4 --deep {few}",
            f"evaluate run {data} --split val --json numbers.json",
            f"export run {data} --out packs/mine",
            f"inspect {portrait} --pack plain --pack packs/mine --json report.json --quiet",
        ],
        tmp_path,
        package,
    )
    assert done.returncode == 0, done.stderr
    record_of_run = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record_of_run["task"] == "forgery_detection" and record_of_run["protocol"]["method"] == method
    assert record_of_run["protocol"]["options"] == {"width": 4, "deep": True}
    assert set(record_of_run["protocol"]["families"]) == {"selfblend", "swap", "speckles"}
    metrics = json.loads((tmp_path / "numbers.json").read_text())["metrics"]
    assert {(one["dataset"], one["condition"]) for one in metrics if one["name"] == "auc"} >= {("speckles", "clean")}
    card = json.loads((tmp_path / "packs" / "mine" / "card.json").read_text())
    assert (card["name"], card["input_size"], card["task"]) == ("speckle", [64, 64], "forgery_detection")
    assert card["description"].startswith(f"{method} (Looks for speckles by two convolutions")
    report = json.loads((tmp_path / "report.json").read_text())
    (face,) = report["faces"]
    embedded, own = face["opinions"]
    assert (own["pack"], embedded["pack"]) == ("speckle", "plain")
    # Two steps teach nothing that finds forgeries at few false alarms: the card then says that stills are not judged.
    still = next(one for one in card["calibration"]["conditions"] if one["condition"] == "still")
    judged = still["decision_log10_lr"] is not None
    assert (own["verdict"] != "refused") == judged == (own["score"] is not None)


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ("not_one:Thing", "not a class derived from unmask.networks.contract.Trainable"),
        ("not_one:Other", "not_one has no Other"),
        ("no_such_package:Thing", "no module no_such_package"),
    ],
)
def test_what_is_no_detector_is_refused_in_one_line(
    method: str, message: str, tmp_path: Path, say: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "not_one.py").write_text("class Thing:\n    pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    code, error = say(["train", method, "--run", str(tmp_path / "run"), "--data", str(tmp_path)])
    (line,) = error.strip().splitlines()
    assert code == 2 and line.startswith("unmask: ") and message in line and not (tmp_path / "run").exists()
