"""From a found face to the pixels a model sees: the context crop and the five-point alignment."""

import cv2
import numpy as np

Box = tuple[float, float, float, float]

# Five-point template of ArcFace (Deng et al. 2019) for a 112-pixel crop: right eye, left eye, nose, mouth corners.
_TEMPLATE_112 = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]], np.float32
)


def scale_box(box: Box, scale: float) -> Box:
    """The box in a picture resampled to `scale` times its sides."""
    x, y, w, h = box
    return x * scale, y * scale, w * scale, h * scale


def context_region(shape: tuple[int, ...], box: Box, margin: float) -> tuple[int, int, int]:
    """The square (x, y, side) that a context crop takes, in whole pixels.

    Args:
        shape: of the picture, (H, W, ...).
        box: face box (x, y, width, height) in pixels.
        margin: side of the square over the longer side of the box, > 0.

    The square keeps its centre on the face while it fits; at a border it moves inwards, and it shrinks to the shorter
    side of the picture if it must. Nothing is padded: an invented border would be a clue that has nothing to do
    with the face.
    """
    height, width = shape[:2]
    x, y, w, h = box
    side = max(1, min(round(margin * max(w, h)), height, width))
    left = min(max(round(x + w / 2 - side / 2), 0), width - side)
    top = min(max(round(y + h / 2 - side / 2), 0), height - side)
    return left, top, side


def resize(pixels: np.ndarray, size: int) -> np.ndarray:
    """Resize uint8 (H, W, 3) to (size, size, 3): area averaging down, cubic up."""
    if pixels.shape[:2] == (size, size):
        return pixels
    method = cv2.INTER_AREA if min(pixels.shape[:2]) > size else cv2.INTER_CUBIC
    return cv2.resize(pixels, (size, size), interpolation=method)


def context_crop(pixels: np.ndarray, box: Box, margin: float, size: int) -> tuple[np.ndarray, Box]:
    """The unaligned square crop around a face, with some context.

    Args:
        pixels: uint8 (H, W, 3) RGB.
        box: face box (x, y, width, height) in pixels.
        margin: side of the crop over the longer side of the box.
        size: side of the result in pixels.

    Returns:
        crop: uint8 (size, size, 3) RGB.
        region: (x, y, width, height) of the crop in the picture, pixels.
    """
    left, top, side = context_region(pixels.shape, box, margin)
    crop = resize(pixels[top : top + side, left : left + side], size)
    return np.ascontiguousarray(crop), (float(left), float(top), float(side), float(side))


def align(pixels: np.ndarray, landmarks: np.ndarray, size: int = 112) -> np.ndarray:
    """Rotate, scale and shift a face onto the ArcFace five-point template.

    Args:
        pixels: uint8 (H, W, 3) RGB.
        landmarks: (5, 2) right eye, left eye, nose tip, right and left mouth corner (the subject's right), pixels.
        size: side of the result in pixels.

    Returns:
        uint8 (size, size, 3) RGB.
    """
    matrix = alignment_matrix(landmarks, size)
    return cv2.warpAffine(pixels, matrix, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)


def alignment_matrix(landmarks: np.ndarray, size: int = 112) -> np.ndarray:
    """The similarity that `align` applies.

    Args:
        landmarks: as of `align`.
        size: side of the aligned face in pixels.

    Returns:
        (2, 3) from places in the picture to places in the aligned face.

    Raises:
        ValueError: the points coincide.
    """
    template = _TEMPLATE_112 * (size / 112)
    matrix, _ = cv2.estimateAffinePartial2D(np.asarray(landmarks, np.float32), template, method=cv2.LMEDS)
    if matrix is None:  # the points coincide: no similarity exists
        raise ValueError("the five landmarks are degenerate; no alignment exists")
    return matrix
