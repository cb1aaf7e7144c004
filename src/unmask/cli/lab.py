"""`unmask models`, `train`, `evaluate`, `compare` and `export`: the lab's commands."""

from pathlib import Path
from typing import Annotated

import typer

from unmask.cli.options import (
    DataOption,
    SyntheticOption,
    Taef2Option,
    WorkersOption,
    WorkOption,
    check_result_file,
    extra,
    refuse_given,
)


def models(
    method: Annotated[str | None, typer.Argument(metavar="[METHOD]", help="Show this one's options.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """List the detectors that can be trained, or the options of one."""
    with extra("lab", "unmask models"):
        import json as serialiser

        from rich.console import Console
        from rich.table import Table

        from unmask.lab.methods import describe, method_named

        chosen = [method_named(method).name] if method else None
        found = describe(chosen)
        if json:
            print(serialiser.dumps(found, indent=1))
            return
        table = Table(title_justify="left", title=f"Options of {method}: --set NAME=VALUE" if method else None)
        if method:
            columns: tuple[str, ...] = ("option", "values", "default")
            rows: list[tuple[str, ...]] = [(o["name"], o["values"], str(o["default"])) for o in found[0]["options"]]
        else:
            columns = ("method", "what it is", "published", "input", "parameters")
            rows = [
                (m["name"], m["summary"], m["source"], f"{m['size']} px", f"{m['parameters'] / 1e6:.2f} M")
                for m in found
            ]
        for column in columns:
            table.add_column(column, overflow="fold")
        for row in rows:
            table.add_row(*row)
        Console().print(table)


def train(
    context: typer.Context,
    method: Annotated[str, typer.Argument(metavar="METHOD", help="A detector; `unmask models` lists them.")],
    run: Annotated[Path, typer.Option(metavar="DIR", help="Run folder; an unfinished run in it is resumed.")],
    data: DataOption,
    work: WorkOption = Path("runs/work"),
    synthetic: SyntheticOption = None,
    taef2: Taef2Option = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="An option of the method; `unmask models METHOD` lists them."),
    ] = None,
    start: Annotated[
        Path | None, typer.Option(metavar="RUN", help="Begin from a finished run's weights, not the method's own.")
    ] = None,
    size: Annotated[
        int | None, typer.Option(min=64, max=1024, help="Side of the faces it sees; the method's own if left out.")
    ] = None,
    window: Annotated[
        int | None,
        typer.Option(min=64, max=1024, help="Side of the window a step sees; half the size for plain, else all of it."),
    ] = None,
    pairs: Annotated[int, typer.Option(min=1, help="Training pairs to make.")] = 14_000,
    steps: Annotated[int, typer.Option(min=1, help="Optimiser steps.")] = 2_600,
    batch_pairs: Annotated[int, typer.Option(min=1, help="Pairs in a step.")] = 16,
    batch: Annotated[int, typer.Option(min=1, help="Faces in a step, of a reader of edits.")] = 16,
    limit: Annotated[int, typer.Option(min=0, help="Faces to train on, of a reader of edits; 0: all.")] = 0,
    encoded: Annotated[
        float, typer.Option(min=0, max=1, help="Share of faces encoded as JPEG anew, of a reader of edits.")
    ] = 0.0,
    learning_rate: Annotated[float, typer.Option(help="Peak learning rate.")] = 1e-3,
    zoo_steps: Annotated[int, typer.Option(min=1, help="Steps for each network of the re-synthesis zoo.")] = 300,
    twin_draws: Annotated[int, typer.Option(min=1, help="Re-synthesised twins per real face.")] = 2,
    without: Annotated[list[str] | None, typer.Option(metavar="FAMILY", help="Leave a family out; repeatable.")] = None,
    workers: WorkersOption = 2,
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 0,
) -> None:
    """Train a detector or a reader of edits: prepares what is missing, shows progress, resumes after a kill."""
    with extra("lab", "unmask train"):
        from rich.console import Console

        from unmask.lab.detection import train as recipe
        from unmask.lab.edits.train import train_reader
        from unmask.lab.methods import input_size, method_named, read_options
        from unmask.lab.run import Protocol, SequenceProtocol

        found = method_named(method)
        options, console = read_options(method, settings or ()), Console(stderr=True)
        side = size or input_size(method, options)
        of_detectors = ("window", "without", "synthetic", "taef2", "pairs", "batch_pairs", "zoo_steps", "twin_draws")
        of_readers = ("batch", "limit", "encoded")
        others = of_detectors if found.task == "sequence" else of_readers
        refuse_given(context, others, f"is not for {method}; leave it out")
        if found.task == "sequence":
            reading = SequenceProtocol(
                method=method,
                options=options,
                size=side,
                steps=steps,
                batch=batch,
                limit=limit,
                encoded=encoded,
                learning_rate=learning_rate,
                seed=seed,
            )
            train_reader(data, work, run, reading, start, workers, console)
        else:
            protocol = Protocol(
                method=method,
                options=options,
                size=side,
                window=window or (side // 2 if getattr(found.load(), "windows", False) else side),
                pairs=pairs,
                steps=steps,
                batch_pairs=batch_pairs,
                learning_rate=learning_rate,
                zoo_steps=zoo_steps,
                twin_draws=twin_draws,
                without=tuple(without or ()),
                seed=seed,
            )
            shop = recipe.Workshop(data, work, synthetic, taef2, workers)
            recipe.train(shop, run, protocol, start, console)
    print(f"{run}: finished; next: unmask evaluate {run} --data {data} --work {work}")


def evaluate(
    context: typer.Context,
    detector: Annotated[
        str,
        typer.Argument(metavar="RUN[,RUN...]|PACK", help="A run folder, several to fuse, or a pack's name or folder."),
    ],
    data: DataOption,
    work: WorkOption = Path("runs/work"),
    synthetic: SyntheticOption = None,
    taef2: Taef2Option = None,
    split: Annotated[str, typer.Option(help="val or test.")] = "test",
    workers: WorkersOption = 2,
    json: Annotated[Path | None, typer.Option(metavar="FILE", help="Write every number as JSON.")] = None,
) -> None:
    """Measure a detector on held-out faces, or a reader of edits on a Seq-DeepFake folder, with intervals."""
    if split not in ("val", "test"):
        raise typer.BadParameter("--split is val or test")
    check_result_file("--json", json, data)
    with extra("lab", "unmask evaluate"):
        from rich.console import Console

        from unmask.lab.detection.evaluate import evaluate_any, table, write_numbers
        from unmask.lab.detection.train import Workshop
        from unmask.lab.edits.evaluate import evaluate_reader, identity_likeness, read_split, reader_table
        from unmask.lab.edits.train import is_reader

        console = Console(stderr=True)
        parts = detector.split(",")
        if any(is_reader(Path(part)) for part in parts):
            if len(parts) > 1:
                raise typer.BadParameter("a reader of edits is not fused with others; name it alone")
            refuse_given(context, ("synthetic", "taef2"), "is not for a reader of edits; leave it out")
            told = read_split(Path(detector), data, work, split, workers, console)
            result = evaluate_reader(told, split, identity_likeness())
            text = reader_table(result)
        else:
            result = evaluate_any(detector, Workshop(data, work, synthetic, taef2), split, console)
            text = table(result)
        if json is not None:
            write_numbers(result, detector, json)
        print(text)


def compare(
    context: typer.Context,
    detectors: Annotated[
        list[str], typer.Argument(metavar="RUN[,RUN...]|PACK...", help="As for evaluate, two or more.")
    ],
    data: DataOption,
    work: WorkOption = Path("runs/work"),
    synthetic: SyntheticOption = None,
    taef2: Taef2Option = None,
    split: Annotated[str, typer.Option(help="val or test.")] = "test",
    workers: WorkersOption = 2,
    json: Annotated[Path | None, typer.Option(metavar="FILE", help="Write every number as JSON.")] = None,
) -> None:
    """Hold detectors, or readers of edits, against the first of them, on the same faces, with paired differences."""
    if split not in ("val", "test"):
        raise typer.BadParameter("--split is val or test")
    if len(detectors) < 2:
        raise typer.BadParameter("name two detectors or more; `unmask evaluate` measures a single one")
    if len(set(detectors)) < len(detectors):
        raise typer.BadParameter("each detector is named once")
    check_result_file("--json", json, data)
    with extra("lab", "unmask compare"):
        from rich.console import Console

        from unmask.lab.detection.compare import compare_any, comparison_table, write_comparison
        from unmask.lab.detection.held_out import CONDITIONS
        from unmask.lab.detection.train import Workshop
        from unmask.lab.edits.evaluate import compare_readers, readers_table, write_readers
        from unmask.lab.edits.train import is_reader

        console = Console(stderr=True)
        readers = [any(is_reader(Path(part)) for part in name.split(",")) for name in detectors]
        if any(readers):
            if not all(readers) or any("," in name for name in detectors):
                raise typer.BadParameter("readers of edits are compared with one another alone, each by itself")
            refuse_given(context, ("synthetic", "taef2"), "is not for readers of edits; leave it out")
            found = compare_readers([Path(name) for name in detectors], data, work, split, workers, console)
            if json is not None:
                write_readers(found, split, json)
            print(readers_table(found))
            return
        rows = compare_any(detectors, Workshop(data, work, synthetic, taef2), split, CONDITIONS, console)
        if json is not None:
            write_comparison(rows, split, json)
        print(comparison_table(rows))


def export(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Finished runs; several are fused into one.")],
    data: DataOption,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of the pack; `pack` in the first run's if left out.")
    ] = None,
    unseen: Annotated[
        list[str] | None,
        typer.Option(
            metavar="RUN[,RUN...]",
            help="A run made --without some families, or several to fuse, to calibrate on; repeatable. "
            "Without any, calibration is on families that the runs know, and the card says so.",
        ),
    ] = None,
    work: WorkOption = Path("runs/work"),
    synthetic: SyntheticOption = None,
    taef2: Taef2Option = None,
    name: Annotated[str | None, typer.Option(help="Of the pack; the method's if left out.")] = None,
    version: Annotated[str, typer.Option(help="Of the pack.")] = "0.1.0",
    others: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR|CSV",
            help="Of a reader of edits: authentic and wholly synthetic faces, to hold down false edits.",
        ),
    ] = None,
    workers: WorkersOption = 2,
) -> None:
    """Export runs to a model pack: ONNX, parity check, calibration on unseen families, test figures on the card."""
    folder = out or runs[0] / "pack"
    with extra("lab", "unmask export"):
        from rich.console import Console

        from unmask.lab.detection.evaluate import table
        from unmask.lab.detection.export import ship
        from unmask.lab.detection.train import Workshop
        from unmask.lab.edits.export import ship_reader
        from unmask.lab.edits.train import is_reader
        from unmask.packs.card import is_card

        check_result_file("--out", folder / "card.json", data, is_card)
        check_result_file("--out", folder / "model.onnx", data, lambda path: is_card(path.with_name("card.json")))
        if is_reader(runs[0]):
            if len(runs) > 1 or unseen:
                raise typer.BadParameter("a reader of edits is exported alone, and not calibrated on --unseen")
            shop = None if others is None else Workshop(others, work, synthetic, taef2)
            packed, told = ship_reader(runs[0], data, work, shop, folder, version, workers, Console(stderr=True), name)
            print(f"{told}\n\n{packed.folder}")
            return
        shop = Workshop(data, work, synthetic, taef2)
        systems = [[Path(part) for part in names.split(",")] for names in unseen or ()]
        pack, result, difference = ship(shop, runs, systems, folder, version, Console(stderr=True), name)
        print(table(result))
        print(f"\n{pack.folder}: parity with torch {difference['logit']:.1e} (logit), {difference['map']:.1e} (map)")
