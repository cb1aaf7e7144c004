"""DDIM sampling (Song et al. 2021, arXiv 2010.02502) of a generator, with guidance at the predicted clean latent.

Lab only: torch.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from unmask.lab.inpainting.generator import Generator
from unmask.lab.inpainting.network import NOISE_STEPS

Draw = Callable[[tuple[int, ...]], Tensor]
"""Normal noise (B, *shape), of each picture from its own source."""
Guide = Callable[[Tensor], Tensor]
"""From predicted clean latents (B, C, h, w) to the direction in which they should go, times its strength."""


def timesteps(count: int) -> list[int]:
    """The steps of noise that are gone through, from the most to the least.

    The rule of Stable Diffusion's reference code: every `1000 // count`-th, from 1 on. 45 give 46, from 991 to 1.

    Args:
        count: about how many, 1 to 1000.
    """
    return [step + 1 for step in range(0, NOISE_STEPS - 1, NOISE_STEPS // count)][::-1]


def sigma(before: Tensor, after: Tensor, eta: float = 1.0) -> Tensor:
    """The deviation of the noise that a step adds anew.

    Args:
        before: share of signal at the step's beginning, ().
        after: at its end.
        eta: 1 for as much as DDPM, 0 for none.
    """
    return eta * ((1 - after) / (1 - before) * (1 - before / after)).sqrt()


def inpaint(
    generator: Generator,
    pictures: Tensor,
    masks: Tensor,
    count: int,
    draw: Draw,
    guide: Guide | None = None,
    adaptive: bool = True,
    eta: float = 1.0,
) -> Tensor:
    """Pictures with their masked parts painted anew.

    Args:
        generator: what paints.
        pictures: (B, 3, side, side) in [0, 1].
        masks: (B, 1, side, side), 1 where they are painted.
        count: of steps, see `timesteps`.
        draw: the noise.
        guide: where to, at every step (Adv-Diffusion, arXiv 2312.11285); None for nowhere.
        adaptive: weight guidance by `sigma`, so that it ends with the noise; else by 1.
        eta: of DDIM.

    Returns:
        (B, 3, side, side), about in [0, 1]: whole decoded pictures, what is kept among it.
    """
    steps, alphas = timesteps(count), generator.alphas_cumprod
    with torch.no_grad():
        clean = generator.encode(pictures)
        small, masked = generator.condition(pictures, clean, masks)
    shape = tuple(clean.shape[1:])
    first = alphas[steps[0]]  # the reference code begins at step 999 whatever the first one is
    latents = first.sqrt().float() * clean + (1 - first).sqrt().float() * draw(shape)
    for place, time in enumerate(steps):
        now = alphas[time]
        after = alphas[steps[place + 1] if place + 1 < len(steps) else 0]
        spread = sigma(now, after, eta)
        noise = generator.eps(latents, time, small, masked)
        predicted = (latents - (1 - now).sqrt().float() * noise) / now.sqrt().float()
        latents = after.sqrt().float() * predicted + (1 - after - spread**2).clamp(min=0).sqrt().float() * noise
        latents = latents + spread.float() * draw(shape)
        if guide is not None:
            latents = latents + (spread.float() if adaptive else 1.0) * guide(predicted)
    with torch.no_grad():
        return generator.decode(latents)
