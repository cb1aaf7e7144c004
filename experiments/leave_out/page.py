"""Leave-one-out's part of the results pages, from the records that `run.py` wrote."""

from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

from common import read_record
from leave_out.folds import FOLDS

from unmask.lab.detection.leave_out import By, tables
from unmask.lab.evaluate import as_markdown
from unmask.lab.task import Evaluation
from unmask.packs.card import Metric
from unmask.tables import markdown

_TEXT = f"""## The folds

{len(FOLDS)} runs, each without some kinds of forgery and some sources of reals; every kind and source is measured by
the runs that never saw it. Blends and re-syntheses are in all of them. The likelihood ratios of a group are fitted on
the other groups, the limit for "forged" on the other sources of reals; "all" are the pictures of all conditions
together, with one threshold.
`experiments/leave_out/run.py` trains and measures them.
"""
_BUDGET = """## {name}, {split} split

{runs} runs of {method}, {steps} steps in all: {minutes:.0f} minutes of training and {measuring:.0f} of measuring.
"""


def evaluation(record: dict[str, Any], by: str) -> Evaluation:
    """A record's numbers of what was left out."""
    names = [field.name for field in fields(Metric)]
    metrics = [Metric(**dict(zip(names, row, strict=True))) for row in record["metrics"][by]]
    return Evaluation(record["split"], metrics)


def _part(root: Path, name: str) -> str:
    record = read_record(root, f"leave_out/{name}")
    budget = record["budget"].values()
    head = _BUDGET.format(
        name=name,
        split=record["split"],
        runs=len(budget),
        method=next(iter(record["protocols"].values()))["method"],
        steps=sum(one["steps"] for one in budget),
        minutes=sum(one["seconds"] for one in budget) / 60,
        measuring=record["measuring_seconds"] / 60,
    )
    made = [as_markdown(tables(evaluation(record, by), by)) for by in get_args(By)]
    return "\n".join([head, "\n\n".join(made)])


def section(root: Path) -> str:
    """The folds, and the tables of every record; `root` is the repository's."""
    rows = [(name, ", ".join(fold.kinds), ", ".join(fold.sources)) for name, fold in FOLDS.items()]
    names = sorted(path.stem for path in (root / "experiments" / "leave_out").glob("*.json"))
    folds = markdown(("run", "without the kinds", "without the sources"), rows)
    return "\n\n".join([f"{_TEXT}\n{folds}", *(_part(root, name) for name in names)]) + "\n"
