"""The batches that networks for sketch search learn from. Lab only: torch."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from unmask.datasets.sketch_sets import SketchItem
from unmask.lab.search.config import SearchTrainConfig
from unmask.lab.search.pictures import varied

_BATCH = 64


@dataclass(frozen=True)
class SplitPictures:
    """One split.

    Attributes:
        items: what they are.
        pixels: uint8 (N, S, S, 3), in the order of the items.
        rows: of `pixels`, one for each item.
    """

    items: tuple[SketchItem, ...]
    pixels: np.ndarray
    rows: np.ndarray

    def of(self, sketch: bool) -> np.ndarray:
        """Places (n,) of the sketches, or of the photos, among the items."""
        return np.flatnonzero([item.sketch == sketch for item in self.items])

    def take(self, places: Sequence[int] | np.ndarray) -> np.ndarray:
        """Some pictures, uint8 (n, S, S, 3)."""
        return np.stack([self.pixels[self.rows[place]] for place in places])


@dataclass(frozen=True)
class SketchFeed:
    """A feed of the engine: sketches and photos in fixed numbers, epochs over either of them apart, each varied.

    `prior` (C, 1000) is how near each class is to those of ImageNet.
    """

    config: SearchTrainConfig
    split: SplitPictures
    held: SplitPictures
    prior: np.ndarray | None = None
    unit: str = "pictures"

    @property
    def count(self) -> int:
        """Pictures in a step."""
        return self.config.sketches + self.config.photos

    def batches(self, device: torch.device, first: int, rank: int = 0, world: int = 1) -> Iterator[dict[str, Tensor]]:
        """Endless batches from step `first` on; a step depends on seed and number alone.

        Of people the photos of a step are those of its sketches first, so that every sketch has its own.
        """
        config, label = self.config, {name: number for number, name in enumerate(self.config.classes)}
        sketches, photos = self.split.of(True), self.split.of(False)
        by_label: dict[str, list[int]] = {}
        for place in photos:
            by_label.setdefault(self.split.items[place].label, []).append(int(place))
        step = first
        while True:
            rng = np.random.default_rng([config.seed, step, rank])
            some = _turn(sketches, config.sketches, step, config.seed)[rank::world]
            if config.people:
                own = [by_label[self.split.items[place].label][0] for place in some]
                others = _turn(photos, config.photos + config.sketches, step, config.seed + 1)[rank::world]
                wanted = -(-config.photos // world)
                beside = np.array([*own, *(place for place in others if place not in own)][: max(wanted, len(own))])
            else:
                beside = _turn(photos, config.photos, step, config.seed + 1)[rank::world]
            places = np.concatenate([some, beside])
            pixels = np.stack([varied(one, rng) for one in self.split.take(places)])
            labels = torch.tensor([label[self.split.items[place].label] for place in places])
            kinds = torch.tensor([0.0 if self.split.items[place].sketch else 1.0 for place in places])
            batch = {
                "faces": tensor_of(pixels),
                "labels": labels,
                "photos": kinds,
                "progress": torch.tensor(min(1.0, step / config.steps)),
            }
            if self.prior is not None:
                batch["prior"] = torch.from_numpy(self.prior[labels.numpy()])
            yield {name: tensor.to(device) for name, tensor in batch.items()}
            step += 1

    def validation_batches(self, device: torch.device) -> Iterator[dict[str, Tensor]]:
        """The validation split once."""
        for places in np.array_split(np.arange(len(self.held.items)), max(1, len(self.held.items) // _BATCH)):
            yield {"faces": tensor_of(self.held.take(places)).to(device)}


def tensor_of(pixels: np.ndarray) -> Tensor:
    """Pictures uint8 (N, S, S, 3) as float32 (N, 3, S, S) in [0, 1]."""
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))).float() / 255


def _turn(places: np.ndarray, count: int, step: int, seed: int) -> np.ndarray:
    """The `step`-th `count` of endless shuffled epochs over some places; a short last part begins the next epoch."""
    taken, at = list[int](), step * count
    while len(taken) < count:
        epoch, offset = divmod(at + len(taken), len(places))
        order = np.random.default_rng([seed, epoch]).permutation(len(places))
        taken += places[order[offset : offset + count - len(taken)]].tolist()
    return np.array(taken)
