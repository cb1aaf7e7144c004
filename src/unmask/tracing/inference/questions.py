"""Which attribute to ask for next, and what its answer is expected to tell, in bits.

Policies: "info_gain" (expected bits; the default), "ec2" (equivalence-class edge cutting, which keeps its guarantee
with wrong answers; Golovin, Krause and Ray 2010), "two_step" (the best pair of questions that begins with it, for the
three best), "static" (entropy in the whole register, whatever was answered), "random", and "fixed" (a given order). All
but the last two weigh by availability and cost.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from unmask.errors import DataError
from unmask.tracing.attributes.channels import Channel, entropy
from unmask.tracing.inference.belief import Belief

Policy = Literal["info_gain", "ec2", "two_step", "static", "random", "fixed"]
POLICIES: tuple[Policy, ...] = get_args(Policy)
OFFERED = 5  # questions that are shown at a time
_LOOKED_AHEAD = 3  # questions that two_step looks beyond
# The second question counts a little less: else a useless one before a good one were as good as the good one at once.
_LATER = 0.99
_WIDEST = 256  # outcomes of an attribute that two_step looks beyond


@dataclass(frozen=True)
class Question:
    """An attribute that may be asked for.

    Attributes:
        attribute: which.
        bits: expected information of its answer, if it is to be had.
        availability, cost: from the data dictionary.
        score: what the policy ranks by.
    """

    attribute: str
    bits: float
    availability: float
    cost: float
    score: float

    @property
    def utility(self) -> float:
        """Expected bits per cost, heeding that the answer may not be to be had."""
        return self.availability * self.bits / self.cost


def open_questions(belief: Belief) -> tuple[str, ...]:
    """Attributes that may be asked for: marked so, not asked before, and with an answer that can be foreseen."""
    return tuple(
        name
        for name, model in belief.register.models.items()
        if model.attribute.use == "ask" and model.attribute.kind != "score" and name not in belief.asked
    )


def ranked(
    belief: Belief,
    policy: Policy = "info_gain",
    order: Sequence[str] = (),
    randomness: np.random.Generator | None = None,
) -> list[Question]:
    """The open questions, the one to ask first.

    Args:
        belief: what is known.
        policy: see the module.
        order: of "fixed": the attributes to ask for; others are not.
        randomness: of "random".

    Raises:
        DataError: "fixed" without an order or with an unknown attribute, "random" without randomness.
    """
    names = open_questions(belief)
    bits = expected_bits(belief, names)
    if policy == "fixed":
        unknown = [name for name in order if name not in belief.register.models]
        if not order or unknown:
            problem = f"has {unknown[0]!r}, which the register lacks" if unknown else "is empty"
            raise DataError(f"the fixed order of questions {problem}")
        names = tuple(name for name in order if name in names)
    values = _VALUES[policy](belief, names, bits, order, randomness)
    questions = []
    for name, value in zip(names, values, strict=True):
        attribute = belief.register.models[name].attribute
        share = 1.0 if policy in ("random", "fixed") else attribute.availability / attribute.cost
        questions.append(Question(name, bits[name], attribute.availability, attribute.cost, float(value) * share))
    return sorted(questions, key=lambda question: -question.score)


def expected_bits(belief: Belief, names: Sequence[str]) -> dict[str, float]:
    """Mutual information of the person and the answer about each attribute, in bits.

    Exact, the expected fall of the entropy, where an absent person's answers are independent of one another. With the
    tree (`not_in_register`) they are approximate once something is answered: what an absent person would answer is then
    brought to a sum of one, which the belief after the answer is not. Up to 0.005 bits off in registers of 6 to 400
    records (measured).

    The source of a group's answers is heeded by the probability that it is about the person at all. That is the same
    for all records here; where the group has been asked before it is not quite.
    """
    tallies = belief.weights.tally(tuple(names))
    bits = {}
    for name in names:
        channel, spread = _channel(belief, name)
        masses = (1.0 - belief.absent) * tallies[name]
        bits[name] = float(channel.gain(masses, belief.absent, spread))
    return bits


def _channel(belief: Belief, name: str) -> tuple[Channel, np.ndarray]:
    """How an answer comes about, of somebody in the register and of an absent person, (O,)."""
    model, spread = belief.register.models[name], belief.absent_predictive.answers(name)
    if model.attribute.group is None:
        return model.channel, spread
    trust = belief.trust_in(model.attribute.group)
    return model.channel.trusted(trust), trust * spread + (1.0 - trust) * model.channel.base


def _gained(belief: Belief, names: Sequence[str], bits: dict[str, float], *_: object) -> list[float]:
    return [bits[name] for name in names]


def _edges_cut(belief: Belief, names: Sequence[str], *_: object) -> list[float]:
    """Expected weight of the pairs of hypotheses that the answer tells apart; a pair weighs the product of its two."""
    present, absent = 1.0 - belief.absent, belief.absent
    tallies, squares = belief.weights.tally(tuple(names)), belief.weights.squares(tuple(names))
    cut = []
    for name in names:
        channel, spread = _channel(belief, name)
        outcomes = channel.answers(present * tallies[name]) + absent * spread
        left = outcomes**2 - channel.squared(present**2 * squares[name]) - (absent * spread) ** 2
        whole = 1.0 - present**2 * squares[name].sum() - absent**2
        cut.append(max(whole - float(outcomes @ left), 0.0))
    return cut


def _looked_ahead(belief: Belief, names: Sequence[str], bits: dict[str, float], *_: object) -> list[float]:
    """Bits of a question and of the best one after its answer, for the best few; the others keep their rank below."""
    first = sorted(names, key=lambda name: -bits[name])[:_LOOKED_AHEAD]
    models, present, absent = belief.register.models, 1.0 - belief.absent, belief.absent
    values = {name: bits[name] for name in names}
    for name in first:
        if len(models[name].channel.base) > _WIDEST or len(names) < 2:
            continue
        first_channel, spread = _channel(belief, name)
        table, of_absent = first_channel.table(), spread * absent
        further = []
        for other in names:
            if other == name:
                continue
            masses = present * (table.T @ belief.weights.joint(name, other))  # (answers, codes of the other)
            whole = masses.sum(axis=1) + of_absent
            channel, spread = _channel(belief, other)
            scaled = masses / whole[:, None]
            absent_after = (of_absent / whole)[:, None]
            outcome_bits = entropy(channel.answers(scaled) + absent_after * spread)
            gain = outcome_bits - channel.noise(scaled) - absent_after[:, 0] * entropy(spread)
            further.append(np.maximum(gain, 0.0) * whole)
        values[name] = bits[name] + _LATER * float(np.max(further, axis=0).sum())
    # What was not looked beyond cannot be compared with what was: it stays behind.
    lift = max(bits.values(), default=0.0)
    return [values[name] + (lift if name in first else 0.0) for name in names]


def _whole_entropy(belief: Belief, names: Sequence[str], *_: object) -> list[float]:
    counts = (belief.register.models[name].counts[1:] for name in names)
    return [float(entropy(count / max(count.sum(), 1))) for count in counts]


def _drawn(
    belief: Belief, names: Sequence[str], bits: object, order: object, randomness: np.random.Generator | None
) -> list[float]:
    if randomness is None:
        raise DataError("the random policy needs a seeded generator")
    return list(randomness.permutation(len(names)) + 1.0)


def _in_order(belief: Belief, names: Sequence[str], *_: object) -> list[float]:
    return [float(len(names) - place) for place in range(len(names))]


_VALUES: dict[str, Callable[..., list[float]]] = {
    "info_gain": _gained,
    "ec2": _edges_cut,
    "two_step": _looked_ahead,
    "static": _whole_entropy,
    "random": _drawn,
    "fixed": _in_order,
}
