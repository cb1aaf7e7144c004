"""The audit against brute force on small tables, with and without values that are not recorded."""

import itertools

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from progress_log import ProgressLog

from unmask.errors import DataError
from unmask.tracing.attributes.dictionary import Attribute, Dictionary
from unmask.tracing.registers.memory import MemoryRegister, coded
from unmask.tracing.tools import audit as auditing
from unmask.tracing.tools.audit import audit, exact_core, greedy_core, indispensable, register_core

VALUES = "abcd"


def make_register(codes: list[list[int]], verify: tuple[str, ...] = ()) -> MemoryRegister:
    """A register of columns f0, f1, ... from codes; 0 is "not recorded"."""
    columns = {
        f"f{place}": pa.array([None if code == 0 else VALUES[code - 1] for code in column], pa.string())
        for place, column in enumerate(zip(*codes, strict=True))
    }
    attributes = {name: Attribute(kind="categorical", use="verify" if name in verify else "ask") for name in columns}
    table = pa.table({"person": [f"p{row}" for row in range(len(codes))], **columns})
    return coded(table, Dictionary(id="person", attributes=attributes), "test")


def rivals(codes: list[list[int]], row: int, columns: tuple[int, ...]) -> int:
    """Other records that the columns do not rule out, by definition."""
    own = codes[row]
    return sum(
        not any(own[j] and other[j] and own[j] != other[j] for j in columns)
        for place, other in enumerate(codes)
        if place != row
    )


def brute_kappa(codes: list[list[int]], row: int) -> int | None:
    every = range(len(codes[0]))
    for size in range(len(codes[0]) + 1):
        if any(rivals(codes, row, columns) == 0 for columns in itertools.combinations(every, size)):
            return size
    return None


def positions(names: tuple[str, ...]) -> tuple[int, ...]:
    return tuple(int(name[1:]) for name in names)


def tables(least: int = 0) -> st.SearchStrategy[list[list[int]]]:
    return st.integers(1, 5).flatmap(
        lambda width: st.lists(
            st.lists(st.integers(least, 3), min_size=width, max_size=width), min_size=1, max_size=14
        ).filter(lambda codes: all(any(column) for column in zip(*codes, strict=True)))
    )


@settings(max_examples=120, deadline=None)
@given(codes=st.one_of(tables(0), tables(1)), depth=st.integers(1, 5))
def test_counts_are_those_of_brute_force(codes: list[list[int]], depth: int) -> None:
    audited = audit(make_register(codes), depth)
    people, width = len(codes), len(codes[0])
    assert len(audited.sizes) == min(depth, width)
    kappas = [brute_kappa(codes, row) for row in range(people)]
    for size in audited.sizes:
        shares = {
            columns: sum(rivals(codes, row, columns) == 0 for row in range(people)) / people
            for columns in itertools.combinations(range(width), size.attributes)
        }
        assert size.subsets == len(shares)
        assert size.mean == pytest.approx(np.mean(list(shares.values())))
        assert size.best_share == pytest.approx(max(shares.values()))
        assert shares[tuple(sorted(positions(size.best)))] == pytest.approx(size.best_share)
        assert size.anyhow == pytest.approx(
            sum(kappa is not None and kappa <= size.attributes for kappa in kappas) / people
        )
    assert audited.kappas.tolist() == [-1 if kappa is None or kappa > depth else kappa for kappa in kappas]
    everything = tuple(range(width))
    assert audited.class_sizes.tolist() == [rivals(codes, row, everything) + 1 for row in range(people)]
    deeper = sorted(kappa for kappa in kappas if kappa is not None and kappa > depth)
    assert audited.deeper == len(deeper)
    assert sorted(itertools.chain.from_iterable([kappa] * count for kappa, count in audited.sampled.items())) == deeper
    assert sum(audited.hidden.values()) == sum(kappa is None for kappa in kappas)


@settings(max_examples=120, deadline=None)
@given(codes=st.one_of(tables(0), tables(1)), row=st.integers(0, 13))
def test_cores_are_valid_and_minimal(codes: list[list[int]], row: int) -> None:
    row %= len(codes)
    register, everything = make_register(codes), tuple(range(len(codes[0])))
    exact, greedy, kappa = exact_core(register, row), greedy_core(register, row), brute_kappa(codes, row)
    if kappa is None:
        assert exact is None and greedy is None and indispensable(register, row) == ()
        return
    assert exact is not None and greedy is not None
    assert len(exact) == kappa <= len(greedy)
    for names in (exact, greedy):
        assert rivals(codes, row, positions(names)) == 0
        for name in names:
            assert rivals(codes, row, positions(tuple(one for one in names if one != name))) > 0
    needed = {j for j in everything if rivals(codes, row, tuple(one for one in everything if one != j))}
    assert set(positions(indispensable(register, row))) == needed <= set(positions(exact))


@settings(max_examples=80, deadline=None)
@given(codes=st.one_of(tables(0), tables(1)))
def test_the_registers_core_rules_out_for_everybody_whom_all_attributes_do(codes: list[list[int]]) -> None:
    """And none of it can go. "Not recorded" rules nobody out, as everywhere in the audit."""
    chosen = positions(register_core(make_register(codes)))

    def left(columns: tuple[int, ...]) -> list[int]:
        return [rivals(codes, row, columns) for row in range(len(codes))]

    everything = left(tuple(range(len(codes[0]))))
    assert left(chosen) == everything
    assert all(left(tuple(one for one in chosen if one != j)) != everything for j in chosen)


def test_an_attribute_that_is_recorded_of_some_only_is_no_value_of_its_own() -> None:
    """Whether f1 is recorded tells the first two apart; what is recorded there rules nobody out."""
    register = make_register([[1, 0], [1, 1], [2, 1], [3, 0]])
    assert register_core(register) == ("f0",) == audit(register).core


def test_what_rules_out_through_gaps_is_met_in_blocks_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """As pair by pair, where there are too many pairs for that."""
    rng = np.random.default_rng(0)
    tables = [rng.integers(0, 4, (6, 4)).tolist() for _ in range(20)]
    cores = [register_core(make_register(codes)) for codes in tables]
    monkeypatch.setattr(auditing, "_PAIRS", 0)
    assert [register_core(make_register(codes)) for codes in tables] == cores
    assert len(set(map(len, cores))) > 1


def test_eight_people_and_three_bits() -> None:
    codes = [[1 + (number >> bit & 1) for bit in range(3)] for number in range(8)]
    register = make_register(codes)
    audited = audit(register)
    assert audited.kappas.tolist() == [3] * 8
    assert [size.anyhow for size in audited.sizes] == [0.0, 0.0, 1.0]
    assert exact_core(register, 5) == indispensable(register, 5) == ("f0", "f1", "f2")
    assert set(register_core(register)) == {"f0", "f1", "f2"}


def hard(width: int) -> list[list[int]]:
    """The first record differs from each other one in a single attribute: it needs all of them."""
    return [[1] * width] + [[2 if place == row else 1 for place in range(width)] for row in range(width)]


@pytest.mark.parametrize("width", [8, 70])
def test_large_covers_by_integer_programming(width: int) -> None:
    register = make_register(hard(width))
    assert exact_core(register, 0) == tuple(f"f{place}" for place in range(width))
    audited = audit(register, depth=1)
    assert audited.kappas.tolist() == [-1] + [1] * width
    assert audited.sampled == {width: 1}


def test_integer_programming_agrees_with_the_search(monkeypatch: pytest.MonkeyPatch) -> None:
    codes = np.random.default_rng(1).integers(1, 3, (60, 12)).tolist()
    register = make_register(codes)
    searched = [exact_core(register, row) for row in range(20)]
    monkeypatch.setattr("unmask.tracing.tools.audit._SEARCHED", 0)
    solved = [exact_core(register, row) for row in range(20)]
    for one, other in zip(searched, solved, strict=True):
        assert (one is None) == (other is None)
        assert one is None or other is None or len(one) == len(other)


def test_small_tables_and_large_ones_go_the_same_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """Labels too many for a table, and classes too many to be compared pair by pair, change nothing."""
    codes = np.random.default_rng(2).integers(0, 4, (300, 4)).tolist()
    register = make_register(codes)
    usual = audit(register, depth=3)
    monkeypatch.setattr("unmask.tracing.tools.audit._WIDEST", 8)
    monkeypatch.setattr("unmask.tracing.tools.audit._PAIRS", 4)
    other = audit(register, depth=3)
    assert usual.sizes == other.sizes
    assert (usual.kappas == other.kappas).all() and (usual.class_sizes == other.class_sizes).all()
    expected = [rivals(codes, row, (0, 1, 2, 3)) + 1 for row in range(300)]
    left = [place for place, kappa in enumerate(usual.kappas) if kappa < 0]
    assert [usual.class_sizes[place] for place in left] == [expected[place] for place in left]


def test_what_is_for_verification_only_is_reported_apart() -> None:
    register = make_register([[1, 1], [1, 2], [1, 2], [2, 3]], verify=("f1",))
    audited = audit(register)
    assert audited.attributes == ("f0",)
    assert audited.verifying == {"f1": 0.5}
    assert audited.hidden == {3: 3}


def test_progress_reaches_its_end() -> None:
    progress = ProgressLog()
    audit(make_register(np.random.default_rng(0).integers(1, 4, (40, 9)).tolist()), 3, progress=progress)
    assert progress.steps == [("subsets", done, 129) for done in (64, 128, 129)]


def test_mistakes_are_named() -> None:
    register = make_register([[1, 1], [2, 1]])
    with pytest.raises(DataError, match="1 or more, not 0"):
        audit(register, depth=0)
    with pytest.raises(DataError, match="'hair'"):
        exact_core(register, 0, ("f0", "hair"))
    with pytest.raises(DataError, match='use = "ask"'):
        audit(make_register([[1], [2]], verify=("f0",)))


def test_a_sample_is_drawn_by_its_seed() -> None:
    register = make_register(np.random.default_rng(5).integers(1, 3, (80, 10)).tolist())
    assert audit(register, 2, sample=10, seed=4).sampled == audit(register, 2, sample=10, seed=4).sampled
    assert sum(audit(register, 2, sample=10, seed=4).sampled.values()) == 10
