import copy
import math
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime
import pytest
import scipy.fft
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from unmask.errors import DataError
from unmask.forgery.hfc import (
    HFC,
    PUBLISHED,
    SMALL,
    Answer,
    DescriptorJudge,
    Moments,
    PatchJudge,
    class_report,
    cut_patches,
    dct2,
    dct_matrix,
    dense_descriptors,
    forged_over_real,
    from_table,
    fusion_weights,
    grey_levels,
    patch_grid,
    patch_layout,
    patch_side,
    region_layout,
    to_table,
    usual_spectrum,
    verdicts,
    weighted_cross_entropy,
)

pytestmark = pytest.mark.lab

FOUR = ("cyclegan", "progan", "stylegan", "stylegan2")
SIZES = range(64, 449, 32)


def made(seed: int = 0, **options: Any) -> HFC:
    """An untrained detector in evaluation mode whose normalisation has seen pictures."""
    torch.manual_seed(seed)
    detector = HFC(**options)
    for module in detector.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
    with torch.no_grad():
        detector.train()(pictures(8, seed=9))
    return detector.eval()


def pictures(count: int, size: int = 64, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    ground = functional.interpolate(torch.rand((count, 3, 4, 4), generator=generator), size=size, mode="bilinear")
    return 0.8 * ground + 0.2 * torch.rand(ground.shape, generator=generator)


@contextmanager
def listening(part: nn.Module) -> Iterator[list[tuple[Any, Any]]]:
    """What a part of a network is given, its first argument, and what it gives, in the order of its calls."""
    calls: list[tuple[Any, Any]] = []
    hook = part.register_forward_hook(lambda _, inputs, output: calls.append((inputs[0], output)))
    try:
        yield calls
    finally:
        hook.remove()


def batch_of(families: list[int], size: int = 64, seed: int = 0) -> dict[str, Tensor]:
    kinds = torch.tensor(families)
    return {
        "faces": pictures(len(families), size, seed),
        "labels": (kinds > 0).float(),
        "families": kinds,
        "masks": torch.full((len(families), 1, 4, 4), -1.0),
    }


# Patches


@pytest.mark.parametrize(
    ("size", "patch", "count", "stride", "published"),
    [(224, 128, 3, 48, 48), (224, 64, 5, 40, 40), (256, 128, 4, 42, 43), (224, 112, 4, 37, 38)],
)
def test_as_many_patches_fit_as_are_promised(size: int, patch: int, count: int, stride: int, published: int) -> None:
    assert patch_grid(size, patch) == (count, stride)
    picture = torch.zeros(1, 1, size, size)
    assert functional.unfold(picture, patch, stride=stride).shape[2] == count**2
    assert patch - (count * patch - size) // (count - 1) == published
    there = functional.unfold(picture, patch, stride=published).shape[2]
    assert there == (count**2 if published == stride else 9)


def test_patches_have_their_published_share_of_the_side() -> None:
    assert [patch_side(size) for size in (64, 128, 224)] == [32, 64, 128]
    assert patch_grid(128, 64, 3) == (3, 32) and patch_grid(224, 128, 3) == (3, 48)


@pytest.mark.parametrize("size", SIZES)
def test_patches_cover_the_picture_in_whole_cells(size: int) -> None:
    side = patch_side(size)
    _, stride = patch_grid(size, side, 3)
    assert stride % 16 == 0 and stride <= side and 2 * stride + side == size


def test_patches_stand_row_by_row() -> None:
    rows, columns = torch.meshgrid(torch.arange(64), torch.arange(64), indexing="ij")
    patches = cut_patches(torch.stack([rows, columns])[None], 32)
    assert patches.shape == (1, 9, 2, 32, 32)
    assert patches[0, :, :, 0, 0].tolist() == [[y, x] for y in (0, 16, 32) for x in (0, 16, 32)]
    assert patches[0, :, :, -1, -1].tolist() == [[y, x] for y in (31, 47, 63) for x in (31, 47, 63)]


# The cosine transform and its statistics


@pytest.mark.parametrize("side", [32, 64, 96, 128])
def test_the_transform_is_that_of_scipy(side: int) -> None:
    patches = 255 * np.random.default_rng(side).random((3, 2, side, side)) - 127.5
    expected = scipy.fft.dctn(patches, axes=(2, 3), norm="ortho")
    np.testing.assert_allclose(dct2(torch.from_numpy(patches)).numpy(), expected, atol=2e-3)


def test_the_transform_keeps_the_energy() -> None:
    basis = dct_matrix(64)
    torch.testing.assert_close(basis @ basis.T, torch.eye(64), atol=1e-6, rtol=0)
    patches = 255 * torch.rand(5, 64, 64)
    energy = patches.square().sum((1, 2))
    torch.testing.assert_close(dct2(patches).square().sum((1, 2)), energy, rtol=1e-5, atol=0)


def test_the_transform_is_exact_in_mixed_precision_too() -> None:
    patches = 255 * torch.rand(2, 64, 64)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = dct2(patches)
    assert torch.equal(mixed, dct2(patches))


def test_near_infrared_is_its_own_grey() -> None:
    band = torch.rand(2, 1, 8, 8)
    torch.testing.assert_close(grey_levels(band.expand(-1, 3, -1, -1)), 255 * band)


@pytest.mark.parametrize("side", [32, 64, 96, 128, 160, 224, 256])
def test_every_coefficient_finds_its_own_statistics(side: int) -> None:
    statistics = torch.rand(side, side)
    assert torch.equal(from_table(to_table(statistics), side), statistics)


def test_windows_without_statistics_are_refused() -> None:
    with pytest.raises(ValueError, match="288 pixels"):
        from_table(torch.zeros(256, 256), 288)


def test_before_training_the_spectrum_is_the_published_one() -> None:
    mean, spread = usual_spectrum(128)
    assert float(mean[0, 0]) + 127.5 * 128 == pytest.approx(12_261, rel=1e-3)
    assert float(spread[0, 0]) ** 2 == pytest.approx(1.37e7, rel=0.01)
    assert float(spread[-1, -1]) ** 2 == pytest.approx(50, rel=0.1)


def test_moments_are_those_of_all_arrays_at_once() -> None:
    arrays = 1e4 + np.random.default_rng(0).standard_normal((11, 3, 4))
    moments = Moments()
    for group in np.split(arrays, [0, 1, 5, 5]):
        moments.add(torch.from_numpy(group))
    assert moments.count == 11
    np.testing.assert_allclose(moments.mean, arrays.mean(0), rtol=1e-12)
    np.testing.assert_allclose(moments.deviation(), arrays.std(0), rtol=1e-9)


def test_coefficients_of_the_training_data_are_standardised() -> None:
    detector = HFC(branches="dct")
    batches = [batch_of([0, 1, 0, 1], seed=1), batch_of([0, 1], seed=2)]
    detector.fit_statistics(batches)
    patches = torch.cat([cut_patches(grey_levels(batch["faces"]), 32) for batch in batches]).flatten(0, 2)
    spectra = scipy.fft.dctn(patches.double().numpy(), axes=(1, 2), norm="ortho")
    expected = (spectra - spectra.mean(0)) / spectra.std(0)
    with torch.no_grad(), listening(detector.trunks["dct"]) as calls:
        for batch in batches:
            detector(batch["faces"])
    standardised = torch.cat([given for given, _ in calls]).flatten(0, 1)
    np.testing.assert_allclose(standardised.numpy(), expected, atol=2e-3)


def test_statistics_come_from_what_they_are_fitted_on_and_nothing_else() -> None:
    detector = HFC(branches="both")
    detector.fit_statistics([batch_of([0, 1, 0, 1])])
    known = copy.deepcopy(detector.state_dict())
    other = batch_of([0, 1, 1], seed=5)
    with torch.no_grad():
        detector.train()(other["faces"])
        detector.training_losses(other)
        detector.eval().fit_posthoc([other], [other])
    kept = detector.state_dict()
    assert all(torch.equal(known[name], kept[name]) for name in ("dct_mean", "dct_spread"))


def test_statistics_of_flat_pictures_leave_the_scores_finite() -> None:
    detector = made(branches="dct")
    batch = batch_of([0, 1])
    detector.fit_statistics([{**batch, "faces": torch.full_like(batch["faces"], 0.5)}])
    with torch.no_grad():
        out = detector(batch["faces"])
    assert out.logit.isfinite().all() and out.map.isfinite().all()


@pytest.mark.parametrize("level", [0.0, 1.0])
def test_statistics_fit_into_half_precision(level: float) -> None:
    detector = HFC(branches="dct", view="global")
    faces = torch.full((2, 3, 256, 256), level)
    detector.fit_statistics([{"faces": faces, "labels": torch.tensor([0.0, 1.0])}])
    assert detector.dct_mean.half().isfinite().all()
    torch.testing.assert_close(detector.dct_mean[0, 0], torch.tensor((255 * level - 127.5) * 256))


# Descriptors


def plain_descriptors(grey: np.ndarray) -> np.ndarray:
    """The same by loops over points, cells and pixels."""
    size = len(grey)
    cell, padded = size // 32, np.pad(grey, 1, mode="edge")
    out = np.zeros((64, 128))
    for point in range(64):
        histogram = np.zeros((4, 4, 8))
        for row, column in np.ndindex(4, 4):
            top, left = (point // 8 * 4 + row) * cell, (point % 8 * 4 + column) * cell
            for y, x in np.ndindex(cell, cell):
                dx = (padded[top + y + 1, left + x + 2] - padded[top + y + 1, left + x]) / 2
                dy = (padded[top + y + 2, left + x + 1] - padded[top + y, left + x + 1]) / 2
                place = (math.atan2(dy, dx) + math.pi) / (math.pi / 4)
                low = int(place)
                for nearest, share in ((low, low + 1 - place), (low + 1, place - low)):
                    histogram[row, column, nearest % 8] += share * math.hypot(dx, dy)
        numbers = histogram.ravel()
        numbers = np.minimum(numbers / np.linalg.norm(numbers), 0.2)
        out[point] = numbers / np.linalg.norm(numbers)
    return out


def test_descriptors_are_those_of_a_plain_implementation() -> None:
    grey = 255 * np.random.default_rng(3).random((64, 64)).astype(np.float32)
    descriptors = dense_descriptors(torch.from_numpy(grey)[None, None])
    assert descriptors.shape == (1, 64, 128)
    np.testing.assert_allclose(descriptors[0].numpy(), plain_descriptors(grey.astype(np.float64)), atol=1e-5)


def test_a_ramp_has_one_direction_and_a_flat_square_none() -> None:
    ramp = torch.arange(64.0).expand(1, 1, 64, 64).clone()
    ramp[..., 32:, :] = 7
    descriptors = dense_descriptors(ramp)[0].view(8, 8, 128)
    # To the right is the fifth of eight directions that begin at the left: 16 equal cells, each a quarter, cut to 0.2.
    expected = torch.zeros(16, 8)
    expected[:, 4] = 0.25
    torch.testing.assert_close(descriptors[1:3, 1:7], expected.flatten().expand(2, 6, -1))
    assert not descriptors[5:].any()


def test_contrast_does_not_change_descriptors() -> None:
    grey = 255 * torch.rand(2, 1, 64, 64)
    torch.testing.assert_close(dense_descriptors(grey), dense_descriptors(0.3 * grey + 40), atol=1e-4, rtol=0)


# The map


@pytest.mark.parametrize("size", [64, 96, 128, 224])
def test_the_map_averages_the_patches_over_each_pixel(size: int) -> None:
    side, values = patch_side(size), torch.randn(9)
    _, stride = patch_grid(size, side, 3)
    total, count = torch.zeros(size, size), torch.zeros(size, size)
    for index, value in enumerate(values):
        y, x = index // 3 * stride, index % 3 * stride
        total[y : y + side, x : x + side] += value
        count[y : y + side, x : x + side] += 1
    layout = patch_layout(size)
    laid = layout @ values.view(3, 3) @ layout.T
    torch.testing.assert_close(laid.repeat_interleave(16, 0).repeat_interleave(16, 1), total / count)


@pytest.mark.parametrize("cells", [4, 8, 14])
def test_regions_of_the_whole_view_are_those_of_its_pooling(cells: int) -> None:
    pooled = functional.adaptive_avg_pool2d(torch.eye(cells)[:, :, None].expand(-1, -1, cells)[None], 3)[0, :, :, 0]
    assert torch.equal(region_layout(cells) > 0, pooled > 0)


def test_the_map_is_that_of_the_branches_with_patches() -> None:
    detector, faces = made(), pictures(2)
    with torch.no_grad(), listening(detector.first) as calls:
        heat = detector(faces).map
    ((_, answers),) = calls
    scores = [answers[name].patches for name in ("image", "dct")]
    margins = torch.stack([patches[..., 1] - patches[..., 0] for patches in scores]).mean(0)
    # The corners are of one patch each.
    torch.testing.assert_close(heat[:, 0, ::3, ::3].flatten(1), margins[:, [0, 2, 6, 8]])


@pytest.mark.parametrize("options", [{"patch_weight": 0.0}, {"branches": "dct", "view": "global"}])
def test_without_places_the_map_is_level(options: dict[str, Any]) -> None:
    with torch.no_grad():
        out = made(**options)(pictures(2))
    assert torch.equal(out.map, out.logit[:, None, None, None].expand(-1, 1, 4, 4))


# Pictures are judged alone


def test_attention_is_among_the_patches_of_a_picture() -> None:
    detector, faces = made(generators=FOUR), pictures(5)
    order = torch.tensor([3, 1, 4, 0, 2])
    with torch.no_grad():
        together, mixed = detector(faces), detector(faces[order])
        alone = torch.cat([detector(face[None]).extras["classes"] for face in faces])
    torch.testing.assert_close(together.logit[order], mixed.logit, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(together.extras["classes"], alone, atol=1e-5, rtol=1e-5)


def test_the_reference_aggregator_mixes_the_pictures_of_a_batch() -> None:
    """Its attention is among pictures: their order does not matter, but their company does."""
    torch.manual_seed(0)
    reference = nn.TransformerEncoderLayer(32, 4, 64).eval()
    ours = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True).eval()
    ours.load_state_dict(reference.state_dict())
    tokens = torch.randn(5, 9, 32)
    with torch.no_grad():
        torch.testing.assert_close(reference(tokens.flip(0)).flip(0), reference(tokens))
        assert (reference(tokens)[:1] - reference(tokens[:1])).abs().max() > 0.1
        torch.testing.assert_close(ours(tokens)[:1], ours(tokens[:1]))


# Levels, probabilities and verdicts


@pytest.mark.parametrize("hierarchy", ["two-level", "flat"])
@pytest.mark.parametrize("generators", [("forged",), FOUR])
def test_probabilities_agree_with_the_logit(hierarchy: Any, generators: tuple[str, ...]) -> None:
    with torch.no_grad():
        out = made(hierarchy=hierarchy, generators=generators)(pictures(6))
    classes = out.extras["classes"]
    assert classes.shape == (6, 1 + len(generators)) and (classes >= 0).all()
    torch.testing.assert_close(classes.sum(1), torch.ones(6))
    torch.testing.assert_close(torch.log(classes[:, 1:].sum(1) / classes[:, 0]), out.logit, atol=1e-5, rtol=1e-4)


def test_the_verdict_is_real_exactly_when_the_first_level_says_so() -> None:
    """The published rule: 0 if the first level prefers real, else 1 + the second level's choice."""
    detector = made(generators=FOUR)
    detector.first.fusion.copy_(torch.tensor([0.5, -1.0, 0.2]))
    heads = (judge.head[-1] for judge in (*detector.first.judges.values(), *detector.second.judges.values()))
    for head in heads:
        nn.init.normal_(head.weight, std=3)  # untrained logits are small: all verdicts would be alike
    faces = pictures(40)
    with torch.no_grad(), listening(detector.first) as at_first, listening(detector.second) as at_second:
        out = detector(faces)
    first, second = detector.first.fused(at_first[0][1]), detector.second.fused(at_second[0][1])
    classes = verdicts(out)
    assert torch.equal(classes, torch.where(first.argmax(1) == 0, 0, 1 + second.argmax(1)))
    assert torch.equal(classes == 0, out.extras["classes"][:, 0] >= 0.5)
    assert len(classes.unique()) > 2


def test_the_logit_of_several_generators_is_that_of_any_of_them() -> None:
    scores = torch.log(torch.tensor([[0.4, 0.3, 0.2, 0.1]])) + 5
    torch.testing.assert_close(forged_over_real(scores), torch.log(torch.tensor([0.6 / 0.4])))


def test_which_branches_name_the_generator() -> None:
    """The cosines unless others do, or with the others."""

    def named(branches: Any, **second: Any) -> tuple[str, ...]:
        level = HFC(branches=branches, generators=FOUR, **second).second
        assert level is not None
        return level.names

    assert named("all") == named("all", second="no-dct") == ("image", "descriptors")
    assert named("both") == named("image") == ("image",)
    assert named("dct") == named("dct", second="all") == ("dct",)
    assert named("all", second="all") == ("image", "dct", "descriptors")
    assert named("both", second="all", shared=False) == ("image", "dct")


@pytest.mark.parametrize("shared", [True, False])
def test_the_generator_is_named_by_every_branch_alike(shared: bool) -> None:
    """The reference's sum of the three branches' scores, before weights are fitted."""
    detector = made(generators=FOUR, second="all", shared=shared)
    with torch.no_grad(), listening(detector.second) as at_second:
        classes = detector(pictures(6)).extras["classes"]
    answers = at_second[0][1]
    total = sum(answers[name].whole for name in ("image", "dct", "descriptors"))
    given = classes[:, 1:] / classes[:, 1:].sum(1, keepdim=True)
    torch.testing.assert_close(given, (total / 3).softmax(1), rtol=1e-4, atol=1e-5)


def test_one_generator_needs_no_second_level() -> None:
    assert HFC().second is None and HFC(hierarchy="flat", generators=FOUR).second is None


@pytest.mark.parametrize("shared", [True, False])
def test_the_second_level_learns_from_forged_pictures_alone(shared: bool) -> None:
    detector = made(generators=FOUR, shared=shared).train()
    seen: list[int] = []
    if detector.own_trunks is not None:
        detector.own_trunks["image"].register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    batch = batch_of([0, 2, 0, 4, 0, 1])
    changed = batch["faces"].clone()
    changed[::2] = pictures(3, seed=8)

    def losses_with(faces: Tensor) -> tuple[float, float]:
        # Without dropout, and without statistics of the batch where the trunk is shared.
        losses = detector.eval().training_losses({**batch, "faces": faces})
        return losses["image_generator"].item(), losses["descriptors_generator"].item()

    assert losses_with(changed) == pytest.approx(losses_with(batch["faces"]), abs=1e-6)
    assert seen == ([] if shared else [27, 27])


@pytest.mark.parametrize("shared", [True, False])
def test_without_forged_pictures_the_second_level_learns_nothing(shared: bool) -> None:
    detector = made(generators=FOUR, shared=shared)
    losses = detector.training_losses(batch_of([0, 0, 0]))
    assert set(losses) == {"image", "dct", "descriptors", "image_generator", "descriptors_generator"}
    assert losses["image_generator"] == losses["descriptors_generator"] == 0
    torch.stack(list(losses.values())).sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in detector.parameters())


def test_families_of_zeros_and_ones_will_do() -> None:
    losses = made(generators=FOUR).training_losses(batch_of([0, 1, 0, 1]))
    assert all(loss.isfinite() and loss.shape == () for loss in losses.values())


# Losses


def cross_entropy(scores: np.ndarray, classes: list[int]) -> np.ndarray:
    logs = scores - np.log(np.exp(scores).sum(1, keepdims=True))
    return -logs[np.arange(len(classes)), classes]


@pytest.mark.parametrize("share", [0.0, 0.6, 1.0])
def test_every_patch_inherits_the_class_of_its_picture(share: float) -> None:
    judge = PatchJudge(32, 3, SMALL, share).eval()
    with torch.no_grad():
        answer = judge(torch.randn(4, 9, 32))
        loss = float(judge.loss(answer, torch.tensor([0, 2, 1, 1]), None))
    expected = 0.0
    if answer.patches is not None:
        every = [kind for kind in [0, 2, 1, 1] for _ in range(9)]
        expected += share * cross_entropy(answer.patches.flatten(0, 1).numpy(), every).mean()
    expected += (1 - share) * cross_entropy(answer.whole.numpy(), [0, 2, 1, 1]).mean()
    assert loss == pytest.approx(expected, abs=1e-5)


def test_what_is_not_trained_is_not_built() -> None:
    tokens = torch.randn(2, 9, 32)
    assert PatchJudge(32, 2, SMALL, 0.0)(tokens).patches is None
    only = PatchJudge(32, 2, SMALL, 1.0).eval()(tokens)
    torch.testing.assert_close(only.whole, only.patches.mean(1))


@torch.no_grad()
def weights_of(detector: HFC, level: int) -> list[float]:
    """What each class of a level weighs in the loss: that of pictures of it alone, over the same without weights."""
    name, own, weights = "image", detector.second if level == 2 else detector.first, []
    detector.eval()
    for kind in range(1, 3) if level == 2 else range(own.judges[name].head[-1].out_features):
        batch = batch_of([kind] * 2)
        with listening(own) as calls:
            loss = detector.training_losses(batch)[f"{name}_generator" if level == 2 else name]
        ((_, answers),) = calls
        classes = torch.full((2,), kind - 1 if level == 2 else kind)
        weights.append(float(loss / own.judges[name].loss(answers[name], classes, None)))
    return weights


def test_balanced_classes_weigh_inversely_to_their_frequency() -> None:
    batches = [batch_of([0, 1, 2, 1]), batch_of([1, 2, 1, 1])]  # 1 real; 5 and 2 forged
    two = HFC(branches="image", generators=("a", "b"), balance=True)
    assert weights_of(two, 1) == pytest.approx([1, 1]) and weights_of(two, 2) == pytest.approx([1, 1])
    two.fit_statistics(batches)
    assert weights_of(two, 1) == pytest.approx([8 / 2, 8 / 14], rel=1e-5)
    assert weights_of(two, 2) == pytest.approx([7 / 10, 7 / 4], rel=1e-5)
    flat = HFC(branches="image", generators=("a", "b"), balance=True, hierarchy="flat")
    assert weights_of(flat, 1) == pytest.approx([1, 1, 1])
    flat.fit_statistics(batches)
    assert weights_of(flat, 1) == pytest.approx([8 / 3, 8 / 15, 8 / 6], rel=1e-5)
    unbalanced = HFC(branches="image", generators=("a", "b"))
    unbalanced.fit_statistics(batches)
    assert weights_of(unbalanced, 1) == weights_of(unbalanced, 2) == pytest.approx([1, 1])


def test_a_rare_class_weighs_as_much_in_small_batches_as_in_one() -> None:
    """Half of the batches lack the rare class; the mean of their losses is the loss of all of them together."""
    classes = torch.tensor([0, 1, 1, 1, 1, 1, 1, 1])
    scores = torch.randn(8, 2, generator=torch.Generator().manual_seed(1))
    weights = torch.tensor([8 / 2, 8 / 14])
    together = weighted_cross_entropy(scores, classes, weights)
    apart = [weighted_cross_entropy(*part, weights) for part in zip(scores.split(4), classes.split(4), strict=True)]
    torch.testing.assert_close(torch.stack(apart).mean(), together)
    torch.testing.assert_close(
        weighted_cross_entropy(scores, classes, None), torch.nn.functional.cross_entropy(scores, classes)
    )


# Fusion


def scores_of(classes: np.ndarray, strengths: list[float], count: int = 2, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    signal = np.eye(count)[classes]
    return np.stack([strength * signal + rng.standard_normal(signal.shape) for strength in strengths])


def test_fusion_prefers_the_informative_branch() -> None:
    classes = np.arange(300) % 4
    p = torch.from_numpy(fusion_weights(scores_of(classes, [0.0, 3.0, 0.0], 4), classes)).softmax(0)
    assert p[1] > 0.9


def test_fusion_weights_have_the_least_cross_entropy() -> None:
    classes = np.arange(200) % 2
    scores = scores_of(classes, [1.5, 2.0], seed=2)
    shares = np.linspace(0, 1, 2001)
    losses = [cross_entropy(p * scores[0] + (1 - p) * scores[1], list(classes)).mean() for p in shares]
    fitted = torch.from_numpy(fusion_weights(scores, classes)).softmax(0)
    assert 0.05 < fitted[0] < 0.95
    assert float(fitted[0]) == pytest.approx(shares[int(np.argmin(losses))], abs=1e-3)


def test_fusion_stays_equal_where_nothing_can_be_learnt() -> None:
    classes = np.zeros(10, int)
    assert not fusion_weights(scores_of(classes, [0.0, 3.0]), classes).any()
    assert not fusion_weights(np.zeros((2, 0, 2)), classes[:0]).any()
    assert not fusion_weights(np.zeros((1, 10, 2)), np.arange(10) % 2).any()


class Scripted(nn.Module):
    """A branch that says what is written of the pictures `shown.rows`, whatever it is given."""

    def __init__(self, scores: np.ndarray, shown: SimpleNamespace) -> None:
        super().__init__()
        self.scores, self.shown = torch.from_numpy(scores).float(), shown

    def forward(self, tokens: Tensor) -> Answer:
        return Answer(self.scores[self.shown.rows])


@pytest.mark.slow
def test_a_detector_is_fused_by_its_validation_scores() -> None:
    """Both levels, each with the scores of its own pictures."""
    kinds = np.arange(300) % 3
    first = scores_of((kinds > 0).astype(int), [0.0, 3.0, 0.0], seed=1)
    second = scores_of(np.maximum(kinds - 1, 0), [3.0, 0.0], seed=2)
    detector = HFC(generators=("a", "b")).eval()
    shown = SimpleNamespace(rows=slice(0))
    for level, scores in ((detector.first, first), (detector.second, second)):
        for name, own in zip(level.names, scores, strict=True):
            level.judges[name] = Scripted(own, shown)

    def validation() -> Any:
        for start in (0, 100, 200):
            shown.rows = slice(start, start + 100)
            yield batch_of(list(kinds[shown.rows]))

    detector.fit_posthoc([], validation())
    assert detector.first.fusion.softmax(0)[1] > 0.9 and detector.second.fusion.softmax(0)[0] > 0.9
    fitted = copy.deepcopy(detector.first.fusion)
    detector.fit_fusion(validation())
    assert torch.equal(detector.first.fusion, fitted)


def test_scores_are_fused_with_the_softmax_of_the_weights() -> None:
    detector, faces = made(), pictures(3)
    for weights in ([0.0, 0.0, 0.0], [1.2808, 1.2808, 0.6968]):
        detector.first.fusion.copy_(torch.tensor(weights))
        with torch.no_grad():
            out = detector(faces)
        share = np.exp(weights) / np.exp(weights).sum()
        fused = np.einsum("k,bkc->bc", share, out.extras["branches"].numpy())
        np.testing.assert_allclose(out.logit.numpy(), fused[:, 1] - fused[:, 0], atol=1e-5)
    np.testing.assert_allclose(share, [0.391, 0.391, 0.218], atol=1e-3)  # as published


def test_nothing_to_fit_on_changes_nothing() -> None:
    detector = made(generators=FOUR)
    detector.fit_posthoc([], [])
    assert not detector.first.fusion.any() and not detector.second.fusion.any()


def test_branches_learn_independently() -> None:
    detector = made(generators=FOUR)
    losses = detector.training_losses(batch_of([0, 1, 0, 2]))
    (losses["dct"]).backward()
    touched = {name for name, p in detector.named_parameters() if p.grad is not None}
    assert touched == {
        name for name, _ in detector.named_parameters() if name.startswith(("trunks.dct", "first.judges.dct"))
    }


# Sizes and options


def count(module: nn.Module) -> float:
    return sum(p.numel() for p in module.parameters()) / 1e6


def test_published_sizes() -> None:
    with torch.device("meta"):
        judge = PatchJudge(2048, 2, PUBLISHED, 0.6)
        descriptors = DescriptorJudge(2, PUBLISHED)
    assert count(judge.patch_head) == pytest.approx(1.3, abs=0.05)
    assert count(judge.aggregator) == pytest.approx(25.2, abs=0.05)
    assert count(judge.aggregator) + count(judge.head) == pytest.approx(64.0, abs=0.05)
    # The published 19.5 M are of 68 points, four more than here, each with 128 numbers into 2048.
    assert count(descriptors) + 4 * 128 * 2048 / 1e6 == pytest.approx(19.5, abs=0.05)


def test_both_views_have_as_many_parameters() -> None:
    assert count(HFC(view="global")) == count(HFC(view="patches"))


def test_a_timm_trunk_starts_from_its_weights_but_for_the_layer_that_reads_spectra(tmp_path: Any) -> None:
    torch.manual_seed(3)
    source = timm.create_model("resnet18", num_classes=0)
    torch.save(source.state_dict(), tmp_path / "resnet18.pth")
    detector = HFC(trunk="resnet18", weights=str(tmp_path / "resnet18.pth"), branches="both")
    image, dct = detector.trunks["image"], detector.trunks["dct"]
    assert torch.equal(image.conv1.weight, source.conv1.weight)
    assert torch.equal(dct.layer1[0].conv1.weight, source.layer1[0].conv1.weight)
    assert dct.conv1.weight.shape == (64, 1, 7, 7)
    assert not torch.allclose(dct.conv1.weight, source.conv1.weight.sum(1, keepdim=True))
    with torch.no_grad():
        assert detector.eval()(pictures(1)).map.shape == (1, 1, 4, 4)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"weights": "imagenet"}, "small trunk"),
        ({"patch_weight": 1.5}, "0 to 1"),
        ({"trunk": "resnet51"}, "no model 'resnet51'"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(DataError, match=said):
        HFC(**options)


@pytest.mark.parametrize("size", [32, 100])
def test_sizes_that_do_not_divide_are_refused(size: int) -> None:
    with pytest.raises(ValueError, match=f"{size} pixels"):
        HFC(branches="image")(torch.zeros(1, 3, size, size))


# The report


def test_the_report_is_what_one_counts_by_hand() -> None:
    probabilities = torch.tensor(
        [
            [0.6, 0.3, 0.1],  # real, said so
            [0.4, 0.35, 0.25],  # real, said forged; the likeliest of all is real
            [0.1, 0.7, 0.2],  # 1, right
            [0.2, 0.5, 0.3],  # 2, taken for 1
            [0.8, 0.05, 0.15],  # 2, said real; its generator is right
        ]
    )
    families = torch.tensor([0, 0, 1, 2, 2])
    report = class_report(probabilities, families)
    assert report == pytest.approx(
        {
            "accuracy": 3 / 5,
            "balanced_accuracy": (1 / 2 + 2 / 3) / 2,
            "real_recall": 1 / 2,
            "generator_accuracy": 2 / 3,
            "class_accuracy": 2 / 5,
        }
    )
    likeliest = class_report(probabilities, families, "argmax")
    assert likeliest["real_recall"] == 1 and likeliest["class_accuracy"] == pytest.approx(3 / 5)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 4), st.sampled_from(["two-level", "argmax"]))
def test_no_class_is_right_where_real_or_forged_is_wrong(seed: int, generators: int, rule: Any) -> None:
    rng = np.random.default_rng(seed)
    probabilities = torch.from_numpy(rng.dirichlet(np.ones(1 + generators), 30))
    report = class_report(probabilities, torch.from_numpy(rng.integers(0, 1 + generators, 30)), rule)
    assert report["class_accuracy"] <= report["accuracy"]


def test_what_is_not_there_is_not_counted() -> None:
    report = class_report(torch.tensor([[0.2, 0.8]]), torch.tensor([1]))
    assert report["accuracy"] == report["class_accuracy"] == 1
    assert math.isnan(report["real_recall"]) and math.isnan(report["balanced_accuracy"])


# Export; the whole detector's is in the battery


class Given(nn.Module):
    """What the branches are given, for a picture of 64 pixels."""

    def __init__(self, detector: HFC) -> None:
        super().__init__()
        self.mean, self.spread = (from_table(table, 32) for table in (detector.dct_mean, detector.dct_spread))

    def forward(self, faces: Tensor) -> tuple[Tensor, Tensor]:
        grey = grey_levels(faces)
        return (dct2(cut_patches(grey - 127.5, 32)) - self.mean) / self.spread, dense_descriptors(grey)


@pytest.mark.slow
def test_the_exported_transforms_are_those_of_torch(tmp_path: Any) -> None:
    torch.manual_seed(0)
    detector = HFC().eval()
    detector.fit_statistics([batch_of([0, 1, 0, 1])])
    module = Given(detector).eval()
    with torch.no_grad(), listening(detector.trunks["dct"]) as spectra, listening(detector.first) as tokens:
        detector(pictures(2))
        inputs = module(pictures(2))
    torch.testing.assert_close(inputs[0].flatten(0, 1), spectra[0][0])
    torch.testing.assert_close(inputs[1], tokens[0][0]["descriptors"])
    program = torch.onnx.export(
        module,
        (pictures(2),),
        input_names=["faces"],
        dynamo=True,
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        external_data=False,
        optimize=False,
        verbose=False,
    )
    assert program is not None
    program.save(tmp_path / "given.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "given.onnx", providers=["CPUExecutionProvider"])
    for faces in (pictures(3), torch.ones(1, 3, 64, 64), torch.zeros(2, 3, 64, 64)):
        with torch.no_grad():
            expected = module(faces)
        for exported, own in zip(session.run(None, {"faces": faces.numpy()}), expected, strict=True):
            np.testing.assert_allclose(exported, own.numpy(), atol=2e-3)
