"""A register larger than memory, as queries: DuckDB over Parquet or its own tables, or Spark, by the same expressions.

Nothing is copied: every step reads the columns that it needs, a few at a time, and only sums leave the database. What
was answered becomes a look-up per attribute (`cases`, or a join with a small table), so that every query computes the
weights anew; a step reads the register once for the sums, once for the likeliest records, and once for every group of
attributes whose joint codes are few.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from unmask.errors import DataError, MissingExtraError
from unmask.tracing.attributes.dictionary import Attribute, Dictionary
from unmask.tracing.attributes.models import Model, Score
from unmask.tracing.registers.columns import check_columns, code_values, grid, notes_on, texts_of, together
from unmask.tracing.registers.databases import DUCKDB, DUCKDB_SETTINGS, duckdb_cause, duckdb_table, split_table
from unmask.tracing.registers.tables import fingerprint, no_register
from unmask.tracing.registers.weighing import LikelihoodPatterns, Likelihoods, RecordWeights

try:
    import duckdb
    import ibis
    import ibis.expr.types as ir
except ImportError as error:
    raise MissingExtraError("trace", "a register larger than memory") from error

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_TOP = 50  # records that are named
_TIE = 1e-4  # nats within which weights are the same, as in memory
_CASES = 16  # values that are told apart by `cases`; beyond, a join is faster
_GROUPS = 1 << 16  # joint codes that one query sums
_ID, _WEIGHT = "identifier", "weight"


@dataclass(frozen=True)
class Field:
    """An attribute as the database has it: `column` holds keys, null or one of `keys` (D,), which have `codes` (D,)."""

    column: str
    keys: pa.Array
    codes: np.ndarray
    model: Model
    notes: tuple[str, ...] = ()

    def coded(self, keys: pa.ChunkedArray) -> np.ndarray:
        """Codes of keys, int64."""
        places = pc.index_in(keys.cast(self.keys.type), value_set=self.keys)
        return np.append(self.codes, 0)[np.asarray(pc.fill_null(places, len(self.codes)))]


@dataclass(frozen=True)
class _Ratios:
    """Log ratios of records by their key in `column`.

    Attributes:
        column: null there has the ratio `missing`.
        keys, ratios: (K,) those that are listed; `usual` is that of all others.
    """

    column: str
    keys: pa.Array
    ratios: np.ndarray
    usual: float
    missing: float = 0.0

    def join(self, records: ir.Table, number: int) -> ir.Table:
        """Put the ratios beside the records, if they are too many for `cases`."""
        if len(self.keys) <= _CASES:
            return records
        listed = ibis.memtable(
            pa.table({f"listed{number}": self.keys, f"log{number}": pa.array(self.ratios, pa.float64())})
        )
        return records.left_join(listed, records[self.column] == listed[f"listed{number}"])

    def of(self, joined: ir.Table, number: int) -> ir.Value:
        """The ratio of each record."""
        usual = _number(self.usual)
        cases = [(joined[self.column].isnull(), _number(self.missing))]
        if len(self.keys) > _CASES:
            return ibis.cases(*cases, else_=joined[f"log{number}"].fill_null(usual))
        for ratio in np.unique(self.ratios):
            keys = self.keys.filter(pa.array(self.ratios == ratio)).to_pylist()
            cases.append((joined[self.column].isin(keys), _number(ratio)))
        return ibis.cases(*cases, else_=usual)


class SqlRegister:
    """See `Register`. Rows number the records that were named so far: the others have none.

    Args:
        table: of ibis, with a row per record.
        dictionary: what its columns are.
        fingerprint: by which a case knows the register again.
        zones: time zones of columns, whose days are those there; of others the day is that of UTC.

    Raises:
        DataError: no records; a column is not there; an identifier is missing or there twice; a value is not of its
            attribute's kind.
    """

    def __init__(
        self, table: ir.Table, dictionary: Dictionary, fingerprint: str, zones: Mapping[str, str] | None = None
    ) -> None:
        check_columns(dictionary, table.columns)
        self.dictionary = dictionary
        self.fingerprint = fingerprint
        identifier = table[dictionary.id]
        if identifier.type().is_floating():  # whole numbers are written without ".0", as in memory
            is_whole = identifier == identifier.round()
            identifier = is_whole.ifelse(identifier.cast("int64").cast("string"), identifier.cast("string"))
        identifier = identifier.cast("string").strip().nullif("")
        self.size = _size(table.select(identifier.name(_ID)), dictionary.id)
        self.fields: dict[str, Field] = {}
        keys: dict[str, ir.Value] = {}
        for number, (name, attribute) in enumerate(dictionary.used.items()):
            encoded = _read(table, name, attribute, f"key{number}", self.size, (zones or {}).get(name, "UTC"))
            if encoded is not None:
                self.fields[name], keys[f"key{number}"] = encoded
        self.records = table.select(identifier.name(_ID), **keys)
        self.models: dict[str, Model] = {name: field.model for name, field in self.fields.items()}
        read = [note for field in self.fields.values() for note in field.notes]
        self.notes = notes_on(dictionary, self.models, self.size, read)
        self._named: dict[str, int] = {}
        self._codes: list[np.ndarray] = []

    def weigh(self, likelihoods: Likelihoods, before: RecordWeights | None = None) -> "SqlWeights":
        """Weigh all records by what is known; weights are not kept, so that only the very same can be gone on from."""
        if isinstance(before, SqlWeights) and before.likelihoods == likelihoods:
            return before
        return SqlWeights(self, likelihoods)

    def codes(self, rows: np.ndarray, names: Sequence[str]) -> np.ndarray:
        """Codes of some records, (len(rows), len(names)), int64."""
        places = [list(self.fields).index(name) for name in names]
        return np.array([self._codes[row][places] for row in rows], np.int64).reshape(len(rows), len(names))

    def ids(self, rows: np.ndarray) -> list[str]:
        """Identifiers of some records."""
        named = list(self._named)
        return [named[row] for row in rows]

    def row(self, identifier: str) -> int:
        """The record with an identifier; DataError if none has it."""
        if identifier not in self._named and not len(self.name(self.records.filter(ibis._[_ID] == identifier))[0]):
            raise DataError(f"no record has the identifier {identifier!r}")
        return self._named[identifier]

    def known(self, ids: Sequence[str]) -> int:
        """How many of these identifiers are in the register."""
        asked = ibis.memtable(pa.table({"asked": pa.array(ids, pa.string())}))
        return int(self.records.join(asked, self.records[_ID] == asked["asked"]).count().to_pyarrow().as_py())

    def name(self, records: ir.Table) -> tuple[np.ndarray, pa.Table]:
        """Give some records rows, if they have none yet: (rows, what was read of them)."""
        rows = records.to_pyarrow()
        ids, codes = rows[_ID].to_pylist(), self.coded(rows, tuple(self.fields))
        for identifier, of_record in zip(ids, codes, strict=True):
            if identifier not in self._named:
                self._named[identifier] = len(self._codes)
                self._codes.append(of_record)
        return np.array([self._named[identifier] for identifier in ids], np.int64), rows

    def sample(self, names: Sequence[str], most: int) -> np.ndarray:
        """Codes of the records with the least hashes, or of all, (records, len(names)), int64."""
        records = self.records
        if self.size > most:
            records = records.order_by([records[_ID].hash(), records[_ID]]).limit(most)
        return self.coded(records.select(_ID, *(self.fields[name].column for name in names)).to_pyarrow(), names)

    def coded(self, rows: pa.Table, names: Sequence[str]) -> np.ndarray:
        """Codes of what was read, (rows.num_rows, len(names)), int64."""
        codes = [self.fields[name].coded(rows[self.fields[name].column]) for name in names]
        return np.stack(codes, axis=1) if codes else np.zeros((rows.num_rows, 0), np.int64)


class SqlWeights:
    """See `RecordWeights`. Weights are computed anew by every query; sums of attributes are kept."""

    def __init__(self, register: SqlRegister, likelihoods: Likelihoods) -> None:
        self._register = register
        self.likelihoods = likelihoods
        self.neglected = 0.0
        self._sums: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        ratios_of: dict[str, _Ratios] = {}
        for likelihood in likelihoods:
            ratios_of |= {name: _ratios(register.fields[name], table) for name, table in likelihood.tables.items()}
            for name, listed in likelihood.scores.items():
                ratios_of[name] = _Ratios(_ID, pa.array(listed.ids, pa.string()), listed.log_ratios, listed.unlisted)
        # Few and wide steps: ibis takes seconds to put many nested ones into words.
        joined = register.records
        for number, ratios in enumerate(ratios_of.values()):
            joined = ratios.join(joined, number)
        self._told = {name: f"ratio{number}" for number, name in enumerate(ratios_of)}
        ratio = {f"ratio{number}": ratios.of(joined, number) for number, ratios in enumerate(ratios_of.values())}
        records = joined.select(*register.records.columns, **ratio)
        logs = _number(0.0)
        for likelihood in likelihoods:
            summed = sum((records[self._told[name]] for name in likelihood.names), _number(0.0))
            if likelihood.trust < 1.0:  # as AnswerLikelihood.trusted
                summed, doubted = summed + _number(np.log(likelihood.trust)), _number(np.log1p(-likelihood.trust))
                summed = ibis.greatest(summed, doubted) + ((-(summed - doubted).abs()).exp() + _number(1.0)).ln()
            logs = logs + summed
        self._records = records.mutate(logs.name(_WEIGHT))
        self._sum_up()

    def _sum_up(self) -> None:
        first = self._records.order_by([ibis.desc(_WEIGHT), _ID]).limit(_TOP)
        self.rows, heaviest = self._register.name(first)
        logs = np.asarray(heaviest[_WEIGHT], float)
        self._top = float(logs[0])
        below = self._records[_WEIGHT] - _number(self._top)
        sums = self._records.aggregate(
            total=below.exp().sum(), weighted=(below.exp() * below).sum(), tied=(below >= _number(-_TIE)).sum()
        )
        (total,), (weighted,), (self.tied,) = sums.to_pyarrow().to_pydict().values()
        self._total = total
        self.log_mean = float(np.log(total / self._register.size) + self._top)
        self.entropy = max(float((np.log(total) - weighted / total) / np.log(2.0)), 0.0)
        self.log_shares = logs - self._top - np.log(total)

    def tied_ids(self, most: int) -> list[str]:
        """Identifiers of records as heavy as the heaviest."""
        heaviest = self._records.filter(self._records[_WEIGHT] >= _number(self._top - _TIE))
        ids = heaviest.order_by(_ID).limit(most).select(_ID).to_pyarrow()[_ID]
        return [str(one) for one in ids.to_pylist()]

    def tally(self, names: tuple[str, ...]) -> dict[str, np.ndarray]:
        """Share of the mass at each code, (V + 1,), by attribute."""
        self._sum_over(names)
        return {name: self._sums[name][0] for name in names}

    def squares(self, names: tuple[str, ...]) -> dict[str, np.ndarray]:
        """Sum of squared shares at each code, (V + 1,), by attribute."""
        self._sum_over(names)
        return {name: self._sums[name][1] for name in names}

    def joint(self, one: str, other: str) -> np.ndarray:
        """Share of the mass at each pair of codes, (V1 + 1, V2 + 1)."""
        codes, masses, _ = self._grouped((one, other))
        total = np.zeros([len(self._register.models[name].counts) for name in (one, other)])
        np.add.at(total, (codes[:, 0], codes[:, 1]), masses)
        return total

    def patterns(self, neglect: float = 0.0) -> LikelihoodPatterns:
        """All records by what the evidence says of them; the lightest, with at most that share of mass, left out."""
        names, columns = tuple(self._told), list(self._told.values())
        if not names:
            return LikelihoodPatterns((), np.zeros((1, 0)), np.array([self._register.size]))
        records = self._records
        if neglect > 0.0:
            least = self._top + np.log(self._total) + np.log(neglect / self._register.size)
            records = records.filter(records[_WEIGHT] >= _number(least))
        patterns = records.select(*columns).group_by(columns).aggregate(records=ibis._.count()).to_pyarrow()
        ratios = np.stack([np.asarray(patterns[column], float) for column in columns], axis=1)
        return LikelihoodPatterns(names, ratios, np.asarray(patterns["records"], np.int64))

    def _sum_over(self, names: Sequence[str]) -> None:
        models, size = self._register.models, self._register.size
        wanted = {name: len(models[name].counts) for name in names if name not in self._sums}
        if not self.likelihoods:
            self._sums.update({name: (models[name].counts / size, models[name].counts / size**2) for name in wanted})
            return
        for group in together(wanted, _GROUPS):
            codes, masses, squares = self._grouped(group)
            for place, name in enumerate(group):
                mass, square = (np.bincount(codes[:, place], of, wanted[name]) for of in (masses, squares))
                self._sums[name] = mass, square

    def _grouped(self, names: Sequence[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(codes (G, len(names)), share of the mass (G,), sum of squared shares (G,)) of what occurs together."""
        columns = [self._register.fields[name].column for name in names]
        shares = ((self._records[_WEIGHT] - _number(self._top)).exp() / _number(self._total)).name(_WEIGHT)
        groups = (
            self._records.select(*columns, shares)
            .group_by(columns)
            .aggregate(mass=ibis._[_WEIGHT].sum(), square=(ibis._[_WEIGHT] * ibis._[_WEIGHT]).sum())
            .to_pyarrow()
        )
        return (
            self._register.coded(groups, names),
            np.asarray(groups["mass"], float),
            np.asarray(groups["square"], float),
        )


def over_parquet(path: Path, dictionary: Dictionary) -> SqlRegister:
    """A register of Parquet: a file, or a folder with files of the same columns. DuckDB reads it.

    Raises:
        DataError: it is not there or cannot be read; see `SqlRegister`.
    """
    files = _parquet_files(path)
    with _readable(path):
        database = ibis.duckdb.connect(**DUCKDB_SETTINGS)
        database.raw_sql("set TimeZone = 'UTC'")  # not that of the machine
        table = database.read_parquet([str(file) for file in files])
        return SqlRegister(table, dictionary, _mark(path, files), _zones(files))


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turn what DuckDB says of a file that it cannot read into one line."""
    try:
        yield
    except duckdb.Error as error:
        raise DataError(f"{path}: cannot be read: {duckdb_cause(error)}") from error


def over_duckdb(register: str, dictionary: Dictionary) -> SqlRegister:
    """A register in a DuckDB file, "people.duckdb:TABLE"; it is only read.

    Raises:
        DataError: it is not there; see `SqlRegister`.
    """
    path, table = split_table(register)
    if not path.is_file():
        raise no_register(path)
    with _readable(path):
        database = ibis.duckdb.connect(path, read_only=True, **DUCKDB_SETTINGS)
        database.raw_sql("set TimeZone = 'UTC'")
        schema, name = duckdb_table(database.con, path, table)
        records = database.table(name, database=schema)
        return SqlRegister(records, dictionary, fingerprint(register))


def on_spark(path: Path, dictionary: Dictionary, session: "SparkSession | None" = None) -> SqlRegister:
    """A register of Parquet, as `over_parquet`, that Spark reads; every worker must see the path.

    Args:
        path, dictionary: as there.
        session: the active one, or a new one as Spark is configured, if None.

    Raises:
        DataError: as `over_parquet`.
        MissingExtraError: PySpark is not installed.
    """
    files = _parquet_files(path)
    try:
        from pyspark.sql import SparkSession

        database = ibis.pyspark.connect(session or SparkSession.builder.getOrCreate())
    except ImportError as error:
        raise MissingExtraError("spark", "a register in Spark") from error
    return SqlRegister(database.read_parquet(str(path)), dictionary, _mark(path, files), _zones(files))


def open_sql(register: str, dictionary: Dictionary, engine: Literal["duckdb", "spark"]) -> SqlRegister:
    """A register by its name: Parquet, a folder of it, or for DuckDB "people.duckdb:TABLE".

    Raises:
        DataError, MissingExtraError: see `over_parquet`, `over_duckdb` and `on_spark`.
    """
    path, _ = split_table(register)
    if engine == "spark":
        return on_spark(path, dictionary)
    return over_duckdb(register, dictionary) if path.suffix.lower() in DUCKDB else over_parquet(path, dictionary)


def _parquet_files(path: Path) -> list[Path]:
    files = [path]
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.suffix.lower() == ".parquet")
    if not path.exists():
        raise no_register(path)
    if not files:
        raise DataError(f"{path}: no such register: there is no .parquet file in this folder")
    if not path.is_dir() and path.suffix.lower() != ".parquet":
        raise DataError(
            f"{path}: a database reads Parquet, a folder of it, or FILE.duckdb:TABLE; memory reads the rest"
        )
    for file in files:
        try:
            names = pq.read_schema(file).names
        except (pa.ArrowInvalid, OSError) as error:
            raise DataError(f"{file}: cannot be read: {str(error).splitlines()[0]}") from error
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise DataError(f"{file}: two columns are named {twice[0]!r}: rename one")
    return files


def _zones(files: Sequence[Path]) -> dict[str, str]:
    """Time zones of the columns that have one, as the first file has them."""
    fields = pq.read_schema(files[0])
    return {field.name: field.type.tz for field in fields if pa.types.is_timestamp(field.type) and field.type.tz}


def _mark(path: Path, files: Sequence[Path]) -> str:
    """The fingerprint of a file is as it is in memory; of a folder, that of its files and their names."""
    if path.is_file():
        return fingerprint(str(path))
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.relative_to(path).as_posix()}\0{fingerprint(str(file))}\n".encode())
    return digest.hexdigest()


def _size(ids: ir.Table, name: str) -> int:
    """Number of records; sees that each has an identifier of its own."""
    counts = ids.aggregate(size=ids.count(), there=ids[_ID].count(), distinct=ids[_ID].nunique()).to_pyarrow()
    (size,), (there,), (distinct,) = counts.to_pydict().values()
    if not size:
        raise DataError("a register without records")
    if there < size:
        raise DataError(f"{size - there} of {size} records have no {name}: give each record an identifier of its own")
    if distinct < size:
        raise DataError(
            f"{distinct:,} of {size:,} records have a {name} of their own: an identifier must be there once; "
            "`unmask trace deduplicate` finds records of the same person"
        )
    return int(size)


def _read(
    table: ir.Table, name: str, attribute: Attribute, column: str, size: int, zone: str
) -> tuple[Field, ir.Value] | None:
    """An attribute and the expression of its keys; None if nothing is recorded of it."""
    if attribute.kind == "score":
        nothing = np.zeros(0, np.int64)
        return Field(column, pa.array(nothing), nothing, Score(name, attribute)), ibis.null("int64")
    key: ir.Value = table[name]
    if attribute.kind == "numeric" and (key.type().is_integer() or key.type().is_floating()):
        number = key.cast("float64")
        if key.type().is_floating():
            # Every database takes NaN for greater than all numbers.
            number = (number.abs() <= _number(np.finfo(float).max)).ifelse(number, ibis.null("float64"))
        ends = table.aggregate(
            low=number.min(), high=number.max(), whole=(number % _number(1.0) == _number(0.0)).all()
        ).to_pyarrow()
        (low,), (high,), (whole,) = ends.to_pydict().values()
        if low is None:
            return None
        steps = grid(attribute, low, high, whole)
        key = ((number - _number(steps.low)) / _number(steps.step)).floor().cast("int64") + 1
        keys, counts = _distinct(table, key)
        coding = steps.coding(name, attribute, np.asarray(keys))
    else:
        kind = key.type()
        if kind.is_timestamp() and kind.timezone is None:
            key = key.date()
        elif kind.is_string():
            key = key.nullif("")
        keys, counts = _distinct(table, key)
        # A moment is of one day or another by its time zone, which databases do not keep.
        moments = keys.cast(pa.timestamp(keys.type.unit, zone)) if pa.types.is_timestamp(keys.type) else keys
        # Not cast in the database: each writes numbers as text in its own way.
        index, texts = texts_of(name, moments)
        values = code_values(name, attribute, texts.take(index).to_pylist(), lambda _: f"one of {size:,} records")
        if values is None:
            return None
        coding = values
    of_code = np.bincount(coding.codes, counts, coding.width).astype(np.int64)
    of_code[0] = size - of_code[1:].sum()
    return Field(column, keys.combine_chunks(), coding.codes, coding.model(of_code), coding.notes), key


def _distinct(table: ir.Table, key: ir.Value) -> tuple[pa.ChunkedArray, np.ndarray]:
    """(distinct keys but null, records of each)."""
    groups = table.select(key=key).group_by("key").aggregate(records=ibis._.count())
    read = groups.filter(groups.key.notnull()).to_pyarrow()
    return read["key"], np.asarray(read["records"], np.int64)


def _ratios(field: Field, table: np.ndarray) -> _Ratios:
    """A table over codes, (V + 1,), as ratios of keys."""
    ratios, missing = table[field.codes], float(table[0])
    distinct, times = np.unique(ratios, return_counts=True)
    usual = float(distinct[np.argmax(times)]) if len(distinct) else missing
    others = ratios != usual
    return _Ratios(field.column, field.keys.filter(pa.array(others)), ratios[others], usual, missing)


def _number(value: float) -> ir.Value:
    """A number as it is: DuckDB would take it for a decimal, round it, and count in decimals, which is slow."""
    return ibis.literal(repr(float(value))).cast("float64")
