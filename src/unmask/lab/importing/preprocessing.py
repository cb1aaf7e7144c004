"""How publishers cut faces out, where that differs from this project's square crop around the box. Lab only.

A pack sees the square crop, whatever network is in it: quality, map and calibration refer to it. These crops serve the
comparison that `unmask import` prints: the logit of one face cut out in either way.
"""

import cv2
import numpy as np

from unmask.faces.alignment import alignment_matrix
from unmask.faces.finding import FoundFace


def aligned_crop(pixels: np.ndarray, face: FoundFace, size: int, scale: float = 1.3) -> np.ndarray:
    """The upright crop of GenD and DeepfakeBench: five points on a template that fills 1 / `scale` of the side.

    Args:
        pixels: uint8 (H, W, 3) RGB.
        face: in them.
        size: side of the result in pixels.
        scale: side of the crop over that of the template, at least 1.

    Returns:
        uint8 (size, size, 3) RGB, black where the picture ends.
    """
    margin = (scale - 1) / 2 * size
    outwards = np.array([[1 / scale, 0, margin / scale], [0, 1 / scale, margin / scale]])
    matrix = outwards @ np.vstack([alignment_matrix(face.landmarks, size), [0, 0, 1]])
    return cv2.warpAffine(pixels, matrix, (size, size), flags=cv2.INTER_LINEAR)


def box_crop(pixels: np.ndarray, face: FoundFace, size: int, scale: float = 1.25) -> np.ndarray:
    """The crop of the self-blended detector: the box, each side `scale` times as long, stretched to a square.

    Args:
        pixels: uint8 (H, W, 3) RGB.
        face: in them.
        size: side of the result in pixels.
        scale: sides of the crop over those of the box, at least 1; what lies outside the picture is left out.

    Returns:
        uint8 (size, size, 3) RGB.
    """
    x, y, wide, high = face.box
    dx, dy = wide * (scale - 1) / 2, high * (scale - 1) / 2
    rows = slice(max(0, int(y - dy)), int(y + high + dy) + 1)
    return cv2.resize(pixels[rows, max(0, int(x - dx)) : int(x + wide + dx) + 1], (size, size))


def centre_crop(pixels: np.ndarray, face: FoundFace, size: int) -> np.ndarray:
    """The crop of UnivFD, which knows no faces: the middle of the picture as it is; reduced or enlarged only to fit.

    Args:
        pixels: uint8 (H, W, 3) RGB.
        face: not looked at.
        size: side of the result in pixels.

    Returns:
        uint8 (size, size, 3) RGB.
    """
    side = min(size, *pixels.shape[:2])
    top, left = ((length - side) // 2 for length in pixels.shape[:2])
    return cv2.resize(pixels[top : top + side, left : left + side], (size, size), interpolation=cv2.INTER_CUBIC)
