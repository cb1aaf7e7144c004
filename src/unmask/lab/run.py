"""The run folder: what was asked (`run.json`), how it went (`metrics.csv`), the state to resume (`checkpoint.ckpt`)."""

import csv
import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Generic, TypeVar

from unmask.errors import DataError
from unmask.provenance import library_versions

Kind = TypeVar("Kind", bound="Settings")
_LIBRARIES = (
    "torch",
    "timm",
    "lightning-fabric",
    "numpy",
    "opencv-python-headless",
    "scikit-learn",
    "lir",
    "onnxruntime",
)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What decides any training run's outcome beside the data; saved with it and printed beside its numbers.

    `method` names what is trained, `options` those of its settings that were chosen. `size` is the side of its input in
    pixels, `margin` that of the crop over the face box. `start` names the weights a run began from, by their sha256.
    `average` is the decay of the weights' moving average.
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
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Protocol(Settings):
    """Those of a detector's run.

    `families` are the forged families it was trained on, in the order of its generators, `spectra` those of the
    pictures. `window` is the side of the random window of a pair that a step sees (the whole crop if it is `size`):
    traces of forging are local, and a window of half the side costs a quarter; every `whole_every`-th step sees whole
    crops all the same. `before` are the families that the weights at `start` had been trained on. `without` are
    families left out.
    """

    families: tuple[str, ...] = ()
    spectra: tuple[str, ...] = ("visible",)
    window: int = 112
    whole_every: int = 6
    pairs: int = 14_000
    batch_pairs: int = 16
    zoo_steps: int = 300
    twin_draws: int = 2
    before: tuple[str, ...] = ()
    without: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class SequenceProtocol(Settings):
    """Those of a sequence reader's run.

    `track` is the vocabulary of its edits. `batch` faces make a step; `limit` of the training split are used (0: all).
    `encoded` is the share of faces that a step sees encoded as JPEG once more. `known` are the sequences that were seen
    in training, as places in `labels.all_sequences()`.
    """

    method: str = "mmnet"
    track: str = "facial_components"
    size: int = 128
    margin: float = 2.0
    batch: int = 16
    limit: int = 0
    encoded: float = 0.0
    known: tuple[int, ...] = ()


def versions(*more: str) -> dict[str, str]:
    """Versions of Python and of the libraries that matter to a number, and of `more`."""
    return library_versions((*_LIBRARIES, *more), unmask=True)


def read_settings(folder: Path, kind: type[Kind]) -> Kind:
    """The settings of a run folder.

    Raises:
        DataError: it is no run folder, or one of another kind of run.
    """
    try:
        saved: dict[str, Any] = json.loads((folder / "run.json").read_text(encoding="utf-8"))["protocol"]
        lists = {name: tuple(value) for name, value in saved.items() if isinstance(value, list)}
        method = saved["method"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{folder}: not a run folder of this version (no readable run.json)") from error
    if saved.keys() != {each.name for each in fields(kind)}:
        raise DataError(f"{folder}: a run of {method}, of another kind or version than is asked for here")
    return kind(**{**saved, **lists})


def data_of(folder: Path) -> str:
    """The SHA-256 of the data that a run folder was begun with (`manifest_sha256`)."""
    return str(json.loads((folder / "run.json").read_text(encoding="utf-8"))["data_sha256"])


class Run(Generic[Kind]):
    """A run folder, new or found."""

    def __init__(self, folder: Path, protocol: Kind, data_sha256: str) -> None:
        self.folder, self.protocol = folder, protocol
        folder.mkdir(parents=True, exist_ok=True)
        record = {"protocol": json.loads(json.dumps(asdict(protocol))), "data_sha256": data_sha256}
        path = folder / "run.json"
        if path.is_file():
            old = json.loads(path.read_text(encoding="utf-8"))
            if any(old.get(key) != value for key, value in record.items()):
                raise DataError(f"{folder} holds a run of another protocol or other data; name another folder")
        else:
            record |= {"command": " ".join(sys.argv), "versions": versions()}
            path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")

    @staticmethod
    def protocol_of(folder: Path) -> Protocol:
        """The protocol of a detector's run folder; raises as `read_settings`."""
        return read_settings(folder, Protocol)

    def log(self, row: dict[str, float]) -> None:
        """Add a row to metrics.csv; the first row decides the columns. A step logged again counts once."""
        path = self.folder / "metrics.csv"
        kept: list[dict[str, str]] = []
        if path.is_file():
            with path.open(newline="", encoding="utf-8") as stream:
                kept = [old for old in csv.DictReader(stream) if float(old["step"]) < row["step"]]
        part = path.with_suffix(".part")
        with part.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, list(kept[0]) if kept else list(row), extrasaction="ignore")
            writer.writeheader()
            writer.writerows([*kept, {key: f"{value:.6g}" for key, value in row.items()}])
        part.replace(path)
