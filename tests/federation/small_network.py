"""A network that trains in milliseconds, and batches for it, for tests of federation."""

from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.nn import functional

from unmask.federation.client import Change, Client, for_client
from unmask.federation.privacy import Privacy
from unmask.forgery.detector import DetectorOutput, Learner
from unmask.lab.detection.config import DetectionTrainConfig
from unmask.networks.contract import Batch

SIDE, PAIRS = 8, 4
CONFIG = DetectionTrainConfig(method="plain", size=SIDE, batch_pairs=PAIRS, steps=12, learning_rate=0.01)
FABRIC = Fabric(accelerator="cpu", devices=1)


class Small(Learner):
    """One convolution, one normalisation, one linear layer."""

    size = SIDE
    step = SIDE

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.head = nn.Linear(4, 1)

    def forward(self, faces: Tensor) -> DetectorOutput:
        """The logit of the mean, and the first channel as map."""
        features = functional.relu(self.norm(self.conv(faces)))
        return DetectorOutput(self.head(features.mean((2, 3)))[:, 0], features[:, :1])

    def training_losses(self, batch: Batch) -> dict[str, Tensor]:
        """The verdict's."""
        logit = self(batch["faces"]).logit
        return {"verdict": functional.binary_cross_entropy_with_logits(logit, batch["labels"])}


class WithCodes(Small):
    """The same with a codebook: a picture's nearest code is drawn to it."""

    codes = 6
    used: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.codebook = nn.Parameter(torch.rand(self.codes, 3))
        self.register_buffer("used", torch.zeros(self.codes, dtype=torch.long), persistent=False)

    def training_losses(self, batch: Batch) -> dict[str, Tensor]:
        """The verdict's, and the codes' distance."""
        means = batch["faces"].mean((2, 3))
        chosen = torch.cdist(means, self.codebook.detach()).argmin(1)
        self.used += torch.bincount(chosen, minlength=self.codes)
        return {**super().training_losses(batch), "codes": (self.codebook[chosen] - means).square().mean()}

    def uses(self) -> dict[str, Tensor]:
        """Of the codes."""
        return {"codebook": self.used}


class SmallFeed:
    """Noise whose forged half is brighter by `shift`; a step's batch depends on seed and number alone."""

    unit = "pairs"
    count = PAIRS

    def __init__(self, seed: int, shift: float = 0.3) -> None:
        self._seed, self._shift = seed, shift

    def batches(self, device: torch.device, first: int, rank: int = 0, world: int = 1) -> Iterator[dict[str, Tensor]]:
        """Endless batches from step `first` on."""
        step = first
        while True:
            generator = torch.Generator().manual_seed(self._seed * 1000 + step)
            labels = torch.tensor([0.0, 1.0]).repeat(PAIRS)
            faces = (
                torch.rand(2 * PAIRS, 3, SIDE, SIDE, generator=generator) + self._shift * labels[:, None, None, None]
            )
            yield {
                "faces": faces,
                "labels": labels,
                "masks": torch.full((2 * PAIRS, 1, 1, 1), -1.0),
                "families": labels.long(),
                "progress": torch.tensor(0.5),
            }
            step += 1

    def validation_batches(self, device: torch.device) -> Iterator[dict[str, Tensor]]:
        """None."""
        return iter(())


def client(
    number: int,
    folder: Path,
    pictures: int = 10,
    feed: int | None = None,
    change: Change | None = None,
    network: Callable[[], Small] = Small,
    privacy: Privacy | None = None,
) -> Client:
    """The client of a number; two with the same `feed` see the same batches."""
    name = f"client-{number}"
    source = SmallFeed(number if feed is None else feed)
    config = for_client(CONFIG, number if feed is None else feed)
    return Client(name, FABRIC, network, source, pictures, config, folder / name, privacy, change)
