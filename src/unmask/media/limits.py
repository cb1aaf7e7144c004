"""The size guard: what we are willing to decode. Checked on the header, before any pixel is unpacked."""

from unmask.errors import RefusalCode, Refused

MAX_PIXELS = 150_000_000
"""Pixels in one picture or frame. About 450 MB as RGB; the largest phone and studio cameras stay below."""
MAX_SIDE = 40_000
"""Pixels along one side."""
MAX_PICTURE_BYTES = 512 * 1024**2
"""Bytes of one picture file; it is held in memory whole."""
MAX_STDIN_BYTES = 1024**3
"""Bytes taken from standard input; they are held in memory whole."""
MAX_JPEG_SCANS = 200
"""Passes over one progressive JPEG. Real ones have about ten; each costs as much as a decode of the whole picture."""


def check_size(width: int, height: int, max_pixels: int = MAX_PIXELS) -> None:
    """Raise `Refused` unless a picture of `width` x `height` pixels is one that we decode.

    CORRUPT if a side is zero or negative; TOO_LARGE if there are more than `max_pixels` or a side exceeds `MAX_SIDE`.
    """
    if width < 1 or height < 1:
        raise Refused(RefusalCode.CORRUPT, f"The header gives a size of {width} x {height} pixels.")
    if width > MAX_SIDE or height > MAX_SIDE:
        raise Refused(
            RefusalCode.TOO_LARGE, f"It is {width} x {height} pixels; a side of more than {MAX_SIDE:,} is not decoded."
        )
    if width * height > max_pixels:
        raise Refused(
            RefusalCode.TOO_LARGE,
            f"It is {width} x {height} pixels; more than {max_pixels / 1e6:,.0f} megapixels are not decoded.",
        )
