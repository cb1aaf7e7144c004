"""`unmask forge`, `manifest` and `synthesise`: data sets, made and read."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from unmask.cli.options import (
    Taef2Option,
    check_result_file,
    extra,
    progress_bars,
    refuse_given,
    weights_at_hand,
)


def forge(
    context: typer.Context,
    source: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of face pictures.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder of the set; one that was begun is finished.")],
    kinds: Annotated[
        list[str] | None,
        typer.Option("--kind", metavar="KIND", help="A kind of forgery, or module:Class; repeatable. All that can be."),
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
    looks: Annotated[
        list[str] | None,
        typer.Option(
            "--look",
            metavar="NAME",
            help="How both classes were published: h264, h265, enlarged, greyscale, print-and-scan, screenshot or "
            "messenger; repeatable, one is drawn for every face.",
        ),
    ] = None,
    people: Annotated[str, typer.Option(help="What is one person: each file, or each folder.")] = "file",
    taef2: Taef2Option = None,
    weights: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Folder with published weights, for kinds that need some; weights/ in $UNMASK_DATA if left out.",
        ),
    ] = None,
    workers: Annotated[int, typer.Option(min=1, max=256, help="With --sequence, processes that make pictures.")] = 2,
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 0,
) -> None:
    """Make a labelled data set from a folder of faces: every forgery marked as synthetic, with mask and record."""
    if sequence:
        refuse_given(context, ("kinds", "nir", "looks", "perturbation", "weights"), "does not go with --sequence")
    else:
        refuse_given(context, ("tools", "held_out", "workers"), "goes with --sequence alone")
    with extra("lab", "unmask forge"):
        from unmask.forging.component_edit_set import forge_component_edits
        from unmask.forging.forge_set import forge_folder
        from unmask.forging.makers import default_kinds

        left_out: tuple[tuple[str, str], ...] = ()
        with progress_bars() as progress:
            if sequence:
                edited = forge_component_edits(
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
                    progress=progress,
                )
                skipped, empty = edited.skipped, edited.empty_splits
                counts = [
                    f"{edited.folder}: {edited.people} people",
                    *(f"{sum(lengths.values())} {split}" for split, lengths in edited.lengths.items()),
                ]
            else:
                made = forge_folder(
                    source,
                    out,
                    kinds or default_kinds(),
                    count,
                    seed,
                    size=size,
                    perturbation=perturbation,  # type: ignore[arg-type]  # checked there
                    nir=nir,
                    looks=looks or (),
                    people=people,  # type: ignore[arg-type]  # checked there
                    taef2=taef2,
                    weights=weights or weights_at_hand(),
                    progress=progress,
                )
                skipped, empty, left_out = made.skipped, made.empty_splits, made.left_out
                numbers = [f"{number} {family}" for family, number in made.families.items()]
                counts = [f"{made.manifest}: {numbers[0]}", *numbers[1:]]
    for family, reason in left_out:
        print(f"unmask: left out {family}: {reason}", file=sys.stderr)
    for path, reason in skipped:
        print(f"unmask: passed over {path}: {reason}", file=sys.stderr)
    if empty:
        splits = " and ".join(empty)
        print(f"unmask: nobody fell into the split {splits}; give more faces, or change the manifest", file=sys.stderr)
    print(", ".join(counts))


def manifest(
    data: Annotated[Path, typer.Argument(metavar="PATH", help="A data set in a layout that can be read.")],
    out: Annotated[Path, typer.Option(metavar="FILE.csv", help="The manifest to write.")],
    layout: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Its layout, or module:Class; recognised if left out."),
    ] = None,
) -> None:
    """Write a data set's manifest as it would be read: labels, families, subjects, splits; to check or to change."""
    check_result_file("--out", out, data)
    with extra("lab", "unmask manifest"):
        from unmask.datasets.layouts import detect_layout, read_layout
        from unmask.datasets.manifest import write_manifest
        from unmask.forging.families import made_here, to_make

        layout = layout or detect_layout(data)
        samples = read_layout(data, layout)
        write_manifest(samples, out)
    train = [sample for sample in samples if sample.split == "train"]
    made = to_make(made_here(), {sample.family for sample in train if sample.label})
    counts: dict[tuple[str, str], int] = {}
    for sample in samples:
        key = sample.split, sample.family
        counts[key] = counts.get(key, 0) + 1
    print(f"{out}: {len(samples)} pictures, read as {layout}")
    for (split, family), number in sorted(counts.items()):
        print(f"  {split:5} {family:20} {number}")
    if made and not all(sample.label for sample in train):
        print(
            f"to train a detector, unmask train also makes from the reals: {', '.join(made)} (--without leaves one out)"
        )


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
        refuse_given(context, ("size", "tools", "held_out", "taef2"), "goes with --sequence alone")
    with extra("lab", "unmask synthesise"):
        from unmask.forging.mobilestylegan import synthesise
        from unmask.forging.style_edit_set import forge_style_edits

        with progress_bars() as progress:
            if sequence:
                made = forge_style_edits(
                    out,
                    count,
                    seed,
                    size=size,
                    tools=tools,  # type: ignore[arg-type]  # checked there
                    held_out=held_out,
                    taef2=taef2,
                    progress=progress,
                )
            else:
                synthesise(out, count, seed, progress=progress)
    if sequence:
        numbers = (f"{sum(lengths.values())} {split}" for split, lengths in made.lengths.items())
        print(f"{made.folder}: {', '.join(numbers)}")
