"""A near-infrared look for pictures taken in visible light: a stand-in, and no physics.

What skin, eyes and sensors do between 700 and 1000 nm cannot be computed from three visible bands, and nothing here
tries to. `simulate_nir` imitates what pictures of an active near-infrared camera look like, so that code and protocols
for single-band faces can be run without such pictures: one band that follows red, where lips and blemishes fade; smooth
skin; lighter irises with a bright or dark pupil and the lamp's glint; light that falls off towards the corners; noise.
What a detector scores on it says nothing about its score on a near-infrared camera.
"""

import cv2
import numpy as np

from unmask.faces.mesh import FACE_OVAL, LEFT_BROW, LEFT_EYE, LIPS, RIGHT_BROW, RIGHT_EYE

_BAND = np.array([0.78, 0.18, 0.04], np.float32)  # R, G, B
_EYES = (RIGHT_EYE, LEFT_EYE)


def simulate_nir(rng: np.random.Generator, pixels: np.ndarray, mesh: np.ndarray | None = None) -> np.ndarray:
    """A picture with the look of a near-infrared one.

    Args:
        rng: draws the camera (band, fall-off, noise) and the eyes' look.
        pixels: uint8 (H, W, 3) RGB, visible light.
        mesh: (468, 2) pixels of the face; without one the whole picture is smoothed and the eyes stay as they are.

    Returns:
        uint8 (H, W, 3), three equal channels.
    """
    weights = _BAND + rng.uniform(-0.04, 0.04, 3).astype(np.float32)
    band = pixels.astype(np.float32) @ (weights / weights.sum())
    band = _smooth_skin(rng, band, mesh)
    if mesh is not None:
        band = _change_eyes(rng, band, mesh)
    band = band * _fall_off(rng, band.shape)
    # Light arrives in quanta, so that noise grows with the root of the signal; a floor comes from reading it out.
    noise = np.sqrt(rng.uniform(1.0, 2.5) ** 2 + rng.uniform(0.01, 0.06) * np.maximum(band, 0))
    band = band + rng.normal(0.0, 1.0, band.shape).astype(np.float32) * noise
    single = np.clip(band + 0.5, 0, 255).astype(np.uint8)
    return np.repeat(single[..., None], 3, axis=2)


def single_band(pixels: np.ndarray) -> np.ndarray:
    """A picture uint8 (H, W, 3) whose channels strayed apart by an edit, as one band in three equal channels."""
    grey = np.round(pixels.astype(np.float32).mean(axis=2)).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)


def _smooth_skin(rng: np.random.Generator, band: np.ndarray, mesh: np.ndarray | None) -> np.ndarray:
    face = 0.5 * min(band.shape) if mesh is None else float(np.ptp(mesh[:, 0]))
    reach = max(1.0, 0.02 * face)
    smooth = cv2.bilateralFilter(band, 2 * round(1.5 * reach) + 1, rng.uniform(18, 30), reach)
    weight = np.full(band.shape, rng.uniform(0.4, 0.6), np.float32)
    if mesh is not None:
        skin = _filled(band.shape, mesh, FACE_OVAL)
        for feature in (RIGHT_EYE + RIGHT_BROW, LEFT_EYE + LEFT_BROW, LIPS):
            skin = skin * (1 - _filled(band.shape, mesh, feature))
        weight = cv2.GaussianBlur(skin, (0, 0), reach) * np.float32(rng.uniform(0.7, 0.95))
    return band + weight * (smooth - band)


def _change_eyes(rng: np.random.Generator, band: np.ndarray, mesh: np.ndarray) -> np.ndarray:
    """Lighter irises, darker whites, a pupil that returns the lamp's light or does not, and the lamp's glint."""
    rows, columns = np.indices(band.shape, np.float32)
    lighter, darker = rng.uniform(15, 45), rng.uniform(5, 20)
    pupil = rng.uniform(40, 110) if rng.random() < 0.3 else -rng.uniform(20, 60)
    glint, aside = rng.uniform(60, 140), rng.uniform(-0.05, 0.05, 2)
    for eye in _EYES:
        ring = mesh[list(eye)]
        open_eye = cv2.GaussianBlur(_filled(band.shape, mesh, eye), (0, 0), 0.7)
        width = max(float(np.ptp(ring[:, 0])), 2.0)
        x, y = (ring.min(axis=0) + ring.max(axis=0)) / 2
        apart = np.hypot(columns - x, rows - y) / width
        iris, hole = (0.5 - 0.5 * np.tanh((apart - radius) * 20) for radius in (0.22, 0.09))
        spot = np.exp(-(((columns - x) / width - aside[0]) ** 2 + ((rows - y) / width - aside[1]) ** 2) / (2 * 0.03**2))
        band = band + open_eye * (lighter * (iris - hole) - darker * (1 - iris) + pupil * hole + glint * spot)
    return band.astype(np.float32)


def _fall_off(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Share of the light that arrives, float32 (H, W) in (0, 1]: 1 near the centre, less towards the corners."""
    rows, columns = np.indices(shape, np.float32)
    half = float(np.hypot(shape[0], shape[1])) / 2
    y, x = np.array(shape) / 2 + rng.uniform(-0.05, 0.05, 2) * half
    away = ((rows - y) ** 2 + (columns - x) ** 2) / half**2
    return (1 / (1 + rng.uniform(0.2, 0.6) * away) ** 2).astype(np.float32)


def _filled(shape: tuple[int, ...], mesh: np.ndarray, indices: tuple[int, ...]) -> np.ndarray:
    """Float32 (H, W), 1 inside the convex hull of some of the mesh's points."""
    out: np.ndarray = np.zeros(shape, np.uint8)
    cv2.fillConvexPoly(out, cv2.convexHull(np.round(mesh[list(indices)]).astype(np.int32)), 1)
    return out.astype(np.float32)
