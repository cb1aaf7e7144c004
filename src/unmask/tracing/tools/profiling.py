"""A first data dictionary from a register, and measured error rates from answers that were observed.

What a register's columns are is guessed and shown for correction. Error rates cannot be read off a register: those of
`profile` are suggested, not measured; `learn` measures them on people whose records are known. The formulas are ours.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pyarrow as pa

from unmask.errors import DataError
from unmask.tracing.attributes.channels import LARGEST_TABLE, entropy
from unmask.tracing.attributes.dictionary import Attribute, Dictionary, Kind, Use
from unmask.tracing.attributes.models import Day, Model, Numeric, Ordinal, Text, normal
from unmask.tracing.attributes.values import (
    looks_dated,
    looks_measured,
    missing_note,
    not_recorded,
    number_in,
    plain_texts,
    read_days,
    read_numbers,
)
from unmask.tracing.registers.columns import read_column
from unmask.tracing.registers.memory import MemoryRegister
from unmask.tracing.registers.tables import as_text, reading_notes

_FEW = 50  # distinct values up to which a text is a category and a column is not taken for an identifier
_CODES = 12  # distinct whole numbers up to which they are taken for codes of categories
_NEARLY = 0.9  # of records with a value of their own, or of values of one type: nearly all
_MANY = 250_000  # distinct texts from which comparing an answer with all of them is felt
_FREQUENT = 5  # most frequent values that are kept
_PAIRED = 10_000  # records from which dependence is estimated, at most; and at least:
_LEAST_PAIRED = 100
_BINS = 16  # quantiles of a numeric column
_DEPENDENT = 0.75  # of the smaller entropy, beyond chance: two columns that tell nearly the same
# Suggested shares of wrong answers: names are misheard more often than the rest.
_ERRORS: dict[Kind, float] = {"categorical": 0.05, "numeric": 0.05, "string": 0.1, "date": 0.05}
# Of the bits that single one record out: from there on a text or a date all but names the person, which those who know
# anything of a stranger seldom know; and the availability suggested for it.
_NAMES_PERSON, _RARE = 0.8, 0.1
_SPREAD = 0.02  # suggested standard deviation of an honest answer, of the range from the 5th to the 95th percentile

_ID = re.compile(r"(^|_)id$")
_PERSONAL = re.compile(
    r"(^|_)(passport|ssn$|social_security|national_id|id_card|identity_card|personal_(code|number|id)|tax_(id|number)|"
    r"phone|telephone|mobile|e_?mail|iban|imei|licen[cs]e(_(no|number|plate))?$|number_plate|insurance_number)"
)
_LEADING_ZERO = re.compile(r"[+-]?0\d")
_TRIED = 256  # texts of a column; if fewer than half are numbers, or dates, the others are not looked at
_FEWEST_DATES = 3  # numbers of eight digits from which they may be dates
_SERIAL = 5  # digits at most of days as Excel counts them
_FAR = 10.0  # times the range from the 5th to the 95th percentile: far off
_YEARS = ("1900", "2100")  # of dates that are not far off

_CONFUSED = 100  # answers from which a confusion table is kept; and per value:
_CONFUSED_EACH = 5
_ITERATIONS = 100  # in which the spread of honest answers converges
_REACH = 2048  # steps of a grid that a kernel is summed over
_LEAST_SPREAD = 0.25  # of whole numbers and steps, where every answer counted was right


@dataclass(frozen=True)
class ColumnProfile:
    """A column as found.

    Attributes:
        name, kind, use: as in the data dictionary; the identifier is of use "id".
        distinct: values recorded.
        recorded: share of records with a value.
        bits: entropy of the values recorded.
        frequent: the most frequent values and how often each is recorded.
        written: how numbers or dates are written, as far as it is not the usual way: "%d.%m.%Y", "cm, decimal comma".
    """

    name: str
    kind: Kind
    use: Use | str
    distinct: int
    recorded: float
    bits: float
    frequent: tuple[tuple[str, int], ...]
    written: str


@dataclass(frozen=True)
class Profile:
    """A register as found: its columns, a data dictionary to begin with, and what people should look at."""

    register: str
    records: int
    columns: tuple[ColumnProfile, ...]
    dictionary: Dictionary
    notes: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class _Read:
    """A column as distinct texts, how often each is recorded, and which one each record has (-1: none).

    Attributes:
        numbers, days: what the texts are as numbers (NaN) and dates (None), if they are some.
        reading: what the data dictionary says of how they are written, by kind.
        doubts: notes on that, by kind.
    """

    name: str
    texts: list[str]
    counts: np.ndarray
    places: np.ndarray
    numbers: np.ndarray
    days: list[str | None]
    reading: dict[str, dict[str, Any]]
    doubts: dict[str, tuple[str, ...]]

    @property
    def recorded(self) -> int:
        return int(self.counts.sum())

    @property
    def dates(self) -> np.ndarray:
        return np.array([day is not None for day in self.days], bool)

    @property
    def whole(self) -> bool:
        return bool((self.numbers == np.floor(self.numbers)).all())

    @property
    def near_unique(self) -> bool:
        """Nearly each record has a value of its own; measurements with fractions always do, and say nothing."""
        measured = len(self.numbers) > 0 and not np.isnan(self.numbers).any() and not self.whole
        return len(self.texts) > _FEW and len(self.texts) >= _NEARLY * self.recorded and not measured

    @property
    def unique(self) -> bool:
        return len(self.texts) == len(self.places)

    def share(self, fits: np.ndarray) -> float:
        """Of recorded values."""
        return float(self.counts[fits].sum() / max(self.recorded, 1))


def profile(table: pa.Table, register_name: str) -> Profile:
    """Guess what the columns of a register are.

    Near-unique columns and those named like a document, a telephone or an address are for verification only: each would
    identify at once. Texts and dates that come near to that (names, days of birth) are seldom to be had: ours, as the
    number is. The spread suggested for a number is 2 % of the range from the 5th to the 95th
    percentile, at least 1 for whole numbers: ours, to be corrected.

    Raises:
        DataError: no column can be the identifier.
    """
    notes = list(reading_notes(table))
    read = [column for name in table.column_names if (column := _read(name, table[name], notes)) is not None]
    identifier = _identifier(read, register_name, notes)
    attributes, columns = {}, []
    for column in read:
        kind = _kind(column, notes)
        use: Use | str = "id"
        if column is not identifier:
            use = _use(column, notes)
            spread = _suggested_spread(column) if kind == "numeric" else None
            rare = use == "ask" and kind in ("string", "date") and _names_person(column)
            if rare:
                notes.append(f"{column.name}: all but names the person; taken to be had in {_RARE:.0%} of the cases")
            attributes[column.name] = Attribute.model_validate(
                {"kind": kind, "error": _ERRORS[kind], "use": use, "spread": spread}
                | ({"availability": _RARE} if rare else {})
                | column.reading[""]
                | column.reading.get(kind, {})
            )
        order = np.argsort(-column.counts, kind="stable")[:_FREQUENT]
        frequent = tuple((column.texts[place], int(column.counts[place])) for place in order)
        bits = _bits(column)
        share = column.recorded / len(column.places)
        written = _written(column.reading.get(kind, {}))
        columns.append(ColumnProfile(column.name, kind, use, len(column.texts), share, bits, frequent, written))
    notes += _dependent([column for column in read if attributes.get(column.name, _IGNORED).use != "ignore"])
    notes.append("error rates, availability and spreads are suggested, not measured: learn them from observed answers")
    dictionary = Dictionary(id=identifier.name, attributes=attributes)
    return Profile(register_name, table.num_rows, tuple(columns), dictionary, tuple(notes))


_IGNORED = Attribute(kind="categorical", use="ignore")


def _written(reading: dict[str, Any]) -> str:
    comma = "decimal comma" if reading.get("decimal") == "," else None
    return ", ".join(filter(None, (reading.get("unit"), comma, reading.get("format"))))


def _read(name: str, column: pa.ChunkedArray, notes: list[str]) -> _Read | None:
    try:
        index, distinct = as_text(column)
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid):
        notes.append(f"{name}: values of type {column.type} are neither text nor numbers; the column is left out")
        return None
    if pa.types.is_timestamp(column.type) and column.type.tz:
        notes.append(f"{name}: moments; each is of the day that it is in {column.type.tz}")
    raw = distinct.to_pylist()
    words, doubts = not_recorded(name, None, raw)
    notes += doubts
    present = plain_texts([None if text in words else text for text in raw])
    # Different values may have one text (times of one day, empty and null).
    known: dict[str, int] = {}
    renumber = np.array([-1 if text is None else known.setdefault(text, len(known)) for text in present] + [-1])
    indices = np.asarray(index.fill_null(len(renumber) - 1))
    places = renumber[indices]
    counts = np.bincount(places[places >= 0], minlength=len(known))
    texts = list(known)
    if words:
        missing = np.array([text in words for text in raw] + [False])
        notes.append(missing_note(name, words, int(missing[indices].sum())))
    numbers, days = read_numbers(name, _tried(texts, looks_measured)), read_days(name, _tried(texts, _looks_dated))
    # With leading zeros it is a code.
    codes = np.array([_LEADING_ZERO.match(text) is not None for text in texts], bool)
    return _Read(
        name,
        texts,
        counts,
        places,
        np.where(codes, np.nan, numbers.numbers),
        days.days,
        {
            "": {"missing": sorted(words)} if words else {},
            "numeric": _said(decimal=numbers.decimal, unit=numbers.unit),
            "date": _said(format=days.format),
        },
        {"numeric": numbers.notes, "date": days.notes},
    )


def _said(**reading: str | None) -> dict[str, Any]:
    return {name: value for name, value in reading.items() if value is not None}


def _looks_dated(text: str) -> bool:
    return (text.isdecimal() and len(text) <= _SERIAL) or looks_dated(text)


def _tried(texts: list[str], looks: Callable[[str], bool]) -> Sequence[str | None]:
    """The texts, or none of them if of some too few look as they should: a million names are not read as dates."""
    some = texts[:: max(1, len(texts) // _TRIED)]
    return texts if 2 * sum(map(looks, some)) >= len(some) else [None] * len(texts)


def _plain_name(name: str) -> str:
    """ "E-Mail" -> "e_mail", "taxNumber" -> "tax_number"."""
    return re.sub(r"\W+", "_", re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", name)).lower()


def _identifier(columns: Sequence[_Read], register_name: str, notes: list[str]) -> _Read:
    named = [
        one for one in columns if _ID.search(_plain_name(one.name)) and not _PERSONAL.search(_plain_name(one.name))
    ]
    preferred = (
        [one for one in named if one.unique or one.near_unique],
        [one for one in columns if one.unique and one.near_unique],
        [one for one in columns if one.unique],
    )
    identifier = next((some[0] for some in preferred if some), None)
    if identifier is None:
        raise DataError(f"{register_name}: no column has a value of its own for each record: add one with identifiers")
    lacking = len(identifier.places) - identifier.recorded
    if lacking:
        notes.append(f"{identifier.name}: {lacking} records have no identifier; give each one of its own")
    if len(identifier.texts) < identifier.recorded:
        one, other = np.flatnonzero(identifier.places == int(np.argmax(identifier.counts > 1)))[:2] + 1
        notes.append(
            f"{identifier.name}: records {one} and {other} have the same, and others may; an identifier must be there "
            "once"
        )
    return identifier


def _kind(column: _Read, notes: list[str]) -> Kind:
    distinct, are_numbers, are_dates = len(column.texts), ~np.isnan(column.numbers), column.dates
    if distinct and are_dates.all() and (distinct >= _FEWEST_DATES or not column.texts[0].isdecimal()):
        notes += column.doubts["date"]
        far = np.array([not _YEARS[0] <= str(day) < _YEARS[1] for day in column.days])
        _note_far(column, far, notes)
        return "date"
    # Of a document, "123 456 789" is no number.
    personal = bool(_PERSONAL.search(_plain_name(column.name))) and not all(map(_is_plain, column.texts))
    if distinct and are_numbers.all() and not personal:
        few = distinct <= _CODES and all(text.lstrip("+-").isdecimal() for text in column.texts)
        kind: Kind = "categorical" if few else "numeric"
        if kind == "numeric":
            notes += column.doubts["numeric"]
            low, high = np.percentile(np.repeat(column.numbers, column.counts), (5, 95))
            reach = _FAR * (high - low)
            far = (column.numbers < low - reach) | (column.numbers > high + reach)
            _note_far(column, far & (reach > 0.0), notes)
        return kind
    _note_nearly(column, are_numbers, "numbers", "numeric", looks_measured, notes)
    _note_nearly(column, are_dates, "dates", "date", looks_dated, notes)
    if distinct >= _MANY:
        notes.append(f"{column.name}: {distinct:,} distinct texts; each answer is compared with all, which takes time")
    if distinct > _FEW:
        return "string"
    if len({normal(text) for text in column.texts}) < distinct:
        notes.append(f"{column.name}: some values differ in upper and lower case alone, and are values of their own")
    return "categorical"


def _is_plain(text: str) -> bool:
    """Whether a text is a number as Python writes it."""
    return not np.isnan(number_in(text))


def _note_nearly(
    column: _Read, fits: np.ndarray, what: str, kind: Kind, looks: Callable[[str], bool], notes: list[str]
) -> None:
    """Note what keeps a column from being of a kind that most of its values are of."""
    if column.share(fits) >= _NEARLY and fits.sum() > _CODES:
        row = int(np.argmax(~fits[column.places] & (column.places >= 0)))
        others = column.recorded - int(column.counts[fits].sum()) - 1
        notes.append(
            f"{column.name}: mostly {what}, but record {row + 1} has another text"
            + (f", and {others} more have" if others else "")
            + f"; mend or empty them and set kind = {kind!r}"
        )
    if column.doubts[kind] and column.share(np.array([looks(text) for text in column.texts], bool)) >= _NEARLY:
        notes += column.doubts[kind]


def _note_far(column: _Read, far: np.ndarray, notes: list[str]) -> None:
    if far.any():
        row = int(np.argmax(far[column.places] & (column.places >= 0)))
        others = int(column.counts[far].sum()) - 1
        notes.append(
            f"{column.name}: what record {row + 1} has is far from the others"
            + (f", and so is that of {others} more" if others else "")
            + "; mend or empty it if it is no true value"
        )


def _use(column: _Read, notes: list[str]) -> Use:
    if len(column.texts) < 2:
        problem = "all records have the same" if column.texts else "nothing is recorded"
        notes.append(f"{column.name}: {problem}; it tells nobody apart and is ignored")
        return "ignore"
    if _PERSONAL.search(_plain_name(column.name)):
        notes.append(f"{column.name}: named like what belongs to one person only; for verification, never asked for")
        return "verify"
    if column.near_unique:
        notes.append(f"{column.name}: nearly each record has a value of its own; for verification, never asked for")
        return "verify"
    return "ask"


def _bits(column: _Read) -> float:
    """Entropy of the values recorded."""
    return abs(float(entropy(column.counts / max(column.recorded, 1))))  # -0 is 0


def _names_person(column: _Read) -> bool:
    """Whether a value tells nearly as much as who it is."""
    return len(column.texts) > _FEW and _bits(column) >= _NAMES_PERSON * np.log2(len(column.places))


def _suggested_spread(column: _Read) -> float:
    values = np.repeat(column.numbers, column.counts)
    low, high = np.percentile(values, (5, 95))
    spread = _SPREAD * float(high - low or np.ptp(values) or 1.0)
    return max(float(f"{max(spread, 1.0) if column.whole else spread:.2g}"), float(np.finfo(float).tiny))


def _dependent(columns: Sequence[_Read]) -> list[str]:
    """Notes on pairs of columns whose mutual information, beyond chance, is near the smaller entropy."""
    reduced = {column.name: codes for column in columns if (codes := _reduced(column)) is not None}
    randomness, notes = np.random.default_rng(0), []
    for (one, codes), (other, others) in combinations(reduced.items(), 2):
        both = (codes >= 0) & (others >= 0)
        if both.sum() < _LEAST_PAIRED:
            continue
        bits, least = _mutual(codes[both], others[both])
        chance, _ = _mutual(codes[both], randomness.permutation(others[both]))
        if least - chance > 0.1 and bits - chance >= _DEPENDENT * (least - chance):
            notes.append(
                f"{one} and {other} tell nearly the same ({bits:.1f} of {least:.1f} bits); if answers about them come "
                "from one source, give both the same group"
            )
    return notes


def _reduced(column: _Read) -> np.ndarray | None:
    """Few codes of up to 10,000 records from all over the register, -1: not recorded; None if there are not few."""
    rows = np.unique(np.linspace(0, len(column.places) - 1, min(_PAIRED, len(column.places))).astype(np.int64))
    places = column.places[rows]
    if column.texts and column.dates.all():
        values = np.array([float(str(day)[:4]) for day in column.days])
    elif column.near_unique:
        return None
    elif len(column.texts) > _FEW and not np.isnan(column.numbers).any():
        values = column.numbers
    else:
        return places if len(column.texts) <= np.sqrt(_PAIRED) else None
    edges = np.unique(np.quantile(values[places[places >= 0]], np.linspace(0, 1, _BINS + 1)[1:-1]))
    return np.where(places >= 0, np.searchsorted(edges, values, "right")[places], -1)


def _mutual(one: np.ndarray, other: np.ndarray) -> tuple[float, float]:
    """(mutual information, smaller entropy), in bits."""
    width = int(other.max()) + 1
    joint = np.bincount(one * width + other, minlength=(int(one.max()) + 1) * width).reshape(-1, width) / len(one)
    alone, others = float(entropy(joint.sum(axis=1))), float(entropy(joint.sum(axis=0)))
    return alone + others - float(entropy(joint.reshape(-1))), min(alone, others)


def learn(dictionary: Dictionary, register: MemoryRegister, observed: pa.Table) -> Dictionary:
    """The data dictionary with error rates counted on answers about people whose records are known.

    Of n answers about recorded values, e wrong ones give error (e + 1) / (n + 2), never 0; availability is the same of
    answers that were to be had. Strings and dates get the shares of their levels, numbers and ordinals the spread of
    honest answers, and categories with 100 answers and 5 per value or more a confusion table. What has no answers keeps
    its error, and a confusion table stays until there are enough answers for another.

    Args:
        dictionary: to begin with.
        register: whose values are taken for true.
        observed: a row per person asked: the identifier, and a column per attribute asked for; empty: not to be had.

    Raises:
        DataError: an identifier that the register lacks, a column that is no attribute of it, or an answer that does
            not fit its attribute; names the row and the remedy.
    """
    if dictionary.id not in observed.column_names:
        raise DataError(f"observed answers need the column {dictionary.id!r}: about whom each row is")
    index, texts = as_text(observed[dictionary.id])
    ids = [None if place is None else texts[place].as_py() for place in index.to_pylist()]
    rows = np.where([one is None for one in ids], -1, register.rows([one or "" for one in ids]))
    if (rows < 0).any():
        place = int(np.argmax(rows < 0))
        who = "nobody is named" if ids[place] is None else "no record has this identifier"
        raise DataError(f"observed row {place + 1}: {who}; learn from people of the register only")
    learned = dict(dictionary.attributes)
    for name in observed.column_names:
        if name == dictionary.id:
            continue
        model = register.models.get(name)
        if model is None or not model.values:
            known = ", ".join(one for one, other in register.models.items() if other.values)
            raise DataError(f"observed answers have the column {name!r}; attributes that can be learned are {known}")
        # As the register is read; but other words may stand for "not to be had".
        attribute = model.attribute.model_copy(update={"missing": dictionary.attributes[name].missing})
        index, reading = read_column(name, attribute, observed[name], "observed row")
        answers = [None if place is None else reading.values[place] for place in index.to_pylist()]
        learned[name] = _learned(dictionary.attributes[name], model, register.column(name, rows), answers)
    return dictionary.model_copy(update={"attributes": learned})


def _learned(attribute: Attribute, model: Model, codes: np.ndarray, answers: list[str | None]) -> Attribute:
    answered = [row for row, one in enumerate(answers) if one is not None]
    update: dict[str, Any] = {"availability": (len(answered) + 1) / (len(answers) + 2)}
    trials = [(row + 1, int(codes[row]), str(answers[row])) for row in answered if codes[row]]
    if trials:
        if isinstance(model, Text | Day):
            update |= _levels(model, trials)
        elif isinstance(model, Numeric | Ordinal):
            update |= _nearness(model, trials)
        else:
            update |= _confusion(model, trials)
    return Attribute.model_validate(attribute.model_dump(exclude_none=True) | update)


Trials = list[tuple[int, int, str]]  # (observed row, code of the true value, the answer)


def _outcome(model: Model, row: int, answer: str) -> int:
    try:
        return model.outcome(answer)
    except DataError as error:
        raise DataError(
            f"observed row {row}: {model.name}: no record has this, or several have it written in other ways; write it "
            "as in the register, or set open = true in the data dictionary"
        ) from error


def _error(errors: float, trials: int) -> float:
    return round((errors + 1.0) / (trials + 2.0), 6)


def _levels(model: Text | Day, trials: Trials) -> dict[str, Any]:
    counts, seen = np.ones(4), {}
    for _, code, answer in trials:
        if (code, answer) not in seen:
            # A model of the true value alone: the others need not be compared.
            alone = type(model)(model.name, model.attribute, [model.values[code - 1]], np.array([0, 1]))
            seen[code, answer] = int(alone.levels(answer)[0])
        counts[seen[code, answer]] += 1
    shares = counts / counts.sum()
    return {"levels": tuple(shares.tolist()), "error": _error(len(trials) - (counts[0] - 1.0), len(trials))}


def _confusion(model: Model, trials: Trials) -> dict[str, Any]:
    counts: dict[str, dict[str, float]] = {}
    wrong = 0
    for row, code, answer in trials:
        outcome = _outcome(model, row, answer)
        wrong += outcome != code - 1
        if outcome < len(model.values):
            answers = counts.setdefault(model.values[code - 1], {})
            answers[model.values[outcome]] = answers.get(model.values[outcome], 0.0) + 1.0
    update: dict[str, Any] = {"error": _error(wrong, len(trials))}
    enough = len(trials) >= max(_CONFUSED, _CONFUSED_EACH * len(model.values))
    if enough and len(model.values) <= LARGEST_TABLE:
        update["confusion"] = counts
    return update


def _nearness(model: Numeric | Ordinal, trials: Trials) -> dict[str, Any]:
    """Spread of honest answers and share of others, by expectation maximisation of the model's own mixture.

    Wrong answers are as anybody's, and so may be near by chance. It begins from the median absolute deviation, which
    wrong answers hardly move.
    """
    codes = np.array([code for _, code, _ in trials])
    outcomes = np.array([_outcome(model, row, answer) for row, _, answer in trials])
    step, blur, whole = 1.0, 0.0, True
    if isinstance(model, Numeric):
        step = model.step
        true = model.low + step * (codes - 0.5)
        apart = np.array([float(answer) for _, _, answer in trials]) - true
        whole = step.is_integer() and float(model.low + step / 2).is_integer()
        # A grid's step blurs the true value by a variance of step^2 / 12; of whole numbers only where it is above 1.
        blur = (step**2 - (1.0 if whole else 0.0)) / 12.0
    else:
        apart = (outcomes - (codes - 1)).astype(float)
    apart = np.clip(apart, -1e100, 1e100)  # their squares are numbers too
    least = _LEAST_SPREAD if whole else _LEAST_SPREAD * step
    anybody = model.channel.base[outcomes]
    steps = step * np.arange(-_REACH, _REACH + 1)
    # From a step up: most answers may be right to the step, and none of the near ones may begin as wrong.
    spread, error = max(1.4826 * float(np.median(np.abs(apart))), step), 0.1
    for _ in range(_ITERATIONS):
        near = np.exp(-0.5 * (apart / spread) ** 2) / np.exp(-0.5 * (steps / spread) ** 2).sum()
        honest = (1.0 - error) * near / ((1.0 - error) * near + error * anybody)
        error = _error(float((1.0 - honest).sum()), len(trials))
        spread = max(float(np.sqrt((honest @ apart**2 + least**2) / (honest.sum() + 1.0))), least)
    return {"error": error, "spread": float(f"{max(np.sqrt(max(spread**2 - blur, 0.0)), least):.4g}")}
