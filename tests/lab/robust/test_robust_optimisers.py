"""Adversarial training by sharpness-aware optimisers: attacked at both looks, or refused."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from digit_sets import SmallResNet
from lightning_fabric import Fabric
from torch import Tensor

from unmask.errors import DataError
from unmask.lab.classification.config import ClassificationTrainConfig
from unmask.lab.config import LabPaths, TrainConfig
from unmask.lab.engine import Trainer
from unmask.lab.optimisers.config import OptimiserOptions
from unmask.lab.robust.config import RobustOptions
from unmask.lab.robust.training import AdversarialTraining
from unmask.lab.train import train

pytestmark = pytest.mark.lab
FABRIC = Fabric(accelerator="cpu", devices=1, precision="32-true")


@dataclass(frozen=True)
class Labelled:
    """A feed of noise of two classes."""

    count: int = 4
    unit: str = "pictures"

    def batches(self, device: torch.device, first: int, rank: int = 0, world: int = 1) -> Iterator[dict[str, Tensor]]:
        step = first
        while True:
            generator = torch.Generator().manual_seed(step)
            faces = torch.rand((self.count, 3, 8, 8), generator=generator)
            yield {"faces": faces, "labels": torch.arange(self.count) % 2}
            step += 1

    def validation_batches(self, device: torch.device) -> Iterator[dict[str, Tensor]]:
        yield from ()


def trained(rho: float | None) -> Tensor:
    """The first weight after two steps, by AdamW or by SAM around it."""
    options = RobustOptions(robust="pgd-at", attack_steps=2, attack_epsilon="0.1")
    optimiser = {} if rho is None else OptimiserOptions(optimiser="sam", rho=rho).settings()
    torch.manual_seed(0)
    network = SmallResNet(width=4, classes=("a", "b"))
    network.objective = AdversarialTraining(RobustOptions.of(options.settings()))
    config = TrainConfig(steps=2, learning_rate=0.01, optimiser=optimiser)
    # oneDNN's AVX2 kernels in torch 2.14 write out of bounds where one backward pass goes to weights and pictures.
    with torch.backends.mkldnn.flags(enabled=False):
        weights = Trainer(FABRIC, network, Labelled(), config).advance(2).weights
    return next(iter(weights.values()))


def test_pictures_are_attacked_alike_at_both_looks() -> None:
    """A move of no length gives the run of AdamW, random starts included; a longer one does not."""
    assert torch.equal(trained(0.0), trained(None))
    assert not torch.equal(trained(0.5), trained(None))


def test_the_free_variant_is_refused(tmp_path: Path) -> None:
    config = ClassificationTrainConfig(
        method="resnet",
        optimiser=OptimiserOptions(optimiser="sam").settings(),
        robust=RobustOptions(robust="pgd-at", attack="free").settings(),
    )
    with pytest.raises(DataError, match="--attack fast or pgd"):
        train(LabPaths(data=tmp_path, work=tmp_path), tmp_path / "run", config)
