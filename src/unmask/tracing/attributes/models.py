"""What an answer about an attribute says of each value in the register: one model per kind of attribute.

A model reads an answer (`parse`), weighs every value by it (`log_ratios`), says what the answer is expected to tell
(`channel`), and draws answers for simulation (`draw`).
"""

import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from datetime import date
from functools import cached_property

import numpy as np
from rapidfuzz import process
from rapidfuzz.distance import JaroWinkler

from unmask.errors import DataError
from unmask.tracing.attributes.channels import (
    LARGEST_TABLE,
    Channel,
    EqualChannel,
    TableChannel,
    kernel_channel,
    smoothed,
)
from unmask.tracing.attributes.dictionary import Attribute
from unmask.tracing.attributes.values import days_of, numbers_of, plain_text, truth_of

# Jaro-Winkler similarity from which two strings are nearly the same, and similar (the bands of linkage practice).
NEAR, SIMILAR = 0.92, 0.8
# How a share of wrong answers falls on nearly the same, similar and other values; ours, where none were counted.
_SLIPS = (0.6, 0.2, 0.2)
# Pseudo-answers from which a confusion table begins: it takes about as many counts before they decide.
_BEFOREHAND = 2.0

Shares = Mapping[str, float]


class Model(ABC):
    """An attribute's observation model.

    Attributes:
        name, attribute: which, and what the data dictionary says of it.
        values: of the register, as shown; the value with code c is values[c - 1].
        counts: (V + 1,) records with each code; the first have none.
        channel: P(answer | value), as used to rank questions.
    """

    channel: Channel

    def __init__(self, name: str, attribute: Attribute, values: Sequence[str], counts: np.ndarray) -> None:
        self.name, self.attribute, self.values, self.counts = name, attribute, values, counts

    @abstractmethod
    def log_ratios(self, answer: str) -> np.ndarray:
        """log P(answer | code) - log P(answer | anybody), natural, (V + 1,); 0 for "not recorded".

        Raises:
            DataError: `answer` is no answer about this attribute; says what would be.
        """

    @abstractmethod
    def outcome(self, answer: str) -> int:
        """Which outcome of the channel an answer is."""

    def code_of(self, value: str) -> int:
        """The code of a true value, or -1 if no record has it."""
        return self._places.get(value, -2) + 1

    @cached_property
    def _places(self) -> dict[str, int]:
        return {value: place for place, value in enumerate(self.values)}

    def with_error(self, error: float) -> "Model":
        """The same with another share of wrong answers."""
        return type(self)(self.name, _with_error(self.attribute, error), self.values, self.counts)

    @abstractmethod
    def draw(self, code: int, randomness: np.random.Generator) -> str:
        """An answer about a person with this code, as the model has it."""

    def soft_log_ratios(self, shares: Shares) -> np.ndarray:
        """The same of an uncertain answer: a distribution over answers, which sums to 1 or less (the rest: unknown)."""
        if not shares or any(not 0.0 <= share <= 1.0 for share in shares.values()) or sum(shares.values()) > 1 + 1e-9:
            raise DataError(f"{self.name}: an uncertain answer is shares in [0, 1] that sum to 1 or less")
        total = np.full(len(self.counts), max(1.0 - sum(shares.values()), 0.0))
        for answer, share in shares.items():
            total += share * np.exp(self.log_ratios(answer))
        return np.log(total)


class _ListedValues(Model):
    """An attribute whose answers are the register's own values."""

    @cached_property
    def _folded(self) -> dict[str, list[int]]:
        places: dict[str, list[int]] = {}
        for place, value in enumerate(self.values):
            places.setdefault(normal(plain_text(value)), []).append(place)
        return places

    @cached_property
    def _truths(self) -> dict[bool | None, list[int]]:
        """Places of values that say yes, and of those that say no; none if there are others."""
        said: dict[bool | None, list[int]] = {}
        for place, value in enumerate(self.values):
            said.setdefault(truth_of(value), []).append(place)
        return {} if None in said else said

    def outcome(self, answer: str) -> int:
        """Which outcome of the channel an answer is."""
        exactly = self._places.get(answer)
        alike = self._folded.get(normal(plain_text(answer)), []) if exactly is None else [exactly]
        alike = alike or self._truths.get(truth_of(answer), [])
        if len(alike) == 1:
            return alike[0]
        if alike:
            written = " and ".join(repr(self.values[place]) for place in alike)
            raise DataError(f"{self.name}: records have {written}; say which of them {answer!r} is")
        if self.attribute.open:
            return len(self.values)
        # Only what several records have: what one has alone is somebody's.
        shared = [value for value, often in zip(self.values, self.counts[1:], strict=True) if often > 1]
        hint = ", ".join(repr(value) for value, *_ in process.extract(answer, shared, limit=3))
        raise DataError(
            f"{self.name}: no record has {answer!r}" + (f"; nearest: {hint}" if hint else "") + ". "
            "If it may be a value that no record has, set open = true in the data dictionary"
        )

    def log_ratios(self, answer: str) -> np.ndarray:
        """log P(answer | code) - log P(answer | anybody), natural, (V + 1,)."""
        return self.channel.log_ratios(self.outcome(answer))

    def draw(self, code: int, randomness: np.random.Generator) -> str:
        """An answer about a person with this code."""
        spread = self.channel.row(code)[: len(self.values)]
        return self.values[int(randomness.choice(len(spread), p=spread / spread.sum()))]


class Categorical(_ListedValues):
    """Equal or not; with a confusion table, which value is taken for which."""

    def __init__(self, name: str, attribute: Attribute, values: Sequence[str], counts: np.ndarray) -> None:
        super().__init__(name, attribute, values, counts)
        equal = EqualChannel(attribute.error, smoothed(counts[1:]))
        self.channel = equal if attribute.confusion is None else self._confused(equal, attribute.confusion)

    def _confused(self, equal: EqualChannel, confusion: Mapping[str, Mapping[str, float]]) -> TableChannel:
        if len(self.values) > LARGEST_TABLE:
            raise DataError(f"{self.name}: {len(self.values)} values are too many for a confusion table")
        table = equal.table()[1:] * _BEFOREHAND
        for value, answers in confusion.items():
            for answer, count in answers.items():
                for each in (value, answer):
                    if each not in self._places:
                        raise DataError(f"{self.name}: the confusion table speaks of {each!r}, which no record has")
                table[self._places[value], self._places[answer]] += count
        return TableChannel(table / table.sum(axis=1, keepdims=True), equal.base)


class Ordinal(_ListedValues):
    """A step off is likelier than many."""

    def __init__(self, name: str, attribute: Attribute, values: Sequence[str], counts: np.ndarray) -> None:
        super().__init__(name, attribute, values, counts)
        self.channel = kernel_channel(attribute.error, counts[1:], 0, attribute.spread or 0.5)
        if attribute.open:
            self.channel = self._opened(self.channel)

    def _opened(self, closed: TableChannel) -> TableChannel:
        """With one more answer, a value that no record has: near to none."""
        more = 1.0 / (self.counts.sum() + len(self.values) + 1.0)
        base = np.append(closed.base * (1.0 - more), more)
        honest = closed.table()[1:] - self.attribute.error * closed.base
        return TableChannel(np.pad(honest, ((0, 0), (0, 1))) + self.attribute.error * base, base)


class Numeric(Model):
    """Near or far, on a grid: value number k is [low + k step, low + (k + 1) step).

    Args:
        low, step: of the grid, in the attribute's unit.
    """

    def __init__(self, name: str, attribute: Attribute, counts: np.ndarray, low: float, step: float) -> None:
        whole = step == int(step) and low + step / 2 == int(low + step / 2)
        middles = low + step * (np.arange(len(counts) - 1) + 0.5)
        # Enough digits to tell a hundredth of a step.
        most = max(abs(low), abs(low + step * len(counts))) / step
        self._format = ".0f" if whole else f".{int(np.clip(np.ceil(np.log10(most)) + 2, 6, 17))}g"
        super().__init__(name, attribute, [f"{m:{self._format}}" for m in middles], counts)
        assert attribute.spread is not None  # numeric attributes have one
        self.low, self.step = low, step
        self.padding = int(np.ceil(4.0 * attribute.spread / step))
        self.channel = kernel_channel(attribute.error, counts[1:], self.padding, attribute.spread / step)

    def outcome(self, answer: str) -> int:
        """Which outcome of the channel an answer is."""
        return int(np.clip(self._place(answer), 0, len(self.channel.base) - 1))

    def _place(self, answer: str) -> float:
        numbers = numbers_of(answer, self.attribute)
        if len(numbers) > 1:
            raise DataError(f"{self.name}: {answer!r} may be one of two numbers; write it with a decimal point alone")
        if not numbers:
            raise DataError(f"{self.name}: {answer!r} is not a number")
        (number,) = numbers
        return float(np.floor((number - self.low) / self.step) + self.padding)

    def log_ratios(self, answer: str) -> np.ndarray:
        """log P(answer | code) - log P(answer | anybody), natural, (V + 1,)."""
        if not 0 <= self._place(answer) < len(self.channel.base):
            # Farther off than any honest answer: wrong, whoever it is.
            return np.append(0.0, np.full(len(self.values), np.log(self.attribute.error)))
        return self.channel.log_ratios(self.outcome(answer))

    def code_of(self, value: str) -> int:
        """The code of a true value, or -1 if no record has it."""
        code = np.floor((float(value) - self.low) / self.step) + 1
        return int(code) if 0 < code < len(self.counts) else -1

    def with_error(self, error: float) -> "Numeric":
        """The same with another share of wrong answers."""
        return Numeric(self.name, self.attribute.model_copy(update={"error": error}), self.counts, self.low, self.step)

    def draw(self, code: int, randomness: np.random.Generator) -> str:
        """An answer about a person with this code."""
        place = int(randomness.choice(len(self.channel.base), p=self.channel.table()[code]))
        return f"{self.low + self.step * (place - self.padding + 0.5):{self._format}}"


class _Levelled(Model):
    """The same, nearly the same, similar, other: weighed by m / u, the shares of each level among answers about the
    person and among all records (Fellegi and Sunter, with the frequency of the value answered).
    """

    def __init__(self, name: str, attribute: Attribute, values: Sequence[str], counts: np.ndarray) -> None:
        super().__init__(name, attribute, values, counts)
        self.shares = np.array(
            attribute.levels or (1.0 - attribute.error, *(attribute.error * share for share in _SLIPS))
        )
        # Questions are ranked as if every answer but the same were just another value.
        self.channel = EqualChannel(1.0 - self.shares[0], smoothed(counts[1:]))

    @abstractmethod
    def levels(self, answer: str) -> np.ndarray:
        """Level of each value beside the answer, 0 to 3, (V,)."""

    def outcome(self, answer: str) -> int:
        """Which outcome of the channel an answer is."""
        same = np.flatnonzero(self.levels(answer) == 0)
        return int(same[0]) if len(same) else len(self.values)

    def log_ratios(self, answer: str) -> np.ndarray:
        """log P(answer | code) - log P(answer | anybody), natural, (V + 1,)."""
        levels = self.levels(answer)
        among_all = (np.bincount(levels, weights=self.counts[1:], minlength=4) + 1.0) / (self.counts[1:].sum() + 4.0)
        return np.concatenate([[0.0], np.log(self.shares / among_all)[levels]])

    def draw(self, code: int, randomness: np.random.Generator) -> str:
        """An answer about a person with this code."""
        if code == 0:
            weights = self.counts[1:].astype(float)
        else:
            levels = self.levels(self.values[code - 1])
            # Wrong answers are other values of the register; levels that none is of leave theirs to the others.
            wrong = np.where(np.bincount(levels, minlength=4) > 0, self.shares, 0.0)[1:]
            right = self.shares[0] if wrong.any() else 1.0
            level = randomness.choice(4, p=np.append(right, wrong * (1.0 - right) / max(wrong.sum(), 1e-300)))
            weights = np.where(levels == level, self.counts[1:], 0.0)
        return self.values[int(randomness.choice(len(weights), p=weights / weights.sum()))]


class Text(_Levelled):
    """A name, a street: compared by Jaro-Winkler, without regard to case and accents' encoding."""

    @cached_property
    def _folded(self) -> list[str]:
        return [normal(value) for value in self.values]

    def levels(self, answer: str) -> np.ndarray:
        """Level of each value beside the answer, 0 to 3, (V,)."""
        if not normal(answer):
            raise DataError(f"{self.name}: an empty answer; say that it is unavailable with ?")
        similarities = process.cdist(
            [normal(answer)], self._folded, scorer=JaroWinkler.normalized_similarity, dtype=np.float32
        )
        return np.select([similarities[0] >= 1.0, similarities[0] >= NEAR, similarities[0] >= SIMILAR], [0, 1, 2], 3)


class Day(_Levelled):
    """A date, YYYY-MM-DD: nearly the same is one digit off, a neighbouring day, month or year, or day and month
    exchanged; similar is the same year, or the same day of another year.
    """

    @cached_property
    def _parts(self) -> np.ndarray:
        return np.array([_parts(value) for value in self.values], np.int32).reshape(-1, 3)

    @cached_property
    def _ordinals(self) -> np.ndarray:
        return np.array([date.fromisoformat(value).toordinal() for value in self.values], np.int64)

    def levels(self, answer: str) -> np.ndarray:
        """Level of each value beside the answer, 0 to 3, (V,)."""
        days = days_of(answer, self.attribute)
        if len(days) > 1:
            raise DataError(f"{self.name}: {answer!r} may be one of two dates; write YYYY-MM-DD")
        if not days:
            raise DataError(f"{self.name}: {answer!r} is not a date; write YYYY-MM-DD")
        (day,) = days
        asked = np.array(_parts(day), np.int32)
        apart = np.abs(self._parts - asked)
        equal = apart == 0
        slip = (equal.sum(axis=1) == 2) & ((apart.sum(axis=1) == 1) | (_digits_apart(self._parts, asked) == 1))
        slip |= equal[:, 0] & (self._parts[:, 1] == asked[2]) & (self._parts[:, 2] == asked[1])
        slip |= np.abs(self._ordinals - date.fromisoformat(day).toordinal()) == 1
        similar = equal[:, 0] | (equal[:, 1] & equal[:, 2])
        return np.select([equal.all(axis=1), slip, similar], [0, 1, 2], 3)


class Score(Model):
    """How similar another method found each record: a ratio from its calibrated table, linear between its points.

    It has no values of its own: an answer is a score for some of the records.
    """

    def __init__(self, name: str, attribute: Attribute) -> None:
        super().__init__(name, attribute, (), np.zeros(1))
        self.channel = EqualChannel(0.5, np.ones(1))

    def with_error(self, error: float) -> "Score":
        """The same: what a score says is in its table."""
        return Score(self.name, self.attribute.model_copy(update={"error": error}))

    def of_scores(self, scores: np.ndarray) -> np.ndarray:
        """Natural logarithm of the likelihood ratio of each score."""
        points = np.array(self.attribute.log10_lr)
        return np.interp(scores, points[:, 0], points[:, 1]) * np.log(10.0)

    @property
    def unlisted(self) -> float:
        """Of a record that has no score; the lowest of the table if nothing is said."""
        stated = self.attribute.unlisted_log10_lr
        return float(min(lr for _, lr in self.attribute.log10_lr or ()) if stated is None else stated) * np.log(10.0)

    def log_ratios(self, answer: str) -> np.ndarray:
        """log P(answer | code) - log P(answer | anybody), natural, (V + 1,)."""
        raise DataError(f"{self.name}: its answer is a file with a score per record, @FILE.csv")

    def outcome(self, answer: str) -> int:
        """Which outcome of the channel an answer is."""
        raise DataError(f"{self.name}: its answer is a file with a score per record, @FILE.csv")

    def draw(self, code: int, randomness: np.random.Generator) -> str:
        """An answer about a person with this code."""
        raise DataError(f"{self.name}: scores cannot be simulated")


def _with_error(attribute: Attribute, error: float) -> Attribute:
    """What was counted of wrong answers, changed in proportion."""
    update: dict[str, object] = {"error": error}
    if attribute.levels is not None:
        same, *wrong = attribute.levels
        wanted = min((1.0 - same) * error / attribute.error, 0.99)
        update["levels"] = (1.0 - wanted, *(share * wanted / (1.0 - same) for share in wrong))
    if attribute.confusion is not None:
        changed = {}
        for value, answers in attribute.confusion.items():
            total, right = sum(answers.values()), answers.get(value, 0.0)
            wrong_share = (total - right) / total if total else 0.0
            wanted = min(wrong_share * error / attribute.error, 0.99)
            changed[value] = {
                answer: count * ((1 - wanted) / (1 - wrong_share) if answer == value else wanted / wrong_share)
                for answer, count in answers.items()
                if count
            }
        update["confusion"] = changed
    return attribute.model_copy(update=update)


def normal(text: str) -> str:
    """A text as it is compared: composed, without regard to case and surrounding space."""
    return unicodedata.normalize("NFKC", text).casefold().strip()


def _parts(text: str) -> tuple[int, int, int]:
    day = date.fromisoformat(text)
    return day.year, day.month, day.day


def _digits_apart(values: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """Number of digits in which dates differ, written in full."""
    apart = np.zeros(len(values), int)
    for part, digits in enumerate((4, 2, 2)):
        for power in 10 ** np.arange(digits):
            apart += (values[:, part] // power) % 10 != (asked[part] // power) % 10
    return apart
