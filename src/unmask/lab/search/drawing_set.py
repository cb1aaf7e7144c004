"""A set of photos with a drawing of each, to train sketch search with, in the layout of pairs. Lab only: torch.

Every photo is drawn in one of the styles, by the seed and its name; lines are bent and left out as a hand does. The
set has `photos/` and `sketches/` with equal names, and `record.jsonl` with the style of each.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import cv2
import numpy as np

from unmask.datasets.sketch_sets import SketchItem
from unmask.errors import DataError
from unmask.forging.set_record import open_record, png, refuse_another, write_specification, write_whole
from unmask.lab.search.line_drawing import (
    Style,
    edge_network,
    hed_drawing,
    jittered,
    pencil_drawing,
    with_gaps,
    xdog_drawing,
)
from unmask.lab.search.pictures import read_item
from unmask.progress import SILENT, Progress

STYLES: tuple[Style, ...] = get_args(Style)
_PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")


@dataclass(frozen=True)
class _Specification:
    styles: tuple[str, ...]
    size: int
    seed: int
    exact: bool
    pictures: str | None


def draw_photos(
    source: Path,
    out: Path,
    styles: Sequence[str] = STYLES,
    size: int = 256,
    seed: int = 0,
    exact: bool = False,
    most: int = 0,
    progress: Progress = SILENT,
) -> int:
    """Draw the photos of a folder; a set that was begun is finished.

    Args:
        source: folder of photos, with those of folders in it.
        out: folder of the set.
        styles: of `STYLES`.
        size: longer side of photos and drawings in pixels; smaller ones stay as they are.
        seed: of styles, bent lines and gaps.
        exact: leave lines where they are, and all of them.
        most: photos at most, the first by name; 0 for all.
        progress: of the drawing.

    Returns:
        How many photos the set has.

    Raises:
        DataError: no such folder, no photos, an unknown style, an unreadable photo, or a folder with another set.
        AssetUnavailable: the weights of "hed" are not to be had.
    """
    for style in styles:
        if style not in STYLES:
            raise DataError(f"no style {style}; name some of {', '.join(STYLES)}")
    if not source.is_dir():
        raise DataError(f"{source}: no folder there; give one with photos")
    photos = sorted(path for path in source.rglob("*") if path.suffix.lower() in _PICTURES and path.is_file())
    photos = photos[: most or None]
    if not photos:
        raise DataError(f"{source}: no photos there ({', '.join(_PICTURES)})")
    names = [path.relative_to(source).with_suffix("").as_posix().replace("/", "-") for path in photos]
    if len(set(names)) < len(names):
        double = next(name for name in names if names.count(name) > 1)
        raise DataError(f"{source}: two photos would be called {double}; rename one")
    digest = hashlib.sha256("\n".join(names).encode()).hexdigest()
    asked = _Specification(tuple(styles), size, seed, exact, digest)
    refuse_another(out, asked)
    write_specification(out, asked)
    drawn = _drawers(styles)
    with open_record(out, lambda row: (row["path"], row["photo"])) as record:
        for number, (path, name) in enumerate(zip(photos, names, strict=True), start=1):
            sketch, photo = f"sketches/{name}.png", f"photos/{name}.png"
            if sketch not in record.rows:
                rng = np.random.default_rng(_seed(seed, name))
                style = styles[int(rng.integers(len(styles)))]
                pixels = _shrunk(read_item(SketchItem(path, name, False)), size)
                lines = drawn[style](pixels)
                if not exact:
                    lines = jittered(lines, rng)
                    lines = with_gaps(lines, rng, 0.15) if style != "pencil" and rng.random() < 0.5 else lines
                write_whole(out / photo, png(pixels))
                write_whole(out / sketch, png(lines))
                record.add({"path": sketch, "photo": photo, "style": style})
            progress.update("drawing", number, len(photos))
    return len(photos)


def _drawers(styles: Sequence[str]) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    made: dict[str, Callable[[np.ndarray], np.ndarray]] = {"xdog": xdog_drawing, "pencil": pencil_drawing}
    if "hed" in styles:
        network = edge_network()
        made["hed"] = lambda pixels: hed_drawing(network, pixels)
    return made


def _shrunk(pixels: np.ndarray, size: int) -> np.ndarray:
    scale = size / max(pixels.shape[:2])
    if scale >= 1:
        return pixels
    height, width = (max(1, round(side * scale)) for side in pixels.shape[:2])
    return cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)


def _seed(seed: int, name: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}:{name}".encode()).digest()[:8], "big")
