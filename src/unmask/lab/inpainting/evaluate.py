"""How well a generator paints, and how real it looks: noise, KID, faces that are found, what a detector says."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from unmask.datasets.manifest import Sample
from unmask.errors import DataError
from unmask.faces.alignment import resize
from unmask.faces.finding import FaceFinder
from unmask.forgery.scoring import ForgeryScorer
from unmask.lab.inpainting.config import InpaintingPaths, InpaintingTrainConfig
from unmask.lab.inpainting.generator import Generator
from unmask.lab.inpainting.latents import FaceLatents, choose_faces, encode_faces
from unmask.lab.inpainting.sampling import inpaint
from unmask.lab.metrics import mean_interval
from unmask.lab.realism import FeatureNetwork, kernel_distance
from unmask.lab.task import Evaluation, Table
from unmask.packs import load_pack
from unmask.packs.assets import AssetUnavailable
from unmask.packs.card import Metric
from unmask.progress import Progress

MOST = 200  # faces that are painted
STEPS = 20
_TIMES = (50, 250, 450, 650, 850)
_BATCH = 8
_DRAWS = 1_000
DETECTOR = "plain"
REAL, RECONSTRUCTED, PAINTED = "real", "reconstructed", "painted"


@dataclass(frozen=True)
class InpaintingSystem:
    """A generator that can be measured: its name, how it is opened with the autoencoder's folder, its run."""

    name: str
    opened: Callable[[Path | None], Generator]
    config: InpaintingTrainConfig


def faces_of_split(
    samples: list[Sample], split: str, system: InpaintingSystem, paths: InpaintingPaths, progress: Progress
) -> FaceLatents:
    """Faces to measure a system on, at most `MOST`, evenly over a split.

    Raises:
        DataError: there are none, or as of `encode_faces`.
    """
    chosen = choose_faces(samples, split, system.config.per_source)
    count = min(MOST, len(chosen))
    if not count:
        raise DataError(f"{paths.data}: no genuine faces in the split {split}; a generator is measured on some")
    some = [chosen[place * len(chosen) // count] for place in range(count)]
    if paths.taef2 is None:
        raise DataError("the TAEF2 weights are needed to measure a generator; name their folder with --taef2")
    folder, config = paths.work / "inpainting", system.config
    stage = "encoding faces to measure on"
    return encode_faces(some, folder, config.size, config.margin, paths.taef2, paths.published, progress, stage)


def noise_errors(generator: Generator, faces: FaceLatents, progress: Progress) -> np.ndarray:
    """Mean squared error (N,) of the noise, surroundings masked, mean over five steps; 1 is that of no prediction."""
    errors, source = [], torch.Generator().manual_seed(0)
    for start in range(0, len(faces), _BATCH):
        pictures, masks = _pictures(faces, start)
        clean = generator.encode(pictures)
        small, masked = generator.condition(pictures, clean, masks)
        noise, per_time = torch.randn(clean.shape, generator=source), []
        for time in _TIMES:
            level = generator.alphas_cumprod[time].float()
            noisy = level.sqrt() * clean + (1 - level).sqrt() * noise
            per_time.append((generator.eps(noisy, time, small, masked) - noise).square().mean((1, 2, 3)))
        errors.append(torch.stack(per_time).mean(0).numpy())
        progress.update("predicting noise", start + len(pictures), len(faces))
    return np.concatenate(errors)


def paint(generator: Generator, faces: FaceLatents, progress: Progress) -> dict[str, Tensor]:
    """The faces as they are, through the autoencoder alone, and with their surroundings painted; uint8 (N, 3, S, S)."""
    shown: dict[str, list[Tensor]] = {REAL: [], RECONSTRUCTED: [], PAINTED: []}
    source = torch.Generator().manual_seed(0)
    for start in range(0, len(faces), _BATCH):
        pictures, masks = _pictures(faces, start)

        def draw(shape: tuple[int, ...], count: int = len(pictures)) -> Tensor:
            return torch.randn((count, *shape), generator=source)

        with torch.no_grad():
            reconstructed = generator.decode(generator.encode(pictures))
        painted = inpaint(generator, pictures, masks, STEPS, draw)
        for name, some in zip(shown, (pictures, reconstructed, painted), strict=True):
            shown[name].append((some.clamp(0, 1) * 255).round().to(torch.uint8))
        progress.update("painting faces", start + len(pictures), len(faces))
    return {name: torch.cat(parts) for name, parts in shown.items()}


def evaluate(
    system: InpaintingSystem, samples: list[Sample], paths: InpaintingPaths, split: str, progress: Progress
) -> Evaluation:
    """All numbers of a generator on a split.

    KID is between the first half of the faces, as they are, reconstructed or painted, and the second half as they are.

    Raises:
        DataError: as of `faces_of_split`.
    """
    faces = faces_of_split(samples, split, system, paths, progress)
    generator = system.opened(paths.taef2)
    result, subjects = Evaluation(split), [sample.subject for sample in faces.samples]
    labels = np.zeros(len(faces), int)
    errors = noise_errors(generator, faces, progress)
    result.add(PAINTED, "noise error", "clean", *mean_interval(errors, subjects, _DRAWS), labels)
    shown = paint(generator, faces, progress)
    features, half = _features(progress), len(faces) // 2
    known = None if features is None else features(shown[REAL][half:])
    scorer, finder = ForgeryScorer(load_pack(DETECTOR)), FaceFinder()
    limit = load_pack(DETECTOR).card.operating_points[0].threshold
    for name, pictures in shown.items():
        own = labels if name == REAL else np.ones(len(faces), int)
        crops = [np.ascontiguousarray(one.permute(1, 2, 0).numpy()) for one in pictures]
        seen = np.array([bool(finder.find(crop)) for crop in crops], float)
        result.add(name, "face found", "clean", *mean_interval(seen, subjects, _DRAWS), own)
        scores = scorer.score([resize(crop, scorer.size) for crop in crops])
        called = np.array([score.score > limit for score in scores], float)
        result.add(name, "called forged", "clean", *mean_interval(called, subjects, _DRAWS), own)
        if features is not None and known is not None:
            distance = kernel_distance(features(pictures[:half]), known)
            if distance is not None:
                result.add(name, "KID", "clean", distance, None, None, own)
    return result


def tables(result: Evaluation) -> tuple[Table, ...]:
    """The evaluation as a table: a row for each kind of picture."""

    def cell(name: str, metric: str) -> Metric | None:
        return result.value(name, metric, "clean")

    heads = ("pictures", "noise error", "KID", "face found", "called forged")
    rows = tuple((name, *(cell(name, metric) for metric in heads[1:])) for name in (REAL, RECONSTRUCTED, PAINTED))
    return (Table(heads, rows, frozenset({"KID"})),)


def _pictures(faces: FaceLatents, start: int) -> tuple[Tensor, Tensor]:
    """Some faces (b, 3, S, S) in [0, 1], and their masks (b, 1, S, S)."""
    crops = torch.from_numpy(faces.crops[start : start + _BATCH]).permute(0, 3, 1, 2).float() / 255
    masks = torch.from_numpy(faces.masks[start : start + _BATCH, None]).float()
    return crops.contiguous(), torch.nn.functional.interpolate(masks, crops.shape[-1])


def _features(progress: Progress) -> Callable[[Tensor], np.ndarray] | None:
    try:
        return FeatureNetwork()
    except AssetUnavailable as error:
        progress.note(f"KID is not measured: {error}")
        return None
