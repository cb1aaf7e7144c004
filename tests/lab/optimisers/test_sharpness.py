"""SAM, GSAM, SAGM and GCSAM: their rules by hand, what they undo, and what they are given that is not well."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from unmask.errors import DataError
from unmask.lab.optimisers.sharpness import GCSAM, GSAM, SAGM, SAM, SharpnessAware

pytestmark = pytest.mark.lab
SGD = partial(torch.optim.SGD, lr=0.1)
MOMENTUM = partial(torch.optim.SGD, lr=0.1, momentum=0.9, weight_decay=0.01)
ADAMW = partial(torch.optim.AdamW, lr=0.01, weight_decay=0.1)


def given_gradients(parameters: Sequence[Tensor], *looks: Sequence[Tensor | None]) -> Callable[[], float]:
    """A closure that leaves gradients of one's choice: those of the first look, then those of the second, and so on."""
    left = list(looks)

    def closure() -> float:
        for parameter, gradient in zip(parameters, left.pop(0), strict=True):
            parameter.grad = None if gradient is None else gradient.clone()
        return float(len(left))

    return closure


def handed_on(make: Callable[..., SharpnessAware], e: Sequence[float], g: Sequence[float], **how: Any) -> Tensor:
    """The gradient that the base optimiser gets of two."""
    weight = nn.Parameter(torch.tensor([3.0, -4.0], dtype=torch.float64))
    before = weight.detach().clone()
    optimiser = make([weight], partial(torch.optim.SGD, lr=1.0), **how)
    optimiser.step(given_gradients([weight], [torch.tensor(e).double()], [torch.tensor(g).double()]))
    return before - weight.detach()


def at_angle(degrees: float, length: float = 1.0) -> list[float]:
    return [length * math.cos(math.radians(degrees)), length * math.sin(math.radians(degrees))]


# The rules


def test_gcsam_keeps_a_sam_gradient_that_agrees() -> None:
    assert handed_on(GCSAM, [1.0, 0.0], at_angle(30, 2.0)).tolist() == pytest.approx(at_angle(30, 2.0), abs=1e-6)


def test_gcsam_projects_a_sam_gradient_that_disagrees_mildly() -> None:
    """Of equal lengths it lies on the bisector, shortened to the cosine of half the angle."""
    expected = at_angle(25, math.cos(math.radians(25)))
    assert handed_on(GCSAM, [1.0, 0.0], at_angle(50)).tolist() == pytest.approx(expected, abs=1e-6)


def test_gcsam_projects_on_the_sum_of_unequal_gradients() -> None:
    """z = (3, 1.5), <g, z> = 5.25, ||z||^2 = 11.25."""
    share = 5.25 / 11.25
    assert handed_on(GCSAM, [2.0, 0.0], [1.0, 1.5], beta1=0.1).tolist() == pytest.approx([3 * share, 1.5 * share])


@pytest.mark.parametrize("degrees", [61, 90, 120])
def test_gcsam_takes_the_gradient_of_the_loss_in_conflict(degrees: float) -> None:
    assert handed_on(GCSAM, [0.5, 0.0], at_angle(degrees)).tolist() == pytest.approx([0.5, 0.0])


@pytest.mark.parametrize(
    ("beta1", "beta2", "branch"), [(0.1, 0.6, "sam"), (0.6, 0.9, "loss"), (0.6, 0.6, "loss"), (0.59, 0.61, "projected")]
)
def test_boundaries_belong_to_the_published_branches(beta1: float, beta2: float, branch: str) -> None:
    """(3, 4) and (1, 0) have the cosine 0.6 exactly: c >= beta2 is SAM's, c <= beta1 the loss's."""
    weight = nn.Parameter(torch.ones(2, dtype=torch.float64))
    optimiser = GCSAM([weight], SGD, beta1=beta1, beta2=beta2)
    e, g = torch.tensor([1.0, 0.0]).double(), torch.tensor([3.0, 4.0]).double()
    optimiser.step(given_gradients([weight], [e], [g]))
    assert optimiser.statistics is not None
    assert optimiser.statistics.cosines == (0.6,) and optimiser.statistics.branches == (branch,)


def test_without_a_lower_bound_nothing_falls_back_to_the_loss() -> None:
    """c = -0.6 with beta1 = 0: z = (-0.2, 0.8) of e = (1, 0) and g = (-1.2, 0.8)... projected, not e."""
    e, g = torch.tensor([1.0, 0.0]), torch.tensor([-1.2, 1.6])
    z = e + g
    expected = (g @ z / (z @ z) * z).tolist()
    assert handed_on(GCSAM, e.tolist(), g.tolist(), beta1=0.0).tolist() == pytest.approx(expected, rel=1e-6)


@given(st.integers(0, 10_000))
def test_in_the_middle_band_the_step_goes_downhill(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    angle = 37.5 + 22 * float(torch.rand((), generator=generator))
    lengths = torch.exp(2 * torch.randn(2, generator=generator)).tolist()
    e, g = at_angle(0, lengths[0]), at_angle(angle, lengths[1])
    u = handed_on(GCSAM, e, g)
    assert float(u @ torch.tensor(e).double()) >= 0 and float(u @ torch.tensor(g).double()) >= 0
    assert not torch.allclose(u, torch.tensor(g).double()) and not torch.allclose(u, torch.tensor(e).double())


def test_sam_hands_on_the_second_gradient() -> None:
    assert handed_on(SAM, [1.0, 0.0], [-3.0, 2.0]).tolist() == [-3.0, 2.0]


def test_gsam_takes_the_orthogonal_part_of_the_loss_away() -> None:
    """Of e = (1, 2) the part orthogonal to g = (2, 0) is (0, 2)."""
    assert handed_on(GSAM, [1.0, 2.0], [2.0, 0.0], alpha=0.4).tolist() == pytest.approx([2.0, -0.8])
    assert handed_on(GSAM, [1.0, 2.0], [2.0, 0.0], alpha=0.0).tolist() == pytest.approx([2.0, 0.0])


def test_sagm_hands_on_the_mean_of_both() -> None:
    assert handed_on(SAGM, [1.0, 2.0], [2.0, 0.0]).tolist() == pytest.approx([1.5, 1.0])


# Where the second gradient is taken


@pytest.mark.parametrize(
    ("make", "how", "expected"),
    [
        (SAM, {"rho": 0.5}, [2.0 + 0.3, 5.0 - 0.4]),
        (GCSAM, {"rho": 0.5}, [2.0 + 0.3, 5.0 - 0.4]),
        # rho / ||e|| - alpha = 0.1 - 0.02
        (SAGM, {"rho": 0.5, "alpha": 0.02}, [2.0 + 0.24, 5.0 - 0.32]),
        # |p| e = (6, -20) of length 20.88; moved by rho p^2 e / length
        (SAM, {"rho": 0.5, "adaptive": True}, [2.0 + 0.5 * 12 / 436**0.5, 5.0 - 0.5 * 100 / 436**0.5]),
    ],
)
def test_the_second_look_is_at_weights_moved_uphill(
    make: Callable[..., SharpnessAware], how: dict[str, Any], expected: list[float]
) -> None:
    """The gradient at the weights is (3, -4), of length 5."""
    weight = nn.Parameter(torch.tensor([2.0, 5.0], dtype=torch.float64))
    seen: list[list[float]] = []

    def closure() -> None:
        seen.append(weight.tolist())
        weight.grad = torch.tensor([3.0, -4.0]).double()

    make([weight], SGD, **how).step(closure)
    assert seen == [[2.0, 5.0], pytest.approx(expected, abs=1e-6)]


def test_the_length_is_that_of_all_tensors_and_groups_have_their_own_rho() -> None:
    one, two = (nn.Parameter(torch.zeros(1, dtype=torch.float64)) for _ in range(2))
    optimiser = SAM([{"params": [one], "rho": 1.0}, {"params": [two], "rho": 10.0}], SGD)
    seen: list[tuple[float, float]] = []

    def closure() -> None:
        seen.append((one.item(), two.item()))
        one.grad, two.grad = torch.tensor([3.0]).double(), torch.tensor([4.0]).double()

    optimiser.step(closure)
    assert seen[1] == (pytest.approx(0.6), pytest.approx(8.0))


# What must come out as with another optimiser


class Problem(nn.Module):
    """A small network and one batch for it."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))
        self.x, self.y = torch.randn(16, 4), torch.arange(16) % 3

    def closure(self) -> Tensor:
        self.zero_grad()
        loss = nn.functional.cross_entropy(self.layers(self.x), self.y)
        loss.backward()
        return loss.detach()


def trained(make: Callable[[Any], torch.optim.Optimizer], steps: int = 5) -> list[Tensor]:
    problem = Problem()
    optimiser = make(problem.parameters())
    for _ in range(steps):
        optimiser.step(problem.closure)  # type: ignore[arg-type]
    return [parameter.detach() for parameter in problem.parameters()]


def assert_same(one: Sequence[Tensor], other: Sequence[Tensor]) -> None:
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("base", [SGD, MOMENTUM, ADAMW])
@pytest.mark.parametrize("scope", ["tensor", "global"])
def test_gcsam_is_sam_without_bounds_and_its_base_without_a_move(base: Any, scope: Any) -> None:
    make = partial(GCSAM, base=base, scope=scope)
    assert_same(trained(lambda p: make(p, rho=0.5, beta1=-2, beta2=-1)), trained(lambda p: SAM(p, base, rho=0.5)))
    assert_same(trained(lambda p: make(p, rho=0.5, beta1=2)), trained(base))
    assert_same(trained(lambda p: make(p, rho=0)), trained(base))
    assert not torch.equal(trained(lambda p: make(p, rho=0.5))[0], trained(base)[0])


@pytest.mark.parametrize("base", [SGD, MOMENTUM, ADAMW])
@pytest.mark.parametrize("make", [SAM, GSAM, SAGM, GCSAM])
def test_a_step_is_the_bases_own_with_the_gradient_handed_on(make: Callable[..., SharpnessAware], base: Any) -> None:
    """Weights before and after differ by that alone, bit for bit: the move is undone exactly."""
    problem, twin = Problem(), Problem()
    optimiser, plain = make(problem.parameters(), base, rho=0.7), base(twin.parameters())
    gradients: list[Tensor] = []
    optimiser.base.register_step_pre_hook(
        lambda *_: gradients.extend(p.grad.clone() for p in problem.parameters() if p.grad is not None)
    )
    for _ in range(3):
        gradients.clear()
        optimiser.step(problem.closure)
        for parameter, gradient in zip(twin.parameters(), gradients, strict=True):
            parameter.grad = gradient
        plain.step()
        assert_same(list(problem.parameters()), list(twin.parameters()))


def test_a_step_gives_the_loss_of_the_weights_as_they_were() -> None:
    problem = Problem()
    expected = problem.closure()
    assert SAM(problem.parameters(), SGD, rho=1.0).step(problem.closure) == expected


@pytest.mark.parametrize("make", [SAM, GSAM, SAGM, GCSAM])
@pytest.mark.parametrize("base", [MOMENTUM, ADAMW])
def test_training_goes_on_from_a_saved_state(make: Callable[..., SharpnessAware], base: Any) -> None:
    whole = trained(lambda p: make(p, base), 6)
    problem = Problem()
    first = make(problem.parameters(), base)
    for _ in range(3):
        first.step(problem.closure)
    second = make(problem.parameters(), base)
    second.load_state_dict(first.state_dict())
    assert second.base.state is second.state and second.base.param_groups is second.param_groups
    for _ in range(3):
        second.step(problem.closure)
    assert_same(list(problem.parameters()), whole)


def test_a_schedule_moves_the_rate_and_the_momentum_of_the_base() -> None:
    problem = Problem()
    optimiser = GCSAM(problem.parameters(), ADAMW)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 0.5, total_steps=10)
    optimiser.step(problem.closure)
    schedule.step()
    group = optimiser.base.param_groups[0]
    assert group["lr"] == schedule.get_last_lr()[0] != 0.01 and group["betas"][0] != 0.9


def test_a_group_can_be_added() -> None:
    one, two = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    optimiser = GCSAM([one], MOMENTUM, rho=0.3)
    optimiser.add_param_group({"params": [two], "rho": 0.1})
    assert [group["rho"] for group in optimiser.base.param_groups] == [0.3, 0.1]
    optimiser.step(given_gradients([one, two], *[[torch.ones(2), torch.ones(2)]] * 2))
    assert torch.equal(one, two) and not torch.equal(one, torch.ones(2))


# Per tensor and for all


def two_tensors(scope: Any) -> tuple[GCSAM, list[nn.Parameter]]:
    """The first tensor's gradients agree, the second's, an eighth as long, contradict each other."""
    weights = [nn.Parameter(torch.zeros(2, dtype=torch.float64)) for _ in range(2)]
    optimiser = GCSAM(weights, partial(torch.optim.SGD, lr=1.0), scope=scope)
    e = [torch.tensor([1.0, 0.0]).double(), torch.tensor([0.125, 0.0]).double()]
    g = [torch.tensor([2.0, 0.0]).double(), torch.tensor([-0.125, 0.0]).double()]
    optimiser.step(given_gradients(weights, e, g))
    return optimiser, weights


def test_every_tensor_has_its_own_branch() -> None:
    optimiser, weights = two_tensors("tensor")
    assert optimiser.statistics is not None
    assert optimiser.statistics.cosines == (1.0, -1.0) and optimiser.statistics.branches == ("sam", "loss")
    assert [weight.tolist() for weight in weights] == [[-2.0, 0.0], [-0.125, 0.0]]
    assert optimiser.statistics.metrics() == {
        "cosine": 0.0,
        "relative_rho": math.inf,  # of weights that are zero
        "branch_sam": 0.5,
        "branch_projected": 0.0,
        "branch_loss": 0.5,
    }


def test_or_all_tensors_have_one() -> None:
    """<g, e> = 2 - 1/64, of lengths sqrt(4 + 1/64) and sqrt(1 + 1/64)."""
    optimiser, weights = two_tensors("global")
    assert optimiser.statistics is not None
    assert optimiser.statistics.cosines == (pytest.approx((2 - 1 / 64) / math.sqrt((4 + 1 / 64) * (1 + 1 / 64))),)
    assert optimiser.statistics.branches == ("sam",)
    assert [weight.tolist() for weight in weights] == [[-2.0, 0.0], [0.125, 0.0]]


def test_a_global_projection_is_that_of_the_tensors_laid_side_by_side() -> None:
    e, g = torch.tensor([1.0, 0.2, -0.4, 0.9]).double(), torch.tensor([0.1, 0.8, -0.6, 0.9]).double()
    z = e + g
    expected = -(g @ z) / (z @ z) * z
    weights = [nn.Parameter(torch.zeros(2, dtype=torch.float64)) for _ in range(2)]
    optimiser = GCSAM(weights, partial(torch.optim.SGD, lr=1.0), scope="global")
    optimiser.step(given_gradients(weights, e.split(2), g.split(2)))
    assert torch.cat([weight.detach() for weight in weights]).tolist() == pytest.approx(expected.tolist())


def test_the_statistics_of_a_step() -> None:
    weight = nn.Parameter(torch.tensor([3.0, 4.0], dtype=torch.float64))
    optimiser = GCSAM([weight], SGD, rho=0.5)
    optimiser.step(given_gradients([weight], [torch.tensor([0.0, 2.0]).double()], [torch.tensor([3.0, 4.0]).double()]))
    statistics = optimiser.statistics
    assert statistics is not None and statistics.cosines == (pytest.approx(0.8),)
    assert (statistics.loss_norm, statistics.sharp_norm) == (2.0, 5.0)
    assert statistics.relative_rho == pytest.approx(0.1)


# Gradients that are not well


@pytest.mark.parametrize("make", [SAM, GSAM, SAGM, GCSAM])
@pytest.mark.parametrize(
    ("e", "g"),
    [([0.0, 0.0], [1.0, 0.0]), ([1.0, 0.0], [0.0, 0.0]), ([1.0, 2.0], [-1.0, -2.0]), ([0.0, 0.0], [0.0, 0.0])],
)
def test_zero_and_opposite_gradients_give_finite_steps(
    make: Callable[..., SharpnessAware], e: list[float], g: list[float]
) -> None:
    assert torch.isfinite(handed_on(make, e, g)).all()


@pytest.mark.parametrize("beta1", [0.5, 0.0])
@pytest.mark.parametrize(("e", "g"), [([1.0, 0.0], [0.0, 0.0]), ([0.0, 0.0], [1.0, 0.0]), ([1.0, 2.0], [-1.0, -2.0])])
def test_gcsam_takes_the_gradient_of_the_loss_where_no_direction_is_defined(
    beta1: float, e: list[float], g: list[float]
) -> None:
    assert handed_on(GCSAM, e, g, beta1=beta1).tolist() == e


@pytest.mark.parametrize("make", [SAM, GSAM, SAGM, GCSAM])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_second_gradient_that_is_not_finite_gives_way_to_the_first(
    make: Callable[..., SharpnessAware], bad: float
) -> None:
    assert handed_on(make, [1.0, 0.5], [bad, 1.0]).tolist() == [1.0, 0.5]


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_first_gradient_that_is_not_finite_is_an_error_and_leaves_the_weights(bad: float) -> None:
    weight = nn.Parameter(torch.ones(2))
    with pytest.raises(DataError, match="not finite"):
        GCSAM([weight], SGD).step(given_gradients([weight], [torch.tensor([bad, 1.0])]))
    assert weight.tolist() == [1.0, 1.0]


def test_products_of_half_precision_do_not_overflow() -> None:
    """600^2 is beyond half precision's greatest number."""
    weight = nn.Parameter(torch.ones(2, dtype=torch.float16))
    optimiser = GCSAM([weight], partial(torch.optim.SGD, lr=1e-3))
    e, g = torch.tensor([600.0, 0.0]).half(), torch.tensor([480.0, 360.0]).half()
    optimiser.step(given_gradients([weight], [e], [g]))
    assert optimiser.statistics is not None and optimiser.statistics.cosines == (pytest.approx(0.8),)
    assert torch.isfinite(weight).all()


def test_weights_without_a_gradient_stay() -> None:
    used, unused = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    SAM([used, unused], SGD).step(given_gradients([used, unused], *[[torch.ones(2), None]] * 2))
    assert unused.tolist() == [1.0, 1.0] and used.tolist() != [1.0, 1.0]


def test_an_interruption_at_the_second_look_undoes_the_move() -> None:
    weight = nn.Parameter(torch.tensor([0.1, 0.2]))
    looks = 0

    def closure() -> None:
        nonlocal looks
        looks += 1
        if looks == 2:
            raise KeyboardInterrupt
        weight.grad = torch.ones(2)

    with pytest.raises(KeyboardInterrupt):
        SAM([weight], SGD, rho=3.0).step(closure)
    assert torch.equal(weight, torch.tensor([0.1, 0.2]))


def test_a_closure_may_clear_gradients_in_place() -> None:
    """`zero_grad(set_to_none=False)` must not reach the first gradient."""
    weight = nn.Parameter(torch.tensor([1.0, 2.0]))
    optimiser = SAGM([weight], partial(torch.optim.SGD, lr=1.0), rho=0.0, alpha=0.0)

    def closure() -> None:
        optimiser.zero_grad(set_to_none=False)
        weight.square().sum().backward()

    optimiser.step(closure)
    assert weight.tolist() == [-1.0, -2.0]


def test_a_step_without_a_closure_and_a_negative_rho_are_refused() -> None:
    weight = nn.Parameter(torch.ones(2))
    with pytest.raises(DataError, match="closure"):
        SAM([weight], SGD).step()
    with pytest.raises(DataError, match="rho"):
        SAM([weight], SGD, rho=-0.1)
