"""Face crops to forgery scores and maps, with any forgery pack."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from unmask.packs import Pack

BATCH = 16  # bounds the memory of a picture with many faces


@dataclass(frozen=True)
class FaceScore:
    """What the detector says of one crop.

    `logit` is its raw answer, `score` the same as a number in [0, 1]; higher = more likely forged. `map` is float32
    (h, w) in [0, 1] over the crop: where.
    """

    logit: float
    score: float
    map: np.ndarray


def probability(logit: float) -> float:
    """The logistic function 1 / (1 + exp(-logit)), in [0, 1], of any number; it never overflows."""
    return 0.5 * (1.0 + math.tanh(0.5 * logit))


class ForgeryScorer:
    """Scores face crops with a forgery detection pack whose outputs are "logit" (B,) and "map" (B, 1, h, w)."""

    def __init__(self, pack: Pack) -> None:
        """Take a pack.

        Args:
            pack: of task "forgery_detection", with outputs "logit" and "map" and a fixed square input.

        Raises:
            ValueError: the pack is of another kind.
        """
        height, width = pack.card.input_size
        if pack.card.task != "forgery_detection" or pack.card.outputs != ("logit", "map") or not height == width > 0:
            raise ValueError(f"pack {pack.card.name!r} is not a forgery detector with outputs logit and map")
        self._pack = pack
        self.size = height

    def open_ahead(self) -> None:
        """Begin to load the network in the background: for crops that are about to come."""
        self._pack.open_ahead()

    def score(self, crops: Sequence[np.ndarray]) -> list[FaceScore]:
        """Score crops, in order.

        Args:
            crops: each uint8 (S, S, 3) RGB, S as the pack's input size (`size`).

        Returns:
            One score per crop; none for none. What is in a batch with a crop does not change its score beyond rounding.

        Raises:
            ValueError: a crop of another shape or type.
        """
        for crop in crops:
            if crop.dtype != np.uint8 or crop.shape != (self.size, self.size, 3):
                raise ValueError(f"a crop is uint8 ({self.size}, {self.size}, 3), not {crop.dtype} {crop.shape}")
        return [
            score for start in range(0, len(crops), BATCH) for score in self._score_batch(crops[start : start + BATCH])
        ]

    def _score_batch(self, crops: Sequence[np.ndarray]) -> list[FaceScore]:
        pixels = np.stack(crops).transpose(0, 3, 1, 2).astype(np.float32) / 255
        logits, maps = self._pack.run(pixels)
        return [
            FaceScore(logit, probability(logit), np.clip(values[0], 0, 1))
            for logit, values in zip(logits.reshape(-1).astype(float).tolist(), maps, strict=True)
        ]
