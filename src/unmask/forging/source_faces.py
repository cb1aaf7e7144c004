"""The faces of a folder of pictures, as the makers of forgeries need them: found, meshed and framed alike. Lab only.

The frame is the square about the largest face of a picture, placed so that the face's centre lies below its middle: a
crop about the face (`unmask.faces.alignment`), whatever its margin, then begins below a band above the frame.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

import numpy as np

from unmask.errors import DataError, Refused
from unmask.faces.alignment import Box, resize
from unmask.faces.mesh import FaceMesh
from unmask.progress import Progress

if TYPE_CHECKING:
    from unmask.media.sources import Source

FFHQ_BOX = (0.22, 0.27, 0.56, 0.58)
"""Where a generator of FFHQ faces draws the face: x, y, width, height in sides of the picture."""
CRAMPED = "There is too little of the picture beside or above the face."
_WINDOW = 2.0  # side of the square over the longer side of the face box, where the picture has room for it
_MIDDLE = 0.52  # where in the square the face's centre lies at the highest
_LEAST = 0.9  # as _WINDOW; boxes of faces that fill their picture end at its border


@dataclass(frozen=True)
class SeenFace:
    """A face in a picture: box (x, y, width, height), five points (5, 2) and mesh (468, 2), in pixels."""

    box: Box
    landmarks: np.ndarray
    mesh: np.ndarray


Finder = Callable[[np.ndarray], SeenFace | None]
"""From a picture uint8 (H, W, 3) RGB to its largest face, or None."""


@dataclass(frozen=True, eq=False)
class SourceFace:
    """A face of the source folder.

    `window` is the frame (left, top, side) in pixels of the source; `mesh` and `landmarks` are in pixels of the frame
    brought to the set's size; `name` is relative to the folder.
    """

    path: Path
    name: str
    sha256: str
    person: str
    window: tuple[int, int, int]
    mesh: np.ndarray
    landmarks: np.ndarray


def face_finder() -> Finder:
    """The project's own face detector and mesh.

    Raises:
        MissingExtraError: the mesh's library is not installed.
        DataError: the mesh's network cannot be fetched.
    """
    from unmask.faces.finding import FaceFinder

    finder, mesh = FaceFinder(), FaceMesh()

    def find(pixels: np.ndarray) -> SeenFace | None:
        faces = finder.find(pixels)
        if not faces:
            return None
        points = np.asarray(faces[0].landmarks, np.float32)
        return SeenFace(faces[0].box, points, mesh.find(pixels, points))

    return find


def find_faces(
    source: Path, size: int, people: str, finder: Finder, progress: Progress
) -> tuple[list[SourceFace], list[tuple[str, str]]]:
    """The faces of a folder in order of their names, and what was passed over and why.

    Args:
        source: the folder, searched with its subfolders.
        size: the set's.
        people: "file" or "folder": what one person is.
        finder: finds the faces.
        progress: updated for every file.

    Returns:
        faces: one for each picture that has one.
        skipped: display path and reason, one plain sentence.
    """
    from unmask.media.sources import RefusedSource, walk

    faces: list[SourceFace] = []
    skipped: list[tuple[str, str]] = []
    first: dict[str, str] = {}
    entries = list(walk([source]))
    for number, entry in enumerate(entries, start=1):
        try:
            if isinstance(entry, RefusedSource):
                raise entry.refusal
            faces.append(_source_face(entry, source, size, people, finder, first))
        except Refused as refusal:
            skipped.append((entry.path, refusal.message))
        except _PassedOver as reason:
            skipped.append((entry.path, str(reason)))
        progress.update("finding faces", number, len(entries))
    return faces, skipped


class _PassedOver(Exception):
    """A file that gives the set no face; the message is the reason."""


def _source_face(
    entry: "Source", source: Path, size: int, people: str, finder: Finder, first: dict[str, str]
) -> SourceFace:
    """The face of one file; `first` names the file that was the first with a SHA-256."""
    from unmask.media.images import decode_image
    from unmask.media.intake import take_in
    from unmask.media.sources import display_path

    assert entry.file is not None  # as of all files of a folder
    media = take_in(entry)
    if media.kind != "image":
        raise _PassedOver("It is no picture.")
    same = first.setdefault(media.sha256, entry.path)
    if same != entry.path:
        raise _PassedOver(f"It is the same file as {same}.")
    pixels = decode_image(media).pixels
    face = finder(pixels)
    if face is None:
        raise _PassedOver("No face was found.")
    window = frame(pixels.shape, face.box)
    if window is None:
        raise _PassedOver(CRAMPED)
    left, top, side = window
    name = PurePath(display_path(str(entry.file.relative_to(source))))
    return SourceFace(
        path=entry.file,
        name=name.as_posix(),
        sha256=media.sha256,
        person=name.parts[0] if people == "folder" else name.as_posix(),
        window=window,
        mesh=((face.mesh - (left, top)) * (size / side)).astype(np.float32),
        landmarks=((face.landmarks - (left, top)) * (size / side)).astype(np.float32),
    )


def frame(shape: tuple[int, ...], box: Box) -> tuple[int, int, int] | None:
    """The square (left, top, side) about a face; None if there is too little room about it."""
    height, width = shape[:2]
    x, y, w, h = box
    centre, longer = y + h / 2, max(w, h)
    side = int(min(_WINDOW * longer, width, height, centre / _MIDDLE))
    if side < _LEAST * longer:
        return None
    left = min(max(round(x + w / 2 - side / 2), 0), width - side)
    top = min(int(centre - _MIDDLE * side), height - side)
    return left, top, side


def framed(face: SourceFace, size: int) -> np.ndarray:
    """The frame about a face, read anew, uint8 (size, size, 3).

    Raises:
        DataError: the file has changed or can no longer be read.
    """
    from unmask.media.images import decode_image
    from unmask.media.intake import take_in
    from unmask.media.sources import Source

    try:
        media = take_in(Source(face.name, face.path))
        if media.sha256 != face.sha256:
            raise DataError(f"{face.path} was changed while the set was made; begin again in another folder")
        pixels = decode_image(media).pixels
    except Refused as refusal:
        raise DataError(f"{face.path} cannot be read any more: {refusal.message}") from refusal
    left, top, side = face.window
    return resize(pixels[top : top + side, left : left + side], size)
