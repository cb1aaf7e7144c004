"""The task "face_inpainting": latent diffusion that paints masked parts of a face anew. Lab only: torch."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from unmask.datasets.layouts import read_layout
from unmask.datasets.manifest import OneClassError, Sample, manifest_sha256
from unmask.errors import DataError
from unmask.forging.taef2_weights import taef2_sha256
from unmask.lab.config import ExportOptions
from unmask.lab.inpainting.config import InpaintingPaths, InpaintingTrainConfig
from unmask.lab.inpainting.evaluate import InpaintingSystem, evaluate, faces_of_split, noise_errors, tables
from unmask.lab.inpainting.feed import LatentFeed
from unmask.lab.inpainting.generator import LatentGenerator, RunGenerator
from unmask.lab.inpainting.latents import choose_faces, encode_faces
from unmask.lab.inpainting.network import CHANNELS, FACTOR, NOISE_STEPS, LatentInpainting
from unmask.lab.methods import method_named
from unmask.lab.run import config_of, data_of, is_run
from unmask.lab.task import CardFacts, Evaluation, Measured, Measurement, Table, Task
from unmask.lab.train import load_network
from unmask.packs import Pack, load_pack
from unmask.progress import SILENT, Progress

_PARSED = 2  # every second training face; the others are masked at random
_WATCHED = 64  # faces of the validation split that training is watched on, at most


@dataclass(frozen=True)
class InpaintingPlan:
    """A run that can be prepared and trained: where, with what configuration, on which faces."""

    paths: InpaintingPaths
    config: InpaintingTrainConfig
    training: tuple[Sample, ...]
    watched: tuple[Sample, ...]

    @property
    def data_sha256(self) -> str:
        """Of the rows of all these faces."""
        return manifest_sha256([*self.training, *self.watched])


class InpaintingTask(Task):
    """Generators that paint masked parts of a face anew."""

    name = "face_inpainting"
    summary = "what could stand in a masked part of a face"
    network = LatentInpainting
    config = InpaintingTrainConfig
    paths = InpaintingPaths
    export_options = ExportOptions
    outputs = ("noise",)
    parity_limit = 0.02  # of noise with deviation 1

    def plan(
        self,
        paths: InpaintingPaths,
        config: InpaintingTrainConfig,
        before: InpaintingTrainConfig | None,
        progress: Progress,
    ) -> InpaintingPlan:
        """Choose the faces and look for the weights."""
        digest = taef2_sha256(paths.taef2, "a generator in its latent space", "train another method")
        samples = genuine_faces(paths.data)
        training = choose_faces(samples, "train", config.per_source)
        watched = choose_faces(samples, "val", config.per_source)[:_WATCHED]
        if not training or not watched:
            raise DataError(f"{paths.data}: no genuine faces to train on and to watch; a manifest needs both splits")
        sources = tuple(sorted({sample.source for sample in training}))
        config = replace(config, autoencoder=digest, sources=sources)
        return InpaintingPlan(paths, config, tuple(training), tuple(watched))

    def prepare(self, plan: InpaintingPlan, progress: Progress) -> LatentFeed:
        """The latents of all faces."""
        paths, config = plan.paths, plan.config
        assert paths.taef2 is not None  # `plan` has looked
        folder = paths.work / "inpainting"
        given = (folder, config.size, config.margin, paths.taef2, paths.published, progress)
        training = encode_faces(plan.training, *given, every=_PARSED)
        watched = encode_faces(plan.watched, *given, stage="encoding faces to watch")
        return LatentFeed(training, watched, config)

    def feed(self, prepared: LatentFeed) -> LatentFeed:
        """It is one."""
        return prepared

    def validate(self, network: LatentInpainting, prepared: LatentFeed, device: torch.device) -> dict[str, float]:
        """The error of the noise on the validation faces, at the same times and with the same noise always."""
        return {"val_noise_error": noise_error(network, prepared, device)}

    def system(self, name: str) -> InpaintingSystem:
        """A finished run's folder, or a pack by name or folder."""
        folder = Path(name)
        if is_run(folder):
            network = load_network(folder)
            assert isinstance(network, LatentInpainting)  # `train` makes no other run of this task
            return InpaintingSystem(name, lambda taef2: _of_run(network, taef2), config_of(folder))
        return _pack_system(load_pack(name, self.name))

    def evaluate(
        self, system: InpaintingSystem, paths: InpaintingPaths, split: str, progress: Progress
    ) -> tuple[Evaluation, tuple[Table, ...]]:
        """Noise, KID, faces found and what the embedded detector says, on genuine faces of a split."""
        result = evaluate(system, genuine_faces(paths.data), paths, split, progress)
        return result, tables(result)

    def measurements(
        self, systems: Sequence[InpaintingSystem], paths: InpaintingPaths, split: str, progress: Progress
    ) -> list[list[Measurement]]:
        """The error of the noise on the same faces."""
        samples, measured = genuine_faces(paths.data), []
        for system in systems:
            faces = faces_of_split(samples, split, system, paths, progress)
            errors = noise_errors(system.opened(paths.taef2), faces, progress)
            items = tuple(Path(sample.path).name for sample in faces.samples)
            subjects = tuple(sample.subject for sample in faces.samples)
            value = _mean_of(errors)
            measured.append(
                [Measurement("noise error", "all", "clean", items, subjects, np.zeros(len(faces), int), value)]
            )
        return measured

    def check_export(
        self,
        runs: Sequence[Path],
        configs: Sequence[InpaintingTrainConfig],
        paths: InpaintingPaths,
        options: ExportOptions,
    ) -> None:
        """Refuse several runs, and faces or weights that they were not trained with."""
        self.fused(runs)  # one only
        plan = self.plan(paths, configs[0], None, SILENT)
        if plan.data_sha256 != data_of(runs[0]) or plan.config.autoencoder != configs[0].autoencoder:
            raise DataError(f"{runs[0]} was not trained on {paths.data} and {paths.taef2} as they are now; give those")

    def exported(self, network: LatentInpainting) -> nn.Module:
        """The noise (B, 32, h, w)."""
        return _Exported(network)

    def example(self, network: LatentInpainting) -> dict[str, Tensor]:
        """Two noisy latents, times, masks and latents of what is kept."""
        side, source = network.size // FACTOR, torch.Generator().manual_seed(0)
        mask = (torch.rand(2, 1, side, side, generator=source) < 0.5).float()
        noisy, kept = torch.randn(2, 2, CHANNELS, side, side, generator=source)
        return {"noisy": noisy, "time": torch.tensor([20, 800]), "mask": mask, "masked": kept * (1 - mask)}

    def facts(
        self,
        runs: Sequence[Path],
        configs: Sequence[InpaintingTrainConfig],
        paths: InpaintingPaths,
        options: ExportOptions,
        progress: Progress,
    ) -> CardFacts:
        """What stands on the card, and the statistics of the latents that its use needs."""
        config, method, plan = configs[0], method_named(configs[0].method), self.plan(paths, configs[0], None, progress)
        network = load_network(runs[0])
        assert isinstance(network, LatentInpainting)  # `train` makes no other run of this task
        return CardFacts(
            description=f"{method.name} ({method.summary}). Predicts the noise in latents of the TAEF2 autoencoder, "
            f"{CHANNELS} channels at an eighth of {config.size} pixels; the autoencoder itself is not in the pack.",
            training_data=f"{len(plan.training)} genuine faces of the training split ({', '.join(config.sources)}), at "
            f"most {config.per_source} of a source; the 19 classes of a parser say what is painted",
            training_data_terms="faces for non-commercial research (CelebAMask-HQ, FFHQ, UTKFace, CIPLAB and others)",
            training_data_sha256=plan.data_sha256,
            limits=(
                f"It paints hair, neck, clothes and background about a face of {config.size} pixels, smoothly rather "
                "than sharply, and is no maker of faces. It exists so that recognisers and detectors of one's own can "
                "be tried.",
                "What it paints resembles its training data: few thousand portraits, most of them frontal.",
            ),
            protocol={"latents": [network.latent_mean.tolist(), network.latent_std.tolist()]},
        )

    def samples(
        self, configs: Sequence[InpaintingTrainConfig], paths: InpaintingPaths, progress: Progress
    ) -> np.ndarray:
        """None: parity is measured on `example`."""
        return np.zeros((0, configs[0].size, configs[0].size, 3), np.uint8)

    def measure(
        self,
        network: LatentInpainting,
        pack: Pack,
        runs: Sequence[Path],
        configs: Sequence[InpaintingTrainConfig],
        paths: InpaintingPaths,
        options: ExportOptions,
        progress: Progress,
    ) -> Measured:
        """The pack's numbers on the test split."""
        return Measured(*self.evaluate(_pack_system(pack), paths, "test", progress))


def genuine_faces(data: Path) -> list[Sample]:
    """The rows of a data set, which may well hold no forgeries.

    Raises:
        DataError: as of `read_layout`, but for that.
    """
    try:
        return read_layout(data)
    except OneClassError as error:
        return list(error.samples)


@torch.no_grad()
def noise_error(network: LatentInpainting, feed: LatentFeed, device: torch.device) -> float:
    """Mean squared error of the noise with the surroundings masked; 1 is what predicting none would give."""
    generator, errors = torch.Generator().manual_seed(0), []
    for batch in feed.validation_batches(device):
        latents = network.normalise(batch["faces"])
        count = len(latents)
        time = ((torch.arange(count) + 0.5) * (NOISE_STEPS / count)).long().to(device)
        noise = torch.randn(latents.shape, generator=generator).to(device)
        errors.append(network.error(latents, batch["masks"], time, noise))
    return float(torch.cat(errors).mean())


def _of_run(network: LatentInpainting, taef2: Path | None) -> RunGenerator:
    taef2_sha256(taef2, "a generator in its latent space", "measure another task's systems")
    assert taef2 is not None  # `taef2_sha256` has looked
    return RunGenerator(network, taef2)


def _pack_system(pack: Pack) -> InpaintingSystem:
    saved: dict[str, Any] = pack.card.protocol["runs"][0]
    lists: dict[str, Any] = {name: tuple(value) for name, value in saved.items() if isinstance(value, list)}
    config = InpaintingTrainConfig(**{**saved, **lists})
    return InpaintingSystem(pack.card.name, lambda taef2: LatentGenerator(pack, taef2), config)


def _mean_of(values: np.ndarray) -> Callable[[np.ndarray], float]:
    return lambda rows: float(values[rows].mean())


class _Exported(nn.Module):
    def __init__(self, network: LatentInpainting) -> None:
        super().__init__()
        self.network = network

    def forward(self, noisy: Tensor, time: Tensor, mask: Tensor, masked: Tensor) -> tuple[Tensor]:
        return (self.network(noisy, time, mask, masked),)
