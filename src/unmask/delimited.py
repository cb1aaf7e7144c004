"""Delimited text as offices keep it: in which encoding, separated by what, and in which line the columns are named.

All that is read off the beginning of the file: a register of millions of records is not read twice. Where an encoding
has no mark of its own, Windows-1252 is taken, and only for text that looks like it: unlike UTF-8 it cannot be told from
its likes, and whoever uses it must say so.
"""

import codecs
import csv
import io
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from unmask.errors import DataError

SUFFIXES = (".csv", ".tsv", ".tab", ".txt")
WINDOWS = "cp1252"
_HEAD = 120_000  # bytes that are looked at; no value in them is longer than `csv` reads
_LONGEST = 1 << 24  # bytes of a first line, at most
_MOST_BEFORE = 50  # rows that may stand before the names of the columns
_MARKS = (  # that of UTF-32 begins with that of UTF-16
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}
_NAMES = {"utf-16-le": "UTF-16", "utf-16-be": "UTF-16", "utf-32-le": "UTF-32", "utf-32-be": "UTF-32"}
_STATED = re.compile(r'"?sep=(.)"?;*,*[\r\n]*')  # the line by which Excel is told the separator
# In a word, these are letters of another encoding. ’ is an apostrophe; Š, Œ and Ž begin words, š, œ, ž and ƒ may not.
_UTF_8 = re.compile(rb"[\xc2\xc3][\x80-\xbf]")  # of a letter; as Windows-1252 they make no sense together
_FOREIGN = re.compile(
    r"[^\W\d_][€‚„…†‡ˆ‰‹‘“”•–—˜™›¡-©«-¹»-¿×÷][^\W\d_]|[a-zß-ÿ][ŠŒŽŸ]|[^\W\d_][ŠŒŽŸ][a-zß-ÿ]|[À-ÖØ-öø-ÿ]{4}"
)


@dataclass(frozen=True)
class Layout:
    """How a file is written.

    Attributes:
        encoding: "utf-8" (a byte order mark or none), "utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be" or "cp1252".
        separator: between values.
        names: of the columns, without spaces around them, as they stand there: some may be empty or there twice.
        line: in which the columns are named, from 1.
        begin: bytes before the first record, in the file's own encoding, its byte order mark included.
        rows: the first records, as text; not all of them need be as wide as the names.
    """

    encoding: str
    separator: str
    names: tuple[str, ...]
    line: int
    begin: int
    rows: tuple[tuple[str, ...], ...]

    def notes(self, path: Path) -> tuple[str, ...]:
        """What people should know of it; nothing of a file as one expects it."""
        notes = []
        if self.separator != ",":
            notes.append(f"values are separated by {_SEPARATORS.get(self.separator, repr(self.separator))}")
        if self.encoding == WINDOWS:
            notes.append(
                "not UTF-8: read as Windows-1252 (Western European); if letters look wrong, convert the file: "
                f"iconv -f ITS_ENCODING -t UTF-8 {path.name} > new{path.suffix}"
            )
        elif self.encoding in _NAMES:
            notes.append(f"read as {_NAMES[self.encoding]}")
        if self.line > 1:
            notes.append(f"the names of the columns are in line {self.line}; what is above is passed over")
        return tuple(notes)


def layout_of(path: Path, encoding: str | None = None) -> Layout:
    """How a file is written, by its beginning.

    Args:
        path: of the file.
        encoding: which is known, or None.

    Raises:
        DataError: it holds no text, or text in an encoding that is not known.
        OSError: it cannot be opened.
    """
    with path.open("rb") as file:
        head = file.read(_HEAD)
        if b"\n" not in head and b"\r" not in head:  # the names of many columns
            head += file.read(_LONGEST)
        rest = bool(file.read(1))
    mark, encoding = _encoding(head, encoding, rest, path)
    text = codecs.getincrementaldecoder(encoding)("replace").decode(head[mark:], final=not rest)
    lines = list(io.StringIO(text, newline=""))
    if rest and len(lines) > 1:
        lines.pop()  # cut short
    _refuse_zero_bytes(path, text, 1)
    stated = _STATED.fullmatch(lines[0]) if lines else None
    begin = 0 if stated is None else 1
    if not any(line.strip() for line in lines[begin:]):
        raise DataError(f"{path}: cannot be read: it is empty; its first line should name the columns")
    separator = _separator(lines) if stated is None else stated[1]
    records = list(_records(lines, separator, begin))
    place = header_of([row for _, row in records])
    number, names = records[place]
    after = records[place + 1][0] if place + 1 < len(records) else len(lines)
    return Layout(
        encoding,
        separator,
        tuple(name.strip().strip("\ufeff").strip() for name in names),
        number + 1,
        mark + len("".join(lines[:after]).encode(encoding)),
        tuple(tuple(row) for _, row in records[place + 1 :]),
    )


def read_rows(path: Path) -> tuple[Layout, Iterator[tuple[int, list[str]]]]:
    """All records of a file as text: (how it is written, (line from 1, values) of each that holds anything).

    Values beyond the names of the columns are left out if they are empty.

    Raises:
        DataError: not text in a known encoding; a line with more or fewer values than columns; a quote left open.
            Lines are read, and refused, when they are asked for.
        OSError: it cannot be opened.
    """
    layout = layout_of(path)
    return layout, _rows(path, layout, decoded(path, layout))


def read_table(path: Path, columns: Sequence[str]) -> dict[int, dict[str, str]]:
    """A table of which one knows the columns: its rows by their lines, from 1, and values by the names of columns.

    Names are in lower case, and may be written in any; neither names nor values have spaces around them.

    Args:
        path: of the file.
        columns: that it must have.

    Raises:
        DataError: the file cannot be opened, a column is not there or there twice, or as `read_rows`.
    """
    try:
        layout, rows = read_rows(path)
    except OSError as error:
        raise DataError(f"{path}: not a readable CSV file ({error.strerror or error})") from error
    names = known_names(layout.names, columns, f"{path}: line {layout.line}")
    return {line: dict(zip(names, map(str.strip, row), strict=True)) for line, row in rows}


def known_names(names: Sequence[str], columns: Sequence[str], where: str) -> list[str]:
    """Names of columns in lower case, without spaces around them; `columns` must be among them, each once.

    Raises:
        DataError: one is not; `where`: whose names they are.
    """
    known = [name.strip().casefold() for name in names]
    absent = [column for column in columns if column not in known]
    if absent:
        there = ", ".join(filter(None, names))
        raise DataError(
            f"{where}: no column {', '.join(absent)}; there are {there}: add it, or begin with a line that names them"
        )
    twice = sorted(name for name, often in Counter(filter(None, known)).items() if often > 1)
    if twice:
        raise DataError(f"{where}: two columns are named {twice[0]!r}; rename one")
    return known


def rows_of(path: Path, layout: Layout) -> Iterator[tuple[int, list[str]]]:
    """As `read_rows`, of a file whose layout is known."""
    return _rows(path, layout, decoded(path, layout))


def decoded(path: Path, layout: Layout) -> str:
    """The records as one text, without the line that names the columns.

    Raises:
        DataError: it is not in its encoding.
        OSError: it cannot be opened.
    """
    content = path.read_bytes()[layout.begin :]
    try:
        text = content.decode(layout.encoding)
    except UnicodeDecodeError as error:
        if layout.encoding != "utf-8":
            line = layout.line + 1 + content[: error.start].decode(layout.encoding, "replace").count("\n")
            raise _unknown(path, line) from error
        layout, text = replace(layout, encoding=WINDOWS), content.decode(WINDOWS, "replace")
    if layout.encoding == WINDOWS:
        _encoding(content, WINDOWS, False, path)
    _refuse_zero_bytes(path, text, layout.line + 1)
    return text


def _refuse_zero_bytes(path: Path, text: str, line: int) -> None:
    """Refuse text that begins in a line and holds what no text does."""
    before, zero, _ = text.partition("\0")
    if zero:
        there = line + before.count("\n")
        raise DataError(
            f"{path}: cannot be read: line {there} holds zero bytes, as of a damaged file or of no text; without them "
            f"it can: tr -d '\\000' < {path.name} > new{path.suffix}"
        )


def _rows(path: Path, layout: Layout, text: str) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=layout.separator)
    width, begun = len(layout.names), layout.line + 1
    try:
        for row in reader:
            line, begun = begun, layout.line + 1 + reader.line_num
            if not any(cell.strip() for cell in row):
                continue
            if len(row) < width or any(cell.strip() for cell in row[width:]):
                raise DataError(
                    f"{path}: cannot be read: line {line} has {len(row)} values, but line {layout.line} names {width} "
                    f"columns: mend it; a value that holds {layout.separator!r} (a decimal comma, a comma in a name) "
                    "or a line end stands in double quotes"
                )
            yield line, row[:width]
    except csv.Error as error:
        raise DataError(
            f"{path}: cannot be read: is a double quote opened in line {begun} and never closed?"
        ) from error


def _encoding(head: bytes, encoding: str | None, rest: bool, path: Path) -> tuple[int, str]:
    """(length of the byte order mark, encoding) of a file that begins like this; `rest`: and goes on."""
    for mark, marked in _MARKS:
        if head.startswith(mark):
            return len(mark), marked
    if encoding is None:
        for name, zero in (("utf-16-le", head[1::2]), ("utf-16-be", head[::2])):
            if len(head) > 3 and zero.count(0) > 0.4 * len(head) / 2 and head.count(0) < 0.6 * len(head):
                return 0, name
        try:
            codecs.getincrementaldecoder("utf-8")().decode(head, final=not rest)
            return 0, "utf-8"
        except UnicodeDecodeError:
            encoding = WINDOWS
    if encoding == WINDOWS:
        try:
            text = head.decode(WINDOWS)
        except UnicodeDecodeError as error:
            raise _unknown(path, head.count(b"\n", 0, error.start) + 1) from error
        foreign = _FOREIGN.search(text) or _UTF_8.search(head)
        if foreign is not None:
            raise _unknown(path, head.count(b"\n", 0, foreign.start()) + 1)
    return 0, encoding


def _unknown(path: Path, line: int) -> DataError:
    return DataError(
        f"{path}: cannot be read: line {line} is neither UTF-8 nor Windows-1252; convert the file: "
        f"iconv -f ITS_ENCODING -t UTF-8 {path.name} > new{path.suffix}"
    )


def _records(lines: Sequence[str], separator: str, skipped: int = 0) -> Iterator[tuple[int, list[str]]]:
    """(line that it begins in from 0, values) of each record that is not an empty line."""
    reader = csv.reader(iter(lines[skipped:]), delimiter=separator)
    begun = skipped
    for row in reader:
        if row:
            yield begun, row
        begun = skipped + reader.line_num


def _separator(lines: Sequence[str]) -> str:
    """The separator by which most lines have as many values; of several, that by which they have most of them."""

    def regularity(separator: str) -> tuple[float, int, float]:
        try:
            rows = [row for _, row in _records(lines, separator)]
        except csv.Error:  # a value longer than any is
            return 0.0, 0, 0
        (width, often), *_ = Counter(map(len, rows)).most_common(1)
        spaced = sum(cell.startswith(" ") for row in rows for cell in row[1:])  # as commas in sentences
        return (often / len(rows) if width > 1 else 0.0, width, -spaced)

    return max(_SEPARATORS, key=regularity)


def _filled(row: Sequence[str]) -> int:
    return sum(bool(cell.strip()) for cell in row)


def _width(row: Sequence[str]) -> int:
    """Values up to the last that is not empty."""
    return max((place for place, cell in enumerate(row, 1) if cell.strip()), default=0)


def header_of(rows: Sequence[Sequence[str]]) -> int:
    """Which of the first rows names the columns: the first that is no title, no remark and not empty."""
    width = Counter(_width(row) for row in rows[1:] or rows).most_common(1)[0][0]
    for place, row in enumerate(rows[:_MOST_BEFORE]):
        if _filled(row) > max(1, width // 2) or width < 2:
            after = rows[place + 1] if place + 1 < len(rows) else []
            # A sentence with commas: what comes next is wider, and names rather than values.
            sentence = _width(row) < width == _width(after) and not any(re.search(r"\d", cell) for cell in after)
            if not sentence:
                return place
    return 0
