"""The task "edit_reading": which parts of a face were edited, in which order, and how it may have looked. Lab only."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from unmask.datasets.layouts import read_layout
from unmask.datasets.manifest import manifest_sha256
from unmask.edits.labels import place_of
from unmask.edits.metrics import adaptive_accuracy, complete_matching, fixed_accuracy
from unmask.edits.model import EditSequenceModel
from unmask.edits.prediction import OUTPUTS
from unmask.errors import DataError
from unmask.lab.config import FacePaths, LabPaths
from unmask.lab.edits.checks import other_families
from unmask.lab.edits.config import EditExport, EditTrainConfig
from unmask.lab.edits.edited_faces import EditedFaces, track_of
from unmask.lab.edits.evaluate import (
    check_track,
    evaluate,
    identity_likeness,
    measurements,
    predict_split,
    tables,
)
from unmask.lab.edits.export import LIMITS, measure
from unmask.lab.edits.feed import EditFeed, decoded, faces_between, load_edited_faces, predict
from unmask.lab.methods import method_named
from unmask.lab.run import data_of, is_run, task_of
from unmask.lab.task import CardFacts, Evaluation, Measured, Measurement, Table, Task
from unmask.lab.train import load_network
from unmask.packs import Pack
from unmask.progress import Progress

_WATCHED = 500  # faces of the validation split that training is watched on, at most


@dataclass(frozen=True)
class EditPlan:
    """A run that can be prepared and trained: where, with what configuration, on which faces."""

    paths: LabPaths
    config: EditTrainConfig
    faces: EditedFaces
    training: EditedFaces
    watched: EditedFaces

    @property
    def data_sha256(self) -> str:
        """Of the rows of all faces."""
        return manifest_sha256(self.faces.samples)


@dataclass(frozen=True)
class EditPrepared:
    """What a run trains on and is watched on; `between` are faces between the steps of a sequence, if there are any."""

    config: EditTrainConfig
    training: EditedFaces
    between: EditedFaces | None
    watched: EditedFaces


class EditTask(Task):
    """Networks that score every sequence of edits; some also say where edits were made, and recover the face."""

    name = "edit_reading"
    summary = "which parts were edited, in which order"
    network = EditSequenceModel
    config = EditTrainConfig
    paths = LabPaths
    export_options = EditExport
    outputs = OUTPUTS
    parity_limit = 0.02  # of a probability or a grey value in [0, 1]

    def plan(
        self, paths: LabPaths, config: EditTrainConfig, before: EditTrainConfig | None, progress: Progress
    ) -> EditPlan:
        """Crop the faces, fill in the track and the sequences seen in training."""
        samples = read_layout(paths.data)
        track_of(samples)
        _refuse_lacking(samples, ("train", "val"), paths.data)
        faces = load_edited_faces(samples, paths.work, config.size, config.margin, paths.workers, progress)
        training, watched = faces.split("train"), faces.split("val")
        if config.limit:
            training = training.where(np.arange(min(config.limit, len(training))))
        watched = watched.where(np.arange(min(_WATCHED, len(watched))))
        known = tuple(sorted({place_of(row) for row in training.sequences.tolist()}))
        return EditPlan(paths, replace(config, track=faces.track.name, known=known), faces, training, watched)

    def prepare(self, plan: EditPlan, progress: Progress) -> EditPrepared:
        """The faces between the steps of a sequence, where they are stored."""
        between = faces_between(plan.training, plan.paths.work, plan.config, plan.paths.workers, progress)
        return EditPrepared(plan.config, plan.training, between, plan.watched)

    def feed(self, prepared: EditPrepared) -> EditFeed:
        """Faces of the training split, with the colours that the method varies."""
        made: type[EditSequenceModel] = method_named(prepared.config.method).load()  # type: ignore[assignment]
        return EditFeed(prepared.training, prepared.config, prepared.between, made.colour_jitter)

    def validate(self, network: EditSequenceModel, prepared: EditPrepared, device: torch.device) -> dict[str, float]:
        """Complete matching and the two accuracies of the joint decoding."""
        crops, truth = prepared.watched.take(np.arange(len(prepared.watched))).faces, prepared.watched.sequences
        sequences = decoded(predict(network, crops, device).scores)
        return {
            "val_csm": complete_matching(truth, sequences),
            "val_adaptive": adaptive_accuracy(truth, sequences),
            "val_fixed": fixed_accuracy(truth, sequences),
        }

    def system(self, name: str) -> Path:
        """A finished run's folder; nothing is fused, and a pack decodes in one way only.

        Raises:
            DataError: it is no such folder, or not finished.
        """
        folder = Path(name)
        if not is_run(folder) or task_of(folder) != self.name:
            raise DataError(f"{name}: edits are read by one run at a time; give a single run folder")
        load_network(folder)  # what is not finished is refused before any work
        return folder

    def evaluate(
        self, system: Path, paths: LabPaths, split: str, progress: Progress
    ) -> tuple[Evaluation, tuple[Table, ...]]:
        """Measure a run on a split, by every way of decoding."""
        result = evaluate(predict_split(system, paths, split, progress), split, identity_likeness())
        return result, tables(result)

    def measurements(
        self, systems: Sequence[Path], paths: LabPaths, split: str, progress: Progress
    ) -> list[list[Measurement]]:
        """Of the joint decoding, on the faces that all of them see."""
        return [measurements(predict_split(system, paths, split, progress)) for system in systems]

    def check_export(
        self, runs: Sequence[Path], configs: Sequence[EditTrainConfig], paths: LabPaths, options: EditExport
    ) -> None:
        """Refuse several runs, networks without areas or recovery, and data that lack a split or a class.

        Raises:
            DataError: so too for the faces without local edits.
        """
        self.fused(runs)  # one only
        network = load_network(runs[0])
        output = network(torch.zeros(1, 3, network.size, network.size))
        if output.recovered is None or output.areas is None:
            lacking = "recovers no face" if output.recovered is None else "does not say where edits were made"
            raise DataError(f"{runs[0]}: {configs[0].method} {lacking} with these options; a pack needs one that does")
        samples = read_layout(paths.data)
        check_track(runs[0], configs[0], track_of(samples)[0], paths.data)
        _refuse_lacking(samples, ("train", "val", "test"), paths.data)
        validation = [bool(sample.sequence) for sample in samples if sample.split == "val"]
        if not any(validation) or (all(validation) and options.others is None):
            lacking = "edited" if not any(validation) else "untouched"
            raise DataError(f"{paths.data}: no {lacking} faces in the split val to set the limits by; give some")
        if options.others is not None:
            others = FacePaths(data=options.others, work=paths.work, synthetic=options.synthetic).samples()
            for split in ("val", "test"):
                other_families(others, split)

    def exported(self, network: EditSequenceModel) -> nn.Module:
        """Scores (B, 326), areas (B, 5, h, w) and recovered faces (B, 3, S, S) in [0, 1]."""
        return _Exported(network)

    def facts(
        self,
        runs: Sequence[Path],
        configs: Sequence[EditTrainConfig],
        paths: LabPaths,
        options: EditExport,
        progress: Progress,
    ) -> CardFacts:
        """What stands on the card."""
        faces, config = self._faces(runs[0], configs[0], paths, progress), configs[0]
        method, count = method_named(config.method), len(faces.split("train"))
        return CardFacts(
            description=f"{method.name} ({method.summary}; {method.source}) with {dict(config.options)}. Scores of all "
            "326 sequences of edits, where each edit was made, and a recovered face.",
            training_data=f"training split of {paths.data.name} ({count} faces, {faces.track.name})",
            training_data_terms="CelebA and CelebAMask-HQ: non-commercial research. No picture is contained.",
            training_data_sha256=manifest_sha256(faces.samples),
            limits=LIMITS,
        )

    def samples(self, configs: Sequence[EditTrainConfig], paths: LabPaths, progress: Progress) -> np.ndarray:
        """Crops of the test split."""
        config = configs[0]
        faces = load_edited_faces(paths.data, paths.work, config.size, config.margin, paths.workers, progress)
        tested = faces.split("test")
        return tested.take(np.arange(min(16, len(tested)))).faces

    def parity(self, expected: Sequence[np.ndarray], exported: Sequence[np.ndarray]) -> dict[str, float]:
        """Largest differences of posteriors, areas and pixels; scores that are not finite have no posterior."""
        pairs = [(_softmax(expected[0]), _softmax(exported[0])), *zip(expected[1:], exported[1:], strict=True)]
        names = ("posterior", "areas", "recovered")
        return {name: float(np.abs(one - other).max()) for name, (one, other) in zip(names, pairs, strict=True)}

    def measure(
        self,
        network: EditSequenceModel,
        pack: Pack,
        runs: Sequence[Path],
        configs: Sequence[EditTrainConfig],
        paths: LabPaths,
        options: EditExport,
        progress: Progress,
    ) -> Measured:
        """Calibrate on validation, measure the trained network on test: a pack decodes in one way only."""
        faces = self._faces(runs[0], configs[0], paths, progress)
        return measure(network, configs[0], faces, paths, options, progress)

    def _faces(self, run: Path, config: EditTrainConfig, paths: LabPaths, progress: Progress) -> EditedFaces:
        """The faces that a run was trained on.

        Raises:
            DataError: the data are not those.
        """
        faces = load_edited_faces(paths.data, paths.work, config.size, config.margin, paths.workers, progress)
        if manifest_sha256(faces.samples) != data_of(run):
            raise DataError(f"{run} was not trained on {paths.data} as it is now; give the set that it was trained on")
        return faces


def _refuse_lacking(samples: Sequence[Any], splits: Sequence[str], data: Path) -> None:
    lacking = [split for split in splits if not any(sample.split == split for sample in samples)]
    if lacking:
        raise DataError(f"{data}: no face of these data is in the split {', '.join(lacking)}; give data that have some")


def _softmax(scores: np.ndarray) -> np.ndarray:
    weights = np.exp(scores.astype(np.float64) - scores.max(axis=1, keepdims=True))
    # An infinite score is a posterior of 0, which a small one is as well: that would hide it.
    finite = np.isfinite(scores).all(axis=1, keepdims=True)
    return np.where(finite, weights / weights.sum(axis=1, keepdims=True), np.nan)


class _Exported(nn.Module):
    def __init__(self, model: EditSequenceModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, faces: Tensor) -> tuple[Tensor, ...]:
        out = self.model(faces)
        assert out.areas is not None and out.recovered is not None
        return out.scores, out.areas.sigmoid(), out.recovered
