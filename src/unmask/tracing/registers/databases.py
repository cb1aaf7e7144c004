"""Registers in databases: DuckDB and SQLite files, which are only read."""

import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from unmask.errors import DataError
from unmask.tracing.registers.spreadsheets import SPREADSHEETS

if TYPE_CHECKING:
    import duckdb
    from duckdb import DuckDBPyConnection

DUCKDB = (".duckdb",)
SQLITE = (".sqlite", ".sqlite3", ".db")
DUCKDB_SETTINGS: dict[str, Any] = {
    # What does not fit into memory goes where temporary files go, not beside the register or into the folder one is in.
    "temp_directory": str(Path(tempfile.gettempdir()) / "unmask-duckdb"),
    # Or a query that could use an extension would have DuckDB download it.
    "autoinstall_known_extensions": "false",
}
"""Settings of every DuckDB connection."""


def first_line(error: Exception) -> str:
    """What an error says, in one line."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def split_table(register: str) -> tuple[Path, str | None]:
    """ "people.duckdb:residents" -> (people.duckdb, residents); likewise of SQLite files and sheets of spreadsheets."""
    place, _, table = register.rpartition(":")
    if table and place.lower().endswith((*DUCKDB, *SQLITE, *SPREADSHEETS)):
        return Path(place), table
    return Path(register), None


def from_duckdb(path: Path, table: str | None) -> pa.Table:
    """A table or view of a DuckDB file.

    Raises:
        DataError: it is not such a file, or has several tables and none is named.
    """
    import duckdb  # other kinds of register do without

    try:
        with duckdb.connect(str(path), read_only=True, config=DUCKDB_SETTINGS) as connection:
            parts = duckdb_table(connection, path, table)
            named = ".".join('"' + part.replace('"', '""') + '"' for part in parts)
            connection.execute("set TimeZone = 'UTC'")  # not that of the machine
            return connection.sql(f"from {named}").to_arrow_table()
    except duckdb.Error as error:
        raise DataError(f"{path}: cannot be read: {duckdb_cause(error)}") from error


def duckdb_cause(error: "duckdb.Error") -> str:
    """Why DuckDB failed, in one line: in its words where they are of files and tables, not of what these hold."""
    import duckdb

    named = isinstance(error, duckdb.IOException | duckdb.CatalogException | duckdb.SerializationException)
    return first_line(error) if named else f"DuckDB says {type(error).__name__}"


def duckdb_table(connection: "DuckDBPyConnection", path: Path, table: str | None) -> tuple[str, str]:
    """Schema and name of the table meant in a DuckDB file: the one named, or the only one there."""
    named = connection.execute(
        "select table_name, schema_name from duckdb_tables() union all "
        "select view_name, schema_name from duckdb_views() where not internal"
    ).fetchall()
    tables = [str(name) for name, _ in named]
    table = chosen_table(path, table, tables)
    schema = next(schema for name, schema in named if name == table)
    return str(schema), table


def from_sqlite(path: Path, table: str | None) -> pa.Table:
    """A table or view of a SQLite file; the file is not locked, and nothing is written beside it.

    Raises:
        DataError: it is not such a file, is in use, or has several tables and none is named.
    """
    journal = path.with_name(path.name + "-wal")
    if journal.is_file() and journal.stat().st_size:
        raise DataError(f"{path}: another program has changed it and not finished ({journal.name}); close that first")
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?immutable=1", uri=True)) as connection:
            named = connection.execute("select name from sqlite_schema where type in ('table', 'view')").fetchall()
            table = chosen_table(path, table, [name for (name,) in named if not name.startswith("sqlite_")])
            cursor = connection.execute('select * from "' + table.replace('"', '""') + '"')
            names = [column[0] for column in cursor.description]
            columns = list(zip(*cursor.fetchall(), strict=True)) or [()] * len(names)
    except sqlite3.Error as error:
        raise DataError(f"{path}: cannot be read: SQLite says {error}") from error
    return pa.table([_column(values) for values in columns], names)


def _column(values: tuple[Any, ...]) -> pa.Array:
    """A column of SQLite, whose values may be of several types: then all are text."""
    types = {type(value) for value in values if value is not None}
    if len(types) > 1 and not types <= {int, float}:
        return pa.array([value if value is None or isinstance(value, bytes) else str(value) for value in values])
    return pa.array(values, pa.float64() if len(types) > 1 else None)


def chosen_table(path: Path, table: str | None, tables: list[str], what: str = "table") -> str:
    """The table meant: the one named, or the only one there.

    Raises:
        DataError: it is not there, or none is named where there are several.
    """
    if table is None and len(tables) == 1:
        return tables[0]
    if table is None or table not in tables:
        raise DataError(f"{path}: name the {what}, {path.name}:{what.upper()}; it has {', '.join(tables) or 'none'}")
    return table
