"""How a JPEG file was compressed: its quantisation tables."""

import hashlib

import numpy as np

from unmask.media import jpeg
from unmask.media.beside import Beside

# Luminance table of ITU-T T.81, annex K.1, in zigzag order.
_STANDARD = np.array(
    [
        *(16, 11, 12, 14, 12, 10, 16, 14, 13, 14, 18, 17, 16, 19, 24, 40),
        *(26, 24, 22, 22, 24, 49, 35, 37, 29, 40, 58, 51, 61, 60, 57, 51),
        *(56, 55, 64, 72, 92, 78, 64, 68, 87, 69, 55, 56, 80, 109, 81, 87),
        *(95, 98, 103, 104, 103, 62, 77, 113, 121, 112, 100, 120, 92, 101, 103, 99),
    ],
    np.int64,
)


def luminance_table(data: bytes) -> np.ndarray | None:
    """The first quantisation table of a JPEG file, int64 (64,) in zigzag order; None if it has none."""
    for marker, start, end in jpeg.segments(data):
        if marker != 0xDB:
            continue
        at = start + 4
        while at < end:
            wide, number = data[at] >> 4, data[at] & 15
            size = 128 if wide else 64
            values = np.frombuffer(data[at + 1 : at + 1 + size], ">u2" if wide else "u1")
            if number == 0 and values.size == 64:
                return values.astype(np.int64)
            at += 1 + size
    return None


def quality_of(table: np.ndarray) -> int | None:
    """The quality, 1 to 100, at which the IJG library has just this luminance table; None if at none."""
    return next((quality for quality in range(1, 101) if np.array_equal(ijg_table(quality), table)), None)


def ijg_table(quality: int) -> np.ndarray:
    """The IJG library's luminance table, int64 (64,) in zigzag order, of a quality from 1 to 100."""
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality
    return np.clip((_STANDARD * scale + 50) // 100, 1, 255)


def jpeg_finding(data: bytes) -> Beside | None:
    """By whose tables a JPEG file was compressed; None for other files."""
    if not data.startswith(b"\xff\xd8"):
        return None
    table = luminance_table(data)
    if table is None:
        return Beside("jpeg", "not_checked", "It has no quantisation table.", "The file is unusual or damaged.")
    details = {"table": hashlib.sha256(table.astype(">u2").tobytes()).hexdigest()[:16]}
    quality = quality_of(table)
    if quality is None:
        return Beside(
            "jpeg",
            "present",
            "Its quantisation table is none of the IJG library's.",
            "Cameras, phones and Photoshop have tables of their own. Consistent with a file as a camera wrote it, and "
            "with one that such a program saved.",
            details,
        )
    return Beside(
        "jpeg",
        "present",
        f"Its quantisation table is that of the IJG library at quality {quality}.",
        "Most software, websites and messengers write with this library, and some cameras and phones: the file may "
        "have been saved again since it was taken. That weakens traces of forgery, and is none.",
        {**details, "quality": str(quality)},
    )
