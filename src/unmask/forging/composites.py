"""Composites: single features of one face pasted on another, as the experts of CIPLAB's collection did by hand."""

from collections.abc import Collection

import cv2
import numpy as np

from unmask.faces.mesh import region_mask
from unmask.forging.blending import blend, match_colour, poisson, warp_face

FEATURES = ("left_eye", "right_eye", "nose", "mouth")
"""In the order of CIPLAB's flags. Left and right are the subject's; eyes come with their brows."""


def composite_region(
    rng: np.random.Generator,
    target: np.ndarray,
    target_mesh: np.ndarray,
    source: np.ndarray,
    source_mesh: np.ndarray,
    regions: Collection[str],
) -> tuple[np.ndarray, np.ndarray, str]:
    """Paste features of another face, each matched in colour to what it covers, by alpha or Poisson blending.

    Args:
        rng: draws outlines, softness, colour matching and the way of blending.
        target: uint8 (H, W, 3) RGB, the face that is changed.
        target_mesh: (468, 2) pixels.
        source: uint8 (H', W', 3) RGB, the face that gives.
        source_mesh: (468, 2) pixels.
        regions: some of FEATURES.

    Returns:
        pixels: uint8 (H, W, 3).
        mask: float32 (H, W) in [0, 1], 1 where the foreign pixels are.
        flags: CIPLAB's, "1010" for left eye and nose.

    Raises:
        ValueError: no region, or one that is not in FEATURES.
    """
    if not regions or not set(regions) <= set(FEATURES):
        raise ValueError(f"regions {', '.join(regions) or 'none'}: name some of {', '.join(FEATURES)}")
    worn = warp_face(source, source_mesh, target_mesh, target.shape)
    face = float(np.ptp(target_mesh[:, 0]))
    inside = region_mask(target.shape, target_mesh, "face").astype(np.float32)
    out, mask = target, np.zeros(target.shape[:2], np.float32)
    for name in FEATURES:
        if name not in regions:
            continue
        area = region_mask(target.shape, target_mesh, name, rng.uniform(0.03, 0.07)) * inside
        soft = cv2.GaussianBlur(area, (0, 0), max(0.5, rng.uniform(0.005, 0.025) * face))
        soft = np.minimum(soft, 1).astype(np.float32)  # the filter's sum is 1 but for rounding
        pasted = match_colour(worn, target, soft, rng.uniform(0.5, 1.0))
        if rng.random() < 0.4:
            out, soft = poisson(out, pasted, soft), (soft > 0.5).astype(np.float32)
        else:
            out = blend(out, pasted, soft)
        mask = np.maximum(mask, soft)
    return out, mask, "".join("01"[name in regions] for name in FEATURES)


def draw_regions(rng: np.random.Generator) -> tuple[str, ...]:
    """One to four features, any combination as likely as any other."""
    number = int(rng.integers(1, 2 ** len(FEATURES)))
    return tuple(name for bit, name in enumerate(FEATURES) if number >> bit & 1)
