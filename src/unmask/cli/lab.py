"""`unmask models`, `train`, `evaluate`, `compare` and `export`: the lab's commands. They know no task."""

from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from unmask.cli.options import (
    DataOption,
    WorkersOption,
    WorkOption,
    check_result_file,
    command_line,
    extra,
    progress_bars,
)

if TYPE_CHECKING:
    from unmask.cli.chosen import Added
    from unmask.lab.config import LabPaths
    from unmask.lab.task import Task

SystemsArgument = Annotated[
    list[str],
    typer.Argument(
        metavar="RUN[,RUN...]|PACK",
        help="A run folder, several to fuse, or a pack's name or folder; with --leave-out one or more.",
    ),
]
LeaveOutOption = Annotated[
    Literal["kind", "family", "source"] | None,
    typer.Option(help="Measure every kind or family of forgery, or source of reals, by the systems that never saw it."),
]
AttackedOption = Annotated[
    bool,
    typer.Option(
        "--attacked", help="Attack a run in every way that fits it: accuracy under each, the worst case, and checks."
    ),
]
SplitOption = Annotated[str, typer.Option(help="val or test.")]
LeftOutSplitOption = Annotated[
    str, typer.Option(help="val or test; with --leave-out also train: what the systems were trained without.")
]
NumbersOption = Annotated[Path | None, typer.Option(metavar="FILE", help="Write every number as JSON.")]
Chosen = dict[str, dict[str, Any]]


def models(
    method: Annotated[str | None, typer.Argument(metavar="[METHOD]", help="Show this one's options.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """List the methods that can be trained, or the options of one."""
    with extra("lab", "unmask models"):
        import json as serialiser

        from rich.console import Console

        from unmask.lab.methods import describe, method_named
        from unmask.tables import terminal

        methods = describe([method_named(method).name] if method else None)
        if json:
            print(serialiser.dumps(methods, indent=1))
            return
        if method:
            options = [(o["name"], o["values"], str(o["default"])) for o in methods[0]["options"]]
            title = f"Options of {method}: --NAME VALUE of `unmask train {method}`"
            Console().print(terminal(("option", "values", "default"), options, title))
            return
        rows = [
            (m["name"], m["summary"], m["source"], f"{m['size']} px", f"{m['parameters'] / 1e6:.2f} M") for m in methods
        ]
        Console().print(terminal(("method", "what it is", "published", "input", "parameters"), rows))


def train(context: typer.Context) -> None:
    """Train a method: prepares what is missing, shows progress, resumes after a kill."""
    from unmask.cli.chosen import arguments_in  # not above: every command would pay for it

    method = None if _only_help(context) else method_among(arguments_in(context.args, _train))
    with extra("lab", "unmask train"):
        train_command(method)(context.args, prog_name="unmask train")


def evaluate(context: typer.Context) -> None:
    """Measure a run or a pack on held-out faces, with intervals."""
    _of_system(context, _evaluate, "evaluate")


def compare(context: typer.Context) -> None:
    """Compare runs and packs with the first of them, on the same faces, with paired differences."""
    _of_system(context, _compare, "compare")


def export(context: typer.Context) -> None:
    """Export runs to a model pack: ONNX, parity check, calibration, test figures on the card."""
    _of_system(context, _export, "export")


def _only_help(context: typer.Context) -> bool:
    """Whether help is asked for without the lab: then there is that of what all methods and tasks share."""
    return "--help" in context.args and find_spec("torch") is None


def method_among(arguments: list[str]) -> str | None:
    """The method among the words that may be arguments: the first that names one, or looks so, else the first."""
    from unmask.lab.methods import METHODS, TABLE

    known = [word for word in arguments if word in METHODS or word in TABLE.installed]
    return next(iter([*known, *(word for word in arguments if ":" in word), *arguments]), None)


def train_command(method: str | None) -> typer.Typer:
    """`unmask train` for a method, or for none yet: then with the options that all have, and the list of methods."""
    from unmask.cli.chosen import Added, added_by, build_command, choice_of
    from unmask.lab.methods import METHODS, TABLE, method_named, options_of

    if method is None:
        names = ", ".join([*METHODS, *TABLE.installed])
        epilog = f"METHOD is one of {names}, or a class of your own as module:Class. `unmask train METHOD --help` "
        return build_command(_train, [], epilog + "shows the options of a method and its task.")
    from unmask.lab.task import task_named

    known = method_named(method)
    task = task_named(known.task)
    own = [
        Added(
            group="method",
            name=name,
            kind=choice_of(option.choices) if option.choices else option.kind,
            text=option.text,
            default=option.default,
            panel=f"Options of {method}",
        )
        for name, option in options_of(method).items()
    ]
    from unmask.lab.optimisers.config import OptimiserOptions
    from unmask.lab.robust.config import RobustOptions

    robust = added_by(RobustOptions, "robust", "Robust training")
    optimiser = added_by(OptimiserOptions, "optimiser", "Optimiser")
    return build_command(_train, [*_task_options(task), *own, *robust, *optimiser])


def _task_options(task: "Task") -> "list[Added]":
    from unmask.cli.chosen import added_by

    panel = f"Options of the task {task.name}"
    return [*added_by(task.config, "config", panel), *added_by(task.paths, "paths", panel)]


def system_command(function: Callable[..., None], task: "Task | None") -> typer.Typer:
    """A command on systems of a task, or of none yet: then with the options that all have."""
    from unmask.cli.chosen import added_by, build_command

    if task is None:
        return build_command(function, [], "RUN or PACK decides which further options there are: name one with --help.")
    panel = f"Options of the task {task.name}"
    added = added_by(task.paths, "paths", panel)
    if function is _evaluate:
        from unmask.lab.robust.config import AttackedOptions

        added += added_by(AttackedOptions, "attack", "With --attacked")
    if function is _export:
        added += added_by(task.export_options, "export", panel)
    return build_command(function, added)


def _of_system(context: typer.Context, function: Callable[..., None], name: str) -> None:
    from unmask.cli.chosen import arguments_in
    from unmask.errors import UnmaskError

    task, why = None, None
    if _only_help(context):
        system_command(function, task)(context.args, prog_name=f"unmask {name}")
    with extra("lab", f"unmask {name}"):
        from unmask.lab.evaluate import task_of_system

        for word in arguments_in(context.args, function):
            try:
                task = task_of_system(word)
                break
            except UnmaskError as error:
                why = why or error
        if task is None and why is not None and "--help" not in context.args:
            raise why
        system_command(function, task)(context.args, prog_name=f"unmask {name}")


def _paths(task: "Task", data: Path, work: Path, workers: int, chosen: Chosen) -> "LabPaths":
    return task.paths(data=data, work=work, workers=workers, **chosen.get("paths", {}))


def _train(
    method: Annotated[str, typer.Argument(metavar="METHOD", help="A method; `unmask models` lists them.")],
    run: Annotated[Path, typer.Option(metavar="DIR", help="Run folder; an unfinished run in it is resumed.")],
    data: DataOption,
    work: WorkOption = Path("runs/work"),
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="An option of the method, written in this way."),
    ] = None,
    start: Annotated[
        Path | None, typer.Option(metavar="RUN", help="Begin from a finished run's weights, not the method's own.")
    ] = None,
    size: Annotated[
        int | None, typer.Option(min=64, max=1024, help="Side of the faces it sees; the method's own if left out.")
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="Optimiser steps.")] = 2_600,
    learning_rate: Annotated[float, typer.Option(help="Peak learning rate.")] = 1e-3,
    workers: WorkersOption = 2,
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 0,
    *,
    chosen: Chosen,
) -> None:
    """Train a method: prepares what is missing, shows progress, resumes after a kill."""
    from unmask.lab.methods import input_size, method_named, read_options
    from unmask.lab.optimisers.config import OptimiserOptions
    from unmask.lab.robust.config import RobustOptions
    from unmask.lab.task import task_named
    from unmask.lab.train import train as fit

    task = task_named(method_named(method).task)
    options = {**read_options(method, settings or ()), **chosen.get("method", {})}
    robust = RobustOptions(**chosen.get("robust", {})).settings()
    config = task.config(method=method, options=options, size=size or input_size(method, options), seed=seed)
    config = replace(config, steps=steps, learning_rate=learning_rate, robust=robust, **chosen.get("config", {}))
    config = replace(config, optimiser=OptimiserOptions(**chosen.get("optimiser", {})).settings())
    with progress_bars() as progress:
        fit(_paths(task, data, work, workers, chosen), run, config, start, progress, command_line())
    print(f"{run}: finished; next: unmask evaluate {run} --data {data} --work {work}")


def _evaluate(
    systems: SystemsArgument,
    data: DataOption,
    work: WorkOption = Path("runs/work"),
    split: LeftOutSplitOption = "test",
    leave_out: LeaveOutOption = None,
    attacked: AttackedOption = False,
    workers: WorkersOption = 2,
    json: NumbersOption = None,
    *,
    chosen: Chosen,
) -> None:
    """Measure a run or a pack on held-out faces, with intervals; or several, each on what it never saw."""
    from unmask.lab.evaluate import as_markdown, tasks_of_systems, write_evaluation

    _check_split(split, trained=leave_out is not None)
    if leave_out is None and len(systems) > 1:
        raise typer.BadParameter("name one system, or say with --leave-out what each is measured on")
    _check_once(systems)
    check_result_file("--json", json, data)
    task = tasks_of_systems(systems)
    paths = _paths(task, data, work, workers, chosen)
    if attacked:
        if leave_out is not None:
            raise typer.BadParameter("--attacked and --leave-out are two evaluations; ask for one")
        _evaluate_attacked(task, systems[0], paths, split, json, chosen.get("attack", {}))
        return
    if chosen.get("attack"):
        raise typer.BadParameter(f"--{next(iter(chosen['attack'])).replace('_', '-')} goes with --attacked")
    with progress_bars() as progress:
        loaded = [task.system(name) for name in systems]
        if leave_out is None:
            result, tables = task.evaluate(loaded[0], paths, split, progress)
        else:
            result, tables = task.evaluate_left_out(loaded, leave_out, paths, split, progress)
    if json is not None:
        write_evaluation(result, " ".join(systems), command_line(), json, leave_out)
    print(as_markdown(tables))


def _evaluate_attacked(
    task: "Task", system: str, paths: "LabPaths", split: str, json: Path | None, given: dict[str, Any]
) -> None:
    from unmask.lab.robust.config import AttackedOptions
    from unmask.lab.robust.evaluation import evaluate_attacked, report, write_report

    options = AttackedOptions(**given)
    systems = [system] if options.twin is None else [system, options.twin]
    with progress_bars() as progress:
        pictures = task.attacked(systems, paths, split, options.attack_pictures, options.attack_seed, progress)
        result = evaluate_attacked(pictures, options, progress)
    if json is not None:
        write_report(result, system, split, command_line(), json)
    print(report(result))


def _compare(
    systems: Annotated[list[str], typer.Argument(metavar="RUN[,RUN...]|PACK", help="As for evaluate, two or more.")],
    data: DataOption,
    work: WorkOption = Path("runs/work"),
    split: SplitOption = "test",
    workers: WorkersOption = 2,
    json: NumbersOption = None,
    *,
    chosen: Chosen,
) -> None:
    """Compare runs and packs with the first of them, on the same faces, with paired differences."""
    from unmask.lab.evaluate import compare as compared
    from unmask.lab.evaluate import comparison_table, shortest_names, tasks_of_systems, write_comparison

    _check_split(split)
    if len(systems) < 2:
        raise typer.BadParameter("name two systems or more; `unmask evaluate` measures a single one")
    _check_once(systems)
    check_result_file("--json", json, data)
    task, names = tasks_of_systems(systems), shortest_names(systems)
    with progress_bars() as progress:
        loaded = [task.system(name) for name in systems]
        measured = task.measurements(loaded, _paths(task, data, work, workers, chosen), split, progress)
    rows = compared(measured, names)
    if json is not None:
        write_comparison(rows, split, command_line(), json)
    print(comparison_table(rows))


def _export(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN", help="Finished runs; several are fused into one.")],
    data: DataOption,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of the pack; `pack` in the first run's if left out.")
    ] = None,
    work: WorkOption = Path("runs/work"),
    name: Annotated[str | None, typer.Option(help="Of the pack; the method's if left out.")] = None,
    version: Annotated[str, typer.Option(help="Of the pack.")] = "0.1.0",
    workers: WorkersOption = 2,
    *,
    chosen: Chosen,
) -> None:
    """Export runs to a model pack: ONNX, parity check, calibration, test figures on the card."""
    from unmask.lab.evaluate import as_markdown, tasks_of_systems
    from unmask.lab.export import export as exported
    from unmask.packs.card import is_card

    folder = out or runs[0] / "pack"
    check_result_file("--out", folder / "card.json", data, is_card, makes_folder=True)
    check_result_file(
        "--out", folder / "model.onnx", data, lambda path: is_card(path.with_name("card.json")), makes_folder=True
    )
    task = tasks_of_systems([str(run) for run in runs])
    options = task.export_options(name=name, version=version, **chosen.get("export", {}))
    with progress_bars() as progress:
        made = exported(runs, _paths(task, data, work, workers, chosen), folder, options, progress, command_line())
    print(as_markdown(made.measured.tables))
    parity = ", ".join(f"{value:.1e} ({key})" for key, value in made.parity.items())
    print(f"\n{made.pack.folder}: parity with torch {parity}")


def _check_once(systems: list[str]) -> None:
    if len(set(systems)) < len(systems):
        raise typer.BadParameter("each system is named once")


def _check_split(split: str, trained: bool = False) -> None:
    if split not in ("val", "test") and not (trained and split == "train"):
        raise typer.BadParameter("--split is val or test" + (", or train" if trained else ""))
