"""Latent inpainting diffusion for faces, small enough for two cores. Lab only: torch.

A U-Net predicts the noise in the latent of a picture, given the mask of what is to be painted and the latent of what is
kept (as Stable Diffusion's inpainting model does; Rombach et al. 2022, arXiv 2112.10752). It works in the latent space
of TAEF2, 32 channels at an eighth of the side. The network is this project's own: for one of this size nothing but
layers would be taken from diffusers, whose import takes four times as long as torch's.

It departs from Stable Diffusion's inpainting in this: the latent of what is kept is that of the whole picture, with
zeros where it is to be painted, not that of a picture whose masked part is grey. A picture is encoded once, whatever
its masks; what the encoder carries over the mask's border is part of the condition in training and in use.
"""

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional

from unmask.networks.contract import Batch, Trainable

CHANNELS = 32
"""Of a latent of TAEF2."""
FACTOR = 8
"""Pixels of a picture to one place of its latent."""
NOISE_STEPS = 1000
_GROUPS = 8  # of channels that are normalised together
_MOST_WEIGHT = 5.0  # min-SNR weighting, gamma (Hang et al. 2023, arXiv 2303.09556)


def alphas_cumprod() -> Tensor:
    """The share of signal left after each of 1000 steps, float64 (1000,): Stable Diffusion's schedule."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, NOISE_STEPS, dtype=torch.float64) ** 2
    return (1 - betas).cumprod(0)


class _Block(nn.Module):
    """Two 3x3 convolutions beside a shortcut, scaled and shifted by the time."""

    def __init__(self, channels: int, width: int, time: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(_GROUPS, channels), nn.GroupNorm(_GROUPS, width)
        self.conv1 = nn.Conv2d(channels, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        self.time = nn.Linear(time, 2 * width)
        self.shortcut = nn.Identity() if channels == width else nn.Conv2d(channels, width, 1)
        nn.init.zeros_(self.conv2.weight)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        scale, shift = self.time(time)[:, :, None, None].chunk(2, 1)
        inner = self.norm2(self.conv1(functional.silu(self.norm1(x)))) * (1 + scale) + shift
        return self.shortcut(x) + self.conv2(functional.silu(inner))


class _Attention(nn.Module):
    """Self-attention over all places."""

    def __init__(self, width: int, heads: int = 4) -> None:
        super().__init__()
        self.norm, self.heads = nn.GroupNorm(_GROUPS, width), heads
        self.project, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        nn.init.zeros_(self.out.weight)

    def forward(self, x: Tensor) -> Tensor:
        count, width, high, wide = x.shape
        tokens = self.norm(x).flatten(2).transpose(1, 2)
        parts = self.project(tokens).view(count, high * wide, 3, self.heads, width // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(query, key, value)
        mixed = self.out(mixed.transpose(1, 2).reshape(count, high * wide, width))
        return x + mixed.transpose(1, 2).reshape(count, width, high, wide)


class LatentInpainting(Trainable):
    """A U-Net of three scales on latents: noise predicted from a noisy latent, a mask and what is kept.

    Args:
        width: channels at the latent's full size, a multiple of 8; the two coarser scales have twice as many.
        depth: blocks at each scale, on the way down and on the way up.
    """

    task = "face_inpainting"
    size = 128
    step = 4 * FACTOR  # two halvings of the latent

    latent_mean: Tensor
    latent_std: Tensor
    alphas: Tensor

    def __init__(self, width: int = 56, depth: int = 2) -> None:
        super().__init__()
        widths, time = (width, 2 * width, 2 * width), 2 * width
        self.register_buffer("latent_mean", torch.zeros(CHANNELS))
        self.register_buffer("latent_std", torch.ones(CHANNELS))
        self.register_buffer("alphas", alphas_cumprod().float())
        self.time = nn.Sequential(nn.Linear(width, time), nn.SiLU(), nn.Linear(time, time), nn.SiLU())
        self.stem = nn.Conv2d(2 * CHANNELS + 1, width, 3, padding=1)
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        self.shrink, self.grow = nn.ModuleList(), nn.ModuleList()
        channels = width
        for number, wide in enumerate(widths):
            blocks = [_Block(channels if place == 0 else wide, wide, time) for place in range(depth)]
            self.down.append(nn.ModuleList([*blocks, _Attention(wide) if number else nn.Identity()]))
            self.shrink.append(nn.Conv2d(wide, wide, 3, 2, 1) if number < len(widths) - 1 else nn.Identity())
            channels = wide
        self.middle = nn.ModuleList([_Block(channels, channels, time), _Attention(channels)])
        for number, wide in reversed(list(enumerate(widths))):
            blocks = [_Block(channels if place else channels + wide, channels, time) for place in range(depth)]
            self.up.append(nn.ModuleList([*blocks, _Attention(channels) if number else nn.Identity()]))
            after = widths[max(number - 1, 0)]
            self.grow.append(nn.Conv2d(channels, after, 3, padding=1) if number else nn.Identity())
            channels = after
        self.out = nn.Sequential(
            nn.GroupNorm(_GROUPS, channels), nn.SiLU(), nn.Conv2d(channels, CHANNELS, 3, padding=1)
        )
        self._width = width

    def forward(self, noisy: Tensor, time: Tensor, mask: Tensor, masked: Tensor) -> Tensor:
        """The noise in latents.

        Args:
            noisy: (B, 32, h, w), normalised latents with noise of step `time`.
            time: int64 (B,), 0 to 999.
            mask: (B, 1, h, w), 1 where the picture is to be painted anew.
            masked: (B, 32, h, w), normalised latents, zero where it is.

        Returns:
            (B, 32, h, w).
        """
        half = self._width // 2
        rates = torch.exp(-math.log(10_000) * torch.arange(half, device=noisy.device) / half)
        angles = time.float()[:, None] * rates
        embedded = self.time(torch.cat([angles.cos(), angles.sin()], 1))
        x, kept = self.stem(torch.cat([noisy, mask, masked], 1)), []
        for blocks, shrink in zip(self.down, self.shrink, strict=True):
            x = _through(blocks, x, embedded)
            kept.append(x)
            x = shrink(x)
        x = self.middle[1](self.middle[0](x, embedded))
        for blocks, grow in zip(self.up, self.grow, strict=True):
            x = _through(blocks, torch.cat([x, kept.pop()], 1), embedded)
            x = grow(functional.interpolate(x, scale_factor=2.0) if kept else x)
        noise: Tensor = self.out(x)
        return noise

    def normalise(self, latents: Tensor) -> Tensor:
        """Latents (B, 32, h, w) of the autoencoder, each channel to mean 0 and deviation 1."""
        return (latents - self.latent_mean[:, None, None]) / self.latent_std[:, None, None]

    def training_losses(self, batch: Batch) -> dict[str, Tensor]:
        """The error of the noise, weighted by min-SNR.

        Args:
            batch: `faces` (B, 32, h, w), latents of the autoencoder in place of pictures; `masks` (B, 1, h, w).
        """
        latents, mask = self.normalise(batch["faces"]), batch["masks"]
        count = len(latents)
        # One time in each of B equal parts: all noise levels are seen in every step.
        time = ((torch.arange(count) + torch.rand(count)) * (NOISE_STEPS / count)).long().to(latents.device)
        noise = torch.randn_like(latents)
        error = self.error(latents, mask, time, noise)
        signal = self.alphas[time] / (1 - self.alphas[time])
        return {"noise": (error * signal.clamp(max=_MOST_WEIGHT) / signal).mean()}

    def error(self, latents: Tensor, mask: Tensor, time: Tensor, noise: Tensor) -> Tensor:
        """Mean squared error (B,) of the noise predicted in normalised latents (B, 32, h, w)."""
        level = self.alphas[time][:, None, None, None]
        noisy = level.sqrt() * latents + (1 - level).sqrt() * noise
        predicted = self(noisy, time, mask, latents * (1 - mask))
        return (predicted.float() - noise).square().mean((1, 2, 3))

    def fit_statistics(self, batches: Iterable[Batch]) -> None:
        """Mean and deviation of every channel of the latents."""
        latents = torch.cat([batch["faces"] for batch in batches])
        self.latent_mean.copy_(latents.mean((0, 2, 3)))
        self.latent_std.copy_(latents.std((0, 2, 3)))


def _through(blocks: nn.Module, x: Tensor, time: Tensor) -> Tensor:
    for block in blocks.children():
        x = block(x, time) if isinstance(block, _Block) else block(x)
    return x
