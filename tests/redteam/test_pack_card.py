"""A campaign against a pack, with gradients, and its curve on the pack's card."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from tiny_pack import write_pack

from unmask.packs import load_pack
from unmask.packs.strength import WORST
from unmask.redteam.campaign import RECORDS
from unmask.redteam.report import REPORT
from unmask.redteam.setup import Effort, plan_detector

pytestmark = [pytest.mark.lab, pytest.mark.slow]
ATTACKS = [word for name in ("corruptions", "square", "pgd") for word in ("--attack", name)]
SMALL = ["--level", "4", "--level", "12", "--steps", "3", "--queries", "6", "--transfer", "pgd", *ATTACKS]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, portrait: Path) -> Path:
    """Four people, one photograph under lights of four colours. The warm ones count as forged."""
    folder = tmp_path_factory.mktemp("pack_card")
    picture = cv2.imread(str(portrait))
    assert picture is not None
    lines = ["path,subject,consent,label"]
    for person in range(4):
        tint = np.array([1 - 0.1 * person, 1.0, 0.7 + 0.1 * person])
        cv2.imwrite(str(folder / f"{person}.png"), (picture * tint).astype(np.uint8))
        lines.append(f"{person}.png,p{person},synthetic,{int(person >= 2)}")
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="module")
def campaign(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The pack that was attacked, and the campaign's folder."""

    from unmask import cli

    folder = tmp_path_factory.mktemp("campaign")
    # Its border lies between the colours of the two classes.
    pack = write_pack(folder / "pack", gain=20.0)
    scores = _logits(pack, data)
    middle = sum(scores.values()) / len(scores)
    arguments = ["redteam", "pack", str(pack), str(data), "--out", str(folder / "out"), "--white-box", *SMALL]
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as end:
        patch.setattr("sys.argv", ["unmask", *arguments, "--threshold", str(middle)])
        cli.main()
    assert end.value.code == 0
    return pack, folder / "out"


def _logits(pack: Path, data: Path) -> dict[str, float]:
    plan = plan_detector("pack", str(pack), data, Effort(attacks=("square",)), threshold=0.0)
    (victim,) = plan.victims.values()
    logits: dict[str, float] = {}
    for goal in plan.goals:
        answer = victim.logits(goal.inputs)
        logits |= dict(zip(goal.names, (answer[:, 1] - answer[:, 0]).tolist(), strict=True))
    return logits


def test_the_curve_says_what_the_records_say(
    campaign: tuple[Path, Path], tmp_path: Path, say: Callable[..., Any]
) -> None:
    pack, out = campaign
    code, error = say(["redteam", "card", str(out), str(pack), "--out", str(tmp_path / "new")])
    assert code == 0, error
    curve = load_pack(tmp_path / "new").card.strength
    assert curve is not None and curve.accesses() == ("black box", "white box")
    records = [json.loads(line) for line in (out / RECORDS).read_text(encoding="utf-8").splitlines()]
    clean = {r["name"]: r["answers"][str(pack)] for r in records if r["attack"] == "clean"}
    assert not any(clean.values()) and (curve.n_real, curve.n_forged, curve.people) == (2, 2, 4)
    black = {"corruptions", "square"}
    for goal in ("hide", "accuse"):
        for access, attacks in (("black box", black), ("white box", {*black, "pgd"})):
            for epsilon, point in curve.worst(access, goal).items():
                fooled = {
                    r["name"]
                    for r in records
                    if r["attack"] in attacks and r["goal"] == goal and r["epsilon"] <= epsilon
                    if r["answers"][str(pack)]
                }
                assert point.pictures == 2 and point.rate == len(fooled) / 2
    names = {(p.access, p.attack) for p in curve.points}
    assert names >= {("black box", "square"), ("white box", "pgd"), ("black box", WORST), ("white box", WORST)}
    strongest = 12 / 255
    areas = [curve.auc(access, strongest) for access in curve.accesses()]
    clean_area = curve.auc("black box", 0.0)
    assert clean_area is not None and clean_area.value == 1.0 and None not in areas
    assert areas[1].value <= areas[0].value <= 1.0  # type: ignore[union-attr]
    settings = json.loads((out / REPORT).read_text(encoding="utf-8"))["settings"]
    assert curve.data_sha256 == settings["data"] and curve.queries == 6 and curve.steps == 3
    assert "unmask" in curve.versions and curve.command.startswith("unmask redteam pack")


def test_gradients_fool_a_linear_pack_at_once(campaign: tuple[Path, Path]) -> None:
    _, out = campaign
    records = [json.loads(line) for line in (out / RECORDS).read_text(encoding="utf-8").splitlines()]
    linear = [r for r in records if r["attack"] == "pgd" and r["epsilon"] > 8 / 255]
    assert len(linear) == 4
    start = {r["name"]: r["score"] for r in records if r["attack"] == "clean"}
    for record in linear:
        # Of a linear function the best is known: every value moved all the way, but where it leaves [0, 1].
        best = 20.0 * (1 + 2 + 3) * record["epsilon"] / 0.25
        moved = (start[record["name"]] - record["score"]) * (1 if record["label"] else -1)
        assert 0.5 * best < moved <= best * 1.001


def test_nothing_is_overwritten_and_another_model_is_refused(
    campaign: tuple[Path, Path], tmp_path: Path, say: Callable[..., Any]
) -> None:
    pack, out = campaign
    for words, why in (
        ([str(out), str(pack), "--out", str(tmp_path)], "is there already"),
        ([str(out), "plain", "--out", str(tmp_path / "new")], "another model than that of pack 'plain'"),
        ([str(tmp_path), str(pack), "--out", str(tmp_path / "new")], "no report of a finished campaign"),
    ):
        code, error = say(["redteam", "card", *words])
        assert code == 2 and why in error
    assert not (tmp_path / "new").exists()
    (tmp_path / "other").mkdir()
    report = {**json.loads((out / REPORT).read_text(encoding="utf-8")), "kind": "detector"}
    (tmp_path / "other" / REPORT).write_text(json.dumps(report), encoding="utf-8")
    code, error = say(["redteam", "card", str(tmp_path / "other"), str(pack), "--out", str(tmp_path / "new")])
    assert code == 2 and "a campaign against a detector" in error
