"""What detectors are trained on: batches of pairs, a real face and a forgery made of it. Lab only."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unmask.lab.detection.config import DetectionTrainConfig
from unmask.lab.detection.held_out import EvalFace
from unmask.lab.detection.pairs_pool import UNKNOWN, Pool


@dataclass(frozen=True)
class Pairs:
    """A feed of the engine: a pool under a configuration, and the validation split's faces.

    `generators` are the families in the order of the network's; by default those of the pool that are learned.
    """

    pool: Pool
    config: DetectionTrainConfig
    faces: Sequence[EvalFace] = ()
    unit: str = "pairs"
    generators: tuple[str, ...] = ()

    @property
    def count(self) -> int:
        """Pairs in a step."""
        return self.config.batch_pairs

    def batches(self, device: torch.device, first: int, rank: int = 0, world: int = 1) -> Iterator[dict[str, Tensor]]:
        """Batches of pairs, see `batches`."""
        return batches(self.pool, self.config, device, first, rank, world, self.generators)

    def validation_batches(self, device: torch.device) -> Iterator[dict[str, Tensor]]:
        """The validation faces of the families learned, and the reals, all of sources that are trained on."""
        gone = set(self.config.without_sources)
        faces = [face for face in self.faces if face.source.partition("@")[0] not in gone]
        return faces_in_batches(faces, self.generators or generators_of(self.pool, self.config), device)


def batches(
    pool: Pool,
    config: DetectionTrainConfig,
    device: torch.device,
    first: int,
    rank: int = 0,
    world: int = 1,
    generators: Sequence[str] = (),
    source_weights: Callable[[], np.ndarray] | None = None,
) -> Iterator[dict[str, Tensor]]:
    """Endless batches from step `first` on: shuffled epochs over the allowed pairs; a step depends on seed and number.

    The pool is held on the device if it takes less than half of its free memory; else rows are read from disk. With
    `source_weights`, asked for at every step, the pairs of a source are drawn so many times as often: see `_redrawn`.
    """
    allowed = pool.without(config.without, config.without_sources)
    own = list(generators) or list(generators_of(pool, config))
    numbers = torch.tensor([own.index(name) + 1 if name in own else 0 for name in pool.plan.families], device=device)
    pixels: Any = pool.pixels
    if device.type == "cuda" and pool.pixels.nbytes < torch.cuda.mem_get_info(device)[0] // 2:
        pixels = torch.from_numpy(np.asarray(pool.pixels)).to(device)
    count = config.batch_pairs
    per_epoch = max(1, len(allowed) // count)
    step, order = first, (-1, allowed)
    while True:
        epoch, place = divmod(step, per_epoch)
        if order[0] != epoch:
            order = (epoch, np.random.default_rng([config.seed, epoch]).permutation(allowed))
        rows = order[1][place * count : (place + 1) * count]
        if source_weights is not None:
            # Four numbers: no other stream of a step is drawn from as many.
            rng = np.random.default_rng([config.seed, step, 0, 1])
            rows = _redrawn(rows, allowed, source_weights()[pool.sources], rng)
        rows = np.sort(rows[rank::world])
        faces = (
            pixels[torch.from_numpy(rows).to(device)] if isinstance(pixels, Tensor) else torch.from_numpy(pixels[rows])
        )
        side = config.size if step % config.whole_every == 0 else config.window
        faces, masks = _window(faces, pool.masks[rows], side, np.random.default_rng([config.seed, step, rank]))
        x = faces.to(device, non_blocking=True).permute(0, 1, 4, 2, 3).float() / 255
        x = _vary(x, torch.Generator().manual_seed(hash((config.seed, step, rank)) & 0x7FFFFFFF))
        cells = torch.from_numpy(masks.astype(np.int16)).to(device)
        forged = torch.where(cells == UNKNOWN, -1.0, cells.float() / 254)[:, None]
        both = torch.stack([torch.zeros_like(forged), forged], 1)
        kinds = numbers[torch.from_numpy(pool.families[rows].astype(np.int64)).to(device)]
        yield {
            "faces": x.flatten(0, 1),
            "labels": torch.tensor([0.0, 1.0], device=device).repeat(len(rows)),
            "masks": both.flatten(0, 1),
            "families": torch.stack([torch.zeros_like(kinds), kinds], 1).flatten(),
            "progress": torch.tensor(min(1.0, step / config.steps), device=device),
        }
        step += 1


def _redrawn(rows: np.ndarray, allowed: np.ndarray, weights: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Rows of an epoch, some of them replaced so that each is drawn in proportion to its weight.

    A row stays with the probability of its weight over the greatest one, else another is drawn from all that are
    allowed: at equal weights the epoch is as it was.

    Args:
        rows: int (B,), of the epoch.
        allowed: int (A,), all that may be drawn.
        weights: float (P,) of all pairs of the pool.
        rng: of the step.
    """
    own = weights[allowed]
    stays = rng.random(len(rows)) * own.max() < weights[rows]
    return np.where(stays, rows, rng.choice(allowed, len(rows), p=own / own.sum()))


def generators_of(pool: Pool, config: DetectionTrainConfig) -> tuple[str, ...]:
    """The forged families that a run learns, in the order of a batch's `families`."""
    return tuple(name for name in pool.plan.families if name not in config.without)


def faces_in_batches(
    faces: Sequence[EvalFace], families: Sequence[str], device: torch.device, size: int = 64
) -> Iterator[dict[str, Tensor]]:
    """Held-out faces once, as batches; forgeries of other families than `families` are left out."""
    known = [face for face in faces if not face.label or face.family in families]
    for start in range(0, len(known), size):
        some = known[start : start + size]
        pixels = torch.from_numpy(np.stack([face.crop for face in some])).to(device)
        kinds = [families.index(face.family) + 1 if face.label else 0 for face in some]
        yield {
            "faces": pixels.permute(0, 3, 1, 2).float() / 255,
            "labels": torch.tensor([float(face.label) for face in some], device=device),
            "masks": torch.full((len(some), 1, 1, 1), -1.0, device=device),
            "families": torch.tensor(kinds, device=device),
            "progress": torch.ones((), device=device),
        }


def _window(faces: Tensor, masks: np.ndarray, side: int, rng: np.random.Generator) -> tuple[Tensor, np.ndarray]:
    """The same random window of both faces of a pair, on the map's grid, with forged pixels in it if they are known.

    Args:
        faces: uint8 (P, 2, S, S, 3).
        masks: uint8 (P, M, M), see `pool`.
        side: of the window in pixels, a multiple of S / M.

    Returns:
        uint8 (P, 2, side, side, 3) and (P, m, m).
    """
    size, cells = faces.shape[2], masks.shape[1]
    step = size // cells
    span = side // step
    if span >= cells:
        return faces, masks
    cut_faces, cut_masks = [], []
    for pair, mask in zip(faces, masks, strict=True):
        candidates = np.argwhere((mask > 100) & (mask != UNKNOWN))
        row, column = candidates[rng.integers(len(candidates))] if len(candidates) else rng.integers(0, cells, 2)
        top = int(np.clip(row - rng.integers(0, span), 0, cells - span))
        left = int(np.clip(column - rng.integers(0, span), 0, cells - span))
        y, x = top * step, left * step
        cut_faces.append(pair[:, y : y + side, x : x + side])
        cut_masks.append(mask[top : top + span, left : left + span])
    return torch.stack(cut_faces), np.stack(cut_masks)


def _vary(x: Tensor, generator: torch.Generator) -> Tensor:
    """Cheap variation, the same for both of a pair: brightness and contrast; x is (P, 2, 3, S, S) in [0, 1]."""
    draws = torch.rand((2, len(x), 1, 1, 1, 1), generator=generator).to(x.device)
    gain, shift = 0.85 + 0.3 * draws[0], 0.16 * (draws[1] - 0.5)
    return ((x - 0.5) * gain + 0.5 + shift).clamp(0, 1)
