"""Gradient attacks: FGSM, PGD, the momentum family and APGD. The core that they share is `networks.pgd`."""

import torch
from torch import Tensor
from torch.nn import functional

from unmask.networks.pgd import Norm, ascent, pgd, projected, random_in_ball, unit
from unmask.redteam.attacks.contract import Attack, Budget, Problem
from unmask.redteam.attacks.losses import Loss, loss_of, safe_loss

__all__ = ["APGD", "DIFGSM", "FGSM", "MIFGSM", "PGD", "PGDCE", "TIFGSM", "PGDLogit", "ascent", "pgd", "random_in_ball"]


class _Best:
    """Keeps, of all pictures that were evaluated, each row's best by margin."""

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        self.pictures = problem.x.clone()
        self.margins = torch.full((len(problem.x),), torch.inf)
        self._logits = torch.empty(0)

    def model(self, x: Tensor) -> Tensor:
        """The victim; its answer is remembered for `observe`."""
        logits = self._problem.logits(x)
        self._logits = logits.detach()
        return logits

    def observe(self, x: Tensor, _: Tensor, gradient: Tensor) -> None:
        """As `networks.pgd.pgd` calls it."""
        self._problem.note_gradient(gradient)
        self._consider(x)

    def evaluate(self, x: Tensor) -> None:
        """Evaluate pictures without a gradient."""
        with torch.no_grad():
            self.model(x)
        self._consider(x)

    def _consider(self, x: Tensor) -> None:
        margins = self._problem.margins(self._logits)
        better = margins < self.margins
        self.pictures = torch.where(better[:, None, None, None], x, self.pictures)
        self.margins = torch.where(better, margins, self.margins)
        self._problem.trace.append(self.margins.clone())


class FGSM(Attack):
    """One step along the sign of the gradient of the cross-entropy (Goodfellow et al. 2015)."""

    name = "fgsm"

    def perturb(self, problem: Problem, budget: Budget) -> Tensor:
        """As of `Attack`."""
        best = _Best(problem)
        loss = loss_of("ce", problem.inputs.labels, problem.inputs.targets)
        out = pgd(best.model, problem.x, loss, budget.epsilon, budget.epsilon, 1, observe=best.observe)
        best.evaluate(out)
        return out


class PGD(Attack):
    """Projected gradient descent from a random start (Madry et al. 2018) on the margin; the best iterate counts.

    Args:
        norm: of the ball.
        relative_step: a step times the number of steps, over epsilon.
    """

    name = "pgd"
    loss: Loss = "margin"

    def __init__(self, norm: Norm = "linf", relative_step: float = 2.5) -> None:
        self.norm = norm
        self._ball: Norm = norm
        self._relative_step = relative_step

    def perturb(self, problem: Problem, budget: Budget) -> Tensor:
        """As of `Attack`."""
        best = _Best(problem)
        draws = [
            random_in_ball(one[None], budget.epsilon, self._ball, generator)
            for one, generator in zip(problem.x, problem.generators, strict=True)
        ]
        out = pgd(
            best.model,
            problem.x,
            loss_of(self.loss, problem.inputs.labels, problem.inputs.targets),
            budget.epsilon,
            self._relative_step * budget.epsilon / budget.steps,
            budget.steps,
            self._ball,
            start=problem.x + torch.cat(draws),
            observe=best.observe,
        )
        best.evaluate(out)
        return best.pictures


class PGDCE(PGD):
    """PGD on the cross-entropy: what most papers report; it fails where a network is very sure."""

    name, loss = "pgd-ce", "ce"


class PGDLogit(PGD):
    """PGD on the logit of the target alone; without a target the right class's falls."""

    name, loss = "pgd-logit", "logit"


class MIFGSM(Attack):
    """Momentum iterative FGSM (Dong et al. 2018); the last iterate counts, for it is meant to transfer.

    Args:
        decay: of the momentum.
    """

    name = "mi-fgsm"
    diverse = False
    smooth = False

    def __init__(self, decay: float = 1.0) -> None:
        self._decay = decay

    def perturb(self, problem: Problem, budget: Budget) -> Tensor:
        """As of `Attack`."""
        momentum = torch.zeros_like(problem.x)

        def model(x: Tensor) -> Tensor:
            return problem.logits(resized_at_random(x, problem) if self.diverse else x)

        def observe(_: Tensor, losses: Tensor, gradient: Tensor) -> None:
            problem.note_gradient(gradient)
            problem.trace.append(-losses)

        def direction(gradient: Tensor) -> Tensor:
            nonlocal momentum
            gradient = smoothed(gradient) if self.smooth else gradient
            size = gradient.abs().mean((1, 2, 3), keepdim=True).clamp(min=1e-30)
            momentum = self._decay * momentum + gradient / size
            return momentum

        loss = loss_of("margin", problem.inputs.labels, problem.inputs.targets)
        step = budget.epsilon / budget.steps
        return pgd(model, problem.x, loss, budget.epsilon, step, budget.steps, direction=direction, observe=observe)


class DIFGSM(MIFGSM):
    """Diverse inputs (Xie et al. 2019) with momentum: in half of the steps the picture is drawn smaller, elsewhere."""

    name, diverse = "di-fgsm", True


class TIFGSM(MIFGSM):
    """Translation-invariant FGSM (Dong et al. 2019) with momentum: gradients are smoothed by a Gaussian."""

    name, smooth = "ti-fgsm", True


def resized_at_random(x: Tensor, problem: Problem, least: float = 0.9, chance: float = 0.5) -> Tensor:
    """Every picture, by chance, drawn at `least` to 1 times its size at a random place on black; with gradients."""
    draws = problem.draw((4,))
    scale = torch.where(draws[:, 0] < chance, least + (1 - least) * draws[:, 1], 1.0)
    room = 1 - scale
    shift = (draws[:, 2:] * 2 - 1) * room[:, None]
    matrices = torch.zeros(len(x), 2, 3)
    matrices[:, 0, 0] = matrices[:, 1, 1] = 1 / scale
    matrices[:, :, 2] = -shift / scale[:, None]
    grid = functional.affine_grid(matrices, list(x.shape), align_corners=False)
    return functional.grid_sample(x, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def smoothed(gradient: Tensor, size: int = 7, spread: float = 3.0) -> Tensor:
    """A gradient (b, 3, H, W) convolved with a Gaussian; `spread` is half the kernel's side over its deviation."""
    places = torch.linspace(-spread, spread, size)
    line = torch.exp(-places.square() / 2)
    kernel = (line[:, None] * line / line.sum() ** 2).expand(3, 1, size, size).to(gradient)
    return functional.conv2d(gradient, kernel, padding=size // 2, groups=3)


class APGD(Attack):
    """Auto-PGD (Croce & Hein 2020): the step halves where progress ends, and the search goes on from the best picture.

    The loss is the difference of logits ratio, or the margin where there are too few classes for it.

    Args:
        norm: of the ball.
    """

    name = "apgd"
    _MOMENTUM, _ENOUGH = 0.75, 0.75

    def __init__(self, norm: Norm = "linf") -> None:
        self.norm = norm
        self._ball: Norm = norm

    def perturb(self, problem: Problem, budget: Budget) -> Tensor:
        """As of `Attack`."""
        x, epsilon, steps = problem.x, budget.epsilon, budget.steps
        best = _Best(problem)
        kind = safe_loss(problem.victim.classes, problem.inputs.targets is not None)
        loss = loss_of(kind, problem.inputs.labels, problem.inputs.targets)
        losses = torch.empty(0)

        def observe(at: Tensor, values: Tensor, gradient: Tensor) -> None:
            nonlocal losses
            losses = values
            best.observe(at, values, gradient)

        def evaluated(at: Tensor) -> Tensor:
            return ascent(best.model, at, loss, observe)

        iterate = projected(x + self._start(problem, epsilon), x, epsilon, self._ball)
        gradient = evaluated(iterate)
        top, top_at, top_gradient = losses.clone(), iterate.clone(), gradient.clone()
        step = torch.full((len(x), 1, 1, 1), 2 * epsilon)
        previous, history = iterate.clone(), [losses.clone()]
        period, shrink, least = (max(int(share * steps), 1) for share in (0.22, 0.03, 0.06))
        reduced, top_before, waited = torch.ones(len(x), dtype=torch.bool), top.clone(), 0
        for number in range(steps):
            weight = self._MOMENTUM if number else 1.0
            ahead = projected(iterate + step * unit(gradient, self._ball), x, epsilon, self._ball)
            moved = iterate + weight * (ahead - iterate) + (1 - weight) * (iterate - previous)
            previous, iterate = iterate, projected(moved, x, epsilon, self._ball)
            gradient = evaluated(iterate)
            history.append(losses.clone())
            better = losses > top
            mask = better[:, None, None, None]
            top = torch.where(better, losses, top)
            top_at, top_gradient = torch.where(mask, iterate, top_at), torch.where(mask, gradient, top_gradient)
            waited += 1
            if waited == period:
                grown = sum((history[-n - 1] > history[-n - 2]).int() for n in range(period))
                stuck = (grown <= self._ENOUGH * period) | (~reduced & (top_before >= top))
                reduced, top_before = stuck, top.clone()
                mask = stuck[:, None, None, None]
                step = torch.where(mask, step / 2, step)
                iterate, gradient = torch.where(mask, top_at, iterate), torch.where(mask, top_gradient, gradient)
                period, waited = max(period - shrink, least), 0
        return best.pictures

    def _start(self, problem: Problem, epsilon: float) -> Tensor:
        if self._ball == "l2":
            return epsilon * unit(problem.draw(tuple(problem.x.shape[1:]), torch.randn), "l2")
        noise = 2 * problem.draw(tuple(problem.x.shape[1:])) - 1
        return epsilon * noise / noise.abs().flatten(1).amax(1).view(-1, 1, 1, 1)
