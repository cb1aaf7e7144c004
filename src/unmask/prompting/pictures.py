"""The pictures of some families for prompt learning: which are shots, which calibrate, which are measured on."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from unmask.datasets.layouts import read_layout
from unmask.datasets.layouts.listing import pictures_below
from unmask.errors import DataError, RefusalCode, Refused
from unmask.faces.alignment import context_crop
from unmask.faces.finding import FaceFinder
from unmask.forgery.naming import middle_square
from unmask.lab.prompting.words import GENUINE
from unmask.media.images import decode_image
from unmask.media.intake import take_in
from unmask.media.sources import Source, display_path
from unmask.progress import Progress
from unmask.prompting.towers import Tower

HELD, TESTED = 32, 100
"""Pictures of a class that probabilities are calibrated on, and that are measured on, at most."""
_LEAST = 3
_GENUINE_FOLDERS = (GENUINE, "real")


@dataclass(frozen=True)
class Drawn:
    """The files of one class by what they are for."""

    shots: tuple[Path, ...]
    held: tuple[Path, ...]
    tested: tuple[Path, ...]


def draw_pictures(data: Path, names: Sequence[str], shots: int, seed: int) -> dict[str, Drawn]:
    """The files of some families, and of genuine pictures where there are any, under `GENUINE`.

    In a folder with a folder of pictures for every family (and one called genuine or real) they are drawn by hash; in
    any other data set that `unmask train` reads shots are of its training split, held ones of its validation and
    calibration splits, and tested ones of its test split. Where a family has too few, shots give way to two held ones.

    Args:
        data: folder or manifest.
        names: of the families.
        shots: of a class at most.
        seed: of the draw.

    Raises:
        DataError: no shots, or a family that has none or fewer than three pictures.
    """
    if shots < 1:
        raise DataError(f"--shots {shots}: nothing can be learned from none; give 1 or more")
    folders_there = [name for name in names if (data / name).is_dir()]
    if folders_there:
        absent = [name for name in names if name not in folders_there]
        if absent:
            raise DataError(f"{data}: no folder {absent[0]} of the family's pictures there; add it, or leave it out")
        genuine = next((data / name for name in _GENUINE_FOLDERS if (data / name).is_dir()), None)
        folders = {name: data / name for name in names} | ({} if genuine is None else {GENUINE: genuine})
        by_split = {name: {"train": list(pictures_below(folder))} for name, folder in folders.items()}
    else:
        by_split = _by_split(data, names)
    return {name: _draw(name, splits, shots, seed, data) for name, splits in by_split.items()}


def _by_split(data: Path, names: Sequence[str]) -> dict[str, dict[str, list[Path]]]:
    by_split: dict[str, dict[str, list[Path]]] = {}
    for sample in read_layout(data):
        name = sample.family if sample.label else GENUINE
        if sample.spectrum == "visible":
            by_split.setdefault(name, {}).setdefault(sample.split, []).append(Path(sample.path))
    absent = [name for name in names if name not in by_split]
    if absent:
        there = ", ".join(sorted(set(by_split) - {GENUINE})) or "none"
        raise DataError(f"{data}: no pictures of the family {absent[0]}; there are {there}"[:400])
    return {name: splits for name, splits in by_split.items() if name in names or name == GENUINE}


def _draw(name: str, splits: Mapping[str, Sequence[Path]], shots: int, seed: int, data: Path) -> Drawn:
    def ordered(*wanted: str) -> list[Path]:
        paths = [path for split in wanted for path in splits.get(split, ())]
        return sorted(paths, key=lambda path: hashlib.sha256(f"{seed}:{path.name}".encode()).digest())

    train, held, tested = ordered("train"), ordered("val", "cal"), ordered("test")
    if len(train) + len(held) < _LEAST or not train:
        raise DataError(
            f"{data}: {len(train)} pictures of {name} to learn from and {len(held)} to calibrate on; give at least "
            "three, one to learn from and two to calibrate on"
        )
    spare = max(0, 2 - len(held))  # that must be left over of the training pictures
    count = max(1, min(shots, len(train) - spare))
    rest = train[count:]
    if not held:
        held, tested = rest[:HELD], [*rest[HELD:], *tested]
    elif len(held) < 2:
        held = [*held, *rest[:spare]]
    return Drawn(tuple(train[:count]), tuple(held[:HELD]), tuple(tested[:TESTED]))


def read_crops(paths: Sequence[Path], tower: Tower, progress: Progress, stage: str) -> tuple[np.ndarray, list[str]]:
    """Pictures as a tower sees them: the largest face of each, or whole; and the files that were left out, with why.

    Returns:
        uint8 (N, S, S, 3), and lines "PATH: reason".
    """
    finder = FaceFinder() if tower.crop_margin is not None else None
    crops, left_out = [], []
    for number, path in enumerate(paths, start=1):
        try:
            pixels = decode_image(take_in(Source(display_path(str(path)), path))).pixels
            crops.append(_crop(pixels, tower, finder))
        except Refused as refused:
            left_out.append(f"{path}: {refused.message}")
        progress.update(stage, number, len(paths))
    empty = np.zeros((0, tower.size, tower.size, 3), np.uint8)
    return np.stack(crops) if crops else empty, left_out


def _crop(pixels: np.ndarray, tower: Tower, finder: FaceFinder | None) -> np.ndarray:
    if finder is None or tower.crop_margin is None:
        return middle_square(pixels, tower.size)
    faces = [face for face in finder.find(pixels) if face.box[2] >= tower.min_face_px]
    if not faces:
        raise Refused(RefusalCode.NO_FACE, "There is no face in it, or none wide enough.")
    largest = max(faces, key=lambda face: face.box[2] * face.box[3])
    return context_crop(pixels, largest.box, tower.crop_margin, tower.size)[0]
