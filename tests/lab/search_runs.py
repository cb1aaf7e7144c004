"""A finished run of a small network for sketch search, never trained."""

from pathlib import Path

import torch

from unmask.lab.engine import save_weights
from unmask.lab.run import Run
from unmask.lab.search.config import SearchTrainConfig
from unmask.lab.search.task import SearchTask
from unmask.lab.train import new_network

OPTIONS = {"backbone": "mobilenetv3_small_050", "weights": "none"}


def write_run(folder: Path) -> Path:
    """The run folder, with random weights."""
    config = SearchTrainConfig(size=64, options=OPTIONS, classes=("cat", "dog"), tested=("cow",))
    torch.manual_seed(0)
    Run(folder, config, "0" * 64, "sketch_search")
    save_weights(new_network(SearchTask(), config, pretrained=False), folder / "weights.safetensors")
    return folder
