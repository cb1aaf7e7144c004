"""Numbers that describe a detector, with 95 % intervals by bootstrap over subjects. Lab only.

Labels are 1 for forged, 0 for real; scores are higher for forged. Error rates follow ISO/IEC 30107-3 and NIST FATE
MORPH: the miss rate (APCER) at a fixed false-alarm rate (BPCER, since 2025 also BSCER).
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
from lir.data.models import LLRData
from lir.metrics import cllr, cllr_min
from scipy.stats import rankdata, spearmanr
from scipy.stats import t as student

Statistic = Callable[[np.ndarray, np.ndarray], float]


def auc(labels: np.ndarray, scores: np.ndarray) -> float:
    """Area under the ROC curve (Mann-Whitney, ties count one half)."""
    positive = int(labels.sum())
    negative = len(labels) - positive
    ranks = rankdata(scores)
    return float((ranks[labels == 1].sum() - positive * (positive + 1) / 2) / (positive * negative))


def by_quality(quality: np.ndarray, bins: int = 5) -> Iterator[tuple[float, float, np.ndarray]]:
    """Bins of faces of like quality, from the worst to the best: lower limit, upper limit, rows.

    Args:
        quality: (N,), N at least 1.
        bins: how many; their limits are quantiles of the quality. Equal qualities stay together.
    """
    limits = np.quantile(quality, np.linspace(0, 1, bins + 1))
    places = np.searchsorted(limits[1:-1], quality, side="right")
    for place in range(bins):
        yield float(limits[place]), float(limits[place + 1]), np.flatnonzero(places == place)


def hard_auc(labels: np.ndarray, scores: np.ndarray, quality: np.ndarray) -> float:
    """The AUC between the third of the forged faces of best quality and the third of the real ones of worst.

    All (N,), both classes among them. A detector that takes low quality for forgery fails here first.
    """
    real, forged = np.flatnonzero(labels != 1), np.flatnonzero(labels == 1)
    worst = real[np.argsort(quality[real], kind="stable")[: math.ceil(len(real) / 3)]]
    best = forged[np.argsort(-quality[forged], kind="stable")[: math.ceil(len(forged) / 3)]]
    hard = np.concatenate([worst, best])
    return auc(labels[hard], scores[hard])


def rank_correlation(scores: np.ndarray, quality: np.ndarray) -> float | None:
    """Spearman's correlation of scores with quality, both (N,); None for fewer than three faces or a constant."""
    defined = len(scores) >= 3 and np.ptp(scores) > 0 and np.ptp(quality) > 0
    return float(spearmanr(scores, quality).statistic) if defined else None


def threshold_at(scores_real: np.ndarray, false_alarms: float) -> float:
    """The lowest threshold at which at most a share `false_alarms` of the reals lies strictly above it."""
    # What a product of rounded numbers lacks to a whole number of faces must not cost one.
    let_through = int(len(scores_real) * false_alarms + 1e-9)
    return float(np.sort(scores_real)[max(len(scores_real) - 1 - let_through, 0)])


def miss_rate(false_alarms: float) -> Statistic:
    """A statistic: share of forgeries not above the threshold that lets `false_alarms` of the reals through."""

    def statistic(labels: np.ndarray, scores: np.ndarray) -> float:
        threshold = threshold_at(scores[labels == 0], false_alarms)
        return float((scores[labels == 1] <= threshold).mean())

    return statistic


def log_lr_cost(labels: np.ndarray, log10_lrs: np.ndarray) -> float:
    """Cllr (Bruemmer & du Preez 2006): 0 is perfect, 1 says as much as nothing."""
    return float(cllr(LLRData(features=np.asarray(log10_lrs, float), labels=np.asarray(labels, int))))


def log_lr_cost_min(labels: np.ndarray, log10_lrs: np.ndarray) -> float:
    """Cllr after the best monotone recalibration (PAV): what discrimination alone would cost."""
    return float(cllr_min(LLRData(features=np.asarray(log10_lrs, float), labels=np.asarray(labels, int))))


def cluster_bootstrap(
    statistic: Callable[[np.ndarray], float], draws: Iterable[np.ndarray]
) -> tuple[float | None, float | None]:
    """The 95 % percentile interval of a statistic over bootstrap samples of whole subjects.

    Args:
        statistic: of row numbers, some of them repeated; nan where a sample does not define it, which leaves it out.
        draws: row numbers of each sample, as `resampled` gives them.

    Returns:
        Lower and upper limit; None where no sample defines the statistic.
    """
    values = np.array([statistic(rows) for rows in draws], float)
    values = values[~np.isnan(values)]
    if not len(values):
        return None, None
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)


def of_two_classes(statistic: Statistic, labels: np.ndarray, scores: np.ndarray) -> Callable[[np.ndarray], float]:
    """A statistic as a function of row numbers; nan where these hold one class only."""

    def of_rows(rows: np.ndarray) -> float:
        chosen = labels[rows]
        return statistic(chosen, scores[rows]) if 0 < chosen.sum() < len(rows) else math.nan

    return of_rows


def difference(
    first: Callable[[np.ndarray], float], second: Callable[[np.ndarray], float]
) -> Callable[[np.ndarray], float]:
    """The first statistic minus the second on the same rows, as a function of row numbers."""
    return lambda rows: first(rows) - second(rows)


def interval(
    statistic: Statistic,
    labels: np.ndarray,
    scores: np.ndarray,
    subjects: Sequence[str],
    draws: int = 1000,
    seed: int = 0,
) -> tuple[float, float | None, float | None]:
    """Value of a statistic and its 95 % percentile interval, resampling whole subjects.

    A subject that has both a real and a forged face is drawn with both. Draws that hold one class only are left out.
    """
    limits = cluster_bootstrap(of_two_classes(statistic, labels, scores), resampled(subjects, draws, seed))
    return statistic(labels, scores), *limits


def seed_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Mean of one number per seed and its 95 % interval by Student's t; an infinite one from a single seed."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return mean, -math.inf, math.inf
    half = float(student.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / math.sqrt(len(values)))
    return mean, mean - half, mean + half


def mean_interval(
    values: np.ndarray, subjects: Sequence[str], draws: int = 1000, seed: int = 0
) -> tuple[float, float | None, float | None]:
    """Mean of values and its 95 % percentile interval, resampling whole subjects."""
    limits = cluster_bootstrap(lambda rows: float(values[rows].mean()), resampled(subjects, draws, seed))
    return float(values.mean()), *limits


def resampled(subjects: Sequence[str], draws: int, seed: int) -> Iterator[np.ndarray]:
    """Rows of bootstrap samples: as many subjects as there are, drawn with replacement, each with all its rows."""
    unit_of_row = np.unique(np.asarray(subjects), return_inverse=True)[1]
    units = int(unit_of_row.max()) + 1
    everything = np.arange(len(unit_of_row))
    rng = np.random.default_rng(seed)
    for _ in range(draws):
        times = np.bincount(rng.integers(units, size=units), minlength=units)
        yield np.repeat(everything, times[unit_of_row])
