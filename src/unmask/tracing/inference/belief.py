"""What is believed after some answers: who it may be, with which probability, and in how many bits that is open.

Exact Bayes over all records and "not in the register" (section 3 of the sheet; the formalisation is ours).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from unmask.errors import DataError
from unmask.tracing.attributes.dictionary import Attribute
from unmask.tracing.attributes.models import Score
from unmask.tracing.inference.not_in_register import NotInRegisterModel, NotInRegisterPredictive
from unmask.tracing.registers.base import Register
from unmask.tracing.registers.weighing import AnswerLikelihood, Likelihoods, RecordRatios, RecordWeights


@dataclass(frozen=True)
class Answer:
    """One answer about the person.

    Attributes:
        attribute: about what.
        value: of the attribute, shares over values (uncertain), scores by identifier (a score attribute), or None:
            unavailable.
        trust: probability that it is about the person at all, in (0, 1]; below 1 for a suspicious picture.
    """

    attribute: str
    value: str | Mapping[str, float] | None
    trust: float = 1.0


@dataclass(frozen=True)
class Candidate:
    """A record that it may be."""

    row: int
    probability: float


@dataclass(frozen=True)
class Belief:
    """What is believed after `answers`.

    Attributes:
        register, absent_model, answers: what it rests on.
        likelihoods: the answers as evidence.
        weights: the records weights by it.
        absent: probability that the person is not in the register.
        entropy: of person and "not in the register" together, in bits.
    """

    register: Register
    absent_model: NotInRegisterModel
    answers: tuple[Answer, ...] = ()
    likelihoods: Likelihoods = ()
    weights: RecordWeights = field(repr=False, default=None)  # type: ignore[assignment]  # set by `begin` and `update`
    absent: float = 0.0
    entropy: float = 0.0

    @property
    def candidates(self) -> tuple[Candidate, ...]:
        """The likeliest records, likeliest first."""
        shares = (1.0 - self.absent) * np.exp(self.weights.log_shares)
        return tuple(Candidate(int(row), float(share)) for row, share in zip(self.weights.rows, shares, strict=True))

    @property
    def asked(self) -> frozenset[str]:
        """Attributes that have been answered, or were found to be unavailable."""
        return frozenset(answer.attribute for answer in self.answers)

    @cached_property
    def ratios(self) -> dict[str, np.ndarray]:
        """What each answer says of each code: exp of its table, trust and all."""
        return {
            name: np.exp(likelihood.trusted(table))
            for likelihood in self.likelihoods
            for name, table in likelihood.tables.items()
        }

    @cached_property
    def absent_predictive(self) -> NotInRegisterPredictive:
        """What an absent person's answers look like, after these."""
        return self.absent_model.given(self.ratios)

    @cached_property
    def _trusts(self) -> dict[str, float]:
        return {}

    def trust_in(self, group: str) -> float:
        """Probability that the source of a group's answers is about the person at all, after the answers so far.

        1 - (1 - trust) Z' / Z, with Z the probability of all answers and Z' that of those from other sources, up
        to the same factor.
        """
        if group not in self._trusts:
            attributes = self.register.dictionary.attributes
            others = tuple(
                likelihood for likelihood in self.likelihoods if attributes[likelihood.names[0]].group != group
            )
            own = [likelihood for likelihood in self.likelihoods if likelihood not in others]
            if not own:
                self._trusts[group] = 1.0 - self.register.dictionary.groups[group].error
            else:
                ratios = {name: ratio for name, ratio in self.ratios.items() if name not in own[0].names}
                without = self._log_evidence(self.register.weigh(others).log_mean, self.absent_model.given(ratios))
                change = without - self._log_evidence(self.weights.log_mean, self.absent_predictive)
                doubted = (1.0 - own[0].trust) * np.exp(min(change, 700.0))
                self._trusts[group] = float(np.clip(1.0 - doubted, 1e-9, 1.0))
        return self._trusts[group]

    def _log_evidence(self, log_mean: float, absent_predictive: NotInRegisterPredictive) -> float:
        prior = self.register.dictionary.absent
        within = float(np.log1p(-prior)) + log_mean
        return within if prior == 0.0 else float(np.logaddexp(within, np.log(prior) + absent_predictive.log_ratio))

    def update(self, *answers: Answer) -> "Belief":
        """The belief after further answers; in one go or one by one is the same.

        Raises:
            DataError: unknown attribute, one that was answered before, or no answer about it.
        """
        asked = set(self.asked)
        for answer in answers:
            if answer.attribute in asked:
                raise DataError(f"{answer.attribute}: was answered before; undo that answer to give another")
            asked.add(answer.attribute)
        return _believed(self, (*self.answers, *answers))


def begin(register: Register, absent_model: NotInRegisterModel | None = None) -> Belief:
    """The belief before any answer."""
    dependent = register.dictionary.absentees == "tree"
    return _believed(Belief(register, absent_model or NotInRegisterModel(register, dependent)), ())


def _believed(before: Belief, answers: tuple[Answer, ...]) -> Belief:
    register = before.register
    likelihoods = _likelihoods(register, answers, before.likelihoods)
    weights = register.weigh(likelihoods, before.weights)
    belief = replace(before, answers=answers, likelihoods=likelihoods, weights=weights)
    prior = register.dictionary.absent
    if prior == 0.0:
        return replace(belief, absent=0.0, entropy=weights.entropy)
    # log odds of "in the register"
    odds = np.log1p(-prior) - np.log(prior) + weights.log_mean - belief.absent_predictive.log_ratio
    absent = float(1.0 / (1.0 + np.exp(np.clip(odds, -700.0, 700.0))))
    within = (1.0 - absent) * weights.entropy
    which = sum(-p * np.log2(p) for p in (absent, 1.0 - absent) if p > 0.0)
    return replace(belief, absent=absent, entropy=float(which + within))


def _likelihoods(register: Register, answers: Sequence[Answer], known: Likelihoods) -> Likelihoods:
    """The answers as evidence: one likelihood each, in order, but one for all of a group.

    Sources of before are taken over as they are, so that a register can go on from where it was.
    """
    of_name = {likelihood.names[0]: likelihood for likelihood in known if len(likelihood.names) == 1}
    grouped: dict[str, list[tuple[Answer, AnswerLikelihood]]] = {}
    single: list[AnswerLikelihood] = []
    for answer in answers:
        if answer.value is None:
            _attribute(register, answer.attribute)
            continue
        group = _attribute(register, answer.attribute).group
        if group is None:
            single.append(of_name.get(answer.attribute) or _likelihood(register, answer, answer.trust))
        else:
            grouped.setdefault(group, []).append((answer, _likelihood(register, answer, 1.0)))
    for group, members in grouped.items():
        trust = (1.0 - register.dictionary.groups[group].error) * min(answer.trust for answer, _ in members)
        single.append(
            AnswerLikelihood(
                {name: table for _, likelihood in members for name, table in likelihood.tables.items()},
                {name: listed for _, likelihood in members for name, listed in likelihood.scores.items()},
                trust,
            )
        )
    return tuple(single)


def _attribute(register: Register, name: str) -> Attribute:
    attribute = register.dictionary.attributes.get(name)
    if attribute is None or name not in register.models:
        known = ", ".join(register.models)
        raise DataError(f"{name!r} is not an attribute of this register; it has {known}")
    return attribute


def _likelihood(register: Register, answer: Answer, trust: float) -> AnswerLikelihood:
    if not 0.0 < trust <= 1.0:
        raise DataError(f"{answer.attribute}: trust {trust:g} is not in (0, 1]")
    model = register.models[answer.attribute]
    if isinstance(model, Score):
        if not isinstance(answer.value, Mapping):
            raise DataError(f"{answer.attribute}: its answer is a file with a score per record, @FILE.csv")
        scores = np.array(list(answer.value.values()), float)
        if not len(scores) or not np.isfinite(scores).all():
            raise DataError(f"{answer.attribute}: scores must be there and finite")
        if not register.known(tuple(answer.value)):
            raise DataError(f"{answer.attribute}: none of these {len(scores)} scores is of a record of this register")
        listed = RecordRatios(tuple(answer.value), model.of_scores(scores), model.unlisted)
        return AnswerLikelihood(scores={answer.attribute: listed}, trust=trust)
    value = answer.value
    table = model.soft_log_ratios(value) if isinstance(value, Mapping) else model.log_ratios(str(value))
    return AnswerLikelihood({answer.attribute: table}, trust=trust)
