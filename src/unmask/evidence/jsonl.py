"""Reports as JSON Lines: one a line, each written at once, so that an interrupted run loses nothing it has finished.

The file is UTF-8. File names that are not are written with `report.escape_surrogates`. It is locked while it is open:
two runs never write into one file.
"""

import json
import os
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from unmask.errors import DataError
from unmask.evidence.report import SCHEMA_VERSION, Case, PackUse, Report, Verdict
from unmask.records import RecordFile, record_file

# `schema_version` is the first field of every report, so every line begins like this.
_BEGINNING = b'{"schema_version"'
_NEWEST = tuple(map(int, SCHEMA_VERSION.split(".")))
_OPTIONS = {"frames_per_second": "--fps"}
# Which packs took part is compared by the packs themselves: a folder has many names.
_NAMES_OF_PACKS = frozenset({"pack", "face_pack", "edit_pack"})

# Seconds. What was written is safe from a kill at once; from a power cut, after this time. To wait for the disk after
# every line would take longer than to inspect a small picture.
SYNC_EVERY = 2.0

Done = set[tuple[str, str | None]]
Settings = dict[str, str]


def settings_of(options: Mapping[str, Any], packs: Sequence[PackUse], case: Case | None = None) -> Settings:
    """What decides how a report comes out, by the names that the command line has for it.

    Args:
        options: as `Report.tool.options`.
        packs: as `Report.packs`.
        case: as `Report.case`.
    """
    settings = {_OPTIONS.get(name, name): f"{value}" for name, value in options.items() if name not in _NAMES_OF_PACKS}
    if case is not None:
        settings["--case"] = ", ".join(
            f"{name} {value!r}" for name, value in case.model_dump(exclude_none=True).items()
        )
    settings["packs"] = ", ".join(f"{pack.name} {pack.version} ({pack.sha256[:8]})" for pack in packs)
    return settings


def place_of(path: str) -> str:
    """One spelling for all that a path has: absolute, links of folders followed; "-", standard input, is kept."""
    if path == "-":
        return path
    folder, name = os.path.split(os.path.abspath(path))  # noqa: PTH100 (a path to show, perhaps with characters replaced)
    return os.path.normcase(os.path.join(os.path.realpath(folder), name))  # noqa: PTH118


class JsonLines:
    """Writer of reports to a file, or to standard output for "-"; a context manager.

    With `resume`, an existing file is continued, and a last line torn by a kill is cut off. Without, it is overwritten.

    Attributes:
        done: (`place_of` the path, sha256 or None) of every report in the file that is continued.
        verdicts: by `place_of` the path, the verdict of the last report on it in that file.
        versions: the versions of unmask that made it.

    Args:
        target: the file, or "-".
        resume: continue the file if there is one.
        settings: of this run, as `settings_of` gives them. A file with reports made otherwise is not continued.

    Raises (on entering):
        DataError: the file cannot be written, is not ours to continue, was made with other settings, is being written
            by another run, or `resume` was asked of standard output.
    """

    def __init__(self, target: str | Path, *, resume: bool = False, settings: Settings | None = None) -> None:
        self.target = str(target)
        self.resume = resume
        self.done: Done = set()
        self.verdicts: dict[str, Verdict] = {}
        self.versions: set[str] = set()
        self._settings = settings
        self._intact = 0
        self._record: RecordFile | None = None
        self._resources = ExitStack()
        self._synced = 0.0

    def __enter__(self) -> Self:
        with ExitStack() as resources:
            self._record = self._open(resources)
            self._resources = resources.pop_all()
        self._synced = time.monotonic()
        return self

    def _open(self, resources: ExitStack) -> RecordFile:
        path = Path(self.target)
        if self.target == "-":
            if self.resume:
                raise DataError("nothing to resume from on standard output: give --json a file")
            sys.stdout.flush()
            stream = FileIO(sys.stdout.fileno(), "wb", closefd=False)
            return RecordFile(path, stream, piped=True)  # what others wrote there before is not ours to cut
        try:
            busy = "another run is writing this file; wait for it, or give another name"
            record = resources.enter_context(record_file(path, busy))
            if self.resume:
                self._read_finished(record)
            record.cut(self._intact)
        except OSError as error:
            raise DataError(f"{path}: cannot write the JSON lines ({error.strerror}): give a writable file") from error
        return record

    def _read_finished(self, record: RecordFile) -> None:
        if not _BEGINNING.startswith(record.head(len(_BEGINNING))):
            raise _not_ours(record.path, 1)
        for number, line in enumerate(record.lines(), start=1):
            finished = _parsed(record.path, number, line)
            if self._settings not in (None, finished.settings):
                raise DataError(_difference(record.path, number, finished.settings, self._settings or {}))
            self.done.add((finished.place, finished.sha256))
            self.verdicts[finished.place] = finished.verdict
            self.versions.add(finished.version)
            self._intact += len(line)

    def finished(self) -> Iterator[Report]:
        """The reports that a continued file held when it was opened, in their order; before any is written."""
        for line in self._open_record().lines(self._intact):
            yield Report.model_validate_json(line)

    def write(self, report: Report) -> None:
        """Write one report, unbuffered.

        Raises:
            DataError: it cannot be written, say because the disk is full. The file then ends with the last whole line.
        """
        record = self._open_record()
        try:
            record.append(report.model_dump_json().encode("utf-8") + b"\n")
            if time.monotonic() - self._synced > SYNC_EVERY:
                record.sync()
                self._synced = time.monotonic()
        except BrokenPipeError:  # whoever read our output has seen enough
            raise
        except OSError as error:
            raise self._unwritable(error) from error

    def _open_record(self) -> RecordFile:
        if self._record is None:
            raise RuntimeError("JsonLines is used inside its with block")
        return self._record

    def _unwritable(self, error: OSError) -> DataError:
        place, remedy = self.target, "make room and run again with --resume, which keeps what is finished"
        if self.target == "-":
            place, remedy = "standard output", "make room and run again"
        return DataError(f"{place}: cannot write the JSON lines ({error.strerror}): {remedy}")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        record, self._record = self._record, None
        with self._resources:
            try:
                if record is not None:
                    record.sync()
            except OSError as failure:
                if kind is None:  # else there is an error to tell already
                    raise self._unwritable(failure) from failure


@dataclass(frozen=True)
class _Finished:
    """What matters of a report that is done."""

    place: str
    sha256: str | None
    verdict: Verdict
    version: str
    settings: Settings


def _parsed(path: Path, number: int, line: bytes) -> _Finished:
    """The report on a line, not validated in full: a file may hold very many."""
    try:
        report = json.loads(line)
        tool, packs = report["tool"], [PackUse.model_validate(pack) for pack in report["packs"]]
        if not report["schema_version"].startswith("1.") or tool["name"] != "unmask":
            raise ValueError("of another program or version")
        case = None if report.get("case") is None else Case.model_validate(report["case"])
        settings = settings_of(tool["options"], packs, case)
        verdict = Verdict(report["verdict"])
        return _Finished(place_of(report["path"]), report["sha256"], verdict, tool["version"], settings)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _not_ours(path, number) from error


def read_reports(path: Path) -> Iterator[tuple[dict[str, Any], Report]]:
    """The reports of a file that `--json` wrote, each as the file has it and as `Report`.

    Args:
        path: JSON lines; one report alone need not end with a line end.

    Raises:
        DataError: it cannot be read, holds no report, or something else than reports.
    """
    try:
        with path.open("rb") as lines:
            yield from parsed_reports(path, lines)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}): give a file that --json wrote") from error


def parsed_reports(path: Path, lines: Iterable[bytes]) -> Iterator[tuple[dict[str, Any], Report]]:
    """The reports on the lines of a file, see `read_reports`; `path` is for messages."""
    number = 0
    for number, line in enumerate(lines, start=1):
        try:
            raw = json.loads(line)
            if isinstance(raw, dict) and _is_newer(raw.get("schema_version")):
                raise DataError(
                    f"{path}: line {number} has schema {raw['schema_version']}, and this version of unmask reads "
                    f"{SCHEMA_VERSION} at most: use a newer one"
                )
            yield raw, Report.model_validate(raw)
        except ValueError as error:
            raise _not_a_report(path, number) from error
    if not number:
        raise DataError(f"{path}: is empty: give a file that --json wrote")


def _is_newer(version: Any) -> bool:
    parts = str(version).split(".")
    return len(parts) == 2 and all(map(str.isdigit, parts)) and tuple(map(int, parts)) > _NEWEST


def _not_a_report(path: Path, number: int) -> DataError:
    return DataError(
        f"{path}: line {number} is not a report of unmask inspect: give a file that --json wrote, unaltered and whole"
    )


def _difference(path: Path, number: int, made: Settings, wanted: Settings) -> str:
    names = [name for name in made | wanted if made.get(name) != wanted.get(name)]
    listed = "; ".join(f"{name} {made.get(name, 'not said')}, now {wanted.get(name, 'not said')}" for name in names)
    return (
        f"{path}: line {number} was made with {listed}: give --resume the same options, or another file name to start "
        "anew"
    )


def _not_ours(path: Path, number: int) -> DataError:
    return DataError(
        f"{path}: line {number} is not a report of unmask inspect: give --resume a file written by --json, "
        "or another file name to start anew"
    )
