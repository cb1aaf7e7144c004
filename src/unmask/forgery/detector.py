"""What every detector of the lab is: one base class, one output. Lab only: torch.

All detectors share the training engine, the run folder, export and one conformance battery (`tests/forgery`); what sets
a method apart stands in its own module.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field

from torch import Tensor

from unmask.networks.contract import Network, Trainable


@dataclass(frozen=True)
class DetectorOutput:
    """What a detector says: `logit` (B,), `map` (B, 1, h, w) in logits, both higher = more likely forged."""

    logit: Tensor
    map: Tensor
    extras: dict[str, Tensor] = field(default_factory=dict)


class Detector(Network, ABC):
    """A forgery detector."""

    @abstractmethod
    def forward(self, faces: Tensor) -> DetectorOutput:
        """Score faces, (B, 3, S, S) in [0, 1]."""


class Learner(Detector, Trainable):
    """A detector that can be trained. `windows`: from parts of faces too, at sizes of their own."""

    task = "forgery_detection"
    windows: bool = False
