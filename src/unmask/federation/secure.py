"""Secure aggregation: the server learns the sum of the clients' updates, and none of them. Lab only: flwr.

The protocol is that of Bonawitz et al., CCS 2017 (every client shares secrets with every other; what Flower calls
SecAgg), against a server that follows it but looks at all it gets. A round has four stages:

1. keys: every client makes two key pairs and sends the public keys;
2. shares: it draws the seed of its own mask, and sends every other one, encrypted, a share of that seed and of the
   secret key that its masks with the others come from (Shamir 1979): any `threshold` shares give them back;
3. masked: it trains, and sends its update as integers plus its own mask and one with every other client, which the
   other subtracts;
4. unmask: who is left sends the server shares of the seeds of those that are in the sum, and of the keys of those
   that left after stage 2, never both of one client.

Whoever drops out between two stages is left out; the round holds while two thirds of the clients and one more are left.
Sharing of secrets and the encryption of shares are Flower's. Its own workflow (`SecAggPlusWorkflow`) is not used: it
exists for strategies of the API before messages alone; it ends a round if somebody leaves before stage 3; and it draws
masks from a generator seeded with 32 bits, which can be tried out one by one.
"""

import base64
import json
import math
import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from cryptography.fernet import InvalidToken
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from flwr.app import ConfigRecord, Message, MetricRecord, RecordDict
from flwr.common.secure_aggregation.crypto.shamir import combine_shares, create_shares
from flwr.common.secure_aggregation.crypto.symmetric_encryption import decrypt, encrypt
from flwr.common.secure_aggregation.secaggplus_utils import share_keys_plaintext_concat, share_keys_plaintext_separate
from flwr.serverapp import Grid

from unmask.errors import DataError
from unmask.federation.aggregation import AGGREGATORS, ARRAYS, CONFIG, METRICS, TRAIN, record_of, state_in
from unmask.federation.client import PROTOCOL, Client
from unmask.federation.masking import Coding, mask
from unmask.federation.updates import State, check_update
from unmask.files import whole

if TYPE_CHECKING:
    from unmask.federation.rounds import RoundRecord

Answer = TypeVar("Answer")
SECURE = "secure"
"""Name of the record by which a message is one of this protocol."""
KEYS, SHARES, MASKED, UNMASK = "keys", "shares", "masked", "unmask"
_FEWEST = 3  # of two, each could subtract its own update from the sum
_SECRETS = "secrets.json"
_LENGTH = 32  # of keys and seeds, in bytes


def fewest_left(clients: int) -> int:
    """How many of a round's clients must be left at its end: two thirds and one more."""
    return 2 * clients // 3 + 1


def check_possible(aggregator: str, compression: str, normalisation: str, clients: int) -> None:
    """Refuse what cannot be done with a sum alone.

    Args:
        aggregator: of `AGGREGATORS`.
        compression: of the clients' updates.
        normalisation: where normalisations stay.
        clients: asked a round.

    Raises:
        DataError: a rule that must see every update, compressed updates, normalisations that every client shows in the
            end, or too few clients.
    """
    if not AGGREGATORS[aggregator].streaming:
        means = ", ".join(name for name, one in AGGREGATORS.items() if one.streaming)
        raise DataError(
            f"{aggregator} compares the clients' updates, and secure aggregation shows the server only their sum; "
            f"take one of {means}"
        )
    if compression != "none":
        raise DataError(
            f"compression {compression} with secure aggregation: masked updates are integers already, and look random; "
            "leave compression out"
        )
    if normalisation == "local":
        raise DataError(
            "with local normalisations clients show theirs after the last round, which secure aggregation is to keep "
            "from the server; take --normalisation group"
        )
    if clients < _FEWEST:
        raise DataError(
            f"secure aggregation over {clients} clients a round: with fewer than {_FEWEST} each knows the others' "
            "update from the sum"
        )


# --- a client's side


def take_part(client: Client, content: RecordDict) -> RecordDict:
    """A client's answer to a message of any stage.

    Args:
        client: its secrets lie in its folder from the first stage to the last, readable by nobody else.
        content: of the message.

    Raises:
        DataError: the message is not readable or out of turn, would reveal the client's update, or it cannot train.
    """
    with _readable(client.name):
        asked: dict[str, Any] = dict(content.config_records[SECURE])
        stage, number = asked["stage"], asked["number"]
        if asked["protocol"] != PROTOCOL:
            raise DataError(
                f"{client.name}: the server speaks version {asked['protocol']!r} of the protocol, this client "
                f"{PROTOCOL}; install the same version of unmask on both"
            )
        if stage == KEYS:
            return _make_keys(client, asked)
        secrets = _read(client.folder)
        expected = {KEYS: SHARES, SHARES: MASKED, MASKED: UNMASK}
        if secrets.get("number") != number or expected.get(secrets.get("stage", "")) != stage:
            raise DataError(f"{client.name}: the stage {stage!r} of round {number} is not its turn")
        if stage == SHARES:
            return _share(client, asked, secrets)
        if stage == UNMASK:
            return _reveal(client, asked, secrets)
        own = _take_shares(client.name, asked, secrets)
    return _train(client, asked, content, own)


@contextmanager
def _readable(name: str) -> Iterator[None]:
    """Turn what unreadable messages raise into one refusal."""
    try:
        yield
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError, InvalidToken) as error:
        raise DataError(
            f"{name}: a message of secure aggregation is not readable ({type(error).__name__}: {error})"
        ) from error


def _make_keys(client: Client, asked: Mapping[str, Any]) -> RecordDict:
    pairs = {name: X25519PrivateKey.generate() for name in ("cipher", "mask")}
    kept = {name: key.private_bytes_raw().hex() for name, key in pairs.items()}
    _write(client.folder, {"stage": KEYS, "number": asked["number"], **kept})
    return _record({name: key.public_key().public_bytes_raw() for name, key in pairs.items()})


def _share(client: Client, asked: Mapping[str, Any], secrets: dict[str, Any]) -> RecordDict:
    own, threshold, members = asked["own"], asked["threshold"], list(asked["members"])
    ciphers, masks = (dict(zip(members, asked[name], strict=True)) for name in ("ciphers", "masks"))
    keys = {name: X25519PrivateKey.from_private_bytes(bytes.fromhex(secrets[name])) for name in ("cipher", "mask")}
    if (ciphers[own], masks[own]) != tuple(key.public_key().public_bytes_raw() for key in keys.values()):
        raise DataError(f"{client.name}: the server shows others keys that are not its own")
    if len({*ciphers.values(), *masks.values()}) != 2 * len(members):
        raise DataError(f"{client.name}: two clients of the round have the same key")
    if not len(members) / 2 < threshold <= len(members) or threshold < _FEWEST:
        raise DataError(f"{client.name}: {threshold} of {len(members)} clients could unmask; it must be most of them")
    seed = os.urandom(_LENGTH)
    parts = list(
        zip(
            create_shares(seed, threshold, len(members)),
            create_shares(keys["mask"].private_bytes_raw(), threshold, len(members)),
            strict=True,
        )
    )
    sent = {
        member: encrypt(
            base64.urlsafe_b64encode(_agreed(keys["cipher"], ciphers[member], b"shares")),
            share_keys_plaintext_concat(own, member, *part),
        )
        for member, part in zip(members, parts, strict=True)
        if member != own
    }
    secrets |= {
        "stage": SHARES,
        "own": own,
        "threshold": threshold,
        "seed": seed.hex(),
        "ciphers": {str(member): key.hex() for member, key in ciphers.items()},
        "masks": {str(member): key.hex() for member, key in masks.items()},
        "shares": {str(own): [part.hex() for part in parts[members.index(own)]]},
    }
    _write(client.folder, secrets)
    return _record({"members": list(sent), "shares": list(sent.values())})


def _take_shares(name: str, asked: Mapping[str, Any], secrets: dict[str, Any]) -> dict[str, Any]:
    """The secrets with the others' shares; whose share came is in the sum or was before it dropped out."""
    key = X25519PrivateKey.from_private_bytes(bytes.fromhex(secrets["cipher"]))
    for sender, ciphertext in zip(asked["senders"], asked["shares"], strict=True):
        agreed = _agreed(key, bytes.fromhex(secrets["ciphers"][str(sender)]), b"shares")
        source, target, *parts = share_keys_plaintext_separate(decrypt(base64.urlsafe_b64encode(agreed), ciphertext))
        if (source, target) != (sender, secrets["own"]) or str(sender) in secrets["shares"]:
            raise DataError(f"{name}: shares of another client than the server says")
        secrets["shares"][str(sender)] = [part.hex() for part in parts]
    if len(secrets["shares"]) < secrets["threshold"]:
        raise DataError(f"{name}: {len(secrets['shares'])} clients are left, {secrets['threshold']} are needed")
    return secrets | {"stage": MASKED}


def _train(client: Client, asked: Mapping[str, Any], content: RecordDict, secrets: dict[str, Any]) -> RecordDict:
    """Train; the update masked. It is checked here, for the server cannot."""
    with _readable(client.name):
        arrays = state_in(content.array_records[ARRAYS])
        names = list(asked["names"])
        ranges = dict(zip(names, asked["ranges"], strict=True))
        coding = Coding(ranges, asked["levels"], asked["bits"], asked["most"], asked["total"])
        reference = {name: arrays[name] for name in names}
        round_config = dict(content.config_records[CONFIG])
    update, count, metrics = client.fit(arrays, round_config)
    check_update(update, reference, client.name)
    if count > coding.most:
        raise DataError(f"{client.name}: trained on {count:,} pictures; the round was planned for {coding.most:,}")
    # Drawn from round and name, so that a repeated round gives the same sum.
    masked = coding.encode(update, count, np.random.default_rng([asked["number"], *client.name.encode()]))
    masked += mask(bytes.fromhex(secrets["seed"]), len(masked), coding)
    key = X25519PrivateKey.from_private_bytes(bytes.fromhex(secrets["mask"]))
    for member in secrets["shares"]:
        if int(member) != secrets["own"]:
            shared = mask(_agreed(key, bytes.fromhex(secrets["masks"][member]), b"mask"), len(masked), coding)
            if secrets["own"] < int(member):
                masked += shared
            else:
                masked -= shared
    _write(client.folder, secrets)
    numbers = MetricRecord({**metrics, "beyond": coding.beyond(update)} if metrics else {})
    return RecordDict({ARRAYS: record_of({MASKED: masked}), METRICS: numbers})


def _reveal(client: Client, asked: Mapping[str, Any], secrets: dict[str, Any]) -> RecordDict:
    """Shares of the seeds of who is in the sum, and of the keys of who is not; once, and never both."""
    active, dropped = set(asked["active"]), set(asked["dropped"])
    known = {int(member) for member in secrets["shares"]}
    if active & dropped or active | dropped != known or len(active) < secrets["threshold"]:
        raise DataError(f"{client.name}: what the server wants unmasked would show a single client's update")
    (client.folder / _SECRETS).unlink()
    members = sorted(known)
    shares = [bytes.fromhex(secrets["shares"][str(member)][int(member in dropped)]) for member in members]
    return _record({"members": members, "shares": shares})


def _agreed(own: X25519PrivateKey, other: bytes, purpose: bytes) -> bytes:
    """A key of 32 bytes that two clients share (Diffie & Hellman 1976, over Curve25519)."""
    secret = own.exchange(X25519PublicKey.from_public_bytes(other))
    return HKDF(algorithm=hashes.SHA256(), length=_LENGTH, salt=None, info=purpose).derive(secret)


def _record(values: Mapping[str, Any]) -> RecordDict:
    return RecordDict({SECURE: ConfigRecord(dict(values))})


def _read(folder: Path) -> dict[str, Any]:
    path = folder / _SECRETS
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _write(folder: Path, secrets: Mapping[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with whole(folder / _SECRETS) as part:
        part.chmod(0o600)
        part.write_text(json.dumps(secrets), encoding="utf-8")


# --- the server's side


class SecureRound:
    """One round of the protocol over a grid.

    Args:
        grid: of the clients.
        nodes: node numbers of the clients that are asked, by name.
        record: of the round: filled in.
        timeout: seconds that every stage waits for replies.
        fewest: clients that must be left at the end, if more than `fewest_left`.
    """

    def __init__(
        self, grid: Grid, nodes: Mapping[str, int], record: "RoundRecord", timeout: float | None, fewest: int
    ) -> None:
        self._grid, self._nodes, self._record, self._timeout = grid, nodes, record, timeout
        self._numbers = {name: number for number, name in enumerate(sorted(nodes), start=1)}
        self._threshold = max(fewest, fewest_left(len(nodes)))
        self._failures: dict[str, str] = {}

    def sum(
        self,
        content: RecordDict,
        coding: Coding,
        shapes: Mapping[str, tuple[int, ...]],
        arrived: Callable[[str], None] = lambda name: None,
    ) -> tuple[State, int]:
        """Take the sum.

        Args:
            content: the global weights and what is asked, as without secure aggregation.
            coding: of the updates.
            shapes: of the arrays that are averaged, by name.
            arrived: called with the name of every client whose masked update has come.

        Returns:
            The weighted mean of the updates, and the sum of the weights; the mean is of no meaning if that is 0.

        Raises:
            DataError: too few clients are left, or the sum is none of allowed updates.
        """
        keys = self._keys()
        boxes = self._shares(keys)
        length = 1 + sum(math.prod(shapes[name]) for name in coding.ranges)
        total = np.zeros(length, coding.number)
        coded = {
            "names": list(coding.ranges),
            "ranges": list(coding.ranges.values()),
            "levels": coding.levels,
            "bits": coding.bits,
            "most": coding.most,
            "total": coding.total,
        }
        asked = {
            name: RecordDict(
                {**content, SECURE: self._config(MASKED, **coded, senders=list(box), shares=list(box.values()))}
            )
            for name, box in boxes.items()
        }

        def read(name: str, reply: RecordDict) -> tuple[np.ndarray, dict[str, float]]:
            masked = state_in(reply.array_records[ARRAYS])[MASKED]
            if masked.shape != total.shape or masked.dtype != total.dtype:
                raise DataError(f"{name}: its masked update is of another length; it trains another network")
            metrics = reply.metric_records[METRICS].items()
            return masked, {key: float(value) for key, value in metrics if isinstance(value, int | float)}

        active = []
        for name, (masked, metrics) in self._ask(MASKED, asked, read):
            total += masked
            active.append(name)
            self._record.clients[name] = metrics
            arrived(name)
        self._enough(active, MASKED)
        self._unmask(total, coding, keys, active, [name for name in boxes if name not in active])
        return coding.decode(total, shapes)

    def _keys(self) -> dict[str, tuple[bytes, bytes]]:
        """Stage 1: the public keys of who answers, for shares and for masks."""

        def read(name: str, reply: RecordDict) -> tuple[bytes, bytes]:
            pair = reply.config_records[SECURE]["cipher"], reply.config_records[SECURE]["mask"]
            for key in pair:
                X25519PublicKey.from_public_bytes(key)  # type: ignore[arg-type]
            return pair  # type: ignore[return-value]

        asked = {name: RecordDict({SECURE: self._config(KEYS)}) for name in self._numbers}
        keys = dict(self._ask(KEYS, asked, read))
        self._enough(keys, KEYS)
        return keys

    def _shares(self, keys: Mapping[str, tuple[bytes, bytes]]) -> dict[str, dict[int, bytes]]:
        """Stage 2: of everybody who answers, the encrypted shares that it gets, by sender."""
        common = {
            "threshold": self._threshold,
            "members": [self._numbers[name] for name in keys],
            "ciphers": [pair[0] for pair in keys.values()],
            "masks": [pair[1] for pair in keys.values()],
        }
        asked = {name: RecordDict({SECURE: self._config(SHARES, own=self._numbers[name], **common)}) for name in keys}
        sent = dict(self._ask(SHARES, asked, lambda name, reply: self._shares_in(reply, set(keys) - {name})))
        self._enough(sent, SHARES)
        return {
            name: {self._numbers[other]: sent[other][self._numbers[name]] for other in sent if other != name}
            for name in sent
        }

    def _unmask(
        self,
        total: np.ndarray,
        coding: Coding,
        keys: Mapping[str, tuple[bytes, bytes]],
        active: Sequence[str],
        dropped: Sequence[str],
    ) -> None:
        """Stage 4: take the masks out of the sum, which is changed."""
        numbers = [[self._numbers[name] for name in names] for names in (active, dropped)]
        request = self._config(UNMASK, active=numbers[0], dropped=numbers[1])
        asked = {name: RecordDict({SECURE: request}) for name in active}
        answers = dict(self._ask(UNMASK, asked, lambda name, reply: self._shares_in(reply, {*active, *dropped})))
        self._enough(answers, UNMASK)
        chosen = list(answers.values())[: self._threshold]
        secrets = {}
        for name in (*active, *dropped):
            try:
                secrets[name] = combine_shares([shares[self._numbers[name]] for shares in chosen])
            except ValueError:
                secrets[name] = b""
            if len(secrets[name]) != _LENGTH:
                raise DataError(f"round {self._record.number}: a client sent a wrong share of {name}'s secret")
        for name in active:
            total -= mask(secrets[name], len(total), coding)
        for name in dropped:
            key = X25519PrivateKey.from_private_bytes(secrets[name])
            for other in active:
                shared = mask(_agreed(key, keys[other][1], b"mask"), len(total), coding)
                if self._numbers[other] < self._numbers[name]:
                    total -= shared
                else:
                    total += shared

    def _shares_in(self, reply: RecordDict, owners: Collection[str]) -> dict[int, bytes]:
        """Shares by the number of their owner, or of whom they are for."""
        own: dict[str, Any] = dict(reply.config_records[SECURE])
        shares: dict[int, bytes] = dict(zip(own["members"], own["shares"], strict=True))
        if shares.keys() != {self._numbers[name] for name in owners}:
            raise ValueError("not the shares that were asked for")
        return shares

    def _config(self, stage: str, **values: Any) -> ConfigRecord:
        return ConfigRecord({"stage": stage, "number": self._record.number, "protocol": PROTOCOL, **values})

    def _ask(
        self, stage: str, contents: Mapping[str, RecordDict], read: Callable[[str, RecordDict], Answer]
    ) -> Iterator[tuple[str, Answer]]:
        """The readable answers of a stage, one of every client; of the others is kept why there is none."""
        names = {self._nodes[name]: name for name in contents}
        messages = [
            Message(content, self._nodes[name], TRAIN, group_id=str(self._record.number))
            for name, content in contents.items()
        ]
        self._record.bytes_sent += sum(_size(content) for content in contents.values())
        waiting = set(contents)
        for reply in self._grid.send_and_receive(messages, timeout=self._timeout):
            name = names.get(reply.metadata.src_node_id, "")
            if name not in waiting:
                continue  # of nobody that was asked, or a second answer of the same
            waiting.remove(name)
            if reply.has_error():
                self._fail(name, reply.error.reason or "it failed")
                continue
            try:
                self._record.bytes_received += _size(reply.content)
                answer = read(name, reply.content)
            except DataError as error:
                self._fail(name, str(error))
            except (KeyError, ValueError, TypeError) as error:
                self._fail(name, f"its answer is not readable ({type(error).__name__})")
            else:
                yield name, answer
        for name in sorted(waiting):
            self._fail(name, f"no answer at the stage {stage!r}")

    def _fail(self, name: str, why: str) -> None:
        """Keep why a client has left; one whose update is in the sum still counts."""
        self._failures[name] = f"{name}: {why.removeprefix(f'{name}: ')}"
        if name not in self._record.clients:
            self._record.refused[name] = self._failures[name]

    def _enough(self, left: Collection[str], stage: str) -> None:
        if len(left) < self._threshold:
            why = "; ".join(self._failures.values())
            raise DataError(
                f"round {self._record.number}: {len(left)} of {len(self._nodes)} clients are left after the stage "
                f"{stage!r}, secure aggregation needs {self._threshold} ({why}); mend that and run the same command "
                "again, which goes on from here"
            )


def _size(content: RecordDict) -> int:
    """Bytes of a message's arrays, keys and shares."""
    total = 0
    for arrays in content.array_records.values():
        total += sum(np.dtype(array.dtype).itemsize * math.prod(array.shape) for array in arrays.values())
    for record in content.config_records.values():
        for value in record.values():
            total += sum(len(one) for one in (value if isinstance(value, list) else [value]) if isinstance(one, bytes))
    return total
