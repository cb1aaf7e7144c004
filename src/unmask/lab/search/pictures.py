"""Sketches and photos as arrays: drawn or decoded once into a file that all runs read; varied at random in training."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from unmask.datasets.sketch_sets import SketchItem
from unmask.errors import DataError
from unmask.faces.alignment import context_crop
from unmask.faces.finding import FaceFinder
from unmask.files import whole
from unmask.parallel import spread
from unmask.progress import Progress

_CANVAS = 256  # of QuickDraw's strokes
_CHUNK = 16
_given: dict[str, Any] = {}


def picture_store(
    items: Sequence[SketchItem], size: int, margin: float, folder: Path, workers: int, progress: Progress
) -> np.ndarray:
    """The pictures of items, uint8 (N, size, size, 3) RGB, memory-mapped; made if they are not there.

    Args:
        items: sketches and photos.
        size: side in pixels; pictures are resized without regard to their proportions, as published.
        margin: of the crop over the face box, whose face is found by YuNet (the whole picture where it finds none); 0
            for whole pictures.
        folder: where they are kept.
        workers: processes.
        progress: of the making.

    Raises:
        DataError: a file cannot be read.
    """
    if not items:  # an empty file cannot be mapped
        return np.zeros((0, size, size, 3), np.uint8)
    facts = [[item.name, item.path.stat().st_size, item.path.stat().st_mtime_ns] for item in items]
    mark = hashlib.sha256(json.dumps([size, margin, facts]).encode()).hexdigest()[:16]
    path = folder / "sketches" / f"{mark}.npy"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole(path) as part:
            store = np.lib.format.open_memmap(part, "w+", np.uint8, (len(items), size, size, 3))
            made = spread(_prepared, items, workers, _start, (size, margin), _CHUNK)
            for number, pixels in enumerate(made, start=1):
                store[number - 1] = pixels
                if number % _CHUNK == 0 or number == len(items):
                    progress.update("reading sketches and photos", number, len(items))
            store.flush()
            del store
    return np.load(path, mmap_mode="r")


def _start(size: int, margin: float) -> None:
    _given.update(size=size, margin=margin, finder=FaceFinder() if margin else None)


def _prepared(item: SketchItem) -> np.ndarray:
    pixels = read_item(item)
    size, finder = _given["size"], _given["finder"]
    faces = finder.find(pixels) if finder is not None else []
    if faces:
        return context_crop(pixels, faces[0].box, _given["margin"], size)[0]
    return cv2.resize(pixels, (size, size), interpolation=cv2.INTER_AREA)


def read_item(item: SketchItem) -> np.ndarray:
    """An item's picture, uint8 (H, W, 3) RGB; transparent ones on white.

    Raises:
        DataError: it cannot be read.
    """
    if item.line is not None:
        return draw_strokes(_strokes(item))
    read = cv2.imdecode(np.fromfile(item.path, np.uint8), cv2.IMREAD_UNCHANGED) if item.path.is_file() else None
    if read is None:
        raise DataError(f"{item.path}: not a picture OpenCV can read; take it out of the set")
    if read.dtype != np.uint8:
        read = (read / 257).round().astype(np.uint8)  # of 16 bits, which PNG and TIFF have besides
    if read.ndim == 2:
        return cv2.cvtColor(read, cv2.COLOR_GRAY2RGB)
    if read.shape[2] == 4:
        share = read[..., 3:].astype(np.float32) / 255
        read = (read[..., :3] * share + 255 * (1 - share)).round().astype(np.uint8)
    return cv2.cvtColor(read, cv2.COLOR_BGR2RGB)


def _strokes(item: SketchItem) -> list[np.ndarray]:
    with item.path.open("rb") as stream:
        for number, line in enumerate(stream):
            if number == item.line:
                try:
                    drawing = json.loads(line)["drawing"]
                    return [np.asarray(stroke[:2], np.float32).T for stroke in drawing]
                except (ValueError, KeyError, IndexError, TypeError) as error:
                    raise DataError(f"{item.name}: no drawing of QuickDraw's; take the line out") from error
    raise DataError(f"{item.name}: the file has no such line any more")


def draw_strokes(strokes: Sequence[np.ndarray], side: int = _CANVAS, thickness: int = 3) -> np.ndarray:
    """Strokes as black lines on white, uint8 (side, side, 3).

    Args:
        strokes: (P, 2) each, x and y, in any units; scaled to 0.85 of the side.
        side: in pixels.
        thickness: of the lines in pixels.
    """
    canvas = np.full((side, side, 3), 255, np.uint8)
    points = [stroke for stroke in strokes if len(stroke)]
    if not points:
        return canvas
    every = np.concatenate(points)
    low, high = every.min(0), every.max(0)
    scale = 0.85 * side / max(float((high - low).max()), 1.0)
    for stroke in points:
        placed = (stroke - (low + high) / 2) * scale + side / 2
        cv2.polylines(canvas, [(placed * 16).round().astype(np.int32)], False, (0, 0, 0), thickness, cv2.LINE_AA, 4)
    return canvas


def varied(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A picture uint8 (S, S, 3), with a chance of 0.7 mirrored, scaled, turned and shifted, each with a chance of 0.5.

    The published augmentation, but about the picture's centre, where the code turns and scales about its corner: scales
    of 0.7 to 1.3 by axis, up to 30 degrees, up to 10 of 224 pixels. What comes in from outside repeats the border.
    """
    if rng.random() >= 0.7:
        return pixels
    side = pixels.shape[0]
    flip, scaled, turned, moved = rng.random(4) < 0.5
    scale = rng.uniform(0.7, 1.3, 2) if scaled else np.ones(2)
    angle = np.deg2rad(rng.uniform(-30, 30)) if turned else 0.0
    shift = rng.uniform(-10, 10, 2) * side / 224 if moved else np.zeros(2)
    linear = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) @ np.diag(scale)
    linear[:, 0] *= -1 if flip else 1
    centre = (side - 1) / 2
    matrix = np.column_stack([linear, centre - linear @ [centre, centre] + shift])
    return cv2.warpAffine(pixels, matrix, (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
