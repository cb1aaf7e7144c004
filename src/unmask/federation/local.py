"""Rounds on one machine: Flower's grid without a network, processes or Ray. Lab only: flwr."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from flwr.app import Error, Message, RecordDict
from flwr.serverapp import Grid
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

from unmask.errors import DataError
from unmask.federation.aggregation import ARRAYS, CONFIG, reply_of, state_in
from unmask.federation.client import Client
from unmask.federation.secure import SECURE, take_part
from unmask.federation.updates import State

FAILED = 1
"""Code of the error in the reply of a client that could not train."""


def answer(client: Client, message: Message) -> Message:
    """A client's reply to a message, of plain training or of secure aggregation; an error by name if it cannot."""
    try:
        if SECURE in message.content.config_records:
            return Message(take_part(client, message.content), reply_to=message)
        update, count, metrics = client.fit(weights_of(message), dict(message.content.config_records.get(CONFIG, {})))
    except DataError as error:
        return Message(Error(FAILED, str(error)), reply_to=message)
    return reply_of(message, update, count, metrics)


def weights_of(message: Message) -> State:
    """The global weights of a server's message.

    Raises:
        DataError: it has none that can be read.
    """
    try:
        return state_in(message.content.array_records[ARRAYS])
    except (KeyError, ValueError, TypeError) as error:
        raise DataError(f"the server's weights are not readable ({type(error).__name__})") from error


class LocalGrid(Grid):
    """The clients of one process; node N is the N-th of them, counted from 1.

    Args:
        clients: made when they are asked, and dropped afterwards: a thousand take no more memory than those at work.
        at_once: how many train at the same time, each in a thread.
    """

    def __init__(self, clients: Sequence[Callable[[], Client]], at_once: int = 1) -> None:
        self._clients, self._at_once = clients, at_once
        # Flower's messages name the task they are of, which nothing sets outside its own processes.
        TaskIdentity.run_id = TaskIdentity.task_id = TaskIdentity.node_id = 1

    def get_node_ids(self) -> Iterable[int]:
        """1 to the number of clients."""
        return range(1, len(self._clients) + 1)

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterator[Message]:
        """The clients' replies, in the order of the messages, as they are made; nobody here is late."""

        def reply(message: Message) -> Message:
            return answer(self._clients[message.metadata.dst_node_id - 1](), message)

        if self._at_once == 1:
            yield from map(reply, messages)
            return
        with ThreadPoolExecutor(self._at_once) as pool:
            yield from pool.map(reply, messages)

    def set_run(self, run: Run) -> None:
        """There is one run."""

    @property
    def run(self) -> Run:
        """Not of use here."""
        raise DataError("a local grid is of no run of Flower's")

    def create_message(
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Message:
        """As `Message` itself makes it."""
        return Message(content, dst_node_id, message_type, group_id=group_id, ttl=ttl)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Not of use here: replies come with `send_and_receive`."""
        raise DataError("a local grid answers at once; use send_and_receive")

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Not of use here: replies come with `send_and_receive`."""
        raise DataError("a local grid answers at once; use send_and_receive")
