"""Rounds in one process: what is refused, what goes on after a kill, what stays local."""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from flwr.app import Message
from small_network import CONFIG, FABRIC, SIDE, Small, SmallFeed, WithCodes, client
from torch import Tensor

from unmask.errors import DataError
from unmask.federation.aggregation import AGGREGATORS
from unmask.federation.client import Client, RoundConfig, for_client, reused, untrained
from unmask.federation.local import LocalGrid
from unmask.federation.privacy import Privacy
from unmask.federation.rounds import FederationConfig, Rounds
from unmask.federation.updates import USES, State, load_state, of_normalisations

LOCAL = of_normalisations(Small())
BUFFERS = frozenset(name for name, _ in Small().named_buffers())


def rounds_in(folder: Path, clients: int = 3, counts: int = 10, **settings: object) -> Rounds:
    config = FederationConfig(**{"rounds": 3, "local_steps": 2, **settings})  # type: ignore[arg-type]
    local = LOCAL if config.normalisation == "local" else frozenset[str]()
    names = {f"client-{number}": counts for number in range(clients)}
    return Rounds(folder / "server", config, untrained(Small, 0), BUFFERS, local, names)


def nodes(clients: int) -> dict[str, int]:
    return {f"client-{number}": number + 1 for number in range(clients)}


def makers(folder: Path, clients: int = 3, **settings: object) -> list[Callable[[], Client]]:
    return [lambda number=number: client(number, folder, **settings) for number in range(clients)]  # type: ignore[misc]


def same(one: State, other: State) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("name", AGGREGATORS)
def test_a_network_is_trained_under_every_aggregator(name: str, tmp_path: Path) -> None:
    proximal = 0.1 if name == "fedprox" else 0.0
    rounds = rounds_in(tmp_path, 5, aggregator=name, bad=1, proximal=proximal)
    state = rounds.run(LocalGrid(makers(tmp_path, 5)), nodes(5))
    assert not same(state, untrained(Small, 0)) and all(np.isfinite(array).all() for array in state.values())
    assert state["norm.num_batches_tracked"].dtype == np.int64 and state["norm.num_batches_tracked"] == 0
    assert [len(record.clients) for record in rounds.records] == [5, 5, 5]


def test_a_federation_of_equal_clients_is_one_client(tmp_path: Path) -> None:
    alone = rounds_in(tmp_path / "a", 1).run(LocalGrid([lambda: client(0, tmp_path, feed=3)]), nodes(1))
    three = [lambda number=number: client(number, tmp_path, feed=3) for number in range(3)]
    together = rounds_in(tmp_path / "b").run(LocalGrid(three), nodes(3))
    for name in alone:
        np.testing.assert_allclose(alone[name], together[name], rtol=1e-5, atol=1e-6)


def test_clients_in_threads_give_what_clients_in_turn_give(tmp_path: Path) -> None:
    turn = rounds_in(tmp_path / "a").run(LocalGrid(makers(tmp_path)), nodes(3))
    # Dropout draws from torch's one generator, which threads share; this network has none.
    threads = rounds_in(tmp_path / "b").run(LocalGrid(makers(tmp_path), at_once=3), nodes(3))
    for name in turn:
        np.testing.assert_allclose(turn[name], threads[name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", [Small, WithCodes])
@pytest.mark.parametrize("at_once", [1, 3])
def test_clients_that_reuse_a_network_give_what_those_with_networks_of_their_own_give(
    at_once: int, kind: type[Small], tmp_path: Path
) -> None:
    kept = reused(kind)
    states = []
    for name, network in (("a", kind), ("b", kept)):
        counted = ("codebook",) if kind is WithCodes else ()
        config = FederationConfig(rounds=3, local_steps=2)
        names = {f"client-{number}": 10 for number in range(3)}
        start = untrained(kind, 0)
        rounds = Rounds(tmp_path / name / "server", config, start, BUFFERS, frozenset(), names, counted=counted)
        grid = LocalGrid(makers(tmp_path / name, network=network), at_once=at_once)
        states.append(rounds.run(grid, nodes(3)))
    for name in states[0]:
        np.testing.assert_allclose(states[0][name], states[1][name], rtol=1e-5, atol=1e-6)
    assert kept() is kept()


class Watched(SmallFeed):
    """Validation faces of two families: the first as bright as the reals, the second brighter."""

    def validation_batches(self, device: torch.device) -> Iterator[dict[str, Tensor]]:
        """One batch of twelve."""
        faces = torch.rand(12, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(5))
        families = torch.tensor([0, 1, 2]).repeat(4)
        yield {"faces": faces + 2.0 * (families == 2).float()[:, None, None, None], "families": families}


def test_a_client_says_how_well_the_common_weights_do_on_its_own_faces(tmp_path: Path) -> None:
    feed, start, asked = Watched(0), untrained(Small, 0), asdict(RoundConfig(1, 2))
    config = for_client(CONFIG, 0)
    _, _, metrics = Client("a", FABRIC, Small, feed, 10, config, tmp_path).fit(start, asked)
    network = Small().eval()
    load_state(network, start)
    (batch,) = feed.validation_batches(torch.device("cpu"))
    with torch.no_grad():
        logits = network(batch["faces"]).logit.numpy()
    kinds = batch["families"].numpy()
    wins = [np.mean(logits[kinds == kind][:, None] > logits[kinds == 0][None]) for kind in (1, 2)]
    assert metrics["auc"] == pytest.approx(np.mean(wins))
    assert "auc" not in client(0, tmp_path).fit(start, asked)[2]
    # It would tell of the faces without noise.
    private = Privacy("local", 1.0, 1.0, 1e-5, 1.0, 1)
    assert "auc" not in Client("a", FABRIC, Small, feed, 10, config, tmp_path, private).fit(start, asked)[2]


def test_a_killed_federation_goes_on_as_if_nothing_had_happened(tmp_path: Path) -> None:
    expected = rounds_in(tmp_path / "a", aggregator="fedadam").run(LocalGrid(makers(tmp_path)), nodes(3))

    class Killed(LocalGrid):
        asked = 0

        def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterator[Message]:
            for reply in super().send_and_receive(messages, timeout=timeout):
                self.asked += 1
                if self.asked == 5:  # in the middle of the second round
                    raise KeyboardInterrupt
                yield reply

    with pytest.raises(KeyboardInterrupt):
        rounds_in(tmp_path / "b", aggregator="fedadam").run(Killed(makers(tmp_path)), nodes(3))
    again = rounds_in(tmp_path / "b", aggregator="fedadam")
    assert again.done == 1
    assert same(again.run(LocalGrid(makers(tmp_path)), nodes(3)), expected)


def test_local_normalisations_stay_with_the_clients_and_survive_a_kill(tmp_path: Path) -> None:
    start = untrained(Small, 0)
    state = rounds_in(tmp_path, normalisation="local").run(LocalGrid(makers(tmp_path)), nodes(3))
    assert all(np.array_equal(state[name], start[name]) for name in LOCAL)
    assert not np.array_equal(state["conv.weight"], start["conv.weight"])
    kept = sorted(path.name for path in (tmp_path / "client-1").iterdir())
    assert kept == ["local-2.safetensors", "local-3.safetensors"]  # the round before may have to be repeated
    # The last round again, from the same start, gives the same.
    one = client(1, tmp_path)
    asked = asdict(RoundConfig(number=3, steps=2, local=True))
    first, _, _ = one.fit(start, asked)
    second, _, _ = one.fit(start, asked)
    assert same(first, second) and not LOCAL & first.keys()


@pytest.mark.parametrize("name", AGGREGATORS)
def test_codebooks_are_weighted_by_their_uses_where_the_rule_is_a_mean(name: str, tmp_path: Path) -> None:
    sizes = [1, 50, 50, 50, 50]
    start = untrained(WithCodes, 0)
    states = []
    for counted in ((), ("codebook",)):
        config = FederationConfig(rounds=1, local_steps=2, aggregator=name, proximal=0.1 * (name == "fedprox"), bad=1)
        counts = {f"client-{n}": size for n, size in enumerate(sizes)}
        folder = tmp_path / f"{len(counted)}"
        rounds = Rounds(folder, config, start, BUFFERS, frozenset(), counts, counted=counted)
        clients = [
            lambda n=n, folder=folder: client(n, folder, pictures=sizes[n], network=WithCodes)  # type: ignore[misc]
            for n in range(5)
        ]
        states.append(rounds.run(LocalGrid(clients), nodes(5)))
        assert states[-1].keys() == start.keys() and all("codebook" not in n for n in rounds.records[0].cosines)
    differ = [key for key in start if not np.array_equal(states[0][key], states[1][key])]
    assert differ == (["codebook"] if AGGREGATORS[name].streaming else [])


def test_codes_that_nobody_used_stay(tmp_path: Path) -> None:
    start = untrained(WithCodes, 0)
    start["codebook"][4] = 100.0  # far from every picture
    config = FederationConfig(rounds=2, local_steps=2, compression="int8")
    rounds = Rounds(tmp_path, config, start, BUFFERS, frozenset(), {"client-0": 10}, counted=("codebook",))
    state = rounds.run(LocalGrid([lambda: client(0, tmp_path, network=WithCodes)]), nodes(1))
    # AdamW shrinks a code that has no gradient, and the server does not follow.
    assert np.array_equal(state["codebook"][4], start["codebook"][4])
    assert not np.array_equal(state["codebook"], start["codebook"])


def test_uses_below_zero_or_of_another_number_of_rows_are_refused(tmp_path: Path) -> None:
    def lying(update: np.ndarray) -> Callable[[], Client]:
        one = client(1, tmp_path, network=WithCodes)
        fit = one.fit

        def changed(*args: object) -> tuple[State, int, dict[str, float]]:
            state, count, metrics = fit(*args)  # type: ignore[arg-type]
            return {**state, f"{USES}codebook": update}, count, metrics

        one.fit = changed  # type: ignore[method-assign, assignment]
        return lambda: one

    config = FederationConfig(rounds=1, local_steps=1)
    counts = {f"client-{n}": 10 for n in range(2)}
    for wrong, why in ((np.full(6, -1, np.float32), "are below 0"), (np.ones(7, np.float32), r"float32 \(7,\)")):
        folder = tmp_path / f"{len(wrong)}"
        start = untrained(WithCodes, 0)
        rounds = Rounds(folder, config, start, BUFFERS, frozenset(), counts, counted=("codebook",))
        rounds.run(LocalGrid([lambda: client(0, tmp_path, network=WithCodes), lying(wrong)]), nodes(2))
        assert re.search(why, rounds.records[0].refused["client-1"])


@pytest.mark.parametrize("settings", [{"secure_aggregation": True}, {"normalisation": "shared"}])
def test_uses_are_not_asked_for_where_they_are_private(settings: dict[str, object], tmp_path: Path) -> None:
    private = None if "secure_aggregation" in settings else Privacy("central", 1.0, 1.0, 1e-5, 1.0, 1)
    config = FederationConfig(rounds=1, local_steps=1, **settings)  # type: ignore[arg-type]
    counts = {f"client-{n}": 10 for n in range(4)}
    start = untrained(WithCodes, 0)
    rounds = Rounds(tmp_path, config, start, BUFFERS, frozenset(), counts, private, counted=("codebook",))
    makers = [lambda n=n: client(n, tmp_path, network=WithCodes, privacy=private) for n in range(4)]  # type: ignore[misc]
    rounds.run(LocalGrid(makers), nodes(4))
    assert len(rounds.records[0].clients) == 4


def broken(kind: str) -> Callable[[State, RoundConfig], State]:
    def change(update: State, _: RoundConfig) -> State:
        name = "conv.weight"
        return {
            "nan": {**update, name: update[name] * np.nan},
            "shape": {**update, name: update[name].ravel()},
            "lacks": {key: array for key, array in update.items() if key != name},
            "more": {**update, "other": update[name]},
            "type": {**update, name: update[name].astype(np.int64)},
        }[kind]

    return change


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("nan", "conv.weight has values that are not finite"),
        ("shape", r"conv.weight is float32 \(108,\)"),
        ("lacks", "lacks conv.weight"),
        ("more", "has other, which the network has not"),
        ("type", "conv.weight is int64"),
    ],
)
def test_a_broken_update_is_refused_by_name_and_the_others_count(kind: str, words: str, tmp_path: Path) -> None:
    clients = makers(tmp_path)
    clients[1] = lambda: client(1, tmp_path, change=broken(kind))
    rounds = rounds_in(tmp_path, rounds=1)
    state = rounds.run(LocalGrid(clients), nodes(3))
    assert list(rounds.records[0].refused) == ["client-1"]
    assert rounds.records[0].refused["client-1"].startswith("client-1: ")
    assert re.search(words, rounds.records[0].refused["client-1"])
    others = rounds_in(tmp_path / "o", rounds=1)
    two = others.run(LocalGrid(clients), {"client-0": 1, "client-2": 3})
    assert all(np.allclose(state[name], two[name]) for name in state)


def test_updates_in_another_order_of_arrays_are_the_same_updates(tmp_path: Path) -> None:
    plain = rounds_in(tmp_path / "a", rounds=2, aggregator="fedavgm").run(LocalGrid(makers(tmp_path)), nodes(3))
    other = makers(tmp_path, change=lambda update, _: dict(reversed(update.items())))
    assert same(rounds_in(tmp_path / "b", rounds=2, aggregator="fedavgm").run(LocalGrid(other), nodes(3)), plain)


def test_a_client_that_lies_about_its_count_is_refused(tmp_path: Path) -> None:
    clients = makers(tmp_path)
    clients[2] = lambda: client(2, tmp_path, pictures=10_000_000)
    rounds = rounds_in(tmp_path, rounds=1)
    rounds.run(LocalGrid(clients), nodes(3))
    assert "10,000,000 pictures, and when it joined it had 10" in rounds.records[0].refused["client-2"]


def test_too_few_updates_end_the_run_and_keep_what_is_done(tmp_path: Path) -> None:
    clients = [lambda number=number: client(number, tmp_path, change=broken("nan")) for number in range(3)]
    rounds = rounds_in(tmp_path)
    with pytest.raises(DataError, match=r"round 1: 0 update\(s\), 1 are needed \(client-0: conv.weight has values"):
        rounds.run(LocalGrid(clients), nodes(3))
    assert rounds.done == 0


def test_a_client_without_pictures_answers_and_changes_nothing(tmp_path: Path) -> None:
    clients = makers(tmp_path)
    clients[1] = lambda: client(1, tmp_path, pictures=0)
    state = rounds_in(tmp_path / "a", rounds=1).run(LocalGrid(clients), nodes(3))
    two = rounds_in(tmp_path / "b", rounds=1).run(LocalGrid(clients), {"client-0": 1, "client-2": 3})
    assert all(np.allclose(state[name], two[name]) for name in state)


def test_a_server_of_another_version_is_refused_by_the_client(tmp_path: Path) -> None:
    one = client(0, tmp_path)
    with pytest.raises(DataError, match="version 0 of the protocol, this client 1"):
        one.fit(untrained(Small, 0), {**asdict(RoundConfig(1, 1)), "protocol": 0})
    with pytest.raises(DataError, match="of another network"):
        one.fit({"w": np.zeros(1)}, asdict(RoundConfig(1, 1)))


def test_some_clients_a_round_are_drawn_from_seed_and_number_alone(tmp_path: Path) -> None:
    chosen = []
    for folder in ("a", "b"):
        rounds = rounds_in(tmp_path / folder, 6, per_round=2)
        rounds.run(LocalGrid(makers(tmp_path, 6)), nodes(6))
        chosen.append([sorted(record.clients) for record in rounds.records])
    assert chosen[0] == chosen[1] and all(len(names) == 2 for names in chosen[0])
    assert len({name for names in chosen[0] for name in names}) > 2
    with pytest.raises(DataError, match="7 clients a round of 6"):
        rounds_in(tmp_path / "c", 6, per_round=7)


def test_fedprox_holds_clients_near_the_global_weights(tmp_path: Path) -> None:
    start = untrained(Small, 0)
    lengths = []
    for proximal in (0.0, 50.0):
        update, _, _ = client(0, tmp_path).fit(start, asdict(RoundConfig(1, 6, proximal)))
        lengths.append(sum(float(np.square(update[n]).sum()) for n in update if n not in BUFFERS))
    assert lengths[1] < lengths[0]


def test_steps_over_rounds_are_those_of_the_configuration(tmp_path: Path) -> None:
    assert CONFIG.steps == 12
    state = rounds_in(tmp_path, 1, rounds=6).run(LocalGrid(makers(tmp_path, 1)), nodes(1))
    assert np.isfinite(state["conv.weight"]).all()


@pytest.mark.parametrize("compression", ["fp16", "int8"])
def test_compressed_updates_train_the_same_network_in_fewer_bytes(compression: str, tmp_path: Path) -> None:
    plain = rounds_in(tmp_path / "a")
    exact = plain.run(LocalGrid(makers(tmp_path / "a")), nodes(3))
    rounds = rounds_in(tmp_path / "b", compression=compression)
    close = rounds.run(LocalGrid(makers(tmp_path / "b")), nodes(3))
    assert rounds.records[0].bytes_received < 0.6 * plain.records[0].bytes_received
    # Of all weights together: a first step of Adam is as long whatever the gradient, so that a weight whose gradient is
    # near zero goes either way by rounding.
    start, weights = untrained(Small, 0), [name for name in exact if name not in BUFFERS]
    moved, apart = (
        np.sqrt(sum(float(np.square(exact[name] - other[name]).sum()) for name in weights)) for other in (start, close)
    )
    assert apart < 0.25 * moved
