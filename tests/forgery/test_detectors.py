"""The conformance battery: what every detector must do, whatever its method (see `detectors.py`)."""

import copy
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detectors import DETECTORS, GENERATORS, Candidate
from driven_heads import compare_extremes
from onnxruntime import InferenceSession
from resuming import resumes_as_if_nothing_had_happened
from safetensors.torch import load_file
from torch import Tensor, nn

from unmask.errors import DataError
from unmask.lab.detection.config import DetectionTrainConfig
from unmask.lab.detection.feed import Pairs
from unmask.lab.detection.pairs_pool import Pool, PoolPlan
from unmask.lab.detection.task import DetectionTask
from unmask.lab.engine import save_weights
from unmask.lab.onnx_export import write_onnx
from unmask.lab.robust.config import RobustOptions
from unmask.lab.robust.training import AdversarialTraining

pytestmark = pytest.mark.lab
everyone = pytest.mark.parametrize("candidate", DETECTORS, ids=str)
learners = pytest.mark.parametrize("candidate", [one for one in DETECTORS if one.trained], ids=str)
taught_maps = pytest.mark.parametrize("candidate", [one for one in DETECTORS if one.map_is_taught], ids=str)


def pictures(candidate: Candidate, count: int, seed: int = 0) -> Tensor:
    """(count, 3, S, S) in [0, 1]: patchy pictures with fine texture, none like another."""
    generator = torch.Generator().manual_seed(seed)
    patches = torch.rand((count, 3, 4, 4), generator=generator)
    ground = nn.functional.interpolate(patches, size=candidate.size, mode="bilinear")
    return (0.8 * ground + 0.2 * torch.rand(ground.shape, generator=generator)).clamp(0, 1)


def batch_of(candidate: Candidate, pairs: int = 4) -> dict[str, Tensor]:
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
        "faces": faces,
        "labels": torch.tensor([0.0, 1.0]).repeat(pairs),
        "masks": masks.flatten(0, 1)[:, None],
        "families": torch.stack([torch.zeros(pairs), torch.arange(pairs) % len(GENERATORS) + 1], 1).flatten().long(),
        "progress": torch.tensor(0.5),
    }


@cache
def _settled(candidate: Candidate) -> Any:
    torch.manual_seed(0)
    detector = candidate.make()
    if candidate.trained:
        detector.fit_statistics([batch_of(candidate)])
    for module in detector.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = None  # a plain mean: one pass settles the statistics
    with torch.no_grad():
        detector.train()(pictures(candidate, 16, seed=9))
    return detector.eval()


@cache
def _finished(candidate: Candidate) -> Any:
    detector = copy.deepcopy(_settled(candidate))
    with torch.no_grad():
        detector.fit_posthoc([batch_of(candidate, 12)], [batch_of(candidate, 6)])
    return detector


@pytest.fixture
def finished(candidate: Candidate) -> Any:
    """The same after the last step: what is fitted on the frozen network is fitted."""
    return copy.deepcopy(_finished(candidate))


@pytest.fixture
def settled(candidate: Candidate) -> Any:
    """An untrained detector whose normalisation knows its data, in evaluation mode."""
    return copy.deepcopy(_settled(candidate))


def losses_of(candidate: Candidate, detector: Any, batch: Any) -> dict[str, Tensor]:
    torch.manual_seed(3)  # some methods draw masks
    losses: dict[str, Tensor] = detector.training_losses(batch)
    return losses


@torch.no_grad()
def judge(detector: Any, faces: Tensor) -> Any:
    return detector(faces)


@everyone
@pytest.mark.parametrize("count", [0, 1, 5])
def test_outputs_have_their_shapes_and_are_finite(candidate: Candidate, settled: Any, count: int) -> None:
    out = judge(settled, pictures(candidate, count))
    cells = candidate.size // candidate.stride
    assert out.logit.shape == (count,) and out.map.shape == (count, 1, cells, cells)
    assert out.logit.isfinite().all() and out.map.isfinite().all()


@everyone
def test_it_says_how_faces_are_normalised(candidate: Candidate, settled: Any) -> None:
    assert len(settled.mean) == len(settled.std) == 3
    assert all(0 <= value <= 1 for value in settled.mean) and all(0 < value <= 1 for value in settled.std)
    assert settled.size % candidate.stride == 0


@learners
def test_every_parameter_learns(candidate: Candidate, settled: Any) -> None:
    # In evaluation mode: in training mode a normalisation behind a bias takes the bias out again.
    losses = losses_of(candidate, settled, batch_of(candidate))
    torch.stack(list(losses.values())).sum().backward()
    for name, parameter in settled.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name
            assert parameter.grad.abs().max() > 0, name


@everyone
def test_it_repeats_itself(candidate: Candidate, settled: Any) -> None:
    faces = pictures(candidate, 4)
    one, two = judge(settled, faces), judge(settled, faces)
    assert torch.equal(one.logit, two.logit) and torch.equal(one.map, two.map)


@everyone
def test_one_seed_makes_one_detector(candidate: Candidate) -> None:
    states = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        states.append(candidate.make().state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert any(not torch.equal(states[0][name], states[2][name]) for name in states[0])


@everyone
def test_a_face_is_judged_alone(candidate: Candidate, settled: Any) -> None:
    faces = pictures(candidate, 5)
    together = judge(settled, faces)
    apart = [judge(settled, face[None]) for face in faces]
    torch.testing.assert_close(together.logit, torch.cat([out.logit for out in apart]), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(together.map, torch.cat([out.map for out in apart]), rtol=1e-5, atol=1e-4)


@everyone
def test_the_order_does_not_matter(candidate: Candidate, settled: Any) -> None:
    faces, order = pictures(candidate, 5), torch.tensor([3, 1, 4, 0, 2])
    straight, mixed = judge(settled, faces), judge(settled, faces[order])
    torch.testing.assert_close(straight.logit[order], mixed.logit, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(straight.map[order], mixed.map, rtol=1e-5, atol=1e-4)


@everyone
def test_different_faces_are_told_apart(candidate: Candidate, settled: Any) -> None:
    out = judge(settled, pictures(candidate, 5))
    assert out.logit.std() > 1e-4 and out.map.std() > 1e-4


@everyone
def test_its_state_comes_back(candidate: Candidate, settled: Any, tmp_path: Path) -> None:
    faces = pictures(candidate, 4)
    expected = judge(settled, faces)
    torch.manual_seed(7)
    other = candidate.make().eval()
    other.load_state_dict(settled.state_dict())
    assert torch.equal(judge(other, faces).logit, expected.logit)
    # Kept in half precision, which moves the logits of an untrained detector by up to 0.05 (measured).
    save_weights(settled, tmp_path / "weights.safetensors")
    other.load_state_dict(load_file(tmp_path / "weights.safetensors"))
    torch.testing.assert_close(judge(other, faces).logit, expected.logit, rtol=0, atol=0.15)


@everyone
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


@learners
def test_losses_are_finite_scalars(candidate: Candidate, settled: Any) -> None:
    for losses in (
        losses_of(candidate, settled, batch_of(candidate)),
        losses_of(candidate, settled.train(), batch_of(candidate, pairs=2)),
    ):
        assert losses and all(loss.shape == () and loss.isfinite() for loss in losses.values())


@taught_maps
def test_unknown_masks_teach_nothing(candidate: Candidate, settled: Any) -> None:
    """Cells marked -1 must not matter: neither all of them, nor whatever stands beside them."""
    batch = batch_of(candidate)
    unknown = {**batch, "masks": torch.full_like(batch["masks"], -1)}
    losses = losses_of(candidate, settled, unknown)
    assert all(loss.isfinite() for loss in losses.values())
    everything = torch.stack(list(losses_of(candidate, settled, batch).values())).sum()
    assert torch.stack(list(losses.values())).sum() < everything
    half = batch["masks"].clone()
    half[batch["labels"] == 1] = -1
    mixed = torch.stack(list(losses_of(candidate, settled, {**batch, "masks": half}).values())).sum()
    mixed.backward()
    assert mixed.isfinite() and all(p.grad.isfinite().all() for p in settled.parameters() if p.grad is not None)


HARDENED = RobustOptions(robust="mart", anc=True, attack_steps=1, attack_epsilon="8/255")
WITH_REVERSE_ATTENTION = ("plain", "acmf", "fedforgery", "gend")


@learners
def test_it_can_be_hardened(candidate: Candidate, settled: Any) -> None:
    """Attacked within its budget, with every base's terms; the weights that classes depend on learn."""
    detector, batch = settled.train(), batch_of(candidate, pairs=2)
    modes = {name: module.training for name, module in detector.named_modules()}
    for base in ("pgd-at", "trades", "mart"):
        torch.manual_seed(3)
        objective = AdversarialTraining(replace(HARDENED, robust=base, anc=base == "mart"))
        losses = objective(detector, dict(batch))
        own = set(losses_of(candidate, detector, batch))
        assert set(losses) - own == {"pgd-at": set(), "trades": {"divergence"}}.get(
            base, {"margin", "divergence", "contrast"}
        )
        assert all(loss.shape == () and loss.isfinite() for loss in losses.values())
    torch.stack(list(losses.values())).sum().backward()
    assert all(p.grad.isfinite().all() for p in detector.parameters() if p.grad is not None)
    moved = objective.attack(detector, batch["faces"], batch["labels"].long())
    change = (moved - batch["faces"]).abs()
    assert 0 < change.max() <= 8 / 255 + 1e-6 and moved.min() >= 0 and moved.max() <= 1
    assert {name: module.training for name, module in detector.named_modules()} == modes


@learners
def test_reverse_attention_is_for_those_whose_logit_is_linear(candidate: Candidate, settled: Any) -> None:
    detector, batch = settled, batch_of(candidate, pairs=2)
    if not candidate.name.startswith(WITH_REVERSE_ATTENTION):
        with pytest.raises(DataError, match="reverse attention"):
            detector.check_reverse_attention()
        return
    detector.check_reverse_attention()
    detector.reverse_attention = True
    objective = AdversarialTraining(replace(HARDENED, ra=True))
    losses = objective(detector.train(), dict(batch))
    assert "final" in losses and all(loss.isfinite() for loss in losses.values())
    with torch.no_grad():
        _, served = detector.eval().heads(batch["faces"])
    # The statistics of training mode have moved; what is served is the detector's own logit all the same.
    torch.testing.assert_close(served[:, 1] - served[:, 0], judge(detector, batch["faces"]).logit, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
@learners
def test_it_learns_eight_faces_by_heart(candidate: Candidate) -> None:
    torch.manual_seed(0)
    detector = candidate.make()
    batch, losses = batch_of(candidate), []
    detector.fit_statistics([batch])
    optimiser = torch.optim.AdamW(detector.train().parameters(), lr=2e-3)
    for _ in range(candidate.steps):
        loss = torch.stack(list(detector.training_losses(batch).values())).sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert np.isfinite(losses).all() and losses[-1] < losses[0]
    with torch.no_grad():
        out = detector(batch["faces"])
        assert ((out.logit > 0) == (batch["labels"] == 1)).all()
        # What is fitted after the last step keeps what was learned.
        detector.eval().fit_posthoc([batch], [batch])
    if candidate.map_is_taught:
        heat = out.map.sigmoid()
        assert heat[batch["masks"] == 1].mean() > heat[batch["masks"] == 0].mean() + 0.3


@learners
def test_what_is_fitted_afterwards_keeps_the_contract(candidate: Candidate, settled: Any, finished: Any) -> None:
    faces = pictures(candidate, 5)
    together = judge(finished, faces)
    apart = [judge(finished, face[None]) for face in faces]
    assert together.logit.isfinite().all() and together.map.shape == judge(settled, faces).map.shape
    torch.testing.assert_close(together.logit, torch.cat([out.logit for out in apart]), rtol=1e-5, atol=1e-4)
    assert judge(finished, faces[:0]).logit.shape == (0,)
    other = candidate.make().eval()
    other.load_state_dict(finished.state_dict())
    assert torch.equal(judge(other, faces).logit, together.logit)


@learners
def test_it_is_finished_the_same_way_every_time(candidate: Candidate, finished: Any) -> None:
    again = copy.deepcopy(_settled(candidate))
    with torch.no_grad():
        again.fit_posthoc([batch_of(candidate, 12)], [batch_of(candidate, 6)])
    for name, value in finished.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name


@pytest.mark.slow
@everyone
def test_the_pack_says_what_torch_says(candidate: Candidate, tmp_path: Path) -> None:
    """Through the exporter and ONNX Runtime, in batches of one, five and none."""
    detector = copy.deepcopy(_finished(candidate) if candidate.trained else _settled(candidate))
    task = DetectionTask()
    write_onnx(task.exported(detector), candidate.size, task.outputs, tmp_path / "model.onnx")
    session = InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    faces = pictures(candidate, 5)
    expected = judge(detector, faces)
    for some in (faces, faces[:1], faces[:0]):
        logit, heat = session.run(None, {"faces": some.numpy()})
        assert logit.shape == (len(some),) and heat.shape == (len(some), *expected.map.shape[1:])
        # Weights are kept in half precision, normalisation folded in; the arithmetic is float32 in both.
        np.testing.assert_allclose(logit, expected.logit[: len(some)].numpy(), rtol=2e-2, atol=5e-2)
        np.testing.assert_allclose(heat, expected.map[: len(some)].sigmoid().numpy(), atol=2e-2)


@pytest.mark.slow
@everyone
def test_the_pack_says_what_torch_says_where_heads_are_extreme(candidate: Candidate) -> None:
    """Every head at 30 and beyond, above and below zero."""
    detector = copy.deepcopy(_settled(candidate))
    assert compare_extremes(DetectionTask(), detector, candidate.size, {"faces": pictures(candidate, 5)})


@pytest.mark.slow
@learners
def test_a_resumed_run_ends_like_an_uninterrupted_one(candidate: Candidate, tmp_path: Path) -> None:
    size, pairs = candidate.size, 6
    rng = np.random.default_rng(0)
    plan = PoolPlan(pairs, 0, size, 1.4, dict.fromkeys(GENERATORS, 1.0), {"ffhq": 1.0})
    numbers = [np.arange(pairs, dtype=np.uint8) % len(GENERATORS), *(np.zeros(pairs, np.uint8) for _ in range(2))]
    masks = np.full((pairs, 8, 8), 254, np.uint8)
    pool = Pool(plan, rng.integers(0, 256, (pairs, 2, size, size, 3), np.uint8), masks, *numbers)
    config = DetectionTrainConfig(size=size, window=size, pairs=pairs, steps=3, batch_pairs=2)
    assert resumes_as_if_nothing_had_happened(candidate.make, Pairs(pool, config), config, tmp_path, 3)
