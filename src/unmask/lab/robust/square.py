"""Square as the evaluation under attack runs it: exact values, one source of randomness. The core is `networks.square`.

It sees outputs alone, so that masked gradients do not stop it.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from unmask.networks.square import random_squares, side_of, signs


@torch.no_grad()
def square(
    margin_of: Callable[[Tensor, Tensor], Tensor],
    faces: Tensor,
    *,
    epsilon: float,
    queries: int,
    generator: torch.Generator,
) -> Tensor:
    """Pictures within epsilon of others with as low a margin as was found.

    Args:
        margin_of: from pictures (B, 3, S, S) and their row numbers (B,) to margins (B,), how sure the true class is;
            a picture is fooled below 0, and asked about no more.
        faces: in [0, 1].
        epsilon: of the L-infinity norm.
        queries: of every picture at most.
        generator: on the CPU; what a picture meets depends on its row, not on the others.

    Returns:
        (B, 3, S, S) in [0, 1].
    """
    count, channels, side, _ = faces.shape
    best = faces.clone()
    if epsilon == 0 or queries < 1 or not count:
        return best
    stripes = signs((count, channels, 1, side), generator).to(faces)
    started = (faces + epsilon * stripes).clamp(0, 1)
    everything = torch.arange(count)
    margins, first = margin_of(faces, everything), margin_of(started, everything)
    better = first < margins
    best[better], margins[better] = started[better], first[better]

    def draw(rows: Tensor, wide: int) -> tuple[Tensor, Tensor]:
        # Drawn for all pictures, so that one's squares do not depend on which others still stand.
        corners = torch.randint(0, side - wide + 1, (count, 2), generator=generator)
        return corners[rows], signs((count, channels, 1, 1), generator).to(faces)[rows]

    sides = (side_of(query, queries, side, side) for query in range(1, queries))
    return random_squares(margin_of, faces, best, margins, epsilon=epsilon, sides=sides, draw=draw)[0]
