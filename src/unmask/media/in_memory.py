"""What Python programs hold in memory, as a source to inspect."""

import io
import os
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from unmask.media.sources import Source, display_path

IN_MEMORY = "in memory"
"""What a report calls media that have no name."""


def source_of(media: Any, name: str | None = None) -> Source:
    """A source from a path, bytes, an open file, a PIL image or an array.

    Args:
        media: see `unmask.inspect`.
        name: what to call it.

    Raises:
        TypeError: it is of none of these kinds, or a file that is open for text.
        ValueError: an array is not uint8 of shape (H, W), (H, W, 3) or (H, W, 4), or is empty.
    """
    if isinstance(media, Source):
        return media
    if isinstance(media, str | os.PathLike):
        path = os.fspath(media)
        if isinstance(path, bytes):
            path = os.fsdecode(path)
        return Source(display_path(name or path), Path(path))
    if isinstance(media, bytes | bytearray | memoryview):
        return Source(name or IN_MEMORY, None, bytes(media))
    if isinstance(media, Image.Image):
        return Source(name or display_path(getattr(media, "filename", "") or IN_MEMORY), None, _png(upright(media)))
    if isinstance(media, np.ndarray):
        return Source(name or IN_MEMORY, None, _png(_picture(media)))
    if hasattr(media, "read"):
        data = media.read()
        if not isinstance(data, bytes):
            raise TypeError('a file must be open for reading bytes: open(path, "rb")')
        own = getattr(media, "name", None)
        return Source(name or (display_path(own) if isinstance(own, str) else IN_MEMORY), None, data)
    raise TypeError(
        f"give a path, bytes, an open file, a PIL image or a uint8 array to inspect, not {type(media).__name__}"
    )


def upright(picture: Image.Image) -> Image.Image:
    """A PIL image with its EXIF orientation applied, in a mode that PNG files can have."""
    turned = ImageOps.exif_transpose(picture)
    return turned if turned.mode in ("L", "LA", "RGB", "RGBA", "I;16") else turned.convert("RGB")


def _picture(pixels: np.ndarray) -> Image.Image:
    shape = pixels.shape
    if (
        pixels.dtype != np.uint8
        or pixels.size == 0
        or not (len(shape) == 2 or (len(shape) == 3 and shape[2] in (3, 4)))
    ):
        raise ValueError(f"an array must be uint8 (H, W), (H, W, 3) or (H, W, 4), not {pixels.dtype} {shape}")
    return Image.fromarray(np.ascontiguousarray(pixels))


def _png(picture: Image.Image) -> bytes:
    stream = io.BytesIO()
    # Without what else the image carries: a colour profile would be applied to pixels that may have left it.
    picture.save(stream, "PNG", compress_level=1, icc_profile=None, exif=b"")
    return stream.getvalue()
