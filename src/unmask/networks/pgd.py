"""Projected gradient ascent on pictures: the core of the attacks and of adversarial training. Lab only: torch."""

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor

from unmask.errors import DataError

Norm = Literal["linf", "l2"]


def pgd(
    model: Callable[[Tensor], Any],
    x: Tensor,
    loss: Callable[[Any], Tensor],
    epsilon: float,
    step: float,
    steps: int,
    norm: Norm = "linf",
    generator: torch.Generator | None = None,
    *,
    start: Tensor | None = None,
    direction: Callable[[Tensor], Tensor] | None = None,
    observe: Callable[[Tensor, Tensor, Tensor], None] | None = None,
) -> Tensor:
    """Pictures in a ball about others on which a loss is high (Madry et al. 2018).

    The model is called as it is: whoever trains decides whether it is in training or evaluation mode. No gradient
    reaches its weights.

    Args:
        model: from pictures (B, 3, H, W) in [0, 1] to whatever `loss` reads.
        x: the pictures, float (B, 3, H, W) in [0, 1].
        loss: from the model's output to one number for each picture, (B,), which is to grow. A sum over pictures is
            differentiated, so that none depends on the others.
        epsilon: radius of the ball, in units of pixels.
        step: length of a step in the norm.
        steps: how many; at least 0.
        norm: of the ball and of a step.
        generator: draws a start, uniformly in the cube or on directions of the ball; without one the start is `x`.
        start: where to begin in place of a draw; it is projected.
        direction: turns a gradient into the direction in which to step (momentum, smoothing).
        observe: is given every evaluated picture, its losses (B,) and its gradient, all detached.

    Returns:
        The last iterate, detached, in the ball and in [0, 1].

    Raises:
        DataError: the losses do not depend on the pictures.
    """
    x = x.detach()
    if start is None:
        start = x if generator is None else x + random_in_ball(x, epsilon, norm, generator)
    iterate = projected(start, x, epsilon, norm)
    for _ in range(steps):
        gradient = ascent(model, iterate, loss, observe)
        if direction is not None:
            gradient = direction(gradient)
        iterate = projected(iterate + step * unit(gradient, norm), x, epsilon, norm)
    return iterate


def ascent(
    model: Callable[[Tensor], Any],
    x: Tensor,
    loss: Callable[[Any], Tensor],
    observe: Callable[[Tensor, Tensor, Tensor], None] | None = None,
) -> Tensor:
    """The gradient of every picture's loss with respect to that picture, (B, 3, H, W).

    Raises:
        DataError: the losses do not depend on the pictures.
    """
    with torch.enable_grad():
        variable = x.detach().requires_grad_()
        losses = loss(model(variable))
        gradient = torch.autograd.grad(losses.sum(), variable, allow_unused=True)[0] if losses.requires_grad else None
    if gradient is None:
        raise DataError("the attacked outputs do not depend on the pictures; attack a differentiable network")
    if observe is not None:
        observe(x.detach(), losses.detach(), gradient)
    return gradient


def projected(x: Tensor, centre: Tensor, epsilon: float, norm: Norm) -> Tensor:
    """The pictures nearest to `x` in the ball about `centre`, then cut to [0, 1]; detached."""
    # Pictures are in [0, 1], so that the clamp takes nothing further away from the centre.
    return (centre + within((x - centre).detach(), epsilon, norm)).clamp(0, 1)


def within(change: Tensor, epsilon: float, norm: Norm) -> Tensor:
    """The nearest changes (B, 3, H, W) within epsilon of zero."""
    if norm == "linf":
        return change.clamp(-epsilon, epsilon)
    length = change.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    return change * (epsilon / length.clamp(min=1e-12)).clamp(max=1)


def unit(gradient: Tensor, norm: Norm) -> Tensor:
    """The direction of steepest ascent whose norm is 1 (for linf: the sign); 0 where the gradient is."""
    if norm == "linf":
        return gradient.sign()
    return gradient / gradient.flatten(1).norm(dim=1).clamp(min=1e-30).view(-1, 1, 1, 1)


def random_in_ball(x: Tensor, epsilon: float, norm: Norm, generator: torch.Generator) -> Tensor:
    """Changes drawn from the ball: uniformly (linf), or a uniform direction with a uniform length (l2)."""
    if norm == "linf":
        return (torch.rand(x.shape, generator=generator, device=generator.device).to(x) * 2 - 1) * epsilon
    noise = torch.randn(x.shape, generator=generator, device=generator.device).to(x)
    length = torch.rand(len(x), 1, 1, 1, generator=generator, device=generator.device).to(x)
    return unit(noise, "l2") * length * epsilon
