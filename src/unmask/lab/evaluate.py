"""Measuring and comparing systems of any task: what `unmask evaluate` and `unmask compare` print. Lab only.

Every system sees the same faces; intervals of 95 % are by bootstrap over subjects, and a difference is taken within
every resample.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from unmask.errors import DataError, PackError
from unmask.files import whole
from unmask.lab.metrics import cluster_bootstrap, difference, resampled
from unmask.lab.run import is_run, task_of, versions
from unmask.lab.task import Evaluation, Measurement, Table, Task, task_named
from unmask.packs import load_pack
from unmask.packs.card import Metric
from unmask.tables import markdown, unless_few, with_few_note

EVALUATION = "evaluation.json"
"""The file of a pack's folder with every number of its evaluation, of which the card has some. Nothing reads it."""


@dataclass(frozen=True)
class Compared:
    """A metric of one system with its interval, and the same of its difference from the first system.

    `value` and `difference` are (number, lower, upper limit).
    """

    system: str
    metric: str
    group: str
    condition: str
    value: tuple[float, float | None, float | None]
    difference: tuple[float, float | None, float | None] | None
    n_real: int
    n_forged: int


def task_of_system(name: str) -> Task:
    """The task of a run folder, of several with commas between them, or of a pack by name or folder.

    Raises:
        DataError: runs of different tasks, or one that cannot be read.
        PackError: neither runs nor a pack.
    """
    folders = [Path(part) for part in name.split(",")]
    if any(map(is_run, folders)):
        tasks = {folder: task_of(folder) for folder in folders}
        if len(set(tasks.values())) > 1:
            raise DataError(
                f"{name}: runs of different tasks ({', '.join(sorted(set(tasks.values())))}); name them apart"
            )
        return task_named(next(iter(tasks.values())))
    try:
        card = load_pack(name).card
    except PackError as error:
        if (folders[0] / "card.json").is_file():
            raise
        raise PackError(f"{error}; nor is it a run's folder, for it has no run.json") from error
    return task_named(card.task)


def tasks_of_systems(names: Sequence[str]) -> Task:
    """The one task of several systems.

    Raises:
        DataError: they are of different tasks; or as of `task_of_system`.
    """
    tasks = {name: task_of_system(name) for name in names}
    kinds = {task.name for task in tasks.values()}
    if len(kinds) > 1:
        listed = ", ".join(f"{name} ({task.name})" for name, task in tasks.items())
        raise DataError(f"systems of different tasks cannot go together: {listed}")
    return tasks[names[0]]


def compare(measured: Sequence[Sequence[Measurement]], names: Sequence[str], seed: int = 0) -> list[Compared]:
    """Compare systems; every one but the first with the first, on the faces that all of them saw.

    Args:
        measured: of each system, in the order of `names`: as `Task.measurements` gives them.
        names: of the systems.
        seed: of the bootstrap.

    Returns:
        By metric, group and condition, each system in turn.
    """
    keys = dict.fromkeys((one.condition, one.group, one.metric) for own in measured for one in own)
    by_key = [{(one.condition, one.group, one.metric): one for one in own} for own in measured]
    rows = []
    for key in keys:
        there = [own[key] for own in by_key if key in own]
        if len(there) < len(measured):
            continue
        rows_of = [{item: row for row, item in enumerate(one.items)} for one in there]
        common = [item for item in there[0].items if all(item in index for index in rows_of)]
        places = [np.array([index[item] for item in common], np.intp) for index in rows_of]
        subjects = [there[0].subjects[row] for row in places[0]]
        draws = list(resampled(subjects, there[0].draws, seed))
        values = [_on_rows(one, own_rows) for one, own_rows in zip(there, places, strict=True)]
        labels = there[0].labels[places[0]]
        everything = np.arange(len(subjects))
        for number, (name, value) in enumerate(zip(names, values, strict=True)):
            less = difference(value, values[0])
            rows.append(
                Compared(
                    name,
                    there[number].metric,
                    there[number].group,
                    there[number].condition,
                    (value(everything), *cluster_bootstrap(value, draws)),
                    (less(everything), *cluster_bootstrap(less, draws)) if number else None,
                    int((labels == 0).sum()),
                    int((labels == 1).sum()),
                )
            )
    return rows


def _on_rows(one: Measurement, rows: np.ndarray) -> Callable[[np.ndarray], float]:
    """A metric as a function of the numbers of some of its rows."""
    return lambda some: one.value(rows[some])


def shortest_names(names: Sequence[str]) -> list[str]:
    """The last parts of paths, as few as tell them apart."""
    parts = [Path(name).parts for name in names]
    for count in range(1, max(map(len, parts)) + 1):
        short = ["/".join(part[-count:]) for part in parts]
        if len(set(short)) == len(short):
            return short
    return list(names)


def as_markdown(tables: Sequence[Table]) -> str:
    """Tables of an evaluation as Markdown, a blank line between them."""
    return "\n\n".join(
        with_few_note(
            markdown(
                table.heads,
                [
                    [
                        cell if isinstance(cell, str) else in_cell(cell, head not in table.plain)
                        for head, cell in zip(table.heads, row, strict=True)
                    ]
                    for row in table.rows
                ],
            )
        )
        for table in tables
    )


def in_cell(metric: Metric | None, interval: bool = True) -> str:
    """A number with its interval, if it has one, for a table; a dash where there is none.

    One that is of fewer than `LEAST` authentic or forged faces stands in brackets.
    """
    if metric is None:
        return "–"
    text = f"{metric.value:.3f}"
    if interval and metric.low is not None and metric.high is not None:
        text += f" [{metric.low:.3f}, {metric.high:.3f}]"
    return unless_few(text, metric.n_real, metric.n_forged)


def comparison_table(rows: Sequence[Compared]) -> str:
    """The comparison as a Markdown table: a row per group, condition and metric, a column per system."""
    names = list(dict.fromkeys(row.system for row in rows))
    lines = []
    for group, condition, metric in dict.fromkeys((row.group, row.condition, row.metric) for row in rows):
        own = [row for row in rows if (row.group, row.condition, row.metric) == (group, condition, metric)]
        cells = []
        for row in own:
            cell = _numbers(row.value, "")
            cell = cell if row.difference is None else f"{cell}; {_numbers(row.difference, '+')}"
            cells.append(unless_few(cell, row.n_real, row.n_forged))
        lines.append([group, condition, metric, *cells, f"{own[0].n_real} / {own[0].n_forged}"])
    return with_few_note(markdown(["faces", "condition", "metric", *names, "real / forged"], lines))


def _numbers(numbers: tuple[float, float | None, float | None], sign: str) -> str:
    value, low, high = numbers
    text = f"{value:{sign}.3f}"
    return text if low is None or high is None else f"{text} [{low:{sign}.3f}, {high:{sign}.3f}]"


def write_evaluation(result: Evaluation, system: str, command: str, path: Path, left_out: str | None = None) -> None:
    """Write every number of an evaluation as JSON, with the command and the versions that made it.

    Args:
        result: of a system, or of several that were measured on what they never saw.
        system: its name, or theirs.
        command: the command line.
        path: of the file.
        left_out: whether a kind, a family or a source was what they never saw.
    """
    head = {"detector": system, "split": result.split} | ({} if left_out is None else {"leave_out": left_out})
    _write(path, head, command, {"metrics": result.metrics})


def write_comparison(rows: Sequence[Compared], split: str, command: str, path: Path) -> None:
    """Write every number of a comparison as JSON, with the command and the versions that made it."""
    _write(path, {"split": split}, command, {"rows": rows})


def _write(
    path: Path, head: dict[str, str], command: str, numbers: dict[str, Sequence[Metric] | Sequence[Compared]]
) -> None:
    lists = {name: [asdict(one) for one in rows] for name, rows in numbers.items()}
    record = {**head, "command": command, "versions": versions(), **lists}
    with whole(path) as part:
        part.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
