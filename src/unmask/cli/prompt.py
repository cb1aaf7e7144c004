"""`unmask prompt`: forgery families in words. What a command needs is imported only when it runs."""

import sys
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from unmask.cli.groups import Group
from unmask.cli.options import check_result_file, command_line, extra, print_json, progress_bars
from unmask.errors import DataError

if TYPE_CHECKING:
    from unmask.prompting.learning import LearnedPack
    from unmask.prompting.scoring import PictureNaming

app = typer.Typer(
    cls=Group,
    no_args_is_help=True,
    help="Of which family is this forgery? Learns families in words from a few pictures.",
)


@app.command()
def learn(
    data: Annotated[
        Path,
        typer.Argument(metavar="DATA", help="Folder with a folder of pictures for every family, or a data set."),
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder of the prompt pack.")],
    family: Annotated[
        list[str] | None,
        typer.Option(metavar='NAME="WORDS"', help="A family and what it is in words; repeatable."),
    ] = None,
    shots: Annotated[int, typer.Option(help="Pictures of a family to learn from, at most.")] = 16,
    onto: Annotated[
        str | None,
        typer.Option(metavar="FOLDER", help="Prompt pack to add the families to; its old pictures are not needed."),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FOLDER|hf-hub:NAME",
            help="Whose features: a forgery detector's pack, one of dual-encoder, or a model of open_clip. Default: "
            "plain.",
        ),
    ] = None,
    method: Annotated[
        Literal["zero-shot", "coop", "kgcoop", "prograd", "sam-coop", "gcscoop"],
        typer.Option(help="How the prompts are learned; zero-shot takes the words as they are."),
    ] = "gcscoop",
    epochs: Annotated[int, typer.Option(min=1, help="Epochs over the shots.")] = 40,
    rho: Annotated[
        float, typer.Option(min=0.0, help="How far sam-coop and gcscoop move the context, as a share of its length.")
    ] = 0.4,
    class_specific: Annotated[
        bool, typer.Option("--class-specific", help="A context for each family in place of one for all.")
    ] = False,
    name: Annotated[str, typer.Option(help="Of the pack.")] = "prompts",
    seed: Annotated[int, typer.Option(help="Of the draw of shots and of learning.")] = 1,
    json: Annotated[Path | None, typer.Option(metavar="FILE", help="Write what was learned and lost as JSON.")] = None,
) -> None:
    """Learn forgery families from a few pictures and words; prints what adding costs the old ones.

    Stopped, the same command goes on. Exit code 0: the pack is whole; 2: wrong usage or data; 130: interrupted.
    """
    from unmask.packs import load_pack
    from unmask.packs.card import is_card

    families = _families(family or [])
    check_result_file("--out", out / "card.json", data, is_card, makes_folder=True)
    check_result_file(
        "--out", out / "model.onnx", data, lambda path: is_card(path.with_name("card.json")), makes_folder=True
    )
    check_result_file("--json", json, data)
    if onto is not None and Path(onto).resolve() == out.resolve():
        raise DataError(f"--out {out}: the pack that is added to stays as it is; give another folder")
    with extra("prompts", "unmask prompt learn"):
        from dataclasses import replace

        from unmask.interruption import Interruption
        from unmask.prompting.learning import default_options, learn_pack

        options = replace(
            default_options(), method=method, epochs=epochs, rho=rho, class_specific=class_specific, seed=seed
        )
        base = None if onto is None else load_pack(onto, "prompt_naming")
        with Interruption(), progress_bars() as progress:
            try:
                made = learn_pack(
                    *(data, families, out, model, base, shots, options, name, progress, command_line()),
                )
            except KeyboardInterrupt:
                progress.note(f"interrupted; the same command goes on where it stopped: {command_line()}")
                raise typer.Exit(130) from None
            for line in made.left_out:
                progress.note(f"left out: {line}")
    if json is not None:
        from unmask.files import whole

        with whole(json) as part:
            part.write_text(_as_json(made) + "\n", encoding="utf-8")
    _print_learned(made, out)


@app.command()
def score(
    pictures: Annotated[
        list[str], typer.Argument(metavar="PICTURE", help='Pictures, folders of them, or "-" for standard input.')
    ],
    pack: Annotated[str, typer.Option(metavar="NAME|FOLDER", help="Prompt pack.")],
    json: Annotated[str | None, typer.Option(metavar="FILE|-", help="Write one JSON answer per line.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No table.")] = False,
) -> None:
    """Name the likeliest family of pictures, with its probability and that of none of these.

    That a picture was forged is taken for granted: `unmask inspect` judges it. Exit code 0: all were named; 1: some
    were refused; 2: wrong usage or data; 130: interrupted.
    """
    from unmask.files import Output, check_outputs

    if json is not None and json != "-":
        check_outputs([Output("--json", Path(json))], pictures)
    from rich.console import Console

    from unmask.interruption import Interruption
    from unmask.packs import load_pack
    from unmask.prompting.scoring import name_pictures

    loaded, refused, count = load_pack(pack, "prompt_naming"), 0, 0
    with ExitStack() as stack:
        interruption = stack.enter_context(Interruption())
        write: Callable[[str], object] | None = print_json if json == "-" else None
        if json is not None and json != "-":
            write = partial(print, file=stack.enter_context(Path(json).open("w", encoding="utf-8")))
        console = Console()
        try:
            for answer in name_pictures(pictures, loaded):
                with interruption.held_back():
                    count += 1
                    refused += answer.refusal is not None
                    if write is not None:
                        write(answer.model_dump_json())
                    if not quiet and json != "-":
                        _print_answer(console, answer)
        except KeyboardInterrupt:
            print(f"unmask: interrupted; pictures named: {count}", file=sys.stderr)
            raise typer.Exit(130) from None
    if not count:
        print("unmask: nothing to do: no pictures there; give files or a folder", file=sys.stderr)
        raise typer.Exit(2)
    raise typer.Exit(1 if refused else 0)


def _families(given: list[str]) -> dict[str, str]:
    families: dict[str, str] = {}
    for text in given:
        name, equals, words = text.partition("=")
        name = name.strip()
        if not equals or not name:
            raise DataError(f'--family {text!r}: not NAME="WORDS", as in swap="a face swapped onto another head"')
        if name in families:
            raise DataError(f"--family {name} is given twice; give each family one name")
        families[name] = " ".join(words.split())
    return families


def _as_json(made: "LearnedPack") -> str:
    import json as serialiser
    from dataclasses import asdict

    card = made.pack.card
    content = {
        "pack": {"name": card.name, "version": card.version, "sha256": card.sha256},
        "naming": None if card.naming is None else asdict(card.naming),
        "metrics": [asdict(metric) for metric in card.metrics],
        "costs": [asdict(cost) for cost in made.costs],
        "left_out": list(made.left_out),
    }
    return serialiser.dumps(content, indent=1, ensure_ascii=False)


def _print_learned(made: "LearnedPack", out: Path) -> None:
    from rich.console import Console

    from unmask.evidence.terminal import safe_text
    from unmask.lab.evaluate import in_cell
    from unmask.tables import terminal

    naming, console = made.pack.card.naming, Console()
    assert naming is not None
    rows = [(safe_text(one.dataset), in_cell(one), str(one.n_forged)) for one in made.pack.card.metrics]
    console.print(terminal(("family", "named rightly among the families [95 %]", "pictures"), rows))
    if made.costs:
        lines = [
            (
                safe_text(cost.name),
                f"{cost.accuracy[0]:.2f} → {cost.accuracy[1]:.2f}",
                f"{cost.probability[0]:.2f} → {cost.probability[1]:.2f}",
                str(cost.n),
            )
            for cost in made.costs
        ]
        heads = ("what it cost the old families", "named rightly", "probability of the right one", "pictures")
        console.print(terminal(heads, lines))
        lost = sum(cost.accuracy[1] - cost.accuracy[0] for cost in made.costs) / len(made.costs)
        print(f"mean over the old families: {100 * lost:+.1f} points")
    print(f"{out}: calibration error {naming.error:.3f} on {naming.n} pictures ({naming.method})")
    print(f"name pictures: unmask prompt score PICTURES --pack {out}")


def _print_answer(console: object, answer: "PictureNaming") -> None:
    from rich.console import Console
    from rich.text import Text

    from unmask.evidence.report import percent
    from unmask.evidence.terminal import safe_text

    assert isinstance(console, Console)
    console.print(Text(safe_text(answer.path), style="bold"))
    if answer.refusal is not None:
        console.print(Text(safe_text(f"  not named: {answer.refusal.code}: {answer.refusal.message}")))
    for number, face in enumerate(answer.faces, start=1):
        what = f"face {number}: " if face.box is not None else ""
        if face.naming is None:
            said = "" if face.refusal is None else f"not named: {face.refusal.code}: {face.refusal.message}"
        else:
            shares = [f"{one.name} {percent(one.probability)}" for one in face.naming.families[:3]]
            said = f"{face.naming.likeliest or 'none of these'} ({', '.join(shares)}, none {percent(face.naming.none)})"
        console.print(Text(safe_text(f"  {what}{said}")))
