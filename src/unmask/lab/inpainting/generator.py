"""What attacks and evaluations ask of a generator that paints parts of a picture, and the one that is trained here.

Lab only: torch.
"""

from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from unmask.errors import DataError, PackError
from unmask.forging.autoencoders import Taef2
from unmask.forging.taef2_weights import taef2_sha256
from unmask.lab.inpainting.network import FACTOR, LatentInpainting, alphas_cumprod
from unmask.packs import Pack


class Generator(Protocol):
    """Latent inpainting diffusion: an autoencoder, and a network that predicts noise in its latents.

    Latents have a deviation of about 1: whatever scale the autoencoder's own have is the generator's matter.

    Attributes:
        name: in reports.
        side: of its pictures in pixels.
        alphas_cumprod: float64 (1000,), the share of signal left after each step of noise.
    """

    name: str
    side: int
    alphas_cumprod: Tensor

    def encode(self, pictures: Tensor) -> Tensor:
        """Latents (B, C, h, w) of pictures (B, 3, side, side) in [0, 1]."""
        ...

    def decode(self, latents: Tensor) -> Tensor:
        """Pictures (B, 3, side, side), about in [0, 1], of latents; differentiable."""
        ...

    def condition(self, pictures: Tensor, latents: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
        """What the network is told of what is kept.

        Args:
            pictures: (B, 3, side, side) in [0, 1].
            latents: of these pictures.
            masks: (B, 1, side, side), 1 where they are to be painted anew.

        Returns:
            The masks at the latents' size, (B, 1, h, w), and the latents of what is kept, (B, C, h, w).
        """
        ...

    def eps(self, noisy: Tensor, time: int, masks: Tensor, masked: Tensor) -> Tensor:
        """The noise in latents.

        Args:
            noisy: (B, C, h, w) with noise of step `time`.
            time: 0 to 999.
            masks, masked: as `condition` gives them.

        Returns:
            (B, C, h, w), without gradients.
        """
        ...


class LatentGenerator:
    """The generator that `unmask train inpainting` makes, with the TAEF2 autoencoder.

    Args:
        pack: of the task "face_inpainting".
        taef2: folder of the autoencoder's weights.

    Raises:
        DataError: the weights are missing, or not those that it was trained with.
    """

    def __init__(self, pack: Pack, taef2: Path | None) -> None:
        digest = taef2_sha256(taef2, "the generator " + pack.card.name, "name another one with --generator")
        assert taef2 is not None  # `taef2_sha256` has looked
        try:
            trained_with = pack.card.protocol["runs"][0]["autoencoder"]
            statistics = np.asarray(pack.card.protocol["latents"], np.float32)
        except (KeyError, IndexError) as error:
            raise PackError(f"pack {pack.card.name!r}: its card does not say what latents it works on") from error
        if trained_with != digest:
            raise DataError(f"{taef2}: other weights than {pack.card.name} was trained with; take those of its card")
        self.name, self.side, self.alphas_cumprod = pack.card.name, pack.card.input_size[0], alphas_cumprod()
        self._session = pack.session
        self._autoencoder = frozen(Taef2(taef2))
        self._mean, self._std = (torch.from_numpy(row)[:, None, None] for row in statistics)

    def encode(self, pictures: Tensor) -> Tensor:
        """As of `Generator`."""
        with torch.no_grad():
            latents: Tensor = self._autoencoder.encoder(pictures)
        return (latents - self._mean) / self._std

    def decode(self, latents: Tensor) -> Tensor:
        """As of `Generator`."""
        pictures: Tensor = self._autoencoder.decoder(latents * self._std + self._mean)
        return pictures

    def condition(self, pictures: Tensor, latents: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
        """As of `Generator`: the latents of the whole picture, with zeros where it is painted."""
        return keep_latents(latents, masks)

    def eps(self, noisy: Tensor, time: int, masks: Tensor, masked: Tensor) -> Tensor:
        """As of `Generator`."""
        arrays = {"noisy": noisy.numpy(), "mask": masks.numpy(), "masked": masked.numpy()}
        arrays["time"] = np.full(len(noisy), time, np.int64)
        return torch.from_numpy(self._session.run(["noise"], arrays)[0])


class RunGenerator(LatentGenerator):
    """The same of a network in training or of a finished run, before it is a pack.

    Args:
        network: trained.
        taef2: folder of the autoencoder's weights.
    """

    def __init__(self, network: LatentInpainting, taef2: Path) -> None:
        self.name, self.side, self.alphas_cumprod = "inpainting", network.size, alphas_cumprod()
        self._network, self._autoencoder = network.eval(), frozen(Taef2(taef2))
        self._mean, self._std = network.latent_mean[:, None, None], network.latent_std[:, None, None]

    def eps(self, noisy: Tensor, time: int, masks: Tensor, masked: Tensor) -> Tensor:
        """As of `Generator`."""
        with torch.no_grad():
            noise: Tensor = self._network(noisy, torch.full((len(noisy),), time), masks, masked)
        return noise


def keep_latents(latents: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    """Masks (B, 1, side, side) at the latents' size, nearest, and the latents with zeros there."""
    small = masks[..., ::FACTOR, ::FACTOR].contiguous()
    return small, latents * (1 - small)


def frozen(network: Taef2) -> Taef2:
    """The autoencoder in evaluation mode, its weights without gradients."""
    return network.eval().requires_grad_(False)
