"""The commands of the lab: what they say when something is amiss, without the lab's libraries too."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from unmask import cli
from unmask.installation import install_line

LAB = (
    *("torch", "torchvision", "timm", "lightning_fabric", "safetensors", "sklearn", "scipy", "lir", "onnx", "openvino"),
    "ai_edge_litert",
)
COMMANDS = {
    "train": ["train", "plain", "--run", "r", "--data", "d"],
    "evaluate": ["evaluate", "some-run", "--data", "d"],
    "compare": ["compare", "one", "two", "--data", "d"],
    "models": ["models"],
    "forge": ["forge", ".", "../forged"],
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
    assert line.startswith("unmask: ") and line.endswith(f'needs the "lab" extra: {install_line("lab")}')


@pytest.mark.parametrize("kind", ["recogniser", "detector", "pack"])
def test_a_missing_redteam_takes_one_line(kind: str, tmp_path: Path) -> None:
    done = call(["redteam", kind, "x", "d", "--out", "o"], tmp_path, without=LAB)
    assert done.returncode == 2 and done.stderr.strip().endswith(
        f'needs the "redteam" extra: {install_line("redteam")}'
    )


def test_a_manifest_needs_no_lab_but_for_the_collections(tmp_path: Path) -> None:
    for name, folder in (("a", "real"), ("b", "fake")):
        (tmp_path / "mine" / folder).mkdir(parents=True)
        for number in range(8):
            cv2.imwrite(str(tmp_path / "mine" / folder / f"{name}{number}.png"), np.zeros((8, 8, 3), np.uint8))
    done = call(["manifest", "mine", "--out", "m.csv"], tmp_path, without=LAB)
    assert done.returncode == 0 and "16 pictures, read as folders" in done.stdout, done.stderr
    (tmp_path / "known" / "faces" / "utkface_200").mkdir(parents=True)
    cv2.imwrite(str(tmp_path / "known" / "faces" / "utkface_200" / "a.jpg"), np.zeros((8, 8, 3), np.uint8))
    done = call(["manifest", "known", "--out", "k.csv"], tmp_path, without=LAB)
    assert done.returncode == 2 and 'needs the "lab" extra' in done.stderr


@pytest.mark.slow
def test_help_needs_no_lab(tmp_path: Path) -> None:
    for args in (["--help"], ["train", "--help"], *([*c[:2], "--help"] for c in COMMANDS.values())):
        done = call(args, tmp_path, without=LAB)
        assert done.returncode == 0 and "Usage" in done.stdout, (args, done.stderr)
        assert done.stderr == ""


@pytest.mark.lab
def test_a_wrong_split(say: Callable[..., Any]) -> None:
    pytest.importorskip("torch")
    code, error = say(["evaluate", "plain", "--data", "d", "--split", "train"])
    assert code == 2 and "val or test" in error


@pytest.mark.parametrize(
    "others",
    [["--kind", "swap"], ["--nir"], ["--perturbation", "rand"], ["--kind", "swap", "--nir", "--perturbation", "mix"]],
    ids=" ".join,
)
def test_a_set_of_sequences_takes_no_options_of_other_sets(
    others: list[str], say: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    (tmp_path / "faces").mkdir()
    code, error = say(["forge", str(tmp_path / "faces"), str(tmp_path / "out"), "--sequence", *others])
    assert code == 2 and f"{others[0]} does not go with --sequence" in error
    assert "Usage" in error and "Traceback" not in error
    assert not (tmp_path / "out").exists()


READING_METHODS = {
    "seqfakeformer": {"width": "cpu", "trunk": "residual", "weights": "none"},
    "mmnet": {
        "width": "cpu",
        "trunk": "residual",
        "weights": "none",
        "scales": "three",
        "readers": "joint",
        "presence": "true",
        "masks": "true",
        "recovery": "true",
    },
}


@pytest.fixture
def printed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[[list[str]], str]:
    """Standard output of a command that succeeds in this process."""

    def run(args: list[str]) -> str:
        monkeypatch.setenv("COLUMNS", "200")
        monkeypatch.setattr(sys, "argv", ["unmask", *args])
        with pytest.raises(SystemExit) as end:
            cli.main()
        assert end.value.code == 0
        return capsys.readouterr().out

    return run


@pytest.mark.lab
def test_methods_that_read_edits_are_listed_with_their_options(printed: Callable[[list[str]], str]) -> None:
    pytest.importorskip("torch")
    table = printed(["models"])
    for name, options in READING_METHODS.items():
        (model,) = json.loads(printed(["models", name, "--json"]))
        assert (model["name"], model["task"], model["size"]) == (name, "edit_reading", 128)
        assert {option["name"]: option["default"] for option in model["options"]} == options
        (row,) = (line for line in table.splitlines() if f" {name} " in line)
        assert model["source"] in row and f"{model['parameters'] / 1e6:.2f} M" in row


@pytest.mark.lab
@pytest.mark.parametrize("name", READING_METHODS)
def test_the_options_of_a_method_are_shown_with_their_values(name: str, printed: Callable[[list[str]], str]) -> None:
    pytest.importorskip("torch")
    lines = printed(["models", name]).splitlines()
    assert lines[0].strip().startswith(f"Options of {name}")
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines if line.startswith("│")]
    assert {option: default for option, _, default in rows} == READING_METHODS[name]
    values = {option: kinds for option, kinds, _ in rows}
    assert values["width"] == "cpu, paper" and values["trunk"].startswith("residual, ")
    assert name != "mmnet" or (values["readers"], values["recovery"]) == (
        "joint, tokens, forward, backward, regions",
        "true, false",
    )


@pytest.mark.parametrize("missing", ["--run", "--data"])
def test_a_missing_option(missing: str, say: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("UNMASK_DATA", raising=False)
    args = {"--run": "r", "--data": "d"}
    del args[missing]
    code, error = say(["train", "plain", *(part for pair in args.items() for part in pair)])
    assert code == 2 and missing in error


@pytest.mark.parametrize("others", [["--tools", "both"], ["--held-out", "0.1"], ["--workers", "2"]], ids=" ".join)
def test_other_sets_take_no_options_of_sets_of_sequences(
    others: list[str], tmp_path: Path, say: Callable[..., Any]
) -> None:
    """Not even with the values that they have if left out."""
    code, error = say(["forge", str(tmp_path / "faces"), str(tmp_path / "out"), *others])
    assert code == 2 and f"{others[0]} goes with --sequence alone" in error


@pytest.mark.parametrize(
    "others", [["--size", "256"], ["--tools", "none"], ["--held-out", "0"], ["--taef2", "w"]], ids=" ".join
)
def test_single_synthetic_faces_take_no_options_of_sequences(
    others: list[str], tmp_path: Path, say: Callable[..., Any]
) -> None:
    code, error = say(["synthesise", str(tmp_path / "out"), *others])
    assert code == 2 and f"{others[0]} goes with --sequence alone" in error
    assert not (tmp_path / "out").exists()
