"""Comparisons of any task's systems, how numbers are printed and written, and whose task a system is."""

import json
import math
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from edit_runs import write_run as write_edit_run
from stored_paths import write_run

from unmask.errors import DataError, PackError
from unmask.lab.evaluate import (
    Compared,
    as_markdown,
    compare,
    comparison_table,
    in_cell,
    shortest_names,
    task_of_system,
    tasks_of_systems,
    write_comparison,
    write_evaluation,
)
from unmask.lab.metrics import auc, interval, of_two_classes
from unmask.lab.task import Evaluation, Measurement, Table
from unmask.packs.card import Metric
from unmask.tables import FEW

pytestmark = pytest.mark.lab

# Comparison


def share(values: np.ndarray, **changes: Any) -> Measurement:
    """The mean of a value each of some faces, one subject's each."""
    items = tuple(f"face {number}" for number in range(len(values)))
    one = Measurement(
        "share", "all", "clean", items, items, np.arange(len(values)) % 2, lambda rows: float(values[rows].mean())
    )
    return replace(one, **changes)


def test_every_system_has_its_value_and_all_but_the_first_a_difference() -> None:
    rng = np.random.default_rng(0)
    first = rng.random(60)
    rows = compare([[share(first)], [share(first + 0.25)], [share(1 - first)]], ["a", "b", "c"])
    assert [row.system for row in rows] == ["a", "b", "c"]
    assert [row.value[0] for row in rows] == pytest.approx([first.mean(), first.mean() + 0.25, 1 - first.mean()])
    assert rows[0].difference is None
    # The same on every face: the difference has no spread, though both values have one.
    assert rows[1].difference == pytest.approx((0.25,) * 3)
    low, high = rows[1].value[1:]
    assert low is not None and high is not None and high - low > 0.1
    assert rows[2].difference is not None and rows[2].difference[0] == pytest.approx(1 - 2 * first.mean())
    assert {(row.n_real, row.n_forged) for row in rows} == {(30, 30)}


def test_a_systems_value_is_that_of_the_metric_by_itself() -> None:
    rng, labels = np.random.default_rng(1), np.arange(80) % 2
    subjects = [str(number // 2) for number in range(80)]
    scores = rng.normal(0, 1, 80) + labels
    one = share(scores, subjects=tuple(subjects), labels=labels, value=of_two_classes(auc, labels, scores), draws=200)
    (row,) = compare([[one]], ["a"])
    assert row.value == pytest.approx(interval(auc, labels, scores, subjects, draws=200))


def test_whole_subjects_are_resampled() -> None:
    values = np.array([1.0] * 20 + [0.0] * 20)
    of_two = share(values, subjects=("a",) * 20 + ("b",) * 20)
    (row,) = compare([[of_two]], ["x"])
    assert row.value == (0.5, 0, 1)


def test_systems_are_compared_on_the_faces_that_all_of_them_saw_by_name() -> None:
    """Whatever their order, and though one saw more; a face is the same face in each."""
    values = {f"face {number}": float(number) for number in range(10)}
    names = [[f"face {n}" for n in order] for order in (range(10), (7, 3, 5, 1), (1, 3, 5, 8, 7))]
    measured = [
        [
            share(
                np.array([values[name] for name in some]),
                items=tuple(some),
                subjects=tuple(some),
                labels=np.ones(len(some), int),
            )
        ]
        for some in names
    ]
    rows = compare(measured, ["a", "b", "c"])
    assert [row.value[0] for row in rows] == [4.0] * 3  # of 1, 3, 5 and 7
    assert [row.difference for row in rows[1:]] == [(0, 0, 0)] * 2
    assert {(row.n_real, row.n_forged) for row in rows} == {(0, 4)}


def test_what_one_system_lacks_is_not_compared() -> None:
    some, other = share(np.arange(4.0)), share(np.arange(4.0), group="swap")
    assert {row.group for row in compare([[some, other], [other]], ["a", "b"])} == {"swap"}
    assert compare([[some], [other]], ["a", "b"]) == []


def test_a_metric_that_is_nowhere_defined_has_no_interval() -> None:
    nowhere = share(np.arange(4.0), value=lambda rows: math.nan)
    (row,) = compare([[nowhere]], ["a"])
    assert math.isnan(row.value[0]) and row.value[1:] == (None, None)


def test_a_comparison_repeats_itself() -> None:
    measured = [[share(np.random.default_rng(seed).random(20))] for seed in range(2)]
    assert compare(measured, ["a", "b"], seed=3) == compare(measured, ["a", "b"], seed=3)
    assert compare(measured, ["a", "b"], seed=3) != compare(measured, ["a", "b"], seed=4)


# Tables

ROWS = [
    Compared("a", "auc", "swap", "clean", (0.9, 0.8, 0.95), None, 10, 12),
    Compared("b", "auc", "swap", "clean", (0.7, 0.6, 0.8), (-0.2, -0.3, 0.1), 10, 12),
    Compared("a", "csm", "all", "joint", (0.5, None, None), None, 1, 2),
    Compared("b", "csm", "all", "joint", (0.75, None, None), (0.25, None, None), 1, 2),
]


def test_the_table_of_a_comparison_has_a_column_for_every_system() -> None:
    assert comparison_table(ROWS).splitlines() == [
        "| faces | condition | metric | a | b | real / forged |",
        "|---|---|---|---|---|---|",
        "| swap | clean | auc | 0.900 [0.800, 0.950] | 0.700 [0.600, 0.800]; -0.200 [-0.300, +0.100] | 10 / 12 |",
        "| all | joint | csm | (0.500)† | (0.750; +0.250)† | 1 / 2 |",
        "",
        FEW,
    ]


@pytest.mark.parametrize(
    ("names", "short"),
    [
        (["runs/a", "runs/b"], ["a", "b"]),
        (["one/plain", "two/plain", "x"], ["one/plain", "two/plain", "x"]),
        (["plain", "plain"], ["plain", "plain"]),
    ],
)
def test_names_are_as_short_as_they_can_be(names: list[str], short: list[str]) -> None:
    assert shortest_names([str(Path(name)) for name in names]) == short


METRIC = Metric(dataset="swap", name="auc", value=0.75, low=0.5, high=1, n_real=11, n_forged=12, condition="clean")


def test_metrics_stand_with_their_intervals_but_under_plain_heads() -> None:
    single = replace(METRIC, low=None, high=None)
    table = Table(("faces", "AUC", "short"), (("swap", METRIC, METRIC), ("none", None, single)), frozenset({"short"}))
    assert as_markdown([table, table]).splitlines() == [
        *(
            lines := [
                "| faces | AUC | short |",
                "|---|---|---|",
                "| swap | 0.750 [0.500, 1.000] | 0.750 |",
                "| none | – | 0.750 |",
            ]
        ),
        "",
        *lines,
    ]
    assert in_cell(single) == "0.750" and in_cell(None) == "–"
    assert in_cell(replace(METRIC, n_real=147, n_forged=2)) == "(0.750 [0.500, 1.000])†"
    assert in_cell(replace(METRIC, n_real=0, n_forged=1)).endswith("†")
    assert in_cell(replace(METRIC, n_real=0, n_forged=5)) == in_cell(METRIC)


def test_an_evaluation_keeps_what_is_added_and_gives_it_by_name() -> None:
    result = Evaluation("val")
    result.add("swap", "auc", "clean", 0.123456, 0.1, None, np.array([0, 1, 1]))
    metric = result.value("swap", "auc", "clean")
    assert metric == Metric(
        dataset="swap", name="auc", condition="clean", value=0.1235, low=0.1, high=None, n_real=1, n_forged=2
    )
    for key in (("swap", "auc", "jpeg50"), ("swap", "cllr", "clean"), ("blend", "auc", "clean")):
        assert result.value(*key) is None


# Files


def strict(path: Path) -> Any:
    """The JSON of a file, which holds nothing that is no number."""

    def refuse(text: str) -> None:
        raise AssertionError(text)

    return json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)


def test_the_numbers_of_an_evaluation_are_written_as_they_are(tmp_path: Path) -> None:
    result = Evaluation("val", [METRIC, replace(METRIC, low=None, high=None)])
    write_evaluation(result, "my run", "unmask evaluate 'my run'", tmp_path / "numbers.json")
    record = strict(tmp_path / "numbers.json")
    assert record["metrics"] == [asdict(metric) for metric in result.metrics]
    assert (record["detector"], record["split"]) == ("my run", "val")
    assert record["command"] == "unmask evaluate 'my run'" and "torch" in record["versions"]


def test_a_comparison_is_written_as_it_is(tmp_path: Path) -> None:
    write_comparison(ROWS, "test", "unmask compare a b", tmp_path / "rows.json")
    record = strict(tmp_path / "rows.json")
    assert record["rows"] == json.loads(json.dumps([asdict(row) for row in ROWS]))
    assert (record["split"], record["command"]) == ("test", "unmask compare a b") and "torch" in record["versions"]


# Whose task


def test_a_system_says_its_task(tmp_path: Path, tiny_pack: Path, tiny_edit_model: Path) -> None:
    one, two = write_run(tmp_path / "one"), write_run(tmp_path / "two", seed=1)
    reads = write_edit_run(tmp_path / "reads")
    detection, reading = "forgery_detection", "edit_reading"
    systems = {str(one): detection, f"{one},{two}": detection, str(tiny_pack): detection, "plain": detection}
    systems |= {str(reads): reading, str(tiny_edit_model): reading}
    assert {name: task_of_system(name).name for name in systems} == systems
    assert tasks_of_systems([str(one), str(two), "plain"]).name == detection
    with pytest.raises(DataError, match=r"of different tasks cannot go together: .*forgery_detection.*edit_reading"):
        tasks_of_systems([str(one), str(reads)])
    with pytest.raises(DataError, match=r"runs of different tasks .*name them apart"):
        task_of_system(f"{one},{reads}")
    with pytest.raises(PackError):
        task_of_system(str(tmp_path / "nothing"))
