"""The conformance battery: what every detector must do, whatever its method (see `detectors.py`)."""

import copy
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detectors import DETECTORS, Candidate
from safetensors.torch import load_file
from torch import Tensor, nn

from unmask.training.engine import normalise, save_weights

pytestmark = [pytest.mark.lab, pytest.mark.parametrize("candidate", DETECTORS, ids=str)]


def pictures(candidate: Candidate, count: int, seed: int = 0) -> Tensor:
    """(count, 3, S, S) in [0, 1]: patchy pictures with fine texture, none like another."""
    generator = torch.Generator().manual_seed(seed)
    patches = torch.rand((count, 3, 4, 4), generator=generator)
    ground = nn.functional.interpolate(patches, size=candidate.size, mode="bilinear")
    return (0.8 * ground + 0.2 * torch.rand(ground.shape, generator=generator)).clamp(0, 1)


def batch_of(candidate: Candidate, detector: Any, pairs: int = 4) -> dict[str, Tensor]:
    """Pairs as the engine gives them: real first, its forgery carries a checkered patch."""
    real = pictures(candidate, pairs)
    forged, cells = real.clone(), candidate.size // candidate.stride
    half = candidate.size // 2
    checkers = (torch.arange(half)[:, None] + torch.arange(half)) % 2 * 0.5 - 0.25
    forged[:, :, :half, :half] += checkers
    masks = torch.zeros(pairs, 2, cells, cells)
    masks[:, 1, : cells // 2, : cells // 2] = 1
    faces = torch.stack([real, forged.clamp(0, 1)], 1).flatten(0, 1)
    return {
        "faces": normalise(faces, detector),
        "labels": torch.tensor([0.0, 1.0]).repeat(pairs),
        "masks": masks.flatten(0, 1)[:, None],
    }


@cache
def _settled(candidate: Candidate) -> Any:
    torch.manual_seed(0)
    detector = candidate.make()
    for module in detector.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = None  # a plain mean: one pass settles the statistics
    with torch.no_grad():
        detector.train()(normalise(pictures(candidate, 16, seed=9), detector))
    return detector.eval()


@pytest.fixture
def settled(candidate: Candidate) -> Any:
    """An untrained detector whose normalisation knows its data, in evaluation mode."""
    return copy.deepcopy(_settled(candidate))


@torch.no_grad()
def judge(detector: Any, faces: Tensor) -> Any:
    return detector(normalise(faces, detector))


@pytest.mark.parametrize("count", [0, 1, 5])
def test_outputs_have_their_shapes_and_are_finite(candidate: Candidate, settled: Any, count: int) -> None:
    out = judge(settled, pictures(candidate, count))
    cells = candidate.size // candidate.stride
    assert out.logit.shape == (count,) and out.map.shape == (count, 1, cells, cells)
    assert out.logit.isfinite().all() and out.map.isfinite().all()


def test_it_says_how_faces_are_normalised(candidate: Candidate, settled: Any) -> None:
    assert len(settled.mean) == len(settled.std) == 3
    assert all(0 <= value <= 1 for value in settled.mean) and all(0 < value <= 1 for value in settled.std)
    assert settled.size % candidate.stride == 0


def test_every_parameter_learns(candidate: Candidate, settled: Any) -> None:
    # In evaluation mode: in training mode a normalisation behind a bias takes the bias out again.
    losses = settled.training_losses(batch_of(candidate, settled))
    torch.stack(list(losses.values())).sum().backward()
    for name, parameter in settled.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name
            assert parameter.grad.abs().max() > 0, name


def test_it_repeats_itself(candidate: Candidate, settled: Any) -> None:
    faces = pictures(candidate, 4)
    one, two = judge(settled, faces), judge(settled, faces)
    assert torch.equal(one.logit, two.logit) and torch.equal(one.map, two.map)


def test_one_seed_makes_one_detector(candidate: Candidate) -> None:
    states = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        states.append(candidate.make().state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert any(not torch.equal(states[0][name], states[2][name]) for name in states[0])


def test_a_face_is_judged_alone(candidate: Candidate, settled: Any) -> None:
    faces = pictures(candidate, 5)
    together = judge(settled, faces)
    apart = [judge(settled, face[None]) for face in faces]
    torch.testing.assert_close(together.logit, torch.cat([out.logit for out in apart]), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(together.map, torch.cat([out.map for out in apart]), rtol=1e-5, atol=1e-4)


def test_the_order_does_not_matter(candidate: Candidate, settled: Any) -> None:
    faces, order = pictures(candidate, 5), torch.tensor([3, 1, 4, 0, 2])
    straight, mixed = judge(settled, faces), judge(settled, faces[order])
    torch.testing.assert_close(straight.logit[order], mixed.logit, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(straight.map[order], mixed.map, rtol=1e-5, atol=1e-4)


def test_different_faces_are_told_apart(candidate: Candidate, settled: Any) -> None:
    out = judge(settled, pictures(candidate, 5))
    assert out.logit.std() > 1e-4 and out.map.std() > 1e-4


def test_its_state_comes_back(candidate: Candidate, settled: Any, tmp_path: Path) -> None:
    faces = pictures(candidate, 4)
    told = judge(settled, faces)
    torch.manual_seed(7)
    other = candidate.make().eval()
    other.load_state_dict(settled.state_dict())
    assert torch.equal(judge(other, faces).logit, told.logit)
    # Kept in half precision, which moves the logits of an untrained detector by up to 0.05 (measured).
    save_weights(settled, tmp_path / "weights.safetensors")
    other.load_state_dict(load_file(tmp_path / "weights.safetensors"))
    torch.testing.assert_close(judge(other, faces).logit, told.logit, rtol=0, atol=0.15)


@pytest.mark.parametrize("kind", ["mirrored", "grey", "black", "white", "one colour", "channels last"])
def test_unusual_faces_get_a_finite_answer(candidate: Candidate, settled: Any, kind: str) -> None:
    faces = pictures(candidate, 3)
    usual = judge(settled, faces)
    unusual = {
        "mirrored": faces.flip(3),
        "grey": faces.mean(1, keepdim=True).expand_as(faces),
        "black": torch.zeros_like(faces),
        "white": torch.ones_like(faces),
        "one colour": torch.zeros_like(faces) + torch.tensor([0.8, 0.5, 0.3]).view(1, 3, 1, 1),
        "channels last": faces.contiguous(memory_format=torch.channels_last),
    }[kind]
    out = judge(settled, unusual)
    assert out.logit.isfinite().all() and out.map.isfinite().all()
    if kind == "channels last":
        torch.testing.assert_close(out.logit, usual.logit, rtol=1e-4, atol=1e-4)
    if kind in ("black", "white", "one colour"):
        torch.testing.assert_close(out.logit, out.logit[:1].expand(3), rtol=1e-5, atol=1e-5)


def test_losses_are_finite_scalars(candidate: Candidate, settled: Any) -> None:
    for losses in (
        settled.training_losses(batch_of(candidate, settled)),
        settled.training_losses(batch_of(candidate, settled, pairs=1)),
    ):
        assert losses and all(loss.shape == () and loss.isfinite() for loss in losses.values())


def test_unknown_masks_teach_nothing(candidate: Candidate, settled: Any) -> None:
    """Cells marked -1 must not matter: neither all of them, nor whatever stands beside them."""
    batch = batch_of(candidate, settled)
    unknown = {**batch, "masks": torch.full_like(batch["masks"], -1)}
    losses = settled.training_losses(unknown)
    assert all(loss.isfinite() for loss in losses.values())
    everything = torch.stack(list(settled.training_losses(batch).values())).sum()
    assert torch.stack(list(losses.values())).sum() < everything
    half = batch["masks"].clone()
    half[batch["labels"] == 1] = -1
    mixed = torch.stack(list(settled.training_losses({**batch, "masks": half}).values())).sum()
    mixed.backward()
    assert mixed.isfinite() and all(p.grad.isfinite().all() for p in settled.parameters() if p.grad is not None)


def test_it_learns_eight_faces_by_heart(candidate: Candidate) -> None:
    torch.manual_seed(0)
    detector = candidate.make().train()
    optimiser = torch.optim.AdamW(detector.parameters(), lr=2e-3)
    batch, losses = batch_of(candidate, detector), []
    for _ in range(12):
        loss = torch.stack(list(detector.training_losses(batch).values())).sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert np.isfinite(losses).all() and losses[-1] < 0.4 * losses[0]
    with torch.no_grad():
        out = detector(batch["faces"])
    assert ((out.logit > 0) == (batch["labels"] == 1)).all()
    heat = out.map.sigmoid()
    assert heat[batch["masks"] == 1].mean() > heat[batch["masks"] == 0].mean() + 0.3
