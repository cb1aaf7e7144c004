"""A client's end of the network: Flower's Fleet API, without what would run code. Lab only: flwr.

Flower's own SuperNode fetches the app of every run it is asked to take part in, which is code, and starts a process
that installs and runs it. Here messages are answered by a function of this process; the app is never asked for.
"""

import itertools
import logging
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import httpx
from cryptography.hazmat.primitives.asymmetric import ec
from flwr.app import Message
from flwr.app.message import remove_content_from_message
from flwr.common.serde import message_to_proto
from flwr.proto.fleet_pb2 import (
    ActivateNodeRequest,
    DeactivateNodeRequest,
    PullMessagesRequest,
    PushMessagesRequest,
    RegisterNodeFleetRequest,
)
from flwr.proto.heartbeat_pb2 import SendNodeHeartbeatRequest
from flwr.proto.message_pb2 import ObjectTree
from flwr.proto.node_pb2 import Node
from flwr.supercore.error import ApiErrorCode, FlowerError
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, get_object_tree, no_object_id_recompute
from flwr.supercore.inflatable.inflatable_protobuf_utils import (
    make_pull_object_fn_protobuf,
    make_push_object_fn_protobuf,
)
from flwr.supercore.inflatable.inflatable_utils import (
    ObjectPullError,
    ObjectPushError,
    pull_and_inflate_object_from_tree,
    push_objects,
)
from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor
from flwr.supercore.protobuf.client import ProtobufClientInterceptor
from flwr.supernode.fleet_http_client import FleetHttpClient
from flwr.supernode.node_auth_http_interceptor import NodeAuthHttpInterceptor

from unmask.errors import DataError
from unmask.federation.certificates import public_bytes
from unmask.progress import SILENT, Progress

HEARTBEAT = 60.0
"""Seconds within which the server hears of a node; twice as long without a word, and it counts as gone."""
_BEATS, _LOOK_EVERY, _LONGEST_WAIT = 3, 0.3, 5.0
_UNAUTHORISED, _SERVER_ERROR = 401, 500
_REFUSALS = 3  # of a signature by a server that has just accepted the key: it is not that it was started anew


def trusting(certificate: Path) -> ssl.SSLContext:
    """Connections to the server of a certificate, and to no other.

    Raises:
        DataError: it is no certificate.
    """
    try:
        context = ssl.create_default_context(cafile=str(certificate))
    except (OSError, ssl.SSLError) as error:
        raise DataError(f"--certificate {certificate}: no certificate; give the ca.pem of the server") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    return context


class _Again(Exception):
    """The server does not know this node any more; connect again."""


def answer_messages(
    address: str,
    certificate: Path,
    trusted: ssl.SSLContext,
    key: ec.EllipticCurvePrivateKey,
    answer: Callable[[Message], Message],
    over: Callable[[], bool],
    progress: Progress = SILENT,
) -> None:
    """Answer a server's messages until the last; connects again whenever the connection is lost.

    Args:
        address: HOST:PORT of the server.
        certificate: the server's `ca.pem`, for messages.
        trusted: what it says, of `trusting`.
        key: by which the server knows this node.
        answer: makes the reply to a message.
        over: whether the last message has been answered.
        progress: told when the server is waited for.

    Raises:
        DataError: the certificate is not the server's, the server does not admit this key, or it sends what cannot be
            read.
    """
    logging.getLogger("httpx").setLevel(logging.WARNING)
    interceptors: list[ProtobufClientInterceptor] = [
        RuntimeVersionHttpInterceptor(component_name="SuperNode"),
        NodeAuthHttpInterceptor(key, key.public_key()),
    ]
    waits, refused, said = itertools.count(1), 0, False
    with FleetHttpClient(f"https://{address}", interceptors=interceptors, verify=trusted) as client:
        visit = _Visit(client, public_bytes(key.public_key()), answer)
        while not over():
            try:
                visit.connect()
                if said:
                    progress.note(f"connected to {address}")
                waits, said = itertools.count(1), False
                with visit:
                    while not over():
                        refused = 0 if visit.once() else refused
                        if not over():
                            time.sleep(_LOOK_EVERY)
            except (httpx.TransportError, _Again) as error:
                _check_certificate(error, address, certificate)
                refused += isinstance(error, _Again)
                if refused > _REFUSALS:
                    raise DataError(
                        f"{address} does not accept this client's signature; see that both machines' clocks are right"
                    ) from error
                if not said and not isinstance(error, _Again):
                    said = True
                    progress.note(f"no server at {address}; trying again until there is one, Ctrl-C ends it")
                time.sleep(min(_LONGEST_WAIT, 0.5 * next(waits)))


def _check_certificate(error: BaseException, address: str, certificate: Path) -> None:
    """Raise what no second try would mend."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            raise DataError(
                f"{address} is not the server of {certificate} ({cause.verify_message}); get the server's ca.pem "
                "anew, and see that it has --host with this name"
            ) from error
        cause = cause.__cause__ or cause.__context__


class _Visit:
    """A connection to a server, from one restart of either to the next; a context while it is known there."""

    def __init__(self, client: FleetHttpClient, key: bytes, answer: Callable[[Message], Message]) -> None:
        self._client, self._key, self._answer = client, key, answer
        self._node = Node()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._last: tuple[str, Message] | None = None  # asked again after a lost connection, it is sent again

    def connect(self) -> None:
        """Register, if that was not done, and say that this node is there."""
        for call, known in (
            (lambda: self._client.RegisterNode(RegisterNodeFleetRequest(public_key=self._key)), _KNOWN),
            (self._activate, ()),
        ):
            try:
                call()
            except httpx.HTTPStatusError as error:
                if _code(error) not in known:
                    _raise_other(error)

    def _activate(self) -> None:
        request = ActivateNodeRequest(public_key=self._key, heartbeat_interval=HEARTBEAT)
        try:
            self._node = Node(node_id=self._client.ActivateNode(request).node_id)
        except httpx.HTTPStatusError as error:
            if _code(error) == ApiErrorCode.FLEET_NODE_ACTIVATION_FAILED:
                raise DataError(
                    "the server does not admit this client; send it client.pub of this client's folder, which is to be "
                    "put into the server's --admit folder as NAME.pub"
                ) from error
            raise

    def __enter__(self) -> None:
        self._stop.clear()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
        self._thread.start()

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        with suppress(httpx.HTTPError, ValueError):  # the server has gone, and will notice that this node has
            self._client.DeactivateNode(DeactivateNodeRequest(node_id=self._node.node_id))

    def _beat(self) -> None:
        while not self._stop.wait(HEARTBEAT / _BEATS):
            try:
                self._client.SendNodeHeartbeat(SendNodeHeartbeatRequest(node=self._node, heartbeat_interval=HEARTBEAT))
            except (httpx.HTTPError, ValueError):
                continue  # what there is to do about it, the next message does

    def once(self) -> bool:
        """Fetch a message, if there is one, and answer it; whether there was one."""
        try:
            pulled = self._client.PullMessages(PullMessagesRequest(node=self._node))
            if not pulled.messages_list:
                return False
            message = self._inflated(pulled.messages_list[0].metadata.run_id, pulled.message_object_trees[0])
            number = message.metadata.message_id
            if self._last is None or self._last[0] != number:
                self._last = number, self._answer(message)
            self._send(self._last[1])
        except httpx.HTTPStatusError as error:
            _raise_other(error)
        except (ObjectPullError, ObjectPushError):
            return True  # the round went on without this node meanwhile
        return True

    def _inflated(self, run: int, tree: ObjectTree) -> Message:
        pull = make_pull_object_fn_protobuf(self._client.PullObject, self._node, run)
        try:
            # The server forgets a message with its reply, not before: a node that is killed gets it again.
            message = pull_and_inflate_object_from_tree(tree, pull, lambda number: None, return_type=Message)
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise DataError(f"the server sent what is not readable ({type(error).__name__})") from error
        message.metadata.__dict__["_message_id"] = tree.object_id
        return message

    def _send(self, reply: Message) -> None:
        reply.metadata.__dict__["_message_id"] = reply.object_id
        with no_object_id_recompute():
            request = PushMessagesRequest(
                node=self._node,
                messages_list=[message_to_proto(remove_content_from_message(reply))],
                message_object_trees=[get_object_tree(reply)],
            )
            answered = self._client.PushMessages(request)
            push = make_push_object_fn_protobuf(
                self._client.PushObject, self._node, reply.metadata.run_id, answered.session_id
            )
            push_objects(get_all_nested_objects(reply), push, object_ids_to_push=set(answered.objects_to_push))


_KNOWN = (ApiErrorCode.PUBLIC_KEY_ALREADY_IN_USE, ApiErrorCode.FLEET_SUPERNODE_REGISTRATION_DISABLED)


def _code(error: httpx.HTTPStatusError) -> int | None:
    read = FlowerError.from_json(error.response.text)
    return None if read is None else read.code


def _raise_other(error: httpx.HTTPStatusError) -> None:
    status = error.response.status_code
    if status == _UNAUTHORISED or status >= _SERVER_ERROR:
        raise _Again from error
    raise DataError(
        f"the server answers {status}, which is no answer of a federation's server; see its address"
    ) from error
