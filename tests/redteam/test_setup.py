"""From names and manifests to plans, and the commands."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from safetensors.torch import save_file

from unmask.errors import DataError, PackError
from unmask.lab.detection.config import DetectionTrainConfig
from unmask.lab.methods import build
from unmask.lab.run import Run
from unmask.packs import Card
from unmask.redteam.setup import Effort, plan_detector, plan_recogniser

pytestmark = pytest.mark.lab
OWN = "small_victims:SmallRecogniser"
SMALL = ["--level", "8", "--steps", "2", "--queries", "4", "--batch", "4"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, portrait: Path) -> Path:
    """Six people, two pictures of each: one photograph under lights of six colours. The warm ones count as forged."""
    folder = tmp_path_factory.mktemp("redteam") / "data"
    folder.mkdir()
    picture = cv2.imread(str(portrait))
    assert picture is not None
    lines = ["path,subject,consent,label"]
    for person in range(6):
        tint = np.array([1 - 0.06 * person, 1.0, 0.7 + 0.06 * person])
        for number in range(2):
            cv2.imwrite(str(folder / f"{person}{number}.png"), (picture * tint * (1 - 0.03 * number)).astype(np.uint8))
            lines.append(f"{person}{number}.png,p{person},synthetic,{int(person >= 3)}")
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n")
    return folder


def test_a_recogniser_of_ones_own(data: Path) -> None:
    plan = plan_recogniser(OWN, data, Effort(most=2), rate=0.1)
    assert [(goal.name, len(goal.names)) for goal in plan.goals] == [("impersonate", 2), ("dodge", 2)]
    assert plan.facts["thresholds"][OWN]["impostor_pairs"] == 60 and plan.facts["thresholds"][OWN]["people"] == 6
    for goal in plan.goals:
        starts = goal.inputs.starts
        assert starts is not None and starts.shape == goal.inputs.pictures.shape and goal.inputs.landmarks is not None
    with pytest.raises(DataError, match="needs at least 1000 pairs"):
        plan_recogniser(OWN, data, Effort(), rate=0.001)
    with pytest.raises(DataError, match="no recogniser arcface"):
        plan_recogniser("arcface", data, Effort())
    with pytest.raises(DataError, match="no attack deepfool"):
        plan_recogniser(OWN, data, Effort(attacks=("deepfool",)))


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "mesonet"
    config = DetectionTrainConfig(method="mesonet", size=256, learning_rate=1e-3)
    Run(folder, config, "0" * 64)
    save_file(build("mesonet").state_dict(), folder / "weights.safetensors")
    return folder


def test_a_detector_of_the_lab(data: Path, run_folder: Path, tiny_pack: Path) -> None:
    plan = plan_detector("detector", str(run_folder), data, Effort(), threshold=0.1)
    assert [goal.name for goal in plan.goals] == ["hide", "accuse"]
    assert all(goal.inputs.pictures.shape == (6, 3, 256, 256) for goal in plan.goals)
    assert plan.victims[str(run_folder)].differentiable and plan.facts["thresholds"] == {str(run_folder): 0.1}
    with pytest.raises(DataError, match="no run folder"):
        plan_detector("detector", str(tiny_pack), data, Effort())


def test_a_pack_is_a_black_box(data: Path, tiny_pack: Path) -> None:
    plan = plan_detector("pack", str(tiny_pack), data, Effort())
    assert plan.attacks == ("corruptions", "square") and not plan.victims[str(tiny_pack)].differentiable
    with pytest.raises(PackError):
        plan_detector("pack", str(data), data, Effort())
    with pytest.raises(DataError, match="on this machine"):
        plan_detector("pack", "https://example.org/model", data, Effort())


def test_a_card_that_lies(data: Path, make_pack: Callable[..., Path], tmp_path: Path) -> None:
    folder = make_pack()
    card = Card.read(folder / "card.json")
    replace(card, colour_order="BGR").write(folder / "card.json")
    with pytest.raises(DataError, match="colour order or input range is stated wrongly"):
        plan_detector("pack", str(folder), data, Effort())


def test_one_class_only(data: Path, tiny_pack: Path) -> None:
    lines = (data / "manifest.csv").read_text().splitlines()
    (data / "real.csv").write_text("\n".join(line for line in lines if not line.endswith(",1")) + "\n")
    with pytest.raises(DataError, match="all pictures are real"):
        plan_detector("pack", str(tiny_pack), data / "real.csv", Effort())


def test_the_command_from_end_to_end(
    data: Path, tiny_pack: Path, tmp_path: Path, say: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    from unmask import cli

    out = tmp_path / "out"
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as end:
        arguments = ["redteam", "pack", str(tiny_pack), str(data), "--out", str(out), "--most", "2", *SMALL]
        patch.setattr("sys.argv", ["unmask", *arguments])
        cli.main()
    assert end.value.code == 0 and "worst of all" in capsys.readouterr().out
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    assert report["kind"] == "pack" and report["clean"][0]["pictures"] == 2 and report["auc"]
    assert (out / "report.html").is_file() and len(list((out / "pictures").rglob("*.png"))) == 2 * 2 * 2


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["recogniser", OWN, "DATA", "--level", "0.5", "--false-match-rate", "0.1"], "below one grey level"),
        (["recogniser", OWN, "nowhere"], "no manifest"),
        (["pack", "plain", "DATA", "--attack", "pgd"], "needs gradients"),
        (["detector", "plain", "DATA"], "no run folder"),
    ],
)
def test_refusals_of_the_command(
    arguments: list[str], why: str, data: Path, tmp_path: Path, say: Callable[..., Any]
) -> None:
    arguments = [str(data) if word == "DATA" else word for word in arguments]
    code, error = say(["redteam", *arguments, "--out", str(tmp_path / "out")])
    assert code == 2 and why in error and len(error.strip().splitlines()) == 1
