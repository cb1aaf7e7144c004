"""The whole picture behind a report, for the page that shows which face is which."""

from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np

LONGEST = 1024  # pixels: enough to tell people apart, some 100 kB
_JPEG_QUALITY = 85


@dataclass(frozen=True)
class WholePicture:
    """A picture, or the frame of a video in which most of its people were seen, and where the faces are in it.

    Attributes:
        jpeg: a JPEG file of it, at most `LONGEST` pixels a side.
        places: by the index of a face in the report, its left, top, width and height as shares of the picture.
        time: of the frame, in seconds; None for a picture.
    """

    jpeg: bytes
    places: Mapping[int, tuple[float, float, float, float]]
    time: float | None = None


def whole_picture(
    pixels: np.ndarray, boxes: Mapping[int, tuple[float, float, float, float]], time: float | None = None
) -> WholePicture:
    """The picture, made small.

    Args:
        pixels: uint8 (H, W, 3) RGB.
        boxes: of the faces by their index in the report: x, y, width, height in pixels.
        time: of a video's frame, in seconds.
    """
    height, width = pixels.shape[:2]
    scale = min(1.0, LONGEST / max(height, width))
    if scale < 1:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    _, encoded = cv2.imencode(".jpg", pixels[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    places = {index: (x / width, y / height, w / width, h / height) for index, (x, y, w, h) in boxes.items()}
    return WholePicture(encoded.tobytes(), places, time)
