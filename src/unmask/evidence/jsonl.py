"""Reports as JSON Lines: one a line, each written at once, so that an interrupted run loses nothing it has finished.

The file is UTF-8. File names that are not are written with `report.escape_surrogates`.
"""

import json
import sys
from contextlib import suppress
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Self

from unmask.errors import DataError
from unmask.evidence.report import Report

# `schema_version` is the first field of every report, so every line begins like this.
_BEGINNING = b'{"schema_version"'

Done = set[tuple[str, str | None]]


class JsonLines:
    """Writer of reports to a file, or to standard output for "-"; a context manager.

    With `resume`, an existing file is continued: `done` then holds (path as written, sha256 or None) of every report in
    it, and a last line torn by a kill is cut off. Without, it is overwritten.

    Raises (on entering):
        DataError: the file cannot be written, is not ours to continue, or `resume` was asked of standard output.
    """

    def __init__(self, target: str | Path, *, resume: bool = False) -> None:
        self.target = str(target)
        self.resume = resume
        self.done: Done = set()
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
            if self.resume and path.exists():
                self.done, intact = _read(path)
                self._stream = path.open("r+b", buffering=0)
                self._stream.truncate(intact)
                self._stream.seek(0, 2)
            else:
                self._stream = path.open("wb", buffering=0)
        except OSError as error:
            raise DataError(f"{path}: cannot write the JSON lines ({error.strerror}): give a writable file") from error
        return self

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
        if self._stream is not None:
            self._stream.close()  # but for standard output, which is not ours to close
        self._stream = None


def read_done(path: Path) -> Done:
    """(path as written, sha256 or None) of every complete report in a JSON Lines file; the file is not changed.

    Raises:
        DataError: the file cannot be read, or is not a file of reports.
    """
    try:
        return _read(path)[0]
    except OSError as error:
        raise DataError(f"{path}: cannot read it ({error.strerror})") from error


def _read(path: Path) -> tuple[Done, int]:
    """The reports of a file, and the number of bytes up to which it is intact."""
    done: Done = set()
    intact = 0
    with path.open("rb") as stream:
        beginning = stream.read(len(_BEGINNING))
        if not _BEGINNING.startswith(beginning):
            raise _not_ours(path, 1)
        stream.seek(0)
        for number, line in enumerate(stream, start=1):
            # Every line that we finished ends in a newline, so only the last can lack it.
            if not line.endswith(b"\n"):
                break
            done.add(_key(path, number, line))
            intact += len(line)
    return done, intact


def _key(path: Path, number: int, line: bytes) -> tuple[str, str | None]:
    try:
        report = json.loads(line)
        key = (report["path"], report["sha256"])
        ours = report["schema_version"].startswith("1.") and report["tool"]["name"] == "unmask"
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _not_ours(path, number) from error
    if not ours:
        raise _not_ours(path, number)
    return key


def _not_ours(path: Path, number: int) -> DataError:
    return DataError(
        f"{path}: line {number} is not a report of unmask inspect: give --resume a file written by --json, "
        "or another file name to start anew"
    )
