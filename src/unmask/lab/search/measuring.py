"""What a network for sketch search is worth: the ranks of the photos of a sketch's class, with and without clusters."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from unmask.lab.metrics import mean_interval
from unmask.lab.search.feed import SplitPictures
from unmask.lab.task import Evaluation, Table
from unmask.progress import Progress
from unmask.retrieval.matching import ClusterMatcher, squared_distances
from unmask.retrieval.metrics import FIRST_RANK, RetrievalMetrics, blocks_of

PLAIN, CLUSTERED = "plain", "clusters"
"""Conditions: photos compared one by one; and with the clusters of the gallery, which are fitted on all of it."""
ALL = "all"
MAIN = "AP interpolated"
CUTS = (1, 5, 10, 100, 200)
SHOWN = (MAIN, "AP", "AP@200 interpolated", "P@100", "P@200", "hit@1", "hit@5", "hit@10", "INP", FIRST_RANK)
_DRAWS = 1_000
_BATCH = 64


@dataclass(frozen=True)
class QueryValues:
    """Metrics of each query.

    Attributes:
        names, labels: of the queries, and their classes.
        values: float (n,) by condition and name of the metric.
    """

    names: tuple[str, ...]
    labels: tuple[str, ...]
    values: dict[str, dict[str, np.ndarray]]


def embed(
    network: Callable[[np.ndarray], np.ndarray], split: SplitPictures, progress: Progress, detail: str = ""
) -> np.ndarray:
    """Unit vectors float32 (N, D) of a split's pictures.

    Args:
        network: from uint8 (n, S, S, 3) to vectors (n, D).
        split: the pictures.
        progress: of the work.
        detail: shown with it.
    """
    parts = []
    for start in range(0, len(split.items), _BATCH):
        places = np.arange(start, min(start + _BATCH, len(split.items)))
        parts.append(network(split.take(places)))
        progress.update("embedding", places[-1] + 1, len(split.items), detail)
    vectors = np.concatenate(parts).astype(np.float32)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def query_values(vectors: np.ndarray, split: SplitPictures) -> QueryValues:
    """The metrics of every sketch of a split against its photos.

    Args:
        vectors: unit, float32 (N, D), in the order of the items.
        split: the items.
    """
    sketches, photos = split.of(True), split.of(False)
    labels = [split.items[place].label for place in sketches]
    gallery, known = vectors[photos], [split.items[place].label for place in photos]
    matcher = ClusterMatcher().fit(gallery)
    cuts = tuple(cut for cut in CUTS if cut <= len(photos))
    scorers = {PLAIN: lambda queries: squared_distances(queries, gallery), CLUSTERED: matcher.score}
    values = {}
    for condition, score in scorers.items():
        metrics = RetrievalMetrics(cuts)
        for block in blocks_of(len(sketches)):
            metrics.add(score(vectors[sketches[block]]), labels[block], known)
        values[condition] = metrics.per_query()
    return QueryValues(tuple(split.items[place].name for place in sketches), tuple(labels), values)


def evaluation(values: QueryValues, split: str, by_class: bool) -> Evaluation:
    """Means over queries and over classes, with intervals.

    Args:
        values: of every query.
        split: that they are of.
        by_class: whether classes get rows of their own.
    """
    result, labels = Evaluation(split), np.array(values.labels)
    classes = sorted(set(values.labels))
    zeros = np.zeros(len(labels), int)
    for condition, metrics in values.values.items():
        for name in [name for name in SHOWN if name in metrics]:
            numbers = metrics[name]
            if name == FIRST_RANK:
                result.add(ALL, "median rank", condition, float(np.median(numbers)), None, None, zeros)
                continue
            result.add(ALL, name, condition, *mean_interval(numbers, values.labels, _DRAWS), zeros)
            means = np.array([numbers[labels == one].mean() for one in classes])
            result.add(ALL, f"{name}, by class", condition, float(means.mean()), None, None, zeros)
        if by_class:
            for one in classes:
                own = metrics[MAIN][labels == one]
                units = [name for name, label in zip(values.names, labels, strict=True) if label == one]
                result.add(one, MAIN, condition, *mean_interval(own, units, _DRAWS), np.zeros(len(own), int))
    return result


def tables_of(result: Evaluation) -> tuple[Table, ...]:
    """The numbers of all queries, plain and clustered side by side; then interpolated AP by class."""
    names = list(dict.fromkeys(m.name for m in result.metrics if m.dataset == ALL))
    rows = [(name, *(result.value(ALL, name, one) for one in (PLAIN, CLUSTERED))) for name in names]
    heads = ("metric", "photos one by one [95 %]", "with clusters of the gallery [95 %]")
    tables = [Table(heads, tuple(rows))]
    classes = list(dict.fromkeys(m.dataset for m in result.metrics if m.dataset != ALL))
    if classes:
        rows = [(one, *(result.value(one, MAIN, kind) for kind in (PLAIN, CLUSTERED))) for one in classes]
        tables.append(Table(("class never seen, " + MAIN, *heads[1:]), tuple(rows)))
    return tuple(tables)


def watched(vectors: np.ndarray, split: SplitPictures) -> dict[str, float]:
    """What training is watched by: mean AP on the validation split."""
    values = query_values(vectors, split)
    return {"val_AP": float(values.values[PLAIN][MAIN].mean())}


def with_answers(split: SplitPictures) -> SplitPictures:
    """A split without the sketches whose class has no photo there: no number is defined for them."""
    known = {item.label for item in split.items if not item.sketch}
    kept = [place for place, item in enumerate(split.items) if not item.sketch or item.label in known]
    return SplitPictures(_at(split.items, kept), split.pixels, split.rows[kept])


def _at(items: Sequence, places: Sequence[int]) -> tuple:
    return tuple(items[place] for place in places)
