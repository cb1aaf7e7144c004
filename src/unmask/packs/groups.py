"""Error rates of a detector by groups of people: a part of its card, and how it is put into words."""

from dataclasses import dataclass

NOT_MEASURED = "not measured"


@dataclass(frozen=True, kw_only=True)
class Share:
    """A share of `faces`, with its 95 % interval."""

    value: float
    low: float
    high: float
    faces: int


@dataclass(frozen=True, kw_only=True)
class GroupRates:
    """How often a detector errs on one group of people.

    Attributes:
        attribute, group: what people are grouped by ("sex"), and the group ("female").
        false_alarms: of authentic faces, those called forged.
        called_authentic: of authentic faces, those called authentic; the others are inconclusive or refused.
        hits: of forged faces, those called forged.
        auc, auc_low, auc_high: between the group's authentic and forged faces by the likelihood ratio, and its 95 %
            interval, pairs of a face and its forgery resampled.
    """

    attribute: str
    group: str
    false_alarms: Share
    called_authentic: Share
    hits: Share
    auc: float
    auc_low: float
    auc_high: float


@dataclass(frozen=True, kw_only=True)
class GroupTable:
    """Rates by group, and how they were measured."""

    dataset: str
    forgeries: str
    groups: tuple[GroupRates, ...]
    data_sha256: str
    command: str
    versions: dict[str, str]

    def attributes(self) -> tuple[str, ...]:
        """What people are grouped by."""
        return tuple(dict.fromkeys(one.attribute for one in self.groups))

    def of(self, attribute: str) -> tuple[GroupRates, ...]:
        """The groups by one attribute."""
        return tuple(one for one in self.groups if one.attribute == attribute)


def in_words(table: GroupTable | None) -> tuple[str, ...]:
    """The range of error rates over the groups, one line an attribute; one that says so where none were measured."""
    if table is None:
        return (NOT_MEASURED,)
    lines = []
    for attribute in table.attributes():
        groups = table.of(attribute)
        most = max(groups, key=lambda one: one.false_alarms.value)
        worst, best = (choose(groups, key=lambda one: one.auc) for choose in (min, max))
        alarms = most.false_alarms
        limits = f"{alarms.value:.1%} [{alarms.low:.1%}, {alarms.high:.1%}]"
        areas = f"{worst.auc:.2f} ({worst.group}) to {best.auc:.2f} ({best.group})"
        lines.append(
            f"by {attribute}: false alarms at most {limits} ({most.group}, {alarms.faces} faces), AUC {areas}"
            if len(groups) > 1
            else f"{groups[0].group}: false alarms {limits} of {alarms.faces} faces, AUC {best.auc:.2f}"
        )
    return tuple(lines)
