"""Registers in a database: all that is believed and asked is the same as in memory; bad input is refused alike."""

import gc
import importlib
import subprocess
import sys
from collections.abc import Callable
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from unmask.errors import DataError, MissingExtraError
from unmask.tracing.attributes.dictionary import Attribute, Dictionary, Group
from unmask.tracing.inference.belief import Answer, Belief, begin
from unmask.tracing.inference.questions import expected_bits, open_questions, ranked
from unmask.tracing.registers import memory
from unmask.tracing.registers.base import Register
from unmask.tracing.registers.memory import MemoryRegister, coded, read_register

pytest.importorskip("ibis", reason="the trace extra is not installed")

from unmask.tracing.registers.sql import SqlRegister, on_spark, open_sql, over_duckdb, over_parquet

pytestmark = pytest.mark.slow

CLOSE = 1e-6
ORDER = ("none", "primary", "secondary", "higher")


@pytest.fixture(autouse=True)
def nothing_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """In memory, what holds less than a thousandth of the mass may be, when questions are ranked; not here."""
    monkeypatch.setattr(memory, "NEGLIGIBLE", 0.0)


def dictionary_of(absent: float = 0.2, confused: bool = False) -> Dictionary:
    """Attributes of every kind; a confusion table if `confused`: it speaks of values that small registers lack."""
    confusion = {"h0": {"h0": 8.0, "h1": 3.0}, "h1": {"h2": 2.0}} if confused else None
    return Dictionary(
        id="Person",
        absent=absent,
        groups={"photo": Group(error=0.05), "file": Group(error=0.3)},
        attributes={
            "eyes": Attribute(kind="categorical", error=0.05, group="photo"),
            "hair": Attribute(kind="categorical", group="photo", confusion=confusion),
            "town": Attribute(kind="categorical", error=0.1, open=True),
            "house": Attribute(kind="categorical", availability=0.5),
            "school": Attribute(kind="ordinal", order=ORDER, spread=0.7, cost=2.0),
            "height": Attribute(kind="numeric", spread=4.0),
            "wage": Attribute(kind="numeric", spread=300.5, group="file"),
            "weight": Attribute(kind="numeric", spread=2.5),
            "identifier": Attribute(kind="string", error=0.1),
            "born": Attribute(kind="date", group="file"),
            "seen": Attribute(kind="date", use="verify"),
            "sketch": Attribute(
                kind="score", log10_lr=((0.0, -2.0), (0.5, 0.0), (1.0, 3.0)), unlisted_log10_lr=-1.0, group="photo"
            ),
            "empty": Attribute(kind="categorical"),
            "gone": Attribute(kind="categorical", use="ignore"),
        },
    )


def table_of(seed: int, records: int) -> pa.Table:
    """Every kind of column with gaps; identifiers ascend, so that equal records are in the same order everywhere."""
    randomness = np.random.default_rng(seed)

    def gaps(share: float = 0.1) -> np.ndarray:
        return randomness.random(records) < share

    def drawn(values: list[Any], share: float = 0.1) -> pa.Array:
        shares = 1.0 / np.arange(1, len(values) + 1)
        places = randomness.choice(len(values), records, p=shares / shares.sum())
        return pa.array([None if gap else values[place] for place, gap in zip(places, gaps(share), strict=True)])

    names = [f"{first}{last}" for first in ("Anna", "Anne", "Boris", "Ödön") for last in ("", " Marie", "-Lou", "sen")]
    wages = np.round(randomness.normal(3000.0, 800.0, records), 2)
    wages[gaps(0.02)] = np.nan
    wages[gaps(0.02)] = np.inf
    eyes = drawn(["brown", "blue", "green", "", "grey"]).dictionary_encode()
    return pa.table(
        {
            "Person": [f"p{number:05d}" for number in range(records)],
            # A value that no record has, as a filtered table lists it.
            "eyes": pa.DictionaryArray.from_arrays(
                eyes.indices, pa.concat_arrays([eyes.dictionary, pa.array(["violet"])])
            ),
            "hair": drawn(["h0", "h1", "h2", "h3"]),
            "town": drawn([f"town {number:03d}" for number in range(120)]),
            "house": drawn([1, 2, 3, 4, 10, 11]),
            "school": drawn(list(ORDER)),
            "height": pa.array(randomness.normal(170.0, 9.0, records).round(), mask=gaps()).cast(pa.int16()),
            "wage": pa.array(wages, mask=gaps()),
            "weight": drawn(["61", "72.5", " 80 ", "", "1e2"]),
            "identifier": drawn(names),
            "born": drawn([date(1980, 2, 27) + timedelta(days=31 * step) for step in range(40)]),
            "seen": drawn([datetime(2020, 5, 1, 13, 30) + timedelta(hours=7 * step) for step in range(30)]),
            "empty": pa.nulls(records, pa.string()),
        }
    )


ANSWERS = (
    Answer("eyes", "blue"),
    Answer("hair", {"h0": 0.6, "h1": 0.3}, trust=0.9),
    Answer("town", "town 001"),
    Answer("house", None),
    Answer("school", "secondary", trust=0.8),
    Answer("height", "171.5"),
    Answer("wage", "3000"),
    Answer("identifier", "anna marie"),
    Answer("born", "1980-03-29"),
    Answer("sketch", {"p00003": 0.9, "p00007": 0.4, "nobody": 1.0}),
    Answer("seen", "2020-05-02"),
)


def check_same(here: Belief, there: Belief) -> None:
    """All that a belief says, and what it would ask."""
    assert there.absent == pytest.approx(here.absent, abs=CLOSE)
    assert there.entropy == pytest.approx(here.entropy, abs=CLOSE * max(1.0, here.entropy))
    assert there.weights.log_mean == pytest.approx(here.weights.log_mean, abs=CLOSE * 10)
    assert there.weights.tied == here.weights.tied
    check_candidates(here, there)
    names = open_questions(here)
    assert open_questions(there) == names
    assert expected_bits(there, names) == pytest.approx(expected_bits(here, names), abs=CLOSE)
    for policy in ("ec2", "two_step"):
        scores, others = (
            {question.attribute: question.score for question in ranked(belief, policy)} for belief in (here, there)
        )
        assert others == pytest.approx(scores, abs=CLOSE)
    check_patterns(here, there)


def check_candidates(here: Belief, there: Belief) -> None:
    ours, others = here.candidates, there.candidates
    mine = dict(zip(here.register.ids(here.weights.rows), (one.probability for one in ours), strict=True))
    theirs = dict(zip(there.register.ids(there.weights.rows), (one.probability for one in others), strict=True))
    assert [one.probability for one in others] == pytest.approx([one.probability for one in ours], abs=CLOSE)
    # Which of equal records are the last to be named is rounding.
    last = min(mine.values())
    for surely in (mine.keys() - theirs.keys(), theirs.keys() - mine.keys()):
        assert all({**mine, **theirs}[one] <= last * (1.0 + 1e-4) for one in surely)
    shared = {one: share for one, share in mine.items() if one in theirs}
    assert {one: theirs[one] for one in shared} == pytest.approx(shared, abs=CLOSE)
    names = tuple(here.register.models)
    rows = np.array([here.register.row(one) for one in theirs])
    assert (there.register.codes(there.weights.rows, names) == here.register.codes(rows, names)).all()


def check_patterns(here: Belief, there: Belief) -> None:
    pairs = []
    for belief in (here, there):
        patterns = belief.weights.patterns()
        order = np.argsort(np.array(patterns.names, object))
        rows = np.column_stack([np.round(patterns.log_ratios[:, order], 6) + 0.0, patterns.counts])
        pairs.append((sorted(patterns.names), rows[np.lexsort(rows.T)]))
    assert pairs[0][0] == pairs[1][0]
    np.testing.assert_allclose(pairs[1][1], pairs[0][1], atol=2e-6)


def check_registers(here: MemoryRegister, there: SqlRegister) -> None:
    assert (there.size, there.notes) == (here.size, here.notes)
    assert list(there.models) == list(here.models)
    for name, model in here.models.items():
        assert list(there.models[name].values) == list(model.values), name
        assert there.models[name].counts.tolist() == model.counts.tolist(), name
    names = tuple(here.models)
    mine, theirs = here.sample(names, 10**6), there.sample(names, 10**6)
    assert sorted(map(tuple, mine.tolist())) == sorted(map(tuple, theirs.tolist()))


def check_course(here: Register, there: Register, answers: tuple[Answer, ...], looks: int) -> None:
    """Tell the answers one by one; compare before them, now and then, and in the end."""
    one, other = begin(here), begin(there)
    check_same(one, other)
    for number, answer in enumerate(answers, 1):
        one, other = one.update(answer), other.update(answer)
        if number % looks == 0 or number == len(answers):
            check_same(one, other)


@pytest.mark.slow
@pytest.mark.parametrize(("seed", "records", "absent"), [(0, 400, 0.2), (1, 1, 0.2), (2, 37, 0.0)])
def test_believes_and_asks_as_in_memory(seed: int, records: int, absent: float, tmp_path: Path) -> None:
    dictionary, table = dictionary_of(absent, confused=records > 100), table_of(seed, records)
    pq.write_table(table, tmp_path / "register.parquet")
    if records == 1:
        answers: tuple[Answer, ...] = ()
    elif records == 37:
        order = np.random.default_rng(seed).permutation(len(ANSWERS))
        answers = tuple(
            ANSWERS[place] for place in order if ANSWERS[place].attribute in ("school", "height", "sketch", "wage")
        )
    else:
        answers = ANSWERS
    here = read_register(tmp_path / "register.parquet", dictionary)
    there = over_parquet(tmp_path / "register.parquet", dictionary)
    assert there.fingerprint == here.fingerprint
    check_registers(here, there)
    check_course(here, there, answers, 4)


@pytest.mark.slow
def test_a_folder_and_a_duckdb_table_are_the_same_register(tmp_path: Path) -> None:
    import duckdb

    dictionary, table = dictionary_of(), table_of(5, 90)
    folder = tmp_path / "parts"
    folder.mkdir()
    pq.write_table(table.slice(0, 50), folder / "a.parquet")
    pq.write_table(table.slice(50), folder / "b.parquet")
    with duckdb.connect(str(tmp_path / "people.duckdb")) as database:
        database.execute(f"create table residents as from read_parquet('{folder}/*.parquet')")
        database.execute("create table others as select 1 as one")
    parts = over_parquet(folder, dictionary)
    for there in (parts, open_sql(f"{tmp_path / 'people.duckdb'}:residents", dictionary, "duckdb")):
        here = coded(table, dictionary, "")
        check_registers(here, there)
        check_same(begin(here).update(*ANSWERS[:7]), begin(there).update(*ANSWERS[:7]))
    (folder / "b.parquet").rename(folder / "c.parquet")
    assert over_parquet(folder, dictionary).fingerprint != parts.fingerprint


def test_contradictory_answers_leave_numbers(tmp_path: Path) -> None:
    """Weights far below what the answers could have given: no underflow."""
    names = [f"a{number:03d}" for number in range(24)]
    table = pa.table({"id": ["p0", "p1"], **{name: ["x", "y"] for name in names}})
    pq.write_table(table, tmp_path / "register.parquet")
    attributes = {name: Attribute(kind="categorical", error=1e-40) for name in names}
    dictionary = Dictionary(id="id", absent=0.1, absentees="independent", attributes=attributes)
    answers = [Answer(name, "x" if number % 2 else "y") for number, name in enumerate(names)]
    here = begin(read_register(tmp_path / "register.parquet", dictionary)).update(*answers)
    there = begin(over_parquet(tmp_path / "register.parquet", dictionary)).update(*answers)
    # Beyond what the exponential of a double can say.
    assert there.weights.log_mean == pytest.approx(here.weights.log_mean, rel=CLOSE)
    assert there.weights.log_mean < -750.0
    assert there.absent == pytest.approx(here.absent, abs=CLOSE) == pytest.approx(1.0)


def test_rows_are_stable_and_named(tmp_path: Path) -> None:
    dictionary, table = dictionary_of(), table_of(6, 300)
    pq.write_table(table, tmp_path / "register.parquet")
    here, there = coded(table, dictionary, ""), over_parquet(tmp_path / "register.parquet", dictionary)
    row = there.row("p00222")
    first = begin(there)
    later = first.update(Answer("eyes", "blue"))
    assert there.row("p00222") == row
    assert there.ids(np.array([row])) == ["p00222"]
    for belief in (first, later):
        assert [there.row(one) for one in there.ids(belief.weights.rows)] == belief.weights.rows.tolist()
    names = ("wage", "sketch", "eyes")
    assert (there.codes(np.array([row]), names) == here.codes(np.array([222]), names)).all()
    assert there.codes(np.array([row]), ()).shape == (1, 0)
    with pytest.raises(DataError, match="no record has the identifier 'p9'"):
        there.row("p9")


def test_a_sample_is_the_same_every_time(tmp_path: Path) -> None:
    dictionary = dictionary_of()
    pq.write_table(table_of(7, 500), tmp_path / "register.parquet")
    first, again = (over_parquet(tmp_path / "register.parquet", dictionary) for _ in range(2))
    names = ("eyes", "height")
    drawn = first.sample(names, 100)
    assert drawn.shape == (100, 2) and first.sample((), 100).shape == (100, 0)
    assert sorted(map(tuple, drawn.tolist())) == sorted(map(tuple, again.sample(names, 100).tolist()))


def test_the_same_evidence_is_not_weighed_again(tmp_path: Path) -> None:
    pq.write_table(table_of(8, 50), tmp_path / "register.parquet")
    belief = begin(over_parquet(tmp_path / "register.parquet", dictionary_of())).update(Answer("town", "town 000"))
    assert belief.update(Answer("house", None)).weights is belief.weights


def changed(column: str, *values: Any) -> pa.Table:
    """A register of three records with one column changed."""
    table = table_of(9, 3)
    return table.set_column(table.column_names.index(column), column, pa.array(values))


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        (changed("Person", "a", None, "c"), "no Person: give each record an identifier of its own"),
        (changed("Person", "a", "b", "b"), r"Person.*: an identifier must be there once"),
        (table_of(9, 3).drop_columns(["hair", "wage"]), "the register has no column 'hair'; it has Person, eyes, town"),
        (table_of(9, 3).drop_columns(["Person"]), "the register has no column 'Person'"),
        (changed("school", "none", "nursery", None), r"school: .*record.* has what is not in order"),
        (changed("weight", "60", None, "heavy"), r"weight: .*record.* has what is not a number"),
        (changed("born", "1980-01-01", "yesterday", ""), r"born: .*record.* has what is not a date"),
        (table_of(9, 3).slice(0, 0), "a register without records"),
    ],
)
@pytest.mark.parametrize("read", [read_register, over_parquet])
def test_bad_input_is_refused_alike(
    read: Callable[..., Register], table: pa.Table, problem: str, tmp_path: Path
) -> None:
    pq.write_table(table, tmp_path / "register.parquet")
    with pytest.raises(DataError, match=problem):
        read(tmp_path / "register.parquet", dictionary_of())


def test_says_in_how_many_records_is_a_bad_value(tmp_path: Path) -> None:
    pq.write_table(changed("weight", "60", None, "heavy"), tmp_path / "register.parquet")
    with pytest.raises(DataError, match="one of 3 records has what is not a number"):
        over_parquet(tmp_path / "register.parquet", dictionary_of())


def test_what_is_not_there_or_no_parquet_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 not")
    (tmp_path / "empty").mkdir()
    pq.write_table(pa.table([[1], [2]], names=["Person", "Person"]), tmp_path / "twice.parquet")
    with pytest.raises(DataError, match="two columns are named 'Person': rename one"):
        over_parquet(tmp_path / "twice.parquet", dictionary_of())
    with pytest.raises(DataError, match=r"bad\.parquet: cannot be read"):
        over_parquet(tmp_path / "bad.parquet", dictionary_of())
    for path in (tmp_path / "empty", tmp_path / "none.parquet"):
        with pytest.raises(DataError, match="no such register"):
            over_parquet(path, dictionary_of())
    with pytest.raises(DataError, match="no such register"):
        over_duckdb(str(tmp_path / "none.duckdb"), dictionary_of())


def test_leaves_without_a_word(tmp_path: Path) -> None:
    """Small tables that were joined are dropped, in use or at the end, without warnings."""
    pq.write_table(table_of(10, 200), tmp_path / "register.parquet")
    script = (
        "import gc, pathlib, sys\n"
        f"sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from test_sql import ANSWERS, begin, dictionary_of, over_parquet, ranked\n"
        f"belief = begin(over_parquet(pathlib.Path({str(tmp_path / 'register.parquet')!r}), dictionary_of()))\n"
        "for answer in ANSWERS:\n    belief = belief.update(answer)\n    ranked(belief)\n    gc.collect()\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error::ResourceWarning", "-c", script], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    gc.collect()


def test_what_is_not_installed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pq.write_table(table_of(12, 3), tmp_path / "register.parquet")
    monkeypatch.setitem(sys.modules, "pyspark.sql", None)
    with pytest.raises(MissingExtraError, match=r"\[spark\]"):
        open_sql(str(tmp_path / "register.parquet"), dictionary_of(), "spark")
    monkeypatch.setitem(sys.modules, "ibis", None)
    monkeypatch.delitem(sys.modules, "unmask.tracing.registers.sql")
    with pytest.raises(MissingExtraError, match=r"\[trace\]"):
        importlib.import_module("unmask.tracing.registers.sql")


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")  # PySpark beside pandas 3
def test_spark_believes_as_memory_does(spark: Any, tmp_path: Path) -> None:
    dictionary, table = dictionary_of(), table_of(11, 200)
    # Few questions: every query of Spark takes a good part of a second.
    kept = ("eyes", "town", "height", "wage", "identifier", "born", "sketch")
    attributes = {name: attribute for name, attribute in dictionary.attributes.items() if name in kept}
    dictionary = dictionary.model_copy(update={"attributes": attributes})
    pq.write_table(table, tmp_path / "register.parquet", coerce_timestamps="us")
    here = read_register(tmp_path / "register.parquet", dictionary)
    there = on_spark(tmp_path / "register.parquet", dictionary, spark)
    assert there.fingerprint == here.fingerprint
    check_registers(here, there)
    answers = tuple(answer for answer in ANSWERS if answer.attribute in ("eyes", "wage", "identifier", "sketch"))
    check_same(begin(here), begin(there))
    check_same(begin(here).update(*answers), begin(there).update(*answers))
    with pytest.raises(DataError, match="no record has the identifier 'p9'"):
        there.row("p9")


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_spark_reads_what_offices_write_as_memory_does(spark: Any, tmp_path: Path) -> None:
    table = pa.table(
        {
            "Person": ["a", " b ", "c", "d"],
            "born": ["31.12.1980", "01.02.1970", "unknown", "31.12.1980"],
            "moved": pa.array([0, 346_978_800, None, 5], pa.timestamp("us", "Europe/Berlin")),
            "height": ["176 cm", "?", "1.180,5 cm", "176 cm"],
            "children": [2.0, 1.0, None, 2.0],
        }
    )
    attributes = {
        "born": Attribute(kind="date"),
        "moved": Attribute(kind="date"),
        "children": Attribute(kind="categorical"),
        "height": Attribute(kind="numeric", spread=1.0),
    }
    dictionary = Dictionary(id="Person", attributes=attributes)
    pq.write_table(table, tmp_path / "register.parquet")
    here = read_register(tmp_path / "register.parquet", dictionary)
    there = on_spark(tmp_path / "register.parquet", dictionary, spark)
    names = list(here.models)
    assert names == list(there.models)
    for one in ("a", "b", "c", "d"):
        rows = [np.array([register.row(one)]) for register in (here, there)]
        assert here.codes(rows[0], names).tolist() == there.codes(rows[1], names).tolist()
    for name in names:
        assert list(here.models[name].values) == list(there.models[name].values)
    assert here.notes == there.notes
