"""Kinds are guessed, dangers are noted, and error rates that were planted are learned."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from unmask.errors import DataError
from unmask.tracing.attributes.dictionary import Attribute, Dictionary, dictionary_text, read_dictionary
from unmask.tracing.registers.memory import MemoryRegister, coded
from unmask.tracing.registers.tables import read_table
from unmask.tracing.tools.profiling import Profile, learn, profile

PEOPLE = 400
COLOURS = ("brown", "blue", "green", "grey")


def make_people(seed: int = 0) -> dict[str, list[object]]:
    randomness = np.random.default_rng(seed)
    born = [np.datetime64("1950-01-01") + int(day) for day in randomness.integers(18_000, size=PEOPLE)]
    years = [int(str(day)[:4]) for day in born]
    return {
        "person_id": [f"p{number:04}" for number in range(PEOPLE)],
        "eyes": randomness.choice(COLOURS, PEOPLE, p=(0.5, 0.3, 0.15, 0.05)).tolist(),
        "town": [f"town {chr(97 + number % 26)}{number // 26}" for number in randomness.integers(90, size=PEOPLE)],
        "age": [2024 - year for year in years],
        "birth_year": years,
        "born": [str(day) for day in born],
        "weight": randomness.normal(75.0, 12.0, PEOPLE).tolist(),
        "shoe": randomness.integers(36, 47, size=PEOPLE).tolist(),
        "passport": [f"X{number}" for number in randomness.permutation(PEOPLE)],
        "E-Mail": [f"{number % 7}@example.org" for number in range(PEOPLE)],
        "serial": randomness.permutation(PEOPLE).tolist(),
        "empty": [None] * PEOPLE,
        "same": ["yes"] * PEOPLE,
        "postcode": [f"0{number % 80:04}" for number in range(PEOPLE)],
    }


@pytest.fixture(scope="module")
def guessed() -> Profile:
    return profile(pa.table(make_people()), "people.parquet")


def test_kinds_and_uses_are_guessed(guessed: Profile) -> None:
    columns = {column.name: (column.kind, column.use) for column in guessed.columns}
    assert columns == {
        "person_id": ("string", "id"),
        "eyes": ("categorical", "ask"),
        "town": ("string", "ask"),
        "age": ("numeric", "ask"),
        "birth_year": ("numeric", "ask"),
        "born": ("date", "verify"),  # nearly everybody of so few has a day of their own
        "weight": ("numeric", "ask"),  # a measurement is not an identifier
        "shoe": ("categorical", "ask"),
        "passport": ("string", "verify"),
        "E-Mail": ("categorical", "verify"),
        "serial": ("numeric", "verify"),
        "empty": ("categorical", "ignore"),
        "same": ("categorical", "ignore"),
        "postcode": ("string", "ask"),  # leading zeros: a code
    }


def test_columns_are_measured(guessed: Profile) -> None:
    people, columns = make_people(), {column.name: column for column in guessed.columns}
    counts = {colour: people["eyes"].count(colour) for colour in COLOURS}
    assert dict(columns["eyes"].frequent) == counts
    assert columns["eyes"].frequent[0][0] == "brown"
    shares = np.array(list(counts.values())) / PEOPLE
    assert columns["eyes"].bits == pytest.approx(-(shares * np.log2(shares)).sum())
    assert columns["empty"].recorded == 0.0 and columns["eyes"].recorded == 1.0
    low, high = np.percentile(people["weight"], (5, 95))  # type: ignore[call-overload]  # a column of floats
    assert guessed.dictionary.attributes["weight"].spread == pytest.approx(0.02 * (high - low), rel=0.05)
    assert guessed.dictionary.attributes["age"].spread == 1.0


def test_notes_say_what_to_look_at(guessed: Profile) -> None:
    notes = "\n".join(guessed.notes)
    for part in (
        "empty: nothing is recorded",
        "same: all records have the same",
        "not measured",
        "serial: nearly each",
    ):
        assert part in notes
    pairs = [note for note in guessed.notes if "tell nearly the same" in note]
    assert any(note.startswith("age and birth_year ") for note in pairs)
    assert any(note.startswith("birth_year and born ") for note in pairs)
    assert not any("eyes" in note or "weight" in note or "town" in note for note in pairs)


def test_the_dictionary_can_be_written_and_used(guessed: Profile, tmp_path: Path) -> None:
    path = tmp_path / "people.toml"
    path.write_text(dictionary_text(guessed.dictionary), encoding="utf-8")
    assert read_dictionary(path) == guessed.dictionary
    assert coded(pa.table(make_people()), read_dictionary(path), "test").size == PEOPLE


def test_a_few_texts_among_numbers_are_named(tmp_path: Path) -> None:
    rows = [f"p{number},{150 + number % 40},2000-01-{number % 28 + 1:02}" for number in range(200)]
    rows[41], rows[77] = "p41,tall,2000-01-05", "p77,unknown,yesterday"
    (tmp_path / "people.csv").write_text("id,height,day\n" + "\n".join(rows) + "\n", encoding="utf-8")
    table = read_table(str(tmp_path / "people.csv"))
    guessed = profile(table, "people.csv")
    notes = "\n".join(guessed.notes)
    assert "height: mostly numbers, but record 42 has another text; mend" in notes
    assert "day: mostly dates, but record 78 has another text; mend" in notes
    assert "height: taken for \"not recorded\": 'unknown', in 1 records" in notes
    assert "tall" not in notes and "yesterday" not in notes
    # What is suggested can be read as it is: as texts, so that nothing is lost of those that are no numbers.
    register = coded(table, guessed.dictionary, "test")
    assert {"tall", "150"} <= set(register.models["height"].values)
    assert {"yesterday", "2000-01-01"} <= set(register.models["day"].values)


def test_an_identifier_is_found_or_asked_for() -> None:
    small = pa.table({"eyes": ["blue", "blue", "green"], "who": ["a", "b", "c"]})
    assert profile(small, "small").dictionary.id == "who"
    with pytest.raises(DataError, match="add one with identifiers"):
        profile(small.drop_columns(["who"]), "small")
    ids = ["a", "a", None, *(str(number) for number in range(97))]
    doubled = profile(pa.table({"national_id": [f"N{n}" for n in range(100)], "id": ids}), "doubled")
    assert doubled.dictionary.id == "id" and doubled.dictionary.attributes["national_id"].use == "verify"
    assert "1 records have no identifier" in "\n".join(doubled.notes) and "records 1 and 2 have the same" in "\n".join(
        doubled.notes
    )


def test_odd_columns_do_no_harm() -> None:
    table = pa.table(
        {
            "id": ["a", "b", "c"],
            "lists": pa.array([[1], [2], [3]]),
            "nan": [float("nan"), 1.5, 2.5],
            "flag": [True, False, None],
            "when": pa.array([0, 86_400, 86_401], pa.timestamp("s")),
        }
    )
    guessed = profile(table, "odd")
    kinds = {column.name: (column.kind, column.distinct) for column in guessed.columns}
    assert kinds == {"id": ("categorical", 3), "nan": ("numeric", 2), "flag": ("categorical", 2), "when": ("date", 2)}
    assert any(note.startswith("lists: values of type") for note in guessed.notes)
    register = coded(table, guessed.dictionary, "odd")
    counts = {name: model.counts.tolist() for name, model in register.models.items()}
    assert counts["flag"] == [1, 1, 1] and counts["when"] == [0, 1, 2]
    assert counts["nan"][0] == 1 and sum(counts["nan"]) == 3
    assert "lists" not in counts


@pytest.mark.slow
def test_many_texts_are_noted() -> None:
    count = 260_000
    table = pa.table(
        {"id": [str(number) for number in range(count)], "alias": [f"n{number}" for number in range(count)]}
    )
    assert any("alias: 260,000 distinct texts" in note for note in profile(table, "many").notes)


DICTIONARY = Dictionary(
    id="person_id",
    attributes={
        "eyes": Attribute(kind="categorical"),
        "town": Attribute(kind="string"),
        "born": Attribute(kind="date"),
        "weight": Attribute(kind="numeric", spread=5.0),
        "age": Attribute(kind="numeric", spread=3.0),
        "shoe": Attribute(kind="ordinal", order=tuple(str(size) for size in range(36, 47))),
    },
)


@pytest.fixture(scope="module")
def register() -> MemoryRegister:
    return coded(pa.table(make_people()), DICTIONARY, "test")


def answers(error: float, unavailable: float, seed: int = 1) -> pa.Table:
    """5000 answers about each attribute, wrong and missing at the rates given."""
    randomness, people, count = np.random.default_rng(seed), make_people(), 5000
    rows = randomness.integers(PEOPLE, size=count)
    columns: dict[str, list[str | None]] = {"person_id": [str(people["person_id"][row]) for row in rows]}
    noise = {"weight": 1.5, "age": 2.0, "shoe": 0.6}
    for name in DICTIONARY.attributes:
        column: list[str | None] = []
        for row in rows:
            true = people[name][row]
            if randomness.random() < unavailable:
                column.append(None)
            elif randomness.random() < error:
                others = [value for value in people[name] if value != true]
                column.append(str(others[int(randomness.integers(len(others)))]))
            elif name in noise:
                near = float(str(true)) + noise[name] * float(randomness.normal())
                near = float(np.clip(round(near), 36, 46)) if name == "shoe" else near
                column.append(f"{near:.0f}" if name in ("age", "shoe") else f"{near:.3f}")
            else:
                column.append(str(true))
        columns[name] = column
    return pa.table(columns)


@pytest.mark.parametrize(("error", "unavailable"), [(0.02, 0.0), (0.1, 0.3), (0.25, 0.1)])
def test_planted_rates_are_learned(register: MemoryRegister, error: float, unavailable: float) -> None:
    learned = learn(DICTIONARY, register, answers(error, unavailable)).attributes
    for name, attribute in learned.items():
        # Of wrong sizes of shoes most are near: these cannot be told from honest slips one by one.
        assert attribute.error == pytest.approx(error, abs=0.06 if name == "shoe" else 0.02), name
        assert attribute.availability == pytest.approx(1.0 - unavailable, abs=0.02)
    assert learned["weight"].spread == pytest.approx(1.5, rel=0.15)
    assert learned["age"].spread == pytest.approx(2.0, rel=0.15)
    assert learned["shoe"].spread == pytest.approx(0.65, rel=0.5)
    for name in ("town", "born"):
        levels = learned[name].levels
        assert levels is not None and levels[0] == pytest.approx(1.0 - error, abs=0.02)
    confusion = learned["eyes"].confusion
    assert confusion is not None and confusion["brown"]["brown"] > confusion["brown"]["blue"] > 0.0


def test_a_learned_dictionary_can_be_used(register: MemoryRegister, tmp_path: Path) -> None:
    learned = learn(DICTIONARY, register, answers(0.1, 0.1))
    path = tmp_path / "learned.toml"
    path.write_text(dictionary_text(learned), encoding="utf-8")
    again = coded(pa.table(make_people()), read_dictionary(path), "test")
    # What was learned weighs answers from now on: fewer are right than was stated, and numbers are nearer.
    for name, answer in (("eyes", "brown"), ("born", str(make_people()["born"][0])), ("weight", "75")):
        before, after = (max(one.models[name].log_ratios(answer)) for one in (register, again))
        assert after > before if name == "weight" else after < before, name


def test_few_answers_are_no_certainty(register: MemoryRegister) -> None:
    people = make_people()
    observed = pa.table(
        {
            "person_id": ["p0000", "p0001"],
            "eyes": people["eyes"][:2],
            "town": [None, None],
            "born": [people["born"][0], None],
        }
    )
    learned = learn(DICTIONARY, register, observed).attributes
    assert learned["eyes"].error == 0.25 and learned["eyes"].confusion is None  # (0 + 1) / (2 + 2)
    assert learned["eyes"].availability == 0.75
    assert learned["town"].error == DICTIONARY.attributes["town"].error and learned["town"].availability == 0.25
    assert learned["born"].levels == (0.4, 0.2, 0.2, 0.2)  # (1 + 1) / (1 + 4): no level is impossible
    assert learned["weight"] == DICTIONARY.attributes["weight"]


def test_answers_that_cannot_be_are_named(register: MemoryRegister) -> None:
    def refuse(match: str, **columns: list[str | None]) -> None:
        with pytest.raises(DataError, match=match):
            learn(DICTIONARY, register, pa.table(columns))

    refuse("observed row 2: no record has this identifier", person_id=["p0000", "stranger"])
    refuse("observed row 1: nobody is named", person_id=[None, "p0001"])
    refuse("need the column 'person_id'", eyes=["blue"])
    refuse("column 'hat'", person_id=["p0000"], hat=["red"])
    refuse("observed row 1: eyes: no record has this", person_id=["p0000"], eyes=["purple"])
    refuse("weight: observed row 2 has what is not a number", person_id=["p0000", "p0001"], weight=[None, "heavy"])
    refuse("born: observed row 1 has what is not a date", person_id=["p0000"], born=["31.2.1990"])


def test_what_all_but_names_a_person_is_seldom_to_be_had() -> None:
    randomness = np.random.default_rng(0)
    days = np.datetime64("1950-01-01") + randomness.integers(0, 20_000, 40_000)
    people = pa.table(
        {
            "id": [f"p{number}" for number in range(40_000)],
            "born": days.astype(str),
            "name": [f"Name{number}" for number in randomness.integers(0, 25_000, 40_000)],
            "street": [f"Street{number}" for number in randomness.integers(0, 80, 40_000)],
            "seen": (np.datetime64("2026-01-01") + randomness.integers(0, 100, 40_000)).astype(str),
        }
    )
    guessed = profile(people, "people")
    had = {name: attribute.availability for name, attribute in guessed.dictionary.attributes.items()}
    assert had == {"born": 0.1, "name": 0.1, "street": 1.0, "seen": 1.0}
    assert {attribute.use for attribute in guessed.dictionary.attributes.values()} == {"ask"}
    assert [note.partition(":")[0] for note in guessed.notes if "all but names the person" in note] == ["born", "name"]
