"""Neural re-synthesis by the FLUX.2 tiny autoencoder; `unmask.forging.autoencoders` says how."""

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from unmask.forging.blending import blend, whole_or_part
from unmask.forging.makers import Forgery, Maker, Request, Setup

if TYPE_CHECKING:
    from unmask.forging.autoencoders import Taef2


class Resynthesis(Maker):
    """Sends the whole picture, or a part of the face, through an autoencoder."""

    families = ("resynthesis",)
    needs_taef2 = True

    def __init__(self, setup: Setup) -> None:
        self._setup = setup

    def forge(self, rng: np.random.Generator, request: Request) -> Forgery:
        """One re-synthesis."""
        real = request.face.pixels
        mask, whole = whole_or_part(rng, real.shape, request.face.mesh)
        pixels = blend(real, self._redrawn(rng, real), mask)
        return Forgery(
            pixels,
            mask,
            "trainedAlgorithmicMedia" if whole else "compositeWithTrainedAlgorithmicMedia",
            parameters={"whole": whole},
        )

    def _redrawn(self, rng: np.random.Generator, pixels: np.ndarray) -> np.ndarray:
        import torch

        from unmask.forging.autoencoders import resynthesise

        batch = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 255
        drawn = resynthesise(self._autoencoder, batch, torch.Generator().manual_seed(int(rng.integers(2**31))))[0]
        return (drawn * 255 + 0.5).clamp(0, 255).byte().permute(1, 2, 0).numpy()

    @cached_property
    def _autoencoder(self) -> "Taef2":
        from unmask.forging.autoencoders import Taef2

        assert self._setup.taef2 is not None  # as of all makers that need it
        return Taef2(self._setup.taef2).eval()
