"""Two reports on the same media, field by field: what a second inspection says otherwise than the first.

Fields that differ from run to run and place to place are left out (`NOT_COMPARED`). Texts, words and counts must be
equal; measured numbers may differ by `TOLERANCES`, for decoders and processors round differently.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

NOT_COMPARED = ("schema_version", "path", "sha256", "timings", "tool", "packs", "run", "case", "notes", "identical_to")
"""Fields of a report that are not compared here: the hashes are compared before, the others say when and where."""


@dataclass(frozen=True)
class Tolerance:
    """By how much a number of a report may differ: of the fields `names`, `most` of `unit`."""

    quantity: str
    names: tuple[str, ...]
    most: float
    unit: str

    def __str__(self) -> str:
        return f"{self.quantity} {self.most:g}{f' {self.unit}' if self.unit else ''}"


TOLERANCES = (
    # The limits of verdicts are fitted in steps of this size: what is smaller moves no limit.
    Tolerance("log10 LR", ("log10_lr",), 0.05, ""),
    Tolerance("score", ("score",), 0.05, "of 1"),
    Tolerance("map", ("values",), 0.1, "of 1"),
    Tolerance("probability", ("posterior", "present", "edited", "probability", "none"), 0.05, "of 1"),
    Tolerance("confidence", ("detection_confidence",), 0.02, "of 1"),
    Tolerance("place", ("box", "landmarks", "region"), 2.0, "pixels"),
    Tolerance("quality", ("unified", "components", "quality"), 2.0, "of 100"),
    Tolerance("pose", ("yaw", "pitch", "roll"), 2.0, "degrees"),
    Tolerance("time", ("time", "duration"), 0.01, "s"),
)
"""The tolerances; a number of any other field must be equal to six digits."""
_BY_NAME = {name: tolerance for tolerance in TOLERANCES for name in tolerance.names}
_EQUAL = 1e-6
_GRIDS = ("map", "area")  # null where maps were left out of a report, which says nothing of them


@dataclass(frozen=True)
class Difference:
    """One field that differs.

    Attributes:
        field: its place in the report, "faces.0.log10_lr".
        recorded: what the first report has.
        now: what the second has.
        size: how far numbers are apart, None for anything else.
        tolerance: how far they may be.
    """

    field: str
    recorded: Any
    now: Any
    size: float | None = None
    tolerance: float | None = None


@dataclass(frozen=True)
class Comparison:
    """What differs, and the largest difference of every quantity that has a tolerance, by its name."""

    differences: tuple[Difference, ...]
    largest: dict[str, float]


def compare_reports(recorded: Mapping[str, Any], now: Mapping[str, Any]) -> Comparison:
    """Compare a report with one of a second inspection.

    Args:
        recorded: the first report, as JSON has it. A field that it lacks, for it is of an earlier schema, is passed
            over; so is a map that was left out, and a check beside the pixels that this installation cannot make.
        now: the second, as JSON has it.
    """
    largest: dict[str, float] = {}
    differences = []
    first, second = _compared(recorded, now), _compared(now, now)
    for field, one, other in _leaves("", first, second):
        tolerance = _tolerance(field)
        size = _distance(one, other)
        if size is not None and tolerance is not None:
            largest[tolerance.quantity] = max(largest.get(tolerance.quantity, 0.0), size)
        if size is None or size > (_EQUAL if tolerance is None else tolerance.most):
            most = None if size is None else _EQUAL if tolerance is None else tolerance.most
            differences.append(Difference(field, one, other, size, most))
    return Comparison(tuple(differences), largest)


def _compared(report: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """What is compared of a report, `now` being the second of the two."""
    kept = {name: value for name, value in report.items() if name not in NOT_COMPARED}
    if kept.get("media") is not None:
        kept["media"] = {name: value for name, value in kept["media"].items() if name != "modified"}
    unmade = {one["check"] for one in now.get("findings", ()) if one["outcome"] == "not_checked"}
    if "findings" in kept:
        kept["findings"] = [one for one in kept["findings"] if one["check"] not in unmade]
    return kept


def _leaves(field: str, one: Any, other: Any) -> Iterator[tuple[str, Any, Any]]:
    """The pairs of values that have to agree, with their places; of equal ones the numbers alone."""
    name = field.rpartition(".")[2]
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        for key, value in one.items():
            if key in _GRIDS and value is None:
                continue
            yield from _leaves(f"{field}.{key}" if field else key, value, other.get(key))
    elif name == "values" and _shape(one) is not None and _shape(one) == _shape(other):
        yield field, one, other
    elif isinstance(one, Sequence) and isinstance(other, Sequence) and not isinstance(one, str):
        if len(one) != len(other):
            yield f"{field}, how many", len(one), len(other)
            return
        for number, (first, second) in enumerate(zip(one, other, strict=True)):
            yield from _leaves(f"{field}.{number}", first, second)
    elif one != other or (isinstance(one, float) and isinstance(other, float)):
        yield field, one, other


def _shape(grid: Any) -> tuple[int, ...] | None:
    try:
        return np.shape(grid)
    except ValueError:  # rows of different lengths
        return None


def _tolerance(field: str) -> Tolerance | None:
    """That of the innermost name of a place that has one: of "faces.0.box.2" that of boxes."""
    return next((_BY_NAME[name] for name in reversed(field.split(".")) if name in _BY_NAME), None)


def _distance(one: Any, other: Any) -> float | None:
    """How far two numbers, or the farthest of two grids, are apart; None if either is none."""
    if isinstance(one, bool) or isinstance(other, bool) or (isinstance(one, int) and isinstance(other, int)):
        return 0.0 if one == other else None
    if isinstance(one, float | int) and isinstance(other, float | int):
        return abs(one - other)
    if isinstance(one, list) and isinstance(other, list):
        return float(np.abs(np.asarray(one, float) - np.asarray(other, float)).max(initial=0.0))
    return None
