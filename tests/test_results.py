"""The results page is what the cards and the experiments' records say."""

import importlib
import json
import sys
from pathlib import Path
from statistics import mean

import pytest

pytestmark = pytest.mark.lab
ROOT = Path(__file__).resolve().parent.parent


def test_the_page_is_generated_from_the_records(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    monkeypatch.setattr(sys, "path", [str(ROOT / "experiments"), *sys.path])
    page = importlib.import_module("results").results()
    assert page == (ROOT / "docs" / "results.md").read_text(encoding="utf-8")


def test_the_docs_on_tracing_quote_the_records() -> None:
    rows = []
    for name in ("policies", "errors", "absent"):
        rows += json.loads((ROOT / "experiments" / "titf" / f"{name}.json").read_text(encoding="utf-8"))["rows"]
    docs = (ROOT / "docs" / "tracing.md").read_text(encoding="utf-8").split("## How far to trust it")[1]
    told = " ".join(docs.split())

    def found(table: str, arm: str, number: str, digits: int = 3) -> str:
        values = [row[number] for row in rows if (row["table"], row["arm"]) == (table, arm)]
        assert len(values) >= 3
        return f"{mean(values):.{digits}f}".removeprefix("0")

    exact, wrong = (tuple(found(table, arm, "answers", 1) for arm in ("info_gain", "static", "random"))
                    for table in ("exact", "clusters"))  # fmt: skip
    assert "found in {} questions (in the order of entropy {}, at random {})".format(*exact) in told
    assert "it is {} against {} and {}".format(*wrong) in told
    plain, robust = ("5 % wrong", "info_gain"), ("5 % wrong", "info_gain, robust")
    assert f"takes {found(*plain, 'answers', 1)} answers, and {found(*plain, 'top1')} of the people" in told
    undecided = f"{1 - float('0' + found(*robust, 'decided')):.3f}".removeprefix("0")
    assert f"{found(*robust, 'answers', 1)} and {found(*robust, 'top1')}, and {undecided} stay undecided" in told
    assert f"hard filtering has {found('5 % wrong', 'hard filtering', 'top1')}" in told
    assert f"a decision tree {found('5 % wrong', 'decision tree', 'top1')}" in told
    assert found("5 % wrong", "one-shot linkage (Splink)", "top1") == "1.000"
    arms = [row["arm"] for row in rows if row["table"] == "misspecified" and "robust" not in row["arm"]]
    errors = sorted(found("misspecified", arm, "calibration_error") for arm in arms)
    assert f"calibration error {errors[0]} to {errors[-1]}" in told
    absent = {
        arm: [found(f"absent, dependence {strength}", arm, "false_identified") for strength in ("0", "0.5", "1", "2")]
        for arm in ("no such hypothesis", "prior 0.2, independent", "prior 0.2, tree", "prior 0.2, tree, robust")
    }
    without = sorted(absent["no such hypothesis"])
    assert f"{float('0' + without[0]):.2f} to {float('0' + without[-1]):.2f}".replace("0.", ".") in told
    tree, product, robustly = (absent[f"prior 0.2, {kind}"] for kind in ("tree", "independent", "tree, robust"))
    assert f"it is {tree[0]} where attributes are independent, {tree[2]} where they depend" in told
    assert f"{tree[3]} where twice as strongly; with the default {robustly[0]}, {robustly[2]}, {robustly[3]}" in told
    assert f"({tree[3]} against {product[3]})" in told
    assert f"called absent in {found(*robust, 'missed')} of the cases" in told
    assert f"in {found('lies', '2 lies, robust', 'missed')}." in told
    assert f"{found('twins', '20 % near-twins', 'false_identified')} of absent people" in told
    cores = {name: found("cores", "cores", name, 2) for name in ("least", "greedy", "greedy as small", "asked")}
    assert f"are {cores['least']} on average; greedily in hindsight {cores['greedy']}" in told
    assert f"as few in {cores['greedy as small']} of the cases; an adaptive run asks {cores['asked']}" in told
    assert f"{found('cores', 'cores', 'unique on some 3')} are unique on some three" in told
