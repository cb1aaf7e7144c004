"""Margins that a container says are not to be shown: `PixelCrop` of Matroska, `clap` of MP4.

FFmpeg reads both, but PyAV does not hand them on.
"""

import struct
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

import numpy as np

_MATROSKA_SEGMENT, _MATROSKA_TRACKS, _MATROSKA_CLUSTER = 0x18538067, 0x1654AE6B, 0x1F43B675
_TRACK_ENTRY, _TRACK_VIDEO = 0xAE, 0xE0
_CROP_BOTTOM, _CROP_TOP, _CROP_LEFT, _CROP_RIGHT = 0x54AA, 0x54BB, 0x54CC, 0x54DD
_MOST_ELEMENTS = 10_000
_VISUAL_ENTRY_BYTES = 78  # of a VisualSampleEntry before its boxes, ISO/IEC 14496-12
_Part = tuple[int, int, int]  # what it is, where its content starts and ends


class Margins(NamedTuple):
    """Pixels to cut off each side of the stored picture."""

    left: int
    right: int
    top: int
    bottom: int

    def cut(self, pixels: np.ndarray) -> np.ndarray:
        """The part of `pixels` (H, W, 3) to show, contiguous; all of it if nothing would be left."""
        height, width = pixels.shape[:2]
        if self.left + self.right >= width or self.top + self.bottom >= height:
            return pixels
        return np.ascontiguousarray(pixels[self.top : height - self.bottom, self.left : width - self.right])


def read_margins(stream: BinaryIO, file_format: str, track: int) -> Margins | None:
    """The margins of a track, or None if it has none or they cannot be made out.

    Args:
        stream: the file; its position is left as it was.
        file_format: as `kinds.sniff` names it.
        track: MP4 and MOV: the track's identifier; Matroska: its place among the video tracks, from 0.
    """
    position = stream.tell()
    try:
        margins = _READERS[file_format](stream, track) if file_format in _READERS else None
    except (IndexError, ValueError, OverflowError, ZeroDivisionError, struct.error):  # a damaged header: FFmpeg decides
        return None
    finally:
        stream.seek(position)
    return margins if margins is not None and any(margins) and min(margins) >= 0 else None


def _in_matroska(stream: BinaryIO, track: int) -> Margins | None:
    place = 0
    for _, start, end in _matroska_tracks(stream):
        for kind, first, last in _elements(stream, start, end):
            if kind != _TRACK_VIDEO:
                continue
            if place == track:
                values = {detail: _number(stream, *content) for detail, *content in _elements(stream, first, last)}
                return Margins(*(values.get(kind, 0) for kind in (_CROP_LEFT, _CROP_RIGHT, _CROP_TOP, _CROP_BOTTOM)))
            place += 1
    return None


def _matroska_tracks(stream: BinaryIO) -> Iterator[_Part]:
    length = stream.seek(0, 2)
    for kind, start, end in _elements(stream, 0, length):
        if kind != _MATROSKA_SEGMENT:
            continue
        for inner, first, last in _elements(stream, start, min(end, length)):
            if inner == _MATROSKA_TRACKS:
                yield from (part for part in _elements(stream, first, last) if part[0] == _TRACK_ENTRY)
            if inner in (_MATROSKA_TRACKS, _MATROSKA_CLUSTER):
                return


def _elements(stream: BinaryIO, at: int, end: int) -> Iterator[_Part]:
    """The EBML elements between two places."""
    for _ in range(_MOST_ELEMENTS):
        if at >= end:
            return
        stream.seek(at)
        head = stream.read(12)
        id_bytes = 9 - head[0].bit_length()
        size_bytes = 9 - head[id_bytes].bit_length()
        start = at + id_bytes + size_bytes
        size = int.from_bytes(head[id_bytes : id_bytes + size_bytes], "big") & (1 << 7 * size_bytes) - 1
        unknown = size == (1 << 7 * size_bytes) - 1
        at = end if unknown else start + size
        yield int.from_bytes(head[:id_bytes], "big"), start, at


def _number(stream: BinaryIO, start: int, end: int) -> int:
    stream.seek(start)
    return int.from_bytes(stream.read(min(end - start, 8)), "big")


def _in_mp4(stream: BinaryIO, track: int) -> Margins | None:
    length = stream.seek(0, 2)
    for movie in _boxes(stream, 0, length, b"moov"):
        for entry in _boxes(stream, movie[1], movie[2], b"trak"):
            if _track_id(stream, entry) == track:
                return _clean_aperture(stream, entry)
    return None


def _track_id(stream: BinaryIO, entry: _Part) -> int | None:
    for _, start, _ in _boxes(stream, entry[1], entry[2], b"tkhd"):
        stream.seek(start)
        header = stream.read(24)
        return int(struct.unpack_from(">I", header, 20 if header[0] == 1 else 12)[0])
    return None


def _clean_aperture(stream: BinaryIO, entry: _Part) -> Margins | None:
    part: _Part | None = entry
    for name in (b"mdia", b"minf", b"stbl", b"stsd"):
        part = next(_boxes(stream, part[1], part[2], name), None) if part is not None else None
    if part is None:
        return None
    stream.seek(part[1] + 8)
    description = stream.read(8 + _VISUAL_ENTRY_BYTES)
    width, height = struct.unpack_from(">HH", description, 8 + 24)
    boxes = part[1] + 8 + 8 + _VISUAL_ENTRY_BYTES
    for _, start, _ in _boxes(stream, boxes, part[1] + 8 + int.from_bytes(description[:4], "big"), b"clap"):
        stream.seek(start)
        numbers = struct.unpack(">8i", stream.read(32))
        wide, high, right, down = (numbers[at] / numbers[at + 1] for at in (0, 2, 4, 6))
        # The offsets are those of the middle of what is shown from the middle of what is stored.
        left, top = round((width - wide) / 2 + right), round((height - high) / 2 + down)
        return Margins(left, width - round(wide) - left, top, height - round(high) - top)
    return None


def _boxes(stream: BinaryIO, at: int, end: int, name: bytes) -> Iterator[_Part]:
    """The boxes called `name` between two places of an ISO base media file."""
    for _ in range(_MOST_ELEMENTS):
        if at + 8 > end:
            return
        stream.seek(at)
        head = stream.read(16)
        size, start = int.from_bytes(head[:4], "big"), at + 8
        if size == 1:
            size, start = int.from_bytes(head[8:], "big"), at + 16
        after = end if size == 0 else at + size
        if after <= at:
            return
        if head[4:8] == name:
            yield 0, start, min(after, end)
        at = after


_READERS = {"mp4": _in_mp4, "mov": _in_mp4, "matroska": _in_matroska, "webm": _in_matroska}
