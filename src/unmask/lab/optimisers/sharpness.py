"""Sharpness-aware optimisers: SAM, GSAM, SAGM and GCSAM, each around a base optimiser of torch. Lab only: torch.

All take two gradients of the loss of one batch a step: e at the weights, g at weights moved uphill by rho along e. They
differ in the gradient u that they make of the two and hand to the base optimiser, whose momentum and weight decay
therefore work on u:

- SAM (Foret et al., ICLR 2021): u = g.
- GSAM (Zhuang et al., ICLR 2022): u = g less alpha times the part of e that is orthogonal to g. Its paper lets rho
  follow the learning rate; here rho stays as it is.
- SAGM (Wang et al., CVPR 2023): moved by rho e / ||e|| - alpha e, u = (e + g) / 2.
- GCSAM (GCSCoOp; Liu et al., IEEE TMM 2024, arXiv 2309.07866): by the cosine c of g and e. c >= beta2: u = g; between
  beta1 and beta2: g projected on the direction of g + e; c <= beta1: u = e.

The closure that a step is given clears the gradients, computes the loss and calls `backward`. It is called twice, so it
must use the same batch, the same augmentation and the same random numbers both times, and leave learning rates alone.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.optim import Optimizer

from unmask.errors import DataError

Base = Callable[[list[dict[str, Any]]], Optimizer]
"""Makes the base optimiser of parameter groups, such as `functools.partial(torch.optim.SGD, lr=0.002)`."""
Scope = Literal["tensor", "global"]
Branch = Literal["sam", "projected", "loss"]
"""What GCSAM hands on: the SAM gradient, its projection, or the plain gradient of the loss."""
BRANCHES: tuple[Branch, ...] = ("sam", "projected", "loss")


@dataclass(frozen=True)
class StepStatistics:
    """What the two gradients of a step were like.

    Attributes:
        cosines: of g and e, in [-1, 1]: one of each tensor, or a single one; NaN where one of them is zero.
        branches: GCSAM's, one of each cosine; of other optimisers none.
        loss_norm: Euclidean length of e over all tensors.
        sharp_norm: of g.
        relative_rho: how far the weights were moved, over their own length; infinite for weights that are all zero.
    """

    cosines: tuple[float, ...]
    branches: tuple[Branch, ...]
    loss_norm: float
    sharp_norm: float
    relative_rho: float

    def metrics(self) -> dict[str, float]:
        """For a run's record: the mean cosine, the relative rho, and the share of each branch among the tensors."""
        defined = [cosine for cosine in self.cosines if not math.isnan(cosine)]
        shares = {f"branch_{one}": self.branches.count(one) / len(self.branches) for one in BRANCHES if self.branches}
        cosine = sum(defined) / len(defined) if defined else math.nan
        return {"cosine": cosine, "relative_rho": self.relative_rho, **shares}


class SharpnessAware(Optimizer, ABC):
    """A base optimiser that is given a gradient made of two.

    The state is the base optimiser's alone: nothing else is carried from step to step. Parameter groups may have their
    own `rho`. A tensor whose u is not finite gets e.

    Attributes:
        base: the base optimiser; a hook before its step (`register_step_pre_hook`) sees the gradient made of the two.
        statistics: of the last step; None before the first.

    Args:
        params: parameters or groups of them.
        base: makes the base optimiser.
        rho: how far the weights are moved, >= 0; in the same units as the weights.
        adaptive: scale the move by the weights' squares (ASAM; Kwon et al., ICML 2021).
        eps: added to the gradient's length, by which is divided.
        settings: further defaults of groups.

    Raises:
        DataError: rho is negative.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        base: Base,
        rho: float = 0.05,
        adaptive: bool = False,
        eps: float = 1e-12,
        **settings: Any,
    ) -> None:
        super().__init__(params, {"rho": rho, "adaptive": adaptive, **settings})
        if any(not group["rho"] >= 0 for group in self.param_groups):
            raise DataError("rho, how far the weights are moved, is at least 0; 0.05 is usual")
        self.base = base(self.param_groups)
        self.eps = eps
        self.statistics: StepStatistics | None = None
        self.defaults = {**self.base.defaults, **self.defaults}  # schedules look there for momentum
        self._share()

    def _share(self) -> None:
        """Have groups and state in common with the base optimiser: schedules change either."""
        self.param_groups, self.state = self.base.param_groups, self.base.state

    def state_dict(self) -> dict[str, Any]:
        """That of the base optimiser, whose groups have this one's settings too."""
        return self.base.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        self.base.load_state_dict(state_dict)
        self._share()

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """As of torch."""
        if "base" not in self.__dict__:  # torch's constructor adds the first ones
            super().add_param_group(param_group)
            return
        own = {name: value for name, value in self.defaults.items() if name not in self.base.defaults}
        self.base.add_param_group({**own, **param_group})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step with two gradients.

        Args:
            closure: see the module's head.

        Returns:
            What the closure gave for the weights as they were.

        Raises:
            DataError: there is no closure, or the gradient at the weights is not finite; they stay as they are.
        """
        if closure is None:
            raise DataError("a sharpness-aware step computes two gradients: give it a closure, step(closure)")
        evaluate = torch.enable_grad()(closure)
        loss = evaluate()
        moved = [(p, group) for group in self.param_groups for p in group["params"] if p.grad is not None]
        plain = [p.grad for p, _ in moved]
        for p, _ in moved:
            p.grad = None  # kept above: a closure that sets gradients to zero in place must not reach it
        saved = [p.clone() for p, _ in moved]
        sharp, relative_rho = self._sharp_gradients(moved, plain, saved, evaluate)
        cosines, branches, combined = self._combined(sharp, plain)
        for (p, _), e, u in zip(moved, plain, combined, strict=True):
            p.grad = u if math.isfinite(_length([u])) else e
        self.statistics = StepStatistics(tuple(cosines), tuple(branches), _length(plain), _length(sharp), relative_rho)
        self.base.step()
        return loss

    def _sharp_gradients(
        self,
        moved: Sequence[tuple[Tensor, dict[str, Any]]],
        plain: Sequence[Tensor],
        saved: Sequence[Tensor],
        evaluate: Callable[[], Any],
    ) -> tuple[list[Tensor], float]:
        """The gradients at the moved weights, and how far these were moved over their length. Weights end as before."""
        scaled = [p.abs() * e if group["adaptive"] else e for (p, group), e in zip(moved, plain, strict=True)]
        length = _length(scaled)
        if not math.isfinite(length):
            raise DataError(
                "the gradient of the loss is not finite: lower the learning rate, or look for bad values in the data"
            )
        scales = [self._scale(group, length) for _, group in moved]
        directions = [p.abs() * e if group["adaptive"] else e for (p, group), e in zip(moved, scaled, strict=True)]
        distance = math.sqrt(sum((s * _length([d])) ** 2 for s, d in zip(scales, directions, strict=True)))
        weight = _length(saved)
        try:
            for (p, _), direction, scale in zip(moved, directions, scales, strict=True):
                p.add_(direction, alpha=scale)
            evaluate()
            sharp = [e if p.grad is None else p.grad for (p, _), e in zip(moved, plain, strict=True)]
        finally:
            for (p, _), before in zip(moved, saved, strict=True):
                p.copy_(before)
        return sharp, distance / weight if weight else math.inf

    def _scale(self, group: dict[str, Any], length: float) -> float:
        """By what the direction of a group's weights is multiplied; `length` is that of the whole gradient."""
        return float(group["rho"] / (length + self.eps))

    @abstractmethod
    def _combined(
        self, sharp: Sequence[Tensor], plain: Sequence[Tensor]
    ) -> tuple[Sequence[float], Sequence[Branch], Sequence[Tensor]]:
        """Cosines, branches, and the gradients handed on, of g (`sharp`) and e (`plain`)."""


class SAM(SharpnessAware):
    """Hands on the gradient at the moved weights. Arguments as of `SharpnessAware`."""

    def _combined(
        self, sharp: Sequence[Tensor], plain: Sequence[Tensor]
    ) -> tuple[Sequence[float], Sequence[Branch], Sequence[Tensor]]:
        return [_over_all(sharp, plain).cosine], (), sharp


class GSAM(SharpnessAware):
    """Also lowers the surrogate gap, the loss at the moved weights less that at the weights.

    Args:
        params, base, rho, adaptive, eps: as of `SharpnessAware`.
        alpha: weight of the part of e that is orthogonal to g, over all tensors.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        base: Base,
        rho: float = 0.05,
        alpha: float = 0.4,
        adaptive: bool = False,
        eps: float = 1e-12,
    ) -> None:
        super().__init__(params, base, rho, adaptive, eps)
        self.alpha = alpha

    def _combined(
        self, sharp: Sequence[Tensor], plain: Sequence[Tensor]
    ) -> tuple[Sequence[float], Sequence[Branch], Sequence[Tensor]]:
        pair = _over_all(sharp, plain)
        if math.isnan(pair.cosine):
            return [pair.cosine], (), sharp
        along = pair.product / pair.sharp**2
        return [pair.cosine], (), [g - self.alpha * (e - along * g) for g, e in zip(sharp, plain, strict=True)]


class SAGM(SharpnessAware):
    """Matches the gradients of the loss at the weights and at the moved ones.

    Args:
        params, base, rho, adaptive, eps: as of `SharpnessAware`.
        alpha: how far, in units of e, the move goes downhill in turn.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        base: Base,
        rho: float = 0.05,
        alpha: float = 0.001,
        adaptive: bool = False,
        eps: float = 1e-12,
    ) -> None:
        super().__init__(params, base, rho, adaptive, eps)
        self.alpha = alpha

    def _scale(self, group: dict[str, Any], length: float) -> float:
        return super()._scale(group, length) - self.alpha

    def _combined(
        self, sharp: Sequence[Tensor], plain: Sequence[Tensor]
    ) -> tuple[Sequence[float], Sequence[Branch], Sequence[Tensor]]:
        cosine = _over_all(sharp, plain).cosine
        return [cosine], (), [(g + e) / 2 for g, e in zip(sharp, plain, strict=True)]


class GCSAM(SharpnessAware):
    """Keeps the SAM gradient only where it agrees with the gradient of the loss (GCSCoOp's optimiser).

    With `beta1` at most 0 there is no fall-back to the gradient of the loss: below `beta2` all is projected, as in the
    reference code. Where a gradient is zero or not finite, which the reference code does not look for, e is handed on.
    Cosines are computed in single precision or better.

    Args:
        params, base, rho, adaptive, eps: as of `SharpnessAware`.
        beta1: at this cosine and below, the gradient of the loss is taken; 0.5 is 60 degrees.
        beta2: at this cosine and above, the SAM gradient is taken; 0.8 is 37 degrees.
        scope: whether cosine and branch are each tensor's own, as published, or one for all.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        base: Base,
        rho: float = 0.1,
        beta1: float = 0.5,
        beta2: float = 0.8,
        scope: Scope = "tensor",
        adaptive: bool = False,
        eps: float = 1e-12,
    ) -> None:
        super().__init__(params, base, rho, adaptive, eps)
        self.beta1, self.beta2, self.scope = beta1, beta2, scope

    def _combined(
        self, sharp: Sequence[Tensor], plain: Sequence[Tensor]
    ) -> tuple[Sequence[float], Sequence[Branch], Sequence[Tensor]]:
        pairs = [_over_all(sharp, plain)] if self.scope == "global" else _pairs(sharp, plain)
        branches = [self._branch(pair.cosine) for pair in pairs]
        cosines = [pair.cosine for pair in pairs]
        if self.scope == "global":
            combined, branch = self._constrained(branches[0], sharp, plain)
            return cosines, [branch], combined
        made = [self._constrained(one, [g], [e]) for one, g, e in zip(branches, sharp, plain, strict=True)]
        return cosines, [branch for _, branch in made], [gradients[0] for gradients, _ in made]

    def _branch(self, cosine: float) -> Branch:
        if math.isnan(cosine) or (self.beta1 > 0 and cosine <= self.beta1):
            return "loss"
        return "sam" if cosine >= self.beta2 else "projected"

    @staticmethod
    def _constrained(
        branch: Branch, sharp: Sequence[Tensor], plain: Sequence[Tensor]
    ) -> tuple[Sequence[Tensor], Branch]:
        """The gradients handed on in a branch, and the branch; without a direction to project on it is that of e."""
        if branch != "projected":
            return (sharp if branch == "sam" else plain), branch
        summed = [_wide(g) + _wide(e) for g, e in zip(sharp, plain, strict=True)]
        square = sum(float(z.square().sum()) for z in summed)
        if not square:
            return plain, "loss"
        share = sum(float((_wide(g) * z).sum()) for g, z in zip(sharp, summed, strict=True)) / square
        return [(share * z).to(g.dtype) for g, z in zip(sharp, summed, strict=True)], branch


SHARPNESS_AWARE: dict[str, type[SharpnessAware]] = {"sam": SAM, "gsam": GSAM, "sagm": SAGM, "gcsam": GCSAM}
"""All of them by name."""


def with_settings(
    parameters: Iterable[Tensor] | Iterable[dict[str, Any]],
    base: Callable[..., Optimizer],
    settings: Mapping[str, Any],
) -> Optimizer:
    """An optimiser by its settings.

    Args:
        parameters: to train, or groups of them.
        base: makes the optimiser that takes the steps.
        settings: "optimiser", a key of `SHARPNESS_AWARE`, and what that takes; empty for the base alone.
    """
    if not settings:
        return base(parameters)
    rest = dict(settings)
    made: Callable[..., SharpnessAware] = SHARPNESS_AWARE[str(rest.pop("optimiser"))]
    return made(parameters, base, **rest)


@dataclass(frozen=True)
class _Pair:
    """The inner product of g and e, and their lengths."""

    product: float
    sharp: float
    plain: float

    @property
    def cosine(self) -> float:
        """In [-1, 1]; NaN where it is not defined."""
        lengths = self.sharp * self.plain
        if not lengths or not math.isfinite(lengths) or not math.isfinite(self.product):
            return math.nan
        return max(-1.0, min(1.0, self.product / lengths))


def _pairs(sharp: Sequence[Tensor], plain: Sequence[Tensor]) -> list[_Pair]:
    """Of every tensor. One transfer from the device for all of them."""
    if not sharp:
        return []
    numbers = torch.stack(
        [
            torch.stack([(_wide(g) * _wide(e)).sum(), _wide(g).norm(), _wide(e).norm()]).to(sharp[0].device).double()
            for g, e in zip(sharp, plain, strict=True)
        ]
    )
    return [_Pair(*row) for row in numbers.tolist()]


def _over_all(sharp: Sequence[Tensor], plain: Sequence[Tensor]) -> _Pair:
    pairs = _pairs(sharp, plain)
    return _Pair(
        sum(one.product for one in pairs),
        math.sqrt(sum(one.sharp**2 for one in pairs)),
        math.sqrt(sum(one.plain**2 for one in pairs)),
    )


def _length(tensors: Sequence[Tensor]) -> float:
    """Euclidean length over all tensors."""
    if not tensors:
        return 0.0
    norms = torch.stack([_wide(one).norm().to(tensors[0].device).double() for one in tensors])
    return float(norms.norm())


def _wide(tensor: Tensor) -> Tensor:
    """In single precision or better: products of half precision overflow."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))
