"""Tables of text cells: as Markdown, for the terminal, and as CSV."""

import csv
from collections.abc import Container, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from unmask.files import whole

if TYPE_CHECKING:
    from rich.table import Table

LEAST = 5
"""As many faces, pictures or people as a rate or an area has to be of, to say anything."""
_FEW = "†"
FEW = f"{_FEW} In brackets: of fewer than {LEAST}, such a number says next to nothing."
"""What stands below a table with cells of `unless_few`."""


def unless_few(text: str, *counts: int) -> str:
    """A number for a table; in brackets where it is of too few to say anything.

    Args:
        text: the number, and its interval.
        counts: how many it is of, as of authentic and of forged faces; 0 where it is of none of a kind.
    """
    return f"({text}){_FEW}" if any(0 < count < LEAST for count in counts) else text


def with_few_note(table: str) -> str:
    """A Markdown table, with a line below it that explains the cells of `unless_few` where there are some."""
    return f"{table}\n\n{FEW}" if _FEW in table else table


def markdown(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table.

    Args:
        columns: the heads, at least one.
        rows: as many cells each as there are heads.
    """
    lines = [f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
    lines += [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join(lines)


def terminal(
    columns: Sequence[str], rows: Iterable[Sequence[str]], title: str | None = None, right: Container[str] = ()
) -> "Table":
    """A table for rich's console; cells are shown as they are, without markup, and long ones are folded.

    Args:
        columns: the heads, at least one; if all are empty, no row of heads is shown.
        rows: as many cells each as there are heads.
        title: above it, at the left.
        right: heads of the columns whose cells stand at the right, as numbers do.
    """
    from rich.table import Table
    from rich.text import Text

    # Escaping the markup of a string would leave its emoji codes (":cat:").
    heading = None if title is None else Text(title, style="table.title")
    table = Table(title=heading, title_justify="left", show_header=any(columns))
    for column in columns:
        table.add_column(Text(column), overflow="fold", justify="right" if column in right else "left")
    for row in rows:
        table.add_row(*map(Text, row))
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
