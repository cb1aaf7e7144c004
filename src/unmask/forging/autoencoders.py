"""Neural re-synthesis: a real picture's reconstruction by a small network.

A bank of tiny autoencoders with different decoders is trained in minutes on the training reals, so that a detector
meets many kinds of up-sampling and texture loss instead of one generator's. Each `AutoencoderSpec` is one: decoders go
up by transposed convolution, nearest, bilinear or pixel-shuffle steps from a latent at half or a quarter of the size,
half of them against a patch critic (Isola et al. 2017), which sharpens and leaves the traces of adversarial training.
The latent holds the picture's own thumbnail beside learned channels: a network this small learns in minutes to add
detail to a thumbnail, but not to draw a face, and a reconstruction without its colours would teach a detector nothing.

Beside the bank stands the FLUX.2 tiny autoencoder (TAEF2, MIT), read from the data folder's weights. Lab only: torch.
Pictures here are float (B, 3, H, W) in [0, 1], H and W multiples of 8.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from unmask.errors import DataError
from unmask.forging.taef2_weights import DECODER, ENCODER

Decoder = Literal["transposed", "nearest", "bilinear", "shuffle"]


@dataclass(frozen=True)
class AutoencoderSpec:
    """How one network of the bank is built and trained."""

    decoder: Decoder
    factor: Literal[2, 4]
    latent: int
    width: int
    critic: bool

    @property
    def name(self) -> str:
        """A name that says it all, e.g. "shuffle-f4-c16-w32-critic"."""
        return f"{self.decoder}-f{self.factor}-c{self.latent}-w{self.width}{'-critic' if self.critic else ''}"


# Small on purpose: two cores train the whole bank in minutes, and what counts is that decoders differ.
AUTOENCODER_BANK = (
    AutoencoderSpec("transposed", 4, 16, 32, True),
    AutoencoderSpec("transposed", 2, 6, 24, False),
    AutoencoderSpec("nearest", 4, 16, 32, True),
    AutoencoderSpec("bilinear", 4, 16, 32, False),
    AutoencoderSpec("shuffle", 4, 16, 32, True),
    AutoencoderSpec("shuffle", 2, 6, 24, False),
)


class _Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.GroupNorm(8, channels),
            nn.SiLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.GroupNorm(8, channels),
            nn.SiLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


def _up(kind: Decoder, into: int, out: int) -> nn.Module:
    if kind == "transposed":
        return nn.ConvTranspose2d(into, out, 4, 2, 1)
    if kind == "shuffle":
        return nn.Sequential(nn.Conv2d(into, 4 * out, 3, padding=1), nn.PixelShuffle(2))
    upsample = (
        nn.Upsample(scale_factor=2, mode=kind) if kind == "nearest" else nn.Upsample(scale_factor=2, mode="bilinear")
    )
    return nn.Sequential(upsample, nn.Conv2d(into, out, 3, padding=1))


class Autoencoder(nn.Module):
    """A small convolutional autoencoder."""

    def __init__(self, spec: AutoencoderSpec) -> None:
        super().__init__()
        steps = {2: 1, 4: 2}[spec.factor]
        widths = [spec.width * min(2**i, 3) for i in range(steps)]
        down: list[nn.Module] = []
        up: list[nn.Module] = [nn.Conv2d(spec.latent + 3, widths[-1], 3, padding=1), _Residual(widths[-1])]
        # No layer but the first and last works at full resolution: that is where the time would go.
        for into, out in pairwise([3, *widths]):
            down += [nn.Conv2d(into, out, 4, 2, 1), _Residual(out)]
        for into, out in pairwise(widths[::-1]):
            up += [_up(spec.decoder, into, out), _Residual(out)]
        self.factor = spec.factor
        self.encoder = nn.Sequential(*down, nn.SiLU(), nn.Conv2d(widths[-1], spec.latent, 3, padding=1))
        self.decoder = nn.Sequential(*up, nn.SiLU(), _up(spec.decoder, widths[0], 3))

    def forward(self, x: Tensor, jitter: float = 0.0, generator: torch.Generator | None = None) -> Tensor:
        """Send pictures (B, 3, H, W) in [0, 1] through, with latent noise of `jitter` times the latent's spread."""
        signed = x * 2 - 1
        latent = self.encoder(signed)
        if jitter > 0:
            latent = latent + jitter * latent.std() * torch.randn(latent.shape, generator=generator).to(latent)
        thumbnail = functional.avg_pool2d(signed, self.factor)
        coarse = functional.interpolate(thumbnail, scale_factor=self.factor, mode="bilinear")
        return (coarse + self.decoder(torch.cat([latent, thumbnail], 1))) * 0.5 + 0.5


def half_precision(device: torch.device) -> torch.autocast:
    """bfloat16 autocast where the hardware computes in it; where it is emulated, float32 is many times faster."""
    return torch.autocast(device.type, torch.bfloat16, enabled=device.type != "cpu" or has_cpu_bfloat16())


def has_cpu_bfloat16() -> bool:
    """Whether this CPU multiplies in bfloat16 (AVX512-BF16 or AMX)."""
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def train_network(
    spec: AutoencoderSpec,
    pictures: Tensor,
    steps: int,
    seed: int,
    device: torch.device,
    batch: int = 8,
    crop: int = 64,
    progress: Callable[[int, float], None] | None = None,
) -> nn.Module:
    """Train one network of the bank on random crops.

    Args:
        pictures: uint8 (N, 3, H, W), H and W at least `crop`, on any device.
        steps: optimiser steps.
        progress: called with (step, loss) every 50 steps.

    Returns:
        The network in evaluation mode, on `device`.
    """
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    net = Autoencoder(spec).to(device).to(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(net.parameters(), lr=1e-3, betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, steps)
    critic, critic_optimiser = None, None
    if spec.critic:
        layers: list[nn.Module] = []
        for into, out in ((3, 24), (24, 48), (48, 96)):
            layers += [nn.Conv2d(into, out, 4, 2, 1), nn.LeakyReLU(0.2)]
        critic = nn.Sequential(*layers, nn.Conv2d(96, 1, 3, padding=1)).to(device)
        critic_optimiser = torch.optim.AdamW(critic.parameters(), lr=4e-4, betas=(0.5, 0.99))
    height, width = pictures.shape[2:]
    for step in range(steps):
        rows = torch.randint(len(pictures), (batch,), generator=generator)
        top = int(torch.randint(height - crop + 1, (1,), generator=generator))
        left = int(torch.randint(width - crop + 1, (1,), generator=generator))
        x = pictures[rows.to(pictures.device), :, top : top + crop, left : left + crop].to(device).float() / 255
        with half_precision(device):
            y = net(x, 0.05)
            loss = (y.float() - x).abs().mean() + 0.5 * _edges(y.float() - x)
            if critic is not None and step > steps // 3:
                loss = loss - 0.02 * critic(y).float().mean()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        if critic is not None and critic_optimiser is not None and step > steps // 4:
            with half_precision(device):
                real, fake = critic(x).float(), critic(y.detach()).float()
                hinge = functional.relu(1 - real).mean() + functional.relu(1 + fake).mean()
            critic_optimiser.zero_grad(set_to_none=True)
            hinge.backward()
            critic_optimiser.step()
        if progress and step % 50 == 0:
            progress(step, float(loss.detach()))
    return net.eval()


def _edges(difference: Tensor) -> Tensor:
    """Mean absolute gradient of a difference: keeps fine structure that the plain L1 loss lets blur."""
    return (difference[..., 1:] - difference[..., :-1]).abs().mean() + (
        difference[..., 1:, :] - difference[..., :-1, :]
    ).abs().mean()


class _TinyBlock(nn.Module):
    def __init__(self, channels: int, pooled: bool) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(3):
            layers += [nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU()]
        self.conv = nn.Sequential(*layers[:-1])
        wide = 4 * channels
        self.pool = None
        if pooled:
            narrow = nn.Conv2d(wide, channels, 1, bias=False)
            self.pool = nn.Sequential(
                nn.Conv2d(channels, wide, 1, bias=False), nn.GroupNorm(4, wide), nn.ReLU(), narrow
            )

    def forward(self, x: Tensor) -> Tensor:
        if self.pool is not None:
            x = x + self.pool(x)
        return functional.relu(self.conv(x) + x)


class _SoftClamp(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(x / 3) * 3


class Taef2(nn.Module):
    """The FLUX.2 tiny autoencoder (madebyollin/taesd, MIT): `taef2_encoder.pth`, `taef2_decoder.pth` of a folder.

    Raises:
        DataError: the folder lacks the files.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        w, blocks = 64, lambda pooled: [_TinyBlock(64, pooled) for _ in range(3)]
        down = [nn.Conv2d(3, w, 3, padding=1), _TinyBlock(w, False)]
        for step in range(3):
            down += [nn.Conv2d(w, w, 3, 2, 1, bias=False), *blocks(step == 2)]
        up: list[nn.Module] = [_SoftClamp(), nn.Conv2d(32, w, 3, padding=1), nn.ReLU()]
        for step in range(3):
            up += [*blocks(step == 0), nn.Upsample(scale_factor=2), nn.Conv2d(w, w, 3, padding=1, bias=False)]
        self.encoder = nn.Sequential(*down, nn.Conv2d(w, 32, 3, padding=1))
        self.decoder = nn.Sequential(*up, _TinyBlock(w, False), nn.Conv2d(w, 3, 3, padding=1))
        for part, name in ((self.encoder, ENCODER), (self.decoder, DECODER)):
            if not (folder / name).is_file():
                raise DataError(f"{folder / name} is missing; leave the folder out to train without TAEF2")
            part.load_state_dict(torch.load(folder / name, map_location="cpu", weights_only=True))

    def forward(self, x: Tensor, jitter: float = 0.0, generator: torch.Generator | None = None) -> Tensor:
        """Send pictures (B, 3, H, W) in [0, 1] through, with latent noise of `jitter` times the latent's spread."""
        latent = self.encoder(x)
        if jitter > 0:
            latent = latent + jitter * latent.std() * torch.randn(latent.shape, generator=generator).to(latent)
        return self.decoder(latent)


@torch.no_grad()
def resynthesise(net: nn.Module, pictures: Tensor, generator: torch.Generator) -> Tensor:
    """Reconstructions of a batch, with a random latent jitter for the batch.

    Args:
        pictures: float (B, 3, H, W) in [0, 1], H and W multiples of 8.
        generator: on the CPU; decides the strength.

    Returns:
        float (B, 3, H, W) in [0, 1].
    """
    draw = float(torch.rand((), generator=generator))
    with half_precision(pictures.device):
        reconstructions = net(pictures, max(0.0, draw - 0.5) * 0.3, generator)
    return reconstructions.float().clamp(0, 1)
