"""Metrics of ranked retrieval: average precision of both kinds, the @k conventions by name, and streaming over queries.

Publications on sketch-based image retrieval use several definitions under one name, so every number here carries its
own:

| name | definition |
|---|---|
| `AP` | mean over the positives of the precision at their ranks |
| `AP interpolated` | the same with the precision envelope of VOC: the highest precision at this rank or a later one |
| `AP@k`, `AP@k interpolated` | the ranking cut at k, divided by min(k, positives) |
| `P@k` | positives among the first k, divided by k |
| `P@k of possible` | the same divided by min(k, positives) |
| `recall@k` | positives among the first k, divided by all positives |
| `hit@k` | whether there is a positive among the first k (CMC) |
| `INP` | positives divided by the rank of the last one; its mean is mINP |
| `first rank` | the rank of the first positive, from 1; summarised by its median |

SAKE and SBKA average interpolated AP per class and divide P@k by k; ZSE-SBIR averages over queries and divides by
min(k, positives); Sketch_LVM uses AP that is not interpolated.
"""

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from unmask.errors import DataError

FIRST_RANK = "first rank"


def ranking(distances: np.ndarray) -> np.ndarray:
    """The order of a gallery for each query, nearest first; equal distances keep the order of the gallery.

    Args:
        distances: float (B, n), smaller is better.

    Returns:
        int (B, n), gallery positions.

    Raises:
        DataError: a distance is not a number.
    """
    if np.isnan(distances).any():
        raise DataError("a distance is not a number: check the embeddings, no ranking exists")
    return np.argsort(distances, axis=1, kind="stable")


def query_metrics(relevance: np.ndarray, ks: Sequence[int] = ()) -> dict[str, np.ndarray]:
    """All metrics of some queries.

    Args:
        relevance: bool (B, n), whether the item at each rank is a positive, best rank first; at least one a query.
        ks: cut-offs of the metrics @k, each >= 1. One beyond the gallery is computed as if nothing relevant came there.

    Returns:
        By the names above, float64 (B,).

    Raises:
        DataError: a query has no positive in the gallery, or a cut-off is below 1.
    """
    relevance = np.asarray(relevance, bool)
    positives = relevance.sum(axis=1)
    if not positives.all():
        raise DataError("a query has no positive in the gallery: leave it out, its metrics are not defined")
    if any(k < 1 for k in ks):
        raise DataError("a cut-off of a metric @k is at least 1")
    ranks = np.arange(1, relevance.shape[1] + 1)
    hits = relevance.cumsum(axis=1)
    precision = hits / ranks
    values = {
        "AP": _average_precision(precision, relevance, positives),
        "AP interpolated": _average_precision(_envelope(precision), relevance, positives),
    }
    for k in ks:
        possible = np.minimum(k, positives)
        within = hits[:, : min(k, relevance.shape[1])][:, -1]
        head, relevant = precision[:, :k], relevance[:, :k]
        values[f"AP@{k}"] = _average_precision(head, relevant, possible)
        values[f"AP@{k} interpolated"] = _average_precision(_envelope(head), relevant, possible)
        values[f"P@{k}"] = within / k
        values[f"P@{k} of possible"] = within / possible
        values[f"recall@{k}"] = within / positives
        values[f"hit@{k}"] = (within > 0).astype(float)
    last = relevance.shape[1] - np.argmax(relevance[:, ::-1], axis=1)
    values["INP"] = positives / last
    values[FIRST_RANK] = np.argmax(relevance, axis=1) + 1.0
    return values


def _average_precision(precision: np.ndarray, relevance: np.ndarray, divisor: np.ndarray) -> np.ndarray:
    return (precision * relevance).sum(axis=1) / divisor


def _envelope(precision: np.ndarray) -> np.ndarray:
    """The precision made monotone from the right."""
    return np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]


@dataclass(frozen=True)
class Averages:
    """One metric, averaged in both ways: over all queries, and over classes of the mean of each class's queries.

    `by_class` holds the latter means. Of `first rank` it is medians in place of means over queries.
    """

    over_queries: float
    over_classes: float
    by_class: dict[Hashable, float]


class RetrievalMetrics:
    """Adds up metrics over blocks of queries: of matrices that do not fit, only numbers per query are kept.

    Example:
        >>> metrics = RetrievalMetrics(ks=(100, 200))
        >>> for block in blocks:
        ...     metrics.add(matcher.score(queries[block]), query_labels[block], gallery_labels)
        >>> metrics.averages()["AP@200 interpolated"].over_classes
    """

    def __init__(self, ks: Sequence[int] = ()) -> None:
        """Begin with no queries.

        Args:
            ks: cut-offs of the metrics @k.
        """
        self._ks = tuple(ks)
        self._labels: list[Hashable] = []
        self._values: dict[str, list[np.ndarray]] = {}

    def add(self, distances: np.ndarray, query_labels: Sequence[Hashable], gallery_labels: Sequence[Hashable]) -> None:
        """Add a block of queries.

        Args:
            distances: float (B, n), smaller is better.
            query_labels: B classes or identities.
            gallery_labels: n of them; an item with the label of a query is a positive of it.

        Raises:
            DataError: the lengths do not fit, a distance is not a number, or a query has no positive.
        """
        labels = np.asarray(gallery_labels)
        wanted = np.asarray(query_labels)
        if distances.shape != (len(wanted), len(labels)):
            raise DataError(
                f"distances are of shape {distances.shape}, labels ask for {(len(wanted), len(labels))}: "
                "give one row a query and one column an item"
            )
        order = ranking(distances)
        for name, values in query_metrics(labels[order] == wanted[:, None], self._ks).items():
            self._values.setdefault(name, []).append(values)
        self._labels.extend(wanted.tolist())

    def per_query(self) -> dict[str, np.ndarray]:
        """Each metric of each query, float64 (nq,), in the order in which they were added."""
        return {name: np.concatenate(blocks) for name, blocks in self._values.items()}

    def averages(self) -> dict[str, Averages]:
        """Each metric averaged over queries and over classes; `INP` so averaged is mINP.

        Raises:
            DataError: no query was added.
        """
        if not self._labels:
            raise DataError("no query was added: there is nothing to average")
        places: dict[Hashable, list[int]] = {}
        for place, label in enumerate(self._labels):
            places.setdefault(label, []).append(place)
        averages = {}
        for name, values in self.per_query().items():
            centre = np.median if name == FIRST_RANK else np.mean
            by_class = {label: float(centre(values[some])) for label, some in places.items()}
            averages[name] = Averages(float(centre(values)), float(np.mean(list(by_class.values()))), by_class)
        return averages


def blocks_of(count: int, size: int = 256) -> Iterable[slice]:
    """Slices that cover `count` queries, `size` at a time."""
    return (slice(start, min(start + size, count)) for start in range(0, count, size))
