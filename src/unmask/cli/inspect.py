"""`unmask inspect`, `demo` and `packs`: was a face forged, where, and how sure may one be?"""

import sys
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import ExitStack, closing
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from unmask._version import __version__
from unmask.cli.options import PackOption, command_line, progress_bars
from unmask.errors import DataError
from unmask.progress import SILENT, Progress

if TYPE_CHECKING:
    from rich.console import Console

    from unmask.evidence.jsonl import Done
    from unmask.inspection import Inspection, Inspector
    from unmask.inspection.inspector import TakenIn
    from unmask.media.sources import RefusedSource, Source


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
            help="Edit-sequence model for faces that are not judged authentic; mmnet if left out.",
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
    from unmask.inspection import EDIT_PACK, Inspector
    from unmask.interruption import Interruption
    from unmask.media.sources import walk

    edit_pack = EDIT_PACK if edits is None else None if edits == "none" else edits
    inspector = Inspector(pack or "plain", fps, edit_pack=edit_pack)
    finished = refused = 0
    with ExitStack() as stack:
        stack.callback(inspector.close)
        interruption = stack.enter_context(Interruption())
        writers: list[Callable[[Inspection], None]] = []
        sources: Iterator[Source | TakenIn | RefusedSource] = walk(paths)
        if json is not None:
            from unmask.evidence.jsonl import JsonLines, settings_of

            settings = settings_of(inspector.options.recorded(), inspector.packs)
            lines = stack.enter_context(JsonLines(json, resume=resume, settings=settings))
            writers.append(lambda done: lines.write(done.report))
            if resume:
                sources = _not_done(walk(paths), lines.done)
                others = ", ".join(sorted(lines.versions - {__version__}))
                if others:
                    print(f"unmask: {json} was begun by version {others}; this is {__version__}", file=sys.stderr)
        if html is not None:
            from unmask.evidence.html import HtmlReport

            page = stack.enter_context(HtmlReport(html, inspector.cards, command=command_line()))
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
        progress = SILENT
        if progress_console is not None:
            progress = stack.enter_context(progress_bars(progress_console, transient=True))
        # Folders are walked as the work goes on; how many files they hold is not known before the end.
        total = None if any(Path(path).is_dir() for path in paths) else len(paths)
        progress.update("files", 0, total)
        results = _examine(sources, inspector, jobs, html is not None, progress)
        try:
            for done in stack.enter_context(closing(results)):
                with interruption.held_back():
                    for write in writers:
                        write(done)
                    finished += 1
                    refused += done.report.verdict is Verdict.REFUSED
                    progress.update("files", finished, total)
            progress.update("files", finished, finished)  # only now is it known how many there are to do
        except KeyboardInterrupt:
            results.close()
            print(f"unmask: interrupted; files finished: {finished}", file=sys.stderr)
            raise typer.Exit(130) from None
    if not finished:
        why = f"{json} already holds all there is" if resume else "no pictures or videos there"
        print(f"unmask: nothing to do: {why}", file=sys.stderr)
    raise typer.Exit(1 if refused else 0)


def demo(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for the pictures and the report.")] = Path(
        "unmask-demo"
    ),
    pack: PackOption = "plain",
) -> None:
    """Inspect a real photograph and a forgery made from it on the spot, and write the HTML report."""
    from unmask.demo import run_demo

    run_demo(out, pack)


def packs(
    json: Annotated[bool, typer.Option("--json", help="Print the whole cards as JSON.")] = False,
) -> None:
    """List the embedded model packs: what they are for, their licence, limits and measured figures."""
    import dataclasses
    import json as serialiser

    from rich.console import Console

    from unmask.packs import embedded_packs, load_pack
    from unmask.tables import terminal

    cards = [load_pack(name).card for name in embedded_packs()]
    if json:
        print(serialiser.dumps([dataclasses.asdict(card) for card in cards], indent=1, ensure_ascii=False))
        return
    for card in cards:
        names = ("task", "description", "licence", "origin", "training_data")
        rows = [(name.replace("_", " "), getattr(card, name)) for name in names]
        rows += [("limit", limit) for limit in card.limits]
        for metric in card.metrics:
            interval = "" if metric.low is None or metric.high is None else f" [{metric.low:.3f}, {metric.high:.3f}]"
            rows.append((f"{metric.name}, {metric.condition}", f"{metric.value:.3f}{interval} on {metric.dataset}"))
        rows.append(("sha256", card.sha256))
        Console().print(terminal(("", ""), rows, title=f"{card.name} {card.version}"))


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
    sources: "Iterable[Source | TakenIn | RefusedSource]",
    inspector: "Inspector",
    jobs: int,
    pictures: bool,
    progress: Progress,
) -> "Generator[Inspection, None, None]":
    """One file is inspected right here; many go to worker processes, so that a crash costs no more than its file."""
    from unmask.inspection.inspector import examine_safely
    from unmask.media.sources import RefusedSource

    remaining = iter(sources)
    first = list(islice(remaining, 2))
    if len(first) == 1 and not isinstance(first[0], RefusedSource):

        def report(share: float) -> None:
            progress.update("per cent of the video", round(100 * share), 100)

        yield examine_safely(inspector, first[0], pictures=pictures, progress=report)
    elif first:
        from unmask.inspection.batch import Batch  # loads multiprocessing

        batch = Batch(inspector, jobs, pictures)
        with closing(batch.run(chain(first, remaining))) as results:
            del first  # what was taken in holds its picture
            yield from results


def _not_done(
    sources: "Iterable[Source | RefusedSource]", done: "Done"
) -> "Iterator[Source | TakenIn | RefusedSource]":
    """The sources that no finished report speaks of; a file that has changed since is inspected again."""
    from unmask.evidence.jsonl import place_of
    from unmask.inspection.inspector import take_in_source
    from unmask.media.sources import Source

    places = {place for place, _ in done}
    for source in sources:
        place = place_of(source.path)
        if place not in places:
            yield source
        elif isinstance(source, Source):
            taken = take_in_source(source)
            if (place, taken.sha256) not in done:
                yield taken
        elif (place, None) not in done:
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
