"""The scan over a track: where it finds a stretch, what it says of noise, and that a longer track costs little."""

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unmask.inspection.stretches import LEAST_FRAMES, scan

SPREAD = 1.0


def brute_force(logits: list[float], frames: list[int], rate: float, spread: float) -> float:
    """The highest statistic, by the formula, stretch by stretch."""
    x, seconds = np.array(logits), np.array(frames) / rate
    best = -np.inf
    for first in range(len(x)):
        for end in range(first + 1, len(x) + 1):
            inside = np.zeros(len(x), bool)
            inside[first:end] = True
            a, b = seconds[inside].sum(), seconds[~inside].sum()
            if min(end - first, len(x) - end + first) < LEAST_FRAMES or min(a, b) < 1.0 - 1e-9:
                continue
            means = [np.average(x[part], weights=seconds[part]) for part in (inside, ~inside)]
            rest = np.where(inside, x - means[0], x - means[1])
            variance = np.average(rest**2, weights=seconds) + spread**2
            best = max(best, (means[0] - means[1]) / np.sqrt(variance * (1 / a + 1 / b)))
    return float(best)


@given(st.lists(st.floats(-20, 20), min_size=10, max_size=24), st.integers(0, 5))
def test_the_statistic_is_the_highest_over_all_stretches(logits: list[float], seed: int) -> None:
    frames = np.random.default_rng(seed).integers(1, 4, len(logits)).tolist()
    best = scan(logits, frames, 5.0, SPREAD)
    assert best is not None
    assert best.statistic == pytest.approx(brute_force(logits, frames, 5.0, SPREAD), rel=1e-6, abs=1e-6)


def test_a_raised_stretch_is_found_where_it_is() -> None:
    logits = np.random.default_rng(0).normal(0, 0.3, 60)
    logits[20:35] += 4.0
    best = scan(logits.tolist(), [1] * 60, 5.0, SPREAD)
    assert best is not None and (best.first, best.last) == (20, 34)
    assert best.inside - best.outside == pytest.approx(4.0, abs=0.3)


def test_frames_count_for_as_many_as_they_stand_for() -> None:
    dense = [0.0] * 40 + [3.0] * 40
    sparse, frames = [0.0] * 20 + [3.0] * 20, [2] * 40
    one, other = scan(dense, [1] * 80, 5.0, SPREAD), scan(sparse, frames, 5.0, SPREAD)
    assert one is not None and other is not None
    assert one.statistic == pytest.approx(other.statistic)


def test_a_lowered_stretch_is_not_what_stands_out() -> None:
    best = scan([3.0] * 20 + [0.0] * 10 + [3.0] * 20, [1] * 50, 5.0, SPREAD)
    assert best is not None and best.inside == pytest.approx(3.0) and best.outside < 3.0


@pytest.mark.parametrize("number", [0, 1, 2 * LEAST_FRAMES - 1])
def test_a_track_that_is_too_short_has_no_stretch(number: int) -> None:
    assert scan([1.0] * number, [1] * number, 5.0, SPREAD) is None


def test_equal_logits_have_no_contrast() -> None:
    best = scan([7.0] * 50, [1] * 50, 5.0, SPREAD)
    assert best is not None and best.statistic == pytest.approx(0.0, abs=1e-9)


def test_the_longest_track_takes_less_than_a_second() -> None:
    logits = np.random.default_rng(1).normal(0, 1, 711).tolist()  # four hours at five frames a second
    start = time.process_time()
    assert scan(logits, [101] * 711, 5.0, SPREAD) is not None
    assert time.process_time() - start < 1.0
