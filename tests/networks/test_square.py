"""Random search over squares: what it leaves alone, what it changes, and the published schedule."""

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from unmask.networks.square import random_squares, side_of, signs

pytestmark = pytest.mark.lab
PUBLISHED = ((10, 1), (50, 2), (200, 4), (500, 8), (1000, 16), (2000, 32), (4000, 64), (6000, 128), (8000, 256))


def test_the_schedule_is_the_published_one() -> None:
    for queries in (100, 5000, 10_000):
        for asked in range(1, queries, 7):
            place = int(asked / queries * 10_000)
            divisor = next((part for until, part in PUBLISHED if place <= until), 512)
            assert abs(side_of(asked, queries, 224, 224) - (0.8 / divisor * 224 * 224) ** 0.5) <= 0.5
    assert side_of(9_999, 10_000, 4, 4) == 1 and side_of(1, 10_000, 3, 5) <= 3


def test_squares_stay_where_they_help_and_nobody_is_asked_in_vain() -> None:
    torch.manual_seed(0)
    x = torch.rand(4, 3, 12, 12)
    weight = torch.randn(3, 12, 12)
    asked = torch.zeros(4, dtype=torch.int64)

    def margin_of(pictures: Tensor, rows: Tensor) -> Tensor:
        asked[rows] += 1
        return ((pictures - x[rows]) * weight).sum((1, 2, 3)) + torch.tensor([-0.1, 0.1, 3.0, 100.0])[rows]

    generators = [torch.Generator().manual_seed(n) for n in range(4)]

    def draw(rows: Tensor, side: int) -> tuple[Tensor, Tensor]:
        corners = [torch.randint(0, 12 - side + 1, (2,), generator=generators[row]) for row in rows]
        return torch.stack(corners), torch.stack([signs((3, 1, 1), generators[row]) for row in rows])

    history: list[Tensor] = []
    begun = margin_of(x, torch.arange(4))
    best, margins = random_squares(
        margin_of,
        x,
        x,
        begun,
        epsilon=0.05,
        sides=[6, 4, 3] * 20,
        draw=draw,
        observe=lambda margins: history.append(margins.clone()),
    )
    assert asked[0] == 1 and torch.equal(best[0], x[0])  # fooled before
    assert 1 < asked[1] < 61 and margins[1] < 0 and asked[3] == 61
    assert (best - x).abs().max() <= 0.05 + 1e-6 and best.min() >= 0 and best.max() <= 1
    torch.testing.assert_close(margin_of(best, torch.arange(4)), margins)
    assert all((after <= before).all() for before, after in pairwise(history))
    assert margins[3] < begun[3] - 1 and torch.equal(begun, margin_of(x, torch.arange(4)))
