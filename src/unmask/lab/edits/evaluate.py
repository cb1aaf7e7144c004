"""The evaluation of a network that reads edits on a data set: what `unmask evaluate` prints for one. Lab only.

Every sequence metric stands for each way of decoding under its own name: "joint" (the best of all 326 sequences),
"closed set" (the best of those seen in training) and "greedy" (step by step), beside "nothing", which calls every face
untouched. Recovery stands beside "do nothing", the edited face itself. Intervals of 95 % are by bootstrap over
subjects; differences are taken within every resample.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch

from unmask.edits.labels import LONGEST, Track, all_sequences
from unmask.edits.metrics import (
    adaptive_hits,
    adjacent_swap,
    fixed_hits,
    pair_hits,
    prefix_hits,
    presence,
    recovery_errors,
)
from unmask.edits.model import EditSequenceModel
from unmask.errors import DataError
from unmask.lab.config import LabPaths
from unmask.lab.edits.config import EditTrainConfig
from unmask.lab.edits.edited_faces import NOT_KNOWN, PER_EDIT, UNION, EditedFaces
from unmask.lab.edits.feed import EditPredictions, decoded, load_edited_faces, predict
from unmask.lab.metrics import cluster_bootstrap, resampled
from unmask.lab.run import config_of
from unmask.lab.task import Evaluation, Measurement, Table
from unmask.lab.train import load_network
from unmask.packs.card import Metric
from unmask.progress import Progress

DECODINGS = ("joint", "closed set", "greedy", "nothing")
ERRORS = ("l1_inside", "l1_outside", "psnr", "psnr_inside", "psnr_outside", "ssim", "identity")
_COMPARISON_DRAWS = 1000
_EMBEDDED = 200  # faces whose identity is compared, at most: an embedding takes longer than a reading
_Likeness = Callable[[np.ndarray, np.ndarray, np.ndarray], tuple[float, float] | None]
"""From recovered, edited and original face to the identity similarities of the first two to the third, if a face is
found."""


@dataclass(frozen=True)
class SplitPredictions:
    """What one run predicts of the faces of a split: sequences uint8 (N, 5) by decoding, and its predictions."""

    faces: EditedFaces
    predictions: EditPredictions
    sequences: Mapping[str, np.ndarray]
    known: tuple[int, ...]


def predict_split(run: Path, paths: LabPaths, split: str, progress: Progress) -> SplitPredictions:
    """Have the network of a finished run read a split of a data set.

    Raises:
        DataError: no such run, or the data are not there, not for it, or without that split.
    """
    network, config = load_network(run), config_of(run)
    assert isinstance(network, EditSequenceModel)  # what its task's runs hold
    stage = f"cropping faces for {run}"  # runs that are compared may see crops of different sizes
    faces = load_edited_faces(paths.data, paths.work, config.size, config.margin, paths.workers, progress, stage)
    check_track(run, config, faces.track, paths.data)
    faces = faces.split(split)
    predictions = predict(network, faces.take(np.arange(len(faces))).faces, torch.device("cpu"))
    return SplitPredictions(faces, predictions, decodings(predictions, config.known), config.known)


def check_track(run: Path, config: EditTrainConfig, track: Track, data: Path) -> None:
    """Raise DataError unless the edits of data are of the track that a run reads."""
    if config.track != track.name:
        raise DataError(f"{run} reads {config.track}, {data} holds {track.name}; give data of its track")


def decodings(predictions: EditPredictions, known: tuple[int, ...]) -> dict[str, np.ndarray]:
    """Sequences uint8 (N, 5) by every way of decoding."""
    return {
        "joint": decoded(predictions.scores),
        "closed set": decoded(predictions.scores, known),
        "greedy": predictions.greedy,
        "nothing": np.zeros((len(predictions.scores), LONGEST), np.uint8),
    }


def evaluate(predicted: SplitPredictions, split: str, likeness: _Likeness | None = None) -> Evaluation:
    """Every number of a network on a split.

    Args:
        predicted: by `predict_split`.
        split: for the record.
        likeness: compares identities; None to leave that out.
    """
    result = Evaluation(split)
    faces, truth, subjects = predicted.faces, predicted.faces.sequences, predicted.faces.subjects
    draws = list(resampled(subjects, 400, 0))
    lengths = np.count_nonzero(truth, axis=1)
    edited = (lengths > 0).astype(int)
    held = ~np.isin(_places(truth), predicted.known)
    groups = {"all": np.arange(len(faces))}
    groups |= {f"{length} edits": np.flatnonzero(lengths == length) for length in range(LONGEST + 1)}
    groups |= {
        "orders seen in training": np.flatnonzero(~held & (lengths > 1)),
        "orders not seen": np.flatnonzero(held),
    }
    for name, sequences in predicted.sequences.items():
        for group, rows in groups.items():
            if len(rows):
                for metric, hits, steps in _hits(truth, sequences, detailed=group == "all"):
                    value, low, high = _ratio(hits, steps, rows, draws if group == "all" else draws[:200])
                    result.add(group, metric, name, value, low, high, edited[rows])
    joint = predicted.sequences["joint"]
    _details(result, truth, joint, edited, draws)
    pairs = pair_hits(truth, predicted.predictions.scores)
    several = np.flatnonzero(lengths > 1)
    if len(several):
        result.add("all", "order_of_pairs_right", "joint", *_ratio(*pairs, several, draws), edited[several])
    if predicted.predictions.areas is not None:
        _areas(result, predicted, edited)
    if predicted.predictions.recovered is not None:
        _recovery(result, predicted, draws, likeness)
    return result


def _places(sequences: np.ndarray) -> np.ndarray:
    table = {tuple(row): place for place, row in enumerate(all_sequences().tolist())}
    return np.array([table[tuple(row)] for row in sequences.tolist()])


def _hits(truth: np.ndarray, predicted: np.ndarray, detailed: bool) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """Metrics as (name, numerators, denominators), one of each a face."""
    one = np.ones(len(truth))
    prefixes = prefix_hits(truth, predicted)
    metrics = [
        ("csm", prefixes[:, -1], one),
        ("adaptive_accuracy", *adaptive_hits(truth, predicted)),
        ("fixed_accuracy", fixed_hits(truth, predicted), one),
    ]
    if detailed:
        metrics += [(f"csm@{k}", prefixes[:, k - 1], one) for k in range(1, LONGEST + 1)]
    return metrics


def ratio(hits: np.ndarray, steps: np.ndarray) -> Callable[[np.ndarray], float]:
    """Sum of hits over sum of steps as a function of row numbers; nan where there are no steps."""

    def of_rows(rows: np.ndarray) -> float:
        everything = steps[rows].sum()
        return float(hits[rows].sum() / everything) if everything else math.nan

    return of_rows


def _ratio(
    hits: np.ndarray, steps: np.ndarray, rows: np.ndarray, draws: Sequence[np.ndarray]
) -> tuple[float, float | None, float | None]:
    """Sum of hits over sum of steps within some rows, and its interval."""
    inside = np.zeros(len(hits))
    inside[rows] = 1
    share = ratio(hits * inside, steps * inside)
    return share(np.arange(len(hits))), *cluster_bootstrap(share, draws)


def _details(
    result: Evaluation, truth: np.ndarray, predicted: np.ndarray, edited: np.ndarray, draws: Sequence[np.ndarray]
) -> None:
    """What kind of mistakes the joint decoding makes."""
    one, everything = np.ones(len(truth)), np.arange(len(truth))
    there, named = presence(truth), presence(predicted)
    lengths, predicted_lengths = np.count_nonzero(truth, axis=1), np.count_nonzero(predicted, axis=1)
    same_parts = (there == named).all(axis=1)
    several = np.flatnonzero(lengths > 1)
    ordered = (truth == predicted).all(axis=1)
    for name, hits, rows in (
        ("length_right", lengths == predicted_lengths, everything),
        ("parts_right", same_parts, everything),
        ("order_right_of_right_parts", ordered, np.intersect1d(several, np.flatnonzero(same_parts))),
        ("adjacent_swap", adjacent_swap(truth, predicted), several),
        ("untouched_called_edited", predicted_lengths > 0, np.flatnonzero(lengths == 0)),
        ("edited_called_untouched", predicted_lengths == 0, np.flatnonzero(lengths > 0)),
    ):
        if len(rows):
            result.add("all", name, "joint", *_ratio(hits.astype(float), one, rows, draws), edited[rows])
    for back in range(LONGEST):
        rows = np.flatnonzero(lengths > back)
        step = lengths[rows] - 1 - back
        hits = np.zeros(len(truth))
        hits[rows] = truth[rows, step] == predicted[rows, step]
        if len(rows):
            name = "step_right_last" if back == 0 else f"step_right_{back}_before_last"
            result.add("all", name, "joint", *_ratio(hits, one, rows, draws), edited[rows])
    for number in range(LONGEST):
        for name, rows in (("found", np.flatnonzero(there[:, number])), ("false", np.flatnonzero(~there[:, number]))):
            if len(rows):
                share = _ratio(named[:, number] * 1.0, one, rows, draws)
                result.add(f"edit {number + 1}", name, "joint", *share, edited[rows])


def _areas(result: Evaluation, predicted: SplitPredictions, edited: np.ndarray) -> None:
    """Intersection over union, at one half, of the areas of edits that were made, where each edit's own is known."""
    assert predicted.predictions.areas is not None
    sequences, states = predicted.faces.sequences, predicted.faces.states
    # The union of all edits is that of a single one.
    alone = (states == UNION) & (np.count_nonzero(sequences, axis=1) == 1)
    rows = np.flatnonzero((sequences[:, 0] > 0) & ((states == PER_EDIT) | alone))
    values, masks = [], predicted.faces.take(rows).masks
    for place, row in enumerate(rows):
        for number in sequences[row][sequences[row] > 0]:
            area = predicted.predictions.areas[row, number - 1]
            size = (masks.shape[-1], masks.shape[-1])
            heat = cv2.resize(area, size, interpolation=cv2.INTER_LINEAR) > 0.5
            truth = masks[place, number - 1] > 127
            values.append((heat & truth).sum() / max((heat | truth).sum(), 1))
    if values:
        result.add("all", "area_iou", "joint", float(np.mean(values)), None, None, edited[rows])


def _recovery(
    result: Evaluation, predicted: SplitPredictions, draws: Sequence[np.ndarray], likeness: _Likeness | None
) -> None:
    """Errors of the recovered and of the edited face to the original, and their paired differences."""
    assert predicted.predictions.recovered is not None
    faces = predicted.faces
    rows = np.flatnonzero(faces.paired & (faces.sequences[:, 0] > 0) & (faces.states != NOT_KNOWN))
    if not len(rows):
        return
    crops = faces.take(rows)
    values = {arm: {name: np.full(len(faces), np.nan) for name in ERRORS} for arm in ("recovered", "do nothing")}
    size = (crops.faces.shape[1], crops.faces.shape[1])
    for place, row in enumerate(rows):
        mask = cv2.resize(crops.masks[place].max(axis=0), size, interpolation=cv2.INTER_LINEAR) / 255
        shown = {"recovered": predicted.predictions.recovered[row], "do nothing": crops.faces[place]}
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
                mean = _mean_of_known(own, known)
                limits = cluster_bootstrap(mean, draws[:200])
                result.add("recovery", name, arm, mean(np.arange(len(own))), *limits, labels)


def _mean_of_known(values: np.ndarray, known: np.ndarray) -> Callable[[np.ndarray], float]:
    """The mean of those values that are known as a function of row numbers; nan where none of the rows has one."""
    return lambda rows: float(np.nanmean(values[rows])) if known[rows].any() else math.nan


def identity_likeness() -> _Likeness:
    """Compares identities by SFace, with the points of the original face."""
    from unmask.faces.finding import FaceFinder
    from unmask.faces.identity import FaceEmbedder

    embedder, finder = FaceEmbedder(), FaceFinder()

    def compared(recovered: np.ndarray, edited: np.ndarray, original: np.ndarray) -> tuple[float, float] | None:
        faces = finder.find(original)
        if not faces:
            return None
        first, second, truth = (embedder.embed(pixels, faces[0].landmarks) for pixels in (recovered, edited, original))
        return float(first @ truth), float(second @ truth)

    return compared


def tables(result: Evaluation) -> tuple[Table, ...]:
    """The evaluation as tables: decodings, groups of faces, mistakes of the joint decoding, edits, recovery."""

    def named(*names: str, dataset: str = "all", condition: str = "joint") -> tuple[Metric | None, ...]:
        return tuple(result.value(dataset, name, condition) for name in names)

    accuracies = ("csm", "adaptive_accuracy", "fixed_accuracy")
    profiles = tuple(f"CSM@{k}" for k in range(1, LONGEST + 1))
    decodings_ = tuple(
        (name, *named(*accuracies, *(profile.lower() for profile in profiles), condition=name)) for name in DECODINGS
    )
    heads = ("decoding", "CSM [95 %]", "Adaptive-Acc", "Fixed-Acc", *profiles)
    made = [Table(heads, decodings_, frozenset(profiles))]
    groups = [m for m in result.metrics if (m.name, m.condition) == ("csm", "joint") and m.dataset != "all"]
    others = ("CSM, closed set", "CSM, greedy")
    rows = tuple(
        (
            m.dataset,
            str(m.n_real + m.n_forged),
            *named(*accuracies, dataset=m.dataset),
            *(result.value(m.dataset, "csm", name) for name in ("closed set", "greedy")),
        )
        for m in groups
    )
    made.append(Table(("faces", "number", "CSM, joint", "Adaptive-Acc", "Fixed-Acc", *others), rows, frozenset(others)))
    kinds = ("length", "parts", "order", "adjacent", "untouched", "edited", "step", "area")
    mistakes = tuple(
        (m.name.replace("_", " "), m) for m in result.metrics if m.dataset == "all" and m.name.startswith(kinds)
    )
    made.append(Table(("joint decoding", "share [95 %]"), mistakes))
    edits = tuple((str(number), *named("found", "false", dataset=f"edit {number}")) for number in range(1, LONGEST + 1))
    made.append(Table(("edit", "found where made", "said where not made"), edits))
    if result.value("recovery", "psnr", "recovered"):
        arms = ("recovered", "do nothing", "difference")
        errors = tuple(
            (name.replace("_", " "), *(result.value("recovery", name, arm) for arm in arms)) for name in ERRORS
        )
        made.append(Table(("recovery", *arms), errors))
    return tuple(made)


def measurements(predicted: SplitPredictions) -> list[Measurement]:
    """CSM and accuracies of the joint decoding, face by face."""
    faces = predicted.faces
    edited = (faces.sequences[:, 0] > 0).astype(int)
    paths, subjects = tuple(sample.path for sample in faces.samples), tuple(faces.subjects)
    return [
        Measurement(name, "all", "joint", paths, subjects, edited, ratio(hits, steps), _COMPARISON_DRAWS)
        for name, hits, steps in _hits(faces.sequences, predicted.sequences["joint"], detailed=False)
    ]
