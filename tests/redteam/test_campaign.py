"""A campaign counts what the files say, resumes where it stopped, and reports rates."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from small_victims import BlackBox, SmallRecogniser, classified, recognised

from unmask.errors import DataError
from unmask.media.synthetic_mark import read_synthetic_mark
from unmask.redteam.attacks.contract import Attack, margin
from unmask.redteam.campaign import RECORDS, Goal, Plan, decode, encode, run
from unmask.redteam.report import write_report
from unmask.redteam.summary import summarise
from unmask.redteam.victims import Inputs, RecogniserVictim, Victim

pytestmark = pytest.mark.lab


def goal_of(name: str, inputs: Inputs) -> Goal:
    count = len(inputs)
    return Goal(name, tuple(f"{n}.png" for n in range(count)), tuple(f"p{n}" for n in range(count)), inputs)


@pytest.fixture
def plan() -> Plan:
    victim, inputs = recognised("impersonate")
    assert isinstance(victim, RecogniserVictim)
    torch.manual_seed(9)
    other = SmallRecogniser()
    other.network[0].weight += 0.05 * torch.randn(other.network[0].weight.shape)
    victims: dict[str, Victim] = {"mine": victim, "other": RecogniserVictim(other, "other", victim.threshold)}
    facts = {"thresholds": {"mine": 0.5, "other": 0.5}, "skipped": [["x.png", "no face was found"]]}
    return Plan(
        *("recogniser", "mine", victims, (goal_of("impersonate", inputs),), ("pgd", "square", "patch"), (4.0, 12.0)),
        *((0.05,), 4, 10, "mi-fgsm", 0, 2, facts, (victim.network, victim.threshold)),
    )


class Stopping:
    """Progress that is interrupted after some pictures."""

    def __init__(self, after: int) -> None:
        self.after, self.seen = after, [0]

    def update(self, stage: str, done: int, total: int | None = None, detail: str = "") -> None:
        assert stage == "attacking" and total is not None and self.seen[-1] <= done <= total
        self.seen.append(done)
        if done >= self.after:
            raise KeyboardInterrupt

    def note(self, text: str) -> None:
        pass


def test_records_say_what_the_files_say(plan: Plan, tmp_path: Path) -> None:
    records = run(plan, tmp_path / "out")
    attacked = [r for r in records if r["attack"] != "clean"]
    # pgd and square at two strengths, patch at one, the transfer attack on both victims; three pictures each.
    assert len(attacked) == 3 * (2 + 2 + 1 + 2) and len(records) - len(attacked) == 3
    inputs = plan.goals[0].inputs
    for record in attacked:
        data = (tmp_path / "out" / record["picture"]).read_bytes()
        assert read_synthetic_mark(data) == "compositeSynthetic"
        row = torch.tensor([int(record["name"][0])])
        clean = inputs.rows(row)
        read = decode(data)[None]
        moved = (read.int() - clean.pictures.int()).abs()
        size = (moved > 0).any(1).float().mean() if record["norm"] == "l0" else moved.max() / 255
        assert float(size) <= record["epsilon"] + 1e-6
        for name, victim in plan.victims.items():
            logits = victim.logits(replace(clean, pictures=read))
            assert bool(margin(logits, clean.labels, clean.targets) < 0) == record["answers"][name]
    assert [json.loads(line) for line in (tmp_path / "out" / RECORDS).read_text().splitlines()] == records


def test_it_resumes_without_attacking_again(plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = run(plan, tmp_path / "whole")
    attacked: list[int] = []
    original = Attack.run

    def counted(self: Attack, victim: Victim, inputs: Inputs, *rest: Any) -> Any:
        attacked.append(len(inputs))
        return original(self, victim, inputs, *rest)

    monkeypatch.setattr(Attack, "run", counted)
    for after in (4, 11):
        with pytest.raises(KeyboardInterrupt):
            run(plan, tmp_path / "parts", Stopping(after))
    path = tmp_path / "parts" / RECORDS
    path.write_bytes(path.read_bytes() + b'{"job": "torn')
    again = run(plan, tmp_path / "parts")
    key = lambda r: (r["job"], r["name"])  # noqa: E731
    assert sorted(again, key=key) == sorted(whole, key=key)
    assert sum(attacked) == len([r for r in whole if r["attack"] != "clean"])
    before = len(attacked)
    assert run(plan, tmp_path / "parts") == again and len(attacked) == before


def test_another_campaign_is_not_mixed_in(plan: Plan, tmp_path: Path) -> None:
    run(replace(plan, attacks=("fgsm",)), tmp_path / "out")
    with pytest.raises(DataError, match="other settings"):
        run(replace(plan, seed=1, attacks=("fgsm",)), tmp_path / "out")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    with pytest.raises(DataError, match="not empty"):
        run(plan, tmp_path / "mine")


def test_what_cannot_be_tried_is_said_before_anything_is_written(plan: Plan, tmp_path: Path) -> None:
    black = replace(plan, victims={"mine": BlackBox(plan.victims["mine"])})
    for wrong, why in (
        (black, "pgd needs gradients, and mine has none"),
        (replace(plan, attacks=("nothing",)), "no attack nothing"),
        (replace(plan, levels=(0.5,)), "below one grey level"),
        (replace(plan, attacks=("small_victims:network",)), "not a class derived from"),
    ):
        with pytest.raises(DataError, match=why):
            run(wrong, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_summary_adds_up(plan: Plan, tmp_path: Path) -> None:
    records = run(plan, tmp_path / "out")
    summary = summarise(plan, records, tmp_path / "out", lambda x: x.float().flatten(1).double().numpy())
    curves = {curve["attack"]: curve["points"] for curve in summary["curves"]}
    for attack in ("pgd", "square"):
        for point, worst in zip(curves[attack], curves["worst of all"], strict=True):
            some = [r for r in records if (r["attack"], r.get("epsilon")) == (attack, point["epsilon"])]
            assert point["rate"] == pytest.approx(sum(r["answers"]["mine"] for r in some) / 3, abs=1e-4)
            assert point["low"] <= point["rate"] <= point["high"] and point["high"] - point["low"] > 0.3
            assert worst["rate"] >= point["rate"]
    (query,) = summary["queries"]
    rates = [point["rate"] for point in query["points"]]
    assert query["attack"] == "square" and rates == sorted(rates) and rates[-1] == curves["square"][-1]["rate"]
    assert [row["source"] for row in summary["transfer"]["rows"]] == ["mine", "other"]
    assert all(set(row["cells"]) == {"mine", "other"} for row in summary["transfer"]["rows"])
    stealth = {(row["attack"], round(row["epsilon"] * 255)): row for row in summary["stealth"]}
    assert stealth["pgd", 4]["psnr"] > stealth["pgd", 12]["psnr"] > 25 and stealth["pgd", 4]["kid"] is not None
    assert {row["attack"] for row in summary["noticed"]} == {"pgd", "square", "patch"} and summary["identity"]
    write_report(summary, tmp_path / "out", "unmask redteam …")
    html = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "<img" not in html and "data:image" not in html and "mi-fgsm" in html and "no face was found" in html
    assert json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))["curves"] == summary["curves"]


def test_a_picture_that_is_so_already_is_no_success(plan: Plan, tmp_path: Path) -> None:
    victim = plan.victims["mine"]
    assert isinstance(victim, RecogniserVictim)
    easy = RecogniserVictim(victim.network, "mine", -1.0)  # everybody is taken for everybody
    summary_of = replace(plan, victims={"mine": easy}, attacks=("fgsm",))
    summary = summarise(summary_of, run(summary_of, tmp_path / "out"), tmp_path / "out")
    assert summary["clean"][0]["already"] == {"mine": 1.0}
    assert summary["curves"][0]["points"] == [] and summary["curves"][-1]["points"] == []


def test_a_detector_has_an_auc_under_attack(tmp_path: Path) -> None:
    victim, inputs = classified(2, 6)
    goals = []
    for name, label in (("hide", 1), ("accuse", 0)):
        rows = torch.arange(6)[label::2]
        chosen = inputs.rows(rows)
        chosen = replace(chosen, labels=torch.full((3,), label), targets=torch.full((3,), 1 - label))
        goals.append(Goal(name, tuple(f"{n}" for n in rows), tuple(f"p{n}" for n in rows), chosen))
    facts = {"thresholds": {"small": 0.0}, "skipped": []}
    plan = Plan("detector", "small", {"small": victim}, tuple(goals), ("pgd",), (40.0,), (), 10, 5, facts=facts)
    summary = summarise(plan, run(plan, tmp_path / "out"), tmp_path / "out")
    rows = {row["attack"]: row["auc"] for row in summary["auc"]}
    assert rows["pgd"] < rows["clean"] and rows["worst of all"] <= rows["pgd"]
    write_report(summary, tmp_path / "out")
    assert "AUC under attack" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


def test_marked_files_hold_the_picture() -> None:
    picture = torch.randint(0, 256, (3, 40, 40), dtype=torch.uint8)
    assert torch.equal(decode(encode(picture)), picture)
    with pytest.raises(DataError, match="cannot be read back"):
        decode(b"no picture")
