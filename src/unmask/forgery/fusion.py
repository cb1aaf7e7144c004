"""Several detectors as one. Lab only: torch."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from unmask.errors import DataError
from unmask.forgery.detector import Detector, DetectorOutput


class Fused(Detector):
    """Detectors trained on the same reals and different forgeries, as one detector.

    A logit trained on as many forgeries as reals is a log likelihood ratio. If the forgery may be of any member's kind
    with equal probability, the ratio of the whole is the mean of the ratios, so that one alarmed specialist is heard
    though the others see nothing: logit = log mean exp(logits); the maps' cells likewise, on the finest map's grid.

    Args:
        members: detectors of one input size, at least one.

    Raises:
        DataError: they see faces at different sizes.
    """

    def __init__(self, members: Sequence[Detector]) -> None:
        super().__init__()
        self.size = common_size([member.size for member in members])
        self.members = nn.ModuleList(members)

    def forward(self, faces: Tensor) -> DetectorOutput:
        """Score faces, (B, 3, S, S) in [0, 1]."""
        return fuse([member(faces) for member in self.members])


def common_size(sizes: Sequence[int]) -> int:
    """The side of the faces that detectors see, in pixels.

    Raises:
        DataError: they see faces at different sizes.
    """
    apart = sorted(set(sizes))
    if len(apart) > 1:
        raise DataError(f"detectors that see faces at {' and '.join(map(str, apart))} pixels cannot be fused")
    return apart[0]


def fuse(outputs: Sequence[DetectorOutput]) -> DetectorOutput:
    """What several detectors say of the same faces, as one, see `Fused`."""
    finest = max(out.map.shape[-1] for out in outputs)
    maps = [
        out.map
        if out.map.shape[-1] == finest
        else functional.interpolate(out.map, size=(finest, finest), mode="nearest")
        for out in outputs
    ]
    return DetectorOutput(mean_ratio([out.logit for out in outputs]), mean_ratio(maps))


def mean_ratio(logits: Sequence[Tensor]) -> Tensor:
    """The logarithm of the mean of exp(logits), elementwise over tensors of one shape."""
    return torch.logsumexp(torch.stack(list(logits)), 0) - math.log(len(logits))
