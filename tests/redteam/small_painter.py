"""A generator without files, and surrogates, for attacks that paint."""

import copy

import numpy as np
import torch
from small_victims import SIDE, BlackBox
from torch import Tensor
from torch.nn import functional

from unmask.lab.inpainting.network import alphas_cumprod
from unmask.redteam.attacks import ATTACKS
from unmask.redteam.attacks.adv_diffusion import AdvDiffusion, Painter
from unmask.redteam.victims import Victim

FACTOR = 4


class SmallGenerator:
    """Latents are pictures in [-1, 1] at a quarter of the side; the network believes in what is kept, and in grey."""

    name, side, alphas_cumprod = "small", SIDE, alphas_cumprod()

    def encode(self, pictures: Tensor) -> Tensor:
        return functional.avg_pool2d(pictures, FACTOR) * 2 - 1

    def decode(self, latents: Tensor) -> Tensor:
        return functional.interpolate(latents, scale_factor=float(FACTOR), mode="bilinear") / 2 + 0.5

    def condition(self, pictures: Tensor, latents: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
        small = masks[..., ::FACTOR, ::FACTOR]
        return small, latents * (1 - small)

    def eps(self, noisy: Tensor, time: int, masks: Tensor, masked: Tensor) -> Tensor:
        level = self.alphas_cumprod[time].float()
        # Of what is painted it believes half of what it sees, so that guidance has something to hold to.
        clean = masked + masks * noisy * level.sqrt() / 2
        return (noisy - level.sqrt() * clean) / (1 - level).sqrt()


def frame(pixels: np.ndarray) -> np.ndarray:
    """All but a square in the middle."""
    mask = np.ones(pixels.shape[:2], bool)
    mask[SIDE // 4 : -SIDE // 4, SIDE // 4 : -SIDE // 4] = False
    return mask


def painter() -> Painter:
    return Painter(SmallGenerator(), frame)


def sibling(victim: Victim) -> Victim:
    """A victim much like another one, with other weights."""
    if isinstance(victim, BlackBox):
        return sibling(victim.other)
    made = copy.copy(victim)
    made.network = copy.deepcopy(victim.network)  # type: ignore[attr-defined]
    generator = torch.Generator().manual_seed(1)
    for parameter in made.network.parameters():  # type: ignore[attr-defined]
        parameter += 0.02 * parameter.std() * torch.randn(parameter.shape, generator=generator)
    made._known = {}  # type: ignore[attr-defined]  # what another network remembers of references
    return made


def painting_attack(name: str, victim: Victim | None) -> AdvDiffusion:
    """An attack of the table that asks a sibling of the victim."""
    kind = ATTACKS.load(name)
    assert issubclass(kind, AdvDiffusion)
    return kind(painter(), [] if victim is None else [sibling(victim)])
