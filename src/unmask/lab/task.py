"""The contract of a task: what training, evaluation, comparison, export and the command line ask of one.

Detection and edit reading are tasks; so is whatever a package from outside adds. `unmask train`, `evaluate`, `compare`
and `export` know no task: they find it by the method that is trained or by the run that is named, and ask it for the
rest. A task is one folder and one line in `TASKS`; one from outside is named as `module:Object`, or by its name if its
distribution has an entry point of the group `unmask.tasks`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from unmask.errors import DataError
from unmask.lab.config import ExportOptions, LabPaths, TrainConfig
from unmask.packs.card import Calibration, EditCalibration, Metric, OperatingPoint
from unmask.plugins import Entry
from unmask.plugins import Table as Names
from unmask.progress import Progress

if TYPE_CHECKING:
    import torch
    from torch import nn

    from unmask.lab.engine import Feed
    from unmask.lab.robust.pictures import AttackedPictures
    from unmask.packs import Pack

TASKS: "Names[Task | type[Task]]" = Names(
    "task",
    "unmask.tasks",
    (
        Entry("forgery_detection", "unmask.lab.detection.task:DetectionTask", "was the face forged, and where"),
        Entry("edit_reading", "unmask.lab.edits.task:EditTask", "which parts were edited, in which order"),
        Entry(
            "image_classification",
            "unmask.lab.classification.task:ClassificationTask",
            "of which class a small picture is",
        ),
        Entry(
            "face_inpainting",
            "unmask.lab.inpainting.task:InpaintingTask",
            "what could stand in a masked part of a face",
        ),
        Entry("sketch_search", "unmask.lab.search.task:SearchTask", "which photos a sketch shows"),
        Entry("vision_language", "unmask.lab.prompting.task:VisionLanguageTask", "which words fit a picture"),
    ),
)
"""Every task by the name that cards have for it."""

Cell = str | Metric | None


@dataclass(frozen=True)
class Table:
    """A table of an evaluation: heads, and rows of texts and metrics; None is a dash.

    `plain` are the heads under which a metric stands without its interval.
    """

    heads: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    plain: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Evaluation:
    """The numbers of one system: one `Metric` each, as a card holds them."""

    split: str
    metrics: list[Metric] = field(default_factory=list)

    def value(self, dataset: str, name: str, condition: str) -> Metric | None:
        """The metric of that name, if there is one."""
        for metric in self.metrics:
            if (metric.dataset, metric.name, metric.condition) == (dataset, name, condition):
                return metric
        return None

    def add(
        self,
        dataset: str,
        name: str,
        condition: str,
        value: float,
        low: float | None,
        high: float | None,
        labels: np.ndarray,
    ) -> None:
        """Add a number, its interval if it has one, and the counts behind it.

        Args:
            dataset, name, condition: as of `Metric`.
            value: the number; `low` and `high` its 95 % interval.
            labels: (N,) of the faces behind it, 1 = forged or edited.
        """
        numbers = [None if number is None else round(number, 4) for number in (low, high)]
        self.metrics.append(
            Metric(
                dataset=dataset,
                name=name,
                condition=condition,
                value=round(value, 4),
                low=numbers[0],
                high=numbers[1],
                n_real=int((labels == 0).sum()),
                n_forged=int((labels == 1).sum()),
            )
        )


@dataclass(frozen=True)
class Measurement:
    """One metric of one system, with what is needed to compare it with another system's on the same items.

    Attributes:
        metric, group, condition: what is measured, on which faces, presented how.
        items: names of the faces, the same in every system that saw them.
        subjects: whose they are, resampled as a whole.
        labels: (N,) int, 1 = forged or edited.
        value: from row numbers (with repetition) to the metric; nan where it is not defined.
        draws: bootstrap samples of its interval.
    """

    metric: str
    group: str
    condition: str
    items: tuple[str, ...]
    subjects: tuple[str, ...]
    labels: np.ndarray
    value: Callable[[np.ndarray], float]
    draws: int = 400


class Plan(Protocol):
    """What is decided before anything costly is done: the completed configuration, and the digest of the data."""

    @property
    def config(self) -> TrainConfig:
        """With everything filled in that follows from the data."""
        ...

    @property
    def data_sha256(self) -> str:
        """`manifest_sha256` of the rows that are trained and watched on."""
        ...


@dataclass(frozen=True)
class CardFacts:
    """What a task says on the card of a pack, beside what is the same for all."""

    description: str
    training_data: str
    training_data_terms: str
    training_data_sha256: str
    limits: tuple[str, ...]
    spectra: tuple[str, ...] = ("visible",)
    protocol: Mapping[str, Any] = field(default_factory=dict)  # what its use needs beside the runs' configurations


@dataclass(frozen=True)
class Measured:
    """The figures of an exported network: its calibration, and its evaluation on the test split."""

    evaluation: Evaluation
    tables: tuple[Table, ...]
    calibration: Calibration | None = None
    reading: EditCalibration | None = None
    operating_points: tuple[OperatingPoint, ...] = ()


class Task(Protocol):
    """One question that networks are trained to answer. Derive from it: some members have a default.

    Attributes:
        name: as cards have it.
        summary: one line, for lists.
        network: the base class of its networks.
        config: of a run; the command line's options come from it.
        paths: where its data lie; so do these options.
        export_options: what can be asked of a pack.
        outputs: names of a pack's ONNX outputs, in order.
        parity_limit: how far an exported network may differ from the trained one, by any number of `parity`.
        parity_limits: the same for those of the numbers that have a limit of their own, by name.
        half_on_cpu: whether it trains in bfloat16 on CPUs that have it.
        stored: what a pack's weights are stored in, see `onnx_export.write_onnx`.
    """

    parity_limit: float = 0.05
    parity_limits: Mapping[str, float] = MappingProxyType({})
    half_on_cpu: bool = False
    stored: Literal["half", "int8"] = "half"

    name: str
    summary: str
    network: type[Any]
    config: type[TrainConfig]
    paths: type[LabPaths]
    export_options: type[ExportOptions]
    outputs: tuple[str, ...]

    def plan(self, paths: Any, config: Any, before: Any, progress: Progress) -> Plan:
        """Look at the data and complete the configuration.

        Args:
            paths: of type `paths`.
            config: of type `config`, as asked for.
            before: the configuration of the run whose weights training begins from, or None.
            progress: of what takes long.

        Raises:
            DataError: whatever would make training fail, with a remedy.
        """
        ...

    def prepare(self, plan: Any, progress: Progress) -> Any:
        """Make what is missing; returns what `feed` and `validate` take."""
        ...

    def feed(self, prepared: Any) -> "Feed":
        """The batches to train on."""
        ...

    def validate(self, network: Any, prepared: Any, device: "torch.device") -> dict[str, float]:
        """Named numbers of a network in evaluation mode on the validation split, for `metrics.csv`."""
        ...

    def generators(self, config: Any) -> tuple[str, ...]:
        """The names of what a network tells apart: forged families in the order of `families`, or classes; else ()."""
        return ()

    def system(self, name: str) -> Any:
        """What can be measured: a run folder, several to fuse with commas between them, or a pack by name or folder.

        Raises:
            DataError, PackError: there is no such system of this task.
        """
        ...

    def evaluate(self, system: Any, paths: Any, split: str, progress: Progress) -> tuple[Evaluation, tuple[Table, ...]]:
        """Measure a system on a split.

        Raises:
            DataError: the data are not there, or not for it.
        """
        ...

    def attacked(
        self, systems: Sequence[Any], paths: Any, split: str, most: int, seed: int, progress: Progress
    ) -> "AttackedPictures":
        """What an evaluation under attack needs.

        Args:
            systems: names, as given to `system`: a run, and one trained alike without reverse attention if there is.
            paths, split, progress: as of `evaluate`.
            most: pictures at most, drawn evenly over the classes.
            seed: of the draw.

        Raises:
            DataError: networks of the task have no classes to attack, a system is no run, or as of `evaluate`.
        """
        raise DataError(f"the task {self.name} has no evaluation under attack; leave --attacked out")

    def evaluate_left_out(
        self, systems: Sequence[Any], by: str, paths: Any, split: str, progress: Progress
    ) -> tuple[Evaluation, tuple[Table, ...]]:
        """Measure groups of a split, each by those of several systems that never saw it.

        Args:
            systems: as `system` gives them.
            by: what is left out as a whole: "kind", "family" or "source".
            paths, split, progress: as of `evaluate`.

        Raises:
            DataError: nothing can be left out, or as of `evaluate`.
        """
        raise DataError(f"the task {self.name} has no groups to leave out; evaluate without --leave-out")

    def measurements(
        self, systems: Sequence[Any], paths: Any, split: str, progress: Progress
    ) -> list[list[Measurement]]:
        """What systems are compared by, for each of them, on the same faces.

        Raises:
            DataError: as of `evaluate`.
        """
        ...

    def check_export(self, runs: Sequence[Path], configs: Sequence[Any], paths: Any, options: Any) -> None:
        """Refuse what cannot be exported, before any work.

        Raises:
            DataError: it cannot, with a remedy.
        """
        ...

    def fused(self, networks: Sequence[Any]) -> Any:
        """One network of those of several runs, or of a single one.

        Raises:
            DataError: several cannot be one.
        """
        if len(networks) > 1:
            raise DataError(f"runs of the task {self.name} are exported one by one; name a single run")
        return networks[0]

    def exported(self, network: Any) -> "nn.Module":
        """What the ONNX file holds: from faces in [0, 1] to a tuple of `outputs`."""
        ...

    def example(self, network: Any) -> "dict[str, torch.Tensor] | None":
        """Inputs of `exported` by name, two of each, where they are no faces; also what parity is measured on."""
        return None

    def facts(
        self, runs: Sequence[Path], configs: Sequence[Any], paths: Any, options: Any, progress: Progress
    ) -> CardFacts:
        """What stands on the card, beside the figures."""
        ...

    def samples(self, configs: Sequence[Any], paths: Any, progress: Progress) -> np.ndarray:
        """Crops uint8 (N, S, S, 3), N at most 64, on which the exported network is compared with the trained one."""
        ...

    def parity(self, expected: Sequence[np.ndarray], exported: Sequence[np.ndarray]) -> dict[str, float]:
        """How far outputs are from those of the trained network, by name of what is compared.

        Where one of the two is no finite number, so is the difference.
        """
        pairs = zip(self.outputs, exported, expected, strict=True)
        return {name: float(np.abs(one - other).max()) for name, one, other in pairs}

    def at_parity(self, differences: Mapping[str, float]) -> bool:
        """Whether all differences of `parity` are within their limits; what is not a number is within none."""
        return all(value <= self.parity_limits.get(name, self.parity_limit) for name, value in differences.items())

    def measure(
        self,
        network: Any,
        pack: "Pack",
        runs: Sequence[Path],
        configs: Sequence[Any],
        paths: Any,
        options: Any,
        progress: Progress,
    ) -> Measured:
        """Calibrate an exported network and measure it on the test split.

        Args:
            network: the trained one, in evaluation mode.
            pack: the exported one; its card has no figures yet.
            runs, configs: that it was trained in.
            paths, options: of the export.
            progress: of what takes long.
        """
        ...

    def card_metrics(self, result: Evaluation) -> Sequence[Metric]:
        """Those of an evaluation's numbers that stand on the card; all are in the pack's `evaluation.json`."""
        return result.metrics


def task_named(name: str) -> Task:
    """The task of a name: one of `TASKS`, an entry point's, or an object given as `module:Object`.

    Raises:
        DataError: there is none.
    """
    made = TASKS.load(name)
    return made() if isinstance(made, type) else made
