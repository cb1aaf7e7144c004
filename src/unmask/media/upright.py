"""Turning pixels the right way up."""

from typing import NamedTuple

import cv2
import numpy as np


class Turn(NamedTuple):
    """How to bring stored pixels upright: first swap rows with columns, then mirror left-right, then top-bottom."""

    transpose: bool
    mirror: bool
    flip: bool

    def apply(self, pixels: np.ndarray) -> np.ndarray:
        """Turn `pixels` (H,W,3). Returns a contiguous array: (W,H,3) if `transpose`, else (H,W,3)."""
        if self.transpose:
            pixels = cv2.transpose(pixels)
        if self.mirror and self.flip:
            return cv2.flip(pixels, -1)
        if self.mirror:
            return cv2.flip(pixels, 1)
        if self.flip:
            return cv2.flip(pixels, 0)
        return pixels


AS_STORED = Turn(False, False, False)

# EXIF 2.32, tag 0x0112.
_EXIF = {
    1: AS_STORED,
    2: Turn(False, True, False),
    3: Turn(False, True, True),
    4: Turn(False, False, True),
    5: Turn(True, False, False),
    6: Turn(True, True, False),
    7: Turn(True, True, True),
    8: Turn(True, False, True),
}


def is_orientation(value: object) -> bool:
    """Whether `value` is one of the eight orientations of EXIF."""
    return isinstance(value, int) and value in _EXIF


def from_exif(orientation: object) -> Turn:
    """The turn that the EXIF orientation (1 to 8) asks for; anything else means "as stored"."""
    return _EXIF.get(orientation, AS_STORED) if isinstance(orientation, int) else AS_STORED


def from_display_matrix(matrix: bytes) -> Turn:
    """The turn that a video's display matrix asks for, to the nearest quarter turn.

    `matrix` is nine int32 in the machine's byte order, as FFmpeg's AV_FRAME_DATA_DISPLAYMATRIX holds them: a stored
    point (x, y) is shown at (a x + c y, b x + d y), where a, b, c, d are the numbers 0, 1, 3, 4.
    """
    if len(matrix) < 36:
        return AS_STORED
    a, b, _, c, d = (int(value) for value in np.frombuffer(matrix, np.int32, 5))
    if abs(b) + abs(c) > abs(a) + abs(d):
        return Turn(True, c < 0, b < 0)
    return Turn(False, a < 0, d < 0)
