"""What gradient attacks make grow: one number for each picture, from its logits."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from unmask.errors import DataError
from unmask.redteam.attacks.contract import margin

Loss = Literal["ce", "margin", "logit", "dlr"]


def loss_of(kind: Loss, labels: Tensor, targets: Tensor | None = None) -> Callable[[Tensor], Tensor]:
    """A loss that grows towards the wanted answer.

    Args:
        kind: "ce": cross-entropy, whose gradient vanishes where a network is sure; "margin": the best other logit less
            the right one, without that fault and for any number of classes (Carlini & Wagner 2017); "logit": the
            target's logit alone (Zhao et al. 2021), without targets the right one's, falling; "dlr": the difference of
            logits ratio (Croce & Hein 2020), for three classes or more, with targets four.
        labels: (b,), the right classes.
        targets: (b,), the wanted ones, if some are.

    Returns:
        From logits (b, C) to (b,).
    """
    chosen = labels if targets is None else targets
    sign = 1.0 if targets is None else -1.0
    if kind == "ce":
        return lambda logits: sign * functional.cross_entropy(logits, chosen, reduction="none")
    if kind == "margin":
        return lambda logits: -margin(logits, labels, targets)
    if kind == "logit":
        return lambda logits: -sign * logits.gather(1, chosen[:, None])[:, 0]
    return lambda logits: _dlr(logits, labels, targets)


def safe_loss(classes: int, targeted: bool) -> Loss:
    """The loss of APGD: the difference of logits ratio where there are classes enough for it, else the margin."""
    return "dlr" if classes >= (4 if targeted else 3) else "margin"


def _dlr(logits: Tensor, labels: Tensor, targets: Tensor | None) -> Tensor:
    least = 3 if targets is None else 4
    if logits.shape[1] < least:
        raise DataError(f"the difference of logits ratio needs {least} classes, not {logits.shape[1]}; take the margin")
    order = logits.sort(dim=1).values
    own = logits.gather(1, labels[:, None])[:, 0]
    if targets is None:
        other = torch.where(own == order[:, -1], order[:, -2], order[:, -1])
        return (other - own) / (order[:, -1] - order[:, -3] + 1e-12)
    wanted = logits.gather(1, targets[:, None])[:, 0]
    return (wanted - own) / (order[:, -1] - 0.5 * (order[:, -3] + order[:, -4]) + 1e-12)
