"""Identical files are judged once: the others get the answer of the first, and say so.

Only files of equal length are compared, by their SHA-256, so that a folder without duplicates costs nothing. Of the
last `REMEMBERED` files the answers are kept, compressed; memory does not grow with the folder, and a duplicate of a
file longer ago is judged anew.
"""

import zlib
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from unmask.errors import Refused
from unmask.evidence.report import Report, Verdict
from unmask.inspection.inspector import Inspection, Inspector, examine_safely, time_of_change
from unmask.media.intake import open_regular_file
from unmask.media.sources import Source
from unmask.provenance import sha256_of_stream

REMEMBERED = 1000  # files

_Item = TypeVar("_Item")


@dataclass
class _Seen:
    path: str
    file: Path
    sha256: str | None = None
    report: bytes = b""


@dataclass
class Duplicates:
    """Takes duplicates out of a stream of sources, and puts their reports into the stream of results."""

    inspector: Inspector
    _by_length: dict[int, list[_Seen]] = field(default_factory=dict)
    _kept: deque[tuple[int, _Seen]] = field(default_factory=deque)
    _unanswered: dict[int, _Seen] = field(default_factory=dict)
    _waiting: deque[tuple[int, Source, _Seen]] = field(default_factory=deque)
    _given: int = 0

    def distinct(self, sources: Iterable[_Item]) -> Iterator[_Item]:
        """The sources without those whose bytes are those of an earlier one."""
        for source in sources:
            first = self._first(source) if isinstance(source, Source) and source.file is not None else None
            if first is not None and isinstance(source, Source):
                self._waiting.append((self._given, source, first))
            else:
                self._given += source is not None
                yield source

    def restored(self, results: Iterable[Inspection]) -> Generator[Inspection, None, None]:
        """The results with those of the duplicates, in the order of the sources."""
        number = 0
        for result in results:
            yield from self._due(number)
            self._remember(number, result.report)
            yield result
            del result  # it may hold many pictures
            number += 1
        yield from self._due(number)

    def _first(self, source: Source) -> _Seen | None:
        assert source.file is not None
        try:
            with open_regular_file(source.file) as stream:
                length = stream.seek(0, 2)
                others = self._by_length.get(length, [])
                stream.seek(0)
                own = _Seen(source.path, source.file, sha256_of_stream(stream) if others else None)
            for other in others:
                if other.sha256 is None:
                    with open_regular_file(other.file) as stream:
                        other.sha256 = sha256_of_stream(stream)
                if other.sha256 == own.sha256:
                    return other
        except (OSError, Refused):  # whoever inspects it will say so
            return None
        self._by_length.setdefault(length, []).append(own)
        self._kept.append((length, own))
        self._unanswered[self._given] = own
        if len(self._kept) > REMEMBERED:
            old_length, old = self._kept.popleft()
            self._by_length[old_length].remove(old)
            if not self._by_length[old_length]:
                del self._by_length[old_length]
        return None

    def _remember(self, number: int, report: Report) -> None:
        if number in self._unanswered:
            self._unanswered.pop(number).report = zlib.compress(report.model_dump_json().encode())

    def _due(self, number: int) -> Iterator[Inspection]:
        while self._waiting and self._waiting[0][0] <= number:
            _, source, first = self._waiting.popleft()
            report = Report.model_validate_json(zlib.decompress(first.report))
            if report.sha256 not in (None, first.sha256):  # it changed between the comparison and the inspection
                yield examine_safely(self.inspector, source)
                continue
            changes: dict[str, Any] = {
                "path": source.path,
                "identical_to": first.path,
                "timings": {},
                "tool": report.tool.model_copy(update={"command": self.inspector.options.command(source)}),
            }
            if report.media is not None:
                changes["media"] = report.media.model_copy(update={"modified": _time_of_change(source)})
            if report.verdict is Verdict.REFUSED and report.refusal is not None:
                message = f"{report.refusal.message} (Identical to {first.path}.)"
                changes["refusal"] = report.refusal.model_copy(update={"message": message})
            yield Inspection(report.model_copy(update=changes))


def _time_of_change(source: Source) -> str | None:
    """That of the duplicate itself."""
    assert source.file is not None
    try:
        return time_of_change(source.file.stat().st_mtime)
    except OSError:
        return None
