"""The lab's commands where the lab is installed: options, refusals before any work, defaults."""

import json
import re
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import typer.main
from edit_runs import write_run as write_edit_run
from stored_paths import write_run

from unmask.cli.lab import train_command
from unmask.forgery.plain import Plain
from unmask.lab import train as training
from unmask.lab.config import TrainConfig
from unmask.lab.detection.config import DetectionPaths, DetectionTrainConfig
from unmask.lab.detection.task import DetectionTask
from unmask.lab.edits.config import EditTrainConfig
from unmask.lab.run import Run
from unmask.lab.task import Evaluation, Table

pytestmark = pytest.mark.lab


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that no message is broken into lines."""
    monkeypatch.setenv("COLUMNS", "300")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--set", "view=infrared"], "one of rgb, residual, both"),
        (["--set", "mood=good"], "view, weights"),
        (["--view", "infrared"], "'rgb', 'residual', 'both'"),
        (["--mood", "good"], "No such option:? '?--mood"),
        (["--window", "32"], "64"),
        (["--steps", "0"], "1"),
        (["--seed", "x"], "integer"),
        (["--pairs", "0"], "1"),
    ],
)
def test_wrong_training_options(args: list[str], message: str, tmp_path: Path, say: Callable[..., Any]) -> None:
    code, error = say(["train", "plain", "--run", str(tmp_path / "r"), "--data", str(tmp_path), *args])
    assert code == 2 and re.search(message, error) and "Traceback" not in error
    assert not (tmp_path / "r").exists()


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, say: Callable[..., Any]) -> Callable[..., dict[str, Any]]:
    """What training is asked for by a command line, in place of the training."""

    def run(*words: str) -> dict[str, Any]:
        calls: list[Any] = []
        monkeypatch.setattr(training, "train", lambda *given: calls.append(given))
        code, error = say(["train", *words])
        assert code == 0, error
        ((paths, folder, config, start, _, command),) = calls
        return {"paths": paths, "folder": folder, "config": config, "start": start, "command": command}

    return run


def test_what_is_not_given_is_as_the_configuration_has_it(asked: Callable[..., dict[str, Any]]) -> None:
    given = asked("plain", "--run", "r", "--data", "d")
    assert given["config"] == DetectionTrainConfig() and given["start"] is None
    assert given["paths"] == DetectionPaths(data=Path("d"), work=Path("runs/work"), workers=2)
    assert given["folder"] == Path("r") and given["command"] == "unmask train plain --run r --data d"
    other = asked("mmnet", "--run", "r", "--data", "d")["config"]
    assert other == EditTrainConfig(size=other.size) and other.size == 128
    params = {one.name: one.default for one in typer.main.get_command(train_command("plain")).params}
    shared = {field.name: field.default for field in fields(TrainConfig) if field.name in params}
    assert {name: params[name] for name in ("steps", "learning_rate", "seed")} == {
        name: shared[name] for name in ("steps", "learning_rate", "seed")
    }


def test_every_kind_of_option_is_handed_over(asked: Callable[..., dict[str, Any]]) -> None:
    words = "--without swap --pairs 10 --view residual --without ciplab --taef2 w --set weights=none --steps 7"
    words += " --without-kind synthesis --without-source ffhq --without-source mine"
    more = "--data d --start s --size 128 --window 64"
    given = asked("--run", "r", *words.split(), "plain", *more.split())
    assert given["config"] == DetectionTrainConfig(
        without=("swap", "ciplab"),
        without_kinds=("synthesis",),
        without_sources=("ffhq", "mine"),
        pairs=10,
        options={"view": "residual", "weights": "none"},
        steps=7,
        size=128,
        window=64,
    )
    assert given["paths"].taef2 == Path("w") and given["start"] == Path("s")
    # A negation of a choice, a number with a point, another task's method.
    given = asked("mmnet", "--run", "r", "--data", "d", "--no-recovery", "--encoded", "0.25", "--learning-rate", "2e-3")
    assert given["config"] == EditTrainConfig(
        size=given["config"].size, options={"recovery": False}, encoded=0.25, learning_rate=2e-3
    )


@pytest.mark.parametrize("order", ["before", "after"])
def test_a_class_named_in_full_is_found_wherever_it_stands(order: str, asked: Callable[..., dict[str, Any]]) -> None:
    method, options = ["unmask.forgery.plain:Plain"], ["--pairs", "10", "--without", "swap"]
    words = [*method, *options] if order == "before" else [*options, *method]
    config = asked("--run", "r", *words, "--data", "d")["config"]
    assert (config.method, config.pairs, config.without) == (method[0], 10, ("swap",))


class Crowded(Plain):
    """A detector one of whose arguments has the name of an option of its task."""

    def __init__(self, window: int = 7) -> None:
        super().__init__(weights="none")


class Bare(Plain):
    """A detector that passes on whatever it is given."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **{"weights": "none", **more})


class Untyped(Plain):
    """A detector with an argument of no type."""

    def __init__(self, width=3) -> None:  # type: ignore[no-untyped-def]
        super().__init__(weights="none")


class Either(Plain):
    """A detector with an argument of two types."""

    def __init__(self, width: int | None = None) -> None:
        super().__init__(weights="none")


class Needy(Plain):
    """A detector with an argument that must be given."""

    def __init__(self, width: int) -> None:
        super().__init__(weights="none")


def test_an_option_of_the_task_goes_before_a_methods_of_the_same_name(asked: Callable[..., dict[str, Any]]) -> None:
    method = f"{__name__}:Crowded"
    config = asked(method, "--run", "r", "--data", "d", "--window", "112", "--set", "window=3")["config"]
    assert (config.window, config.options) == (112, {"window": 3})


def test_a_class_that_takes_anything_has_no_options(asked: Callable[..., dict[str, Any]]) -> None:
    assert asked(f"{__name__}:Bare", "--run", "r", "--data", "d")["config"].options == {}


@pytest.mark.parametrize("name", ["Untyped", "Either", "Needy"])
def test_a_class_whose_arguments_can_be_no_options(name: str, say: Callable[..., Any]) -> None:
    for words in (["train", f"{__name__}:{name}", "--help"], ["models", f"{__name__}:{name}"]):
        code, error = say(words)
        assert code == 2 and "its argument width must be" in error and "Traceback" not in error


def test_an_unfinished_run_is_not_evaluated(tmp_path: Path, say: Callable[..., Any]) -> None:
    Run(tmp_path / "run", DetectionTrainConfig(), "abc")
    code, error = say(["evaluate", str(tmp_path / "run"), "--data", str(tmp_path)])
    assert code == 2
    assert f"{tmp_path / 'run'}: the run is not finished; start the same command again to resume it" in error


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([], "not in a layout that can be read"),
        (["--start", "nowhere"], "nowhere: no weights.safetensors to start from"),
        (["--learning-rate", "0"], "a learning rate of 0: give a number above 0"),
        (["--learning-rate", "-1"], "a learning rate of -1: give a number above 0"),
        (["--learning-rate", "nan"], "a learning rate of nan: give a number above 0"),
    ],
)
def test_training_that_cannot_begin(args: list[str], message: str, tmp_path: Path, say: Callable[..., Any]) -> None:
    common = ["--run", str(tmp_path / "r"), "--data", str(tmp_path), "--work", str(tmp_path / "w")]
    code, error = say(["train", "plain", *common, *args])
    *_, line = error.strip().splitlines()
    assert code == 2 and line.startswith("unmask: ") and message in line
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize("option", ["--run", "--work"])
def test_a_folder_that_cannot_be_made_is_refused_in_one_line(
    option: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, say: Callable[..., Any]
) -> None:
    (tmp_path / "file").touch()

    def train(paths: DetectionPaths, folder: Path, *_: Any) -> None:
        for path in (paths.work, folder):
            path.mkdir(parents=True, exist_ok=True)

    monkeypatch.setattr(training, "train", train)
    folders = {"--run": str(tmp_path / "r"), "--work": str(tmp_path / "w"), option: str(tmp_path / "file")}
    words = [word for pair in folders.items() for word in pair]
    code, error = say(["train", "plain", "--data", str(tmp_path), *words])
    assert code == 2 and error.strip() == f"unmask: {tmp_path / 'file'}: File exists; give another path"


def test_several_systems_are_measured_on_what_each_lacks_or_one_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, say: Callable[..., Any]
) -> None:
    runs = [str(write_run(tmp_path / name)) for name in ("a", "b")]
    words = ["--data", str(tmp_path), "--work", str(tmp_path / "work")]
    code, error = say(["evaluate", *runs, *words])
    assert code == 2 and "name one system, or say with --leave-out" in error
    code, error = say(["evaluate", runs[0], runs[0], *words, "--leave-out", "kind"])
    assert code == 2 and "each system is named once" in error
    code, error = say(["evaluate", *runs, *words, "--leave-out", "colour"])
    assert code == 2 and "'kind', 'family', 'source'" in error
    code, error = say(["evaluate", str(write_edit_run(tmp_path / "reads")), *words, "--leave-out", "kind"])
    assert code == 2 and "the task edit_reading has no groups to leave out" in error
    asked: list[Any] = []

    def evaluated(_: Any, systems: Any, by: str, *others: Any) -> tuple[Evaluation, tuple[Table, ...]]:
        asked.append(([one.name for one in systems], by, others[1]))
        return Evaluation("val"), (Table(("group",), (("swap",),)),)

    monkeypatch.setattr(DetectionTask, "evaluate_left_out", evaluated)
    numbers = tmp_path / "numbers.json"
    code, error = say(["evaluate", *runs, *words, "--leave-out", "source", "--split", "val", "--json", str(numbers)])
    assert code == 0 and asked == [(runs, "source", "val")], error
    record = json.loads(numbers.read_text())
    assert (record["detector"], record["leave_out"], record["split"]) == (" ".join(runs), "source", "val")


def test_an_unfinished_run_is_not_started_from(tmp_path: Path, say: Callable[..., Any]) -> None:
    Run(tmp_path / "begun", DetectionTrainConfig(), "abc")
    words = ["--run", str(tmp_path / "r"), "--data", str(tmp_path), "--start", str(tmp_path / "begun")]
    code, error = say(["train", "plain", *words])
    assert code == 2 and "no weights.safetensors to start from; finish that run first" in error
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
    assert "no model pack" in line and "no run.json" in line


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["evaluate", "{reads},{other}"], "edits are read by one run at a time; give a single run folder"),
        (["evaluate", "{reads},{detects}"], "runs of different tasks (edit_reading, forgery_detection)"),
        (["evaluate", "{reads},nowhere"], "nowhere: not a run folder"),
        (["compare", "{reads}", "plain"], "systems of different tasks cannot go together"),
        (["compare", "{reads}", "{detects}"], "systems of different tasks cannot go together"),
        (["compare", "{reads}", "{reads}"], "each system is named once"),
        (["compare", "{reads}"], "name two systems or more"),
        (["compare", "{reads}", "{reads},{other}"], "edits are read by one run at a time"),
        (["export", "{reads}", "{detects}"], "systems of different tasks cannot go together"),
        (["export", "{reads}", "{other}"], "name a single run"),
    ],
)
def test_systems_that_do_not_go_together_are_refused_before_any_work(
    command: list[str], message: str, tmp_path: Path, say: Callable[..., Any]
) -> None:
    runs = {
        "{reads}": write_edit_run(tmp_path / "reads"),
        "{other}": write_edit_run(tmp_path / "other"),
        "{detects}": write_run(tmp_path / "detects"),
    }
    words = []
    for part in command:
        for name, folder in runs.items():
            part = part.replace(name, str(folder))
        words.append(part)
    code, error = say([*words, "--data", str(tmp_path), "--work", str(tmp_path / "work")])
    assert code == 2 and message in error and "Traceback" not in error
    assert not (tmp_path / "work").exists()
