"""A register reads the same however an office writes it, in every back end; what cannot be read is refused by line."""

import csv
import io
import json
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trace_cli import run

from unmask.errors import DataError
from unmask.tracing.attributes.dictionary import Attribute, Dictionary, dictionary_text, read_dictionary
from unmask.tracing.registers.memory import MemoryRegister, coded
from unmask.tracing.registers.sql import SqlRegister, over_duckdb, over_parquet
from unmask.tracing.registers.tables import read_table, reading_notes
from unmask.tracing.tools.profiling import Profile, profile

PEOPLE = 60
TOWNS = ("Zürich", "São Paulo", "New York", "Köln")


@dataclass(frozen=True)
class Style:
    """How an office writes."""

    separator: str = ","
    end: str = "\n"
    encoding: str = "utf-8"
    decimal: str = "."
    thousands: str = ""
    unit: str = ""
    day: str = "%Y-%m-%d"
    missing: str = ""
    above: str = ""
    float_children: bool = False
    spaces: bool = False
    quoted: bool = False
    trailing: int = 0
    empty_lines: bool = False


def people() -> list[dict[str, Any]]:
    """People who do not exist."""
    randomness = np.random.default_rng(5)
    return [
        {
            "id": f"p{number:04}",
            "eyes": str(randomness.choice(["brown", "blue", "green"])),
            "height": int(randomness.integers(150, 200)),
            "weight": float(randomness.integers(400, 1200)) / 10.0 + (0.05 if number == 3 else 0.0),
            "income": float(randomness.integers(1_000_00, 9_000_000_00)) / 100.0,
            "children": None if number % 5 == 0 else int(randomness.integers(0, 4)),
            "born": None if number == 7 else date(1935, 1, 1) + timedelta(days=int(randomness.integers(25_000))),
            "town": str(randomness.choice(TOWNS)),
        }
        for number in range(PEOPLE)
    ]


def number_text(value: float, digits: int, style: Style) -> str:
    text = f"{value:,.{digits}f}" if style.thousands else f"{value:.{digits}f}"
    return text.replace(",", "T").replace(".", style.decimal).replace("T", style.thousands)


def day_text(value: date, style: Style) -> str:
    if style.day == "excel":
        return str((value - date(1899, 12, 30)).days)
    return value.strftime(style.day)


def texts_of(person: dict[str, Any], style: Style) -> list[str]:
    children = person["children"]
    texts = [
        person["id"],
        person["eyes"],
        f"{person['height']}{style.unit and ' cm'}",
        number_text(person["weight"], 2, style) + (style.unit and " kg"),
        number_text(person["income"], 2, style),
        style.missing if children is None else f"{children}{style.decimal}0" if style.float_children else f"{children}",
        style.missing if person["born"] is None else day_text(person["born"], style),
        person["town"],
    ]
    return [f" {text}  " if style.spaces else text for text in texts]


def write(path: Path, style: Style) -> Path:
    stream = io.StringIO(newline="")
    stream.write(style.above.replace("\n", style.end))
    quoting = csv.QUOTE_ALL if style.quoted else csv.QUOTE_MINIMAL
    writer = csv.writer(stream, delimiter=style.separator, lineterminator=style.end, quoting=quoting)
    listed = people()
    padding = [""] * style.trailing
    writer.writerow([f" {name} " if style.spaces else name for name in listed[0]] + padding)
    for person in listed:
        writer.writerow(texts_of(person, style) + padding)
    if style.empty_lines:
        stream.write(style.end + style.separator * (len(listed[0]) - 1 + style.trailing) + style.end)
    path.write_bytes(stream.getvalue().encode(style.encoding))
    return path


def values_of(register: MemoryRegister | SqlRegister, ids: list[str]) -> dict[str, list[str | None]]:
    """What each record has, by attribute."""
    names = list(register.models)
    rows = np.array([register.row(one) for one in ids])
    codes = register.codes(rows, names)
    return {
        name: [register.models[name].values[code - 1] if code else None for code in codes[:, place].tolist()]
        for place, name in enumerate(names)
    }


IDS = [person["id"] for person in people()]
KINDS = {
    "eyes": "categorical",
    "height": "numeric",
    "weight": "numeric",
    "income": "numeric",
    "children": "categorical",
    "born": "date",
    "town": "categorical",
}


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> tuple[Profile, dict[str, list[str | None]]]:
    path = write(tmp_path_factory.mktemp("plain") / "plain.csv", Style())
    return read_back(path)


def read_back(path: Path) -> tuple[Profile, dict[str, list[str | None]]]:
    table = read_table(str(path))
    guessed = profile(table, str(path))
    return guessed, values_of(coded(table, guessed.dictionary, "test"), IDS)


styles = st.builds(
    Style,
    separator=st.sampled_from([",", ";", "\t", "|"]),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "cp1252"]),
    decimal=st.sampled_from([".", ","]),
    thousands=st.sampled_from(["", "'", " ", "\u00a0"]),
    unit=st.sampled_from(["", "yes"]),
    day=st.sampled_from(
        [
            *("%Y-%m-%d", "%d.%m.%Y", "%m/%d/%Y", "%d/%m/%Y", "%Y%m%d", "%Y/%m/%d", "%Y-%m-%d 00:00:00", "%d-%m-%Y"),
            *("%Y-%m-%dT00:00:00", "%Y-%m-%dT00:00:00Z", "%d.%m.%y", "excel", "%d %b %Y", "%B %d, %Y"),
            "%d.%m.%Y 00:00",
        ]
    ),
    missing=st.sampled_from(
        [
            "",
            "NA",
            "N/A",
            "n/a",
            "NULL",
            "null",
            "None",
            "-",
            "--",
            "?",
            ".",
            "unknown",
            "unbekannt",
            "nan",
            "#N/A",
            '""',
        ]
    ),
    above=st.sampled_from(["", "Export of the register\n", "Export; made by the office\n\nPage 1\n"]),
    float_children=st.booleans(),
    spaces=st.booleans(),
    quoted=st.booleans(),
    trailing=st.sampled_from([0, 2]),
    empty_lines=st.booleans(),
)


@pytest.mark.slow
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(style=styles)
def test_a_register_reads_the_same_in_every_style(style: Style, plain: Any, tmp_path: Path) -> None:
    guessed, values = read_back(write(tmp_path / "r.csv", style))
    assert {name: one.kind for name, one in guessed.dictionary.attributes.items()} == KINDS
    assert guessed.dictionary.id == "id"
    assert values == plain[1]


@pytest.mark.parametrize("name", ["r.CSV", "r.tsv", "r.TXT", "r.tab", "r.txt"])
def test_the_separator_is_that_of_the_file_whatever_its_suffix(name: str, plain: Any, tmp_path: Path) -> None:
    for separator in (",", ";", "\t"):
        assert read_back(write(tmp_path / name, Style(separator)))[1] == plain[1]


@pytest.mark.parametrize("stated", ["sep=;\n", '"sep=;"\n', "sep=;\r\n"])
def test_excel_may_state_the_separator(stated: str, plain: Any, tmp_path: Path) -> None:
    assert read_back(write(tmp_path / "r.csv", Style(";", above=stated)))[1] == plain[1]


# Lines of delimited text


def read(path: Path, text: str) -> dict[str, list[str | None]]:
    path.write_bytes(text.encode())
    return read_table(str(path)).to_pydict()


def test_a_separator_at_the_end_of_each_line_makes_no_column(tmp_path: Path) -> None:
    expected = {"id": ["a", "b"], "x": ["1", None]}
    assert read(tmp_path / "r.csv", "id;x\na;1;\nb;;\n") == expected
    assert read(tmp_path / "r.csv", "id;x;\na;1;\nb;;\n") == expected
    assert read(tmp_path / "r.csv", "id;x;;\na;1\nb;\n".replace("1\n", "1;;\n").replace("b;\n", "b;;;\n")) == expected


def test_a_line_longer_than_is_read_at_once_is_read(tmp_path: Path) -> None:
    names, values = [f"c{number}" for number in range(30)], ["v" * 100_000] * 30
    columns = read(tmp_path / "r.csv", f"id,{','.join(names)}\na,{','.join(values)}\nb{',' * 30}\n")
    assert columns["c29"] == [values[0], None]


def test_the_names_of_many_columns_are_read(tmp_path: Path) -> None:
    names = [f"a rather long name of column {number}" for number in range(6_000)]
    columns = read(tmp_path / "r.csv", f"id;{';'.join(names)}\na{';u' * 6_000}\nb{';v' * 6_000}\n")
    assert list(columns) == ["id", *names]
    assert columns[names[-1]] == ["u", "v"]


def test_a_column_without_a_name_is_kept_and_noted(tmp_path: Path) -> None:
    assert read(tmp_path / "r.csv", ",id,x\n0,a,7\n1,b,8\n") == {
        "column 1": ["0", "1"],
        "id": ["a", "b"],
        "x": ["7", "8"],
    }
    assert "column 1 has no name" in reading_notes(read_table(str(tmp_path / "r.csv")))


def test_lines_that_repeat_the_names_are_passed_over(tmp_path: Path) -> None:
    assert read(tmp_path / "r.csv", "id,x\na,1\nid,x\nb,2\nid,x\n") == {"id": ["a", "b"], "x": ["1", "2"]}
    notes = reading_notes(read_table(str(tmp_path / "r.csv")))
    assert any("repeat the names" in note and note.endswith(": 2") for note in notes)


@pytest.mark.parametrize(
    ("names", "values"),
    [
        ("id,2019,2020", "5,7"),
        ("id,0,1,2", "5,7,9"),
        ("id,01.02.2020,02.02.2020", "5,7"),
        ("id,100 m,200 m", "11.5,23.5"),
        ("id,red,blue", "red,blue"),
    ],
)
def test_names_that_look_like_values_are_names(names: str, values: str, tmp_path: Path) -> None:
    text = f"{names}\na,{values}\nb,{values}\n"
    assert list(read(tmp_path / "r.csv", text)) == names.split(",")


SECRET = "Zaphod Beeblebrox"
FAULTY = {
    "a value too many": ("id,name,x\np1,Ann,1\np2,{secret},1,2\n", "line 3"),
    "a value too few": ("id,name,x\np1,Ann,1\np2,{secret}\n", "line 3"),
    "a decimal comma without quotes": ("id,name,x\np1,{secret},1,5\np2,Bob,2,5\n", "line 2"),
    "late": ("id,name,x\n" + "p1,Ann,1\n" * 50_000 + "p2,{secret}\n", "line 50002"),
    "below a title": ("Title\n\nid,name,x\np1,Ann,1\np2,{secret}\n", "line 5"),
    "behind a quoted line end": ('id,name,x\np1,"A\nnn",1\np2,{secret}\n', "line 4"),
    "a quote left open": ('id,name,x\np1,Ann,1\np2,"{secret},1\np3,Bob,1\n', "line 3"),
    "a last quote left open": ('id,name,x\np1,Ann,1\np2,{secret},"1\np3,Bob,1\n', "line 3"),
    "zero bytes": ("id,name,x\np1,Ann,1\np2,{secret}\0,1\n", "line 3"),
    "no names": ("p1,{secret},180.5\np2,Bob,171.5\n", "line 1"),
    "no names, all texts": ("p1,{secret},green,Rome\np2,Bob,green,Rome\np3,Eve,blue,Oslo\n", "line 1"),
    "no names below a title": ("Register\n\np1,{secret},1980-02-03\np2,Bob,1981-02-03\n", "line 3"),
}


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTY)
def test_a_faulty_line_is_named_and_nothing_of_it_is_shown(fault: str, tmp_path: Path) -> None:
    text, line = FAULTY[fault]
    (tmp_path / "r.csv").write_text(text.format(secret=SECRET))
    for command in ("profile", "find", "audit", "simulate"):
        result = run(command, tmp_path / "r.csv")
        assert isinstance(result.exception, DataError), result.output
        message = f"{result.exception} {result.output}"
        assert line in message
        assert not any(part in message for part in (SECRET, "p2", "180.5", "1980"))


# Values


def dictionary(path: Path, text: str) -> Path:
    path.write_text('id = "id"\n' + text)
    return path


@pytest.mark.parametrize(
    ("attribute", "values"),
    [
        ('kind = "numeric"\nspread = 1.0', ["1.5", "2.5", SECRET]),
        ('kind = "numeric"\nspread = 1.0', ["176 cm", "1.80 m", f"5 {SECRET}"]),
        ('kind = "date"', ["1980-12-31", "1981-12-31", SECRET]),
        ('kind = "date"\nformat = "%d.%m.%Y"', ["31.12.1980", "30.12.1980", f"12/31/1980 {SECRET}"]),
        ('kind = "ordinal"\norder = ["S", "M"]', ["S", "M", SECRET]),
    ],
)
@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".duckdb"])
def test_a_value_that_does_not_fit_is_not_shown(attribute: str, values: list[str], suffix: str, tmp_path: Path) -> None:
    path = table_at(tmp_path / f"r{suffix}", pa.table({"id": ["who1", "who2", "who3"], "x": values}))
    known = dictionary(tmp_path / "d.toml", f"[attributes.x]\n{attribute}\n")
    for engine in ["memory"] if suffix == ".csv" else ["memory", "duckdb"]:
        result = run("find", path, "--dictionary", known, "--engine", engine, "--answer", "x=1")
        assert isinstance(result.exception, DataError), result.output
        message = f"{result.exception} {result.output}"
        assert "x: " in message
        assert not any(part in message for part in (SECRET, "who", "Zaphod", *values))
        assert engine == "duckdb" or "record" in message


def table_at(path: Path, table: pa.Table) -> Path:
    if path.suffix == ".csv":
        pa.csv.write_csv(table, path)
    elif path.suffix == ".parquet":
        pq.write_table(table, path)
    else:
        path.unlink(missing_ok=True)
        with duckdb.connect(str(path)) as connection:
            connection.register("held", table)
            connection.execute("create table people as select * from held")
    return path


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".duckdb"])
def test_an_identifier_that_is_there_twice_is_not_shown(suffix: str, tmp_path: Path) -> None:
    path = table_at(tmp_path / f"r{suffix}", pa.table({"id": ["a", SECRET, SECRET], "x": ["u", "v", "v"]}))
    known = dictionary(tmp_path / "d.toml", '[attributes.x]\nkind = "categorical"\n')
    for engine in ["memory"] if suffix == ".csv" else ["memory", "duckdb"]:
        result = run("find", path, "--dictionary", known, "--engine", engine)
        assert "an identifier must be there once" in str(result.exception)
        assert SECRET not in f"{result.exception} {result.output}"


COLUMNS: dict[str, pa.Array] = {
    "dates as text": pa.array(["31.12.1980", "01.02.1970", "13.03.1999", "?", "31.12.1980", None]),
    "moments as text": pa.array(["1980-12-31T23:30:00Z", "1970-02-01", "1970-02-01 00:00", "NaT", "1999-01-01", ""]),
    "days as numbers": pa.array([19801231, 19700201, 19990313, None, 19801231, 19990313]),
    "days as floats": pa.array([19801231.0, 19700201.0, 19990313.0, float("nan"), 19801231.0, None]),
    "days as floats in text": pa.array(["19801231.0", "19700201.0", "19990313.0", "nan", "19801231.0", None]),
    "birth_date": pa.array([29586.0, 25000.0, 36000.5, None, 29586.25, 30000.0]),
    "born": pa.array([29586, 25000, 36000, None, 29586, 30000]),
    "moments": pa.array([347_000_000, 0, 10**9, None, 347_000_001, 5], pa.timestamp("s")),
    "moments in a zone": pa.array([347_065_200, 0, 10**9, None, 347_000_001, 5], pa.timestamp("ms", "Europe/Berlin")),
    "moments by the nanosecond": pa.array([1, 2, 10**18, None, 1, 86_400_000_000_000], pa.timestamp("ns")),
    "numbers as text": pa.array(["1.234,5", "17", "0,5", "NULL", "−3", " 12,25 "]),
    "with a unit": pa.array(["176 cm", "180cm", "176 cm", "unknown", "191 CM", "150"]),
    "decimals": pa.array([1, 2, 3, None, 1, 250], pa.decimal128(9, 2)),
    "whole as floats": pa.array([2.0, 1.0, 0.0, float("nan"), 2.0, None]),
    "whole as text": pa.array(["2.0", "1.0", "0.0", "NA", "2.0", "-"]),
    "encoded": pa.array(["blue", "NA", "blue", "brown", None, " brown "]).dictionary_encode(),
    "large": pa.array(["blue", "NA", "blue", "brown", None, " brown "], pa.large_string()),
    "bytes": pa.array([b"blue", b"NA", b"blue", b"brown", None, b" brown "]),
    "times": pa.array([0, 3_600_000_000, 1, None, 0, 5], pa.time64("us")),
    "truths": pa.array([True, False, None, True, True, False]),
}


@pytest.mark.parametrize("column", COLUMNS)
def test_all_back_ends_read_the_same(column: str, tmp_path: Path) -> None:
    table = pa.table({"id": list("abcdef"), column: COLUMNS[column], "other": list("uvuvuv")})
    path = table_at(tmp_path / "r.parquet", table)
    database = table_at(tmp_path / "r.duckdb", table)
    known = profile(read_table(str(path)), "r").dictionary
    attribute = known.attributes[column].model_copy(update={"use": "ask"})
    known = Dictionary(id="id", attributes={column: attribute})
    registers = [coded(read_table(str(path)), known, "r"), over_parquet(path, known)]
    if column != "moments in a zone":  # DuckDB's tables keep moments, not zones
        registers += [coded(read_table(str(database)), known, "r"), over_duckdb(str(database), known)]
    first, *others = [values_of(register, list("abcdef")) for register in registers]
    assert others == [first] * len(others)
    for register in registers[1:]:
        assert list(register.models[column].values) == list(registers[0].models[column].values)
        assert register.models[column].counts.tolist() == registers[0].models[column].counts.tolist()
        assert register.models[column].attribute == registers[0].models[column].attribute
    assert first[column][3] is None or column in ("encoded", "large", "bytes", "truths")


def test_moments_are_of_the_day_in_their_own_zone(tmp_path: Path) -> None:
    midnights = pa.array([-315_622_800, 346_978_800], pa.timestamp("s", "Europe/Berlin"))  # in Berlin, not in UTC
    path = table_at(tmp_path / "r.parquet", pa.table({"id": ["a", "b"], "born": midnights}))
    known = Dictionary(id="id", attributes={"born": Attribute(kind="date")})
    for register in (coded(read_table(str(path)), known, "r"), over_parquet(path, known)):
        assert values_of(register, ["a", "b"]) == {"born": ["1960-01-01", "1980-12-30"]}


def test_a_stream_of_arrow_is_read(tmp_path: Path) -> None:
    table = pa.table({"id": ["a", "b"], "x": ["u", "v"]})
    for name in ("r.arrow", "r.arrows", "r.feather"):
        with pa.ipc.new_stream(tmp_path / name, table.schema) as writer:
            writer.write_table(table)
        assert read_table(str(tmp_path / name)).equals(table)


# What is guessed, said and stated


def guess(tmp_path: Path, name: str, values: list[str]) -> tuple[Attribute, str]:
    """The attribute that is guessed for values, and all notes."""
    path = tmp_path / "r.csv"
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerows([["id", name], *([f"p{row}", value] for row, value in enumerate(values))])
    guessed = profile(read_table(str(path)), "r.csv")
    return guessed.dictionary.attributes[name], "\n".join(guessed.notes)


@pytest.mark.parametrize(
    ("values", "format", "doubt"),
    [
        (["01/02/1980", "03/04/1981", "05/06/1982"], "%d/%m/%Y", "the day cannot be told from the month"),
        (["01.02.1980", "03.04.1981", "05.06.1982"], "%d.%m.%Y", "the day cannot be told from the month"),
        (["01/02/1980", "03/04/1981", "05/13/1982"], "%m/%d/%Y", ""),
        (["01/02/80", "13/04/81", "05/06/02"], "%d/%m/%y", "years of two digits"),
        (["1980-02-01", "13.04.1981", "05.06.2002"], None, "several ways"),
    ],
)
def test_doubts_on_dates_are_noted(values: list[str], format: str | None, doubt: str, tmp_path: Path) -> None:
    attribute, notes = guess(tmp_path, "x", values)
    assert (attribute.kind, attribute.format) == ("date", format)
    assert (doubt in notes) and ("cannot be told" in notes) == ("cannot be told" in doubt)


def test_dates_in_two_orders_are_noted_and_no_dates(tmp_path: Path) -> None:
    values = [f"{day:02}/01/1980" for day in range(1, 29)] + [f"01/{day:02}/1980" for day in range(13, 29)]
    attribute, notes = guess(tmp_path, "x", values)
    assert attribute.kind != "date"
    assert "in some dates the day comes first, in others the month" in notes


@pytest.mark.parametrize(
    ("name", "values", "missing"),
    [
        ("country", ["NA", "DE", "FR", "NA"], None),
        ("country", ["NA", "Germany", "France"], ("NA",)),
        ("rhesus", ["+", "-", "+"], None),
        ("glasses", ["none", "round", "none"], None),
        ("surname", ["Null", "Na", "Li"], None),
        ("surname", ["NULL", "Na", "Li"], ("NULL",)),
        ("x", ["?", "-", "a", "b"], ("-", "?")),
        ("born", ["0000-00-00", "1980-12-31", "1981-12-31"], ("0000-00-00",)),
        ("code", ["00000000", "0000", "000001"], None),
    ],
)
def test_words_are_missing_where_they_are_no_values(
    name: str, values: list[str], missing: tuple[str, ...] | None, tmp_path: Path
) -> None:
    attribute, notes = guess(tmp_path, name, values)
    assert attribute.missing == missing
    assert ('taken for "not recorded"' in notes) == (missing is not None)
    if name == "country" and missing is None:
        assert "'NA' is kept as a value" in notes


def test_the_dictionary_says_what_is_missing(tmp_path: Path) -> None:
    table = pa.table({"id": list("abcd"), "x": ["NA", "0", "brown", None]})

    def values(**said: Any) -> list[str | None]:
        known = Dictionary(id="id", attributes={"x": Attribute(kind="categorical", **said)})
        return values_of(coded(table, known, "r"), list("abcd"))["x"]

    assert values() == [None, "0", "brown", None]
    assert values(missing=()) == ["NA", "0", "brown", None]
    assert values(missing=("0",)) == ["NA", None, "brown", None]
    assert values(confusion={"NA": {"NA": 1.0}}) == ["NA", "0", "brown", None]


def test_the_dictionary_says_how_dates_and_numbers_are_written(tmp_path: Path) -> None:
    table = pa.table({"id": ["a", "b"], "born": ["01/02/1980", "1980-03-04"], "pay": ["1.234", "2.500"]})

    def values(born: dict[str, Any], pay: dict[str, Any]) -> dict[str, list[str | None]]:
        attributes = {"born": Attribute(kind="date", **born), "pay": Attribute(kind="numeric", spread=0.1, **pay)}
        return values_of(coded(table, Dictionary(id="id", attributes=attributes), "r"), ["a", "b"])

    american = values({"format": "%m/%d/%Y"}, {"decimal": ","})
    assert american["born"] == ["1980-01-02", "1980-03-04"]
    assert [round(float(str(one))) for one in american["pay"]] == [1234, 2500]
    european = values({"format": "%d/%m/%Y"}, {"decimal": "."})
    assert european["born"] == ["1980-02-01", "1980-03-04"]
    assert [round(float(str(one)), 1) for one in european["pay"]] == [1.2, 2.5]


@pytest.mark.slow
@pytest.mark.parametrize("command", ["find", "audit", "simulate", "deduplicate"])
def test_what_is_guessed_without_a_dictionary_is_said(command: str, tmp_path: Path) -> None:
    rows = "".join(
        f"p{row};{row % 5};0{row % 9 + 1}/0{row % 7 + 1}/1980;{('NA', 'u', 'v')[row % 3]};{'abcdefghijk'[row % 11]}\n"
        for row in range(400)
    )
    (tmp_path / "r.csv").write_text("id;x;moved;y;z\n" + rows)
    extra = ["--out", tmp_path / "new.csv"] if command == "deduplicate" else []
    message = " ".join(run(command, tmp_path / "r.csv", *extra).output.split())
    assert "moved: the day cannot be told from the month" in message
    assert "taken for \"not recorded\": 'NA'" in message
    assert "values are separated by semicolons" in message


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(style=styles)
def test_what_was_guessed_is_written_down_and_read_by(style: Style, tmp_path: Path) -> None:
    path = write(tmp_path / "r.csv", style)
    guessed, values = read_back(path)
    (tmp_path / "d.toml").write_text(dictionary_text(guessed.dictionary), encoding="utf-8")
    known = read_dictionary(tmp_path / "d.toml")
    assert known == guessed.dictionary
    assert values_of(coded(read_table(str(path)), known, "r"), IDS) == values


def test_yes_and_no_are_two_values_however_they_are_written() -> None:
    table = pa.table(
        {"id": list("abcde"), "x": ["yes", "No", "TRUE", "0", None], "y": ["ja", "nein", "ja", "ja", None]}
    )
    known = Dictionary(id="id", attributes={name: Attribute(kind="categorical") for name in ("x", "y")})
    values = values_of(coded(table, known, "r"), list("abcde"))
    assert values == {"x": ["yes", "no", "yes", "no", None], "y": ["ja", "nein", "ja", "ja", None]}


def test_values_far_off_are_noted_by_their_record(tmp_path: Path) -> None:
    numbers = [*range(150, 190), 17_600]
    assert "x: what record 41 has is far from the others" in guess(tmp_path, "x", [str(one) for one in numbers])[1]
    days = [f"19{year}-05-01" for year in range(40, 90)]
    assert "x: what record 51 has is far from the others" in guess(tmp_path, "x", [*days, "9999-12-31"])[1]
    assert "far from" not in guess(tmp_path, "x", days)[1]


# Answers


@pytest.mark.parametrize(
    ("answer", "first"),
    [
        ("children=2", "a"),
        ("children=2.0", "a"),
        ("born=31.12.1980", "a"),
        ("born=1980-12-31", "a"),
        ("born=1980/12/31", "a"),
        ("born=12/31/1980", "a"),
        ("height=176", "a"),
        ("height=176,0", "a"),
        ("height=176 cm", "a"),
        ("pay=1.234,5", "a"),
        ("pay=1234.5", "a"),
        ("pay=1234,5", "a"),
        ("smoker=yes", "a"),
        ("smoker=TRUE", "a"),
        ("smoker=ja", "a"),
    ],
)
def test_an_answer_is_read_as_the_register_is(answer: str, first: str, tmp_path: Path) -> None:
    table = pa.table(
        {
            "id": ["a", "b", "c"],
            "children": ["2.0", "1.0", "NA"],
            "born": ["31.12.1980", "01.02.1955", "-"],
            "height": ["176 cm", "150 cm", "?"],
            "pay": ["1.234,5", "99.000,25", ""],
            "smoker": ["ja", "nein", "nein"],
        }
    )
    known = dictionary(
        tmp_path / "d.toml",
        '[attributes.children]\nkind = "categorical"\n[attributes.born]\nkind = "date"\n'
        '[attributes.height]\nkind = "numeric"\nspread = 2\n[attributes.pay]\nkind = "numeric"\nspread = 50\n'
        '[attributes.smoker]\nkind = "categorical"\n',
    )
    path = table_at(tmp_path / "r.parquet", table)
    for engine in ("memory", "duckdb"):
        result = run("find", path, "--dictionary", known, "--engine", engine, "--answer", answer, "--json", "-")
        assert json.loads(result.stdout)["candidates"][0]["id"] == first


@pytest.mark.parametrize("word", ["unknown", "NA", "?", "-"])
def test_an_answer_that_says_nothing_is_not_to_be_had(word: str, tmp_path: Path) -> None:
    table = pa.table({"id": ["a", "b", "c"], "x": ["u", "v", "u"], "land": ["NA", "DE", "DE"]})
    known = dictionary(
        tmp_path / "d.toml", '[attributes.x]\nkind = "string"\n[attributes.land]\nkind = "categorical"\n'
    )
    words = ("find", table_at(tmp_path / "r.parquet", table), "--dictionary", known, "--json", "-")
    assert json.loads(run(*words, "--answer", f"x={word}").stdout)["steps"][0]["told"] is None
    assert json.loads(run(*words, "--answer", "land=NA").stdout)["steps"][0]["told"] == "NA"


@pytest.mark.parametrize(
    ("answer", "why"), [("born=01/02/1980", "one of two dates"), ("pay=1,234", "one of two numbers")]
)
def test_an_answer_that_may_be_two_is_refused(answer: str, why: str, tmp_path: Path) -> None:
    table = pa.table({"id": ["a", "b"], "born": ["1980-12-31", "1970-01-01"], "pay": [1234, 1]})
    known = dictionary(
        tmp_path / "d.toml", '[attributes.born]\nkind = "date"\n[attributes.pay]\nkind = "numeric"\nspread = 1\n'
    )
    result = run("find", table_at(tmp_path / "r.parquet", table), "--dictionary", known, "--answer", answer)
    assert why in str(result.exception)


def test_repeated_names_of_columns_are_no_values(tmp_path: Path) -> None:
    """As where sheets with their headers were joined: the same kinds are guessed as without."""
    header = "id;born;height;eyes"
    rows = [f"{n};{1 + n % 28:02}.05.19{60 + n % 30};{150 + n},5;{'blue' if n % 2 else 'brown'}" for n in range(40)]
    (tmp_path / "plain.csv").write_text("\n".join([header, *rows]))
    (tmp_path / "joined.csv").write_text("\n".join([header, *rows[:20], header, *rows[20:]]))
    plain, joined = (
        profile(read_table(str(tmp_path / name)), str(tmp_path / "register.csv"))
        for name in ("plain.csv", "joined.csv")
    )
    assert joined.dictionary == plain.dictionary and joined.columns == plain.columns


def test_identifiers_are_whole_numbers_without_a_fraction(tmp_path: Path) -> None:
    """pandas writes whole numbers as 5.0 where one was missing."""
    dictionary = Dictionary.model_validate({"id": "id", "attributes": {"eyes": {"kind": "categorical"}}})
    (tmp_path / "p.csv").write_text("id,eyes\n" + "".join(f"{n}.0,{n % 3}\n" for n in range(9)))
    numbers = pa.table({"id": [float(n) for n in range(9)], "eyes": [str(n % 3) for n in range(9)]})
    pq.write_table(numbers, tmp_path / "p.parquet")
    in_memory = [coded(read_table(str(tmp_path / name)), dictionary, "x") for name in ("p.csv", "p.parquet")]
    for register in (*in_memory, over_parquet(tmp_path / "p.parquet", dictionary)):
        assert register.row("5") >= 0
        with pytest.raises(DataError):
            register.row("5.0")


def test_profile_shows_nothing_of_what_names_a_person(tmp_path: Path) -> None:
    rows = [f"{n};Muster{n}, Hans;{'blue' if n % 2 else 'brown'}" for n in range(100)]
    (tmp_path / "p.csv").write_text("\n".join(["id;name;eyes", *rows, *rows[:3]]))
    shown = run("profile", tmp_path / "p.csv").output
    assert "Muster" not in shown and "brown" in shown
