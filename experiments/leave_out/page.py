"""Leave-one-out's part of the results pages, from the records that `measure.py` wrote."""

from dataclasses import fields
from pathlib import Path
from typing import Any

from common import read_record

from unmask.lab.detection.leave_out import tables
from unmask.lab.evaluate import as_markdown
from unmask.lab.task import Evaluation
from unmask.packs.card import Metric
from unmask.tables import markdown

_TEXT = """Every kind of forgery and every source of reals is measured by systems that never saw it. The likelihood
ratios of a kind are fitted on the other kinds, the limit for "forged" on the other sources of reals; "all" are the
pictures of all conditions together, with one threshold. `experiments/leave_out/measure.py` measures;
`experiments/plain/run.sh` trains."""


def evaluation(record: dict[str, Any]) -> Evaluation:
    """A record's numbers of what was left out."""
    names = [field.name for field in fields(Metric)]
    metrics = [Metric(**dict(zip(names, row, strict=True))) for row in record["metrics"]]
    return Evaluation(record["split"], metrics)


def _part(root: Path, name: str) -> str:
    record = read_record(root, f"leave_out/{name}")
    runs = record["runs"].items()
    head = f"## {record['text']}\n\nSystems: {'; '.join(record['systems'])}. Pictures of the {record['split']} split."
    if runs:
        total = sum(one["seconds"] for _, one in runs) / 60
        head += f" Training took {total:.0f} minutes of one core, measuring {record['measuring_seconds'] / 60:.0f}."
    rows = [
        (
            run,
            ", ".join(one["kinds"]),
            ", ".join(one["began_with"]),
            ", ".join(one["without_sources"]),
            str(one["steps"]),
        )
        for run, one in runs
    ]
    titles = ("run", "trained on the kinds", "began with weights trained on", "without the sources", "steps")
    parts = [head, *([markdown(titles, rows)] if rows else ()), as_markdown(tables(evaluation(record), "kind"))]
    return "\n\n".join(parts)


def section(root: Path) -> str:
    """The tables of every record; `root` is the repository's."""
    names = sorted(path.stem for path in (root / "experiments" / "leave_out").glob("*.json"))
    return "\n\n".join([_TEXT, *(_part(root, name) for name in names)]) + "\n"
