"""The evaluation of a reader of edit sequences on a data set: what `unmask evaluate` prints for one. Lab only.

Every sequence metric stands for each way of decoding under its own name: "joint" (the best of all 326 sequences),
"closed set" (the best of those seen in training) and "greedy" (step by step), beside "nothing", which calls every face
untouched. Recovery stands beside "do nothing", the edited face itself. Intervals of 95 % are by bootstrap over
subjects; differences are taken within every resample.
"""

import json
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from rich.console import Console

from unmask.edits.labels import LONGEST, all_sequences
from unmask.edits.metrics import (
    adaptive_hits,
    adjacent_swap,
    fixed_hits,
    pair_hits,
    prefix_hits,
    presence,
    recovery_errors,
)
from unmask.errors import DataError
from unmask.lab.detection.compare import shortest_names
from unmask.lab.detection.evaluate import Evaluation, add, in_cell
from unmask.lab.edits.edited_faces import NOT_KNOWN, PER_EDIT, UNION, SequenceFaces
from unmask.lab.edits.train import Readings, decoded, load_reader, readings_of, sequence_faces
from unmask.lab.metrics import resampled
from unmask.lab.run import versions

DECODINGS = ("joint", "closed set", "greedy", "nothing")
ERRORS = ("l1_inside", "l1_outside", "psnr", "psnr_inside", "psnr_outside", "ssim", "identity")
_EMBEDDED = 200  # faces whose identity is compared, at most: an embedding takes longer than a reading
_Likeness = Callable[[np.ndarray, np.ndarray, np.ndarray], tuple[float, float] | None]
"""From recovered, edited and original face to the identity similarities of the first two to the third, if a face is
found."""


@dataclass(frozen=True)
class Told:
    """What one run says of the faces of a split: sequences uint8 (N, 5) by decoding, and its readings."""

    faces: SequenceFaces
    readings: Readings
    sequences: Mapping[str, np.ndarray]
    known: tuple[int, ...]


def read_split(run: Path, data: Path, work: Path, split: str, workers: int, console: Console) -> Told:
    """Have the reader of a finished run read a split of a data set.

    Raises:
        DataError: no such run, or the data are not there, not for it, or without that split.
    """
    reader, protocol = load_reader(run)
    faces = sequence_faces(data, work, protocol.size, protocol.margin, workers, console)
    if protocol.track != faces.track.name:
        raise DataError(f"{run} reads {protocol.track}, {data} holds {faces.track.name}; give data of its track")
    faces = faces.split(split)
    readings = readings_of(reader, faces.take(np.arange(len(faces))).faces, torch.device("cpu"))
    return Told(faces, readings, decodings(readings, protocol.known), protocol.known)


def decodings(readings: Readings, known: tuple[int, ...]) -> dict[str, np.ndarray]:
    """Sequences uint8 (N, 5) by every way of decoding."""
    return {
        "joint": decoded(readings.scores),
        "closed set": decoded(readings.scores, known),
        "greedy": readings.greedy,
        "nothing": np.zeros((len(readings.scores), LONGEST), np.uint8),
    }


def evaluate_reader(told: Told, split: str, likeness: _Likeness | None = None) -> Evaluation:
    """Every number of a reader on a split.

    Args:
        told: by `read_split`.
        split: for the record.
        likeness: compares identities; None to leave that out.
    """
    result = Evaluation(split)
    faces, truth, subjects = told.faces, told.faces.sequences, told.faces.subjects
    draws = list(resampled(subjects, 400, 0))
    lengths = np.count_nonzero(truth, axis=1)
    edited = (lengths > 0).astype(int)
    held = ~np.isin(_places(truth), told.known)
    groups = {"all": np.arange(len(faces))}
    groups |= {f"{length} edits": np.flatnonzero(lengths == length) for length in range(LONGEST + 1)}
    groups |= {
        "orders seen in training": np.flatnonzero(~held & (lengths > 1)),
        "orders not seen": np.flatnonzero(held),
    }
    for name, sequences in told.sequences.items():
        for group, rows in groups.items():
            if len(rows):
                for metric, hits, steps in _hits(truth, sequences, detailed=group == "all"):
                    value, low, high = _ratio(hits, steps, rows, draws if group == "all" else draws[:200])
                    add(result, group, metric, name, value, low, high, edited[rows])
    joint = told.sequences["joint"]
    _details(result, truth, joint, edited, draws)
    pairs = pair_hits(truth, told.readings.scores)
    several = np.flatnonzero(lengths > 1)
    if len(several):
        add(result, "all", "order_of_pairs_right", "joint", *_ratio(*pairs, several, draws), edited[several])
    if told.readings.areas is not None:
        _areas(result, told, edited)
    if told.readings.recovered is not None:
        _recovery(result, told, draws, likeness)
    return result


def _places(sequences: np.ndarray) -> np.ndarray:
    table = {tuple(row): place for place, row in enumerate(all_sequences().tolist())}
    return np.array([table[tuple(row)] for row in sequences.tolist()])


def _hits(truth: np.ndarray, told: np.ndarray, detailed: bool) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """Metrics as (name, numerators, denominators), one of each a face."""
    one = np.ones(len(truth))
    prefixes = prefix_hits(truth, told)
    found = [
        ("csm", prefixes[:, -1], one),
        ("adaptive_accuracy", *adaptive_hits(truth, told)),
        ("fixed_accuracy", fixed_hits(truth, told), one),
    ]
    if detailed:
        found += [(f"csm@{k}", prefixes[:, k - 1], one) for k in range(1, LONGEST + 1)]
    return found


def _ratio(
    hits: np.ndarray, steps: np.ndarray, rows: np.ndarray, draws: Sequence[np.ndarray]
) -> tuple[float, float, float]:
    """Sum of hits over sum of steps within some rows, and its interval."""
    inside = np.zeros(len(hits))
    inside[rows] = 1
    own, all_ = hits * inside, steps * inside
    values = [own[draw].sum() / max(all_[draw].sum(), 1) for draw in draws if all_[draw].sum()]
    low, high = np.percentile(values, [2.5, 97.5])
    return float(own.sum() / all_.sum()), float(low), float(high)


def _details(
    result: Evaluation, truth: np.ndarray, told: np.ndarray, edited: np.ndarray, draws: Sequence[np.ndarray]
) -> None:
    """What kind of mistakes the joint decoding makes."""
    one, everything = np.ones(len(truth)), np.arange(len(truth))
    there, said = presence(truth), presence(told)
    lengths, length_told = np.count_nonzero(truth, axis=1), np.count_nonzero(told, axis=1)
    same_parts = (there == said).all(axis=1)
    several = np.flatnonzero(lengths > 1)
    ordered = (truth == told).all(axis=1)
    for name, hits, rows in (
        ("length_right", lengths == length_told, everything),
        ("parts_right", same_parts, everything),
        ("order_right_of_right_parts", ordered, np.intersect1d(several, np.flatnonzero(same_parts))),
        ("adjacent_swap", adjacent_swap(truth, told), several),
        ("untouched_called_edited", length_told > 0, np.flatnonzero(lengths == 0)),
        ("edited_called_untouched", length_told == 0, np.flatnonzero(lengths > 0)),
    ):
        if len(rows):
            add(result, "all", name, "joint", *_ratio(hits.astype(float), one, rows, draws), edited[rows])
    for back in range(LONGEST):
        rows = np.flatnonzero(lengths > back)
        step = lengths[rows] - 1 - back
        hits = np.zeros(len(truth))
        hits[rows] = truth[rows, step] == told[rows, step]
        if len(rows):
            name = "step_right_last" if back == 0 else f"step_right_{back}_before_last"
            add(result, "all", name, "joint", *_ratio(hits, one, rows, draws), edited[rows])
    for number in range(LONGEST):
        for name, rows in (("found", np.flatnonzero(there[:, number])), ("false", np.flatnonzero(~there[:, number]))):
            if len(rows):
                share = _ratio(said[:, number] * 1.0, one, rows, draws)
                add(result, f"edit {number + 1}", name, "joint", *share, edited[rows])


def _areas(result: Evaluation, told: Told, edited: np.ndarray) -> None:
    """Intersection over union, at one half, of the areas of edits that were made, where each edit's own is known."""
    assert told.readings.areas is not None
    sequences, states = told.faces.sequences, told.faces.states
    # The union of all edits is that of a single one.
    alone = (states == UNION) & (np.count_nonzero(sequences, axis=1) == 1)
    rows = np.flatnonzero((sequences[:, 0] > 0) & ((states == PER_EDIT) | alone))
    values, masks = [], told.faces.take(rows).masks
    for place, row in enumerate(rows):
        for number in sequences[row][sequences[row] > 0]:
            area = told.readings.areas[row, number - 1]
            size = (masks.shape[-1], masks.shape[-1])
            heat = cv2.resize(area, size, interpolation=cv2.INTER_LINEAR) > 0.5
            truth = masks[place, number - 1] > 127
            values.append((heat & truth).sum() / max((heat | truth).sum(), 1))
    if values:
        add(result, "all", "area_iou", "joint", float(np.mean(values)), None, None, edited[rows])


def _recovery(result: Evaluation, told: Told, draws: Sequence[np.ndarray], likeness: _Likeness | None) -> None:
    """Errors of the recovered and of the edited face to the original, and their paired differences."""
    assert told.readings.recovered is not None
    faces = told.faces
    rows = np.flatnonzero(faces.paired & (faces.sequences[:, 0] > 0) & (faces.states != NOT_KNOWN))
    if not len(rows):
        return
    crops = faces.take(rows)
    values = {arm: {name: np.full(len(faces), np.nan) for name in ERRORS} for arm in ("recovered", "do nothing")}
    size = (crops.faces.shape[1], crops.faces.shape[1])
    for place, row in enumerate(rows):
        mask = cv2.resize(crops.masks[place].max(axis=0), size, interpolation=cv2.INTER_LINEAR) / 255
        shown = {"recovered": told.readings.recovered[row], "do nothing": crops.faces[place]}
        for arm, pixels in shown.items():
            for name, value in recovery_errors(pixels, crops.originals[place], mask).items():
                values[arm][name][row] = value
        if likeness is not None and place < _EMBEDDED:
            alike = likeness(shown["recovered"], shown["do nothing"], crops.originals[place])
            if alike is not None:
                values["recovered"]["identity"][row], values["do nothing"]["identity"][row] = alike
    for name in ERRORS:
        recovered, nothing = (values[arm][name] for arm in ("recovered", "do nothing"))
        known = np.isfinite(recovered)
        if known.any():
            labels = np.ones(known.sum(), int)
            for arm, own in (("recovered", recovered), ("do nothing", nothing), ("difference", recovered - nothing)):
                means = [np.nanmean(own[draw]) for draw in draws[:200] if known[draw].any()]
                low, high = np.percentile(means, [2.5, 97.5])
                add(result, "recovery", name, arm, float(np.nanmean(own)), float(low), float(high), labels)


def identity_likeness() -> _Likeness:
    """Compares identities by SFace, with the points of the original face."""
    from unmask.faces.finding import FaceFinder
    from unmask.faces.identity import FaceEmbedder

    embedder, finder = FaceEmbedder(), FaceFinder()

    def compared(recovered: np.ndarray, edited: np.ndarray, original: np.ndarray) -> tuple[float, float] | None:
        found = finder.find(original)
        if not found:
            return None
        first, second, truth = (embedder.embed(pixels, found[0].landmarks) for pixels in (recovered, edited, original))
        return float(first @ truth), float(second @ truth)

    return compared


def reader_table(result: Evaluation) -> str:
    """The evaluation as Markdown tables."""

    def cell(dataset: str, name: str, condition: str, interval: bool = True) -> str:
        return in_cell(result.value(dataset, name, condition), interval)

    lines = ["| decoding | CSM [95 %] | Adaptive-Acc | Fixed-Acc | CSM@1 … CSM@5 |", "|---|---|---|---|---|"]
    for name in DECODINGS:
        profile = " ".join(cell("all", f"csm@{k}", name, False) for k in range(1, LONGEST + 1))
        cells = [cell("all", metric, name) for metric in ("csm", "adaptive_accuracy", "fixed_accuracy")]
        lines.append(f"| {name} | {' | '.join(cells)} | {profile} |")
    groups = list(dict.fromkeys(m.dataset for m in result.metrics if m.name == "csm" and m.dataset != "all"))
    lines += ["", "| faces | number | CSM, joint | Adaptive-Acc | Fixed-Acc | CSM, closed set | CSM, greedy |"]
    lines.append("|---" * 7 + "|")
    for group in groups:
        metric = result.value(group, "csm", "joint")
        assert metric is not None  # it is what the group was taken from
        cells = [cell(group, name, "joint") for name in ("csm", "adaptive_accuracy", "fixed_accuracy")]
        cells += [cell(group, "csm", name, False) for name in ("closed set", "greedy")]
        lines.append(f"| {group} | {metric.n_real + metric.n_forged} | {' | '.join(cells)} |")
    lines += ["", "| joint decoding | share [95 %] |", "|---|---|"]
    kinds = ("length", "parts", "order", "adjacent", "untouched", "edited", "step", "area")
    for metric in result.metrics:
        if metric.name.startswith(kinds):
            lines.append(f"| {metric.name.replace('_', ' ')} | {cell('all', metric.name, 'joint')} |")
    lines += ["", "| edit | found where made | said where not made |", "|---|---|---|"]
    lines += [
        f"| {number} | {cell(f'edit {number}', 'found', 'joint')} | {cell(f'edit {number}', 'false', 'joint')} |"
        for number in range(1, LONGEST + 1)
    ]
    if result.value("recovery", "psnr", "recovered"):
        lines += ["", "| recovery | recovered | do nothing | difference |", "|---|---|---|---|"]
        for name in ERRORS:
            cells = [cell("recovery", name, arm) for arm in ("recovered", "do nothing", "difference")]
            lines.append(f"| {name.replace('_', ' ')} | {' | '.join(cells)} |")
    return "\n".join(lines)


@dataclass(frozen=True)
class ReaderRow:
    """A metric of one run with its interval, and the same of its difference from the first run, on the same faces."""

    reader: str
    metric: str
    value: tuple[float, float, float]
    difference: tuple[float, float, float] | None


def compare_readers(
    runs: Sequence[Path], data: Path, work: Path, split: str, workers: int, console: Console
) -> list[ReaderRow]:
    """Hold runs against the first, by joint decoding, on the faces that all of them see.

    Raises:
        DataError: as of `read_split`.
    """
    for run in runs:
        load_reader(run)  # what is not there or not finished is refused before any work
    told = [read_split(run, data, work, split, workers, console) for run in runs]
    names = shortest_names([str(run) for run in runs])
    common = set.intersection(*({sample.path for sample in one.faces.samples} for one in told))
    order = sorted(common)
    hits: list[list[tuple[str, np.ndarray, np.ndarray]]] = []
    for one in told:
        place = {sample.path: row for row, sample in enumerate(one.faces.samples)}
        rows = np.array([place[path] for path in order])
        hits.append(_hits(one.faces.sequences[rows], one.sequences["joint"][rows], detailed=False))
    subject = {sample.path: sample.subject for sample in told[0].faces.samples}
    draws, everything = list(resampled([subject[path] for path in order], 1000, 0)), np.arange(len(order))
    found = []
    for name, own in zip(names, hits, strict=True):
        for (metric, top, bottom), (_, first_top, first_bottom) in zip(own, hits[0], strict=True):
            differences = [top[d].sum() / bottom[d].sum() - first_top[d].sum() / first_bottom[d].sum() for d in draws]
            low, high = np.percentile(differences, [2.5, 97.5])
            whole = top.sum() / bottom.sum() - first_top.sum() / first_bottom.sum()
            difference = None if name == names[0] else (float(whole), float(low), float(high))
            found.append(ReaderRow(name, metric, _ratio(top, bottom, everything, draws), difference))
    return found


def readers_table(rows: Sequence[ReaderRow]) -> str:
    """The comparison as a Markdown table: a row a run, a column a metric."""
    metrics = list(dict.fromkeys(row.metric for row in rows))
    lines = [f"| reader | {' | '.join(metrics)} |", "|---" * (len(metrics) + 1) + "|"]
    for name in dict.fromkeys(row.reader for row in rows):
        cells = []
        for row in rows:
            if row.reader == name:
                cells.append("{:.3f} [{:.3f}, {:.3f}]".format(*row.value))
                if row.difference is not None:
                    cells[-1] += "; {:+.3f} [{:+.3f}, {:+.3f}]".format(*row.difference)
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def write_readers(rows: Sequence[ReaderRow], split: str, path: Path) -> None:
    """Write every number of a comparison as JSON, with the command and the versions that made it."""
    command = shlex.join(["unmask", *sys.argv[1:]])
    record = {"split": split, "command": command, "versions": versions(), "rows": [asdict(row) for row in rows]}
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
