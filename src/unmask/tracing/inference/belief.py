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
from unmask.tracing.inference.not_in_register import Absentees, Given
from unmask.tracing.registers.base import Register
from unmask.tracing.registers.weighing import Listed, Source, Sources, Weighed


@dataclass(frozen=True)
class Answer:
    """One answer about the person.

    Attributes:
        attribute: about what.
        told: a value, shares over values (uncertain), scores by identifier (a score attribute), or None: unavailable.
        trust: probability that it is about the person at all, in (0, 1]; below 1 for a suspicious picture.
    """

    attribute: str
    told: str | Mapping[str, float] | None
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
        register, absentees, answers: what it rests on.
        sources: the answers as evidence.
        weighed: the records weighed by it.
        absent: probability that the person is not in the register.
        entropy: of person and "not in the register" together, in bits.
    """

    register: Register
    absentees: Absentees
    answers: tuple[Answer, ...] = ()
    sources: Sources = ()
    weighed: Weighed = field(repr=False, default=None)  # type: ignore[assignment]  # set by `begin` and `told`
    absent: float = 0.0
    entropy: float = 0.0

    @property
    def candidates(self) -> tuple[Candidate, ...]:
        """The likeliest records, likeliest first."""
        shares = (1.0 - self.absent) * np.exp(self.weighed.log_shares)
        return tuple(Candidate(int(row), float(share)) for row, share in zip(self.weighed.rows, shares, strict=True))

    @property
    def asked(self) -> frozenset[str]:
        """Attributes that have been answered, or were found to be unavailable."""
        return frozenset(answer.attribute for answer in self.answers)

    @cached_property
    def ratios(self) -> dict[str, np.ndarray]:
        """What each answer says of each code: exp of its table, trust and all."""
        return {name: np.exp(source.trusted(table)) for source in self.sources for name, table in source.tables.items()}

    @cached_property
    def of_absent(self) -> Given:
        """What an absent person's answers look like, after these."""
        return self.absentees.given(self.ratios)

    @cached_property
    def _trusts(self) -> dict[str, float]:
        return {}

    def trust_in(self, group: str) -> float:
        """Probability that the source of a group's answers is about the person at all, after the answers so far.

        1 - (1 - trust) Z' / Z, with Z the probability of all answers and Z' that of those from other sources, up to the
        same factor.
        """
        if group not in self._trusts:
            attributes = self.register.dictionary.attributes
            others = tuple(source for source in self.sources if attributes[source.names[0]].group != group)
            own = [source for source in self.sources if source not in others]
            if not own:
                self._trusts[group] = 1.0 - self.register.dictionary.groups[group].error
            else:
                ratios = {name: ratio for name, ratio in self.ratios.items() if name not in own[0].names}
                without = self._log_evidence(self.register.weigh(others).log_mean, self.absentees.given(ratios))
                change = without - self._log_evidence(self.weighed.log_mean, self.of_absent)
                doubted = (1.0 - own[0].trust) * np.exp(min(change, 700.0))
                self._trusts[group] = float(np.clip(1.0 - doubted, 1e-9, 1.0))
        return self._trusts[group]

    def _log_evidence(self, log_mean: float, of_absent: Given) -> float:
        prior = self.register.dictionary.absent
        within = float(np.log1p(-prior)) + log_mean
        return within if prior == 0.0 else float(np.logaddexp(within, np.log(prior) + of_absent.log_ratio))

    def told(self, *answers: Answer) -> "Belief":
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


def begin(register: Register, absentees: Absentees | None = None) -> Belief:
    """The belief before any answer."""
    dependent = register.dictionary.absentees == "tree"
    return _believed(Belief(register, absentees or Absentees(register, dependent)), ())


def _believed(before: Belief, answers: tuple[Answer, ...]) -> Belief:
    register = before.register
    sources = _sources(register, answers, before.sources)
    weighed = register.weigh(sources, before.weighed)
    found = replace(before, answers=answers, sources=sources, weighed=weighed)
    prior = register.dictionary.absent
    if prior == 0.0:
        return replace(found, absent=0.0, entropy=weighed.entropy)
    # log odds of "in the register"
    odds = np.log1p(-prior) - np.log(prior) + weighed.log_mean - found.of_absent.log_ratio
    absent = float(1.0 / (1.0 + np.exp(np.clip(odds, -700.0, 700.0))))
    within = (1.0 - absent) * weighed.entropy
    which = sum(-p * np.log2(p) for p in (absent, 1.0 - absent) if p > 0.0)
    return replace(found, absent=absent, entropy=float(which + within))


def _sources(register: Register, answers: Sequence[Answer], known: Sources) -> Sources:
    """The answers as evidence: each its own source, in order, except those of a group, which are one.

    Sources of before are taken over as they are, so that a register can go on from where it was.
    """
    of_name = {source.names[0]: source for source in known if len(source.names) == 1}
    grouped: dict[str, list[tuple[Answer, Source]]] = {}
    single: list[Source] = []
    for answer in answers:
        if answer.told is None:
            _attribute(register, answer.attribute)
            continue
        group = _attribute(register, answer.attribute).group
        if group is None:
            single.append(of_name.get(answer.attribute) or _source(register, answer, answer.trust))
        else:
            grouped.setdefault(group, []).append((answer, _source(register, answer, 1.0)))
    for group, members in grouped.items():
        trust = (1.0 - register.dictionary.groups[group].error) * min(answer.trust for answer, _ in members)
        single.append(
            Source(
                {name: table for _, source in members for name, table in source.tables.items()},
                {name: listed for _, source in members for name, listed in source.scores.items()},
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


def _source(register: Register, answer: Answer, trust: float) -> Source:
    if not 0.0 < trust <= 1.0:
        raise DataError(f"{answer.attribute}: trust {trust:g} is not in (0, 1]")
    model = register.models[answer.attribute]
    if isinstance(model, Score):
        if not isinstance(answer.told, Mapping):
            raise DataError(f"{answer.attribute}: its answer is a file with a score per record, @FILE.csv")
        scores = np.array(list(answer.told.values()), float)
        if not len(scores) or not np.isfinite(scores).all():
            raise DataError(f"{answer.attribute}: scores must be there and finite")
        if not register.known(tuple(answer.told)):
            raise DataError(f"{answer.attribute}: none of these {len(scores)} scores is of a record of this register")
        listed = Listed(tuple(answer.told), model.of_scores(scores), model.unlisted)
        return Source(scores={answer.attribute: listed}, trust=trust)
    told = answer.told
    table = model.soft_log_ratios(told) if isinstance(told, Mapping) else model.log_ratios(str(told))
    return Source({answer.attribute: table}, trust=trust)
