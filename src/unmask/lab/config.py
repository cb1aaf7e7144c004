"""The settings of the lab's commands: frozen dataclasses that the command line's options and `run.json` come from.

No torch here: `unmask train METHOD --help` shows them without loading it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from unmask.datasets.face_store import StoredFace, build_store, read_store
from unmask.datasets.layouts import detect_layout, read_layout
from unmask.datasets.layouts.collection import load_collection
from unmask.datasets.manifest import Sample, manifest_sha256
from unmask.progress import SILENT, Progress


def option(
    default: Any,
    text: str,
    *,
    low: float | None = None,
    high: float | None = None,
    metavar: str | None = None,
    shown: bool = True,
    flag: str | None = None,
) -> Any:
    """A field that users set on the command line.

    Args:
        default: its value if left out; a tuple for one that is repeatable.
        text: its line of help.
        low: the least number allowed.
        high: the greatest.
        metavar: what stands for its value in the help.
        shown: whether the help shows the default, which may say little.
        flag: the option's name without its dashes; the field's own if None.
    """
    data = {"help": text, "low": low, "high": high, "metavar": metavar, "shown": shown, "flag": flag}
    return field(default=default, metadata=data)


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """What decides any training run's outcome beside the data; saved with it and printed beside its numbers.

    `method` names what is trained, `options` those of its settings that were chosen. `size` is the side of its input in
    pixels, `margin` that of the crop over the face box. `start` names the weights a run began from, by their sha256.
    `average` is the decay of the weights' moving average, 0 for none. `normalisation` is "batch", as the methods have
    it, or "group" where group normalisations stand in place of batch normalisations. `robust` are the settings of
    adversarial training (`unmask.lab.robust.config.RobustOptions`), empty for ordinary training; `optimiser` those of a
    sharpness-aware optimiser (`unmask.lab.optimisers.config.OptimiserOptions`), empty for AdamW. Fields without a line
    of help are filled in by the task.
    """

    method: str = "plain"
    options: Mapping[str, str | int | float | bool] = field(default_factory=dict)
    size: int = 224
    margin: float = 1.4
    steps: int = 2_600
    learning_rate: float = 1e-3
    weight_decay: float = 0.02
    average: float = 0.998
    start: str = "the method's own"
    normalisation: str = "batch"
    robust: Mapping[str, str | int | float | bool] = field(default_factory=dict)
    optimiser: Mapping[str, str | float | bool] = field(default_factory=dict)
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class LabPaths:
    """Where things lie: data folder or manifest, and the work folder for what is prepared; `workers` prepare it."""

    data: Path
    work: Path
    workers: int = 1


@dataclass(frozen=True, kw_only=True)
class FacePaths(LabPaths):
    """The paths of tasks that look at faces one by one: also where the faces made by `unmask synthesise` lie."""

    synthetic: Path | None = option(None, "Faces made by `unmask synthesise`, as one more family.", metavar="DIR")

    def samples(self) -> list[Sample]:
        """The manifest's rows."""
        if detect_layout(self.data) == "collection":
            return load_collection(self.data, self.synthetic)
        return read_layout(self.data)

    def faces(self, progress: Progress = SILENT) -> list[StoredFace]:
        """The face store, made if it is not there."""
        samples, folder = self.samples(), self.work / "store"
        mark, digest = folder / "manifest.sha256", manifest_sha256(samples)
        if not mark.is_file() or mark.read_text(encoding="utf-8") != digest:
            build_store(samples, folder, progress)
            mark.write_text(digest, encoding="utf-8")
        return read_store(folder)


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """What is asked of a pack beside the runs: its name (the method's if None) and version."""

    name: str | None = None
    version: str = "0.1.0"
