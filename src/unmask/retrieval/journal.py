"""What a build keeps of its work while it goes on: a journal that a kill cannot break, and the table of its files."""

import hashlib
import os
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from io import FileIO
from itertools import islice
from pathlib import Path

import numpy as np

from unmask.errors import DataError
from unmask.records import RecordFile
from unmask.retrieval.index import FILE, JOURNAL, IndexedFile

JOURNAL_VECTORS = "journal.f32"


@dataclass(frozen=True)
class Settings:
    """What one index is of, and made with."""

    photos: str
    pack: str
    pack_sha256: str


class Table:
    """A table of files that grows by lines; seven numbers a file."""

    def __init__(self) -> None:
        self._columns = {name: array("Q" if FILE[name].kind == "u" else "q") for name in FILE.names or ()}
        self.rows = 0

    def __len__(self) -> int:
        return len(self._columns["place"])

    def add(self, file: IndexedFile, place: int) -> None:
        """Add a file whose line begins at `place`."""
        state = state_of(file.path, file.size, file.modified)
        content = int(file.sha256[:16], 16) if file.sha256 else state  # a file that was not read is like no other
        entry = (place, _hash(file.path), state, content, self.rows, file.rows)
        for column, value in zip(self._columns.values(), entry, strict=True):
            column.append(value)
        self.rows += file.rows

    def entries(self) -> np.ndarray:
        """All of it, of dtype `FILE`."""
        entries = np.empty(len(self), FILE)
        for name, column in self._columns.items():
            entries[name] = column
        return entries


class Journal:
    """What builds have embedded since the last generation."""

    def __init__(self, record: RecordFile, vectors: FileIO, dimension: int, settings: Settings, folder: Path) -> None:
        self._record, self._vectors, self.dimension = record, vectors, dimension
        self.path = folder / JOURNAL_VECTORS
        self.table = Table()
        self._mark = f"{settings.photos}\n{settings.pack_sha256}"
        self._size = self._resume(folder)

    def _resume(self, folder: Path) -> int:
        """Take up what is whole, and cut off the rest."""
        lines = self._record.lines()
        head = next(lines, None)
        kept = 0
        if head is not None:
            kept = len(head)
            stored = self.path.stat().st_size // (4 * self.dimension)
            for line in lines:
                if head != self._head():
                    raise DataError(
                        f"{folder}: a build was begun there with another model or another folder of photos: give the "
                        f"same, or remove {folder / JOURNAL}"
                    )
                try:
                    file = IndexedFile.parsed(line)
                except (ValueError, TypeError) as error:
                    raise DataError(f"{folder / JOURNAL}: damaged; remove it to begin anew") from error
                if self.table.rows + file.rows > stored:  # the disk kept the line and lost the vectors
                    break
                self.table.add(file, kept)
                kept += len(line)
            if head != self._head():  # nothing was embedded
                kept = 0
        self._record.cut(kept)
        os.truncate(self.path, 4 * self.dimension * self.table.rows)
        if not kept:
            self._record.append(self._head())
            kept = len(self._head())
        return kept

    def _head(self) -> bytes:
        digest = hashlib.sha256(self._mark.encode("utf-8", "surrogateescape")).hexdigest()
        return b'{"settings": "%s"}\n' % digest.encode("ascii")

    def append(self, file: IndexedFile, vectors: np.ndarray) -> None:
        """Keep a file and its vectors, float32 (rows, D)."""
        if len(vectors):
            _write_all(self._vectors, vectors.astype("<f4").tobytes())
        line = file.line()
        self._record.append(line)
        self.table.add(file, self._size)
        self._size += len(line)

    def lines(self, taken: np.ndarray) -> Iterator[bytes]:
        """The lines of some files by their numbers, ascending."""
        wanted = np.zeros(len(self.table), bool)
        wanted[taken] = True
        for line, is_wanted in zip(islice(self._record.lines(), 1, None), wanted, strict=True):
            if is_wanted:
                yield line

    def vectors(self) -> np.ndarray:
        """All vectors, float32 (rows, D), mapped."""
        if not self.table.rows:
            return np.empty((0, self.dimension), np.float32)
        return np.memmap(self.path, "<f4", "r", shape=(self.table.rows, self.dimension))

    def clear(self) -> None:
        """Forget all: it is part of a generation now."""
        self._record.cut(0)
        os.truncate(self.path, 0)


class Lookup:
    """Where a hash stands in a column, by bisection."""

    def __init__(self, hashes: np.ndarray) -> None:
        self._order = np.argsort(hashes, kind="stable")
        self._sorted = hashes[self._order]

    def number(self, value: int) -> int | None:
        """The first place of a hash; None if it is not there."""
        place = int(np.searchsorted(self._sorted, np.uint64(value)))
        if place < len(self._sorted) and int(self._sorted[place]) == value:
            return int(self._order[place])
        return None


def _write_all(stream: FileIO, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[stream.write(rest) or 0 :]


def state_of(name: str, size: int, modified: int) -> int:
    """What tells whether a file is as it was: a hash of its path below the folder, its size, its time of change."""
    return _hash(f"{name}\0{size}\0{modified}")


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")
