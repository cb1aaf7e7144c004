"""From logits to likelihood ratios: fitted with lir on forgeries and photographs the scoring network never saw.

Lab only. Every calibration forgery is scored by a network trained without its kind (or family), every real face by
networks trained without its source where there are such. The fit is a balanced logistic regression per condition and
quality bin, bounded by the empirical bounds of Vergeer et al. (2016). The limits of the verdicts follow from the shares
of false alarms that are allowed.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from lir.algorithms.logistic_regression import LogitCalibrator

from unmask.errors import DataError
from unmask.lab.metrics import log_lr_cost, log_lr_cost_min
from unmask.offline import temporary_font_list
from unmask.packs.card import Calibration, CalibrationBin, ConditionLimit

with temporary_font_list():
    from lir.algorithms.bayeserror import elub

FALSE_ALARMS, WORST_FALSE_ALARMS = 0.01, 0.05
"""Shares of authentic faces that may be called forged: on average over sources, and on the worst source."""
MISSES = 0.05
"""Share of forgeries that may be called authentic, on average over kinds."""
FEWEST = 50
QUALITY_EDGES = (60.0, 80.0)
"""Inner edges of the quality bins of the project's own calibrations."""
LEAST_LIMIT = 0.3
"""Of a verdict, log10: a likelihood ratio of 2, where support begins."""
STEP = 0.05
_FEWEST_OF_SOURCE = 10  # a share of fewer faces says nothing of their source


@dataclass(frozen=True)
class Scored:
    """A face scored by a network that had not seen its kind of forgery, or its source.

    `logit`, unified `quality` 0-100, `label`; `family` and `kind` of a forgery, `source` of a real face; `condition` as
    the runtime would tell it (`unmask.faces.condition`), empty if all are to be taken together.
    """

    logit: float
    quality: float
    label: int
    family: str
    source: str
    kind: str = ""
    condition: str = ""

    @property
    def group(self) -> str:
        """What counts as one among its class: of a forgery the kind, else the family; of a real face the source."""
        return (self.kind or self.family) if self.label else self.source


def balance(faces: Sequence[Scored], rng: np.random.Generator) -> list[Scored]:
    """As many of every kind, and of every real source, as of the others: the median, with repetition if need be."""
    out: list[Scored] = []
    for label in (0, 1):
        groups: dict[str, list[Scored]] = {}
        for face in faces:
            if face.label == label:
                groups.setdefault(face.group, []).append(face)
        count = int(np.median([len(group) for group in groups.values()]))
        for group in groups.values():
            rows = rng.permutation(len(group))[:count] if len(group) >= count else rng.integers(len(group), size=count)
            out += [group[row] for row in rows]
    return out


def _usable(faces: Sequence[Scored], edges: Sequence[float]) -> list[float]:
    """The edges that leave at least `FEWEST` faces of either class in every bin; the others are dropped."""
    kept: list[float] = []
    low = 0.0
    for edge in edges:
        below = [face.label for face in faces if low <= face.quality < edge]
        above = [face.label for face in faces if face.quality >= edge]
        if min(below.count(0), below.count(1), above.count(0), above.count(1)) >= FEWEST:
            kept.append(edge)
            low = edge
    return kept


def fit_calibration(
    faces: Sequence[Scored],
    edges: Sequence[float],
    data: str,
    min_quality: float,
    min_face_px: float,
    seed: int = 0,
) -> Calibration:
    """Fit the card's calibration.

    Args:
        faces: scored as the module's head says.
        edges: inner edges of the quality bins, ascending, in (0, 100); one that would leave a bin nearly
            empty is dropped.
        data: what the faces are, for the card.
        min_quality, min_face_px: see `Calibration`.

    Raises:
        DataError: fewer than fifty faces of a class.

    A condition with fifty faces of either class has bins of its own. The limit for "forged" is the smallest, in steps
    of 0.05 and at least 0.3 (a likelihood ratio of 2, where support begins), at which at most 1 % of authentic faces
    would be called forged on average over sources, and at most 5 % on the worst; that for "authentic" the smallest at
    which at most 5 % of the forgeries would be called authentic on average over kinds. The calibration's own decision
    limit is found in the same way on all faces together. A condition in which no forgery reaches its limit cannot be
    judged.
    """
    rng = np.random.default_rng(seed)
    for label, name in enumerate(("real", "forged")):
        if sum(face.label == label for face in faces) < FEWEST:
            raise DataError(f"fewer than {FEWEST} {name} faces to calibrate on; add to the cal split")
    bins, balanced, truth = _fit_bins(faces, edges, "", rng)
    limits = []
    for condition in sorted({face.condition for face in faces} - {""}):
        own = [face for face in faces if face.condition == condition]
        some = bins
        if min(sum(face.label == label for face in own) for label in (0, 1)) >= FEWEST:
            some, _, _ = _fit_bins(own, edges, condition, rng)
            bins = [*bins, *some]
        limits.append(_limit(own, _llrs(own, some), condition))
    pooled = [fit for fit in bins if not fit.condition]
    decision = _limit(faces, _llrs(faces, pooled), "").decision_log10_lr
    return Calibration(
        method="balanced logistic regression per condition and quality bin (lir), bounded by ELUB; scores of networks "
        "that had not seen the kind of forgery, or the source",
        data=data,
        bins=tuple(bins),
        cllr=round(log_lr_cost(truth, balanced), 4),
        cllr_min=round(log_lr_cost_min(truth, balanced), 4),
        # Where even the highest ratio would be too many false alarms, no verdict may be given: a limit out of reach.
        decision_log10_lr=decision if decision is not None else _out_of_reach(pooled),
        min_quality=min_quality,
        min_face_px=min_face_px,
        conditions=tuple(limits),
    )


def _fit_bins(
    faces: Sequence[Scored], edges: Sequence[float], condition: str, rng: np.random.Generator
) -> tuple[list[CalibrationBin], np.ndarray, np.ndarray]:
    """The bins of a condition, and the log10 LRs and labels of the balanced faces that they were fitted on."""
    bounds = [0.0, *_usable(faces, edges), 100.0]
    bins, values, labels = [], [], []
    for low, high in pairwise(bounds):
        inside = [f for f in faces if low <= f.quality < high or (high == 100.0 and f.quality == 100.0)]
        some = balance(inside, rng)
        logits = np.array([face.logit for face in some])
        truth = np.array([face.label for face in some])
        model = LogitCalibrator(C=10.0).fit(logits, truth)
        zero, one = (float(model.transform(np.array([x]))[0]) for x in (0.0, 1.0))
        slope = max(one - zero, 0.0)
        # The bounds come from the faces as they are, not from repeated ones: repetition would feign evidence.
        raw = np.array([zero + slope * face.logit for face in inside])
        raw_truth = np.array([face.label for face in inside])
        lower, upper = elub(raw.copy(), raw_truth)
        bins.append(
            CalibrationBin(
                quality_min=low,
                quality_max=high,
                slope=round(slope, 6),
                intercept=round(zero, 6),
                lower=round(float(lower), 3),
                upper=round(float(upper), 3),
                n_real=int((raw_truth == 0).sum()),
                n_forged=int(raw_truth.sum()),
                condition=condition,
            )
        )
        values.append(np.clip(zero + slope * logits, lower, upper))
        labels.append(truth)
    return bins, np.concatenate(values), np.concatenate(labels)


def _llrs(faces: Sequence[Scored], bins: Sequence[CalibrationBin]) -> np.ndarray:
    """log10 LRs of faces by some bins, (N,)."""
    quality = np.array([face.quality for face in faces])
    place = np.searchsorted([fit.quality_min for fit in bins], quality, side="right") - 1
    slope, intercept, lower, upper = (
        np.array([getattr(fit, name) for fit in bins])[place] for name in ("slope", "intercept", "lower", "upper")
    )
    return np.clip(intercept + slope * np.array([face.logit for face in faces]), lower, upper)


def _out_of_reach(bins: Sequence[CalibrationBin]) -> float:
    return round(max(max(fit.upper, -fit.lower) for fit in bins) + STEP, 2)


def _shares(faces: Sequence[Scored], said: np.ndarray, label: int) -> dict[str, float]:
    """The share of faces of one class of which something is said, by group; small groups are left out."""
    groups: dict[str, list[bool]] = {}
    for face, value in zip(faces, said, strict=True):
        if face.label == label:
            groups.setdefault(face.group, []).append(bool(value))
    large = {name: values for name, values in groups.items() if len(values) >= _FEWEST_OF_SOURCE}
    return {name: float(np.mean(values)) for name, values in (large or groups).items()}


def _thresholds() -> Iterator[float]:
    yield from (round(LEAST_LIMIT + STEP * number, 2) for number in range(round((6 - LEAST_LIMIT) / STEP) + 1))


def _smallest(allowed: Callable[[float], bool]) -> float | None:
    return next((threshold for threshold in _thresholds() if allowed(threshold)), None)


def _limit(faces: Sequence[Scored], llrs: np.ndarray, condition: str) -> ConditionLimit:
    """The limits of a condition and what they cost; see `fit_calibration`."""

    def few_false_alarms(threshold: float) -> bool:
        shares = list(_shares(faces, llrs >= threshold, 0).values())
        return bool(np.mean(shares) <= FALSE_ALARMS and max(shares) <= WORST_FALSE_ALARMS)

    def few_misses(threshold: float) -> bool:
        return float(np.mean(list(_shares(faces, llrs <= -threshold, 1).values()))) <= MISSES

    counts = [sum(face.label == label for face in faces) for label in (0, 1)]
    decision, reason = None, ""
    if not all(counts):
        reason = f"no {'real' if not counts[0] else 'forged'} faces to calibrate on"
    else:
        decision = _smallest(few_false_alarms)
        assert decision is not None  # the highest threshold lies beyond all bounds
        if not (llrs[np.array([face.label == 1 for face in faces])] >= decision).any():
            worst = _shares(faces, llrs >= float(llrs.max()), 0)
            name = max(worst, key=lambda source: worst[source])
            reason = (
                f"no limit keeps false alarms at {FALSE_ALARMS:.0%} on average and {WORST_FALSE_ALARMS:.0%} on the "
                f"worst source and lets any forgery be found; worst source: {name}"
            )
            decision = None
    alarms = _shares(faces, llrs >= (math.inf if decision is None else decision), 0) if counts[0] else {}
    authentic = (_smallest(few_misses) if counts[1] else None) or LEAST_LIMIT
    calm = _shares(faces, llrs <= -authentic, 0) if counts[0] else {}
    missed = _shares(faces, llrs <= -authentic, 1) if counts[1] else {}
    worst_source = max(alarms, key=lambda source: alarms[source]) if alarms else ""
    return ConditionLimit(
        condition=condition,
        decision_log10_lr=decision,
        authentic_log10_lr=authentic,
        reason=reason,
        false_alarms=_mean(alarms),
        worst_false_alarms=round(alarms.get(worst_source, 0.0), 4),
        worst_source=worst_source,
        authentic=_mean(calm),
        misses=_mean(missed),
        n_real=counts[0],
        n_forged=counts[1],
    )


def _mean(shares: dict[str, float]) -> float:
    return round(float(np.mean(list(shares.values()))), 4) if shares else 0.0
