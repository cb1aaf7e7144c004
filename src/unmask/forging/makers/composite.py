"""Composites of single features; `unmask.forging.composites` says how."""

import numpy as np

from unmask.forging.composites import composite_region, draw_regions
from unmask.forging.makers import Forgery, Maker, Request


class Composite(Maker):
    """Pastes features of a like-posed person on a face."""

    families = ("composite",)
    needs_donor = True
    by_default = True

    def forge(self, rng: np.random.Generator, request: Request) -> Forgery:
        """One composite, with CIPLAB's flags."""
        face, donor = request.face, request.donor(rng)
        pixels, mask, flags = composite_region(rng, face.pixels, face.mesh, donor.pixels, donor.mesh, draw_regions(rng))
        return Forgery(pixels, mask, "compositeSynthetic", flags)
