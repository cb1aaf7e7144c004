"""The face store: pictures with their face and its mesh, packed into a few files so that preparing happens once.

Pictures are kept as the bytes they came in: nothing is re-encoded. The band above a picture that this project marked
(`media.synthetic_mark`) is no part of any window, so that nothing can be learnt from its text. Lab only (the mesh needs
the "lab" extra to build).
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np

from unmask.datasets.manifest import Sample, manifest_sha256
from unmask.errors import DataError
from unmask.faces.alignment import context_region
from unmask.files import whole
from unmask.media.synthetic_mark import rows_of_band
from unmask.progress import SILENT, Progress

_PART_BYTES = 24 * 2**20
_WINDOW = 2.4  # side of the kept window over the longer side of the face box: room for every crop a maker takes


@dataclass(frozen=True)
class StoredFace:
    """One face of the store: its row, the picture's encoded bytes, and the square window (left, top, side) kept of it.

    Box (x, y, w, h), five points (5, 2) and mesh (468, 2) are in pixels of the window.
    """

    sample: Sample
    encoded: np.ndarray
    window: tuple[int, int, int]
    box: tuple[float, float, float, float]
    landmarks: np.ndarray
    mesh: np.ndarray

    @property
    def side(self) -> int:
        """Side of the window in pixels."""
        return self.window[2]

    def pixels(self, window: tuple[int, int, int] | None = None) -> np.ndarray:
        """The window, uint8 (side, side, 3) RGB; or another one (left, top, side) of the same picture."""
        left, top, side = window or self.window
        decoded = cv2.imdecode(self.encoded, cv2.IMREAD_COLOR)
        assert decoded is not None  # build_store has read these bytes
        picture = cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB)
        return picture[top : top + side, left : left + side]

    def mask(self) -> np.ndarray | None:
        """The window of the sample's mask, float32 (side, side) in [0, 1]; None if the sample names none.

        Raises:
            DataError: the file is no picture.
        """
        if not self.sample.mask:
            return None
        grey = cv2.imread(self.sample.mask, cv2.IMREAD_GRAYSCALE)
        if grey is None:
            raise DataError(f"{self.sample.mask}: not a picture OpenCV can read; correct the manifest's mask column")
        left, top, side = self.window
        return grey[top : top + side, left : left + side].astype(np.float32) / 255


def build_store(samples: Sequence[Sample], folder: Path, progress: Progress = SILENT) -> int:
    """Find the face and mesh of every sample and write the store; a part that is there already is not made again.

    Args:
        samples: manifest rows.
        folder: where `part-NNN.npz` go; made if absent.
        progress: updated for every sample, in the stage "finding faces".

    Returns:
        How many pictures were left out because no face was found in them.

    Raises:
        DataError: a file is no picture, or the folder cannot be written to.
    """
    from unmask.faces.finding import FaceFinder
    from unmask.faces.mesh import FaceMesh

    folder.mkdir(parents=True, exist_ok=True)
    sizes = np.cumsum([Path(sample.path).stat().st_size + 3000 for sample in samples])
    parts = np.split(np.arange(len(samples)), np.searchsorted(sizes, np.arange(_PART_BYTES, sizes[-1], _PART_BYTES)))
    finder, mesh_net, missed, done = FaceFinder(), FaceMesh(), 0, 0
    for number, rows in enumerate(parts):
        chosen = [samples[row] for row in rows]
        target, mark = folder / f"part-{number:03d}.npz", manifest_sha256(chosen)
        if target.is_file():
            with np.load(target) as old:
                if str(old["mark"]) == mark:
                    missed += len(chosen) - len(old["boxes"])
                    done += len(chosen)
                    progress.update("finding faces", done, len(samples))
                    continue
        kept, encoded, windows, boxes, points, meshes = [], [], [], [], [], []
        for sample in chosen:
            data = np.fromfile(sample.path, np.uint8)
            picture = cv2.imdecode(data, cv2.IMREAD_COLOR)
            if picture is None:
                raise DataError(f"{sample.path}: not a picture OpenCV can read; drop it from the manifest")
            rgb = cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)
            band = rows_of_band(rgb)
            rgb = rgb[band:]
            faces = finder.find(rgb)
            if faces:
                face = faces[0]
                kept.append(json.dumps(asdict(sample)))
                encoded.append(data)
                left, top, side = context_region(rgb.shape, face.box, _WINDOW)
                corner = np.array([left, top], np.float32)
                x, y, w, h = face.box
                windows.append((left, top + band, side))
                boxes.append((x - left, y - top, w, h))
                points.append(face.landmarks - corner)
                meshes.append(mesh_net.find(rgb, face.landmarks) - corner)
            done += 1
            progress.update("finding faces", done, len(samples))
        missed += len(chosen) - len(kept)
        _write_part(target, mark, kept, encoded, windows, boxes, points, meshes)
    for extra in sorted(folder.glob("part-*.npz"))[len(parts) :]:
        extra.unlink()
    return missed


def _write_part(
    path: Path,
    mark: str,
    rows: Sequence[str],
    encoded: Sequence[np.ndarray],
    windows: Sequence[tuple[int, int, int]],
    boxes: Sequence[tuple[float, float, float, float]],
    points: Sequence[np.ndarray],
    meshes: Sequence[np.ndarray],
) -> None:
    with whole(path) as part, part.open("wb") as stream:
        np.savez(
            stream,
            mark=np.array(mark),
            samples=np.array(rows),
            bytes=np.concatenate(encoded),
            ends=np.cumsum([len(data) for data in encoded]),
            windows=np.asarray(windows, np.int32),
            boxes=np.asarray(boxes, np.float32),
            landmarks=np.asarray(points, np.float32),
            meshes=np.asarray(meshes, np.float16),
        )


def write_store(faces: Sequence[StoredFace], folder: Path) -> Path:
    """Write faces that were found before as a store of their own, say those of one client; returns its folder.

    Args:
        faces: at least one, of a store.
        folder: made if absent; what it holds of another store is overwritten.
    """
    folder.mkdir(parents=True, exist_ok=True)
    sizes = np.cumsum([len(face.encoded) + 3000 for face in faces])
    parts = np.split(np.arange(len(faces)), np.searchsorted(sizes, np.arange(_PART_BYTES, sizes[-1], _PART_BYTES)))
    for number, places in enumerate(parts):
        some = [faces[place] for place in places]
        _write_part(
            folder / f"part-{number:03d}.npz",
            manifest_sha256([face.sample for face in some]),
            [json.dumps(asdict(face.sample)) for face in some],
            [face.encoded for face in some],
            [face.window for face in some],
            [face.box for face in some],
            [face.landmarks for face in some],
            [face.mesh for face in some],
        )
    for extra in sorted(folder.glob("part-*.npz"))[len(parts) :]:
        extra.unlink()
    return folder


def read_store(folder: Path) -> list[StoredFace]:
    """All faces of a store, in manifest order.

    Raises:
        DataError: there is no store in the folder.
    """
    faces = []
    for part in sorted(folder.glob("part-*.npz")):
        with np.load(part) as arrays:
            data, ends = arrays["bytes"], arrays["ends"]
            windows, boxes, landmarks = arrays["windows"], arrays["boxes"], arrays["landmarks"]
            meshes = arrays["meshes"].astype(np.float32)
            for row, text in enumerate(arrays["samples"]):
                start = ends[row - 1] if row else 0
                sample = Sample(**json.loads(str(text)))
                x, y, w, h = (float(value) for value in boxes[row])
                left, top, side = (int(value) for value in windows[row])
                picture = data[start : ends[row]]
                faces.append(StoredFace(sample, picture, (left, top, side), (x, y, w, h), landmarks[row], meshes[row]))
    if not faces:
        raise DataError(f"{folder}: no face store here; make one with `unmask train plain`")
    return faces
