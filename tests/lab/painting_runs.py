"""A finished run of the smallest face generator."""

from pathlib import Path

import torch
from safetensors.torch import save_file

from unmask.lab.inpainting.config import InpaintingTrainConfig
from unmask.lab.inpainting.network import LatentInpainting
from unmask.lab.run import Run

OPTIONS = {"width": 8, "depth": 1}


def network(size: int = 64) -> LatentInpainting:
    """Random weights, and latents of any scale."""
    torch.manual_seed(0)
    made = LatentInpainting(**OPTIONS)
    made.size = size
    made.latent_mean.fill_(0.5)
    made.latent_std.fill_(2.0)
    for block in made.modules():  # layers that begin at zero would hide what comes before them
        if hasattr(block, "weight") and block.weight.ndim > 1:
            torch.nn.init.normal_(block.weight, std=0.1)
    return made.eval()


def write_run(folder: Path) -> Path:
    """The run folder, with weights."""
    config = InpaintingTrainConfig(size=64, options=OPTIONS, autoencoder="0" * 64, sources=("mine",))
    Run(folder, config, "0" * 64, "face_inpainting")
    save_file(network().state_dict(), folder / "weights.safetensors")
    return folder
