"""From the names that a user gives to what adv-diffusion paints with."""

from pathlib import Path

import numpy as np

from unmask.errors import DataError
from unmask.forging.parsing import FaceParser, surroundings
from unmask.lab.inpainting.generator import Generator, LatentGenerator
from unmask.packs import load_pack
from unmask.redteam.attacks.adv_diffusion import Painter
from unmask.redteam.sources import is_remote
from unmask.redteam.stable_diffusion import INDEX, StableDiffusion

GENERATOR = "inpainting"
"""The embedded pack."""


def load_generator(name: str, taef2: Path | None = None) -> Generator:
    """A generator.

    Args:
        name: a pack of the task "face_inpainting", by name or folder; or a folder of Stable Diffusion inpainting.
        taef2: folder of the autoencoder's weights, for packs.

    Raises:
        DataError, PackError: there is none, or its weights are missing.
    """
    if is_remote(name):
        raise DataError(f"{name}: generators are read from this machine only; give a folder")
    if (Path(name) / INDEX).is_file():
        return StableDiffusion(Path(name))
    return LatentGenerator(load_pack(name, "face_inpainting"), taef2)


def make_painter(name: str, taef2: Path | None, weights: Path | None) -> Painter:
    """A generator with the parser that says what is the face itself.

    Args:
        name, taef2: as of `load_generator`.
        weights: folder of the face parser.

    Raises:
        DataError, PackError: a file that is missing or another one.
    """
    parser = FaceParser(weights)

    def painted(pixels: np.ndarray) -> np.ndarray:
        return surroundings(parser(pixels))

    return Painter(load_generator(name, taef2), painted)
