"""How a round's updates become the next global weights: Flower's strategies, and what they lack. Lab only: flwr.

Every aggregator is a strategy of Flower's Message API, so that one machine and many run the same code. What clients
send and strategies see are differences from the global weights: Krum's distances, which Flower computes in single
precision from squared norms, would drown in the weights' own size. Sums are formed as replies arrive, with memory for
one update whatever the number of clients, wherever the rule is a mean; median, trimmed mean and Krum need all updates
of a round at once.
"""

import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")  # before flwr is loaded: nobody is contacted

import numpy as np
from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict
from flwr.serverapp.strategy import (
    FedAdam,
    FedAvg,
    FedAvgM,
    FedMedian,
    FedTrimmedAvg,
    FedYogi,
    Krum,
    Strategy,
)

from unmask.errors import DataError
from unmask.federation.privacy import noisy
from unmask.federation.updates import USES, State

logging.getLogger("flwr").setLevel(logging.ERROR)  # what there is to say, the rounds say themselves

WEIGHT = "num-examples"
"""The metric by which updates are weighted."""
ARRAYS, METRICS, CONFIG = "arrays", "metrics", "config"
"""Names of a message's records."""
TRAIN = "train"
"""The type of all messages to clients."""


class StreamingMean(FedAvg):
    """FedAvg (McMahan et al., AISTATS 2017) that adds up updates as they come, in double precision.

    The rows of an array whose uses are sent along are weighted by these instead of by pictures, each client's as shares
    of all its uses; a row that nobody used does not change.

    Attributes:
        mean: of the last round; None before the first.
        deviation: of the noise on the sum, central privacy's; the mean has it before anything steps on it.
    """

    mean: State | None = None
    deviation: float = 0.0

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """The mean of the updates, weighted by the number of pictures; None if all have none."""
        total, sums, uses = 0.0, dict[str, np.ndarray](), dict[str, np.ndarray]()
        for reply in replies:
            weight = float(reply.content.metric_records[METRICS][WEIGHT])  # type: ignore[arg-type]
            if not weight:
                continue
            total += weight
            update = state_in(reply.content.array_records[ARRAYS])
            shares = {name: _shares(update.pop(name)) for name in list(update) if name.startswith(USES)}
            for name, array in update.items():
                values = array.astype(np.float64) * _by_rows(shares.get(USES + name, weight), array)
                if name in sums:
                    sums[name] += values
                else:
                    sums[name] = values
            for name, own in shares.items():
                uses[name] = uses.get(name, 0) + own
        if not total:
            return None, None
        self.mean = {}
        for name, values in sums.items():
            weights = uses.get(USES + name, total)
            self.mean[name] = (values / _by_rows(np.where(weights == 0, 1, weights), values)).astype(np.float32)
        if self.deviation:  # of the system's own randomness: who knew the seed could subtract it
            self.mean = noisy(self.mean, self.deviation / total, np.random.default_rng())
        return record_of(self.mean), MetricRecord()


def _shares(uses: np.ndarray) -> np.ndarray:
    return uses.astype(np.float64) / max(float(uses.sum(dtype=np.float64)), 1.0)


def _by_rows(weights: np.ndarray | float, array: np.ndarray) -> np.ndarray:
    """Weights of an array's rows, or of all of it, in a shape to multiply it with."""
    return np.reshape(weights, (-1,) + (1,) * (array.ndim - 1) if np.ndim(weights) else ())


class _OnServer:
    """Mixed into strategies that step on the server: buffers, which no gradient moves, take the mean as it is."""

    buffers: frozenset[str] = frozenset()
    mean: State | None

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        arrays, metrics = super().aggregate_train(server_round, replies)  # type: ignore[misc]
        if arrays is not None and self.mean is not None:
            arrays = record_of({**state_in(arrays), **{n: a for n, a in self.mean.items() if n in self.buffers}})
        return arrays, metrics


class _Adam(_OnServer, FedAdam, StreamingMean):
    """FedAdam over the streaming mean."""


class _Yogi(_OnServer, FedYogi, StreamingMean):
    """FedYogi over the streaming mean."""


class _Momentum(_OnServer, FedAvgM, StreamingMean):
    """FedAvgM over the streaming mean."""


@dataclass(frozen=True)
class Aggregator:
    """A rule: what it is, its source, and how to make its strategy for some number of clients a round."""

    summary: str
    source: str
    make: Callable[[int, int], Strategy]
    streaming: bool = True


def _robust(kind: type[FedAvg], **more: Any) -> FedAvg:
    return kind(fraction_train=1.0, fraction_evaluate=0.0, min_train_nodes=1, min_available_nodes=1, **more)


def _trimmed(clients: int, bad: int) -> Strategy:
    if 2 * bad >= clients:
        raise DataError(
            f"a trimmed mean of {clients} clients cannot leave out {bad} at either end; it needs more clients"
        )
    # A share a little above bad / clients: Flower rounds down.
    return _robust(FedTrimmedAvg, beta=(bad + 0.5) / clients if bad else 0.0)


def _krum(clients: int, bad: int) -> Strategy:
    if clients < 2 * bad + 3:
        raise DataError(
            f"Krum against {bad} bad clients needs {2 * bad + 3} a round (Blanchard et al. 2017), not {clients}"
        )
    return _robust(Krum, num_malicious_nodes=bad)


_MCMAHAN = "McMahan et al., AISTATS 2017"
_REDDI = "Reddi et al., ICLR 2021"
_YIN = "Yin et al., ICML 2018"
AGGREGATORS: Mapping[str, Aggregator] = {
    "fedavg": Aggregator("mean weighted by pictures", _MCMAHAN, lambda clients, bad: _robust(StreamingMean)),
    "fedprox": Aggregator(
        "the same; clients are held near the global weights (--proximal)",
        "Li et al., MLSys 2020",
        lambda clients, bad: _robust(StreamingMean),
    ),
    "fedavgm": Aggregator(
        "mean, then momentum on the server",
        "Hsu et al. 2019",
        lambda clients, bad: _robust(_Momentum, server_learning_rate=1.0, server_momentum=0.9),
    ),
    "fedadam": Aggregator(
        "mean, then Adam on the server", _REDDI, lambda clients, bad: _robust(_Adam, eta=0.01, tau=1e-3)
    ),
    "fedyogi": Aggregator(
        "mean, then Yogi on the server", _REDDI, lambda clients, bad: _robust(_Yogi, eta=0.01, tau=1e-3)
    ),
    "median": Aggregator("median of every weight", _YIN, lambda clients, bad: _robust(FedMedian), False),
    "trimmed": Aggregator("mean without the extremes of every weight", _YIN, _trimmed, False),
    "krum": Aggregator("the update nearest to most others", "Blanchard et al., NeurIPS 2017", _krum, False),
}


def aggregator(name: str, clients: int, bad: int = 0) -> Strategy:
    """The strategy of a rule.

    Args:
        name: of `AGGREGATORS`.
        clients: that take part in a round.
        bad: how many of them may be bad; of the trimmed mean and Krum.

    Raises:
        DataError: no such rule, or it cannot hold with so many clients.
    """
    if name not in AGGREGATORS:
        raise DataError(f"no aggregator {name!r}; one of {', '.join(AGGREGATORS)}")
    return AGGREGATORS[name].make(clients, bad)


def aggregate(
    strategy: Strategy, number: int, replies: Iterable[Message], zeros: Mapping[str, np.ndarray]
) -> State | None:
    """What a round's updates change of the global weights; None if no client has trained.

    Args:
        strategy: of `aggregator`; keeps its momentum from round to round.
        number: of the round, from 1.
        replies: the clients' updates as differences, checked; read once, in order.
        zeros: by the names of what is averaged.
    """
    if isinstance(strategy, FedAvgM):
        strategy.current_arrays = record_of(zeros)
    elif isinstance(strategy, FedAdam | FedYogi):
        strategy.current_arrays = {name: np.array(array) for name, array in zeros.items()}
    arrays, _ = strategy.aggregate_train(number, replies)
    return None if arrays is None else {name: array.astype(np.float32) for name, array in state_in(arrays).items()}


_MOMENTS = ("m_t", "v_t")


def momentum_of(strategy: Strategy, names: Sequence[str]) -> State:
    """What a strategy remembers between rounds, to resume from: by kind and weight ("m_t/head.weight")."""
    kept = {f"{kind}/{n}": a for kind in _MOMENTS for n, a in (getattr(strategy, kind, None) or {}).items()}
    vector = getattr(strategy, "momentum_vector", None)
    if vector is not None:
        kept |= {f"momentum_vector/{name}": array for name, array in zip(names, vector, strict=True)}
    return kept


def resume(strategy: Strategy, kept: Mapping[str, np.ndarray], names: Sequence[str]) -> None:
    """Give a strategy back what `momentum_of` kept."""
    for kind in _MOMENTS:
        moments = {n.removeprefix(f"{kind}/"): np.array(a) for n, a in kept.items() if n.startswith(f"{kind}/")}
        if moments:
            setattr(strategy, kind, moments)
    if any(name.startswith("momentum_vector/") for name in kept):
        strategy.momentum_vector = [kept[f"momentum_vector/{name}"] for name in names]  # type: ignore[attr-defined]


def in_place_of(mean: Mapping[str, np.ndarray], weight: int) -> Message:
    """A message as of one client, whose update is the mean over all: for a strategy that is given no more."""
    return Message(RecordDict({ARRAYS: record_of(mean), METRICS: MetricRecord({WEIGHT: weight})}), 0, TRAIN)


def record_of(state: Mapping[str, np.ndarray]) -> ArrayRecord:
    """A state as Flower sends it."""
    return ArrayRecord({name: Array(np.asarray(array, order="C")) for name, array in state.items()})


def state_in(record: ArrayRecord) -> State:
    """A record's arrays; Flower reads them without pickles."""
    return {name: array.numpy() for name, array in record.items()}


def reply_of(message: Message, state: Mapping[str, np.ndarray], count: int, metrics: Mapping[str, float]) -> Message:
    """A client's answer to a message of the server's."""
    numbers = MetricRecord({WEIGHT: count, **{name: float(value) for name, value in metrics.items()}})
    return Message(RecordDict({ARRAYS: record_of(state), METRICS: numbers}), reply_to=message)
