"""The header of a JPEG XL picture: its size, before anything is decoded."""

from collections.abc import Iterator
from typing import NamedTuple

from unmask.media.remarks import SEVERAL

# Width over height that a header can name in three bits, from 1 on.
_RATIOS = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))
_LENGTHS = (9, 13, 18, 30)


class Header(NamedTuple):
    """Size in pixels as stored, and whether the file is an animation."""

    width: int
    height: int
    is_animated: bool


def read_header(data: bytes) -> Header | None:
    """Read the header of a bare code stream or of one in a container; None if there is none."""
    stream = data if data.startswith(b"\xff\x0a") else _code_stream(data)
    if stream[:2] != b"\xff\x0a":
        return None
    bits = _Bits(stream[2:64])
    width, height = _size(bits)
    is_animated = False
    if not bits.take(1) and bits.take(1):  # not all fields have their default, and there are extra ones
        bits.take(3)  # orientation
        if bits.take(1):  # size to be shown at
            _size(bits)
        is_animated = not bits.take(1) and bool(bits.take(1))  # behind a preview, whose header is not read
    return Header(width, height, is_animated)


def metadata(data: bytes, name: bytes) -> bytes | None:
    """The content of the file's first metadata box of a name, without the offset that an Exif box begins with.

    Args:
        data: the file.
        name: `b"Exif"` or `b"xml "`.

    Returns:
        The content; None if there is no such box.

    Raises:
        PackedMetadataError: the box is packed with Brotli, which nothing here unpacks.
    """
    for box, start, end in _boxes(data):
        if box == name:
            # Some programs leave the offset out.
            plain = name != b"Exif" or data[start : start + 4] in (b"II*\0", b"MM\0*")
            return data[start if plain else start + 4 + int.from_bytes(data[start : start + 4], "big") : end]
        if box == b"brob" and data[start : start + 4] == name:
            raise PackedMetadataError
    return None


class PackedMetadataError(Exception):
    """Metadata of a JPEG XL file are packed with Brotli."""


def notes(data: bytes) -> list[str]:
    """A sentence if the file is an animation."""
    header = read_header(data)
    is_animated = header is not None and header.is_animated
    return [SEVERAL] if is_animated else []


class _Bits:
    """Bits from the lowest of each byte on; zeros behind the end."""

    def __init__(self, data: bytes) -> None:
        self._rest = int.from_bytes(data, "little")

    def take(self, count: int) -> int:
        value = self._rest & ((1 << count) - 1)
        self._rest >>= count
        return value


def _size(bits: _Bits) -> tuple[int, int]:
    is_small = bits.take(1)

    def side() -> int:
        return 8 * (bits.take(5) + 1) if is_small else bits.take(_LENGTHS[bits.take(2)]) + 1

    height = side()
    ratio = bits.take(3)
    if ratio == 0:
        return side(), height
    across, down = _RATIOS[ratio - 1]
    return height * across // down, height


def _code_stream(data: bytes) -> bytes:
    for name, start, _ in _boxes(data):
        if name in (b"jxlc", b"jxlp"):
            at = start + (4 if name == b"jxlp" else 0)  # a part begins with its number
            return data[at : at + 64]
    return b""


def _boxes(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Name, start and end of the contents of the outermost boxes; the last one may be cut short."""
    at = 0
    while at + 8 <= len(data):
        size, name = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        start = at + 8
        if size == 1:
            size, start = int.from_bytes(data[start : start + 8], "big"), start + 8
        end = at + size if size else len(data)
        yield name, start, min(end, len(data))
        if size < 8:
            break
        at = end
