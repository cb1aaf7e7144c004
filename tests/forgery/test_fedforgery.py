import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnxruntime import InferenceSession
from safetensors.torch import load_file
from torch import Tensor, nn

from unmask.forgery.fedforgery import AutoEncoder, FedForgery, boost, looked_up, magnitude, nearest
from unmask.lab.engine import save_weights
from unmask.lab.onnx_export import write_onnx

pytestmark = pytest.mark.lab

BACKBONE = "test_resnet"  # timm's smallest kind, made for tests


def small(**options: Any) -> FedForgery:
    torch.manual_seed(0)
    return FedForgery(backbone=BACKBONE, weights="none", **{"width": 16, "codes": 32, **options})


def normal(count: int, side: int = 64, seed: int = 0) -> Tensor:
    """Smooth pictures with fine texture, of about the spread that normalised ones have."""
    generator = torch.Generator().manual_seed(seed)
    ground = nn.functional.interpolate(torch.randn((count, 3, 4, 4), generator=generator), size=side, mode="bilinear")
    return ground + 0.2 * torch.randn(ground.shape, generator=generator)


def faces(count: int, side: int = 64, seed: int = 0) -> Tensor:
    """The same in [0, 1], as a network is given them."""
    return (0.45 + 0.225 * normal(count, side, seed)).clamp(0, 1)


def batch(count: int = 4, progress: float = 1.0) -> dict[str, Tensor]:
    return {
        "faces": faces(count),
        "labels": torch.tensor([0.0, 1.0]).repeat(count // 2),
        "progress": torch.tensor(progress),
    }


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_the_autoencoder_has_the_published_size() -> None:
    coder = AutoEncoder(width=64, codes=128)
    assert count(coder.encoder) == 151_424
    assert count(coder.decoder) == 151_107
    assert coder.codebook.numel() == 8_192
    assert count(coder.norm) == 6


def test_the_published_classifier_has_its_size() -> None:
    detector = FedForgery(backbone="resnet50", weights="none", residual=False)
    assert count(detector) == 23_512_130


def test_first_weights_are_as_published() -> None:
    torch.manual_seed(0)
    coder = AutoEncoder(width=64, codes=128)
    blocks = [m for m in coder.modules() if isinstance(m, nn.Conv2d)]
    assert len(blocks) == 10
    for module in blocks:
        assert float(module.weight.detach().std()) == pytest.approx(0.02, rel=0.1) and not module.bias.any()
    assert float(coder.codebook.detach().std()) == pytest.approx(0.02, rel=0.05)
    assert torch.equal(coder.encoder[-1].weight, torch.full((64,), 1 / 40))
    transposed = [m for m in coder.modules() if isinstance(m, nn.ConvTranspose2d)]
    assert len(transposed) == 2 and all(m.bias.any() for m in transposed)


def test_the_codebook_is_alive_at_first() -> None:
    torch.manual_seed(0)
    coder = AutoEncoder(width=64, codes=128).train()
    with torch.no_grad():
        coded = coder(normal(4, side=128))
    assert len(coded.codes.unique()) > 64


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 40), st.integers(1, 20), st.integers(1, 9), st.integers(0, 2**31 - 1))
def test_the_nearest_code_is_that_of_brute_force(sites: int, codes: int, width: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    vectors, codebook = rng.normal(size=(2, sites, width)), rng.normal(size=(codes, width))
    distances = np.linalg.norm(vectors[:, :, None] - codebook, axis=-1)
    chosen_codes = nearest(
        torch.tensor(vectors, dtype=torch.float32), torch.tensor(codebook, dtype=torch.float32)
    ).numpy()
    chosen = np.take_along_axis(distances, chosen_codes[..., None], -1)[..., 0]
    np.testing.assert_allclose(chosen, distances.min(-1), rtol=1e-5)


def test_half_precision_does_not_blur_the_choice_of_codes() -> None:
    vectors, codebook = 0.02 * torch.randn(500, 64), 0.02 * torch.randn(128, 64)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = nearest(vectors, codebook)
    assert torch.equal(mixed, nearest(vectors, codebook))


def test_a_codes_gradient_is_the_mean_over_the_sites_that_chose_it() -> None:
    codebook = torch.randn(4, 2, requires_grad=True)
    codes = torch.tensor([[[0, 2], [2, 2]]])
    vectors = looked_up(codebook, codes)
    assert torch.equal(vectors, codebook.detach()[codes])
    pulls = torch.tensor([[[[1.0, 2.0], [3.0, 0.0]], [[6.0, 3.0], [0.0, 9.0]]]])
    (vectors * pulls).sum().backward()
    torch.testing.assert_close(codebook.grad, torch.tensor([[1.0, 2.0], [0.0, 0.0], [3.0, 4.0], [0.0, 0.0]]))


def test_the_verdicts_gradient_reaches_the_encoder_unchanged() -> None:
    """Past the choice of codes: what arrives behind the encoder is what left before the decoder."""
    detector = small().train()
    coder = detector.autoencoder
    seen: dict[str, Tensor] = {}

    def after_encoder(_: nn.Module, __: Any, encoded: Tensor) -> None:
        seen["encoded"] = encoded

    def before_decoder(_: nn.Module, inputs: tuple[Tensor]) -> None:
        seen["decoded"] = inputs[0]

    coder.encoder.register_forward_hook(after_encoder)
    coder.decoder.register_forward_pre_hook(before_decoder)
    verdict = detector.training_losses(batch())["verdict"]
    for tensor in seen.values():
        tensor.retain_grad()
    verdict.backward()
    assert torch.equal(seen["encoded"].grad, seen["decoded"].grad) and seen["decoded"].grad.abs().max() > 0
    assert all(p.grad.abs().max() > 0 for p in coder.encoder.parameters() if p.ndim > 1)
    assert coder.codebook.grad is None


@pytest.mark.parametrize("term", ["verdict", "reconstruction", "commitment", "codebook"])
def test_the_codebook_learns_from_its_own_term_alone(term: str) -> None:
    detector = small().train()
    detector.training_losses(batch())[term].backward()
    coder = detector.autoencoder
    touched = {name for name, p in detector.named_parameters() if p.grad is not None and p.grad.abs().max() > 0}
    assert ("autoencoder.codebook" in touched) == (term == "codebook")
    if term == "codebook":
        assert touched == {"autoencoder.codebook"}
        unchosen = set(range(32)) - set(coder(detector.normalised(batch()["faces"])).codes.unique().tolist())
        assert not coder.codebook.grad[sorted(unchosen)].any()
    if term == "commitment":
        assert touched and all(name.startswith("autoencoder.encoder") for name in touched)


def test_the_terms_are_those_computed_by_hand() -> None:
    weights = {"ce": 0.5, "reconstruction": 2.0, "codebook": 3.0, "commitment": 0.7}
    detector = small(**weights).eval()
    given = batch(progress=0.2)
    shown = detector.normalised(given["faces"])
    losses = {name: float(loss.detach()) for name, loss in detector.training_losses(given).items()}
    with torch.no_grad():
        coded = detector.autoencoder(shown)
        logits = detector.head(detector.trunk(shown - coded.reconstruction).mean((2, 3))).double().numpy()
    chances = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    labels = given["labels"].long().numpy()
    encoded, x = coded.encoded.double().numpy(), shown.double().numpy()
    codes = detector.autoencoder.codebook.detach().double().numpy()[coded.codes.numpy()].transpose(0, 3, 1, 2)
    distance = np.sqrt(((codes - encoded) ** 2).sum(1)).mean()
    expected = {
        "verdict": -0.5 * np.log(chances[np.arange(4), labels]).mean(),
        "reconstruction": 2 * (10 - 9 * 0.6) * ((coded.reconstruction.double().numpy() - x) ** 2).mean(),
        "codebook": 3 * distance,
        "commitment": 0.7 * distance,
    }
    assert losses == pytest.approx(expected, rel=1e-5)


def test_reconstruction_counts_ten_times_at_first_and_once_from_a_third_on() -> None:
    factors = [float(boost(torch.tensor(progress))) for progress in (0.0, 1 / 6, 1 / 3, 0.5, 1.0)]
    assert factors == pytest.approx([10, 5.5, 1, 1, 1], abs=1e-5)
    detector = small().eval()
    late = batch()
    del late["progress"]
    unsaid = detector.training_losses(late)["reconstruction"]
    assert torch.equal(unsaid, detector.training_losses(batch(progress=1.0))["reconstruction"])
    assert float((detector.training_losses(batch(progress=0.0))["reconstruction"] / unsaid).detach()) == pytest.approx(
        10
    )


@pytest.mark.parametrize("side", [64, 96, 128])
def test_the_reconstruction_has_the_pictures_shape(side: int) -> None:
    with torch.no_grad():
        out = small().eval()(faces(2, side))
    assert out.extras["reconstruction"].shape == out.extras["residual"].shape == (2, 3, side, side)
    assert out.extras["codes"].shape == (2, side // 4, side // 4)
    assert out.map.shape == (2, 1, side // 8, side // 8)


def test_the_classifier_sees_the_residual_and_nothing_else() -> None:
    detector = small().eval()
    seen: list[Tensor] = []
    detector.trunk.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    given = faces(2)
    with torch.no_grad():
        out = detector(given)
    assert torch.equal(seen[0], detector.normalised(given) - out.extras["reconstruction"])
    assert torch.equal(seen[0], out.extras["residual"])


def test_the_reconstruction_may_leave_the_range_of_tanh() -> None:
    detector = small().train()
    with torch.no_grad():
        detector.autoencoder.norm.weight.fill_(2)
        reconstruction = detector(faces(4)).extras["reconstruction"]
    assert reconstruction.abs().max() > 1
    torch.testing.assert_close(reconstruction.mean((0, 2, 3)), torch.zeros(3), rtol=0, atol=1e-4)
    torch.testing.assert_close(reconstruction.std((0, 2, 3)), torch.full((3,), 2.0), rtol=1e-2, atol=0)


def test_magnitudes_are_means_over_colours_and_cells() -> None:
    residual = torch.randn(2, 3, 16, 24)
    expected = np.abs(residual.numpy()).mean(1).reshape(2, 2, 8, 3, 8).mean((2, 4))
    np.testing.assert_allclose(magnitude(residual)[:, 0].numpy(), expected, rtol=1e-5)


def test_an_average_residual_is_at_an_even_chance_once_training_is_finished() -> None:
    detector = small().eval()
    given = [{"faces": faces(count, seed=count)} for count in (3, 4)]
    detector.fit_posthoc(given, [])
    with torch.no_grad():
        heat = torch.cat([detector(batch["faces"]).map for batch in given])
        cells = torch.cat([magnitude(detector(batch["faces"]).extras["residual"]) for batch in given])
    assert detector.residual_mean.shape == detector.residual_std.shape == ()
    assert float(detector.residual_mean) == pytest.approx(float(cells.mean()), rel=1e-5)
    assert float(detector.residual_std) == pytest.approx(float(cells.std(correction=0)), rel=1e-4)
    assert float(heat.mean()) == pytest.approx(0, abs=1e-4) and float(heat.std()) == pytest.approx(1, rel=1e-2)


def test_the_map_is_higher_where_the_residual_is_larger() -> None:
    detector = small().eval()
    given = faces(1)
    detector.fit_posthoc([{"faces": given}], [])
    noisy = given.clone()
    noisy[:, :, :32, :32] += 0.7 * torch.randn(3, 32, 32)
    with torch.no_grad():
        heat = detector(noisy).map[0, 0]
    assert heat[:4, :4].mean() > heat[4:, 4:].mean() + 1


def test_without_the_residual_it_is_a_plain_classifier() -> None:
    detector = small(residual=False).eval()
    given = batch()
    with torch.no_grad():
        out = detector(given["faces"])
        logits = detector.head(detector.trunk(detector.normalised(given["faces"])).mean((2, 3)))
    torch.testing.assert_close(out.logit, logits[:, 1] - logits[:, 0])
    torch.testing.assert_close(out.map.mean((1, 2, 3)), out.logit)
    assert not out.extras and not list(detector.buffers(recurse=False))
    losses = detector.training_losses(given)
    assert list(losses) == ["verdict"]
    torch.testing.assert_close(losses["verdict"], nn.functional.cross_entropy(logits, given["labels"].long()))
    detector.fit_posthoc([given], [])


def test_both_arms_have_the_same_classifier() -> None:
    with_residual, without = small(), small(residual=False)
    own = {n: p.shape for n, p in with_residual.named_parameters() if not n.startswith("autoencoder.")}
    assert own == {n: p.shape for n, p in without.named_parameters()}


@pytest.mark.parametrize("residual", [True, False])
def test_a_score_does_not_depend_on_the_others_in_the_batch(residual: bool) -> None:
    detector = small(residual=residual).train()
    with torch.no_grad():
        for seed in range(3):
            detector(faces(8, seed=seed))
        detector.eval()
        given = faces(1, seed=7)
        alone = detector(given)
        for seed in (8, 9):
            together = detector(torch.cat([faces(4, seed=seed), given]))
            torch.testing.assert_close(together.logit[-1:], alone.logit, rtol=1e-5, atol=1e-5)
            torch.testing.assert_close(together.map[-1:], alone.map, rtol=1e-5, atol=1e-4)


def test_one_pair_teaches_in_training_mode() -> None:
    losses = small().train().training_losses(batch(2))
    assert set(losses) == {"verdict", "reconstruction", "codebook", "commitment"}
    torch.stack(list(losses.values())).sum().backward()
    assert all(loss.shape == () and loss.isfinite() for loss in losses.values())


@pytest.mark.slow
def test_training_lowers_the_reconstructions_error() -> None:
    detector = small().train()
    optimiser = torch.optim.AdamW(detector.parameters(), lr=3e-3)
    errors = []
    for _ in range(20):
        losses = detector.training_losses(batch(8, progress=0.0))
        optimiser.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        optimiser.step()
        errors.append(float(losses["reconstruction"].detach()))
    assert errors[-1] < 0.5 * errors[0]


def test_its_state_comes_back_with_what_was_fitted() -> None:
    detector = small().train()
    with torch.no_grad():
        detector(faces(8))
    detector.eval().fit_posthoc([{"faces": faces(4)}], [])
    torch.manual_seed(5)
    other = FedForgery(backbone=BACKBONE, weights="none", width=16, codes=32).eval()
    other.load_state_dict(copy.deepcopy(detector.state_dict()))
    with torch.no_grad():
        one, two = detector(faces(3)), other(faces(3))
    assert torch.equal(one.logit, two.logit) and torch.equal(one.map, two.map)


def test_it_counts_how_often_training_took_each_code() -> None:
    detector = small().train()
    assert detector.uses()["autoencoder.codebook"].sum() == 0
    given = batch(4)
    detector.training_losses(given)
    detector.training_losses(given)
    uses = detector.uses()["autoencoder.codebook"]
    assert uses.shape == (32,) and uses.sum() == 2 * 4 * 16 * 16
    detector.eval().training_losses(given)
    assert detector.uses()["autoencoder.codebook"].sum() == uses.sum()
    # A count is of a training, not of the network: it is in no file.
    assert "code_uses" not in detector.state_dict() and not small(residual=False).uses()


@pytest.mark.slow
def test_a_packs_codes_are_those_of_the_trained_network(tmp_path: Path) -> None:
    """Rounded to half precision, the encoder chooses other codes, and the logit is off by tenths."""
    detector, shown = small().train(), faces(16, seed=5)
    coder: Any = detector.autoencoder
    with torch.no_grad():
        for module in detector.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = None
                module.weight.uniform_(0.5, 1.5)  # so that folding it in leaves no weight in half precision
        detector(faces(16, seed=4))
        encoded = coder.encoder.eval()(detector.normalised(faces(16, seed=6))).permute(0, 2, 3, 1).flatten(0, 2)
        # As trained codes do, these lie among what is encoded: many sites are about as near to two of them.
        coder.codebook.copy_(encoded[torch.randperm(len(encoded))[: len(coder.codebook)]])
    save_weights(detector, tmp_path / "weights.safetensors")
    detector.eval().load_state_dict(load_file(tmp_path / "weights.safetensors"), strict=False)

    class WithCodes(nn.Module):
        def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
            out = detector(pictures)
            return out.logit, out.extras["codes"].float()

    write_onnx(WithCodes().eval(), 64, ("logit", "codes"), tmp_path / "model.onnx")
    session = InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    logit, codes = session.run(None, {"faces": shown.numpy()})
    with torch.no_grad():
        expected, chosen = WithCodes()(shown)
    assert len(chosen.unique()) > 8 and np.array_equal(codes, chosen.numpy())
    assert np.abs(logit - expected.numpy()).max() < 0.05
