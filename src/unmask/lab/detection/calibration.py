"""From logits to likelihood ratios: fitted with lir on families the scoring network never saw, by quality. Lab only.

Every calibration forgery is scored by a network trained without its family, the reals by all of these networks. The fit
is a balanced logistic regression per quality bin, bounded by the empirical bounds of Vergeer et al. (2016).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from lir.algorithms.logistic_regression import LogitCalibrator

from unmask.errors import DataError
from unmask.lab.metrics import log_lr_cost, log_lr_cost_min
from unmask.offline import temporary_font_list
from unmask.packs.card import Calibration, CalibrationBin

with temporary_font_list():
    from lir.algorithms.bayeserror import elub

_FALSE_VERDICTS = 0.05
FEWEST = 50


@dataclass(frozen=True)
class Scored:
    """A face scored by a network that had not seen its family: logit, quality 0-100, label, family, real's source."""

    logit: float
    quality: float
    label: int
    family: str
    source: str


def balance(faces: Sequence[Scored], rng: np.random.Generator) -> list[Scored]:
    """As many of every family, and of every real source, as of the others: the median, with repetition if need be."""
    out: list[Scored] = []
    for label in (0, 1):
        groups: dict[str, list[Scored]] = {}
        for face in faces:
            if face.label == label:
                groups.setdefault(face.family if label else face.source, []).append(face)
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

    The decision threshold is the smallest, in steps of 0.05 and at least 0.3 (a likelihood ratio of 2, where support
    begins), at which at most 5 % of the calibration reals would be called forged.
    """
    rng = np.random.default_rng(seed)
    for label, name in enumerate(("real", "forged")):
        if sum(face.label == label for face in faces) < FEWEST:
            raise DataError(f"fewer than {FEWEST} {name} faces to calibrate on; add to the cal split")
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
            )
        )
        values.append(np.clip(zero + slope * logits, lower, upper))
        labels.append(truth)
    llrs, truth = np.concatenate(values), np.concatenate(labels)
    # One step above the value that 5 % of the reals reach: the verdict counts from the threshold on.
    reach = float(np.quantile(llrs[truth == 0], 1 - _FALSE_VERDICTS))
    decision = max(0.3, (math.floor(reach / 0.05) + 1) * 0.05)
    return Calibration(
        method="balanced logistic regression per quality bin (lir), bounded by ELUB; leave-one-family-out scores",
        data=data,
        bins=tuple(bins),
        cllr=round(log_lr_cost(truth, llrs), 4),
        cllr_min=round(log_lr_cost_min(truth, llrs), 4),
        decision_log10_lr=round(decision, 2),
        min_quality=min_quality,
        min_face_px=min_face_px,
    )
