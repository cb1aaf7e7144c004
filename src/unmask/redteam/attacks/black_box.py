"""Attacks by answers alone. They ask with pictures of 8 bits, as anybody outside would have to."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from unmask.networks.square import SHARE, random_squares, side_of, signs
from unmask.redteam.attacks.contract import Attack, Budget, Problem

_AHEAD = 32  # questions that are put at once
_STARTS = 100  # random pictures that HopSkipJump tries to begin with


class Square(Attack):
    """Square Attack in the maximum norm (Andriushchenko et al. 2020): random squares that stay where they help.

    It needs the scores. A picture that has the wanted answer is left at that.

    Args:
        share: of the picture that the first square covers.
    """

    name = "square"
    gradients = False

    def __init__(self, share: float = SHARE) -> None:
        self._share = share

    def perturb(self, problem: Problem, budget: Budget) -> Tensor:
        """As of `Attack`."""
        x, (high, wide) = problem.x, problem.x.shape[2:]
        size = math.floor(budget.epsilon * 255 + 1e-6) / 255

        def margin_of(pictures: Tensor, rows: Tensor) -> Tensor:
            return problem.margins(problem.logits(pictures, rows), rows)

        def draw(rows: Tensor, side: int) -> tuple[Tensor, Tensor]:
            corners, colours = [], []
            for generator in (problem.generators[row] for row in rows):
                corners.append([int(torch.randint(0, n - side + 1, (1,), generator=generator)) for n in (high, wide)])
                colours.append(signs((3, 1, 1), generator))
            return torch.tensor(corners), torch.stack(colours)

        def observe(margins: Tensor) -> None:
            problem.trace.append(margins.clone())

        with torch.no_grad():
            best, margins = x.clone(), margin_of(x, torch.arange(len(x)))
            rows = (margins >= 0).nonzero()[:, 0]
            if budget.queries > 1 and len(rows):
                stripes = torch.stack([signs((3, 1, wide), problem.generators[row]) for row in rows])
                best[rows] = _levels(x[rows] + size * stripes)
                margins[rows] = margin_of(best[rows], rows)
                observe(margins)
            sides = (side_of(asked, budget.queries, high, wide, self._share) for asked in range(2, budget.queries))
            return random_squares(
                margin_of,
                x,
                best,
                margins,
                epsilon=size,
                sides=sides,
                draw=draw,
                finish=_levels,
                observe=observe,
            )[0]


class HopSkipJump(Attack):
    """HopSkipJump (Chen et al. 2020) in the maximum norm: by decisions alone, along the border between two answers.

    It begins at `Inputs.starts` where there are any, else at noise that has the wanted answer, and comes nearer until
    it is in the budget. Directions are tried by changes of two grey levels or more, since less is lost in 8 bits.

    Args:
        directions: tried in the first round; more in later ones.
    """

    name = "hopskipjump"
    gradients = False

    def __init__(self, directions: int = 50) -> None:
        self._directions = directions

    def perturb(self, problem: Problem, budget: Budget) -> Tensor:
        """As of `Attack`."""
        pictures = [self._one(problem, budget, row) for row in range(len(problem.x))]
        return torch.stack(pictures)

    def _one(self, problem: Problem, budget: Budget, row: int) -> Tensor:
        x, generator = problem.x[row], problem.generators[row]
        limit = math.floor(budget.epsilon * 255 + 1e-6) / 255

        def left() -> int:
            return budget.queries - int(problem.queries[row])

        def decided(pictures: Tensor) -> Tensor:
            """Whether each of (n, 3, H, W) has the wanted answer; asks no more than is left."""
            rows = torch.full((len(pictures),), row)
            with torch.no_grad():
                parts = zip(pictures.split(_AHEAD), rows.split(_AHEAD), strict=True)
                return torch.cat([problem.margins(problem.logits(some, of), of) < 0 for some, of in parts])

        if bool(decided(x[None])):
            return x
        start = self._start(problem, row, decided, left)
        if start is None:
            return x
        at = self._to_border(x, start, decided, left)
        number = 0
        while (at - x).abs().max() > limit + 1e-6 and left() > 2:
            number += 1
            distance = float((at - x).abs().max())
            count = min(int(self._directions * math.sqrt(number)), left() - 1)
            probe = max(2 / 255, distance / 10)
            asked = _levels(at + probe * signs((count, *x.shape), generator))
            answers = decided(asked).float() * 2 - 1
            alike = abs(float(answers.sum())) == count  # then their mean is the direction
            weights = answers if alike else answers - answers.mean()
            direction = (weights.view(-1, 1, 1, 1) * (asked - at)).mean(0).sign()
            step = distance / math.sqrt(number)
            while left() > 1 and step > 1 / 510:
                ahead = _levels(at + step * direction)
                if bool(decided(ahead[None])):
                    nearer = self._to_border(x, ahead, decided, left)
                    if (nearer - x).abs().max() < (at - x).abs().max():
                        at = nearer
                    break
                step /= 2
        # Of a picture that is still too far away, what the budget leaves.
        return torch.minimum(torch.maximum(at, x - limit), x + limit)

    def _start(
        self, problem: Problem, row: int, decided: Callable[[Tensor], Tensor], left: Callable[[], int]
    ) -> Tensor | None:
        starts = problem.inputs.starts
        if starts is not None:
            picture = starts[row].float() / 255
            if bool(decided(picture[None])):
                return picture
        shape, generator = problem.x[row].shape, problem.generators[row]
        for number in range(_STARTS):
            if left() < 2:
                return None
            # Fine noise has one answer on many a network; patches and plain colours have others.
            grain = min((shape[1], 8, 4, 2, 1)[number % 5], *shape[1:])
            noise = torch.rand(1, 3, grain, grain, generator=generator)
            picture = _levels(torch.nn.functional.interpolate(noise, shape[1:], mode="nearest")[0])
            if bool(decided(picture[None])):
                return picture
        return None

    def _to_border(self, x: Tensor, at: Tensor, decided: Callable[[Tensor], Tensor], left: Callable[[], int]) -> Tensor:
        """The picture nearest to `x` between the two that still has the wanted answer, to one grey level."""
        low, high = 0.0, float((at - x).abs().max())
        best = at
        while high - low > 1 / 255 and left() > 0:
            middle = (low + high) / 2
            between = _levels(torch.minimum(torch.maximum(at, x - middle), x + middle))
            if bool(decided(between[None])):
                best, high = between, middle
            else:
                low = middle
        return best


def _levels(x: Tensor) -> Tensor:
    return (x.clamp(0, 1) * 255).round() / 255
