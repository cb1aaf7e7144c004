"""Reports as JSON Lines: one a line, each written at once, so that an interrupted run loses nothing it has finished.

The file is UTF-8. File names that are not are written with `report.escape_surrogates`. It is locked while it is open:
two runs never write into one file.
"""

import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from unmask.errors import DataError
from unmask.evidence.report import PackUse, Report
from unmask.files import lock

# `schema_version` is the first field of every report, so every line begins like this.
_BEGINNING = b'{"schema_version"'
_OPTIONS = {"frames_per_second": "--fps"}
# Which packs took part is compared by the packs themselves: a folder has many names.
_NAMES_OF_PACKS = frozenset({"pack", "face_pack", "edit_pack"})

Done = set[tuple[str, str | None]]
Settings = dict[str, str]


def settings_of(options: Mapping[str, Any], packs: Sequence[PackUse]) -> Settings:
    """What decides how a report comes out, by the names that the command line has for it.

    Args:
        options: as `Report.tool.options`.
        packs: as `Report.packs`.
    """
    settings = {_OPTIONS.get(name, name): f"{value}" for name, value in options.items() if name not in _NAMES_OF_PACKS}
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
        self.versions: set[str] = set()
        self._settings = settings
        self._intact = 0
        self._stream: FileIO | None = None

    def __enter__(self) -> Self:
        if self.target == "-":
            if self.resume:
                raise DataError("nothing to resume from on standard output: give --json a file")
            sys.stdout.flush()
            self._stream = open(sys.stdout.fileno(), "wb", buffering=0, closefd=False)
            return self
        path = Path(self.target)
        try:
            piped = path.exists() and not path.is_file()
            # For a file not "wb": nothing is cut off before the lock is ours.
            self._stream = path.open("wb" if piped else "ab", buffering=0)
            if not lock(self._stream):
                raise DataError(f"{path}: another run is writing this file; wait for it, or give another name")
            if self.resume:
                self._read_finished(path)
            if not piped:
                self._stream.truncate(self._intact)
        except OSError as error:
            self._close()
            raise DataError(f"{path}: cannot write the JSON lines ({error.strerror}): give a writable file") from error
        except BaseException:
            self._close()
            raise
        return self

    def _read_finished(self, path: Path) -> None:
        for number, line in _lines(path):
            finished = _parsed(path, number, line)
            if self._settings not in (None, finished.settings):
                raise DataError(_difference(path, number, finished.settings, self._settings or {}))
            self.done.add((finished.place, finished.sha256))
            self.versions.add(finished.version)
            self._intact += len(line)

    def finished(self) -> Iterator[Report]:
        """The reports that a continued file held when it was opened, in their order."""
        size = 0
        for _, line in _lines(Path(self.target)):
            size += len(line)
            if size > self._intact:
                return
            yield Report.model_validate_json(line)

    def write(self, report: Report) -> None:
        """Write one report, unbuffered.

        Raises:
            DataError: it cannot be written, say because the disk is full. The file then ends with the last whole line.
        """
        if self._stream is None:
            raise RuntimeError("JsonLines is written to inside its with block")
        line = memoryview(report.model_dump_json().encode("utf-8") + b"\n")
        done = 0
        try:
            while done < len(line):
                done += self._stream.write(line[done:]) or 0
        except BrokenPipeError:  # whoever read our output has seen enough
            raise
        except OSError as error:
            if done and self.target != "-":
                with suppress(OSError):  # at worst the last line stays torn, which --resume mends
                    self._stream.truncate(self._stream.tell() - done)
            raise DataError(
                f"standard output: cannot write the JSON lines ({error.strerror}): make room and run again"
                if self.target == "-"
                else f"{self.target}: cannot write the JSON lines ({error.strerror}): make room and run again with "
                "--resume, which keeps what is finished"
            ) from error

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def _close(self) -> None:
        if self._stream is not None:
            self._stream.close()  # but for standard output, which is not ours to close
        self._stream = None


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """The complete lines of a file with their numbers, from 1."""
    with path.open("rb") as stream:
        beginning = stream.read(len(_BEGINNING))
        if not _BEGINNING.startswith(beginning):
            raise _not_ours(path, 1)
        stream.seek(0)
        for number, line in enumerate(stream, start=1):
            # Every line that we finished ends in a newline, so only the last can lack it.
            if not line.endswith(b"\n"):
                return
            yield number, line


@dataclass(frozen=True)
class _Finished:
    """What matters of a report that is done."""

    place: str
    sha256: str | None
    version: str
    settings: Settings


def _parsed(path: Path, number: int, line: bytes) -> _Finished:
    """The report on a line, not validated in full: a file may hold very many."""
    try:
        report = json.loads(line)
        tool, packs = report["tool"], [PackUse.model_validate(pack) for pack in report["packs"]]
        if not report["schema_version"].startswith("1.") or tool["name"] != "unmask":
            raise ValueError("of another program or version")
        return _Finished(
            place_of(report["path"]), report["sha256"], tool["version"], settings_of(tool["options"], packs)
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _not_ours(path, number) from error


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
