"""Wholly synthetic faces, framed as those of photographs are; `unmask.forging.mobilestylegan` draws them."""

from functools import cached_property

import cv2
import numpy as np

from unmask.faces.alignment import resize
from unmask.forging.makers import Forgery, Maker, Request, Setup
from unmask.forging.mobilestylegan import FaceGenerator
from unmask.forging.source_faces import FFHQ_BOX, frame


class MobileStyleGAN(Maker):
    """Draws faces of nobody."""

    families = ("mobilestylegan",)

    def __init__(self, setup: Setup) -> None:
        self._setup = setup

    def forge(self, rng: np.random.Generator, request: Request) -> Forgery:
        """One drawn face; it depends on the set's seed and its number alone."""
        # Twice the size: what is left of the file format there is gone when the picture is brought down.
        encoded = self._generator.draw(request.number, min(1024, 2 * request.size))
        bgr = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR)
        assert bgr is not None  # the generator has encoded it
        pixels = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)
        face = self._setup.finder(pixels)
        x, y, w, h = (share * len(pixels) for share in FFHQ_BOX)
        window = frame(pixels.shape, face.box) if face else None
        left, top, side = window or frame(pixels.shape, (x, y, w, h)) or (0, 0, len(pixels))
        mesh = (face.mesh - (left, top)) * (request.size / side) if face else None
        content = resize(pixels[top : top + side, left : left + side], request.size)
        shown = request.photographed(content, mesh, f"drawn {request.number}")
        return Forgery(shown, np.ones(shown.shape[:2], np.float32), "trainedAlgorithmicMedia")

    @cached_property
    def _generator(self) -> FaceGenerator:
        return FaceGenerator(self._setup.seed)
