"""Trials of tracing: people drawn from a register, or known not to be in it, who answer with errors.

The protocol is ours (section 7 of the sheet; the paper's could not be read): for every target the questions of a policy
are answered as the error model has it, until the stop rule is met.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from scipy.stats import binomtest

from unmask.errors import DataError
from unmask.progress import SILENT, Progress
from unmask.tracing.attributes.dictionary import Dictionary
from unmask.tracing.attributes.models import Model
from unmask.tracing.attributes.values import ParsedTexts
from unmask.tracing.inference.belief import Answer, Belief, begin
from unmask.tracing.inference.conclusion import (
    StopRule,
    Subsets,
    affordable,
    conclude,
    core_identification_set,
    criterion,
)
from unmask.tracing.inference.questions import Policy, ranked
from unmask.tracing.registers.columns import check_columns, read_column
from unmask.tracing.registers.memory import MemoryRegister, coded

_BINS = 10  # of the reliability diagram


@dataclass(frozen=True)
class AnswerNoise:
    """How people really answer, which the data dictionary may have wrong.

    Attributes:
        error: factor on every attribute's stated error.
        missing: share of answers that are not to be had, beyond what the dictionary says.
        adversarial: attributes, drawn anew for each person, about which the answer is the most frequent value that
            speaks against the true one.
    """

    error: float = 1.0
    missing: float = 0.0
    adversarial: int = 0


@dataclass(frozen=True)
class Benchmark:
    """A register, people who are in it and people who are not.

    Attributes:
        register: what is traced in.
        answering: the models by which people answer, by attribute.
        rows: (T,) records of those who are in it.
        present, absent: true values of both kinds of people, by attribute; None: not recorded.
    """

    register: MemoryRegister
    answering: dict[str, Model]
    rows: np.ndarray
    present: list[dict[str, str | None]]
    absent: list[dict[str, str | None]]


@dataclass(frozen=True)
class Trial:
    """What came of one target. `row`: the true record, -1 for an absent one; `entropies`: at the start, after each."""

    row: int
    status: str
    named: int
    probability: float
    absent: float
    asked: int
    used: int
    cost: float
    core: int | None
    entropies: tuple[float, ...]
    seconds: float


def benchmark_of(
    table: pa.Table, dictionary: Dictionary, targets: int, absentees: int, noise: AnswerNoise, seed: int = 0
) -> Benchmark:
    """Draw targets, and hold people out of the register who are then not in it.

    Args:
        table: with everybody.
        dictionary: what is believed of the columns.
        targets, absentees: number of people in the register to be traced, and of those to be held out.
        noise: how people really answer.
        seed: of the draw.

    Raises:
        DataError: fewer records than are wanted; an error that the factor makes 1 or more.
    """
    if targets < 1 or absentees < 0 or targets + absentees > table.num_rows:
        raise DataError(
            f"{targets} targets and {absentees} absent people need a register of so many; it has {table.num_rows}"
        )
    check_columns(dictionary, table.column_names)
    # Read with everybody in it: those who are held out may be the ones who tell the day from the month.
    read = {
        name: read_column(name, attribute, table[name])
        for name, attribute in dictionary.used.items()
        if attribute.kind != "score"
    }
    attributes = dictionary.attributes | {name: reading.attribute for name, (_, reading) in read.items()}
    # Of the absent, values that no record has must be answers too.
    opened = {
        name: attribute.model_copy(update={"open": True}) if attribute.kind == "categorical" else attribute
        for name, attribute in attributes.items()
    }
    believed = dictionary.model_copy(update={"attributes": opened})
    chosen = np.random.default_rng([seed, 0]).permutation(table.num_rows)
    inside = np.sort(chosen[absentees:])
    register = coded(table.take(pa.array(inside)), believed, "simulated")
    register.notes = (*(note for _, reading in read.values() for note in reading.notes), *register.notes)
    names = tuple(name for name, model in register.models.items() if model.attribute.kind != "score")
    rows = np.random.default_rng([seed, 1]).choice(register.size, targets, replace=False)
    values = [register.models[name].values for name in names]
    present = [
        {
            name: values[place][code - 1] if code else None
            for place, (name, code) in enumerate(zip(names, codes, strict=True))
        }
        for codes in register.codes(rows, names).tolist()
    ]
    texts = {name: _texts(*read[name], chosen[:absentees]) for name in names}
    return Benchmark(
        register,
        {name: _answering(register.models[name], noise) for name in names},
        rows,
        present,
        [dict(zip(texts, row, strict=True)) for row in zip(*texts.values(), strict=True)],
    )


def _texts(index: pa.Array, reading: ParsedTexts, rows: np.ndarray) -> list[str | None]:
    return [None if place is None else reading.values[place] for place in index.take(pa.array(rows)).to_pylist()]


def _answering(model: Model, noise: AnswerNoise) -> Model:
    """The model by which people really answer."""
    error = model.attribute.error * noise.error
    if not error < 1.0:
        raise DataError(f"{model.name}: an error of {model.attribute.error:g} times {noise.error:g} is 1 or more")
    return model.with_error(error)


def run(
    benchmark: Benchmark,
    policy: Policy = "info_gain",
    rule: StopRule | None = None,
    noise: AnswerNoise | None = None,
    seed: int = 0,
    order: Sequence[str] = (),
    progress: Progress = SILENT,
) -> list[Trial]:
    """Trace everybody of a benchmark; the same seed gives the same answers whatever the policy asks for.

    Args:
        benchmark: who is traced in what.
        policy, order: see `ranked`.
        rule: when to stop.
        noise: how people really answer.
        seed: of answers, and of the "random" policy.
        progress: counts the people; the stage is the policy.
    """
    start = begin(benchmark.register)
    people = [
        *zip(benchmark.rows.tolist(), benchmark.present, strict=True),
        *((-1, person) for person in benchmark.absent),
    ]
    trials = []
    for number, (row, person) in enumerate(people):
        trials.append(
            _traced(
                start, benchmark, row, person, policy, rule or StopRule(), noise or AnswerNoise(), (seed, number), order
            )
        )
        progress.update(policy, number + 1, len(people))
    return trials


def _traced(
    belief: Belief,
    benchmark: Benchmark,
    row: int,
    person: dict[str, str | None],
    policy: Policy,
    rule: StopRule,
    noise: AnswerNoise,
    seed: tuple[int, int],
    order: Sequence[str],
) -> Trial:
    answers = answers_of(benchmark, person, noise, seed)
    choosing = np.random.default_rng([*seed, 1])
    entropies, cost, begun = [belief.entropy], 0.0, time.perf_counter()
    while True:
        questions = ranked(belief, policy, order, choosing)
        conclusion = conclude(belief, rule, questions, cost)
        if conclusion is not None:
            break
        question = affordable(questions, rule, cost)[0]
        name = question.attribute
        cost += question.cost
        belief = belief.update(Answer(name, answers[name]))
        entropies.append(belief.entropy)
    seconds = time.perf_counter() - begun
    used = sum(answer.value is not None for answer in belief.answers)
    core = None
    if conclusion.status in ("identified", "not_in_register"):
        core_set = core_identification_set(
            Subsets(belief), criterion(rule, conclusion.status), conclusion.status == "not_in_register"
        )
        core = None if core_set is None else len(core_set.names)
    first = belief.candidates[0]
    return Trial(
        row, conclusion.status, first.row, first.probability, belief.absent, len(belief.answers), used, cost, core,
        tuple(entropies), seconds,
    )  # fmt: skip


def answers_of(
    benchmark: Benchmark, person: dict[str, str | None], noise: AnswerNoise, seed: tuple[int, int]
) -> dict[str, str | None]:
    """What one person would answer about each attribute; None: not to be had.

    Args:
        benchmark, noise: as in `run`.
        person: their true values, one of `benchmark.present` or `benchmark.absent`.
        seed: of the run, and the person's number in it: those present come first.
    """
    randomness = np.random.default_rng([*seed, 0])
    about_others = _about_others(benchmark, noise, np.random.default_rng([*seed, 2]))
    answers: dict[str, str | None] = {}
    adversarial = set(randomness.permutation(len(benchmark.answering))[: noise.adversarial].tolist())
    for place, (name, model) in enumerate(benchmark.answering.items()):
        available = randomness.random() < model.attribute.availability * (1.0 - noise.missing)
        slip = randomness.random() < model.attribute.error
        value = person[name]
        code = 0 if value is None else model.code_of(value)
        drawn = model.draw(max(code, 0), randomness)
        if not available:
            answers[name] = None
        elif place in adversarial:
            answers[name] = _adversarial_answer(benchmark.register.models[name], code)
        elif model.attribute.group in about_others:
            answers[name] = model.draw(0, randomness)
        else:
            answers[name] = value if code < 0 and not slip else drawn
    return answers


def _about_others(benchmark: Benchmark, noise: AnswerNoise, randomness: np.random.Generator) -> set[str]:
    """Groups whose answers are all about somebody else."""
    groups = benchmark.register.dictionary.groups
    return {name for name, group in groups.items() if randomness.random() < group.error * noise.error}


def _adversarial_answer(model: Model, code: int) -> str:
    """The most frequent value that speaks against the true one; if none does, the most frequent one."""
    likeliest = np.argsort(-model.counts[1:], kind="stable")
    for place in likeliest.tolist():
        if place != code - 1 and (code <= 0 or model.log_ratios(model.values[place])[code] < 0.0):
            return model.values[place]
    return model.values[int(likeliest[0])]


ShareInterval = tuple[float, float, float]


@dataclass(frozen=True)
class TrialSummary:
    """The protocol's line. Shares have 95 % intervals by Wilson's method: (value, low, high); None
    where there is no person to take it of."""

    top1: ShareInterval | None
    decided: ShareInterval | None
    right_if_decided: ShareInterval | None
    false_identified: ShareInterval | None
    found_absent: ShareInterval | None
    missed: ShareInterval | None
    answers: float
    cost: float
    core: float | None
    entropy_area: float
    calibration_error: float
    ms_per_step: float


def summary(trials: Sequence[Trial], prior_absent: float) -> TrialSummary:
    """Sum trials up.

    Args:
        trials: of one setting.
        prior_absent: the dictionary's; the calibration error weighs absent people so.
    """
    present = [trial for trial in trials if trial.row >= 0]
    absent = [trial for trial in trials if trial.row < 0]
    decided = [trial for trial in present if trial.status == "identified"]
    cores = [trial.core for trial in present if trial.core is not None]
    return TrialSummary(
        top1=_share([trial.named == trial.row for trial in present]),
        decided=_share([trial.status == "identified" for trial in present]),
        right_if_decided=_share([trial.named == trial.row for trial in decided]),
        false_identified=_share([trial.status == "identified" for trial in absent]),
        found_absent=_share([trial.status == "not_in_register" for trial in absent]),
        missed=_share([trial.status == "not_in_register" for trial in present]),
        answers=float(np.mean([trial.used for trial in present])),
        cost=float(np.mean([trial.cost for trial in present])),
        core=float(np.mean(cores)) if cores else None,
        entropy_area=float(np.mean([sum(trial.entropies[:-1]) for trial in present])),
        calibration_error=calibration_error(trials, prior_absent),
        ms_per_step=1000.0 * sum(trial.seconds for trial in trials) / sum(trial.asked + 1 for trial in trials),
    )


def calibration_error(trials: Sequence[Trial], prior_absent: float) -> float:
    """Expected calibration error of the leading record's probability, in ten bins; absent people weigh as believed."""
    lead = np.array([trial.probability for trial in trials])
    right = np.array([trial.named == trial.row for trial in trials], float)
    here = np.array([trial.row >= 0 for trial in trials])
    weights = np.where(here, 1.0 / max(here.sum(), 1), 0.0)
    if not here.all():
        weights = np.where(here, (1.0 - prior_absent) * weights, prior_absent / (~here).sum())
    bins = np.minimum((lead * _BINS).astype(int), _BINS - 1)
    apart = np.bincount(bins, weights=weights * (lead - right), minlength=_BINS)
    return float(np.abs(apart).sum() / weights.sum())


def _share(hits: Sequence[bool]) -> ShareInterval | None:
    if not hits:
        return None
    interval = binomtest(sum(hits), len(hits)).proportion_ci(method="wilson")
    return (sum(hits) / len(hits), float(interval.low), float(interval.high))
