"""Leave-one-out's part of the results pages, from the records that `measure.py` wrote."""

from dataclasses import fields
from pathlib import Path
from typing import Any

from common import read_record

from unmask.lab.detection.leave_out import ALL, MEAN, WORST, tables
from unmask.lab.evaluate import as_markdown
from unmask.lab.task import Evaluation
from unmask.packs.card import Metric
from unmask.tables import markdown

_TEXT = """Every kind of forgery and every source of reals is measured by systems that never saw it. The likelihood
ratios of a kind are fitted on the other kinds, the limit for "forged" on the other sources of reals; "all" are the
pictures of all conditions together, with one threshold. The counts beside "all" are of faces times six conditions in
these records; `unmask evaluate` now counts a face once. `experiments/leave_out/measure.py` measures;
`experiments/plain/run.sh` trains."""

_DESIGN = "design-"
_DESIGNS = """## Designs, on kinds and sources that none of them saw

None saw text-to-image, attribute edits, restoration, inpainting and lip-sync, nor the same seven sources of reals; the
pictures are those that were left out, under six conditions with one threshold. The rule,
written before the runs: the design with the highest mean AUC. Steps are of 16 pairs, minutes those of one core, which
the designs from "one network" on shared with other work; but for the trunk all began from members of the older pack.
"Called forged" are the reals of the seven sources, on average and in the worst source and condition. Two designs of
`experiments/plain/run.sh` have not been trained to the end: self-blends alone, and sources reweighted in training
(`--reweight-sources`; the default if it lowers the latter at no lower mean AUC). The four published detectors were
not trained on these data, for their cost; the [leaderboard](leaderboard.md) compares them on older ones.

The rule takes: **{best}**. The embedded pack had been made of two specialists before; whether one network replaces
them is the next comparison.
"""


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
    """The tables of the records of before and after; `root` is the repository's."""
    return "\n\n".join([_TEXT, *(_part(root, name) for name in _names(root) if not name.startswith(_DESIGN))]) + "\n"


def _names(root: Path) -> list[str]:
    order = {"before": 0, "after": 1, "design-interpolated": 2, "design-older": 3}
    names = [path.stem for path in (root / "experiments" / "leave_out").glob("*.json")]
    return sorted(names, key=lambda name: (order.get(name, 4), name))


def designs_section(root: Path) -> str:
    """Designs on the kinds that all of them lacked, with what they cost."""
    records = {name: read_record(root, f"leave_out/{name}") for name in _names(root) if name.startswith(_DESIGN)}
    results = {name: evaluation(record) for name, record in records.items()}
    kinds = [m.dataset for m in next(iter(results.values())).metrics if m.name == "auc" and m.condition == ALL]
    kinds = [kind for kind in kinds if kind not in (MEAN, WORST)]
    rows = []
    for name, record in records.items():
        steps = sum(one["steps"] for one in record["runs"].values())
        minutes = sum(one["seconds"] for one in record["runs"].values()) / 60
        cells = [_cell(results[name], group, "auc") for group in (MEAN, *kinds)]
        others = [
            _cell(results[name], *where)
            for where in ((MEAN, "cllr"), (MEAN, "verdict_forged"), (WORST, "verdict_forged"))
        ]
        rows.append([record["text"], str(steps), f"{minutes:.0f}", *cells, *others])
    heads = ["design", "steps", "minutes", "mean AUC", *kinds, "Cllr", "called forged, mean", "worst"]
    mean = {name: metric.value for name in results if (metric := results[name].value(MEAN, "auc", ALL)) is not None}
    best = records[max(mean, key=lambda name: mean[name])]["text"]
    return f"{_DESIGNS.format(best=best)}\n{markdown(heads, rows)}\n"


def _cell(result: Evaluation, group: str, name: str) -> str:
    metric = result.value(group, name, ALL)
    if metric is None:
        return "–"
    if metric.low is None or metric.high is None:
        return f"{metric.value:.2f}"
    return f"{metric.value:.2f} [{metric.low:.2f}, {metric.high:.2f}]"
