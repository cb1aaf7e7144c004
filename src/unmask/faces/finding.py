"""Find faces: YuNet on the whole picture, on tiles of a large one, and on a framed copy where nothing showed.

YuNet sees faces of about 10 to 300 pixels on its input, so what counts is at which scales it looks:

1. *Whole*: the picture brought to `WHOLE` pixels on its long side (up or down). Finds portraits and ordinary photos.
2. *Tiles*: a large picture holds faces that are too small on that copy. It is looked at again at the scale at which a
   face of `SMALLEST` pixels is found, in overlapping tiles of at most `TILE` pixels, never more than `MAX_TILES` of them:
   beyond that the scale drops, so the cost of a huge picture is bounded.
3. *Framed*: only if nothing was found: once more at `FRAMED` pixels with a mirrored border, for faces that fill the
   picture and are cut by its edges.

Nothing is ever stretched; boxes and points are given in pixels of the picture that came in.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from unmask.faces.alignment import Box
from unmask.packs import Pack, load_pack

WHOLE = 512
FRAMED = 192
BORDER = 0.25
SMALLEST = 32
SMALLEST_SEEN = 14
TILE = 640
MAX_TILES = 24
_STRIDES = (8, 16, 32)


@dataclass(frozen=True)
class FoundFace:
    """One face in a picture.

    `box` is (x, y, width, height) in pixels, inside the picture. `landmarks` is float32 (5, 2), x and y in pixels: right eye,
    left eye, nose tip, right and left mouth corner, as the subject would say (the right eye is on the picture's left);
    they may lie just outside the picture. `confidence` is in [0, 1].
    """

    box: Box
    landmarks: np.ndarray
    confidence: float


@dataclass(frozen=True)
class _Look:
    """One view of the picture: the part (x, y, w, h) that is taken, its scale, and a mirrored border in scaled pixels."""

    part: tuple[int, int, int, int]
    scale: float
    border: int = 0


class FaceFinder:
    """Finds faces with an embedded YuNet. Deterministic; use one per thread or process."""

    def __init__(self, pack: Pack | None = None, confidence: float = 0.6) -> None:
        """Take the embedded pack or another face detection pack with YuNet's outputs.

        Args:
            pack: the detector; None takes the embedded "yunet".
            confidence: faces below it are not reported, in (0, 1).
        """
        self._pack = pack or load_pack("yunet", task="face_detection")
        self._confidence = confidence

    def find(self, pixels: np.ndarray) -> list[FoundFace]:
        """All faces of a picture, largest first.

        Args:
            pixels: uint8 (H, W, 3) RGB, any size from 1 x 1 up.

        Returns:
            The faces, largest box first; an empty list where there is none.
        """
        if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
            raise ValueError(f"expected uint8 (H, W, 3), got {pixels.dtype} {pixels.shape}")
        height, width = pixels.shape[:2]
        found = [self._look(pixels, look) for look in _looks(height, width)]
        faces = _merge(np.concatenate(found))
        if not len(faces):
            scale = FRAMED / max(height, width)
            faces = _merge(self._look(pixels, _Look((0, 0, width, height), scale, round(FRAMED * BORDER))))
        return _sorted_faces(faces, height, width)

    def _look(self, pixels: np.ndarray, look: _Look) -> np.ndarray:
        """Faces of one view as rows (x, y, w, h, 5 points, confidence) in pixels of the whole picture."""
        x, y, w, h = look.part
        view = pixels[y : y + h, x : x + w]
        size = (max(1, round(w * look.scale)), max(1, round(h * look.scale)))
        if size != (w, h):
            view = cv2.resize(view, size, interpolation=cv2.INTER_AREA if look.scale < 1 else cv2.INTER_LINEAR)
        border = look.border
        if border:
            view = cv2.copyMakeBorder(view, border, border, border, border, cv2.BORDER_REFLECT)
        rows = self._detect(view)
        steps = np.array([w / size[0], h / size[1]], np.float32)
        rows[:, :2] = (rows[:, :2] - border) * steps + (x, y)
        rows[:, 2:4] *= steps
        rows[:, 4:14] = ((rows[:, 4:14].reshape(-1, 5, 2) - border) * steps + (x, y)).reshape(-1, 10)
        return rows

    def _detect(self, view: np.ndarray) -> np.ndarray:
        """YuNet on uint8 (H, W, 3) RGB: rows (x, y, w, h, 5 points, confidence) in pixels of the view, unmerged."""
        height, width = view.shape[:2]
        canvas = np.zeros((-height % 32 + height, -width % 32 + width, 3), np.uint8)
        canvas[:height, :width] = view
        outputs = self._pack.run_normalised(_tensor(canvas, self._pack))
        rows = [
            _decode(*outputs[level::3], stride, canvas.shape[1] // stride, self._confidence)
            for level, stride in enumerate(_STRIDES)
        ]
        return np.concatenate(rows)


def _tensor(canvas: np.ndarray, pack: Pack) -> np.ndarray:
    """uint8 (H, W, 3) RGB to the normalised float32 (1, 3, H, W) that the card asks for."""
    card = pack.card
    tensor = cv2.dnn.blobFromImage(canvas, swapRB=card.colour_order == "BGR")
    mean, std = (np.asarray(part, np.float32).reshape(1, 3, 1, 1) * 255 for part in (card.mean, card.std))
    if mean.any():
        tensor -= mean
    if (std != 1).any():
        tensor /= std
    return tensor


def _decode(
    cls: np.ndarray, obj: np.ndarray, bbox: np.ndarray, kps: np.ndarray, stride: int, columns: int, threshold: float
) -> np.ndarray:
    """One level's outputs (1, N, 1 | 1 | 4 | 10) to rows in pixels, those at or above the threshold."""
    confidence = np.sqrt(np.clip(cls[0, :, 0], 0, 1) * np.clip(obj[0, :, 0], 0, 1))
    keep = np.flatnonzero(confidence >= threshold)
    cells = np.stack([keep % columns, keep // columns], axis=1).astype(np.float32)
    centres = (cells + bbox[0, keep, :2]) * stride
    sides = np.exp(bbox[0, keep, 2:]) * stride
    points = (cells[:, None] + kps[0, keep].reshape(-1, 5, 2)) * stride
    return np.concatenate(
        [centres - sides / 2, sides, points.reshape(-1, 10), confidence[keep, None]], axis=1, dtype=np.float32
    )


def _looks(height: int, width: int) -> Iterator[_Look]:
    """The views to take of a picture: the whole, then the tiles of a large one."""
    scale = WHOLE / max(height, width)
    yield _Look((0, 0, width, height), scale)
    fine = min(1.0, SMALLEST_SEEN / SMALLEST)
    if fine > scale * 1.1:
        yield from _tiles(height, width, fine)


def _tiles(height: int, width: int, scale: float) -> Iterator[_Look]:
    overlap = 96
    while True:
        rows, columns = (max(1, math.ceil((round(side * scale) - overlap) / (TILE - overlap))) for side in (height, width))
        if rows * columns <= MAX_TILES:
            break
        scale *= 0.95
    for top, h in _spans(height, rows, overlap / scale):
        for left, w in _spans(width, columns, overlap / scale):
            yield _Look((left, top, w, h), scale)


def _spans(side: int, count: int, overlap: float) -> list[tuple[int, int]]:
    """Cut `side` into `count` equal (start, length) that overlap by `overlap`."""
    length = math.ceil((side + (count - 1) * overlap) / count)
    if count == 1:
        return [(0, side)]
    return [(round(i * (side - length) / (count - 1)), length) for i in range(count)]


def _merge(rows: np.ndarray) -> np.ndarray:
    """Non-maximum suppression: of boxes that overlap by IoU > 0.3, or lie inside another, the surest stays."""
    order = np.argsort(-rows[:, 14], kind="stable")
    kept: list[np.ndarray] = []
    for row in rows[order]:
        if all(_overlap(row, other) <= 0.3 for other in kept):
            kept.append(row)
    return np.array(kept, np.float32).reshape(-1, 15)


def _overlap(a: np.ndarray, b: np.ndarray) -> float:
    w = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    h = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    if w <= 0 or h <= 0:
        return 0.0
    return float(w * h / (a[2] * a[3] + b[2] * b[3] - w * h))


def _sorted_faces(rows: np.ndarray, height: int, width: int) -> list[FoundFace]:
    faces = []
    for row in rows:
        left, top = max(0.0, float(row[0])), max(0.0, float(row[1]))
        right, bottom = min(float(width), float(row[0] + row[2])), min(float(height), float(row[1] + row[3]))
        if right > left and bottom > top:
            faces.append(
                FoundFace((left, top, right - left, bottom - top), row[4:14].reshape(5, 2).copy(), float(row[14]))
            )
    return sorted(faces, key=lambda face: (-face.box[2] * face.box[3], face.box))
