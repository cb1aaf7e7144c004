"""What a BMP file says of itself around its pixels, and pixels whose colours lie in unusual bits."""

import struct

import numpy as np

_OS2_HEADER = 64
_COLOURS_USED = slice(46, 50)
# Compressions: none, run lengths of 8 and of 4 bits, bit fields.
_BITS = {0: (1, 4, 8, 16, 24, 32), 1: (8,), 2: (4,), 3: (16, 32), 6: (16, 32)}


_MASKS = 54  # where the masks of red, green and blue stand, and that of opacity where there is one
_USUAL_MASKS = frozenset({(0xFF0000, 0xFF00, 0xFF), (0xF800, 0x7E0, 0x1F), (0x7C00, 0x3E0, 0x1F)})
_BIT_FIELDS = (3, 6)
_BIT_FIELD_HEADER = ((14, 4), (28, 2), (30, 4))  # where the length of the header, the bits and the compression stand


def beyond_the_decoder(data: bytes) -> str | None:
    """How the pixels are packed in a sentence if that may be beyond the decoder; None for the usual ways."""
    header = int.from_bytes(data[14:18], "little")
    if header == 12:
        return None
    if header == 16:
        return "It is a BMP with a short header of OS/2, which is not decoded."
    bits, compression = int.from_bytes(data[28:30], "little"), int.from_bytes(data[30:34], "little")
    is_known = bits in _BITS.get(compression, ()) and not (header == _OS2_HEADER and compression == 3)
    if is_known and (compression not in _BIT_FIELDS or _masks(data)):
        return None
    return f"It is a BMP of a rare kind (compression {compression}, {bits} bits a pixel), which is not decoded."


def without_metadata(data: bytes) -> bytes:
    """The same picture without the number of colours in its palette, where that cannot be right."""
    header, bits = int.from_bytes(data[14:18], "little"), int.from_bytes(data[28:30], "little")
    if header >= 40 and bits <= 8 and int.from_bytes(data[_COLOURS_USED], "little") > 1 << bits:
        return data[: _COLOURS_USED.start] + bytes(4) + data[_COLOURS_USED.stop :]
    return data


def density(data: bytes) -> tuple[int, int] | None:
    """Pixels per unit across and down, or None."""
    if int.from_bytes(data[14:18], "little") < 40:
        return None
    return int.from_bytes(data[38:42], "little"), int.from_bytes(data[42:46], "little")


def with_usual_masks(data: bytes, max_pixels: int) -> bytes:
    """The same picture with one byte for each colour, if its colours lie in bits that the decoder does not expect.

    Comes back unchanged if they lie in the usual ones, or if it is cut short or has more than `max_pixels` pixels.
    """
    masks = _masks(data)
    if masks is None or (masks[:3] in _USUAL_MASKS and int.from_bytes(data[30:34], "little") == 3):
        return data
    width, height, _, bits = struct.unpack_from("<iiHH", data, 18)
    stride = (width * bits + 31) // 32 * 4
    start = int.from_bytes(data[10:14], "little")
    if not 0 < width * abs(height) <= max_pixels or start + stride * abs(height) > len(data):
        return data
    rows = np.frombuffer(data, np.uint8, stride * abs(height), start).reshape(abs(height), stride)
    words = rows.view(f"<u{bits // 8}")[:, :width]
    pixels = np.dstack([_spread(words, mask) for mask in (masks[2], masks[1], masks[0], masks[3])])
    offset = 14 + 108
    opacity = 0xFF000000 if masks[3] else 0
    info = struct.pack("<IiiHHIIiiII", 108, width, height, 1, 32, 3, 0, 0, 0, 0, 0)
    info += struct.pack("<4I", 0xFF0000, 0xFF00, 0xFF, opacity)
    return b"BM" + struct.pack("<IHHI", offset + pixels.size, 0, 0, offset) + info.ljust(108, b"\0") + pixels.tobytes()


def _masks(data: bytes) -> tuple[int, ...] | None:
    """Which bits of a pixel are red, green, blue and opacity (0 for none); None if there are no such bits."""
    if len(data) < _MASKS + 16:
        return None
    header, bits, compression = (int.from_bytes(data[at : at + size], "little") for at, size in _BIT_FIELD_HEADER)
    if compression not in _BIT_FIELDS or bits not in (16, 32) or header < 40 or header == _OS2_HEADER:
        return None
    red, green, blue, opacity = struct.unpack_from("<4I", data, _MASKS)
    if header < 56 and compression == 3:
        opacity = 0
    if not (red and green and blue) or max(red, green, blue, opacity) >> bits:
        return None
    return red, green, blue, opacity


def _spread(words: np.ndarray, mask: int) -> np.ndarray:
    """The samples that a mask cuts out of pixels (H,W), spread over 0 to 255; all 0 for an empty mask."""
    if mask == 0:
        return np.zeros(words.shape, np.uint8)
    lowest = (mask & -mask).bit_length() - 1
    largest = mask >> lowest
    samples = (words & np.array(mask, words.dtype)) >> np.array(lowest, words.dtype)
    return (samples.astype(np.uint64) * 255 // largest).astype(np.uint8)
