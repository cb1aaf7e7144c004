"""A register in memory: packed columns, blocks and what is left out, against plain float64 on all records."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from small_registers import dictionary_of, register_of, table_of

from unmask.errors import DataError
from unmask.tracing.attributes.dictionary import Dictionary
from unmask.tracing.inference.belief import Answer, Belief, begin
from unmask.tracing.inference.conclusion import StopRule, TraceConclusion, conclude
from unmask.tracing.inference.questions import ranked
from unmask.tracing.registers import memory
from unmask.tracing.registers.memory import MemoryRegister, MemoryWeights, coded, read_register
from unmask.tracing.registers.weighing import Likelihoods
from unmask.tracing.simulation import synthetic
from unmask.tracing.simulation.trials import AnswerNoise, Benchmark, answers_of, benchmark_of

NARROW, WIDE = (2, 3, 4, 7, 11, 30, 70), 5000  # the last, with "not recorded", fits no pack with another


@contextmanager
def with_setting(name: str, value: object) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memory, name, value)
        yield


def nothing_left_out() -> Any:
    return with_setting("NEGLIGIBLE", 0.0)


def columns_of(codes: dict[str, np.ndarray]) -> dict[str, list[str | None]]:
    """Values whose order is that of their codes; 0 is "not recorded"."""
    return {name: [f"{code:05d}" if code else None for code in column.tolist()] for name, column in codes.items()}


@st.composite
def coded_columns(draw: st.DrawFn) -> dict[str, np.ndarray]:
    """Columns of codes in which every value occurs, and mostly gaps too."""
    widths = draw(st.lists(st.sampled_from([1, *NARROW, 200, 254, 255, 256]), min_size=1, max_size=9))
    size = draw(st.integers(max(widths), max(widths) + 40))
    randomness = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    columns = {}
    for place, width in enumerate(widths):
        rest = randomness.integers(0, width + 1, size - width)
        columns[f"x{place}"] = randomness.permutation(np.concatenate([np.arange(1, width + 1), rest]))
    return columns


@settings(max_examples=40, deadline=None)
@given(coded_columns(), st.data())
def test_packed_columns_split_back_exactly(codes: dict[str, np.ndarray], data: st.DataObject) -> None:
    register = register_of(columns_of(codes))
    assert sorted(name for pack in register.packed for name in pack.names) == sorted(codes)
    assert all(len(pack.names) == 1 or pack.size <= memory._PACKED for pack in register.packed)
    rows = np.array(data.draw(st.lists(st.integers(0, register.size - 1), max_size=10)), np.int64)
    for name, column in codes.items():
        assert register.column(name).tolist() == column.tolist()
        assert register.column(name, rows).tolist() == column[rows].tolist()
        assert register.models[name].counts.tolist() == np.bincount(column).tolist()
    names = data.draw(st.permutations(list(codes)))
    assert register.codes(rows, names).tolist() == [[int(codes[name][row]) for name in names] for row in rows]


@settings(max_examples=40, deadline=None)
@given(coded_columns(), st.integers(0, 2**32 - 1))
def test_tables_of_a_pack_sum_those_of_its_columns(codes: dict[str, np.ndarray], seed: int) -> None:
    register, randomness = register_of(columns_of(codes)), np.random.default_rng(seed)
    tables = {name: randomness.normal(size=len(model.counts)) for name, model in register.models.items()}
    chosen = {name: table for name, table in tables.items() if randomness.random() < 0.7}
    for pack in register.packed:
        expected = sum((chosen[name][codes[name]] for name in pack.names if name in chosen), np.zeros(register.size))
        assert pack.tables(chosen)[pack.codes] == pytest.approx(expected)


def test_columns_with_few_values_share_packs_and_wide_ones_are_alone() -> None:
    randomness = np.random.default_rng(0)
    codes = {f"x{width}": randomness.integers(0, width + 1, WIDE) for width in NARROW}
    codes["wide"] = randomness.permutation(np.arange(1, WIDE + 1))
    register = register_of(columns_of(codes))
    names = {pack.names for pack in register.packed}
    assert ("wide",) in names
    assert len(names) < len(codes) - 2
    assert sum(pack.codes.itemsize for pack in register.packed) < sum(
        np.min_scalar_type(width).itemsize for width in (*NARROW, WIDE)
    )


def many_kinds(size: int = 700, seed: int = 0) -> MemoryRegister:
    """Packs of several columns, a wide one, gaps, answers that share a source, and scores by record."""
    randomness = np.random.default_rng(seed)
    codes = {f"x{width}": randomness.integers(0, width + 1, size) for width in (*NARROW, WIDE)}
    attributes: dict[str, dict[str, Any]] = {name: {"kind": "categorical", "error": 0.02} for name in codes}
    for name in ("x4", "x30"):
        attributes[name]["group"] = "photo"
    attributes["sketch"] = {"kind": "score", "log10_lr": [[0.0, -1.0], [1.0, 2.0]]}
    dictionary = dictionary_of(attributes, 0.2, groups={"photo": {"error": 0.3}}, absentees="independent")
    return coded(table_of(columns_of(codes)), dictionary, "many kinds")


def evidence(register: MemoryRegister, seed: int, most: int = 9) -> Belief:
    """A belief after answers about some of the attributes, most as one record has them, in some order."""
    randomness = np.random.default_rng([seed, 1])
    person = np.array([int(randomness.integers(register.size))])
    scored = {f"p{row}": float(randomness.random()) for row in randomness.choice(register.size, 5).tolist()}
    answers = []
    for name in randomness.permutation(list(register.models))[:most].tolist():
        if name == "sketch":
            answers.append(Answer(name, {**scored, "nobody": 0.5}))
        else:
            values = register.models[name].values
            code = 0 if randomness.random() < 0.1 else int(register.column(name, person)[0])
            answer = values[code - 1 if code else int(randomness.integers(len(values)))]
            answers.append(Answer(name, answer, float(randomness.choice([1.0, 0.6]))))
    return begin(register).update(*answers)


@dataclass
class Plain:
    """Weights from the definition, record by record, in float64."""

    register: MemoryRegister
    logs: np.ndarray

    @classmethod
    def of(cls, register: MemoryRegister, likelihoods: Likelihoods) -> "Plain":
        logs = np.zeros(register.size)
        ids = register.ids(np.arange(register.size))
        for likelihood in likelihoods:
            summed = np.zeros(register.size)
            for name, table in likelihood.tables.items():
                summed += table[register.column(name)]
            for listed in likelihood.scores.values():
                of_id = dict(zip(listed.ids, listed.log_ratios.tolist(), strict=True))
                summed += [of_id.get(one, listed.unlisted) for one in ids]
            logs += np.log(likelihood.trust * np.exp(summed) + (1.0 - likelihood.trust))
        return cls(register, logs)

    @property
    def shares(self) -> np.ndarray:
        weights = np.exp(self.logs - self.logs.max())
        return weights / weights.sum()

    @property
    def entropy(self) -> float:
        return float(-(self.shares * np.log2(self.shares)).sum())

    @property
    def log_mean(self) -> float:
        return float(np.log(np.exp(self.logs - self.logs.max()).mean()) + self.logs.max())

    def sums(self, name: str, power: int = 1) -> np.ndarray:
        return np.bincount(
            self.register.column(name), self.shares**power, minlength=len(self.register.models[name].counts)
        )

    def joint(self, one: str, other: str) -> np.ndarray:
        masses = np.zeros([len(self.register.models[name].counts) for name in (one, other)])
        np.add.at(masses, (self.register.column(one), self.register.column(other)), self.shares)
        return masses

    def check(self, weights: MemoryWeights) -> None:
        """All that is said of the weights, to the precision of float32 logarithms; truncated or not."""
        assert weights.entropy == pytest.approx(self.entropy, abs=1e-4)
        assert weights.log_mean == pytest.approx(self.log_mean, abs=1e-4)
        shares = np.sort(self.shares)[::-1][:50]
        assert np.exp(weights.log_shares) == pytest.approx(shares, rel=1e-4)
        assert self.shares[weights.rows] == pytest.approx(shares, rel=1e-4)
        assert len(set(weights.rows.tolist())) == len(shares)
        names = tuple(self.register.models)
        tallies, squares = weights.tally(names), weights.squares(names)
        room = weights.neglected + 1e-6
        for name in names:
            assert tallies[name] == pytest.approx(self.sums(name), rel=1e-4, abs=room)
            assert squares[name] == pytest.approx(self.sums(name, 2), rel=1e-4, abs=room)
        for one, other in (("x2", "x3"), ("x30", f"x{WIDE}"), ("x70", "x70")):
            assert weights.joint(one, other) == pytest.approx(self.joint(one, other), rel=1e-4, abs=room)


@pytest.mark.slow
@pytest.mark.parametrize("block", [memory._BLOCK, 64, 1])
@pytest.mark.parametrize("negligible", [0.0, memory.NEGLIGIBLE])
def test_however_many_blocks_the_sums_are_those_of_float64(block: int, negligible: float) -> None:
    register = many_kinds()
    truncated = 0
    with with_setting("_BLOCK", block), with_setting("NEGLIGIBLE", negligible):
        for seed in range(3):
            belief = evidence(register, seed, most=3 * (seed + 1))
            assert isinstance(belief.weights, MemoryWeights)
            Plain.of(register, belief.likelihoods).check(belief.weights)
            truncated += belief.weights.neglected > 0.0
    assert bool(truncated) == bool(negligible)


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(st.integers(1, 130), st.integers(0, 2**16), st.integers(0, 9), st.sampled_from([1, 7, 1 << 16]))
def test_registers_of_any_size_are_weighed_as_in_float64(size: int, seed: int, most: int, block: int) -> None:
    register = many_kinds(size, seed)
    # Something is recorded in the columns that are compared.
    assume({"x2", "x3", "x30", "x70", f"x{WIDE}"} <= set(register.models))
    with with_setting("_BLOCK", block):
        belief = evidence(register, seed, most)
        assert isinstance(belief.weights, MemoryWeights)
        Plain.of(register, belief.likelihoods).check(belief.weights)


def test_several_blocks_are_as_one() -> None:
    register = many_kinds()
    for seed in range(4):
        sums_of = []
        for block in (1 << 16, 33):
            with with_setting("_BLOCK", block):
                weights = evidence(register, seed).weights
                names = tuple(register.models)
                sums_of.append((weights, weights.tally(names), weights.squares(names), weights.joint("x3", "x70")))
        (one, *sums), (other, *others) = sums_of
        assert other.rows.tolist() == one.rows.tolist()
        assert (other.tied, other.log_shares.tolist()) == (one.tied, pytest.approx(one.log_shares.tolist()))
        assert (other.entropy, other.log_mean) == pytest.approx((one.entropy, one.log_mean))
        for mine, theirs in zip(sums[:2], others[:2], strict=True):
            for name in mine:
                assert theirs[name] == pytest.approx(mine[name])
        assert others[2] == pytest.approx(sums[2])


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**16), st.integers(0, 9))
def test_going_on_from_before_is_the_same_as_weighing_from_scratch(seed: int, known: int) -> None:
    register = many_kinds(300, seed)
    likelihoods = evidence(register, seed).likelihoods
    before = register.weigh(likelihoods[:known])
    kept = before.log_shares.copy(), before.rows.copy(), before.entropy
    gone_on, scratch = register.weigh(likelihoods, before), register.weigh(likelihoods)
    assert gone_on.entropy == pytest.approx(scratch.entropy, abs=1e-4)
    assert gone_on.log_mean == pytest.approx(scratch.log_mean, abs=1e-4)
    assert gone_on.log_shares == pytest.approx(scratch.log_shares, abs=1e-4)
    names = tuple(register.models)
    room = gone_on.neglected + scratch.neglected + 1e-6
    for name, tally in scratch.tally(names).items():
        assert gone_on.tally(names)[name] == pytest.approx(tally, rel=1e-4, abs=room)
    # What it went on from is as it was.
    assert (before.log_shares == kept[0]).all()
    assert (before.rows == kept[1]).all()
    assert before.entropy == kept[2]


def test_what_was_weighed_by_other_evidence_is_not_gone_on_from() -> None:
    register = many_kinds(300)
    likelihoods = evidence(register, 2).likelihoods
    for before in (likelihoods, likelihoods[1:3], likelihoods[::-1]):
        weights = register.weigh(likelihoods[:2], register.weigh(before))
        assert weights.log_shares == pytest.approx(register.weigh(likelihoods[:2]).log_shares, abs=1e-6)


def test_without_evidence_all_records_weigh_the_same() -> None:
    weights = many_kinds(300).weigh(())
    assert (weights.log_mean, weights.entropy) == pytest.approx((0.0, np.log2(300)), abs=1e-6)
    assert (weights.tied, weights.neglected) == (300, 0.0)
    assert weights.rows.tolist() == list(range(50))
    assert np.exp(weights.log_shares) == pytest.approx(np.full(50, 1 / 300))


def test_the_likeliest_come_first_and_of_equal_ones_the_first_rows() -> None:
    values = ["c"] * 30 + ["a"] * 20 + ["b"] * 45 + ["a"] * 20
    # "b" is more frequent: whoever has it slips to any other value a little more often.
    weights = begin(register_of({"x": values}, error=0.1)).update(Answer("x", "a")).weights
    best, next_best = ([row for row, value in enumerate(values) if value == one] for one in "ab")
    assert weights.rows.tolist() == best + next_best[:10]
    assert weights.tied == 40
    assert (np.diff(weights.log_shares) <= 0).all()
    assert np.exp(weights.log_shares[0]) > 10 * np.exp(weights.log_shares[-1])


def test_all_who_are_tied_are_counted_even_if_they_are_not_all_named() -> None:
    values = ["b"] * 10 + ["a"] * 80 + ["b"] * 10
    weights = begin(register_of({"x": values}, error=0.1)).update(Answer("x", "a")).weights
    assert weights.tied == 80
    assert weights.rows.tolist() == list(range(10, 60))


def test_a_small_register_is_named_whole() -> None:
    weights = begin(register_of({"x": list("bacab")}, error=0.1)).update(Answer("x", "a")).weights
    assert weights.rows.tolist()[:2] == [1, 3]
    assert sorted(weights.rows.tolist()) == [0, 1, 2, 3, 4]


def test_records_beyond_the_last_bin_are_still_named_in_order() -> None:
    """One record fits; the others are hundreds of nats lighter, and differ in how many of the answers they miss."""
    missed = np.random.default_rng(3).integers(4, 9, 80)
    columns = {f"x{place}": ["a", *("b" if place < count else "a" for count in missed.tolist())] for place in range(8)}
    register = register_of(columns, error=1e-12)
    belief = begin(register).update(*(Answer(name, "a") for name in columns))
    plain = Plain.of(register, belief.likelihoods)
    assert plain.logs.max() - np.sort(plain.logs)[-2] > 64
    assert belief.weights.rows.tolist() == np.lexsort((np.arange(81), -np.round(plain.logs, 3)))[:50].tolist()
    assert belief.weights.log_shares == pytest.approx(np.log(plain.shares[belief.weights.rows]), abs=1e-3)
    assert belief.weights.entropy == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("seed", range(6))
def test_patterns_sum_back_to_the_weights(seed: int) -> None:
    register = many_kinds(300, seed)
    belief = evidence(register, seed)
    patterns = belief.weights.patterns()
    assert sorted(patterns.names) == sorted(belief.asked)
    assert patterns.log_ratios.shape == (len(patterns.counts), len(patterns.names))
    assert (patterns.counts.sum(), patterns.counts.min() > 0) == (300, True)
    assert len(np.unique(patterns.log_ratios, axis=0)) == len(patterns.counts)
    logs = np.zeros(len(patterns.counts))
    for likelihood in belief.likelihoods:
        places = [patterns.names.index(name) for name in likelihood.names]
        logs += likelihood.trusted(patterns.log_ratios[:, places].sum(axis=1))
    weights = patterns.counts * np.exp(logs)
    assert np.log(weights.sum() / 300) == pytest.approx(belief.weights.log_mean, abs=1e-4)
    each = np.exp(logs) / weights.sum()
    assert -(patterns.counts * each * np.log2(each)).sum() == pytest.approx(belief.weights.entropy, abs=1e-4)


@pytest.mark.parametrize("packed", [memory._PACKED, 1])
def test_patterns_are_the_records_by_what_is_said_of_each(packed: int) -> None:
    """Also where the keys are too many for a table: with `packed` 1, any four times the records are."""
    register = many_kinds(40, 5)
    belief = evidence(register, 7)
    with with_setting("_PACKED", packed):
        patterns = belief.weights.patterns()
    ratios = []
    for likelihood in belief.likelihoods:
        ratios += [table[register.column(name)] for name, table in likelihood.tables.items()]
        for listed in likelihood.scores.values():
            of_id = dict(zip(listed.ids, listed.log_ratios.tolist(), strict=True))
            ratios.append(np.array([of_id.get(f"p{row}", listed.unlisted) for row in range(40)]))
    expected, counts = np.unique(np.stack(ratios, axis=1), axis=0, return_counts=True)
    order = np.lexsort(patterns.log_ratios.T[::-1])
    assert patterns.log_ratios[order].tolist() == expected.tolist()
    assert patterns.counts[order].tolist() == counts.tolist()


def test_without_evidence_there_is_one_pattern() -> None:
    patterns = many_kinds(60).weigh(()).patterns()
    assert (patterns.names, patterns.log_ratios.shape, patterns.counts.tolist()) == ((), (1, 0), [60])


RECIPE = synthetic.RegisterSpec(records=450, seed=3, cardinalities=(2, 3, 4, 6, 8, 12, 20, 30))
WORLD = AnswerNoise(missing=0.1)
PRESENT, ABSENT, ROUNDS = 340, 50, 3


@pytest.fixture(scope="module")
def benchmark() -> Benchmark:
    table, dictionary = synthetic.table_of(RECIPE), synthetic.dictionary_of(RECIPE)
    return benchmark_of(table, dictionary, PRESENT, ABSENT, WORLD)


def people_of(benchmark: Benchmark) -> list[dict[str, str | None]]:
    """What each of over 1,000 people would answer: everybody of the benchmark, several times."""
    people = [*benchmark.present, *benchmark.absent]
    return [
        answers_of(benchmark, person, WORLD, (seed, number))
        for seed in range(ROUNDS)
        for number, person in enumerate(people)
    ]


def traced(start: Belief, answers: dict[str, str | None]) -> tuple[TraceConclusion, list[Belief]]:
    """A whole trace: the most telling question again and again, until there is a conclusion."""
    beliefs, rule = [start], StopRule()
    while True:
        questions = ranked(beliefs[-1])
        conclusion = conclude(beliefs[-1], rule, questions, float(len(beliefs) - 1))
        if conclusion is not None:
            return conclusion, beliefs
        name = questions[0].attribute
        beliefs.append(beliefs[-1].update(Answer(name, answers[name])))


@pytest.mark.slow
def test_truncated_or_not_a_thousand_traces_come_to_the_same_conclusion(benchmark: Benchmark) -> None:
    people, steps, truncated, asked_the_same = people_of(benchmark)[:1000], 0, 0, 0
    statuses, different = set(), []
    assert len(people) == 1000
    start = begin(benchmark.register)
    for answers in people:
        conclusion, beliefs = traced(start, answers)
        with nothing_left_out():
            plain, others = traced(start, answers)
        assert not any(belief.weights.neglected for belief in others)
        verdicts = [(one.status, one.rows, one.count) for one in (conclusion, plain)]
        if verdicts[0] != verdicts[1]:
            different.append((beliefs[-1].asked, others[-1].asked, *verdicts))
        # Between questions that are worth nearly the same, what was left out may decide.
        if beliefs[-1].asked == others[-1].asked:
            asked_the_same += 1
            assert conclusion.probability == pytest.approx(plain.probability, abs=1e-5)
        statuses.add(conclusion.status)
        steps += len(beliefs)
        truncated += sum(belief.weights.neglected > 0.0 for belief in beliefs)
    assert different == []
    assert truncated / steps > 0.1
    assert asked_the_same / len(people) > 0.95
    assert statuses == {"identified", "candidate_set", "not_in_register", "undetermined"}


@pytest.mark.slow
def test_from_the_same_answers_the_same_is_concluded_truncated_or_not(benchmark: Benchmark) -> None:
    """At every step, "ask on" included."""
    start, rule, compared = begin(benchmark.register), StopRule(), 0
    for answers in people_of(benchmark)[::20]:
        _, beliefs = traced(start, answers)
        for number, belief in enumerate(beliefs):
            with nothing_left_out():
                whole = begin(benchmark.register, start.absent_model).update(*belief.answers)
                plain = conclude(whole, rule, ranked(whole), float(number))
            assert whole.weights.neglected == 0.0
            conclusion = conclude(belief, rule, ranked(belief), float(number))
            assert (conclusion is None) == (plain is None)
            if conclusion is not None and plain is not None:
                assert (conclusion.status, conclusion.rows, conclusion.count) == (plain.status, plain.rows, plain.count)
                assert conclusion.probability == pytest.approx(plain.probability, abs=1e-5)
            compared += belief.weights.neglected > 0.0
    assert compared > 60


@pytest.mark.slow
def test_no_more_mass_is_left_out_than_said(benchmark: Benchmark) -> None:
    names = tuple(benchmark.register.models)
    truncated = 0
    for answers in people_of(benchmark)[::25]:
        belief = begin(benchmark.register)
        for name in names:
            belief = belief.update(Answer(name, answers[name]))
            weights = belief.weights
            with nothing_left_out():
                whole = benchmark.register.weigh(belief.likelihoods)
            assert isinstance(whole, MemoryWeights)
            assert 0.0 <= weights.neglected <= memory.NEGLIGIBLE
            # What is concluded from is always the whole register.
            assert whole.rows.tolist() == weights.rows.tolist()
            assert whole.log_shares == pytest.approx(weights.log_shares, abs=1e-4)
            assert (whole.entropy, whole.log_mean) == pytest.approx((weights.entropy, weights.log_mean), abs=1e-4)
            tallies, full = weights.tally(names), whole.tally(names)
            for one in names:
                assert full[one].sum() == pytest.approx(1.0, abs=1e-6)
                assert tallies[one].sum() >= 1.0 - weights.neglected - 1e-6
                assert (tallies[one] <= full[one] + 1e-5).all()
            assert weights.joint("a01_2", "a08_30").sum() >= 1.0 - weights.neglected - 1e-6
            truncated += tallies[names[0]].sum() < 1.0 - 1e-7 and weights.neglected > 0.0
    assert truncated > 50


def test_nothing_is_left_out_where_most_records_would_stay() -> None:
    """All but a few fit: leaving these out would save nothing."""
    values = ["a"] * 60 + ["b"] * 40
    belief = begin(register_of({"x": values, "y": values, "z": values}, error=1e-6))
    most, few = (belief.update(*(Answer(name, answer) for name in "xyz")).weights for answer in "ab")
    assert most.neglected == 0.0
    assert most.tally(("x",))["x"].sum() == pytest.approx(1.0, abs=1e-12)
    assert 0.0 < few.neglected < 1e-6
    assert few.tally(("x",))["x"] == pytest.approx([0.0, 0.0, 1.0], abs=1e-9)


def ids_of(column: Any) -> MemoryRegister:
    dictionary = Dictionary.model_validate({"id": "id", "attributes": {"x": {"kind": "categorical"}}})
    return coded(pa.table({"id": column, "x": ["a", "b", "c"]}), dictionary, "ids")


@pytest.mark.parametrize(
    "column",
    [
        pa.array([12, 7, 100]),
        pa.array([12, 7, 100], pa.uint8()),
        pa.array(["12", "7", "100"]),
        pa.array(["12", "7", "100"], pa.large_string()),
        pa.array(["12", "7", "100"]).dictionary_encode(),
        pa.chunked_array([["12"], ["7", "100"]]),
        pa.chunked_array([pa.array(["12"]).dictionary_encode(), pa.array(["7", "100"]).dictionary_encode()]),
    ],
    ids=["int64", "uint8", "string", "large string", "dictionary", "chunks", "chunks of dictionaries"],
)
def test_identifiers_are_texts_whatever_the_column_is(column: Any) -> None:
    register = ids_of(column)
    assert register.ids(np.array([2, 0, 1, 2])) == ["100", "12", "7", "100"]
    assert register.rows(["7", "07", "100", "", "12", "7"]).tolist() == [1, -1, 2, -1, 0, 1]
    assert (register.row("100"), register.row("12")) == (2, 0)
    assert register.rows([]).tolist() == []


def test_an_identifier_that_no_record_has_is_named() -> None:
    with pytest.raises(DataError, match="no record has the identifier '7 '"):
        ids_of([12, 7, 100]).row("7 ")


@pytest.mark.parametrize(
    ("column", "record"),
    [(["a", None, "b"], 2), ([1, 2, None], 3), (pa.nulls(3, pa.string()), 1)],
    ids=["text", "int", "all"],
)
def test_a_record_without_an_identifier_is_named(column: Any, record: int) -> None:
    with pytest.raises(DataError, match=f"record {record} has no id: give each record"):
        ids_of(column)


@pytest.mark.parametrize("column", [["a", "b", "b"], [3, 5, 5]])
def test_an_identifier_that_is_there_twice_is_named_with_its_records(column: Any) -> None:
    with pytest.raises(DataError, match=r"records 2 and 3 have the same id: .*deduplicate"):
        ids_of(column)


def test_a_sample_is_all_records_or_as_many_from_all_over() -> None:
    register = register_of({"x": [f"{row:03d}" for row in range(100)]})
    assert register.sample(["x"], 1000)[:, 0].tolist() == list(range(1, 101))
    few = register.sample(["x"], 10)[:, 0]
    assert (len(few), few[0], few[-1]) == (10, 1, 100)
    assert (np.abs(np.diff(few) - 11) <= 1).all()
    assert register.sample([], 10).shape == (10, 0)


def test_a_register_is_read_with_its_fingerprint_and_refuses_what_it_lacks(tmp_path: Any) -> None:
    (tmp_path / "r.csv").write_text("id,x\n007,a\n008,b\n")
    dictionary = dictionary_of({"x": {"kind": "categorical"}})
    register = read_register(tmp_path / "r.csv", dictionary)
    assert (register.size, register.ids(np.arange(2)), len(register.fingerprint)) == (2, ["007", "008"], 64)
    with pytest.raises(DataError, match="no column 'y'; it has id, x"):
        read_register(tmp_path / "r.csv", dictionary_of({"y": {"kind": "categorical"}}))


@pytest.mark.parametrize(
    "column",
    [pa.array([[1], [2]]), pa.array([{"a": 1}, {"a": 2}]), pa.array([b"\xff", b"\xfe"])],
    ids=["lists", "structs", "bytes"],
)
@pytest.mark.parametrize("place", ["attribute", "identifier"])
def test_a_column_that_is_no_text_is_refused_by_name(column: pa.Array, place: str) -> None:
    """A Parquet file may have such columns; there is no reading them as values."""
    columns = {"id": column, "x": ["a", "b"]} if place == "identifier" else {"id": ["a", "b"], "x": column}
    with pytest.raises(DataError, match="id" if place == "identifier" else "x"):
        coded(pa.table(columns), dictionary_of({"x": {"kind": "categorical"}}), "odd")
