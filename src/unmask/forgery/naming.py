"""Which of some classes in words a picture is of, with a pack of learned prompts: forgery families, as a rule.

The pack gives a logit for each class. What they are worth as probabilities, "none of these" among them, follows from
its card.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from unmask.errors import PackError
from unmask.evidence.report import NamedFamily, NamingFinding
from unmask.faces.alignment import Box, context_crop
from unmask.packs import Pack
from unmask.packs.card import NamingCalibration

TASK = "prompt_naming"
OUTPUTS = ("logits", "features")
BATCH = 16


@dataclass(frozen=True)
class Naming:
    """What a pack says of one picture: the probability of each class that is no background, and of none of them."""

    names: tuple[str, ...]
    words: tuple[str, ...]
    probabilities: np.ndarray
    none: float

    @property
    def likeliest(self) -> str | None:
        """The likeliest class; None if none of them is likelier."""
        best = int(self.probabilities.argmax())
        return self.names[best] if self.probabilities[best] > self.none else None

    def finding(self, pack: str) -> NamingFinding:
        """The same for a report; six decimals, so that the order is kept."""
        order = np.argsort(-self.probabilities, kind="stable")
        families = [
            NamedFamily(
                name=self.names[place], words=self.words[place], probability=round(float(self.probabilities[place]), 6)
            )
            for place in order
        ]
        none = round(self.none, 6)
        likeliest = families[0].name if families[0].probability > none else None
        return NamingFinding(pack=pack, likeliest=likeliest, none=none, families=families)


class PromptNamer:
    """Names pictures or faces with a pack of learned prompts.

    Attributes:
        name: of the pack.
        size: side of its pictures in pixels.
        faces: whether it sees faces, cut out with a margin, or whole pictures.
        calibration: what its logits are worth.
    """

    def __init__(self, pack: Pack) -> None:
        """Take a pack.

        Raises:
            PackError: it is none of learned prompts, or its card or network is not one for it.
        """
        card = pack.card
        height, width = card.input_size
        if card.task != TASK or card.outputs != OUTPUTS or card.naming is None or not height == width > 0:
            raise PackError(
                f"pack {card.name!r} has no learned prompts: give one made by `unmask prompt learn`, or make it anew"
            )
        self._pack, self._margin = pack, card.crop_margin
        self.name, self.size, self.calibration = card.name, height, card.naming
        self.faces = card.crop_margin is not None

    def crop(self, pixels: np.ndarray, box: Box) -> np.ndarray:
        """A face of a picture uint8 (H, W, 3) RGB as this pack sees it, uint8 (S, S, 3); the whole if it sees that."""
        if self._margin is None:
            return middle_square(pixels, self.size)
        return context_crop(pixels, box, self._margin, self.size)[0]

    def name_crops(self, crops: Sequence[np.ndarray]) -> list[Naming]:
        """What is said of pictures uint8 (S, S, 3) RGB, in order; none for none.

        Raises:
            ValueError: a picture of another shape or type.
        """
        namings: list[Naming] = []
        for start in range(0, len(crops), BATCH):
            some = crops[start : start + BATCH]
            for crop in some:
                if crop.dtype != np.uint8 or crop.shape != (self.size, self.size, 3):
                    raise ValueError(f"a crop is uint8 ({self.size}, {self.size}, 3), not {crop.dtype} {crop.shape}")
            pixels = np.stack(some).transpose(0, 3, 1, 2).astype(np.float32) / 255
            namings += [self._naming(row) for row in self._pack.run(pixels)[0]]
        return namings

    def _naming(self, logits: np.ndarray) -> Naming:
        first = self.calibration.background
        shares = probabilities(logits[None], self.calibration)[0]
        return Naming(self.calibration.names[first:], self.calibration.words[first:], shares[:-1], float(shares[-1]))


def probabilities(logits: np.ndarray, calibration: NamingCalibration) -> np.ndarray:
    """Probabilities of classes that are no background, and of none in the last column.

    Args:
        logits: (N, C).
        calibration: of the card.

    Returns:
        Float64 (N, C - background + 1), rows of sum 1; logits that are no numbers give none all of it.
    """
    return shares_of(logits, calibration.background, calibration.temperature, calibration.bias)


def shares_of(logits: np.ndarray, background: int, temperature: float, bias: float) -> np.ndarray:
    """`probabilities` by the numbers themselves."""
    sharp = np.concatenate([logits.astype(np.float64) / temperature, np.full((len(logits), 1), bias)], 1)
    sharp[~np.isfinite(sharp).all(1)] = [*[-np.inf] * logits.shape[1], 0.0]
    weights = np.exp(sharp - sharp.max(1, keepdims=True))
    weights /= weights.sum(1, keepdims=True)
    none = weights[:, :background].sum(1) + weights[:, -1]
    return np.concatenate([weights[:, background:-1], none[:, None]], 1)


def middle_square(pixels: np.ndarray, size: int) -> np.ndarray:
    """The middle square of a picture uint8 (H, W, 3), its shorter side brought to `size`; uint8 (size, size, 3)."""
    height, width = pixels.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = np.ascontiguousarray(pixels[top : top + side, left : left + side])
    how = cv2.INTER_AREA if side > size else cv2.INTER_CUBIC
    return cv2.resize(square, (size, size), interpolation=how)
