"""SBKA's losses and phases against the method's equations."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from unmask.lab.search.sbka import SBKA, modality_loss, soft_cross_entropy
from unmask.lab.search.sketch_triplet import SketchTriplet, triplet_loss

BACKBONE = "mobilenetv3_small_050"
pytestmark = pytest.mark.lab


def network(**options: object) -> SBKA:
    torch.manual_seed(0)
    return SBKA(backbone=BACKBONE, weights="none", classes=("cat", "dog", "cow"), **options)  # type: ignore[arg-type]


def batch(progress: float, prior: Tensor | None = None) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    out = {
        "faces": torch.rand(6, 3, 64, 64, generator=generator),
        "labels": torch.tensor([0, 1, 2, 0, 1, 2]),
        "photos": torch.tensor([0.0, 0, 0, 1, 1, 1]),
        "progress": torch.tensor(progress),
    }
    return out if prior is None else out | {"prior": prior}


def test_soft_cross_entropy_is_kl_divergence_plus_the_targets_entropy() -> None:
    a, b = torch.randn(5, 7), torch.randn(5, 7)
    target = b.softmax(1)
    entropy = -(target * target.log()).sum(1).mean()
    expected = functional.kl_div(a.log_softmax(1), target, reduction="batchmean") + entropy
    assert soft_cross_entropy(a, b, torch.ones(5)).item() == pytest.approx(expected.item(), abs=1e-6)


def test_soft_cross_entropy_gives_sketches_no_gradient() -> None:
    a = torch.randn(4, 7, requires_grad=True)
    soft_cross_entropy(a, torch.randn(4, 7), torch.tensor([1.0, 0, 1, 0])).backward()
    assert a.grad is not None
    assert bool((a.grad[[1, 3]] == 0).all()) and bool((a.grad[[0, 2]] != 0).any())


def test_soft_cross_entropy_without_photos_is_zero() -> None:
    assert soft_cross_entropy(torch.randn(3, 4), torch.randn(3, 4), torch.zeros(3)).item() == 0


def test_teacher_is_frozen_in_the_warm_up_and_its_backbone_always() -> None:
    made = network()
    assert made.teacher is not None
    for progress in (0.2, 0.8):
        made.zero_grad(set_to_none=True)
        sum(made.training_losses(batch(progress)).values(), torch.zeros(())).backward()
        head = {id(p) for p in made.teacher.classifier.parameters()}
        moved = {id(p) for p in made.teacher.parameters() if p.grad is not None}
        assert moved == (head if progress > 0.5 else set())


def test_fixed_teacher_never_learns() -> None:
    made = network(alignment="fixed")
    assert made.teacher is not None
    losses = made.training_losses(batch(0.9))
    assert "to_teacher" not in losses
    assert not any(p.requires_grad for p in made.teacher.parameters())


@pytest.mark.parametrize("detach", [True, False])
def test_students_gradient_has_a_share_of_the_teachers_loss_only_if_targets_are_not_detached(detach: bool) -> None:
    made = network(detach_targets=detach, modality_loss="none").eval()
    parts = made.training_losses(batch(0.9))
    weight = next(made.student.parameters())
    (from_teacher,) = torch.autograd.grad(parts["to_teacher"], weight, retain_graph=True, allow_unused=True)
    own = torch.autograd.grad(parts["class"] + parts["to_student"], weight, retain_graph=True)[0]
    every = torch.autograd.grad(sum(parts.values(), torch.zeros(())), weight)[0]
    assert (from_teacher is None) == detach
    assert torch.allclose(every, own if detach else own + from_teacher, atol=1e-6)


def test_teachers_head_learns_from_its_own_loss_alone() -> None:
    made = network(modality_loss="none").eval()
    parts = made.training_losses(batch(0.9))
    assert made.teacher is not None
    weight = next(iter(made.teacher.classifier.parameters()))
    assert torch.autograd.grad(parts["to_student"], weight, retain_graph=True, allow_unused=True)[0] is None
    assert bool((torch.autograd.grad(parts["to_teacher"], weight)[0] != 0).any())


def test_prior_shifts_the_targets() -> None:
    made = network(modality_loss="none").eval()
    without = made.training_losses(batch(0.9))["to_student"]
    flat = made.training_losses(batch(0.9, torch.ones(6, 1000)))["to_student"]
    prior = torch.zeros(6, 1000)
    prior[:, 3] = 1
    peaked = made.training_losses(batch(0.9, prior))["to_student"]
    assert flat.item() == pytest.approx(without.item(), abs=1e-4)  # a constant changes no softmax
    assert peaked.item() != pytest.approx(without.item(), abs=1e-6)


def test_noise_loss_pulls_towards_the_uniform_distribution_in_the_mean() -> None:
    torch.manual_seed(0)
    features = torch.randn(1, 8, requires_grad=True)
    many = torch.stack([modality_loss(features, torch.ones(1), "noise_kl") for _ in range(4000)]).mean()
    (gradient,) = torch.autograd.grad(many, features)
    assert torch.allclose(gradient, features.softmax(1) - 1 / 8, atol=0.01)


def test_moments_loss_is_zero_for_normal_features_of_either_kind() -> None:
    torch.manual_seed(0)
    x = torch.randn(4000, 4)
    photos = (torch.arange(4000) % 2).float()
    assert modality_loss(x, photos, "moments").item() < 0.01
    assert modality_loss(x + 2 * photos[:, None], photos, "moments").item() > 1


def test_triplet_loss_by_hand() -> None:
    features = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    labels, photos = torch.tensor([0, 0, 1]), torch.tensor([0.0, 1, 1])
    # The photo of its class is at distance 1, that of the other at 0: the margin of 0.2 is missed by 1.2.
    assert triplet_loss(features, labels, photos, 0.2).item() == pytest.approx(1.2)
    assert triplet_loss(features, torch.tensor([1, 0, 1]), photos, 0.2).item() == 0


def test_networks_give_a_vector_a_picture() -> None:
    for made in (network(), SketchTriplet(backbone=BACKBONE, weights="none", classes=("a", "b"))):
        vectors = made.eval()(torch.rand(2, 3, 64, 64))
        assert vectors.shape[0] == 2 and vectors.dtype == torch.float32
