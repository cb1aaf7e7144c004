"""Tables of text cells: as Markdown, for the terminal, and as CSV."""

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from unmask.files import whole

if TYPE_CHECKING:
    from rich.table import Table


def markdown(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table.

    Args:
        columns: the heads, at least one.
        rows: as many cells each as there are heads.
    """
    lines = [f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
    lines += [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join(lines)


def terminal(columns: Sequence[str], rows: Iterable[Sequence[str]], title: str | None = None) -> "Table":
    """A table for rich's console; cells are shown as they are, without markup, and long ones are folded.

    Args:
        columns: the heads, at least one; if all are empty, no row of heads is shown.
        rows: as many cells each as there are heads.
        title: above it, at the left.
    """
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=None if title is None else escape(title), title_justify="left", show_header=any(columns))
    for column in columns:
        table.add_column(escape(column), overflow="fold")
    for row in rows:
        table.add_row(*map(escape, row))
    return table


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a CSV file (RFC 4180, UTF-8) that appears when it is whole.

    Raises:
        DataError: it cannot be written there.
    """
    with whole(path) as part, part.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(columns)
        writer.writerows(rows)
