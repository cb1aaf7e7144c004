"""An edit-sequence model's run: its configuration, its paths, and what is asked of its pack."""

from dataclasses import dataclass
from pathlib import Path

from unmask.lab.config import ExportOptions, TrainConfig, option


@dataclass(frozen=True, kw_only=True)
class EditTrainConfig(TrainConfig):
    """The configuration of a run that learns to read sequences of edits.

    `track` is the vocabulary of its edits. `batch` faces make a step; `limit` of the training split are used (0: all).
    `encoded` is the share of faces that a step sees encoded as JPEG once more. `known` are the sequences that were seen
    in training, as places in `labels.all_sequences()`.
    """

    method: str = "mmnet"
    track: str = "facial_components"
    size: int = 128
    margin: float = 2.0
    batch: int = option(16, "Faces in a step.", low=1)
    limit: int = option(0, "Faces to train on; 0: all.", low=0)
    encoded: float = option(0.0, "Share of faces encoded as JPEG anew.", low=0, high=1)
    known: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class EditExport(ExportOptions):
    """Also faces without local edits, to hold down false ones: a folder or manifest, and made faces beside it."""

    others: Path | None = option(
        None, "Authentic and wholly synthetic faces, to hold down false edits.", metavar="DIR|CSV"
    )
    synthetic: Path | None = option(None, "Faces made by `unmask synthesise`, beside --others.", metavar="DIR")
