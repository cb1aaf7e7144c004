"""Likelihood ratios of sketches and photos."""

import tomllib
from pathlib import Path

import numpy as np
import pytest

from unmask.datasets.sketch_sets import SketchItem
from unmask.errors import DataError
from unmask.lab.search.feed import SplitPictures
from unmask.lab.search.likelihood import dictionary_entry, fit_ratios

pytestmark = pytest.mark.lab


def people(count: int) -> SplitPictures:
    items = tuple(
        SketchItem(Path(f"{number}{kind}.png"), f"p{number:03}", kind)
        for number in range(count)
        for kind in (True, False)
    )
    return SplitPictures(items, np.zeros((1, 2, 2, 3), np.uint8), np.zeros(len(items), int))


def vectors(count: int, noise: float) -> np.ndarray:
    rng = np.random.default_rng(0)
    faces = np.repeat(rng.standard_normal((count, 32)), 2, 0)
    out = faces + noise * rng.standard_normal(faces.shape)
    return (out / np.linalg.norm(out, axis=1, keepdims=True)).astype(np.float32)


def test_ratios_grow_with_the_cosine_and_stay_within_bounds() -> None:
    made = fit_ratios(vectors(80, 0.5), people(80))
    ratios = [ratio for _, ratio in made.points]
    assert ratios == sorted(ratios) and ratios[0] < 0 < ratios[-1] < 4
    assert made.cllr < 0.3 and made.cllr_min <= made.cllr + 1e-9
    assert made.people == (40, 40)


def test_vectors_that_say_nothing_are_worth_nothing() -> None:
    made = fit_ratios(vectors(80, 50.0), people(80))
    assert 0.9 < made.cllr < 1.1
    assert np.abs(made.log10(np.array([-1.0, 0.0, 1.0]))).max() < 0.7


def test_too_few_people_are_refused() -> None:
    with pytest.raises(DataError, match="19 people"):
        fit_ratios(vectors(19, 0.5), people(19))


def test_the_entry_is_one_of_a_data_dictionary() -> None:
    made = fit_ratios(vectors(80, 0.5), people(80))
    entry = tomllib.loads(dictionary_entry(made))["attributes"]["sketch"]
    assert entry["kind"] == "score"
    assert entry["unlisted_log10_lr"] == min(ratio for _, ratio in entry["log10_lr"])
