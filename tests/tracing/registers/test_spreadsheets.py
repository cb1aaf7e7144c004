"""Registers in spreadsheets and SQLite files are the registers that the same values in delimited text are."""

import sqlite3
import zipfile
from collections.abc import Sequence
from pathlib import Path
from xml.sax.saxutils import escape

import pytest

from unmask.errors import DataError
from unmask.tracing.registers.databases import split_table
from unmask.tracing.registers.tables import column_names, fingerprint, read_table, reading_notes, values_of
from unmask.tracing.tools.profiling import profile

NAMES = ("id", "born", "height", "town")
ROWS = [
    ("007", ("date", 29221), 1.5, "Bern"),
    ("008", ("date", 36526), 2.0, None),
    ("010", ("date", 40000), 181.0, " Basel "),
]
DATES = ["1980-01-01", "2000-01-01", "2009-07-06"]


def sheet_of(rows: Sequence[Sequence[object]]) -> str:
    """A worksheet's XML; a value ("date", DAYS) is a date."""
    lines = []
    for number, row in enumerate(rows, 1):
        cells = []
        for place, value in enumerate(row):
            name = f"{chr(65 + place)}{number}"
            if isinstance(value, tuple):
                cells.append(f'<c r="{name}" s="1"><v>{value[1]}</v></c>')
            elif isinstance(value, bool):
                cells.append(f'<c r="{name}" t="b"><v>{int(value)}</v></c>')
            elif isinstance(value, float):
                cells.append(f'<c r="{name}"><v>{value}</v></c>')
            elif value is not None:
                text = escape(str(value))
                cells.append(f'<c r="{name}" t="inlineStr"><is><t xml:space="preserve">{text}</t></is></c>')
        lines.append(f'<row r="{number}">{"".join(cells)}</row>')
    main = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    return f'<worksheet xmlns="{main}"><sheetData>{"".join(lines)}</sheetData></worksheet>'


def write_workbook(path: Path, hidden: Sequence[str] = (), **sheets: Sequence[Sequence[object]]) -> Path:
    """A workbook of Office Open XML, as small as one can be."""
    main = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    office = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    package = "http://schemas.openxmlformats.org/package/2006/relationships"
    states = {name: ' state="hidden"' if name in hidden else "" for name in sheets}
    listed = "".join(
        f'<sheet name="{name}" sheetId="{number}" r:id="r{number}"{states[name]}/>'
        for number, name in enumerate(sheets, 1)
    )
    linked = "".join(
        f'<Relationship Id="r{number}" Type="{office}/worksheet" Target="worksheets/sheet{number}.xml"/>'
        for number in range(1, len(sheets) + 1)
    )
    with zipfile.ZipFile(path, "w") as book:
        book.writestr(
            "_rels/.rels",
            f'<Relationships xmlns="{package}"><Relationship Id="r1" Type="{office}/officeDocument" '
            'Target="xl/workbook.xml"/></Relationships>',
        )
        book.writestr(
            "xl/workbook.xml", f'<workbook xmlns="{main}" xmlns:r="{office}"><sheets>{listed}</sheets></workbook>'
        )
        book.writestr(
            "xl/_rels/workbook.xml.rels",
            f'<Relationships xmlns="{package}">{linked}<Relationship Id="s" Type="{office}/styles" '
            'Target="styles.xml"/></Relationships>',
        )
        book.writestr(
            "xl/styles.xml",
            f'<styleSheet xmlns="{main}"><cellXfs><xf numFmtId="0"/><xf numFmtId="14"/></cellXfs></styleSheet>',
        )
        for number, rows in enumerate(sheets.values(), 1):
            book.writestr(f"xl/worksheets/sheet{number}.xml", sheet_of(rows))
    return path


def refusal(register: object) -> str:
    with pytest.raises(DataError) as caught:
        read_table(str(register))
    return str(caught.value)


def test_a_sheet_is_read_as_it_would_be_typed(tmp_path: Path) -> None:
    path = write_workbook(tmp_path / "people.xlsx", people=[NAMES, *ROWS])
    read = read_table(str(path))
    assert read.column_names == list(NAMES) == column_names(str(path))
    assert read["id"].to_pylist() == ["007", "008", "010"]  # text stays text
    assert read["born"].to_pylist() == DATES
    assert read["height"].to_pylist() == ["1.5", "2", "181"]  # whole numbers have no fraction
    assert read["town"].to_pylist() == ["Bern", None, " Basel "]
    assert reading_notes(read) == ()


def test_a_sheet_and_delimited_text_make_the_same_data_dictionary(tmp_path: Path) -> None:
    rows = [(f"p{number}", ("date", 20000 + 37 * number), float(number % 7), "ab"[number % 2]) for number in range(90)]
    book = write_workbook(tmp_path / "people.xlsx", people=[NAMES, *rows])
    text = tmp_path / "people.csv"
    read = read_table(str(book)).to_pylist()
    text.write_text("\n".join([",".join(NAMES), *(",".join(row.values()) for row in read)]) + "\n")
    guessed = [profile(read_table(str(path)), "r").dictionary for path in (book, text)]
    assert guessed[0] == guessed[1]


def test_titles_empty_rows_and_boxes_are_read(tmp_path: Path) -> None:
    rows = [("Members 2026",), (), (), ("id", "member", "town"), ("a", True, "Bern"), (), ("b", False, "Chur")]
    read = read_table(str(write_workbook(tmp_path / "people.xlsx", people=rows)))
    assert read.to_pydict() == {"id": ["a", "b"], "member": ["TRUE", "FALSE"], "town": ["Bern", "Chur"]}
    assert "the names of the columns are in line 4" in reading_notes(read)[0]


def test_the_sheet_is_named_where_there_are_several(tmp_path: Path) -> None:
    path = write_workbook(tmp_path / "r.xlsx", people=[NAMES, *ROWS], others=[("id", "x"), ("q", "1")])
    assert "name the sheet, r.xlsx:SHEET; it has people, others" in refusal(path)
    assert read_table(f"{path}:others")["id"].to_pylist() == ["q"]
    assert "there is no sheet 'nobody'; it has people, others" in refusal(f"{path}:nobody")
    assert split_table(f"{path}:others") == (path, "others")
    assert fingerprint(f"{path}:others") != fingerprint(f"{path}:people")


def test_hidden_and_empty_sheets_are_not_in_the_way(tmp_path: Path) -> None:
    path = write_workbook(tmp_path / "r.xlsx", hidden=["notes"], people=[NAMES, *ROWS], notes=[("x",)], blank=[])
    assert read_table(str(path)).num_rows == 3


def test_a_sheet_without_names_or_values_is_refused(tmp_path: Path) -> None:
    assert "it is a record itself" in refusal(write_workbook(tmp_path / "a.xlsx", people=ROWS))
    assert "has none with anything in it" in refusal(write_workbook(tmp_path / "b.xlsx", people=[]))
    assert "two columns are named 'id'" in refusal(
        write_workbook(tmp_path / "c.xlsx", people=[("id", "id"), ("a", "b")])
    )
    assert "a register without records" in refusal(write_workbook(tmp_path / "d.xlsx", people=[NAMES]))


@pytest.mark.parametrize("suffix", [".xlsx", ".xls", ".ods", ".xlsb"])
def test_what_is_no_workbook_is_refused(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"r{suffix}"
    for content in (b"", b"id,name\na,b\n", b"PK\x03\x04" + bytes(200)):
        path.write_bytes(content)
        assert f"{path}: cannot be read: " in refusal(path)


def write_sqlite(path: Path, *statements: str) -> Path:
    connection = sqlite3.connect(path)
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()
    return path


@pytest.mark.parametrize("suffix", [".sqlite", ".sqlite3", ".db"])
def test_a_table_of_sqlite_is_read_and_left_as_it_is(suffix: str, tmp_path: Path) -> None:
    path = write_sqlite(
        tmp_path / f"r{suffix}",
        "create table people (id text, age integer, height real, town)",
        "insert into people values ('007', 31, 1.5, 'Bern'), ('008', null, 2.0, 3), ('010', 7, null, null)",
    )
    before = path.read_bytes()
    read = read_table(str(path))
    assert read["id"].to_pylist() == ["007", "008", "010"]
    assert read["age"].to_pylist() == [31, None, 7] and read["height"].to_pylist() == [1.5, 2.0, None]
    assert read["town"].to_pylist() == ["Bern", "3", None]
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_of_several_tables_or_views_the_one_named_is_read(tmp_path: Path) -> None:
    path = write_sqlite(
        tmp_path / "r.db",
        'create table "the ""others""" (id text primary key)',
        'insert into "the ""others""" values (\'a\'), (\'b\')',
        'create view some as select * from "the ""others""" where id = \'b\'',
    )
    assert 'name the table, r.db:TABLE; it has the "others", some' in refusal(path)
    assert read_table(f'{path}:the "others"')["id"].to_pylist() == ["a", "b"]
    assert read_table(f"{path}:some")["id"].to_pylist() == ["b"]


def test_a_database_that_is_none_or_in_use_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "r.sqlite"
    path.write_bytes(b"no such thing " * 999)
    assert f"{path}: cannot be read: SQLite says" in refusal(path)
    path.unlink()
    write_sqlite(path, "create table people (id text)")
    (tmp_path / "r.sqlite-wal").write_bytes(b"what is not in the file yet")
    assert "another program has changed it and not finished" in refusal(path)


@pytest.mark.parametrize("layout", ["csv", "parquet", "folder", "sqlite"])
def test_values_of_some_records_are_looked_up(layout: str, tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    people = pa.table({"id": [1, 2, 3], "name": ["Ann", None, " Eve "], "age": [30.0, 40.5, None]})
    place = tmp_path / "r"
    if layout == "csv":
        place = tmp_path / "r.csv"
        place.write_text("id,name,age\n1,Ann,30\n2,,40.5\n3, Eve ,\n")
    elif layout == "sqlite":
        place = write_sqlite(
            tmp_path / "r.db",
            "create table p (id integer, name text, age real)",
            "insert into p values (1, 'Ann', 30.0), (2, null, 40.5), (3, ' Eve ', null)",
        )
    elif layout == "parquet":
        place = tmp_path / "r.parquet"
        pq.write_table(people, place, row_group_size=1)
    else:
        place.mkdir()
        for number in range(3):
            pq.write_table(people.slice(number, 1), place / f"{number}.parquet")
    assert column_names(str(place)) == ["id", "name", "age"]
    values = values_of(str(place), "id", ["3", "2", "9"], ["age", "name"])
    assert values == {"2": {"age": "40.5", "name": None}, "3": {"age": None, "name": "Eve"}}
