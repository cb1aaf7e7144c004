"""Where in a video the evidence for forgery is higher than in the rest of a person's track: a scan statistic.

Every stretch of the scored frames is compared with the rest of the track: t = (mean logit inside - mean logit outside)
/ (s * sqrt(1 / inside + 1 / outside)), with the lengths in seconds and s^2 the variance of the logits about the two
means plus that of a usual track: a short track that happens to be calm is no surer for it (Tusher et al., "Significance
analysis of microarrays", 2001). Seconds, not frames, count as observations, since neighbouring frames say nearly the
same. The highest t of all stretches is held against a limit which the highest t of authentic videos passes in at most
one of twenty: that it was searched for among thousands of stretches is thus paid for. Scan statistics: Naus, "The
distribution of the size of the maximum cluster of points on a line" (1965); the limit is by reference tracks, not by
theory, for a person who talks and turns moves the logits more than independent frames would.
`experiments/plain/stretches.py` has the videos and what came out.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

LEAST_FRAMES = 5
"""Scored frames that a stretch needs, and the rest of the track too."""
LEAST_SECONDS = 1.0
"""Length that a stretch needs, and the rest of the track too."""


@dataclass(frozen=True)
class ScannedStretch:
    """The stretch of a track with the highest statistic.

    Attributes:
        first: number of its first point.
        last: number of its last point.
        statistic: t of the module's docstring.
        inside: mean logit of the stretch.
        outside: mean logit of the rest.
    """

    first: int
    last: int
    statistic: float
    inside: float
    outside: float


def scan(
    logits: Sequence[float], frames: Sequence[int], frames_per_second: float, spread: float
) -> ScannedStretch | None:
    """The stretch of a track that stands out most towards forged.

    Args:
        logits: of the scored frames in order of time.
        frames: how many sampled frames each stands for.
        frames_per_second: that were sampled.
        spread: standard deviation, in logits, that is added to the track's own.

    Returns:
        The stretch, whatever its statistic; None if the track is too short for one.
    """
    number = len(logits)
    if number < 2 * LEAST_FRAMES:
        return None
    x, seconds = np.asarray(logits, np.float64), np.asarray(frames, np.float64) / frames_per_second
    x = x - np.average(x, weights=seconds)  # sums of squares of large numbers would lose their digits
    lengths = np.concatenate([[0.0], np.cumsum(seconds)])
    sums = np.concatenate([[0.0], np.cumsum(x * seconds)])
    total, whole, squares = lengths[-1], sums[-1], float(np.sum(x * x * seconds))
    inside = lengths[None] - lengths[:, None]  # of the points from the row's to the one before the column's
    points = np.arange(number + 1)[None] - np.arange(number + 1)[:, None]
    allowed = (points >= LEAST_FRAMES) & (number - points >= LEAST_FRAMES)
    allowed &= (inside >= LEAST_SECONDS - 1e-9) & (total - inside >= LEAST_SECONDS - 1e-9)
    if not allowed.any():
        return None
    inside = np.where(allowed, inside, total / 2)
    within = (sums[None] - sums[:, None]) / inside
    without = (whole - within * inside) / (total - inside)
    variance = (squares - within**2 * inside - without**2 * (total - inside)) / total
    scale = np.sqrt(np.maximum(variance, 0) + spread**2) * np.sqrt(1 / inside + 1 / (total - inside))
    statistic = np.where(allowed, (within - without) / scale, -np.inf)
    first, end = np.unravel_index(int(np.argmax(statistic)), statistic.shape)
    mean = float(np.average(np.asarray(logits, np.float64), weights=seconds))
    return ScannedStretch(
        int(first),
        int(end) - 1,
        float(statistic[first, end]),
        float(within[first, end]) + mean,
        float(without[first, end]) + mean,
    )
