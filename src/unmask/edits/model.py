"""What every edit-sequence model is: one base class, one output, one batch. Lab only: torch.

These models share the training engine, the run folder, the export and one conformance battery
(`tests/edits/test_edit_models.py`).
"""

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from unmask.networks.contract import Trainable

BATCH = ("faces", "sequences", "masks", "unions", "originals", "paired", "progress")
"""What a batch holds that an edit-sequence model learns from.

`faces` (B, 3, S, S) in [0, 1]; `sequences` (B, 5) long, see `labels`; `masks`
(B, 5, m, m) in [0, 1], for each of the track's edits the share of pixels it changed, and `unions` (B, 1, m, m), the
same for all together; both negative where not known; `originals`
(B, 3, S, S) in [0, 1], the untouched faces; `paired` (B,) float, 1 where the original is known (else it is the face);
`progress` () in [0, 1], how much of the training is done.
"""


@dataclass(frozen=True)
class EditSequenceOutput:
    """What an edit-sequence model predicts.

    `scores` (B, 326): of every sequence of `labels.all_sequences()`, a log-probability up to a constant. `areas`
    (B, 5, h, w) in logits: where each of the track's edits was made; `recovered` (B, 3, S, S) in [0, 1]: the face as it
    may have been. The last two are None for a model that does not say.
    """

    scores: Tensor
    areas: Tensor | None = None
    recovered: Tensor | None = None


@dataclass(frozen=True)
class ColourJitter:
    """Ranges of the factors by which training faces get another brightness, contrast and saturation."""

    brightness: tuple[float, float]
    contrast: tuple[float, float]
    saturation: tuple[float, float]


class EditSequenceModel(Trainable):
    """A model that predicts sequences of edits; the engine trains it as it trains detectors.

    Attributes:
        colour_jitter: how the colours of training faces are varied; None for a small gain and shift of all alike.
    """

    task = "edit_reading"
    size = 128
    colour_jitter: ClassVar[ColourJitter | None] = None

    @abstractmethod
    def forward(self, faces: Tensor) -> EditSequenceOutput:
        """Predict for faces, (B, 3, S, S) in [0, 1]."""

    @abstractmethod
    def greedy(self, faces: Tensor) -> Tensor:
        """Decode step by step, the likeliest next edit each time, as SeqFakeFormer does; (B, 5) long.

        An edit may come twice; ids that stand for no edit are ruled out.
        """
