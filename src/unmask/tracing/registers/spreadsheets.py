"""Registers in spreadsheets: Excel's and OpenDocument's. Values are read as text, as a person would type them."""

from dataclasses import dataclass
from datetime import date, datetime, time
from pathlib import Path

import pyarrow as pa

from unmask.delimited import Layout, header_of
from unmask.errors import DataError, MissingExtraError

SPREADSHEETS = (".xlsx", ".xlsm", ".xlsb", ".xls", ".ods")
_HEAD = 1_000  # rows by which the line that names the columns is looked for


@dataclass(frozen=True)
class SheetLayout(Layout):
    """How a sheet is written; `records` are all rows below the names of the columns, each as wide as these."""

    records: tuple[tuple[str | None, ...], ...] = ()


def sheet_layout(path: Path, sheet: str | None) -> SheetLayout:
    """A sheet's rows, and which of them names the columns.

    Args:
        path: of the workbook.
        sheet: its name, or None for the only visible one with anything in it.

    Raises:
        DataError: it cannot be read, has a password, is empty, or has several sheets and none is named.
        MissingExtraError: python-calamine is not installed.
    """
    try:
        import python_calamine as calamine
    except ImportError as error:
        raise MissingExtraError("trace", "a register in a spreadsheet") from error
    try:
        with calamine.load_workbook(str(path)) as book:
            if sheet is None:
                shown = [one.name for one in book.sheets_metadata if one.visible == calamine.SheetVisibleEnum.Visible]
                filled = [name for name in shown if book.get_sheet_by_name(name).height]
                if len(filled) != 1:
                    there = ", ".join(filled) or "none with anything in it"
                    raise DataError(f"{path}: name the sheet, {path.name}:SHEET; it has {there}")
                sheet = filled[0]
            elif sheet not in book.sheet_names:
                raise DataError(f"{path}: there is no sheet {sheet!r}; it has {', '.join(book.sheet_names)}")
            content = book.get_sheet_by_name(sheet).to_python(skip_empty_area=False)
    except calamine.PasswordError as error:
        raise DataError(f"{path}: cannot be read: it has a password; save it without one") from error
    except calamine.CalamineError as error:
        raise DataError(f"{path}: cannot be read: {str(error).splitlines()[0]}") from error
    rows: list[tuple[str, ...]] = [tuple(_text(value) for value in row) for row in content]
    if not any(any(row) for row in rows):
        raise DataError(f"{path}: cannot be read: the sheet {sheet!r} is empty; its first row should name the columns")
    head = [place for place, row in enumerate(rows[:_HEAD]) if any(row)]
    place = head[header_of([rows[one] for one in head])]
    names = tuple(name.strip() for name in rows[place])
    records = tuple(tuple(value or None for value in row) for row in rows[place + 1 :])
    return SheetLayout("utf-8", ",", names, place + 1, 0, tuple(rows[place + 1 : _HEAD]), records)


def sheet_table(layout: SheetLayout) -> pa.Table:
    """The records of a sheet, each column as text with one dictionary."""
    columns = list(zip(*layout.records, strict=True)) or [()] * len(layout.names)
    coded = [pa.array(values, pa.string()).dictionary_encode() for values in columns]
    return pa.table([pa.chunked_array([column]) for column in coded], list(layout.names))


def _text(value: object) -> str:
    """A cell as text: whole numbers without a fraction, dates by year, month and day."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return str(int(value))
    if isinstance(value, bool):
        return str(value).upper()  # as both programs show it
    if isinstance(value, datetime):
        return value.isoformat(" ") if value.time() != time() else value.date().isoformat()
    return value.isoformat() if isinstance(value, date | time) else str(value)
