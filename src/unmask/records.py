"""Append-only files of JSON lines: one record a line, one writer, and nothing lost that was written before a kill.

A line that a kill cut short is recognised by its missing line end and cut off before the next is written.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path

from unmask.errors import DataError
from unmask.files import lock


class RecordFile:
    """An open file of records, locked for this writer.

    Attributes:
        path: its name.
        piped: whether it is a pipe or a device, or is taken for one: nothing can be read back, nothing cut off.
    """

    def __init__(self, path: Path, stream: FileIO, *, piped: bool = False) -> None:
        self.path, self._stream = path, stream
        self.piped = piped or not stat.S_ISREG(os.fstat(stream.fileno()).st_mode)

    def head(self, size: int) -> bytes:
        """The first bytes, at most so many, whether their line is whole or not."""
        if self.piped:
            return b""
        self._stream.seek(0)
        return self._stream.read(size) or b""

    def lines(self, end: int | None = None) -> Iterator[bytes]:
        """The whole lines from the front, each with its line end; a torn last one is left out.

        They are read through the writer's own handle: elsewhere than on POSIX a second one would meet the lock.

        Args:
            end: where to stop, in bytes from the front; the end of the file if left out.
        """
        place, rest = 0, b""
        while not self.piped and (end is None or place < end):
            self._stream.seek(place)
            block = self._stream.read(1 << 20 if end is None else min(1 << 20, end - place))
            if not block:
                return
            place += len(block)
            *whole, rest = (rest + block).split(b"\n")
            for line in whole:
                yield line + b"\n"

    def rest(self, place: int) -> bytes:
        """What stands behind a place, in bytes from the front: behind the whole lines, what is left of a torn one."""
        if self.piped:
            return b""
        self._stream.seek(place)
        return self._stream.readall()

    def cut(self, size: int) -> None:
        """Cut the file to `size` bytes: 0 to begin anew, the sum of its whole lines to mend a torn one."""
        if not self.piped:
            self._stream.truncate(size)
            self._stream.seek(0, os.SEEK_END)

    def append(self, line: bytes) -> None:
        """Write one line, which ends with a line end, unbuffered.

        Raises:
            OSError: it cannot be written; the file then ends with the last whole line, or with a torn one that the
                next writer cuts off.
        """
        done, rest = 0, memoryview(line)
        try:
            while done < len(line):
                done += self._stream.write(rest[done:]) or 0
        except OSError:
            if done and not self.piped:
                with suppress(OSError):
                    self._stream.truncate(self._stream.seek(0, os.SEEK_END) - done)
            raise

    def sync(self) -> None:
        """Have the system write what it holds of the file to the disk."""
        if not self.piped:
            os.fsync(self._stream.fileno())


@contextmanager
def record_file(path: Path, busy: str) -> Iterator[RecordFile]:
    """Open a file of records to append to; made if it is not there. What it holds is kept until `cut` is called.

    Args:
        path: of the file, a pipe or a device.
        busy: what to say where another writer has it.

    Raises:
        DataError: another writer has it.
        OSError: it cannot be opened for writing.
    """
    piped = path.exists() and not path.is_file()
    with path.open("wb" if piped else "a+b", buffering=0) as stream:
        if not lock(stream):
            raise DataError(f"{path}: {busy}")
        yield RecordFile(path, stream)
