"""Expression transfer by a fitted face model; `unmask.forging.candide` says how."""

import numpy as np

from unmask.forging.makers import Forgery, Request
from unmask.forging.makers.candide_swap import CandideMaker


class CandideReenact(CandideMaker):
    """Gives a face the expression of a like-posed person."""

    families = ("candide_reenact",)
    needs_donor = True

    def forge(self, rng: np.random.Generator, request: Request) -> Forgery:
        """One face with another expression."""
        face, donor = request.face, request.donor(rng)
        made = self.model.reenact(rng, face.pixels, face.mesh, donor.pixels, donor.mesh)
        return Forgery(*made, "algorithmicallyEnhanced")
