"""Columns of a register as codes: values sorted, numbers on a grid, 0 for "not recorded"."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from unmask.errors import DataError
from unmask.tracing.attributes.dictionary import Attribute, Dictionary
from unmask.tracing.attributes.models import Categorical, Day, Model, Numeric, Ordinal, Score, Text
from unmask.tracing.attributes.values import ParsedTexts, Where, read_texts
from unmask.tracing.registers.tables import as_text

_MOST_STEPS = 512  # of a numeric grid
_STEPS_PER_SPREAD = 4.0

_OF_KIND: dict[str, type[Categorical] | type[Text] | type[Day]] = {
    "categorical": Categorical,
    "string": Text,
    "date": Day,
}


@dataclass(frozen=True)
class Column:
    """A column of N records.

    Attributes:
        codes: (N,), unsigned and as narrow as they can be.
        model: reads answers.
        notes: on how its texts were read.
    """

    codes: np.ndarray
    model: Model
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Coding:
    """How values become codes.

    Attributes:
        codes: (D,) of the D values it was made from, 0 for "not recorded".
        width: number of codes, V + 1.
        model: makes the model from the number of records with each code, (V + 1,).
        notes: on how the values were read.
    """

    codes: np.ndarray
    width: int
    model: Callable[[np.ndarray], Model]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Grid:
    """Code k is of numbers in [low + (k - 1) step, low + k step); `steps` of them, `low` and `step` in their unit."""

    low: float
    step: float
    steps: int

    def codes(self, numbers: np.ndarray) -> np.ndarray:
        """Codes of numbers, (D,), int64; NaN is "not recorded"."""
        return np.nan_to_num(np.floor((numbers - self.low) / self.step) + 1.0, nan=0.0).astype(np.int64)

    def coding(self, name: str, attribute: Attribute, codes: np.ndarray, notes: tuple[str, ...] = ()) -> Coding:
        """How numbers with these codes were coded."""
        return Coding(
            codes, self.steps + 1, lambda counts: Numeric(name, attribute, counts, self.low, self.step), notes
        )


def narrow(codes: np.ndarray, most: int) -> np.ndarray:
    """Codes in the narrowest unsigned type that holds `most`."""
    return codes.astype(np.min_scalar_type(most), copy=False)


def check_columns(dictionary: Dictionary, there: Sequence[str]) -> None:
    """See that a register with these columns has what the dictionary speaks of; scores are not in registers.

    Raises:
        DataError: the column of identifiers or of an attribute in use is not there, or none is in use.
    """
    if not dictionary.used:
        raise DataError('no attribute is in use: set use = "ask" in the data dictionary, or add attributes')
    read = [name for name, attribute in dictionary.used.items() if attribute.kind != "score"]
    missing = [name for name in (dictionary.id, *read) if name not in there]
    if len(missing) > len(read):  # what stands there instead may be a record
        raise DataError(
            f"the register has no column {missing[0]!r}, nor any other of the data dictionary: is it the right "
            "one, and does its first line name the columns?"
        )
    if missing:
        raise DataError(f"the register has no column {missing[0]!r}; it has {', '.join(there)}")


def notes_on(
    dictionary: Dictionary, models: Mapping[str, Model], size: int, read: Sequence[str] = ()
) -> tuple[str, ...]:
    """What people should know of a register of `size` records that has been read; `read`: how that was."""
    left_out = [name for name in dictionary.used if name not in models]
    notes = [*read, *(f"{name}: nothing is recorded in this column; it is left out" for name in left_out)]
    for name, model in models.items():
        spread = model.attribute.spread
        # Of whole numbers a step is 1 at least, however small the spread.
        if isinstance(model, Numeric) and spread is not None and model.step > 2.0 * spread and model.step != 1.0:
            notes.append(
                f"{name}: from {model.values[0]} to {model.values[-1]} is so wide that numbers are compared in steps "
                f"of {model.step:.3g}, beyond their spread of {spread:g}; mend or empty what is far off"
            )
    if size == 1:
        notes.append("one record: all that can be asked is whether this is the person")
    return tuple(notes)


def together(widths: Mapping[str, int], most: int) -> list[list[str]]:
    """Columns in groups whose joint codes number `most` at most; a wider column is alone. `widths`: codes of each."""
    groups: list[list[str]] = []
    for name in sorted(widths, key=lambda name: -widths[name]):
        for group in groups:
            if np.prod([float(widths[one]) for one in group]) * widths[name] <= most:
                group.append(name)
                break
        else:
            groups.append([name])
    return groups


def code_column(name: str, attribute: Attribute, column: pa.ChunkedArray) -> Column | None:
    """Code a column; None if nothing is recorded in it.

    Raises:
        DataError: a value is not of the attribute's kind; names the row and the remedy.
    """
    if attribute.kind == "score":
        return Column(np.zeros(len(column), np.uint8), Score(name, attribute))
    if attribute.kind == "numeric" and (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
        numbers = column.cast(pa.float64(), safe=False).to_numpy()
        coding = _code_numbers(name, attribute, np.where(np.isfinite(numbers), numbers, np.nan))
        return None if coding is None else _column(coding.codes, coding)
    index, reading = read_column(name, attribute, column)
    coding = code_reading(name, reading)
    places = np.asarray(index.cast(pa.int32()).fill_null(len(reading.values)))
    return None if coding is None else _column(narrow(np.append(coding.codes, 0), coding.width - 1)[places], coding)


def read_column(
    name: str, attribute: Attribute, column: pa.ChunkedArray, row: str = "record"
) -> tuple[pa.Array, ParsedTexts]:
    """Read a column as texts of any kind but "score": (index of each record, (N,), the distinct texts as read).

    Args:
        name, attribute: of the column.
        column: N records.
        row: what one of them is called where it is refused.

    Raises:
        DataError: as `read_texts` and `texts_of`.
    """
    index, texts = texts_of(name, column)
    places = np.asarray(index.cast(pa.int32()).fill_null(len(texts)))
    # A dictionary-encoded column may list values that no record has.
    there = np.bincount(places, minlength=len(texts) + 1) > 0
    values = [value if had else None for value, had in zip(texts.to_pylist(), there[:-1], strict=True)]
    return index, read_texts(name, attribute, values, lambda place: f"{row} {int(np.argmax(places == place)) + 1}")


def texts_of(name: str, column: pa.ChunkedArray) -> tuple[pa.Array, pa.Array]:
    """As `as_text`; DataError if the column holds neither text nor numbers."""
    try:
        return as_text(column)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise DataError(f'{name}: a column of {column.type} cannot be used; set use = "ignore"') from error


def _column(codes: np.ndarray, coding: Coding) -> Column:
    counts = np.bincount(codes, minlength=coding.width)
    return Column(narrow(codes, coding.width - 1), coding.model(counts), coding.notes)


def code_values(name: str, attribute: Attribute, values: Sequence[str | None], where: Where) -> Coding | None:
    """Code texts of any kind but "score"; None if nothing is recorded.

    Args:
        name, attribute: what they are of.
        values: (D,) texts, without spaces around them; None is "not recorded".
        where: says, for a place in `values`, which record has that value.

    Raises:
        DataError: a value is not of the attribute's kind; names where and the remedy.
    """
    return code_reading(name, read_texts(name, attribute, values, where))


def code_reading(name: str, reading: ParsedTexts) -> Coding | None:
    """As `code_values`, of texts that have been read."""
    attribute = reading.attribute
    if attribute.kind == "numeric":
        numbers = np.array([np.nan if value is None else float(value) for value in reading.values])
        return _code_numbers(name, attribute, numbers, reading.notes)
    if attribute.kind == "ordinal":
        known = list(attribute.order or ())
        kind: type[Ordinal] | type[Categorical] | type[Text] | type[Day] = Ordinal
    else:
        known = sorted({value for value in reading.values if value is not None})
        kind = _OF_KIND[attribute.kind]
    if all(value is None for value in reading.values):
        return None
    code = {value: place for place, value in enumerate(known, 1)}
    codes = np.array([0 if value is None else code[value] for value in reading.values], np.int64)
    return Coding(codes, len(known) + 1, lambda counts: kind(name, attribute, known, counts), reading.notes)


def _code_numbers(name: str, attribute: Attribute, numbers: np.ndarray, notes: tuple[str, ...] = ()) -> Coding | None:
    there = numbers[~np.isnan(numbers)]
    if not len(there):
        return None
    steps = grid(attribute, float(there.min()), float(there.max()), bool((there == np.floor(there)).all()))
    return steps.coding(name, attribute, steps.codes(numbers), notes)


def grid(attribute: Attribute, low: float, high: float, whole: bool) -> Grid:
    """A grid between two numbers, fine enough for the attribute's spread; `whole` numbers stay whole.

    Raises:
        DataError: they are farther apart than a number can say.
    """
    assert attribute.spread is not None  # numeric attributes have one
    if not np.isfinite(high - low):
        raise DataError(f"numbers from {low:g} to {high:g} are too far apart to be compared; mend or empty them")
    least = 8.0 * float(np.spacing(max(abs(low), abs(high), 1.0)))  # below it, neighbouring steps are the same number
    step = max(attribute.spread / _STEPS_PER_SPREAD, (high - low) / (_MOST_STEPS - 1), least)
    if whole:
        step = float(max(1.0, np.ceil(step)))
    low -= step / 2
    # Divided as codes are: `//` may round the other way, and the greatest number would fall off the grid.
    return Grid(low, step, int(np.floor((high - low) / step)) + 1)
