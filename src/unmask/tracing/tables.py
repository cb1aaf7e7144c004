"""Registers on disk: CSV, Parquet, Arrow and DuckDB, read into columns of text or numbers."""

import codecs
import hashlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.ipc
import pyarrow.parquet

from unmask.errors import DataError

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

SUFFIXES = (".csv", ".parquet", ".arrow", ".feather", ".duckdb")
DUCKDB_SETTINGS: dict[str, Any] = {
    # What does not fit into memory goes where temporary files go, not beside the register or into the folder one is in.
    "temp_directory": str(Path(tempfile.gettempdir()) / "unmask-duckdb"),
    # Or a query that could use an extension would have DuckDB download it.
    "autoinstall_known_extensions": "false",
}
"""Settings of every DuckDB connection."""
_CODED = pa.dictionary(pa.int32(), pa.string())


def split_table(register: str) -> tuple[Path, str | None]:
    """ "people.duckdb:residents" -> (people.duckdb, residents)."""
    place, _, table = register.rpartition(":")
    if place.endswith(".duckdb") and table:
        return Path(place), table
    return Path(register), None


def read_table(register: str) -> pa.Table:
    """All columns of a register. Text of a CSV stays text: leading zeros are kept.

    Raises:
        DataError: not there, not of a known kind, not UTF-8, without rows, or with a column named twice.
    """
    path, table = split_table(register)
    if not path.is_file():
        raise DataError(f"{path}: no such register")
    if path.suffix.lower() == ".csv":
        with path.open("rb") as file:
            if file.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
                raise DataError(f"{path}: not UTF-8; convert it: iconv -f UTF-16 -t UTF-8 {path.name} > new.csv")
    try:
        found = _read(path, table)
    except (pa.ArrowInvalid, pa.ArrowKeyError, UnicodeDecodeError, OSError) as error:
        told = (str(error).splitlines() or [type(error).__name__])[0]
        if "UTF8" in told or isinstance(error, UnicodeDecodeError):
            raise DataError(f"{path}: not UTF-8; convert it: iconv -f LATIN1 -t UTF-8 {path.name} > new.csv") from error
        raise DataError(f"{path}: cannot be read: {told}") from error
    twice = sorted({name for name in found.column_names if found.column_names.count(name) > 1})
    if twice:
        raise DataError(f"{path}: two columns are named {twice[0]!r}: rename one")
    if not found.num_rows:
        raise DataError(f"{path}: a register without records")
    return found


def _read(path: Path, table: str | None) -> pa.Table:
    if path.suffix.lower() == ".csv":
        lines = pa.csv.ParseOptions(newlines_in_values=True)
        with pa.csv.open_csv(path, parse_options=lines) as head:
            names = head.schema.names
        other = next((sign for sign in ";\t|" if len(names) == 1 and sign in names[0]), None)
        if other is not None:
            raise DataError(f"{path}: is one column; its values seem to be separated by {other!r}, not by commas")
        texts = pa.csv.ConvertOptions(
            column_types=dict.fromkeys(names, _CODED), strings_can_be_null=True, null_values=[""]
        )
        return pa.csv.read_csv(path, parse_options=lines, convert_options=texts).unify_dictionaries()
    if path.suffix.lower() == ".parquet":
        with pa.parquet.ParquetFile(path) as file:
            return file.read()
    if path.suffix.lower() in (".arrow", ".feather"):
        return pa.ipc.open_file(path).read_all()
    if path.suffix.lower() == ".duckdb":
        return _from_duckdb(path, table)
    raise DataError(f"{path}: a register is one of {', '.join(SUFFIXES)}")


def _from_duckdb(path: Path, table: str | None) -> pa.Table:
    import duckdb  # other kinds of register do without

    try:
        with duckdb.connect(str(path), read_only=True, config=DUCKDB_SETTINGS) as connection:
            parts = duckdb_table(connection, path, table)
            named = ".".join('"' + part.replace('"', '""') + '"' for part in parts)
            return connection.sql(f"from {named}").to_arrow_table()
    except duckdb.Error as error:
        raise DataError(f"{path}: cannot be read: {str(error).splitlines()[0]}") from error


def duckdb_table(connection: "DuckDBPyConnection", path: Path, table: str | None) -> tuple[str, str]:
    """Schema and name of the table meant in a DuckDB file: the one named, or the only one there."""
    found = connection.execute(
        "select table_name, schema_name from duckdb_tables() union all "
        "select view_name, schema_name from duckdb_views() where not internal"
    ).fetchall()
    tables = [name for name, _ in found]
    if table is None and len(tables) == 1:
        table = str(tables[0])
    if table not in tables:
        raise DataError(f"{path}: name the table, {path.name}:TABLE; it has {', '.join(tables) or 'none'}")
    schema = next(schema for name, schema in found if name == table)
    return str(schema), str(table)


def as_text(column: pa.ChunkedArray) -> tuple[pa.Array, pa.Array]:
    """A column as (index of each row, distinct texts): null and empty are null."""
    if pa.types.is_floating(column.type):
        column = pc.if_else(pc.is_nan(column), None, column)
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    coded = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if isinstance(coded, pa.ChunkedArray):
        coded = pa.concat_arrays(coded.chunks)
    texts = coded.dictionary
    if pa.types.is_timestamp(texts.type):
        texts = texts.cast(pa.date32())
    texts = texts.cast(pa.string())
    return coded.indices, pc.if_else(pc.equal(pc.utf8_trim_whitespace(texts), ""), None, texts)


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
