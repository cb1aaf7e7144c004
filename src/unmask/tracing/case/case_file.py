"""A case file: what was shown, told and taken back, one event a line, so that a kill at any moment loses nothing.

Every event is written through to the disk before the next question is asked. A line that a kill cut short is dropped on
reading; whatever came before it holds.
"""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, Literal

from pydantic import TypeAdapter

from unmask.errors import DataError
from unmask.files import lock

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
    """Something that happened.

    Attributes:
        event: "answer" (told None: unavailable) or "undo", which takes the last answer back.
        time: UTC, ISO 8601.
        attribute, told, trust: of an answer, as `Answer` has them.
        shown: the questions that were shown, best first, as (attribute, expected bits); empty if none were.
        picture: SHA-256 of the picture that the answer was taken from, if its report was given.
    """

    event: Literal["answer", "undo"]
    time: str
    attribute: str = ""
    told: str | Mapping[str, float] | None = None
    trust: float = 1.0
    shown: tuple[tuple[str, float], ...] = ()
    picture: str | None = None

    @property
    def overrode(self) -> bool:
        """Whether something else was answered than what was asked for."""
        return bool(self.shown) and self.shown[0][0] != self.attribute


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

    def __init__(self, file: BinaryIO, opened: Opened, events: list[Event], mended: bool) -> None:
        self._file, self.opened, self.events, self.mended = file, opened, events, mended

    def add(self, event: Event) -> None:
        """Append an event and see it onto the disk."""
        _append(self._file, asdict(event))
        self.events.append(event)


@contextmanager
def case_file(path: Path, opened: Opened) -> Iterator[CaseFile]:
    """Begin a case, or go on with it if the file is there; nobody else can while this does.

    Args:
        path: of the case file.
        opened: what a new one begins with, and what one that is there must agree with.

    Raises:
        DataError: it is not a case file, is of another register or another data dictionary, is in use, or cannot be
            written.
    """
    with _opened(path) as file:
        if not lock(file):
            raise DataError(f"{path}: this case is open elsewhere; close it there first")
        file.seek(0)
        content = file.read()
        whole = content[: content.rfind(b"\n") + 1]
        mended = len(whole) < len(content)
        # Not splitlines(): some characters that it takes for line ends may stand in an answer.
        lines = whole.decode("utf-8", "replace").split("\n")[:-1]
        if lines:
            found, events = _read(path, lines)
            _refuse_other(path, found, opened)
            if mended:
                file.truncate(len(whole))
        elif content[: len(_FIRST)] != _FIRST[: len(content)]:
            raise DataError(f"{path}: not a case file; give another name")
        else:
            file.truncate(0)
            found, events = opened, []
            _append(file, asdict(opened))
        yield CaseFile(file, found, events, mended)


def _opened(path: Path) -> BinaryIO:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and not path.is_file():
            raise DataError(f"{path}: cannot be written: not a regular file")
        return path.open("a+b")
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error.strerror}): give a writable file") from error


def _read(path: Path, lines: list[str]) -> tuple[Opened, list[Event]]:
    try:
        first, *others = (json.loads(line) for line in lines)
        if first["case"] != CASE_VERSION:
            raise DataError(f"{path}: a case of version {first['case']}; this is version {CASE_VERSION}")
        return TypeAdapter(Opened).validate_python(first), TypeAdapter(list[Event]).validate_python(others)
    except (ValueError, TypeError, KeyError) as error:
        told = str(error).splitlines()[0]
        raise DataError(
            f"{path}: not a case file, or altered ({told}); give another name to begin a new one"
        ) from error


def _refuse_other(path: Path, found: Opened, wanted: Opened) -> None:
    if found.fingerprint != wanted.fingerprint:
        raise DataError(
            f"{path}: is a case of another register ({found.register}, or that file has changed since); "
            "give that register, or another name to begin a new case"
        )
    if found.dictionary != wanted.dictionary:
        raise DataError(
            f"{path}: was begun with another data dictionary or --absent, and its figures would change; "
            "give those, or another name to begin a new case"
        )


def _append(file: BinaryIO, line: Mapping[str, Any]) -> None:
    file.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")
    file.flush()
    os.fsync(file.fileno())
