"""Server and clients over TLS on the loopback: the weights of one process, nobody's code, whoever comes and goes."""

import os
import pickle
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from threading import Event

import httpx
import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from flwr.app import Array, ArrayRecord, Message, RecordDict
from flwr.proto.control_pb2 import StartRunRequest
from flwr.proto.runtime_pb2 import PushAppMessagesRequest
from flwr.supercore.fab import Fab
from flwr.supercore.inflatable.inflatable_object import get_object_tree
from flwr.supercore.protobuf.constants import PROTOBUF_MEDIA_TYPE
from loopback import Organisation, joining, linked, members_of, ready, rounds_in, wait_until
from small_network import CONFIG, client

from unmask.errors import DataError
from unmask.federation import node
from unmask.federation.aggregation import ARRAYS, METRICS, record_of, reply_of
from unmask.federation.certificates import CA, admitted_keys, client_key, public_bytes, server_certificate
from unmask.federation.client import Client
from unmask.federation.link import Link
from unmask.federation.local import LocalGrid
from unmask.federation.messages import END, LOCAL, Hello, Setting, content
from unmask.federation.node import trusting
from unmask.federation.participant import AUC, Participant
from unmask.federation.rounds import TRAIN, FederationConfig, RoundRecord
from unmask.federation.updates import State

FEDERATION = FederationConfig(rounds=2, local_steps=2)


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node, "_LOOK_EVERY", 0.02)


def in_process(folder: Path, federation: FederationConfig, clients: int) -> State:
    makers = [lambda number=number: client(number, folder) for number in range(clients)]
    names = {f"client-{number}": number + 1 for number in range(clients)}
    return rounds_in(folder / "in process", federation, clients).run(LocalGrid(makers), names)


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"normalisation": "local", "compression": "int8"},
        {"aggregator": "fedadam"},
        {"secure_aggregation": True, "normalisation": "shared"},
    ],
    ids=str,
)
def test_a_deployment_gives_what_one_process_gives(changes: dict[str, object], tmp_path: Path) -> None:
    federation = FederationConfig(rounds=3, local_steps=2, **changes)  # type: ignore[arg-type]
    count = 3 if federation.secure_aggregation else 2
    expected = in_process(tmp_path / "one", federation, count)
    with linked(tmp_path) as link:
        clients = [Organisation(number, link.port, tmp_path) for number in range(count)]
        for one in clients:
            one.start()
        members, notes = members_of(link, tmp_path, count)
        ready(members, federation, count)
        rounds = rounds_in(tmp_path / "server", federation, count)
        state = rounds.run(link, members.nodes)
        for name, reply in members.ask(LOCAL, ["client-0", "client-1"]):
            kept = reply.content.array_records[ARRAYS]
            assert ("norm.weight" in kept) == (federation.normalisation == "local"), name
        result = RecordDict({ARRAYS: record_of(state)})
        aucs = {n: r.content.metric_records[METRICS][AUC] for n, r in members.ask(END, sorted(members.nodes), result)}
        for one in clients:
            one.join(20)
    assert aucs == {f"client-{number}": 0.75 for number in range(count)} and all(not one.failed for one in clients)
    for name in expected:
        np.testing.assert_allclose(state[name], expected[name], rtol=1e-6, atol=1e-7)
        assert np.array_equal(clients[0].result[name], state[name])  # type: ignore[arg-type]
    assert len(link.state.object_store) == 0 and link.state.num_message_ins() == 0  # nothing is kept for ever
    assert len(notes.said) == count and all("has joined" in said for said in notes.said)


def post(port: int, folder: Path, path: str, body: bytes) -> int:
    headers = {"content-type": PROTOBUF_MEDIA_TYPE, "accept": PROTOBUF_MEDIA_TYPE}
    url = f"https://localhost:{port}{path}"
    return httpx.post(url, content=body, headers=headers, verify=trusting(folder / "tls" / CA)).status_code


def test_no_code_can_be_handed_in(tmp_path: Path) -> None:
    with linked(tmp_path) as link:
        run = StartRunRequest()
        run.fab.content = b"print('code')"
        assert post(link.port, tmp_path, "/v1/control/start-run", run.SerializeToString()) == 404
        messages = PushAppMessagesRequest().SerializeToString()
        assert post(link.port, tmp_path, "/v1/runtime/push-messages", messages) == 404
        assert post(link.port, tmp_path, "/v1/fleet/pull-messages", b"") == 401
        routes = {getattr(route, "path", "") for route in link._server.config.app.routes}  # type: ignore[union-attr]
    assert not any(path.startswith(("/v1/control", "/v1/runtime", "/docs", "/openapi")) for path in routes)


def test_a_client_asks_for_no_code_that_is_there(tmp_path: Path) -> None:
    asked: list[str] = []
    with linked(tmp_path) as link:
        link.state.store_fab(Fab("", b"PK", {}))
        run = link.state.run_ids[link.state.run_id].run
        run.fab_hash, run.fab_id, run.fab_version = "abc", "evil/app", "1.0"
        link.state.get_fab = lambda fab_hash: asked.append(fab_hash)  # type: ignore[method-assign,assignment,func-returns-value]
        one = Organisation(0, link.port, tmp_path)
        one.start()
        members, _ = members_of(link, tmp_path, 1)
        ready(members, FEDERATION, 1)
        rounds_in(tmp_path / "server", FEDERATION, 1).run(link, members.nodes)
        one.leave()
    assert asked == []


class Bomb:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.path),)


def pickled(path: Path) -> ArrayRecord:
    """An array as NumPy would pickle it, with Flower's label of an ordinary one."""
    header = b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }"
    head = b"\x93NUMPY\x01\x00" + (len(header) + 1).to_bytes(2, "little") + header + b"\n"
    return ArrayRecord({"conv.weight": Array("object", (1,), "numpy.ndarray", head + pickle.dumps([Bomb(path)]))})


@pytest.mark.slow
def test_pickles_are_opened_by_neither_side(tmp_path: Path) -> None:
    bomb = tmp_path / "bomb"
    with linked(tmp_path) as link:

        def answer(message: Message) -> Message:
            if message.metadata.message_type != TRAIN:
                return sender.part.answer(message)
            reply = reply_of(message, {}, 10, {})
            reply.content[ARRAYS] = pickled(bomb)
            return reply

        sender, honest = (
            Organisation(0, link.port, tmp_path, answer=lambda m: answer(m)),
            Organisation(1, link.port, tmp_path),
        )
        sender.start()
        honest.start()
        members, _ = members_of(link, tmp_path, 2)
        ready(members, FEDERATION, 2)
        rounds = rounds_in(tmp_path / "server", FEDERATION, 2)
        rounds.run(link, members.nodes)
        assert "client-0: its answer is not readable" in rounds.records[0].refused["client-0"]
        assert list(rounds.records[0].clients) == ["client-1"]
        replies = dict(members.ask(TRAIN, ["client-1"], RecordDict({ARRAYS: pickled(bomb)})))
        assert "weights are not readable" in str(replies["client-1"].error.reason)
        sender.leave()
        honest.leave()
    assert not bomb.exists()


def test_a_node_cannot_speak_in_the_servers_name(tmp_path: Path) -> None:
    with linked(tmp_path) as link:
        one = Organisation(0, link.port, tmp_path)
        one.start()
        members, _ = members_of(link, tmp_path, 1)
        members.gather()
        forged = Message(content(Hello(private=False)), members.nodes["client-0"], "query.end")
        forged.metadata.__dict__["_message_id"] = forged.object_id
        session = link.state.start_session(link.state.run_id)
        stored, _ = link.state.store_message_and_object_tree(forged, get_object_tree(forged), session)
        assert not stored and link.state.num_message_ins() == 0
        one.leave()


def refusal(one: Organisation) -> str:
    one.join(20)
    assert not one.is_alive()
    return one.failed


@pytest.mark.slow
def test_who_may_not_join_is_told_why(tmp_path: Path) -> None:
    with linked(tmp_path) as link:
        members, notes = members_of(link, tmp_path, 1)
        other = Organisation(0, link.port, tmp_path, "old version", protocol=0, version="0.0.1")
        other.start()
        wait_until(lambda: members.look() or not other.is_alive())
        assert "a client speaks version 0 of the protocol (unmask 0.0.1)" in refusal(other)
        assert "install the same version of unmask on both" in notes.said[0]
        first = Organisation(0, link.port, tmp_path)
        first.start()
        ready(members, FEDERATION, 1)
        cases = {
            "another client has joined by this name": Organisation(0, link.port, tmp_path, "other key"),
            "the 1 clients of this federation have joined": Organisation(1, link.port, tmp_path),
        }
        for words, one in cases.items():
            one.start()
            wait_until(lambda one=one: members.look() or not one.is_alive())  # type: ignore[misc]
            assert words in refusal(one)
        first.leave()
        cases = {
            "its data differs from what it joined with": Organisation(0, link.port, tmp_path, data_sha256="other"),
            "has joined as client-0 before": Organisation(2, link.port, tmp_path, "client-0"),
        }
        for words, one in cases.items():
            one.start()
            wait_until(lambda one=one: members.look() or not one.is_alive())  # type: ignore[misc]
            assert words in refusal(one)


def test_a_server_of_another_version_is_left_by_the_client(tmp_path: Path) -> None:
    with linked(tmp_path):
        part = Participant(joining(0), lambda setting: pytest.fail("prepared"))
        reply = part.answer(Message(content(Hello(private=False, protocol=7, version="9")), 1, "query.join"))
    assert reply.has_error() and "the server speaks version 7 of the protocol (unmask 9)" in str(part.failed)


def test_with_a_list_of_keys_nobody_else_joins(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.mkdir()
    (keys / "client-0.pub").write_bytes(public_bytes(client_key(tmp_path / "client-0").public_key()))
    admitted = admitted_keys(keys)
    with linked(tmp_path, admitted=admitted) as link:
        members, _ = members_of(link, tmp_path, 1, admitted)
        stranger = Organisation(1, link.port, tmp_path)
        stranger.start()
        assert "does not admit this client; send it client.pub" in refusal(stranger)
        renamed = Organisation(1, link.port, tmp_path, "client-0")
        renamed.start()
        wait_until(lambda: members.look() or not renamed.is_alive())
        assert "this key was admitted as client-0" in refusal(renamed)
        known = Organisation(0, link.port, tmp_path)
        known.start()
        ready(members, FEDERATION, 1)
        known.leave()


def test_a_server_with_another_certificate_is_refused(tmp_path: Path) -> None:
    server_certificate(tmp_path / "other" / "tls", ("localhost",))
    server_certificate(tmp_path / "elsewhere" / "tls", ("federation.example",))
    with linked(tmp_path) as link:
        one = Organisation(0, link.port, tmp_path, trusted=tmp_path / "other" / "tls" / CA)
        one.start()
        assert "is not the server of" in refusal(one)
    with Link(tmp_path / "elsewhere" / "tls", "127.0.0.1", 0) as link:
        one = Organisation(0, link.port, tmp_path, trusted=tmp_path / "elsewhere" / "tls" / CA)
        one.start()
        assert "Hostname mismatch" in refusal(one)


def test_a_port_that_is_taken_is_said(tmp_path: Path) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(DataError, match="give another --port"),
        linked(tmp_path, taken.getsockname()[1]),
    ):
        pass


def waiting(number: int, folder: Path, until: Event) -> Callable[[], Client]:
    def make() -> Client:
        def change(update: State, _: object) -> State:
            assert until.wait(60)
            return update

        return client(number, folder, change=change)

    return make


class FirstRoundShort:
    """A link whose first round waits for ten seconds, so that the later rounds of a busy machine have time."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterator[Message]:
        messages = list(messages)
        first = messages[0].metadata.group_id == "1"
        return self._link.send_and_receive(messages, timeout=10 if first else timeout)


@pytest.mark.slow
def test_a_straggler_is_left_out_and_comes_in_again(tmp_path: Path) -> None:
    federation = FederationConfig(rounds=4, local_steps=1)
    over = Event()

    def after(record: RoundRecord, state: State) -> None:
        over.set()

    with linked(tmp_path) as link:
        clients = [
            Organisation(0, link.port, tmp_path),
            Organisation(1, link.port, tmp_path, make=waiting(1, tmp_path, over)),
        ]
        for one in clients:
            one.start()
        members, _ = members_of(link, tmp_path, 2)
        ready(members, federation, 2)
        rounds = rounds_in(tmp_path / "server", federation, 2)
        rounds.run(FirstRoundShort(link), members.nodes, timeout=60, after=after)  # type: ignore[arg-type]
        for one in clients:
            one.leave()
    assert rounds.records[0].refused == {"client-1": "client-1: no answer within 60 s"}
    assert [sorted(record.clients) for record in rounds.records[1:]] == [["client-0", "client-1"]] * 3
    assert len(link.state.object_store) == 0


@pytest.mark.slow
def test_a_client_that_leaves_in_a_round_is_not_waited_for(tmp_path: Path) -> None:
    with linked(tmp_path) as link:
        leaving = Organisation(1, link.port, tmp_path)

        def answer(message: Message) -> Message:
            if message.metadata.message_type == TRAIN:
                raise DataError("Ctrl-C")
            return leaving.part.answer(message)

        leaving._answer = answer
        staying = Organisation(0, link.port, tmp_path)
        leaving.start()
        staying.start()
        members, _ = members_of(link, tmp_path, 2)
        ready(members, FEDERATION, 2)
        rounds = rounds_in(tmp_path / "server", FEDERATION, 2)
        rounds.run(link, members.nodes)
        staying.leave()
    assert [record.refused for record in rounds.records] == [{"client-1": "client-1: it is not connected"}] * 2


@pytest.mark.slow
def test_a_server_that_is_started_again_finds_its_clients(tmp_path: Path) -> None:
    federation = FederationConfig(rounds=4, local_steps=2, aggregator="fedyogi")
    expected = in_process(tmp_path / "one", federation, 2)
    clients = []
    with linked(tmp_path) as link:
        port = link.port
        clients = [Organisation(number, port, tmp_path) for number in range(2)]
        for one in clients:
            one.start()
        members, _ = members_of(link, tmp_path, 2)
        ready(members, federation, 2)

        class Killed(Exception):
            pass

        def after(record: object, state: State) -> None:
            if asdict(record)["number"] == 2:  # type: ignore[call-overload]
                raise Killed

        with pytest.raises(Killed):
            rounds_in(tmp_path / "server", federation, 2).run(link, members.nodes, after=after)
    with linked(tmp_path, port) as link:
        members, _ = members_of(link, tmp_path, 2)
        assert members.resumed
        ready(members, federation, 2)
        rounds = rounds_in(tmp_path / "server", federation, 2)
        assert rounds.done == 2
        state = rounds.run(link, members.nodes)
        for one in clients:
            one.leave()
    assert all(not one.failed for one in clients)
    for name in expected:
        np.testing.assert_allclose(state[name], expected[name], rtol=1e-6, atol=1e-7)


@pytest.mark.slow
def test_of_a_run_that_goes_on_those_who_are_late_come_later(tmp_path: Path) -> None:
    with linked(tmp_path) as link:
        clients = [Organisation(number, link.port, tmp_path) for number in range(2)]
        for one in clients:
            one.start()
        members, _ = members_of(link, tmp_path, 2)
        ready(members, FEDERATION, 2)
        for one in clients:
            one.leave()
    with linked(tmp_path) as link:
        first = Organisation(0, link.port, tmp_path)
        first.start()
        members, _ = members_of(link, tmp_path, 2)
        began = time.monotonic()
        members.gather(1.0)
        assert list(members.nodes) == ["client-0"] and time.monotonic() - began < 10
        second = Organisation(1, link.port, tmp_path)
        federation = FederationConfig(rounds=3, local_steps=1)
        setting = Setting(number=0, clients=2, config=CONFIG, federation=federation)
        members.prepare(lambda number, name: replace(setting, number=number))
        rounds = rounds_in(tmp_path / "server", federation, 2)

        def after(record: object, state: State) -> None:
            if not second.is_alive():
                second.start()
            wait_until(lambda: members.look() or "client-1" in members.nodes)

        rounds.run(link, members.nodes, after=after)
        first.leave()
        second.leave()
    assert [sorted(record.clients) for record in rounds.records] == [["client-0"], *[["client-0", "client-1"]] * 2]


def test_keys_are_for_their_owner_alone(tmp_path: Path) -> None:
    key = client_key(tmp_path / "c")
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    assert public_bytes(key.public_key()) == (tmp_path / "c" / "client.pub").read_bytes()
    server_certificate(tmp_path / "tls", ("localhost",))
    for path in (tmp_path / "c" / "client.key", tmp_path / "tls" / "server.key"):
        assert path.stat().st_mode & 0o077 == 0
    assert public_bytes(client_key(tmp_path / "c").public_key()) == public_bytes(key.public_key())
