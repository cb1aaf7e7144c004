from pathlib import Path
from typing import Any

import pytest
import torch

from unmask.forgery.detector import DetectorOutput
from unmask.forgery.plain import Plain
from unmask.packs.assets import EFFICIENTNET_LITE0, cache_folder

pytestmark = pytest.mark.lab


@pytest.mark.parametrize(("view", "channels"), [("rgb", 3), ("residual", 3), ("both", 6)])
def test_the_view_decides_what_the_backbone_sees(view: Any, channels: int) -> None:
    detector = Plain(view, weights="none").eval()
    seen: list[torch.Tensor] = []
    detector.backbone.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    faces = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        detector(faces)
    (shown,) = seen
    assert shown.shape == (2, channels, 64, 64)
    if view != "residual":
        torch.testing.assert_close(shown[:, :3], (faces * 255 - 127) / 128, rtol=1e-5, atol=1e-5)
    if view != "rgb":
        residual = shown[:, -3:]
        inner = detector.normalised(faces)[:, :, 10:13, 20:23]
        torch.testing.assert_close(residual[:, :, 11, 21], 4 * (inner[:, :, 1, 1] - inner.mean((2, 3))))


def test_the_residual_does_not_see_the_colour() -> None:
    detector = Plain("residual", weights="none").eval()
    faces = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(detector(faces).logit, detector(faces + 0.2).logit, rtol=1e-3, atol=1e-4)


def test_the_map_has_28_cells_a_side_at_full_size() -> None:
    detector = Plain("rgb", weights="none").eval()
    with torch.no_grad():
        assert detector(torch.rand(1, 3, Plain.size, Plain.size)).map.shape == (1, 1, 28, 28)


def test_no_loss_rewards_a_logit_without_end() -> None:
    """Labels are smoothed: the best logits are those of 0.98 and 0.02."""
    detector = Plain("rgb", weights="none")

    def verdict(size: float) -> float:
        logits = torch.tensor([-size, size])
        detector.forward = lambda _: DetectorOutput(logits, torch.zeros(2, 1, 8, 8))
        batch = {"faces": torch.zeros(2), "labels": torch.tensor([0.0, 1.0]), "masks": torch.zeros(2, 1, 8, 8)}
        return float(detector.training_losses(batch)["verdict"])

    best = float(torch.logit(torch.tensor(0.98)))
    assert verdict(best) < min(verdict(best - 1), verdict(best + 1), verdict(20))


@pytest.mark.parametrize("view", ["rgb", "both"])
def test_it_starts_from_imagenet(view: Any) -> None:
    name = f"{EFFICIENTNET_LITE0.package}-{EFFICIENTNET_LITE0.version}"
    file: Path = cache_folder() / name / Path(EFFICIENTNET_LITE0.member).name
    if not file.is_file():
        pytest.skip(f"the ImageNet weights are not in the cache: {file}")
    stem = next(iter(torch.load(file, weights_only=True).values()))
    weight = Plain(view).backbone.conv_stem.weight
    expected = stem if view == "rgb" else 0.7 * torch.cat([stem, stem], 1)
    torch.testing.assert_close(weight, expected)
