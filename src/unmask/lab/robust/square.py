"""Square: a black-box attack by random search over squares, in the L-infinity norm. Lab only: torch.

Andriushchenko et al. 2020 (arXiv 1912.00049), algorithms 1 and 2, with their schedule of the squares' size for 10,000
queries stretched to the number that is asked for. It sees outputs alone, so that masked gradients do not stop it.
"""

from collections.abc import Callable

import torch
from torch import Tensor

_INITIAL = 0.8  # share of the pixels in the first squares
_HALVED_AT = (10, 50, 200, 500, 1_000, 2_000, 4_000, 6_000, 8_000)  # of 10,000 queries


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
    stripes = torch.randint(0, 2, (count, channels, 1, side), generator=generator).to(faces) * 2 - 1
    started = (faces + epsilon * stripes).clamp(0, 1)
    everything = torch.arange(count)
    margins, first = margin_of(faces, everything), margin_of(started, everything)
    better = first < margins
    best[better], margins[better] = started[better], first[better]
    for query in range(1, queries):
        wide = _side_of(query, queries, side)
        # Drawn for all pictures, so that one's squares do not depend on which others still stand.
        places = torch.randint(0, side - wide + 1, (count, 2), generator=generator).tolist()
        signs = torch.randint(0, 2, (count, channels, 1, 1), generator=generator).to(faces) * 2 - 1
        rows = (margins >= 0).nonzero()[:, 0]
        if not len(rows):
            break
        tried = best[rows]
        for place, row in enumerate(rows.tolist()):
            top, left = places[row]
            window = (slice(None), slice(top, top + wide), slice(left, left + wide))
            tried[place][window] = (faces[row][window] + epsilon * signs[row]).clamp(0, 1)
        tried_margins = margin_of(tried, rows)
        better = tried_margins < margins[rows]
        best[rows[better]], margins[rows[better]] = tried[better], tried_margins[better]
    return best


def _side_of(query: int, queries: int, side: int) -> int:
    """Side of the squares at a query."""
    at = query / queries * 10_000
    share = _INITIAL / 2 ** sum(at > one for one in _HALVED_AT)
    return max(1, min(side, round((share * side * side) ** 0.5)))
