"""A training run that is killed and taken up again, for the batteries of detectors and readers."""

from collections.abc import Callable
from pathlib import Path
from types import MethodType
from typing import Any

import pytest
import torch
from lightning_fabric import Fabric
from safetensors.torch import load_file
from torch import Tensor

from unmask.lab.config import TrainConfig
from unmask.lab.engine import Feed, fit
from unmask.lab.run import Run


class _Killed(Exception):
    """What ends a run before its time."""


def resumes_as_if_nothing_had_happened(
    make: Callable[[], Any], feed: Feed, config: TrainConfig, folder: Path, steps: int
) -> bool:
    """Whether a run of so many steps, killed before its last one and resumed, ends with an uninterrupted one's weights.

    The resumed run may take that one step only: it does not begin again.
    """
    fabric = Fabric(accelerator="cpu", devices=1, precision="32-true")

    def train(run: Path, lives: int) -> dict[str, Tensor]:
        torch.manual_seed(1)
        network = make()
        learn = network.training_losses

        def mortal(_: Any, batch: Any) -> dict[str, Tensor]:
            nonlocal lives
            lives -= 1
            if lives < 0:
                raise _Killed
            return learn(batch)

        network.training_losses = MethodType(mortal, network)
        fit(fabric, network, feed, Run(run, config, "0"), every=1)
        return load_file(run / "weights.safetensors")

    whole = train(folder / "whole", steps)
    with pytest.raises(_Killed):
        train(folder / "killed", steps - 1)
    resumed = train(folder / "killed", 1)
    return whole.keys() == resumed.keys() and all(torch.equal(whole[name], resumed[name]) for name in whole)
