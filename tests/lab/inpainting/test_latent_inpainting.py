"""The face generator: its network, its masks, its feed, the sampling, and its way into a pack."""

import math
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_pack import make_card

from unmask.datasets.manifest import Sample
from unmask.errors import DataError, PackError
from unmask.forging.parsing import CLASSES, KEPT, surroundings
from unmask.lab.config import ExportOptions
from unmask.lab.inpainting.config import InpaintingPaths, InpaintingTrainConfig
from unmask.lab.inpainting.feed import LatentFeed
from unmask.lab.inpainting.generator import LatentGenerator, RunGenerator
from unmask.lab.inpainting.latents import FaceLatents, at_latent, choose_faces, random_mask
from unmask.lab.inpainting.network import LatentInpainting, alphas_cumprod
from unmask.lab.inpainting.sampling import inpaint, sigma, timesteps
from unmask.lab.inpainting.task import InpaintingTask, noise_error
from unmask.lab.onnx_export import write_onnx
from unmask.lab.train import train
from unmask.packs import Pack
from unmask.packs.card import Card
from unmask.progress import SILENT
from unmask.provenance import sha256_of

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from painting_runs import OPTIONS, network

pytestmark = pytest.mark.lab
CPU = torch.device("cpu")


def sample(number: int, **changes: object) -> Sample:
    fields = {"path": f"{number}.png", "label": 0, "family": "real", "source": "mine", "subject": f"p{number}"}
    return Sample(**{**fields, "split": "train", **changes})  # type: ignore[arg-type]


def faces(count: int = 10, side: int = 8) -> FaceLatents:
    rng = np.random.default_rng(0)
    masks = np.zeros((count, side, side), bool)
    masks[::2, : side // 2] = True  # every second one was parsed
    return FaceLatents(
        tuple(sample(number) for number in range(count)),
        np.zeros((count, 8 * side, 8 * side, 3), np.uint8),
        rng.normal(3.0, 2.0, (count, 32, side, side)).astype(np.float16),
        masks,
    )


def feed(**changes: object) -> LatentFeed:
    config = InpaintingTrainConfig(size=64, batch=4, steps=20, options=OPTIONS, **changes)  # type: ignore[arg-type]
    return LatentFeed(faces(), faces(3), config)


def test_what_is_kept_is_the_face_and_nothing_else() -> None:
    labels = np.arange(len(CLASSES), dtype=np.uint8)[None]
    painted = {CLASSES[place] for place in np.flatnonzero(surroundings(labels)[0])}
    assert painted == set(CLASSES) - set(KEPT)
    assert painted == {
        *("background", "left_ear", "right_ear", "earring", "neck", "necklace", "cloth", "hair", "hat"),
    }


def test_the_schedule_is_that_of_the_sheet() -> None:
    """Values read from the reference code with 45 steps asked for: 46, from 991 to 1."""
    steps, alphas = timesteps(45), alphas_cumprod()
    assert len(steps) == 46 and (steps[0], steps[1], steps[-1]) == (991, 969, 1)
    assert math.isclose(float(alphas[999]) ** 0.5, 0.068, abs_tol=5e-4)
    by_step = dict(zip(steps, [*steps[1:], 0], strict=True))
    for time, expected in {991: 0.477, 441: 0.285, 111: 0.152, 23: 0.040, 1: 0.021}.items():
        assert float(sigma(alphas[time], alphas[by_step[time]])) == pytest.approx(expected, abs=6e-4)
    assert timesteps(20)[0] == 951 and len(timesteps(20)) == 20 and min(map(min, map(timesteps, (2, 7, 999)))) == 1


@pytest.mark.slow
def test_the_noise_is_that_of_diffusers() -> None:
    diffusers = pytest.importorskip("diffusers")
    scheduler = diffusers.DDIMScheduler(
        *(1000, 0.00085, 0.012, "scaled_linear"), clip_sample=False, set_alpha_to_one=False, steps_offset=1
    )
    torch.testing.assert_close(scheduler.alphas_cumprod.double(), alphas_cumprod(), rtol=1e-4, atol=1e-6)
    for count in (10, 20, 50):
        scheduler.set_timesteps(count)
        steps, alphas = timesteps(count), alphas_cumprod()
        assert scheduler.timesteps.tolist() == steps
        for time, after in zip(steps, [*steps[1:], 0], strict=True):
            variance = scheduler._get_variance(time, time - 1000 // count)
            assert float(sigma(alphas[time], alphas[after])) == pytest.approx(
                float(variance) ** 0.5, rel=2e-3, abs=2e-4
            )


def test_the_network_sees_noise_mask_and_what_is_kept() -> None:
    net, example = network(), InpaintingTask().example(network())
    with torch.no_grad():
        noise = net(**{"noisy": example["noisy"], **example})
        assert noise.shape == (2, 32, 8, 8) and torch.isfinite(noise).all()
        for name in example:
            changed = example | {name: example[name] + 1}
            assert not torch.allclose(net(**changed), noise)
        single = net(**{name: tensor[1:] for name, tensor in example.items()})
    torch.testing.assert_close(single, noise[1:], atol=1e-5, rtol=1e-4)
    small = sum(parameter.numel() for parameter in LatentInpainting().parameters())
    assert 2 * small < 8e6  # bytes in half precision


def test_latents_are_normalised_by_channel() -> None:
    net = LatentInpainting(**OPTIONS)
    stream = feed().batches(CPU, 0)
    net.fit_statistics([next(stream) for _ in range(2)])
    latents = net.normalise(torch.from_numpy(faces().latents[:8]).float())
    assert latents.mean().abs() < 0.1 and abs(float(latents.std()) - 1) < 0.1


def test_a_step_of_training_depends_on_its_number_alone() -> None:
    straight, later = feed().batches(CPU, 0), feed().batches(CPU, 3)
    for _ in range(3):
        next(straight)
    for _ in range(3):
        one, other = next(straight), next(later)
        assert torch.equal(one["faces"], other["faces"]) and torch.equal(one["masks"], other["masks"])
        assert one["faces"].shape == (4, 32, 8, 8) and one["masks"].shape == (4, 1, 8, 8)
        assert one["masks"].flatten(1).any(1).all()  # something is missing of every face
    held = list(feed().validation_batches(CPU))
    assert [len(batch["faces"]) for batch in held] == [3] and torch.equal(
        held[0]["masks"][:, 0].bool(), torch.from_numpy(faces(3).masks)
    )


def test_it_learns() -> None:
    torch.manual_seed(0)
    made = feed()
    net = LatentInpainting(width=16, depth=1)
    net.fit_statistics([next(made.batches(CPU, 0))])
    before = noise_error(net.eval(), made, CPU)
    optimiser, stream = torch.optim.Adam(net.train().parameters(), 3e-3), made.batches(CPU, 0)
    for _ in range(40):
        loss = torch.stack(list(net.training_losses(next(stream)).values())).sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert noise_error(net.eval(), made, CPU) < min(before, 1.0) - 0.05


@given(st.integers(0, 2**31 - 1), st.sampled_from([8, 16]))
@settings(max_examples=40, deadline=None)
def test_random_masks_leave_something_to_paint(seed: int, side: int) -> None:
    mask = random_mask(side, np.random.default_rng(seed))
    assert mask.shape == (side, side) and mask.dtype == bool and mask.any()


def test_masks_at_the_latents_size_are_the_nearest() -> None:
    mask = np.random.default_rng(0).random((64, 64)) < 0.5
    nearest = torch.nn.functional.interpolate(torch.from_numpy(mask)[None, None].float(), (8, 8))
    assert (at_latent(mask) == nearest[0, 0].bool().numpy()).all()


def test_genuine_faces_of_the_split_are_chosen_evenly() -> None:
    rows = [sample(n, source="a") for n in range(10)] + [sample(n + 10, source="b") for n in range(3)]
    rows += [sample(20, label=1, family="swap"), sample(21, split="test"), sample(22, spectrum="nir")]
    assert choose_faces(rows, "train", 0) == rows[:13]
    chosen = choose_faces(rows, "train", 5)
    assert [one.path for one in chosen] == [
        *("0.png", "2.png", "4.png", "6.png", "8.png"),
        "10.png",
        "11.png",
        "12.png",
    ]
    assert choose_faces(rows, "test", 5) == [rows[14]]


class Flat:
    """A generator without networks: latents are pictures at an eighth, and noise is what the kept part lacks."""

    name, side, alphas_cumprod = "flat", 16, alphas_cumprod()

    def encode(self, pictures: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.avg_pool2d(pictures, 8)

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.interpolate(latents, scale_factor=8.0)

    def condition(
        self, pictures: torch.Tensor, latents: torch.Tensor, masks: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        small = masks[..., ::8, ::8]
        return small, latents * (1 - small)

    def eps(self, noisy: torch.Tensor, time: int, masks: torch.Tensor, masked: torch.Tensor) -> torch.Tensor:
        level = self.alphas_cumprod[time].float()
        return (noisy - level.sqrt() * masked) / (1 - level).sqrt()  # as if the clean latent were what is kept


def test_sampling_ends_at_what_the_network_believes_in() -> None:
    pictures, masks = torch.rand(2, 3, 16, 16), torch.zeros(2, 1, 16, 16)
    masks[..., :8] = 1

    def draw(shape: tuple[int, ...]) -> torch.Tensor:
        return torch.randn((2, *shape), generator=torch.Generator().manual_seed(0))

    out = inpaint(Flat(), pictures, masks, 20, draw)
    kept = Flat().decode(Flat().encode(pictures) * (1 - masks[..., ::8, ::8]))
    assert (out - kept).abs().max() < 0.2  # but for the noise of the last step, 0.04
    pulled = inpaint(Flat(), pictures, masks, 20, draw, lambda clean: torch.full_like(clean, 5.0))
    alike = inpaint(Flat(), pictures, masks, 20, draw, lambda clean: torch.full_like(clean, 5.0), adaptive=False)
    nowhere = inpaint(Flat(), pictures, masks, 20, draw, torch.zeros_like)
    assert torch.equal(nowhere, out)
    assert 0 < (pulled - out).mean() < (alike - out).mean()  # the pull of late steps remains, and is weak if adaptive


def pack_of(net: LatentInpainting, folder: Path, digest: str) -> Pack:
    task = InpaintingTask()
    folder.mkdir()
    write_onnx(task.exported(net), net.size, task.outputs, folder / "model.onnx", task.example(net))
    run = asdict(InpaintingTrainConfig(size=net.size, options=OPTIONS, autoencoder=digest))
    card = replace(
        make_card(net.size, sha256_of(folder / "model.onnx")),
        task=task.name,
        outputs=task.outputs,
        protocol={"runs": [run], "latents": [net.latent_mean.tolist(), net.latent_std.tolist()]},
    )
    card.write(folder / "card.json")
    return Pack(folder, Card.read(folder / "card.json"))


@pytest.mark.data
@pytest.mark.slow
def test_a_pack_paints_as_the_run_does(tmp_path: Path, data_dir: Path) -> None:
    from unmask.forging.taef2_weights import taef2_sha256

    taef2 = data_dir / "weights" / "taef2"
    net = network()
    pack = pack_of(net, tmp_path / "mine", taef2_sha256(taef2, "", ""))
    generators = (RunGenerator(net, taef2), LatentGenerator(pack, taef2))
    pictures, masks = torch.rand(2, 3, 64, 64), (torch.rand(2, 1, 64, 64) < 0.5).float()
    latents = [one.encode(pictures) for one in generators]
    torch.testing.assert_close(latents[0], latents[1])
    assert latents[0].shape == (2, 32, 8, 8)
    small, masked = generators[0].condition(pictures, latents[0], masks)
    noises = [one.eps(latents[0], 500, small, masked) for one in generators]
    torch.testing.assert_close(noises[0], noises[1], atol=0.02, rtol=0)  # weights in half precision
    assert generators[1].decode(latents[0]).shape == pictures.shape
    with pytest.raises(DataError, match="other weights than"):
        LatentGenerator(replace(pack, card=pack_card(pack, autoencoder="1" * 64)), taef2)
    with pytest.raises(PackError, match="does not say what latents"):
        LatentGenerator(replace(pack, card=replace(pack.card, protocol={})), taef2)
    with pytest.raises(DataError, match="needs the TAEF2 weights"):
        LatentGenerator(pack, None)


def pack_card(pack: Pack, **changes: str) -> Card:
    run = {**pack.card.protocol["runs"][0], **changes}
    return replace(pack.card, protocol={**pack.card.protocol, "runs": [run]})


@pytest.mark.data
@pytest.mark.slow
def test_from_faces_to_a_pack(tmp_path: Path, data_dir: Path, portrait: Path) -> None:
    """Train, resume, evaluate and export on a handful of pictures."""
    import cv2

    from unmask.datasets.manifest import write_manifest
    from unmask.lab.export import export

    picture, rows = cv2.imread(str(portrait)), []
    assert picture is not None
    for number in range(8):
        path = tmp_path / f"{number}.png"
        cv2.imwrite(str(path), np.clip(picture * (1 - 0.05 * number), 0, 255).astype(np.uint8))
        split = "train" if number < 4 else "val" if number < 5 else "test"
        rows.append(sample(number, path=str(path), split=split))
    write_manifest(rows, tmp_path / "faces.csv")
    weights = data_dir / "weights"
    paths = InpaintingPaths(
        data=tmp_path / "faces.csv", work=tmp_path / "work", taef2=weights / "taef2", published=weights
    )
    config = InpaintingTrainConfig(size=64, steps=4, batch=2, options=OPTIONS)
    trained = train(paths, tmp_path / "run", config, every=2)
    again = train(paths, tmp_path / "run", config, every=2)
    for one, other in zip(trained.state_dict().values(), again.state_dict().values(), strict=True):
        torch.testing.assert_close(one, other)
    made = export([tmp_path / "run"], paths, tmp_path / "pack", ExportOptions(name="mine"))
    assert made.parity["noise"] < 0.02 and made.pack.card.task == "face_inpainting"
    values = {(metric.dataset, metric.name): metric.value for metric in made.pack.card.metrics}
    assert values["real", "face found"] == 1.0 and 0.5 < values["painted", "noise error"] < 2.0
    assert {name for _, name in values} >= {"noise error", "face found", "called forged"}
    measured = InpaintingTask().system(str(tmp_path / "pack")).opened(weights / "taef2")
    assert isinstance(measured, LatentGenerator) and measured.side == 64


def test_what_cannot_be_trained_is_refused(tmp_path: Path) -> None:
    task, config = InpaintingTask(), InpaintingTrainConfig()
    with pytest.raises(DataError, match="needs the TAEF2 weights"):
        task.plan(InpaintingPaths(data=tmp_path, work=tmp_path), config, None, SILENT)
