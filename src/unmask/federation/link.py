"""The server's end of the network: Flower's Fleet API and link state, without what would let code in. Lab only: flwr.

Flower's own SuperLink serves three APIs on one port. Nodes register, fetch messages and send replies by the Fleet API;
by the Control API anybody uploads an app, which is code, and starts it; by the Runtime API the processes of apps work.
Here the Fleet API alone is served, over TLS, with Flower's authentication of nodes, and the rounds work on the link
state in the same process. There is no app, no place to upload one, and no other process that could outlive this one.
"""

import logging
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType

import uvicorn
from fastapi import FastAPI
from flwr.app import ConfigRecord, Error, Message, RecordDict
from flwr.app.message import remove_content_from_message
from flwr.common.constant import NOOP_ACCOUNT_NAME, NOOP_FLWR_AID, SUPERLINK_NODE_ID, ErrorCode
from flwr.proto.message_pb2 import ObjectTree
from flwr.server.superlink.linkstate.in_memory_linkstate import InMemoryLinkState
from flwr.serverapp import Grid
from flwr.supercore.constant import NOOP_FEDERATION_ID, NodeStatus, TaskType
from flwr.supercore.date import now
from flwr.supercore.error import http_error_translator
from flwr.supercore.inflatable.inflatable_object import (
    get_all_nested_objects,
    get_object_tree,
    iterate_object_tree,
    no_object_id_recompute,
)
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents
from flwr.supercore.object_store import NoObjectInStoreError
from flwr.supercore.object_store.in_memory_object_store import InMemoryObjectStore
from flwr.supercore.protobuf.translation import ProtobufTranslationMiddleware
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity
from flwr.superlink.federation import NoOpFederationManager
from flwr.superlink.routers.fleet.node_auth import NodeAuthMiddleware
from flwr.superlink.routers.fleet.router import router as fleet_router
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware

from unmask.errors import DataError
from unmask.federation.certificates import CERTIFICATE, KEY

_LOOK_EVERY = 0.05  # seconds between two looks for replies
_UNREADABLE, _UNABLE = 100, 101  # codes of errors: a reply could not be read; the node says that it cannot do it
_LONGEST_REASON = 500


class LinkState(InMemoryLinkState):
    """Flower's link state in memory, where a node that comes back gets again what it has not answered."""

    def __init__(self) -> None:
        super().__init__(NoOpFederationManager(), InMemoryObjectStore())
        self.arrived: list[int] = []
        run = self.create_run("", "", "", {}, NOOP_FEDERATION_ID, None, NOOP_FLWR_AID, TaskType.SERVER_APP)
        self.run_id = run
        task = self.get_run_info(run_ids=[run])[0].primary_task_id
        if task is None or self.claim_task(task) is None or not self.activate_task(task):
            raise DataError("Flower's link state did not start; install the version that the extra names")
        # A run is over when its task has not been heard of for a minute. This one is this process.
        with self.lock_task_store:
            self.task_token_to_task_id.pop(self.task_token_store.pop(task).token)
        self.task_id = task

    def activate_node(self, node_id: int, heartbeat_interval: float) -> bool:
        """As Flower has it, also for a node that is thought to be there: it was killed and has come back."""
        with self.lock:
            self.deactivate_node(node_id)
            if not super().activate_node(node_id, heartbeat_interval):
                return False
            for message_id, message in self.message_ins_store.items():
                if message.metadata.dst_node_id == node_id and not self._whole_reply(message_id):
                    message.metadata.delivered_at = ""
                    reply = self.message_ins_id_to_message_res_id.pop(message_id, None)
                    if reply is not None:  # half sent
                        del self.message_res_store[reply]
            self.arrived.append(node_id)
            return True

    def store_message_and_object_tree(
        self, message: Message, object_tree: ObjectTree, session_id: str
    ) -> tuple[bool, list[str]]:
        """What nodes send: replies alone, or a node could speak to others in the server's name."""
        if not message.metadata.reply_to_message_id:
            return False, []
        return super().store_message_and_object_tree(message, object_tree, session_id)

    def send(self, message: Message) -> str | None:
        """Lay a message ready for its node; returns its number, None if there is no such node."""
        message.metadata.__dict__["_message_id"] = message.object_id
        with no_object_id_recompute():
            self.object_store.preregister(self.run_id, get_object_tree(message))
            for number, each in get_all_nested_objects(message).items():
                self.object_store.put(number, each.deflate())
        return self.store_message_ins(remove_content_from_message(message))

    def take(self, message_id: str, patient: bool = False) -> Message | None:
        """The reply to a message, as soon as it is there whole; an error if its node has gone; None as yet.

        Args:
            message_id: of `send`.
            patient: whether one waits for nodes that have gone.
        """
        with self.lock:
            asked = self.message_ins_store[message_id]
            reply_id = self.message_ins_id_to_message_res_id.get(message_id)
            if reply_id is None or not self._whole_reply(message_id):
                if patient or self.nodes[asked.metadata.dst_node_id].online_until > now().timestamp():
                    return None
                reply = _of_nobody(asked, ErrorCode.NODE_UNAVAILABLE, "it is not connected")
            else:
                reply = self._inflated(reply_id, asked)
            self.drop(message_id)
            return reply

    def drop(self, message_id: str) -> None:
        """Forget a message; a reply that comes later is not taken."""
        with self.lock:
            reply_id = self.message_ins_id_to_message_res_id.get(message_id)
            self.delete_messages({message_id})
        self.object_store.delete(message_id)
        if reply_id is not None:
            self.object_store.delete(reply_id)

    def _whole_reply(self, message_id: str) -> bool:
        reply_id = self.message_ins_id_to_message_res_id.get(message_id)
        if reply_id is None:
            return False
        try:
            numbers = [each.object_id for each in iterate_object_tree(self.object_store.get_object_tree(reply_id))]
        except NoObjectInStoreError:
            return False
        return all(self.object_store.get(number) for number in numbers)

    def _inflated(self, reply_id: str, asked: Message) -> Message:
        tree = self.object_store.get_object_tree(reply_id)
        contents = {each.object_id: self.object_store.get(each.object_id) or b"" for each in iterate_object_tree(tree)}
        try:
            reply = inflate_object_from_contents(reply_id, contents)
        except Exception as error:  # whatever a node may send
            return _of_nobody(asked, _UNREADABLE, f"its answer is not readable ({type(error).__name__})")
        if not isinstance(reply, Message) or reply.has_content() == reply.has_error():
            return _of_nobody(asked, _UNREADABLE, "its answer is no message")
        if reply.has_error():  # its words go to a terminal
            said = str(reply.error.reason or "")[:_LONGEST_REASON]
            return _of_nobody(asked, _UNABLE, "".join(c if c.isprintable() else " " for c in said))
        reply.metadata.__dict__["_src_node_id"] = asked.metadata.dst_node_id  # whatever it says of itself
        return reply


def _of_nobody(asked: Message, code: int, why: str) -> Message:
    """An error in place of a node's reply."""
    return Message(Error(code, why), reply_to=asked)


def gone(reply: Message) -> bool:
    """Whether a reply stands for a node that is not connected."""
    return reply.has_error() and reply.error.code == ErrorCode.NODE_UNAVAILABLE


class Link(Grid):
    """Serves nodes while its context is open, and is the grid of the rounds.

    Replies come one by one, as they arrive, so that the server holds one update whatever the number of clients.

    Args:
        folder: with the certificate, of `server_certificate`.
        address: to listen on.
        port: to listen on; 0 for any that is free.
        admitted: public keys of the nodes that may join; None for all.

    Attributes:
        meanwhile: called again and again while replies are waited for.
        attached: more records of the messages to nodes, by node.
    """

    def __init__(self, folder: Path, address: str, port: int, admitted: Iterable[bytes] | None = None) -> None:
        self.state = LinkState()
        self.meanwhile: Callable[[], None] = lambda: None
        self.attached: Mapping[int, Mapping[str, ConfigRecord]] = {}
        TaskIdentity.run_id, TaskIdentity.task_id = self.state.run_id, self.state.task_id
        TaskIdentity.node_id = SUPERLINK_NODE_ID
        for key in admitted or ():
            self.state.create_node(NOOP_FLWR_AID, NOOP_ACCOUNT_NAME, key, 0)
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        both = address == "::" and socket.has_dualstack_ipv6()
        try:
            self._socket = socket.create_server((address, port), family=family, dualstack_ipv6=both)
        except OSError as error:
            raise DataError(
                f"cannot listen on {address}, port {port}: {error.strerror}; give another --port"
            ) from error
        config = uvicorn.Config(
            _api(self.state, admitted is not None),
            ssl_certfile=folder / CERTIFICATE,
            ssl_keyfile=str(folder / KEY),
            log_config=None,
            access_log=False,
            lifespan="off",
            ws="none",
            timeout_graceful_shutdown=2,
        )
        config.load()
        if config.ssl is not None:
            config.ssl.minimum_version = ssl.TLSVersion.TLSv1_3
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, args=([self._socket],), name="fleet", daemon=True)

    @property
    def port(self) -> int:
        """That is listened on."""
        number: int = self._socket.getsockname()[1]
        return number

    def __enter__(self) -> "Link":
        for name in ("flwr", "uvicorn", "uvicorn.error"):
            logging.getLogger(name).setLevel(logging.CRITICAL)  # of what clients do wrong, the server tells itself
        self._thread.start()
        while not self._server.started and self._thread.is_alive():
            time.sleep(_LOOK_EVERY)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.should_exit = True
        self._thread.join(10)
        self._socket.close()

    def key_of(self, node: int) -> bytes:
        """A node's public key, by which its client is known again."""
        return bytes(self.state.nodes[node].public_key)

    def arrived(self) -> list[int]:
        """The nodes that have connected since the last call, also those that come back."""
        with self.state.lock:
            nodes, self.state.arrived = list(dict.fromkeys(self.state.arrived)), []
        return nodes

    def get_node_ids(self) -> Iterable[int]:
        """Those that are connected."""
        return [node.node_id for node in self.state.get_node_info(statuses=[NodeStatus.ONLINE])]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterator[Message]:
        """The replies as they arrive; an error for a node that has gone, nothing for one that is late.

        While none has answered and all have gone, they are waited for: then it is the server that was cut off.

        Args:
            messages: to nodes.
            timeout: seconds until the rest is not waited for; it is not taken later either.
        """
        end = None if timeout is None else time.monotonic() + timeout
        messages = list(messages)
        nodes = {message.metadata.dst_node_id for message in messages}
        waiting = set(self.push_messages(messages))
        answered = False
        del messages
        try:
            while waiting:
                self.meanwhile()
                patient = not answered and nodes.isdisjoint(self.get_node_ids())
                for message_id in tuple(waiting):
                    reply = self.state.take(message_id, patient)
                    if reply is not None:
                        waiting.remove(message_id)
                        answered = answered or not gone(reply)
                        yield reply
                        del reply
                if end is not None and time.monotonic() > end:
                    return
                if waiting:
                    time.sleep(_LOOK_EVERY)
        finally:
            for message_id in waiting:
                self.state.drop(message_id)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Lay messages ready; returns their numbers, without those to nodes that are not known."""
        numbers = []
        for message in messages:
            node = message.metadata.dst_node_id
            message.content = RecordDict({**self.attached.get(node, {}), **message.content})
            number = self.state.send(message)
            if number is not None:
                numbers.append(number)
        return numbers

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """The replies that are there, of some messages."""
        replies = [self.state.take(message_id) for message_id in message_ids]
        return [reply for reply in replies if reply is not None]

    def set_run(self, run: Run) -> None:
        """There is one run."""

    @property
    def run(self) -> Run:
        """The one run of the link state."""
        return self.state.get_run_info(run_ids=[self.state.run_id])[0]

    def create_message(
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Message:
        """As `Message` itself makes it."""
        return Message(content, dst_node_id, message_type, group_id=group_id, ttl=ttl)


class _Factory:
    """Hands out the one link state, as Flower's routes ask for it."""

    def __init__(self, state: LinkState) -> None:
        self._state = state

    def state(self) -> LinkState:
        return self._state


def _api(state: LinkState, closed: bool) -> FastAPI:
    """Flower's Fleet API and nothing else; `closed` if nodes may not register themselves."""
    middleware = [
        Middleware(BaseHTTPMiddleware, dispatch=http_error_translator),
        Middleware(ProtobufTranslationMiddleware),
        Middleware(NodeAuthMiddleware),
    ]
    api = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, middleware=middleware)
    api.state.linkstate_factory = _Factory(state)
    api.state.enable_supernode_auth = closed
    api.include_router(fleet_router)
    return api
