"""Lip re-synthesis: the lower face with another shape of the mouth, drawn anew at a low resolution and pasted back.

As programs of the kind of Wav2Lip (Prajwal et al., ACM MM 2020) do it, which draw a face 96 pixels wide. The lips are
moved by a warp of four rings about the mouth. No sound is needed: what a picture shows of it is its seam and the
lower face's lost detail.
"""

from collections.abc import Callable

import cv2
import numpy as np

from unmask.faces.mesh import FACE_OVAL
from unmask.forging.blending import blend, change_look, coarsen, poisson
from unmask.forging.mouth import draw_interior
from unmask.forging.triangle_warp import sample, triangle_map

Redraw = Callable[[np.ndarray, np.random.Generator], np.ndarray]
"""From a picture uint8 (H, W, 3) RGB to the same picture drawn anew, of the same size; a `decoders.Decoder` is one."""

# Both borders of the lips in the same order: the right corner, the lower lip, the left corner, the upper lip.
_OUTER = (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 409, 270, 269, 267, 0, 37, 39, 40, 185)
_INNER = (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308, 415, 310, 311, 312, 13, 82, 81, 80, 191)
_COUNT = len(_OUTER)
_LEFT = 10  # the left corner's place
_SIDE = 96  # pixels, of the face that is drawn anew


def resynthesise_lips(
    rng: np.random.Generator,
    pixels: np.ndarray,
    mesh: np.ndarray,
    redraw: Redraw | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """A face whose mouth was moved and whose lower part was drawn anew, and its mask.

    The real twin is the untouched picture.

    Args:
        rng: for everything random.
        pixels: uint8 (H, W, 3) RGB.
        mesh: (468, 2), pixels.
        redraw: draws the face, brought to about 96 pixels, anew, as an autoencoder does; None for no more than the
            loss of resolution.

    Returns:
        pixels: uint8 (H, W, 3).
        mask: float32 (H, W) in [0, 1], 1 where pixels are forged.
    """
    face = float(np.ptp(mesh[:, 0]))
    drawn = pixels
    if rng.random() < 0.85:
        drawn = _moved(rng, pixels, mesh, face)
    low = drawn is pixels or rng.random() < 0.8
    if low:
        drawn = _low_resolution(rng, drawn, mesh, redraw)
    if rng.random() < 0.3:
        drawn = change_look(rng, drawn, 0.3)
    mask = _lower_face(rng, pixels.shape, mesh, face)
    if rng.random() < 0.15:
        return poisson(pixels, drawn, mask), (mask > 0.5).astype(np.float32)
    return blend(pixels, drawn, mask), mask


def _moved(rng: np.random.Generator, pixels: np.ndarray, mesh: np.ndarray, face: float) -> np.ndarray:
    """The picture with its mouth opened, shut, pursed or stretched."""
    outer, inner = mesh[list(_OUTER)].astype(np.float64), mesh[list(_INNER)].astype(np.float64)
    along = outer[_LEFT] - outer[0]
    width = float(np.hypot(*along)) + 1e-6
    along = along / width
    down = np.array([-along[1], along[0]])
    turn = np.arange(_COUNT) * np.pi / _LEFT  # 0 at the right corner, pi at the left one
    lower, upper = np.clip(np.sin(turn), 0, None), np.clip(-np.sin(turn), 0, None)
    gap = np.clip(((inner - inner[-np.arange(_COUNT)]) @ down), 0, None)  # of a point of the lower lip below the upper
    opened = float(rng.uniform(0.015, 0.09)) * face * (1 if rng.random() < 0.7 else -1)
    if opened < 0 and gap.max() < 0.015 * face:  # it is shut
        opened = -opened
    wider = float(rng.uniform(-0.18, 0.15)) * width
    drop = np.maximum(opened * lower, -gap) if opened < 0 else opened * lower
    lift = opened * float(rng.uniform(0.0, 0.35)) * upper if opened > 0 else 0 * upper
    bend = float(rng.normal(0, 0.015)) * face * np.cos(turn) ** 2  # corners up or down
    move = (drop - lift + bend)[:, None] * down - (0.5 * wider * np.cos(turn))[:, None] * along
    middle = outer.mean(axis=0)
    # The rings: both borders of the lips move, the next follows by a half, the last stays.
    places, sources = [inner + move, outer + move], [inner, outer]
    for size, share in ((1.5, 0.5), (2.4, 0.0)):
        ring = middle + size * (outer - middle)
        ring = ring + (0.5 * (size - 1) * width * (lower - upper))[:, None] * down  # a mouth is wider than high
        sources.append(ring)
        places.append(ring + share * move)
    warp = triangle_map(np.concatenate(places), np.concatenate(sources), _RINGS, pixels.shape)
    drawn = sample(pixels, warp.continued(0.05 * face))
    opening, before = places[0], cv2.contourArea(inner.astype(np.float32))
    if cv2.contourArea(opening.astype(np.float32)) > max(3 * before, 0.002 * face**2):
        return draw_interior(rng, drawn, opening, face)
    return drawn


def _strip(first: int) -> list[tuple[int, int, int]]:
    """Triangles between two rings of points, the inner beginning at row `first`."""
    triangles = []
    for place in range(_COUNT):
        after = (place + 1) % _COUNT
        a, b, c, d = first + place, first + after, first + _COUNT + place, first + _COUNT + after
        triangles += [(a, b, c), (b, d, c)]
    return triangles


_RINGS = np.array([triangle for ring in (2, 1, 0) for triangle in _strip(ring * _COUNT)])


def _low_resolution(
    rng: np.random.Generator, pixels: np.ndarray, mesh: np.ndarray, redraw: Redraw | None
) -> np.ndarray:
    """The picture with the square about its face brought down to about 96 pixels, drawn anew, and brought up."""
    low, high = mesh.min(axis=0), mesh.max(axis=0)
    side = float(np.max(high - low)) * rng.uniform(1.0, 1.15)
    left, top = np.round((low + high - side) / 2).astype(int)
    height, width = pixels.shape[:2]
    right, bottom = min(left + round(side), width), min(top + round(side), height)
    left, top = max(left, 0), max(top, 0)
    crop = np.ascontiguousarray(pixels[top:bottom, left:right])
    small_side = round(_SIDE * float(rng.choice([1.0, 1.0, 4 / 3, 5 / 3])))
    scale = min(small_side / max(side, 1.0), 0.9)
    if redraw is not None:
        size = (max(round(crop.shape[1] * scale), 8), max(round(crop.shape[0] * scale), 8))
        small = redraw(cv2.resize(crop, size, interpolation=cv2.INTER_AREA), rng)
        kernel = (cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_LANCZOS4)[rng.integers(3)]
        crop = cv2.resize(small, crop.shape[1::-1], interpolation=kernel)
    else:
        crop = coarsen(rng, crop, scale)
    out = pixels.copy()
    out[top:bottom, left:right] = crop
    return out


def _lower_face(rng: np.random.Generator, shape: tuple[int, ...], mesh: np.ndarray, face: float) -> np.ndarray:
    """A soft mask of the lower face: its outline, a box, or an ellipse about the mouth; float32 (H, W)."""
    lips = mesh[list(_OUTER)]
    middle, width = lips.mean(axis=0), float(np.ptp(lips[:, 0])) + 1e-6
    nose, chin = mesh[1], mesh[152]
    mask: np.ndarray = np.zeros(shape[:2], np.float32)
    kind = rng.random()
    if kind < 0.5:
        points = np.concatenate([mesh[list(FACE_OVAL)], mesh[[1, 98, 327]]])
        down = chin - nose
        points = points[(points - nose) @ down > float(rng.uniform(-0.1, 0.35)) * float(down @ down)]
        hull = cv2.convexHull(np.round(np.concatenate([points, lips])).astype(np.int32))
        cv2.fillConvexPoly(mask, hull, 1.0)
    elif kind < 0.75:
        left, right = (middle[0] + sign * float(rng.uniform(0.7, 1.2)) * width for sign in (-1, 1))
        top, bottom = nose[1] + float(rng.uniform(-0.05, 0.15)) * face, chin[1] + float(rng.uniform(-0.05, 0.08)) * face
        corners = np.round([(left, top), (right, top), (right, bottom), (left, bottom)]).astype(np.int32)
        cv2.fillConvexPoly(mask, cv2.convexHull(corners), 1.0)
    else:
        axes = (round(float(rng.uniform(0.75, 1.1)) * width), round(float(rng.uniform(0.5, 0.9)) * width))
        cv2.ellipse(mask, (round(float(middle[0])), round(float(middle[1]))), axes, 0, 0, 360, 1.0, -1)
    soft = cv2.GaussianBlur(mask, (0, 0), max(float(rng.uniform(0.005, 0.05)) * face, 0.5))
    return np.clip(soft, 0, 1)
