"""Faces edited step by step as training meets them, and what a reader may say of them, made by hand.

No picture is read and no face is looked for.
"""

from collections.abc import Sequence

import numpy as np

from unmask.datasets.manifest import Sample
from unmask.edits.labels import TRACKS, all_sequences, checked
from unmask.lab.edits.edited_faces import CELLS, PER_EDIT, Crops, EditedFaces

TRACK = TRACKS["facial_components"]


def edited_faces(
    faces: np.ndarray,
    sequences: Sequence[Sequence[int]],
    originals: np.ndarray | None = None,
    masks: np.ndarray | None = None,
    states: Sequence[int] | None = None,
    paired: Sequence[bool] | None = None,
) -> EditedFaces:
    """Faces uint8 (N, S, S, 3) with their sequences; by default each is its own original and no mask shows an edit."""
    count = len(faces)
    numbers = np.array([checked(row) for row in sequences], np.uint8)
    samples = [
        Sample(
            path=f"{row}.png",
            label=int(any(sequence)),
            family="made",
            source="made",
            subject=str(row),
            split="train",
            sequence="-".join(TRACK.names(sequence)),
        )
        for row, sequence in enumerate(numbers.tolist())
    ]
    return EditedFaces(
        TRACK,
        Crops(
            faces,
            faces if originals is None else originals,
            np.zeros((count, 5, CELLS, CELLS), np.uint8) if masks is None else masks,
        ),
        np.arange(count),
        np.array([PER_EDIT] * count if states is None else states, np.uint8),
        np.array([True] * count if paired is None else paired),
        numbers,
        tuple(samples),
    )


def scores(*best: Sequence[int]) -> np.ndarray:
    """A row for each tuple of places, the first of which scores highest, the second next, and so on."""
    ranked = np.full((len(best), len(all_sequences())), -100, np.float32)
    for row, places in enumerate(best):
        ranked[row, list(places)] = -np.arange(len(places))
    return ranked
