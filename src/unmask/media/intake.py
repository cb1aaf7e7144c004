"""From a source to a file whose type and hash are known."""

import errno
import hashlib
import io
import os
import stat
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath
from typing import BinaryIO, Literal

from unmask.errors import RefusalCode, Refused
from unmask.media.kinds import HEAD_BYTES, READABLE, FileType, sniff
from unmask.media.limits import MAX_PICTURE_BYTES
from unmask.media.sources import Source
from unmask.media.unread import refusal_sentence

_HASH_CHUNK = 1024**2
_Bytes = bytes  # `MediaFile` has a field of that name


@dataclass(frozen=True)
class MediaFile:
    """A picture or video, taken in: typed by its first bytes and hashed, not yet decoded.

    A picture is held in memory: the bytes in `data` are the very ones that were hashed and will be decoded. A video
    stays in `file`, unless it came from standard input.
    """

    path: str
    """For display; always valid Unicode."""
    sha256: str
    """Of the whole file, 64 hexadecimal digits."""
    bytes: int
    """Its length."""
    kind: Literal["image", "video"]
    data: _Bytes | None = field(repr=False)
    file: Path | None
    modified: float | None = None
    """Time of change by the file system, seconds since 1970 in UTC; None for what was no file of the user's."""


def take_in(source: Source) -> MediaFile:
    """Read, type and hash one source.

    Raises `Refused`: NOT_FOUND, UNREADABLE (permissions, I/O, not a regular file), EMPTY, UNSUPPORTED (by its first
    bytes, whatever its name), TOO_LARGE (a picture file of more than 512 MB).
    """
    if source.data is not None:
        return _take_in_stream(source, io.BytesIO(source.data), len(source.data))
    if source.file is None:
        raise ValueError("a source needs a file or data")
    try:
        with open_regular_file(source.file) as stream:
            status = os.fstat(stream.fileno())
            media = _take_in_stream(source, stream, status.st_size)
            return media if source.is_copy else replace(media, modified=status.st_mtime)
    except OSError as error:
        raise refusal_for(error) from error


def open_regular_file(path: Path) -> BinaryIO:
    """Open `path` for reading bytes.

    Raises `Refused`: UNREADABLE at once, without waiting, if it is a folder, a pipe, a device or a socket; NOT_FOUND if
    no file can have such a name, or one that is not there has quotation marks about its name. Other failures are the
    `OSError` of `open`, which `refusal_for` makes a refusal.
    """
    try:
        _require_regular(path.stat().st_mode)
    except FileNotFoundError as error:
        name = str(path)
        if len(name) > 2 and name[0] == name[-1] and name[0] in "'\"":
            reason = f"There is no such file; the name given has quotation marks about it: {name}"
            raise Refused(RefusalCode.NOT_FOUND, f"{reason}.") from error
        raise
    except ValueError as error:  # a null byte, or characters that the file system cannot hold
        raise Refused(RefusalCode.NOT_FOUND, "No file can have such a name.") from error
    # The file may have been exchanged since: O_NONBLOCK keeps a pipe from holding us up, and the open file is looked at
    # again.
    stream = open(path, "rb", opener=_open_without_waiting)  # noqa: SIM115 (the caller closes it)
    try:
        _require_regular(os.fstat(stream.fileno()).st_mode)
    except BaseException:
        stream.close()
        raise
    return stream


def refusal_for(error: OSError) -> Refused:
    """The refusal that an operating system error on a file amounts to."""
    if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG):
        return Refused(RefusalCode.NOT_FOUND, "There is no such file, or its link leads nowhere.")
    if error.errno == errno.ELOOP:
        return Refused(RefusalCode.NOT_FOUND, "The link leads back to itself.")
    if error.errno in (errno.EACCES, errno.EPERM):
        return Refused(RefusalCode.UNREADABLE, "There is no permission to read it.")
    return Refused(RefusalCode.UNREADABLE, f"It cannot be read: {error.strerror or error}.")


def _open_without_waiting(name: str, flags: int) -> int:
    return os.open(name, flags | getattr(os, "O_NONBLOCK", 0))


def _require_regular(mode: int) -> None:
    if stat.S_ISDIR(mode):
        raise Refused(RefusalCode.UNREADABLE, "It is a folder, not a file.")
    if not stat.S_ISREG(mode):
        raise Refused(RefusalCode.UNREADABLE, "It is not a regular file.")


def _take_in_stream(source: Source, stream: BinaryIO, length: int) -> MediaFile:
    head = stream.read(HEAD_BYTES)
    if not head:
        raise Refused(RefusalCode.EMPTY, "The file is empty.")
    file_type = sniff(head)
    if file_type is None:
        sentence = refusal_sentence(head, PurePath(source.path).suffix.lower())
        raise Refused(
            RefusalCode.UNSUPPORTED, sentence or f"This is not a file of a type that can be read ({READABLE})."
        )
    if file_type.kind == "image":
        return _take_in_picture(source, stream, head, length, file_type)
    digest, length = hashlib.sha256(head), len(head)
    while chunk := stream.read(_HASH_CHUNK):
        digest.update(chunk)
        length += len(chunk)
    return MediaFile(source.path, digest.hexdigest(), length, file_type.kind, source.data, source.file)


def _take_in_picture(source: Source, stream: BinaryIO, head: bytes, length: int, file_type: FileType) -> MediaFile:
    # The length is looked at before reading, and again by the bounded read, since a file can grow meanwhile.
    data = source.data
    if data is None and length <= MAX_PICTURE_BYTES:
        data = head + stream.read(MAX_PICTURE_BYTES + 1 - len(head))
    if data is None or len(data) > MAX_PICTURE_BYTES:
        raise Refused(
            RefusalCode.TOO_LARGE, f"Picture files of more than {MAX_PICTURE_BYTES // 1024**2} MB are not read."
        )
    return MediaFile(source.path, hashlib.sha256(data).hexdigest(), len(data), file_type.kind, data, source.file)
