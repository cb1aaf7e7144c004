"""How easily a pack is fooled, against the strength of the attack: a part of its card, and how it is put into words.

Measured by `unmask redteam pack` and put on the card by `unmask redteam card`.
"""

from dataclasses import dataclass
from typing import Literal

Access = Literal["black box", "white box"]
WORST = "worst of all"
"""The attack that stands for all of one access: a picture counts if any of them had its way."""
NOT_MEASURED = "not measured"


@dataclass(frozen=True, kw_only=True)
class StrengthPoint:
    """What one attack of one strength achieved.

    `access` is what the attacker had: the pack's answers ("black box"), or its gradients too ("white box"). `goal` is
    "hide" (forged faces are to pass for authentic) or "accuse" (the reverse). `epsilon` is the largest change of a
    value in [0, 1]. `rate` is the share of the `pictures` that were judged rightly before and are not any more, with
    its 95 % interval, people resampled.
    """

    access: Access
    goal: Literal["hide", "accuse"]
    attack: str
    epsilon: float
    rate: float
    low: float
    high: float
    pictures: int


@dataclass(frozen=True, kw_only=True)
class AttackedAuc:
    """AUC between authentic and forged faces when all of them are attacked, with its 95 % interval, people resampled.

    Of faces that are not, `epsilon` is 0 and `attack` "clean".
    """

    access: Access
    attack: str
    epsilon: float
    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True, kw_only=True)
class StrengthCurve:
    """Success against strength, and how it was measured.

    `threshold` is the logit above which a face counts as forged; `queries` how many answers black-box attacks could ask
    for, `steps` how many gradients the others took, for one picture. `n_real`, `n_forged` and `people` are those of the
    attacked set; `data_sha256` is over its files and labels.
    """

    points: tuple[StrengthPoint, ...]
    aucs: tuple[AttackedAuc, ...]
    threshold: float
    queries: int
    steps: int
    seed: int
    n_real: int
    n_forged: int
    people: int
    data_sha256: str
    command: str
    versions: dict[str, str]

    def accesses(self) -> tuple[Access, ...]:
        """Those that were measured, the black box first."""
        there = {point.access for point in self.points}
        return tuple(access for access in ("black box", "white box") if access in there)

    def worst(self, access: Access, goal: str) -> dict[float, StrengthPoint]:
        """By strength, what any attack of an access achieved."""
        return {p.epsilon: p for p in self.points if (p.access, p.goal, p.attack) == (access, goal, WORST)}

    def auc(self, access: Access, epsilon: float) -> AttackedAuc | None:
        """The AUC under the worst of an access; of faces that are not attacked at strength 0."""
        if not epsilon:
            return next((one for one in self.aucs if not one.epsilon), None)
        keys = (access, WORST, epsilon)
        return next((one for one in self.aucs if (one.access, one.attack, one.epsilon) == keys), None)

    def effort(self, access: Access) -> str:
        """What an attacker of an access had, in words."""
        if access == "black box":
            return f"by {self.queries} questions (black box)"
        return f"with its gradients, {self.steps} steps (white box)"


_MIDDLE = 4 / 255  # of the strengths that were measured, the one nearest to this is put into words


def in_levels(epsilon: float) -> str:
    """A strength for people, in grey levels."""
    return f"{epsilon * 255:g}/255"


def in_words(curve: StrengthCurve | None) -> tuple[str, ...]:
    """How easily a pack is fooled, one line for each access; one that says so where it was not measured."""
    if curve is None:
        return (NOT_MEASURED,)
    return tuple(_line(curve, access) for access in curve.accesses())


def _line(curve: StrengthCurve, access: Access) -> str:
    strengths = {p.epsilon for p in curve.points if p.access == access and p.attack == WORST}
    middle = min(strengths, key=lambda epsilon: abs(epsilon - _MIDDLE))
    said = []
    for goal, whom in (("hide", "of detected forgeries pass"), ("accuse", "of authentic faces are called forged")):
        point = curve.worst(access, goal).get(middle)
        if point is not None:
            said.append(f"{point.rate:.0%} [{point.low:.0%}, {point.high:.0%}] {whom} ({point.pictures})")
    clean, attacked = (curve.auc(access, epsilon) for epsilon in (0.0, middle))
    if clean is not None and attacked is not None:
        said.append(f"AUC {attacked.value:.2f} instead of {clean.value:.2f}")
    return f"fooled at {in_levels(middle)} {curve.effort(access)}: {'; '.join(said)}"
