"""Attribute edits by the styles of MobileStyleGAN; `unmask.forging.style_edit_set` says how."""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

import numpy as np

from unmask.forging.makers import Forgery, Maker, Request, Setup
from unmask.forging.style_edit_set import LayeredGenerator, edited_styles
from unmask.packs.assets import MOBILE_STYLEGAN, AssetUnavailable, fetch


class StyleEdit(Maker):
    """Draws a face of nobody and edits its styles.

    The face is drawn before the edit as after it, so that there is no authentic twin, and every pixel is synthetic.
    """

    families = ("style_edit",)

    def __init__(self, setup: Setup) -> None:
        self._setup = setup

    @classmethod
    def lacking(cls, weights: Path | None) -> Mapping[str, str]:
        """Why the family cannot be made, by its name."""
        try:
            fetch(*MOBILE_STYLEGAN)
        except AssetUnavailable as error:
            return {"style_edit": str(error)}
        return {}

    def forge(self, rng: np.random.Generator, request: Request) -> Forgery:
        """One edited face."""
        _, styles, edits = edited_styles(rng, self._generator)
        pixels = self._generator.draw(styles, request.size)
        face = self._setup.finder(pixels)
        shown = request.photographed(pixels, face.mesh if face else None, f"edited {request.number}")
        whole = np.ones(shown.shape[:2], np.float32)
        return Forgery(shown, whole, "trainedAlgorithmicMedia", parameters={"edits": edits})

    @cached_property
    def _generator(self) -> LayeredGenerator:
        return LayeredGenerator()
