"""Files that commands write: whole or not at all, by one writer at a time, and never over what is somebody else's."""

import os
import stat
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from unmask.errors import DataError


@dataclass(frozen=True)
class Output:
    """A file that a command is about to write.

    Attributes:
        option: what names it on the command line, for messages.
        path: where it will be written.
        replaces: whether a file that is there, regular and not empty, may be replaced or continued: one that the same
            command has written before.
        stream: whether it may be a pipe or a device, to which it is then written from front to back.
        remedy: what to do where a file is in the way.
        makes_folder: whether the command makes the folder of the file where there is none.
    """

    option: str
    path: Path
    replaces: Callable[[Path], bool] = lambda path: False
    stream: bool = False
    remedy: str = "give another name, or move it away"
    makes_folder: bool = False


_ENDINGS = {
    "--html": (".html", ".htm"),
    "--pdf": (".pdf",),
    "--json": (".json", ".jsonl"),
    "--csv": (".csv",),
    "--db": (".duckdb", ".sqlite", ".sqlite3", ".db"),
}
"""What file names end in, by the option of the command line that writes such a file."""


def check_outputs(outputs: Sequence[Output], inputs: Iterable[str | Path] = ()) -> None:
    """See that some outputs can be written, and nothing is lost by it. Call it before anything is read or written.

    Args:
        outputs: what the command will write. Two with the same option may be the same file.
        inputs: files and folders that it reads; "-" is standard input. A file has several names: links and other
            spellings of its path are looked through.

    Raises:
        DataError: an output is an input or another output, a folder, a pipe or device that cannot serve, a file of
            somebody else's, or in a folder that is not there or must not be written to; names the remedy.
    """
    read = {mark for path in inputs for mark in _identity(path)}
    taken: dict[tuple[Any, ...], str] = {}
    for output in outputs:
        path, marks = output.path, _identity(output.path)
        if not read.isdisjoint(marks):
            raise DataError(f"{output.option} {path}: this file is read here; give another name for what is written")
        other = next((taken[mark] for mark in marks if taken.get(mark, output.option) != output.option), None)
        if other is not None:
            raise DataError(f"{output.option} {path}: {other} writes the same file; give each a file of its own")
        taken |= dict.fromkeys(marks, output.option)
        _check_there(output)


def _identity(path: str | Path) -> set[tuple[Any, ...]]:
    """What two names of one file have in common: where they lead, and the numbers that the system has for the file."""
    if path == "-":
        with suppress(OSError, ValueError, AttributeError):  # closed, or no stream of the system's
            status = os.fstat(sys.stdin.fileno())
            return {(status.st_dev, status.st_ino)} if stat.S_ISREG(status.st_mode) else set()
        return set()
    marks: set[tuple[Any, ...]] = set()
    with suppress(OSError, ValueError):
        marks.add((os.path.normcase(os.path.realpath(path)),))
    with suppress(OSError, ValueError):
        status = Path(path).stat()
        if stat.S_ISREG(status.st_mode):
            marks.add((status.st_dev, status.st_ino))
    return marks


def _check_there(output: Output) -> None:
    path = output.path
    other = next((option for option, endings in _ENDINGS.items() if path.suffix.lower() in endings), output.option)
    if output.option in _ENDINGS and other != output.option:
        own, ending = _ENDINGS[output.option][0], path.suffix.lower()
        raise DataError(
            f"{output.option} {path}: a name that ends in {ending} is for {other}; give one that ends in {own}"
        )
    try:
        status = path.stat()
    except OSError:
        _check_folder(output)
        return
    if stat.S_ISDIR(status.st_mode):
        raise DataError(f"{output.option} {path}: cannot be written: it is a folder; give the name of a file")
    if not stat.S_ISREG(status.st_mode):
        if not output.stream:
            raise DataError(f"{output.option} {path}: cannot be written: not a regular file; give another name")
        return
    try:
        ours = not status.st_size or output.replaces(path)
    except OSError:
        ours = False
    if not ours:
        raise DataError(f"{output.option} {path}: is there already and is kept; {output.remedy}")
    if not os.access(path, os.W_OK):
        raise DataError(f"{output.option} {path}: cannot be written (no permission); give a writable file")


def _check_folder(output: Output) -> None:
    """See that a file that is not there can be made; a broken link is made where it leads."""
    folder = Path(os.path.realpath(output.path)).parent
    if not folder.exists() and output.makes_folder:
        return
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        why = "no permission" if folder.is_dir() else "no such folder"
        raise DataError(f"{output.option} {output.path}: cannot be written ({why}): give a writable file")


def begins_with(path: Path, mark: bytes, within: int = 4096) -> bool:
    """Whether a mark stands in the first bytes of a file.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as stream:
        return mark in stream.read(within)


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Where to write a file that appears under its name when it is whole; nothing stays of one that was given up.

    A link is followed. What is no regular file (a pipe, a device) is written as it is.

    Raises:
        DataError: it cannot be written there.
    """
    try:
        if path.exists() and not path.is_file():
            if path.is_dir():
                raise IsADirectoryError(0, "a folder")
            yield path
            return
        target = path.resolve()
        number, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name[:100]}.", suffix=".part")
        os.close(number)
        part = Path(name)
        try:
            part.chmod(0o666 & ~_umask())  # mkstemp keeps others out
            yield part
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error.strerror or error}): give a writable file") from error


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def lock(stream: IO[Any]) -> bool:
    """Lock an open file for one writer until it is closed; False if another has it.

    A pipe or a device is not locked. Where the file system knows no locks, it goes without.
    """
    import portalocker  # not above: most runs write nothing that needs a lock

    if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
        return True
    try:
        portalocker.lock(stream, portalocker.LOCK_EX | portalocker.LOCK_NB)
    except portalocker.AlreadyLocked:
        return False
    except portalocker.LockException:
        return True
    return True
