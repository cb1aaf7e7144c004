"""Projected gradient descent on pictures: the core of adversarial training and of white-box attacks. Lab only: torch.

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

Norm = Literal["linf", "l2"]
Start = Literal["none", "uniform", "gaussian"]
Outputs = TypeVar("Outputs")
_GAUSSIAN = 0.001  # deviation of the published ANCRA start
_TINY = 1e-12


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
    moved = project(faces + start_of(faces, epsilon, norm, start, generator), faces, epsilon, norm)
    chosen, largest = moved, faces.new_full((len(faces),), -torch.inf)
    for _ in range(steps):
        losses, gradient = loss_gradient(outputs_of, moved, loss_of)
        if best:
            chosen, largest = _larger(chosen, largest, moved, losses)
        moved = project(moved + step * direction(gradient, norm), faces, epsilon, norm)
    if best:
        with torch.no_grad():
            chosen, _ = _larger(chosen, largest, moved, loss_of(outputs_of(moved)))
        return chosen
    return moved


def _larger(chosen: Tensor, largest: Tensor, moved: Tensor, losses: Tensor) -> tuple[Tensor, Tensor]:
    better = losses.detach() > largest
    return torch.where(better.view(-1, 1, 1, 1), moved, chosen), torch.where(better, losses.detach(), largest)


def loss_gradient(
    outputs_of: Callable[[Tensor], Outputs], faces: Tensor, loss_of: Callable[[Outputs], Tensor]
) -> tuple[Tensor, Tensor]:
    """The loss of every picture, (B,), and its gradient with respect to the picture.

    Raises:
        DataError: the outputs do not depend on the pictures, or a gradient is not a number.
    """
    with torch.enable_grad():
        leaf = faces.detach().requires_grad_()
        losses = loss_of(outputs_of(leaf))
        gradient = torch.autograd.grad(losses.sum(), leaf, allow_unused=True)[0] if losses.requires_grad else None
    if gradient is None:
        raise DataError("the attacked outputs do not depend on the pictures; attack a differentiable network")
    broken = int((~gradient.flatten(1).isfinite().all(1)).sum())
    if broken:
        raise DataError(
            f"the loss has a gradient that is not a finite number for {broken} of {len(faces)} pictures; look for a "
            "division by zero or a root of zero in the network, or lower the learning rate"
        )
    return losses.detach(), gradient


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
    return epsilon * radius.pow(1 / faces[0].numel()) * direction(noise, "l2")


def direction(gradient: Tensor, norm: Norm) -> Tensor:
    """The step of length 1 that follows a gradient steepest; zero where the gradient is."""
    if norm == "linf":
        return gradient.sign()
    return gradient / _length(gradient).clamp(min=_TINY)


def project(moved: Tensor, faces: Tensor, epsilon: float, norm: Norm) -> Tensor:
    """The nearest pictures in [0, 1] within epsilon of others."""
    # Pictures are in [0, 1], so that the clamp takes nothing further away from them.
    return (faces + within(moved - faces, epsilon, norm)).clamp(0, 1)


def within(change: Tensor, epsilon: float, norm: Norm) -> Tensor:
    """The nearest perturbations within epsilon of zero."""
    if norm == "linf":
        return change.clamp(-epsilon, epsilon)
    return change * (epsilon / _length(change).clamp(min=_TINY)).clamp(max=1)


def distance(one: Tensor, other: Tensor, norm: Norm) -> Tensor:
    """How far pictures are apart, (B,)."""
    change = (one - other).flatten(1)
    return change.abs().amax(1) if norm == "linf" else change.norm(dim=1)


def _length(change: Tensor) -> Tensor:
    return change.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
