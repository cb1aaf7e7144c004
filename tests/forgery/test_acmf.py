"""The `acmf` detector against its paper's definitions, worked out independently where that is possible."""

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn
from torch.nn import functional

from unmask.errors import DataError
from unmask.forgery.acmf import (
    ACMF,
    adapt,
    attention_distance,
    attention_maps,
    blur,
    mask_frequencies,
    matched_blur_sigma,
    video_score,
)

pytestmark = pytest.mark.lab

MODES = ("repo", "signed", "spectral")
SCOPES = ("batch", "image", "channel")
BACKBONES = ("light", "efficientnet_lite0", "xception")


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pictures(count: int, side: int, seed: int = 0) -> Tensor:
    """(count, 3, side, side) in [0, 1]: patches with fine texture."""
    generator = seeded(seed)
    ground = functional.interpolate(torch.rand((count, 3, 4, 4), generator=generator), size=side, mode="bilinear")
    return 0.8 * ground + 0.2 * torch.rand((count, 3, side, side), generator=generator)


def batch_of(pairs: int = 2, side: int = 64, seed: int = 0) -> dict[str, Tensor]:
    return {"faces": pictures(2 * pairs, side, seed), "labels": torch.tensor([0.0, 1.0]).repeat(pairs)}


_SETTLED: dict[str, ACMF] = {}


def detector_of(backbone: Any, **options: Any) -> ACMF:
    """An untrained detector whose batch normalisation knows its pictures, in evaluation mode."""
    if backbone not in _SETTLED:
        torch.manual_seed(0)
        made = ACMF(backbone, weights="none")
        made.fit_posthoc([batch_of(4, seed=9)], [])
        _SETTLED[backbone] = made.eval()
    detector = copy.deepcopy(_SETTLED[backbone])
    for name, value in options.items():
        assert hasattr(detector, name)
        setattr(detector, name, value)
    return detector


# --- Masked frequencies -----------------------------------------------------------------------------------------------


def low_and_high(channel: np.ndarray, low: Any) -> tuple[np.ndarray, np.ndarray]:
    """The complex low and high part of one channel, frequency by frequency; `low(u, v)` says which is which."""
    side = len(channel)
    spectrum = np.fft.fftshift(np.fft.fft2(channel))
    kept = np.zeros_like(spectrum)
    for row in range(side):
        for column in range(side):
            if low(row - side // 2, column - side // 2):
                kept[row, column] = spectrum[row, column]
    return tuple(np.fft.ifft2(np.fft.ifftshift(part)) for part in (kept, spectrum - kept))  # type: ignore[return-value]


def in_block(u: int, v: int) -> bool:
    return abs(u) <= 5 and abs(v) <= 5


def in_reference_block(u: int, v: int) -> bool:
    return -5 <= u < 5 and -5 <= v < 5


@given(
    side=st.integers(9, 40),
    mode=st.sampled_from(MODES),
    scope=st.sampled_from(SCOPES),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.bfloat16]),
    count=st.integers(0, 3),
    rate=st.floats(0, 1),
)
@settings(max_examples=60, deadline=None)
def test_a_masked_picture_is_real_and_finite_and_of_the_same_kind(
    side: int, mode: Any, scope: Any, dtype: torch.dtype, count: int, rate: float
) -> None:
    x = torch.rand((count, 3, side, side), generator=seeded()).to(dtype)
    masked = mask_frequencies(x, rate, mode, scope, generator=seeded())
    assert masked.shape == x.shape and masked.dtype == dtype and masked.device == x.device
    assert not masked.is_complex() and masked.isfinite().all()
    assert torch.equal(masked, mask_frequencies(x, rate, mode, scope, generator=seeded()))
    assert torch.equal(mask_frequencies(x, 0.0, mode, scope), x)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("side", [24, 25])
def test_a_rate_of_one_takes_the_whole_high_part(mode: Any, side: int) -> None:
    x = torch.rand((2, 3, side, side), dtype=torch.float64, generator=seeded())
    masked = mask_frequencies(x, 1.0, mode)
    for channel, own in zip(x.flatten(0, 1).numpy(), masked.flatten(0, 1).numpy(), strict=True):
        if mode == "repo":
            expected = channel - np.abs(low_and_high(channel, in_reference_block)[1].real)
        else:
            low, high = low_and_high(channel, in_block)
            assert np.abs(low.imag).max() < 1e-12 and np.abs(high.imag).max() < 1e-12
            expected = low.real
        np.testing.assert_allclose(own, expected, atol=1e-12)


def test_repo_mode_is_the_reference_code() -> None:
    """One pixel mask for all, a block from -5 to 4 about the shifted centre, the absolute high part."""
    x = torch.rand((2, 3, 32, 32), dtype=torch.float64, generator=seeded(3))
    draw = torch.rand((1, 1, 32, 32), generator=seeded(8)).numpy()[0, 0]
    expected = np.empty(x.shape)
    for image in range(2):
        for colour in range(3):
            channel = x[image, colour].numpy()
            shifted = np.fft.fftshift(np.fft.fft2(channel))
            shifted[16 - 5 : 16 + 5, 16 - 5 : 16 + 5] = 0
            high = np.abs(np.fft.ifft2(np.fft.ifftshift(shifted)).real)
            low = channel - high
            for row in range(32):
                for column in range(32):
                    kept = float(draw[row, column] >= 0.3)
                    expected[image, colour, row, column] = kept * high[row, column] + low[row, column]
    masked = mask_frequencies(x, 0.3, "repo", "batch", generator=seeded(8))
    np.testing.assert_allclose(masked.numpy(), expected, atol=1e-12)
    assert (masked < x - 1e-9).any() and not (masked > x + 1e-9).any()  # rectified: it only ever gets darker


def test_signed_mode_leaves_the_low_part_at_masked_pixels() -> None:
    x = torch.rand((2, 3, 40, 40), dtype=torch.float64, generator=seeded())
    masked = mask_frequencies(x, 0.3, "signed", "channel", generator=seeded())
    changed = (masked != x).numpy()
    assert 0.27 < changed.mean() < 0.33
    for index in np.ndindex(2, 3):
        low = low_and_high(x[index].numpy(), in_block)[0].real
        np.testing.assert_allclose(masked[index].numpy()[changed[index]], low[changed[index]], atol=1e-12)


@pytest.mark.parametrize("mode", MODES)
def test_the_scope_says_who_shares_a_mask(mode: Any) -> None:
    x = torch.rand((1, 1, 32, 32), generator=seeded()).expand(2, 3, 32, 32)

    def same(one: Tensor, two: Tensor) -> bool:
        return torch.allclose(one, two, atol=1e-5)

    for scope, colours_share, pictures_share in (
        ("batch", True, True),
        ("image", True, False),
        ("channel", False, False),
    ):
        masked = mask_frequencies(x, 0.5, mode, scope, generator=seeded())  # type: ignore[arg-type]
        assert same(masked[:, 0], masked[:, 1]) == colours_share
        assert same(masked[0], masked[1]) == pictures_share


@pytest.mark.parametrize("side", [32, 33])
def test_spectral_mode_takes_conjugate_pairs_of_high_frequencies(side: int) -> None:
    x = torch.rand((4, 3, side, side), dtype=torch.float64, generator=seeded())
    masked = mask_frequencies(x, 0.3, "spectral", "channel", generator=seeded())
    share = np.fft.fft2(masked.numpy()) / np.fft.fft2(x.numpy())
    kept = np.abs(share) > 0.5
    np.testing.assert_allclose(share, kept, atol=1e-8)  # all or nothing
    opposite = -np.arange(side) % side
    assert (kept == kept[:, :, opposite][:, :, :, opposite]).all()
    signed = (np.arange(side) + side // 2) % side - side // 2
    low = (abs(signed)[:, None] <= 5) & (abs(signed) <= 5)
    assert kept[..., low].all()
    assert 0.27 < 1 - kept[..., ~low].mean() < 0.33
    for column in (0, side // 2):  # where an even side's columns are their own conjugates
        assert 0.2 < 1 - kept[..., ~low[:, column], column].mean() < 0.4


@pytest.mark.parametrize("mode", MODES)
def test_a_picture_of_one_colour_stays_as_it_is(mode: Any) -> None:
    x = torch.tensor([0.8, 0.5, 0.1]).view(1, 3, 1, 1).expand(2, 3, 64, 64)
    torch.testing.assert_close(mask_frequencies(x, 0.7, mode), x, rtol=0, atol=1e-6)


def test_without_a_generator_the_global_one_draws() -> None:
    x = pictures(1, 32)
    torch.manual_seed(4)
    first = mask_frequencies(x, 0.5)
    assert not torch.equal(first, mask_frequencies(x, 0.5))
    torch.manual_seed(4)
    assert torch.equal(first, mask_frequencies(x, 0.5))


def test_the_control_blurs_as_a_gaussian_does() -> None:
    x = pictures(2, 33).double()
    for sigma in (1.5, 3.0):
        expected = gaussian_filter(x.numpy(), (0, 0, sigma, sigma), mode="wrap", truncate=8)
        np.testing.assert_allclose(blur(x, sigma).numpy(), expected, atol=1e-6)
    torch.testing.assert_close(blur(x, 0.0), x)
    assert blur(x.bfloat16(), 1.0).dtype == torch.bfloat16


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_the_control_changes_as_much_as_the_masking(mode: Any, rate: float) -> None:
    x = pictures(4, 64).double()
    blurred = blur(x, matched_blur_sigma(x, rate, mode))
    many = x.repeat(32, 1, 1, 1)
    masked = mask_frequencies(many, rate, mode, "channel", generator=seeded())
    assert float((blurred - x).square().mean()) == pytest.approx(float((masked - many).square().mean()), rel=0.02)


def test_the_matched_blur_grows_with_the_rate_from_nothing() -> None:
    x = pictures(2, 64)
    sigmas = [matched_blur_sigma(x, rate) for rate in (0.0, 0.1, 0.5, 0.9, 1.0)]
    assert sigmas[0] == pytest.approx(0, abs=1e-6) and sigmas == sorted(sigmas) and sigmas[1] > 0.05
    assert matched_blur_sigma(torch.full((1, 3, 32, 32), 0.5), 0.5) <= 32


# --- Attention --------------------------------------------------------------------------------------------------------


def enlarged(small: np.ndarray, size: int) -> np.ndarray:
    """Bilinear with corners on corners, one axis after the other."""
    for axis in (0, 1):
        places = np.linspace(0, small.shape[axis] - 1, size)
        small = np.apply_along_axis(lambda row, at=places: np.interp(at, np.arange(len(row)), row), axis, small)
    return small


@pytest.mark.parametrize("target", ["predicted", "forged"])
def test_attention_behind_which_all_is_linear_is_the_heads_weighted_sum(target: Any) -> None:
    features = torch.randn((3, 5, 4, 4), generator=seeded(), requires_grad=True)
    weight = torch.randn((2, 5), generator=seeded(1))
    logits = features.mean((2, 3)) @ weight.T
    maps = attention_maps(features, logits, target, 9)
    assert maps.shape == (3, 1, 9, 9)
    for image in range(3):
        label = 1 if target == "forged" else int(logits[image].argmax())
        summed = enlarged(np.tensordot(weight[label].numpy(), features[image].detach().numpy(), 1), 9)
        expected = (summed - summed.min()) / (summed.max() - summed.min())
        np.testing.assert_allclose(maps[image, 0].detach().numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_one_backward_pass_gives_every_pictures_own_attention(backbone: Any) -> None:
    """Against Grad-CAM picture by picture, with a hook on the layer and a backward pass of its own."""
    detector, faces = detector_of(backbone), pictures(2, 64)
    features = detector.front(faces)
    maps = detector.attention(features, 64)
    torch.testing.assert_close(detector.attention(features[1:2], 64), maps[1:2], rtol=0, atol=1e-3)
    for image in range(2):
        activation = detector.front(faces[image : image + 1])
        activation.retain_grad()
        logits = detector.head(detector.behind(activation).mean((2, 3)))
        logits[0, logits[0].argmax()].backward()
        weights = activation.grad[0].mean((1, 2)).numpy()
        summed = enlarged(np.tensordot(weights, activation[0].detach().numpy(), 1), 64)
        expected = (summed - summed.min()) / (summed.max() - summed.min())
        np.testing.assert_allclose(maps[image, 0].detach().numpy(), expected, atol=1e-3)


@given(seed=st.integers(0, 10_000), scale=st.sampled_from([1e-6, 1.0, 1e6]))
@settings(max_examples=25, deadline=None)
def test_attention_spans_zero_to_one(seed: int, scale: float) -> None:
    features = (scale * torch.randn((2, 3, 3, 3), generator=seeded(seed))).requires_grad_()
    maps = attention_maps(features, features.mean((2, 3))[:, :2] * 3, "predicted", 8)
    assert maps.min() >= 0 and maps.max() <= 1
    torch.testing.assert_close(maps.amax((1, 2, 3)), torch.ones(2))
    assert torch.equal(maps.amin((1, 2, 3)), torch.zeros(2))


def test_constant_attention_is_nought_and_breaks_no_gradient() -> None:
    features = torch.stack([torch.full((3, 4, 4), 2.7), torch.rand((3, 4, 4), generator=seeded())]).requires_grad_()
    maps = attention_maps(features, features.mean((2, 3))[:, :2], "predicted", 8)
    assert torch.equal(maps[0], torch.zeros(1, 8, 8)) and maps[1].max() == 1
    maps.square().mean().backward()
    assert features.grad is not None and features.grad.isfinite().all()
    assert features.grad[0].abs().max() == 0 and features.grad[1].abs().max() > 0


@pytest.mark.parametrize("backbone", BACKBONES)
def test_the_attention_term_teaches_what_comes_before_the_layer_alone(backbone: Any) -> None:
    detector = detector_of(backbone, rate=0.5)
    torch.manual_seed(0)
    detector.training_losses(batch_of())["consistency"].backward()
    for name, parameter in detector.front.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
    stem = next(detector.front.parameters())
    last = [parameter for parameter in detector.front.parameters() if parameter.ndim == 4][-1]
    assert stem.grad.abs().max() > 0 and last.grad.abs().max() > 0
    assert all(parameter.grad is None for part in (detector.behind, detector.head) for parameter in part.parameters())


@pytest.mark.parametrize("training", [True, False])
def test_attention_does_not_mix_pictures_or_touch_the_network(training: bool) -> None:
    """In training mode, too: there the normalisation behind Xception's layer would mix them."""
    detector = detector_of("xception").train(training)
    before = copy.deepcopy(detector.behind.state_dict())
    features = torch.randn((3, 1536, 2, 2), generator=seeded())
    with torch.no_grad():
        together = detector.attention(features, 16)
        apart = torch.cat([detector.attention(one[None], 16) for one in features])
    torch.testing.assert_close(together, apart, rtol=0, atol=1e-3)
    assert not together.requires_grad
    assert all(part.training == training for part in detector.modules())
    assert all(torch.equal(value, before[name]) for name, value in detector.behind.state_dict().items())


def test_attention_distance_is_that_of_the_two_views() -> None:
    detector, faces = detector_of("light", rate=0.5), pictures(4, 64)
    detector.train()
    distance = attention_distance(detector, faces, seeded())
    assert all(part.training for part in detector.modules()) and 0 < distance < 1
    detector.eval()
    masked = mask_frequencies(faces, 0.5, generator=seeded())
    maps = [detector.attention(detector.front(view), 64).detach() for view in (faces, masked)]
    assert distance == pytest.approx(float((maps[0] - maps[1]).square().mean()), rel=1e-5)
    detector.rate = 0.0
    assert attention_distance(detector, faces) == 0


# --- The detector -----------------------------------------------------------------------------------------------------


def test_the_backbones_have_the_published_sizes_and_strides() -> None:
    xception, light = ACMF("xception", weights="none").eval(), ACMF("light", weights="none").eval()
    assert sum(p.numel() for p in xception.parameters()) == 20_811_050
    assert sum(p.numel() for p in light.parameters()) < 1_000_000
    with torch.no_grad():
        assert xception.front(torch.rand(1, 3, 224, 224)).shape == (1, 1536, 7, 7)
        assert light(torch.rand(1, 3, 96, 96)).map.shape == (1, 1, 12, 12)
        assert detector_of("efficientnet_lite0")(torch.rand(1, 3, 128, 128)).map.shape == (1, 1, 4, 4)


def test_efficientnet_sees_its_own_normalisation() -> None:
    detector, seen = detector_of("efficientnet_lite0"), []
    detector.front[1].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    detector(torch.stack([torch.zeros(3, 64, 64), torch.ones(3, 64, 64)]))
    torch.testing.assert_close(seen[0][:, 0, 0, 0], torch.tensor([-127 / 128, 1.0]))


@pytest.mark.parametrize("backbone", BACKBONES)
def test_the_logit_is_forged_minus_real_and_the_maps_mean(backbone: Any) -> None:
    detector, faces = detector_of(backbone), pictures(3, 64)
    with torch.no_grad():
        out, logits = detector(faces), detector.class_logits(detector.front(faces))
    torch.testing.assert_close(out.logit, logits[:, 1] - logits[:, 0])
    torch.testing.assert_close(out.map.mean((1, 2, 3)), out.logit, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("backbone", "training", "options"),
    [
        ("light", True, {}),
        ("light", False, {}),
        ("light", True, {"consistency": 0.0}),
        ("light", True, {"flooding": 0.04, "target": "forged", "mode": "repo"}),
        ("efficientnet_lite0", True, {}),
        ("xception", True, {}),
    ],
)
def test_every_parameter_learns_in_both_modes(backbone: Any, training: bool, options: dict[str, Any]) -> None:
    detector = detector_of(backbone, **options).train(training)
    losses = detector.training_losses(batch_of(1 if backbone == "light" else 2))
    assert list(losses) == ["verdict", "consistency"][: 1 if "consistency" in options else 2]
    assert all(loss.shape == () and loss.isfinite() for loss in losses.values())
    torch.stack(list(losses.values())).sum().backward()
    for name, parameter in detector.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().max() > 0, name


def test_the_verdict_is_learned_from_the_masked_view() -> None:
    class Darkened(ACMF):
        def masked_view(self, faces: Tensor, generator: torch.Generator | None = None) -> Tensor:
            return 0.5 * faces

    batch = batch_of()
    detector = Darkened("light", weights="none").eval()
    verdict = detector.training_losses(batch)["verdict"]
    logits = detector.class_logits(detector.front(0.5 * batch["faces"]))
    expected = -logits.log_softmax(1)[torch.arange(4), batch["labels"].long()].mean()
    torch.testing.assert_close(verdict, expected)


def test_the_attention_term_is_weighed_and_holds_the_masked_view_fixed() -> None:
    batch = batch_of()
    detector = detector_of("light", consistency=3.0, rate=0.5)
    torch.manual_seed(0)
    term = detector.training_losses(batch)["consistency"]
    torch.manual_seed(0)
    masked = detector.front(mask_frequencies(batch["faces"], 0.5))
    clean = detector.front(batch["faces"])
    difference = detector.attention(clean, 64) - detector.attention(masked, 64).detach()
    torch.testing.assert_close(term, 3 * difference.square().mean())
    (expected,) = torch.autograd.grad(3 * difference.square().mean(), detector.front[0].weight)
    (gradient,) = torch.autograd.grad(term, detector.front[0].weight)
    torch.testing.assert_close(gradient, expected)


def test_flooding_turns_the_loss_around_below_its_level() -> None:
    batch = batch_of()
    plain = detector_of("light", consistency=0.0, rate=0.0)
    loss = plain.training_losses(batch)["verdict"]
    (down,), value = torch.autograd.grad(loss, plain.head.weight), float(loss.detach())
    for level, sign in ((0.1, 1), (2.0, -1)):
        plain.flooding = level
        flooded = plain.training_losses(batch)["verdict"]
        (gradient,) = torch.autograd.grad(flooded, plain.head.weight)
        assert float(flooded.detach()) == pytest.approx(abs(value - level) + level)
        torch.testing.assert_close(gradient, sign * down)


def test_it_ends_with_the_statistics_of_unmasked_pictures() -> None:
    detector = detector_of("light")
    batches = [batch_of(4, seed=1), batch_of(4, seed=2)]
    for _ in range(3):
        detector.train().training_losses({**batches[0], "faces": torch.zeros(8, 3, 64, 64)})
    with torch.no_grad():
        detector.eval().fit_posthoc(iter(batches), iter(()))
        seen = torch.cat([detector.front[0](batch["faces"]) for batch in batches])
    torch.testing.assert_close(detector.front[1].running_mean, seen.mean((0, 2, 3)))
    assert not any(part.training for part in detector.modules())
    assert all(part.momentum == 0.1 for part in detector.modules() if isinstance(part, nn.BatchNorm2d))


@pytest.mark.parametrize(
    "options",
    [
        {"rate": 1.1},
        {"rate": -0.1},
        {"rate": math.nan},
        {"flooding": -1.0},
        {"consistency": math.inf},
        {"weights": "timm"},
        {"backbone": "xception", "weights": "imagenet"},
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(DataError):
        ACMF(**{"backbone": "light", "weights": "none", **options})


# --- Adaptation to a test video ---------------------------------------------------------------------------------------


SOURCE = [batch_of(2, seed=seed) for seed in (11, 12, 13)]
ARMS = ("none", "source", "consistency", "both")


def test_a_videos_score_is_that_of_its_mean_logits() -> None:
    logits = torch.tensor([[2.0, 0.0], [0.0, 1.0]])  # mean: real 1, forged 0.5
    assert video_score(logits) == pytest.approx(math.exp(0.5) / (math.exp(0.5) + math.exp(1)))
    real, forged = 1 / (1 + math.exp(-1)), 1 / (1 + math.exp(-0.5))
    assert video_score(logits, "sigmoids") == pytest.approx(forged / (real + forged))


@pytest.mark.parametrize("arm", ["none", "both"])
def test_adapting_leaves_no_trace(arm: Any) -> None:
    """Neither in the detector nor in the next video: their order does not matter."""
    detector = detector_of("light").train()
    before, videos = copy.deepcopy(detector.state_dict()), [pictures(2, 64, seed=20), pictures(3, 64, seed=21)]

    def scored(order: tuple[int, ...]) -> dict[int, Any]:
        return {video: adapt(detector, videos[video], SOURCE, arm, seeded(video)) for video in order}

    with torch.no_grad():  # as callers that score are
        straight, reverse = scored((0, 1)), scored((1, 0))
    for video in (0, 1):
        assert torch.equal(straight[video].logit, reverse[video].logit)
        assert straight[video].score == reverse[video].score
        assert straight[video].transductive and not straight[video].logit.requires_grad
        assert straight[video].logit.shape == (len(videos[video]),)
    assert all(torch.equal(value, before[name]) for name, value in detector.state_dict().items())
    assert all(part.training for part in detector.modules())
    assert all(p.grad is None and p.requires_grad for p in detector.parameters())


def test_the_arms_differ_in_what_they_learn_from() -> None:
    detector = detector_of("light")
    one, other = pictures(2, 64, seed=30), pictures(2, 64, seed=31)
    other[0] = one[0]
    logits = {arm: adapt(detector, one, SOURCE, arm, seeded(), 1).logit for arm in ARMS}  # type: ignore[arg-type]
    moved = {arm: adapt(detector, other, SOURCE, arm, seeded(), 1).logit for arm in ARMS}  # type: ignore[arg-type]
    with torch.no_grad():
        torch.testing.assert_close(logits["none"], detector(one).logit)
    assert all(not torch.equal(logits["none"], logits[arm]) for arm in ARMS[1:])
    # A frame's logit depends on the other frames where the attention on them is learned from, and only there.
    for arm in ARMS:
        same = torch.allclose(logits[arm][0], moved[arm][0], rtol=0, atol=1e-6)
        assert same == (arm in ("none", "source")), arm
    assert not torch.equal(logits["both"], adapt(detector, one, SOURCE, "both", seeded(1), 1).logit)
    assert adapt(detector, one, [], "none", seeded()).score == video_score(
        detector.class_logits(detector.front(one)).detach()
    )
    with pytest.raises(DataError, match="no source batches"):
        adapt(detector, one, [], "both", seeded())


def test_a_step_is_the_published_one() -> None:
    """Flooded cross-entropy on masked sources in training mode, mean maps in evaluation mode, one step of AdamW."""
    detector, frames = detector_of("light", rate=0.5), pictures(3, 64, seed=40)
    adapted = adapt(detector, frames, SOURCE[:1], "both", seeded(), steps=1)
    generator, (batch,) = seeded(), SOURCE[:1]
    torch.randperm(1, generator=generator)
    wanted = detector.attention(detector.front(batch["faces"]), 64).detach().mean(0)
    copied = copy.deepcopy(detector).train()
    masked = mask_frequencies(batch["faces"], 0.5, generator=generator)
    loss = functional.cross_entropy(copied.class_logits(copied.front(masked)), batch["labels"].long())
    loss = (loss - 0.04).abs() + 0.04
    copied.eval()
    loss = loss + (copied.attention(copied.front(frames), 64).mean(0) - wanted).square().mean()
    loss.backward()
    with torch.no_grad():
        for p in copied.parameters():
            p.mul_(1 - 1e-3 * 0.01).sub_(1e-3 * p.grad / (p.grad.abs() + 1e-8))
        torch.testing.assert_close(adapted.logit, copied(frames).logit, rtol=1e-3, atol=1e-3)
