"""Pictures redrawn by published networks, a family each; `unmask.forging.decoders` says how."""

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from unmask.forging.decoders import DECODERS, Decoder, draw_region, load_decoder, redraw_region, unavailable_decoders
from unmask.forging.makers import FacePicture, Forgery, Maker, Request, Setup
from unmask.forging.parsing import PARSER, FaceParser, part_masks
from unmask.media.synthetic_mark import SourceType

if TYPE_CHECKING:
    from collections.abc import Mapping

_NAME = {record.family: name for name, record in DECODERS.items()}


class RedrawByDecoder(Maker):
    """Redraws the picture, the face, a parsed part or a blended region; without the parser's weights, no part."""

    families = tuple(_NAME)

    def __init__(self, setup: Setup) -> None:
        self._weights = setup.weights
        self._decoders: dict[str, Decoder] = {}
        self._last: tuple[FacePicture, Mapping[str, np.ndarray]] | None = None

    @classmethod
    def lacking(cls, weights: Path | None) -> "Mapping[str, str]":
        """The families of decoders whose weights or library are not there."""
        PARSER.find(weights)  # refused now if it is another file
        return {DECODERS[name].family: reason for name, reason in unavailable_decoders(weights).items()}

    def forge(self, rng: np.random.Generator, request: Request) -> Forgery:
        """One picture with a region redrawn."""
        face, name = request.face, _NAME[request.family]
        mask, region = draw_region(rng, face.pixels.shape, face.mesh, self._parts(face))
        if name not in self._decoders:
            self._decoders[name] = load_decoder(name, self._weights)
        pixels = redraw_region(rng, face.pixels, mask, self._decoders[name])
        whole = region == "picture"
        kind: SourceType = "trainedAlgorithmicMedia" if whole else "compositeWithTrainedAlgorithmicMedia"
        return Forgery(pixels, mask, kind, parameters={"region": region})

    def _parts(self, face: FacePicture) -> "Mapping[str, np.ndarray]":
        """The parsed parts, remembered: all families of a number share their face."""
        if self._last is None or self._last[0] is not face:
            self._last = face, part_masks(self._parser(face.pixels)) if self._parser else {}
        return self._last[1]

    @cached_property
    def _parser(self) -> FaceParser | None:
        return FaceParser(self._weights) if PARSER.find(self._weights) else None
