"""Updates as masked integers: what a client sends under secure aggregation, and what their sum says. Lab only: flwr.

A value within a range of its array becomes one of some thousand levels, counted from 0, and is multiplied by the
client's weight. The sum over clients is then at most levels times the sum of their weights, and the levels are chosen
such that this stays below half of the modulus 2^32 (2^64 where that would leave too few levels): nothing overflows, and
a sum beyond it shows that a client sent something else. Every client adds masks, uniform in the modulus, that cancel in
the sum.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from unmask.errors import DataError
from unmask.federation.privacy import Privacy
from unmask.federation.updates import State

_FEWEST_LEVELS, _MOST_LEVELS = 2**16, 2**24  # more than float32 tells apart is of no use
_REACH = 4.0  # largest change of a round, over an array's largest weight
_NOISE_REACH = 8.0  # standard deviations: beyond lies one value in 10^15


@dataclass(frozen=True)
class Coding:
    """How values become integers in a round.

    Attributes:
        ranges: of every array, by name: values beyond are clipped to [-range, range].
        levels: steps within a range; one step is 2 range / levels.
        bits: of the modulus, 32 or 64.
        most: largest weight of a client.
        total: the most that the weights can add up to.

    Raises:
        DataError: a sum could overflow, or a range is none.
    """

    ranges: Mapping[str, float]
    levels: int
    bits: int
    most: int
    total: int

    def __post_init__(self) -> None:
        if self.bits not in (32, 64) or self.levels < 1 or not 0 <= self.most <= self.total:
            raise DataError(f"{self.levels} levels and {self.bits} bits are no coding of updates")
        if self.levels * self.total >= 2 ** (self.bits - 1):
            raise DataError(f"{self.levels:,} levels of weights up to {self.total:,} overflow {self.bits} bits")
        if not all(0 < reach < math.inf for reach in self.ranges.values()):
            raise DataError("a range of values is not above 0")

    @property
    def number(self) -> np.dtype[np.unsignedinteger]:
        """The type of the integers; their arithmetic wraps around at the modulus."""
        return np.dtype(f"<u{self.bits // 8}")

    def step(self, name: str) -> float:
        """Distance between two levels of an array: no mean is farther than this from that of unchanged values."""
        return 2 * self.ranges[name] / self.levels

    def encode(self, update: Mapping[str, np.ndarray], weight: int, rng: np.random.Generator) -> np.ndarray:
        """An update as integers: its weight, then every value times it, arrays in the order of `ranges`.

        Values between two levels become the upper one with the probability that keeps their mean.

        Args:
            update: float arrays, finite; values beyond their range are clipped.
            weight: of the client, 0 to `most`.
            rng: of the rounding.
        """
        parts = [np.array([weight], self.number)]
        for name, reach in self.ranges.items():
            values = np.clip(np.asarray(update[name], np.float64).ravel(), -reach, reach)
            places = np.floor((values + reach) / (2 * reach) * self.levels + rng.random(values.shape))
            parts.append(np.minimum(places, self.levels).astype(self.number) * self.number.type(weight))
        return np.concatenate(parts)

    def decode(self, total: np.ndarray, shapes: Mapping[str, tuple[int, ...]]) -> tuple[State, int]:
        """The weighted mean that a sum of encoded updates stands for, and the sum of the weights.

        Args:
            total: the sum over clients, without masks.
            shapes: of the arrays, by name.

        Raises:
            DataError: no sum of encoded updates.
        """
        weight = int(total[0])
        values = total[1:]
        if weight > self.total or (len(values) and int(values.max()) > self.levels * weight):
            raise DataError("the sum of the masked updates is none of allowed updates; a client sent something else")
        mean: State = {}
        place = 0
        for name, reach in self.ranges.items():
            size = math.prod(shapes[name])
            own = values[place : place + size].astype(np.float64) / (max(weight, 1) * self.levels)
            mean[name] = ((2 * own - 1) * reach).astype(np.float32).reshape(shapes[name])
            place += size
        return mean, weight

    def beyond(self, update: Mapping[str, np.ndarray]) -> float:
        """The share of an update's values that lie beyond their range."""
        many = sum(int((np.abs(update[name]) > reach).sum()) for name, reach in self.ranges.items())
        return many / max(1, sum(update[name].size for name in self.ranges))


def coding_for(ranges: Mapping[str, float], weights: Sequence[int]) -> Coding:
    """As many levels as fit, so that no sum can overflow.

    Args:
        ranges: of every array.
        weights: the most that each client of the round may weigh.

    Raises:
        DataError: the weights are too large for 64 bits, or all are 0.
    """
    total = sum(weights)
    if total < 1:
        raise DataError("no client has pictures")
    for bits in (32, 64):
        levels = min(_MOST_LEVELS, (2 ** (bits - 1) - 1) // total) // 2 * 2  # even: what did not change has a level
        if levels >= _FEWEST_LEVELS:
            return Coding(dict(ranges), levels, bits, max(weights), total)
    raise DataError(f"{total:,} pictures over all clients are too many for secure aggregation")


def ranges_for(state: Mapping[str, np.ndarray], privacy: Privacy | None) -> dict[str, float]:
    """The ranges of a round, from the weights that it starts from.

    Where updates are clipped to a length, no value is longer, and the range is that length with eight standard
    deviations of what noise the client adds. Else it is four times the array's largest weight and 1 at least: what a
    round changes is far less, but for running statistics in the first rounds, which then catch up a factor a round.

    Args:
        state: the arrays that are averaged, before the round.
        privacy: what is promised.
    """
    if privacy is not None and privacy.mechanism != "dp-sgd":
        reach = privacy.clip + _NOISE_REACH * privacy.deviation
        return dict.fromkeys(state, reach)
    return {name: max(1.0, _REACH * float(np.abs(array).max(initial=0.0))) for name, array in state.items()}


def mask(key: bytes, length: int, coding: Coding) -> np.ndarray:
    """Integers uniform in the modulus: the key stream of AES-256 in counter mode, for a key that is used once.

    Args:
        key: 32 bytes.
        length: how many.
        coding: of the round.
    """
    stream = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor()
    return np.frombuffer(stream.update(bytes(length * coding.number.itemsize)), coding.number)
