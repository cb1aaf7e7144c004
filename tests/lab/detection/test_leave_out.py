"""Leave-one-out on scores whose answers are known."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from unmask.errors import DataError
from unmask.lab.detection.leave_out import ALL, MEAN, WORST, By, LeftOutScore, leave_one_out, tables
from unmask.lab.evaluate import as_markdown
from unmask.lab.metrics import auc, log_lr_cost
from unmask.lab.task import Evaluation

pytestmark = pytest.mark.lab

GROUPS, SOURCES, CONDITIONS = ("swap", "synthesis", "talking head"), ("ffhq", "utkface", "dfl"), ("clean", "video")


def scores(
    forged: dict[str, float],
    reals: dict[str, float] | None = None,
    *,
    by: By = "kind",
    spread: float = 1.0,
    count: int = 40,
    conditions: Sequence[str] = CONDITIONS,
) -> list[LeftOutScore]:
    """Scores about a mean logit of every group's forgeries and every source's reals (-2 if not given).

    Every group has `count` forgeries and as many reals of each source; every source `count` reals of its own.
    """
    rng, rows = np.random.default_rng(0), []
    means = dict.fromkeys(SOURCES, -2.0) | (reals or {})

    def add(side: By, group: str, family: str, label: int, mean: float, source: str, subject: str) -> None:
        for condition in conditions:
            rows.append(
                LeftOutScore(
                    by=side,
                    group=group,
                    families=(family,) if family else (),
                    logit=float(rng.normal(mean, spread)),
                    label=label,
                    source=source,
                    subject=subject,
                    condition=condition,
                    split="val",
                    seen=source == "ffhq",
                )
            )

    for number in range(count):
        for group, mean in forged.items():
            add(by, group, group, 1, mean, SOURCES[number % len(SOURCES)], f"{group} {number}")
        for source, mean in means.items():
            for group in forged:
                add(by, group, "", 0, mean, source, f"{source} {number}")
            if by != "source":
                add("source", source, "", 0, mean, source, f"{source} {number}")
    return rows


def value(result: Evaluation, dataset: str, name: str, condition: str = ALL) -> float:
    metric = result.value(dataset, name, condition)
    assert metric is not None, (dataset, name, condition)
    return metric.value


@pytest.fixture(scope="module")
def separate() -> Evaluation:
    return leave_one_out(scores(dict.fromkeys(GROUPS, 12.0), dict.fromkeys(SOURCES, -12.0)), "kind")


def test_perfect_separation(separate: Evaluation) -> None:
    assert separate.split == "val"
    for name in (*GROUPS, MEAN, WORST):
        for condition in (*CONDITIONS, ALL):
            assert value(separate, name, "auc", condition) == 1
            assert (
                value(separate, name, "miss_at_1%", condition) == value(separate, name, "miss_at_10%", condition) == 0
            )
            assert value(separate, name, "cllr", condition) < 0.01
    for name in (*SOURCES, MEAN, WORST):
        for condition in (*CONDITIONS, ALL):
            assert value(separate, name, "verdict_forged", condition) == 0
            assert value(separate, name, "verdict_authentic", condition) == 1


def test_every_number_has_its_counts_and_an_interval_about_it(separate: Evaluation) -> None:
    for metric in separate.metrics:
        if metric.name == "reals_unseen":
            assert metric.value == pytest.approx(2 / 3, abs=1e-4) and metric.low is metric.high is None
            continue
        assert metric.low is not None and metric.high is not None and metric.low <= metric.value <= metric.high
        # A face under two conditions is one face.
        if metric.dataset in GROUPS:
            assert (metric.n_real, metric.n_forged) == (120, 40)
        elif metric.dataset in SOURCES:
            assert (metric.n_real, metric.n_forged) == (40, 0)


def test_chance() -> None:
    result = leave_one_out(scores(dict.fromkeys(GROUPS, 0.0), dict.fromkeys(SOURCES, 0.0), count=150), "kind")
    for name in (*GROUPS, MEAN):
        metric = result.value(name, "auc", ALL)
        assert metric is not None and metric.value == pytest.approx(0.5, abs=0.06)
        assert metric.low is not None and metric.high is not None and metric.low < 0.5 + 0.02 < metric.high + 0.04
        assert value(result, name, "cllr") == pytest.approx(1, abs=0.05)
        assert value(result, name, "miss_at_1%") > 0.9
    assert value(result, WORST, "auc") == min(value(result, name, "auc") for name in GROUPS)
    for source in SOURCES:
        assert value(result, source, "verdict_forged") <= 0.05 and value(result, source, "verdict_authentic") <= 0.05


def test_the_area_and_the_cost_are_those_of_the_same_rows() -> None:
    """The worst group is the one that scores as reals do; its ratios come from the others and mislead."""
    rows = scores({"swap": 3.0, "synthesis": 3.0, "talking head": -2.0})
    result = leave_one_out(rows, "kind")
    own = [row for row in rows if row.by == "kind" and row.group == "talking head" and row.condition == "video"]
    labels, logits = np.array([row.label for row in own]), np.array([row.logit for row in own])
    assert value(result, "talking head", "auc", "video") == pytest.approx(auc(labels, logits), abs=1e-4)
    assert value(result, "talking head", "cllr", "video") > 1 > value(result, "swap", "cllr", "video")
    for statistic in ("auc", "cllr", "miss_at_10%"):
        own_values = [value(result, name, statistic, "video") for name in GROUPS]
        assert value(result, MEAN, statistic, "video") == pytest.approx(np.mean(own_values), abs=2e-4)
        worst = min(own_values) if statistic == "auc" else max(own_values)
        assert value(result, WORST, statistic, "video") == worst
    printed = as_markdown(tables(result, "kind"))
    assert "worst (AUC: talking head)" in printed and "| kind left out |" in printed


def test_the_cost_of_two_like_groups_is_that_of_true_ratios() -> None:
    """Normal scores about 2 and -2 of variance 4 are their own natural log ratios, of which the fit must not differ."""
    rows = scores({"swap": 2.0, "synthesis": 2.0}, spread=2.0, count=400, conditions=("clean",))
    result = leave_one_out(rows, "kind")
    own = [row for row in rows if row.group == "swap"]
    exact = log_lr_cost(np.array([r.label for r in own]), np.array([r.logit for r in own]) / math.log(10))
    assert value(result, "swap", "cllr", "clean") == pytest.approx(exact, abs=0.01)


def test_a_groups_own_scores_do_not_change_its_ratios() -> None:
    """Forgeries that are far out cost nothing, however far: what is left is what the reals cost by the others' fit."""
    rows = scores(dict.fromkeys(GROUPS, 2.0))
    costs, other = [], []
    for shift in (50.0, 500.0):
        moved = [replace(row, logit=row.logit + shift) if row.group == "swap" and row.label else row for row in rows]
        result = leave_one_out(moved, "kind")
        costs.append(value(result, "swap", "cllr"))
        other.append(value(result, "synthesis", "cllr"))
    assert costs[0] == costs[1] > 0 and other[0] != other[1]


def test_a_source_that_is_always_called_forged() -> None:
    rows = scores(dict.fromkeys(GROUPS, 4.0), {"dfl": 6.0}, count=100)
    result = leave_one_out(rows, "kind")
    assert value(result, "dfl", "verdict_forged") > 0.95 and value(result, "dfl", "verdict_authentic") == 0
    # For the others the limit follows from this source too: where it would be let through, nothing is called forged.
    assert value(result, "ffhq", "verdict_forged") == value(result, "utkface", "verdict_forged") == 0
    assert value(result, MEAN, "verdict_forged") == pytest.approx(value(result, "dfl", "verdict_forged") / 3, abs=0.01)
    cells = [value(result, "dfl", "verdict_forged", condition) for condition in CONDITIONS]
    assert value(result, WORST, "verdict_forged") == max(cells)
    assert "worst (forged: dfl, " in as_markdown(tables(result, "kind"))


def test_sources_left_out_have_areas_and_verdicts() -> None:
    rows = scores(dict.fromkeys(SOURCES, 3.0), by="source")
    rows = [row for row in rows if row.label or row.source == row.group]
    result = leave_one_out(rows, "source")
    for source in SOURCES:
        assert value(result, source, "auc") > 0.95 and value(result, source, "cllr") < 0.5
        assert value(result, source, "verdict_forged") <= 0.05


def test_what_needs_other_groups_is_left_out_where_there_are_none() -> None:
    rows = [row for row in scores({"swap": 3.0}) if row.by == "kind" or row.source == "dfl"]
    result = leave_one_out(rows, "kind")
    assert {metric.name for metric in result.metrics} == {"auc", "miss_at_1%", "miss_at_10%", "reals_unseen"}
    head, rule, *lines = as_markdown(tables(result, "kind")).splitlines()
    assert all(line.count("|") == head.count("|") == rule.count("|") for line in lines)
    assert sum(line.startswith("| swap |") for line in lines) == 3


def test_one_condition_has_no_other_beside_it() -> None:
    result = leave_one_out(scores(dict.fromkeys(GROUPS, 3.0), conditions=("clean",)), "kind")
    assert {metric.condition for metric in result.metrics} == {"clean"}


def test_a_group_of_one_class_has_no_area_and_no_part_in_the_mean() -> None:
    rows = [row for row in scores(dict.fromkeys(GROUPS, 3.0)) if row.group != "swap" or row.label]
    result = leave_one_out(rows, "kind")
    assert result.value("swap", "auc", ALL) is None
    assert value(result, MEAN, "auc") == pytest.approx(
        np.mean([value(result, name, "auc") for name in GROUPS[1:]]), abs=2e-4
    )


def test_a_few_faces_decide_neither_what_is_worst_nor_the_limit() -> None:
    """Four faces that score as the other class does, once of a group and once of a source."""
    conditions = ("clean", "video", "jpeg50")  # four faces under three conditions are not twelve
    rows = scores(dict.fromkeys(GROUPS, 12.0), dict.fromkeys(SOURCES, -12.0), count=20, conditions=conditions)
    swaps = [row for row in rows if row.group == "swap"]
    forged = [[row for row in swaps if row.label and row.condition == condition][:4] for condition in conditions]
    few = [replace(row, group="few", logit=-20.0) for own in forged for row in own]
    result = leave_one_out([*rows, *few, *(replace(row, group="few") for row in swaps if not row.label)], "kind")
    for condition in (*conditions, ALL):
        assert value(result, "few", "auc", condition) < 0.1 and value(result, WORST, "auc", condition) == 1
    assert {metric.n_forged for metric in result.metrics if metric.dataset == "few"} == {4}

    rows = [row for row in rows if row.condition == "clean"]
    own = [row for row in rows if row.by == "source" and row.source == "dfl"]
    result = leave_one_out([*rows, *(replace(row, group="few", source="few", logit=20.0) for row in own[:4])], "kind")
    assert value(result, "few", "verdict_forged", "clean") == 1
    assert value(result, WORST, "verdict_forged", "clean") == value(result, MEAN, "verdict_forged", "clean") == 0


def test_a_subject_on_two_sides_is_refused() -> None:
    rows = scores(dict.fromkeys(GROUPS, 3.0))
    with pytest.raises(DataError, match=r"swap 0 is in the splits test and val; keep it on one side"):
        leave_one_out([replace(rows[0], split="test"), *rows], "kind")
    with pytest.raises(DataError, match="the splits test and val are not measured together"):
        leave_one_out([replace(rows[0], split="test", subject="another"), *rows], "kind")


@pytest.mark.parametrize("by", ["family", "source"])
def test_what_no_system_lacks_is_refused(by: By) -> None:
    rows = [row for row in scores({"swap": 1.0}) if row.by == "kind"]
    with pytest.raises(DataError, match=f"no {by} was left out by any system"):
        leave_one_out(rows, by)


def test_the_families_of_a_kind_count_alike() -> None:
    """However few pictures one has; each stands beside its own reals and those of the whole group."""
    rows = scores({"swap": 12.0, "synthesis": 12.0}, dict.fromkeys(SOURCES, -12.0))
    few = [row for row in scores({"swap": -40.0}, count=10) if row.by == "kind" and row.label]
    rows += [replace(row, families=("few",), subject=f"few {row.subject}") for row in few]
    result = leave_one_out(rows, "kind")
    assert value(result, "swap", "auc") == 0.5 and value(result, "synthesis", "auc") == 1
    beside = [replace(row, logit=-60.0, label=0, source="theirs", subject=f"real {row.subject}") for row in few]
    rows += [replace(row, families=("few",)) for row in beside]
    assert value(leave_one_out(rows, "kind"), "swap", "auc") == pytest.approx((1 + 10 / 130) / 2, abs=1e-4)
