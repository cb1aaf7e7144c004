"""Face swaps by a fitted face model; `unmask.forging.candide` says how."""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

import numpy as np

from unmask.forging.candide import MODEL, Candide
from unmask.forging.makers import Forgery, Maker, Request, Setup


class CandideMaker(Maker):
    """What the makers with the Candide model share: the model, read once from the folder of weights."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup

    @classmethod
    def lacking(cls, weights: Path | None) -> Mapping[str, str]:
        """Why a family cannot be made, by its name."""
        if MODEL.find(weights):
            return {}
        return dict.fromkeys(
            cls.families, f"{MODEL.path} is not in {weights or 'any folder of weights'}; name the one that has it"
        )

    @cached_property
    def model(self) -> Candide:
        """The face model."""
        path = MODEL.find(self._setup.weights)
        assert path is not None  # as of all families that nothing is lacking for
        return Candide(path)


class CandideSwap(CandideMaker):
    """Puts the face of a like-posed person on another's head."""

    families = ("candide_swap",)
    needs_donor = True

    def forge(self, rng: np.random.Generator, request: Request) -> Forgery:
        """One swap."""
        face, donor = request.face, request.donor(rng)
        made = self.model.swap(rng, face.pixels, face.mesh, donor.pixels, donor.mesh)
        return Forgery(*made, "compositeSynthetic")
