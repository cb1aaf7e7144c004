"""A classifier's run: its configuration. No torch."""

from dataclasses import dataclass
from typing import Literal

from unmask.lab.config import TrainConfig, option

Augmentation = Literal["none", "crop", "crop-flip"]


@dataclass(frozen=True, kw_only=True)
class ClassificationTrainConfig(TrainConfig):
    """The configuration of a run that learns to tell classes of pictures apart.

    `classes` are their names in the order of the network's logits. Pictures are seen whole, so that `margin` is 1.
    """

    method: str = "resnet"
    size: int = 32
    margin: float = 1.0
    batch: int = option(128, "Pictures in a step.", low=2)
    augment: Augmentation = option(
        "crop-flip", "Random variation in training: none; a shift by up to an eighth of the side; also mirrored."
    )
    limit: int = option(0, "Pictures to train on; 0: all.", low=0)
    classes: tuple[str, ...] = ()
