"""What is promised, and that the mechanisms do what the accountants count."""

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from small_network import CONFIG, Small, SmallFeed, client
from test_rounds import BUFFERS, nodes

from unmask.errors import DataError
from unmask.federation.client import Client, RoundConfig, untrained
from unmask.federation.local import LocalGrid
from unmask.federation.privacy import Privacy, clipped, epsilon_of, length, noise_for, noisy, private_steps
from unmask.federation.rounds import FederationConfig, Rounds
from unmask.networks.normalisation import with_group_norm

GROUPS = frozenset[str]()


def grouped() -> Small:
    network = Small()
    with_group_norm(network)
    return network


def of(mechanism: str, **more: float) -> Privacy:
    settings = {"clip": 1.0, "noise": 1.1, "delta": 1e-5, "rate": 1.0, "releases": 3, **more}
    return Privacy(mechanism, **settings)  # type: ignore[arg-type]


@given(
    arrays.arrays(np.float32, (3, 2), elements=st.floats(-1e3, 1e3, width=32)), st.floats(0.01, 100, allow_nan=False)
)
def test_a_clipped_update_is_no_longer_than_asked_and_points_the_same_way(array: np.ndarray, most: float) -> None:
    update = {"w": array, "b": np.ones(2, np.float32)}
    short = clipped(update, most)
    assert length(short) <= most * 1.0001
    factor = short["b"][0]
    np.testing.assert_allclose(short["w"], array * factor, rtol=1e-4, atol=1e-5)
    if length(update) <= most:
        assert factor == 1


def test_the_noise_has_the_deviation_that_was_asked_for() -> None:
    values = noisy({"w": np.zeros(100_000, np.float32)}, 0.7, np.random.default_rng(0))["w"]
    assert values.std() == pytest.approx(0.7, rel=0.02) and abs(values.mean()) < 0.01


def test_the_accountant_agrees_with_the_gaussian_mechanism() -> None:
    # One release, no subsampling: epsilon by Renyi divergence is min over a of a / (2 s^2) + log(1 / d) / (a - 1), less
    # what Canonne et al. 2020 gain on it; Opacus has that gain.
    noise, delta = 2.0, 1e-5
    orders = np.arange(1.1, 64, 0.1)
    plain = (orders / (2 * noise**2) + np.log(1 / delta) / (orders - 1)).min()
    assert 0.7 * plain < epsilon_of(noise, 1.0, 1, delta) <= plain
    assert epsilon_of(noise, 1.0, 0, delta) == 0.0
    assert epsilon_of(noise, 0.1, 100, delta) < epsilon_of(noise, 1.0, 100, delta)


@pytest.mark.parametrize("epsilon", [2.0, 8.0])
def test_the_noise_for_an_epsilon_gives_that_epsilon(epsilon: float) -> None:
    noise = noise_for(epsilon, 1e-5, 0.3, 40)
    assert epsilon_of(noise, 0.3, 40, 1e-5) == pytest.approx(epsilon, rel=0.05)
    assert noise_for(epsilon / 2, 1e-5, 0.3, 40) > noise


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"clip": 0.0}, "clipping to 0"),
        ({"noise": 0.0}, "without noise nothing is private"),
        ({"delta": 1.0}, "delta 1"),
        ({"mechanism": "global"}, "no mechanism 'global'; one of central, local, distributed, dp-sgd"),
    ],
)
def test_settings_that_promise_nothing_are_refused(change: dict[str, float], words: str) -> None:
    with pytest.raises(DataError, match=words):
        of(**{"mechanism": "central", **change})  # type: ignore[arg-type]


def test_an_epsilon_out_of_reach_is_refused() -> None:
    with pytest.raises(DataError, match="epsilon 0: give a number above 0"):
        noise_for(0.0, 1e-5, 1.0, 10)


def clients(folder: Path, privacy: Privacy | None, count: int = 4) -> list[Callable[[], Client]]:
    def make(number: int) -> Client:
        return client(number, folder, network=grouped, privacy=privacy)

    return [lambda number=number: make(number) for number in range(count)]  # type: ignore[misc]


@pytest.mark.parametrize("mechanism", ["central", "local", "dp-sgd"])
def test_every_mechanism_trains_and_states_epsilon_for_every_round(mechanism: str, tmp_path: Path) -> None:
    privacy = of(mechanism, per_round=2 if mechanism == "dp-sgd" else 1)
    config = FederationConfig(rounds=3, local_steps=2, normalisation="group")
    counts = {f"client-{number}": 10 for number in range(4)}
    rounds = Rounds(tmp_path / "s", config, untrained(grouped, 0), GROUPS, frozenset(), counts, privacy)
    state = rounds.run(LocalGrid(clients(tmp_path, privacy)), nodes(4))
    assert all(np.isfinite(array).all() for array in state.values())
    epsilons = [record.epsilon for record in rounds.records]
    assert None not in epsilons and epsilons == sorted(epsilons)  # type: ignore[type-var]
    assert "differentially private" in privacy.statement(3)


def test_the_server_clips_what_a_client_has_not(tmp_path: Path) -> None:
    privacy = of("central", noise=1e-6)
    makers = clients(tmp_path, None)
    makers[0] = lambda: client(0, tmp_path, network=grouped, change=lambda u, _: {n: a + 1e6 for n, a in u.items()})
    config = FederationConfig(rounds=1, local_steps=2, normalisation="group")
    counts = {f"client-{number}": 10 for number in range(4)}
    start = untrained(grouped, 0)
    state = Rounds(tmp_path / "s", config, start, GROUPS, frozenset(), counts, privacy).run(LocalGrid(makers), nodes(4))
    assert length({name: state[name] - start[name] for name in state}) <= 1.01


def test_a_client_cannot_weigh_more_than_others(tmp_path: Path) -> None:
    privacy = of("central", noise=1e-9)
    config = FederationConfig(rounds=1, local_steps=2, normalisation="group")
    counts = {f"client-{number}": 10 for number in range(4)}
    states = []
    for number, private in enumerate((privacy, None)):  # the latter says 10 pictures
        makers = clients(tmp_path, privacy)
        makers[2] = lambda private=private: client(2, tmp_path, network=grouped, privacy=private)  # type: ignore[misc]
        rounds = Rounds(tmp_path / f"{number}", config, untrained(grouped, 0), GROUPS, frozenset(), counts, privacy)
        states.append(rounds.run(LocalGrid(makers), nodes(4)))
    for name in states[0]:
        np.testing.assert_allclose(states[0][name], states[1][name], atol=1e-6)


@pytest.mark.parametrize("name", ["fedavg", "fedadam"])
def test_central_noise_is_on_the_mean_before_anything_steps_on_it(name: str, tmp_path: Path) -> None:
    privacy = of("central", clip=1e-6, noise=1e8)  # the noise is all that is to be seen
    config = FederationConfig(rounds=1, local_steps=1, normalisation="group", aggregator=name)
    counts = {f"client-{number}": 10 for number in range(4)}
    start = untrained(grouped, 0)
    makers = clients(tmp_path, privacy)
    state = Rounds(tmp_path / "s", config, start, GROUPS, frozenset(), counts, privacy).run(LocalGrid(makers), nodes(4))
    change = np.concatenate([(state[n] - start[n]).ravel() for n in state if state[n].dtype.kind == "f"])
    if name == "fedavg":
        assert change.std() == pytest.approx(100 / 4, rel=0.2)
    else:
        assert np.abs(change).max() < 0.02  # a step of Adam's, whatever its gradient


def test_buffers_are_neither_sent_nor_blurred(tmp_path: Path) -> None:
    privacy = of("local")
    start = untrained(Small, 0)
    update, count, metrics = client(0, tmp_path, privacy=privacy).fit(start, asdict(RoundConfig(1, 2)))
    assert not BUFFERS & update.keys() and count == 1 and not metrics
    config = FederationConfig(rounds=1, local_steps=2)
    rounds = Rounds(tmp_path / "s", config, start, BUFFERS, frozenset(), {"client-0": 10}, privacy)
    state = rounds.run(LocalGrid([lambda: client(0, tmp_path, privacy=privacy)]), nodes(1))
    assert all(np.array_equal(state[name], start[name]) for name in BUFFERS)


def test_private_steps_clip_every_pair_apart() -> None:
    torch.manual_seed(0)
    network = grouped()
    privacy = of("dp-sgd", clip=1e-3, noise=1e-9)
    before = [weight.detach().clone() for weight in network.parameters()]
    metrics = private_steps(network, SmallFeed(0), CONFIG, privacy, 0, 1, torch.device("cpu"))
    assert metrics["clipped"] == 1.0
    assert any(not torch.equal(a, b) for a, b in zip(before, network.parameters(), strict=True))
    with pytest.raises(DataError, match="batch normalisation mixes pairs"):
        private_steps(Small(), SmallFeed(0), CONFIG, privacy, 0, 1, torch.device("cpu"))
    sharp = replace(CONFIG, optimiser={"optimiser": "sam", "rho": 0.05})
    with pytest.raises(DataError, match="--optimiser adamw"):
        private_steps(network, SmallFeed(0), sharp, privacy, 0, 1, torch.device("cpu"))


def test_group_normalisation_keeps_scale_and_shift_and_needs_no_batch() -> None:
    network = Small().eval()
    with torch.no_grad():
        network.norm.weight.fill_(2.0)
    changed = with_group_norm(network)
    assert isinstance(changed.norm, torch.nn.GroupNorm) and float(changed.norm.weight[0]) == 2.0  # type: ignore[attr-defined]
    faces = torch.rand(3, 3, 8, 8)
    alone, together = network(faces[:1]).logit, network(faces).logit[:1]
    torch.testing.assert_close(alone, together)
    assert not BUFFERS & {name for name, _ in network.named_buffers()}
