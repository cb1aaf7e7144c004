"""From pixels to embeddings with a pack of task `sketch_search`: one network for drawings and photos.

A pack whose card has no `crop_margin` sees whole pictures, resized to its square input without keeping the aspect, as
published (SAKE, SBKA); one that has sees faces, cut out with that margin.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from unmask.errors import PackError
from unmask.faces.alignment import Box, context_crop, resize
from unmask.faces.finding import FaceFinder
from unmask.packs import Pack, load_pack

TASK = "sketch_search"
BATCH = 16  # pictures in one run of the network: bounds memory, and more are hardly faster
_OBJECTS, _FACES = "sketch_objects", "sketch_faces"


@dataclass(frozen=True)
class View:
    """What the network sees of a picture: uint8 (S, S, 3) RGB; the face box (x, y, width, height) it was cut out for.

    `box` is None for a whole picture.
    """

    pixels: np.ndarray
    box: Box | None


class Embedder:
    """Embeds whole pictures or faces. Use one per thread or process.

    Attributes:
        pack: the pack.
        faces: whether it sees faces.
        size: side of its input in pixels.
    """

    def __init__(self, pack: Pack) -> None:
        """Take a pack.

        Args:
            pack: of task "sketch_search".

        Raises:
            PackError: it has other outputs than one embedding, or no fixed square input.
        """
        height, width = pack.card.input_size
        if pack.card.task != TASK or pack.card.outputs != ("embedding",) or not height == width > 0:
            raise PackError(
                f"pack {pack.card.name!r} is not for sketch search (one output, embedding; a fixed square input): "
                "give another pack"
            )
        self.pack, self.size = pack, height
        self.faces = pack.card.crop_margin is not None
        self._finder = FaceFinder() if self.faces else None

    def views(self, pixels: np.ndarray) -> list[View]:
        """What the network sees of a picture.

        Args:
            pixels: uint8 (H, W, 3) RGB.

        Returns:
            The whole picture, or one view a face, the largest first; none where there is no face.
        """
        margin = self.pack.card.crop_margin
        if self._finder is None or margin is None:
            return [View(resize(pixels, self.size), None)]
        boxes = [face.box for face in self._finder.find(pixels)]
        return [View(context_crop(pixels, box, margin, self.size)[0], box) for box in boxes]

    def embed(self, views: Sequence[View]) -> np.ndarray:
        """The embeddings of views, in order: float32 (n, D), each of length 1, or all zero where the network gave none.

        What is in a batch with a view does not change its embedding beyond rounding.
        """
        blocks = [self._embed(views[start : start + BATCH]) for start in range(0, len(views), BATCH)]
        return np.concatenate(blocks) if blocks else np.empty((0, self.dimension), np.float32)

    @property
    def dimension(self) -> int:
        """D, by one run of the network."""
        blank = View(np.full((self.size, self.size, 3), 255, np.uint8), None)
        return self._embed([blank]).shape[1]

    def _embed(self, views: Sequence[View]) -> np.ndarray:
        pixels = np.stack([view.pixels for view in views]).transpose(0, 3, 1, 2).astype(np.float32) / 255
        (raw,) = self.pack.run(pixels)
        if raw.ndim != 2 or len(raw) != len(views):
            raise PackError(f"pack {self.pack.card.name!r} gives an embedding of shape {raw.shape}: export it anew")
        raw = raw.astype(np.float32)
        lengths = np.linalg.norm(raw, axis=1, keepdims=True)
        usable = np.isfinite(lengths) & (lengths > 0)
        return np.where(usable, raw / np.where(usable, lengths, 1), 0).astype(np.float32)


def load_embedder(pack: str | Path | None, faces: bool = False) -> Embedder:
    """Load a pack for sketch search.

    Args:
        pack: an embedded pack's name or a pack's folder; None for the embedded one of faces or of whole pictures.
        faces: whether faces are asked for.

    Raises:
        PackError: there is no such pack, it is of another task, or faces are asked for and it sees whole pictures.
    """
    embedder = Embedder(load_pack((_FACES if faces else _OBJECTS) if pack is None else pack, task=TASK))
    if faces and not embedder.faces:
        raise PackError(
            f"pack {embedder.pack.card.name!r} sees whole pictures (no crop_margin on its card): "
            "leave --faces out, or give a pack for faces"
        )
    return embedder
