"""Moved and redrawn lips; `unmask.forging.lips` says how."""

import numpy as np

from unmask.forging.lips import resynthesise_lips
from unmask.forging.makers import Forgery, Maker, Request
from unmask.forging.upsampling import FINGERPRINTS, fingerprint


class LipResynthesis(Maker):
    """Moves the mouth and draws the lower face anew at a low resolution, at times with the traces of a decoder."""

    families = ("lip_resynthesis",)

    def forge(self, rng: np.random.Generator, request: Request) -> Forgery:
        """One picture of other lips."""
        face = request.face
        traces = None if rng.random() < 0.5 else FINGERPRINTS[rng.integers(len(FINGERPRINTS))]

        def redraw(small: np.ndarray, rng: np.random.Generator) -> np.ndarray:
            return small if traces is None else fingerprint(rng, small, traces)

        pixels, mask = resynthesise_lips(rng, face.pixels, face.mesh, redraw)
        return Forgery(pixels, mask, "algorithmicallyEnhanced", parameters={"traces": traces})
