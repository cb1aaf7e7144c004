import io
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.stats import spearmanr
from sklearn.svm import SVR
from torch import Tensor, nn
from torch.nn import functional

from unmask.errors import DataError
from unmask.forgery import deepfidelity
from unmask.forgery.deepfidelity import (
    CLASSICAL,
    Assessor,
    DeepFidelity,
    FidelityMapping,
    GlobalBlock,
    LocalBlock,
    SSAAFormer,
    SupportVectorRegressor,
    best_threshold,
    classical_quality,
    fit_regressor,
    frozen_features,
    pooled,
    quality_components,
    ser_fiq,
    stability,
)

pytestmark = pytest.mark.lab


def textures(count: int, side: int = 96, seed: int = 0) -> Tensor:
    """(count, 3, side, side) in [0, 1] whose spectrum falls about as a photograph's."""
    generator = torch.Generator().manual_seed(seed)
    radius = (torch.fft.fftfreq(side)[:, None].square() + torch.fft.rfftfreq(side).square()).sqrt().clamp(min=1 / side)
    white = torch.randn(count, 3, side, side, generator=generator)
    coloured = torch.fft.irfft2(torch.fft.rfft2(white) / radius**1.8, s=(side, side))
    return (0.5 + 0.17 * coloured / coloured.std((1, 2, 3), keepdim=True)).clamp(0, 1)


def blurred(pictures: Tensor, sigma: float) -> Tensor:
    reach = int(3 * sigma) + 1
    taps = torch.exp(-torch.arange(-reach, reach + 1.0).square() / (2 * sigma**2))
    kernel = (taps[:, None] * taps / taps.sum() ** 2).expand(3, 1, -1, -1)
    return functional.conv2d(functional.pad(pictures, (reach,) * 4, mode="reflect"), kernel, groups=3)


def compressed(pictures: Tensor, quality: int) -> Tensor:
    decoded = []
    for picture in pictures:
        file = io.BytesIO()
        pixels = (255 * picture).round().byte().permute(1, 2, 0).numpy()
        Image.fromarray(pixels).save(file, "JPEG", quality=quality)
        decoded.append(torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1) / 255)
    return torch.stack(decoded)


def noisy(pictures: Tensor, sigma: float) -> Tensor:
    noise = torch.randn(pictures.shape, generator=torch.Generator().manual_seed(5))
    return (pictures + sigma * noise).clamp(0, 1)


def flattened(pictures: Tensor, contrast: float) -> Tensor:
    return 0.5 + contrast * (pictures - 0.5)


def shrunk(pictures: Tensor, factor: float) -> Tensor:
    small = functional.interpolate(pictures, size=int(96 / factor), mode="bicubic", antialias=True)
    return functional.interpolate(small, size=96, mode="bicubic").clamp(0, 1)


@pytest.mark.parametrize(
    ("worsen", "levels"),
    [
        (blurred, (0.8, 1.5, 2.5, 4)),
        (compressed, (80, 50, 25, 10)),
        (noisy, (0.02, 0.04, 0.08, 0.15)),
        (flattened, (0.8, 0.6, 0.3, 0.1)),
        (shrunk, (1.5, 3, 6)),
    ],
)
def test_the_worse_a_picture_the_lower_its_quality(worsen: Any, levels: tuple[float, ...]) -> None:
    pictures = textures(6)
    qualities = torch.stack([classical_quality(pictures), *(classical_quality(worsen(pictures, v)) for v in levels)])
    assert (qualities.diff(dim=0) < 0).all()


@given(seed=st.integers(0, 99), side=st.sampled_from([64, 96]), gain=st.floats(0, 4), shift=st.floats(-1, 1))
@settings(max_examples=15, deadline=None)
def test_quality_lies_between_0_and_1_and_judges_pictures_alone(
    seed: int, side: int, gain: float, shift: float
) -> None:
    pictures = (textures(3, side, seed) * gain + shift).clamp(0, 1)
    quality = classical_quality(pictures)
    assert ((quality >= 0) & (quality <= 1)).all()
    torch.testing.assert_close(quality[1], classical_quality(pictures[1:2])[0], rtol=1e-4, atol=1e-5)


def test_no_picture_has_no_quality_and_a_flat_one_a_poor_one() -> None:
    assert classical_quality(torch.zeros(0, 3, 64, 64)).shape == (0,)
    flat = torch.stack([torch.full((3, 64, 64), value) for value in (0.0, 0.5, 1.0)])
    assert (classical_quality(flat) <= 0.11).all()


def test_contrast_and_exposure_are_what_they_are_said_to_be() -> None:
    pictures = (4 * textures(2) - 1.5).clamp(0, 1)
    components = quality_components(pictures)
    luminance = (pictures.numpy().astype(np.float64) * np.array([0.299, 0.587, 0.114])[:, None, None]).sum(1)
    mean, spread = luminance.mean((1, 2)), luminance.std((1, 2))
    clipped = ((luminance < 3.5 / 255) | (luminance > 251.5 / 255)).mean((1, 2))
    assert (clipped > 0.01).all()
    np.testing.assert_allclose(components["contrast"], np.tanh(spread / 0.2), rtol=1e-4)
    np.testing.assert_allclose(components["exposure"], 4 * mean * (1 - mean) * (1 - clipped / 2), rtol=1e-4)


def test_white_noise_is_all_noise_and_neither_sharp_nor_contrasty_structure() -> None:
    white = torch.randn(4, 1, 224, 224, generator=torch.Generator().manual_seed(0))
    components = quality_components((0.5 + 0.05 * white).expand(-1, 3, -1, -1))
    # All contrast is noise: 1 / (1 + (1 / 0.15)^2).
    torch.testing.assert_close(components["noise"], torch.full((4,), 1 / (1 + (1 / 0.15) ** 2)), rtol=0.06, atol=0)
    assert (components["sharpness"] < 0.5).all()


@pytest.mark.parametrize("frequency", [0.1875, 0.25, 0.5])
def test_the_resolution_of_a_wave_is_its_frequency(frequency: float) -> None:
    wave = 0.5 + 0.3 * torch.sin(math.pi * frequency * torch.arange(128))
    components = quality_components(wave.expand(1, 3, 128, 128))
    assert float(components["resolution"]) == pytest.approx(math.tanh(frequency / 0.3), abs=0.03)
    # Steps between neighbours of 2 x 2 means, w = pi f: amplitude 0.3 cos(w / 2) 2 sin(w); 0.3 is the contrast's.
    step = math.pi * frequency
    gradient = math.cos(step / 2) * 2 * math.sin(step)
    assert float(components["sharpness"]) == pytest.approx(math.tanh(gradient / 0.4), rel=0.06)


@pytest.mark.parametrize("offset", [0, 3, 7])
def test_blocks_are_seen_wherever_their_grid_begins(offset: int) -> None:
    tiles = 0.45 + 0.1 * torch.rand(2, 1, 14, 14, generator=torch.Generator().manual_seed(1))
    blocks = tiles.repeat_interleave(8, 2).repeat_interleave(8, 3)[:, :, offset : offset + 96, offset : offset + 96]
    # All steps are on one phase of eight: they are 8 times the mean step, and exp(-8) is below the floor.
    assert torch.equal(quality_components(blocks.expand(-1, 3, -1, -1))["blockiness"], torch.full((2,), 0.01))
    assert (quality_components(textures(4))["blockiness"] > 0.85).all()


def test_stability_is_that_of_the_paper() -> None:
    first = torch.tensor([[1.0, 0.0], [0.0, 3.0], [2.0, 0.0]])  # unit vectors at distances sqrt 2, 0, sqrt 2
    steady = torch.tensor([[0.0, 2.0]] * 3)
    stabilities = stability(torch.stack([first, steady], 1))
    expected = 2 / (1 + math.exp(2 * math.sqrt(2) / 3))
    assert expected == pytest.approx(0.5606, abs=1e-3)
    torch.testing.assert_close(stabilities, torch.tensor([expected, 1.0]))
    with pytest.raises(ValueError, match="two passes"):
        stability(torch.zeros(1, 2, 3))


def embedder(dropout: float) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 64), nn.BatchNorm1d(64), nn.Dropout(dropout), nn.Linear(64, 16))


def test_ser_fiq_drops_and_does_nothing_else() -> None:
    network, pictures = embedder(0.3).train(), torch.rand(5, 3, 2, 2, generator=torch.Generator().manual_seed(1))
    network[3].eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    modes, state = [module.training for module in network.modules()], torch.get_rng_state()

    def quality(seed: int, **options: Any) -> Tensor:
        return ser_fiq(network, pictures, 8, generator=torch.Generator().manual_seed(seed), **options)

    plain = quality(3, alpha=None)
    assert plain.shape == (5,) and (plain < 1).all() and plain.std() > 0
    assert torch.equal(plain, quality(3, alpha=None)) and not torch.equal(plain, quality(4, alpha=None))
    torch.testing.assert_close(quality(3), torch.sigmoid(130 * (plain - 0.88)))
    torch.testing.assert_close(quality(3, alpha=5.0, r=0.6), torch.sigmoid(5 * (plain - 0.6)))
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert modes == [module.training for module in network.modules()]
    assert torch.equal(state, torch.get_rng_state())
    # Batch statistics in evaluation mode: a picture's passes do not depend on its company but by what is dropped.
    assert ser_fiq(embedder(1e-7), pictures[:1], 3, alpha=None) == 1


def test_ser_fiq_is_lower_where_more_is_dropped_and_needs_dropout() -> None:
    pictures = torch.rand(4, 3, 2, 2)
    little, much = (ser_fiq(embedder(rate), pictures, 30, alpha=None) for rate in (0.05, 0.5))
    assert (little > much).all()
    for network in (nn.Flatten(), embedder(0.0)):
        with pytest.raises(ValueError, match="no dropout"):
            ser_fiq(network, pictures)


def test_the_mapping_hits_the_bands_ends_and_clamps_what_is_beyond() -> None:
    mapping = FidelityMapping()
    quality = torch.tensor([0.3, 0.5, 0.9, 0.2, 0.6, 0.7])
    labels = torch.tensor([0.0, 0, 0, 1, 1, 1])
    mapping.fit(quality, labels)
    expected = torch.tensor([0.6, 0.6 + 0.4 * 0.2 / 0.6, 1.0, 0.0, 0.4 * 0.4 / 0.5, 0.4])
    torch.testing.assert_close(mapping(quality, labels), expected)
    beyond = mapping(torch.tensor([0.0, 1.0, 0.0, 1.0]), torch.tensor([0.0, 0, 1, 1]))
    torch.testing.assert_close(beyond, torch.tensor([0.6, 1.0, 0.0, 0.4]))
    mapping.fit(quality / 2, labels)
    torch.testing.assert_close(mapping(quality / 2, labels), expected)
    with pytest.raises(DataError, match="no forged"):
        mapping.fit(quality[:3], labels[:3])


def test_one_odd_picture_decides_the_extremes_but_not_the_quantiles() -> None:
    quality = torch.cat([torch.linspace(0.5, 0.7, 1000), torch.tensor([0.0])]).repeat(2)
    labels = torch.tensor([0.0, 1.0]).repeat_interleave(1001)
    extremes, quantiles = FidelityMapping(), FidelityMapping(quantiles=True)
    extremes.fit(quality, labels)
    quantiles.fit(quality, labels)
    middle, real = torch.tensor([0.6]), torch.zeros(1)
    assert float(extremes(middle, real)) == pytest.approx(0.6 + 0.4 * 6 / 7, abs=1e-3)
    assert float(quantiles(middle, real)) == pytest.approx(0.8, abs=5e-3)


@given(
    st.lists(st.tuples(st.floats(0, 1, width=32), st.booleans()), min_size=2, max_size=20),
    st.sampled_from([(0.5, 0.5), (0.4, 0.6), (0.3, 0.7)]),
    st.booleans(),
)
@settings(max_examples=50, deadline=None)
def test_fidelity_rises_with_quality_inside_disjoint_bands(
    faces: list[tuple[float, bool]], bands: tuple[float, float], quantiles: bool
) -> None:
    quality = torch.tensor([q for q, _ in faces] + [0.5, 0.5])
    labels = torch.tensor([float(f) for _, f in faces] + [0.0, 1.0])
    mapping = FidelityMapping(*bands, quantiles=quantiles)
    mapping.fit(quality, labels)
    fidelity = mapping(quality, labels)
    for label, low, high in ((1, 0.0, bands[0]), (0, bands[1], 1.0)):
        own, order = fidelity[labels == label], quality[labels == label].argsort()
        assert (own >= low - 1e-6).all() and (own <= high + 1e-6).all() and (own[order].diff() >= -1e-6).all()


def local_block(mirror: bool = True) -> LocalBlock:
    """With layer scales of a trained block: at 1e-6 nothing would show."""
    torch.manual_seed(0)
    block = LocalBlock(8, 0.0, mirror, layer_scale=True).eval()
    with torch.no_grad():
        block.gamma_1.fill_(0.7)
        block.gamma_2.fill_(0.4)
    return block


@torch.no_grad()
def test_equal_weights_make_the_fused_attention_mirror_symmetric() -> None:
    block, z = local_block(), torch.randn(2, 8, 6, 10)
    fused = block.fuse(z)
    assert torch.equal(fused, fused.flip(3))
    torch.testing.assert_close(fused, (z + z.flip(3)) / 2)
    assert torch.equal(local_block(mirror=False).fuse(z), z)


@torch.no_grad()
def test_weights_far_apart_reproduce_the_plain_block() -> None:
    mirrored, plain, x = local_block(), local_block(mirror=False), torch.randn(2, 8, 6, 10)
    assert not torch.allclose(mirrored(x), plain(x), atol=1e-3)
    assert mirrored.mirror_weights is not None
    mirrored.mirror_weights.copy_(torch.tensor([20.0, -20.0]))
    torch.testing.assert_close(mirrored(x), plain(x))


@torch.no_grad()
def test_flipping_the_input_moves_only_what_is_not_mirrored() -> None:
    block, x = local_block(), torch.randn(2, 8, 6, 10)
    for kernel in (block.attn.weight, block.pos_embed.weight):
        kernel.copy_((kernel + kernel.flip(3)) / 2)  # else the convolutions themselves tell left from right
    torch.testing.assert_close(block.attend(x.flip(3)), block.attend(x))
    torch.testing.assert_close(block(x.flip(3)), block(x).flip(3))
    assert block.mirror_weights is not None
    block.mirror_weights.copy_(torch.tensor([2.0, 0.0]))
    assert not torch.allclose(block.attend(x.flip(3)), block.attend(x), atol=1e-3)


@torch.no_grad()
def test_a_local_block_computes_its_formula() -> None:
    block, x = local_block(), torch.randn(2, 8, 5, 7)
    assert block.mirror_weights is not None
    block.mirror_weights.copy_(torch.tensor([0.3, -0.9]))
    a = 1 / (1 + math.exp(-1.2))
    x1 = x + block.pos_embed(x)
    z = block.attn(block.conv1(block.norm1(x1)))
    x2 = x1 + 0.7 * block.conv2(a * z + (1 - a) * z.flip(3))
    expected = x2 + 0.4 * block.mlp.fc2(functional.gelu(block.mlp.fc1(block.norm2(x2))))
    torch.testing.assert_close(block(x), expected)


@torch.no_grad()
def test_a_global_block_attends_as_the_formula_says() -> None:
    torch.manual_seed(0)
    block = GlobalBlock(8, head=4, drop_path=0.0, layer_scale=True)
    block.gamma_1.fill_(0.7)
    block.gamma_2.zero_()
    x = torch.randn(1, 8, 2, 3)
    moved = (x + block.pos_embed(x))[0].flatten(1).T  # (6, 8)
    q, k, v = block.attn.qkv(block.norm1(moved)).chunk(3, 1)
    heads = []
    for part in (slice(0, 4), slice(4, 8)):
        share = (q[:, part] @ k[:, part].T / math.sqrt(4)).softmax(1)
        heads.append(share @ v[:, part])
    expected = moved + 0.7 * block.attn.proj(torch.cat(heads, 1))
    torch.testing.assert_close(block(x)[0].flatten(1).T, expected)


@pytest.mark.parametrize(("scale", "millions"), [("small", 21.0), ("base", 49.3), ("large", 98.8)])
def test_the_sizes_are_the_published_ones_and_mirroring_costs_two_numbers_a_block(scale: Any, millions: float) -> None:
    with torch.device("meta"):
        counts = [sum(p.numel() for p in DeepFidelity(scale, mirror=mirror).parameters()) for mirror in (True, False)]
    assert round(counts[0] / 1e6, 1) == millions
    assert counts[0] - counts[1] == 2 * deepfidelity.SIZES[scale].depths[0]


def test_the_large_scale_is_the_papers() -> None:
    with torch.device("meta"):
        detector = DeepFidelity("large")
    trunk = detector.trunk
    assert [len(blocks) for blocks in (trunk.blocks1, trunk.blocks2, trunk.blocks3, trunk.blocks4)] == [5, 10, 24, 7]
    assert [blocks[0].attn.heads for blocks in (trunk.blocks3, trunk.blocks4)] == [7, 10]
    rates = [
        block.drop_path.drop_prob
        for blocks in (trunk.blocks1, trunk.blocks2, trunk.blocks3, trunk.blocks4)
        for block in blocks
    ]
    np.testing.assert_allclose(rates, np.linspace(0, 0.4, 46))
    assert detector.size == 224 and DeepFidelity().size == 96
    assert trunk.patch_embed1.proj.weight.shape == (128, 3, 4, 4)


@pytest.mark.parametrize("side", [64, 96, 160])
def test_any_multiple_of_32_is_a_size(side: int) -> None:
    with torch.no_grad():
        out = DeepFidelity().eval()(torch.zeros(1, 3, side, side))
    assert out.map.shape == (1, 1, side // 32, side // 32)
    assert out.extras["features"].shape == (1, 192) and out.extras["fidelity"].shape == (1,)


@torch.no_grad()
@pytest.mark.parametrize("kind", ["local", "global"])
def test_a_block_without_layer_scale_adds_its_branches_as_they_are(kind: str) -> None:
    """As one whose layer scale is one."""
    blocks: list[Any] = []
    for scaled in (False, True):
        torch.manual_seed(0)
        made: Any = LocalBlock(8, 0.0, True, scaled) if kind == "local" else GlobalBlock(8, 4, 0.0, scaled)
        blocks.append(made.eval())
    plain, scaled_block = blocks
    assert plain.gamma_1 is None and plain.gamma_2 is None
    scaled_block.gamma_1.fill_(1)
    scaled_block.gamma_2.fill_(1)
    x = torch.randn(2, 8, 4, 4)
    assert torch.equal(plain(x), scaled_block(x))


@pytest.mark.parametrize("scale", ["cpu", "small", "base", "large"])
def test_layer_scale_has_the_large_scale_alone(scale: Any) -> None:
    """As the reference code's `uniformer_large_ls`; its others have none."""
    with torch.device("meta"):
        names = [name for name, _ in DeepFidelity(scale).named_parameters() if "gamma" in name]
    assert len(names) == (2 * 46 if scale == "large" else 0)


# As `state_dict()` of the public UniFormer code (Sense-X/UniFormer, no layer scale) names a local and a global block.
BLOCK = {
    *(
        f"{part}.{kind}"
        for part in ("pos_embed", "norm1", "norm2", "mlp.fc1", "mlp.fc2")
        for kind in ("weight", "bias")
    ),
}
STATISTICS = {f"norm{n}.{kind}" for n in (1, 2) for kind in ("running_mean", "running_var", "num_batches_tracked")}
LOCAL = BLOCK | STATISTICS | {f"{part}.{kind}" for part in ("conv1", "conv2", "attn") for kind in ("weight", "bias")}
GLOBAL = BLOCK | {f"attn.{part}.{kind}" for part in ("qkv", "proj") for kind in ("weight", "bias")}
STEMS = {
    f"patch_embed{n}.{part}.{kind}" for n in range(1, 5) for part in ("norm", "proj") for kind in ("weight", "bias")
}
END = {f"norm.{kind}" for kind in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")}


def test_the_trunk_is_named_as_uniformers_checkpoints_are() -> None:
    expected = STEMS | END
    for stage, depth, names in ((1, 1, LOCAL), (2, 2, LOCAL), (3, 3, GLOBAL), (4, 1, GLOBAL)):
        expected |= {f"blocks{stage}.{block}.{name}" for block in range(depth) for name in names}
    assert set(SSAAFormer("cpu", mirror=False).state_dict()) == expected
    assert set(SSAAFormer("cpu", mirror=True).state_dict()) == expected | {"blocks1.0.mirror_weights"}


def test_a_uniformer_checkpoint_loads_without_its_heads(tmp_path: Path) -> None:
    torch.manual_seed(1)
    state = {
        name: torch.rand_like(value.float()) for name, value in SSAAFormer("cpu", mirror=False).state_dict().items()
    }
    heads = {f"{head}.{kind}": torch.rand(1000) for head in ("head", "aux_head") for kind in ("weight", "bias")}
    torch.save({"model": {f"module.{name}": value for name, value in (state | heads).items()}}, tmp_path / "u.pth")
    trunk = DeepFidelity(weights=str(tmp_path / "u.pth")).trunk.state_dict()
    for name, value in trunk.items():
        expected = state.get(name, torch.ones_like(value))  # mirroring begins at one
        torch.testing.assert_close(value, expected.to(value.dtype), msg=name)


def test_weights_that_are_not_there_or_do_not_fit_are_named(tmp_path: Path) -> None:
    state = SSAAFormer("cpu", mirror=False).state_dict()
    del state["blocks3.1.attn.qkv.weight"]
    torch.save(state, tmp_path / "u.pth")
    with pytest.raises(DataError, match=r"blocks3\.1\.attn\.qkv\.weight"):
        DeepFidelity(weights=str(tmp_path / "u.pth"))
    scaled = SSAAFormer("cpu", mirror=False).state_dict() | {"blocks1.0.gamma_1": torch.ones(1, 32, 1, 1)}
    torch.save(scaled, tmp_path / "scaled.pth")
    with pytest.raises(DataError, match=r"blocks1\.0\.gamma_1 is a layer scale, which this network has only"):
        DeepFidelity(weights=str(tmp_path / "scaled.pth"))
    with pytest.raises(DataError, match="no imagenet weights"):
        DeepFidelity(weights="imagenet")
    with pytest.raises(DataError, match="no weight file"):
        DeepFidelity(weights=str(tmp_path / "absent.pth"))


def test_overlapping_bands_are_refused() -> None:
    with pytest.raises(DataError, match="bands"):
        DeepFidelity(fake_below=0.7)


def regression(count: int = 200, width: int = 12) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(2)
    features = torch.randn(count, width, generator=generator)
    return features, (features[:, 0].tanh() / 2 + 0.5 + 0.1 * torch.randn(count, generator=generator)).clamp(0, 1)


@pytest.mark.parametrize("epsilon", [0.02, 0.1])
def test_the_regressor_predicts_as_scikit_learn_does(epsilon: float) -> None:
    features, targets = regression()
    fitted = fit_regressor(features, targets, epsilon, capacity=250)
    new = torch.randn(50, 12, generator=torch.Generator().manual_seed(3))
    same = SVR(epsilon=epsilon).fit(features.half().float().numpy(), targets.numpy())
    np.testing.assert_allclose(fitted(new), same.predict(new.numpy()), atol=1e-5)
    assert fitted.vectors.shape == (250, 12) and int((fitted.coefficients != 0).sum()) == len(same.support_)
    # Rounding the features to half precision before the fit costs next to nothing.
    exact = SVR(epsilon=epsilon).fit(features.numpy(), targets.numpy())
    np.testing.assert_allclose(fitted(new), exact.predict(new.numpy()), atol=5e-3)


def test_a_regressor_kept_in_half_precision_says_the_same() -> None:
    features, targets = regression(width=64)
    fitted, kept = fit_regressor(features, targets), SupportVectorRegressor(64)
    kept.load_state_dict({n: v.half() if v.numel() > 64 else v for n, v in fitted.state_dict().items()})
    assert torch.equal(kept.vectors, fitted.vectors)
    torch.testing.assert_close(kept(features), fitted(features), rtol=0, atol=1e-3)


def test_a_regressor_is_undecided_before_it_is_fitted_and_needs_pictures() -> None:
    assert torch.equal(SupportVectorRegressor(4, 3)(torch.randn(2, 4)), torch.full((2,), 0.5))
    assert SupportVectorRegressor(4, 3)(torch.randn(0, 4)).shape == (0,)
    for count in (0, 4):
        with pytest.raises(DataError, match="1 to 3 pictures"):
            fit_regressor(torch.zeros(count, 4), torch.zeros(count), capacity=3)
    flat = fit_regressor(torch.randn(3, 4), torch.full((3,), 0.7), capacity=3)  # no support vector at all
    torch.testing.assert_close(flat(torch.randn(2, 4)), torch.full((2,), 0.7))


def test_the_threshold_is_the_most_accurate_near_one_half() -> None:
    labels = torch.tensor([0.0, 0, 1, 1])
    assert best_threshold(torch.tensor([0.9, 0.6, 0.555, 0.1]), labels) == 0.56
    assert best_threshold(torch.tensor([0.9, 0.455, 0.44, 0.1]), labels) == 0.45
    assert best_threshold(torch.tensor([0.9, 0.8, 0.2, 0.1]), labels) == 0.5
    assert best_threshold(torch.tensor([0.5]), torch.zeros(1)) == 0.5  # real iff score >= threshold
    assert best_threshold(torch.zeros(0), torch.zeros(0)) == 0.5


def faces_of(count: int, seed: int = 0) -> dict[str, Tensor]:
    """Real faces and forgeries with a checkered patch, each of both classes blurred by another amount."""
    pictures, labels = textures(count, 64, seed), torch.tensor([0.0, 1.0]).repeat(count // 2)
    pictures = torch.cat([blurred(picture[None], 0.3 + 0.2 * (n // 2)) for n, picture in enumerate(pictures)])
    checkers = (torch.arange(32)[:, None] + torch.arange(32)) % 2 * 0.4 - 0.2
    pictures[1::2, :, :32, :32] += checkers
    return {"faces": pictures.clamp(0, 1), "labels": labels}


@torch.no_grad()
def finished(validation: dict[str, Tensor] | None = None, **options: Any) -> DeepFidelity:
    torch.manual_seed(0)
    detector = DeepFidelity(**options).eval()
    training = [faces_of(8, 1), faces_of(8, 2)]
    detector.fit_statistics(training)
    detector.fit_posthoc(training, [] if validation is None else [validation])
    return detector


def test_the_classifier_speaks_until_the_regressor_is_fitted() -> None:
    torch.manual_seed(0)
    detector, faces = DeepFidelity().eval(), faces_of(6, 3)["faces"]
    with torch.no_grad():
        before = detector(faces)
        classes = detector.head(detector.trunk(detector.normalised(faces)).mean((2, 3)))
        torch.testing.assert_close(before.logit, classes[:, 1] - classes[:, 0])
        torch.testing.assert_close(before.extras["fidelity"], classes.softmax(1)[:, 0])
        torch.testing.assert_close(before.map.mean((1, 2, 3)), before.logit)
        after_detector = finished()
        after = after_detector(faces)
        score = after_detector.regressor(after.extras["features"])
    assert torch.equal(after.map, before.map)
    assert torch.equal(after.extras["features"], before.extras["features"])
    torch.testing.assert_close(after.extras["fidelity"], score)
    torch.testing.assert_close(after.logit, 10 * (0.5 - score))
    assert not torch.allclose(after.logit, before.logit, atol=1e-2)


def test_features_are_the_mean_token_and_half_the_maximum() -> None:
    tokens = torch.tensor([[[[1.0, 2.0], [3.0, 6.0]], [[-1.0, -3.0], [-2.0, -2.0]]]])
    assert torch.equal(pooled(tokens), torch.tensor([[3.0 + 3.0, -2.0 - 0.5]]))


def test_the_regressor_learns_the_graded_targets_of_the_training_split_alone() -> None:
    training = [faces_of(8, 1), faces_of(8, 2)]
    detector = finished(validation=faces_of(6, 5))
    quality = torch.cat([classical_quality(batch["faces"]) for batch in training])
    labels = torch.cat([batch["labels"] for batch in training])
    for label in (0, 1):
        own = quality[labels == label]
        assert float(detector.mapping.lowest[label]) == pytest.approx(float(own.min()), abs=1e-6)
        assert float(detector.mapping.highest[label]) == pytest.approx(float(own.max()), abs=1e-6)
    known = frozen_features(detector, training)
    torch.testing.assert_close(known.quality, quality)
    expected = fit_regressor(known.features, detector.mapping(quality, labels), 0.1)
    torch.testing.assert_close(detector.regressor(known.features), expected(known.features))
    assert detector.fitted == 1


def test_the_threshold_follows_the_validation_split_alone() -> None:
    validation = faces_of(8, 6)
    scores = finished()(validation["faces"]).extras["fidelity"]
    threshold = best_threshold(scores, validation["labels"])
    detector = finished(validation)
    assert float(detector.tau) == pytest.approx(threshold)
    assert torch.equal(detector.regressor.vectors, finished().regressor.vectors)
    everything_real = {**validation, "labels": torch.zeros(8)}
    assert float(finished(everything_real).tau) == pytest.approx(best_threshold(scores, torch.zeros(8)))
    assert float(finished().tau) == 0.5


def test_no_more_faces_are_looked_at_than_needed() -> None:
    def stream() -> Any:
        yield faces_of(4, 1)
        yield faces_of(4, 2)
        raise AssertionError("one batch too many")

    torch.manual_seed(0)
    detector = DeepFidelity().eval()
    known = frozen_features(detector, stream(), 6)
    assert known.features.shape == (6, 192) and known.quality.shape == known.labels.shape == (6,)
    assert frozen_features(detector, []).features.shape == (0, 192)


def test_the_assessor_can_be_another_and_is_known_by_name() -> None:
    assert DeepFidelity().assessor is CLASSICAL and "sharpness" in CLASSICAL.name
    detector = DeepFidelity()
    detector.assessor = Assessor("mean", lambda pictures: pictures.mean((1, 2, 3)))
    batch = faces_of(8, 1)
    detector.fit_statistics([batch])
    real = batch["faces"].mean((1, 2, 3))[batch["labels"] == 0]
    assert float(detector.mapping.highest[0]) == pytest.approx(float(real.max()))


def test_the_loss_is_cross_entropy_with_smoothed_labels() -> None:
    torch.manual_seed(0)
    detector, batch = DeepFidelity().eval(), faces_of(4)
    with torch.no_grad():
        losses = detector.training_losses(batch)
        logit = detector(batch["faces"]).logit.double()
    target = 0.05 + 0.9 * batch["labels"].double()
    expected = -(target * functional.logsigmoid(logit) + (1 - target) * functional.logsigmoid(-logit)).mean()
    assert set(losses) == {"verdict"}
    assert float(losses["verdict"]) == pytest.approx(float(expected), abs=1e-6)


@torch.no_grad()
def test_end_to_end_the_fidelity_is_learned_and_the_classifier_decides() -> None:
    torch.manual_seed(0)
    detector, batch = DeepFidelity(target="end-to-end").eval(), faces_of(8)
    detector.fit_statistics([batch])
    state = {name: value.clone() for name, value in detector.state_dict().items()}
    detector.fit_posthoc([batch], [batch])
    assert all(torch.equal(state[name], value) for name, value in detector.state_dict().items())
    out, losses = detector(batch["faces"]), detector.training_losses(batch)
    classes = detector.head(detector.trunk(detector.normalised(batch["faces"])).mean((2, 3)))
    torch.testing.assert_close(out.logit, classes[:, 1] - classes[:, 0])
    fidelity = torch.sigmoid(out.extras["features"] @ detector.fidelity_head.weight[0])
    torch.testing.assert_close(out.extras["fidelity"], fidelity)
    targets = detector.mapping(classical_quality(batch["faces"]), batch["labels"])
    assert set(losses) == {"verdict", "fidelity"}
    assert float(losses["fidelity"]) == pytest.approx(float((fidelity - targets).square().mean() / 2), abs=1e-6)


def test_a_finished_detector_comes_back_from_its_state() -> None:
    detector, faces = finished(faces_of(6, 4)), faces_of(6, 7)["faces"]
    other = DeepFidelity().eval()
    other.load_state_dict(detector.state_dict())
    with torch.no_grad():
        assert torch.equal(other(faces).logit, detector(faces).logit)


def test_graded_targets_order_by_quality_and_binary_ones_hardly() -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(240) % 2
    quality = torch.rand(240, generator=generator)
    signs = (1 - 2 * labels)[:, None] + 0.2 * torch.randn(240, 6, generator=generator)
    features = torch.cat([signs, 2 * quality[:, None] - 1 + 0.05 * torch.randn(240, 1, generator=generator)], 1)
    mapping = FidelityMapping()
    mapping.fit(quality[:120], labels[:120])
    correlations = []
    for targets in (mapping(quality[:120], labels[:120]), 1.0 - labels[:120]):
        fidelity = fit_regressor(features[:120], targets, epsilon=0.02)(features[120:])
        for label in (0, 1):
            own = 120 + torch.nonzero(labels[120:] == label)[:, 0]
            correlations.append(spearmanr(fidelity[own - 120], quality[own]).statistic)
    assert min(correlations[:2]) > 0.9 and np.abs(correlations[2:]).max() < 0.4
