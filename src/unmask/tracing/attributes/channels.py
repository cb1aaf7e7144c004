"""How a true value becomes an answer: P(answer | value), and how many bits an answer is expected to give.

An attribute has V values in the register, with codes 1 to V; code 0 is "not recorded". An answer is one of O outcomes.
Of a person who is not in the register, and of one whose value is not recorded, answers are spread as `base`. Masses are
over codes, (V + 1,); logarithms of ratios are natural, entropies in bits.
"""

from abc import ABC, abstractmethod
from functools import cached_property

import numpy as np

# More values than these have no table of values by answers; only equal-or-not attributes do, which need none.
LARGEST_TABLE = 1200


def entropy(shares: np.ndarray) -> np.ndarray:
    """Entropy in bits over the last axis; 0 log 0 is 0."""
    safe = np.where(shares > 0.0, shares, 1.0)
    return -(shares * np.log2(safe)).sum(axis=-1)


class Channel(ABC):
    """P(answer | value). `base`: the answers of anybody, (O,), positive, sums to 1."""

    base: np.ndarray

    @abstractmethod
    def answers(self, masses: np.ndarray) -> np.ndarray:
        """Mass of each answer, (..., O), from masses over codes, (..., V + 1)."""

    @abstractmethod
    def noise(self, masses: np.ndarray) -> np.ndarray:
        """Entropy of the answer that remains when the value is known, in bits, weighted by `masses`, (...)."""

    @abstractmethod
    def squared(self, masses: np.ndarray) -> np.ndarray:
        """Sum over codes of mass times P(answer | code) squared, (..., O)."""

    @abstractmethod
    def log_ratios(self, outcome: int) -> np.ndarray:
        """log P(outcome | code) - log base(outcome), (V + 1,); 0 for "not recorded"."""

    @abstractmethod
    def table(self) -> np.ndarray:
        """P(answer | code) in full, (V + 1, O)."""

    @abstractmethod
    def trusted(self, trust: float) -> "Channel":
        """The same from a source that is about the person with probability `trust`, in (0, 1], else about anybody."""

    def row(self, code: int) -> np.ndarray:
        """P(answer | code), (O,), without the rest of the table."""
        return self.table()[code]

    def gain(self, masses: np.ndarray, absent: float, absent_answers: np.ndarray | None = None) -> np.ndarray:
        """Bits that the answer is expected to give: the mutual information of person and answer.

        Args:
            masses: over codes, (..., V + 1); with `absent` they sum to 1.
            absent: mass of "not in the register".
            absent_answers: answers of the absent, (O,); `base` if None.
        """
        spread = self.base if absent_answers is None else absent_answers
        total = entropy(self.answers(masses) + absent * spread)
        return np.maximum(total - self.noise(masses) - absent * entropy(spread), 0.0)


class TableChannel(Channel):
    """Any P(answer | value), as a table of (V, O)."""

    def __init__(self, shares: np.ndarray, base: np.ndarray) -> None:
        self.base = base
        self._table = np.vstack([base[None], shares])
        self._noise = entropy(self._table)

    def trusted(self, trust: float) -> "TableChannel":
        """The same from a source that is about the person with probability `trust`, else about anybody."""
        return TableChannel(trust * self._table[1:] + (1.0 - trust) * self.base, self.base)

    def answers(self, masses: np.ndarray) -> np.ndarray:
        """Mass of each answer, (..., O)."""
        return masses @ self._table

    def noise(self, masses: np.ndarray) -> np.ndarray:
        """Entropy of the answer that remains when the value is known, in bits."""
        return masses @ self._noise

    def squared(self, masses: np.ndarray) -> np.ndarray:
        """Sum over codes of mass times P(answer | code) squared, (..., O)."""
        return masses @ self._table**2

    def log_ratios(self, outcome: int) -> np.ndarray:
        """log P(outcome | code) - log base(outcome), (V + 1,)."""
        ratios = np.log(self._table[:, outcome]) - np.log(self.base[outcome])
        ratios[0] = 0.0
        return ratios

    def table(self) -> np.ndarray:
        """P(answer | code), (V + 1, O)."""
        return self._table


class EqualChannel(Channel):
    """Right with 1 - error; else another value, as frequent as it is: (1 - e) if o = x, else e q(o) / (1 - q(x)).

    Everything in time linear in V. The last outcome is a value that no record has.

    Args:
        error: in [0, 1); what is expected of answers, in bits, needs it above 0.
        base: (V + 1,) answers of anybody; the last is "a value that no record has", positive.
        trust: in (0, 1]; with 1 - trust the answer is anybody's, whatever is true.
    """

    def __init__(self, error: float, base: np.ndarray, trust: float = 1.0) -> None:
        self.base = base
        self.error = error
        self._trust = trust
        # Per value: of the right answer, and of each wrong one per unit of its frequency.
        self._right = trust * (1.0 - error) + (1.0 - trust) * base[:-1]
        self._share = trust * error / (1.0 - base[:-1]) + (1.0 - trust)

    @cached_property
    def _noise(self) -> np.ndarray:
        # H(answer | value) = -r log r - sum over o != x of s q(o) log(s q(o))
        logs = self.base * np.log2(self.base)
        within, others = logs.sum() - logs[:-1], 1.0 - self.base[:-1]
        wrong = self._share * (within + np.log2(self._share) * others)
        return np.append(entropy(self.base), -self._right * np.log2(self._right) - wrong)

    def trusted(self, trust: float) -> "EqualChannel":
        """The same from a source that is about the person with probability `trust`, else about anybody."""
        return EqualChannel(self.error, self.base, self._trust * trust)

    def answers(self, masses: np.ndarray) -> np.ndarray:
        """Mass of each answer, (..., O)."""
        right = masses[..., 1:]
        wrong = right * self._share
        outcomes = self.base * (masses[..., :1] + wrong.sum(axis=-1, keepdims=True))
        outcomes[..., :-1] += right * self._right - wrong * self.base[:-1]
        return outcomes

    def noise(self, masses: np.ndarray) -> np.ndarray:
        """Entropy of the answer that remains when the value is known, in bits."""
        return masses @ self._noise

    def squared(self, masses: np.ndarray) -> np.ndarray:
        """Sum over codes of mass times P(answer | code) squared, (..., O)."""
        right = masses[..., 1:]
        wrong = right * self._share**2
        outcomes = self.base**2 * (masses[..., :1] + wrong.sum(axis=-1, keepdims=True))
        outcomes[..., :-1] += right * self._right**2 - wrong * self.base[:-1] ** 2
        return outcomes

    def log_ratios(self, outcome: int) -> np.ndarray:
        """log P(outcome | code) - log base(outcome), (V + 1,)."""
        ratios = np.concatenate([[0.0], np.log(self._share)])
        if outcome < len(self._share):
            ratios[outcome + 1] = np.log(self._right[outcome]) - np.log(self.base[outcome])
        return ratios

    def row(self, code: int) -> np.ndarray:
        """P(answer | code), (O,)."""
        if code == 0:
            return self.base
        shares = self._share[code - 1] * self.base
        shares[code - 1] = self._right[code - 1]
        return shares

    def table(self) -> np.ndarray:
        """P(answer | code), (V + 1, O)."""
        known = len(self._share)
        shares = np.vstack([self.base, self._share[:, None] * self.base])
        shares[np.arange(1, known + 1), np.arange(known)] = self._right
        return shares


def kernel_channel(error: float, counts: np.ndarray, padding: int, spread: float) -> TableChannel:
    """Near or far on a grid: (1 - error) times a normal kernel, plus `error` times anybody's answers.

    Args:
        error: in (0, 1).
        counts: (V,) records of each step of the grid.
        padding: steps of the grid of answers beyond that of values, at both ends.
        spread: standard deviation of an honest answer, in steps.
    """
    values = np.arange(len(counts))
    outcomes = np.arange(-padding, len(counts) + padding)
    # Forty standard deviations off is beyond what a double can say, whatever the spread.
    kernel = np.exp(-0.5 * np.clip((outcomes[None] - values[:, None]) / spread, -40.0, 40.0) ** 2)
    kernel /= kernel.sum(axis=1, keepdims=True)
    # One more person, who may be anywhere: no answer is impossible.
    base = (counts @ kernel + 1.0 / len(outcomes)) / (counts.sum() + 1.0)
    return TableChannel((1.0 - error) * kernel + error * base, base)


def smoothed(counts: np.ndarray) -> np.ndarray:
    """Frequencies of V values and of one that no record has, (V + 1,), after adding one to each."""
    return np.append(counts + 1.0, 1.0) / (counts.sum() + len(counts) + 1.0)
