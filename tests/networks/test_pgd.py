"""The core of the attacks: on a linear model the answer is known."""

import pytest
import torch
from torch import Tensor, nn

from unmask.networks.pgd import ascent, pgd, projected, random_in_ball, unit

pytestmark = pytest.mark.lab
EPSILON = 0.05


@pytest.fixture
def weights() -> Tensor:
    return torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def x() -> Tensor:
    return 0.3 + 0.4 * torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def summed(out: Tensor) -> Tensor:
    return out


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("random", [False, True])
def test_a_linear_model_is_climbed_to_the_end(norm: str, random: bool, weights: Tensor, x: Tensor) -> None:
    generator = torch.Generator().manual_seed(2) if random else None
    linear = lambda x: (x * weights).sum((1, 2, 3))  # noqa: E731
    found = pgd(linear, x, summed, EPSILON, EPSILON / 4, 40, norm, generator)  # type: ignore[arg-type]
    best = EPSILON * (weights.sign() if norm == "linf" else weights / weights.norm())
    torch.testing.assert_close(found - x, best.expand_as(x), atol=2e-4, rtol=0)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_ball_and_range_are_kept(norm: str, weights: Tensor) -> None:
    edge = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(1)).round()
    found = pgd(lambda x: (x * weights).sum((1, 2, 3)), edge, summed, 0.5, 0.3, 7, norm, torch.Generator())  # type: ignore[arg-type]
    change = found - edge
    size = change.abs().amax((1, 2, 3)) if norm == "linf" else change.flatten(1).norm(dim=1)
    assert (size <= 0.5 + 1e-6).all() and found.min() >= 0 and found.max() <= 1 and change.abs().sum() > 0


def test_nothing_reaches_the_weights_and_modes_are_left_alone(x: Tensor) -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.LazyLinear(2)).train()
    network(x)
    found = pgd(network, x.requires_grad_(), lambda out: out[:, 0], EPSILON, EPSILON, 2)
    assert network.training and all(parameter.grad is None for parameter in network.parameters())
    assert not found.requires_grad and x.grad is None


def test_without_steps_the_start_is_returned(x: Tensor, weights: Tensor) -> None:
    assert torch.equal(pgd(lambda x: x.sum((1, 2, 3)), x, summed, EPSILON, 1, 0), x)
    start = x + 1
    assert torch.equal(
        pgd(lambda x: x.sum((1, 2, 3)), x, summed, EPSILON, 1, 0, start=start), projected(start, x, EPSILON, "linf")
    )


def test_pictures_do_not_depend_on_each_other(x: Tensor, weights: Tensor) -> None:
    model = lambda x: ((x * weights).sum((1, 2, 3))).sin()  # noqa: E731
    together = pgd(model, x, summed, EPSILON, 0.01, 5, "l2")
    alone = torch.cat([pgd(model, one[None], summed, EPSILON, 0.01, 5, "l2") for one in x])
    torch.testing.assert_close(together, alone)


def test_what_is_observed_and_what_turns_the_gradient(x: Tensor, weights: Tensor) -> None:
    seen: list[tuple[Tensor, Tensor, Tensor]] = []
    found = pgd(
        lambda x: (x * weights).sum((1, 2, 3)),
        *(x, summed, EPSILON, EPSILON, 1),
        direction=lambda gradient: -gradient,
        observe=lambda at, losses, gradient: seen.append((at, losses, gradient)),
    )
    torch.testing.assert_close(found, x - EPSILON * weights.sign().expand_as(x))
    ((at, losses, gradient),) = seen
    assert torch.equal(at, x) and losses.shape == (4,)
    torch.testing.assert_close(gradient, weights.expand_as(x))


def test_a_gradient_of_nothing_moves_nothing(x: Tensor) -> None:
    assert torch.equal(unit(torch.zeros_like(x), "l2"), torch.zeros_like(x))
    assert torch.equal(ascent(lambda x: x.sum((1, 2, 3)) * 0, x, summed), torch.zeros_like(x))


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_draws_fill_the_ball(norm: str) -> None:
    noise = random_in_ball(torch.zeros(200, 3, 4, 4), 0.5, norm, torch.Generator().manual_seed(0))  # type: ignore[arg-type]
    size = noise.abs().amax((1, 2, 3)) if norm == "linf" else noise.flatten(1).norm(dim=1)
    assert size.max() <= 0.5 + 1e-6 and size.max() > 0.45 and abs(float(noise.mean())) < 0.02
