"""One case from its first question to its report."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from unmask import __version__
from unmask.errors import DataError
from unmask.tracing.case.case_file import Event
from unmask.tracing.inference.belief import Answer, Belief, begin
from unmask.tracing.inference.conclusion import (
    StopRule,
    Subsets,
    TraceConclusion,
    affordable,
    conclude,
    core_identification_set,
    criterion,
    percent,
    reason_to_go_on,
    without_each,
)
from unmask.tracing.inference.questions import OFFERED, Policy, Question, expected_bits, open_questions, ranked
from unmask.tracing.registers.base import Register
from unmask.tracing.report.trace_report import (
    Asked,
    CandidateFinding,
    CoreFinding,
    Counterfactual,
    RegisterUse,
    Rules,
    Separator,
    Step,
    TraceReport,
    TraceTool,
)

_NAMED = 10  # candidates in a report
_NOT_NEGLIGIBLE = 0.001  # probability from which a record counts as a candidate


@dataclass(frozen=True)
class _Entry:
    """An answer, and where things stood after it."""

    event: Event
    entropy: float
    absent: float
    leader: str
    probability: float
    candidates: int

    @property
    def answer(self) -> Answer:
        return Answer(self.event.attribute, self.event.value, self.event.trust)


class Investigation:
    """A case: asks, takes answers and takes them back, concludes.

    Args:
        register: who may be meant.
        rule: when to stop.
        policy, order, seed: how questions are ranked; see `ranked`.
    """

    def __init__(
        self,
        register: Register,
        rule: StopRule | None = None,
        policy: Policy = "info_gain",
        order: Sequence[str] = (),
        seed: int = 0,
    ) -> None:
        self.register = register
        self.rule = rule or StopRule(robust=True)
        self.policy: Policy = policy
        self._order, self._seed = tuple(order), seed
        self._start = begin(register)
        self._entries: list[_Entry] = []
        #: What is believed now. Of earlier beliefs only figures are kept: each holds a weight per record.
        self.belief = self._start

    @property
    def spent(self) -> float:
        """Cost of all that was asked for, whether or not there was an answer."""
        attributes = self.register.dictionary.attributes
        return sum(attributes[entry.event.attribute].cost for entry in self._entries)

    def questions(self) -> list[Question]:
        """The open questions that the budget allows, best first; the same until the next event."""
        return affordable(self._ranked(), self.rule, self.spent)

    def _ranked(self) -> list[Question]:
        randomness = np.random.default_rng([self._seed, len(self._entries)])
        return ranked(self.belief, self.policy, self._order, randomness)

    def conclusion(self) -> TraceConclusion | None:
        """The conclusion, or None while there is something worth asking."""
        return conclude(self.belief, self.rule, self._ranked(), self.spent)

    def apply(self, event: Event) -> None:
        """Take in an event, new or from a case file.

        Raises:
            DataError: an answer that is none, or to a question that was answered; nothing to take back.
        """
        if event.event == "undo":
            if not self._entries:
                raise DataError("there is no answer to take back")
            self._entries.pop()
            self.belief = self._start.update(*(entry.answer for entry in self._entries))
            return
        answer = Answer(event.attribute, event.value, event.trust)
        self.belief = belief = self.belief.update(answer)
        first = belief.candidates[0]
        self._entries.append(
            _Entry(
                event,
                belief.entropy,
                belief.absent,
                self.register.ids(np.array([first.row]))[0],
                first.probability,
                sum(one.probability >= _NOT_NEGLIGIBLE for one in belief.candidates),
            )
        )

    def tied(self, most: int) -> tuple[CandidateFinding, ...]:
        """The records that fit the answers as well as the best does, `most` of them; none before an answer."""
        belief = self.belief
        if not belief.likelihoods:
            return ()
        probability, ratio = belief.candidates[0].probability, float(self._log10_lr(belief)[0])
        return tuple(
            CandidateFinding(id=one, probability=probability, log10_lr=ratio) for one in belief.weights.tied_ids(most)
        )

    def report(self, path: str, dictionary_sha256: str, command: str, purpose: str = "") -> TraceReport:
        """The report as things stand.

        Args:
            path: of the register, as shown.
            dictionary_sha256: of the data dictionary in use.
            command: that repeats it.
            purpose: of the case, as stated.
        """
        belief = self.belief
        conclusion = self.conclusion()
        subsets = Subsets(belief, one_left_out=True)
        status = "open" if conclusion is None else conclusion.status
        core = None
        if conclusion is not None and conclusion.status in ("identified", "not_in_register"):
            core = core_identification_set(
                Subsets(belief), criterion(self.rule, conclusion.status), conclusion.status == "not_in_register"
            )
        rule = self.rule
        return TraceReport(
            tool=TraceTool(version=__version__, command=command),
            searched=RegisterUse(
                path=path,
                sha256=self.register.fingerprint,
                records=self.register.size,
                dictionary_sha256=dictionary_sha256,
                absent=self.register.dictionary.absent,
                absentees=self.register.dictionary.absentees,
            ),
            purpose=purpose,
            rules=Rules(
                identified=rule.identified,
                ratio=rule.ratio,
                weak=rule.weak if rule.robust else None,
                absent=rule.absent,
                least_bits=rule.least_bits,
                budget=rule.budget,
                policy=self.policy,
            ),
            status=status,
            reason=reason_to_go_on(belief, self.rule) if conclusion is None else conclusion.reason,
            statement=self._statement(conclusion),
            candidates=self._candidates(conclusion),
            candidate_count=0 if conclusion is None else conclusion.count,
            absent=belief.absent,
            entropy_start=self._start.entropy,
            entropy=belief.entropy,
            cost=self.spent,
            steps=self.steps(subsets),
            next=tuple(_asked(question) for question in self.questions()[:OFFERED]) if conclusion is None else (),
            separators=self._separators(),
            core_set=None
            if core is None
            else CoreFinding(names=core.names, indispensable=core.indispensable, exact=core.exact),
            counterfactuals=tuple(
                Counterfactual(without=name, probability=posterior.probability, absent=posterior.absent)
                for name, posterior in without_each(subsets).items()
            ),
            notes=self.register.notes,
        )

    def _log10_lr(self, belief: Belief) -> np.ndarray:
        """Of the candidates, against anybody who is not in the register."""
        logs = belief.weights.log_shares + belief.weights.log_mean + np.log(self.register.size)
        return (logs - belief.absent_predictive.log_ratio) / np.log(10.0)

    def _candidates(self, conclusion: TraceConclusion | None) -> tuple[CandidateFinding, ...]:
        belief = self.belief
        if not belief.likelihoods:
            return ()  # everybody alike: naming ten of them would mislead
        most = max(_NAMED, len(conclusion.rows) if conclusion is not None else 0)
        ids = self.register.ids(belief.weights.rows[:most])
        return tuple(
            CandidateFinding(id=one, probability=candidate.probability, log10_lr=float(ratio))
            for one, candidate, ratio in zip(ids, belief.candidates, self._log10_lr(belief), strict=False)
        )

    def _statement(self, conclusion: TraceConclusion | None) -> str:
        """The conclusion in terms of the likelihood ratio, then of the prior that turns it into a probability."""
        belief, prior = self.belief, self.register.dictionary.absent
        if not belief.likelihoods:
            return "Nothing is known of the person yet."
        ratio = float(self._log10_lr(belief)[0])
        name = self.register.ids(belief.weights.rows[:1])[0]
        direction, whom = ("more", "") if ratio >= 0 else ("less", ", whom they fit best,")
        ratio_text = (
            f"The answers are {_times(abs(ratio))} {direction} probable if the person is {name}{whom} than if it is "
            "somebody who is not in the register"
        )
        size = f"{self.register.size:,}"
        before = f"{percent(1 - prior)} that the person is one of its {size} records, all alike"
        if prior == 0.0:
            before = f"taken for certain that the person is one of its {size} records, all alike"
        if conclusion is not None and conclusion.status == "not_in_register":
            return (
                f"{ratio_text}. Beforehand it was {before}; now it is {percent(belief.absent)} that it is none of them."
            )
        if conclusion is not None and conclusion.status == "candidate_set":
            share = percent(conclusion.probability)
            now = f"{share} that it is one of {conclusion.count:,} records that are alike in this"
            return f"{ratio_text}. Beforehand it was {before}; now it is {now}."
        probability = percent(belief.candidates[0].probability)
        others = f", and as much for {belief.weights.tied - 1:,} others each" if belief.weights.tied > 1 else ""
        return f"{ratio_text}. Beforehand it was {before}; now it is {probability} that it is {name}{others}."

    def steps(self, subsets: Subsets | None = None) -> tuple[Step, ...]:
        """What each answer did; with the weights of `subsets`, if given."""
        weights = {} if subsets is None else dict(zip(subsets.names, subsets.leading / np.log(2.0), strict=True))
        before, steps = self._start.entropy, []
        for entry in self._entries:
            event = entry.event
            shown = tuple(self._shown(name, bits) for name, bits in event.shown)
            answer = dict(event.value) if isinstance(event.value, Mapping) else event.value
            if isinstance(answer, dict) and self.register.dictionary.attributes[event.attribute].kind == "score":
                answer = f"scores of {len(answer)} records"
            steps.append(
                Step(
                    attribute=event.attribute,
                    told=answer,
                    trust=event.trust,
                    picture=event.picture,
                    time=event.time or None,
                    shown=shown,
                    overrode=event.overrode,
                    expected={one.attribute: one.bits for one in shown}.get(event.attribute),
                    entropy_before=before,
                    entropy_after=entry.entropy,
                    bits=before - entry.entropy,
                    weight=float(weights[event.attribute]) if event.attribute in weights else None,
                    absent=entry.absent,
                    leader=entry.leader,
                    probability=entry.probability,
                    candidates=entry.candidates,
                )
            )
            before = entry.entropy
        return tuple(steps)

    def _shown(self, name: str, bits: float) -> Asked:
        attribute = self.register.dictionary.attributes[name]
        return Asked(attribute=name, bits=bits, availability=attribute.availability, cost=attribute.cost)

    def _separators(self) -> tuple[Separator, ...]:
        """Open questions in which the two likeliest records differ, most telling first."""
        belief = self.belief
        names = open_questions(belief)
        if not belief.likelihoods or len(belief.weights.rows) < 2 or not names:
            return ()
        first, second = self.register.codes(belief.weights.rows[:2], names)
        bits = expected_bits(belief, names)
        apart = [
            place for place in range(len(names)) if first[place] != second[place] and first[place] and second[place]
        ]
        apart.sort(key=lambda place: -bits[names[place]])
        values = [self.register.models[name].values for name in names]
        return tuple(
            Separator(
                attribute=names[place],
                first=values[place][first[place] - 1],
                second=values[place][second[place] - 1],
            )
            for place in apart[:OFFERED]
        )


def _asked(question: Question) -> Asked:
    return Asked(
        attribute=question.attribute, bits=question.bits, availability=question.availability, cost=question.cost
    )


def shown(questions: Sequence[Question]) -> tuple[tuple[str, float], ...]:
    """Questions as an event records them."""
    return tuple((question.attribute, round(question.bits, 4)) for question in questions[:OFFERED])


def _times(log10: float) -> str:
    if log10 >= 6:
        return f"10^{log10:.1f} times"
    return f"{10**log10:.3g} times" if log10 < 2 else f"{float(f'{10**log10:.3g}'):,.0f} times"
