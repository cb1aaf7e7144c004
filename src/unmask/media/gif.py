"""What a GIF file says of itself around its pixels."""

_EXTENSION, _CONTROL = 0x21, 0xF9


def without_metadata(data: bytes) -> bytes:
    """The same file without comments and application data before its first picture, and without damaged controls."""
    start = _end_of_header(data)
    kept = [data[:start]]
    at = start
    while at + 3 <= len(data) and data[at] == _EXTENSION:
        end = at + 2
        while end < len(data) and data[end]:
            end += 1 + data[end]
        end += 1
        if data[at + 1] == _CONTROL and data[at + 2] == 4 and end == at + 8:
            kept.append(data[at:end])
        at = end
    return b"".join(kept) + data[at:]


def density(data: bytes) -> tuple[int, int] | None:
    """Pixels per unit across and down, or None."""
    aspect = data[12] if len(data) > 12 else 0  # width over height of a pixel, in 64ths, less 15
    return (64, aspect + 15) if aspect else None


def _end_of_header(data: bytes) -> int:
    """Where the first block begins, behind the colours that all pictures share."""
    flags = data[10] if len(data) > 10 else 0
    return 13 + (3 * (2 << (flags & 7)) if flags & 0x80 else 0)
