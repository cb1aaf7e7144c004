"""Adv-Diffusion (arXiv 2312.11285, AAAI 2024) and its baseline: a face's surroundings painted anew, guided or not.

A diffusion model paints what is not the face itself; at every step the gradient of surrogates' margin at the predicted
clean latent pulls the picture towards the wanted answer. It does not pass through the diffusion network. The victim
itself is not asked: what fools the surrogates is shown to it. It departs from the reference code in this:

- the strength is of each picture by itself; there the gradient is divided by the batch, so that 300 means 150 at two;
- the noise of the start is that of the first step that is taken, not of step 999;
- surrogates see the face as the campaign aligns it, not the whole picture reduced;
- the answer that is wanted may be any: of recognisers a cosine up or down, of detectors a logit.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from unmask.errors import DataError
from unmask.lab.inpainting.generator import Generator
from unmask.lab.inpainting.sampling import inpaint
from unmask.redteam.attacks.contract import Attack, Budget, Norm, Problem, margin
from unmask.redteam.victims import Model, Victim, resized

MaskMaker = Callable[[np.ndarray], np.ndarray]
"""From a picture uint8 (H, W, 3) to what of it is painted anew, bool (H, W)."""


@dataclass(frozen=True)
class Painter:
    """A generator, and what it is to paint of each picture.

    Attributes:
        generator: the diffusion model.
        surroundings: the mask of a picture; remembered by its content.
    """

    generator: Generator
    surroundings: MaskMaker
    _known: dict[bytes, Tensor] = field(default_factory=dict)

    def masks(self, pictures: Tensor) -> Tensor:
        """Masks float32 (B, 1, H, W), 1 where uint8 pictures (B, 3, H, W) are painted anew."""
        masks = []
        for picture in pictures:
            key = picture.numpy().tobytes()
            if key not in self._known:
                pixels = np.ascontiguousarray(picture.permute(1, 2, 0).numpy())
                self._known[key] = torch.from_numpy(self.surroundings(pixels))[None]
            masks.append(self._known[key])
        return torch.stack(masks).float()


class AdvDiffusion(Attack):
    """The surroundings of a face painted anew, guided towards the wanted answer by surrogates; epsilon is the guidance.

    Args:
        painter: what paints; without one it cannot be tried.
        surrogates: who is asked for gradients; the victim itself is left out.
        adaptive: weight guidance by the noise of each step, so that it ends with it; else by 1 at every step.
        composited: lay the face itself, as it was, over the result; the reference code does not.
        white_box: ask the victim itself too.
    """

    name = "adv-diffusion"
    norm: Norm = "guidance"
    gradients = False

    def __init__(
        self,
        painter: Painter | None = None,
        surrogates: Sequence[Victim] = (),
        adaptive: bool = True,
        composited: bool = False,
        white_box: bool = False,
    ) -> None:
        self._painter, self._surrogates = painter, tuple(surrogates)
        self._adaptive, self._composited, self._white_box = adaptive, composited, white_box
        self.gradients = white_box

    def check(self, victim: Victim) -> None:
        """As of `Attack`: also without a generator, or anybody to ask."""
        super().check(victim)
        self._ready()
        self.surrogates_of(victim)

    def perturb(self, problem: Problem, budget: Budget) -> Tensor:
        """As of `Attack`; `budget.steps` are those of the sampling."""
        return self._painted(problem, budget.steps, self.guide(problem, budget.epsilon))

    def surrogates_of(self, victim: Victim) -> list[Victim]:
        """Who is asked for gradients in an attack on a victim.

        Raises:
            DataError: nobody is left.
        """
        chosen = [one for one in self._surrogates if one is not victim and one.differentiable]
        chosen += [victim] if self._white_box else []
        if not chosen:
            raise DataError(
                f"{self.name} asks other models than {victim.name} for gradients, and none is named; name some with "
                "--victim, or take --white-box"
            )
        return chosen

    def guide(self, problem: Problem, strength: float) -> Callable[[Tensor], Tensor]:
        """Where predicted clean latents (b, C, h, w) should go: `strength` times the gradient of the surrogates' score.

        The score of a picture is the mean over surrogates of minus the margin: of recognisers the cosine, up or down.

        Raises:
            DataError: no generator, or nobody to ask.
        """
        inputs, painter = problem.inputs, self._ready()
        rows = torch.arange(len(problem.x))
        models: list[Model] = [
            (lambda x, _: problem.logits(x)) if one is problem.victim else one.bind(inputs)
            for one in self.surrogates_of(problem.victim)
        ]

        def direction(predicted: Tensor) -> Tensor:
            latents = predicted.detach().requires_grad_()
            shown = resized(painter.generator.decode(latents).clamp(0, 1), problem.x.shape[-1])
            margins = torch.stack([margin(model(shown, rows), inputs.labels, inputs.targets) for model in models])
            missed = margins.mean(0)
            (gradient,) = torch.autograd.grad(-missed.sum(), latents)  # a sum: no picture's depends on the others
            problem.note_gradient(gradient)
            problem.trace.append(missed.detach())
            return strength * gradient

        return direction

    def _painted(self, problem: Problem, steps: int, guide: Callable[[Tensor], Tensor] | None) -> Tensor:
        painter = self._ready()
        generator, x = painter.generator, problem.x
        masks = painter.masks(problem.inputs.pictures)
        small = functional.interpolate(masks, generator.side)
        painted = inpaint(
            *(generator, resized(x, generator.side), small, steps),
            lambda shape: problem.draw(shape, torch.randn),
            *(guide, self._adaptive),
        )
        whole = resized(painted, x.shape[-1]).clamp(0, 1)
        return torch.where(masks.bool(), whole, x) if self._composited else whole

    def _ready(self) -> Painter:
        if self._painter is None:
            raise DataError(
                f"{self.name} paints with a generator, and none is named; see --generator and --taef2 of `unmask "
                "redteam`"
            )
        return self._painter


class Inpainting(AdvDiffusion):
    """The same without guidance: as likely a picture as another, and the floor of adv-diffusion. It has no strength."""

    name = "inpainting"
    norm: Norm = "none"

    def surrogates_of(self, victim: Victim) -> list[Victim]:
        """Nobody is asked."""
        return []

    def perturb(self, problem: Problem, budget: Budget) -> Tensor:
        """As of `Attack`."""
        return self._painted(problem, budget.steps, None)
