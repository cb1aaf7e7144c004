"""Self-blended images (Shiohara & Yamasaki, CVPR 2022); `unmask.forging.blending` says how."""

import numpy as np

from unmask.forging.blending import self_blend
from unmask.forging.makers import Forgery, Maker, Request


class SelfBlend(Maker):
    """Blends a face with a slightly changed copy of itself."""

    families = ("selfblend",)
    by_default = True

    def forge(self, rng: np.random.Generator, request: Request) -> Forgery:
        """One self-blended image."""
        return Forgery(*self_blend(rng, request.face.pixels, request.face.mesh), "algorithmicallyEnhanced")
