"""A case file: what was shown, answered and taken back, one event a line, so that a kill at any moment loses nothing.

Every event is written through to the disk before the next question is asked. A line that a kill cut short is dropped on
reading; whatever came before it holds.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter

from unmask.errors import DataError
from unmask.records import RecordFile, record_file

CASE_VERSION = 1
_FIRST = b'{"register": '


@dataclass(frozen=True)
class Opened:
    """The first line of a case: what it is about, and what must not change while it goes on."""

    register: str
    fingerprint: str
    dictionary: str
    purpose: str
    time: str
    case: int = CASE_VERSION


@dataclass(frozen=True)
class Event:
    """An answer, or its being taken back.

    Attributes:
        event: "answer" (value None: unavailable) or "undo", which takes the last answer back.
        time: UTC, ISO 8601.
        attribute, value, trust: of an answer, as `Answer` has them; the file calls the value "told".
        shown: the questions that were shown, best first, as (attribute, expected bits); empty if none were.
        picture: SHA-256 of the picture that the answer was taken from, if its report was given.
    """

    event: Literal["answer", "undo"]
    time: str
    attribute: str = ""
    value: Annotated[str | Mapping[str, float] | None, Field(alias="told")] = None
    trust: float = 1.0
    shown: tuple[tuple[str, float], ...] = ()
    picture: str | None = None

    @property
    def overrode(self) -> bool:
        """Whether something else was answered than what was asked for."""
        return bool(self.shown) and self.shown[0][0] != self.attribute


_EVENT = TypeAdapter(Event)


def now() -> str:
    """The time, for events."""
    return datetime.now(UTC).isoformat(timespec="seconds")


class CaseFile:
    """The events of a case, and the file that they are appended to.

    Attributes:
        opened: the first line.
        events: so far.
        mended: whether a line that was cut short was dropped.
    """

    def __init__(self, records: RecordFile, opened: Opened, events: list[Event], mended: bool) -> None:
        self._records, self.opened, self.events, self.mended = records, opened, events, mended

    def add(self, event: Event) -> None:
        """Append an event and see it onto the disk."""
        _append(self._records, _EVENT.dump_python(event, by_alias=True))
        self.events.append(event)


@contextmanager
def case_file(path: Path, opened: Opened) -> Iterator[CaseFile]:
    """Begin a case, or go on with it if the file is there; nobody else can while this does.

    Args:
        path: of the case file.
        opened: what a new one begins with, and what one that is there must agree with.

    Raises:
        DataError: it is not a case file, is of another register, data dictionary or purpose, is in use, or cannot be
            written.
    """
    with ExitStack() as stack:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.exists() and not path.is_file():
                raise DataError(f"{path}: cannot be written: not a regular file")
            records = stack.enter_context(record_file(path, "this case is open elsewhere; close it there first"))
        except OSError as error:
            raise DataError(f"{path}: cannot be written ({error.strerror}): give a writable file") from error
        lines = list(records.lines())
        size = sum(map(len, lines))
        torn = records.rest(size)
        if lines:
            kept, events = _read(path, lines)
            _refuse_other(path, kept, opened)
            if torn:
                records.cut(size)
        elif torn[: len(_FIRST)] != _FIRST[: len(torn)]:
            raise DataError(f"{path}: not a case file; give another name")
        else:
            records.cut(0)
            kept, events = opened, []
            _append(records, asdict(opened))
        yield CaseFile(records, kept, events, bool(torn))


def _read(path: Path, lines: list[bytes]) -> tuple[Opened, list[Event]]:
    try:
        first, *others = (json.loads(line.decode("utf-8", "replace")) for line in lines)
        if first["case"] != CASE_VERSION:
            raise DataError(f"{path}: a case of version {first['case']}; this is version {CASE_VERSION}")
        return TypeAdapter(Opened).validate_python(first), [_EVENT.validate_python(other) for other in others]
    except (ValueError, TypeError, KeyError) as error:
        cause = str(error).splitlines()[0]
        raise DataError(
            f"{path}: not a case file, or altered ({cause}); give another name to begin a new one"
        ) from error


def _refuse_other(path: Path, kept: Opened, wanted: Opened) -> None:
    if kept.fingerprint != wanted.fingerprint:
        raise DataError(
            f"{path}: is a case of another register ({kept.register}, or that file has changed since); "
            "give that register, or another name to begin a new case"
        )
    if kept.dictionary != wanted.dictionary:
        raise DataError(
            f"{path}: was begun with another data dictionary or --absent, and its figures would change; "
            "give those, or another name to begin a new case"
        )
    if wanted.purpose and wanted.purpose != kept.purpose:
        raise DataError(
            f"{path}: was begun {f'for {kept.purpose!a}' if kept.purpose else 'without a purpose'}, and "
            "that stays; leave --purpose out to go on, or give another name to begin a new case"
        )


def _append(records: RecordFile, record: Mapping[str, Any]) -> None:
    records.append(json.dumps(record, ensure_ascii=False).encode() + b"\n")
    records.sync()
