"""Finished runs of networks that read edits, never trained: small, quick, and of known answers if that is asked."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from unmask.edits.mmnet import MMNet
from unmask.lab.edits.config import EditTrainConfig
from unmask.lab.edits.task import EditTask
from unmask.lab.engine import save_weights
from unmask.lab.run import Run
from unmask.lab.train import new_network

SMALL = EditTrainConfig(size=64, options={"readers": "regions", "scales": "coarse", "presence": False}, known=(0,))
"""The network that is quickest to run and to export: regions alone, at stride 32."""


def write_run(folder: Path, says: float | None = None, seed: int = 0, data: str = "0", **changes: Any) -> Path:
    """Write the run folder.

    Args:
        folder: to make.
        says: above zero, the network says of every face that all five parts were edited; below, that none was.
        seed: of the random weights.
        data: hash of the data that it was trained on.
        changes: to SMALL.
    """
    config = replace(SMALL, **changes)
    torch.manual_seed(seed)
    network = new_network(EditTask(), config, pretrained=True)
    if says is not None:
        assert isinstance(network, MMNet)
        last = network.presence_head[-1]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.weight)
        nn.init.constant_(last.bias, says)
    Run(folder, config, data)
    save_weights(network, folder / "weights.safetensors")
    return folder
