"""A server in this process and small clients in its threads, over TLS on the loopback, for tests of deployments."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Thread

from flwr.app import Message
from small_network import CONFIG, Small, client

from unmask.errors import DataError
from unmask.federation.certificates import CA, client_key, server_certificate
from unmask.federation.client import Client, untrained
from unmask.federation.link import Link
from unmask.federation.members import Members
from unmask.federation.messages import Joining, Setting
from unmask.federation.node import answer_messages, trusting
from unmask.federation.participant import Participant, Ready
from unmask.federation.privacy import Privacy
from unmask.federation.rounds import FederationConfig, Rounds
from unmask.federation.training import kept_local
from unmask.federation.updates import State, of_normalisations

LOCAL = of_normalisations(Small())
BUFFERS = frozenset(name for name, _ in Small().named_buffers())
HOSTS = ("localhost", "127.0.0.1")


class Notes:
    """Remembers what was said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def update(self, stage: str, done: int, total: int | None = None, detail: str = "") -> None:
        pass

    def note(self, text: str) -> None:
        self.said.append(text)


def joining(number: int, **changes: object) -> Joining:
    whole = Joining(
        name=f"client-{number}",
        pictures=10,
        families={"selfblend": 1.0},
        kinds=("self-blend",),
        sources=("ffhq",),
        data_sha256=f"{number}",
    )
    return replace(whole, **changes)  # type: ignore[arg-type]


class Organisation(Thread):
    """A small client in a thread; `failed` is why it ended, if it ended badly, `result` what it got."""

    def __init__(
        self,
        number: int,
        port: int,
        folder: Path,
        home: str = "",
        trusted: Path | None = None,
        make: Callable[[], Client] | None = None,
        answer: Callable[[Message], Message] | None = None,
        **changes: object,
    ) -> None:
        super().__init__(daemon=True)
        self.notes, self.failed, self.result = Notes(), "", dict[str, object]()
        self._home = folder / (home or f"client-{number}")
        self._address, self._ca = f"localhost:{port}", trusted or folder / "tls" / CA
        self._make = make or (lambda: client(number, folder))
        self.part = Participant(joining(number, **changes), self._prepare, self.notes)
        self._answer = answer or self.part.answer

    def _prepare(self, setting: Setting) -> Ready:
        def made(privacy: Privacy | None) -> Client:
            return self._make()

        def end(state: State) -> float:
            self.result.update(state)
            return 0.75

        last = setting.federation.rounds
        return Ready(4, made, lambda: kept_local(self._home, last), lambda state: {}, end)

    def run(self) -> None:
        try:
            answer_messages(
                self._address,
                self._ca,
                trusting(self._ca),
                client_key(self._home),
                self._answer,
                lambda: self.part.over or self.part.failed is not None,
                self.notes,
            )
            if self.part.failed is not None:
                raise self.part.failed
        except DataError as error:
            self.failed = str(error)

    def leave(self) -> None:
        """End as by Ctrl-C, after the message that is being answered."""
        self.part.over = True
        self.join(20)


@contextmanager
def linked(folder: Path, port: int = 0, admitted: dict[bytes, str] | None = None) -> Iterator[Link]:
    server_certificate(folder / "tls", HOSTS)
    with Link(folder / "tls", "127.0.0.1", port, admitted) as link:
        yield link


def members_of(
    link: Link, folder: Path, clients: int, admitted: dict[bytes, str] | None = None
) -> tuple[Members, Notes]:
    notes = Notes()
    return Members(link, clients, False, folder / "server" / "members.json", admitted, notes), notes


def ready(members: Members, federation: FederationConfig, clients: int) -> None:
    """Gather and prepare, and remember who has come."""
    members.gather(5)
    setting = Setting(number=0, clients=clients, config=CONFIG, federation=federation)
    members.prepare(lambda number, name: replace(setting, number=number))
    members.keep()


def rounds_in(folder: Path, federation: FederationConfig, clients: int) -> Rounds:
    local = LOCAL if federation.normalisation == "local" else frozenset[str]()
    counts = {f"client-{number}": 10 for number in range(clients)}
    return Rounds(folder, federation, untrained(Small, 0), BUFFERS, local, counts)


def wait_until(true: Callable[[], object], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)
