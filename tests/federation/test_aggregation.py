"""One battery over all aggregators."""

from collections.abc import Mapping

import numpy as np
import pytest
from flwr.app import ConfigRecord, Message, RecordDict
from hypothesis import given, settings
from hypothesis import strategies as st

from unmask.errors import DataError
from unmask.federation.aggregation import (
    AGGREGATORS,
    ARRAYS,
    CONFIG,
    aggregate,
    aggregator,
    momentum_of,
    record_of,
    reply_of,
    resume,
)
from unmask.federation.local import LocalGrid
from unmask.federation.updates import USES, State

SHAPES = {"weight": (3, 2), "bias": (2,), "scale": ()}
ZEROS: State = {name: np.zeros(shape, np.float32) for name, shape in SHAPES.items()}
STEPPING = ("fedadam", "fedyogi", "fedavgm")
MEANS = ("fedavg", "fedprox")


def replies(updates: list[Mapping[str, np.ndarray]], counts: list[int]) -> list[Message]:
    LocalGrid([])  # lets messages be made in this process
    made = []
    for number, (update, count) in enumerate(zip(updates, counts, strict=True), start=1):
        message = Message(RecordDict({ARRAYS: record_of(ZEROS), CONFIG: ConfigRecord({})}), number, "train")
        made.append(reply_of(message, update, count, {"loss": 1.0}))
    return made


def drawn(seed: int, clients: int = 7) -> list[State]:
    rng = np.random.default_rng(seed)
    return [{n: rng.normal(size=s).astype(np.float32) for n, s in SHAPES.items()} for _ in range(clients)]


def changed(name: str, updates: list[State], counts: list[int], bad: int = 1) -> State:
    strategy = aggregator(name, len(updates), bad)
    result = aggregate(strategy, 1, replies(updates, counts), ZEROS)
    assert result is not None
    return result


@pytest.mark.parametrize("name", AGGREGATORS)
def test_equal_updates_are_their_own_mean_or_a_step_in_their_direction(name: str) -> None:
    update = drawn(0)[0]
    result = changed(name, [update] * 7, [5] * 7)
    for key, array in update.items():
        assert result[key].shape == array.shape and result[key].dtype == np.float32
        if name in ("fedadam", "fedyogi"):
            assert (np.sign(result[key]) == np.sign(array)).all()
        else:
            np.testing.assert_allclose(result[key], array, rtol=1e-5)


@pytest.mark.parametrize("name", AGGREGATORS)
@settings(max_examples=10, deadline=None)
@given(order=st.permutations(range(7)), seed=st.integers(0, 99))
def test_the_order_of_the_clients_does_not_matter(name: str, order: list[int], seed: int) -> None:
    updates, counts = drawn(seed), [3, 9, 4, 1, 7, 2, 5]
    one = changed(name, updates, counts)
    other = changed(name, [updates[i] for i in order], [counts[i] for i in order])
    for key in ZEROS:
        np.testing.assert_allclose(one[key], other[key], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", MEANS)
def test_the_mean_is_weighted_by_pictures(name: str) -> None:
    updates = drawn(1, 3)
    result = changed(name, updates, [1, 0, 3])
    for key in ZEROS:
        np.testing.assert_allclose(result[key], (updates[0][key] + 3 * updates[2][key]) / 4, rtol=1e-5)


@pytest.mark.parametrize("name", [name for name, one in AGGREGATORS.items() if one.streaming])
def test_a_client_without_pictures_changes_nothing(name: str) -> None:
    updates = drawn(2, 4)
    with_it = changed(name, [*updates, {n: a + 100 for n, a in ZEROS.items()}], [4, 3, 2, 1, 0])
    without = changed(name, updates, [4, 3, 2, 1])
    for key in ZEROS:
        np.testing.assert_allclose(with_it[key], without[key], rtol=1e-6)
    assert aggregate(aggregator(name, 2), 1, replies(updates[:2], [0, 0]), ZEROS) is None


def with_uses(seed: int, clients: int = 5) -> list[State]:
    rng = np.random.default_rng(seed)
    uses = [{f"{USES}weight": rng.integers(0, 9, 3).astype(np.float32)} for _ in range(clients)]
    return [{**update, **own} for update, own in zip(drawn(seed, clients), uses, strict=True)]


@pytest.mark.parametrize("name", [name for name, one in AGGREGATORS.items() if one.streaming])
@settings(max_examples=10, deadline=None)
@given(order=st.permutations(range(5)), seed=st.integers(0, 99))
def test_rows_that_come_with_their_uses_are_weighted_by_these(name: str, order: list[int], seed: int) -> None:
    updates, counts = with_uses(seed), [3, 9, 4, 1, 7]
    result = changed(name, updates, counts)
    assert result.keys() == ZEROS.keys()
    again = changed(name, [updates[i] for i in order], [counts[i] for i in order])
    for key in ZEROS:
        np.testing.assert_allclose(result[key], again[key], rtol=1e-4, atol=1e-6)
    if name in MEANS:
        shares = np.stack([u[f"{USES}weight"] / max(1, u[f"{USES}weight"].sum()) for u in updates])
        wanted = np.einsum("kr,krc->rc", shares, np.stack([u["weight"] for u in updates]))
        np.testing.assert_allclose(result["weight"], wanted / np.maximum(shares.sum(0), 1e-9)[:, None], rtol=1e-4)
        plain = changed(name, [{k: u[k] for k in ZEROS} for u in updates], counts)
        np.testing.assert_allclose(result["bias"], plain["bias"], rtol=1e-6)


@pytest.mark.parametrize("name", [name for name, one in AGGREGATORS.items() if one.streaming])
def test_uses_in_the_battery_of_equal_clients_idle_ones_and_unused_rows(name: str) -> None:
    one = with_uses(5, 1)[0] | {f"{USES}weight": np.array([4, 0, 1], np.float32)}
    result = changed(name, [one] * 4, [5] * 4)
    assert not result["weight"][1].any()  # nobody used it
    if name in MEANS:
        np.testing.assert_allclose(result["weight"][[0, 2]], one["weight"][[0, 2]], rtol=1e-6)
    idle = {**ZEROS, f"{USES}weight": np.zeros(3, np.float32)}
    more = changed(name, [one, one, one, one, idle], [5, 5, 5, 5, 0])
    unused = changed(name, [one, one, one, one, {**one, f"{USES}weight": np.zeros(3, np.float32)}], [5] * 5)
    for key in ZEROS:
        np.testing.assert_allclose(result[key], more[key], rtol=1e-6)
    np.testing.assert_allclose(result["weight"], unused["weight"], rtol=1e-6)


def test_a_client_that_claims_more_uses_weighs_no_more() -> None:
    updates = with_uses(6, 3)
    loud = [updates[0], updates[1], {**updates[2], f"{USES}weight": updates[2][f"{USES}weight"] * 1e6}]
    one, other = changed("fedavg", updates, [1] * 3), changed("fedavg", loud, [1] * 3)
    np.testing.assert_allclose(one["weight"], other["weight"], rtol=1e-5)


@pytest.mark.parametrize("name", ["median", "trimmed", "krum"])
def test_one_bad_client_of_seven_is_withstood(name: str) -> None:
    good = drawn(3, 1)[0]
    near = [{n: a + 0.01 * k for n, a in good.items()} for k in range(6)]
    result = changed(name, [*near, {n: a - 1e6 for n, a in good.items()}], [5] * 7)
    for key, array in good.items():
        np.testing.assert_allclose(result[key], array, atol=0.06)
    assert abs(changed("fedavg", [*near, {n: a - 1e6 for n, a in good.items()}], [5] * 7)["bias"]).max() > 1e5


def test_krum_tells_updates_apart_that_are_small_beside_the_weights() -> None:
    # As differences; distances between weights of size 100 would drown these in single precision.
    near = [{n: np.full(s, 1e-4 * (1 + 0.01 * k), np.float32) for n, s in SHAPES.items()} for k in range(6)]
    result = changed("krum", [*near, {n: np.full(s, -1e-4, np.float32) for n, s in SHAPES.items()}], [5] * 7)
    assert result["bias"][0] > 0


@pytest.mark.parametrize("name", STEPPING)
def test_what_a_strategy_remembers_goes_on_after_a_restart(name: str) -> None:
    rounds = [drawn(seed) for seed in range(3)]
    whole = aggregator(name, 7)
    expected = [aggregate(whole, n, replies(updates, [1] * 7), ZEROS) for n, updates in enumerate(rounds, start=1)]
    first = aggregator(name, 7)
    for n in (1, 2):
        aggregate(first, n, replies(rounds[n - 1], [1] * 7), ZEROS)
    second = aggregator(name, 7)
    resume(second, momentum_of(first, list(ZEROS)), list(ZEROS))
    result = aggregate(second, 3, replies(rounds[2], [1] * 7), ZEROS)
    assert result is not None and expected[2] is not None
    for key in ZEROS:
        np.testing.assert_allclose(result[key], expected[2][key], rtol=1e-6)


@pytest.mark.parametrize("name", STEPPING)
def test_buffers_take_the_mean_and_no_step(name: str) -> None:
    updates = drawn(4)
    strategy = aggregator(name, 7)
    strategy.buffers = frozenset({"scale"})  # type: ignore[attr-defined]
    for number in (1, 2):
        result = aggregate(strategy, number, replies(updates, [1] * 7), ZEROS)
        assert result is not None
        np.testing.assert_allclose(result["scale"], np.mean([update["scale"] for update in updates]), rtol=1e-5)


def test_rules_that_cannot_hold_are_refused() -> None:
    with pytest.raises(DataError, match="no aggregator 'mode'; one of fedavg"):
        aggregator("mode", 5)
    with pytest.raises(DataError, match="Krum against 2 bad clients needs 7"):
        aggregator("krum", 6, 2)
    with pytest.raises(DataError, match="cannot leave out 3"):
        aggregator("trimmed", 6, 3)
