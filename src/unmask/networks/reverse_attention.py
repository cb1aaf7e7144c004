"""Reverse attention: the last features times the classifier's weights of one class. Lab only: torch.

ANCRA (arXiv 2310.03358, section 3.3). p = W h + b are auxiliary logits of the pooled features h; the class j is the
label in training and the largest of p else; the final logits are f = W (h * W_j) + b. For two classes j and c with
equal biases f_j - f_c is the sum over channels of (W_jk^2 - W_jk W_ck) h_k: with h >= 0 the chosen class is favoured by
construction, so that f mostly repeats which class was chosen, and the choice itself has no gradient. An attack on f
alone therefore reports a robustness that is not there (gradient masking): attack the auxiliary logits too, and serve
the first of them.
"""

import torch
from torch import Tensor
from torch.nn import functional


def class_mask(weight: Tensor, logits: Tensor, classes: Tensor | None = None, soft: bool = False) -> Tensor:
    """The rows of a classifier's weights that its last features are multiplied by.

    Args:
        weight: (C, D) of the classifier. It gets a gradient through the mask as well.
        logits: (B, C), auxiliary.
        classes: (B,) long, whose rows are taken; the largest of the logits if None.
        soft: take the mean of the rows under the probabilities of the logits, whatever the classes.

    Returns:
        (B, D).
    """
    if soft:
        return logits.softmax(1) @ weight
    return weight[logits.argmax(1) if classes is None else classes]


def reversed_logits(
    features: Tensor, weight: Tensor, bias: Tensor, classes: Tensor | None = None, soft: bool = False
) -> tuple[Tensor, Tensor]:
    """Final and auxiliary logits (B, C) of pooled features (B, D); other arguments as of `class_mask`."""
    auxiliary = functional.linear(features, weight, bias)
    masked = features * class_mask(weight, auxiliary, classes, soft)
    return functional.linear(masked, weight, bias), auxiliary


def two_rows(weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """The classifier of two classes that a layer to one logit stands for: rows -w/2 and w/2, biases -b/2 and b/2.

    The softmax is that of (0, logit). With a row of zeros the mask of the first class would take every feature away.

    Args:
        weight: (1, D).
        bias: (1,).
    """
    return torch.cat([-weight, weight]) / 2, torch.cat([-bias, bias]) / 2
