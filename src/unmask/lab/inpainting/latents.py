"""Faces as latents of TAEF2 with the mask of their surroundings, made once and kept. Lab only."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from unmask.datasets.manifest import Sample, manifest_sha256
from unmask.errors import DataError
from unmask.faces.alignment import context_crop
from unmask.faces.finding import FaceFinder
from unmask.files import whole
from unmask.forging.autoencoders import Taef2
from unmask.forging.parsing import FaceParser, surroundings
from unmask.lab.inpainting.network import FACTOR
from unmask.progress import Progress

_ARRAYS = ("rows", "crops", "latents", "masks")  # of a file
_PART = 128  # faces in a file: what a kill costs at most


@dataclass(frozen=True)
class FaceLatents:
    """Faces ready to train on.

    Attributes:
        samples: their rows.
        crops: uint8 (N, S, S, 3) RGB.
        latents: float16 (N, 32, S/8, S/8) of the autoencoder.
        masks: bool (N, S/8, S/8), True in the surroundings; of a face that was not parsed, nowhere.
    """

    samples: tuple[Sample, ...]
    crops: np.ndarray
    latents: np.ndarray
    masks: np.ndarray

    def __len__(self) -> int:
        return len(self.samples)


def choose_faces(samples: Sequence[Sample], split: str, per_source: int) -> list[Sample]:
    """The genuine faces of a split, at most so many of a source, in the manifest's order.

    Args:
        samples: of a manifest.
        split: "train", "val", "test".
        per_source: 0 for all; else they are taken evenly over a source's rows.
    """
    by_source = defaultdict(list)
    for row, sample in enumerate(samples):
        if sample.label == 0 and sample.split == split and sample.spectrum == "visible":
            by_source[sample.source].append(row)
    rows: list[int] = []
    for own in by_source.values():
        count = min(per_source or len(own), len(own))
        rows += [own[place * len(own) // count] for place in range(count)]
    return [samples[row] for row in sorted(rows)]


def encode_faces(
    samples: Sequence[Sample],
    folder: Path,
    size: int,
    margin: float,
    taef2: Path,
    weights: Path | None,
    progress: Progress,
    stage: str = "encoding faces",
    every: int = 1,
) -> FaceLatents:
    """Crop, encode and parse faces; what the folder holds of these rows already is read.

    Args:
        samples: rows of a manifest.
        folder: where parts are kept; made if absent.
        size: side of a crop in pixels.
        margin: side of the crop over the longer side of the face box.
        taef2: folder of the autoencoder's weights.
        weights: folder of the face parser.
        progress: updated for every part.
        stage: what it is told.
        every: so many faces one is parsed of, which takes longer than all the rest.

    Raises:
        DataError: a weights file is missing or another one, a picture cannot be read, or none has a face.
    """
    folder.mkdir(parents=True, exist_ok=True)
    maker: _Maker | None = None
    parts, done = [], 0
    for start in range(0, len(samples), _PART):
        some = samples[start : start + _PART]
        path = folder / f"{size}-{margin:g}-{manifest_sha256(some)[:16]}.npz"
        if not path.is_file():
            maker = maker or _Maker(size, margin, taef2, weights)
            arrays = maker.make(some, every)
            with whole(path) as part, part.open("wb") as stream:
                np.savez(stream, **arrays)  # type: ignore[arg-type]  # of which the stub thinks as of other arguments
        with np.load(path) as arrays:
            parts.append({name: arrays[name] for name in _ARRAYS})
        parts[-1]["rows"] += start
        done += len(some)
        progress.update(stage, done, len(samples))
    joined = {name: np.concatenate([part[name] for part in parts]) for name in (parts[0] if parts else ())}
    if not joined or not len(joined["rows"]):
        raise DataError("no face was found in any of the genuine pictures to encode; give others")
    chosen = tuple(samples[row] for row in joined["rows"])
    return FaceLatents(chosen, joined["crops"], joined["latents"], joined["masks"])


class _Maker:
    """Crops, latents and masks of faces: opened when the first face is missing."""

    def __init__(self, size: int, margin: float, taef2: Path, weights: Path | None) -> None:
        self._size, self._margin = size, margin
        self._finder, self._parser = FaceFinder(), FaceParser(weights)
        self._autoencoder = Taef2(taef2).eval().to(memory_format=torch.channels_last)

    def make(self, samples: Sequence[Sample], every: int) -> dict[str, np.ndarray]:
        rows, crops, latents, masks = [], [], [], []
        for row, sample in enumerate(samples):
            picture = cv2.imdecode(np.fromfile(sample.path, np.uint8), cv2.IMREAD_COLOR)
            if picture is None:
                raise DataError(f"{sample.path}: not a picture OpenCV can read; drop it from the manifest")
            rgb = cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)
            faces = self._finder.find(rgb)
            if faces:
                crop, _ = context_crop(rgb, faces[0].box, self._margin, self._size)
                rows.append(row)
                crops.append(crop)
                latents.append(encode(self._autoencoder, crop[None])[0])
                mask = surroundings(self._parser(crop)) if row % every == 0 else np.zeros(crop.shape[:2], bool)
                masks.append(at_latent(mask))
        side = self._size // FACTOR
        return {
            "rows": np.array(rows, np.int64),
            "crops": np.array(crops, np.uint8).reshape(-1, self._size, self._size, 3),
            "latents": np.array(latents, np.float16).reshape(-1, 32, side, side),
            "masks": np.array(masks, bool).reshape(-1, side, side),
        }


@torch.no_grad()
def encode(autoencoder: Taef2, crops: np.ndarray) -> np.ndarray:
    """Latents float32 (N, 32, S/8, S/8) of crops uint8 (N, S, S, 3)."""
    x = torch.from_numpy(np.ascontiguousarray(crops.transpose(0, 3, 1, 2))).float() / 255
    latents: Tensor = autoencoder.encoder(x)
    return latents.numpy()


def at_latent(mask: np.ndarray) -> np.ndarray:
    """A mask bool (S, S) at the latent's places, (S/8, S/8): nearest, as Stable Diffusion's inpainting takes it."""
    return np.ascontiguousarray(mask[::FACTOR, ::FACTOR])


def random_mask(side: int, rng: np.random.Generator) -> np.ndarray:
    """A mask bool (side, side) of boxes or of brush strokes, or what is outside a box: anything may be missing.

    Args:
        side: of the latent.
        rng: of all that is drawn.
    """
    mask = np.zeros((side, side), bool)
    kind = rng.integers(3)
    if kind < 2:  # boxes, or all but one
        for _ in range(rng.integers(1, 4) if kind == 0 else 1):
            high, wide = rng.integers(side // 5, side * 3 // 4 + 1, 2)
            top, left = rng.integers(0, side - high + 1), rng.integers(0, side - wide + 1)
            mask[top : top + high, left : left + wide] = True
        return mask if kind == 0 else ~mask
    canvas = np.zeros((side, side), np.uint8)
    for _ in range(rng.integers(1, 4)):
        points = rng.integers(0, side, (rng.integers(2, 5), 2)).astype(np.int32)
        cv2.polylines(canvas, [points], False, 1, int(rng.integers(2, max(3, side // 4))))
    return canvas.astype(bool)
