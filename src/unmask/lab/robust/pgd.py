"""Projected gradient descent for adversarial training and its evaluation, on the core of `networks.pgd`. Lab only.

Madry et al. 2018 (arXiv 1706.06083). One step of 1.25 epsilon from a uniform start is the fast variant of Wong et al.
2020 (arXiv 2001.03994), one step of epsilon from no start FGSM. Pictures are in [0, 1] and so are budgets: 8/255 is
eight grey levels. Nothing here changes the mode of a network: see `evaluating` for attacks in evaluation mode.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal, TypeVar

import torch
from torch import Tensor, nn

from unmask.errors import DataError
from unmask.networks.pgd import Norm, ascent, projected, unit
from unmask.networks.pgd import pgd as ascended

Start = Literal["none", "uniform", "gaussian"]
Outputs = TypeVar("Outputs")
_GAUSSIAN = 0.001  # deviation of the published ANCRA start


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Evaluation mode for a while: fixed statistics, no dropout; afterwards every module is in the mode it was in."""
    training = [module for module in network.modules() if module.training]
    network.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def pgd(
    outputs_of: Callable[[Tensor], Outputs],
    faces: Tensor,
    loss_of: Callable[[Outputs], Tensor],
    *,
    epsilon: float,
    step: float,
    steps: int,
    norm: Norm = "linf",
    start: Start = "uniform",
    generator: torch.Generator | None = None,
    best: bool = False,
) -> Tensor:
    """Pictures near others that maximise a loss.

    Args:
        outputs_of: what is attacked, say a network's class logits or all its heads; differentiable.
        faces: (B, 3, S, S) in [0, 1].
        loss_of: from outputs to the loss of every picture, (B,).
        epsilon: radius of the ball that is searched, at least 0; with 0 the pictures come back as they were.
        step: length of a step in the same norm.
        steps: how many.
        norm: "linf", or "l2" over a picture's values.
        start: the pictures ("none"), a uniform point of the ball, or Gaussian noise of deviation 0.001 ("gaussian").
        generator: of the start, on the pictures' device; torch's global one if None.
        best: give of every picture the point with the largest loss, not the last one.

    Returns:
        (B, 3, S, S) in [0, 1], within epsilon of `faces`, without gradient.

    Raises:
        DataError: the outputs do not depend on the pictures, or a gradient is not a number.
    """
    faces = faces.detach()
    if epsilon == 0 or not len(faces):
        return faces.clone()
    begun = projected(faces + start_of(faces, epsilon, norm, start, generator), faces, epsilon, norm)
    chosen, largest = begun, faces.new_full((len(faces),), -torch.inf)

    def observe(moved: Tensor, losses: Tensor, gradient: Tensor) -> None:
        nonlocal chosen, largest
        _check_finite(gradient)
        better = losses > largest
        chosen, largest = torch.where(better.view(-1, 1, 1, 1), moved, chosen), torch.where(better, losses, largest)

    last = ascended(outputs_of, faces, loss_of, epsilon, step, steps, norm, start=begun, observe=observe)
    if not best:
        return last
    with torch.no_grad():
        better = loss_of(outputs_of(last)) > largest
    return torch.where(better.view(-1, 1, 1, 1), last, chosen)


def loss_gradient(
    outputs_of: Callable[[Tensor], Outputs], faces: Tensor, loss_of: Callable[[Outputs], Tensor]
) -> Tensor:
    """The gradient of every picture's loss with respect to the picture, (B, 3, S, S).

    Raises:
        DataError: the outputs do not depend on the pictures, or a gradient is not a number.
    """
    gradient = ascent(outputs_of, faces, loss_of)
    _check_finite(gradient)
    return gradient


def _check_finite(gradient: Tensor) -> None:
    broken = int((~gradient.flatten(1).isfinite().all(1)).sum())
    if broken:
        raise DataError(
            f"the loss has a gradient that is not a finite number for {broken} of {len(gradient)} pictures; look for a "
            "division by zero or a root of zero in the network, or lower the learning rate"
        )


def start_of(faces: Tensor, epsilon: float, norm: Norm, start: Start, generator: torch.Generator | None) -> Tensor:
    """The first perturbation, of the pictures' shape; it may leave the ball or [0, 1]."""
    if start == "none":
        return torch.zeros_like(faces)
    noise = torch.empty_like(faces)
    if start == "gaussian":
        return noise.normal_(0, _GAUSSIAN, generator=generator)
    if norm == "linf":
        return noise.uniform_(-epsilon, epsilon, generator=generator)
    noise.normal_(generator=generator)
    radius = torch.empty(len(faces), 1, 1, 1, device=faces.device).uniform_(generator=generator)
    # In D dimensions a uniform point of the ball is at a radius whose D-th power is uniform.
    return epsilon * radius.pow(1 / faces[0].numel()) * unit(noise, "l2")


def distance(one: Tensor, other: Tensor, norm: Norm) -> Tensor:
    """How far pictures are apart, (B,)."""
    change = (one - other).flatten(1)
    return change.abs().amax(1) if norm == "linf" else change.norm(dim=1)
