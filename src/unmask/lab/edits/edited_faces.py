"""Faces edited step by step as a network sees them: cropped once, kept in a few arrays, with what is known of them.

A face is looked for in the edited picture itself, as in an inspection; its untouched original and the masks are cropped
alike. Lab only.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from unmask.datasets.manifest import Sample
from unmask.edits.labels import LONGEST, TRACKS, Track
from unmask.errors import DataError
from unmask.faces.alignment import context_region, resize
from unmask.parallel import spread
from unmask.progress import SILENT, Progress

CELLS = 64
"""Side of the masks' grid."""
NOT_KNOWN, UNION, PER_EDIT = 0, 1, 2
"""What is known of where a face was edited: nothing, where any edit was, or where each was."""
_CHUNK = 64
_CHANGED = 16  # grey values by which a pixel must differ from the original's to count as edited, where no mask says
_MISSED = 255  # in the array of states: no face was found there


@dataclass(frozen=True)
class Crops:
    """Some faces: `faces` and `originals` uint8 (N, S, S, 3), the original being the face itself where it is not known.

    `masks` uint8 (N, 5, CELLS, CELLS), 255 where each of the track's edits was made; all five are alike if only their
    union is known.
    """

    faces: np.ndarray
    originals: np.ndarray
    masks: np.ndarray


@dataclass(frozen=True)
class EditedFaces:
    """Faces with their sequences; pixels stay on disk until they are taken.

    `rows` (N,) are their places in the arrays of `stored`. `states` (N,) says what is known of the masks, `paired` (N,)
    whether the original is known; `sequences` uint8 (N, 5); `samples` are the rows they come from.
    """

    track: Track
    stored: Crops
    rows: np.ndarray
    states: np.ndarray
    paired: np.ndarray
    sequences: np.ndarray
    samples: tuple[Sample, ...]

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def subjects(self) -> list[str]:
        """Of each face, whose it is."""
        return [sample.subject for sample in self.samples]

    def take(self, some: np.ndarray) -> Crops:
        """The pixels of some faces, by their numbers here."""
        places = self.rows[some]
        return Crops(self.stored.faces[places], self.stored.originals[places], self.stored.masks[places])

    def where(self, some: np.ndarray) -> "EditedFaces":
        """Some of the faces, by their numbers here."""
        return replace(
            self,
            rows=self.rows[some],
            states=self.states[some],
            paired=self.paired[some],
            sequences=self.sequences[some],
            samples=tuple(self.samples[number] for number in some),
        )

    def split(self, name: str) -> "EditedFaces":
        """The faces of a split.

        Raises:
            DataError: there are none.
        """
        some = np.flatnonzero([sample.split == name for sample in self.samples])
        if not len(some):
            raise DataError(f"no face of these data is in the split {name}; give data that have some")
        return self.where(some)


def track_of(samples: Sequence[Sample]) -> tuple[Track, np.ndarray]:
    """The vocabulary of rows with sequences, and the sequences as numbers, uint8 (N, 5).

    Raises:
        DataError: no row has a sequence, edits are of no known track or of two, or a sequence is faulty.
    """
    used = {name for sample in samples for name in sample.sequence.split("-") if name}
    if not used:
        raise DataError("no row of these data has a sequence of edits; give a Seq-DeepFake folder")
    track = next((track for track in TRACKS.values() if used <= set(track.edits)), None)
    if track is None:
        known = "; ".join(f"{track.name}: {', '.join(track.edits)}" for track in TRACKS.values())
        raise DataError(f"edits {', '.join(sorted(used))} are not those of one track; name one of them ({known})")
    numbers = []
    for row, sample in enumerate(samples, start=1):
        try:
            numbers.append(track.numbers([name for name in sample.sequence.split("-") if name]))
        except ValueError as error:
            raise DataError(f"row {row}, {sample.path}: sequence {sample.sequence!r}: {error}") from error
    return track, np.array(numbers, np.uint8).reshape(-1, LONGEST)


def between_steps(samples: Sequence[Sample]) -> list[Sample]:
    """The pictures after each edit but the last, as rows of their own, of rows whose steps are stored."""
    rows = []
    for sample in samples:
        names = sample.sequence.split("-")
        for step in range(1, len(names)) if sample.steps else ():
            picture, sequence = str(Path(sample.steps) / f"{step}.png"), "-".join(names[:step])
            rows.append(replace(sample, path=picture, sequence=sequence, mask=""))
    return rows


def crop_edited_faces(
    samples: Sequence[Sample],
    work: Path,
    size: int,
    margin: float,
    workers: int = 1,
    progress: Progress = SILENT,
    stage: str = "cropping faces",
) -> EditedFaces:
    """Crop all faces, or open what was cropped before; what a kill left is finished.

    Args:
        samples: rows; those without a face are left out.
        work: folder for what is prepared.
        size: side of the crops in pixels.
        margin: side of the crop over the longer side of the face box.
        workers: processes.
        progress: in rows.
        stage: its name for it; another one where several sets of faces are cropped.

    Raises:
        DataError: see `track_of`; a picture that cannot be read; no face in any picture.
    """
    track, sequences = track_of(samples)
    rows = [asdict(sample) for sample in samples]
    mark = hashlib.sha256(json.dumps([rows, size, margin, CELLS]).encode()).hexdigest()[:16]
    folder = work / "sequences" / mark
    shapes = {"faces": (size, size, 3), "originals": (size, size, 3), "masks": (LONGEST, CELLS, CELLS), "states": ()}
    if not (folder / "done.npy").is_file():
        folder.mkdir(parents=True, exist_ok=True)
        for name, shape in shapes.items():
            np.lib.format.open_memmap(folder / f"{name}.npy", "w+", np.uint8, (len(samples), *shape)).flush()
        np.save(folder / "done.npy", np.zeros(-(-len(samples) // _CHUNK), bool))
    done = np.load(folder / "done.npy")
    job = _Job(tuple(samples), sequences, size, margin)
    arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r+") for name in shapes}
    left = [int(chunk) for chunk in np.flatnonzero(~done)]

    def keep(chunk: int, crops: dict[str, np.ndarray]) -> None:
        place = slice(chunk * _CHUNK, chunk * _CHUNK + len(crops["states"]))
        for name, array in arrays.items():
            array[place] = crops[name]
            array.flush()
        done[chunk] = True
        np.save(folder / "done.part.npy", done)
        (folder / "done.part.npy").replace(folder / "done.npy")
        progress.update(stage, min(len(samples), int(done.sum()) * _CHUNK), len(samples))

    if workers > 1 and len(left) > 1:
        for chunk, crops in spread(_crop_chunk, left, workers, _start, (job,)):
            keep(chunk, crops)
    elif left:
        cropper = _Cropper(job)
        for chunk in left:
            keep(chunk, cropper.crop(chunk))
    kept = np.flatnonzero(arrays["states"] != _MISSED)
    if not len(kept):
        raise DataError(f"no face was found in any of {len(samples)} pictures; give pictures of faces")
    everything = EditedFaces(
        track,
        Crops(arrays["faces"], arrays["originals"], arrays["masks"]),
        np.arange(len(samples)),
        np.asarray(arrays["states"]),
        np.array([bool(sample.original) or not sample.sequence for sample in samples]),
        sequences,
        tuple(samples),
    )
    return everything.where(kept)


@dataclass(frozen=True)
class _Job:
    samples: tuple[Sample, ...]
    sequences: np.ndarray
    size: int
    margin: float


_CROPPER: "_Cropper | None" = None  # one a worker


def _start(job: _Job) -> None:
    global _CROPPER
    _CROPPER = _Cropper(job)


def _crop_chunk(chunk: int) -> tuple[int, dict[str, np.ndarray]]:
    assert _CROPPER is not None
    return chunk, _CROPPER.crop(chunk)


class _Cropper:
    def __init__(self, job: _Job) -> None:
        from unmask.faces.finding import FaceFinder

        self._job, self._finder = job, FaceFinder()

    def crop(self, chunk: int) -> dict[str, np.ndarray]:
        """The arrays of one chunk."""
        rows = range(chunk * _CHUNK, min(len(self._job.samples), (chunk + 1) * _CHUNK))
        cropped = [self._row(row) for row in rows]
        return {name: np.stack([one[name] for one in cropped]) for name in cropped[0]}

    def _row(self, row: int) -> dict[str, Any]:
        job, sample = self._job, self._job.samples[row]
        blank = np.zeros((job.size, job.size, 3), np.uint8)
        masks: np.ndarray = np.zeros((LONGEST, CELLS, CELLS), np.uint8)
        picture = _read(sample.path)
        faces = self._finder.find(picture)
        if not faces:
            return {"faces": blank, "originals": blank, "masks": masks, "states": np.uint8(_MISSED)}
        left, top, side = context_region(picture.shape, faces[0].box, job.margin)
        window = (slice(top, top + side), slice(left, left + side))
        original = _read(sample.original) if sample.original and sample.sequence else picture
        state = NOT_KNOWN
        numbers = [int(number) for number in job.sequences[row] if number]
        if not numbers:
            state = PER_EDIT
        elif sample.steps:
            state = PER_EDIT
            for step, number in enumerate(numbers, start=1):
                masks[number - 1] = _on_cells(_read_grey(str(Path(sample.steps) / f"{step}-mask.png"))[window])
        elif sample.mask or sample.original:
            state = UNION
            changed = np.abs(picture.astype(np.int16) - original).max(axis=2) > _CHANGED
            grey = _read_grey(sample.mask) if sample.mask else changed.astype(np.uint8) * np.uint8(255)
            masks[:] = _on_cells(grey[window])
        return {
            "faces": resize(picture[window], job.size),
            "originals": resize(original[window], job.size),
            "masks": masks,
            "states": np.uint8(state),
        }


def _on_cells(grey: np.ndarray) -> np.ndarray:
    return cv2.resize(grey, (CELLS, CELLS), interpolation=cv2.INTER_AREA)


def _read(path: str) -> np.ndarray:
    bgr = cv2.imread(path, cv2.IMREAD_COLOR)
    if bgr is None:
        raise DataError(f"{path}: not a picture OpenCV can read; replace it or drop the row")
    return cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)


def _read_grey(path: str) -> np.ndarray:
    grey = cv2.imread(path, cv2.IMREAD_GRAYSCALE)
    if grey is None:
        raise DataError(f"{path}: no mask that OpenCV can read; replace it, or drop the column that names it")
    return grey
