"""What people and files may do to `unmask trace` without harm: one line, and what to do next."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from trace_cli import refused, run
from typer.testing import CliRunner, Result

from unmask import cli
from unmask.cli import trace as commands
from unmask.files import whole
from unmask.tracing.report.trace_report import TraceReport

DICTIONARY = """id = "id"
[attributes.eyes]
kind = "categorical"
open = true
[attributes.face]
kind = "score"
log10_lr = [[0.0, -2.0], [1.0, 3.0]]
"""


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    (tmp_path / "r.csv").write_text("id,eyes\na,brown\nb,blue\nc,blue\n")
    (tmp_path / "r.toml").write_text(DICTIONARY)
    return tmp_path


def find(desk: Path, *words: object) -> Result:
    return run("find", desk / "r.csv", "--dictionary", desk / "r.toml", *words)


def process(*words: object, encoding: str = "utf-8") -> subprocess.CompletedProcess[bytes]:
    """The command in a process of its own, at a terminal of that encoding."""
    command = [sys.executable, "-c", "from unmask.cli import main; main()", "trace", *map(str, words)]
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    return subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, env=environment, check=False)


def test_scores_of_other_people_are_no_evidence(desk: Path) -> None:
    (desk / "s.csv").write_text("id,score\nyy,0.9\nzz,0.8\n")
    assert "none of these 2 scores" in refused(find(desk, "--answer", f"face=@{desk / 's.csv'}"))
    (desk / "s.csv").write_text("\ufeffid,score\na,0.9\nzz,0.8\n")  # a byte order mark is no part of a name
    report = json.loads(find(desk, "--answer", f"face=@{desk / 's.csv'}", "--json", "-").stdout)
    assert report["candidates"][0]["id"] == "a"
    (desk / "s.csv").write_text("id,score\na," + "9" * 200_000 + "\n")
    assert "cannot be read: " in refused(find(desk, "--answer", f"face=@{desk / 's.csv'}"))


@pytest.mark.parametrize("sign", ["\u2028", "\u2029", "\x85", "\x0b", "\x1c"])
def test_a_case_holds_any_character(desk: Path, sign: str) -> None:
    first = find(desk, "--case", desk / "a.case", "--purpose", f"a{sign}b", "--answer", f"eyes=x{sign}y", "--json", "-")
    again = find(desk, "--case", desk / "a.case", "--json", "-")
    reports = [TraceReport.model_validate_json(result.stdout) for result in (first, again)]
    assert [report.steps[0].told for report in reports] == [f"x{sign}y"] * 2
    assert reports[1].purpose == f"a{sign}b"


@pytest.mark.parametrize("change", [{"trust": "x"}, {"told": {"blue": "x"}}, {"shown": [["eyes"]]}, {"event": "foo"}])
def test_an_altered_case_is_refused(desk: Path, change: dict[str, object]) -> None:
    find(desk, "--case", desk / "a.case", "--answer", "eyes=blue")
    lines = (desk / "a.case").read_text().splitlines()
    lines[1] = json.dumps(json.loads(lines[1]) | change)
    (desk / "a.case").write_text("\n".join(lines) + "\n")
    assert "not a case file, or altered" in refused(find(desk, "--case", desk / "a.case"))


def test_a_case_is_a_regular_file(desk: Path) -> None:
    assert "not a regular file" in refused(find(desk, "--case", "/dev/null"))


def test_a_link_is_followed_and_a_pipe_is_written_as_it_is(desk: Path) -> None:
    (desk / "link.json").symlink_to(desk / "target.json")
    find(desk, "--json", desk / "target.json")
    assert find(desk, "--answer", "eyes=blue", "--json", desk / "link.json").exit_code == 1
    assert (desk / "link.json").is_symlink()
    assert json.loads((desk / "target.json").read_text())["steps"]
    os.mkfifo(desk / "pipe")
    reader = subprocess.Popen(["cat", desk / "pipe"], stdout=subprocess.PIPE, text=True)
    find(desk, "--answer", "eyes=blue", "--json", desk / "pipe")
    assert json.loads(reader.communicate()[0])["steps"]
    assert (desk / "pipe").is_fifo()


def test_a_file_of_a_like_name_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "o.json.part").write_text("mine")
    with whole(tmp_path / "o.json") as part:
        part.write_text("new")
    assert (tmp_path / "o.json.part").read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["o.json", "o.json.part"]
    assert (tmp_path / "o.json").stat().st_mode & 0o777 == 0o666 & ~_umask()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


@pytest.mark.parametrize("option", ["--json", "--html", "--case"])
@pytest.mark.parametrize("name", ["r.toml", "r.csv", "s.csv"])
def test_no_input_is_overwritten(desk: Path, option: str, name: str) -> None:
    (desk / "s.csv").write_text("id,score\na,0.9\n")
    before = (desk / name).read_bytes()
    result = find(desk, "--answer", f"face=@{desk / 's.csv'}", option, desk / name)
    assert "is read here" in refused(result)
    assert (desk / name).read_bytes() == before


def test_what_may_have_been_edited_is_not_overwritten(desk: Path) -> None:
    assert "is there already" in refused(run("profile", desk / "r.csv", "--out", desk / "r.toml"))
    (desk / "new.toml").write_text("mine")
    assert "is there already" in refused(run("generate", desk / "new.parquet", "--records", 5))
    assert not (desk / "new.parquet").exists()


def test_a_result_replaces_one_of_its_kind_and_nothing_else(desk: Path) -> None:
    for option, name in (("--json", "case.1"), ("--html", "case.2")):
        for _ in range(2):  # the second replaces the first
            assert find(desk, "--answer", "eyes=blue", option, desk / name).exit_code == 1
        content = (desk / name).read_bytes()
        for other in ("--html", "--json"):
            if other != option:
                assert "is kept" in refused(find(desk, "--answer", "eyes=blue", other, desk / name))
        assert (desk / name).read_bytes() == content
    numbers = run("simulate", desk / "r.csv", "--dictionary", desk / "r.toml", "--json", desk / "case.1")
    assert "is kept" in refused(numbers)


def test_a_file_cannot_write_to_the_terminal(desk: Path) -> None:
    pq.write_table(
        pa.table({"id": ["a", "b"], "\x1b[31mred": ["u", "v"], ":smile:\nnew": ["u", "v"]}), desk / "names.parquet"
    )
    done = process("find", desk / "names.parquet", "--answer", "zzz=1")
    assert (done.returncode, done.stderr.count(b"\n")) == (2, 1)
    assert b"\x1b" not in done.stderr
    assert rb"\x1b[31mred, :smile:\nnew" in done.stderr


def test_a_hostile_name_is_harmless_at_the_prompt(desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "_at_a_terminal", lambda: True)
    pq.write_table(pa.table({"id": ["a", "b"], "[red]x\x1b[31m": ["u", "v"]}), desk / "names.parquet")
    result = run("find", desk / "names.parquet", input="1\nu\n²\n99\nhelp\n1\n")
    assert result.exit_code == 1, result.exception  # Ctrl-D at the value: what was told is reported
    assert "\x1b[31m" not in result.output
    assert r"[red]x\x1b[31m (? if not to be had)" in result.output
    assert "'²' is not an attribute" in result.output
    assert "there is no question 99" in result.output


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("--answer", "eyes"), "write eyes=VALUE"),
        (("--answer", "Eyes=blue"), "but 'eyes' is"),
        (("--answer", "eyes~blue:0.5,blue:0.5"), "there twice"),
        (("--json", ""), "cannot be written"),
        (("--html", ""), "cannot be written"),
        (("--json", "/"), "cannot be written"),
        (("--purpose", b"caf\xe9".decode("utf-8", "surrogateescape")), "not UTF-8"),
        (("--answer", b"eyes=caf\xe9".decode("utf-8", "surrogateescape")), "not UTF-8"),
    ],
)
def test_what_is_mistyped_is_refused(desk: Path, words: tuple[str, ...], why: str) -> None:
    assert why in refused(find(desk, *words))


@pytest.mark.parametrize("command", ["find", "audit", "simulate"])
def test_a_seed_is_not_negative(desk: Path, command: str) -> None:
    assert run(command, desk / "r.csv", "--seed", -1).exit_code == 2


@pytest.mark.parametrize("sign", [";", "\t", "|"])
def test_another_separator_is_read_and_named(desk: Path, sign: str) -> None:
    (desk / "other.csv").write_text(f"id{sign}eyes\na{sign}blue\nb{sign}brown\n")
    message = run("profile", desk / "other.csv").output
    assert "values are separated by" in message and "[attributes.eyes]" in message


def test_a_picture_counts_only_with_its_answer(desk: Path, portrait: Path, tiny_pack: Path) -> None:
    words = f"inspect {portrait} --pack {tiny_pack} --edits none --json {desk / 'p.jsonl'} -q".split()
    assert CliRunner().invoke(cli.app, words).exit_code == 0
    first = find(desk, "--answer", "eyes=blue", "--picture", f"face={desk / 'p.jsonl'}")
    assert "no answer about face is given" in refused(first)
    find(desk, "--case", desk / "a.case", "--answer", "eyes=blue")
    later = find(desk, "--case", desk / "a.case", "--answer", "eyes=blue", "--picture", f"eyes={desk / 'p.jsonl'}")
    assert "no answer about eyes is given" in refused(later)


@pytest.mark.slow
def test_the_terminal_may_lack_characters_and_standard_input_may_be_closed(desk: Path) -> None:
    (desk / "r.csv").write_text("id,eyes\npé😀1,brown\nb,blue\n")
    words = ("find", desk / "r.csv", "--dictionary", desk / "r.toml", "--answer", "eyes=brown")
    for encoding in ("ascii", "latin-1", "utf-8"):
        done = process(*words, encoding=encoding)
        assert done.returncode == 1, done.stderr
        report = json.loads(process(*words, "--json", "-", encoding=encoding).stdout.decode())
        assert report["candidates"][0]["id"] == "pé😀1"
    script = f"{sys.executable} -c 'from unmask.cli import main; main()' trace {' '.join(map(str, words))} --json - <&-"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("Traceback")) == (1, 0)


def test_numbers_far_off_are_noted(desk: Path) -> None:
    heights = [*range(150, 200), 1_750_000]
    (desk / "h.csv").write_text("id,height\n" + "".join(f"p{row},{one}\n" for row, one in enumerate(heights)))
    (desk / "h.toml").write_text('id = "id"\n[attributes.height]\nkind = "numeric"\nspread = 3\n')
    report = json.loads(run("find", desk / "h.csv", "--dictionary", desk / "h.toml", "--json", "-").stdout)
    assert "mend or empty what is far off" in report["notes"][0]


@pytest.mark.parametrize("engine", ["memory", "duckdb"])
def test_a_column_of_lists_is_refused_by_name(desk: Path, engine: str) -> None:
    pq.write_table(pa.table({"id": ["a", "b"], "eyes": [["x"], ["y"]]}), desk / "lists.parquet")
    words = ("find", desk / "lists.parquet", "--dictionary", desk / "r.toml", "--engine", engine)
    assert "eyes: a column of list" in refused(run(*words))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ("log10_lr = [[0, -1e308], [1, 1e308]]", "-300"),
        ("log10_lr = [[0, nan], [1, 1]]", "log10_lr"),
        ("unlisted_log10_lr = inf\nlog10_lr = [[0, -1], [1, 1]]", "300"),
    ],
)
def test_ratios_that_no_number_holds_are_refused(desk: Path, change: str, why: str) -> None:
    (desk / "r.toml").write_text(DICTIONARY.replace("log10_lr = [[0.0, -2.0], [1.0, 3.0]]", change))
    assert why in refused(find(desk))


def test_not_in_register_is_concluded_only_if_it_does_not_hang_on_one_answer(desk: Path) -> None:
    rows = "".join(f"p{number},{'abcd'[number % 4]},{'uv'[number % 2]}\n" for number in range(40))
    (desk / "n.csv").write_text("id,x,y\n" + rows)
    (desk / "n.toml").write_text(
        'id = "id"\n[attributes.x]\nkind = "categorical"\nerror = 0.001\nopen = true\n'
        '[attributes.y]\nkind = "categorical"\nerror = 0.4\n'
    )
    words = (
        "find",
        desk / "n.csv",
        "--dictionary",
        desk / "n.toml",
        "--answer",
        "x=z",
        "--answer",
        "y=u",
        "--json",
        "-",
    )
    report = json.loads(run(*words).stdout)
    assert report["absent"] > 0.95
    assert report["status"] == "undetermined"
    assert "without the answer about x" in report["reason"]
    assert json.loads(run(*words, "--no-robust").stdout)["status"] == "not_in_register"
