import numpy as np
import pytest
import torch
from torch import Tensor

from unmask.errors import DataError
from unmask.redteam.thresholds import CONVENTIONS, check_convention, pair_scores, threshold_at_rate

pytestmark = pytest.mark.lab


def faces(people: int, each: int, spread: float, seed: int = 0) -> tuple[np.ndarray, list[str]]:
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(people, 16))
    vectors = np.repeat(centres, each, 0) + spread * rng.normal(size=(people * each, 16))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors.astype(np.float32), [f"p{n}" for n in range(people) for _ in range(each)]


@pytest.mark.parametrize("rate", [0.1, 0.01, 0.002])
def test_the_false_match_rate_is_kept(rate: float) -> None:
    vectors, subjects = faces(60, 2, 0.3)
    threshold = threshold_at_rate(vectors, subjects, rate)
    same, cosines = pair_scores(vectors, subjects)
    share = float((cosines[same == 0] >= threshold.value).mean())
    assert share <= rate and share > rate - 2 / (same == 0).sum()
    assert threshold.low <= threshold.value <= threshold.high
    assert threshold.impostor_pairs == (same == 0).sum() and threshold.genuine_pairs == 60 and threshold.people == 60
    assert threshold.false_non_match_rate == pytest.approx(float((cosines[same == 1] < threshold.value).mean()))


def test_the_interval_narrows_with_people() -> None:
    widths = []
    for people in (20, 120):
        threshold = threshold_at_rate(*faces(people, 1, 0.3), rate=0.05)
        widths.append(threshold.high - threshold.low)
        assert threshold.false_non_match_rate is None
    assert widths[1] < widths[0]


def test_too_few_pairs_for_the_rate() -> None:
    with pytest.raises(DataError, match=r"needs at least 1000 pairs.*has 45"):
        threshold_at_rate(*faces(10, 1, 0.3), rate=0.001)
    with pytest.raises(DataError, match="between 0 and 1"):
        threshold_at_rate(*faces(10, 1, 0.3), rate=0.0)


def test_a_stated_convention_that_is_not_the_true_one() -> None:
    generator = torch.Generator().manual_seed(0)
    labels = np.repeat([0, 1], 40)
    pictures = torch.rand(80, 3, 4, 4, generator=generator) * 0.4
    pictures[40:, 0] += 0.2  # the forged ones are redder

    def by_blue(change) -> tuple[np.ndarray, np.ndarray]:  # type: ignore[no-untyped-def]
        return labels, change(pictures)[:, 2].mean((1, 2)).numpy()

    def by_red(change) -> tuple[np.ndarray, np.ndarray]:  # type: ignore[no-untyped-def]
        return labels, change(pictures)[:, 0].mean((1, 2)).numpy()

    def saturated(change) -> tuple[np.ndarray, np.ndarray]:  # type: ignore[no-untyped-def]
        x: Tensor = change(pictures)[:, 0].mean((1, 2))
        return labels, (x - 70).clamp(-20, 20).numpy()  # made for 0 to 255

    check_convention("by red", by_red)
    with pytest.raises(DataError, match=r"by blue: AUC .* with blue before red"):
        check_convention("by blue", by_blue)
    with pytest.raises(DataError, match="values from 0 to 255"):
        check_convention("saturated", saturated)
    assert set(CONVENTIONS) == {"values from 0 to 255", "values from -1 to 1", "blue before red"}


def test_chance_is_no_proof() -> None:
    rng = np.random.default_rng(0)
    labels = np.array([0, 1] * 5)
    check_convention("noise", lambda change: (labels, rng.normal(size=10)))
    check_convention("one class", lambda change: (np.zeros(10, int), rng.normal(size=10)))
