"""What is seen in an opened mouth, for makers that open it: another's, or a dark hollow with teeth."""

import cv2
import numpy as np

from unmask.forging.blending import blend


def draw_interior(
    rng: np.random.Generator,
    pixels: np.ndarray,
    opening: np.ndarray,
    face: float,
    seen: tuple[np.ndarray, np.ndarray] | None = None,
) -> np.ndarray:
    """A picture with its mouth filled in.

    Args:
        rng: draws colours and teeth.
        pixels: uint8 (H, W, 3) RGB.
        opening: (N, 2) pixels, the inner border of the lips.
        face: width of the face in pixels.
        seen: a picture whose mouth is shown where it is open, and its opening (N, 2) with the points in the same
            order; None to draw one.

    Returns:
        uint8 (H, W, 3), another array.
    """
    inside: np.ndarray = np.zeros(pixels.shape[:2], np.float32)
    cv2.fillPoly(inside, [np.round(opening * 16).astype(np.int32)], 1.0, lineType=cv2.LINE_AA, shift=4)
    mask = np.clip(cv2.GaussianBlur(inside, (0, 0), max(0.008 * face, 0.5)), 0, 1)
    if seen is not None and _height(seen[1]) > 0.5 * _height(opening):
        return blend(pixels, _fitted(seen[0], seen[1], opening, pixels.shape), mask)
    return blend(pixels, _hollow(rng, pixels, opening), mask)


def _height(opening: np.ndarray) -> float:
    """Of the opening, relative to its width."""
    box = cv2.minAreaRect(opening.astype(np.float32))[1]
    return min(box) / (max(box) + 1e-6)


def _fitted(donor: np.ndarray, theirs: np.ndarray, opening: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    design = np.c_[theirs, np.ones(len(theirs))]
    affine, *_ = np.linalg.lstsq(design, opening, rcond=None)
    size = (shape[1], shape[0])
    return cv2.warpAffine(donor, affine.T, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)


def _hollow(rng: np.random.Generator, pixels: np.ndarray, opening: np.ndarray) -> np.ndarray:
    """Dark red, darker in the middle, with a row of teeth above, at times."""
    height, width = pixels.shape[:2]
    low, high = opening.min(axis=0), opening.max(axis=0)
    light = float(np.clip(pixels.mean() / 128, 0.4, 1.4))
    dark = rng.uniform((35, 10, 10), (95, 45, 45)) * light
    rows = (np.arange(height, dtype=np.float32)[:, None, None] - low[1]) / max(high[1] - low[1], 1)
    columns = (np.arange(width, dtype=np.float32)[None, :, None] - low[0]) / max(high[0] - low[0], 1)
    hollow = dark * (0.5 + 1.6 * (rows - 0.5) ** 2 + 0.8 * (columns - 0.5) ** 2)
    if rng.random() < 0.7:
        edge, bright = rng.uniform(0.25, 0.6), rng.uniform((150, 140, 125), (220, 212, 200)) * light
        gaps = 1 - 0.12 * (np.cos(columns * np.pi * rng.uniform(6, 10)) > 0.9)
        teeth = np.clip((edge - rows) * 8, 0, 1) * (1 - 1.2 * (columns - 0.5) ** 2)
        hollow = hollow * (1 - teeth) + bright * gaps * teeth
    return np.clip(np.broadcast_to(hollow, pixels.shape) + 0.5, 0, 255).astype(np.uint8)
