"""The records that a case is about, with columns of the register beside them, and as a table for other programs."""

import csv
from collections.abc import Sequence
from pathlib import Path

from unmask.files import begins_with, whole
from unmask.tracing.case.investigation import Investigation
from unmask.tracing.registers.tables import values_of
from unmask.tracing.report.trace_report import CandidateFinding, TraceReport

_HEADS = ("id", "probability", "log10_lr")
_MOST = 1_000_000  # records that are written


def with_columns(report: TraceReport, register: str, identifier: str, columns: Sequence[str]) -> TraceReport:
    """The report with what the register has of each candidate in some columns.

    Args:
        report: of a case.
        register: its register, as it was opened.
        identifier: its column of identifiers.
        columns: to be shown.

    Raises:
        DataError: the register can no longer be read.
    """
    candidates = _shown(report.candidates, register, identifier, columns)
    return report.model_copy(update={"candidates": candidates})


def _shown(
    candidates: Sequence[CandidateFinding], register: str, identifier: str, columns: Sequence[str]
) -> tuple[CandidateFinding, ...]:
    if not columns or not candidates:
        return tuple(candidates)
    values = values_of(register, identifier, [one.id for one in candidates], columns)
    return tuple(one.model_copy(update={"shown": values[one.id]}) for one in candidates)


def write_candidates(
    inquiry: Investigation, report: TraceReport, register: str, columns: Sequence[str], path: Path
) -> None:
    """Write the candidates of a report, and all records that fit as well as the best, likeliest first; CSV.

    Args:
        inquiry: the case.
        report: of it, which lists some of the candidates.
        register: its register, as it was opened.
        columns: of the register, written beside each.
        path: of the file.

    Raises:
        DataError: it cannot be written, or the register can no longer be read.
    """
    tied = inquiry.tied(_MOST)
    first = {one.id for one in tied}
    others = [one for one in report.candidates if one.id not in first]
    listed = _shown([*tied, *others], register, inquiry.register.dictionary.id, columns)
    with whole(path) as part, part.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow([*_HEADS, *columns])
        for one in listed:
            values = (one.shown[name] or "" for name in columns)
            writer.writerow([one.id, f"{one.probability:.6g}", f"{one.log10_lr:.4f}", *values])


def is_candidates(path: Path) -> bool:
    """Whether a file is a table of `write_candidates`.

    Raises:
        OSError: it cannot be read.
    """
    return begins_with(path, ",".join(_HEADS).encode(), within=40)
