"""Robust accuracy by attacks that fit the defence, per-image worst case, and checks of the evaluation itself. Lab only.

A network with reverse attention repeats in its final logits which class its auxiliary ones chose, and that choice has
no gradient: an attack on the final logits alone flatters it. Attacked are therefore, as the ANCRA sheet asks (section
7, after Athalye et al. 2018 and Tramer et al. 2020): the final logits, the sum over auxiliary heads, the training
objective, a surrogate with masks mixed by probability, targeted margins, the outputs alone (Square), and with a twin
the pictures that fool a network trained alike without masks. A picture stands if none of them fools what is served.
Numbers of an evaluation that fails one of its own checks are not to be believed; each of these is a warning.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import binomtest
from torch import Tensor

from unmask.files import whole
from unmask.lab.metrics import auc
from unmask.lab.robust.config import AttackedOptions, below_a_grey_level, description
from unmask.lab.robust.losses import cross_entropy, fold, margin, targeted_margin
from unmask.lab.robust.pgd import distance, loss_gradient, pgd
from unmask.lab.robust.pictures import Attackable, AttackedPictures
from unmask.lab.robust.square import square
from unmask.lab.run import versions
from unmask.progress import SILENT, Progress
from unmask.tables import markdown

Heads = tuple[Tensor, ...]
Loss = Callable[[Heads, Tensor], Tensor]
STEP = 0.223
"""Length of a step as a share of the budget: 0.007 of 8/255, as published."""
_KAPPA = 2.0  # weight of the auxiliary heads in the objective of a network whose training is not known
_TARGETS = 3  # wrong classes that are aimed at
_BATCH = 128
_LONGER = 4  # times as many steps, to see whether more help
_TOLERANCE = 1e-6
_HELPS, _BEATS, _FLATTERS, _ONE_STEP, _VANISHED = 0.03, 0.02, 0.05, 0.01, 0.01  # shares of pictures

CLEAN, WORST = "none", "worst of all"
FGSM, FINAL, MARGIN = "FGSM", "PGD, final logits", "PGD, final margin (C&W)"
AUXILIARY, OBJECTIVE, SOFT = "PGD, auxiliary logits", "PGD, training objective", "PGD, soft masks"
TARGETED, SQUARE, TWIN = "PGD, targeted margins", "Square (black box)", "transfer from the twin"
_WITHOUT_GRADIENTS = (SQUARE, TWIN)
ON_FINAL, FITTED = (FGSM, FINAL), (AUXILIARY, OBJECTIVE, SOFT)
"""Attacks on the cross-entropy of the final logits, and those on what else a network has of it."""


@dataclass(frozen=True)
class Outcome:
    """What an attack left.

    Attributes:
        attack: its name.
        margins: (N,) of the served logits, true class over the best other one; a picture stands above 0.
        final_margins: the same of the final logits, which are the served ones without reverse attention.
        distances: (N,) of the adversarial pictures from the originals, in the norm of the budget.
    """

    attack: str
    margins: np.ndarray
    final_margins: np.ndarray
    distances: np.ndarray

    @property
    def accuracy(self) -> float:
        """Share of pictures whose served logits are right."""
        return float((self.margins > 0).mean())

    @property
    def final_accuracy(self) -> float:
        """Share of pictures whose final logits are right."""
        return float((self.final_margins > 0).mean())


@dataclass(frozen=True)
class AttackedEvaluation:
    """What an evaluation under attack found.

    Attributes:
        outcomes: of every attack, the pictures as they are first.
        labels: (N,) classes of the pictures.
        classes: their names.
        echo: share of pictures whose final logits repeat a wrong class that chose the mask; None without masks.
        warnings: why the numbers are not to be trusted; none if no check failed.
        settings: what decides the outcome.
    """

    outcomes: tuple[Outcome, ...]
    labels: np.ndarray
    classes: tuple[str, ...]
    echo: float | None
    warnings: tuple[str, ...]
    settings: dict[str, Any]

    def outcome(self, attack: str) -> Outcome:
        """That of an attack.

        Raises:
            KeyError: it was not run.
        """
        return {one.attack: one for one in self.outcomes}[attack]

    @property
    def worst(self) -> Outcome:
        """Of every picture the lowest margins that any attack left."""
        return Outcome(
            WORST,
            np.min([one.margins for one in self.outcomes], 0),
            np.min([one.final_margins for one in self.outcomes], 0),
            np.max([one.distances for one in self.outcomes], 0),
        )

    @property
    def masking_gap(self) -> float:
        """By how much attacks on the final logits flatter: their accuracy under the best of these, less that under the
        best of those that look past them.

        All are on cross-entropies: a margin loss is stronger on any network, masked or not. Without auxiliary logits
        the training objective is the final logits' own, attacked from another start: what chance makes of the gap.
        """
        best = [min(one.final_accuracy for one in self.outcomes if one.attack in some) for some in (ON_FINAL, FITTED)]
        return best[0] - best[1]

    def auc(self, outcome: Outcome) -> float | None:
        """The AUC that an attack leaves of two classes; None for more classes, or where one has no pictures."""
        if len(self.classes) != 2 or len(set(self.labels.tolist())) < 2:
            return None
        return auc(self.labels, np.where(self.labels == 1, outcome.margins, -outcome.margins))


class _Subject:
    """A network under attack, batch by batch."""

    def __init__(self, pictures: AttackedPictures, options: AttackedOptions) -> None:
        self.network, self.twin, self.options = pictures.network, pictures.twin, options
        self.faces, self.labels, self.count = pictures.faces, pictures.labels, len(pictures.classes)
        self.epsilon, self.norm = options.epsilon(pictures.settings), options.attack_norm
        self.kappa = float(pictures.settings.get("ra_weight", _KAPPA))
        with torch.no_grad():
            self.masked = len(self.network.heads(self.faces[:1])) > 1

    def served(self, heads: Heads) -> Tensor:
        return heads[1] if self.masked else heads[0]

    def _generator(self, start: int, draw: int = 0) -> torch.Generator:
        return torch.Generator().manual_seed(1_000_003 * (10 * self.options.attack_seed + draw) + start)

    def batches(self, rows: Tensor) -> list[tuple[int, Tensor]]:
        """Rows in parts, each with its place."""
        return [(start, rows[start : start + _BATCH]) for start in range(0, len(rows), _BATCH)]

    @property
    def everything(self) -> Tensor:
        return torch.arange(len(self.faces))

    def ascend(
        self,
        loss_of: Callable[[Heads, Tensor], Tensor],
        *,
        steps: int | None = None,
        network: Attackable | None = None,
        soft: bool = False,
        one_step: bool = False,
        rows: Tensor | None = None,
        draw: int = 0,
    ) -> Tensor:
        """Pictures that maximise a loss of heads and row numbers.

        `one_step`: of the whole budget, without a start; `draw`: which start it is, if it shall be another one.
        """
        attacked = network or self.network
        moved = []
        for start, some in self.batches(self.everything if rows is None else rows):
            moved.append(
                pgd(
                    lambda x: attacked.heads(x, None, soft),
                    self.faces[some],
                    lambda heads, some=some: loss_of(heads, some),  # type: ignore[misc]
                    epsilon=self.epsilon,
                    step=self.epsilon if one_step else STEP * self.epsilon,
                    steps=1 if one_step else steps or self.options.attack_steps,
                    norm=self.norm,
                    start="none" if one_step else "uniform",
                    generator=self._generator(start, draw),
                    best=not one_step,
                )
            )
        return torch.cat(moved)

    def entropy(self, logits: Tensor, rows: Tensor) -> Tensor:
        return cross_entropy(logits, self.labels[rows])

    def targeted(self) -> Tensor:
        """Of every picture the try, among the likeliest wrong classes, that leaves the lowest margin."""
        with torch.no_grad():
            logits = torch.cat(
                [self.served(self.network.heads(self.faces[some])) for _, some in self.batches(self.everything)]
            )
        ranked = logits.scatter(1, self.labels[:, None], -torch.inf).argsort(1, descending=True)
        chosen, lowest = self.faces, torch.full((len(self.faces),), torch.inf)
        for place in range(min(_TARGETS, self.count - 1)):
            targets = ranked[:, place]

            def loss_of(heads: Heads, rows: Tensor, targets: Tensor = targets) -> Tensor:
                margins = [targeted_margin(one, self.labels[rows], targets[rows]) for one in heads[1:] or heads]
                return torch.stack(margins).sum(0)

            moved = self.ascend(loss_of)
            margins = torch.from_numpy(self.margins(moved)[0])
            better = margins < lowest
            chosen = torch.where(better.view(-1, 1, 1, 1), moved, chosen)
            lowest = torch.where(better, margins, lowest)
        return chosen

    def square(self) -> Tensor:
        """By outputs alone."""
        moved = []
        for start, some in self.batches(self.everything):

            def margin_of(x: Tensor, rows: Tensor, some: Tensor = some) -> Tensor:
                return margin(self.served(self.network.heads(x)), self.labels[some[rows]])

            queries = self.options.attack_queries
            moved.append(
                square(
                    margin_of,
                    self.faces[some],
                    epsilon=self.epsilon,
                    queries=queries,
                    generator=self._generator(start),
                )
            )
        return torch.cat(moved)

    @torch.no_grad()
    def margins(self, faces: Tensor, rows: Tensor | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Margins (N,) of what is served and of the final logits."""
        labels = self.labels if rows is None else self.labels[rows]
        served, final = [], []
        for x, classes in zip(faces.split(_BATCH), labels.split(_BATCH), strict=True):
            heads = self.network.heads(x)
            served.append(margin(self.served(heads), classes))
            final.append(margin(heads[0], classes))
        return torch.cat(served).numpy(), torch.cat(final).numpy()

    def outcome(self, attack: str, faces: Tensor) -> Outcome:
        return Outcome(attack, *self.margins(faces), distance(faces, self.faces, self.norm).numpy())

    def attacks(self) -> dict[str, Callable[[], Tensor]]:
        """Every attack that applies, by name."""
        final: Loss = lambda heads, rows: self.entropy(heads[0], rows)  # noqa: E731
        made: dict[str, Callable[[], Tensor]] = {
            FGSM: lambda: self.ascend(final, one_step=True),
            FINAL: lambda: self.ascend(final),
            MARGIN: lambda: self.ascend(lambda heads, rows: -margin(heads[0], self.labels[rows])),
        }
        if self.masked:
            made |= {
                AUXILIARY: lambda: self.ascend(self.auxiliary),
                SOFT: lambda: self.ascend(final, soft=True),
            }
        made[OBJECTIVE] = lambda: self.ascend(
            lambda heads, rows: fold(lambda one: self.entropy(one, rows), heads, weight=self.kappa), draw=1
        )
        made[TARGETED] = self.targeted
        if self.norm == "linf" and self.options.attack_queries:
            made[SQUARE] = self.square
        if self.twin is not None:
            made[TWIN] = lambda: self.ascend(final, network=self.twin)
        return made

    def auxiliary(self, heads: Heads, rows: Tensor) -> Tensor:
        """The cross-entropy summed over the auxiliary heads; of the final logits without any."""
        return torch.stack([self.entropy(one, rows) for one in heads[1:] or heads]).sum(0)

    @torch.no_grad()
    def echo(self) -> float | None:
        """How often the final logits repeat a wrong class that chose the mask."""
        if not self.masked:
            return None
        wrong = (self.labels + 1) % self.count
        said = [
            self.network.heads(self.faces[some], wrong[some])[0].argmax(1) for _, some in self.batches(self.everything)
        ]
        return float((torch.cat(said) == wrong).float().mean())


def evaluate_attacked(
    pictures: AttackedPictures, options: AttackedOptions, progress: Progress = SILENT
) -> AttackedEvaluation:
    """Attack a network in every way that fits it.

    Args:
        pictures: with the network.
        options: budget, steps, queries.
        progress: of the stage "attacking", in attacks.

    Raises:
        DataError: the network's outputs do not depend on the pictures, or a gradient is not a number.
    """
    subject = _Subject(pictures, options)
    attacks = subject.attacks()
    outcomes, outside = [subject.outcome(CLEAN, subject.faces)], False
    for number, (name, attack) in enumerate(attacks.items(), start=1):
        moved = attack()
        outside |= bool((moved < 0).any() or (moved > 1).any())
        outcomes.append(subject.outcome(name, moved))
        progress.update("attacking", number, len(attacks) + 1, f"{name}, {outcomes[-1].accuracy:.0%} stand")
    progress.update("attacking", len(attacks) + 1, len(attacks) + 1, "checks of the evaluation")
    settings = {
        **asdict(options),
        "attack_epsilon": subject.epsilon,
        "pictures": pictures.description or f"{len(pictures.faces)} pictures",
        "training": description(pictures.settings) or "Not hardened.",
    }
    result = AttackedEvaluation(
        tuple(outcomes), pictures.labels.numpy(), pictures.classes, subject.echo(), (), settings
    )
    return replace(result, warnings=tuple(_checks(subject, result, outside)))


def _checks(subject: _Subject, result: AttackedEvaluation, outside: bool) -> list[str]:
    """Why an evaluation is not to be trusted, one sentence each."""
    outcomes = result.outcomes
    by_name, warnings, count = {one.attack: one for one in outcomes}, list[str](), len(subject.faces)
    clean = by_name[CLEAN].margins > 0
    by_gradient = [one for one in outcomes if one.attack not in (CLEAN, *_WITHOUT_GRADIENTS)]
    stands = clean & np.all([one.margins > 0 for one in by_gradient], 0)
    with torch.no_grad():
        one, other = (subject.network.heads(subject.faces[:_BATCH]) for _ in range(2))
    if any(not torch.equal(a, b) for a, b in zip(one, other, strict=True)):
        warnings.append(
            "The outputs are stochastic: two passes over the same pictures differ. Average over many passes."
        )
    if subject.epsilon == 0:
        return [*warnings, "The budget is 0: nothing was attacked."]
    if below_a_grey_level(subject.epsilon, subject.norm):
        warnings.append("The budget is less than one grey level: no 8-bit picture but the original is within it.")
    far = max(float(one.distances.max()) for one in outcomes)
    if outside or far > subject.epsilon + _TOLERANCE:
        warnings.append(f"The budget was violated: a picture is {far:.5f} away, the budget is {subject.epsilon:.5f}.")
    vanished = _vanished(subject)
    if vanished > _VANISHED:
        warnings.append(f"Gradients vanish: that of the final logits' loss is zero for {vanished:.0%} of the pictures.")
    if by_name[FGSM].accuracy < by_name[FINAL].accuracy - _ONE_STEP:
        warnings.append(
            f"One step fools more than {subject.options.attack_steps} do ({by_name[FGSM].accuracy:.1%} stand against "
            f"{by_name[FINAL].accuracy:.1%}): gradients are masked."
        )
    if result.masking_gap > _FLATTERS:
        warnings.append(
            f"Attacks on the final logits flatter by {100 * result.masking_gap:.1f} points: gradients are masked. "
            "Quote the worst case."
        )
    for name in _WITHOUT_GRADIENTS:
        only = float((stands & (by_name[name].margins <= 0)).mean()) if name in by_name else 0.0
        if only > _BEATS:
            warnings.append(
                f"{name} beats all attacks by gradients on {only:.1%} of the pictures: gradients are masked."
            )
    rows = torch.from_numpy(np.flatnonzero(stands))
    if len(rows):
        longer = subject.ascend(subject.auxiliary, steps=_LONGER * subject.options.attack_steps, rows=rows)
        more = float((subject.margins(longer, rows)[0] <= 0).sum() / count)
        if more > _HELPS:
            warnings.append(f"More steps help: {_LONGER} times as many fool another {more:.1%}. Raise --attack-steps.")
    if len(set(subject.labels.tolist())) < 2:
        warnings.append("All pictures are of one class: a constant answer would stand.")
    return warnings


def _vanished(subject: _Subject) -> float:
    """Share of pictures for which the loss of the final logits has no gradient."""
    gone = 0
    for _, rows in subject.batches(subject.everything):

        def loss_of(heads: Heads, rows: Tensor = rows) -> Tensor:
            return subject.entropy(heads[0], rows)

        gradient = loss_gradient(subject.network.heads, subject.faces[rows], loss_of)
        gone += int((gradient.flatten(1).abs().amax(1) == 0).sum())
    return gone / len(subject.faces)


def share_interval(right: np.ndarray) -> tuple[float, float, float]:
    """A share with its 95 % interval (Wilson), of booleans (N,)."""
    count = int(right.sum())
    limits = binomtest(count, len(right)).proportion_ci(method="wilson")
    return count / len(right), float(limits.low), float(limits.high)


def report(result: AttackedEvaluation) -> str:
    """An evaluation as Markdown: the settings, a table of attacks, the warnings."""
    settings, masked = result.settings, result.echo is not None
    heads = ["attack", "accuracy [95 %]", *(["final logits"] if masked else []), "farthest"]
    two = result.auc(result.outcomes[0]) is not None
    lines = []
    for one in (*result.outcomes, result.worst):
        value, low, high = share_interval(one.margins > 0)
        cells = [one.attack, f"{value:.3f} [{low:.3f}, {high:.3f}]"]
        cells += [f"{one.final_accuracy:.3f}"] if masked else []
        cells += [f"{one.distances.max():.4f}"]
        lines.append([*cells, *([f"{result.auc(one):.3f}"] if two else [])])
    parts = [
        f"{settings['pictures']}. {settings['training']} Attacked within {settings['attack_epsilon']:.5f} "
        f"({settings['attack_norm']}), {settings['attack_steps']} steps.",
        markdown([*heads, *(["AUC"] if two else [])], lines),
    ]
    if masked:
        parts.append(
            f"Reverse attention: the first auxiliary logits are served. Given a wrong class as mask, the final logits "
            f"repeat it on {result.echo:.1%} of the pictures; they are no second opinion."
        )
    parts += [f"warning: {text}" for text in result.warnings] or ["No check of the evaluation failed."]
    return "\n\n".join(parts)


def write_report(result: AttackedEvaluation, system: str, split: str, command: str, path: Path) -> None:
    """Write every number as JSON, with the command and the versions that made it."""
    rows = []
    for one in (*result.outcomes, result.worst):
        value, low, high = share_interval(one.margins > 0)
        row = {"attack": one.attack, "accuracy": value, "low": low, "high": high}
        row |= {"final_accuracy": one.final_accuracy, "farthest": float(one.distances.max()), "auc": result.auc(one)}
        rows.append(row)
    record = {
        "system": system,
        "split": split,
        "command": command,
        "versions": versions(),
        "settings": result.settings,
        "number": len(result.labels),
        "echo": result.echo,
        "warnings": list(result.warnings),
        "attacks": rows,
    }
    with whole(path) as part:
        part.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
