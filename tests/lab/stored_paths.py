"""Paths of the detection task whose faces are at hand, and finished runs that were never trained."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from unmask.datasets.face_store import StoredFace, read_store, write_store
from unmask.datasets.manifest import Sample
from unmask.lab.detection.config import DetectionPaths, DetectionTrainConfig
from unmask.lab.detection.task import DetectionTask
from unmask.lab.engine import save_weights
from unmask.lab.run import Run
from unmask.lab.train import new_network
from unmask.progress import SILENT, Progress


@dataclass(frozen=True, kw_only=True)
class StoredPaths(DetectionPaths):
    """No collection is read and no face is looked for: faces and rows are those of the work folder's store."""

    def samples(self) -> list[Sample]:
        return [face.sample for face in self.faces()]

    def faces(self, progress: Progress = SILENT) -> list[StoredFace]:
        return read_store(self.work / "store")


def stored_paths(folder: Path, faces: Sequence[StoredFace]) -> StoredPaths:
    write_store(faces, folder / "store")
    return StoredPaths(data=folder / "data", work=folder)


SMALL = DetectionTrainConfig(
    method="fedforgery",
    options={"width": 8, "backbone": "test_resnet", "weights": "none"},
    size=64,
    window=64,
    families=("selfblend", "swap"),
)
"""The detector that is quickest to build and to run."""


def write_run(folder: Path, **changes: Any) -> Path:
    """The folder of a finished run whose weights are random; `changes` are to `SMALL`."""
    config = replace(SMALL, **changes)
    torch.manual_seed(config.seed)
    Run(folder, config, "0")
    save_weights(new_network(DetectionTask(), config, pretrained=False), folder / "weights.safetensors")
    return folder
