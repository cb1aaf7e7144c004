"""Shots, halves and harmonic means, as published."""

import random
from pathlib import Path

import pytest

from unmask.errors import DataError
from unmask.lab.prompting.few_shot import Example, Splits, average_row, few_shot, half, harmonic_mean

pytestmark = pytest.mark.lab


def examples(labels: list[int], kind: str) -> tuple[Example, ...]:
    return tuple(Example(Path(f"{kind}{n}"), label, f"class {label}") for n, label in enumerate(labels))


def splits(classes: int, each: int = 6) -> Splits:
    labels = [label for _ in range(each) for label in reversed(range(classes))]
    return Splits(examples(labels, "train"), examples(labels, "val"), examples(labels, "test"))


def test_shots_are_drawn_as_the_published_code_draws_them() -> None:
    """Python's generator, seeded once; classes in the order in which they first come; validation after training."""
    whole = splits(3)
    rng, expected = random.Random(2), list[Example]()
    for split, shots in ((whole.train, 5), (whole.val, 4)):
        for label in (2, 1, 0):
            expected += rng.sample([one for one in split if one.label == label], shots)
    drawn = few_shot(whole, 5, 2)
    assert [*drawn.train, *drawn.val] == expected
    assert drawn.test == whole.test and few_shot(whole, 5, 3) != drawn


@pytest.mark.parametrize(("shots", "train", "val"), [(1, 1, 1), (16, 6, 4)])
def test_a_class_with_fewer_pictures_gives_them_all(shots: int, train: int, val: int) -> None:
    drawn = few_shot(splits(2), shots, 1)
    assert (len(drawn.train), len(drawn.val)) == (2 * train, 2 * val)


def test_no_shots_are_an_error() -> None:
    with pytest.raises(DataError, match="zero-shot"):
        few_shot(splits(2), 0, 1)


def test_an_odd_class_is_a_base_class_and_labels_begin_anew() -> None:
    whole = splits(5, each=1)
    base, new = half(whole, "base"), half(whole, "new")
    assert base.names == ("class 0", "class 1", "class 2") and new.names == ("class 3", "class 4")
    assert [(one.label, one.name) for one in new.test] == [(1, "class 4"), (0, "class 3")]
    assert half(whole, "all") is whole


def test_pictures_of_classes_without_training_are_left_out() -> None:
    whole = Splits(examples([0, 1], "train"), (), examples([0, 1, 2], "test"))
    assert [one.label for one in half(whole, "base").test] == [0] and [
        one.label for one in half(whole, "new").test
    ] == [0]


def test_a_single_class_has_no_new_half() -> None:
    with pytest.raises(DataError, match="at least two"):
        half(splits(1), "new")


def test_a_label_with_two_names_is_an_error() -> None:
    with pytest.raises(DataError, match="is called"):
        _ = Splits((Example(Path("a"), 0, "cat"),), (), (Example(Path("b"), 0, "dog"),)).names


def test_the_harmonic_mean_and_the_average_row() -> None:
    """The published average of CoOp: 82.69 and 63.22 give 71.66."""
    assert harmonic_mean(82.69, 63.22) == pytest.approx(71.66, abs=0.005)
    assert harmonic_mean(0.0, 0.0) == 0
    base, new, mean = average_row([(0.9, 0.5), (0.7, 0.9)])
    assert (base, new) == (pytest.approx(0.8), pytest.approx(0.7))
    assert mean == pytest.approx(2 * 0.8 * 0.7 / 1.5)  # of the means, not the mean of both sets' own
