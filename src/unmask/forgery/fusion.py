"""Several detectors as one. Lab only: torch."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from unmask.forgery.plain import DetectorOutput, Plain


class Fused(nn.Module):
    """Detectors trained on the same reals and different forgeries, as one detector.

    A logit trained on as many forgeries as reals is a log likelihood ratio. If the forgery may be of any member's kind
    with equal probability, the ratio of the whole is the mean of the ratios, so that one alarmed specialist is heard
    though the others see nothing: logit = log mean exp(logits); the maps' cells likewise.

    Args:
        members: detectors of equal input, at least one.
    """

    mean, std, size = Plain.mean, Plain.std, Plain.size

    def __init__(self, members: Sequence[Plain]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, faces: Tensor) -> DetectorOutput:
        """Score faces, (B, 3, 224, 224) normalised."""
        outputs = [member(faces) for member in self.members]
        return DetectorOutput(mean_ratio([out.logit for out in outputs]), mean_ratio([out.map for out in outputs]))


def mean_ratio(logits: Sequence[Tensor]) -> Tensor:
    """The logarithm of the mean of exp(logits), elementwise over tensors of one shape."""
    return torch.logsumexp(torch.stack(list(logits)), 0) - math.log(len(logits))
