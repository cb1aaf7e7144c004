"""Square: random search over squares in the maximum norm, the core of two attacks by answers alone. Lab only: torch.

Andriushchenko et al. 2020 (arXiv 1912.00049), algorithms 1 and 2, with their schedule of the squares' size for 10,000
questions stretched to the number that is asked for.
"""

import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor

SHARE = 0.8
"""Share of the picture that the first square covers."""
_HALVED_AT = (10, 50, 200, 500, 1_000, 2_000, 4_000, 6_000, 8_000)  # of 10,000 questions

Draw = Callable[[Tensor, int], tuple[Tensor, Tensor]]
"""For some rows (b,) and a side: the corners int64 (b, 2) of squares, top and left, and their signs (b, C, 1, 1)."""


@torch.no_grad()
def random_squares(
    margin_of: Callable[[Tensor, Tensor], Tensor],
    x: Tensor,
    best: Tensor,
    margins: Tensor,
    *,
    epsilon: float,
    sides: Iterable[int],
    draw: Draw,
    finish: Callable[[Tensor], Tensor] = lambda pictures: pictures,
    observe: Callable[[Tensor], None] = lambda margins: None,
) -> tuple[Tensor, Tensor]:
    """Squares at random places, pushed all the way to one end of the budget, that stay where they help.

    Args:
        margin_of: from pictures (b, C, H, W) and their row numbers (b,) to margins (b,), how sure the true class is; a
            picture is fooled below 0, and asked about no more.
        x: the pictures (B, C, H, W), in [0, 1].
        best: where to begin, within epsilon of `x`.
        margins: (B,), of `best`.
        epsilon: of the maximum norm.
        sides: of the square of every question, in pixels.
        draw: what is random.
        finish: what a picture goes through before it is asked about.
        observe: is given all margins (B,) after every question.

    Returns:
        best: (B, C, H, W), in [0, 1].
        margins: (B,), of them.
    """
    best, margins = best.clone(), margins.clone()
    for side in sides:
        rows = (margins >= 0).nonzero()[:, 0]
        if not len(rows):
            break
        corners, signs = draw(rows, side)
        tried = best[rows]
        for place, (row, (top, left)) in enumerate(zip(rows.tolist(), corners.tolist(), strict=True)):
            window = (slice(None), slice(top, top + side), slice(left, left + side))
            tried[place][window] = (x[row][window] + epsilon * signs[place]).clamp(0, 1)
        tried = finish(tried)
        tried_margins = margin_of(tried, rows)
        better = tried_margins < margins[rows]
        best[rows[better]], margins[rows[better]] = tried[better], tried_margins[better]
        observe(margins)
    return best, margins


def side_of(asked: int, queries: int, high: int, wide: int, share: float = SHARE) -> int:
    """Side of the square in pixels at a question.

    Args:
        asked: how many were asked before.
        queries: how many there are in all.
        high, wide: of the picture.
        share: of the picture that the first square covers.
    """
    place = asked / queries * 10_000
    share /= 2 ** sum(place > one for one in _HALVED_AT)
    return max(1, min(round(math.sqrt(share * high * wide)), high, wide))


def signs(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Random -1 and 1."""
    return torch.randint(0, 2, shape, generator=generator) * 2.0 - 1
