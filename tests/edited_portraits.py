"""A data set of edits on disk: the portrait, painted over part by part, so that its face is found as any other is."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

from unmask.datasets.manifest import Sample, write_manifest
from unmask.edits.labels import TRACKS, Track

SIDE = 128
_WINDOW = (slice(10, 230), slice(50, 270))  # of the portrait: the face, and as much again about it
# Centre and half axes of the parts 1 to 5, in units of the picture's side.
_PARTS = (
    (0.50, 0.54, 0.05, 0.07),
    (0.40, 0.43, 0.06, 0.03),
    (0.60, 0.37, 0.06, 0.02),
    (0.49, 0.66, 0.08, 0.03),
    (0.50, 0.22, 0.14, 0.05),
)


def _area(number: int) -> np.ndarray:
    """uint8 (SIDE, SIDE), 255 where an edit is made."""
    x, y, wide, high = (round(value * SIDE) for value in _PARTS[number - 1])
    mask: np.ndarray = np.zeros((SIDE, SIDE), np.uint8)
    cv2.ellipse(mask, (x, y), (wide, high), 0, 0, 360, (255,), -1)
    return mask


def write_edited(
    folder: Path,
    portrait: Path,
    splits: Mapping[str, Sequence[str]],
    track: Track = TRACKS["facial_components"],
    each: int = 1,
) -> Path:
    """Write pictures with their originals, steps and masks, and a manifest of them; returns the folder.

    Args:
        folder: to make.
        portrait: the photograph.
        splits: for each split the sequences of its pictures, as names ("nose-eye", "" for an untouched face).
        track: of the names.
        each: how many pictures that follow one another in a split are one subject's.
    """
    photo = cv2.imread(str(portrait))
    assert photo is not None
    ground = cv2.resize(photo[_WINDOW], (SIDE, SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)
    samples: list[Sample] = []
    for split, sequences in splits.items():
        for place, sequence in enumerate(sequences):
            rng = np.random.default_rng([place, len(samples)])
            light = rng.uniform(0.85, 1.1, 3) * ground + rng.normal(0, 3, ground.shape)
            picture = np.clip(light, 0, 255).astype(np.uint8)
            own = folder / split / f"{place:03d}"
            own.mkdir(parents=True)
            cv2.imwrite(str(own / "original.png"), picture)
            for step, number in enumerate(track.numbers([name for name in sequence.split("-") if name]), start=1):
                if number:
                    mask = _area(number)
                    colour = np.full_like(picture, rng.integers(60, 200, 3))
                    picture = np.where(mask[..., None] > 0, picture // 2 + colour // 2, picture)
                    cv2.imwrite(str(own / f"{step}.png"), picture)
                    cv2.imwrite(str(own / f"{step}-mask.png"), mask)
            cv2.imwrite(str(own / "picture.png"), picture)
            samples.append(
                Sample(
                    path=str(own / "picture.png"),
                    label=int(bool(sequence)),
                    family="painted" if sequence else "real",
                    source="portrait",
                    subject=f"{split} {place // each}",
                    split=split,
                    sequence=sequence,
                    original=str(own / "original.png") if sequence else "",
                    steps=str(own) if sequence else "",
                )
            )
    write_manifest(samples, folder / "manifest.csv")
    return folder
