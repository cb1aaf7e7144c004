"""Registers on disk are read as they are, or refused in one line; files appear whole or not at all."""

import codecs
import hashlib
from collections.abc import Callable
from datetime import date
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.feather
import pyarrow.ipc
import pyarrow.parquet
import pytest

from unmask.errors import DataError
from unmask.files import whole
from unmask.tracing.registers.databases import split_table
from unmask.tracing.registers.tables import SUFFIXES, fingerprint, read_table, reading_notes

PEOPLE = pa.table(
    {
        "id": ["p1", "p2", "p3"],
        "zip": ["01069", None, "00001"],
        "age": [30, None, 41],
        "height": [1.75, 1.8, None],
        "born": [date(1990, 1, 2), None, date(1979, 7, 26)],
    }
)


def write(path: Path, table: pa.Table) -> Path:
    if path.suffix == ".parquet":
        pa.parquet.write_table(table, path)
    elif path.suffix == ".arrow":
        with pa.ipc.new_file(path, table.schema) as writer:
            writer.write_table(table, max_chunksize=2)
    elif path.suffix == ".feather":
        pa.feather.write_feather(table, path, compression="zstd")
    else:
        write_duckdb(path, people=table)
    return path


def write_duckdb(path: Path, **tables: pa.Table) -> Path:
    with duckdb.connect(str(path)) as connection:
        for name, table in tables.items():
            connection.register("held", table)
            connection.execute(f'create table "{name}" as select * from held')
            connection.unregister("held")
    return path


def read_csv(path: Path, content: str | bytes) -> dict[str, list[object]]:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_table(str(path)).to_pydict()


def refusal(register: Path | str) -> str:
    with pytest.raises(DataError) as caught:
        read_table(str(register))
    assert "\n" not in str(caught.value)
    return str(caught.value)


# CSV


def test_text_of_a_csv_stays_as_it_is(tmp_path: Path) -> None:
    table = read_csv(
        tmp_path / "r.csv", "id,zip,when,flag,none\n007,01069,2020-01-01,true,NA\n1e3,+1,1.50,False,null\n"
    )
    assert table == {
        "id": ["007", "1e3"],
        "zip": ["01069", "+1"],
        "when": ["2020-01-01", "1.50"],
        "flag": ["true", "False"],
        "none": ["NA", "null"],
    }


def test_empty_cells_of_a_csv_are_null(tmp_path: Path) -> None:
    table = read_csv(tmp_path / "r.csv", 'id,x,y\na,,""\nb, ,z\n')
    assert table == {"id": ["a", "b"], "x": [None, " "], "y": [None, "z"]}


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_quoted_cells_may_hold_commas_quotes_and_ends_of_lines(end: str, tmp_path: Path) -> None:
    lines = ["id,x", 'a,"one, two"', 'b,"say ""hi"""', 'c,"first\nsecond"', "d,ümläut 日本"]
    table = read_csv(tmp_path / "r.csv", end.join(lines) + end)
    assert table == {"id": ["a", "b", "c", "d"], "x": ["one, two", 'say "hi"', "first\nsecond", "ümläut 日本"]}


def test_quoted_ends_of_lines_do_not_tear_records_of_a_large_csv(tmp_path: Path) -> None:
    # Megabytes: more than is read at once. Torn records may be as wide as whole ones, and go unnoticed.
    for fill in (50, 5):
        rows = [(f"p{number}", f"one {number}\ntwo, three", "z" * fill) for number in range(40_000)]
        text = "id,x,y\n" + "".join(f'{name},"{x}",{y}\n' for name, x, y in rows)
        table = read_csv(tmp_path / "r.csv", text)
        assert list(zip(table["id"], table["x"], table["y"], strict=True)) == rows


def test_values_that_come_late_in_a_large_csv_are_read(tmp_path: Path) -> None:
    size = 200_000
    table = read_csv(tmp_path / "r.csv", "id,x\n" + "".join(f"p{number},\n" for number in range(size)) + "last,0é\n")
    assert table["x"][-1] == "0é"
    assert table["x"][:-1] == [None] * size


def test_a_csv_of_many_parts_has_one_list_of_values(tmp_path: Path) -> None:
    (tmp_path / "r.csv").write_text("id,x\n" + "".join(f"p{number},v{number // 50_000}\n" for number in range(200_000)))
    column = read_table(str(tmp_path / "r.csv"))["x"]
    assert column.num_chunks > 1
    assert {tuple(chunk.dictionary.to_pylist()) for chunk in column.chunks} == {("v0", "v1", "v2", "v3")}


def test_a_byte_order_mark_is_no_part_of_the_first_name(tmp_path: Path) -> None:
    assert read_csv(tmp_path / "r.csv", codecs.BOM_UTF8 + b"id,x\na,1\n") == {"id": ["a"], "x": ["1"]}


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252"])
def test_text_is_read_in_every_encoding_and_with_every_separator(
    separator: str, end: str, encoding: str, tmp_path: Path
) -> None:
    lines = [["id", "größe, cm", "town"], ["p1", "1,5", "São Paulo"], ["p2", "", "Zürich – Süd"]]
    quoted = [[f'"{cell}"' if "," in cell else cell for cell in line] for line in lines]
    text = "".join(separator.join(line) + end for line in quoted)
    table = read_csv(tmp_path / "r.csv", text.encode(encoding))
    assert table == {"id": ["p1", "p2"], "größe, cm": ["1,5", None], "town": ["São Paulo", "Zürich – Süd"]}


@pytest.mark.slow
def test_windows_1252_is_read_wherever_it_begins_and_noted(tmp_path: Path) -> None:
    path = tmp_path / "people.csv"
    path.write_bytes(("id,x\n" + "".join(f"p{row},e\n" for row in range(200_000)) + "q,é\n").encode("cp1252"))
    table = read_table(str(path))
    assert table["x"][-1].as_py() == "é" and table.num_rows == 200_001
    assert any("Windows-1252" in note and "iconv -f" in note for note in reading_notes(table))
    path.write_text("id,x\na,1\n")
    assert reading_notes(read_table(str(path))) == ()


@pytest.mark.parametrize("encoding", ["cp1251", "cp850", "mac-roman", "shift-jis", "koi8-r"])
def test_text_in_another_encoding_is_refused_with_its_line_and_the_command_that_converts_it(
    encoding: str, tmp_path: Path
) -> None:
    word = {"cp1251": "Иванов", "koi8-r": "Иванов", "shift-jis": "東京都"}.get(encoding, "Müller")
    path = tmp_path / "people.csv"
    path.write_bytes(f"id,x\na,1\nb,{word}\n".encode(encoding))
    message = refusal(path)
    assert (
        "line 3 is neither UTF-8 nor Windows-1252" in message and "iconv -f ITS_ENCODING -t UTF-8 people.csv" in message
    )


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n\n",
        codecs.BOM_UTF8,
        b"sep=;\n\n",
        b'id,x\na,"1\n',
        b"id,x\na,1,2\n",
        b"id,x\na\n",
        b"id,x\n" + b"a,1\n" * 9 + b"b",
    ],
)
def test_a_csv_that_is_none_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "r.csv").write_bytes(content)
    assert f"{tmp_path / 'r.csv'}: cannot be read: " in refusal(tmp_path / "r.csv")


# All kinds


@pytest.mark.parametrize("suffix", [".parquet", ".arrow", ".feather", ".duckdb"])
def test_columns_keep_their_types(suffix: str, tmp_path: Path) -> None:
    table = read_table(str(write(tmp_path / f"r{suffix}", PEOPLE)))
    assert table.to_pydict() == PEOPLE.to_pydict()
    assert pa.types.is_integer(table["age"].type)
    assert pa.types.is_floating(table["height"].type)
    assert pa.types.is_date(table["born"].type)


@pytest.mark.parametrize("suffix", [".parquet", ".arrow", ".feather"])
@pytest.mark.parametrize("content", [b"", b"no such thing " * 99], ids=["empty", "other"])
def test_files_of_another_kind_than_their_name_says_are_refused(suffix: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / f"r{suffix}"
    path.write_bytes(content)
    assert f"{path}: cannot be read: " in refusal(path)


@pytest.mark.parametrize("suffix", [".parquet", ".arrow", ".feather", ".duckdb"])
@pytest.mark.parametrize("left", [0.2, 0.7, 0.99])
def test_files_cut_short_are_refused(suffix: str, left: float, tmp_path: Path) -> None:
    path = write(tmp_path / f"r{suffix}", pa.table({"id": [f"p{number}" for number in range(30_000)]}))
    content = path.read_bytes()
    path.write_bytes(content[: int(left * len(content))])
    assert f"{path}: cannot be read: " in refusal(path)


@pytest.mark.parametrize("suffix", [".parquet", ".arrow", ".feather", ".duckdb"])
def test_a_register_without_records_is_refused(suffix: str, tmp_path: Path) -> None:
    path = write(tmp_path / f"r{suffix}", PEOPLE.slice(0, 0))
    assert refusal(path) == f"{path}: a register without records"


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".arrow"])
def test_a_name_that_two_columns_have_is_refused_and_told(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"r{suffix}"
    if suffix == ".csv":
        path.write_text("id,x,y,x\na,1,2,3\n")
    else:
        write(path, pa.Table.from_arrays([pa.array(["a"])] * 4, names=["id", "x", "y", "x"]))
    assert refusal(path) == f"{path}: two columns are named 'x': rename one"


@pytest.mark.parametrize("name", ["r.doc", "r", "r.numbers", "r.csv.gz"])
def test_another_suffix_is_refused_with_those_that_are_read(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("id,x\na,1\n")
    assert f"a register is one of {', '.join(SUFFIXES)}" in refusal(tmp_path / name)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_is_not_there_or_a_folder_is_no_register(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"r{suffix}"
    assert refusal(path).startswith(f"{path}: no such register; give a table, a folder of Parquet files or a database")
    assert "`unmask trace generate people.parquet` makes one" in refusal(path)
    path.mkdir()
    assert refusal(path).startswith(f"{path}: no such register: a folder; of Parquet files it is read with --engine")


def test_one_column_is_refused_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "r.csv").write_text("anna\nbert\n")
    assert "save it as CSV with a column of identifiers" in refusal(tmp_path / "r.csv")


# DuckDB


@pytest.mark.parametrize(
    ("register", "path", "table"),
    [
        ("people.duckdb", "people.duckdb", None),
        ("people.duckdb:residents", "people.duckdb", "residents"),
        ("/data/c.duckdb:my people", "/data/c.duckdb", "my people"),
        ("C:/people.duckdb", "C:/people.duckdb", None),
        ("people.csv:residents", "people.csv:residents", None),
        ("10:30/people.parquet", "10:30/people.parquet", None),
    ],
)
def test_a_table_is_named_after_the_file(register: str, path: str, table: str | None) -> None:
    assert split_table(register) == (Path(path), table)


def test_the_only_table_of_a_database_need_not_be_named(tmp_path: Path) -> None:
    path = write_duckdb(tmp_path / "r.duckdb", people=PEOPLE)
    assert read_table(str(path)).equals(read_table(f"{path}:people"))


@pytest.mark.parametrize("name", ["people", "my people", "a.b", "select", "People", 'the "others"'])
def test_of_several_tables_the_one_named_is_read(name: str, tmp_path: Path) -> None:
    tables = {"some": pa.table({"id": ["x"]}), name.replace('"', '""'): pa.table({"id": [name]})}
    path = write_duckdb(tmp_path / "r.duckdb", **tables)
    assert read_table(f"{path}:{name}")["id"].to_pylist() == [name]


def test_without_the_name_of_a_table_that_is_there_those_that_are_there_are_told(tmp_path: Path) -> None:
    path = write_duckdb(tmp_path / "r.duckdb", people=PEOPLE, others=PEOPLE)
    for register in (path, f"{path}:nobody"):
        message = refusal(register)
        assert "name the table, r.duckdb:TABLE" in message
        assert "people" in message and "others" in message
    assert "it has none" in refusal(write_duckdb(tmp_path / "empty.duckdb"))
    assert "it has people" in refusal(f"{write_duckdb(tmp_path / 'one.duckdb', people=PEOPLE)}:nobody")


def test_the_only_table_is_read_whatever_its_schema(tmp_path: Path) -> None:
    path = tmp_path / "r.duckdb"
    with duckdb.connect(str(path)) as connection:
        connection.execute("create schema town; create table town.people as select 'a' as id")
    assert read_table(str(path))["id"].to_pylist() == ["a"]


def test_reading_a_database_leaves_it_as_it_is(tmp_path: Path) -> None:
    path = write_duckdb(tmp_path / "r.duckdb", people=PEOPLE)
    before = path.read_bytes()
    read_table(str(path))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_database_that_is_none_or_damaged_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "r.duckdb"
    for content in (b"", b"no such thing " * 999):
        path.write_bytes(content)
        assert f"{path}: cannot be read: " in refusal(path)
    path.unlink()
    write_duckdb(path, people=pa.table({"id": [f"p{number}" for number in range(30_000)]}))
    content = path.read_bytes()
    damaged = bytes(byte ^ 0xFF for byte in content[len(content) // 2 :])
    path.write_bytes(content[: len(content) // 2] + damaged)
    assert f"{path}: cannot be read: " in refusal(path)


# Fingerprints


def test_the_fingerprint_is_of_the_content_whatever_the_name(tmp_path: Path) -> None:
    content = bytes(range(256)) * 10_000  # more than is read at once
    one, other, changed = (tmp_path / name for name in ("one.csv", "other.csv", "changed.csv"))
    for path in (one, other):
        path.write_bytes(content)
    assert fingerprint(str(one)) == fingerprint(str(other)) == hashlib.sha256(content).hexdigest()
    for place in (0, len(content) // 2, len(content) - 1):
        altered = bytearray(content)
        altered[place] ^= 1
        changed.write_bytes(altered)
        assert fingerprint(str(changed)) != fingerprint(str(one))


def test_tables_of_one_database_have_fingerprints_of_their_own(tmp_path: Path) -> None:
    path = write_duckdb(tmp_path / "r.duckdb", people=PEOPLE, others=PEOPLE)
    marks = [fingerprint(f"{path}:{name}") for name in ("people", "others")]
    assert len(set(marks)) == 2
    assert marks == [fingerprint(f"{path}:{name}") for name in ("people", "others")]


# Files that appear when they are whole


def test_a_file_appears_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    with whole(path) as part:
        part.write_text("new")
        assert not path.exists()
        assert part.parent == tmp_path  # so that renaming it is one step
    assert path.read_text() == "new"
    with whole(path) as part:
        part.write_text("newer")
        assert path.read_text() == "new"
    assert path.read_text() == "newer"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit, DataError, MemoryError])
@pytest.mark.parametrize("before", [None, "old"])
def test_nothing_stays_of_a_file_that_was_given_up(
    error: type[BaseException], before: str | None, tmp_path: Path
) -> None:
    path = tmp_path / "report.json"
    if before is not None:
        path.write_text(before)
    with pytest.raises(error, match="enough"), whole(path) as part:
        part.write_text("half of")
        raise error("enough")
    assert (path.read_text() if path.exists() else None) == before
    assert set(tmp_path.iterdir()) <= {path}


def _in_no_folder(folder: Path) -> Path:
    return folder / "missing" / "report.json"


def _below_a_file(folder: Path) -> Path:
    (folder / "file").write_text("")
    return folder / "file" / "report.json"


def _a_folder(folder: Path) -> Path:
    (folder / "folder").mkdir()
    (folder / "folder" / "content").write_text("")
    return folder / "folder"


@pytest.mark.parametrize("make", [_in_no_folder, _below_a_file, _a_folder])
def test_a_place_that_cannot_be_written_is_refused_with_the_remedy(
    make: Callable[[Path], Path], tmp_path: Path
) -> None:
    path = make(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(DataError) as caught, whole(path) as part:
        part.write_text("new")
    assert str(caught.value).startswith(f"{path}: cannot be written (")
    assert str(caught.value).endswith("): give a writable file")
    assert sorted(tmp_path.rglob("*")) == before
