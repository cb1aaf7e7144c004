"""The server's side: rounds of asking clients and averaging, kept so that a kill costs one round. Lab only: flwr."""

import json
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy
from safetensors.numpy import load_file, save_file

from unmask.errors import DataError
from unmask.federation.aggregation import (
    ARRAYS,
    CONFIG,
    METRICS,
    TRAIN,
    WEIGHT,
    StreamingMean,
    aggregate,
    aggregator,
    in_place_of,
    momentum_of,
    record_of,
    resume,
    state_in,
)
from unmask.federation.client import RoundConfig
from unmask.federation.compression import Compression, restore
from unmask.federation.diagnostics import RoundUpdates
from unmask.federation.masking import coding_for, ranges_for
from unmask.federation.privacy import Mechanism, Privacy, clipped
from unmask.federation.secure import SecureRound, check_possible
from unmask.federation.updates import USES, State, UpdateError, averaged, check_count, check_update
from unmask.files import whole
from unmask.progress import SILENT, Progress


@dataclass(frozen=True, kw_only=True)
class FederationConfig:
    """What decides how clients are asked and their updates taken together; saved with the run.

    Attributes:
        rounds: in all.
        local_steps: the optimiser's, of a client in a round.
        aggregator: of `AGGREGATORS`.
        bad: clients a round that robust aggregators are to withstand.
        proximal: FedProx's weight; 0 for the other aggregators.
        normalisation: "shared" averages normalisations as everything else, "local" leaves them with the clients
            (FedBN; Li et al., ICLR 2021), "group" puts group normalisations in place of batch normalisations.
        compression: of the clients' updates.
        per_round: clients asked a round, drawn anew each; all if 0.
        fewest: updates that a round must have to count.
        secure_aggregation: whether the server learns the sum of the updates alone (see `secure`); a round then needs
            two thirds of its clients and one more, and drift and cosines are not known.
        seed: of who is asked.
    """

    rounds: int = 20
    local_steps: int = 20
    aggregator: str = "fedavg"
    bad: int = 0
    proximal: float = 0.0
    normalisation: str = "shared"
    compression: Compression = "none"
    per_round: int = 0
    fewest: int = 1
    secure_aggregation: bool = False
    seed: int = 0


@dataclass
class RoundRecord:
    """A round: who took part, who was refused and why, bytes and seconds; epsilon up to here, if it is private."""

    number: int
    clients: dict[str, dict[str, float]] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    bytes_sent: int = 0
    bytes_received: int = 0
    seconds: float = 0.0
    drift: dict[str, float] = field(default_factory=dict)
    cosines: dict[str, float] = field(default_factory=dict)
    epsilon: float | None = None


def check_settings(config: FederationConfig, clients: int, mechanism: Mechanism | None) -> Strategy:
    """The strategy of a federation, if it can be had as it is asked for.

    Args:
        config: of the federation.
        clients: in all.
        mechanism: of its privacy, if any.

    Raises:
        DataError: more clients a round than there are, an aggregator that cannot hold with so many or under secure
            aggregation or central noise, or distributed noise without secure aggregation.
    """
    asked = config.per_round or clients
    if not 1 <= asked <= clients:
        raise DataError(f"{asked} clients a round of {clients}; ask no more than there are")
    strategy = aggregator(config.aggregator, asked, config.bad)
    if config.secure_aggregation:
        check_possible(config.aggregator, config.compression, config.normalisation, asked)
    elif mechanism == "distributed":
        raise DataError("distributed noise protects no single update; take it with secure aggregation")
    if mechanism == "central" and not isinstance(strategy, StreamingMean):
        raise DataError(f"central noise is measured for a mean, which {config.aggregator} is not; take fedavg")
    return strategy


class Rounds:
    """Trains a global state over the clients of a grid.

    Args:
        folder: where state and records are kept; rounds that are recorded there are not repeated.
        config: of the federation.
        start: the global weights before the first round, parameters and buffers.
        buffers: names of what no gradient moves.
        local: names of what stays with the clients.
        counts: what each client said it has, by name, when it joined; a later count above it is refused.
        privacy: what is promised; of the mechanism "central" clipping and noise happen here. With any, buffers stay as
            they are: noise on running statistics breaks a network first.
        counted: names of arrays whose rows are weighted by their uses (see `Trainable.uses`) instead of by pictures.
            Only means do that, and only where uses may be seen: neither with privacy nor under secure aggregation.

    Raises:
        DataError: as of `check_settings`.
    """

    def __init__(
        self,
        folder: Path,
        config: FederationConfig,
        start: State,
        buffers: frozenset[str],
        local: frozenset[str],
        counts: Mapping[str, int],
        privacy: Privacy | None = None,
        counted: Collection[str] = (),
    ) -> None:
        self.folder, self.config, self._counts, self._privacy = folder, config, dict(counts), privacy
        self._asked = config.per_round or len(counts)
        self._strategy = check_settings(config, len(counts), None if privacy is None else privacy.mechanism)
        if privacy is not None and privacy.mechanism == "central" and isinstance(self._strategy, StreamingMean):
            self._strategy.deviation = privacy.clip * privacy.noise
        if hasattr(self._strategy, "buffers"):
            self._strategy.buffers = buffers
        self.state, self._buffers = start, buffers
        self.records: list[RoundRecord] = []
        kept = local if privacy is None else local | buffers
        self._zeros = {name: np.zeros_like(array) for name, array in averaged(start, kept).items()}
        seen = privacy is None and not config.secure_aggregation and isinstance(self._strategy, StreamingMean)
        self._uses = {USES + name: np.zeros(len(start[name]), np.float32) for name in counted if seen}
        self._resume()

    @property
    def done(self) -> int:
        """Rounds that are recorded."""
        return len(self.records)

    def run(
        self,
        grid: Grid,
        nodes: Mapping[str, int],
        timeout: float | None = None,
        progress: Progress = SILENT,
        after: Callable[[RoundRecord, State], None] | None = None,
    ) -> State:
        """Train to the configuration's number of rounds.

        Args:
            grid: of the clients.
            nodes: the clients' node numbers by name; looked at before every round.
            timeout: seconds that a round, or each stage of secure aggregation, waits for replies; who has not answered
                by then is left out of it.
            progress: of the stage "training", in clients over all rounds.
            after: called with every round's record and the new global weights.

        Raises:
            DataError: a round has too few updates; what is done is kept, and the same command goes on from it.
        """
        while self.done < self.config.rounds:
            record = RoundRecord(self.done + 1)
            began = time.monotonic()
            names = {number: name for name, number in nodes.items()}
            chosen = self._chosen(record.number, sorted(nodes))
            asked = RoundConfig(
                number=record.number,
                steps=self.config.local_steps,
                proximal=self.config.proximal,
                local=self.config.normalisation == "local",
                compression=self.config.compression,
                secure=self.config.secure_aggregation,
                uses=bool(self._uses),
            )
            content = RecordDict({ARRAYS: record_of(self.state), CONFIG: ConfigRecord(asdict(asked))})
            updates = RoundUpdates()
            if self.config.secure_aggregation:
                change = self._summed(grid, {name: nodes[name] for name in chosen}, content, record, timeout, progress)
            else:
                record.bytes_sent = len(chosen) * sum(array.nbytes for array in self.state.values())
                messages = [Message(content, nodes[name], TRAIN, group_id=str(record.number)) for name in chosen]
                replies = self._checked(
                    grid.send_and_receive(messages, timeout=timeout), names, record, updates, progress, len(chosen)
                )
                change = aggregate(self._strategy, record.number, replies, self._zeros)
            for name in chosen:
                if name not in record.clients and name not in record.refused:
                    record.refused[name] = (
                        f"{name}: no answer within {timeout:g} s" if timeout else f"{name}: no answer"
                    )
            if len(record.clients) < self.config.fewest or change is None:
                why = "; ".join(record.refused.values()) or "no client has pictures"
                raise DataError(
                    f"round {record.number}: {len(record.clients)} update(s), {self.config.fewest} are needed ({why}); "
                    "mend that and run the same command again, which goes on from here"
                )
            if self._privacy is not None:
                record.epsilon = self._privacy.epsilon(record.number)
            self.state = {name: array + change[name] if name in change else array for name, array in self.state.items()}
            if not self.config.secure_aggregation:
                record.cosines, record.drift = updates.against(self._learned(change))
            record.seconds = time.monotonic() - began
            self.records.append(record)
            self._save()
            if after is not None:
                after(record, self.state)
        return self.state

    def _summed(
        self,
        grid: Grid,
        nodes: Mapping[str, int],
        content: RecordDict,
        record: RoundRecord,
        timeout: float | None,
        progress: Progress,
    ) -> State | None:
        """What a round changes, from the sum of its updates; None if no client has pictures.

        Raises:
            DataError: too few clients are left, or the sum is none of allowed updates.
        """
        start = {name: self.state[name] for name in self._zeros}
        weights = [1 if self._privacy is not None else self._counts[name] for name in nodes]
        coding = coding_for(ranges_for(start, self._privacy), weights)
        secure = SecureRound(grid, nodes, record, timeout, self.config.fewest)

        def arrived(name: str) -> None:
            done = (record.number - 1) * len(nodes) + len(record.clients) + len(record.refused)
            progress.update("training", done, self.config.rounds * len(nodes), f"round {record.number}, {name}")

        mean, weight = secure.sum(content, coding, {name: array.shape for name, array in start.items()}, arrived)
        if not weight:
            return None
        if self._privacy is not None and weight < self._privacy.sharers:
            raise DataError(
                f"round {record.number}: noise of {weight} clients, and {self._privacy.sharers} must add theirs; a "
                "client without pictures adds none: leave it out"
            )
        return aggregate(self._strategy, record.number, [in_place_of(mean, weight)], self._zeros)

    def _learned(self, update: Mapping[str, np.ndarray]) -> State:
        """What gradients moved of an update: running statistics are much larger, and alike where weights are not."""
        return {name: array for name, array in update.items() if name not in self._buffers | self._uses.keys()}

    def _chosen(self, number: int, names: Sequence[str]) -> list[str]:
        """Who is asked in a round: drawn from seed and number alone, so that a repeated round asks the same."""
        if self._asked >= len(names):
            return list(names)
        rows = np.random.default_rng([self.config.seed, number]).choice(len(names), self._asked, replace=False)
        return [names[row] for row in sorted(rows)]

    def _checked(
        self,
        replies: Iterable[Message],
        names: Mapping[int, str],
        record: RoundRecord,
        updates: "RoundUpdates",
        progress: Progress,
        count: int,
    ) -> Iterator[Message]:
        """The replies that can be averaged; the others are recorded as refused, with the reason."""
        for reply in replies:
            name = names.get(reply.metadata.src_node_id, "")
            if not name or name in record.clients:
                continue  # of nobody that was asked, or a second answer of the same
            try:
                checked, pictures, metrics = self._read(reply, name, record)
            except UpdateError as error:
                record.refused[name] = str(error)
                continue
            record.clients[name] = {"pictures": float(pictures), **metrics}
            updates.add(name, self._learned(checked))
            done = (record.number - 1) * count + len(record.clients) + len(record.refused)
            progress.update("training", done, self.config.rounds * count, f"round {record.number}, {name}")
            reply.content.array_records[ARRAYS] = record_of(checked)
            reply.content.metric_records[METRICS][WEIGHT] = pictures
            yield reply

    def _read(self, reply: Message, name: str, record: RoundRecord) -> tuple[State, int, dict[str, float]]:
        """A reply's update, count and metrics.

        Raises:
            UpdateError: it is an error, or not what was asked for.
        """
        if reply.has_error():
            raise UpdateError(f"{name}: {reply.error.reason or 'it could not train'}".removeprefix(f"{name}: {name}: "))
        try:
            sent = state_in(reply.content.array_records[ARRAYS])
            record.bytes_received += sum(array.nbytes for array in sent.values())
            update = restore(sent)
            numbers = dict(reply.content.metric_records[METRICS])
            count = numbers.pop(WEIGHT)
        except (KeyError, ValueError, TypeError, DataError) as error:
            raise UpdateError(f"{name}: its answer is not readable ({type(error).__name__})") from error
        pictures = check_count(count, self._counts.get(name), name)
        expected = self._zeros | self._uses
        check_update(update, expected, name)
        update = {key: update[key] for key in expected}  # FedAvgM goes by the order of arrays
        if self._privacy is not None and self._privacy.mechanism == "central":
            update = clipped(update, self._privacy.clip)
        return (
            update,
            min(pictures, 1) if self._privacy is not None else pictures,  # under privacy all updates count alike
            {key: float(value) for key, value in numbers.items() if isinstance(value, int | float)},
        )

    def _save(self) -> None:
        kept = {f"state/{name}": array for name, array in self.state.items()}
        kept |= {f"momentum/{name}": a for name, a in momentum_of(self._strategy, list(self._zeros)).items()}
        number = self.done
        with whole(self.folder / f"global-{number}.safetensors") as part:
            save_file({name: np.asarray(array, order="C") for name, array in kept.items()}, part)
        with whole(self.folder / "rounds.json") as part:
            part.write_text(json.dumps([asdict(record) for record in self.records], indent=1), encoding="utf-8")
        (self.folder / f"global-{number - 1}.safetensors").unlink(missing_ok=True)

    def _resume(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / "rounds.json"
        if not path.is_file():
            return
        self.records = [RoundRecord(**row) for row in json.loads(path.read_text(encoding="utf-8"))]
        kept = load_file(self.folder / f"global-{self.done}.safetensors")
        self.state = {n.removeprefix("state/"): a for n, a in kept.items() if n.startswith("state/")}
        momentum = {n.removeprefix("momentum/"): a for n, a in kept.items() if n.startswith("momentum/")}
        resume(self._strategy, momentum, list(self._zeros))
