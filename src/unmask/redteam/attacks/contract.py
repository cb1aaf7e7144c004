"""The contract of an attack, and the accounting that is the same for all.

An attack proposes pictures; `Attack.run` alone says what they are worth: they are brought to 8 bits without leaving the
budget, encoded and read back, and put before the victim in a fresh pass. Whatever is random is drawn for each picture
by itself, from the seed and its content, so that a result does not depend on the batch.
"""

import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal
from weakref import WeakSet

import cv2
import numpy as np
import torch
from torch import Tensor

from unmask.errors import DataError
from unmask.redteam.victims import Inputs, Model, Victim, pixels

Norm = Literal["linf", "l2", "l0", "guidance", "none"]
LEVEL = 1 / 255
_DEPENDENT: "WeakSet[Victim]" = WeakSet()
"""Victims that were seen to look at what they are shown."""


@dataclass(frozen=True)
class Budget:
    """What an attack may do to one picture.

    Attributes:
        epsilon: how far it may move it: the largest change of a value (linf) or its Euclidean length (l2), of values in
            [0, 1]; or the share of pixels that may change at all (l0); or how strongly a generator is guided, which
            bounds nothing (guidance). Which of them is the attack's; one without a strength takes any above 0 (none).
        steps: gradients that it may take.
        queries: answers that an attack without gradients may ask for.
    """

    epsilon: float
    steps: int = 20
    queries: int = 1000

    def check(self, attack: str, norm: Norm) -> None:
        """Refuse what no attack could make use of.

        Raises:
            DataError: a negative or unheard-of size, or one that 8 bits cannot hold.
        """
        unbounded = norm in ("l2", "guidance", "none")
        if not (math.isfinite(self.epsilon) and self.epsilon >= 0) or (not unbounded and self.epsilon > 1):
            limits = "above 0" if unbounded else "from 0 to 1"
            raise DataError(f"{attack}: epsilon {self.epsilon:g}; give a number {limits}")
        if norm in ("linf", "l2") and 0 < self.epsilon < LEVEL * (1 - 1e-6):
            raise DataError(
                f"{attack}: epsilon {self.epsilon:g} is below one grey level (1/255 = {LEVEL:.4f}), and pictures have "
                "8 bits; give 0 or at least one level"
            )
        if self.steps < 1 or self.queries < 1:
            raise DataError(f"{attack}: {self.steps} steps and {self.queries} queries; give at least one of each")


@dataclass(frozen=True)
class AttackResult:
    """What came of an attack, one row for each picture.

    Attributes:
        pictures: uint8 (B, 3, H, W), read back from an encoded file.
        success: bool (B,): whether the victim, asked anew, gives the wanted answer.
        before: bool (B,): whether it did so before the attack.
        margin: float (B,): by how much the wanted answer is missed; below 0 for success.
        linf, l2, l0: float (B,): how far the picture was moved: largest change, Euclidean length, share of pixels.
        queries: int64 (B,): answers of the victim that the attack used, gradients included.
        trace: float (B, T): the best margin so far at each of the attack's steps; nan where it had stopped.
        warnings: what makes a result less than it seems; one line each.
    """

    pictures: Tensor
    success: Tensor
    before: Tensor
    margin: Tensor
    linf: Tensor
    l2: Tensor
    l0: Tensor
    queries: Tensor
    trace: Tensor
    warnings: tuple[str, ...] = ()


@dataclass
class Problem:
    """One batch for an attack: the pictures, and the victim as a function of them, which counts what is asked.

    Attributes:
        x: float (b, 3, H, W) in [0, 1].
        inputs: of these rows.
        differentiable: of the victim.
    """

    x: Tensor
    inputs: Inputs
    victim: Victim
    generators: list[torch.Generator]
    queries: Tensor = field(init=False)
    trace: list[Tensor] = field(default_factory=list)
    vanished: Tensor = field(init=False)
    _model: Model = field(init=False)

    def __post_init__(self) -> None:
        self._model = self.victim.bind(self.inputs)
        self.queries = torch.zeros(len(self.x), dtype=torch.int64)
        self.vanished = torch.zeros(len(self.x), dtype=torch.bool)

    def logits(self, x: Tensor, rows: Tensor | None = None) -> Tensor:
        """The victim's answer (b, C) for pictures that stand for some rows, all of them if left out.

        Raises:
            DataError: it is not finite.
        """
        rows = torch.arange(len(self.x)) if rows is None else rows
        self.queries += torch.bincount(rows, minlength=len(self.x))
        answer = self._model(x, rows)
        if not bool(torch.isfinite(answer).all()):
            raise DataError(f"{self.victim.name}: an answer is not finite; a victim with NaN cannot be measured")
        return answer

    def margins(self, logits: Tensor, rows: Tensor | None = None) -> Tensor:
        """By how much (b,) the wanted answer is missed; below 0 where it is given."""
        labels, targets = self.inputs.labels, self.inputs.targets
        if rows is not None:
            labels, targets = labels[rows], None if targets is None else targets[rows]
        return margin(logits, labels, targets)

    def draw(self, shape: tuple[int, ...], kind: Callable[..., Tensor] = torch.rand) -> Tensor:
        """Random numbers (b, *shape), each picture's from its own generator."""
        return torch.stack([kind(shape, generator=generator) for generator in self.generators])

    def note_gradient(self, gradient: Tensor) -> None:
        """Look at a gradient (b, 3, H, W) of all rows.

        Raises:
            DataError: it is not finite.
        """
        if not bool(torch.isfinite(gradient).all()):
            raise DataError(
                f"{self.victim.name}: a gradient is not finite (NaN or infinite); mend the network, or attack it as a "
                "black box (square)"
            )
        self.vanished |= (gradient == 0).flatten(1).all(1)


def margin(logits: Tensor, labels: Tensor, targets: Tensor | None = None) -> Tensor:
    """The right class's logit less the best other one's; with targets, the best other one's less the target's; (b,)."""
    chosen = labels if targets is None else targets
    own = logits.gather(1, chosen[:, None])[:, 0]
    others = logits.masked_fill(torch.nn.functional.one_hot(chosen, logits.shape[1]).bool(), -torch.inf).amax(1)
    return own - others if targets is None else others - own


class Attack(ABC):
    """One attack; its class is called without arguments, or with options of its own.

    Attributes:
        name: in tables, as `ATTACKS` has it.
        norm: what epsilon bounds.
        gradients: whether it needs a differentiable victim.
    """

    name: ClassVar[str]
    norm: Norm = "linf"
    gradients: bool = True

    @abstractmethod
    def perturb(self, problem: Problem, budget: Budget) -> Tensor:
        """Pictures float (b, 3, H, W) in [0, 1] in the budget; epsilon is above 0."""

    def check(self, victim: Victim) -> None:
        """Refuse a victim that it cannot be tried on, before any work.

        Raises:
            DataError: it has no gradients where they are needed, or something else is missing.
        """
        if self.gradients and not victim.differentiable:
            raise DataError(
                f"{self.name} needs gradients, and {victim.name} has none; take square, hopskipjump or corruptions, or "
                "attack another victim and look at the transfer"
            )

    def run(self, victim: Victim, inputs: Inputs, budget: Budget, seed: int = 0, batch: int = 8) -> AttackResult:
        """Attack pictures and say what came of it.

        Args:
            victim: what is to be fooled.
            inputs: the pictures, and which answer is right or wanted.
            budget: for every picture.
            seed: of everything random.
            batch: pictures at a time; the result does not depend on it beyond rounding.

        Raises:
            DataError: the budget cannot be, the victim has no gradients where they are needed, has only one class, has
                answers or gradients that are not finite, or answers the same whatever the picture.
        """
        budget.check(self.name, self.norm)
        self.check(victim)
        if victim.classes < 2:
            raise DataError(f"{victim.name} knows one class only: there is no other answer to be had")
        if not len(inputs):
            raise DataError("no pictures to attack")
        before = victim.logits(inputs)
        if budget.epsilon and victim not in _DEPENDENT:
            _check_dependence(victim, inputs)
            _DEPENDENT.add(victim)
        parts = [self._part(victim, inputs.rows(rows), budget, seed) for rows in torch.arange(len(inputs)).split(batch)]
        pictures = torch.cat([part[0] for part in parts])
        queries = torch.cat([part[1].queries for part in parts])
        moved = (pictures.int() - inputs.pictures.int()).float() / 255
        after = victim.logits(_with_pictures(inputs, pictures))
        missed = margin(after, inputs.labels, inputs.targets)
        return AttackResult(
            pictures,
            missed < 0,
            margin(before, inputs.labels, inputs.targets) < 0,
            missed,
            moved.abs().flatten(1).amax(1),
            moved.flatten(1).norm(dim=1),
            (moved != 0).any(1).flatten(1).float().mean(1),
            queries,
            _stacked([part[1].trace for part in parts], [len(part[0]) for part in parts]),
            self._warnings(torch.cat([part[1].vanished for part in parts])),
        )

    def _part(self, victim: Victim, inputs: Inputs, budget: Budget, seed: int) -> tuple[Tensor, Problem]:
        problem = Problem(pixels(inputs.pictures), inputs, victim, [_generator(seed, one) for one in inputs.pictures])
        if not budget.epsilon:
            return inputs.pictures.clone(), problem
        proposed = self.perturb(problem, budget)
        return read_back(to_8_bits(proposed, inputs.pictures, budget.epsilon, self.norm)), problem

    def _warnings(self, vanished: Tensor) -> tuple[str, ...]:
        if not self.gradients or not bool(vanished.any()):
            return ()
        return (
            f"{self.name}: the gradient vanished on {int(vanished.sum())} of {len(vanished)} pictures; its success is "
            "no measure there, take the margin loss or a black box",
        )


def strength(norm: str, epsilon: float) -> str:
    """An epsilon for people: grey levels, a share of the picture, or a guidance."""
    if norm == "l0":
        return f"{epsilon:.0%}"
    if norm == "guidance":
        return f"guidance {epsilon:g}"
    return "–" if norm == "none" else f"{epsilon * 255:g}/255"


def to_8_bits(x: Tensor, originals: Tensor, epsilon: float, norm: Norm) -> Tensor:
    """Pictures brought to 8 bits without leaving the budget.

    Args:
        x: float (b, 3, H, W) in [0, 1].
        originals: uint8 (b, 3, H, W).
        epsilon: of the budget.
        norm: of the budget.

    Returns:
        uint8 (b, 3, H, W): the nearest, moved back towards the originals as far as needed; for l2 the values first that
        rounding had moved away most. Guidance bounds no change.
    """
    exact = x.detach().double() * 255 - originals.double()
    moved = exact.round()
    if norm == "linf":
        most = math.floor(epsilon * 255 + 1e-6)
        moved = moved.clamp(-most, most)
    elif norm == "l2":
        limit = (epsilon * 255) ** 2 * (1 + 1e-9)
        for row in range(len(moved)):
            change, wanted = moved[row].flatten(), exact[row].flatten()
            excess = change.square().sum().item() - limit
            if excess > 0:
                away = change.abs() - wanted.abs()
                order = torch.argsort(away, descending=True, stable=True)
                saved = (2 * change[order].abs() - 1).clamp(min=0).cumsum(0)
                count = min(int(torch.searchsorted(saved, torch.tensor(excess, dtype=saved.dtype))) + 1, len(order))
                change[order[:count]] -= change[order[:count]].sign()
    return (originals.double() + moved).clamp(0, 255).to(torch.uint8)


def read_back(pictures: Tensor) -> Tensor:
    """Pictures uint8 (b, 3, H, W) as they come out of the files that they are written to (PNG)."""
    decoded = []
    for picture in pictures:
        bgr = np.ascontiguousarray(picture.permute(1, 2, 0).numpy()[..., ::-1])
        read = cv2.imdecode(cv2.imencode(".png", bgr)[1], cv2.IMREAD_COLOR)
        assert read is not None  # OpenCV reads what it has written
        decoded.append(torch.from_numpy(np.ascontiguousarray(read[..., ::-1].transpose(2, 0, 1))))
    return torch.stack(decoded)


def _generator(seed: int, picture: Tensor) -> torch.Generator:
    digest = hashlib.sha256(f"{seed}:".encode() + picture.numpy().tobytes()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))


def _with_pictures(inputs: Inputs, pictures: Tensor) -> Inputs:
    return replace(inputs, pictures=pictures)


def _check_dependence(victim: Victim, inputs: Inputs) -> None:
    """Refuse a victim whose answer is the same for pictures that have nothing in common."""
    few = inputs.rows(torch.arange(min(len(inputs), 2)))
    noise = torch.randint(0, 256, few.pictures.shape, generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    variants = [few.pictures, 255 - few.pictures, noise, torch.zeros_like(noise)]
    answers = torch.stack([victim.logits(_with_pictures(few, variant)) for variant in variants])
    if bool(torch.isfinite(answers).all()) and bool((answers == answers[0]).all()):
        raise DataError(f"{victim.name}: its answer does not depend on the picture; there is nothing to attack")


def _stacked(traces: list[list[Tensor]], sizes: list[int]) -> Tensor:
    """Traces of batches, each a list of (b,), as (B, T) with nan behind the end of the shorter ones."""
    longest = max(map(len, traces), default=0)
    rows = []
    for trace, size in zip(traces, sizes, strict=True):
        part = torch.full((size, longest), torch.nan)
        if trace:
            part[:, : len(trace)] = torch.stack(trace, 1)
        rows.append(part)
    return torch.cat(rows)
