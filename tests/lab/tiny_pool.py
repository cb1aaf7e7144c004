"""A pool of training pairs in memory, and a network that is quick to train."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from unmask.lab.detection.config import DetectionTrainConfig
from unmask.lab.detection.pairs_pool import UNKNOWN, Pool, PoolPlan
from unmask.networks.contract import Batch, Trainable

SIDE, CELLS, PAIRS = 64, 8, 12
FAMILIES = {"selfblend": 0.5, "stylegan": 0.25, "ciplab": 0.25}
CONFIG = DetectionTrainConfig(
    options={"view": "residual", "weights": "none"},
    size=SIDE,
    window=32,
    whole_every=3,
    pairs=PAIRS,
    steps=4,
    batch_pairs=2,
    zoo_steps=1,
    seed=5,
)


def make_pool() -> Pool:
    """Pairs of noise of three families; selfblends are forged in one cell only, of composites it is not known where."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (PAIRS, 2, SIDE, SIDE, 3), np.uint8)
    families = np.arange(PAIRS, dtype=np.uint8) % 3
    masks = np.zeros((PAIRS, CELLS, CELLS), np.uint8)
    masks[families == 0, 6, 1] = 254
    masks[families == 1] = 254
    masks[families == 2] = UNKNOWN
    plan = PoolPlan(PAIRS, 5, SIDE, 1.4, FAMILIES, {"ffhq": 1.0})
    return Pool(plan, pixels, masks, families, *(np.zeros(PAIRS, np.uint8) for _ in range(2)))


class Tiny(Trainable):
    """A linear function of the mean colour with two terms of loss; `losses` are the sums that it gave, step by step."""

    def __init__(self) -> None:
        super().__init__()
        self.line = nn.Linear(3, 1)
        self.losses: list[float] = []

    def forward(self, faces: Tensor) -> Tensor:
        score: Tensor = self.line(self.normalised(faces).mean((2, 3)))[:, 0]
        return score

    def training_losses(self, batch: Batch) -> dict[str, Tensor]:
        error = (self(batch["faces"]) - batch["labels"]).square().mean()
        losses = {"error": error, "size": 0.01 * self.line.weight.square().sum()}
        self.losses.append(sum(float(loss.detach()) for loss in losses.values()))
        return losses


@dataclass(frozen=True)
class Noise:
    """A feed of faces of noise, half of them brighter and labelled so."""

    count: int = 4
    unit: str = "faces"

    def batches(self, device: torch.device, first: int, rank: int = 0, world: int = 1) -> Iterator[dict[str, Tensor]]:
        step = first
        while True:
            generator = torch.Generator().manual_seed(step)
            labels = torch.arange(self.count).float() % 2
            faces = 0.6 * torch.rand((self.count, 3, 8, 8), generator=generator) + 0.3 * labels.view(-1, 1, 1, 1)
            yield {"faces": faces.to(device), "labels": labels.to(device)}
            step += 1

    def validation_batches(self, device: torch.device) -> Iterator[dict[str, Tensor]]:
        yield from ()
