import numpy as np
import pytest
import torch
from small_victims import pictures

from unmask.redteam.measures import kernel_distance, psnr, structural_similarity

pytestmark = pytest.mark.lab


def test_psnr_by_hand() -> None:
    first = torch.full((2, 3, 16, 16), 100, dtype=torch.uint8)
    second = first.clone()
    second[1] += 5
    assert psnr(first, second).tolist() == [np.inf, pytest.approx(20 * np.log10(255 / 5))]


def test_ssim_falls_with_noise() -> None:
    clean = pictures(2)
    noise = torch.randint(-1, 2, clean.shape, generator=torch.Generator().manual_seed(0))
    likeness = [
        structural_similarity(clean, (clean.int() + size * noise).clamp(0, 255).to(torch.uint8)) for size in (0, 3, 20)
    ]
    assert torch.allclose(likeness[0], torch.ones(2)) and (likeness[0] > likeness[1]).all()
    assert (likeness[1] > likeness[2]).all() and likeness[2].max() < 0.9


def test_ssim_agrees_with_scikit_image() -> None:
    metrics = pytest.importorskip("skimage.metrics")
    first, second = pictures(1), pictures(1, 3)
    second = (0.7 * first.float() + 0.3 * second.float()).to(torch.uint8)
    theirs = metrics.structural_similarity(
        *(one[0].permute(1, 2, 0).numpy() for one in (first, second)),
        channel_axis=2,
        gaussian_weights=True,
        use_sample_covariance=False,
        sigma=1.5,
        data_range=255,
    )
    assert float(structural_similarity(first, second)) == pytest.approx(theirs, abs=0.02)


def test_the_kernel_distance_is_unbiased_about_nothing() -> None:
    rng = np.random.default_rng(0)
    same = [kernel_distance(rng.normal(size=(30, 8)), rng.normal(size=(30, 8))) for _ in range(40)]
    assert abs(np.mean(same)) < 3 * np.std(same) / np.sqrt(40)  # type: ignore[arg-type]
    assert kernel_distance(rng.normal(size=(30, 8)), rng.normal(1.0, 1.0, (30, 8))) > 10 * np.std(same)  # type: ignore[arg-type,operator]
    assert kernel_distance(rng.normal(size=(1, 8)), rng.normal(size=(9, 8))) is None
