"""The thumbnail in the EXIF block, compared with the picture.

A program that changes a picture and leaves its metadata as they were leaves the thumbnail of the picture before.
"""

import cv2
import numpy as np
from PIL import ExifTags

from unmask.media.beside import Beside
from unmask.media.beside.metadata import exif_of
from unmask.media.kinds import HEAD_BYTES, sniff

LEAST_CORRELATION = 0.9
LARGEST_DIFFERENCE = 64.0  # of 255, somewhere
LARGEST_STRETCH = 0.06
"""The limits beyond which a thumbnail is said to be of another picture;
`experiments/findings/thumbnails.py` measures the rates at them."""

_THUMBNAILS_ELSEWHERE = ("heif", "avif", "jxl", "tiff")
_SIDES = (16, 1024)  # pixels
_TURNS = {
    3: cv2.ROTATE_180,
    6: cv2.ROTATE_90_CLOCKWISE,
    8: cv2.ROTATE_90_COUNTERCLOCKWISE,
}


def thumbnail_finding(data: bytes, pixels: np.ndarray) -> Beside | None:
    """Whether the thumbnail is that of the picture; None for a file without an EXIF block, and for kinds that keep
    it elsewhere.

    Args:
        data: the file.
        pixels: the picture, uint8 (H, W, 3) RGB, upright.
    """
    kind = sniff(data[:HEAD_BYTES])
    if kind is None or kind.format in _THUMBNAILS_ELSEWHERE:
        return None
    exif, block = exif_of(data)
    if not block:
        return None
    ifd = exif.get_ifd(ExifTags.IFD.IFD1)
    start, length = ifd.get(0x0201), ifd.get(0x0202)
    if not isinstance(start, int) or not isinstance(length, int) or length < 1:
        return Beside(
            "thumbnail",
            "absent",
            "The EXIF block holds no thumbnail.",
            "Cameras write one, and most programs take it out or make it anew. Its absence says nothing.",
        )
    small = cv2.imdecode(np.frombuffer(block[start : start + length], np.uint8), cv2.IMREAD_GRAYSCALE)
    if small is None or not all(_SIDES[0] <= side <= _SIDES[1] for side in small.shape):
        return Beside(
            "thumbnail",
            "not_checked",
            "The thumbnail cannot be decoded.",
            "Damaged metadata may come from careless software as well as from somebody's hand.",
        )
    turn = _TURNS.get(exif.get(0x0112, 1))
    if turn is not None:
        small = cv2.rotate(small, turn)
    small = without_bars(small)
    stretch, correlation, difference = compare(small, pixels)
    details = {
        "correlation": f"{correlation:.3f}",
        "largest difference": f"{difference:.0f} of 255",
        "difference in shape": f"{100 * stretch:.1f} %",
    }
    same = correlation >= LEAST_CORRELATION and difference <= LARGEST_DIFFERENCE and stretch <= LARGEST_STRETCH
    if same:
        return Beside(
            "thumbnail",
            "present",
            "The thumbnail is that of the picture.",
            "No sign of a change that left the metadata as they were; small changes do not show at its size.",
            details,
        )
    return Beside(
        "thumbnail",
        "notable",
        "The thumbnail does not show the same picture.",
        "The picture was changed, cropped or replaced after the thumbnail was made, by a program that left the "
        "metadata as they were. Look at the thumbnail: it may be the picture before.",
        details,
    )


def without_bars(small: np.ndarray) -> np.ndarray:
    """A thumbnail, uint8 (H, W), without the black bars that fill it up to 4:3."""
    for axis in (0, 1):
        lines = np.asarray(small.max(axis=1 - axis))
        bar = 0
        while bar < len(lines) // 3 and lines[bar] < 24 and lines[-1 - bar] < 24:
            bar += 1
        if bar > 1:
            small = np.take(small, np.arange(bar + 1, len(lines) - bar - 1), axis)
    return small


def compare(small: np.ndarray, pixels: np.ndarray) -> tuple[float, float, float]:
    """How far a thumbnail and a picture are apart.

    Args:
        small: uint8 (h, w), the thumbnail.
        pixels: uint8 (H, W, 3), the picture.

    Returns:
        The relative difference of their ratios of sides; the correlation of what is left of both when blurred; and
        the largest difference of their blurred brightness, of 255, once their means and contrasts are equal.
    """
    height, width = small.shape
    stretch = abs((width / height) / (pixels.shape[1] / pixels.shape[0]) - 1.0)
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    other = cv2.resize(grey, (width, height), interpolation=cv2.INTER_AREA)
    size = max(3, round(0.05 * min(height, width)) | 1)
    one, two = (cv2.blur(picture.astype(np.float32), (size, size)) for picture in (small, other))
    one_spread, two_spread = float(one.std()), float(two.std())
    if min(one_spread, two_spread) < 1e-3:
        same = abs(one_spread - two_spread) < 1.0
        return stretch, 1.0 if same else 0.0, float(np.abs(one - two).max())
    matched = (one - one.mean()) / one_spread * two_spread + two.mean()
    correlation = float(((one - one.mean()) * (two - two.mean())).mean() / (one_spread * two_spread))
    return stretch, correlation, float(np.abs(matched - two).max())
