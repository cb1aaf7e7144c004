"""The task "sketch_search": which photos a sketch shows. Lab only: torch."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from unmask.datasets.sketch_sets import SketchSet, read_sketches
from unmask.errors import DataError
from unmask.lab.config import ExportOptions
from unmask.lab.methods import input_size, method_named, untrained
from unmask.lab.run import config_of, data_of, is_run
from unmask.lab.search.config import SearchExport, SearchPaths, SearchTrainConfig
from unmask.lab.search.feed import SketchFeed, SplitPictures, tensor_of
from unmask.lab.search.measuring import (
    ALL,
    MAIN,
    QueryValues,
    embed,
    evaluation,
    query_values,
    tables_of,
    watched,
    with_answers,
)
from unmask.lab.search.pictures import picture_store
from unmask.lab.search.sketch_network import SketchNetwork
from unmask.lab.search.wordnet import WordNet, semantic_prior
from unmask.lab.task import CardFacts, Evaluation, Measured, Measurement, Table, Task
from unmask.lab.train import load_network
from unmask.packs import Pack, load_pack
from unmask.packs.card import Metric
from unmask.progress import SILENT, Progress

FEWEST_OF_CLASS = 20
"""Sketches of a class from which a card has a number of it."""
_FACE_MARGIN = 1.4


@dataclass(frozen=True)
class SearchPlan:
    """A run that can be trained: its configuration, where its data lie, and the set."""

    config: SearchTrainConfig
    paths: SearchPaths
    data: SketchSet
    data_sha256: str


@dataclass(frozen=True)
class SearchData:
    """The pictures of a run's splits."""

    plan: SearchPlan
    splits: dict[str, SplitPictures]


@dataclass(frozen=True)
class SearchSystem:
    """What can be measured: a name, how it gives vectors of uint8 (N, S, S, 3), and the configuration behind it."""

    name: str
    vectors: Callable[[np.ndarray], np.ndarray]
    config: SearchTrainConfig


class SearchTask(Task):
    """Networks that give sketches and photos vectors to compare."""

    name = "sketch_search"
    summary = "which photos a sketch shows"
    network = SketchNetwork
    config = SearchTrainConfig
    paths = SearchPaths
    export_options = SearchExport
    outputs = ("embedding",)
    parity_limit = 0.01  # of a unit vector's value
    half_on_cpu = True
    stored = "int8"

    def plan(
        self, paths: SearchPaths, config: SearchTrainConfig, before: SearchTrainConfig | None, progress: Progress
    ) -> SearchPlan:
        """Read the set; what follows from it becomes the configuration's."""
        data = _set_of(paths, config)
        if before is not None and before.classes != data.classes and _of_classes(config):
            raise DataError("the run to start from was trained on other classes; start from none")
        config = replace(
            config,
            classes=data.classes,
            tested=data.unseen,
            people=data.people,
            margin=_FACE_MARGIN if data.people else 0.0,
            size=config.size or input_size(config.method, config.options),
            prior="none" if paths.wordnet is None else "WordNet",
        )
        if paths.wordnet is not None:
            WordNet(paths.wordnet)  # refused before the pictures are read
        return SearchPlan(config, paths, data, _digest(data))

    def prepare(self, plan: SearchPlan, progress: Progress) -> SearchData:
        """Decode or draw what is not kept yet."""
        return _pictures(plan, ("train", "val"), progress)

    def feed(self, prepared: SearchData) -> SketchFeed:
        """The training pictures, with the semantic prior if WordNet is at hand."""
        config, wordnet = prepared.plan.config, prepared.plan.paths.wordnet
        prior = None if wordnet is None else semantic_prior(config.classes, WordNet(wordnet))
        return SketchFeed(config, prepared.splits["train"], prepared.splits["val"], prior)

    def validate(self, network: SketchNetwork, prepared: SearchData, device: torch.device) -> dict[str, float]:
        """Mean AP of the validation split's sketches among its photos."""
        split = with_answers(prepared.splits["val"])
        if not len(split.of(True)):
            return {}
        return watched(embed(_of_network(network, device), split, SILENT), split)

    def generators(self, config: SearchTrainConfig) -> tuple[str, ...]:
        """The classes of the configuration."""
        return config.classes

    def system(self, name: str) -> SearchSystem:
        """A finished run's folder, or a pack by name or folder."""
        folder = Path(name)
        if is_run(folder):
            network, config = load_network(folder), config_of(folder)
            return SearchSystem(name, _of_network(network, torch.device("cpu")), config)
        return _of_pack(load_pack(name, self.name))

    def pictures(self, system: SearchSystem, paths: SearchPaths, split: str, progress: Progress) -> SplitPictures:
        """A split as a system sees it, without sketches that have no photo there.

        Raises:
            DataError: there is no such split.
        """
        plan = _plan_of(paths, system.config)
        if not plan.data.splits.get(split):
            raise DataError(f"{paths.data}: no split {split}; there are {', '.join(plan.data.splits)}")
        made = with_answers(_pictures(plan, (split,), progress).splits[split])
        if not len(made.of(True)):
            raise DataError(f"{paths.data}: no sketch of the split {split} has a photo of its class there")
        return made

    def evaluate(
        self, system: SearchSystem, paths: SearchPaths, split: str, progress: Progress
    ) -> tuple[Evaluation, tuple[Table, ...]]:
        """The ranks of the photos of a sketch's class, with and without clusters of the gallery."""
        values = _values(system, paths, split, progress)
        result = evaluation(values, split, by_class=not system.config.people)
        return result, tables_of(result)

    def measurements(
        self, systems: Sequence[SearchSystem], paths: SearchPaths, split: str, progress: Progress
    ) -> list[list[Measurement]]:
        """Interpolated AP on the same sketches; classes are resampled as a whole."""
        if len({(system.config.tested, system.config.people) for system in systems}) > 1:
            raise DataError("these systems were trained without different classes; compare such that lack the same")
        measured = []
        for system in systems:
            values = _values(system, paths, split, progress)
            none = np.zeros(len(values.names), int)
            measured.append(
                [
                    Measurement(MAIN, ALL, kind, values.names, values.labels, none, _mean_of(metrics[MAIN]))
                    for kind, metrics in values.values.items()
                ]
            )
        return measured

    def check_export(
        self,
        runs: Sequence[Path],
        configs: Sequence[SearchTrainConfig],
        paths: SearchPaths,
        options: ExportOptions,
    ) -> None:
        """Refuse several runs, and data that they were not trained on."""
        self.fused(runs)  # one only
        if _digest(_set_of(paths, configs[0])) != data_of(runs[0]):
            raise DataError(f"{runs[0]} was not trained on {paths.data} as it is now; give the set it was trained on")

    def card_metrics(self, result: Evaluation) -> Sequence[Metric]:
        """Those of all sketches, and of classes with enough of them to say something of the class."""
        return [one for one in result.metrics if one.dataset == ALL or one.n_real >= FEWEST_OF_CLASS]

    def exported(self, network: SketchNetwork) -> nn.Module:
        """Unit vectors (B, D)."""
        return _Exported(network)

    def facts(
        self,
        runs: Sequence[Path],
        configs: Sequence[SearchTrainConfig],
        paths: SearchPaths,
        options: SearchExport,
        progress: Progress,
    ) -> CardFacts:
        """What stands on the card."""
        config, method, data = configs[0], method_named(configs[0].method), _set_of(paths, configs[0])
        what = "people" if config.people else "classes"
        return CardFacts(
            description=f"{method.name} ({method.summary}; {method.source}) with {dict(config.options)}. Unit vectors "
            "of sketches and photos, to be compared by their cosine.",
            training_data=f"{len(data.splits['train'])} sketches and photos of {len(config.classes)} {what} of "
            f"{paths.data.name}",
            training_data_terms=options.terms,
            training_data_sha256=data_of(runs[0]),
            limits=(
                f"Tested on {len(config.tested)} {what} that it was not trained on, in the same styles of drawing; "
                "other styles are less well known to it.",
                "A high rank says that a photo is alike, not that it shows what was drawn.",
            ),
        )

    def samples(self, configs: Sequence[SearchTrainConfig], paths: SearchPaths, progress: Progress) -> np.ndarray:
        """Sketches and photos of the validation split."""
        split = _pictures(_plan_of(paths, configs[0]), ("val",), progress).splits["val"]
        return split.take(np.arange(min(64, len(split.items))))

    def measure(
        self,
        network: SketchNetwork,
        pack: Pack,
        runs: Sequence[Path],
        configs: Sequence[SearchTrainConfig],
        paths: SearchPaths,
        options: ExportOptions,
        progress: Progress,
    ) -> Measured:
        """The pack's ranks on the test split."""
        result, tables = self.evaluate(_of_pack(pack), paths, "test", progress)
        return Measured(result, tables)


class _Exported(nn.Module):
    def __init__(self, network: SketchNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, faces: Tensor) -> tuple[Tensor]:
        return (functional.normalize(self.network(faces), dim=1),)


def _of_classes(config: SearchTrainConfig) -> bool:
    network = untrained(config.method, config.options)
    return not isinstance(network, SketchNetwork) or network.of_classes


def _set_of(paths: SearchPaths, config: SearchTrainConfig) -> SketchSet:
    return read_sketches(paths.data, config.unseen, config.seed, config.limit)


def _plan_of(paths: SearchPaths, config: SearchTrainConfig) -> SearchPlan:
    data = _set_of(paths, config)
    return SearchPlan(config, paths, data, _digest(data))


def _digest(data: SketchSet) -> str:
    lines = [
        f"{split},{item.path.name},{item.line},{item.label},{int(item.sketch)},{item.path.stat().st_size}"
        for split, items in sorted(data.splits.items())
        for item in items
    ]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _pictures(plan: SearchPlan, names: Sequence[str], progress: Progress) -> SearchData:
    splits = {}
    for name in names:
        items = plan.data.splits[name]
        config, paths = plan.config, plan.paths
        pixels = picture_store(items, config.size, config.margin, paths.work, paths.workers, progress)
        splits[name] = SplitPictures(items, pixels, np.arange(len(items)))
    return SearchData(plan, splits)


def _values(system: SearchSystem, paths: SearchPaths, split: str, progress: Progress) -> QueryValues:
    own = SearchTask().pictures(system, paths, split, progress)
    return query_values(embed(system.vectors, own, progress, system.name), own)


def _of_network(network: nn.Module, device: torch.device) -> Callable[[np.ndarray], np.ndarray]:
    @torch.no_grad()
    def vectors(pixels: np.ndarray) -> np.ndarray:
        return network(tensor_of(pixels).to(device)).float().cpu().numpy()

    return vectors


def _of_pack(pack: Pack) -> SearchSystem:
    saved = next(iter(pack.card.protocol.get("runs", ())), None)
    if saved is None:
        raise DataError(f"pack {pack.card.name}: its card does not say what it was trained on; name one of this lab")
    lists = {name: tuple(value) for name, value in saved.items() if isinstance(value, list)}
    config = SearchTrainConfig(**{**saved, **lists})
    return SearchSystem(pack.card.name, lambda pixels: pack.run(tensor_of(pixels).numpy())[0], config)


def _mean_of(values: np.ndarray) -> Callable[[np.ndarray], float]:
    return lambda rows: float(values[rows].mean())
