"""Leave-one-out: what a detector is worth on kinds, families and sources that it never saw. Lab only.

The scores are those of systems that never saw a group: a kind of forgery, a family, or a source of reals. Nothing that
is said of a group has seen it either: its likelihood ratios are fitted on the other groups, and on other people than
those they are given to; the limits from which verdicts are given follow from the other sources. Each condition has fits
and limits of its own, as on a card.
"""

import math
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal

import numpy as np
from sklearn.linear_model import LogisticRegression

from unmask.errors import DataError
from unmask.lab.detection.calibration import FALSE_ALARMS, LEAST_LIMIT, MISSES, STEP, WORST_FALSE_ALARMS
from unmask.lab.metrics import auc, miss_rate, resampled
from unmask.lab.task import Evaluation, Table
from unmask.packs.card import Metric

By = Literal["kind", "family", "source"]
"""What is left out as a whole."""
ALL = "all"
"""Condition of what is measured on the pictures of all conditions together."""
MEAN, WORST = "mean", "worst"
FEWEST = 10
"""Faces of a class that a group or a source has at least to count in means, worsts and limits, if any has."""

_FOLDS = 5
_DRAWS = 400
_HIGH_IS_GOOD = ("auc", "verdict_authentic")


@dataclass(frozen=True, kw_only=True)
class LeftOutScore:
    """A face under a condition, scored by systems that never saw one of its groups.

    Attributes:
        by: what is left out: a kind, a family or a source.
        group: which one.
        families: of a forgery its own; of a real face those of the group beside which it stands, () for all.
        logit: mean of the systems' logits, higher = more likely forged.
        label: 1 forged, 0 real.
        source: of the face; of a forgery, that of the real it was made from, if there is one.
        subject: whose face it is, resampled as a whole.
        condition: how the picture is shown.
        split: that the face is in.
        seen: whether one of the systems was trained on reals of the source.
    """

    by: By
    group: str
    families: tuple[str, ...]
    logit: float
    label: int
    source: str
    subject: str
    condition: str
    split: str
    seen: bool = False


@dataclass(frozen=True)
class _Columns:
    """Scores as arrays of one length (N,); several families stand in a line each."""

    families: np.ndarray
    group: np.ndarray
    logit: np.ndarray
    label: np.ndarray
    source: np.ndarray
    subject: np.ndarray
    condition: np.ndarray
    seen: np.ndarray

    @classmethod
    def of(cls, scored: Sequence[LeftOutScore]) -> "_Columns":
        names = ("group", "logit", "label", "source", "subject", "condition", "seen")
        families = np.array(["\n".join(one.families) for one in scored])
        return cls(families, *(np.array([getattr(one, name) for one in scored]) for name in names))

    def __len__(self) -> int:
        return len(self.logit)

    def rows(self, chosen: np.ndarray) -> "_Columns":
        return _Columns(*(getattr(self, name)[chosen] for name in self.__dataclass_fields__))

    def conditions(self) -> list[str]:
        """The conditions, and all together where there are several."""
        names = list(dict.fromkeys(self.condition.tolist()))
        return names if len(names) < 2 else [*names, ALL]

    def under(self, condition: str) -> np.ndarray:
        return np.ones(len(self), bool) if condition == ALL else self.condition == condition


def leave_one_out(scored: Sequence[LeftOutScore], by: By) -> Evaluation:
    """Measure groups on the scores of systems that never saw them.

    Args:
        scored: faces of one split; those of `by` tell how well forgeries are found, the real ones of "source" how often
            reals are called forged and authentic.
        by: what is left out.

    Returns:
        By group and condition: "auc", "miss_at_1%", "miss_at_10%" (misses at so many false alarms), "cllr", each the
        mean over the group's families, which count alike however many pictures they have; "reals_unseen" (the share
        of the reals beside them whose source none of the systems saw), and the first four for
        the groups' "mean" and the "worst" of them; by source "verdict_forged" and "verdict_authentic", and their mean
        and worst over sources, under "all" conditions over sources and conditions. In these count groups and sources
        of `FEWEST` faces. Limits are 95 % intervals by bootstrap over subjects. What is not defined, for want of other
        groups, is left out.

    Raises:
        DataError: no score of `by`; faces of several splits, or a subject on two sides.
    """
    sides = sorted({one.split for one in scored})
    if len(sides) > 1:
        split_of: dict[str, str] = {}
        for one in scored:
            if split_of.setdefault(one.subject, one.split) != one.split:
                raise DataError(
                    f"{one.subject} is in the splits {split_of[one.subject]} and {one.split}; keep it on one side"
                )
        raise DataError(f"faces of the splits {' and '.join(sides)} are not measured together; name one")
    own = [one for one in scored if one.by == by]
    if not own:
        raise DataError(f"no {by} was left out by any system")
    result = Evaluation(sides[0])
    columns = _Columns.of(own)
    # Reals are asked about source by source; forgeries too, if they are what is left out.
    reals = _Columns.of([one for one in scored if one.by == "source" and not one.label])
    _groups(result, columns, _held_out_ratios(columns))
    if len(reals):
        _reals(result, reals, columns.rows(columns.label == 1))
    return result


def _fit(forged: _Columns, reals: _Columns) -> Callable[[np.ndarray], np.ndarray] | None:
    """From logits to log10 likelihood ratios: families, sources and classes count alike; None without both classes."""
    if not len(forged) or not len(reals):
        return None
    weights = np.concatenate([_shares(forged.families), _shares(reals.source)]) * (len(forged) + len(reals)) / 2
    logits = np.concatenate([forged.logit, reals.logit])[:, None]
    labels = np.repeat([1, 0], [len(forged), len(reals)])
    model = LogisticRegression(C=10.0).fit(logits, labels, sample_weight=weights)
    slope, intercept = max(float(model.coef_[0, 0]), 0.0), float(model.intercept_[0])
    return lambda values: (intercept + slope * values) / math.log(10)


def _shares(names: np.ndarray) -> np.ndarray:
    """Weights that sum to 1 in which every name counts alike."""
    _, place, counts = np.unique(names, return_inverse=True, return_counts=True)
    shares: np.ndarray = 1 / (len(counts) * counts[place])
    return shares


def _held_out_ratios(columns: _Columns) -> np.ndarray:
    """log10 likelihood ratios (N,), fitted on other groups and people under the condition; nan where there are none."""
    ratios = np.full(len(columns), np.nan)
    fold = np.array([zlib.crc32(subject.encode()) % _FOLDS for subject in columns.subject])
    for group in np.unique(columns.group):
        for number, condition in product(range(_FOLDS), np.unique(columns.condition)):
            shown = columns.condition == condition
            asked = shown & (columns.group == group) & (fold == number)
            others = columns.rows(shown & (columns.group != group) & (fold != number))
            ratio = _fit(others.rows(others.label == 1), others.rows(others.label == 0)) if asked.any() else None
            if ratio is not None:
                ratios[asked] = ratio(columns.logit[asked])
    return ratios


_STATISTICS = ("auc", "miss_at_1%", "miss_at_10%", "cllr")


def _statistics(labels: np.ndarray, logits: np.ndarray, costs: np.ndarray) -> list[float]:
    """The numbers of one family, in the order of `_STATISTICS`; nan where they are not defined."""
    if not 0 < labels.sum() < len(labels):
        return [math.nan] * len(_STATISTICS)
    cllr = (costs[labels == 1].mean() + costs[labels == 0].mean()) / 2
    return [auc(labels, logits), miss_rate(0.01)(labels, logits), miss_rate(0.10)(labels, logits), float(cllr)]


def _groups(result: Evaluation, columns: _Columns, ratios: np.ndarray) -> None:
    """How well the forgeries of every group are told from the reals beside them; the mean and the worst group."""
    # Cllr is the mean over classes of these (Bruemmer & du Preez 2006).
    with np.errstate(invalid="ignore"):  # of what has no ratio
        costs = np.logaddexp(0, np.where(columns.label == 1, -ratios, ratios) * math.log(10)) / math.log(2)
    names = list(dict.fromkeys(columns.group.tolist()))
    for condition in columns.conditions():
        here = columns.under(condition)
        shown = columns.rows(here)
        parts = [np.flatnonzero(shown.group == name) for name in names]
        counted = [_counted(shown, part) for part in parts]
        families = [_by_family(shown, part) for part in parts]
        values = _of_groups(shown, costs[here], families)
        drawn = np.array(
            [
                _of_groups(shown, costs[here], [[np.repeat(rows, times[rows]) for rows in own] for own in families])
                for times in _times(shown.subject)
            ]
        )
        for place, statistic in enumerate(_STATISTICS):
            for number, name in enumerate(names):
                _add(
                    result,
                    name,
                    statistic,
                    condition,
                    values[number, place],
                    drawn[:, number, place],
                    counted[number],
                )
            defined = ~np.isnan(values[:, place])
            defined = _large(np.array([np.bincount(labels, minlength=2).min() for labels in counted]), defined)
            if defined.any():
                labels = np.concatenate([own for own, one in zip(counted, defined, strict=True) if one])
                for name, pooled in _pooled(statistic):
                    of_draws = pooled(drawn[:, defined, place], axis=1)
                    _add(result, name, statistic, condition, pooled(values[defined, place]), of_draws, labels)
        for name, part, labels in zip(names, parts, counted, strict=True):
            reals = part[shown.label[part] == 0]
            if len(reals):
                unseen = float((~shown.seen[reals]).mean())
                result.add(name, "reals_unseen", condition, unseen, None, None, labels)


def _counted(shown: _Columns, rows: np.ndarray) -> np.ndarray:
    """Labels of the faces in some rows, each face once: those under the condition that most of them are shown under.

    A picture that is shown under six conditions is one picture, and too few stay too few.
    """
    if not len(rows):
        return shown.label[rows]
    _, place = np.unique(shown.condition[rows], return_inverse=True)
    labels: np.ndarray = shown.label[rows[place == np.bincount(place).argmax()]]
    return labels


def _by_family(shown: _Columns, part: np.ndarray) -> list[np.ndarray]:
    """The rows of each family among a group's: its forgeries, and the reals beside them."""
    texts, place = np.unique(shown.families[part], return_inverse=True)
    names = [text.splitlines() for text in texts.tolist()]
    families = np.unique(shown.families[part][shown.label[part] == 1]).tolist()
    return [part[np.array([not own or name in own for own in names])[place]] for name in families]


def _of_groups(shown: _Columns, costs: np.ndarray, families: Sequence[Sequence[np.ndarray]]) -> np.ndarray:
    """The statistics of groups, (G, S), given the rows of each family; a sample may miss one, which leaves it out."""
    values = np.full((len(families), len(_STATISTICS)), math.nan)
    for number, own in enumerate(families):
        measured = np.array([_statistics(shown.label[rows], shown.logit[rows], costs[rows]) for rows in own])
        if len(own) and not np.isnan(measured[:, 0]).all():
            values[number] = measured[~np.isnan(measured[:, 0])].mean(axis=0)
    return values


def _times(subjects: np.ndarray) -> Iterator[np.ndarray]:
    """How often each row is in each bootstrap sample over subjects, (N,) each."""
    for rows in resampled(subjects.tolist(), _DRAWS, seed=0):
        yield np.bincount(rows, minlength=len(subjects))


def _pooled(statistic: str) -> tuple[tuple[str, Callable[..., Any]], ...]:
    """The names of what several groups' numbers come to, and how; a sample may miss a group, which leaves it out."""
    return (MEAN, np.nanmean), (WORST, np.nanmin if statistic in _HIGH_IS_GOOD else np.nanmax)


def _add(
    result: Evaluation, name: str, statistic: str, condition: str, value: float, drawn: np.ndarray, labels: np.ndarray
) -> None:
    """Add a number with the interval of its bootstrap samples; nothing where it is not defined."""
    if not math.isnan(value):
        low, high = np.nanpercentile(drawn, [2.5, 97.5])
        result.add(name, statistic, condition, float(value), float(low), float(high), labels)


def _large(counts: np.ndarray, defined: np.ndarray) -> np.ndarray:
    """Which of some groups count in what is said of all: those defined and of `FEWEST` faces, if there are any."""
    large: np.ndarray = defined & (counts >= FEWEST)
    return large if large.any() else defined


def _lowest(allowed: Callable[[float], bool]) -> float:
    """The lowest limit of a verdict, log10, that is allowed."""
    limit = LEAST_LIMIT
    while not allowed(limit):
        limit = round(limit + STEP, 2)
    return limit


def _means(values: np.ndarray, names: np.ndarray) -> np.ndarray:
    """Mean of values (N,) under each of the names (N,) that has `FEWEST`, by the alphabet; of all where none has."""
    _, place, counts = np.unique(names, return_inverse=True, return_counts=True)
    means = np.bincount(place, values) / counts
    return np.asarray(means[_large(counts, np.ones(len(counts), bool))])


def _verdicts(asked: _Columns, forged: _Columns, others: _Columns) -> tuple[np.ndarray, np.ndarray] | None:
    """Whether reals are called forged, and authentic, by what follows from forgeries and reals of other sources.

    The rules are those of `calibration.fit_calibration`, with families in place of kinds.
    """
    ratio = _fit(forged, others)
    if ratio is None:
        return None
    alarms, misses, ratios = ratio(others.logit), ratio(forged.logit), ratio(asked.logit)

    def few_alarms(limit: float) -> bool:
        shares = _means(alarms >= limit, others.source)
        return bool(shares.mean() <= FALSE_ALARMS and shares.max() <= WORST_FALSE_ALARMS)

    authentic = _lowest(lambda limit: float(_means(misses <= -limit, forged.families).mean()) <= MISSES)
    return ratios >= _lowest(few_alarms), ratios <= -authentic


def _reals(result: Evaluation, reals: _Columns, forged: _Columns) -> None:
    """How often the reals of every source are called forged and authentic, by what follows from the other sources."""
    said = {name: np.full(len(reals), np.nan) for name in ("verdict_forged", "verdict_authentic")}
    for condition in np.unique(reals.condition):
        shown, own = forged.rows(forged.condition == condition), reals.condition == condition
        for source in np.unique(reals.source[own]):
            asked, others = own & (reals.source == source), reals.rows(own & (reals.source != source))
            verdicts = _verdicts(reals.rows(asked), shown.rows(shown.source != source), others)
            if verdicts is not None:
                said["verdict_forged"][asked], said["verdict_authentic"][asked] = verdicts
    judged = ~np.isnan(said["verdict_forged"])
    reals = reals.rows(judged)
    for condition in reals.conditions() if len(reals) else ():
        here = reals.under(condition)
        shown = reals.rows(here)
        sources, of_source = np.unique(shown.source, return_inverse=True)
        _, of_cell = np.unique(np.char.add(np.char.add(shown.source, "\n"), shown.condition), return_inverse=True)
        draws = list(_times(shown.subject))
        for name, values in said.items():
            own = values[judged][here]
            shares = np.array([_cell_means(own, of_source, times) for times in (np.ones(len(own)), *draws)])
            for number, source in enumerate(sources.tolist()):
                labels = _counted(shown, np.flatnonzero(of_source == number))
                _add(result, source, name, condition, shares[0, number], shares[1:, number], labels)
            cells = np.array([_cell_means(own, of_cell, times) for times in (np.ones(len(own)), *draws)])
            large = _large(np.bincount(of_cell), np.ones(cells.shape[1], bool))
            for title, pooled in _pooled(name):
                of_draws = pooled(cells[1:, large], axis=1)
                labels = _counted(shown, np.flatnonzero(large[of_cell]))
                _add(result, title, name, condition, pooled(cells[0, large]), of_draws, labels)


def _cell_means(values: np.ndarray, cells: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Mean of values (N,) in every cell, each counted so many times; nan in a cell that a sample misses."""
    with np.errstate(invalid="ignore"):
        return np.asarray(np.bincount(cells, times * values) / np.bincount(cells, times))


def tables(result: Evaluation, by: By) -> tuple[Table, ...]:
    """The evaluation as tables: groups by condition with their mean and worst, and verdicts on reals by source."""

    def beside(metric: Metric, *names: str) -> tuple[Metric | None, ...]:
        return tuple(result.value(metric.dataset, name, metric.condition) for name in names)

    def rows(name: str) -> list[Metric]:
        return [metric for metric in result.metrics if metric.name == name]

    def titled(metric: Metric) -> str:
        return _worst(metric, rows(metric.name)) if metric.dataset == WORST else metric.dataset

    measured = tuple(
        (titled(m), m.condition, m, *beside(m, *_STATISTICS[1:], "reals_unseen"), f"{m.n_real} / {m.n_forged}")
        for m in rows("auc")
    )
    plain = ("reals unseen",)
    heads = (
        f"{by} left out",
        "condition",
        "AUC [95 %]",
        "miss at 1 %",
        "miss at 10 %",
        "Cllr",
        *plain,
        "real / forged",
    )
    made = [Table(heads, measured, frozenset(plain))]
    verdicts = rows("verdict_forged")
    if verdicts:
        titles = ("reals of source left out", "condition", '"forged" [95 %]', '"authentic" [95 %]', "number")
        said = tuple((titled(m), m.condition, m, *beside(m, "verdict_authentic"), str(m.n_real)) for m in verdicts)
        made.append(Table(titles, said))
    return tuple(made)


def _worst(metric: Metric, others: Sequence[Metric]) -> str:
    """What the worst is called: with the group whose number it is, of verdicts under all conditions also with that."""
    verdicts = metric.name.startswith("verdict")
    cells, what = verdicts and metric.condition == ALL, "forged" if verdicts else "AUC"
    for one in others:
        of_cell = one.condition != ALL if cells else one.condition == metric.condition
        if of_cell and one.dataset not in (MEAN, WORST) and one.value == metric.value:
            return f"{WORST} ({what}: {one.dataset}{f', {one.condition}' if cells else ''})"
    return WORST
