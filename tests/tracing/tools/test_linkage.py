"""Planted duplicates are found, others are left alone."""

import builtins
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from unmask.errors import DataError, MissingExtraError
from unmask.tracing.attributes.dictionary import Attribute, Dictionary
from unmask.tracing.registers.memory import coded
from unmask.tracing.registers.tables import read_table
from unmask.tracing.simulation.synthetic import RegisterSpec, dictionary_of, table_of
from unmask.tracing.tools.linkage import (
    Cluster,
    Duplicates,
    _clusters,
    deduplicate,
    with_errors,
    without_duplicates,
    write_without_duplicates,
)

pytestmark = pytest.mark.slow

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
    table, twice, duplicates = planted
    clusters = {frozenset(cluster.ids) for cluster in duplicates.clusters}
    assert len(clusters & twice) >= 0.9 * PLANTED
    assert len(clusters - twice) <= 1
    ids = table["person"].to_pylist()
    for cluster in duplicates.clusters:
        assert cluster.ids == tuple(ids[row] for row in cluster.rows)
        assert cluster.kept in cluster.rows
        assert duplicates.threshold <= cluster.probability <= 1.0
    assert 0.5 < duplicates.recall <= 1.0
    assert not set(duplicates.blocks[0]) & set(duplicates.blocks[1])


def test_errors_are_learned_from_the_pairs(planted: tuple[pa.Table, set[frozenset[str]], Duplicates]) -> None:
    duplicates = planted[2]
    assert set(duplicates.errors) == {"name", "street", "born", "height", "eyes"}  # "always" tells nothing
    for name in ("name", "street", "eyes"):
        assert duplicates.errors[name] == pytest.approx(0.15, abs=0.1)
    assert 0.0 < duplicates.errors["height"] < 0.05
    assert with_errors(DICTIONARY, duplicates).attributes["eyes"].error == duplicates.errors["eyes"]
    assert with_errors(DICTIONARY, duplicates).attributes["always"].error == DICTIONARY.attributes["always"].error


def test_the_same_seed_finds_the_same(planted: tuple[pa.Table, set[frozenset[str]], Duplicates]) -> None:
    table, _, duplicates = planted
    again = deduplicate(table, DICTIONARY, seed=3)
    assert [cluster.rows for cluster in again.clusters] == [cluster.rows for cluster in duplicates.clusters]
    assert again.errors == pytest.approx(duplicates.errors)


def test_a_register_without_duplicates_is_left_alone() -> None:
    table, _ = make_table(0.0)
    alone = table.filter(pa.array([not one.startswith("again") for one in table["person"].to_pylist()]))
    duplicates = deduplicate(alone, DICTIONARY)
    assert len(duplicates.clusters) <= 1


def differing(table: pa.Table, dictionary: Dictionary, duplicates: Duplicates) -> list[int]:
    """Attributes in which each record that goes differs from the one that stays."""
    columns = [[None if text is None else str(text) for text in table[name].to_pylist()] for name in dictionary.used]
    return [
        sum(
            values[row] != values[cluster.kept] and None not in (values[row], values[cluster.kept])
            for values in columns
        )
        for cluster in duplicates.clusters
        for row in cluster.rows
        if row != cluster.kept
    ]


def test_nobody_goes_by_a_chain() -> None:
    # 0 - 1 - 2 - 3 - 4, each like the next only: 1 takes its neighbours, and 3 is left with 4.
    chain = [(place, place + 1, 0.99) for place in range(4)]
    clusters = _clusters(chain, [5] * 5, list("abcde"))
    assert [(cluster.rows, cluster.kept) for cluster in clusters] == [((0, 1, 2), 1), ((3, 4), 3)]
    assert _clusters(reversed(chain), [5] * 5, list("abcde")) == clusters
    assert _clusters([(other, one, p) for one, other, p in chain], [5] * 5, list("abcde")) == clusters
    assert _clusters([], [5] * 5, list("abcde")) == ()


def test_the_kept_record_has_most_values_then_most_and_best_matches_then_is_first() -> None:
    star = [(0, 1, 0.96), (0, 2, 0.97), (0, 3, 0.98)]
    (fullest, *others) = _clusters(star, [5, 6, 5, 5], list("abcd"))
    assert (fullest.rows, fullest.kept, fullest.kept_id) == ((0, 1), 1, "b") and not others  # 2 and 3 match no other
    (most,) = _clusters(star, [5] * 4, list("abcd"))
    assert (most.kept, most.probabilities, most.probability) == (0, (1.0, 0.96, 0.97, 0.98), 0.96)
    best = _clusters([(0, 1, 0.96), (1, 2, 0.97), (0, 2, 0.98)], [5] * 3, list("abc"))
    assert [(cluster.rows, cluster.kept, cluster.probability) for cluster in best] == [((0, 1, 2), 2, 0.97)]
    assert _clusters([(2, 1, 0.96)], [5] * 3, list("abc"))[0].kept == 1


def test_every_record_that_goes_matches_the_one_that_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    edges: dict[frozenset[int], float] = {}

    def noted(some: Any, *rest: Any) -> Any:
        some = list(some)
        edges.update({frozenset((one, other)): probability for one, other, probability in some})
        return _clusters(some, *rest)

    monkeypatch.setattr("unmask.tracing.tools.linkage._clusters", noted)
    recipe = RegisterSpec(twins=0.1)  # many of them twins of twins
    table = table_of(recipe)
    duplicates = deduplicate(table, dictionary_of(recipe), threshold=0.6)
    assert max(len(cluster.rows) for cluster in duplicates.clusters) > 2
    rows = [row for cluster in duplicates.clusters for row in cluster.rows]
    assert len(rows) == len(set(rows))
    for cluster in duplicates.clusters:
        direct = [edges[frozenset((cluster.kept, row))] for row in cluster.rows if row != cluster.kept]
        assert duplicates.threshold <= cluster.probability == min(direct)
    kept, merged = without_duplicates(table, duplicates)
    listed = merged.to_pylist()
    assert kept.num_rows == table.num_rows - duplicates.superfluous
    stays = set(kept["id"].to_pylist())
    assert all((one["match_probability"] is None) == (one["identifier"] in stays) for one in listed)
    assert all((one["identifier"] == one["kept_as"]) == (one["identifier"] in stays) for one in listed)


@pytest.mark.parametrize(("twins", "most"), [(0.02, 25), (0.0, 2)])
def test_attributes_that_depend_on_one_another_make_no_duplicates(twins: float, most: int) -> None:
    # tit1000: all are different people; those of 20 twins are as alike as duplicates with errors, the others are not.
    recipe = RegisterSpec(twins=twins)
    table, dictionary = table_of(recipe), dictionary_of(recipe)
    duplicates = deduplicate(table, dictionary)
    assert duplicates.superfluous <= most
    assert all(differ <= 4 for differ in differing(table, dictionary, duplicates))


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_the_most_complete_record_stays(suffix: str, tmp_path: Path) -> None:
    (tmp_path / "before.csv").write_text("person,name,eyes\na,,blue\nb,Ada,blue\nc,Eve,\nb,Ada,\n", encoding="utf-8")
    table = read_table(str(tmp_path / "before.csv"))
    duplicates = Duplicates(
        4, 0.95, (Cluster((0, 1, 3), ("a", "b", "b"), 1, (0.97, 1.0, 0.98)),), 0.1, (("name",),), 1.0, {}, ()
    )
    register, merged = tmp_path / f"register{suffix}", tmp_path / f"merged{suffix}"
    write_without_duplicates(table, duplicates, register, merged)
    assert read_table(str(register)).select(["person", "name"]).to_pylist() == [
        {"person": "b", "name": "Ada"},
        {"person": "c", "name": "Eve"},
    ]
    listed = read_table(str(merged))
    assert listed["identifier"].to_pylist() == ["a", "b", "b"] and listed["kept_as"].to_pylist() == ["b"] * 3
    # Texts in a CSV, as all values of a register.
    assert [one and float(one) for one in listed["match_probability"].to_pylist()] == [0.97, None, 0.98]
    with pytest.raises(DataError, match=r"\.csv or \.parquet"):
        write_without_duplicates(table, duplicates, tmp_path / "register.xls", merged)


def test_an_identifier_that_is_there_twice_can_be_mended(
    planted: tuple[pa.Table, set[frozenset[str]], Duplicates],
) -> None:
    table = planted[0]
    ids = [one.replace("again", "p") for one in table["person"].to_pylist()]
    doubled = table.set_column(0, "person", pa.array(ids))
    with pytest.raises(DataError, match="must be there once"):
        coded(doubled, DICTIONARY, "test")
    duplicates = deduplicate(doubled, DICTIONARY, seed=3)
    kept, merged = without_duplicates(doubled, duplicates)
    assert kept.num_rows == table.num_rows - duplicates.superfluous
    assert merged.num_rows == sum(len(cluster.rows) for cluster in duplicates.clusters)


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
