"""Face swaps between two meshes; `unmask.forging.blending` says how."""

import numpy as np

from unmask.forging.blending import swap_face
from unmask.forging.makers import Forgery, Maker, Request


class Swap(Maker):
    """Puts the face of a like-posed person on another's head."""

    families = ("swap",)
    needs_donor = True
    by_default = True

    def forge(self, rng: np.random.Generator, request: Request) -> Forgery:
        """One swap."""
        face, donor = request.face, request.donor(rng)
        return Forgery(*swap_face(rng, face.pixels, face.mesh, donor.pixels, donor.mesh), "compositeSynthetic")
