"""`unmask search`: which photo matches this drawing? What a command needs is imported only when it runs."""

import sys
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from unmask.cli.groups import Group
from unmask.cli.options import command_line, extra, print_json, progress_bars
from unmask.files import Output, begins_with, check_outputs

if TYPE_CHECKING:
    from unmask.retrieval.answers import Answer

app = typer.Typer(
    cls=Group, no_args_is_help=True, help="Which photo matches this drawing? Searches photos by sketches."
)

PackOption = Annotated[
    str | None,
    typer.Option(metavar="NAME|FOLDER", help="Model of the task sketch_search: an embedded pack or a folder."),
]


@app.command()
def index(
    photos: Annotated[Path, typer.Argument(metavar="PHOTOS", help="Folder of photos, with its subfolders.")],
    out: Annotated[Path, typer.Option(metavar="INDEX", help="Folder of the index: made, or brought up to date.")],
    faces: Annotated[
        bool, typer.Option("--faces", help="Index the faces in the photos, for drawings of faces.")
    ] = False,
    pack: PackOption = None,
    kind: Annotated[
        Literal["auto", "exact", "ivf", "hnsw", "pq"],
        typer.Option(help="Compare with all, or approximately; auto compares with all up to a million."),
    ] = "auto",
    jobs: Annotated[int, typer.Option(min=1, max=256, help="Worker processes.")] = 1,
    engine: Annotated[
        Literal["local", "spark"],
        typer.Option(help="Who reads and embeds: processes of this machine, or a Spark session's workers."),
    ] = "local",
) -> None:
    """Index a folder of photos, or bring its index up to date; stopped, the same command goes on.

    Exit code 0: the index is whole; 2: wrong usage or data; 130: interrupted.
    """
    with extra("search", "unmask search"):
        import faiss  # noqa: F401 (before hours of work, not after)

        from unmask.interruption import Interruption
        from unmask.retrieval.building import build_index

        with Interruption(), progress_bars() as progress:
            try:
                built = build_index(photos, out, pack, faces, kind, jobs, progress, engine)
            except KeyboardInterrupt:
                progress.note(f"interrupted; the same command goes on where it stopped: {command_line()}")
                raise typer.Exit(130) from None
    manifest = built.manifest
    what = "faces" if manifest.faces else "pictures"
    print(f"{out}: {manifest.rows:,} {what} of {manifest.files:,} files; new {built.added:,}, gone {built.removed:,}")
    for code, count in manifest.refused.items():
        print(f"  not indexed: {count:,} {code}")
    if manifest.copies:
        print(f"  copies of other files: {manifest.copies:,}")
    if manifest.shortlist is not None:
        shortlist = manifest.shortlist
        print(
            f"  {shortlist.faiss}: {100 * shortlist.recall:.1f} % of the {shortlist.depth} nearest are in the "
            f"shortlist of {shortlist.length}"
        )
    print(f"search it: unmask search find SKETCH --index {out}")


@app.command()
def find(
    sketches: Annotated[
        list[str], typer.Argument(metavar="SKETCH", help='Drawings, folders of them, or "-" for standard input.')
    ],
    index: Annotated[Path, typer.Option(metavar="INDEX", help="Folder of `unmask search index`.")],
    top: Annotated[int, typer.Option(min=1, max=10_000, help="Hits for each drawing.")] = 20,
    order: Annotated[
        Literal["plain", "clusters", "both"] | None,
        typer.Option(
            help="By the distance to each photo, or also to the photos that it resembles; plain for faces and "
            "clusters for whole pictures if left out."
        ),
    ] = None,
    json: Annotated[str | None, typer.Option(metavar="FILE|-", help="Write one JSON answer per line.")] = None,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Write one self-contained HTML page.")] = None,
    scores: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the cosine of each hit by photo name, for `unmask trace`; CSV."),
    ] = None,
    identifier: Annotated[str, typer.Option(metavar="NAME", help="First column of --scores.")] = "id",
    pack: PackOption = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No table.")] = False,
) -> None:
    """Find the photos that drawings show: ranked, each with both distances and why.

    Exit code 0: all drawings were searched with; 1: some were refused; 2: wrong usage or data; 130: interrupted.
    """
    _check_outputs(sketches, index, json, html, scores)
    with extra("search", "unmask search"):
        from rich.console import Console

        from unmask.interruption import Interruption
        from unmask.retrieval.answers import Searcher
        from unmask.retrieval.page import search_page

        searcher = Searcher(index, top, order, pack)
        refused = count = 0
        with ExitStack() as stack:
            interruption = stack.enter_context(Interruption())
            write: Callable[[str], object] | None = print_json if json == "-" else None
            if json is not None and json != "-":
                write = partial(print, file=stack.enter_context(Path(json).open("w", encoding="utf-8")))
            page = None
            if html is not None:
                page = stack.enter_context(search_page(html, searcher.index.manifest, command_line()))
            console = Console()
            try:
                for answer, sketch in searcher.answers(sketches):
                    with interruption.held_back():
                        count += 1
                        refused += answer.refusal is not None
                        if write is not None:
                            write(answer.model_dump_json())
                        if page is not None:
                            page.add(answer, sketch)
                        if scores is not None:
                            _write_scores(scores, identifier, answer, count)
                        if not quiet and json != "-":
                            _print(console, answer)
            except KeyboardInterrupt:
                print(f"unmask: interrupted; drawings searched with: {count}", file=sys.stderr)
                raise typer.Exit(130) from None
    if not count:
        print("unmask: nothing to do: no pictures there; give files or a folder", file=sys.stderr)
        raise typer.Exit(2)
    raise typer.Exit(1 if refused else 0)


@app.command()
def draw(
    photos: Annotated[Path, typer.Argument(metavar="PHOTOS", help="Folder of photos, with its subfolders.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder of the set; one that was begun is finished.")],
    style: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="hed, xdog or pencil; repeatable, one is drawn for each photo. Default: all."
        ),
    ] = None,
    size: Annotated[int, typer.Option(min=32, max=4096, help="Longer side in pixels at most.")] = 256,
    exact: Annotated[bool, typer.Option("--exact", help="Bend no lines and leave none out.")] = False,
    most: Annotated[int, typer.Option(min=0, help="Photos at most, the first by name; 0: all.")] = 0,
    seed: Annotated[int, typer.Option(help="Of styles, bent lines and gaps.")] = 0,
) -> None:
    """Make line drawings of photos: a set of pairs to train sketch search with."""
    with extra("lab", "unmask search draw"):
        from unmask.lab.search.drawing_set import STYLES, draw_photos

        with progress_bars() as progress:
            count = draw_photos(photos, out, tuple(style or STYLES), size, seed, exact, most, progress)
    print(f"{out}: {count:,} photos with a drawing each; train on it: unmask train sketch-face --data {out} --run DIR")


@app.command()
def concepts(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder of the set; one that was begun is finished.")],
    sketches: Annotated[
        Literal["fluent", "openmoji"],
        typer.Option(help="Whose drawings: Fluent's glyphs and lines of its pictures, or OpenMoji's line drawings."),
    ] = "fluent",
    size: Annotated[int, typer.Option(min=32, max=1024, help="Side of the pictures in pixels.")] = 160,
    seed: Annotated[int, typer.Option(help="Of bent lines.")] = 0,
) -> None:
    """Draw hundreds of things in several styles: a set of classes to train sketch search with.

    The pictures are those of Fluent Emoji (MIT) and OpenMoji (CC-BY-SA 4.0), fetched once from the npm registry.
    """
    with extra("lab", "unmask search concepts"):
        from unmask.lab.search.concepts import draw_concepts

        with progress_bars() as progress:
            count = draw_concepts(out, sketches, size, seed, progress)
    print(f"{out}: {count:,} concepts; train on it: unmask train sbka --data {out} --run DIR")


@app.command()
def calibrate(
    system: Annotated[str, typer.Argument(metavar="RUN|PACK", help="What gives the similarities.")],
    data: Annotated[
        Path,
        typer.Argument(metavar="DATA", help="Set of sketches and photos of people; those not trained on are used."),
    ],
    out: Annotated[Path, typer.Option(metavar="FILE", help="Entry of a data dictionary of `unmask trace`, TOML.")],
    name: Annotated[str, typer.Option(help="Of the attribute there.")] = "sketch",
    work: Annotated[Path, typer.Option(metavar="DIR", help="Where decoded pictures are kept.")] = Path("runs/work"),
    seed: Annotated[int, typer.Option(help="Of the halves that are fitted on and measured on.")] = 0,
) -> None:
    """Fit what a similarity of sketch and photo is worth, as an attribute for `unmask trace`."""
    check_outputs([Output("--out", out, lambda path: begins_with(path, b"[attributes."))], [data])
    with extra("lab", "unmask search calibrate"):
        from unmask.files import whole
        from unmask.lab.search.config import SearchPaths
        from unmask.lab.search.likelihood import dictionary_entry, ratios_of

        with progress_bars() as progress:
            ratios = ratios_of(system, SearchPaths(data=data, work=work), progress, seed)
        with whole(out) as part:
            part.write_text(dictionary_entry(ratios, name), encoding="utf-8")
    fitted, measured = ratios.people
    print(
        f"{out}: Cllr {ratios.cllr:.3f} (at best {ratios.cllr_min:.3f}) on {measured} people, fitted on {fitted} "
        f"others; log10 LR from {ratios.points[0][1]:.2f} to {ratios.points[-1][1]:.2f}"
    )


def _print(console: "object", answer: "Answer") -> None:
    from rich.console import Console
    from rich.text import Text

    from unmask.evidence.terminal import safe_text
    from unmask.tables import terminal

    assert isinstance(console, Console)
    console.print(Text(safe_text(answer.path), style="bold"))
    if answer.refusal is not None:
        console.print(Text(safe_text(f"  not searched: {answer.refusal.code}: {answer.refusal.message}")))
    for note in answer.notes:
        console.print(Text(safe_text(f"  note: {note}")))
    for ranking in answer.rankings:
        other = "clusters" if ranking.order == "plain" else "plain"
        heads = ("", "photo", "distance", "to photo", "to centre", "cluster", f"rank, {other}")
        rows = [
            (
                str(hit.rank),
                safe_text(_shown(hit.path)) + (f" (+{len(hit.also_at)})" if hit.also_at else ""),
                f"{hit.distance:.3f}",
                f"{hit.photo_distance:.3f}",
                "" if hit.centroid_distance is None else f"{hit.centroid_distance:.3f}",
                ""
                if hit.cluster is None
                else f"{hit.cluster} of {hit.cluster_size}{'*' if hit.nearest_cluster else ''}",
                "" if hit.other_rank is None else str(hit.other_rank),
            )
            for hit in ranking.hits
        ]
        title = f"{ranking.order} order, of {answer.searched:,}; * the cluster nearest to the drawing"
        console.print(terminal(heads, rows, title, right=(heads[0], *heads[2:5], heads[6])))


def _shown(path: str) -> str:
    """A photo's path as people call it: from the folder that they are in, if it lies there."""
    here = Path.cwd()
    return str(Path(path).relative_to(here)) if Path(path).is_relative_to(here) else path


def _write_scores(path: Path, identifier: str, answer: "Answer", count: int) -> None:
    """The cosines of one drawing's hits by the photos' names without ending; the highest of a photo's faces."""
    from unmask.errors import DataError
    from unmask.tables import write_csv

    if count > 1:
        raise DataError("--scores is of one drawing; search with one at a time")
    best: dict[str, float] = {}
    for hit in answer.rankings[0].hits if answer.rankings else ():
        for place in (hit.path, *hit.also_at):
            cosine = 1 - hit.photo_distance / 2
            best[Path(place).stem] = max(cosine, best.get(Path(place).stem, -1.0))
    write_csv(path, (identifier, "score"), [(name, f"{cosine:.4f}") for name, cosine in best.items()])


def _check_outputs(
    sketches: list[str], index: Path, json: str | None, html: Path | None, scores: Path | None = None
) -> None:
    """Refuse outputs that would overwrite an input, one another, or what is not ours, before anything is read."""
    outputs = []
    if json is not None and json != "-":
        outputs.append(Output("--json", Path(json), stream=True))
    if html is not None:
        from unmask.retrieval.page import is_search_page

        outputs.append(Output("--html", html, is_search_page))
    if scores is not None:
        outputs.append(Output("--scores", scores, lambda path: begins_with(path, b",score", 200)))
    check_outputs(outputs, [*sketches, index / "index.json"])
