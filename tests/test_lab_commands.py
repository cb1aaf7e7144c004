"""The commands of the lab: what they say when something is amiss, with and without the lab's libraries."""

import inspect
import subprocess
import sys
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path

import pytest

from unmask import cli

LAB = ("torch", "torchvision", "timm", "lightning", "safetensors", "sklearn", "scipy", "lir", "onnx", "openvino")
COMMANDS = {
    "train": ["train", "plain", "--run", "r", "--data", "d"],
    "evaluate": ["evaluate", "some-run", "--data", "d"],
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


def say(
    args: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> tuple[int | str | None, str]:
    """Exit code and standard error of a command run in this process."""
    monkeypatch.setattr(sys, "argv", ["unmask", *args])
    with pytest.raises(SystemExit) as end:
        cli.main()
    return end.value.code, capsys.readouterr().err


lab = pytest.mark.skipif(find_spec("torch") is None, reason="the core is tested without torch too; CI installs the lab")


@pytest.mark.lab
@lab
@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["--view", "infrared"], "rgb, residual or both"),
        (["--window", "100"], "multiple of 16"),
        (["--window", "32"], "64"),
        (["--steps", "0"], "1"),
        (["--seed", "x"], "integer"),
    ],
)
def test_wrong_training_options(
    args: list[str], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, error = say(
        ["train", "plain", "--run", str(tmp_path / "r"), "--data", str(tmp_path), *args], monkeypatch, capsys
    )
    assert code == 2 and told in error and "Traceback" not in error
    assert not (tmp_path / "r").exists()


@pytest.mark.lab
@lab
def test_the_commands_defaults_are_the_protocols() -> None:
    from unmask.training.run import Protocol

    told = {name: parameter.default for name, parameter in inspect.signature(cli.train_plain).parameters.items()}
    shared = {
        name: value for name, value in asdict(Protocol()).items() if name in told and name not in ("start", "without")
    }
    assert len(shared) == 9
    assert {name: told[name] for name in shared} == shared


def test_a_wrong_split(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    code, error = say(["evaluate", "x", "--data", "d", "--split", "train"], monkeypatch, capsys)
    assert code == 2 and "val or test" in error


@pytest.mark.parametrize("missing", ["--run", "--data"])
def test_a_missing_option(missing: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv("UNMASK_DATA", raising=False)
    args = {"--run": "r", "--data": "d"}
    del args[missing]
    code, error = say(["train", "plain", *(part for pair in args.items() for part in pair)], monkeypatch, capsys)
    assert code == 2 and missing in error


@pytest.mark.lab
@lab
def test_an_unfinished_run_is_not_evaluated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from unmask.training.run import Protocol, Run

    Run(tmp_path / "run", Protocol(), "abc")
    code, error = say(["evaluate", str(tmp_path / "run"), "--data", str(tmp_path)], monkeypatch, capsys)
    assert code == 2
    assert error == f"unmask: {tmp_path / 'run'}: the run is not finished; start the same command again to resume it\n"


@pytest.mark.lab
@lab
@pytest.mark.parametrize(
    ("args", "told"),
    [
        ([], "none of the known collections is there"),
        (["--without", "deepfake"], "no family deepfake; families are selfblend, swap,"),
        (["--start", "nowhere"], "nowhere: no weights.safetensors to start from"),
    ],
)
def test_training_that_cannot_begin(
    args: list[str], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ["--run", str(tmp_path / "r"), "--data", str(tmp_path), "--work", str(tmp_path / "w")]
    code, error = say(["train", "plain", *common, *args], monkeypatch, capsys)
    *_, line = error.strip().splitlines()
    assert code == 2 and line.startswith("unmask: ") and told in line
    assert not (tmp_path / "r").exists()


@pytest.mark.lab
@lab
@pytest.mark.parametrize("command", ["evaluate", "export"])
def test_what_is_neither_a_run_nor_a_pack(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    args = {
        "evaluate": ["evaluate", str(tmp_path / "nothing"), "--data", str(tmp_path)],
        "export": ["export", str(tmp_path / "nothing"), "--out", str(tmp_path / "o"), "--unseen", str(tmp_path)],
    }[command]
    if command == "export":
        args += ["--data", str(tmp_path)]
    code, error = say(args, monkeypatch, capsys)
    *_, line = error.strip().splitlines()
    assert code == 2 and line.startswith("unmask: ") and "Traceback" not in error
