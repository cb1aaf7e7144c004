"""A feed that shows pairs of the sources whose reals a detector finds hardest more often. Lab only.

Group DRO in its sampling form (Sagawa et al., ICLR 2020): every source of reals has a weight that follows its loss by
exponentiated gradient, and pairs are drawn as the weights of their reals' sources say. Here the losses are those of the
validation split's reals, so that what was learned by heart does not count as easy.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unmask.forgery.detector import Detector
from unmask.lab.detection.feed import Pairs, batches
from unmask.lab.detection.scoring import logits_of

MOST = 2.0
"""A source is drawn at most so many times as often as without weights, and at least one so many-th as often."""
_RATE = 0.5  # of the exponentiated gradient; the bound is reached by a loss .3 above the mean in five updates
_STEADIED = 10  # faces with the mean loss of all that every source is counted with: some have one or two


class SourceWeights:
    """The weights of some sources of reals, all one at first; their state can be saved.

    Args:
        names: of the sources.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._logarithms = dict.fromkeys(names, 0.0)

    def update(self, losses: Mapping[str, Sequence[float]]) -> None:
        """One step of exponentiated gradient, bounded by `MOST`.

        Args:
            losses: of the reals of every source, one a face; a source without any goes with the mean of all.
        """
        known = {name: list(values) for name, values in losses.items() if name in self._logarithms and len(values)}
        if not known:
            return
        mean = float(np.mean([value for values in known.values() for value in values]))
        for name, values in known.items():
            own = (sum(values) + _STEADIED * mean) / (len(values) + _STEADIED)
            self._logarithms[name] += _RATE * (own - mean)
        centre, reach = float(np.mean([*self._logarithms.values()])), float(np.log(MOST))
        for name, value in self._logarithms.items():
            self._logarithms[name] = float(np.clip(value - centre, -reach, reach))

    def of(self, names: Sequence[str]) -> np.ndarray:
        """The weights of some sources, float64 (N,); one for a source that has none."""
        return np.exp([self._logarithms.get(name, 0.0) for name in names])

    def state_dict(self) -> dict[str, Any]:
        """The logarithms of the weights by source."""
        return dict(self._logarithms)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over a state."""
        self._logarithms = {name: float(value) for name, value in state.items()}


@dataclass(frozen=True)
class ReweightedPairs(Pairs):
    """Pairs drawn by the weights of their reals' sources, which follow the network's losses on the validation reals."""

    weights: SourceWeights = field(default_factory=lambda: SourceWeights(()))

    @classmethod
    def of(cls, pairs: Pairs) -> "ReweightedPairs":
        """The same pairs, reweighted; sources that the run leaves out have no weight and are not looked at."""
        kept = [name for name in pairs.pool.plan.sources if name not in pairs.config.without_sources]
        return cls(pairs.pool, pairs.config, pairs.faces, pairs.unit, pairs.generators, SourceWeights(kept))

    def batches(self, device: torch.device, first: int, rank: int = 0, world: int = 1) -> Iterator[dict[str, Tensor]]:
        """Batches of pairs; a step depends on seed, number and the weights at the time."""
        names = list(self.pool.plan.sources)
        return batches(
            self.pool, self.config, device, first, rank, world, self.generators, lambda: self.weights.of(names)
        )

    def adapt(self, network: Detector, device: torch.device) -> None:
        """Update the weights by the losses of a network in evaluation mode on the validation split's reals."""
        reals = [face for face in self.faces if not face.label and face.source in self.weights.state_dict()]
        if not reals:
            return
        logits, _ = logits_of(network, np.stack([face.crop for face in reals]), device)
        losses: dict[str, list[float]] = {}
        for face, logit in zip(reals, logits, strict=True):
            losses.setdefault(face.source, []).append(float(np.logaddexp(0, logit)))
        self.weights.update(losses)

    def numbers(self) -> dict[str, float]:
        """The weights, for the record."""
        names = list(self.weights.state_dict())
        return {f"weight_{name}": float(value) for name, value in zip(names, self.weights.of(names), strict=True)}

    @property
    def state(self) -> SourceWeights:
        """The weights."""
        return self.weights
