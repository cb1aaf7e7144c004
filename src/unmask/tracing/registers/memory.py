"""A register in memory: packed columns of codes, float32 weights. To ten million records and beyond.

Columns with few values share one packed column, so that a pass over 20 columns is a pass over six or seven. Weights are
kept as logarithms with the largest near 0, where float32 is finest. Sums go over blocks that fit the cache, in float64.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from unmask.errors import DataError
from unmask.tracing.attributes.dictionary import Dictionary
from unmask.tracing.attributes.models import Model
from unmask.tracing.registers.columns import Column, check_columns, code_column, narrow, notes_on, together
from unmask.tracing.registers.tables import as_text, fingerprint, read_table, reading_notes
from unmask.tracing.registers.weighing import (
    AnswerLikelihood,
    LikelihoodPatterns,
    Likelihoods,
    RecordRatios,
    RecordWeights,
)

_PACKED = 4096  # values of a packed column: a table of them stays in the fastest cache
_BLOCK = 1 << 16  # records in a pass
_BIN = 0.25  # nats: records are binned by weight to find the light ones
_BINS = 256
_TOP = 50  # records that are named
_TIE = 1e-4  # nats within which weights are the same: float32 after twenty sums
# Share of mass that ranking questions may leave out: what it changes in expected bits tells no questions apart.
NEGLIGIBLE = 1e-6


@dataclass(frozen=True)
class PackedColumns:
    """Columns in one: the last column's code, plus its radix times the code of the one before, and so on."""

    names: tuple[str, ...]
    radices: tuple[int, ...]
    codes: np.ndarray

    @property
    def size(self) -> int:
        """Number of packed codes."""
        return int(np.prod(self.radices))

    def split(self, codes: np.ndarray, name: str) -> np.ndarray:
        """One column's codes from packed ones."""
        place = self.names.index(name)
        below = int(np.prod(self.radices[place + 1 :], dtype=np.int64))
        return (codes // below) % self.radices[place]

    def tables(self, tables: dict[str, np.ndarray]) -> np.ndarray:
        """Sum of its columns' tables, over packed codes, (size,)."""
        parts = [tables.get(name, np.zeros(radix)) for name, radix in zip(self.names, self.radices, strict=True)]
        return sum(np.ix_(*parts), np.zeros(1)).reshape(-1)


class MemoryRegister:
    """See `Register`. `read_register` and `coded` make it."""

    def __init__(
        self,
        dictionary: Dictionary,
        ids: pa.Array,
        columns: dict[str, Column],
        fingerprint: str,
        notes: tuple[str, ...] = (),
    ) -> None:
        self.size = len(ids)
        self.dictionary = dictionary
        self.fingerprint = fingerprint
        self.notes = notes
        self.models: dict[str, Model] = {name: column.model for name, column in columns.items()}
        self._ids = ids
        self.packed = _packed(columns)
        self._packed_with = {name: packed for packed in self.packed for name in packed.names}

    def weigh(self, likelihoods: Likelihoods, before: RecordWeights | None = None) -> "MemoryWeights":
        """Weigh all records by what is known."""
        return MemoryWeights(self, likelihoods, before)

    def codes(self, rows: np.ndarray, names: Sequence[str]) -> np.ndarray:
        """Codes of some records, (len(rows), len(names)), int64."""
        columns = [self.column(name, rows) for name in names]
        return np.stack(columns, axis=1) if columns else np.zeros((len(rows), 0), np.int64)

    def column(self, name: str, rows: np.ndarray | slice = slice(None)) -> np.ndarray:
        """Codes of one attribute, int64."""
        packed = self._packed_with[name]
        return packed.split(packed.codes[rows].astype(np.int64), name)

    def ids(self, rows: np.ndarray) -> list[str]:
        """Identifiers of some records."""
        return [str(one) for one in self._ids.take(pa.array(rows)).to_pylist()]

    def rows(self, ids: Sequence[str]) -> np.ndarray:
        """Rows of identifiers; -1 where the register has none such."""
        return np.asarray(pc.fill_null(pc.index_in(pa.array(ids, pa.string()), self._ids), -1)).astype(np.int64)

    def known(self, ids: Sequence[str]) -> int:
        """How many of these identifiers are in the register."""
        return int((self.rows(ids) >= 0).sum())

    def row(self, identifier: str) -> int:
        """The record with an identifier; DataError if none has it."""
        row = int(self.rows([identifier])[0])
        if row < 0:
            raise DataError(f"no record has the identifier {identifier!r}")
        return row

    def sample(self, names: Sequence[str], most: int) -> np.ndarray:
        """Codes of evenly spaced records, or of all, (records, len(names)), int64."""
        return self.codes(np.unique(np.linspace(0, self.size - 1, min(most, self.size)).astype(np.int64)), names)


class MemoryWeights:
    """See `RecordWeights`."""

    def __init__(self, register: MemoryRegister, likelihoods: Likelihoods, before: RecordWeights | None = None) -> None:
        self._register = register
        self.likelihoods = likelihoods
        weighed = before.likelihoods if isinstance(before, MemoryWeights) else ()
        if (
            isinstance(before, MemoryWeights)
            and all(a is b for a, b in zip(weighed, likelihoods, strict=False))
            and len(weighed) <= len(likelihoods)
        ):
            self._logs: np.ndarray = before._logs.copy()
            self._offset: float = before._offset
            fresh = likelihoods[len(weighed) :]
        else:
            self._logs, self._offset = np.zeros(register.size, np.float32), 0.0
            fresh = likelihoods
        for likelihood in fresh:
            self._add(likelihood)
        self._sum_up()

    def _add(self, likelihood: AnswerLikelihood) -> None:
        groups = {packed.names: packed for packed in (self._register._packed_with[name] for name in likelihood.tables)}
        scores = [self._scored(listed) for listed in likelihood.scores.values()]
        if len(groups) + len(scores) == 1 and groups:
            (packed,) = groups.values()
            table = likelihood.trusted(packed.tables(likelihood.tables))
            top = float(table.max())
            narrowed = (table - top).astype(np.float32)
            for rows in _blocks(self._register.size):
                self._logs[rows] += narrowed[packed.codes[rows]]
        else:
            summed = sum(scores, np.zeros(self._register.size))
            for packed in groups.values():
                summed = summed + packed.tables(likelihood.tables)[packed.codes]
            logs = likelihood.trusted(summed)
            top = float(logs.max())
            self._logs += (logs - top).astype(np.float32)
        self._offset += top

    def _scored(self, listed: RecordRatios) -> np.ndarray:
        logs = np.full(self._register.size, listed.unlisted)
        rows = self._register.rows(listed.ids)
        logs[rows[rows >= 0]] = listed.log_ratios[rows >= 0]
        return logs

    def _sum_up(self) -> None:
        top = float(self._logs.max())
        self._logs -= np.float32(top)
        self._offset += float(np.float32(top))
        total = weighted = 0.0
        bins = np.zeros(_BINS, np.int64)
        for rows in _blocks(self._register.size):
            logs = self._logs[rows]
            weights = np.exp(logs, dtype=np.float64)
            total += weights.sum()
            weighted += weights @ logs
            bins += np.bincount(np.minimum(logs * (-1.0 / _BIN), _BINS - 1).astype(np.uint8), minlength=_BINS)
        self._total = total
        self.log_mean = float(np.log(total / self._register.size) + self._offset)
        self.entropy = max(float((np.log(total) - weighted / total) / np.log(2.0)), 0.0)
        self._find_top(bins)
        self._find_active(bins)

    def _find_top(self, bins: np.ndarray) -> None:
        wanted = min(_TOP, self._register.size)
        last = int(np.searchsorted(np.cumsum(bins), wanted))
        rows = np.flatnonzero(self._logs > -_BIN * (last + 1)) if last < _BINS - 1 else np.arange(self._register.size)
        logs = self._logs[rows]
        if len(rows) > wanted:
            least = np.partition(logs, len(logs) - wanted)[len(logs) - wanted]
            surer = np.flatnonzero(logs > least)
            # Of those as heavy as the last to be named, the first ones.
            chosen = np.concatenate([surer, np.flatnonzero(logs == least)[: wanted - len(surer)]])
            rows, tied = rows[chosen], int((logs >= -_TIE).sum())
            logs = logs[chosen]
        else:
            tied = int((logs >= -_TIE).sum())
        order = np.lexsort((rows, -logs))
        self.rows = rows[order]
        self.log_shares = logs[order].astype(np.float64) - np.log(self._total)
        self.tied = tied

    def _find_active(self, bins: np.ndarray) -> None:
        """Leave out the lightest records, as long as they cannot hold more than NEGLIGIBLE of the mass."""
        most = bins * np.exp(-_BIN * np.arange(_BINS)) / self._total
        self._beyond = np.cumsum(most[::-1])[::-1]  # mass from each bin on, at most
        first = self._first_neglected(NEGLIGIBLE)
        kept = int(bins[:first].sum())
        if first >= _BINS or kept > self._register.size // 2:
            self._active: np.ndarray | None = None
            self.neglected = 0.0
            return
        self._active = self._until(first)
        self.neglected = float(self._beyond[first])

    def _first_neglected(self, neglect: float) -> int:
        """The first bin from which on all hold so much of the mass at most; _BINS if none."""
        return int(np.searchsorted(-self._beyond, -neglect, side="left"))

    def _until(self, first: int) -> np.ndarray:
        """The records in the bins before."""
        return np.flatnonzero(self._logs > -_BIN * first)

    def tied_ids(self, most: int) -> list[str]:
        """Identifiers of records as heavy as the heaviest."""
        return self._register.ids(np.flatnonzero(self._logs >= -_TIE)[:most])

    def tally(self, names: Sequence[str]) -> dict[str, np.ndarray]:
        """Share of the mass at each code, (V + 1,), by attribute."""
        return self._summed(names, 1)

    def squares(self, names: Sequence[str]) -> dict[str, np.ndarray]:
        """Sum of squared shares at each code, (V + 1,), by attribute."""
        return self._summed(names, 2)

    def _summed(self, names: Sequence[str], power: int) -> dict[str, np.ndarray]:
        groups = [packed for packed in self._register.packed if set(packed.names) & set(names)]
        sums = [np.zeros(packed.size) for packed in groups]
        for rows, weights in self._weights():
            weights **= power
            for packed, total in zip(groups, sums, strict=True):
                total += np.bincount(packed.codes[rows], weights=weights, minlength=packed.size)
        masses = {}
        for packed, total in zip(groups, sums, strict=True):
            grid = total.reshape(packed.radices)
            for place, name in enumerate(packed.names):
                others = tuple(axis for axis in range(len(packed.names)) if axis != place)
                masses[name] = grid.sum(axis=others)
        return {name: masses[name] for name in names}

    def joint(self, one: str, other: str) -> np.ndarray:
        """Share of the mass at each pair of codes, (V1 + 1, V2 + 1)."""
        register = self._register
        sizes = [len(register.models[name].counts) for name in (one, other)]
        total = np.zeros(sizes[0] * sizes[1])
        for rows, weights in self._weights():
            codes = register.column(one, rows) * sizes[1] + register.column(other, rows)
            total += np.bincount(codes, weights=weights, minlength=len(total))
        return total.reshape(sizes)

    def _weights(self) -> Iterator[tuple[np.ndarray | slice, np.ndarray]]:
        """Blocks of the records that count, with their shares of the mass."""
        if self._active is None:
            blocks: Iterator[np.ndarray | slice] = _blocks(self._register.size)
        else:
            blocks = (self._active[start : start + _BLOCK] for start in range(0, len(self._active), _BLOCK))
        for rows in blocks:
            yield rows, np.exp(self._logs[rows], dtype=np.float64) / self._total

    def patterns(self, neglect: float = 0.0) -> LikelihoodPatterns:
        """All records by what the evidence says of them; the lightest, with at most that share of mass, left out."""
        names = tuple(itertools.chain.from_iterable(likelihood.names for likelihood in self.likelihoods))
        first = self._first_neglected(neglect) if neglect > 0.0 else _BINS
        rows = self._until(first) if first < _BINS else slice(None)
        keys, number = np.zeros(len(self._logs[rows]), np.int64), 1
        distinct: list[np.ndarray] = []
        for likelihood in self.likelihoods:
            for name, table in likelihood.tables.items():
                ratios, classes = np.unique(table, return_inverse=True)
                packed = self._register._packed_with[name]
                of_packed = classes[packed.split(np.arange(packed.size), name)]
                keys = keys * len(ratios) + of_packed[packed.codes[rows]]
                keys, number, distinct = _compressed(keys, number * len(ratios), distinct, ratios)
            for listed in likelihood.scores.values():
                ratios, classes = np.unique(self._scored(listed)[rows], return_inverse=True)
                keys = keys * len(ratios) + classes
                keys, number, distinct = _compressed(keys, number * len(ratios), distinct, ratios)
        columns = np.stack(distinct, axis=1) if distinct else np.zeros((1, 0))
        return LikelihoodPatterns(names, columns, np.bincount(keys, minlength=number))


def _compressed(
    keys: np.ndarray, number: int, before: list[np.ndarray], ratios: np.ndarray
) -> tuple[np.ndarray, int, list[np.ndarray]]:
    """Keys renumbered to those that occur, and each column's ratio of every key that does."""
    if number <= max(4 * len(keys), _PACKED):
        occurring = np.flatnonzero(np.bincount(keys, minlength=number))
        renumber = np.zeros(number, np.int64)
        renumber[occurring] = np.arange(len(occurring))
        keys = renumber[keys]
    else:
        occurring, keys = np.unique(keys, return_inverse=True)
    parents, last = np.divmod(occurring, len(ratios))
    return keys, len(occurring), [*(column[parents] for column in before), ratios[last]]


def _packed(columns: dict[str, Column]) -> tuple[PackedColumns, ...]:
    """Columns with few values, joined as long as the joint code stays small."""
    radices = {name: len(column.model.counts) for name, column in columns.items()}
    packed = []
    for group in together(radices, _PACKED):
        size = int(np.prod([radices[name] for name in group]))
        codes = np.zeros(len(columns[group[0]].codes), np.min_scalar_type(size))
        for name in group:
            codes *= codes.dtype.type(radices[name])
            codes += columns[name].codes.astype(codes.dtype)
        packed.append(PackedColumns(tuple(group), tuple(radices[name] for name in group), narrow(codes, size)))
    return tuple(packed)


def _blocks(size: int) -> Iterator[slice]:
    return (slice(start, min(start + _BLOCK, size)) for start in range(0, size, _BLOCK))


def read_register(register: str | Path, dictionary: Dictionary) -> MemoryRegister:
    """Read a register into memory.

    Raises:
        DataError: see `read_table` and `code_column`; an identifier is missing or there twice; an attribute of the
            dictionary is not there.
    """
    return coded(read_table(str(register)), dictionary, fingerprint(str(register)))


def coded(table: pa.Table, dictionary: Dictionary, mark: str) -> MemoryRegister:
    """A table as a register; `mark` is its fingerprint."""
    check_columns(dictionary, table.column_names)
    columns = {}
    for name, attribute in dictionary.used.items():
        stored = pa.chunked_array([pa.nulls(table.num_rows)]) if attribute.kind == "score" else table[name]
        column = code_column(name, attribute, stored)
        if column is not None:
            columns[name] = column
    models = {name: column.model for name, column in columns.items()}
    read = (*reading_notes(table), *(note for column in columns.values() for note in column.notes))
    notes = notes_on(dictionary, models, table.num_rows, read)
    return MemoryRegister(dictionary, identifiers(table, dictionary.id), columns, mark, notes)


def identifiers(table: pa.Table, name: str) -> pa.Array:
    """The identifiers, as text.

    Raises:
        DataError: one is missing or there twice, or the column holds neither text nor numbers.
    """
    try:
        index, texts = as_text(table[name])
        if pc.all(pc.match_substring_regex(texts, r"^\d+\.0+$")).as_py():  # whole numbers, as pandas writes them
            texts = pc.replace_substring_regex(texts, r"\.0+$", "")
        ids = texts.take(index)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise DataError(
            f"{name}: a column of {table[name].type} cannot name records; use one of text or numbers"
        ) from error
    if ids.null_count:
        row = int(np.argmax(np.asarray(pc.is_null(ids)))) + 1
        raise DataError(f"record {row} has no {name}: give each record an identifier of its own")
    # Different values may have one text.
    if np.bincount(np.asarray(index)).max() > 1 or pc.count_distinct(texts, mode="all").as_py() < len(texts):
        twice = same_identifier(ids)
        if twice is not None:
            raise DataError(
                f"records {twice[0]} and {twice[1]} have the same {name}: an identifier must be there once; "
                "`unmask trace deduplicate` finds records of the same person"
            )
    return ids


def same_identifier(ids: pa.Array) -> tuple[int, int] | None:
    """The first two records, from 1, of which one has the identifier of the other; None if there are none."""
    places = np.asarray(ids.dictionary_encode().indices.drop_null())
    _, first, often = np.unique(places, return_index=True, return_counts=True)
    if often.max(initial=0) < 2:
        return None
    one, other = np.flatnonzero(places == places[first[often > 1].min()])[:2] + 1
    return int(one), int(other)
