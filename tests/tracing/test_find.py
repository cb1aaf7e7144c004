"""`unmask trace` as people use it, and what it answers to bad input."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pytest
from trace_cli import refusal, run, write_people
from typer.testing import CliRunner

from unmask import cli
from unmask.cli import trace as commands
from unmask.tracing.report.trace_report import TraceReport
from unmask.tracing.simulation.synthetic import RegisterSpec, table_of

RECIPE = RegisterSpec(records=300, seed=5, twins=0.0, missing=0.0)


@pytest.fixture(scope="module")
def register(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_people(tmp_path_factory.mktemp("register"), RECIPE)


@pytest.fixture(scope="module")
def person() -> dict[str, str]:
    return table_of(RECIPE).to_pylist()[42]


def answers(person: dict[str, str], *names: str) -> list[str]:
    return [word for name in names for word in ("--answer", f"{name}={person[name]}")]


def test_a_person_is_found_and_the_report_says_why(register: Path, person: dict[str, str], tmp_path: Path) -> None:
    names = ("a20_40", "a19_30", "a18_24", "a17_20", "a16_18", "a15_15")
    result = run(
        "find", register, "--dictionary", register.with_suffix(".toml"), *answers(person, *names),
        "--json", tmp_path / "r.json", "--html", tmp_path / "r.html",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "identified" in result.output
    report = TraceReport.model_validate_json((tmp_path / "r.json").read_text())
    assert (report.status, report.candidates[0].id) == ("identified", person["id"])
    assert report.core_set is not None
    assert set(report.core_set.names) <= set(names)
    assert report.steps[-1].entropy_after == pytest.approx(report.entropy)
    assert sum(step.bits for step in report.steps) == pytest.approx(report.entropy_start - report.entropy)
    page = (tmp_path / "r.html").read_text()
    assert person["id"] in page
    assert "Identified" in page
    assert "<script" not in page


def test_without_enough_it_says_what_to_ask_next(register: Path, person: dict[str, str]) -> None:
    words = ("find", register, "--dictionary", register.with_suffix(".toml"))
    result = run(*words, *answers(person, "a01_2"), "--json", "-")
    assert result.exit_code == 1
    report = TraceReport.model_validate_json(result.stdout)
    assert report.status == "open"
    assert report.next[0].attribute == "a20_40"


def test_it_asks_and_keeps_what_it_is_told(
    register: Path, person: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "_at_a_terminal", lambda: True)
    words = ("find", register, "--dictionary", register.with_suffix(".toml"), "--case", tmp_path / "a.case")
    first = run(*words, "--purpose", "a test", input=f"1\n{person['a20_40']}\na01_2={person['a01_2']}\nundo\ndone\n")
    assert first.exit_code == 1, first.output
    lines = [json.loads(line) for line in (tmp_path / "a.case").read_text().splitlines()]
    assert [line.get("attribute") for line in lines[1:]] == ["a20_40", "a01_2", ""]
    assert lines[2]["shown"][0][0] != "a01_2"  # it was overridden, and what was shown is kept
    # Nonsense and repetitions are answered with a line, and nothing is kept of them.
    talk = f"colour=red\na20_40={person['a20_40']}\na19_30=nonsense\na19_30=\na19_30=?\ndone\n"
    second = run(*words, "--json", tmp_path / "r.json", input=talk)
    assert "not an attribute" in second.output
    assert "answered before" in second.output
    assert "no record has 'nonsense'" in second.output
    report = TraceReport.model_validate_json((tmp_path / "r.json").read_text())
    assert [(step.attribute, step.told) for step in report.steps] == [("a20_40", person["a20_40"]), ("a19_30", None)]
    assert report.purpose == "a test"


def test_going_on_is_the_same_as_never_having_stopped(register: Path, person: dict[str, str], tmp_path: Path) -> None:
    words = ("find", register, "--dictionary", register.with_suffix(".toml"), "--json", "-")
    given = answers(person, "a20_40", "a19_30", "a18_24")
    at_once = TraceReport.model_validate_json(run(*words, *given).stdout)
    for number in range(0, 6, 2):
        parts = run(*words, *given[number : number + 2], "--case", tmp_path / "a.case")
    in_parts = TraceReport.model_validate_json(parts.stdout)
    assert in_parts.candidates[0].probability == pytest.approx(at_once.candidates[0].probability, abs=1e-6)
    # The same answers given again are those of the case, not new ones.
    again = TraceReport.model_validate_json(run(*words, *given, "--case", tmp_path / "a.case").stdout)
    assert len(again.steps) == 3
    assert "answered before" in refusal(*words, "--answer", "a20_40=v00", "--case", tmp_path / "a.case")


def test_a_killed_case_goes_on(register: Path, person: dict[str, str], tmp_path: Path) -> None:
    case = tmp_path / "a.case"
    words = [sys.executable, "-c", "from unmask.cli import main; main()", "trace", "find", str(register)]
    words += ["--dictionary", str(register.with_suffix(".toml")), "--case", str(case)]
    leader, follower = os.openpty()
    process = subprocess.Popen(words, stdin=follower, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    os.write(leader, f"a20_40={person['a20_40']}\n".encode())
    deadline = time.monotonic() + 60
    while not (case.exists() and case.read_bytes().count(b"\n") == 2):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    result = run("find", register, "--dictionary", register.with_suffix(".toml"), "--case", case, "--json", "-")
    report = TraceReport.model_validate_json(result.stdout)
    assert [step.told for step in report.steps] == [person["a20_40"]]


def test_a_suspicious_picture_is_trusted_less(
    register: Path, person: dict[str, str], tmp_path: Path, portrait: Path, tiny_pack: Path
) -> None:
    inspected = CliRunner().invoke(
        cli.app,
        f"inspect {portrait} --pack {tiny_pack} --edits none --json {tmp_path / 'p.jsonl'} -q".split(),
    )
    assert inspected.exit_code == 0, inspected.output
    log10_lr = json.loads((tmp_path / "p.jsonl").read_text())["log10_lr"]
    words = ("find", register, "--dictionary", register.with_suffix(".toml"), *answers(person, "a20_40"), "--json", "-")
    report = TraceReport.model_validate_json(run(*words, "--picture", f"a20_40={tmp_path / 'p.jsonl'}").stdout)
    assert report.steps[0].trust == pytest.approx(1 / (1 + 10**log10_lr))
    assert report.steps[0].picture == json.loads((tmp_path / "p.jsonl").read_text())["sha256"]
    plain = TraceReport.model_validate_json(run(*words).stdout)
    assert report.candidates[0].probability < plain.candidates[0].probability
    (tmp_path / "bad.jsonl").write_text("{}\n")
    assert "not a report" in refusal(*words, "--picture", f"a20_40={tmp_path / 'bad.jsonl'}")


def test_scores_of_another_method_are_an_answer(tmp_path: Path) -> None:
    (tmp_path / "r.csv").write_text("id,x\na,1\nb,1\nc,2\n")
    (tmp_path / "r.toml").write_text(
        'id = "id"\n[attributes.x]\nkind = "categorical"\n[attributes.sketch]\nkind = "score"\n'
        "log10_lr = [[0.0, -2.0], [1.0, 3.0]]\n"
    )
    (tmp_path / "scores.csv").write_text("id,score\nb,0.9\nc,0.4\n")
    words = ("find", tmp_path / "r.csv", "--dictionary", tmp_path / "r.toml", "--json", "-")
    result = run(*words, "--answer", f"sketch=@{tmp_path / 'scores.csv'}")
    report = TraceReport.model_validate_json(result.stdout)
    assert [one.id for one in report.candidates] == ["b", "c", "a"]
    assert [one.log10_lr for one in report.candidates] == pytest.approx([2.5, 0.0, -2.0], abs=1e-5)
    (tmp_path / "twice.csv").write_text("id,score\nb,0.9\nb,0.4\n")
    assert "there twice" in refusal(*words, "--answer", f"sketch=@{tmp_path / 'twice.csv'}")
    assert "a score per record" in refusal(*words, "--answer", "sketch=0.9")


def test_an_uncertain_answer_is_typed_with_its_shares(register: Path, person: dict[str, str]) -> None:
    words = ("find", register, "--dictionary", register.with_suffix(".toml"), "--json", "-")
    report = TraceReport.model_validate_json(run(*words, "--answer", "a20_40~v01:0.7,v02:0.2").stdout)
    assert report.steps[0].told == {"v01": 0.7, "v02": 0.2}
    assert "written a20_40~VALUE" in refusal(*words, "--answer", "a20_40~v01")
    assert "sum to 1 or less" in refusal(*words, "--answer", "a20_40~v01:0.7,v02:0.7")


BAD_REGISTERS = {
    "no such register": None,
    "without records": b"id,x\n",
    "neither UTF-8": b"id,x\na,\x81t\x81\nb,y\n",
    "must be there once": b"id,x\na,1\nb,2\na,3\n",
    "has no id": b"id,x\na,1\n,2\n",
    "two columns are named": b"id,x,x\na,1,2\n",
    "cannot be read": b"id,x\na,1,2,3\nb\n",
    "no column 'id'": b"name,x\na,1\n",
}


@pytest.mark.parametrize("why", BAD_REGISTERS)
def test_a_bad_register_is_refused_with_its_row_and_a_remedy(why: str, tmp_path: Path) -> None:
    path = tmp_path / "r.csv"
    if BAD_REGISTERS[why] is not None:
        path.write_bytes(BAD_REGISTERS[why])
    (tmp_path / "r.toml").write_text('id = "id"\n[attributes.x]\nkind = "categorical"\n')
    assert why in refusal("find", path, "--dictionary", tmp_path / "r.toml", "--answer", "x=1")


BAD_DICTIONARIES = {
    "no such data dictionary": None,
    "not a TOML file": "id = ",
    "after n trials without an error": 'id = "id"\n[attributes.x]\nkind = "categorical"\nerror = 0.0\n',
    "error": 'id = "id"\n[attributes.x]\nkind = "categorical"\nerror = 1\n',
    "needs order": 'id = "id"\n[attributes.x]\nkind = "ordinal"\n',
    "needs spread": 'id = "id"\n[attributes.x]\nkind = "numeric"\n',
    "needs log10_lr": 'id = "id"\n[attributes.x]\nkind = "score"\n',
    "says nothing about kind": 'id = "id"\n[attributes.x]\nkind = "categorical"\nspread = 2.0\n',
    "Input should be": 'id = "id"\n[attributes.x]\nkind = "colour"\n',
    "add [groups.photo]": 'id = "id"\n[attributes.x]\nkind = "categorical"\ngroup = "photo"\n',
    "cannot be an attribute": 'id = "x"\n[attributes.x]\nkind = "categorical"\n',
    "has no column 'y'": 'id = "id"\n[attributes.y]\nkind = "categorical"\n',
    "is not a number": 'id = "id"\n[attributes.x]\nkind = "numeric"\nspread = 1.0\n',
    "is not a date": 'id = "id"\n[attributes.x]\nkind = "date"\n',
    "is not in order": 'id = "id"\n[attributes.x]\nkind = "ordinal"\norder = ["1"]\n',
    "absent": 'id = "id"\nabsent = 1.0\n[attributes.x]\nkind = "categorical"\n',
}


@pytest.mark.parametrize("why", BAD_DICTIONARIES)
def test_a_bad_data_dictionary_is_refused_with_its_entry(why: str, tmp_path: Path) -> None:
    (tmp_path / "r.csv").write_text("id,x\na,1\nb,2\nc,many\n")
    if BAD_DICTIONARIES[why] is not None:
        (tmp_path / "r.toml").write_text(BAD_DICTIONARIES[why])
    assert why in refusal("find", tmp_path / "r.csv", "--dictionary", tmp_path / "r.toml", "--answer", "x=1")


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ("x=3", "no record has '3'"),
        ("y=1", "not an attribute"),
        ("x=", "empty answer"),
        ("x", "no answer; write x=VALUE"),
        ("X=1", "but 'x' is"),
        ("age=old", "not a number"),
        ("age=inf", "not a number"),
        ("born=yesterday", "write YYYY-MM-DD"),
    ],
)
def test_an_answer_outside_the_domain_is_refused(answer: str, why: str, tmp_path: Path) -> None:
    (tmp_path / "r.csv").write_text("id,x,age,born\na,1,30,1990-01-02\nb,2,31,1991-02-03\n")
    (tmp_path / "r.toml").write_text(
        'id = "id"\n[attributes.x]\nkind = "categorical"\n[attributes.age]\nkind = "numeric"\nspread = 1\n'
        '[attributes.born]\nkind = "date"\n'
    )
    assert why in refusal("find", tmp_path / "r.csv", "--dictionary", tmp_path / "r.toml", "--answer", answer)


def test_a_column_without_values_is_left_out_and_said(tmp_path: Path) -> None:
    (tmp_path / "r.csv").write_text("id,x,empty\na,1,\nb,2,\n")
    (tmp_path / "r.toml").write_text(
        'id = "id"\n[attributes.x]\nkind = "categorical"\n[attributes.empty]\nkind = "numeric"\nspread = 1\n'
    )
    words = ("find", tmp_path / "r.csv", "--dictionary", tmp_path / "r.toml", "--json", "-")
    report = TraceReport.model_validate_json(run(*words, "--answer", "x=1").stdout)
    assert "empty: nothing is recorded" in report.notes[0]
    assert "not an attribute" in refusal(*words, "--answer", "empty=1")


def test_a_national_id_is_never_asked_for_but_heard(tmp_path: Path) -> None:
    rows = "".join(f"p{n},{n % 3},X{n:05d}\n" for n in range(80))
    (tmp_path / "r.csv").write_text("id,x,national_id\n" + rows)
    words = ("find", tmp_path / "r.csv", "--json", "-")
    report = TraceReport.model_validate_json(run(*words, "--answer", "x=1").stdout)
    assert "national_id" not in [question.attribute for question in report.next]
    verified = TraceReport.model_validate_json(run(*words, "--answer", "national_id=X00017", "--no-robust").stdout)
    assert verified.candidates[0].id == "p17"


@pytest.mark.parametrize("suffix", ["csv", "parquet", "arrow", "duckdb"])
def test_all_kinds_of_register_say_the_same(suffix: str, tmp_path: Path) -> None:
    import duckdb
    import pyarrow.csv
    import pyarrow.ipc
    import pyarrow.parquet

    table = pa.table({"id": ["a", "b", "c"], "zip": ["01", "02", None], "age": [30, 40, None]})
    path = tmp_path / f"r.{suffix}"
    if suffix == "csv":
        pyarrow.csv.write_csv(table, path)
    elif suffix == "parquet":
        pyarrow.parquet.write_table(table, path)
    elif suffix == "arrow":
        with pyarrow.ipc.new_file(path, table.schema) as writer:
            writer.write_table(table)
    else:
        with duckdb.connect(str(path)) as connection:
            connection.register("held", table)
            connection.execute("create table people as select * from held")
    (tmp_path / "r.toml").write_text(
        'id = "id"\nabsentees = "independent"\n[attributes.zip]\nkind = "categorical"\n'
        '[attributes.age]\nkind = "numeric"\nspread = 1\n'
    )
    words = ("find", path, "--dictionary", tmp_path / "r.toml", "--json", "-")
    report = TraceReport.model_validate_json(run(*words, "--answer", "zip=01", "--answer", "age=31").stdout)
    assert [one.id for one in report.candidates] == ["a", "c", "b"]
    # By hand: zip weighs .95 / .4, age (.95 k + .05 q) / q with k = .242 and q = (k + 1/19) / 3; prior .8 / 3.
    assert report.candidates[0].probability == pytest.approx(0.7640, abs=1e-4)


def test_the_fixed_order_goes_with_its_policy(register: Path) -> None:
    assert run("find", register, "--policy", "fixed").exit_code == 2
    assert run("find", register, "--ask", "a01_2").exit_code == 2
    words = ("find", register, "--dictionary", register.with_suffix(".toml"), "--json", "-", "--policy", "fixed")
    report = TraceReport.model_validate_json(run(*words, "--ask", "a02_2,a01_2").stdout)
    assert [question.attribute for question in report.next] == ["a02_2", "a01_2"]
    assert "which the register lacks" in refusal(*words, "--ask", "nonsense")
