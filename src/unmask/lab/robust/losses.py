"""The losses of robust training: bases and asymmetric negative contrast, for any number of classes. Lab only: torch.

Logits are (B, C); a detector's one logit comes as two classes (`unmask.forgery.detector.two_classes`). "Heads" are
several such logits of one network, the final ones first (`unmask.networks.contract.Hardenable.heads`).
"""

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

Negatives = Literal["random", "adversarial", "hard"]
_LEAST = 1e-6  # probabilities in logarithms


def cross_entropy(logits: Tensor, classes: Tensor) -> Tensor:
    """Of every picture, (B,)."""
    return functional.cross_entropy(logits, classes, reduction="none")


def fold(loss_of: Callable[..., Tensor], *heads: Sequence[Tensor], weight: float) -> Tensor:
    """A loss over heads: that of the final one, and `weight` times the mean of those of the auxiliary ones.

    Args:
        loss_of: from the logits of one head, or of one head of each of several networks, to a loss.
        heads: of one network or of several, the final logits first; of one head alone its loss is all.
        weight: the sheet's kappa.
    """
    final, *auxiliary = [loss_of(*logits) for logits in zip(*heads, strict=True)]
    return final + weight * torch.stack(auxiliary).mean(0) if auxiliary else final


def divergence(natural: Tensor, moved: Tensor) -> Tensor:
    """KL(natural || moved) of the softmax of two logits, summed over classes: (B,). Both get gradients (TRADES)."""
    return functional.kl_div(
        functional.log_softmax(moved, 1), functional.log_softmax(natural, 1), reduction="none", log_target=True
    ).sum(1)


def margin_entropy(logits: Tensor, classes: Tensor) -> Tensor:
    """-log(1 - p) of the likeliest wrong class, (B,): what MART's boosted cross-entropy adds to the usual one."""
    others = logits.softmax(1).masked_fill(functional.one_hot(classes, logits.shape[1]).bool(), 0)
    return -(1 - others.amax(1)).clamp(min=_LEAST).log()


def weighted_divergence(natural: Tensor, moved: Tensor, classes: Tensor) -> Tensor:
    """MART's (1 - p_y(natural)) KL(natural || moved), (B,) (Wang et al. 2020, equation 11)."""
    confidence = natural.softmax(1).gather(1, classes[:, None])[:, 0]
    return (1 - confidence) * divergence(natural, moved)


def targeted_margin(logits: Tensor, classes: Tensor, target: Tensor) -> Tensor:
    """How much higher a target's logit is than the true class's, (B,)."""
    return (logits.gather(1, target[:, None]) - logits.gather(1, classes[:, None]))[:, 0]


def margin(logits: Tensor, classes: Tensor) -> Tensor:
    """How much higher the true class's logit is than the highest other one, (B,); negative where it is not."""
    true = functional.one_hot(classes, logits.shape[1]).bool()
    return logits.gather(1, classes[:, None])[:, 0] - logits.masked_fill(true, -torch.inf).amax(1)


# --- Asymmetric negative contrast (ANCRA, section 3.2) ---


def similarity(one: Tensor, other: Tensor) -> Tensor:
    """sqrt(max p max q) of pairs of probability vectors (B, C), 0 where their largest entries differ: (B,)."""
    largest, place = one.max(1)
    other_largest, other_place = other.max(1)
    same = place == other_place
    # The root is taken of ones where there is nothing to compare: its gradient is nowhere infinite.
    return torch.where(same, torch.where(same, largest * other_largest, 1.0).sqrt(), 0.0)


def negative_contrast(anchors: Tensor, negatives: Tensor, alpha: float = 1.0) -> Tensor:
    """The mean of alpha Sim(anchor held fixed, negative) + (1 - alpha) Sim(negative held fixed, anchor), a scalar.

    With alpha = 1 the negative moves alone, which is the asymmetry; 1/2 is the symmetric contrast.

    Args:
        anchors: logits (B, C) of pictures.
        negatives: logits (B, C) of a picture of another class for each of them.
        alpha: in [0, 1].
    """
    p, q = anchors.softmax(1), negatives.softmax(1)
    one = similarity(p.detach(), q) if alpha > 0 else q.new_zeros(len(q))
    other = similarity(q.detach(), p) if alpha < 1 else p.new_zeros(len(p))
    return (alpha * one + (1 - alpha) * other).mean()


def other_classes(classes: Tensor) -> Tensor:
    """Which pictures of a batch (B,) have another class than which: bool (B, B)."""
    return classes[:, None] != classes[None, :]


def random_negatives(classes: Tensor, generator: torch.Generator | None = None) -> Tensor | None:
    """For every picture of a batch one of another class: row numbers (B,); None for a batch of one class."""
    different = other_classes(classes)
    if not different.any():
        return None
    return torch.multinomial(different.float(), 1, generator=generator)[:, 0]


def hard_negatives(classes: Tensor, logits: Tensor, generator: torch.Generator | None = None) -> Tensor | None:
    """As `random_negatives`, but of those that are taken for the picture's class the one with its highest logit.

    A picture whose class none is taken for gets a random one.

    Args:
        classes: (B,) long.
        logits: (B, C) of the batch.
        generator: of the random ones.
    """
    drawn = random_negatives(classes, generator)
    if drawn is None:
        return None
    mistaken = other_classes(classes) & (logits.argmax(1)[None, :] == classes[:, None])
    scores = logits.T[classes].masked_fill(~mistaken, -torch.inf)  # [anchor, picture]: the picture's anchor logit
    return torch.where(mistaken.any(1), scores.argmax(1), drawn)
