"""The projected-gradient core: it stays in its ball and in [0, 1], climbs, and refuses what has no gradient."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from unmask.errors import DataError
from unmask.lab.robust.pgd import Start, distance, evaluating, pgd, start_of
from unmask.networks.pgd import Norm, unit, within

pytestmark = pytest.mark.lab

torch.manual_seed(0)
WEIGHT = torch.randn(3 * 6 * 6, 4)


def logits(faces: Tensor) -> Tensor:
    return faces.flatten(1) @ WEIGHT


def first(outputs: Tensor) -> Tensor:
    return outputs[:, 0]


def pictures(seed: int, count: int = 3) -> Tensor:
    """Some values at the ends of the range."""
    return (1.4 * torch.rand((count, 3, 6, 6), generator=torch.Generator().manual_seed(seed)) - 0.2).clamp(0, 1)


@settings(deadline=None, max_examples=40)
@given(
    epsilon=st.floats(0, 3, allow_subnormal=False),
    step=st.floats(0.001, 2),
    steps=st.integers(0, 4),
    norm=st.sampled_from(["linf", "l2"]),
    start=st.sampled_from(["none", "uniform", "gaussian"]),
    best=st.booleans(),
    seed=st.integers(0, 9),
)
def test_pictures_stay_in_the_ball_and_in_their_range(
    epsilon: float, step: float, steps: int, norm: Norm, start: Start, best: bool, seed: int
) -> None:
    faces = pictures(seed)
    moved = pgd(
        logits, faces, first, epsilon=epsilon, step=step, steps=steps, norm=norm, start=start, best=best,
        generator=torch.Generator().manual_seed(seed),
    )  # fmt: skip
    assert moved.shape == faces.shape and not moved.requires_grad
    assert moved.min() >= 0 and moved.max() <= 1
    assert distance(moved, faces, norm).max() <= epsilon + 1e-5
    if epsilon == 0:
        assert torch.equal(moved, faces)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_on_a_linear_function_it_finds_the_best_point(norm: Norm) -> None:
    """Far from the ends of the range: epsilon times the dual norm of the weights."""
    faces, epsilon = torch.full((2, 3, 6, 6), 0.5), 0.1
    moved = pgd(logits, faces, first, epsilon=epsilon, step=0.05, steps=10, norm=norm, start="none")
    gained = first(logits(moved)) - first(logits(faces))
    dual = WEIGHT[:, 0].abs().sum() if norm == "linf" else WEIGHT[:, 0].norm()
    torch.testing.assert_close(gained, (epsilon * dual).expand(2), rtol=1e-4, atol=1e-4)


def test_one_step_without_a_start_is_fgsm() -> None:
    faces = pictures(1)
    moved = pgd(logits, faces, first, epsilon=0.03, step=0.03, steps=1, start="none")
    sign = WEIGHT[:, 0].sign().view(1, 3, 6, 6)
    assert torch.equal(moved, (faces + 0.03 * sign).clamp(0, 1))


def test_a_picture_is_attacked_alone() -> None:
    faces = pictures(2, 4)
    how = {"epsilon": 0.1, "step": 0.05, "steps": 3, "start": "none"}
    together = pgd(logits, faces, lambda out: out.square().sum(1), **how)  # type: ignore[arg-type]
    apart = torch.cat([pgd(logits, one[None], lambda out: out.square().sum(1), **how) for one in faces])  # type: ignore[arg-type]
    torch.testing.assert_close(together, apart)


def test_a_generator_decides_the_start() -> None:
    faces, how = pictures(3), {"epsilon": 0.1, "step": 0.01, "steps": 1}
    one, other, third = (
        pgd(logits, faces, first, generator=torch.Generator().manual_seed(seed), **how)  # type: ignore[arg-type]
        for seed in (1, 1, 2)
    )
    assert torch.equal(one, other) and not torch.equal(one, third)


def test_the_best_point_is_the_best_of_those_that_were_seen() -> None:
    """A step that is far too long throws the last point away from the maximum."""
    faces = torch.full((4, 3, 6, 6), 0.5)

    def bowl(out: Tensor) -> Tensor:
        return -(out - 0.55).square().flatten(1).sum(1)

    how = {"epsilon": 0.2, "step": 0.3, "steps": 5, "start": "uniform"}
    last, best = (
        pgd(lambda x: x, faces, bowl, generator=torch.Generator().manual_seed(0), best=best, **how)  # type: ignore[arg-type]
        for best in (False, True)
    )
    assert (bowl(best) > bowl(last)).all()


@pytest.mark.parametrize("start", ["uniform", "gaussian", "none"])
def test_starts(start: Start) -> None:
    faces = torch.zeros(400, 3, 4, 4)
    for norm in ("linf", "l2"):
        noise = start_of(faces, 0.2, norm, start, torch.Generator().manual_seed(0))  # type: ignore[arg-type]
        sizes = distance(noise, faces, norm)  # type: ignore[arg-type]
        if start == "none":
            assert sizes.max() == 0
        elif start == "gaussian":
            assert noise.std() == pytest.approx(0.001, rel=0.05)
        else:
            assert sizes.max() <= 0.2 + 1e-6 and sizes.mean() > 0.15  # most of a ball is near its surface


def test_within_is_the_nearest_point_of_the_ball() -> None:
    change = torch.tensor([[3.0, 4.0], [0.3, 0.4]]).view(2, 1, 1, 2)
    assert torch.equal(within(change, 1.0, "linf"), change.clamp(-1, 1))
    torch.testing.assert_close(within(change, 1.0, "l2").view(2, 2), torch.tensor([[0.6, 0.8], [0.3, 0.4]]))
    assert torch.equal(unit(torch.zeros(1, 1, 1, 2), "l2"), torch.zeros(1, 1, 1, 2))


def test_a_network_that_does_not_look_is_refused() -> None:
    faces = pictures(4)
    with pytest.raises(DataError, match="do not depend on the pictures"):
        pgd(lambda x: torch.zeros(len(x), 2), faces, first, epsilon=0.1, step=0.1, steps=1)
    weight = torch.zeros(2, requires_grad=True)
    with pytest.raises(DataError, match="do not depend on the pictures"):
        pgd(lambda x: weight.expand(len(x), 2), faces, first, epsilon=0.1, step=0.1, steps=1)


def test_a_gradient_that_is_no_number_is_refused() -> None:
    faces = torch.zeros(3, 3, 6, 6)
    faces[0] = 0.5
    with pytest.raises(DataError, match="not a finite number for 2 of 3 pictures"):
        pgd(lambda x: x.sqrt(), faces, lambda out: out.sum((1, 2, 3)), epsilon=0.1, step=0.1, steps=1, start="none")


def test_evaluation_mode_is_for_a_while_and_leaves_what_was_frozen() -> None:
    network = nn.Sequential(nn.BatchNorm2d(3), nn.Dropout())
    network.train()
    network[0].eval()
    with pytest.raises(KeyError), evaluating(network):
        assert not network.training and not network[1].training
        raise KeyError
    assert network.training and network[1].training and not network[0].training
