"""A strength curve as cards have it."""

from typing import Literal

from unmask.packs.strength import WORST, Access, AttackedAuc, StrengthCurve, StrengthPoint


def point(
    access: Access, goal: Literal["hide", "accuse"], levels: int, rate: float, attack: str = WORST
) -> StrengthPoint:
    return StrengthPoint(
        access=access,
        goal=goal,
        attack=attack,
        epsilon=levels / 255,
        rate=rate,
        low=rate / 2,
        high=(1 + rate) / 2,
        pictures=12,
    )


GOALS: tuple[Literal["hide", "accuse"], ...] = ("hide", "accuse")
CURVE = StrengthCurve(
    points=(
        point("white box", "hide", 4, 1.0),
        *(point("black box", goal, levels, levels / 10) for levels in (2, 4, 8) for goal in GOALS),
        point("black box", "hide", 4, 0.9, "square"),
    ),
    aucs=(
        AttackedAuc(access="black box", attack="clean", epsilon=0.0, value=0.93, low=0.9, high=0.95),
        AttackedAuc(access="black box", attack=WORST, epsilon=4 / 255, value=0.61, low=None, high=None),
        AttackedAuc(access="white box", attack=WORST, epsilon=4 / 255, value=0.04, low=0.0, high=0.1),
    ),
    threshold=1.5,
    queries=300,
    steps=10,
    seed=0,
    n_real=20,
    n_forged=21,
    people=15,
    data_sha256="0" * 64,
    command="unmask redteam pack …",
    versions={"unmask": "0.1.0"},
)
