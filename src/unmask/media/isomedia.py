"""What a HEIF or AVIF file says of itself around its pixels."""

import re

from unmask.media.colour import unusual_colours
from unmask.media.remarks import GAIN_MAP, MOTION_PHOTO, SEVERAL

_METADATA_ITEMS = re.compile(rb"(infe(?:\x02.{7}|\x03.{9}))(?:Exif|mime)", re.DOTALL)
_ITEMS = re.compile(rb"infe(?:\x02.{7}|\x03.{9})(.{4})", re.DOTALL)


def heif_beyond_the_decoder(data: bytes) -> str | None:
    """A sentence if there is no still in it that is coded as HEVC."""
    return _without_items_of(b"hvc1", data)


def avif_beyond_the_decoder(data: bytes) -> str | None:
    """A sentence if there is no still in it that is coded as AV1."""
    return _without_items_of(b"av01", data)


def _without_items_of(coding: bytes, data: bytes) -> str | None:
    boxes = _boxes(data)
    if "meta" not in boxes:
        sequence = "a sequence of pictures, and no single one" if "moov" in boxes else "no picture"
        return f"It holds {sequence} that can be decoded."
    items = _ITEMS.findall(_header(data))
    return "Its picture is coded in a way that is not decoded." if items and coding not in items else None


def without_metadata(data: bytes) -> bytes:
    """The same file with its EXIF and XMP items named something that no decoder looks into."""
    return _METADATA_ITEMS.sub(rb"\1skip", data)


def density(data: bytes) -> tuple[int, int] | None:
    """Pixels per unit across and down, or None."""
    header = _header(data)
    place = header.find(b"pasp")  # how wide and how high a pixel is
    if place < 0:
        return None
    return int.from_bytes(header[place + 8 : place + 12], "big"), int.from_bytes(header[place + 4 : place + 8], "big")


def notes(data: bytes) -> list[str]:
    """One sentence each on how the pixels are meant to be shown, if not as usual, and on what else is in the file."""
    header = _header(data)
    places = [match.end() for match in re.finditer(rb"colrnclx", header)]
    codes = [
        (int.from_bytes(header[at : at + 2], "big"), int.from_bytes(header[at + 2 : at + 4], "big")) for at in places
    ]
    has_profile = b"colrprof" in header or b"colrrICC" in header
    warnings = [note for primaries, transfer in codes for note in unusual_colours(primaries, transfer, has_profile)]
    if b"aux:hdrgainmap" in header or b"tmap" in _ITEMS.findall(header):
        warnings.append(GAIN_MAP)
    boxes = _boxes(data)
    if "moov" in boxes:
        warnings.append(SEVERAL)
    if "mpvd" in boxes:
        warnings.append(MOTION_PHOTO)
    return warnings


def _boxes(data: bytes) -> dict[str, bytes]:
    """The outermost boxes by name, the first of each; the last one may be cut short."""
    boxes: dict[str, bytes] = {}
    at = 0
    while at + 8 <= len(data):
        size, name = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        if size == 1:
            size = int.from_bytes(data[at + 8 : at + 16], "big")
        # Pictures need not be copied to know where they are.
        boxes.setdefault(name.decode("latin-1"), b"" if name == b"mdat" else data[at : at + size])
        if size < 8:
            break
        at += size
    return boxes


def _header(data: bytes) -> bytes:
    """The box that describes the pictures."""
    return _boxes(data).get("meta", b"")
