"""The published protocol of prompt learning: few shots, base and new classes, harmonic mean. No torch.

As in the code of CoOp and CoCoOp (Zhou et al. 2022), in its order: shots are drawn first, then classes are halved.
"""

import math
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from unmask.errors import DataError

Half = Literal["all", "base", "new"]
_VALIDATION_SHOTS = 4


@dataclass(frozen=True)
class Example:
    """One picture, with its class's number and name."""

    path: Path
    label: int
    name: str


@dataclass(frozen=True)
class Splits:
    """The pictures of a set by split. Labels are counted from 0, in the order of `names`."""

    train: tuple[Example, ...]
    val: tuple[Example, ...]
    test: tuple[Example, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Of the training split's classes, in the order of their labels.

        Raises:
            DataError: one label has two names.
        """
        names: dict[int, str] = {}
        for one in (*self.train, *self.val, *self.test):
            if names.setdefault(one.label, one.name) != one.name:
                raise DataError(f"class {one.label} is called {names[one.label]!r} and {one.name!r}; correct the split")
        return tuple(names[label] for label in sorted({one.label for one in self.train}))


def few_shot(splits: Splits, shots: int, seed: int) -> Splits:
    """Some training pictures of each class, at most 4 validation pictures of each, and the test split as it is.

    Draws what the published code draws with the same seed: classes in the order in which they first come, by Python's
    own generator; a class with fewer pictures gives them all.

    Args:
        splits: whole.
        shots: training pictures of a class, at least 1.
        seed: of the draw; 1, 2 and 3 as published.

    Raises:
        DataError: no shots.
    """
    if shots < 1:
        raise DataError(f"{shots} shots: nothing can be learned from none; use the method zero-shot, or give 1 or more")
    rng = random.Random(seed)
    train = _drawn(splits.train, shots, rng)
    return Splits(train, _drawn(splits.val, min(shots, _VALIDATION_SHOTS), rng), splits.test)


def _drawn(examples: Iterable[Example], shots: int, rng: random.Random) -> tuple[Example, ...]:
    by_label: dict[int, list[Example]] = {}
    for one in examples:
        by_label.setdefault(one.label, []).append(one)
    return tuple(
        example for own in by_label.values() for example in (rng.sample(own, shots) if len(own) >= shots else own)
    )


def half(splits: Splits, which: Half) -> Splits:
    """The base classes, the first half of the training split's labels, or the new ones; re-labelled from 0.

    Of an odd number of classes the middle one is a base class. Pictures of classes that the training split lacks are
    left out, as published.

    Raises:
        DataError: no class is left.
    """
    if which == "all":
        return splits
    labels = sorted({one.label for one in splits.train})
    middle = math.ceil(len(labels) / 2)
    chosen = labels[:middle] if which == "base" else labels[middle:]
    if not chosen:
        raise DataError(f"{len(labels)} classes leave none for the {which} half; give at least two")
    place = {label: number for number, label in enumerate(chosen)}

    def kept(examples: Iterable[Example]) -> tuple[Example, ...]:
        return tuple(Example(one.path, place[one.label], one.name) for one in examples if one.label in place)

    return Splits(kept(splits.train), kept(splits.val), kept(splits.test))


def harmonic_mean(base: float, new: float) -> float:
    """Of the accuracies on base and on new classes; 0 if both are."""
    return 2 * base * new / (base + new) if base + new else 0.0


def average_row(rows: Sequence[tuple[float, float]]) -> tuple[float, float, float]:
    """Mean base accuracy, mean new accuracy, and the harmonic mean of these two means, as published tables have it.

    Args:
        rows: base and new accuracy of each set, at least one.
    """
    base, new = (sum(column) / len(rows) for column in zip(*rows, strict=True))
    return base, new, harmonic_mean(base, new)
