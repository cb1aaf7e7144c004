"""The lab's commands where the lab is installed: options, refusals before any work, defaults."""

import inspect
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from unmask import cli
from unmask.lab.run import DetectionTrainConfig, Run

pytestmark = pytest.mark.lab


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["--set", "view=infrared"], "one of rgb, residual, both"),
        (["--set", "mood=good"], "view, weights"),
        (["--window", "32"], "64"),
        (["--steps", "0"], "1"),
        (["--seed", "x"], "integer"),
    ],
)
def test_wrong_training_options(args: list[str], told: str, tmp_path: Path, say: Callable[..., Any]) -> None:
    code, error = say(["train", "plain", "--run", str(tmp_path / "r"), "--data", str(tmp_path), *args])
    assert code == 2 and told in error and "Traceback" not in error
    assert not (tmp_path / "r").exists()


def test_the_commands_defaults_are_the_protocols() -> None:
    told = {name: parameter.default for name, parameter in inspect.signature(cli.train).parameters.items()}
    decided = ("method", "size", "window", "start", "without")  # by the method, or none
    shared = {
        name: value for name, value in asdict(DetectionTrainConfig()).items() if name in told and name not in decided
    }
    assert len(shared) == 7
    assert {name: told[name] for name in shared} == shared


def test_an_unfinished_run_is_not_evaluated(tmp_path: Path, say: Callable[..., Any]) -> None:
    Run(tmp_path / "run", DetectionTrainConfig(), "abc")
    code, error = say(["evaluate", str(tmp_path / "run"), "--data", str(tmp_path)])
    assert code == 2
    assert error == f"unmask: {tmp_path / 'run'}: the run is not finished; start the same command again to resume it\n"


@pytest.mark.parametrize(
    ("args", "told"),
    [
        ([], "not in a layout that can be read"),
        (["--start", "nowhere"], "nowhere: no weights.safetensors to start from"),
    ],
)
def test_training_that_cannot_begin(args: list[str], told: str, tmp_path: Path, say: Callable[..., Any]) -> None:
    common = ["--run", str(tmp_path / "r"), "--data", str(tmp_path), "--work", str(tmp_path / "w")]
    code, error = say(["train", "plain", *common, *args])
    *_, line = error.strip().splitlines()
    assert code == 2 and line.startswith("unmask: ") and told in line
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize("command", ["evaluate", "export"])
def test_what_is_neither_a_run_nor_a_pack(command: str, tmp_path: Path, say: Callable[..., Any]) -> None:
    args = {
        "evaluate": ["evaluate", str(tmp_path / "nothing"), "--data", str(tmp_path)],
        "export": ["export", str(tmp_path / "nothing"), "--out", str(tmp_path / "o"), "--unseen", str(tmp_path)],
    }[command]
    if command == "export":
        args += ["--data", str(tmp_path)]
    code, error = say(args)
    *_, line = error.strip().splitlines()
    assert code == 2 and line.startswith("unmask: ") and "Traceback" not in error
