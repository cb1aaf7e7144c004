"""What server and clients of a deployment say to each other beside weights: plain JSON, typed, checked on arrival.

Nothing that arrives is code, names code, or leads out of the machine: methods are those installed, and the strings
among their options are plain words.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TypeVar

from flwr.app import ConfigRecord, Message, RecordDict
from pydantic import TypeAdapter, ValidationError

from unmask import __version__
from unmask.errors import DataError
from unmask.federation.client import PROTOCOL
from unmask.federation.privacy import Privacy
from unmask.federation.rounds import FederationConfig
from unmask.lab.detection.config import DetectionTrainConfig
from unmask.lab.methods import METHODS, TABLE

JOIN, PREPARE, LOCAL, AFTER, END, REFUSE = (
    f"query.{name}" for name in ("join", "prepare", "local", "after", "end", "refuse")
)
"""Kinds of messages beside "train": who are you; prepare; send what stayed with you of the last round; fit what is
fitted on the frozen network; here is the result; you are not taken."""
SETTING = "setting"
"""Name of the record with the JSON."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_LONGEST = 1_000_000  # characters of a message's JSON


@dataclass(frozen=True, kw_only=True)
class Hello:
    """The server's first words: its version, and whether what clients hold is private."""

    private: bool
    protocol: int = PROTOCOL
    version: str = __version__


@dataclass(frozen=True, kw_only=True)
class Joining:
    """What a client says of itself when it joins.

    Attributes:
        name: what server and tables call it.
        pictures: that it trains on; 1 where that is private.
        families: that it holds or makes, with their weights.
        kinds: of its forgeries.
        sources: of its reals.
        data_sha256: of its rows.
    """

    name: str
    pictures: int
    families: dict[str, float]
    kinds: tuple[str, ...]
    sources: tuple[str, ...]
    data_sha256: str
    protocol: int = PROTOCOL
    version: str = __version__

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise DataError(
                f"a client's name has letters, digits, dots, dashes and underscores, not {self.name[:80]!r}"
            )
        if self.pictures < 0 or not self.families or not all(0 < share <= 1 for share in self.families.values()):
            raise DataError(f"{self.name}: says of its data what cannot be")
        for word in (*self.families, *self.kinds, *self.sources):
            if not word or len(word) > 80 or not word.isprintable():
                raise DataError(f"{self.name}: {word[:80]!r} is no name of a family, kind or source")


@dataclass(frozen=True, kw_only=True)
class Setting:
    """All that a client needs to train: it comes with every message, so that one that was started anew has it too.

    Attributes:
        number: of the client, from 0, by the alphabet of names.
        clients: how many there are.
        config: of the run, the same for all.
        federation: see there.
        privacy: what is promised; None before that is known, or if nothing is.
    """

    number: int
    clients: int
    config: DetectionTrainConfig
    federation: FederationConfig
    privacy: Privacy | None = None
    protocol: int = PROTOCOL
    version: str = __version__

    def __post_init__(self) -> None:
        if not 0 <= self.number < self.clients:
            raise DataError(f"the server calls this client number {self.number} of {self.clients}")
        method = self.config.method
        if method not in METHODS and method not in TABLE.installed:
            raise DataError(f"the server asks for the method {method[:80]!r}, which is not installed here")
        for name, value in self.config.options.items():
            if isinstance(value, str) and not _NAME.fullmatch(value):
                raise DataError(f"the server asks for {name}={value[:80]!r}; options of a federation are plain words")


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A client's answer when it is ready: how many training pairs it has."""

    pairs: int


@dataclass(frozen=True, kw_only=True)
class Reason:
    """Why a client is not taken."""

    why: str


Words = TypeVar("Words", Hello, Joining, Setting, Prepared, Reason)


def record(words: Hello | Joining | Setting | Prepared | Reason) -> ConfigRecord:
    """Words as they travel."""
    return ConfigRecord({SETTING: json.dumps(asdict(words))})


def content(words: Hello | Joining | Setting | Prepared | Reason) -> RecordDict:
    """A message's content that is words alone."""
    return RecordDict({SETTING: record(words)})


def words_of(message: Message, kind: type[Words], sender: str) -> Words:
    """The words of a message.

    Args:
        message: as it came.
        kind: what they must be.
        sender: who sent it, for the refusal.

    Raises:
        DataError: they are of another version of the protocol, or not of the kind.
    """
    try:
        text = message.content.config_records[SETTING][SETTING]
        raw = json.loads(text) if isinstance(text, str) and len(text) <= _LONGEST else None
    except (KeyError, ValueError, RecursionError) as error:
        raise DataError(f"{sender} sent what is not readable; it is of another version") from error
    if not isinstance(raw, Mapping):
        raise DataError(f"{sender} sent what is not readable; it is of another version")
    if raw.get("protocol", PROTOCOL) != PROTOCOL:
        raise DataError(
            f"{sender} speaks version {str(raw['protocol'])[:20]} of the protocol (unmask "
            f"{str(raw.get('version'))[:40]}), here it is {PROTOCOL} (unmask {__version__}); install the same version "
            "of unmask on both"
        )
    try:
        words: Words = TypeAdapter(kind).validate_python(raw)
    except ValidationError as error:
        where = ".".join(str(part) for part in error.errors()[0]["loc"])
        raise DataError(f"{sender} sent no valid {kind.__name__} ({where}); it is of another version") from error
    if json.loads(json.dumps(asdict(words))) != raw:  # a field that is not known here, or of another type
        raise DataError(f"{sender} sent a {kind.__name__} with other fields than here; it is of another version")
    return words
