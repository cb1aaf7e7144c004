"""The run folder: what was asked (`run.json`), how it went (`metrics.csv`), the state to resume (`checkpoint.ckpt`)."""

import csv
import json
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, Generic, TypeVar

from unmask.errors import DataError
from unmask.files import whole
from unmask.lab.config import TrainConfig
from unmask.lab.methods import method_named
from unmask.lab.robust.config import description
from unmask.lab.task import task_named
from unmask.provenance import library_versions
from unmask.tables import write_csv

Config = TypeVar("Config", bound=TrainConfig)
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
_LATER: dict[str, Any] = {"normalisation": "batch", "reweight_sources": False, "robust": {}, "optimiser": {}}
"""Fields that came after version 0.1, with the value that says what was done before them."""


def versions(*more: str) -> dict[str, str]:
    """Versions of Python and of the libraries that matter to a number, and of `more`."""
    return library_versions((*_LIBRARIES, *more), unmask=True)


def task_of(folder: Path) -> str:
    """The name of the task that a run folder is of.

    Raises:
        DataError: it is no run folder.
    """
    record = _record(folder)
    # Runs of version 0.1 before tasks had names on them say the method alone.
    return str(record.get("task") or method_named(record["protocol"]["method"]).task)


def config_of(folder: Path) -> Any:
    """The configuration of a run folder, of the type that its task has.

    Raises:
        DataError: it is no run folder, or one of another version.
    """
    saved: dict[str, Any] = _record(folder)["protocol"]
    kind = task_named(task_of(folder)).config
    known = {each.name for each in fields(kind)}
    if not saved.keys() <= known or known - saved.keys() - _LATER.keys():
        raise DataError(f"{folder}: a run of {saved['method']} by another version, with other settings; train it anew")
    lists = {name: tuple(value) for name, value in saved.items() if isinstance(value, list)}
    return kind(**{**saved, **lists})


def _record(folder: Path) -> dict[str, Any]:
    try:
        record: dict[str, Any] = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        if not isinstance(record["protocol"]["method"], str):
            raise TypeError
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{folder}: not a run folder of this version (no readable run.json)") from error
    return record


def data_of(folder: Path) -> str:
    """The SHA-256 of the data that a run folder was begun with (`manifest_sha256`)."""
    return str(_record(folder)["data_sha256"])


def is_run(folder: Path) -> bool:
    """Whether a folder is that of a run."""
    return (folder / "run.json").is_file()


class Run(Generic[Config]):
    """A run folder, new or found.

    Args:
        folder: made if it is not there.
        config: of the run.
        data_sha256: of the data it is trained on.
        task: the name of its task.
        command: the command line that began it, for the record.

    Raises:
        DataError: the folder holds a run of another configuration or other data.
    """

    def __init__(self, folder: Path, config: Config, data_sha256: str, task: str = "", command: str = "") -> None:
        self.folder, self.config = folder, config
        folder.mkdir(parents=True, exist_ok=True)
        record = {"protocol": json.loads(json.dumps(asdict(config))), "data_sha256": data_sha256}
        path = folder / "run.json"
        if path.is_file():
            old = _record(folder)
            old["protocol"] = {name: _LATER[name] for name in _LATER if name in record["protocol"]} | old["protocol"]
            if any(old.get(key) != value for key, value in record.items()):
                raise DataError(f"{folder} holds a run of another configuration or other data; name another folder")
        else:
            record |= {"task": task or method_named(config.method).task, "command": command, "versions": versions()}
            if config.robust:
                record["hardening"] = description(config.robust)
            with whole(path) as part:
                part.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")

    def log(self, row: dict[str, float]) -> None:
        """Add a row to metrics.csv, with a column for every name that any row has. A step logged again counts once."""
        path = self.folder / "metrics.csv"
        rows: list[dict[str, str]] = []
        if path.is_file():
            with path.open(newline="", encoding="utf-8") as stream:
                rows = [old for old in csv.DictReader(stream) if float(old["step"]) < row["step"]]
        rows.append({key: f"{value:.6g}" for key, value in row.items()})
        columns = list(dict.fromkeys(name for one in rows for name in one))
        write_csv(path, columns, [[one.get(column, "") for column in columns] for one in rows])
