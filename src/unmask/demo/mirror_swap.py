"""One small forgery with numpy and OpenCV: the face gives way to its own mirror image, laid on by the landmarks.

This is what a face swap does (warp, match colours, blend with a soft mask), with the same person as donor.
"""

import cv2
import numpy as np

# Mirrored, the subject's right eye and mouth corner become the left ones.
_MIRRORED = [1, 0, 2, 4, 3]


def mirror_swap(pixels: np.ndarray, landmarks: np.ndarray, scale: float = 1.03) -> tuple[np.ndarray, np.ndarray]:
    """Replace the inner face by its mirror image.

    Args:
        pixels: uint8 (H, W, 3) RGB.
        landmarks: (5, 2) right eye, left eye, nose tip, right and left mouth corner (the subject's), pixels.
        scale: size of the donor over that of the face it covers.

    Returns:
        forged: uint8 (H, W, 3) RGB.
        mask: float32 (H, W) in [0, 1]: how much of each pixel was replaced.
    """
    height, width = pixels.shape[:2]
    points = np.asarray(landmarks, np.float32)
    donor_points = (points * (-1, 1) + (width - 1, 0))[_MIRRORED].astype(np.float32)
    centre = points.mean(axis=0)
    matrix, _ = cv2.estimateAffinePartial2D(donor_points, (points - centre) * scale + centre, method=cv2.LMEDS)
    donor = cv2.warpAffine(
        pixels[:, ::-1].copy(), matrix, (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT
    )
    mask = _inner_face(points, height, width)
    donor = _match_colours(donor, pixels, mask > 0.5)
    forged = pixels + (donor - pixels) * mask[:, :, None]
    return np.clip(np.round(forged), 0, 255).astype(np.uint8), mask


def _inner_face(points: np.ndarray, height: int, width: int) -> np.ndarray:
    """A soft ellipse over brows, eyes, nose and mouth: float32 (H, W) in [0, 1]."""
    eyes, mouth = points[:2].mean(axis=0), points[3:].mean(axis=0)
    axis = mouth - eyes
    length, spread = float(np.linalg.norm(axis)), float(np.linalg.norm(points[1] - points[0]))
    angle = float(np.degrees(np.arctan2(axis[1], axis[0])))
    mask = np.zeros((height, width), np.float32)
    centre = eyes + 0.45 * axis
    size = (2.1 * length, 1.9 * spread)
    cv2.ellipse(mask, (tuple(map(float, centre)), size, angle), 1.0, -1)
    return np.clip(cv2.GaussianBlur(mask, (0, 0), sigmaX=max(1.0, 0.08 * spread)), 0.0, 1.0)


def _match_colours(donor: np.ndarray, target: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Give the donor the target's mean and spread of each colour channel within `where`: float32 (H, W, 3)."""
    given, wanted = donor[where].astype(np.float32), target[where].astype(np.float32)
    gain = wanted.std(axis=0) / np.maximum(given.std(axis=0), 1.0)
    return (donor - given.mean(axis=0)) * gain + wanted.mean(axis=0)
