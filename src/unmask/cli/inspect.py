"""`unmask inspect` and `demo`: was a face forged, where, and how sure may one be?"""

import sys
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from enum import StrEnum
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from unmask._version import __version__
from unmask.cli.options import PackOption, command_line, progress_bars
from unmask.cli.outputs import Outputs, RunLog, Total, tell_refusal
from unmask.progress import SILENT, Progress

if TYPE_CHECKING:
    from rich.console import Console

    from unmask.evidence.html import HtmlReport
    from unmask.evidence.jsonl import Done
    from unmask.evidence.pdf import PdfReport
    from unmask.evidence.report import Report
    from unmask.inspection import Inspection, Inspector
    from unmask.inspection.inspector import TakenIn
    from unmask.media.sources import RefusedSource, Source


class FailOn(StrEnum):
    """The verdicts, as in the report, whose module is not loaded for `unmask --help`."""

    FORGED = "forged"
    AUTHENTIC = "authentic"
    INCONCLUSIVE = "inconclusive"
    REFUSED = "refused"


def inspect(
    paths: Annotated[
        list[str], typer.Argument(metavar="PATH", help='Pictures, videos, folders, or "-" for standard input.')
    ],
    json: Annotated[str | None, typer.Option(metavar="FILE|-", help="Write one JSON report per line.")] = None,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Write one self-contained HTML page.")] = None,
    jobs: Annotated[int, typer.Option(min=1, max=256, help="Worker processes.")] = 1,
    engine: Annotated[
        Literal["local", "ray"],
        typer.Option(help="Who inspects: processes of this machine, or the workers of a Ray cluster; extra ray."),
    ] = "local",
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the --json file: skip what it already holds.")
    ] = False,
    pack: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME|FOLDER",
            help="Forgery detector: an embedded pack or a folder; plain if left out. The first decides; repeat it for "
            "second opinions. A pack of `unmask prompt learn` names the likeliest family.",
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
    decide: Annotated[
        float | None,
        typer.Option(
            metavar="LR",
            min=2,
            max=1e6,
            help="Likelihood ratio from which on a face is called forged, and from whose inverse down authentic; the "
            "limits on the pack's card if left out.",
        ),
    ] = None,
    wording: Annotated[
        Literal["verdict", "evaluative"],
        typer.Option(help="Whether the table and the page say forged and authentic, or the support alone."),
    ] = "verdict",
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="No table and no progress bar; refusals go to standard error.")
    ] = False,
    csv: Annotated[Path | None, typer.Option(metavar="FILE", help="Write a CSV file, a row a file.")] = None,
    db: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write to a database (.sqlite or .duckdb), a row a file and a row a face."),
    ] = None,
    save_maps: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write each face's map to a folder, as a grey PNG.")
    ] = None,
    no_map: Annotated[bool, typer.Option("--no-map", help="Leave the maps out of the JSON reports.")] = False,
    log: Annotated[Path | None, typer.Option(metavar="FILE", help="Append what happened when to a log.")] = None,
    fail_on: Annotated[
        list[FailOn] | None,
        typer.Option(help="End with exit code 3 if any file has this verdict; may be repeated."),
    ] = None,
    c2pa_anchors: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Certificates (PEM) of whom Content Credentials are trusted; extra c2pa."),
    ] = None,
    case: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.toml",
            help="Case, exhibit, examiner, laboratory and notes, for the reports; see unmask case.",
        ),
    ] = None,
    pdf: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the page as a PDF file; extra pdf.")] = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Go on looking at the folders for new and changed files, until Ctrl-C.")
    ] = False,
) -> None:
    """Was a face forged, where, and how sure may one be? Pictures, videos and whole folders.

    Exit code 0: all files were inspected; 1: some were refused; 2: wrong usage, or nothing to inspect; 3: a verdict of
    --fail-on; 130: interrupted.
    """
    if resume and (json is None or json == "-"):
        raise typer.BadParameter("--resume continues a file: give it with --json FILE")
    if no_map and json is None:
        raise typer.BadParameter("--no-map is about the JSON reports: give it with --json FILE")
    if watch and "-" in paths:
        raise typer.BadParameter("--watch looks at folders and files; standard input ends")
    if engine == "ray" and (watch or jobs > 1):
        reason = "--watch waits for files" if watch else "its workers are as many as the cluster has CPUs"
        raise typer.BadParameter(f"leave {'--watch' if watch else '--jobs'} or --engine ray out: {reason}")
    outputs = Outputs(json, html, csv, db, log, save_maps, pdf)
    outputs.check(paths if case is None else [*paths, str(case)], resume)
    about = None
    if case is not None:
        from unmask.evidence.case_file import read_case

        about = read_case(case)

    from unmask.evidence.report import Verdict, without_maps
    from unmask.inspection import EDIT_PACK, Inspector
    from unmask.interruption import Interruption
    from unmask.media.sources import walk
    from unmask.media.sources import watch as watch_paths

    edit_pack = EDIT_PACK if edits is None else None if edits == "none" else edits
    inspector = Inspector(pack or "plain", fps, edit_pack=edit_pack, decide=decide, c2pa_anchors=c2pa_anchors)
    finished = refused = failed = 0
    before: dict[str, Verdict] = {}  # the verdicts of an earlier run that this one continues
    with ExitStack() as stack:
        stack.callback(inspector.close)
        interruption = stack.enter_context(Interruption())
        writers: list[Callable[[Inspection], None]] = []
        sources: Iterator[Source | TakenIn | RefusedSource | None] = watch_paths(paths) if watch else walk(paths)
        if json is not None:
            from unmask.evidence.jsonl import JsonLines, place_of, settings_of

            settings = settings_of(inspector.options.recorded(), inspector.packs, about)
            lines = stack.enter_context(JsonLines(json, resume=resume, settings=settings))
            writers.append(lambda done: lines.write(without_maps(done.report) if no_map else done.report))
            if resume:
                sources, before = _not_done(sources, lines.done), dict(lines.verdicts)
                others = ", ".join(sorted(lines.versions - {__version__}))
                if others:
                    print(f"unmask: {json} was begun by version {others}; this is {__version__}", file=sys.stderr)
        pages = outputs.pages(inspector.cards, wording)
        for page in pages:
            stack.enter_context(page)
            if resume:
                for report in lines.finished():  # their pictures are not in the JSON lines
                    page.add(report)
            writers.append(partial(_write_page, page))
        rows = outputs.rows(stack)
        if log is not None:
            rows.append(stack.enter_context(RunLog(log, command_line())).add)
        if resume and (csv is not None or db is not None):
            for report in lines.finished():
                for write_row in rows[: (csv is not None) + (db is not None)]:
                    write_row(report)
        writers += [partial(_write_report, write_row) for write_row in rows]
        tables = not quiet and json != "-"
        console, progress_console = _consoles(tables, progress=not quiet)
        if tables:
            from unmask.evidence.terminal import TerminalReport

            table = stack.enter_context(TerminalReport(console, wording=wording))
            writers.append(lambda done: table.add(done.report))
        else:
            writers.append(partial(_write_report, tell_refusal))
        progress = SILENT
        if progress_console is not None:
            progress = stack.enter_context(progress_bars(progress_console, transient=True))
        # Folders are walked as the work goes on; how many files they hold, a thread counts meanwhile.
        total = Total(paths, needed=progress is not SILENT and not resume and not watch)
        progress.update("files", 0, total.files)
        results = _examine(sources, inspector, jobs, bool(pages), progress, many=watch, engine=engine)
        try:
            for inspection in stack.enter_context(closing(results)):
                done = replace(inspection, report=inspection.report.model_copy(update={"case": about}))
                with interruption.held_back():
                    for write in writers:
                        write(done)
                    finished += 1
                    if before:
                        before.pop(place_of(done.report.path), None)
                    refused += done.report.verdict is Verdict.REFUSED
                    failed += done.report.verdict in (fail_on or ())
                    progress.update("files", finished, total.files)
            progress.update("files", finished, finished)  # only now is it known how many there are to do
        except KeyboardInterrupt:
            results.close()
            word = "watching ended" if watch else "interrupted"
            print(f"unmask: {word}; files finished: {finished}", file=sys.stderr)
            if not watch:
                raise typer.Exit(130) from None
    if not finished and not watch:
        why = f"{json} already holds all there is" if resume else "no pictures or videos there; give files or a folder"
        print(f"unmask: nothing to do: {why}", file=sys.stderr)
        if not resume:
            raise typer.Exit(2)
    refused += sum(verdict is Verdict.REFUSED for verdict in before.values())
    failed += sum(verdict in (fail_on or ()) for verdict in before.values())
    raise typer.Exit(3 if failed else 1 if refused else 0)


def _write_page(page: "HtmlReport | PdfReport", done: "Inspection") -> None:
    page.add(done.report, done.pictures, done.strips, done.whole)


def _write_report(write: "Callable[[Report], None]", done: "Inspection") -> None:
    write(done.report)


def demo(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for the pictures and the report.")] = Path(
        "unmask-demo"
    ),
    pack: PackOption = "plain",
) -> None:
    """Inspect a real photograph and a forgery made from it on the spot, and write the HTML report."""
    from unmask.demo import run_demo

    run_demo(out, pack)


def _examine(
    sources: "Iterable[Source | TakenIn | RefusedSource | None]",
    inspector: "Inspector",
    jobs: int,
    pictures: bool,
    progress: Progress,
    *,
    many: bool,
    engine: Literal["local", "ray"],
) -> "Generator[Inspection, None, None]":
    """One file is inspected right here; many go to worker processes, so that a crash costs no more than its file."""
    from unmask.inspection.duplicates import Duplicates
    from unmask.inspection.inspector import examine_safely
    from unmask.media.sources import RefusedSource

    remaining = iter(sources)
    if engine == "ray":
        from unmask.inspection.ray_batch import RayBatch

        duplicates = Duplicates(inspector)
        with closing(RayBatch(inspector, pictures).run(duplicates.distinct(remaining))) as results:
            yield from duplicates.restored(results)
        return
    first = [] if many else list(islice(remaining, 2))  # a watched folder may keep us waiting for the second
    if len(first) == 1 and first[0] is not None and not isinstance(first[0], RefusedSource):

        def report(share: float) -> None:
            progress.update("per cent of the video", round(100 * share), 100)

        yield examine_safely(inspector, first[0], pictures=pictures, progress=report)
    elif first or many:
        from unmask.inspection.batch import Batch  # loads multiprocessing

        batch, duplicates = Batch(inspector, jobs, pictures), Duplicates(inspector)
        with closing(batch.run(duplicates.distinct(chain(first, remaining)))) as results:
            del first  # what was taken in holds its picture
            yield from duplicates.restored(results)


def _not_done(
    sources: "Iterable[Source | TakenIn | RefusedSource | None]", done: "Done"
) -> "Iterator[Source | TakenIn | RefusedSource | None]":
    """The sources that no finished report speaks of; a file that has changed since is inspected again."""
    from unmask.evidence.jsonl import place_of
    from unmask.inspection.inspector import TakenIn, take_in_source
    from unmask.media.sources import Source

    places = {place for place, _ in done}
    for source in sources:
        if source is None or isinstance(source, TakenIn):
            yield source
            continue
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
