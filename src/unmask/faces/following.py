"""Faces through the frames of a video: a full search now and then, and in between a look where they were.

To search a frame at every scale costs several times what a look around a known face does. So a frame is searched when
`SEARCH_EVERY` seconds have passed, after a scene cut, when nobody is followed, and whenever a followed face is not
surely found near its place. A newcomer in an unchanged scene is therefore seen at most `SEARCH_EVERY` late.
"""

import math

import numpy as np

from unmask.faces.finding import FaceFinder, FoundFace
from unmask.faces.tracking import SceneWatch, Tracker

SEARCH_EVERY = 0.6  # seconds
_TOLERANCE = 0.01  # seconds; frame times are rounded in the file


class FaceFollower:
    """Finds the faces of one video frame by frame and gives each the number of its track. Deterministic."""

    def __init__(self, finder: FaceFinder, patience: float = 1.0) -> None:
        """Set up for one video; `patience` as in `Tracker`, seconds."""
        self._finder = finder
        self._tracker = Tracker(patience)
        self._scenes = SceneWatch()
        self._searched = -math.inf
        self._faces: list[FoundFace] = []

    def update(self, time: float, pixels: np.ndarray) -> list[tuple[int, FoundFace]]:
        """The faces of the next frame, largest first, each with its track's number.

        Args:
            time: of the frame, seconds from the start; never less than the last one.
            pixels: uint8 (H, W, 3) RGB.
        """
        cut = self._scenes.update(pixels)
        faces = None
        if self._faces and not cut and time - self._searched < SEARCH_EVERY - _TOLERANCE:
            faces = self._finder.find_again(pixels, self._faces)
        if faces is None:
            faces = self._finder.find(pixels)
            self._searched = time
        self._faces = faces
        numbers = self._tracker.update(time, faces, pixels, cut)
        return list(zip(numbers, faces, strict=True))
