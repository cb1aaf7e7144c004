"""Secure aggregation over clients in one process: plain averaging's result, whoever drops out, and no update seen."""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from flwr.app import ConfigRecord, Message, RecordDict
from small_network import Small, client
from test_privacy import GROUPS, clients, grouped, of
from test_rounds import makers, nodes, rounds_in, same

from unmask.errors import DataError
from unmask.federation.aggregation import AGGREGATORS, ARRAYS, CONFIG, record_of
from unmask.federation.client import PROTOCOL, Client, RoundConfig, untrained
from unmask.federation.local import LocalGrid
from unmask.federation.masking import coding_for, ranges_for
from unmask.federation.privacy import length
from unmask.federation.rounds import FederationConfig, Rounds
from unmask.federation.secure import KEYS, MASKED, SECURE, SHARES, UNMASK, fewest_left, take_part
from unmask.federation.updates import averaged

STAGES = (KEYS, SHARES, MASKED, UNMASK)
MEANS = [name for name, one in AGGREGATORS.items() if one.streaming]


class Watched(LocalGrid):
    """A grid that loses the answers of some nodes at some stages, and keeps what it carries."""

    def __init__(self, makers: list[Callable[[], Client]], lost: dict[str, set[int]] | None = None) -> None:
        super().__init__(makers)
        self._lost, self.carried = lost or {}, dict[str, list[RecordDict]]()

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterator[Message]:
        asked = list(messages)
        stage = str(asked[0].content.config_records[SECURE]["stage"])
        for reply in super().send_and_receive(asked, timeout=timeout):
            if reply.metadata.src_node_id not in self._lost.get(stage, ()):
                if not reply.has_error():
                    self.carried.setdefault(stage, []).append(reply.content)
                yield reply


def step_of(rounds: Rounds) -> float:
    """The largest distance between two levels in a first round."""
    start = averaged(rounds.state)
    coding = coding_for(ranges_for(start, None), [10] * 5)
    return max(coding.step(name) for name in start)


@pytest.mark.parametrize("name", MEANS)
def test_every_mean_gives_what_it_gives_with_the_updates_in_sight(name: str, tmp_path: Path) -> None:
    proximal = 0.1 if name == "fedprox" else 0.0
    asked: dict[str, object] = {"aggregator": name, "proximal": proximal, "rounds": 1}
    plain, secure = (rounds_in(tmp_path / f"{on}", 5, secure_aggregation=on, **asked) for on in (False, True))
    step = step_of(plain)
    expected = plain.run(LocalGrid(makers(tmp_path / "a", 5)), nodes(5))
    state = secure.run(LocalGrid(makers(tmp_path / "b", 5)), nodes(5))
    for key, array in expected.items():
        assert array.dtype == state[key].dtype and array.shape == state[key].shape
        # A first step of Adam or Yogi turns on values near zero, which a step of the levels changes.
        error = np.abs(array - state[key])
        assert (error.mean() < 0.005) if name in ("fedadam", "fedyogi") else (error.max() <= step + 1e-6)


def test_weights_are_the_pictures_and_a_client_without_any_changes_nothing(tmp_path: Path) -> None:
    sizes = [10, 0, 7, 3, 1]
    clients = [lambda n=n: client(n, tmp_path, pictures=sizes[n]) for n in range(5)]  # type: ignore[misc]
    states = []
    for on in (False, True):
        rounds = rounds_in(tmp_path / f"{on}", 5, secure_aggregation=on, rounds=1)
        step = step_of(rounds)
        states.append(rounds.run(LocalGrid(clients), nodes(5)))
    for name in states[0]:
        assert np.abs(states[0][name] - states[1][name]).max() <= step + 1e-6


@pytest.mark.parametrize("stage", STAGES)
def test_who_drops_out_is_left_out_and_the_round_holds(stage: str, tmp_path: Path) -> None:
    # Node 2 leaves after the stage before; node 5 while stage 3 is on.
    lost = {stage: {2}, MASKED: {5} | ({2} if stage == MASKED else set())}
    rounds = rounds_in(tmp_path / "a", 7, secure_aggregation=True, rounds=1)
    step = step_of(rounds)
    state = rounds.run(Watched(makers(tmp_path, 7), lost), nodes(7))
    record = rounds.records[0]
    left = {n for n in range(7) if n != 4 and (n != 1 or stage == UNMASK)}
    assert sorted(record.clients) == [f"client-{n}" for n in sorted(left)]
    assert "no answer at the stage 'masked'" in record.refused["client-4"]
    plain = rounds_in(tmp_path / "b", 7, rounds=1).run(
        LocalGrid(makers(tmp_path, 7)), {f"client-{n}": n + 1 for n in left}
    )
    for name in plain:
        assert np.abs(plain[name] - state[name]).max() <= step + 1e-6


@pytest.mark.parametrize("stage", STAGES)
def test_too_many_drop_outs_end_the_round(stage: str, tmp_path: Path) -> None:
    rounds = rounds_in(tmp_path, 4, secure_aggregation=True)
    with pytest.raises(DataError, match=f"2 of 4 clients are left after the stage '{stage}'.* needs 3.*client-1"):
        rounds.run(Watched(makers(tmp_path, 4), {stage: {2, 3}}), nodes(4))
    assert rounds.done == 0
    rounds.run(LocalGrid(makers(tmp_path, 4)), nodes(4))
    assert rounds.done == 3


def test_the_server_sees_no_update_and_clients_keep_no_secret(tmp_path: Path) -> None:
    # All clients train alike: what would be equal without masks.
    alike = [lambda n=n: client(n, tmp_path, feed=3) for n in range(4)]  # type: ignore[misc]
    grid = Watched(alike)
    rounds = rounds_in(tmp_path, 4, secure_aggregation=True, rounds=2)
    rounds.run(grid, nodes(4))
    masked = [content.array_records[ARRAYS][MASKED].numpy() for content in grid.carried[MASKED]]
    assert len(masked) == 8
    for one in range(8):
        assert np.abs(masked[one] / 2**32 - 0.5).mean() == pytest.approx(0.25, abs=0.06)  # uniform
        for other in range(one):
            assert not (masked[one] == masked[other]).any()
    assert not list(tmp_path.glob("client-*/secrets.json"))
    for record in rounds.records:
        assert not record.cosines and not record.drift
        assert all(row["beyond"] == 0 and "loss" in row for row in record.clients.values())
        # Down the weights and keys, up four bytes a weight.
        weights = sum(array.size for array in averaged(rounds.state).values())
        assert 4 * 4 * weights < record.bytes_received < 4 * 4 * weights + 20_000
        assert record.bytes_sent > 4 * 4 * weights and record.seconds > 0


def test_a_killed_round_is_repeated_and_gives_the_same(tmp_path: Path) -> None:
    expected = rounds_in(tmp_path / "a", 4, secure_aggregation=True, aggregator="fedavgm").run(
        LocalGrid(makers(tmp_path / "ca", 4)), nodes(4)
    )

    class Killed(Watched):
        def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterator[Message]:
            for reply in super().send_and_receive(messages, timeout=timeout):
                yield reply
                if len(self.carried.get(MASKED, ())) == 6:
                    raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rounds_in(tmp_path / "b", 4, secure_aggregation=True, aggregator="fedavgm").run(
            Killed(makers(tmp_path / "cb", 4)), nodes(4)
        )
    again = rounds_in(tmp_path / "b", 4, secure_aggregation=True, aggregator="fedavgm")
    assert again.done == 1
    assert same(again.run(LocalGrid(makers(tmp_path / "cb", 4)), nodes(4)), expected)


def test_a_client_refuses_to_send_what_is_not_finite_or_heavier_than_it_said(tmp_path: Path) -> None:
    clients = makers(tmp_path, 7)
    clients[1] = lambda: client(1, tmp_path, change=lambda u, _: {**u, "conv.weight": u["conv.weight"] * np.nan})
    clients[6] = lambda: client(6, tmp_path, pictures=1_000_000)
    rounds = rounds_in(tmp_path, 7, secure_aggregation=True, rounds=1)
    state = rounds.run(LocalGrid(clients), nodes(7))
    refused = rounds.records[0].refused
    assert sorted(refused) == ["client-1", "client-6"]
    assert refused["client-1"].startswith("client-1: conv.weight has values that are not finite")
    assert "trained on 1,000,000 pictures; the round was planned for 10" in refused["client-6"]
    assert all(np.isfinite(array).all() for array in state.values())


def test_a_client_that_sends_noise_is_found_in_the_sum(tmp_path: Path) -> None:
    class Noisy(Watched):
        def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterator[Message]:
            for reply in super().send_and_receive(messages, timeout=timeout):
                if ARRAYS in reply.content.array_records and reply.metadata.src_node_id == 2:
                    masked = reply.content.array_records[ARRAYS][MASKED].numpy().copy()
                    masked[5:] += np.arange(len(masked) - 5, dtype=np.uint32) * 2_654_435_761
                    reply.content.array_records[ARRAYS] = record_of({MASKED: masked})
                yield reply

    rounds = rounds_in(tmp_path, 4, secure_aggregation=True)
    with pytest.raises(DataError, match="the sum of the masked updates is none of allowed updates"):
        rounds.run(Noisy(makers(tmp_path, 4)), nodes(4))


@pytest.mark.parametrize("what", ["share", "type", "keys"])
def test_answers_that_are_not_readable_leave_their_client_out_or_end_the_round(what: str, tmp_path: Path) -> None:
    class Garbled(Watched):
        def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterator[Message]:
            for reply in super().send_and_receive(messages, timeout=timeout):
                if reply.metadata.src_node_id == 2:
                    content = reply.content
                    own = content.config_records.get(SECURE, {})
                    if what == "share" and MASKED in self.carried and "shares" in own:
                        own["shares"] = [b"\1\0\0\0" + bytes(48) for _ in own["shares"]]
                    elif what == "type" and ARRAYS in content.array_records:
                        content.array_records[ARRAYS] = record_of({MASKED: np.zeros(5, np.uint64)})
                    elif what == "keys" and "mask" in own:
                        own["mask"] = b"short"
                yield reply

    rounds = rounds_in(tmp_path, 4, secure_aggregation=True, rounds=1)
    if what == "share":
        with pytest.raises(DataError, match="a client sent a wrong share of client-0's secret"):
            rounds.run(Garbled(makers(tmp_path, 4)), nodes(4))
    else:
        rounds.run(Garbled(makers(tmp_path, 4)), nodes(4))
        why = {"type": "of another length", "keys": "not readable"}[what]
        assert why in rounds.records[0].refused["client-1"]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"aggregator": "median"}, "median compares the clients' updates.* take one of fedavg, fedprox"),
        ({"aggregator": "trimmed"}, "trimmed compares"),
        ({"aggregator": "krum"}, "krum compares"),
        ({"compression": "int8"}, "masked updates are integers already"),
        ({"per_round": 2}, "secure aggregation over 2 clients a round"),
    ],
)
def test_what_a_sum_cannot_give_is_refused_by_name(settings: dict[str, object], words: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=words):
        rounds_in(tmp_path, 5, secure_aggregation=True, **settings)


# --- a client against a server that asks too much


def asked(stage: str, number: int = 1, **values: object) -> RecordDict:
    return RecordDict({SECURE: ConfigRecord({"stage": stage, "number": number, "protocol": PROTOCOL, **values})})  # type: ignore[dict-item]


def three(folder: Path) -> tuple[list[Client], dict[str, object]]:
    """Clients whose keys are made, and what the second stage tells them."""
    clients = [client(number, folder) for number in range(3)]
    keys = [take_part(one, asked(KEYS)).config_records[SECURE] for one in clients]
    members = {"members": [1, 2, 3], "ciphers": [k["cipher"] for k in keys], "masks": [k["mask"] for k in keys]}
    return clients, {"threshold": 3, **members}


def test_secrets_are_readable_by_their_owner_alone(tmp_path: Path) -> None:
    three(tmp_path)
    path = tmp_path / "client-0" / "secrets.json"
    assert path.stat().st_mode & 0o077 == 0
    assert json.loads(path.read_text())["stage"] == KEYS


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"threshold": 1}, "1 of 3 clients could unmask"),
        ({"threshold": 4}, "4 of 3 clients"),
        ({"ciphers": [b"a" * 32] * 3}, "keys that are not its own"),
        ({"masks": [b"a" * 32]}, "is not readable"),
        ({"members": []}, "is not readable"),
        ({"members": [1, 2, -3]}, "is not readable"),
        ({"ciphers": ["a", "b", "c"]}, "keys that are not its own"),
    ],
)
def test_a_client_takes_no_keys_that_would_show_it(change: dict[str, object], words: str, tmp_path: Path) -> None:
    clients, common = three(tmp_path)
    with pytest.raises(DataError, match=words):
        take_part(clients[0], asked(SHARES, own=1, **{**common, **change}))


def test_two_clients_with_one_key_are_refused(tmp_path: Path) -> None:
    clients, common = three(tmp_path)
    masks = common["masks"]
    assert isinstance(masks, list)
    with pytest.raises(DataError, match="two clients of the round have the same key"):
        take_part(clients[0], asked(SHARES, own=1, **{**common, "masks": [masks[0], masks[1], masks[1]]}))


def test_a_client_reveals_no_two_secrets_of_one_client_and_nothing_twice(tmp_path: Path) -> None:
    clients, common = three(tmp_path)
    sent = [take_part(one, asked(SHARES, own=n, **common)) for n, one in enumerate(clients, start=1)]
    records = [dict(reply.config_records[SECURE]) for reply in sent]
    boxes = [dict(zip(one["members"], one["shares"], strict=True)) for one in records]  # type: ignore[arg-type]
    start = untrained(Small, 0)
    coding = coding_for(ranges_for(averaged(start), None), [10] * 3)
    values: dict[str, object] = {"names": list(coding.ranges), "ranges": list(coding.ranges.values())}
    values |= {"levels": coding.levels, "bits": 32, "most": 10, "total": 30, "senders": [2, 3]}

    def training(shares: list[bytes]) -> RecordDict:
        config = ConfigRecord(asdict(RoundConfig(1, 2, secure=True)))
        return RecordDict({**asked(MASKED, **values, shares=shares), ARRAYS: record_of(start), CONFIG: config})

    with pytest.raises(DataError, match="not its turn"):
        take_part(clients[0], asked(UNMASK, active=[1, 2, 3], dropped=[0]))
    with pytest.raises(DataError, match="is not readable"):  # another client's key
        take_part(clients[0], training([boxes[2][1], boxes[1][1]]))
    take_part(clients[0], training([boxes[1][1], boxes[2][1]]))
    for active, dropped in (([1, 2], [3]), ([1, 2, 3], [3]), ([1, 2], []), ([1, 2, 3, 4], [])):
        with pytest.raises(DataError, match="would show a single client's update"):
            take_part(clients[0], asked(UNMASK, active=active, dropped=dropped))
    take_part(clients[0], asked(UNMASK, active=[1, 2, 3], dropped=[]))
    with pytest.raises(DataError, match="not its turn"):
        take_part(clients[0], asked(UNMASK, active=[1, 2, 3], dropped=[]))


def test_a_server_of_another_version_is_refused(tmp_path: Path) -> None:
    message = RecordDict({SECURE: ConfigRecord({"stage": KEYS, "number": 1, "protocol": 0})})
    with pytest.raises(DataError, match="version 0 of the protocol, this client 1"):
        take_part(client(0, tmp_path), message)


# --- with privacy


@pytest.mark.parametrize("mechanism", ["central", "local", "distributed", "dp-sgd"])
def test_privacy_under_secure_aggregation(mechanism: str, tmp_path: Path) -> None:
    privacy = of(mechanism, per_round=2 if mechanism == "dp-sgd" else 1, sharers=3)
    config = FederationConfig(rounds=2, local_steps=2, normalisation="group", secure_aggregation=True)
    counts = {f"client-{number}": 10 for number in range(4)}
    rounds = Rounds(tmp_path / "s", config, untrained(grouped, 0), GROUPS, frozenset(), counts, privacy)
    state = rounds.run(LocalGrid(clients(tmp_path, privacy)), nodes(4))
    assert all(np.isfinite(array).all() for array in state.values())
    assert all((row == {}) == (mechanism != "central") for row in rounds.records[0].clients.values())
    assert "differentially private" in privacy.statement(2)


def test_the_noise_of_the_fewest_clients_is_as_much_as_was_promised(tmp_path: Path) -> None:
    clip, noise, count = 1e-6, 1e5, 7  # the noise is all that is to be seen
    privacy = of("distributed", clip=clip, noise=noise, sharers=fewest_left(count))
    config = FederationConfig(rounds=1, local_steps=1, normalisation="group", secure_aggregation=True)
    counts = {f"client-{number}": 10 for number in range(count)}
    start = untrained(grouped, 0)
    found = []
    for number, lost in enumerate((set[int](), {2, 3})):
        rounds = Rounds(tmp_path / f"{number}", config, start, GROUPS, frozenset(), counts, privacy)
        state = rounds.run(Watched(clients(tmp_path, privacy, count), {MASKED: lost}), nodes(count))
        total = (count - len(lost)) * np.concatenate([(state[n] - start[n]).ravel() for n in averaged(state)])
        found.append(float(total.std()) / (clip * noise))
    assert found[0] == pytest.approx(np.sqrt(7 / 5), rel=0.25)
    assert found[1] == pytest.approx(1.0, rel=0.25)


def test_clients_clip_where_the_server_cannot(tmp_path: Path) -> None:
    privacy = of("central", clip=1e-3, noise=1e-9)
    config = FederationConfig(rounds=1, local_steps=4, normalisation="group", secure_aggregation=True)
    counts = {f"client-{number}": 10 for number in range(4)}
    start = untrained(grouped, 0)
    rounds = Rounds(tmp_path / "s", config, start, GROUPS, frozenset(), counts, privacy)
    state = rounds.run(LocalGrid(clients(tmp_path, privacy)), nodes(4))
    assert 1e-4 < length({name: state[name] - start[name] for name in averaged(state)}) < 1.01e-3


def test_distributed_noise_without_secure_aggregation_is_refused(tmp_path: Path) -> None:
    config = FederationConfig(normalisation="group")
    with pytest.raises(DataError, match="take it with secure aggregation"):
        Rounds(tmp_path, config, untrained(grouped, 0), GROUPS, frozenset(), {"a": 1}, of("distributed"))
