"""Planted duplicates are found, others are left alone."""

import builtins
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from rich.console import Console

from unmask.errors import DataError, MissingExtraError
from unmask.tracing.deduplication import (
    Cluster,
    Duplicates,
    deduplicate,
    print_duplicates,
    with_errors,
    without_duplicates,
    write_without_duplicates,
)
from unmask.tracing.dictionary import Attribute, Dictionary
from unmask.tracing.memory import coded
from unmask.tracing.tables import read_table

DICTIONARY = Dictionary(
    id="person",
    attributes={
        "name": Attribute(kind="string"),
        "street": Attribute(kind="string"),
        "born": Attribute(kind="date"),
        "height": Attribute(kind="numeric", spread=2.0),
        "eyes": Attribute(kind="categorical"),
        "always": Attribute(kind="categorical"),
    },
)
SYLLABLES = [consonant + vowel for consonant in "bdklmn" for vowel in "aeiou"]
PEOPLE, PLANTED = 600, 60


def typo(text: str, randomness: np.random.Generator) -> str:
    place = int(randomness.integers(1, len(text)))
    return text[:place] + "x" + text[place + 1 :]


def make_table(error: float, seed: int = 0) -> tuple[pa.Table, list[tuple[str, str]]]:
    """People, some of them twice with wrong entries at the rate given, and which ones."""
    randomness = np.random.default_rng(seed)

    def words(count: int) -> str:
        return "".join(randomness.choice(SYLLABLES, count)).capitalize()

    people: list[dict[str, Any]] = [
        {
            "person": f"p{number}",
            "name": words(3),
            "street": words(2) + " street",
            "born": str(np.datetime64("1940-01-01") + int(randomness.integers(24_000))),
            "height": float(round(randomness.normal(172, 10))),
            "eyes": str(randomness.choice(["brown", "blue", "green", "grey"])),
            "always": "here",
        }
        for number in range(PEOPLE)
    ]
    twice = []
    for number in randomness.choice(PEOPLE, PLANTED, replace=False).tolist():
        again = dict(people[number], person=f"again{number}", height=people[number]["height"] + 1.0)
        for name in ("name", "street"):
            if randomness.random() < error:
                again[name] = typo(again[name], randomness)
        if randomness.random() < error:
            again["eyes"] = "violet"
        if randomness.random() < error:
            again["born"] = None
        people.append(again)
        twice.append((f"p{number}", f"again{number}"))
    return pa.Table.from_pylist([people[place] for place in randomness.permutation(len(people))]), twice


@pytest.fixture(scope="module")
def planted() -> tuple[pa.Table, set[frozenset[str]], Duplicates]:
    table, twice = make_table(0.15)
    return table, {frozenset(pair) for pair in twice}, deduplicate(table, DICTIONARY, seed=3)


def test_planted_duplicates_are_found(planted: tuple[pa.Table, set[frozenset[str]], Duplicates]) -> None:
    table, twice, found = planted
    clusters = {frozenset(cluster.ids) for cluster in found.clusters}
    assert len(clusters & twice) >= 0.9 * PLANTED
    assert len(clusters - twice) <= 1
    ids = table["person"].to_pylist()
    for cluster in found.clusters:
        assert cluster.ids == tuple(ids[row] for row in cluster.rows)
        assert found.threshold <= cluster.probability <= 1.0
    assert 0.5 < found.recall <= 1.0
    assert not set(found.blocks[0]) & set(found.blocks[1])


def test_errors_are_learned_from_the_pairs(planted: tuple[pa.Table, set[frozenset[str]], Duplicates]) -> None:
    found = planted[2]
    assert set(found.errors) == {"name", "street", "born", "height", "eyes"}  # "always" tells nothing
    for name in ("name", "street", "eyes"):
        assert found.errors[name] == pytest.approx(0.15, abs=0.1)
    assert 0.0 < found.errors["height"] < 0.05
    assert with_errors(DICTIONARY, found).attributes["eyes"].error == found.errors["eyes"]
    assert with_errors(DICTIONARY, found).attributes["always"].error == DICTIONARY.attributes["always"].error


def test_the_same_seed_finds_the_same(planted: tuple[pa.Table, set[frozenset[str]], Duplicates]) -> None:
    table, _, found = planted
    again = deduplicate(table, DICTIONARY, seed=3)
    assert [cluster.rows for cluster in again.clusters] == [cluster.rows for cluster in found.clusters]
    assert again.errors == pytest.approx(found.errors)


def test_a_register_without_duplicates_is_left_alone() -> None:
    table, _ = make_table(0.0)
    alone = table.filter(pa.array([not one.startswith("again") for one in table["person"].to_pylist()]))
    found = deduplicate(alone, DICTIONARY)
    assert len(found.clusters) <= 1


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_the_most_complete_record_stays(suffix: str, tmp_path: Path) -> None:
    (tmp_path / "before.csv").write_text("person,name,eyes\na,,blue\nb,Ada,blue\nc,Eve,\nb,Ada,\n", encoding="utf-8")
    table = read_table(str(tmp_path / "before.csv"))
    found = Duplicates(4, 0.95, (Cluster((0, 1, 3), ("a", "b", "b"), 0.97),), 0.1, (("name",),), 1.0, {}, ())
    register, merged = tmp_path / f"register{suffix}", tmp_path / f"merged{suffix}"
    write_without_duplicates(table, found, register, merged)
    assert read_table(str(register)).select(["person", "name"]).to_pylist() == [
        {"person": "b", "name": "Ada"},
        {"person": "c", "name": "Eve"},
    ]
    told = read_table(str(merged))
    assert told["identifier"].to_pylist() == ["a", "b", "b"] and told["kept_as"].to_pylist() == ["b"] * 3
    with pytest.raises(DataError, match=r"\.csv or \.parquet"):
        write_without_duplicates(table, found, tmp_path / "register.xls", merged)


def test_an_identifier_that_is_there_twice_can_be_mended(
    planted: tuple[pa.Table, set[frozenset[str]], Duplicates],
) -> None:
    table = planted[0]
    ids = [one.replace("again", "p") for one in table["person"].to_pylist()]
    doubled = table.set_column(0, "person", pa.array(ids))
    with pytest.raises(DataError, match="must be there once"):
        coded(doubled, DICTIONARY, "test")
    found = deduplicate(doubled, DICTIONARY, seed=3)
    kept, merged = without_duplicates(doubled, found)
    assert kept.num_rows == table.num_rows - sum(len(cluster.rows) - 1 for cluster in found.clusters)
    assert merged.num_rows == sum(len(cluster.rows) for cluster in found.clusters)


def test_what_was_found_is_printed(planted: tuple[pa.Table, set[frozenset[str]], Duplicates]) -> None:
    console = Console(width=120)
    with console.capture() as shown:
        print_duplicates(console, planted[2])
    assert "not compared" in shown.get() and "over 99.9%" in shown.get()


def test_mistakes_are_named() -> None:
    table, _ = make_table(0.1)
    with pytest.raises(DataError, match="between 0 and 1"):
        deduplicate(table, DICTIONARY, threshold=1.0)
    with pytest.raises(DataError, match="20 or more"):
        deduplicate(table.slice(0, 5), DICTIONARY)
    with pytest.raises(DataError, match="no column 'name'"):
        deduplicate(table.drop_columns(["name"]), DICTIONARY)
    few = Dictionary(id="person", attributes={"eyes": Attribute(kind="categorical")})
    with pytest.raises(DataError, match="three columns"):
        deduplicate(table, few)
    wrong = Dictionary(id="person", attributes={"name": Attribute(kind="numeric", spread=1.0)})
    with pytest.raises(DataError, match="is not a number"):
        deduplicate(table, wrong)


def test_records_that_are_all_the_same_are_refused() -> None:
    rows = [{"person": str(number), "a": "x", "b": "y", "c": "z"} for number in range(60)]
    rows[0] |= {"a": "1", "b": "2", "c": "3"}
    dictionary = Dictionary(id="person", attributes={name: Attribute(kind="categorical") for name in "abc"})
    with pytest.raises(DataError, match="nearly all pairs"):
        deduplicate(pa.Table.from_pylist(rows), dictionary)


def test_without_splink_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real: Callable[..., Any] = builtins.__import__

    def lacking(name: str, *rest: Any, **others: Any) -> Any:
        if name.split(".")[0] == "splink":
            raise ImportError(name)
        return real(name, *rest, **others)

    monkeypatch.setattr(builtins, "__import__", lacking)
    with pytest.raises(MissingExtraError, match="linkage"):
        deduplicate(make_table(0.1)[0], DICTIONARY)
