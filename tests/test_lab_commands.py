"""The commands of the lab: what they say when something is amiss, without the lab's libraries too."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

LAB = ("torch", "torchvision", "timm", "lightning", "safetensors", "sklearn", "scipy", "lir", "onnx", "openvino")
COMMANDS = {
    "train": ["train", "plain", "--run", "r", "--data", "d"],
    "evaluate": ["evaluate", "some-run", "--data", "d"],
    "compare": ["compare", "one", "two", "--data", "d"],
    "models": ["models"],
    "forge": ["forge", "d", "o"],
    "manifest": ["manifest", "d", "--out", "o"],
    "export": ["export", "some-run", "--out", "o", "--unseen", "u", "--data", "d"],
    "synthesise": ["synthesise", "o", "--count", "1"],
}


def call(args: list[str], folder: Path, without: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """A process of its own in which the libraries named are as if not installed."""
    code = (
        f"import sys\nfor name in {without!r}:\n    sys.modules[name] = None\n"
        f"from unmask import cli\nsys.argv = {['unmask', *args]!r}\ncli.main()"
    )
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=folder, timeout=120, check=False
    )


@pytest.mark.parametrize("name", COMMANDS)
def test_a_missing_lab_takes_one_line(name: str, tmp_path: Path) -> None:
    done = call(COMMANDS[name], tmp_path, without=LAB)
    assert done.returncode == 2 and done.stdout == ""
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("unmask: ") and line.endswith('needs the "lab" extra: pip install "unmask[lab]"')


def test_help_needs_no_lab(tmp_path: Path) -> None:
    for args in (["--help"], ["train", "--help"], *([*c[:2], "--help"] for c in COMMANDS.values())):
        done = call(args, tmp_path, without=LAB)
        assert done.returncode == 0 and "Usage" in done.stdout, (args, done.stderr)
        assert done.stderr == ""


def test_a_wrong_split(say: Callable[..., Any]) -> None:
    code, error = say(["evaluate", "x", "--data", "d", "--split", "train"])
    assert code == 2 and "val or test" in error


@pytest.mark.parametrize("missing", ["--run", "--data"])
def test_a_missing_option(missing: str, say: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("UNMASK_DATA", raising=False)
    args = {"--run": "r", "--data": "d"}
    del args[missing]
    code, error = say(["train", "plain", *(part for pair in args.items() for part in pair)])
    assert code == 2 and missing in error
