"""What a BMP file says of itself around its pixels."""

_OS2_HEADER = 64
_COLOURS_USED = slice(46, 50)
# Compressions: none, run lengths of 8 and of 4 bits, bit fields.
_BITS = {0: (1, 4, 8, 16, 24, 32), 1: (8,), 2: (4,), 3: (16, 32), 6: (16, 32)}


def beyond_the_decoder(data: bytes) -> str | None:
    """How the pixels are packed in a sentence if that may be beyond the decoder; None for the usual ways."""
    header = int.from_bytes(data[14:18], "little")
    if header == 12:
        return None
    if header == 16:
        return "It is a BMP with a short header of OS/2, which is not decoded."
    bits, compression = int.from_bytes(data[28:30], "little"), int.from_bytes(data[30:34], "little")
    is_usual = bits in _BITS.get(compression, ()) and not (header == _OS2_HEADER and compression == 3)
    if is_usual and compression not in (3, 6):
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
