"""Where a recogniser says "the same person": the cosine at a stated false-match rate, with its interval."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from unmask.errors import DataError
from unmask.lab.metrics import auc, cluster_bootstrap, difference, of_two_classes, resampled

SURELY = 0.05


@dataclass(frozen=True)
class Threshold:
    """A threshold and what it was measured on.

    Attributes:
        value: cosine from which two faces count as one person's.
        low, high: its 95 % interval, people resampled.
        false_match_rate: that was asked for; measured on the impostor set it is at most that.
        false_non_match_rate: share of pairs of one person below it; None where nobody has two pictures.
        impostor_pairs, genuine_pairs: how many were compared.
        people: how many there are.
    """

    value: float
    low: float
    high: float
    false_match_rate: float
    false_non_match_rate: float | None
    impostor_pairs: int
    genuine_pairs: int
    people: int


def threshold_at_rate(
    vectors: np.ndarray, subjects: Sequence[str], rate: float, draws: int = 200, seed: int = 0
) -> Threshold:
    """Measure a threshold on an impostor set.

    Args:
        vectors: (N, D), unit vectors.
        subjects: whose they are.
        rate: the false-match rate, in (0, 1).
        draws: bootstrap samples.
        seed: of them.

    Raises:
        DataError: a rate that cannot be, or too few pairs of different people for it.
    """
    if not 0 < rate < 1:
        raise DataError(f"a false-match rate of {rate:g}; give a number between 0 and 1, such as 0.01")
    cosines = vectors @ vectors.T
    person = np.unique(np.asarray(subjects), return_inverse=True)[1]
    upper = np.triu(np.ones_like(cosines, bool), 1)
    impostor = upper & (person[:, None] != person[None])
    genuine = upper & (person[:, None] == person[None])
    count = int(impostor.sum())
    if count * rate < 1 - 1e-9:
        raise DataError(
            f"a false-match rate of {rate:g} needs at least {int(np.ceil(1 / rate))} pairs of different people; the "
            f"impostor set has {count}: name a larger one (--impostors), or take a larger rate"
        )
    value = _quantile(cosines[impostor], np.ones(count), rate)
    drawn = []
    for rows in resampled(subjects, draws, seed):
        times = np.bincount(rows, minlength=len(subjects)).astype(float)
        weights = (times[:, None] * times[None])[impostor]
        if weights.any():
            drawn.append(_quantile(cosines[impostor], weights, rate))
    low, high = np.percentile(drawn, [2.5, 97.5])
    missed = float((cosines[genuine] < value).mean()) if genuine.any() else None
    people = int(person.max()) + 1
    return Threshold(value, float(low), float(high), rate, missed, count, int(genuine.sum()), people)


def _quantile(values: np.ndarray, weights: np.ndarray, rate: float) -> float:
    """The least number at or above which at most a share `rate` of the weights lies."""
    order = np.argsort(-values, kind="stable")
    above = np.cumsum(weights[order]) / weights.sum()
    allowed = int(np.searchsorted(above, rate + 1e-12, side="right"))
    if allowed >= len(order):
        return float(values[order[-1]])
    # The first that may not pass any more lies below the threshold.
    return float(np.nextafter(np.float32(values[order[allowed]]), np.float32(2)))


def pair_scores(vectors: np.ndarray, subjects: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Of all pairs of faces: whether they are one person's (P,), and their cosines (P,)."""
    person = np.unique(np.asarray(subjects), return_inverse=True)[1]
    rows, columns = np.triu_indices(len(person), 1)
    return (person[rows] == person[columns]).astype(int), (vectors @ vectors.T)[rows, columns]


CONVENTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "values from 0 to 255": lambda x: x * 255,
    "values from -1 to 1": lambda x: x * 2 - 1,
    "blue before red": lambda x: x.flip(1),
}
"""What else a victim may have meant that says it wants RGB in [0, 1]."""


def check_convention(name: str, scored: Callable[[Callable[[Tensor], Tensor]], tuple[np.ndarray, np.ndarray]]) -> None:
    """Refuse a victim that is surely better at its task when it is given something else than it says it wants.

    Args:
        name: of the victim.
        scored: labels (N,), 0 or 1, and scores (N,) of clean pictures that were changed by a function first.

    Raises:
        DataError: naming the convention under which its AUC is higher by more than `SURELY`, at 97.5 % confidence.
    """
    labels, stated = scored(lambda x: x)
    if not 0 < labels.sum() < len(labels):
        return
    rows = [str(number) for number in range(len(labels))]
    for other, change in CONVENTIONS.items():
        scores = scored(change)[1]
        if not np.isfinite(scores).all() or auc(labels, scores) < auc(labels, stated) + SURELY:
            continue
        gain = difference(of_two_classes(auc, labels, scores), of_two_classes(auc, labels, stated))
        low, _ = cluster_bootstrap(gain, resampled(rows, 200, 0))
        if low is not None and low > SURELY:
            raise DataError(
                f"{name}: AUC {auc(labels, stated):.2f} on clean pictures as it says it wants them, "
                f"{auc(labels, scores):.2f} with {other}: its colour order or input range is stated wrongly; correct "
                "that before you attack it"
            )
