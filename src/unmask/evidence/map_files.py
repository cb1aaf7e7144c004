"""Forgery maps as picture files: one grey PNG a face, 255 where the map is 1."""

import hashlib
import re
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from unmask.errors import DataError
from unmask.evidence.report import ForgeryMap, Report
from unmask.files import begins_with, whole

_LARGEST = 2048  # pixels
_MARK = "unmask forgery map"


def map_picture(forgery_map: ForgeryMap) -> np.ndarray:
    """A map at the size of what it covers: uint8 (H, W), 255 where it is 1; at most 2048 pixels on a side."""
    _, _, width, height = forgery_map.region
    shrink = min(1.0, _LARGEST / max(width, height, 1.0))
    size = max(1, round(width * shrink)), max(1, round(height * shrink))
    values = np.asarray(forgery_map.values, np.float32)
    smooth = cv2.resize(values, size, interpolation=cv2.INTER_LINEAR)
    return np.round(255.0 * np.clip(smooth, 0.0, 1.0)).astype(np.uint8)


def save_maps(report: Report, folder: Path) -> list[Path]:
    """Write the map of each judged face to a folder, as `NAME-HASH-face1.png`.

    The name is that of the file, made safe; the hash that of its path and bytes, so that files of one name stay apart.
    A map of an earlier run is replaced, any other file is kept. The text "region" of a PNG has the x, y, width and
    height in the picture that it covers.

    Args:
        report: of one file.
        folder: made if it is not there.

    Returns:
        The files written, in the order of the faces.

    Raises:
        DataError: a file of another kind is in the way, or the folder cannot be written.
    """
    name = re.sub(r"[^\w.-]+", "_", Path(report.path).name)[:80].lstrip(".") or "standard_input"
    mark = hashlib.sha256(f"{report.path}\0{report.sha256}".encode()).hexdigest()[:8]
    written = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for face in report.faces:
            if face.map is None or not face.map.values or not face.map.values[0]:
                continue
            path = folder / f"{name}-{mark}-face{face.index + 1}.png"
            if path.exists() and not begins_with(path, _MARK.encode()):
                raise DataError(f"{path}: is there already and is no map of unmask; give another folder")
            text = PngInfo()
            text.add_text("Title", _MARK)
            text.add_text("region", " ".join(f"{value:.1f}" for value in face.map.region))
            with whole(path) as part:
                Image.fromarray(map_picture(face.map)).save(part, "PNG", pnginfo=text)
            written.append(path)
    except OSError as error:
        raise DataError(f"{folder}: the maps cannot be written ({error.strerror}): give a writable folder") from error
    return written
