"""The task "vision_language": which words fit a picture. Lab only: torch."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from unmask.errors import DataError, MissingExtraError
from unmask.lab.config import ExportOptions, LabPaths
from unmask.lab.methods import input_size, method_named
from unmask.lab.metrics import mean_interval
from unmask.lab.prompting.config import VisionLanguageConfig
from unmask.lab.prompting.dual_encoder import DualEncoder
from unmask.lab.prompting.named_pictures import (
    FACE_MARGIN,
    NamedFeed,
    NamedSet,
    class_text,
    read_named,
    texts_of,
)
from unmask.lab.run import config_of, data_of, is_run
from unmask.lab.search.feed import SplitPictures, tensor_of
from unmask.lab.search.pictures import picture_store
from unmask.lab.task import CardFacts, Evaluation, Measured, Measurement, Table, Task
from unmask.lab.train import load_network
from unmask.packs import Pack, load_pack
from unmask.progress import SILENT, Progress

_BATCH = 64
_DRAWS = 1_000
ALL, CLEAN, ACCURACY, CHANCE = "all", "clean", "accuracy", "chance"


@dataclass(frozen=True)
class VisionLanguagePlan:
    """A run that can be trained: its configuration, where its data lie, and the set."""

    config: VisionLanguageConfig
    paths: LabPaths
    data: NamedSet

    @property
    def data_sha256(self) -> str:
        """Of all pictures and names."""
        return self.data.digest()


@dataclass(frozen=True)
class VisionLanguageData:
    """A run's pictures, and the vectors of the texts that they are trained with, by text."""

    plan: VisionLanguagePlan
    splits: dict[str, SplitPictures]
    vectors: dict[str, np.ndarray]


@dataclass(frozen=True)
class VisionLanguageSystem:
    """What can be measured: a name, how it gives unit vectors of uint8 (N, S, S, 3), the configuration behind it."""

    name: str
    vectors: Callable[[np.ndarray], np.ndarray]
    config: VisionLanguageConfig


class VisionLanguageTask(Task):
    """Image towers that are brought into the space of a sentence encoder."""

    name = "vision_language"
    summary = "which words fit a picture"
    network = DualEncoder
    config = VisionLanguageConfig
    paths = LabPaths
    export_options = ExportOptions
    outputs = ("embedding",)
    parity_limit = 0.02  # of a unit vector's value
    half_on_cpu = True
    stored = "int8"

    def plan(
        self, paths: LabPaths, config: VisionLanguageConfig, before: VisionLanguageConfig | None, progress: Progress
    ) -> VisionLanguagePlan:
        """Read the set; what follows from it becomes the configuration's."""
        data = read_named(paths.data, config.seed, config.limit)
        config = replace(
            config,
            classes=data.classes,
            tested=data.unseen,
            faces=data.faces,
            margin=FACE_MARGIN if data.faces else 0.0,
            size=config.size or input_size(config.method, config.options),
        )
        return VisionLanguagePlan(config, paths, data)

    def prepare(self, plan: VisionLanguagePlan, progress: Progress) -> VisionLanguageData:
        """Decode what is not kept yet, and encode the texts."""
        splits = {name: _pictures(plan, name, progress) for name in ("train", "val")}
        texts = {text for item in splits["train"].items for text in texts_of(plan.data, item)}
        texts |= {_class_text(plan.data, name) for name in plan.data.words}
        return VisionLanguageData(plan, splits, text_vectors(sorted(texts)))

    def feed(self, prepared: VisionLanguageData) -> NamedFeed:
        """The training pictures with their texts."""
        plan, splits = prepared.plan, prepared.splits
        return NamedFeed(plan.config, plan.data, splits["train"], splits["val"], prepared.vectors)

    def validate(self, network: DualEncoder, prepared: VisionLanguageData, device: torch.device) -> dict[str, float]:
        """The share of validation pictures whose own class's text is the nearest of those of the split."""
        split = prepared.splits["val"]
        if not len(split.items):
            return {}
        names, right = _right(_of_network(network, device), split, prepared.plan.data, prepared.vectors, SILENT, "")
        return {"val_accuracy": float(right.mean()), "val_classes": float(len(names))}

    def generators(self, config: VisionLanguageConfig) -> tuple[str, ...]:
        """The classes of the configuration."""
        return config.classes

    def system(self, name: str) -> VisionLanguageSystem:
        """A finished run's folder, or a pack by name or folder."""
        folder = Path(name)
        if is_run(folder):
            network, config = load_network(folder), config_of(folder)
            return VisionLanguageSystem(name, _of_network(network, torch.device("cpu")), config)
        return _of_pack(load_pack(name, self.name))

    def evaluate(
        self, system: VisionLanguageSystem, paths: LabPaths, split: str, progress: Progress
    ) -> tuple[Evaluation, tuple[Table, ...]]:
        """The share of pictures whose own class's text is the nearest of those of the split; chance beside it."""
        names, split_pictures, right = _measured(system, paths, split, progress)
        labels, result = np.array([item.label for item in split_pictures.items]), Evaluation(split)
        seen = np.isin(labels, system.config.classes)
        groups = {ALL: np.arange(len(labels))}
        if seen.any() and not seen.all():
            groups |= {"classes trained on": np.flatnonzero(seen), "classes not trained on": np.flatnonzero(~seen)}
        if len(names) <= 40:
            groups |= {name: np.flatnonzero(labels == name) for name in names}
        for group, rows in groups.items():
            units = labels[rows].tolist() if group == ALL else list(map(str, rows))
            result.add(group, ACCURACY, CLEAN, *mean_interval(right[rows], units, _DRAWS), np.zeros(len(rows)))
        result.add(ALL, CHANCE, CLEAN, 1 / len(names), None, None, np.zeros(len(labels)))
        return result, (_table(result, len(names)),)

    def measurements(
        self, systems: Sequence[VisionLanguageSystem], paths: LabPaths, split: str, progress: Progress
    ) -> list[list[Measurement]]:
        """Accuracies on the same pictures; classes are resampled as a whole."""
        if len({(one.config.classes, one.config.tested, one.config.seed) for one in systems}) > 1:
            raise DataError("these systems were trained on different classes; compare such that were on the same")
        measured = []
        for system in systems:
            _, pictures, right = _measured(system, paths, split, progress)
            items = tuple(item.name for item in pictures.items)
            subjects = tuple(item.label for item in pictures.items)
            zeros = np.zeros(len(items), int)
            measured.append([Measurement(ACCURACY, ALL, CLEAN, items, subjects, zeros, _mean_of(right))])
        return measured

    def check_export(
        self,
        runs: Sequence[Path],
        configs: Sequence[VisionLanguageConfig],
        paths: LabPaths,
        options: ExportOptions,
    ) -> None:
        """Refuse several runs, and data that they were not trained on."""
        self.fused(runs)  # one only
        if _set_of(paths, configs[0]).digest() != data_of(runs[0]):
            raise DataError(f"{runs[0]} was not trained on {paths.data} as it is now; give the set it was trained on")

    def exported(self, network: DualEncoder) -> nn.Module:
        """Unit vectors (B, 384)."""
        return _Exported(network)

    def facts(
        self,
        runs: Sequence[Path],
        configs: Sequence[VisionLanguageConfig],
        paths: LabPaths,
        options: ExportOptions,
        progress: Progress,
    ) -> CardFacts:
        """What stands on the card, among it how small the model is."""
        config, method, data = configs[0], method_named(configs[0].method), _set_of(paths, configs[0])
        network = load_network(runs[0])
        assert isinstance(network, DualEncoder)
        size = sum(one.numel() for one in network.parameters()) / 1e6
        pictures = len(data.splits["train"])
        return CardFacts(
            description=f"{method.name} ({method.summary}; {method.source}) with {dict(config.options)}. Unit vectors "
            "of pictures in the space of the sentence encoder all-MiniLM-L6-v2, to be compared with those of texts.",
            training_data=f"{pictures} pictures of {len(config.classes)} classes of {paths.data.name}",
            training_data_terms="not stated by who trained it: ask there before any use",
            training_data_sha256=data_of(runs[0]),
            limits=(
                f"A small model: {size:.1f} million weights, trained on {pictures:,} pictures. Models that are trained "
                "on hundreds of millions, such as CLIP, know far more of what pictures show and texts say.",
                f"It knows {'faces by forgery family' if config.faces else 'things as they are drawn'} of the kinds "
                "that it was trained on; of others its words say little.",
            ),
            protocol={"scale": float(network.scale().detach())},
        )

    def samples(self, configs: Sequence[VisionLanguageConfig], paths: LabPaths, progress: Progress) -> np.ndarray:
        """Pictures of the training split."""
        plan = VisionLanguagePlan(configs[0], paths, _set_of(paths, configs[0]))
        split = _pictures(plan, "train", progress)
        return split.take(np.linspace(0, len(split.items) - 1, min(64, len(split.items)), dtype=int))

    def measure(
        self,
        network: DualEncoder,
        pack: Pack,
        runs: Sequence[Path],
        configs: Sequence[VisionLanguageConfig],
        paths: LabPaths,
        options: ExportOptions,
        progress: Progress,
    ) -> Measured:
        """The pack's accuracy on the test split."""
        result, tables = self.evaluate(_of_pack(pack), paths, "test", progress)
        return Measured(result, tables)


class _Exported(nn.Module):
    def __init__(self, network: DualEncoder) -> None:
        super().__init__()
        self.network = network

    def forward(self, faces: Tensor) -> tuple[Tensor]:
        return (functional.normalize(self.network(faces), dim=1),)


def text_vectors(texts: Sequence[str]) -> dict[str, np.ndarray]:
    """Unit vectors of texts by the sentence encoder, float32 (384,), by text.

    Raises:
        MissingExtraError: the library of the sentence encoder is not installed.
        AssetUnavailable: the sentence encoder cannot be had from here.
    """
    try:
        from unmask.lab.prompting.sentences import SentenceModel, sentence_encoder
    except ModuleNotFoundError as error:
        raise MissingExtraError("prompts", "the sentence encoder") from error
    model = SentenceModel(*sentence_encoder(), 1.0).eval()
    return dict(zip(texts, model.encode_texts(texts).numpy(), strict=True))


def _class_text(data: NamedSet, name: str) -> str:
    return class_text(data.words[name], data.faces)


def _set_of(paths: LabPaths, config: VisionLanguageConfig) -> NamedSet:
    return read_named(paths.data, config.seed, config.limit)


def _pictures(plan: VisionLanguagePlan, split: str, progress: Progress) -> SplitPictures:
    items, config, paths = plan.data.splits[split], plan.config, plan.paths
    pixels = picture_store(items, config.size, config.margin, paths.work, paths.workers, progress)
    return SplitPictures(items, pixels, np.arange(len(items)))


def _measured(
    system: VisionLanguageSystem, paths: LabPaths, split: str, progress: Progress
) -> tuple[list[str], SplitPictures, np.ndarray]:
    """The classes of a split, its pictures, and whether each is named rightly."""
    data = _set_of(paths, system.config)
    if data.faces != system.config.faces:
        raise DataError(f"{paths.data}: not a set of the kind that {system.name} was trained on; give one like it")
    if not data.splits.get(split):
        raise DataError(f"{paths.data}: no split {split}; there are {', '.join(data.splits)}")
    pictures = _pictures(VisionLanguagePlan(system.config, paths, data), split, progress)
    names = sorted({item.label for item in pictures.items})
    texts = text_vectors([_class_text(data, name) for name in names])
    return names, pictures, _right(system.vectors, pictures, data, texts, progress, system.name)[1]


def _right(
    vectors_of: Callable[[np.ndarray], np.ndarray],
    split: SplitPictures,
    data: NamedSet,
    texts: dict[str, np.ndarray],
    progress: Progress,
    name: str,
) -> tuple[list[str], np.ndarray]:
    """The classes of a split, and whether each picture's nearest text is that of its class, float (N,)."""
    names = sorted({item.label for item in split.items})
    classes = np.stack([texts[_class_text(data, one)] for one in names])
    predicted = []
    for start in range(0, len(split.items), _BATCH):
        pixels = split.take(range(start, min(start + _BATCH, len(split.items))))
        predicted.append((vectors_of(pixels) @ classes.T).argmax(1))
        progress.update("naming pictures", min(start + _BATCH, len(split.items)), len(split.items), name)
    truth = np.array([names.index(item.label) for item in split.items])
    return names, (np.concatenate(predicted) == truth).astype(float)


def _of_network(network: nn.Module, device: torch.device) -> Callable[[np.ndarray], np.ndarray]:
    @torch.no_grad()
    def vectors(pixels: np.ndarray) -> np.ndarray:
        return functional.normalize(network(tensor_of(pixels).to(device)).float(), dim=1).cpu().numpy()

    return vectors


def _of_pack(pack: Pack) -> VisionLanguageSystem:
    saved = next(iter(pack.card.protocol.get("runs", ())), None)
    if saved is None:
        raise DataError(f"pack {pack.card.name}: its card does not say what it was trained on; name one of this lab")
    lists = {name: tuple(value) for name, value in saved.items() if isinstance(value, list)}
    config = VisionLanguageConfig(**{**saved, **lists})
    return VisionLanguageSystem(pack.card.name, lambda pixels: pack.run(tensor_of(pixels).numpy())[0], config)


def _table(result: Evaluation, classes: int) -> Table:
    rows = [(m.dataset, m, str(m.n_real)) for m in result.metrics if m.name == ACCURACY]
    chance = next(m for m in result.metrics if m.name == CHANCE)
    heads = ("pictures", f"named rightly among {classes} classes [95 %]", "number")
    return Table(heads, (*rows, ("by chance", chance, "")))


def _mean_of(values: np.ndarray) -> Callable[[np.ndarray], float]:
    return lambda rows: float(values[rows].mean())
