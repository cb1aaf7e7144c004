"""The commands beside `find`: audit, profile, simulate, generate, deduplicate; the other engine, and odd registers."""

import json
import subprocess
import sys
import tomllib
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from trace_cli import refusal, run, write_people
from typer.testing import Result

from unmask.errors import UnmaskError
from unmask.installation import install_line
from unmask.tracing.attributes.dictionary import Attribute, Dictionary, dictionary_text, read_dictionary
from unmask.tracing.registers.memory import read_register
from unmask.tracing.registers.tables import read_table
from unmask.tracing.report.trace_report import TraceReport
from unmask.tracing.simulation.synthetic import RegisterSpec, dictionary_of, table_of
from unmask.tracing.simulation.trials import TrialSummary
from unmask.tracing.tools import audit as auditing
from unmask.tracing.tools import profiling

RECIPE = RegisterSpec(records=240, seed=5, missing=0.02, cardinalities=(2, 3, 5, 8, 12, 20))


def done(*words: object) -> Result:
    """A command that ends well."""
    result = run(*words)
    assert result.exit_code == 0, result.output
    return result


def usage(*words: object) -> str:
    """What is said of a wrong call, in one line."""
    result = run(*words)
    assert result.exit_code == 2, result.output
    return " ".join(result.stderr.replace("│", " ").split())


def report_of(*words: object) -> TraceReport:
    result = run("find", *words, "--json", "-")
    assert result.exit_code in (0, 1), result.output
    return TraceReport.model_validate_json(result.stdout)


@pytest.fixture(scope="module")
def register(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_people(tmp_path_factory.mktemp("register"), RECIPE)


@pytest.fixture(scope="module")
def known(register: Path) -> tuple[object, ...]:
    """The register with its data dictionary, as words of a command."""
    return (register, "--dictionary", register.with_suffix(".toml"))


def test_an_audit_is_printed_and_written_as_it_was_found(
    register: Path, known: tuple[object, ...], tmp_path: Path
) -> None:
    shown = done("audit", *known, "--depth", 2, "--sample", 7, "--seed", 3, "--json", tmp_path / "a.json")
    expected = auditing.audit(read_register(register, dictionary_of(RECIPE)), 2, 7, 3).document()
    written = json.loads((tmp_path / "a.json").read_text())
    assert written == json.loads(json.dumps(expected))
    assert set(written) == {
        "records", "attributes", "sizes", "people", "deeper", "sampled", "hidden", "core", "verifying",
    }  # fmt: skip
    assert (written["records"], [size["attributes"] for size in written["sizes"]]) == (240, [1, 2])
    assert sum(written["sampled"].values()) == 7
    assert "Unique among 240 people" in shown.output
    assert f"{written['deeper']:,} need more facts" in shown.output


def test_json_on_standard_output_is_all_that_is_there(known: tuple[object, ...]) -> None:
    for words in (("audit", *known, "--depth", 1), ("simulate", *known, "--targets", 2, "--absentees", 1)):
        result = done(*words, "--json", "-")
        assert isinstance(json.loads(result.stdout), dict)
        assert result.stderr == ""


def test_the_audit_of_one_person_names_the_facts_that_single_them_out(
    register: Path, known: tuple[object, ...]
) -> None:
    coded = read_register(register, dictionary_of(RECIPE))
    for row in (3, 11):
        person = coded.ids(np.array([row]))[0]
        written = json.loads(done("audit", *known, "--person", person, "--json", "-").stdout)
        assert written == json.loads(json.dumps(asdict(auditing.exposure(coded, person))))
        assert set(written) == {"id", "core", "indispensable", "alike"}
        shown = " ".join(done("audit", *known, "--person", person).output.split())
        names = written["core"]
        assert f"{person} is singled out by {len(names)}: {', '.join(names)}" in shown


def test_the_audit_of_a_person_or_a_depth_that_is_none_is_refused(known: tuple[object, ...]) -> None:
    assert "no record has the identifier 'nobody'" in refusal("audit", *known, "--person", "nobody")
    assert "depth" in usage("audit", *known, "--depth", 0)
    assert "sample" in usage("audit", *known, "--sample", 0)


def test_a_profile_is_a_data_dictionary_that_can_be_read(register: Path, tmp_path: Path) -> None:
    shown = done("profile", register, "--out", tmp_path / "p.toml")
    guessed = profiling.profile(read_table(str(register)), "people").dictionary
    assert read_dictionary(tmp_path / "p.toml") == guessed
    assert "240 records" in shown.output
    assert "a06_20" in shown.output
    # Without a file it is printed, and nothing else on standard output.
    printed = done("profile", register)
    assert Dictionary.model_validate(tomllib.loads(printed.stdout)) == guessed
    assert "240 records" in printed.stderr
    assert report_of(register, "--dictionary", tmp_path / "p.toml", "--answer", "a01_2=v00").status == "open"


def observed(register: Path, path: Path, wrong: str) -> Path:
    """Answers of everybody about two attributes: right about one; about the other, `wrong` of every fourth person."""
    people = read_table(str(register)).to_pylist()
    rows = [
        {
            "id": person["id"],
            "a05_12": person["a05_12"],
            "a06_20": wrong if row % 4 == 0 else person["a06_20"],
        }
        for row, person in enumerate(people)
    ]
    pa.csv.write_csv(pa.Table.from_pylist(rows), path)
    return path


def test_a_profile_learns_from_observed_answers(register: Path, known: tuple[object, ...], tmp_path: Path) -> None:
    answers = observed(register, tmp_path / "answers.csv", "v19")
    words = ("profile", register, "--observed", answers)
    people = read_table(str(register)).to_pylist()
    answered = {name: sum(person[name] is not None for person in people) for name in ("a05_12", "a06_20")}
    wrong = sum(row % 4 == 0 and person["a06_20"] not in (None, "v19") for row, person in enumerate(people))
    guessed, given = read_dictionary(register.with_suffix(".toml")), tmp_path / "given.toml"
    given.write_text(dictionary_text(guessed.model_copy(update={"absent": 0.4})))
    shown = done(*words, "--dictionary", given, "--out", tmp_path / "learned.toml")
    learned = read_dictionary(tmp_path / "learned.toml")
    assert learned.absent == 0.4
    assert learned.attributes["a05_12"].error == pytest.approx(1 / (answered["a05_12"] + 2), abs=1e-6)
    assert learned.attributes["a06_20"].error == pytest.approx((wrong + 1) / (answered["a06_20"] + 2), abs=1e-6)
    assert learned.attributes["a01_2"] == guessed.attributes["a01_2"]
    assert "Learned from observed answers" in shown.output
    # Without a dictionary it learns into what is guessed.
    done(*words, "--out", tmp_path / "both.toml")
    assert read_dictionary(tmp_path / "both.toml").attributes["a06_20"].error == learned.attributes["a06_20"].error
    assert "give both" in usage("profile", *known)


def test_simulated_trials_are_summed_up_by_policy(known: tuple[object, ...], tmp_path: Path) -> None:
    words = ("simulate", *known, "--targets", 6, "--absentees", 3, "--policy", "ec2", "--policy", "fixed")
    words += ("--ask", "a06_20, a05_12,a04_8", "--missing", 0.1, "--adversarial", 1, "--error", 1.5, "--seed", 4)
    shown = done(*words, "--json", tmp_path / "s.json")
    written = json.loads((tmp_path / "s.json").read_text())
    assert list(written) == ["ec2", "fixed"]
    for line in written.values():
        assert set(line) == {field.name for field in fields(TrialSummary)}
        assert len(line["top1"]) == len(line["false_identified"]) == 3
    assert written["fixed"]["answers"] <= 3
    assert "false ID of absent" in shown.output
    again = json.loads(done(*words, "--json", "-").stdout)
    for lines in (written, again):
        for line in lines.values():
            line.pop("ms_per_step")
    assert again == written
    usual = json.loads(done("simulate", *known, "--targets", 2, "--absentees", 0, "--json", "-").stdout)
    assert list(usual) == ["info_gain", "static", "random"]
    assert usual["random"]["false_identified"] is None


def test_a_simulation_of_what_cannot_be_is_refused(known: tuple[object, ...]) -> None:
    assert "'best' is not a policy: info_gain" in usage("simulate", *known, "--policy", "best")
    assert "go together" in usage("simulate", *known, "--policy", "fixed")
    assert "go together" in usage("simulate", *known, "--ask", "a01_2")
    assert "missing" in usage("simulate", *known, "--missing", 1.5)
    few = ("simulate", *known, "--targets", 3, "--absentees", 1)
    assert "'hat', which the register lacks" in refusal(*few, "--policy", "fixed", "--ask", "hat")
    assert "it has 240" in refusal("simulate", *known, "--targets", 240)
    assert "is 1 or more" in refusal(*few, "--error", 20)


def test_a_register_is_generated_with_its_dictionary(tmp_path: Path) -> None:
    words = ("--records", 120, "--seed", 7, "--dependence", 0, "--twins", 0.1, "--missing", 0.3)
    shown = done("generate", tmp_path / "r.parquet", *words)
    recipe = RegisterSpec(120, 7, 0.0, 0.1, 0.3)
    assert read_table(str(tmp_path / "r.parquet")).to_pylist() == table_of(recipe).to_pylist()
    assert read_dictionary(tmp_path / "r.toml") == dictionary_of(recipe)
    assert "120 synthetic records" in shown.output
    assert sorted(path.name for path in tmp_path.iterdir()) == ["r.parquet", "r.toml"]
    done("generate", tmp_path / "again.parquet", *words)
    assert (tmp_path / "again.parquet").read_bytes() == (tmp_path / "r.parquet").read_bytes()


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("r.csv",), "name it FILE.parquet"),
        (("r",), "name it FILE.parquet"),
        (("r.parquet", "--records", 0), "records"),
        (("r.parquet", "--twins", 1.0), "twins"),
        (("r.parquet", "--missing", -0.1), "missing"),
    ],
)
def test_what_cannot_be_generated_is_refused_and_nothing_is_written(
    words: tuple[object, ...], why: str, tmp_path: Path
) -> None:
    assert why in usage("generate", tmp_path / str(words[0]), *words[1:])
    assert list(tmp_path.iterdir()) == []
    assert "cannot be written" in refusal("generate", tmp_path / "nowhere" / "r.parquet")


PEOPLE, TWICE = 260, 25


@pytest.fixture(scope="module")
def doubled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A CSV register in which some people are twice, once with a slip, and who they are."""
    randomness = np.random.default_rng(1)
    syllables = [consonant + vowel for consonant in "bdklmnrst" for vowel in "aeiou"]

    def words(count: int) -> str:
        return "".join(randomness.choice(syllables, count).tolist()).capitalize()

    people = [
        {
            "id": f"p{number:03d}",
            "name": words(3),
            "street": f"{words(3)} street",
            "born": str(np.datetime64("1950-01-01") + int(randomness.integers(20_000))),
            "eyes": ["brown", "blue", "green"][int(randomness.integers(3))],
        }
        for number in range(PEOPLE)
    ]
    twice = {}
    for number in randomness.choice(PEOPLE, TWICE, replace=False).tolist():
        again = dict(people[number], id=f"x{number:03d}")
        if number % 2:
            again["name"] = f"{again['name'][:2]}x{again['name'][3:]}"
        else:
            again["eyes"] = ""
        people.append(again)
        twice[again["id"]] = people[number]["id"]
    path = tmp_path_factory.mktemp("doubled") / "people.csv"
    order = randomness.permutation(len(people)).tolist()
    lines = [",".join(people[0]), *(",".join(people[place].values()) for place in order)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    attributes = {name: Attribute(kind="string") for name in ("name", "street")}
    attributes |= {"born": Attribute(kind="date"), "eyes": Attribute(kind="categorical")}
    path.with_suffix(".toml").write_text(dictionary_text(Dictionary(id="id", attributes=attributes)))
    return path, twice


def test_planted_duplicates_are_taken_out_and_told_of(doubled: tuple[Path, dict[str, str]], tmp_path: Path) -> None:
    path, twice = doubled
    before = path.read_bytes()
    out, learned = tmp_path / "clean.parquet", tmp_path / "learned.toml"
    shown = done("deduplicate", path, "--dictionary", path.with_suffix(".toml"), "--out", out, "--learned", learned)
    listed = read_table(str(tmp_path / "clean.merged.csv")).to_pylist()
    pairs: dict[str, set[str]] = {}
    for row in listed:
        pairs.setdefault(row["cluster"], set()).add(row["identifier"])
    planted = {frozenset(pair) for pair in twice.items()}
    merged = {frozenset(pair) for pair in pairs.values()}
    assert len(merged & planted) >= 0.8 * TWICE
    assert len(merged - planted) <= 1
    kept = set(read_table(str(out))["id"].to_pylist())
    assert len(kept) == PEOPLE + TWICE - sum(len(pair) - 1 for pair in merged)
    assert all(len(kept & pair) == 1 for pair in merged)
    # Of those with a gap the other record stays.
    assert all(row["kept_as"].startswith("p") for row in listed if int(row["identifier"][1:]) % 2 == 0)
    assert "Records of one person" in shown.output
    believed, now = read_dictionary(path.with_suffix(".toml")), read_dictionary(learned)
    assert now.attributes["name"].error == pytest.approx(0.5, abs=0.3)
    assert now.attributes["born"].error < 0.2
    assert {name: one.kind for name, one in now.attributes.items()} == {
        name: one.kind for name, one in believed.attributes.items()
    }
    assert path.read_bytes() == before
    assert sorted(one.name for one in tmp_path.iterdir()) == ["clean.merged.csv", "clean.parquet", "learned.toml"]


@pytest.mark.parametrize(
    "words",
    [
        ("--out", "people.csv"),
        ("--out", "../{folder}/people.csv"),
        ("--out", "link.csv"),
        ("--out", "other.csv", "--merged", "people.csv"),
        ("--out", "other.csv", "--learned", "people.csv"),
    ],
    ids=lambda words: " ".join(words),
)
def test_the_register_itself_is_never_overwritten(
    words: tuple[str, ...], doubled: tuple[Path, dict[str, str]], tmp_path: Path
) -> None:
    path = tmp_path / "people.csv"
    path.write_bytes(doubled[0].read_bytes())
    (tmp_path / "link.csv").symlink_to(path)
    placed = [word if word.startswith("--") else tmp_path / word.format(folder=tmp_path.name) for word in words]
    result = run("deduplicate", path, "--dictionary", doubled[0].with_suffix(".toml"), *placed)
    assert path.read_bytes() == doubled[0].read_bytes()
    assert isinstance(result.exception, UnmaskError), result.output
    assert "is read here" in str(result.exception)


def test_a_register_is_known_by_any_of_its_names(doubled: tuple[Path, dict[str, str]], tmp_path: Path) -> None:
    path, link = tmp_path / "people.csv", tmp_path / "link.csv"
    path.write_bytes(doubled[0].read_bytes())
    link.symlink_to(path)
    words = ("--dictionary", doubled[0].with_suffix(".toml"), "--out", path)
    assert "is read here" in refusal("deduplicate", link, *words)
    assert path.read_bytes() == doubled[0].read_bytes()


def test_the_register_and_what_was_merged_are_not_written_to_one_file(
    doubled: tuple[Path, dict[str, str]], tmp_path: Path
) -> None:
    path, out = doubled[0], tmp_path / "clean.csv"
    words = ("--dictionary", path.with_suffix(".toml"), "--out", out, "--merged", out)
    assert "clean.csv" in refusal("deduplicate", path, *words)
    assert list(tmp_path.iterdir()) == []


def test_duplicates_are_written_to_csv_or_parquet_only(doubled: tuple[Path, dict[str, str]], tmp_path: Path) -> None:
    path = doubled[0]
    words = ("deduplicate", path, "--dictionary", path.with_suffix(".toml"))
    assert "ends in .csv or .parquet" in refusal(*words, "--out", tmp_path / "clean.xlsx")
    assert list(tmp_path.iterdir()) == []
    assert "threshold" in usage(*words, "--out", tmp_path / "clean.csv", "--threshold", 1.0)


def test_duckdb_reports_the_same_as_memory(register: Path, known: tuple[object, ...]) -> None:
    person = table_of(RECIPE).to_pylist()[42]
    given: list[str] = []
    for name in ("a06_20", "a05_12", "a04_8"):
        given += ["--answer", f"{name}={person[name]}"]
        here, there = (report_of(*known, *given, "--engine", engine) for engine in ("memory", "duckdb"))
        assert (there.status, there.candidate_count) == (here.status, here.candidate_count)
        mine, theirs = ({one.id: one.probability for one in report.candidates} for report in (here, there))
        least = min(mine.values())
        assert {one: share for one, share in theirs.items() if share > least + 1e-6} == pytest.approx(
            {one: share for one, share in mine.items() if share > least + 1e-6}, abs=1e-6
        )
        assert sorted(theirs.values()) == pytest.approx(sorted(mine.values()), abs=1e-6)
        assert there.absent == pytest.approx(here.absent, abs=1e-6)
        assert there.entropy == pytest.approx(here.entropy, abs=1e-5)
        assert [step.weight for step in there.steps] == pytest.approx([step.weight for step in here.steps], abs=1e-5)
        assert (there.searched.sha256, there.searched.records) == (here.searched.sha256, 240)
        # Questions are ranked alike; in memory up to a thousandth of the mass is left out.
        bits = [{one.attribute: one.bits for one in report.next} for report in (here, there)]
        assert bits[1] == pytest.approx(bits[0], abs=0.01)


def test_another_engine_needs_a_dictionary_and_a_register_that_it_can_read(register: Path, tmp_path: Path) -> None:
    assert "--engine duckdb needs --dictionary" in refusal("find", register, "--engine", "duckdb")
    (tmp_path / "r.csv").write_text("id,x\na,1\n")
    (tmp_path / "r.toml").write_text('id = "id"\n[attributes.x]\nkind = "categorical"\n')
    words = ("--dictionary", tmp_path / "r.toml", "--engine", "duckdb", "--answer", "x=1")
    assert "a database reads Parquet" in refusal("find", tmp_path / "r.csv", *words)
    (tmp_path / "r.duckdb").write_text("no database")
    assert "cannot be read" in refusal("find", tmp_path / "r.duckdb", *words)
    assert "no such register" in refusal("find", tmp_path / "none.parquet", *words)


def python(code: str, *words: object) -> subprocess.CompletedProcess[str]:
    """A command in a process of its own, after some code."""
    lines = ["import sys", code, f"sys.argv = {['unmask', 'trace', *map(str, words)]!r}"]
    lines += ["from unmask.cli import main", "try:", "    main()", "except SystemExit as end:", "    code = end.code"]
    lines += ["print('loaded', *sorted({name.split('.')[0] for name in sys.modules}))", "sys.exit(code)"]
    return subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("library", "extra", "words"),
    [
        ("pyarrow", "trace", ("audit", "{register}")),
        ("tomli_w", "trace", ("profile", "{register}")),
        ("scipy", "trace", ("simulate", "{register}")),
        ("ibis", "trace", ("find", "{register}", "--dictionary", "{dictionary}", "--engine", "duckdb")),
        ("splink", "linkage", ("deduplicate", "{register}", "--out", "{out}")),
    ],
    ids=lambda words: words if isinstance(words, str) else words[0],
)
def test_a_missing_library_is_one_line_that_names_the_extra(
    library: str, extra: str, words: tuple[str, ...], register: Path, tmp_path: Path
) -> None:
    places = {"register": register, "dictionary": register.with_suffix(".toml"), "out": tmp_path / "out.csv"}
    result = python(f"sys.modules[{library!r}] = None", *(word.format(**places) for word in words))
    assert result.returncode == 2
    lines = [line for line in result.stderr.splitlines() if line.startswith("unmask:")]
    assert len(lines) == 1
    assert f'needs the "{extra}" extra: {install_line(extra)}' in lines[0]
    assert "Traceback" not in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_help_needs_no_extra() -> None:
    result = python("sys.modules['pyarrow'] = sys.modules['scipy'] = sys.modules['numpy'] = None", "find", "--help")
    assert result.returncode == 0, result.stderr
    assert "--answer" in result.stdout


def test_finding_loads_no_torch_and_no_other_engine(register: Path, tmp_path: Path) -> None:
    words = ("find", register, "--dictionary", register.with_suffix(".toml"), "--answer", "a06_20=v01")
    result = python("", *words, "--html", tmp_path / "r.html", "--json", tmp_path / "r.json", "--case", tmp_path / "c")
    assert result.returncode == 1, result.stderr
    loaded = set(result.stdout.splitlines()[-1].split())
    assert "pyarrow" in loaded
    assert not loaded & {"torch", "torchvision", "timm", "sklearn", "splink", "ibis", "pyspark", "duckdb"}


DISTINCT = 1_000_000


@pytest.fixture(scope="module")
def many_texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("many") / "people.parquet"
    numbers = np.arange(DISTINCT)
    names = [f"{number:05x}{number * 7919 % 977:03d}" for number in range(DISTINCT)]
    towns = pa.DictionaryArray.from_arrays(pa.array(numbers % 40, pa.int8()), [f"town {town}" for town in range(40)])
    ids = [f"p{number}" for number in range(DISTINCT)]
    pq.write_table(pa.table({"id": ids, "name": names, "town": towns}), path)
    return path


@pytest.mark.slow
def test_a_million_distinct_texts_can_be_profiled_and_found_in(many_texts: Path, tmp_path: Path) -> None:
    shown = done("profile", many_texts, "--out", tmp_path / "p.toml")
    assert "name: 1,000,000 distinct texts" in " ".join(shown.output.split())
    guessed = read_dictionary(tmp_path / "p.toml")
    assert (guessed.id, guessed.attributes["name"].kind, guessed.attributes["name"].use) == ("id", "string", "verify")
    person = pq.read_table(many_texts).slice(654_321, 1).to_pylist()[0]
    report = report_of(many_texts, "--dictionary", tmp_path / "p.toml", "--answer", f"name={person['name']}",
                   "--answer", f"town={person['town']}", "--no-robust")  # fmt: skip
    assert (report.status, report.candidates[0].id) == ("identified", person["id"])
    assert report.searched.records == DISTINCT


def test_a_column_of_numbers_dates_and_words_is_taken_as_texts(tmp_path: Path) -> None:
    values = ["12", "007", "1990-01-02", "red", "", "12.5", "true", "inf"]
    rows = "".join(f"p{number},{values[number % 8]},{number % 3}\n" for number in range(48))
    (tmp_path / "r.csv").write_text("id,mixed,x\n" + rows)
    done("profile", tmp_path / "r.csv", "--out", tmp_path / "p.toml")
    assert read_dictionary(tmp_path / "p.toml").attributes["mixed"].kind == "categorical"
    words = (tmp_path / "r.csv", "--dictionary", tmp_path / "p.toml")
    for place, value in enumerate(values):
        if value:
            report = report_of(*words, "--answer", f"mixed={value}", "--answer", "x=0")
            assert int(report.candidates[0].id[1:]) % 24 == next(n for n in range(24) if n % 8 == place and n % 3 == 0)
    # With leading zeros it is another text.
    assert "no record has '7'" in refusal("find", *words, "--answer", "mixed=7")
    (tmp_path / "n.toml").write_text('id = "id"\n[attributes.mixed]\nkind = "numeric"\nspread = 1\n')
    message = refusal("find", tmp_path / "r.csv", "--dictionary", tmp_path / "n.toml", "--answer", "mixed=12")
    assert "mixed: record 3 has what is not a number" in message


def test_columns_that_are_no_texts_are_left_out_of_what_is_guessed(tmp_path: Path) -> None:
    columns: dict[str, Any] = {
        "id": [f"p{number}" for number in range(30)],
        "x": [number % 3 for number in range(30)],
        "list": [[number] for number in range(30)],
        "struct": [{"a": number} for number in range(30)],
    }
    pq.write_table(pa.table(columns), tmp_path / "r.parquet")
    shown = " ".join(done("profile", tmp_path / "r.parquet", "--out", tmp_path / "p.toml").output.split())
    assert "list: values of type" in shown
    assert list(read_dictionary(tmp_path / "p.toml").attributes) == ["x"]
    assert len(report_of(tmp_path / "r.parquet", "--answer", "x=1").candidates) == 10


def test_a_register_of_one_record_goes_through_every_command(tmp_path: Path) -> None:
    (tmp_path / "r.csv").write_text("id,x\na,1\n")
    (tmp_path / "r.toml").write_text('id = "id"\n[attributes.x]\nkind = "categorical"\n')
    words = (tmp_path / "r.csv", "--dictionary", tmp_path / "r.toml")
    report = report_of(*words, "--answer", "x=1")
    assert [one.id for one in report.candidates] == ["a"]
    assert report.candidates[0].probability + report.absent == pytest.approx(1.0)
    assert report.candidates[0].probability > 0.8
    assert "one record" in report.notes[0]
    assert json.loads(done("audit", *words, "--json", "-").stdout)["people"] == {"0": 1}
    summed = json.loads(done("simulate", *words, "--targets", 1, "--absentees", 0, "--json", "-").stdout)
    assert summed["info_gain"]["top1"][0] == 1.0
    assert "need a register of so many" in refusal("simulate", *words, "--targets", 1, "--absentees", 1)
    assert "too few to learn from" in refusal("deduplicate", *words, "--out", tmp_path / "o.csv")
    # What is guessed of it has nothing to ask for.
    done("profile", tmp_path / "r.csv", "--out", tmp_path / "p.toml")
    assert read_dictionary(tmp_path / "p.toml").used == {}
    guessed = (tmp_path / "r.csv", "--dictionary", tmp_path / "p.toml")
    for command in ("find", "audit"):
        assert 'no attribute is in use: set use = "ask"' in refusal(command, *guessed)


@pytest.mark.parametrize("engine", ["memory", "duckdb"])
def test_a_column_in_which_nothing_is_recorded_does_no_harm(engine: str, tmp_path: Path) -> None:
    size = 60
    columns = {
        "id": [f"p{number}" for number in range(size)],
        "x": [str(number % 6) for number in range(size)],
        "y": [str(number // 10) for number in range(size)],
        "empty": pa.nulls(size, pa.string()),
        "nothing": pa.nulls(size),
        "nan": pa.array([float("nan")] * size),
    }
    pq.write_table(pa.table(columns), tmp_path / "r.parquet")
    (tmp_path / "r.toml").write_text(
        'id = "id"\n'
        + "".join(f'[attributes.{name}]\nkind = "categorical"\n' for name in ("x", "y", "empty", "nothing"))
        + '[attributes.nan]\nkind = "numeric"\nspread = 1.0\n'
    )
    words = (tmp_path / "r.parquet", "--dictionary", tmp_path / "r.toml")
    report = report_of(*words, "--answer", "x=3", "--answer", "y=2", "--engine", engine)
    assert report.candidates[0].id == "p21"
    assert [note.split(":")[0] for note in report.notes] == ["empty", "nothing", "nan"]
    if engine == "memory":
        assert json.loads(done("audit", *words, "--json", "-").stdout)["attributes"] == ["x", "y"]
        done("simulate", *words, "--targets", 5, "--absentees", 5)
        done("profile", tmp_path / "r.parquet", "--out", tmp_path / "p.toml")
        assert set(read_dictionary(tmp_path / "p.toml").used) == {"x", "y"}


def test_texts_of_a_register_reach_the_terminal_harmless(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Escaped, and not read as markup."""
    monkeypatch.setenv("COLUMNS", "240")  # nothing is shortened
    rows = "".join(f'"p\x1b[31m[red]{number}","a\x07\u202eb[bold]{number % 3}",{number % 4}\n' for number in range(40))
    (tmp_path / "r.csv").write_text('id,"x\x1b]0;title\x07[link]",y\n' + rows, encoding="utf-8")
    name, value = "x\x1b]0;title\x07[link]", "a\x07\u202eb[bold]1"
    commands = (
        ("find", tmp_path / "r.csv", "--answer", f"{name}={value}", "--answer", "y=1", "--no-robust"),
        ("profile", tmp_path / "r.csv"),
        ("audit", tmp_path / "r.csv"),
        ("audit", tmp_path / "r.csv", "--person", "p\x1b[31m[red]7"),
    )
    for words in commands:
        result = run(*words)
        assert result.exit_code in (0, 1), result.output
        shown = result.stderr if words[0] == "profile" else result.output
        assert not set(shown) & set("\x1b\x07\u202e")
        assert ("p\\x1b[31m[red]7" if "--person" in words else "[link]") in shown


def test_answers_from_a_file_are_those_of_the_command_line(known: tuple[object, ...], tmp_path: Path) -> None:
    lines = ["a02_3=v01", "a06_20=?", "a05_12~v01:0.7,v02:0.2"]
    file = tmp_path / "answers.txt"
    file.write_text("\ufeff# what the witness said\n\n" + "\n".join(f"  {line} " for line in lines[:2]) + "\n", "utf-8")
    typed = report_of(*known, *(word for line in lines for word in ("--answer", line)))
    read = report_of(*known, "--answers", file, "--answer", lines[2])
    assert [step.attribute for step in read.steps] == [line.partition("=")[0].partition("~")[0] for line in lines]
    assert (read.entropy, read.candidates) == (typed.entropy, typed.candidates)


def test_a_file_without_answers_is_refused(known: tuple[object, ...], tmp_path: Path) -> None:
    file = tmp_path / "answers.txt"
    assert "give a text file with an answer a line" in refusal("find", *known, "--answers", file)
    file.write_text("# nothing\n\n")
    assert "holds no answer; write one a line" in refusal("find", *known, "--answers", file)
    file.write_bytes(b"a02_3=\xff\n")
    assert "not UTF-8" in refusal("find", *known, "--answers", file)


def test_columns_are_shown_beside_each_candidate(register: Path, known: tuple[object, ...], tmp_path: Path) -> None:
    words = (*known, "--answer", "a02_3=v01", "--show", "a03_5, a01_2")
    rows = {row["id"]: row for row in read_table(str(register)).to_pylist()}
    report = report_of(*words)
    assert report.candidates and report.schema_version == "1.1"
    for one in report.candidates:
        assert one.shown == {name: rows[one.id][name] for name in ("a03_5", "a01_2")}
    page = tmp_path / "case.html"
    shown = run("find", *words, "--html", page)
    assert "a03_5" in shown.output and "<th>a03_5</th>" in page.read_text()
    assert all(not one.shown for one in report_of(*known, "--answer", "a02_3=v01").candidates)


def test_a_column_that_is_none_is_not_shown(known: tuple[object, ...]) -> None:
    assert "--show: no column 'nonsense'; the register has id, a01_2" in refusal("find", *known, "--show", "nonsense")


@pytest.mark.parametrize("engine", ["memory", "duckdb"])
def test_all_records_that_are_tied_are_written(
    engine: str, register: Path, known: tuple[object, ...], tmp_path: Path
) -> None:
    out = tmp_path / "candidates.csv"
    words = (*known, "--engine", engine, "--answer", "a01_2=v01", "--show", "a01_2", "--csv", out)
    report = report_of(*words)
    rows = read_table(str(out)).to_pylist()
    people = {row["id"]: row["a01_2"] for row in read_table(str(register)).to_pylist()}
    alike = [one for one, value in people.items() if value == "v01"]
    assert len(alike) > 50 > len(report.candidates)
    assert [row["id"] for row in rows[: len(alike)]] == sorted(alike)
    assert {row["a01_2"] for row in rows[: len(alike)]} == {"v01"}
    assert {row["probability"] for row in rows[: len(alike)]} == {f"{report.candidates[0].probability:.6g}"}
    assert run("find", *words).exit_code in (0, 1)  # written anew
    out.write_text("somebody else's\n")
    assert "--csv" in refusal("find", *words)


def test_a_case_keeps_its_purpose(known: tuple[object, ...], tmp_path: Path) -> None:
    case = tmp_path / "a.case"
    words = ("find", *known, "--case", case, "--purpose")
    assert run(*words, "a missing person", "--answer", "a02_3=v01").exit_code in (0, 1)
    before = case.read_bytes()
    assert "was begun for 'a missing person', and that stays" in refusal(*words, "curiosity")
    assert case.read_bytes() == before
    assert run(*words, "a missing person").exit_code in (0, 1)
    assert run("find", *known, "--case", case).exit_code in (0, 1)
