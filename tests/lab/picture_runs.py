"""Finished runs of classifiers of small pictures, never trained."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from unmask.lab.classification.config import ClassificationTrainConfig
from unmask.lab.classification.task import ClassificationTask
from unmask.lab.engine import save_weights
from unmask.lab.run import Run
from unmask.lab.train import new_network

SMALL = ClassificationTrainConfig(size=16, options={"width": 4}, classes=("a", "b", "c"))


def write_run(folder: Path, **changes: Any) -> Path:
    """The folder of a finished run with random weights; `changes` are to `SMALL`."""
    config = replace(SMALL, **changes)
    torch.manual_seed(config.seed)
    Run(folder, config, "0")
    save_weights(new_network(ClassificationTask(), config, pretrained=False), folder / "weights.safetensors")
    return folder
