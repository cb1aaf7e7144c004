"""Channels against their definition: tables written out, and mutual information by enumeration."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unmask.tracing.attributes.channels import Channel, EqualChannel, TableChannel, entropy, kernel_channel, smoothed

errors = st.floats(1e-6, 1.0 - 1e-6)
counts_of_values = st.lists(st.integers(0, 50), min_size=1, max_size=6).map(np.array)


@st.composite
def channels(draw) -> Channel:
    """One of each kind there is."""
    kind = draw(st.sampled_from(["equal", "kernel", "table"]))
    error, counts = draw(errors), draw(counts_of_values)
    if kind == "equal":
        return EqualChannel(error, smoothed(counts))
    if kind == "kernel":
        return kernel_channel(error, counts, draw(st.integers(0, 4)), draw(st.floats(0.1, 5.0)))
    answers = draw(st.integers(1, 5))
    drawn = [draw(shares_of(answers)) for _ in range(len(counts) + 1)]
    return TableChannel(np.array(drawn[1:]), drawn[0])


@st.composite
def shares_of(draw, size: int) -> np.ndarray:
    """Positive shares that sum to 1."""
    weights = np.array(draw(st.lists(st.floats(1e-3, 1.0), min_size=size, max_size=size)))
    return weights / weights.sum()


@st.composite
def masses_of(draw, channel: Channel) -> tuple[np.ndarray, float]:
    """Masses over codes, some of them 0, and the mass of the absent; together 1."""
    size = len(channel.table()) + 1
    weights = np.array(draw(st.lists(st.sampled_from([0.0, 0.1, 1.0, 3.0, 1e-9]), min_size=size, max_size=size)))
    weights[draw(st.integers(0, size - 1))] += 1.0
    weights /= weights.sum()
    return weights[:-1], float(weights[-1])


def in_bits(shares: np.ndarray) -> float:
    shares = shares[shares > 0.0]
    return float(-(shares * np.log2(shares)).sum())


def mutual_information(joint: np.ndarray) -> float:
    """Of rows and columns, from their joint shares, in bits: the definition, sum by sum."""
    rows, columns = joint.sum(axis=1), joint.sum(axis=0)
    return sum(
        float(share * np.log2(share / (rows[row] * columns[column])))
        for (row, column), share in np.ndenumerate(joint)
        if share > 0.0
    )


@settings(max_examples=100, deadline=None)
@given(errors, counts_of_values)
def test_an_answer_is_right_or_another_value_as_frequent_as_it_is(error, counts) -> None:
    base = smoothed(counts)
    computed = EqualChannel(error, base).table()
    assert computed[0] == pytest.approx(base)
    for value in range(len(counts)):
        for answer in range(len(base)):
            wrong = error * base[answer] / (1.0 - base[value])
            assert computed[value + 1, answer] == pytest.approx(1.0 - error if answer == value else wrong)


@settings(max_examples=100, deadline=None)
@given(st.data(), errors, counts_of_values)
def test_equal_or_not_says_in_linear_time_what_its_table_says(data, error, counts) -> None:
    equal = EqualChannel(error, smoothed(counts))
    table = TableChannel(equal.table()[1:], equal.base)
    drawn = [data.draw(masses_of(equal)) for _ in range(3)]
    masses, absent = np.array([mass for mass, _ in drawn]), drawn[0][1]
    for one in (masses, masses[0], masses[None]):  # any number of axes in front
        assert equal.answers(one) == pytest.approx(table.answers(one), abs=1e-12)
        assert equal.noise(one) == pytest.approx(table.noise(one), abs=1e-12)
        assert equal.squared(one) == pytest.approx(table.squared(one), abs=1e-12)
    for outcome in range(len(equal.base)):
        assert equal.log_ratios(outcome) == pytest.approx(table.log_ratios(outcome), abs=1e-9)
    others = data.draw(shares_of(len(equal.base)))
    for spread in (None, others):
        computed, expected = (channel.gain(masses[0], absent, spread) for channel in (equal, table))
        assert computed == pytest.approx(expected, abs=1e-9)


@settings(max_examples=100, deadline=None)
@given(st.data(), channels())
def test_what_a_channel_says_is_what_follows_from_its_table(data, channel) -> None:
    table = channel.table()
    assert table.sum(axis=1) == pytest.approx(np.ones(len(table)))
    assert (table > 0.0).all()
    assert table[0] == pytest.approx(channel.base)
    masses, _ = data.draw(masses_of(channel))
    codes = range(len(masses))
    answers, squared = np.zeros(table.shape[1]), np.zeros(table.shape[1])
    for code in codes:
        answers += masses[code] * table[code]
        squared += masses[code] * table[code] ** 2
    assert channel.answers(masses) == pytest.approx(answers, abs=1e-12)
    assert channel.squared(masses) == pytest.approx(squared, abs=1e-12)
    assert channel.noise(masses) == pytest.approx(sum(masses[code] * in_bits(table[code]) for code in codes), abs=1e-9)
    for outcome in range(table.shape[1]):
        ratios = channel.log_ratios(outcome)
        assert ratios[0] == 0.0
        assert np.exp(ratios) == pytest.approx(table[:, outcome] / channel.base[outcome])


@settings(max_examples=100, deadline=None)
@given(st.data(), channels())
def test_the_gain_is_the_mutual_information_of_person_and_answer(data, channel) -> None:
    masses, absent = data.draw(masses_of(channel))
    for spread in (None, data.draw(shares_of(len(channel.base)))):
        of_absent = channel.base if spread is None else spread
        joint = np.vstack([masses[:, None] * channel.table(), absent * of_absent[None]])
        computed = float(channel.gain(masses, absent, spread))
        assert computed == pytest.approx(mutual_information(joint), abs=1e-9)
        assert computed >= 0.0


@settings(max_examples=50, deadline=None)
@given(st.data(), channels())
def test_the_gain_is_0_when_it_is_known_who_it_is(data, channel) -> None:
    masses = np.zeros(len(channel.table()))
    assert channel.gain(masses, 1.0) == pytest.approx(0.0, abs=1e-12)
    masses[data.draw(st.integers(0, len(masses) - 1))] = 1.0
    assert channel.gain(masses, 0.0) == pytest.approx(0.0, abs=1e-12)


def test_the_gain_is_0_when_everybody_answers_alike() -> None:
    channel = TableChannel(np.tile([0.2, 0.3, 0.5], (4, 1)), np.array([0.2, 0.3, 0.5]))
    assert channel.gain(np.full(5, 0.16), 0.2) == pytest.approx(0.0, abs=1e-12)


def test_the_gain_of_many_is_that_of_each() -> None:
    channel = EqualChannel(0.1, smoothed(np.array([4, 1, 0])))
    masses = np.array([[0.1, 0.5, 0.1, 0.1], [0.0, 0.8, 0.0, 0.0], [0.2, 0.2, 0.2, 0.2]])
    computed = channel.gain(masses, 0.2)
    assert computed.shape == (3,)
    assert computed == pytest.approx([channel.gain(one, 0.2) for one in masses])


@pytest.mark.parametrize("error", [1e-15, 1e-6, 1.0 - 1e-15])
def test_ever_so_small_errors_and_frequent_values_leave_numbers(error: float) -> None:
    channel = EqualChannel(error, smoothed(np.array([10_000_000, 0, 1])))
    masses = np.array([0.0, 0.5, 0.25, 0.05])
    joint = np.vstack([masses[:, None] * channel.table(), 0.2 * channel.base[None]])
    assert channel.gain(masses, 0.2) == pytest.approx(mutual_information(joint), abs=1e-6)
    for outcome in range(4):
        assert np.isfinite(channel.log_ratios(outcome)).all()


def test_an_attribute_without_values_tells_nothing() -> None:
    channel = EqualChannel(0.5, np.ones(1))
    assert channel.table().tolist() == [[1.0]]
    assert channel.gain(np.array([0.8]), 0.2) == 0.0
    assert channel.log_ratios(0).tolist() == [0.0]


@settings(max_examples=100, deadline=None)
@given(errors, counts_of_values, st.integers(0, 4), st.floats(0.05, 5.0))
def test_a_kernel_gives_every_answer_a_chance_and_all_of_them_1(error, counts, padding, spread) -> None:
    channel = kernel_channel(error, counts, padding, spread)
    assert channel.table().shape == (len(counts) + 1, len(counts) + 2 * padding)
    assert (channel.table() > 0.0).all()
    assert channel.table().sum(axis=1) == pytest.approx(np.ones(len(counts) + 1))
    assert channel.base.sum() == pytest.approx(1.0)


def test_a_kernel_is_normal_about_the_value_and_mixed_with_anybodys_answers() -> None:
    counts, error, spread = [3, 0, 1], 0.2, 0.8
    channel = kernel_channel(error, np.array(counts), 1, spread)
    # Answers lie at -1, 0, 1, 2, 3; values at 0, 1, 2.
    kernel = []
    for value in range(3):
        heights = [np.exp(-((answer - value) ** 2) / (2 * spread**2)) for answer in range(-1, 4)]
        kernel.append([height / sum(heights) for height in heights])
    for answer in range(5):
        base = (sum(counts[value] * kernel[value][answer] for value in range(3)) + 1 / 5) / 5  # one more, anywhere
        assert channel.base[answer] == pytest.approx(base)
        for value in range(3):
            expected = (1 - error) * kernel[value][answer] + error * base
            assert channel.table()[value + 1, answer] == pytest.approx(expected)


@settings(max_examples=50, deadline=None)
@given(errors, counts_of_values, st.integers(0, 4), st.floats(0.1, 5.0))
def test_a_kernel_over_mirrored_counts_is_the_mirrored_kernel(error, counts, padding, spread) -> None:
    computed = kernel_channel(error, counts, padding, spread).table()
    mirrored = kernel_channel(error, counts[::-1], padding, spread).table()
    assert mirrored[0] == pytest.approx(computed[0, ::-1])
    assert mirrored[1:] == pytest.approx(computed[1:][::-1, ::-1])


def test_the_farther_an_answer_the_less_likely_it_is() -> None:
    channel = kernel_channel(0.1, np.ones(9), 3, 1.5)
    honest = channel.table()[1:] - 0.1 * channel.base
    for value in range(9):
        place = value + 3
        assert (np.diff(honest[value, : place + 1]) > 0.0).all()
        assert (np.diff(honest[value, place:]) < 0.0).all()


def test_a_kernel_much_narrower_than_a_step_is_right_or_anything() -> None:
    channel = kernel_channel(0.1, np.array([2, 1]), 0, 1e-3)
    base = np.array([2 + 1 / 2, 1 + 1 / 2]) / 4
    assert channel.base == pytest.approx(base)
    assert channel.table()[1:] == pytest.approx(0.9 * np.eye(2) + 0.1 * base)


def test_entropy_counts_0_log_0_as_0() -> None:
    with np.errstate(all="raise"):
        assert entropy(np.array([1.0, 0.0, 0.0])) == 0.0
        assert entropy(np.array([0.5, 0.5, 0.0])) == 1.0
        assert entropy(np.zeros(3)) == 0.0
        assert entropy(np.array([[0.25] * 4, [1.0, 0.0, 0.0, 0.0]])).tolist() == [2.0, 0.0]


@settings(max_examples=50, deadline=None)
@given(counts_of_values)
def test_smoothed_frequencies_sum_to_1_with_one_that_no_record_has(counts) -> None:
    computed = smoothed(counts)
    assert computed.sum() == pytest.approx(1.0)
    assert computed[-1] == computed.min() > 0.0
    total = sum(counts) + len(counts) + 1
    assert computed == pytest.approx([*((count + 1) / total for count in counts), 1 / total])
