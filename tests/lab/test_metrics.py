import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import rankdata
from sklearn.metrics import roc_auc_score

from unmask.lab.metrics import (
    auc,
    by_quality,
    hard_auc,
    interval,
    log_lr_cost,
    log_lr_cost_min,
    mean_interval,
    miss_rate,
    rank_correlation,
    threshold_at,
)

pytestmark = pytest.mark.lab

# Few distinct scores, so that ties are common.
SCORES = st.lists(st.tuples(st.booleans(), st.integers(-3, 3)), min_size=2, max_size=40).filter(
    lambda pairs: len({label for label, _ in pairs}) == 2
)


@settings(max_examples=60, deadline=None)
@given(SCORES)
def test_auc_agrees_with_scikit_learn(pairs: list[tuple[bool, int]]) -> None:
    labels, scores = (np.array(column) for column in zip(*pairs, strict=True))
    assert auc(labels.astype(int), scores / 3) == pytest.approx(roc_auc_score(labels, scores))


@pytest.mark.parametrize(
    ("labels", "scores", "expected"),
    [([0, 1], [0, 1], 1.0), ([0, 1], [1, 0], 0.0), ([0, 1], [1, 1], 0.5), ([0, 0, 1, 1], [1, 2, 2, 3], 0.875)],
)
def test_auc_by_hand(labels: list[int], scores: list[int], expected: float) -> None:
    assert auc(np.array(labels), np.array(scores)) == expected


@settings(max_examples=80, deadline=None)
@given(st.lists(st.integers(0, 30), min_size=1, max_size=60), st.sampled_from([0.0, 0.01, 0.05, 0.1, 0.25, 0.5]))
def test_a_threshold_is_the_lowest_that_keeps_the_rate(scores: list[int], rate: float) -> None:
    real = np.array(scores, float)
    threshold = threshold_at(real, rate)
    assert threshold in real
    assert (real > threshold).mean() <= rate + 1e-9
    lower = real[real < threshold]
    if len(lower):  # the next lower one lets too many through
        assert (real > lower.max()).mean() > rate


def test_miss_rates_by_hand() -> None:
    real = np.arange(100.0)  # one in a hundred lies above 98
    forged = np.array([50.0, 97.5, 98.0, 98.5, 200.0])
    labels = np.array([0] * 100 + [1] * 5)
    scores = np.r_[real, forged]
    assert threshold_at(real, 0.01) == 98
    assert miss_rate(0.01)(labels, scores) == pytest.approx(3 / 5)
    assert miss_rate(0.10)(labels, scores) == pytest.approx(1 / 5)
    assert miss_rate(0.0)(labels, scores) == pytest.approx(4 / 5)


def bruemmer(labels: np.ndarray, log10_lrs: np.ndarray) -> float:
    """Cllr as Bruemmer & du Preez (2006) define it."""
    lrs = 10.0**log10_lrs
    forged, real = lrs[labels == 1], lrs[labels == 0]
    return float((np.log2(1 + 1 / forged).mean() + np.log2(1 + real).mean()) / 2)


def test_cllr_by_hand() -> None:
    labels = np.array([1, 1, 0, 0])
    assert log_lr_cost(labels, np.zeros(4)) == pytest.approx(1.0)
    assert log_lr_cost(labels, np.array([9.0, 9, -9, -9])) == pytest.approx(0.0, abs=1e-6)
    ones = np.array([math.log10(2), math.log10(4), math.log10(0.5), math.log10(3)])
    expected = ((math.log2(1.5) + math.log2(1.25)) / 2 + (math.log2(1.5) + math.log2(4)) / 2) / 2
    assert log_lr_cost(labels, ones) == pytest.approx(expected)
    assert log_lr_cost(labels, np.array([-9.0, -9, 9, 9])) > 10  # confidently wrong


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.floats(-5, 5), min_size=1, max_size=20),
    st.lists(st.floats(-5, 5), min_size=1, max_size=20),
)
def test_cllr_follows_its_definition(forged: list[float], real: list[float]) -> None:
    labels = np.array([1] * len(forged) + [0] * len(real))
    values = np.array(forged + real)
    assert log_lr_cost(labels, values) == pytest.approx(bruemmer(labels, values), abs=1e-9)


def test_the_least_cllr_is_what_recalibration_would_leave() -> None:
    rng = np.random.default_rng(0)
    labels = np.r_[np.zeros(300, int), np.ones(300, int)]
    values = rng.normal(0, 1, 600) + 1.5 * labels
    least = log_lr_cost_min(labels, values)
    assert 0 < least < log_lr_cost(labels, values) < 10
    assert log_lr_cost_min(labels, 3 * values - 7) == pytest.approx(least)  # it sees the order alone
    assert log_lr_cost_min(labels, 100.0 * labels) == pytest.approx(0, abs=1e-6)


def test_an_interval_contains_its_value_and_repeats() -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(80) % 2
    scores = rng.normal(0, 1, 80) + labels
    subjects = [f"s{number}" for number in range(80)]
    value, low, high = interval(auc, labels, scores, subjects, draws=200)
    assert low <= value <= high and high - low > 0.05
    assert value == auc(labels, scores)
    assert interval(auc, labels, scores, subjects, draws=200) == (value, low, high)


def test_more_subjects_narrow_the_interval() -> None:
    rng = np.random.default_rng(0)
    widths = []
    for count in (40, 640):
        labels = np.arange(count) % 2
        scores = rng.normal(0, 1, count) + labels
        _, low, high = interval(auc, labels, scores, [str(n) for n in range(count)], draws=200)
        widths.append(high - low)
    assert widths[1] < widths[0] / 2


def test_subjects_are_drawn_whole() -> None:
    """Every subject has a real, a forged and a second forged face: no draw may hold them in another proportion."""
    labels = np.tile([0, 1, 1], 10)
    subjects = [str(number // 3) for number in range(30)]
    scores = np.arange(30.0)
    seen: list[tuple[int, int]] = []

    def statistic(some: np.ndarray, values: np.ndarray) -> float:
        seen.append((int((some == 0).sum()), int((some == 1).sum())))
        whose, counts = np.unique(values // 3, return_counts=True)
        assert (counts % 3 == 0).all() and len(whose) <= 10
        return 0.0

    interval(statistic, labels, scores, subjects, draws=50)
    assert set(seen) == {(10, 20)} and len(seen) == 51


def test_many_faces_of_one_subject_do_not_feign_certainty() -> None:
    rng = np.random.default_rng(0)
    labels, means = np.arange(20) % 2, rng.normal(0, 1, 20) + np.arange(20) % 2
    _, low, high = interval(auc, labels, means, [str(n) for n in range(20)], draws=300)
    many = np.repeat(labels, 20), np.repeat(means, 20) + rng.normal(0, 1e-3, 400)
    _, low_many, high_many = interval(auc, *many, [str(n // 20) for n in range(400)], draws=300)
    assert high_many - low_many == pytest.approx(high - low, abs=0.08)


def test_a_subjects_many_values_count_as_one_draw() -> None:
    few = np.random.default_rng(0).random(20)
    value, low, high = mean_interval(few, [str(n) for n in range(20)])
    assert value == pytest.approx(few.mean()) and low < value < high
    many = mean_interval(np.repeat(few, 20), [str(n // 20) for n in range(400)])
    assert many == pytest.approx((value, low, high))
    apart = mean_interval(np.repeat(few, 20), [str(n) for n in range(400)])
    assert apart[2] - apart[1] < 0.5 * (high - low)
    assert mean_interval(few, ["one"] * 20) == pytest.approx((few.mean(),) * 3)


def test_bins_of_quality_have_each_face_once_in_order() -> None:
    quality = np.random.default_rng(1).permutation(203) / 203
    bins = list(by_quality(quality))
    assert len(bins) == 5 and sorted(np.concatenate([rows for _, _, rows in bins])) == list(range(203))
    for place, (low, high, rows) in enumerate(bins):
        inside = (quality >= low) & ((quality < high) if place < 4 else (quality <= high))
        assert list(rows) == list(np.flatnonzero(inside)) and 40 <= len(rows) <= 41


def test_equal_qualities_stay_in_one_bin() -> None:
    assert sorted(len(rows) for _, _, rows in by_quality(np.ones(4), bins=2)) == [0, 4]


def test_the_hard_auc_sets_the_best_forgeries_against_the_worst_reals() -> None:
    labels = np.array([0, 0, 0, 0, 0, 0, 1, 1, 1])
    quality = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9])
    # The two worst reals (5, -1) against the one best forgery (1): one pair of two is won.
    assert hard_auc(labels, np.array([5.0, -1, 0, 0, 0, 0, 9, 9, 1]), quality) == 0.5


def test_rank_correlation_is_that_of_the_ranks() -> None:
    rng = np.random.default_rng(0)
    scores, quality = rng.integers(0, 5, 40), rng.random(40)
    expected = np.corrcoef(rankdata(scores), rankdata(quality))[0, 1]
    assert rank_correlation(scores, quality) == pytest.approx(expected)
    assert rank_correlation(scores[:2], quality[:2]) is None
    assert rank_correlation(np.ones(8), quality[:8]) is None
