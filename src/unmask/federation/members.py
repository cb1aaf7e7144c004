"""Who takes part in a deployment: clients join, are known again, and are asked. Lab only: flwr."""

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from flwr.app import Message, RecordDict
from pydantic import TypeAdapter, ValidationError

from unmask.errors import DataError
from unmask.federation.link import Link, gone
from unmask.federation.messages import (
    JOIN,
    PREPARE,
    REFUSE,
    SETTING,
    Hello,
    Joining,
    Prepared,
    Reason,
    Setting,
    content,
    record,
    words_of,
)
from unmask.files import whole
from unmask.progress import SILENT, Progress

_LOOK_EVERY = 0.1  # seconds


@dataclass(frozen=True)
class Member:
    """A client: what it said of itself, and the public key by which it is known again."""

    joining: Joining
    key: str


class Members:
    """The clients of a federation.

    Whoever joins first under a name has it: no other key joins under it later, not even after a restart.

    Args:
        link: to them.
        clients: how many there are to be.
        private: whether what they hold is private.
        path: of the file that keeps who has joined; if it is there, these are they.
        admitted: names by public key, of the only ones that may join; None for anybody.
        progress: of the stage "waiting for clients".

    Attributes:
        nodes: of the clients that have been here since this server was started, by name; grows as they come.
        resumed: whether they had joined an earlier server of the same run.

    Raises:
        DataError: the file is of another federation.
    """

    def __init__(
        self,
        link: Link,
        clients: int,
        private: bool,
        path: Path,
        admitted: Mapping[bytes, str] | None = None,
        progress: Progress = SILENT,
    ) -> None:
        self._link, self._clients, self._private, self._path = link, clients, private, path
        self._admitted, self._progress = admitted, progress
        self.nodes: dict[str, int] = {}
        self._known: dict[str, Member] = {}
        self._asked: dict[str, int] = {}
        self._told: set[str] = set()
        self._settings: dict[str, Setting] = {}
        self._attached: dict[int, dict[str, object]] = {}
        self.resumed = path.is_file()
        if self.resumed:
            try:
                self._known = TypeAdapter(dict[str, Member]).validate_json(path.read_bytes())
            except ValidationError as error:
                raise DataError(f"{path}: not the clients of a federation; name another folder") from error
            if len(self._known) != clients:
                raise DataError(f"{path}: {len(self._known)} clients have joined this run, not {clients}")
        link.attached = self._attached  # type: ignore[assignment]
        link.meanwhile = self.look

    @property
    def _agreed(self) -> bool:
        """Whether what is trained follows from what the clients have said of themselves, which then is to stay."""
        return self.resumed or bool(self._settings)

    @property
    def joinings(self) -> list[Joining]:
        """What the clients said of themselves, by the alphabet of names."""
        return [self._known[name].joining for name in sorted(self._known)]

    def gather(self, timeout: float | None = None) -> None:
        """Wait until all have joined.

        Args:
            timeout: seconds; of a run that goes on, those that are there by then go on without the others.
        """
        began = time.monotonic()
        while len(self.nodes) < self._clients:
            self._progress.update("waiting for clients", len(self.nodes), self._clients)
            late = timeout is not None and time.monotonic() - began > timeout
            if self.resumed and self.nodes and late:
                break
            self.look()
            time.sleep(_LOOK_EVERY)
        self._progress.update("waiting for clients", len(self.nodes), self._clients)

    def prepare(self, setting: Callable[[int, str], Setting]) -> dict[str, int]:
        """Tell all what they are to do, and wait until they have prepared; returns how many pairs each has.

        Args:
            setting: of the client of a number and a name.

        Raises:
            DataError: a client cannot prepare; its message, by name.
        """
        self.tell(setting)
        pairs: dict[str, int] = {}
        expected = set(self.nodes)
        while expected - pairs.keys():
            self._progress.update("clients prepare", len(pairs), len(expected))
            for name, reply in self.ask(PREPARE, sorted(expected - pairs.keys())):
                if gone(reply):
                    if self.resumed:
                        expected.remove(name)
                    continue
                if reply.has_error():
                    why = str(reply.error.reason).removeprefix(f"{name}: ")
                    raise DataError(f"{name} cannot take part: {why}; mend that and start all again")
                pairs[name] = words_of(reply, Prepared, name).pairs
                self._progress.update("clients prepare", len(pairs), len(expected))
            self.look()
            time.sleep(_LOOK_EVERY)
        return pairs

    def tell(self, setting: Callable[[int, str], Setting]) -> None:
        """Send a setting with every message from now on."""
        self._settings = {name: setting(number, name) for number, name in enumerate(sorted(self._known))}
        for name, node in self.nodes.items():
            self._attach(name, node)

    def keep(self) -> None:
        """Write who has joined: from now on these are they."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps({name: asdict(member) for name, member in sorted(self._known.items())}, indent=1)
        with whole(self._path) as part:
            part.write_text(text + "\n", encoding="utf-8")

    def ask(
        self, kind: str, names: Sequence[str], more: RecordDict | None = None, timeout: float | None = None
    ) -> Iterator[tuple[str, Message]]:
        """Ask some clients; their replies by name, as they arrive.

        Args:
            kind: of the message.
            names: of clients that are in `nodes`.
            more: records of the message beside the setting.
            timeout: seconds.
        """
        asked = {self.nodes[name]: name for name in names}
        messages = [Message(RecordDict({**(more or {})}), node, kind) for node in asked]
        for reply in self._link.send_and_receive(messages, timeout=timeout):
            yield asked[reply.metadata.src_node_id], reply

    def look(self) -> None:
        """See who has come, and who has said who it is; called while other answers are waited for."""
        for node in self._link.arrived():
            if node not in self._asked.values():
                self._send(JOIN, node, Hello(private=self._private), self._asked)
        for number, node in tuple(self._asked.items()):
            reply = self._link.state.take(number)
            if reply is not None:
                del self._asked[number]
                self._joined(node, reply)
        for number in tuple(self._told):
            if self._link.state.take(number) is not None:
                self._told.remove(number)

    def _send(self, kind: str, node: int, words: Hello | Reason, noted: dict[str, int] | set[str]) -> None:
        for number in self._link.push_messages([Message(content(words), node, kind)]):
            if isinstance(noted, dict):
                noted[number] = node
            else:
                noted.add(number)

    def _joined(self, node: int, reply: Message) -> None:
        if gone(reply):
            return
        try:
            if reply.has_error():
                raise DataError(f"a client would not join: {reply.error.reason}")
            joining = words_of(reply, Joining, "a client")
            self._check(joining, node)
        except DataError as error:
            self._progress.note(str(error))
            self._send(REFUSE, node, Reason(why=str(error)), self._told)
            return
        name = joining.name
        if name not in self._known or not self._agreed:
            self._known[name] = Member(joining, self._link.key_of(node).decode())
        back = name in self.nodes
        self.nodes[name] = node
        self._attach(name, node)
        if back:
            self._progress.note(f"{name} is back")
        else:
            self._progress.note(f"{name} has joined, {len(self.nodes)} of {self._clients}")

    def _check(self, joining: Joining, node: int) -> None:
        """Raise if a client may not join."""
        name, key = joining.name, self._link.key_of(node)
        if self._admitted is not None and self._admitted.get(key) != name:
            raise DataError(
                f"{name}: this key was admitted as {self._admitted.get(key)}; start the client by that name"
            )
        same = next((other for other, member in self._known.items() if member.key.encode() == key), name)
        if same != name:
            raise DataError(f"{name}: has joined as {same} before; start it by that name, or in another folder")
        if name not in self._known:
            if len(self._known) >= self._clients:
                raise DataError(f"{name}: the {self._clients} clients of this federation have joined")
            return
        member = self._known[name]
        if member.key.encode() != key:
            raise DataError(f"{name}: another client has joined by this name; take another name, or its old folder")
        if self._agreed and replace(joining, version=member.joining.version) != member.joining:
            raise DataError(f"{name}: its data differs from what it joined with; start it with that, or a new run")

    def _attach(self, name: str, node: int) -> None:
        if name in self._settings:
            self._attached[node] = {SETTING: record(self._settings[name])}
