"""Join the faces of sampled frames into tracks: one person on screen is one track.

A face continues a track if it lies where the track was heading, has about its size, and looks like it. How much it must
look like it depends on how well the place fits: a face that overlaps the expected box may have turned or changed its
light, one that jumped must look the same, and after a scene cut place says nothing, so looks decide alone. Pairs are
taken greedily, best first; at most a few dozen faces are on screen, and the best pair is hardly ever the wrong one.

Looks are compared by the correlation of 16 x 16 thumbnails of the aligned faces. On 200 portraits the same face after a
small turn, blur and change of light correlates by 0.79 or more in 99 % of the cases, another person's by less than 0.69
in 95 % and less than 0.33 in half of them. This tells people apart from frame to frame; it is no identification.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from unmask.faces.alignment import align
from unmask.faces.finding import FoundFace

ALIKE = 0.75  # correlation from which two faces are taken for one wherever they are
NOT_UNLIKE = 0.5  # correlation that is enough where box and expected box overlap by OVERLAP
OVERLAP = 0.3
CUT = 30.0  # mean change of luminance (0-255) between frames from which a scene cut is assumed


@dataclass
class _FollowedFace:
    """What is remembered of a person: last seen when and where, heading where, looking how."""

    number: int
    time: float
    centre: np.ndarray
    sides: np.ndarray
    velocity: np.ndarray  # pixels per second
    looks: np.ndarray | None
    scene: int
    missed: bool = False  # in the last frame


class SceneWatch:
    """Notices scene cuts, by the change of a very small grey copy from frame to frame."""

    def __init__(self) -> None:
        self._last: np.ndarray | None = None

    def update(self, pixels: np.ndarray) -> bool:
        """Whether a cut lies between the last frame and this one, uint8 (H, W, 3) RGB; no for the first."""
        # A sparse copy first: to average all pixels takes longer than all else that a frame's tracking does.
        sparse = cv2.resize(pixels, (160, 160), interpolation=cv2.INTER_NEAREST)
        frame = cv2.cvtColor(cv2.resize(sparse, (32, 32), interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY)
        cut = self._last is not None and float(cv2.absdiff(frame, self._last).mean()) > CUT
        self._last = frame
        return cut


class Tracker:
    """Gives every face of a video the number of its track. Deterministic; one per video.

    Frames must come in order of time. Memory does not grow with the video: a track is forgotten `patience` seconds
    after its last face. Whoever was in the last frame is not forgotten, however long ago that was, as in a time-lapse
    or after a gap.
    """

    def __init__(self, patience: float = 1.0) -> None:
        """Set up for one video.

        Args:
            patience: how long a person may be out of sight and keep the track, seconds.
        """
        self._patience = patience
        self._tracks: list[_FollowedFace] = []
        self._next = 0
        self._scenes = SceneWatch()
        self._scene = 0

    def update(
        self, time: float, faces: Sequence[FoundFace], pixels: np.ndarray | None = None, cut: bool | None = None
    ) -> list[int]:
        """Take in the faces of the next frame.

        Args:
            time: of the frame, seconds from the start; never less than the last one.
            faces: found in the frame.
            pixels: the frame, uint8 (H, W, 3) RGB. Without it only place and size are compared: a cut between two
                people who fill the same place then goes unseen.
            cut: whether a scene cut lies before this frame; None lets the tracker look for itself.

        Returns:
            The track number of each face, in order; numbers count up from 0 and are never used twice.
        """
        if cut is None:
            cut = pixels is not None and self._scenes.update(pixels)
        self._scene += cut
        self._tracks = [track for track in self._tracks if time - track.time <= self._patience or not track.missed]
        for track in self._tracks:
            track.missed = True
        looks = [None if pixels is None else _looks(pixels, face) for face in faces]
        pairs = sorted(
            (-fit, track.number, index, track)
            for track in self._tracks
            for index, face in enumerate(faces)
            if (fit := self._fit(track, time, face, looks[index])) is not None
        )
        numbers: dict[int, int] = {}
        for _, number, index, track in pairs:
            if index not in numbers and number not in numbers.values():
                numbers[index] = number
                self._continue(track, time, faces[index], looks[index])
        for index, face in enumerate(faces):
            if index not in numbers:
                numbers[index] = self._begin(time, face, looks[index])
        return [numbers[index] for index in range(len(faces))]

    def _fit(self, track: _FollowedFace, time: float, face: FoundFace, looks: np.ndarray | None) -> float | None:
        """How well a face continues a track, higher is better; None if it cannot be the same person."""
        gap = time - track.time
        centre, sides = _place(face)
        expected = track.centre + track.velocity * gap
        overlap = max(_iou(expected, track.sides, centre, sides), _iou(track.centre, track.sides, centre, sides))
        size = float(np.sqrt(track.sides.prod() * sides.prod()) ** 0.5)
        jump = float(np.linalg.norm(centre - expected)) / size
        growth = float(max(sides.max() / track.sides.max(), track.sides.max() / sides.max()))
        likeness = None if looks is None or track.looks is None else float(looks @ track.looks)
        if track.scene != self._scene:
            return likeness if likeness is not None and likeness >= ALIKE else None
        if growth > 1.6 + gap or jump > 0.8 + 2 * gap:
            return None
        if likeness is None:
            return overlap - 0.2 * jump if overlap > 0.1 else None
        if likeness < (NOT_UNLIKE if overlap >= OVERLAP else ALIKE):
            return None
        return likeness + overlap - 0.2 * jump

    def _continue(self, track: _FollowedFace, time: float, face: FoundFace, looks: np.ndarray | None) -> None:
        centre, sides = _place(face)
        gap = time - track.time
        if track.scene != self._scene or gap <= 0:
            track.velocity = np.zeros(2)
        else:
            track.velocity = 0.5 * track.velocity + 0.5 * (centre - track.centre) / gap
        track.time, track.centre, track.sides, track.scene, track.missed = time, centre, sides, self._scene, False
        if looks is not None:
            track.looks = looks if track.looks is None else _unit(0.5 * track.looks + 0.5 * looks)

    def _begin(self, time: float, face: FoundFace, looks: np.ndarray | None) -> int:
        centre, sides = _place(face)
        self._tracks.append(_FollowedFace(self._next, time, centre, sides, np.zeros(2), looks, self._scene))
        self._next += 1
        return self._next - 1


def _place(face: FoundFace) -> tuple[np.ndarray, np.ndarray]:
    """Centre and sides of the box, float64 (2,) each."""
    x, y, w, h = face.box
    return np.array([x + w / 2, y + h / 2]), np.array([w, h], np.float64)


def _iou(centre_a: np.ndarray, sides_a: np.ndarray, centre_b: np.ndarray, sides_b: np.ndarray) -> float:
    """Intersection over union of two boxes."""
    start = np.maximum(centre_a - sides_a / 2, centre_b - sides_b / 2)
    end = np.minimum(centre_a + sides_a / 2, centre_b + sides_b / 2)
    shared = float(np.clip(end - start, 0, None).prod())
    return shared / float(sides_a.prod() + sides_b.prod() - shared)


def _looks(pixels: np.ndarray, face: FoundFace) -> np.ndarray | None:
    """The face as a vector of length 1 whose product with another is their correlation; None without alignment."""
    try:
        aligned = align(pixels, face.landmarks, 64)
    except ValueError:
        return None
    small = cv2.resize(aligned, (16, 16), interpolation=cv2.INTER_AREA).astype(np.float32)
    return _unit((small - small.mean()).reshape(-1))


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / max(float(np.linalg.norm(vector)), 1e-6)
