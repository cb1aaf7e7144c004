"""Registers on disk: text, spreadsheets, Parquet, Arrow and databases, read into columns of text or numbers."""

import csv
import hashlib
import io
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.dataset
import pyarrow.ipc
import pyarrow.parquet

from unmask import delimited
from unmask.errors import DataError
from unmask.tracing.attributes.values import read_days, read_numbers
from unmask.tracing.registers.databases import DUCKDB, SQLITE, first_line, from_duckdb, from_sqlite, split_table
from unmask.tracing.registers.spreadsheets import SPREADSHEETS, sheet_layout, sheet_table

SUFFIXES = (*delimited.SUFFIXES, ".parquet", ".arrow", ".arrows", ".feather", *DUCKDB, *SQLITE, *SPREADSHEETS)
_CODED = pa.dictionary(pa.int32(), pa.string())
_NOTES = b"unmask.notes"  # the key of a table's metadata under which it is kept how its file was read
_SOME = 0.5  # of the first records: what most values in a column are


def read_table(register: str) -> pa.Table:
    """All columns of a register. Delimited text stays text: leading zeros are kept.

    Raises:
        DataError: not there, not of a known kind or encoding, without rows or names of columns, with a column named
            twice, or a line of delimited text with more or fewer values than columns.
    """
    path, table = split_table(register)
    if not path.is_file():
        raise no_register(path)
    try:
        read = _read(path, table)
    except (pa.ArrowInvalid, pa.ArrowKeyError, OSError) as error:
        raise DataError(f"{path}: cannot be read: {first_line(error)}") from error
    twice = sorted(name for name, often in Counter(read.column_names).items() if often > 1)
    if twice:
        raise DataError(f"{path}: two columns are named {twice[0]!r}: rename one")
    if not read.num_rows:
        raise DataError(f"{path}: a register without records")
    return read


def no_register(path: Path) -> DataError:
    """The refusal of a register that is not there."""
    if path.is_dir():
        return DataError(
            f"{path}: no such register: a folder; of Parquet files it is read with --engine duckdb or spark"
        )
    return DataError(
        f"{path}: no such register; give a table, a folder of Parquet files or a database; "
        "`unmask trace generate people.parquet` makes one to try it on"
    )


def column_names(register: str) -> list[str]:
    """Names of a register's columns.

    Raises:
        DataError: as `read_table`, or a folder without Parquet.
    """
    path, _ = split_table(register)
    if path.is_dir() or path.suffix.lower() == ".parquet":
        return list(_parquet(path).schema.names)
    return list(read_table(register).column_names)


def values_of(
    register: str, identifier: str, ids: Sequence[str], columns: Sequence[str]
) -> dict[str, dict[str, str | None]]:
    """What a register, or a folder of Parquet, has in some columns for some records: texts by identifier and column.

    Args:
        register: as `read_table` reads it.
        identifier: column of the identifiers.
        ids: of the records.
        columns: that are read.

    Raises:
        DataError: as `read_table`.
    """
    path, _ = split_table(register)
    names = list(dict.fromkeys((identifier, *columns)))
    batches: Iterable[pa.Table]
    if path.is_dir() or path.suffix.lower() == ".parquet":
        batches = (pa.table(batch) for batch in _parquet(path).to_batches(columns=names))
    else:
        batches = [read_table(register).select(names)]
    values: dict[str, dict[str, str | None]] = {}
    for batch in batches:
        if not batch.num_rows:
            continue
        index, texts = as_text(batch[identifier])
        places = pc.index_in(texts, pa.array(list(ids), pa.string()))
        chosen = pc.is_valid(pc.take(places, index))
        rows = batch.filter(chosen)
        if rows.num_rows:
            read = {name: _texts(rows[name]) for name in names}
            for number, one in enumerate(read[identifier]):
                values[str(one)] = {name: read[name][number] for name in columns}
    return values


def _texts(column: pa.ChunkedArray) -> list[str | None]:
    index, texts = as_text(column)
    return list(pc.take(texts, index).to_pylist())


def _parquet(path: Path) -> pa.dataset.Dataset:
    try:
        files = sorted(path.rglob("*.parquet")) if path.is_dir() else [path]
        if not files:
            raise DataError(f"{path}: no such register: there is no .parquet file in this folder")
        return pa.dataset.dataset([str(file) for file in files], format="parquet")
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{path}: cannot be read: {first_line(error)}") from error


def reading_notes(table: pa.Table) -> tuple[str, ...]:
    """What people should know of how the file of a register was read."""
    notes = (table.schema.metadata or {}).get(_NOTES, b"").decode()
    return tuple(notes.splitlines())


def _read(path: Path, table: str | None) -> pa.Table:
    suffix = path.suffix.lower()
    if suffix in delimited.SUFFIXES:
        return _from_text(path)
    if suffix == ".parquet":
        with pa.parquet.ParquetFile(path) as file:
            read = file.read()
    elif suffix in (".arrow", ".arrows", ".feather"):
        read = _from_arrow(path)
    elif suffix in DUCKDB:
        read = from_duckdb(path, table)
    elif suffix in SQLITE:
        read = from_sqlite(path, table)
    elif suffix in SPREADSHEETS:
        layout = sheet_layout(path, table)
        _refuse_record_for_names(path, layout)
        read = _with_notes(path, layout, sheet_table(layout))
    else:
        raise DataError(f"{path}: a register is one of {', '.join(SUFFIXES)}")
    return read


def _from_arrow(path: Path) -> pa.Table:
    """Arrow's file format, or its stream, whatever the name says."""
    try:
        return pa.ipc.open_file(path).read_all()
    except pa.ArrowInvalid:
        with path.open("rb") as file:
            if file.read(6) == b"ARROW1":
                raise
            file.seek(0)
            return pa.ipc.open_stream(file).read_all()


def _from_text(path: Path) -> pa.Table:
    """Delimited text in any layout that `unmask.delimited` knows."""
    layout = delimited.layout_of(path)
    if len(layout.names) == 1:
        raise DataError(
            f"{path}: is one column: its values are separated by none of comma, semicolon, "
            "tab and vertical bar; save it as CSV with a column of identifiers and one for each attribute"
        )
    _refuse_record_for_names(path, layout)
    try:
        if layout.encoding == "utf-8":
            source: pa.NativeFile = pa.OSFile(str(path))
            source.seek(layout.begin)
        else:
            source = pa.BufferReader(delimited.decoded(path, layout).encode())
        with source:
            read = _parsed(source, layout)
    except pa.ArrowInvalid as error:
        if layout.encoding == "utf-8" and "UTF8" in str(error):  # beyond what was looked at
            layout = delimited.layout_of(path, delimited.WINDOWS)
        # What pyarrow says of a line holds the line. Values beyond the columns may be empty, and no fault.
        text = io.StringIO()
        csv.writer(text, delimiter=layout.separator).writerows(row for _, row in delimited.rows_of(path, layout))
        content = text.getvalue().encode()
        read = _parsed(pa.BufferReader(content), layout, len(content))
    _refuse_open_quote(path, read)
    return _with_notes(path, layout, read)


def _with_notes(path: Path, layout: delimited.Layout, read: pa.Table) -> pa.Table:
    """The records that are some, and how they were read."""
    read, notes = _tidied(path, read, layout)
    return read.replace_schema_metadata({_NOTES: "\n".join((*layout.notes(path), *notes)).encode()})


def _parsed(source: pa.NativeFile, layout: delimited.Layout, block: int | None = None) -> pa.Table:
    """The records, each column as text; `block`: bytes that are read at once, in which a line must end."""
    # Columns are numbered, for two may have one name.
    numbers = [str(number) for number in range(len(layout.names))]
    if not source.size() - source.tell():
        return pa.table([pa.array([], _CODED)] * len(numbers), numbers).rename_columns(layout.names)
    read = pa.csv.read_csv(
        source,
        read_options=pa.csv.ReadOptions(column_names=numbers, block_size=block),
        parse_options=pa.csv.ParseOptions(delimiter=layout.separator, newlines_in_values=True),
        convert_options=pa.csv.ConvertOptions(
            column_types=dict.fromkeys(numbers, _CODED), strings_can_be_null=True, null_values=[""]
        ),
    )
    return read.unify_dictionaries().rename_columns(layout.names)


def _tidied(path: Path, read: pa.Table, layout: delimited.Layout) -> tuple[pa.Table, list[str]]:
    """Without columns that are neither named nor filled and records that are empty or repeat the names; and notes."""
    notes: list[str] = []
    kept, names = [], []
    for number, (name, column) in enumerate(zip(layout.names, read.columns, strict=True), 1):
        _refuse_zero_bytes(path, column, layout)
        if not name and column.null_count == len(column):
            continue
        kept.append(column)
        names.append(name or f"column {number}")
        if not name:
            notes.append(f"column {number} has no name")
    read = pa.table(kept, names)
    repeated = _rows_where(read, names)
    if repeated is not None:
        notes.append(f"lines that repeat the names of the columns are passed over: {pc.sum(repeated).as_py()}")
        read = read.filter(pc.invert(repeated))
        # Without the names among the values that are known, by which kinds are guessed.
        anew = [column.cast(pa.string()).combine_chunks().dictionary_encode() for column in read.columns]
        read = pa.table([pa.chunked_array([column]) for column in anew], names)
    empty = _rows_where(read, [None] * len(names))
    return (read if empty is None else read.filter(pc.invert(empty))), notes


def _refuse_open_quote(path: Path, read: pa.Table) -> None:
    """Refuse a last value that goes on to the end of the file: those behind its quote would be lost in it."""
    last = read.columns[-1][-1].as_py() if read.num_rows else None
    if last is None or "\n" not in last:
        return
    content = path.read_bytes().rstrip()
    if not content.endswith(b'"'):
        line = content.count(b"\n") + 1 - last.strip().count("\n")
        raise DataError(f"{path}: cannot be read: a double quote is opened in line {line} and never closed")


def _rows_where(table: pa.Table, texts: Sequence[str | None]) -> pa.ChunkedArray | None:
    """Which rows hold just these texts, None for empty; None if there are none."""
    rows = None
    if not table.num_rows:
        return None
    for column, text in zip(table.columns, texts, strict=True):
        # All chunks have one dictionary.
        if not column.null_count if text is None else pc.index(column.chunk(0).dictionary, text).as_py() < 0:
            return None
        here = pc.is_null(column) if text is None else _equal(column, text)
        rows = here if rows is None else pc.and_(rows, here)
        if not pc.any(rows).as_py():
            return None
    return rows


def _equal(column: pa.ChunkedArray, text: str) -> pa.ChunkedArray:
    """Which rows of a column of text hold this one."""
    return pc.fill_null(pc.equal(column.cast(pa.string()), text), False)


def _refuse_zero_bytes(path: Path, column: pa.ChunkedArray, layout: delimited.Layout) -> None:
    for chunk in column.chunks[:1]:  # all have one dictionary
        if pc.any(pc.match_substring(chunk.dictionary, "\0")).as_py():
            delimited.decoded(path, layout)  # names the line


def _refuse_record_for_names(path: Path, layout: delimited.Layout) -> None:
    """Refuse a file whose first line is a record: its person would name the columns, and be lost."""
    if layout.names in {tuple(cell.strip() for cell in row) for row in layout.rows}:
        return  # names that are repeated further down
    counted = _count_something(layout.names)
    columns = [[row[place] for row in layout.rows if len(row) > place] for place in range(len(layout.names))]
    alike = 0
    for place, (name, below) in enumerate(zip(layout.names, columns, strict=True), 1):
        texts = [text.strip() for text in below if text.strip()]
        for what, is_one in (("number", _is_number), ("date", _is_date)):
            if not counted and is_one(name) and texts and sum(map(is_one, texts)) >= _SOME * len(texts):
                raise DataError(
                    f"{path}: line {layout.line} should name the columns, but has a {what} for column {place}, as the "
                    "records below: it is a record itself; put a line with the names of the columns above it"
                )
        others = set(texts) - {name}
        # A column with no value but its name is one of boxes that were ticked.
        recurs = len(others) < len(set(texts)) and bool(others)
        numbered = len(others) == len(texts) > 1 and _is_code(name) and _pattern(name) in map(_pattern, texts)
        alike += recurs or numbered
    if alike > 1:
        raise DataError(
            f"{path}: line {layout.line} should name the columns, but {alike} columns have the same, or its like, in "
            "the records below: it is a record itself; put a line with the names of the columns above it"
        )


def _is_number(text: str) -> bool:
    read = read_numbers("", [text])
    return not math.isnan(read.numbers[0]) and read.unit is None


def _is_date(text: str) -> bool:
    return not text.isdecimal() and read_days("", [text]).days[0] is not None


def _count_something(names: Sequence[str]) -> bool:
    """Whether what is a number among names counts them, or years: then it is no record."""
    numbers = [int(name) for name in names if name.isdecimal()]
    steps = {later - earlier for earlier, later in pairwise(numbers)}
    others = any(_is_number(name) and not name.isdecimal() for name in names)
    return bool(numbers) and not others and (steps == {1} or all(1900 <= number <= 2100 for number in numbers))


def _is_code(text: str) -> bool:
    return any(sign.isdecimal() for sign in text)


def _pattern(text: str) -> str:
    """A text with its digits alike: "p007" -> "p000"."""
    return "".join("0" if sign.isdecimal() else sign for sign in text)


def as_text(column: pa.ChunkedArray) -> tuple[pa.Array, pa.Array]:
    """A column as (index of each row, distinct texts without spaces around them): null and empty are null.

    Times are of the day that they are in where they were written down: in their own time zone.
    """
    if pa.types.is_floating(column.type):
        column = pc.if_else(pc.is_finite(column), column, None)
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    coded = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if isinstance(coded, pa.ChunkedArray):
        coded = pa.concat_arrays(coded.chunks)
    texts = coded.dictionary
    if pa.types.is_timestamp(texts.type):
        texts = texts.cast(pa.date32())
    if pa.types.is_time(texts.type):  # which back ends keep to the micro- or the nanosecond
        texts = pc.replace_substring_regex(texts.cast(pa.time64("ns")).cast(pa.string()), r"\.0+$", "")
    texts = pc.utf8_trim_whitespace(texts.cast(pa.string()))
    return coded.indices, pc.if_else(pc.equal(texts, ""), None, texts)


def fingerprint(register: str) -> str:
    """SHA-256 of the register's file, by which a case knows its register."""
    path, table = split_table(register)
    digest = hashlib.sha256((table or "").encode())
    for block in _blocks(path):
        digest.update(block)
    return digest.hexdigest()


def _blocks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            yield block
