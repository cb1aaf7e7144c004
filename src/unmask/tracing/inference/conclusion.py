"""When a conclusion is reached, on which answers it rests, and what if one of them is wrong."""

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from unmask.tracing.inference.belief import Belief
from unmask.tracing.inference.questions import Question, open_questions

Status = Literal["identified", "candidate_set", "not_in_register", "undetermined"]
# Answers whose subsets are all tried for the smallest core set, if the patterns of all subsets are no more than that:
_EXACT, _WORK = 12, 1 << 26
_NEGLIGIBLE = 1e-6  # of the leading record's mass


def percent(share: float) -> str:
    """A probability for people: "96.2 %"; never certain, and never impossible unless it was ruled out beforehand."""
    if 0.0 < share < 0.0005:
        return "<0.1 %"
    return ">99.9 %" if share >= 0.9995 else f"{100 * share:.1f} %"


@dataclass(frozen=True)
class StopRule:
    """When to stop asking.

    Attributes:
        identified: probability from which a record is the person.
        ratio: how many times likelier than the next record it must be.
        weak: probability that must remain whichever single answer is left out, if `robust`.
        robust: whether a conclusion must not hang on one answer.
        absent: probability from which the person is not in the register.
        least_bits: expected bits per cost below which a question is not worth asking.
        budget: cost that may be spent; None: any.
    """

    identified: float = 0.95
    ratio: float = 10.0
    weak: float = 0.5
    robust: bool = False
    absent: float = 0.95
    least_bits: float = 0.01
    budget: float | None = None


@dataclass(frozen=True)
class TraceConclusion:
    """What can be said. `rows`: the record, or the records that cannot be told apart; `reason`: one sentence."""

    status: Status
    rows: tuple[int, ...]
    count: int
    probability: float
    reason: str


@dataclass(frozen=True)
class Posterior:
    """After some of the answers: probability of the leading record, of the next one, of "not in the register"."""

    probability: float
    second: float
    absent: float


class Subsets:
    """The belief that a part of the answers alone would give, about the record that now leads.

    Args:
        belief: after all answers.
        one_left_out: whether no more than one answer will be left out. Records that cannot hold a millionth of what the
            leading one does, whichever answer that is, are not looked at then.
    """

    def __init__(self, belief: Belief, one_left_out: bool = False) -> None:
        self._belief = belief
        leader = int(belief.weights.rows[0])
        own = self._of_row(leader)
        self._patterns = belief.weights.patterns(self._negligible(own) if one_left_out else 0.0)
        self.names = self._patterns.names
        self._leader = int(np.argmin(np.abs(self._patterns.log_ratios - own).sum(axis=1)))
        self._columns = np.ascontiguousarray(self._patterns.log_ratios.T)
        self._alone = self._patterns.counts[self._leader] == 1

    def _negligible(self, own: np.ndarray) -> float:
        """Share of the mass that stays under a millionth of the leading record's whichever answer is left out.

        Without an answer a record can gain what that answer says against it, and the leading one lose what it says for
        it; trust makes both less.
        """
        lowest = [float(table.min()) for likelihood in self._belief.likelihoods for table in likelihood.tables.values()]
        for likelihood in self._belief.likelihoods:
            for listed in likelihood.scores.values():
                lowest.append(min(listed.unlisted, float(listed.log_ratios.min())))
        apart = max(-min(lowest, default=0.0), 0.0) + max(float(own.max(initial=0.0)), 0.0)
        return float(_NEGLIGIBLE * np.exp(self._belief.weights.log_shares[0] - apart))

    def _of_row(self, row: int) -> np.ndarray:
        """The log ratios of one record, in the order of the names."""
        register, ratios = self._belief.register, []
        identifier = register.ids(np.array([row]))[0]
        for likelihood in self._belief.likelihoods:
            codes = register.codes(np.array([row]), tuple(likelihood.tables))[0]
            ratios += [table[code] for table, code in zip(likelihood.tables.values(), codes, strict=True)]
            for listed in likelihood.scores.values():
                of_id = dict(zip(listed.ids, listed.log_ratios, strict=True))
                ratios.append(of_id.get(identifier, listed.unlisted))
        return np.array(ratios)

    @cached_property
    def leading(self) -> np.ndarray:
        """Log weight of each answer for the record that leads, (A,), natural; heeds trust where an answer is alone."""
        ratios = self._patterns.log_ratios[self._leader].copy()
        for likelihood in self._belief.likelihoods:
            if len(likelihood.names) == 1:
                place = self.names.index(likelihood.names[0])
                ratios[place] = likelihood.trusted(ratios[place])
        return ratios

    def posterior(self, names: Iterable[str]) -> Posterior:
        """On these answers alone."""
        chosen, belief, counts = set(names), self._belief, self._patterns.counts
        logs = np.zeros(len(counts))
        for likelihood in belief.likelihoods:
            columns = [self._columns[self.names.index(name)] for name in likelihood.names if name in chosen]
            if columns:
                logs += likelihood.trusted(sum(columns[1:], columns[0]))
        top = float(logs.max())
        weights = np.exp(logs - top)
        size = belief.register.size
        present = float(counts @ weights) / size
        ratios = {name: ratio for name, ratio in belief.ratios.items() if name in chosen}
        prior = belief.register.dictionary.absent
        absent = prior * np.exp(np.clip(belief.absent_model.given(ratios).log_ratio - top, -700.0, 700.0))
        whole = (1.0 - prior) * present + absent
        leading = float(weights[self._leader])
        if self._alone:
            weights[self._leader] = 0.0
        share = (1.0 - prior) / (size * whole)
        return Posterior(float(share * leading), float(share * weights.max()), float(absent / whole))

    @property
    def work(self) -> int:
        """Patterns that are gone through for one subset."""
        return len(self._patterns.counts)


def affordable(questions: Sequence[Question], rule: StopRule, spent: float) -> list[Question]:
    """The questions that the budget still allows, in the same order."""
    return [question for question in questions if rule.budget is None or spent + question.cost <= rule.budget]


def conclude(belief: Belief, rule: StopRule, questions: list[Question], spent: float = 0.0) -> TraceConclusion | None:
    """The conclusion, or None: ask on.

    Args:
        belief: after the answers.
        rule: when to stop.
        questions: those that may be asked next.
        spent: cost of the answers so far.
    """
    candidates = belief.candidates
    first, single = candidates[0], None
    if belief.absent >= rule.absent:
        single = _single_point_of_failure(belief, rule, absent=True)
        if single is None:
            reason = f"no record fits: {percent(belief.absent)} that the person is not in the register"
            return TraceConclusion("not_in_register", (), 0, belief.absent, reason)
    elif _identified(rule, Posterior(first.probability, candidates[1].probability if candidates[1:] else 0.0, 0.0)):
        single = _single_point_of_failure(belief, rule)
        if single is None:
            reason = f"{percent(first.probability)} that this is the person"
            return TraceConclusion("identified", (first.row,), 1, first.probability, reason)
    alike = _indistinguishable(belief)
    mass = sum(candidate.probability for candidate in candidates if candidate.row in alike)
    named_all = len(alike) < len(candidates) or belief.weights.tied <= len(alike)
    if len(alike) > 1 and named_all and mass >= rule.identified:
        reason = f"{len(alike)} records that nothing that may be asked tells apart hold {percent(mass)} together"
        return TraceConclusion("candidate_set", alike, len(alike), mass, reason)
    payable = affordable(questions, rule, spent)
    if any(question.utility >= rule.least_bits for question in payable):
        return None
    tied = belief.weights.tied
    mass = tied * first.probability
    if tied > 1 and mass >= rule.identified:
        rows = tuple(candidate.row for candidate in candidates[:tied])
        reason = f"{tied} records fit the answers equally and hold {percent(mass)} together"
        return TraceConclusion("candidate_set", rows, tied, mass, reason)
    if single is not None:
        share = max(belief.absent, first.probability)
        whom = "that the person is not in the register" if belief.absent >= rule.absent else "that this is the person"
        reason = f"{percent(share)} {whom}, but without the answer about {single} not even {percent(rule.weak)}"
    elif len(payable) < len(questions):
        reason = "the budget is spent"
    elif questions:
        reason = "no further question is expected to tell enough"
    else:
        reason = "there is nothing left to ask"
    reason += f"; the likeliest record has {percent(first.probability)}"
    if tied > 1:
        reason += f", and {tied - 1} more have as much"
    return TraceConclusion("undetermined", (), 0, first.probability, reason)


def _identified(rule: StopRule, posterior: Posterior) -> bool:
    return posterior.probability >= rule.identified and posterior.probability >= rule.ratio * posterior.second


def reason_to_go_on(belief: Belief, rule: StopRule) -> str:
    """Why there is more to ask, where `conclude` says so: one sentence."""
    first, *others = belief.candidates
    if _identified(rule, Posterior(first.probability, others[0].probability if others else 0.0, 0.0)):
        single = _single_point_of_failure(belief, rule)
        return f"{percent(first.probability)} that this is the person, but that hangs on the answer about {single}"
    if belief.absent >= rule.absent:
        single = _single_point_of_failure(belief, rule, absent=True)
        share = percent(belief.absent)
        return f"{share} that the person is not in the register, but that hangs on the answer about {single}"
    return "there is more worth asking"


def _single_point_of_failure(belief: Belief, rule: StopRule, absent: bool = False) -> str | None:
    """The one answer without which the conclusion, "not in the register" if `absent`, falls below `weak`; or None."""
    if not rule.robust:
        return None
    posteriors = without_each(Subsets(belief, one_left_out=True))
    left = {name: posterior.absent if absent else posterior.probability for name, posterior in posteriors.items()}
    name = min(left, key=lambda name: left[name], default=None)
    return name if name is not None and left[name] < rule.weak else None


def _indistinguishable(belief: Belief) -> tuple[int, ...]:
    """The leading records that agree in all that was answered or may still be."""
    answered = {name for likelihood in belief.likelihoods for name in likelihood.tables}
    codes = belief.register.codes(belief.weights.rows, sorted(answered.union(open_questions(belief))))
    return tuple(int(row) for row in belief.weights.rows[(codes == codes[0]).all(axis=1)])


def without_each(subsets: Subsets) -> dict[str, Posterior]:
    """Counterfactuals: the posterior if one answer were left out, for every answer."""
    return {name: subsets.posterior(one for one in subsets.names if one != name) for name in subsets.names}


def criterion(rule: StopRule, status: Status) -> Callable[[Posterior], bool]:
    """What a posterior must meet for a conclusion, of "identified" and "not_in_register"."""
    if status == "not_in_register":
        return lambda posterior: posterior.absent >= rule.absent
    return lambda posterior: _identified(rule, posterior)


@dataclass(frozen=True)
class CoreIdentificationSet:
    """The core identification set: answers that alone suffice for the conclusion.

    Attributes:
        names: a set from which no answer can go; the smallest one if `exact`.
        indispensable: answers without which even all the others do not suffice.
        exact: whether all smaller sets were tried.
    """

    names: tuple[str, ...]
    indispensable: tuple[str, ...]
    exact: bool


def core_identification_set(
    subsets: Subsets, enough: Callable[[Posterior], bool], absent: bool = False
) -> CoreIdentificationSet | None:
    """The core identification set of the answers; None if even all of them do not suffice.

    Forward by weight of evidence, then reverse deletion; of up to 12 answers all smaller sets are tried too, as long as
    that takes seconds.

    Args:
        subsets: of the answers.
        enough: see `criterion`.
        absent: whether the conclusion is "not in the register".
    """
    every = subsets.names
    if not enough(subsets.posterior(every)):
        return None

    def weight(names: list[str]) -> float:
        posterior = subsets.posterior(names)
        return posterior.absent if absent else posterior.probability

    chosen: list[str] = []
    while not enough(subsets.posterior(chosen)):
        left = [name for name in every if name not in chosen]
        chosen.append(max(left, key=lambda name: weight([*chosen, name])))
    for name in list(chosen):
        fewer = [one for one in chosen if one != name]
        if enough(subsets.posterior(fewer)):
            chosen = fewer
    exact = len(every) <= _EXACT and subsets.work << len(every) <= _WORK
    if exact:
        smaller = (
            names
            for size in range(len(chosen))
            for names in itertools.combinations(every, size)
            if enough(subsets.posterior(names))
        )
        chosen = list(next(smaller, tuple(chosen)))
    needed = tuple(name for name in every if not enough(subsets.posterior(one for one in every if one != name)))
    return CoreIdentificationSet(tuple(name for name in every if name in chosen), needed, exact)
