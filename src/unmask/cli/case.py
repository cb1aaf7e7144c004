"""`unmask case`, `note`, `page`, `bundle` and `verify`: reports as parts of a case, kept and repeated."""

import json as serialiser
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from unmask.cli.options import check_result_file, progress_bars
from unmask.errors import DataError

if TYPE_CHECKING:
    from unmask.inspection.verification import Verification

ReportsArgument = Annotated[Path, typer.Argument(metavar="REPORT", help="A file that `unmask inspect --json` wrote.")]
JobsOption = Annotated[int, typer.Option(min=1, max=256, help="Worker processes.")]

_WORDS = {
    "same": "same",
    "differs": "differs",
    "media_missing": "media missing",
    "media_changed": "media changed",
}
_NEXT_STEPS = {
    "media_missing": "Media missing: put the files back where the report names them, or beside the report under the "
    "same name, and verify again; or verify a bundle, which brings them.",
    "media_changed": "Media changed: another file has this name. Look for the one with the report's SHA-256, in a "
    "backup or the bundle; if the new one is meant, inspect it anew.",
    "differs": "Differs: where other versions or packs are named above, verify again with those of the report; with "
    "the same ones, the report is not what they give for these media.",
}
_SHOWN = 40  # differences in the table


def case(
    file: Annotated[Path, typer.Argument(metavar="FILE.toml", help="The file to write; it must not be there yet.")],
) -> None:
    """Write an empty case file: case, exhibit, examiner, laboratory, notes. Fill it in for `unmask inspect --case`."""
    from unmask.evidence.case_file import TEMPLATE
    from unmask.files import whole

    check_result_file("case file", file, Path())
    with whole(file) as part:
        part.write_text(TEMPLATE, encoding="utf-8")
    print(f"{file}: fill it in, then unmask inspect PICTURE --case {file}")


def note(
    report: ReportsArgument,
    conclusion: Annotated[str, typer.Option(metavar="WORDS", help="What you conclude of the file.")],
    by: Annotated[str, typer.Option(metavar="NAME", help="Who concludes it.")],
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Why.")],
    file: Annotated[
        str | None, typer.Option(metavar="PATH", help="Which picture or video, if there are several reports.")
    ] = None,
) -> None:
    """Record an examiner's conclusion beside the machine's answer, with its time; the answer itself stays as it is.

    `unmask page` writes the page anew with it.
    """
    from unmask.evidence.notes import add_note
    from unmask.evidence.report import ExaminerNote
    from unmask.evidence.terminal import safe_text
    from unmask.provenance import utc_text

    words = {"--conclusion": conclusion, "--by": by, "--reason": reason}
    for option, text in words.items():
        if not text.strip():
            raise typer.BadParameter(f"{option} is empty: a note needs a conclusion, a name and a reason")
    made = ExaminerNote(time=utc_text(), by=by.strip(), conclusion=conclusion.strip(), reason=reason.strip())
    noted = add_note(report, file, made)
    print(safe_text(f"{noted.path}: note {len(noted.notes)}, {made.time}, by {made.by}: {made.conclusion}"))


def page(
    report: ReportsArgument,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the page.")] = None,
    pdf: Annotated[Path | None, typer.Option(metavar="FILE", help="Write it as a PDF file; extra pdf.")] = None,
    jobs: JobsOption = 1,
) -> None:
    """Write the page of reports anew, with the notes that were made since.

    The media are inspected again for their pictures. Of one that is missing, has changed or does not give the same
    report any more, the page has no pictures.
    """
    from unmask.evidence.html import is_html_report, part_of
    from unmask.evidence.pdf import check_pdf
    from unmask.files import Output, check_outputs
    from unmask.inspection.bundle import write_page
    from unmask.inspection.verification import MediaFiles

    if html is None and pdf is None:
        raise typer.BadParameter("nothing to write: give --html FILE or --pdf FILE")
    outputs = []
    if html is not None:
        outputs += [Output("--html", place, is_html_report) for place in (html, part_of(html))]
    if pdf is not None:
        check_pdf()
        outputs.append(Output("--pdf", pdf))
    check_outputs(outputs, [report])
    with progress_bars(transient=True) as progress:
        without = write_page(report, MediaFiles(report), html, pdf, jobs=jobs, progress=progress)
    print(f"written: {', '.join(str(place) for place in (html, pdf) if place is not None)}")
    _tell_without(without)


def bundle(
    report: ReportsArgument,
    out: Annotated[Path, typer.Option(metavar="FILE", help="The bundle to write; it must not be there yet.")],
    jobs: JobsOption = 1,
) -> None:
    """Put reports, media, packs and a page into one file that `unmask verify` can check on another machine."""
    from unmask.inspection.bundle import write_bundle

    with progress_bars(transient=True) as progress:
        made = write_bundle(report, out, jobs=jobs, progress=progress)
    files = len(set(made.manifest.media.values()))
    print(f"{out}: {made.bytes / 1e6:,.1f} MB, media files: {files}, packs: {len(made.manifest.packs)}")
    print(f"SHA-256 {made.sha256}")
    print("Note this hash elsewhere: whoever can replace the bundle can replace what is in it.")
    _tell_without(made.differing)


def _tell_without(paths: tuple[str, ...]) -> None:
    from unmask.evidence.terminal import safe_text

    if paths:
        named = ", ".join(map(safe_text, paths[:3])) + (" …" if len(paths) > 3 else "")
        print(f"Without pictures, for a second inspection said otherwise or could not be made: {named}")


def verify(
    report: Annotated[
        Path, typer.Argument(metavar="REPORT|BUNDLE", help="A file that `--json` wrote, or one of `unmask bundle`.")
    ],
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON instead of tables.")] = False,
    jobs: JobsOption = 1,
) -> None:
    """Inspect the same media again with the same packs and options, and compare every field of the reports.

    Hashes are compared first. Exit code 0: all is the same, within the tolerances that are printed; 1: something
    differs; 2: it cannot be verified, or the bundle was altered; 4: media are missing or have changed.
    """
    from unmask.inspection.bundle import is_bundle, opened_bundle
    from unmask.inspection.verification import verify as verified

    if not report.exists():
        raise DataError(f"{report}: is not there; give a file that --json or unmask bundle wrote")
    with progress_bars(transient=True) as progress:
        if is_bundle(report):
            with opened_bundle(report) as opened:
                result = verified(opened.reports, opened.media, jobs=jobs, progress=progress)
            hashes = f"Bundle: SHA-256 {opened.sha256}; the entries have the hashes of its manifest."
        else:
            result, hashes = verified(report, jobs=jobs, progress=progress), ""
    if json:
        print(serialiser.dumps(result.as_json(), indent=1, ensure_ascii=False))
    else:
        _print(result, hashes)
    counts = result.counts
    lost = counts["media_missing"] + counts["media_changed"]
    raise typer.Exit(4 if lost else 1 if counts["differs"] else 0)


def _print(result: "Verification", hashes: str) -> None:
    from rich.console import Console
    from rich.text import Text

    from unmask.evidence.comparison import TOLERANCES
    from unmask.evidence.terminal import safe_text
    from unmask.tables import terminal

    console = Console()
    rows: list[tuple[str, ...]] = []
    for one in result.files:
        largest = "" if one.largest is None else f"{one.largest.get('log10 LR', 0.0):.4f}"
        rows.append((safe_text(one.path), _WORDS[one.result], str(len(one.differences) or ""), largest))
    heads: tuple[str, ...] = ("File", "Result", "Fields that differ", "log10 LR differs by")
    console.print(terminal(heads, rows, right={heads[2], heads[3]}))
    differing = [(one.path, difference) for one in result.files for difference in one.differences]
    if differing:
        rows = [
            (
                safe_text(path),
                difference.field,
                safe_text(_short(difference.recorded)),
                safe_text(_short(difference.now)),
                "" if difference.size is None else f"{difference.size:.3g}",
                "" if difference.tolerance is None else f"{difference.tolerance:g}",
            )
            for path, difference in differing[:_SHOWN]
        ]
        heads = ("File", "Field", "Recorded", "Now", "Difference", "Tolerance")
        console.print(terminal(heads, rows, right={"Difference", "Tolerance"}))
        if len(differing) > _SHOWN:
            console.print(f"{len(differing) - _SHOWN} more; --json has all of them")
    if hashes:
        console.print(hashes)
    console.print(f"Tolerances: {', '.join(map(str, TOLERANCES))}; anything else must be equal.")
    sizes = ", ".join(f"{quantity} {size:.2g}" for quantity, size in result.largest.items() if size)
    console.print(f"Largest differences: {sizes or 'none'}.")
    if result.now:
        changed = [f"{name} {before}, now {now}" for name, (before, now) in result.changed_versions().items()]
        console.print(f"Other versions: {'; '.join(changed) or 'none'}.")
    for name, same in result.packs.items():
        if not same:
            console.print(Text(f"Pack {safe_text(name)}: not the one that comes with this version of unmask."))
    counts = result.counts
    counted = ", ".join(f"{counts[kind]} {word}" for kind, word in _WORDS.items() if counts[kind])
    for one in result.files:
        for noted in one.notes:
            said = f"{one.path}: examiner's conclusion, not verified: {noted.conclusion} ({noted.by}, {noted.time})"
            console.print(Text(safe_text(said)))
    for kind, step in _NEXT_STEPS.items():
        if counts[kind]:
            console.print(step)
    console.print(f"{len(result.files)} {'report' if len(result.files) == 1 else 'reports'}: {counted}", style="bold")


def _short(value: object) -> str:
    text = f"{value:.4f}" if isinstance(value, float) else "none" if value is None else str(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
