"""The command line: one command per question. What a command needs is imported only when it runs.

Exit codes: 0 every file was inspected, 1 some were refused, 2 wrong usage or installation, 130 interrupted.
"""

import errno
import os
import sys
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unmask import __version__
from unmask.errors import DataError, Refused, UnmaskError
from unmask.tracing.commands import app as tracing

if TYPE_CHECKING:
    from rich.console import Console

    from unmask.evidence.jsonl import Done
    from unmask.inspection import Inspection, Inspector
    from unmask.media.sources import RefusedSource, Source

app = typer.Typer(
    name="unmask",
    help="Visual-identity forensics: was this face forged, where, and how sure may one be?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

app.add_typer(tracing, name="trace")

PackOption = Annotated[str, typer.Option(metavar="NAME|FOLDER", help="Forgery detector: an embedded pack or a folder.")]


def main() -> None:
    """Entry point: run a command; a mistake in how it was called ends in one line and exit code 2."""
    try:
        app()
    except UnmaskError as error:
        from unmask.evidence.terminal import safe_text

        print(f"unmask: {safe_text(str(error))}", file=sys.stderr)  # it may quote a file
        sys.exit(2)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        print(f"unmask: cannot write ({error.strerror}): make room and run again", file=sys.stderr)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what standard output still holds cannot be written either
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"unmask {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


@app.command()
def inspect(
    paths: Annotated[
        list[str], typer.Argument(metavar="PATH...", help='Pictures, videos, folders, or "-" for standard input.')
    ],
    json: Annotated[str | None, typer.Option(metavar="FILE|-", help="Write one JSON report per line.")] = None,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Write one self-contained HTML page.")] = None,
    jobs: Annotated[int, typer.Option(min=1, max=256, help="Worker processes.")] = 1,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the --json file: skip what it already holds.")
    ] = False,
    pack: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME|FOLDER",
            help="Forgery detector: an embedded pack or a folder; plain if left out. The first decides; repeat it for "
            "second opinions.",
        ),
    ] = None,
    edits: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FOLDER|none",
            help="Reader of edits for faces that are not judged authentic; mmnet if left out.",
        ),
    ] = None,
    fps: Annotated[float, typer.Option(min=0.01, max=1000.0, help="Sampled frames per second of video.")] = 5.0,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No table and no progress bar.")] = False,
) -> None:
    """Was a face forged, where, and how sure may one be? Pictures, videos and whole folders.

    Exit code 0: all files were inspected; 1: some were refused; 2: wrong usage; 130: interrupted.
    """
    if resume and (json is None or json == "-"):
        raise typer.BadParameter("--resume continues a file: give it with --json FILE")
    _check_outputs(paths, json, html, resume)

    from unmask.evidence.report import Verdict
    from unmask.inspection import EDIT_PACK, Inspector, shell_line
    from unmask.interruption import Interruption
    from unmask.media.sources import walk

    options: dict[str, Any] = {
        "forgery_pack": pack or ["plain"],
        "frames_per_second": fps,
        "edit_pack": EDIT_PACK if edits is None else None if edits == "none" else edits,
    }
    inspector = Inspector(**options)
    finished = refused = 0
    with ExitStack() as stack:
        interruption = stack.enter_context(Interruption())
        writers: list[Callable[[Inspection], None]] = []
        sources: Iterator[Source | RefusedSource] = walk(paths)
        if json is not None:
            from unmask.evidence.jsonl import JsonLines, settings_of

            settings = settings_of(inspector.options, inspector.packs)
            lines = stack.enter_context(JsonLines(json, resume=resume, settings=settings))
            writers.append(lambda done: lines.write(done.report))
            if resume:
                sources = _not_done(sources, lines.done)
                others = ", ".join(sorted(lines.versions - {__version__}))
                if others:
                    print(f"unmask: {json} was begun by version {others}; this is {__version__}", file=sys.stderr)
        if html is not None:
            from unmask.evidence.html import HtmlReport

            page = stack.enter_context(HtmlReport(html, inspector.cards, command=shell_line(["unmask", *sys.argv[1:]])))
            if resume:
                for report in lines.finished():  # their pictures are not in the JSON lines
                    page.add(report)
            writers.append(lambda done: page.add(done.report, done.pictures, done.strips))
        tables = not quiet and json != "-"
        console, progress_console = _consoles(tables, progress=not quiet)
        if tables:
            from unmask.evidence.terminal import TerminalReport

            table = stack.enter_context(TerminalReport(console))
            writers.append(lambda done: table.add(done.report))
        report_progress = stack.enter_context(_progress(progress_console, paths))
        results = _examine(sources, inspector, options, jobs, html is not None, report_progress)
        try:
            for done in stack.enter_context(closing(results)):
                with interruption.held_back():
                    for write in writers:
                        write(done)
                    finished += 1
                    refused += done.report.verdict is Verdict.REFUSED
                    report_progress(float(finished))
        except KeyboardInterrupt:
            results.close()
            print(f"unmask: interrupted; files finished: {finished}", file=sys.stderr)
            raise typer.Exit(130) from None
    if not finished:
        why = f"{json} already holds all there is" if resume else "no pictures or videos there"
        print(f"unmask: nothing to do: {why}", file=sys.stderr)
    raise typer.Exit(1 if refused else 0)


@app.command()
def demo(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for the pictures and the report.")] = Path(
        "unmask-demo"
    ),
    pack: PackOption = "plain",
) -> None:
    """Inspect a real photograph and a forgery made from it on the spot, and write the HTML report."""
    from unmask.demo import run_demo

    run_demo(out, pack)


@app.command()
def packs(
    json: Annotated[bool, typer.Option("--json", help="Print the whole cards as JSON.")] = False,
) -> None:
    """List the embedded model packs: what they are for, their licence, limits and measured figures."""
    import dataclasses
    import json as serialiser

    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from unmask.packs import embedded_packs, load_pack

    cards = [load_pack(name).card for name in embedded_packs()]
    if json:
        print(serialiser.dumps([dataclasses.asdict(card) for card in cards], indent=1, ensure_ascii=False))
        return
    for card in cards:
        table = Table(title=escape(f"{card.name} {card.version}"), title_justify="left", show_header=False)
        table.add_column(no_wrap=True)
        table.add_column(overflow="fold")
        for name in ("task", "description", "licence", "origin", "training_data"):
            table.add_row(name.replace("_", " "), escape(getattr(card, name)))
        for limit in card.limits:
            table.add_row("limit", escape(limit))
        for metric in card.metrics:
            interval = "" if metric.low is None or metric.high is None else f" [{metric.low:.3f}, {metric.high:.3f}]"
            table.add_row(
                f"{metric.name}, {metric.condition}", escape(f"{metric.value:.3f}{interval} on {metric.dataset}")
            )
        table.add_row("sha256", card.sha256)
        Console().print(table)


DataOption = Annotated[
    Path, typer.Option(metavar="DIR|CSV", envvar="UNMASK_DATA", help="Folder of known collections, or a manifest CSV.")
]
WorkOption = Annotated[
    Path, typer.Option(metavar="DIR", help="Where prepared faces, twins and pairs are kept, for all runs.")
]
SyntheticOption = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Faces made by `unmask synthesise`, as one more family.")
]
Taef2Option = Annotated[Path | None, typer.Option(metavar="DIR", help="Folder with the TAEF2 autoencoder's weights.")]
WorkersOption = Annotated[int, typer.Option(min=1, max=256, help="Processes that prepare faces.")]


@contextmanager
def _lab(needed_for: str) -> Iterator[None]:
    """Turn a missing lab library into one line that names the extra."""
    from unmask.errors import MissingExtraError

    try:
        yield
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("unmask"):
            raise
        raise MissingExtraError("lab", needed_for) from error


def _refuse_given(context: typer.Context, names: Iterable[str], why: str) -> None:
    """Refuse options that were given where they would do nothing."""
    for name in names:
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            option = next(one.opts[0] for one in context.command.params if one.name == name)
            raise typer.BadParameter(f"{option} {why}")


@app.command()
def models(
    method: Annotated[str | None, typer.Argument(metavar="[METHOD]", help="Show this one's options.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """List the detectors that can be trained, or the options of one."""
    with _lab("unmask models"):
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


@app.command()
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
    with _lab("unmask train"):
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
        _refuse_given(context, others, f"is not for {method}; leave it out")
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


@app.command()
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
    _check_written("--json", json, data)
    with _lab("unmask evaluate"):
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
            _refuse_given(context, ("synthetic", "taef2"), "is not for a reader of edits; leave it out")
            told = read_split(Path(detector), data, work, split, workers, console)
            result = evaluate_reader(told, split, identity_likeness())
            text = reader_table(result)
        else:
            result = evaluate_any(detector, Workshop(data, work, synthetic, taef2), split, console)
            text = table(result)
        if json is not None:
            write_numbers(result, detector, json)
        print(text)


@app.command()
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
    _check_written("--json", json, data)
    with _lab("unmask compare"):
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
            _refuse_given(context, ("synthetic", "taef2"), "is not for readers of edits; leave it out")
            found = compare_readers([Path(name) for name in detectors], data, work, split, workers, console)
            if json is not None:
                write_readers(found, split, json)
            print(readers_table(found))
            return
        rows = compare_any(detectors, Workshop(data, work, synthetic, taef2), split, CONDITIONS, console)
        if json is not None:
            write_comparison(rows, split, json)
        print(comparison_table(rows))


@app.command()
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
    with _lab("unmask export"):
        from rich.console import Console

        from unmask.lab.detection.evaluate import table
        from unmask.lab.detection.export import ship
        from unmask.lab.detection.train import Workshop
        from unmask.lab.edits.export import ship_reader
        from unmask.lab.edits.train import is_reader
        from unmask.packs.card import is_card

        _check_written("--out", folder / "card.json", data, is_card)
        _check_written("--out", folder / "model.onnx", data, lambda path: is_card(path.with_name("card.json")))
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


@app.command()
def forge(
    context: typer.Context,
    source: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of face pictures.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder of the set; one that was begun is finished.")],
    kinds: Annotated[
        list[str] | None, typer.Option("--kind", metavar="KIND", help="A kind of forgery; repeatable. All that can be.")
    ] = None,
    sequence: Annotated[
        bool, typer.Option("--sequence", help="Edit faces part by part, in the layout of Seq-DeepFake, instead.")
    ] = False,
    tools: Annotated[
        str,
        typer.Option(
            help="With --sequence, what draws the face anew after an edit: autoencoder, classical, both or none."
        ),
    ] = "both",
    held_out: Annotated[
        float, typer.Option(min=0, max=0.9, help="With --sequence, share of orders kept for test.")
    ] = 0.2,
    count: Annotated[
        int | None,
        typer.Option(
            min=1, help="Forgeries of every family, one per face if left out; with --sequence, pictures in all."
        ),
    ] = None,
    size: Annotated[int, typer.Option(min=64, max=1024, help="Side of the pictures.")] = 256,
    perturbation: Annotated[
        str, typer.Option(help="std (none), rand (one) or mix (several), on both classes.")
    ] = "std",
    nir: Annotated[bool, typer.Option("--nir", help="Simulate near-infrared pictures, of both classes.")] = False,
    people: Annotated[str, typer.Option(help="What is one person: each file, or each folder.")] = "file",
    taef2: Taef2Option = None,
    workers: Annotated[int, typer.Option(min=1, max=256, help="With --sequence, processes that make pictures.")] = 2,
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 0,
) -> None:
    """Make a labelled data set from a folder of faces: every forgery marked as synthetic, with mask and record."""
    if sequence:
        _refuse_given(context, ("kinds", "nir", "perturbation"), "does not go with --sequence")
    else:
        _refuse_given(context, ("tools", "held_out", "workers"), "goes with --sequence alone")
    with _lab("unmask forge"):
        from rich.console import Console
        from rich.progress import Progress, TaskID

        from unmask.forging.component_edit_set import forge_sequences
        from unmask.forging.forge_set import forge_folder

        bars: dict[str, TaskID] = {}
        with Progress(console=Console(stderr=True)) as bar:

            def advance(what: str, done: int, everything: int) -> None:
                if what not in bars:
                    bars[what] = bar.add_task(what, total=everything)
                bar.update(bars[what], completed=done, total=everything)

            if sequence:
                edited = forge_sequences(
                    source,
                    out,
                    count,
                    seed,
                    size=size,
                    tools=tools,  # type: ignore[arg-type]  # checked there
                    held_out=held_out,
                    people=people,
                    taef2=taef2,
                    workers=workers,
                    progress=advance,
                )
                skipped, empty = edited.skipped, edited.empty_splits
                told = [
                    f"{edited.folder}: {edited.people} people",
                    *(f"{sum(lengths.values())} {split}" for split, lengths in edited.lengths.items()),
                ]
            else:
                made = forge_folder(
                    source,
                    out,
                    tuple(kinds or ("selfblend", "swap", "composite", "fingerprint")),
                    count,
                    seed,
                    size=size,
                    perturbation=perturbation,  # type: ignore[arg-type]  # checked there
                    nir=nir,
                    people=people,  # type: ignore[arg-type]  # checked there
                    taef2=taef2,
                    progress=advance,
                )
                skipped, empty = made.skipped, made.empty_splits
                numbers = [f"{number} {family}" for family, number in made.families.items()]
                told = [f"{made.manifest}: {numbers[0]}", *numbers[1:]]
    for path, reason in skipped:
        print(f"unmask: passed over {path}: {reason}", file=sys.stderr)
    if empty:
        splits = " and ".join(empty)
        print(f"unmask: nobody fell into the split {splits}; give more faces, or change the manifest", file=sys.stderr)
    print(", ".join(told))


@app.command()
def manifest(
    data: Annotated[Path, typer.Argument(metavar="PATH", help="A data set in a layout that can be read.")],
    out: Annotated[Path, typer.Option(metavar="FILE.csv", help="The manifest to write.")],
) -> None:
    """Write a data set's manifest as it would be read: labels, families, subjects, splits; to check or to change."""
    _check_written("--out", out, data)
    with _lab("unmask manifest"):
        from unmask.datasets.layouts import detect_layout, read_layout
        from unmask.datasets.manifest import write_manifest

        samples, layout = read_layout(data), detect_layout(data)
        write_manifest(samples, out)
    counts: dict[tuple[str, str], int] = {}
    for sample in samples:
        key = sample.split, sample.family
        counts[key] = counts.get(key, 0) + 1
    print(f"{out}: {len(samples)} pictures, read as {layout}")
    for (split, family), number in sorted(counts.items()):
        print(f"  {split:5} {family:20} {number}")


@app.command()
def synthesise(
    context: typer.Context,
    out: Annotated[Path, typer.Argument(metavar="DIR", help="Folder for the faces; those in it are kept.")],
    count: Annotated[int, typer.Option(min=1, help="How many faces.")] = 1000,
    sequence: Annotated[
        bool, typer.Option("--sequence", help="Let their style drift step by step, in the layout of Seq-DeepFake.")
    ] = False,
    size: Annotated[int, typer.Option(min=64, max=1024, help="With --sequence, side of the pictures.")] = 256,
    tools: Annotated[
        str, typer.Option(help="With --sequence, as of `unmask forge`: both, autoencoder, classical or none.")
    ] = "both",
    held_out: Annotated[
        float, typer.Option(min=0, max=0.9, help="With --sequence, share of orders that are in the test split alone.")
    ] = 0.2,
    taef2: Taef2Option = None,
    seed: Annotated[int, typer.Option(help="Of all faces.")] = 7,
) -> None:
    """Draw fully synthetic faces with MobileStyleGAN, marked as such, to train on."""
    if not sequence:
        _refuse_given(context, ("size", "tools", "held_out", "taef2"), "goes with --sequence alone")
    with _lab("unmask synthesise"):
        from rich.console import Console
        from rich.progress import Progress

        from unmask.forging.mobilestylegan import synthesise
        from unmask.forging.style_edit_set import forge_drifts

        bar = Progress(console=Console(stderr=True))
        task = bar.add_task("drawing faces", total=count)

        def show(done: int) -> None:
            bar.start()  # from the first face on: what cannot begin shows no bar
            bar.update(task, completed=done)

        try:
            if sequence:
                made = forge_drifts(
                    out,
                    count,
                    seed,
                    size=size,
                    tools=tools,  # type: ignore[arg-type]  # checked there
                    held_out=held_out,
                    taef2=taef2,
                    progress=lambda _what, done, _all: show(done),
                )
            else:
                faces = 0

                def advance(more: int) -> None:
                    nonlocal faces
                    faces += more
                    show(faces)

                synthesise(out, count, seed, progress=advance)
        finally:
            if bar.live.is_started:
                bar.stop()
    if sequence:
        numbers = (f"{sum(lengths.values())} {split}" for split, lengths in made.lengths.items())
        print(f"{made.folder}: {', '.join(numbers)}")


def _check_written(
    option: str, path: Path | None, data: Path, replaces: Callable[[Path], bool] = lambda _: False
) -> None:
    """Refuse a result's file that is the data, or is there and may not be replaced, before the work begins."""
    from unmask.files import Output, check_outputs

    if path is not None:
        check_outputs([Output(option, path, replaces)], [data])


def _check_outputs(paths: list[str], json: str | None, html: Path | None, resume: bool) -> None:
    """Refuse outputs that would overwrite an input, one another, or what is not ours, before anything is read."""
    from unmask.files import Output, check_outputs
    from unmask.media.kinds import MEDIA_EXTENSIONS

    for option, place in (("--json", json), ("--html", html)):
        if place is not None and Path(place).suffix.lower() in MEDIA_EXTENSIONS:
            raise DataError(f"{option} {place}: this is how a picture or video is called; give another name")
    outputs = []
    if json is not None and json != "-":
        remedy = "continue it with --resume, give another name, or move it away"
        outputs.append(Output("--json", Path(json), lambda _: resume, not resume, remedy))
    if html is not None:
        from unmask.evidence.html import is_html_report, part_of

        if str(html) == "-":
            raise typer.BadParameter("--html writes a file; only --json can go to standard output")
        outputs += [Output("--html", place, is_html_report) for place in (html, part_of(html))]
    check_outputs(outputs, paths)


def _examine(
    sources: "Iterable[Source | RefusedSource]",
    inspector: "Inspector",
    options: dict[str, Any],
    jobs: int,
    pictures: bool,
    progress: Callable[[float], None],
) -> "Generator[Inspection, None, None]":
    """One file is inspected right here; many go to worker processes, so that a crash costs no more than its file."""
    from unmask.batch import Batch, examine_safely
    from unmask.media.sources import Source

    remaining = iter(sources)
    first = list(islice(remaining, 2))
    if len(first) == 1 and isinstance(first[0], Source):
        yield examine_safely(inspector, first[0], pictures=pictures, progress=progress)
    elif first:
        batch = Batch(inspector, options, jobs, pictures)
        with closing(batch.run(chain(first, remaining))) as results:
            yield from results


def _not_done(sources: "Iterable[Source | RefusedSource]", done: "Done") -> "Iterator[Source | RefusedSource]":
    """The sources that no finished report speaks of; a file that has changed since is inspected again."""
    from unmask.evidence.jsonl import place_of
    from unmask.media.intake import take_in
    from unmask.media.sources import Source

    places = {place for place, _ in done}
    for source in sources:
        place = place_of(source.path)
        if place in places:
            sha256 = None
            if isinstance(source, Source):
                try:
                    sha256 = take_in(source).sha256
                except Refused:
                    sha256 = None
            if (place, sha256) in done:
                continue
        yield source


def _consoles(table: bool, progress: bool) -> "tuple[Console | None, Console | None]":
    """The consoles for the table and for the progress bar; the latter only if there is a terminal to draw it on."""
    progress = progress and sys.stderr.isatty()
    if not table and not progress:
        return None, None
    from rich.console import Console

    out = Console()
    if not progress:
        return out, None
    # On one terminal the table must scroll above the bar, which only works through one console.
    return out, out if table and out.is_terminal else Console(stderr=True)


@contextmanager
def _progress(console: "Console | None", paths: list[str]) -> Iterator[Callable[[float], None]]:
    """A progress bar: of the files if there are several, of the video if there is but one."""
    if console is None:
        yield lambda _: None
        return
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    # Folders are walked as the work goes on; how many files they hold is not known before the end.
    total = None if any(Path(path).is_dir() for path in paths) else len(paths)
    columns = (SpinnerColumn(), BarColumn(), TextColumn("{task.fields[shown]}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=total, shown="")

        def update(finished: float) -> None:
            shown = (
                f"{finished:.0%}" if total == 1 else f"{finished:.0f}" + (f" of {total} files" if total else " files")
            )
            bar.update(task, completed=finished, shown=shown)

        yield update


if __name__ == "__main__":
    main()
