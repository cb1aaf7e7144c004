"""The battery of tasks: what every task says of itself, and that its options are its own."""

import re
import sys
from collections.abc import Callable
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import typer.main
from edit_runs import write_run as write_edit_run
from naming_runs import write_run as write_naming_run
from painting_runs import write_run as write_painting_run
from picture_runs import write_run as write_picture_run
from search_runs import write_run as write_search_run
from stored_paths import write_run
from torch import nn

from unmask import cli
from unmask.cli import lab as commands
from unmask.cli.chosen import added_by
from unmask.errors import DataError
from unmask.lab.config import ExportOptions, LabPaths, TrainConfig
from unmask.lab.methods import METHODS, input_size, method_named, options_of
from unmask.lab.robust.config import AttackedOptions, RobustOptions
from unmask.lab.task import TASKS, Task, task_named
from unmask.lab.train import load_network, new_network
from unmask.networks.contract import Hardenable, Trainable
from unmask.packs.card import RULES, Card

pytestmark = pytest.mark.lab

RUNS: dict[str, Callable[[Path], Path]] = {
    "forgery_detection": write_run,
    "edit_reading": write_edit_run,
    "image_classification": write_picture_run,
    "face_inpainting": write_painting_run,
    "sketch_search": write_search_run,
    "vision_language": write_naming_run,
}
"""Of every task, what writes a finished run of it."""
every_task = pytest.mark.parametrize("name", TASKS.own)
every_method = pytest.mark.parametrize("method", METHODS)


def own_options(kind: type) -> dict[str, Any]:
    """The fields of a dataclass that users set, by their options' names without dashes."""
    return {field.metadata.get("flag") or field.name: field for field in fields(kind) if "help" in field.metadata}


def words_of(app: typer.Typer) -> set[str]:
    return {word for one in typer.main.get_command(app).params for word in one.opts + one.secondary_opts}


def test_every_task_is_tested_here() -> None:
    assert RUNS.keys() == TASKS.own.keys()


@every_task
def test_a_task_says_what_it_is(name: str) -> None:
    task = task_named(name)
    assert task.name == name and task.summary and "\n" not in task.summary
    assert isinstance(task.network, type) and issubclass(task.network, Trainable)
    assert task.network.task == name
    assert task.outputs and len(set(task.outputs)) == len(task.outputs)
    assert 0 < task.parity_limit < 1 and isinstance(task.half_on_cpu, bool)
    # A card of it can be complete: its rules are known, and ask for what a card has.
    assert set(RULES.load(name).required) <= {field.name for field in fields(Card)}
    for member in ("plan", "prepare", "feed", "validate", "generators", "system", "evaluate", "measurements"):
        assert callable(getattr(task, member))
    for member in ("check_export", "fused", "exported", "example", "facts", "samples", "parity", "measure"):
        assert callable(getattr(task, member))


@every_task
def test_configuration_paths_and_export_options_are_frozen_dataclasses(name: str) -> None:
    task = task_named(name)
    for kind, base in ((task.config, TrainConfig), (task.paths, LabPaths), (task.export_options, ExportOptions)):
        assert is_dataclass(kind) and issubclass(kind, base)
        assert kind.__dataclass_params__.frozen  # type: ignore[attr-defined]
        # What users set has a default: a command need not name it.
        for field in own_options(kind).values():
            assert field.default is not MISSING or field.default_factory is not MISSING
            assert field.metadata["help"].endswith(".")
    assert task.config().method in METHODS and METHODS[task.config().method].task == name


@every_method
def test_no_option_collides_with_another(method: str) -> None:
    """Of the method, of its task's configuration and paths, and of all training; nor one of export with its paths."""
    task = task_named(METHODS[method].task)
    shared = set(typer_parameters(commands.train_command(None)))
    groups = [shared, set(own_options(task.config)), set(own_options(task.paths)), set(options_of(method))]
    groups.append(set(own_options(RobustOptions)))
    names = [name for group in groups for name in group]
    assert sorted(names) == sorted(set(names))
    exporting = set(typer_parameters(commands.system_command(commands._export, None)))
    groups = [exporting, set(own_options(task.export_options)), set(own_options(task.paths))]
    names = [name for group in groups for name in group]
    assert sorted(names) == sorted(set(names))


@every_task
def test_no_option_of_an_attacked_evaluation_collides(name: str) -> None:
    evaluating = set(typer_parameters(commands.system_command(commands._evaluate, None)))
    groups = [evaluating, set(own_options(task_named(name).paths)), set(own_options(AttackedOptions))]
    names = [one for group in groups for one in group]
    assert sorted(names) == sorted(set(names))


def typer_parameters(app: typer.Typer) -> list[str]:
    return [str(one.name) for one in typer.main.get_command(app).params]


@pytest.fixture
def printed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Standard output of a command that succeeds in this process."""

    def run(*args: str) -> str:
        monkeypatch.setenv("COLUMNS", "200")
        monkeypatch.setattr(sys, "argv", ["unmask", *args])
        with pytest.raises(SystemExit) as end:
            cli.main()
        assert end.value.code == 0
        return capsys.readouterr().out

    return run


def option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def foreign(task: Task, *kinds: str) -> set[str]:
    """The options that other tasks have and this one has not, of its `kinds`."""
    own = {name for kind in kinds for name in own_options(getattr(task, kind))}
    others = [task_named(other) for other in TASKS.own if other != task.name]
    return {name for other in others for kind in kinds for name in own_options(getattr(other, kind))} - own


@every_method
def test_help_shows_the_options_of_the_method_and_its_task(method: str, printed: Callable[..., str]) -> None:
    task, text = task_named(METHODS[method].task), printed("train", method, "--help")
    shown = {word.strip(",") for line in text.splitlines() for word in line.split() if word.startswith("--")}
    own = {*own_options(task.config), *own_options(task.paths), *options_of(method)}
    assert {option(name) for name in own} <= shown
    assert not {option(name) for name in foreign(task, "config", "paths")} & shown
    for name, one in options_of(method).items():
        (line,) = [line for line in text.splitlines() if f" {option(name)} " in line or f" {option(name)}/" in line]
        assert one.text[:20] in " ".join(line.split()) or not one.text, name


@every_task
@pytest.mark.parametrize("command", ["train", "evaluate", "compare", "export"])
def test_an_option_of_another_task_is_unknown(
    command: str, name: str, tmp_path: Path, say: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    task = task_named(name)
    kinds = {"train": ("config", "paths"), "export": ("paths", "export_options")}.get(command, ("paths",))
    strangers = foreign(task, *kinds)
    run = RUNS[name](tmp_path / "run")
    words = {
        "train": ["train", task.config().method, "--run", str(tmp_path / "new")],
        "compare": ["compare", str(run), f"{run}/"],
    }.get(command, [command, str(run)])
    for stranger in strangers:
        code, error = say([*words, "--data", str(tmp_path), option(stranger), "1"])
        assert code == 2 and re.search(f"No such option:? '?{option(stranger)}", error)
    assert strangers
    assert not (tmp_path / "new").exists()


@every_task
def test_a_tasks_own_options_are_known_to_its_commands(name: str, tmp_path: Path, printed: Callable[..., str]) -> None:
    task, run = task_named(name), RUNS[name](tmp_path / "run")
    for command, kinds in (("evaluate", ("paths",)), ("compare", ("paths",)), ("export", ("paths", "export_options"))):
        text = printed(command, str(run), "--help")
        for kind in kinds:
            assert all(f"{option(field)} " in text for field in own_options(getattr(task, kind)))


def test_added_options_keep_their_limits_and_defaults() -> None:
    added = {one.name: one for one in added_by(task_named("forgery_detection").config, "config", "panel")}
    window, without = added["window"], added["without"]
    assert (window.low, window.high, window.kind) == (64, 1024, int) and window.default is None
    assert added["pairs"].default == 14_000
    assert without.repeated and without.kind is str


@every_task
def test_what_is_exported_has_the_tasks_outputs(name: str, tmp_path: Path) -> None:
    """And a network compared with itself is at parity."""
    task, run = task_named(name), RUNS[name](tmp_path / "run")
    network = task.fused([load_network(run)]).eval()
    module = task.exported(network).eval()
    assert isinstance(module, nn.Module)
    example = task.example(network) or {"faces": torch.rand(2, 3, network.size, network.size)}
    with torch.no_grad():
        outputs = [output.numpy() for output in module(*example.values())]
    assert len(outputs) == len(task.outputs) and all(len(output) == 2 for output in outputs)
    parity = task.parity(outputs, outputs)
    assert len(parity) == len(outputs) and set(parity.values()) == {0.0}
    assert task.parity([output + 1 for output in outputs], outputs) != parity


@every_task
def test_a_network_of_another_task_is_refused(name: str) -> None:
    task = task_named(name)
    for method, one in METHODS.items():
        if one.task != name and "weights" in options_of(method):
            options = {"weights": "none"}
            config = task.config(method=method, options=options, size=input_size(method, options))
            with pytest.raises(DataError, match=f"{method} is no method of the task {name}"):
                new_network(task, config, pretrained=False)


@every_method
def test_what_tells_no_classes_apart_is_not_hardened(method: str) -> None:
    task = task_named(METHODS[method].task)
    options = {"weights": "none"} if "weights" in options_of(method) else {}
    settings = RobustOptions(robust="trades").settings()
    config = task.config(method=method, options=options, size=input_size(method, options), robust=settings)
    if issubclass(task.network, Hardenable):
        assert isinstance(new_network(task, config, pretrained=False), Hardenable)
    else:
        with pytest.raises(DataError, match=f"{method}: networks of the task {task.name} cannot be hardened"):
            new_network(task, config, pretrained=False)


@every_method
def test_a_methods_class_knows_its_task(method: str) -> None:
    assert method_named(method).load().task == METHODS[method].task


def test_a_task_that_is_not_there_is_refused_with_those_that_are() -> None:
    with pytest.raises(DataError, match=f"no task nothing; name one of {', '.join(TASKS.own)}"):
        task_named("nothing")


def test_a_task_is_found_in_full() -> None:
    assert task_named("unmask.lab.edits.task:EditTask").name == "edit_reading"
