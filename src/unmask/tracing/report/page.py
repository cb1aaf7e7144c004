"""A case as one self-contained HTML page: conclusion, entropy curve, waterfall of bits, ledger, core set, limits."""

from dataclasses import dataclass
from datetime import UTC, datetime
from math import log2
from pathlib import Path

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

from unmask import __version__
from unmask.evidence.terminal import safe_text
from unmask.files import begins_with, whole
from unmask.tracing.inference.conclusion import percent
from unmask.tracing.report.trace_report import TraceReport

_TONES = {"identified": "forged", "not_in_register": "authentic"}
_WORDS = {
    "identified": "Identified",
    "candidate_set": "A set of candidates",
    "not_in_register": "Not in the register",
    "undetermined": "Undetermined",
    "open": "Open",
}


@dataclass(frozen=True)
class Point:
    """A point of the entropy curve: places in per cent of the chart (y from the top), bits."""

    x: float
    y: float
    bits: float
    label: str


@dataclass(frozen=True)
class Bar:
    """A bar of the waterfall, in per cent of the width: from `left`, `width` wide; `bits` with its sign."""

    label: str
    left: float
    width: float
    bits: float
    kind: str


def entropy_curve(report: TraceReport) -> list[Point]:
    """The entropy before the first answer and after each."""
    values = [report.entropy_start, *(step.entropy_after for step in report.steps)]
    labels = ["at first", *(step.attribute for step in report.steps)]
    top = max(*values, 1e-9)
    last = max(len(values) - 1, 1)
    return [
        Point(round(100.0 * place / last, 3), round(100.0 - 100.0 * value / top, 3), value, label)
        for place, (value, label) in enumerate(zip(values, labels, strict=True))
    ]


def waterfall(report: TraceReport) -> list[Bar]:
    """From the prior log odds of the leading record against "not in the register", answer by answer; bits."""
    prior = report.searched.absent
    if not prior or not report.candidates:
        return []
    start = log2((1.0 - prior) / report.searched.records / prior)
    bars = [("prior odds", start, 0.0, start)]
    place = start
    for step in report.steps:
        if step.weight is not None:
            bars.append((step.attribute, step.weight, place, place + step.weight))
            place += step.weight
    posterior = report.candidates[0].log10_lr * log2(10.0) + start
    if abs(posterior - place) > 0.005:  # what answers share: groups, and dependence among the absent
        bars.append(("shared between answers", posterior - place, place, posterior))
    bars.append(("posterior odds", posterior, 0.0, posterior))
    low = min(0.0, *(min(one[2:]) for one in bars))
    high = max(0.0, *(max(one[2:]) for one in bars))
    scale = 100.0 / max(high - low, 1e-9)
    return [
        Bar(
            label,
            round((min(begin, end) - low) * scale, 3),
            round(max(abs(end - begin) * scale, 0.2), 3),
            bits,
            "sum" if label in ("prior odds", "posterior odds") else "for" if bits >= 0 else "against",
        )
        for label, bits, begin, end in bars
    ]


def write_page(report: TraceReport, path: Path) -> None:
    """Write the page; it appears under its name when it is whole.

    Raises:
        DataError: it cannot be written there.
    """
    with whole(path) as part:
        part.write_text(page_of(report), encoding="utf-8")


def is_page(path: Path) -> bool:
    """Whether a file is a page of `write_page`.

    Raises:
        OSError: it cannot be read.
    """
    return begins_with(path, b'<meta name="generator" content="unmask trace ')


def page_of(report: TraceReport) -> str:
    """The page as text."""
    jinja = Environment(
        loader=ChoiceLoader([PackageLoader("unmask.tracing.report"), PackageLoader("unmask.evidence")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    jinja.filters["safe_text"] = safe_text
    jinja.filters["share"] = percent
    return jinja.get_template("case.html.j2").render(
        title="Who is it?",
        version=__version__,
        written=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        report=report,
        tone=_TONES.get(report.status, "inconclusive"),
        word=_WORDS[report.status],
        curve=entropy_curve(report),
        bars=waterfall(report),
    )
