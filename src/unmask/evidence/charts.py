"""Geometry of the charts in the HTML report; the markup is in templates/charts.svg.j2.

Horizontal positions are percentages of the chart's width, so that charts stretch while their text keeps its size.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from unmask.evidence.likelihood import VERBAL_SCALE, clock_time, decision_for
from unmask.evidence.report import Decision, TrackPoint
from unmask.packs.card import Calibration
from unmask.packs.validation import LrValidation

# More points than a screen has columns would only make the file larger.
_MAX_POINTS = 600


@dataclass(frozen=True)
class Band:
    """A stretch of the LR axis with its ENFSI word; `side` is "forged", "authentic" or "none", `level` 0-6."""

    left: float
    width: float
    word: str
    side: str
    level: int


@dataclass(frozen=True)
class LrScale:
    """A log10 LR on an axis from -`reach` to +`reach`: everything in per cent of the width.

    `zone` (left, width) is where no verdict is given; `bounds` (left, right) is the range that the pack's calibration
    data support for this face's quality. Both are None without a calibration.
    """

    reach: int
    marker: float
    label: str
    anchor: str
    bands: tuple[Band, ...]
    ticks: tuple[tuple[float, str], ...]
    zone: tuple[float, float] | None
    bounds: tuple[float, float] | None


def lr_scale(
    log10_lr: float,
    calibration: Calibration | None,
    quality: float | None = None,
    condition: str = "",
    decision: Decision | None = None,
) -> LrScale:
    """Lay out the scale for one log10 LR.

    The zone without a verdict is that of `decision`; of older reports, which have none, that of the calibration. The
    axis reaches to the first power of ten past everything to be shown, between 3 and 6, farther only for the LR itself.
    """
    fit = None if calibration is None or quality is None else calibration.bin_of(quality, condition)
    shown = [2.9, *(() if fit is None else (abs(fit.lower), abs(fit.upper)))]
    reach = max(min(math.ceil(max(shown) + 0.1), 6), math.ceil(abs(log10_lr)))

    def place(value: float) -> float:
        return round(50.0 + 50.0 * min(max(value / reach, -1.0), 1.0), 3)

    starts = [0.0, *(start for start, _ in VERBAL_SCALE), math.inf]
    words = ["none", *(word for _, word in VERBAL_SCALE)]
    bands = []
    for level, word in enumerate(words):
        low, high = starts[level], min(starts[level + 1], reach)
        if low >= reach:
            break
        if level == 0:
            bands.append(Band(place(-high), place(high) - place(-high), word, "none", 0))
            continue
        width = round(place(high) - place(low), 3)
        bands.append(Band(place(low), width, word, "forged", level))
        bands.append(Band(place(-high), width, word, "authentic", level))
    marker = place(log10_lr)
    zone = None
    if decision is None and calibration is not None:
        decision = decision_for(calibration, condition)
    if decision is not None:
        left, right = place(-decision.authentic_log10_lr), place(decision.forged_log10_lr)
        zone = (left, round(right - left, 3))
    return LrScale(
        reach=reach,
        marker=marker,
        label=f"{log10_lr:+.2f}",
        # Near an end the label must not leave the chart.
        anchor="start" if marker < 8.0 else "end" if marker > 92.0 else "middle",
        bands=tuple(bands),
        ticks=tuple((place(power), f"{power:+d}" if power else "0") for power in range(-reach, reach + 1)),
        zone=zone,
        bounds=None if fit is None else (place(fit.lower), place(fit.upper)),
    )


_BINS_A_POWER = 4  # of the histogram
_HISTOGRAM_REACH = 3  # powers of ten; what lies beyond is counted in the last bin of its side


@dataclass(frozen=True)
class Bar:
    """Files of one verdict in one bin of the histogram: all in per cent of the chart, y from the top."""

    left: float
    width: float
    top: float
    height: float
    verdict: str
    title: str


@dataclass(frozen=True)
class Histogram:
    """How many files have which log10 LR, stacked by verdict; `most` is the count of the highest bin."""

    bars: tuple[Bar, ...]
    ticks: tuple[tuple[float, str], ...]
    most: int
    description: str


def histogram_bin(log10_lr: float) -> int:
    """The bin of a log10 LR: that of number n begins at n / 4."""
    last = _HISTOGRAM_REACH * _BINS_A_POWER
    return min(max(math.floor(log10_lr * _BINS_A_POWER), -last), last - 1)


def histogram(counts: Mapping[str, Mapping[int, int]]) -> Histogram:
    """Lay out the histogram.

    Args:
        counts: for each verdict the number of files by `histogram_bin`.
    """
    last = _HISTOGRAM_REACH * _BINS_A_POWER
    totals = Counter[int]()
    for one in counts.values():
        totals.update(one)
    most = max(totals.values(), default=1)
    step = 50.0 / last
    bars = []
    for number in sorted(totals):
        top = 100.0
        for verdict in sorted(counts):
            count = counts[verdict].get(number, 0)
            if not count:
                continue
            height = 100.0 * count / most
            top -= height
            low = number / _BINS_A_POWER
            title = f"{count} {verdict}, log10 LR {low:+.2f} to {low + 1 / _BINS_A_POWER:+.2f}"
            place = 50.0 + step * number
            bars.append(Bar(round(place, 3), round(step, 3), round(top, 2), round(height, 2), verdict, title))
    ticks = tuple(
        (round(50.0 + 50.0 * power / _HISTOGRAM_REACH, 3), f"{power:+d}" if power else "0")
        for power in range(-_HISTOGRAM_REACH, _HISTOGRAM_REACH + 1)
    )
    middle = sorted(number for number, count in totals.items() for _ in range(count))
    files = len(middle)
    text = (
        f"Histogram of {files} judged files by log10 LR, from {middle[0] / _BINS_A_POWER:+.2f} to "
        f"{(middle[-1] + 1) / _BINS_A_POWER:+.2f}; half of them lie below {middle[files // 2] / _BINS_A_POWER:+.2f}"
        if middle
        else "No file was judged"
    )
    return Histogram(tuple(bars), ticks, most, text)


@dataclass(frozen=True)
class Timeline:
    """log10 LR over time on a 1000 x 100 canvas, y down, top = +`reach`.

    The axis spans the video, or, where the track is a small part of it, the track with some room; then `part` (left,
    width in per cent) is where in the video that is. `stretch` (left, width in per cent, its times as text) is the one
    that stands out.
    `lines` are SVG polyline point lists, broken where the face was not seen or not judged; `dots` are the judged frames
    (x, y); `gaps` the x of frames whose face was refused. `zone` (y, height) is where no verdict is given.
    `ticks` are (per cent of the width, seconds as text). `judged` and `refused` count frames, of the sampled ones in
    which the person was `seen`.
    """

    reach: float
    lines: tuple[str, ...]
    dots: tuple[tuple[float, float], ...]
    gaps: tuple[float, ...]
    zone: tuple[float, float] | None
    marker: float | None
    ticks: tuple[tuple[float, str], ...]
    judged: int
    refused: int
    seen: int
    stretch: tuple[float, float, str] | None = None
    part: tuple[float, float] | None = None


# A track that fills less of the video gets an axis of its own.
_LEAST_SHARE = 1 / 3


def timeline(
    track: Sequence[TrackPoint],
    duration: float | None,
    representative: float | None,
    calibration: Calibration | None,
    condition: str = "",
    decision: Decision | None = None,
    stretch: tuple[float, float] | None = None,
) -> Timeline:
    """Lay out the timeline of one track.

    Args:
        track: its points, in order of time.
        duration: seconds that the axis spans; the track's end if None or shorter.
        representative: time (s) of the frame that speaks for the track.
        calibration: for the zone without a verdict.
        condition: of the track, whose limits the zone has.
        decision: these limits; those of the calibration if None.
        stretch: from when to when (s) the evidence stands out.
    """
    whole = max(duration or 0.0, track[-1].time if track else 0.0, 0.1)
    judged = [(point.time, point.log10_lr, point.frames) for point in track if point.log10_lr is not None]
    start, end, part = 0.0, whole, None
    if track and track[-1].time - track[0].time < _LEAST_SHARE * whole:
        room = max(0.5, 0.1 * (track[-1].time - track[0].time))
        start, end = max(0.0, track[0].time - room), min(whole, track[-1].time + room)
        part = (round(100.0 * start / whole, 2), round(100.0 * (end - start) / whole, 2))
    if decision is None and calibration is not None:
        decision = decision_for(calibration, condition)
    shown = [abs(value) for _, value, _ in judged]
    if decision is not None:
        shown += [min(limit, 2.0) for limit in (decision.forged_log10_lr, decision.authentic_log10_lr)]
    reach = max(0.5, math.ceil(2.0 * (max(shown, default=0.0) + 0.05)) / 2.0)

    def x(time: float) -> float:
        return round(1000.0 * (time - start) / (end - start), 1)

    def y(value: float) -> float:
        return round(50.0 - 50.0 * value / reach, 1)

    kept = _thin(judged)
    steps = sorted((later.time - earlier.time) / earlier.frames for earlier, later in pairwise(track))
    # Thinning widens the steps, as do frames that were not scored; a pause is a gap well beyond the usual one.
    usual = (steps[len(steps) // 2] if steps else 0.0) * max(1.0, len(judged) / max(len(kept), 1))
    refused = [point.time for point in track if point.log10_lr is None]
    lines: list[list[str]] = [[]]
    expected = math.inf  # until when the next point does not come late
    waiting = iter(refused)
    next_refused = next(waiting, math.inf)
    for time, value, frames in kept:
        broken = time > expected + 1e-6
        while next_refused < time:
            broken, next_refused = True, next(waiting, math.inf)
        if broken and lines[-1]:
            lines.append([])
        lines[-1].append(f"{x(time)},{y(value)}")
        expected = time + 3.0 * usual * frames
    zone = None
    if decision is not None:
        top, bottom = y(min(decision.forged_log10_lr, reach)), y(-min(decision.authentic_log10_lr, reach))
        zone = (top, bottom - top)
    return Timeline(
        reach=reach,
        lines=tuple(" ".join(line) for line in lines if len(line) > 1),
        dots=tuple((x(time), y(value)) for time, value, _ in kept) if len(kept) <= 150 else (),
        gaps=tuple(dict.fromkeys(round(x(time)) for time in refused)),
        zone=zone,
        marker=None if representative is None else x(representative) / 10.0,
        ticks=_time_ticks(start, end),
        judged=len(judged),
        refused=len(refused),
        seen=sum(point.frames for point in track),
        stretch=None
        if stretch is None
        else (
            x(stretch[0]) / 10.0,
            round((x(min(stretch[1], end)) - x(stretch[0])) / 10.0, 2),
            f"{clock_time(stretch[0])} to {clock_time(stretch[1])}",
        ),
        part=part,
    )


def _thin(points: list[tuple[float, float, int]]) -> list[tuple[float, float, int]]:
    """At most `_MAX_POINTS` points: of every stretch the lowest and the highest, so that no peak is lost."""
    if len(points) <= _MAX_POINTS:
        return points
    size = math.ceil(len(points) / (_MAX_POINTS // 2))
    kept: list[tuple[float, float, int]] = []
    for start in range(0, len(points), size):
        stretch = points[start : start + size]
        lowest, highest = min(stretch, key=lambda p: p[1]), max(stretch, key=lambda p: p[1])
        kept += sorted({lowest, highest})
    return kept


def _time_ticks(start: float, end: float) -> tuple[tuple[float, str], ...]:
    length = end - start
    steps = [*(10.0**power * part for power in (-3, -2, -1, 0) for part in (1, 2, 5)), 10.0, 15.0, 30.0]
    steps += [60.0 * part for part in (1, 2, 5, 10, 15, 30, 60, 120, 300, 600)]
    step = next((one for one in steps if length / one <= 6), 60.0 * 60.0 * math.ceil(length / 6 / 3600))
    first, last = math.ceil(start / step - 1e-9), math.floor(end / step + 1e-9)
    return tuple(
        (
            round(100.0 * (number * step - start) / length, 2),
            clock_time(number * step) if step >= 0.1 else f"{number * step:g} s",
        )
        for number in range(first, last + 1)
    )


@dataclass(frozen=True)
class Curve:
    """A line of a plot: its SVG polyline points, its class in the style sheet and its name for people."""

    points: str
    style: str
    name: str


@dataclass(frozen=True)
class Plot:
    """Curves on a canvas of `width` x `height` with axes; ticks are (place in pixels, text).

    `mark` is the place of the value that is spoken of, None without one.
    """

    curves: tuple[Curve, ...]
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]
    x_title: str
    description: str
    mark: float | None = None
    width: int = 320
    height: int = 180


def tippett_plot(validation: LrValidation, log10_lr: float | None = None) -> Plot:
    """The shares of authentic and of forged faces whose log10 LR is above each value.

    Args:
        validation: from the pack's card.
        log10_lr: a value to mark.
    """
    values = [*validation.log10_lr, *(() if log10_lr is None else (log10_lr,))]
    reach = max(1, math.ceil(max(map(abs, values)) + 0.1))
    plot = Plot((), (), (), "log10 LR", "")

    def place(value: float, share: float) -> tuple[float, float]:
        return _placed(plot, (value + reach) / (2 * reach), share)

    curves = []
    for number, (style, name) in enumerate((("authentic", "authentic faces"), ("forged", "forged faces"))):
        points, share = [place(-reach, 1.0)], 1.0
        for value in validation.log10_lr:  # the share above a value falls at it
            points.append(place(value, share))
            share = validation.above(value)[number]
            points.append(place(value, share))
        points.append(place(reach, 0.0))
        curves.append(Curve(_points(points), style, name))
    real, forged = validation.above(0.0)
    return Plot(
        tuple(curves),
        tuple((place(power, 0)[0], f"{power:+d}" if power else "0") for power in range(-reach, reach + 1)),
        tuple((place(0, share)[1], f"{100 * share:.0f} %") for share in (0.0, 0.5, 1.0)),
        "log10 LR above",
        f"Tippett plot: an LR above 1 have {100 * forged:.0f} % of the forged and {100 * real:.0f} % of the authentic "
        "faces",
        None if log10_lr is None else place(log10_lr, 0)[0],
    )


_ODDS = 2.0  # log10, to either side


def ece_plot(validation: LrValidation) -> Plot:
    """The empirical cross-entropy against prior odds, of the ratios, of the best calibrated ones, and of LR 1."""
    odds = [_ODDS * step / 20 for step in range(-20, 21)]
    rows = [validation.cross_entropy(one) for one in odds]
    plot = Plot((), (), (), "", "")
    top = max(1.0, max(map(max, rows)))

    def place(one: float, bits: float) -> tuple[float, float]:
        return _placed(plot, (one + _ODDS) / (2 * _ODDS), bits / top)

    styles = (("measured", "these LRs"), ("best", "best calibrated"), ("nothing", "always LR 1"))
    curves = tuple(
        Curve(_points([place(one, row[number]) for one, row in zip(odds, rows, strict=True)]), style, name)
        for number, (style, name) in enumerate(styles)
    )
    cost, best, _ = validation.cross_entropy(0.0)
    return Plot(
        curves,
        tuple((place(one, 0)[0], f"{one:+.0f}" if one else "0") for one in (-2.0, -1.0, 0.0, 1.0, 2.0)),
        tuple((place(0, bits)[1], f"{bits:g}") for bits in (0.0, 0.5, 1.0)),
        "log10 of the odds beforehand",
        f"ECE plot: at even odds {cost:.3f} bits, which is Cllr; best calibrated {best:.3f}; always LR 1 has 1",
    )


_LEFT, _RIGHT, _TOP, _BOTTOM = 36, 8, 8, 34  # pixels of a plot's canvas around its axes


def _placed(plot: Plot, x: float, y: float) -> tuple[float, float]:
    """From shares in [0, 1] of the axes to pixels, y down."""
    return (
        round(_LEFT + x * (plot.width - _LEFT - _RIGHT), 1),
        round(_TOP + (1 - y) * (plot.height - _TOP - _BOTTOM), 1),
    )


def _points(places: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:g},{y:g}" for x, y in places)
