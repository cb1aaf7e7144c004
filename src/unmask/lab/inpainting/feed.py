"""What a face generator is trained on: latents with the surroundings or random parts masked. Lab only: torch."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from unmask.lab.inpainting.config import InpaintingTrainConfig
from unmask.lab.inpainting.latents import FaceLatents, random_mask

_SURROUNDINGS = 0.8  # share of parsed faces whose surroundings are masked; of the others something at random


@dataclass(frozen=True)
class LatentFeed:
    """A feed of the engine: shuffled epochs over the training faces, each time with another mask."""

    faces: FaceLatents
    watched: FaceLatents
    config: InpaintingTrainConfig
    unit: str = "faces"

    @property
    def count(self) -> int:
        """Faces in a step."""
        return min(self.config.batch, len(self.faces))

    def batches(self, device: torch.device, first: int, rank: int = 0, world: int = 1) -> Iterator[dict[str, Tensor]]:
        """Endless batches from step `first` on; a step depends on seed and number alone."""
        total, step, order = len(self.faces), first, (-1, np.arange(0))
        per_epoch = total // self.count
        while True:
            epoch, place = divmod(step, per_epoch)
            if order[0] != epoch:
                order = (epoch, np.random.default_rng([self.config.seed, epoch]).permutation(total))
            rows = order[1][place * self.count : (place + 1) * self.count][rank::world]
            rng = np.random.default_rng([self.config.seed, epoch, place, rank])
            yield _batch(self.faces, rows, rng, device, min(1.0, step / self.config.steps))
            step += 1

    def validation_batches(self, device: torch.device) -> Iterator[dict[str, Tensor]]:
        """The validation faces once, their surroundings masked."""
        for start in range(0, len(self.watched), self.config.batch):
            rows = np.arange(start, min(start + self.config.batch, len(self.watched)))
            yield _batch(self.watched, rows, None, device, 1.0)


def _batch(
    faces: FaceLatents, rows: np.ndarray, rng: np.random.Generator | None, device: torch.device, done: float
) -> dict[str, Tensor]:
    masks = faces.masks[rows]
    if rng is not None:
        for row in np.flatnonzero(~masks.any((1, 2)) | (rng.random(len(rows)) >= _SURROUNDINGS)):
            masks[row] = random_mask(masks.shape[1], rng)
    return {
        "faces": torch.from_numpy(faces.latents[rows]).float().to(device),  # latents: the engine knows no other name
        "masks": torch.from_numpy(masks[:, None]).float().to(device),
        "progress": torch.tensor(done, device=device),
    }
