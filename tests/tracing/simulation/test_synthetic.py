"""Registers of people who do not exist: as many values, gaps, twins and dependence as asked for, whatever the size."""

from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from progress_log import ProgressLog
from scipy.stats import binom

from unmask.errors import DataError
from unmask.tracing.registers.memory import coded
from unmask.tracing.registers.tables import read_table
from unmask.tracing.simulation import synthetic
from unmask.tracing.simulation.synthetic import (
    CARDINALITIES,
    RegisterSpec,
    blocks,
    dictionary_of,
    names_of,
    table_of,
    write_register,
)
from unmask.tracing.tools.profiling import profile


def codes_of(recipe: RegisterSpec) -> np.ndarray:
    return np.concatenate(list(blocks(recipe)))


def apart(one: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Number of attributes in which a record differs from each of others."""
    return (others != one).sum(axis=1)


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(synthetic, "_BLOCK", 100)
    return 100


def test_the_attributes_have_the_numbers_of_values_that_they_are_named_by() -> None:
    recipe = RegisterSpec(records=3000, missing=0.05)
    codes = codes_of(recipe)
    assert codes.shape == (3000, 20)
    for column, values, name in zip(codes.T, CARDINALITIES, names_of(recipe), strict=True):
        assert set(column.tolist()) == {-1, *range(values)}
        assert name.endswith(f"_{values}")
    assert len(set(names_of(recipe))) == 20


def test_a_few_values_are_frequent_and_many_rare() -> None:
    """Without latent factors, the k-th most frequent of V values has a share of 1 / k / (1 + 1/2 + ... + 1/V)."""
    records = 20_000
    codes = codes_of(RegisterSpec(records=records, dependence=0.0, twins=0.0, missing=0.0, cardinalities=(2, 5, 30)))
    for column, values in zip(codes.T, (2, 5, 30), strict=True):
        shares = np.sort(np.bincount(column, minlength=values))[::-1] / records
        expected = 1.0 / np.arange(1, values + 1) / (1.0 / np.arange(1, values + 1)).sum()
        assert shares == pytest.approx(expected, abs=4 * np.sqrt(0.25 / records))


def test_a_seed_makes_one_register() -> None:
    recipe = RegisterSpec(records=500, seed=4)
    assert (codes_of(recipe) == codes_of(recipe)).all()
    others = codes_of(replace(recipe, seed=5))
    assert 0.2 < (codes_of(recipe) != others).mean() < 0.9
    assert table_of(recipe).equals(table_of(recipe))


@pytest.mark.parametrize("records", [100, 101, 250, 300])
def test_a_register_of_a_block_or_more_is_the_beginning_of_every_larger_one(records: int, small_blocks: int) -> None:
    recipe = RegisterSpec(records=records, seed=2, twins=0.3, missing=0.1)
    larger = codes_of(replace(recipe, records=735))
    assert [len(block) for block in blocks(replace(recipe, records=735))] == [100] * 7 + [35]
    assert (codes_of(recipe) == larger[:records]).all()
    assert table_of(recipe).to_pylist() == table_of(replace(recipe, records=735)).slice(0, records).to_pylist()


def test_blocks_are_not_alike(small_blocks: int) -> None:
    drawn = list(blocks(RegisterSpec(records=300, missing=0.0)))
    assert all((one != other).mean() > 0.2 for one, other in combinations(drawn, 2))


@settings(max_examples=30, deadline=None)
@given(
    st.integers(1, 260),
    st.integers(0, 5),
    st.sampled_from([0.0, 0.3, 0.9]),
    st.lists(st.integers(1, 40), min_size=3, max_size=6),
)
def test_a_register_of_any_size_is_whole(records: int, seed: int, twins: float, values: list[int]) -> None:
    recipe = RegisterSpec(records, seed, twins=twins, missing=0.1, cardinalities=tuple(values))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(synthetic, "_BLOCK", 100)
        table = table_of(recipe)
        codes = codes_of(recipe)
    assert table.column_names == ["id", *names_of(recipe)]
    assert table["id"].to_pylist() == [f"p{number:08d}" for number in range(records)]
    for column, name in zip(codes.T, names_of(recipe), strict=True):
        assert table[name].to_pylist() == [None if code < 0 else f"v{code:02d}" for code in column.tolist()]
    assert list(dictionary_of(recipe).attributes) == names_of(recipe)


@pytest.mark.parametrize("blocked", [False, True])
def test_twins_repeat_another_in_all_but_one_to_three_attributes(
    blocked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if blocked:
        monkeypatch.setattr(synthetic, "_BLOCK", 250)
    recipe = RegisterSpec(records=500, seed=1, twins=0.2, missing=0.0)
    alone, twinned = codes_of(replace(recipe, twins=0.0)), codes_of(recipe)
    changed = (alone != twinned).any(axis=1)
    assert changed.sum() == 100  # all others are as they would be without twins
    originals = twinned[~changed]
    nearest = [int(apart(record, originals).min()) for record in twinned[changed]]
    assert max(nearest) <= 3
    # An attribute that a twin keeps may happen to be the original's as well.
    assert np.mean([distance >= 1 for distance in nearest]) > 0.5
    # Without them hardly anybody is so near.
    assert np.mean([np.sort(apart(record, alone))[1] <= 3 for record in alone]) < 0.02


def test_a_twin_keeps_its_own_values_where_it_differs() -> None:
    recipe = RegisterSpec(records=400, seed=1, twins=0.2, missing=0.0)
    alone, twinned = codes_of(replace(recipe, twins=0.0)), codes_of(recipe)
    changed = (alone != twinned).any(axis=1)
    for own, record in zip(alone[changed], twinned[changed], strict=True):
        near = twinned[~changed][apart(record, twinned[~changed]) <= 3]
        assert any((record[record != original] == own[record != original]).all() for original in near)


@pytest.mark.parametrize("cardinalities", [(2,), (2, 3)])
def test_a_register_of_one_or_two_attributes_may_have_twins(cardinalities: tuple[int, ...]) -> None:
    assert table_of(RegisterSpec(records=200, twins=0.2, cardinalities=cardinalities)).num_rows == 200


@pytest.mark.parametrize("missing", [0.0, 0.02, 0.4])
def test_as_many_values_are_missing_as_said_in_every_attribute(missing: float) -> None:
    for column in codes_of(RegisterSpec(records=4000, missing=missing)).T:
        low, high = binom.interval(1 - 1e-5, 4000, missing) if missing else (0, 0)
        assert low <= (column < 0).sum() <= high


def mutual_bits(one: np.ndarray, other: np.ndarray, sizes: tuple[int, int]) -> float:
    """Mutual information, less what is expected by chance (Miller and Madow)."""
    joint = np.bincount(one * sizes[1] + other, minlength=sizes[0] * sizes[1]).reshape(sizes) / len(one)
    product = np.outer(joint.sum(axis=1), joint.sum(axis=0))
    there = joint > 0
    bits = float((joint[there] * np.log2(joint[there] / product[there])).sum())
    return bits - (sizes[0] - 1) * (sizes[1] - 1) / (2 * len(one) * np.log(2))


def test_attributes_depend_on_one_another_as_strongly_as_said() -> None:
    sizes = CARDINALITIES[:12]
    drawn = []
    for dependence in (0.0, 1.0, 2.0):
        codes = codes_of(RegisterSpec(records=6000, dependence=dependence, twins=0.0, missing=0.0, cardinalities=sizes))
        pairs = combinations(range(len(sizes)), 2)
        drawn.append(
            np.array([mutual_bits(codes[:, one], codes[:, other], (sizes[one], sizes[other])) for one, other in pairs])
        )
    independent, usual, strong = drawn
    assert np.abs(independent).max() < 0.01
    assert usual.mean() > 0.03
    assert (usual > 0.01).mean() > 0.5
    assert strong.mean() > 1.5 * usual.mean()


def test_what_is_written_is_the_table(small_blocks: int, tmp_path: Path) -> None:
    recipe, progress = RegisterSpec(records=342, missing=0.1), ProgressLog()
    write_register(tmp_path / "r.parquet", recipe, progress)
    assert read_table(str(tmp_path / "r.parquet")).to_pylist() == table_of(recipe).to_pylist()
    assert progress.steps == [("records", done, 342) for done in (100, 200, 300, 342)]
    assert pq.read_metadata(tmp_path / "r.parquet").num_row_groups == 4
    assert [path.name for path in tmp_path.iterdir()] == ["r.parquet"]


def test_its_dictionary_is_that_of_its_columns() -> None:
    recipe = RegisterSpec(records=3000)
    dictionary = dictionary_of(recipe, error=0.1, availability=0.7, absent=0.3)
    assert (dictionary.id, dictionary.absent) == ("id", 0.3)
    assert {(one.kind, one.error, one.availability) for one in dictionary.attributes.values()} == {
        ("categorical", 0.1, 0.7)
    }
    register = coded(table_of(recipe), dictionary, "synthetic")
    assert register.size == 3000
    assert [len(register.models[name].values) for name in names_of(recipe)] == list(CARDINALITIES)
    # What is guessed of the register is the same.
    guessed = profile(table_of(recipe), "synthetic").dictionary
    assert guessed.id == "id"
    kinds = {name: one.kind for name, one in guessed.attributes.items()}
    assert kinds == dict.fromkeys(names_of(recipe), "categorical")


@pytest.mark.parametrize(
    "wrong",
    [{"records": 0}, {"records": -5}, {"twins": 1.0}, {"twins": -0.1}, {"missing": 1.0}, {"missing": float("nan")}],
)
def test_recipes_of_what_cannot_be_are_refused_and_nothing_is_written(wrong: dict[str, float], tmp_path: Path) -> None:
    recipe = replace(RegisterSpec(), **wrong)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="1 record or more, with shares"):
        table_of(recipe)
    with pytest.raises(DataError, match="1 record or more, with shares"):
        write_register(tmp_path / "r.parquet", recipe)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("stop", [100, 300])
@pytest.mark.parametrize("there", [False, True])
def test_of_one_that_was_interrupted_nothing_is_left(stop: int, there: bool, small_blocks: int, tmp_path: Path) -> None:
    """And a register that was there before stays as it is."""
    path = tmp_path / "r.parquet"
    if there:
        pq.write_table(pa.table({"id": ["before"]}), path)

    def interrupt(stage: str, done: int) -> None:
        if done == stop:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_register(path, RegisterSpec(records=300), ProgressLog(interrupt))
    assert [one.name for one in tmp_path.iterdir()] == ["r.parquet"] * there
    assert not there or read_table(str(path)).to_pylist() == [{"id": "before"}]


def test_a_place_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "nowhere" / "r.parquet", tmp_path / "folder"):
        with pytest.raises(DataError, match="cannot be written"):
            write_register(path, RegisterSpec(records=10))
    assert [one.name for one in tmp_path.iterdir()] == ["folder"]
    assert list((tmp_path / "folder").iterdir()) == []
