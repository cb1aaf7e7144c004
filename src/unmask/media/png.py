"""What a PNG file says of itself around its pixels."""

import zlib
from collections.abc import Iterator
from typing import NamedTuple

from unmask.media.colour import unusual_colours
from unmask.media.remarks import SEVERAL

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_CRITICAL = frozenset({b"IHDR", b"PLTE", b"IDAT", b"IEND"})
_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}  # bits a sample, by colour type
_TRUE_COLOUR = (2, 6)
_COLOUR_KEY_BYTES = {0: range(2, 3), 2: range(6, 7), 3: range(1, 257)}  # length of tRNS, by colour type
_SRGB_GAMMA = 45455


class Chunk(NamedTuple):
    """A chunk; `data[start:end]` is the whole of it, `data[start + 8:end - 4]` its content."""

    name: bytes
    start: int
    end: int

    def content(self, data: bytes) -> bytes:
        """What it holds."""
        return data[self.start + 8 : self.end - 4]

    def is_whole(self, data: bytes) -> bool:
        """Whether its checksum is right."""
        return zlib.crc32(data[self.start + 4 : self.end - 4]) == int.from_bytes(data[self.end - 4 : self.end], "big")


def chunks(data: bytes) -> Iterator[Chunk]:
    """The chunks in order; one that is cut short by the end of the file is left out."""
    at = len(_SIGNATURE)
    while at + 12 <= len(data):
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        if end > len(data):
            return
        yield Chunk(data[at + 4 : at + 8], at, end)
        at = end


def beyond_the_decoder(data: bytes) -> str | None:
    """What the header asks for that no PNG decoder of ours does, in a sentence; None if there is nothing."""
    for chunk in chunks(data):
        name = chunk.name
        if name == b"IEND":
            break
        if name.isalpha() and name[0] & 0x20 == 0 and name not in _CRITICAL:
            return f"It has a part of the unknown kind {name.decode()}, without which it cannot be decoded."
        if name == b"IHDR" and chunk.end - chunk.start == 25 and chunk.is_whole(data):
            depth, colour, compression, filtering, interlace = data[chunk.start + 16 : chunk.start + 21]
            if depth not in _DEPTHS.get(colour, ()) or compression or filtering or interlace > 1:
                return (
                    f"It is a PNG of an unknown kind (depth {depth}, colour type {colour}, compression {compression}, "
                    f"filter {filtering}, interlace {interlace})."
                )
    return None


def without_metadata(data: bytes) -> bytes:
    """The same picture with nothing in it but what its pixels depend on; an animation loses its later frames."""
    kept = [_SIGNATURE]
    colour = -1
    for chunk in chunks(data):
        if chunk.name == b"IHDR" and chunk.end - chunk.start == 25:
            colour = data[chunk.start + 17]
        length = chunk.end - chunk.start - 12
        is_colour_key = chunk.name == b"tRNS" and length in _COLOUR_KEY_BYTES.get(colour, ()) and chunk.is_whole(data)
        is_suggestion = chunk.name == b"PLTE" and colour in _TRUE_COLOUR  # of colours, for screens with few
        if is_colour_key or (chunk.name in _CRITICAL and chunk.name != b"IEND" and not is_suggestion):
            kept.append(data[chunk.start : chunk.end])
    return b"".join(kept) + b"\0\0\0\0IEND\xae\x42\x60\x82"


def colour_key(data: bytes, key: object) -> object:
    """The transparent level or colour of a picture brought to 8 bits.

    `key` is as the file has it, in its own number of bits: an int for grey, three for colour. Deep grey keeps its 16
    bits, and whatever else `key` is comes back unchanged; None if its length is wrong, since it means nothing then.
    """
    depth, colour = data[24], data[25]
    lengths = [chunk.end - chunk.start - 12 for chunk in chunks(data) if chunk.name == b"tRNS"]
    if any(length not in _COLOUR_KEY_BYTES.get(colour, ()) for length in lengths):
        return None
    if isinstance(key, int) and depth in (2, 4):
        return key * 255 // ((1 << depth) - 1)
    if isinstance(key, tuple) and depth == 16:
        return tuple(level >> 8 for level in key)
    return key


_UNREADABLE_EXIF = b"?"


def exif(data: bytes) -> bytes | None:
    """The content of the EXIF chunk; some programs put a JPEG segment's name before it."""
    chunk = next((chunk for chunk in chunks(data) if chunk.name == b"eXIf"), None)
    if chunk is None:
        return None
    # With a wrong checksum it says nothing, which is not the same as that it is not there.
    return chunk.content(data).removeprefix(b"Exif\0\0") if chunk.is_whole(data) else _UNREADABLE_EXIF


def density(data: bytes) -> tuple[int, int] | None:
    """Pixels per unit across and down, or None."""
    for chunk in chunks(data):
        if chunk.name == b"IDAT":
            break
        if chunk.name == b"pHYs" and chunk.is_whole(data):
            content = chunk.content(data)
            return int.from_bytes(content[:4], "big"), int.from_bytes(content[4:8], "big")
    return None


def notes(data: bytes) -> list[str]:
    """One sentence each on how the pixels are meant to be shown, if not as usual, and on what else is in the file."""
    warnings = []
    gamma, is_named = None, False
    for chunk in chunks(data):
        if chunk.name == b"IDAT":
            break
        if chunk.name in (b"sRGB", b"iCCP"):
            is_named = True
        elif chunk.name == b"cICP" and chunk.end - chunk.start == 16 and chunk.is_whole(data):
            warnings += unusual_colours(data[chunk.start + 8], data[chunk.start + 9], has_profile=False)
            is_named = True
        elif chunk.name == b"acTL" and int.from_bytes(data[chunk.start + 8 : chunk.start + 12], "big") > 1:
            warnings.append(SEVERAL)
        elif chunk.name == b"gAMA" and chunk.end - chunk.start == 16 and chunk.is_whole(data):
            gamma = int.from_bytes(chunk.content(data), "big")
    if gamma and not is_named and abs(gamma / _SRGB_GAMMA - 1) > 0.1:
        warnings.append(f"The file asks for a gamma of {1e5 / gamma:.2f}, which was not applied.")
    return warnings
