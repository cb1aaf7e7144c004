"""Reports as rows: one a file and one a face, for CSV files, databases and data frames."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, Self

from unmask.errors import DataError, UnmaskError
from unmask.evidence.likelihood import REFUSAL_REMEDIES, lr_text
from unmask.evidence.report import Report, Verdict

if TYPE_CHECKING:
    from pandas import DataFrame

Row = dict[str, str | int | float | None]


def _columns(names: str) -> dict[str, type]:
    kinds = {"text": str, "int": int, "real": float}
    return {name: kinds[kind] for name, kind in (word.split(":") for word in names.split())}


FILE_COLUMNS = _columns(
    "path:text sha256:text kind:text format:text bytes:int width:int height:int duration:real verdict:text "
    "support:text lr:text log10_lr:real score:real faces:int judged_faces:int refusal:text reason:text remedy:text "
    "synthetic_mark:text notable:text identical_to:text warnings:text packs:text version:text"
)
"""The columns of a file's row and their types. Each may be empty but `path`, `verdict`, `faces` and `judged_faces`."""

FACE_COLUMNS = _columns(
    "path:text sha256:text face:int x:real y:real box_width:real box_height:real time:real quality:real condition:text "
    "verdict:text support:text lr:text log10_lr:real score:real refusal:text reason:text remedy:text edits:text "
    "frames_seen:int frames_scored:int stretch_start:real stretch_end:real remarks:text"
)
"""The columns of a face's row; `face` counts from 1, as tables and pages do, `time` is in seconds."""


def file_row(report: Report) -> Row:
    """The row of a file, by `FILE_COLUMNS`."""
    media = report.media
    return {
        "path": report.path,
        "sha256": report.sha256,
        "kind": report.kind,
        "format": None if media is None else media.format,
        "bytes": None if media is None else media.bytes,
        "width": None if media is None else media.width,
        "height": None if media is None else media.height,
        "duration": None if media is None else media.duration,
        **_judged(report),
        "faces": len(report.faces),
        "judged_faces": sum(face.verdict is not Verdict.REFUSED for face in report.faces),
        "synthetic_mark": None if media is None else media.synthetic_mark,
        "notable": "; ".join(f"{one.check}: {one.statement}" for one in report.findings if one.outcome == "notable")
        or None,
        "identical_to": report.identical_to,
        "warnings": "; ".join(media.warnings) if media and media.warnings else None,
        "packs": ", ".join(f"{pack.name} {pack.version}" for pack in report.packs),
        "version": report.tool.version,
    }


def face_rows(report: Report) -> list[Row]:
    """The rows of a file's faces, by `FACE_COLUMNS`."""
    rows: list[Row] = []
    for face in report.faces:
        edits = face.sequence and face.sequence.best and face.sequence.best.edits
        x, y, width, height = face.box
        rows.append(
            {
                "path": report.path,
                "sha256": report.sha256,
                "face": face.index + 1,
                "x": x,
                "y": y,
                "box_width": width,
                "box_height": height,
                "time": face.time,
                "quality": face.quality.unified,
                "condition": face.condition,
                **_judged(face),
                "edits": " > ".join(edits) if edits else None,
                "frames_seen": face.frames_seen,
                "frames_scored": face.frames_scored,
                "stretch_start": None if face.stretch is None else face.stretch.start,
                "stretch_end": None if face.stretch is None else face.stretch.end,
                "remarks": ", ".join(remark.code for remark in face.remarks) or None,
            }
        )
    return rows


def _judged(judged: Any) -> Row:
    why = judged.refusal or judged.inconclusive
    remedy = None if judged.refusal is None else REFUSAL_REMEDIES[judged.refusal.code]
    return {
        "verdict": judged.verdict.value,
        "support": judged.support,
        "lr": None if judged.log10_lr is None else lr_text(judged.log10_lr),
        "log10_lr": judged.log10_lr,
        "score": judged.score,
        "refusal": None if judged.refusal is None else judged.refusal.code.value,
        "reason": None if why is None else why.message,
        "remedy": remedy if judged.inconclusive is None else judged.inconclusive.remedy,
    }


def face_frame(report: Report) -> "DataFrame":
    """A data frame with a row a face; of a file without faces with one row, which has the file's verdict and refusal.

    Args:
        report: of one file.

    Returns:
        The columns `FACE_COLUMNS`; those of a face are missing (NA) where there is none.

    Raises:
        UnmaskError: pandas is not installed.
    """
    try:
        import pandas
    except ModuleNotFoundError as error:
        raise UnmaskError("a data frame needs pandas: pip install pandas") from error
    rows = face_rows(report)
    if not rows:
        rows = [dict.fromkeys(FACE_COLUMNS) | {"path": report.path, "sha256": report.sha256} | _judged(report)]
    kinds = {str: "string", int: "Int64", float: "Float64"}
    return pandas.DataFrame(
        {name: pandas.array([row[name] for row in rows], dtype=kinds[kind]) for name, kind in FACE_COLUMNS.items()}
    )


class CsvReport:
    """Writes a row a file to a CSV file (RFC 4180, UTF-8) as it is finished; a context manager.

    A file that is there is replaced: see that it may be (`is_csv_report`).

    Raises (on entering and writing):
        DataError: it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stream: IO[str] | None = None

    def __enter__(self) -> Self:
        try:
            self._stream = self.path.open("w", newline="", encoding="utf-8")
        except OSError as error:
            raise self._unwritable(error) from error
        self._write(list(FILE_COLUMNS))
        return self

    def add(self, report: Report) -> None:
        """Write the row of one file."""
        row = file_row(report)
        if report.path != "-" and report.path.startswith(("=", "+", "-", "@")):
            row["path"] = f"./{report.path}"  # the same file, but no formula to a spreadsheet
        self._write(["" if row[name] is None else str(row[name]) for name in FILE_COLUMNS])

    def _write(self, cells: Sequence[str]) -> None:
        assert self._stream is not None
        try:
            self._stream.write(_csv_line(cells))
            self._stream.flush()
        except OSError as error:
            raise self._unwritable(error) from error

    def _unwritable(self, error: OSError) -> DataError:
        return DataError(f"{self.path}: cannot write the CSV file ({error.strerror}): give a writable file")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._stream is not None:
            self._stream.close()


def _csv_line(cells: Sequence[str]) -> str:
    text = io.StringIO()
    csv.writer(text).writerow(cells)
    return text.getvalue()


def is_csv_report(path: Path) -> bool:
    """Whether a file was written by `CsvReport`.

    Raises:
        OSError: it cannot be read.
    """
    head = _csv_line(list(FILE_COLUMNS)).encode()
    with path.open("rb") as stream:
        return stream.read(len(head)) == head
