"""Stable Diffusion inpainting from a folder of the user's, as a generator: diffusers. Nothing is fetched."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from unmask.errors import DataError, MissingExtraError

INDEX = "model_index.json"
"""The file by which diffusers knows a folder."""


class StableDiffusion:
    """A folder that `StableDiffusionInpaintPipeline.save_pretrained` has written, say of Stable Diffusion 2 inpainting.

    Its networks are used as Adv-Diffusion does: an empty prompt, encoded once, and no classifier-free guidance, so that
    nothing is computed twice. It departs from it in this: a picture's latent is the mode of the posterior, not a sample
    of it.

    Args:
        folder: with `model_index.json`.

    Raises:
        DataError: the folder is no such pipeline, or of a kind that is not read.
        MissingExtraError: diffusers or transformers is not installed.
    """

    def __init__(self, folder: Path) -> None:
        try:
            from diffusers import StableDiffusionInpaintPipeline
        except ImportError as error:
            raise MissingExtraError("redteam", "Stable Diffusion") from error
        try:
            pipeline: Any = StableDiffusionInpaintPipeline.from_pretrained(
                str(folder),
                local_files_only=True,
                use_safetensors=True,
                safety_checker=None,
                requires_safety_checker=False,
            )
        except Exception as error:  # diffusers raises whatever its parts raise
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise DataError(
                f"{folder}: not a pipeline that diffusers can read ({reason}); take the whole folder"
            ) from error
        self._unet, self._vae = pipeline.unet.eval().requires_grad_(False), pipeline.vae.eval().requires_grad_(False)
        config = pipeline.scheduler.config
        if self._unet.config.in_channels != 2 * self._vae.config.latent_channels + 1:
            raise DataError(f"{folder}: its network takes no mask; give an inpainting pipeline")
        if config.prediction_type != "epsilon":
            raise DataError(f"{folder}: its network predicts {config.prediction_type}, and only noise is understood")
        self.name = folder.name
        self.side = self._unet.config.sample_size * pipeline.vae_scale_factor
        self.alphas_cumprod: Tensor = pipeline.scheduler.alphas_cumprod.double()
        self._scale, self._factor = float(self._vae.config.scaling_factor), int(pipeline.vae_scale_factor)
        with torch.no_grad():
            self._prompt: Tensor = pipeline.encode_prompt("", torch.device("cpu"), 1, False)[0]

    def encode(self, pictures: Tensor) -> Tensor:
        """As of `Generator`."""
        with torch.no_grad():
            latents: Tensor = self._vae.encode(pictures * 2 - 1).latent_dist.mode()
        return latents * self._scale

    def decode(self, latents: Tensor) -> Tensor:
        """As of `Generator`."""
        pictures: Tensor = self._vae.decode(latents / self._scale).sample
        return pictures / 2 + 0.5

    def condition(self, pictures: Tensor, latents: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
        """As of `Generator`: the latents of the picture with its masked part grey."""
        kept = torch.where(masks < 0.5, pictures, 0.5)
        return functional.interpolate(masks, scale_factor=1 / self._factor), self.encode(kept)

    def eps(self, noisy: Tensor, time: int, masks: Tensor, masked: Tensor) -> Tensor:
        """As of `Generator`."""
        with torch.no_grad():
            prompt = self._prompt.expand(len(noisy), -1, -1)
            noise: Tensor = self._unet(torch.cat([noisy, masks, masked], 1), time, encoder_hidden_states=prompt).sample
        return noise
