"""Trials of tracing: people answer as they are said to, the same for every policy; sums are right."""

import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from progress_log import ProgressLog
from scipy.stats import binom
from small_registers import dictionary_of, table_of

from unmask.errors import DataError
from unmask.tracing.attributes.dictionary import Dictionary
from unmask.tracing.inference.conclusion import StopRule
from unmask.tracing.inference.questions import POLICIES, Policy
from unmask.tracing.simulation import synthetic
from unmask.tracing.simulation.trials import (
    AnswerNoise,
    Benchmark,
    Trial,
    answers_of,
    benchmark_of,
    calibration_error,
    run,
    summary,
)

RECIPE = synthetic.RegisterSpec(records=400, seed=1, twins=0.0, cardinalities=(4, 5, 6, 8, 10, 12, 15, 20, 30, 40))
# No rule is met: everything is asked.
ENDLESS = StopRule(identified=2.0, absent=2.0, least_bits=-1.0)


def synthetic_bench(
    targets: int = 30,
    absentees: int = 10,
    noise: AnswerNoise | None = None,
    seed: int = 0,
    error: float = 0.05,
    absent: float = 0.2,
    recipe: synthetic.RegisterSpec = RECIPE,
) -> Benchmark:
    dictionary = synthetic.dictionary_of(recipe, error, absent=absent)
    return benchmark_of(synthetic.table_of(recipe), dictionary, targets, absentees, noise or AnswerNoise(), seed)


def untimed(trials: Sequence[Trial]) -> list[Trial]:
    return [replace(trial, seconds=0.0) for trial in trials]


def everybody(
    benchmark: Benchmark, noise: AnswerNoise, seed: int = 0
) -> list[tuple[dict[str, str | None], dict[str, str | None]]]:
    """(true values, answers) of each person."""
    people = [*benchmark.present, *benchmark.absent]
    return [(person, answers_of(benchmark, person, noise, (seed, number))) for number, person in enumerate(people)]


@pytest.mark.parametrize("policy", ["info_gain", "random"])
def test_the_same_seed_gives_the_same_trials_and_another_does_not(policy: Policy) -> None:
    noise = AnswerNoise(missing=0.1)
    first, again = (untimed(run(synthetic_bench(8, 4, noise), policy, noise=noise, seed=3)) for _ in range(2))
    assert first == again
    assert untimed(run(synthetic_bench(8, 4, noise), policy, noise=noise, seed=4)) != first
    one, other = synthetic_bench(seed=0), synthetic_bench(seed=1)
    assert one.present != other.present
    assert one.absent != other.absent


@pytest.fixture(scope="module")
def by_policy() -> dict[Policy, list[Trial]]:
    """Everything is asked of each person, in each policy's own order."""
    recipe = replace(RECIPE, cardinalities=(4, 6, 8, 12))
    noise = AnswerNoise(error=3.0, missing=0.3)
    benchmark = synthetic_bench(20, 8, noise, recipe=recipe)
    names = synthetic.names_of(recipe)
    return {
        policy: run(benchmark, policy, ENDLESS, noise, 5, names if policy == "fixed" else ()) for policy in POLICIES
    }


def test_a_person_gives_the_same_answers_whatever_the_policy(by_policy: dict[Policy, list[Trial]]) -> None:
    """All the answers together leave the same belief, in whatever order they were asked for."""
    for trials in by_policy.values():
        for one, other in zip(by_policy["info_gain"], trials, strict=True):
            assert (other.row, other.asked, other.used, other.cost) == (one.row, 4, one.used, 4.0)
            assert other.probability == pytest.approx(one.probability, abs=1e-5)
            assert other.absent == pytest.approx(one.absent, abs=1e-5)
            assert other.entropies[-1] == pytest.approx(one.entropies[-1], abs=1e-4)
    assert len({trial.used for trial in by_policy["static"]}) > 1
    # The order does differ: the paths between the same ends are not the same.
    assert len({trials[0].entropies[1] for trials in by_policy.values()}) > 1


def test_a_trial_has_an_entropy_at_first_and_after_each_question(by_policy: dict[Policy, list[Trial]]) -> None:
    for trial in by_policy["two_step"]:
        assert len(trial.entropies) == trial.asked + 1
        assert trial.entropies[0] == by_policy["random"][0].entropies[0]
        assert trial.seconds > 0.0
        assert trial.core is None  # nothing was settled
        assert trial.status in ("undetermined", "candidate_set")


def test_what_is_settled_has_a_core_set_of_the_answers_used() -> None:
    trials = run(synthetic_bench(30, 15))
    settled = [trial for trial in trials if trial.status in ("identified", "not_in_register")]
    assert len(settled) > 25
    assert all(trial.core is not None and 1 <= trial.core <= trial.used for trial in settled)
    others = [trial for trial in trials if trial not in settled]
    assert others and all(trial.core is None for trial in others)


def test_progress_counts_the_people() -> None:
    progress = ProgressLog()
    run(synthetic_bench(3, 2), progress=progress)
    assert progress.steps == [("info_gain", done, 5) for done in range(1, 6)]


def test_those_held_out_are_not_in_the_register_and_the_others_are() -> None:
    size = 90
    columns = {"key": [f"k{row:02d}" for row in range(size)], "x": [row % 7 for row in range(size)]}
    dictionary = dictionary_of({name: {"kind": "categorical"} for name in columns}, 0.2)
    benchmark = benchmark_of(table_of(columns), dictionary, 40, 25, AnswerNoise())
    assert benchmark.register.size == size - 25
    assert len(set(benchmark.rows.tolist())) == len(benchmark.present) == 40
    held = {person["key"] for person in benchmark.absent}
    assert len(held) == 25
    assert held.isdisjoint(benchmark.register.models["key"].values)
    assert held.union(benchmark.register.models["key"].values) == set(columns["key"])
    ids = benchmark.register.ids(benchmark.rows)
    assert [person["key"] for person in benchmark.present] == [f"k{int(one[1:]):02d}" for one in ids]
    for person in [*benchmark.present, *benchmark.absent]:
        assert person["x"] == str(int(str(person["key"])[1:]) % 7)


def test_what_is_not_recorded_of_somebody_is_none() -> None:
    columns = {"x": ["a", None, "b", "", "a", None], "y": list("uvuvuv")}
    dictionary = dictionary_of({name: {"kind": "categorical"} for name in columns}, 0.2)
    benchmark = benchmark_of(table_of(columns), dictionary, 3, 3, AnswerNoise())
    assert sorted(str(person["x"]) for person in [*benchmark.present, *benchmark.absent]) == sorted(
        ["a", "None", "b", "None", "a", "None"]
    )
    assert all(person["y"] in ("u", "v") for person in [*benchmark.present, *benchmark.absent])


KINDS: dict[str, dict[str, Any]] = {
    "categorical": {"kind": "categorical", "error": 0.4},
    "string": {"kind": "string", "error": 0.4},
    "date": {"kind": "date", "error": 0.4},
    "confused": {"kind": "categorical", "error": 0.4, "confusion": {"1990-01-01": {"1991-02-03": 9.0}}},
    "levelled": {"kind": "string", "error": 0.4, "levels": [0.6, 0.2, 0.1, 0.1]},
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # see the next test
def test_without_errors_answers_are_true(kind: str) -> None:
    values = [f"199{row % 4}-0{1 + row % 3}-0{1 + row % 9}" for row in range(120)]
    values[0], values[2] = "1990-01-01", "1991-02-03"
    values *= 2  # whoever is held out leaves somebody with the same values
    noise = AnswerNoise(error=0.0)
    benchmark = benchmark_of(table_of({"x": values}), dictionary_of({"x": KINDS[kind]}, 0.2), 100, 40, noise)
    people = everybody(benchmark, noise)
    assert [answers for _, answers in people] == [person for person, _ in people]


def test_without_errors_nothing_is_computed_that_is_no_number() -> None:
    dictionary = dictionary_of({"x": {"kind": "categorical"}})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        benchmark = benchmark_of(table_of({"x": list("aabbcc")}), dictionary, 2, 0, AnswerNoise(error=0.0))
        model = benchmark.answering["x"]
        assert np.isfinite(model.channel.table()).all()
        assert [model.draw(code, np.random.default_rng(0)) for code in (1, 2, 3)] == ["a", "b", "c"]


@pytest.mark.parametrize("factor", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("kind", ["categorical", "string"])
def test_answers_err_as_often_as_the_factor_has_it(kind: str, factor: float) -> None:
    columns = {f"x{place}": [f"{row * 7 % 20:02d} {place}" for row in range(200)] for place in range(8)}
    dictionary = dictionary_of({name: {"kind": kind, "error": 0.2} for name in columns})
    noise = AnswerNoise(error=factor)
    benchmark = benchmark_of(table_of(columns), dictionary, 150, 0, noise)
    wrong = sum(answers[name] != person[name] for person, answers in everybody(benchmark, noise) for name in columns)
    low, high = binom.interval(0.999, 150 * 8, 0.2 * factor)
    assert low <= wrong <= high


def test_answers_of_a_group_fail_together() -> None:
    """A photograph of somebody else errs in all that it shows: the data dictionary says how often."""
    columns = {name: [f"v{(row * step) % 20:02d}" for row in range(400)] for name, step in (("x", 1), ("y", 7))}
    attributes = {name: {"kind": "categorical", "error": 1e-6, "group": "photo"} for name in columns}
    dictionary = dictionary_of(attributes, groups={"photo": {"error": 0.5}})
    benchmark = benchmark_of(table_of(columns), dictionary, 300, 0, AnswerNoise())
    wrong = [
        tuple(answers[name] != person[name] for name in columns)
        for person, answers in everybody(benchmark, AnswerNoise())
    ]
    low, high = binom.interval(0.999, 300, 0.5 * 19 / 20)
    assert low <= sum(x for x, _ in wrong) <= high
    # By chance somebody else has the same value once in 20.
    assert sum(x != y for x, y in wrong) / 300 < 0.2


def test_lies_are_wrong_and_about_as_many_attributes_as_said() -> None:
    recipe = replace(RECIPE, missing=0.0)
    noise = AnswerNoise(error=1e-9, adversarial=3)
    benchmark = synthetic_bench(60, 20, noise, recipe=recipe)
    about: set[str] = set()
    for person, answers in everybody(benchmark, noise):
        lies = {name for name in answers if answers[name] != person[name]}
        assert len(lies) == 3
        for name in lies:
            # The likeliest lie is the most frequent value that is not the true one.
            model = benchmark.register.models[name]
            counts = dict(zip(model.values, model.counts[1:].tolist(), strict=True))
            assert counts[str(answers[name])] == max(count for value, count in counts.items() if value != person[name])
        about |= lies
    assert about == set(benchmark.answering)


def test_more_lies_than_attributes_are_all_of_them() -> None:
    noise = AnswerNoise(adversarial=99)
    benchmark = synthetic_bench(20, 5, noise, recipe=replace(RECIPE, missing=0.0))
    assert all(answers[name] != person[name] for person, answers in everybody(benchmark, noise) for name in answers)


@pytest.mark.parametrize(("missing", "availability"), [(0.0, 1.0), (0.3, 1.0), (0.0, 0.6), (0.5, 0.6), (0.99, 1.0)])
def test_as_many_answers_are_missing_as_said(missing: float, availability: float) -> None:
    dictionary = synthetic.dictionary_of(RECIPE, availability=availability)
    noise = AnswerNoise(missing=missing)
    benchmark = benchmark_of(synthetic.table_of(RECIPE), dictionary, 120, 20, noise)
    people = everybody(benchmark, noise)
    number = sum(answer is None for _, answers in people for answer in answers.values())
    low, high = binom.interval(0.999, 1400, 1.0 - availability * (1.0 - missing))
    assert low <= number <= high
    # Which answers are to be had changes nothing of the others.
    for (_, answers), (_, full) in zip(people, everybody(benchmark, AnswerNoise()), strict=True):
        assert all(answer in (None, full[name]) for name, answer in answers.items())


@pytest.mark.parametrize(("factor", "error"), [(20.0, 0.05), (2.0, 0.5), (float("inf"), 0.05), (float("nan"), 0.05)])
def test_an_error_of_one_or_more_is_refused(factor: float, error: float) -> None:
    with pytest.raises(DataError, match="is 1 or more"):
        synthetic_bench(noise=AnswerNoise(error=factor), error=error)


@pytest.mark.parametrize(("targets", "absentees"), [(401, 0), (300, 101), (0, 10), (-1, 0), (10, -1), (1, 400)])
def test_more_people_than_there_are_records_are_refused(targets: int, absentees: int) -> None:
    with pytest.raises(DataError, match="it has 400"):
        synthetic_bench(targets, absentees)


def test_all_records_may_be_targets() -> None:
    benchmark = synthetic_bench(390, 10)
    assert sorted(benchmark.rows.tolist()) == list(range(390))


def test_attributes_that_cannot_be_simulated_do_not_hinder_the_others() -> None:
    """Scores have no true value; the others are asked for, wherever the score stands in the data dictionary."""
    columns = {"x": [f"{row % 5}" for row in range(50)], "y": [f"{row // 5}" for row in range(50)]}
    score = {"kind": "score", "log10_lr": [[0.0, -1.0], [1.0, 1.0]]}
    other = {name: {"kind": "categorical", "error": 0.01} for name in columns}
    for attributes in ({**other, "sketch": score}, {"sketch": score, **other}):
        benchmark = benchmark_of(table_of(columns), dictionary_of(attributes, 0.2), 30, 10, AnswerNoise())
        rows = [int(one[1:]) for one in benchmark.register.ids(benchmark.rows)]
        assert benchmark.present == [{"x": str(row % 5), "y": str(row // 5)} for row in rows]
        assert set(benchmark.answering) == {"x", "y"}
        assert len(run(benchmark)) == 40


def of_numbers(numbers: Any, seed: int) -> Benchmark:
    columns = {"x": [f"{row % 5}" for row in range(len(numbers))], "number": numbers}
    dictionary = dictionary_of({"x": {"kind": "categorical"}, "number": {"kind": "numeric", "spread": 2.0}}, 0.2)
    return benchmark_of(table_of(columns), dictionary, 10, 10, AnswerNoise(), seed)


@pytest.mark.parametrize("nothing", [None, float("nan"), float("inf")])
def test_somebody_held_out_may_have_no_number(nothing: float | None) -> None:
    numbers = pa.array([nothing if row % 3 == 0 else float(row) for row in range(40)], pa.float64())
    for seed in range(3):
        benchmark = of_numbers(numbers, seed)
        unknown = [person["number"] is None for person in benchmark.absent]
        assert any(unknown) and not all(unknown)
        # Who has none answers as anybody might: with a number, and not all with the same.
        people = everybody(benchmark, AnswerNoise())
        assert len({float(str(answers["number"])) for person, answers in people if person["number"] is None}) > 1
        assert [trial.row < 0 for trial in run(benchmark)] == [False] * 10 + [True] * 10


def test_a_number_that_is_none_is_refused_whoever_is_held_out() -> None:
    numbers = ["tall", *(str(row) for row in range(20))]
    for seed in range(8):  # of which some hold out the one who has it
        with pytest.raises(DataError, match="record 1 has what is not a number"):
            of_numbers(numbers, seed)


def test_no_more_is_spent_than_the_budget() -> None:
    columns = {"dear": [str(row) for row in range(60)], "cheap": [str(row % 6) for row in range(60)]}
    attributes = {"dear": {"kind": "categorical", "cost": 2.0}, "cheap": {"kind": "categorical"}}
    benchmark = benchmark_of(table_of(columns), dictionary_of(attributes, 0.2), 20, 10, AnswerNoise())
    for budget, asked in ((0.0, 0), (1.0, 1), (2.5, 1), (3.0, 2)):
        for trial in run(benchmark, rule=StopRule(budget=budget)):
            assert trial.cost <= budget
            assert trial.asked <= asked
            assert trial.asked > 0 or budget == 0.0


def identified(trials: Sequence[Trial]) -> tuple[int, float, int]:
    """(number that are identified, mean of their probabilities, number that are right)."""
    decided = [trial for trial in trials if trial.status == "identified"]
    return (
        len(decided),
        float(np.mean([trial.probability for trial in decided])),
        sum(t.named == t.row for t in decided),
    )


@pytest.mark.slow
def test_the_identified_are_right_as_often_as_said_and_less_so_if_the_errors_are_understated() -> None:
    """The sheet's eighth test: everybody is in the register and known to be, so that all that is assumed is so."""
    gaps = []
    for factor in (1.0, 2.0):
        noise = AnswerNoise(error=factor)
        benchmark = synthetic_bench(200, 0, noise, 1, error=0.1, absent=0.0, recipe=replace(RECIPE, seed=0))
        number, confidence, right = identified(run(benchmark, noise=noise))
        gaps.append(confidence - right / number)
        if factor == 1.0:
            low, high = binom.interval(0.999, number, confidence)
            assert low <= right <= high
            assert number > 150
    assert gaps[1] > gaps[0] + 0.01


@pytest.mark.slow
def test_without_nobody_most_absent_people_are_identified_and_with_it_few() -> None:
    """The sheet's section 8, and its single most important decision."""
    closed, opened = (run(synthetic_bench(1, 70, absent=absent)) for absent in (0.0, 0.2))
    shares = [np.mean([t.status == "identified" for t in trials if t.row < 0]) for trials in (closed, opened)]
    assert shares[0] > 0.5
    assert shares[1] < 0.4 * shares[0]
    assert not any(trial.status == "not_in_register" for trial in closed)
    assert np.mean([trial.status == "not_in_register" for trial in opened if trial.row < 0]) > 0.6


def made(row: int, named: int, status: str, probability: float, **more: Any) -> Trial:
    usual = Trial(row, status, named, probability, 0.1, 3, 2, 4.0, 2, (8.0, 4.0, 2.0, 1.0), 0.008)
    return replace(usual, **more)


MADE = [
    made(0, 0, "identified", 0.97),
    made(1, 1, "identified", 0.99, used=4, cost=5.0, asked=4, core=3, entropies=(8.0, 5.0, 3.0, 2.0, 0.5)),
    made(2, 7, "identified", 0.96, core=None),
    made(3, 3, "undetermined", 0.55, core=None),
    made(-1, 5, "not_in_register", 0.02),
    made(-1, 6, "identified", 0.98),
]


def test_the_summary_is_that_of_a_calculation_by_hand() -> None:
    line = summary(MADE, 0.2)
    assert line.top1 is not None and line.right_if_decided is not None and line.decided is not None
    assert line.top1[0] == line.decided[0] == 3 / 4
    assert line.right_if_decided[0] == 2 / 3
    assert line.false_identified is not None and line.found_absent is not None
    assert line.false_identified[0] == line.found_absent[0] == 1 / 2
    # Wilson's interval of 3 of 4, z = 1.96.
    assert line.top1[1:] == pytest.approx((0.3006, 0.9544), abs=1e-4)
    assert (line.answers, line.cost, line.core) == (2.5, 4.25, 2.5)
    assert line.entropy_area == (14 + 18 + 14 + 14) / 4  # before each question
    assert line.ms_per_step == pytest.approx(1000 * 6 * 0.008 / (5 * 4 + 5))
    assert line.calibration_error == calibration_error(MADE, 0.2)


def test_the_calibration_error_is_that_of_a_calculation_by_hand() -> None:
    # Bin 9, present: .97 - 1, .99 - 1, .96 - 0, each of weight .8 / 4; absent: .98 - 0, of weight .2 / 2.
    ninth = 0.8 / 4 * (-0.03 - 0.01 + 0.96) + 0.2 / 2 * 0.98
    fifth, first = 0.8 / 4 * (0.55 - 1.0), 0.2 / 2 * 0.02
    assert calibration_error(MADE, 0.2) == pytest.approx(abs(ninth) + abs(fifth) + abs(first))
    # Without absent people, each counts the same.
    assert calibration_error(MADE[:4], 0.2) == pytest.approx((0.92 + 0.45) / 4)
    assert calibration_error([made(0, 0, "identified", 1.0)], 0.2) == 0.0
    assert calibration_error([made(0, 1, "identified", 1.0)], 0.0) == 1.0


def test_nobody_to_take_a_share_of_gives_none() -> None:
    line = summary([made(0, 1, "undetermined", 0.3, core=None)], 0.2)
    assert (line.right_if_decided, line.false_identified, line.found_absent, line.core) == (None,) * 4
    assert line.decided is not None and line.decided[0] == 0.0


def test_the_dictionary_given_is_not_changed() -> None:
    dictionary = synthetic.dictionary_of(RECIPE)
    before = dictionary.model_dump()
    benchmark_of(synthetic.table_of(RECIPE), dictionary, 5, 5, AnswerNoise())
    assert dictionary == Dictionary.model_validate(before)
