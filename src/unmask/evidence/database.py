"""Reports in a database: a row a file and a row a face, in SQLite or DuckDB by the name of the file."""

import sqlite3
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from unmask.errors import DataError, MissingExtraError
from unmask.evidence.report import Report
from unmask.evidence.rows import FACE_COLUMNS, FILE_COLUMNS, Row, face_rows, file_row

FILES, FACES = "unmask_files", "unmask_faces"
ENDINGS = {".sqlite": "sqlite", ".sqlite3": "sqlite", ".db": "sqlite", ".duckdb": "duckdb"}
"""What the ending of a database's name says of its kind."""

_TYPES = {str: "TEXT", int: "BIGINT", float: "DOUBLE"}


class DatabaseReport:
    """Writes reports to the tables `unmask_files` and `unmask_faces`; a context manager.

    The rows of a path that is there already are replaced; other tables, and rows of other paths, are left alone. What
    a file has is written in one transaction.

    Args:
        path: of the database; made if it is not there. Its ending is one of `ENDINGS`.

    Raises (on entering and writing):
        DataError: the ending is none of them, it is no such database, its tables of these names are others', it is in
            use by another program, or cannot be written.
        MissingExtraError: DuckDB is not installed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._database: Any = None
        self._errors: tuple[type[BaseException], ...] = (OSError,)

    def __enter__(self) -> Self:
        kind = ENDINGS.get(self.path.suffix.lower())
        if kind is None:
            raise DataError(f"--db {self.path}: the name says no kind of database; end it in {', '.join(ENDINGS)}")
        try:
            self._connect(kind)
            self._make_tables()
        except self._errors as error:
            self._close()
            raise self._unwritable(error) from error
        except BaseException:
            self._close()
            raise
        return self

    def _connect(self, kind: str) -> None:
        if kind == "sqlite":
            self._errors = (OSError, sqlite3.Error)
            self._database = sqlite3.connect(self.path, isolation_level=None, timeout=5.0)
            return
        try:
            import duckdb
        except ModuleNotFoundError as error:
            raise MissingExtraError("trace", "A DuckDB database") from error
        self._errors = (OSError, duckdb.Error)
        self._database = duckdb.connect(str(self.path))

    def _make_tables(self) -> None:
        for table, columns, key in ((FILES, FILE_COLUMNS, "path"), (FACES, FACE_COLUMNS, "path, face")):
            declared = [f'"{name}" {_TYPES[kind]}' for name, kind in columns.items()]
            declared += ['"inspected_at" TEXT'] if table == FILES else []
            self._run(f"CREATE TABLE IF NOT EXISTS {table} ({', '.join(declared)}, PRIMARY KEY ({key}))")
            names = [row[1] for row in self._run(f"PRAGMA table_info('{table}')").fetchall()]
            if names != [*columns, *(["inspected_at"] if table == FILES else [])]:
                raise DataError(
                    f"--db {self.path}: its table {table} is not of this version of unmask inspect; give another file"
                )

    def add(self, report: Report) -> None:
        """Write the rows of one file."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        try:
            self._run("BEGIN TRANSACTION")
            self._run(f"DELETE FROM {FACES} WHERE path = ?", [report.path])
            self._insert(FILES, {**file_row(report), "inspected_at": now})
            for row in face_rows(report):
                self._insert(FACES, row)
            self._run("COMMIT")
        except self._errors as error:
            with suppress(*self._errors):
                self._run("ROLLBACK")
            raise self._unwritable(error) from error

    def _insert(self, table: str, row: Row) -> None:
        names = ", ".join(f'"{name}"' for name in row)
        self._run(f"INSERT OR REPLACE INTO {table} ({names}) VALUES ({', '.join('?' * len(row))})", list(row.values()))

    def _run(self, statement: str, values: list[Any] | None = None) -> Any:
        return self._database.execute(statement, values or [])

    def _unwritable(self, error: BaseException) -> DataError:
        reason = str(error).splitlines()[0]
        return DataError(
            f"--db {self.path}: cannot be written ({reason}): give a database of that kind that is not in use"
        )

    def _close(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()
