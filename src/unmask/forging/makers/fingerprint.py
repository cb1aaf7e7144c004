"""Up-sampling fingerprints on the whole picture or a part of the face; `unmask.forging.upsampling` says how."""

import numpy as np

from unmask.forging.blending import whole_or_part
from unmask.forging.makers import Forgery, Maker, Request
from unmask.forging.upsampling import FINGERPRINTS, fingerprint

_FINGERPRINT = {f"fingerprint-{kind}": kind for kind in FINGERPRINTS}


class Fingerprint(Maker):
    """Leaves the traces of one kind of decoder, without a decoder."""

    families = tuple(_FINGERPRINT)
    by_default = True

    def forge(self, rng: np.random.Generator, request: Request) -> Forgery:
        """One picture with a fingerprint."""
        real = request.face.pixels
        mask, whole = whole_or_part(rng, real.shape, request.face.mesh)
        strength = float(rng.uniform(0.7, 1.0))
        pixels = fingerprint(rng, real, _FINGERPRINT[request.family], strength, mask)
        return Forgery(pixels, mask, "algorithmicallyEnhanced", parameters={"whole": whole, "strength": strength})
