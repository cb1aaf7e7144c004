from pathlib import Path

import numpy as np
import pytest
import torch
from small_victims import pictures

from unmask.errors import DataError
from unmask.lab.realism import kernel_distance
from unmask.redteam.measures import LPIPS_FOLDER, Lpips, psnr, structural_similarity

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


SLICES = {  # as the reference code cuts torchvision's networks
    "alex": ("alexnet", "alexnet-owt-7be5be79.pth", (2, 5, 8, 10, 12), (64, 192, 384, 256, 256)),
    "squeeze": (
        "squeezenet1_1",
        "squeezenet1_1-b8a52dc0.pth",
        (2, 5, 8, 10, 11, 12, 13),
        (64, 128, 256, 384, 384, 512, 512),
    ),
    "vgg": ("vgg16", "vgg16-397923af.pth", (4, 9, 16, 23, 30), (64, 128, 256, 512, 512)),
}


def lpips_files(folder: Path, name: str) -> tuple[torch.nn.Module, list[torch.Tensor]]:
    """Random weights of a network and of its heads, and their files as published."""
    from torchvision import models

    torch.manual_seed(1)
    network, file, _, widths = SLICES[name]
    made = getattr(models, network)(weights=None).eval()
    heads = [torch.rand(1, width, 1, 1) for width in widths]
    weights = {key: value for key, value in made.state_dict().items() if key.startswith("features.")}
    torch.save(weights, folder / file)
    torch.save({f"lin{n}.model.1.weight": head for n, head in enumerate(heads)}, folder / f"{name}.pth")
    return made.features, heads


@pytest.mark.parametrize("name", ["squeeze", "alex", pytest.param("vgg", marks=pytest.mark.slow)])
def test_lpips_is_what_the_reference_computes(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    features, heads = lpips_files(tmp_path, name)
    monkeypatch.setenv(LPIPS_FOLDER, str(tmp_path))
    lpips = Lpips.at_hand()
    assert lpips is not None and lpips.name == name
    first, second = (torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8) for _ in range(2))

    # The steps of lpips/lpips.py, slice by slice, picture by picture.
    wanted = []
    for pair in zip(first, second, strict=True):
        layers = []
        for one in pair:
            h = one[None].float() / 255 * 2 - 1
            h = (h - torch.tensor([-0.030, -0.088, -0.188])[None, :, None, None]) / torch.tensor([0.458, 0.448, 0.450])[
                None, :, None, None
            ]
            outputs, begin = [], 0
            for end in SLICES[name][2]:
                with torch.no_grad():
                    h = features[begin:end](h).clone()  # type: ignore[index]
                outputs.append(h / (torch.sqrt(torch.sum(h**2, dim=1, keepdim=True)) + 1e-10))
                begin = end
            layers.append(outputs)
        terms = [
            torch.nn.functional.conv2d((a - b) ** 2, head).mean([2, 3]).item()
            for a, b, head in zip(*layers, heads, strict=True)
        ]
        wanted.append(sum(terms))
    assert lpips(first, second).tolist() == pytest.approx(wanted, rel=1e-4)
    assert lpips(first, first).tolist() == [0.0, 0.0]


def test_lpips_needs_both_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(LPIPS_FOLDER, raising=False)
    assert Lpips.at_hand() is None
    lpips_files(tmp_path, "squeeze")
    monkeypatch.setenv(LPIPS_FOLDER, str(tmp_path))
    head, network = tmp_path / "squeeze.pth", tmp_path / SLICES["squeeze"][1]
    with pytest.raises(DataError, match=r"not torchvision's weights of squeezenet1_1"):
        Lpips("squeeze", head, head)
    with pytest.raises(DataError, match="not the published LPIPS head"):
        Lpips("squeeze", network, network)
    network.write_bytes(b"no weights")
    with pytest.raises(DataError, match="not a readable file of weights"):
        Lpips.at_hand()
    network.unlink()
    assert Lpips.at_hand() is None


@pytest.mark.data
@pytest.mark.parametrize("name", SLICES)
def test_published_heads_are_read(name: str, tmp_path: Path, data_dir: Path) -> None:
    lpips_files(tmp_path, name)
    lpips = Lpips(name, data_dir / "weights" / "lpips_lin" / f"{name}.pth", tmp_path / SLICES[name][1])
    first, second = (torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8) for _ in range(2))
    assert float(lpips(first, second)) > 0
