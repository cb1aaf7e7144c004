"""The task "image_classification": of which class a small picture is. Lab only: torch."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from unmask.errors import DataError
from unmask.lab.classification.config import ClassificationTrainConfig
from unmask.lab.classification.data import Pictures, PictureSet, read_pictures
from unmask.lab.classification.network import Classifier
from unmask.lab.config import ExportOptions, LabPaths
from unmask.lab.methods import method_named
from unmask.lab.metrics import mean_interval
from unmask.lab.robust.pictures import AttackedPictures, alike, as_pictures, even_rows
from unmask.lab.run import config_of, data_of, is_run
from unmask.lab.task import CardFacts, Evaluation, Measured, Measurement, Table, Task
from unmask.lab.train import load_network
from unmask.packs import Pack, load_pack
from unmask.progress import Progress

_WATCHED = 1_000  # pictures of the validation split that training is watched on, at most
_DRAWS = 1_000
_BATCH = 256
CLEAN = "clean"


@dataclass(frozen=True)
class PicturePlan:
    """A run that can be trained: its configuration and the data set."""

    config: ClassificationTrainConfig
    data: PictureSet

    @property
    def data_sha256(self) -> str:
        """Of all pictures and labels."""
        return self.data.sha256


@dataclass(frozen=True)
class PictureFeed:
    """A feed of the engine: shuffled epochs over the training pictures, varied as the configuration says."""

    plan: PicturePlan
    unit: str = "pictures"

    @property
    def count(self) -> int:
        """Pictures in a step."""
        return self.plan.config.batch

    def batches(self, device: torch.device, first: int, rank: int = 0, world: int = 1) -> Iterator[dict[str, Tensor]]:
        """Endless batches from step `first` on; a step depends on seed and number alone."""
        config, pictures = self.plan.config, training_pictures(self.plan)
        count = min(config.batch, len(pictures))
        per_epoch = len(pictures) // count
        step, order = first, (-1, np.arange(len(pictures)))
        while True:
            epoch, place = divmod(step, per_epoch)
            if order[0] != epoch:
                order = (epoch, np.random.default_rng([config.seed, epoch]).permutation(len(pictures)))
            rows = order[1][place * count : (place + 1) * count][rank::world]
            some = pictures.take(rows)
            pixels = varied(some.pixels, config.augment, np.random.default_rng([config.seed, epoch, place, rank]))
            yield _batch(Pictures(pixels, some.labels), device, min(1.0, step / config.steps))
            step += 1

    def validation_batches(self, device: torch.device) -> Iterator[dict[str, Tensor]]:
        """The validation split once."""
        held = self.plan.data.splits["val"]
        for start in range(0, len(held), _BATCH):
            yield _batch(held.take(np.arange(start, min(start + _BATCH, len(held)))), device, 1.0)


def training_pictures(plan: PicturePlan) -> Pictures:
    """The training pictures of a run: all, or as many as its limit says, the first ones."""
    everything, limit = plan.data.splits["train"], plan.config.limit
    return everything.take(np.arange(min(limit, len(everything)))) if limit else everything


def _batch(pictures: Pictures, device: torch.device, progress: float) -> dict[str, Tensor]:
    return {
        "faces": as_pictures(pictures.pixels).to(device),
        "labels": torch.from_numpy(pictures.labels).to(device),
        "progress": torch.tensor(progress, device=device),
    }


def varied(pixels: np.ndarray, how: str, rng: np.random.Generator) -> np.ndarray:
    """Pictures uint8 (N, S, S, 3) shifted by up to an eighth of their side, over black, and half of them mirrored.

    Args:
        pixels: as they are.
        how: "none", "crop" or "crop-flip".
        rng: of the shifts.
    """
    if how == "none":
        return pixels
    side = pixels.shape[1]
    reach = side // 8
    padded = np.pad(pixels, ((0, 0), (reach, reach), (reach, reach), (0, 0)))
    out = np.empty_like(pixels)
    for row, (top, left) in enumerate(rng.integers(0, 2 * reach + 1, (len(pixels), 2))):
        out[row] = padded[row, top : top + side, left : left + side]
    if how == "crop-flip":
        mirrored = rng.random(len(out)) < 0.5
        out[mirrored] = out[mirrored, :, ::-1]
    return out


@dataclass(frozen=True)
class ClassifierSystem:
    """A classifier that can be measured: its name, how it gives logits (N, C) of uint8 (N, S, S, 3), its classes."""

    name: str
    logits: Callable[[np.ndarray], np.ndarray]
    size: int
    classes: tuple[str, ...]

    def check(self, data: PictureSet, path: Path) -> None:
        """Refuse pictures that are not for it.

        Raises:
            DataError: they are of another size or have other classes.
        """
        if data.side != self.size or data.classes != self.classes:
            raise DataError(
                f"{path}: pictures of {data.side} pixels of {len(data.classes)} classes; {self.name} was trained on "
                f"{self.size} pixels and {len(self.classes)} classes. Give the set that it was trained on"
            )


class ClassificationTask(Task):
    """Classifiers of small pictures, in the layouts that robustness benchmarks come in."""

    name = "image_classification"
    summary = "of which class a small picture is"
    network = Classifier
    config = ClassificationTrainConfig
    paths = LabPaths
    export_options = ExportOptions
    outputs = ("logits",)
    parity_limit = 0.1  # of a logit, as of the detectors

    def plan(
        self,
        paths: LabPaths,
        config: ClassificationTrainConfig,
        before: ClassificationTrainConfig | None,
        progress: Progress,
    ) -> PicturePlan:
        """Read the pictures; their side and their classes become the configuration's."""
        data = read_pictures(paths.data)
        if config.size not in (Classifier.size, data.side):
            raise DataError(f"--size {config.size}: the pictures are {data.side} pixels wide; leave --size out")
        planned = PicturePlan(replace(config, size=data.side, classes=data.classes), data)
        if len(set(training_pictures(planned).labels.tolist())) < 2:
            raise DataError(f"{paths.data}: all training pictures are of one class; a classifier needs two or more")
        return planned

    def prepare(self, plan: PicturePlan, progress: Progress) -> PicturePlan:
        """Nothing is missing."""
        return plan

    def feed(self, prepared: PicturePlan) -> PictureFeed:
        """The training pictures."""
        return PictureFeed(prepared)

    def validate(self, network: Classifier, prepared: PicturePlan, device: torch.device) -> dict[str, float]:
        """The accuracy on the validation split."""
        held = prepared.data.splits["val"]
        held = held.take(np.arange(min(_WATCHED, len(held))))
        return {"val_accuracy": float((logits_of(network, held.pixels, device).argmax(1) == held.labels).mean())}

    def generators(self, config: ClassificationTrainConfig) -> tuple[str, ...]:
        """The classes of the configuration."""
        return config.classes

    def system(self, name: str) -> ClassifierSystem:
        """A finished run's folder, or a pack by name or folder."""
        folder = Path(name)
        if is_run(folder):
            network, config = load_network(folder), config_of(folder)
            cpu = torch.device("cpu")
            return ClassifierSystem(name, lambda p: logits_of(network, p, cpu), config.size, config.classes)
        pack = load_pack(name, self.name)
        classes = tuple(pack.card.protocol["runs"][0]["classes"])
        return ClassifierSystem(name, lambda p: _pack_logits(pack, p), pack.card.input_size[0], classes)

    def evaluate(
        self, system: ClassifierSystem, paths: LabPaths, split: str, progress: Progress
    ) -> tuple[Evaluation, tuple[Table, ...]]:
        """The accuracy on a split, of all pictures and of every class."""
        data = read_pictures(paths.data)
        system.check(data, paths.data)
        pictures, result = data.splits[split], Evaluation(split)
        right = (system.logits(pictures.pixels).argmax(1) == pictures.labels).astype(float)
        for name, rows in _groups(pictures, data.classes).items():
            units = list(map(str, rows))
            result.add(name, "accuracy", CLEAN, *mean_interval(right[rows], units, _DRAWS), np.zeros(len(rows)))
        return result, (accuracy_table(result),)

    def attacked(
        self, systems: Sequence[str], paths: LabPaths, split: str, most: int, seed: int, progress: Progress
    ) -> AttackedPictures:
        """Pictures of a split."""
        folders = [Path(name) for name in systems]
        for folder in folders:
            if not is_run(folder):
                raise DataError(f"{folder}: attacks need gradients, which a pack has not; name a run's folder")
        networks = [load_network(folder) for folder in folders]
        alike(networks, systems)
        data = read_pictures(paths.data)
        for name in systems:
            self.system(name).check(data, paths.data)
        pictures = data.splits[split]
        some = pictures.take(even_rows(pictures.labels, most, seed))
        return AttackedPictures(
            *(networks[0], as_pictures(some.pixels), torch.from_numpy(some.labels), data.classes),  # type: ignore[arg-type]
            config_of(folders[0]).robust,
            networks[1] if len(networks) > 1 else None,  # type: ignore[arg-type]
            f"{len(some)} pictures of the {split} split of {paths.data.name}",
        )

    def measurements(
        self, systems: Sequence[ClassifierSystem], paths: LabPaths, split: str, progress: Progress
    ) -> list[list[Measurement]]:
        """Accuracies on the same pictures."""
        data = read_pictures(paths.data)
        pictures = data.splits[split]
        measured = []
        for number, system in enumerate(systems, start=1):
            system.check(data, paths.data)
            right = (system.logits(pictures.pixels).argmax(1) == pictures.labels).astype(float)
            progress.update("scoring", number, len(systems), system.name)
            own = []
            for name, rows in _groups(pictures, data.classes).items():
                items = tuple(map(str, rows))
                value = _mean_of(right[rows])
                own.append(Measurement("accuracy", name, CLEAN, items, items, np.zeros(len(rows), int), value))
            measured.append(own)
        return measured

    def check_export(
        self,
        runs: Sequence[Path],
        configs: Sequence[ClassificationTrainConfig],
        paths: LabPaths,
        options: ExportOptions,
    ) -> None:
        """Refuse several runs, and data that they were not trained on."""
        self.fused(runs)  # one only
        if read_pictures(paths.data).sha256 != data_of(runs[0]):
            raise DataError(f"{runs[0]} was not trained on {paths.data} as it is now; give the set it was trained on")

    def exported(self, network: Classifier) -> nn.Module:
        """Logits (B, C)."""
        return _Exported(network)

    def facts(
        self,
        runs: Sequence[Path],
        configs: Sequence[ClassificationTrainConfig],
        paths: LabPaths,
        options: ExportOptions,
        progress: Progress,
    ) -> CardFacts:
        """What stands on the card."""
        config, method, data = configs[0], method_named(configs[0].method), read_pictures(paths.data)
        return CardFacts(
            description=f"{method.name} ({method.summary}; {method.source}) with {dict(config.options)}. Logits of "
            f"{len(config.classes)} classes: {', '.join(config.classes)}.",
            training_data=f"training pictures of {paths.data.name} ({len(data.splits['train'])} of them)",
            training_data_terms="not stated by who trained it: ask there before any use",
            training_data_sha256=data.sha256,
            limits=("It knows its own classes alone, in pictures like those it was trained on.",),
        )

    def samples(self, configs: Sequence[ClassificationTrainConfig], paths: LabPaths, progress: Progress) -> np.ndarray:
        """Pictures of the validation split."""
        return read_pictures(paths.data).splits["val"].pixels[:64]

    def measure(
        self,
        network: Classifier,
        pack: Pack,
        runs: Sequence[Path],
        configs: Sequence[ClassificationTrainConfig],
        paths: LabPaths,
        options: ExportOptions,
        progress: Progress,
    ) -> Measured:
        """The pack's accuracy on the test split."""
        system = ClassifierSystem(
            pack.card.name, lambda p: _pack_logits(pack, p), configs[0].size, tuple(configs[0].classes)
        )
        result, tables = self.evaluate(system, paths, "test", progress)
        return Measured(result, tables)


class _Exported(nn.Module):
    def __init__(self, network: Classifier) -> None:
        super().__init__()
        self.network = network

    def forward(self, faces: Tensor) -> tuple[Tensor]:
        return (self.network(faces),)


def _groups(pictures: Pictures, classes: Sequence[str]) -> dict[str, np.ndarray]:
    """Row numbers of all pictures, and of those of every class that has some."""
    by_class = {name: np.flatnonzero(pictures.labels == number) for number, name in enumerate(classes)}
    return {"all": np.arange(len(pictures))} | {name: rows for name, rows in by_class.items() if len(rows)}


def _mean_of(values: np.ndarray) -> Callable[[np.ndarray], float]:
    return lambda rows: float(values[rows].mean())


def accuracy_table(result: Evaluation) -> Table:
    """Accuracies by class."""
    rows = tuple((m.dataset, m, str(m.n_real)) for m in result.metrics)
    return Table(("pictures", "accuracy [95 %]", "number"), rows)


@torch.no_grad()
def logits_of(network: nn.Module, pixels: np.ndarray, device: torch.device) -> np.ndarray:
    """Logits (N, C) of uint8 (N, S, S, 3)."""
    parts = [
        network(as_pictures(pixels[start : start + _BATCH]).to(device)).float().cpu().numpy()
        for start in range(0, len(pixels), _BATCH)
    ]
    return np.concatenate(parts)


def _pack_logits(pack: Pack, pixels: np.ndarray) -> np.ndarray:
    parts = [
        pack.run(as_pictures(pixels[start : start + _BATCH]).numpy())[0] for start in range(0, len(pixels), _BATCH)
    ]
    return np.concatenate(parts)
