"""What every detector of the lab is: one base class, one output. Lab only: torch.

All detectors share the training engine, the run folder, export and one conformance battery (`tests/forgery`); what sets
a method apart stands in its own module.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from unmask.errors import DataError
from unmask.networks.contract import Hardenable, Network
from unmask.networks.reverse_attention import reversed_logits, two_rows


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

    def heads(self, faces: Tensor, classes: Tensor | None = None, soft: bool = False) -> tuple[Tensor, ...]:
        """The logit as those of two classes, float32 (B, 2), see `two_classes`; other arguments change nothing."""
        return (two_classes(self(faces).logit),)


class Learner(Detector, Hardenable):
    """A detector that can be trained. `windows`: from parts of faces too, at sizes of their own."""

    task = "forgery_detection"
    windows: bool = False

    def heads(self, faces: Tensor, classes: Tensor | None = None, soft: bool = False) -> tuple[Tensor, ...]:
        """As of `Hardenable`; with reverse attention on the features that meet the last linear layer, `head`.

        What is served, the detector's own logit, are the auxiliary logits.
        """
        if not self.reverse_attention:
            return super().heads(faces, classes, soft)
        features, weight, bias = self._last_features(faces)[1:]
        final, auxiliary = reversed_logits(features, weight, bias, classes, soft)
        return final.float(), auxiliary.float()

    def _last_features(self, faces: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The logit (B,), what `head` is given (B, D), and the weights (2, D) and biases (2,) of both classes."""
        head, seen = getattr(self, "head", None), list[Tensor]()
        if not isinstance(head, nn.Linear) or head.bias is None or head.out_features > 2:
            raise DataError(_NO_HEAD.format(type(self).__name__))

        def keep(_: nn.Module, given: tuple[Tensor, ...]) -> None:
            if given[0].ndim == 2:
                seen.append(given[0].float())

        handle = head.register_forward_pre_hook(keep)
        try:
            logit = self(faces).logit.float()
        finally:
            handle.remove()
        if len(seen) != 1:
            raise DataError(_NO_HEAD.format(type(self).__name__))
        weight, bias = (head.weight, head.bias) if head.out_features == 2 else two_rows(head.weight, head.bias)
        return logit, seen[0], weight.float(), bias.float()

    @torch.no_grad()
    def check_reverse_attention(self) -> None:
        """Refuse reverse attention unless the logit is what a linear layer called `head` makes of pooled features.

        Raises:
            DataError: it is not.
        """
        training = [module for module in self.modules() if module.training]
        self.eval()
        try:
            logit, features, weight, bias = self._last_features(torch.full((1, 3, self.size, self.size), 0.5))
        finally:
            for module in training:
                module.training = True
        real, forged = (features @ weight.T + bias).unbind(1)
        if not torch.allclose(forged - real, logit, rtol=1e-3, atol=1e-4):
            raise DataError(_NO_HEAD.format(type(self).__name__))


_NO_HEAD = (
    "{}: reverse attention (--ra) needs a logit that one linear layer makes of pooled features, and this detector's "
    "is none; go without"
)


def two_classes(logit: Tensor) -> Tensor:
    """The logits 0 of real and (B,) of forged, float32 (B, 2): their cross-entropy is the logit's binary one."""
    logit = logit.float()
    return torch.stack([torch.zeros_like(logit), logit], 1)
