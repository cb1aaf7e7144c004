"""What a JPEG file says of itself around its pixels: segments, coding process, and what lies behind the picture."""

import re
from collections.abc import Iterator
from typing import NamedTuple

from unmask.media.remarks import GAIN_MAP, MOTION_PHOTO, SEVERAL_PICTURES

_FRAMES = frozenset({0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF})
_HUFFMAN = frozenset({0xC0, 0xC1, 0xC2})  # baseline, extended and progressive
_SCAN, _JFIF, _ADOBE, _COMMENT = 0xDA, 0xE0, 0xEE, 0xFE
_APPLICATION = range(0xE0, 0xF0)
_PLAIN_JFIF = b"\xff\xe0\0\x10JFIF\0\1\1\0\0\1\0\1\0\0"
_NEXT_PICTURE = re.compile(rb"\xff\xd8\xff[\xe0-\xef\xdb\xc0-\xc4\xfe]")
_FILM = re.compile(rb"\0\0\0.ftyp", re.DOTALL)
_GAIN_MAP = re.compile(rb"hdr-gain-map|hdrgainmap|HDRGainMap|urn:iso:std:iso:ts:21496")


class Segment(NamedTuple):
    """A marker segment; `data[start:end]` is the whole of it, `data[start + 4:end]` its content."""

    marker: int
    start: int
    end: int


def segments(data: bytes) -> Iterator[Segment]:
    """The segments up to the first scan, its header included; ends early where they stop making sense."""
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker in (0x01, 0xFF) or 0xD0 <= marker <= 0xD7:  # filling, and markers without content
            at += 1 if marker == 0xFF else 2
            continue
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if marker in (0xD8, 0xD9) or end < at + 4 or end > len(data):
            return
        yield Segment(marker, at, end)
        if marker == _SCAN:
            return
        at = end


def beyond_the_decoder(data: bytes) -> str | None:
    """The coding process in a sentence if it is one that not every decoder knows; None for the usual three."""
    for marker, start, _ in segments(data):
        if marker in _FRAMES:
            bits = data[start + 4]
            if marker not in _HUFFMAN or bits != 8:
                return f"It is a JPEG of a rare kind (process {marker - 0xC0}, {bits} bits), which is not decoded."
    return None


def without_metadata(data: bytes) -> bytes:
    """The same picture with nothing in it but what its pixels depend on: JFIF and Adobe markers decide the colours."""
    kept = [data[:2]]
    end = 2
    for marker, start, end in segments(data):
        content = data[start + 4 : end]
        if marker == _JFIF and content.startswith(b"JFIF\0"):
            kept.append(_PLAIN_JFIF)
        elif not (marker in _APPLICATION or marker == _COMMENT) or (
            marker == _ADOBE and content[:5] == b"Adobe" and len(content) >= 12
        ):
            kept.append(data[start:end])
    return b"".join(kept) + data[end:]


def exif(data: bytes) -> bytes | None:
    """The content of the EXIF segment, without its name."""
    for marker, start, end in segments(data):
        if marker == 0xE1 and data[start + 4 : start + 10] == b"Exif\0\0":
            return data[start + 10 : end]
    return None


def density(data: bytes) -> tuple[int, int] | None:
    """Dots per unit across and down by the JFIF segment, or None."""
    for marker, start, end in segments(data):
        if marker == _JFIF and data[start + 4 : start + 9] == b"JFIF\0" and end - start >= 16:
            return int.from_bytes(data[start + 12 : start + 14], "big"), int.from_bytes(
                data[start + 14 : start + 16], "big"
            )
    return None


def behind_the_picture(data: bytes, end: int) -> list[str]:
    """One sentence for each kind of further picture or film behind `end`, where the first picture's data end."""
    # Almost every file ends here, or with a few filling bytes.
    if len(data) - end < 64:
        return []
    warnings = []
    film = _FILM.search(data, end)
    behind = film.start() if film else len(data)
    further = _NEXT_PICTURE.search(data, end, behind)
    if further:
        is_gain_map = _GAIN_MAP.search(data, end, behind) and not _NEXT_PICTURE.search(data, _end_of(data, further))
        if is_gain_map:
            warnings.append(GAIN_MAP)
        else:
            warnings.append(SEVERAL_PICTURES)
    if film:
        warnings.append(MOTION_PHOTO)
    return warnings


def _end_of(data: bytes, picture: "re.Match[bytes]") -> int:
    """Where the picture ends that begins at a match."""
    headers = max((segment.end for segment in segments(data[picture.start() :])), default=2)
    end = data.find(b"\xff\xd9", picture.start() + headers)
    return end + 2 if end >= 0 else len(data)
