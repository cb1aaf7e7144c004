"""A client's answers to a server: one organisation's side of a deployment. Lab only: flwr."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from flwr.app import ConfigRecord, Error, Message, MetricRecord, RecordDict

from unmask.errors import DataError
from unmask.federation.aggregation import ARRAYS, METRICS, record_of
from unmask.federation.client import Client
from unmask.federation.local import FAILED, answer, weights_of
from unmask.federation.messages import (
    AFTER,
    END,
    JOIN,
    LOCAL,
    PREPARE,
    REFUSE,
    Hello,
    Joining,
    Prepared,
    Reason,
    Setting,
    content,
    words_of,
)
from unmask.federation.privacy import Privacy
from unmask.federation.rounds import TRAIN
from unmask.federation.updates import State
from unmask.progress import SILENT, Progress

AUC = "auc_own"
"""The metric of the answer to a run's end."""
_SERVER = "the server"


@dataclass(frozen=True)
class Ready:
    """A client that has prepared for a setting.

    Attributes:
        pairs: that it has to train on.
        client: trains, given what is promised.
        local: what stayed with it of the last round.
        after: what is fitted on the frozen network, given all its weights.
        end: takes the run's weights; returns the AUC on its own validation faces, None to keep that to itself.
    """

    pairs: int
    client: Callable[[Privacy | None], Client]
    local: Callable[[], State]
    after: Callable[[State], State]
    end: Callable[[State], float | None]


class Participant:
    """Answers a server's messages.

    Args:
        joining: what the client says of itself.
        prepare: makes it ready for a setting, without regard to its privacy.
        progress: of the stage "training", in rounds.

    Attributes:
        over: whether the run's result has come.
        failed: why the client cannot take part; raised by who runs it, once the server has been told.
    """

    def __init__(self, joining: Joining, prepare: Callable[[Setting], Ready], progress: Progress = SILENT) -> None:
        self.joining, self._prepare, self._progress = joining, prepare, progress
        self.over = False
        self.failed: DataError | None = None
        self._setting: Setting | None = None
        self._ready: Ready | None = None

    def answer(self, message: Message) -> Message:
        """The reply to a message; an error by name if there is none."""
        kind = message.metadata.message_type
        known = {JOIN: self._join, PREPARE: self._get_ready, TRAIN: self._train}
        known |= {LOCAL: self._local, AFTER: self._after, END: self._end, REFUSE: self._refused}
        try:
            if kind not in known:
                raise DataError(f"the server sent a message of a kind that is not known here, {kind[:40]!r}")
            return known[kind](message)
        except DataError as error:
            if kind != TRAIN:  # a round may fail, and the next not
                self.failed = error
            return Message(Error(FAILED, str(error)), reply_to=message)

    def _join(self, message: Message) -> Message:
        hello = words_of(message, Hello, _SERVER)
        own = replace(self.joining, pictures=min(1, self.joining.pictures)) if hello.private else self.joining
        return Message(content(own), reply_to=message)

    def _get_ready(self, message: Message) -> Message:
        return Message(content(Prepared(pairs=self._for(message)[1].pairs)), reply_to=message)

    def _train(self, message: Message) -> Message:
        setting, ready = self._for(message)
        reply = answer(ready.client(setting.privacy), message)
        number = int(message.metadata.group_id or 0)
        self._progress.update("training", number, setting.federation.rounds, "rounds")
        return reply

    def _local(self, message: Message) -> Message:
        return _reply(message, self._for(message)[1].local())

    def _after(self, message: Message) -> Message:
        setting, ready = self._for(message)
        if setting.privacy is not None:
            raise DataError("the server asks for what would tell of the pictures without noise")
        return _reply(message, ready.after(weights_of(message)))

    def _end(self, message: Message) -> Message:
        setting, ready = self._for(message)
        auc = ready.end(weights_of(message))
        self.over = True
        metrics = {} if auc is None or setting.privacy is not None else {AUC: auc}
        return Message(RecordDict({METRICS: MetricRecord(dict(metrics))}), reply_to=message)

    def _refused(self, message: Message) -> Message:
        self.failed = DataError(f"the server does not take this client: {words_of(message, Reason, _SERVER).why[:500]}")
        return Message(RecordDict({"seen": ConfigRecord()}), reply_to=message)

    def _for(self, message: Message) -> tuple[Setting, Ready]:
        """The setting of a message, and the client prepared for it."""
        setting = words_of(message, Setting, _SERVER)
        bare = replace(setting, privacy=None)
        if self._ready is None or bare != self._setting:
            self._ready, self._setting = self._prepare(setting), bare
        return setting, self._ready


def _reply(message: Message, state: State) -> Message:
    return Message(RecordDict({ARRAYS: record_of(state)}), reply_to=message)
