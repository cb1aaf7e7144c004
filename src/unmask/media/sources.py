"""Which files to look at: paths, folders and standard input, one at a time."""

import os
import re
import stat
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from unmask.errors import RefusalCode, Refused
from unmask.media.kinds import HEAD_BYTES, MEDIA_EXTENSIONS, sniff
from unmask.media.limits import MAX_STDIN_BYTES
from unmask.media.unread import is_unread

STANDARD_INPUT = "-"

_SURROGATE = re.compile("[\ud800-\udfff]")  # how Python holds the bytes of a name that are not UTF-8


@dataclass(frozen=True)
class Source:
    """Something to inspect, not yet read: a `file`, or the `data` that came through standard input."""

    path: str
    """For display, always valid Unicode: bytes of a name that are not UTF-8 show as U+FFFD. Open `file`, not this."""
    file: Path | None
    data: bytes | None = field(default=None, repr=False)
    is_copy: bool = False
    """Whether `file` is a copy of our own making, whose time of change says nothing of the original."""


@dataclass(frozen=True)
class RefusedSource:
    """A place that could not be looked into at all, such as a folder without permission to list it."""

    path: str
    refusal: Refused


def walk(paths: Iterable[str | Path]) -> Iterator[Source | RefusedSource]:
    """Every source that `paths` name, lazily, in the order given.

    - The string "-" is standard input, read whole when its turn comes. (A file of that name: `Path("-")` or "./-".)
    - A folder is walked with its subfolders, each sorted by name; symbolic links are followed, and no folder is entered
      twice, so that a loop of links ends. Files in it that are media neither by extension nor by their first bytes are
      passed over; pictures and films of kinds that cannot be read are yielded, so that they are not left unmentioned.
    - Any other path is yielded as it is: whether it exists and can be read, `take_in` says.
    - What is named twice, by the same path or by a folder that holds it as well, is yielded once, where its own path
      has its turn. Other links to a file are files of their own.

    Memory holds the named paths, the listings of the folders on the way down and a pair of numbers per folder visited,
    never all files.
    """
    paths = list(paths)
    named = {_place(path) for path in paths if path != STANDARD_INPUT}
    given: set[str] = set()
    seen: set[tuple[int, int]] = set()
    for path in paths:
        if path == STANDARD_INPUT:
            yield _standard_input()
        elif _is_folder(path):
            for source in _walk_folder(str(path), seen):
                if len(named) == 1 or isinstance(source, RefusedSource) or _place(str(source.file)) not in named:
                    yield source
        elif (place := _place(path)) not in given:
            given.add(place)
            yield _file_source(str(path))


def _place(path: str | Path) -> str:
    """A path without links on the way to what it names; a link as its last part stays one."""
    try:
        return os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))  # noqa: PTH118, PTH119, PTH120
    except (OSError, ValueError):  # no path can be so
        return str(path)


def watch(paths: Iterable[str | Path], every: float = 1.0) -> Iterator[Source | RefusedSource | None]:
    """What `walk` gives of some folders and files, and then, without end, what comes or changes there.

    A file is given when its length and time of change were equal in two looks, so that it is not read while it is being
    written. After each look, None is given, so that whoever asks can do something else.

    Memory holds a path with two numbers for each file.

    Args:
        paths: as for `walk`, without standard input.
        every: seconds between two looks.
    """
    seen: dict[str, tuple[tuple[int, int], bool]] = {}  # by path: length and time of change, whether it was given
    refused: set[str] = set()
    while True:
        for source in walk(paths):
            if isinstance(source, RefusedSource):
                if source.path not in refused:
                    refused.add(source.path)
                    yield source
                continue
            try:
                status = Path(str(source.file)).stat()
            except OSError:
                continue  # it went away, or is yet to come
            state = status.st_size, status.st_mtime_ns
            before, given = seen.get(str(source.file), (None, False))
            if before == state and not given:
                yield source
            seen[str(source.file)] = state, before == state
        yield None
        time.sleep(every)


def display_path(path: str) -> str:
    """`path` as valid Unicode: undecodable bytes become U+FFFD."""
    return _SURROGATE.sub("\ufffd", path)


def _file_source(path: str) -> Source:
    return Source(display_path(path), Path(path))


def _is_folder(path: str | Path) -> bool:
    try:
        return stat.S_ISDIR(Path(path).stat().st_mode)
    except (OSError, ValueError):  # ValueError: a null byte in the path
        return False


def _standard_input() -> Source | RefusedSource:
    try:
        data = sys.stdin.buffer.read(MAX_STDIN_BYTES + 1)
    except (OSError, ValueError, AttributeError) as error:  # closed, or replaced by something without bytes
        refusal = Refused(RefusalCode.UNREADABLE, f"Standard input cannot be read: {error}.")
        return RefusedSource(STANDARD_INPUT, refusal)
    if len(data) > MAX_STDIN_BYTES:
        limit = f"{MAX_STDIN_BYTES // 1024**2:,} MB"
        refusal = Refused(RefusalCode.TOO_LARGE, f"More than {limit} came through standard input; save it to a file.")
        return RefusedSource(STANDARD_INPUT, refusal)
    return Source(STANDARD_INPUT, None, data)


def _walk_folder(top: str, seen: set[tuple[int, int]]) -> Iterator[Source | RefusedSource]:
    # A stack of listings rather than recursion: a folder may be nested deeper than Python's call stack.
    stack: list[Iterator[tuple[str, bool]]] = [iter([(top, True)])]
    while stack:
        path, is_folder = next(stack[-1], (None, False))
        if path is None:
            stack.pop()
        elif not is_folder:
            if _looks_like_media(path):
                yield _file_source(path)
        else:
            try:
                if _first_visit(path, seen):
                    stack.append(_listing(path))
            except OSError as error:
                yield RefusedSource(display_path(path), _folder_refusal(error))


def _first_visit(folder: str, seen: set[tuple[int, int]]) -> bool:
    status = Path(folder).stat()
    identity = (status.st_dev, status.st_ino)
    if identity in seen:
        return False
    seen.add(identity)
    return True


def _listing(folder: str) -> Iterator[tuple[str, bool]]:
    with os.scandir(folder) as entries:
        names = sorted((entry.name, _entry_is_folder(entry)) for entry in entries)
    return ((os.path.join(folder, name), is_folder) for name, is_folder in names)  # noqa: PTH118 (a million names)


def _entry_is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False


def _looks_like_media(path: str) -> bool:
    if os.path.splitext(path)[1].lower() in MEDIA_EXTENSIONS:  # noqa: PTH122
        return True
    try:
        if not stat.S_ISREG(Path(path).stat().st_mode):  # never open a pipe: that would wait for its writer
            return False
        with open(path, "rb", buffering=0) as stream:  # noqa: PTH123
            head = stream.read(HEAD_BYTES)
            return sniff(head) is not None or is_unread(head)
    except OSError:
        return False


def _folder_refusal(error: OSError) -> Refused:
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return Refused(RefusalCode.NOT_FOUND, "The folder went away while it was being read.")
    if isinstance(error, PermissionError):
        return Refused(RefusalCode.UNREADABLE, "There is no permission to list this folder.")
    return Refused(RefusalCode.UNREADABLE, f"The folder cannot be read: {error.strerror or error}.")
