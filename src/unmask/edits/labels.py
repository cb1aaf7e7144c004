"""Sequences of edits: their names, their numbers, and all there are.

A sequence is a list of up to five different edits in the order in which they were made. As numbers it has five places:
1..5 for the track's edits, zeros at the end; five zeros are an untouched face (Shao et al., ECCV 2022, "Detecting and
Recovering Sequential DeepFake Manipulation"; layout of rshaojimmy/SeqDeepFake).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import permutations

import numpy as np

LONGEST = 5


@dataclass(frozen=True)
class Track:
    """A data set's vocabulary: its name, the generator behind it, and what the numbers 1..5 mean.

    `drawn` if its unedited faces are synthetic too.

    The first two are Seq-DeepFake's; "style_drift" is `unmask.forging.style_edit_set`'s.
    """

    name: str
    generator: str
    edits: tuple[str, ...]
    drawn: bool = False

    def numbers(self, names: Sequence[str]) -> tuple[int, ...]:
        """Five numbers for the names of a sequence.

        Raises:
            ValueError: an unknown name, a repeated one, or more than five.
        """
        unknown = [name for name in names if name not in self.edits]
        if unknown:
            raise ValueError(f"{unknown[0]!r} is no edit of {self.name}; write {', '.join(self.edits)}")
        return checked([self.edits.index(name) + 1 for name in names])

    def names(self, numbers: Sequence[int]) -> tuple[str, ...]:
        """The names of a sequence of numbers, without the zeros."""
        return tuple(self.edits[number - 1] for number in numbers if number)


TRACKS = {
    track.name: track
    for track in (
        Track("facial_components", "stylemapgan", ("nose", "eye", "eyebrow", "lip", "hair")),
        Track("facial_attributes", "talk-to-edit", ("Bangs", "Eyeglasses", "Beard", "Smiling", "Young")),
        Track("style_drift", "mobilestylegan", ("pose", "shape", "features", "shading", "colours"), drawn=True),
    )
}


def checked(numbers: Sequence[int]) -> tuple[int, ...]:
    """A sequence as five numbers, zeros filled in at the end.

    Raises:
        ValueError: a number out of 0..5, more than five, an edit after a zero, or an edit made twice.
    """
    places = tuple(int(number) for number in numbers)
    if len(places) > LONGEST:
        raise ValueError(f"{len(places)} places; a sequence has at most {LONGEST}")
    outside = [number for number in places if not 0 <= number <= LONGEST]
    if outside:
        raise ValueError(f"{outside[0]} is none of the numbers 0 to {LONGEST}")
    edits = places[: places.index(0)] if 0 in places else places
    if any(places[len(edits) :]):
        raise ValueError("an edit stands after a zero; zeros go to the end")
    if len(set(edits)) < len(edits):
        raise ValueError(f"edit {next(n for n in edits if edits.count(n) > 1)} stands twice; each can be made once")
    return (*edits, *(0,) * (LONGEST - len(edits)))


@cache
def all_sequences() -> np.ndarray:
    """Every sequence without repeats, uint8 (326, 5): by length, then by number; the first is the untouched face."""
    rows = [checked(edits) for length in range(LONGEST + 1) for edits in permutations(range(1, LONGEST + 1), length)]
    table = np.array(rows, np.uint8)
    table.flags.writeable = False
    return table


@cache
def _places() -> dict[tuple[int, ...], int]:
    return {tuple(row): place for place, row in enumerate(all_sequences().tolist())}


def place_of(numbers: Sequence[int]) -> int:
    """Where a sequence stands in `all_sequences()`.

    Raises:
        ValueError: it is none.
    """
    return _places()[checked(numbers)]
