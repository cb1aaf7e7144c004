"""The run folder: what was asked (`run.json`), how it went (`metrics.csv`), the state to resume (`checkpoint.ckpt`)."""

import csv
import json
import platform
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import unmask
from unmask.errors import DataError

_LIBRARIES = ("torch", "timm", "lightning", "numpy", "opencv-python-headless", "scikit-learn", "lir", "onnxruntime")


@dataclass(frozen=True)
class Protocol:
    """Everything that decides a training run's outcome beside the data; saved with it and printed beside its numbers.

    `method` names the detector, `options` those of its settings that were chosen, `families` the forged families it was
    trained on, in the order of its generators, `spectra` those of the pictures. `size` is the side of its input in
    pixels, `margin` that of the crop over the face box. `window` is the side of the random window of a pair that a step
    sees (the whole crop if it is `size`): traces of forging are local, and a window of half the side costs a quarter;
    every `whole_every`-th step sees whole crops all the same. `start` names the weights a run began from, by their
    sha256, and `before` the families those had been trained on. `without` are families left out. `average` is the decay
    of the weights' moving average.
    """

    method: str = "plain"
    options: Mapping[str, str | int | float | bool] = field(default_factory=dict)
    families: tuple[str, ...] = ()
    spectra: tuple[str, ...] = ("visible",)
    size: int = 224
    window: int = 112
    whole_every: int = 6
    margin: float = 1.4
    pairs: int = 14_000
    steps: int = 2_600
    batch_pairs: int = 16
    learning_rate: float = 1e-3
    weight_decay: float = 0.02
    average: float = 0.998
    zoo_steps: int = 300
    twin_draws: int = 2
    start: str = "the method's own"
    before: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    seed: int = 0


def versions() -> dict[str, str]:
    """Versions of Python and of the libraries that matter to a number."""
    found = {"unmask": unmask.__version__, "python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


class Run:
    """A run folder, new or found."""

    def __init__(self, folder: Path, protocol: Protocol, data_sha256: str) -> None:
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

    @classmethod
    def protocol_of(cls, folder: Path) -> Protocol:
        """The protocol of a run folder.

        Raises:
            DataError: it is no run folder.
        """
        try:
            saved: dict[str, Any] = json.loads((folder / "run.json").read_text(encoding="utf-8"))["protocol"]
            lists = {name: tuple(saved[name]) for name in ("families", "spectra", "without", "before")}
            return Protocol(**{**saved, **lists})
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{folder}: not a run folder of this version (no readable run.json)") from error

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
