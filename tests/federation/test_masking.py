"""Integers whose sum is the mean, and cannot overflow."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unmask.errors import DataError
from unmask.federation.masking import Coding, coding_for, mask, ranges_for
from unmask.federation.privacy import Privacy

PRIVACY = {"clip": 0.5, "noise": 2.0, "delta": 1e-5, "rate": 1.0, "releases": 3}


@given(
    seed=st.integers(0, 2**31),
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=4),
    weights=st.lists(st.integers(0, 200_000), min_size=1, max_size=12),
    reach=st.floats(1e-4, 1e4),
    spread=st.floats(0, 3),
)
def test_the_sum_is_the_weighted_mean_within_a_step_and_never_overflows(
    seed: int, sizes: list[int], weights: list[int], reach: float, spread: float
) -> None:
    if not sum(weights):
        weights[0] = 1
    rng = np.random.default_rng(seed)
    shapes = {f"w{n}": (size,) for n, size in enumerate(sizes)}
    ranges = {name: reach * 2**n for n, name in enumerate(shapes)}
    coding = coding_for(ranges, weights)
    assert coding.levels * sum(weights) < 2 ** (coding.bits - 1) and coding.levels >= 2**16
    updates = [{n: rng.normal(0, spread * ranges[n], s).astype(np.float32) for n, s in shapes.items()} for _ in weights]
    total = np.zeros(1 + sum(sizes), coding.number)
    for update, weight in zip(updates, weights, strict=True):
        total += coding.encode(update, weight, rng)
    mean, weight = coding.decode(total, shapes)
    assert weight == sum(weights)
    for name, reach_of in ranges.items():
        clipped = [np.clip(update[name].astype(np.float64), -reach_of, reach_of) for update in updates]
        plain = np.average(clipped, axis=0, weights=weights)
        assert mean[name].dtype == np.float32
        assert np.abs(mean[name] - plain).max() <= coding.step(name) + 1e-6 * reach_of  # the latter float32's


def test_what_did_not_change_arrives_so_exactly_and_scalars_keep_their_shape() -> None:
    coding = coding_for({"w": 0.7, "s": 3.0}, [3, 8])
    zeros = {"w": np.zeros((2, 3), np.float32), "s": np.zeros((), np.float32)}
    total = coding.encode(zeros, 3, np.random.default_rng(0)) + coding.encode(zeros, 8, np.random.default_rng(1))
    mean, _ = coding.decode(total, {"w": (2, 3), "s": ()})
    assert not mean["w"].any() and mean["w"].shape == (2, 3) and mean["s"].shape == () and mean["s"] == 0


def test_rounding_keeps_the_mean() -> None:
    coding = coding_for({"w": 1.0}, [1])
    value = 0.3 * coding.step("w")
    update = {"w": np.full(100_000, value)}
    mean, _ = coding.decode(coding.encode(update, 1, np.random.default_rng(0)), {"w": (100_000,)})
    assert mean["w"].mean() == pytest.approx(value, rel=0.05)


def test_values_beyond_their_range_are_clipped_and_counted() -> None:
    coding = coding_for({"w": 1.0}, [1])
    update = {"w": np.array([5.0, -5.0, 0.5, 1.0])}
    assert coding.beyond(update) == 0.5
    mean, _ = coding.decode(coding.encode(update, 1, np.random.default_rng(0)), {"w": (4,)})
    np.testing.assert_allclose(mean["w"], [1, -1, 0.5, 1], atol=2 * coding.step("w"))


def test_many_pictures_take_64_bits_and_too_many_are_refused() -> None:
    assert coding_for({"w": 1.0}, [1000] * 10).bits == 32
    assert coding_for({"w": 1.0}, [10_000] * 10).bits == 64
    with pytest.raises(DataError, match="too many for secure aggregation"):
        coding_for({"w": 1.0}, [2**60])
    with pytest.raises(DataError, match="no client has pictures"):
        coding_for({"w": 1.0}, [0, 0])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"bits": 16}, "no coding"),
        ({"levels": 0}, "no coding"),
        ({"most": 31}, "no coding"),
        ({"levels": 2**27}, "overflow 32 bits"),
        ({"ranges": {"w": 0.0}}, "not above 0"),
        ({"ranges": {"w": np.nan}}, "not above 0"),
    ],
)
def test_a_coding_that_overflows_or_is_none_is_refused(change: dict[str, object], words: str) -> None:
    good: dict[str, object] = {"ranges": {"w": 1.0}, "levels": 2**20, "bits": 32, "most": 10, "total": 30}
    Coding(**good)  # type: ignore[arg-type]
    with pytest.raises(DataError, match=words):
        Coding(**{**good, **change})  # type: ignore[arg-type]


def test_a_sum_of_something_else_is_refused() -> None:
    coding = coding_for({"w": 1.0}, [7, 9])
    good = coding.encode({"w": np.zeros(64)}, 7, np.random.default_rng(0))
    with pytest.raises(DataError, match="none of allowed updates"):
        coding.decode(good + mask(bytes(32), len(good), coding), {"w": (64,)})


def test_masks_are_uniform_and_depend_on_the_key_alone() -> None:
    coding = coding_for({"w": 1.0}, [1])
    one = mask(bytes(32), 100_000, coding)
    assert np.array_equal(one, mask(bytes(32), 100_000, coding))
    assert not np.array_equal(one, mask(bytes(31) + b"\1", 100_000, coding))
    counts = np.bincount(one >> 28, minlength=16)
    assert np.abs(counts - 6250).max() < 400  # five standard deviations


def test_ranges_come_from_the_weights_or_from_the_clipping_with_its_noise() -> None:
    state = {"w": np.array([0.02, -3.0]), "b": np.zeros(2), "none": np.zeros(0)}
    assert ranges_for(state, None) == {"w": 12.0, "b": 1.0, "none": 1.0}
    assert ranges_for(state, Privacy("dp-sgd", **PRIVACY)) == ranges_for(state, None)
    assert ranges_for(state, Privacy("central", **PRIVACY))["w"] == 0.5
    assert ranges_for(state, Privacy("local", **PRIVACY))["w"] == 0.5 + 8 * 1.0
    assert ranges_for(state, Privacy("distributed", **PRIVACY, sharers=4))["w"] == 0.5 + 8 * 0.5
