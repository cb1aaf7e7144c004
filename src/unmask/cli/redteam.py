"""`unmask redteam`: how easily a recogniser or a detector of one's own is fooled, and at what strength."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from unmask.cli.groups import Group
from unmask.cli.options import command_line, extra, progress_bars, weights_at_hand

if TYPE_CHECKING:
    from collections.abc import Callable

    from unmask.progress import Progress
    from unmask.redteam.campaign import Plan
    from unmask.redteam.setup import Effort, Painting

app = typer.Typer(
    cls=Group,
    help="Attack a recogniser or a detector of your own, and report how often it is fooled.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

DataArgument = Annotated[
    Path,
    typer.Argument(
        metavar="DATA",
        help="Manifest with path, subject and consent (yes or synthetic); of detectors also label.",
    ),
]
OutOption = Annotated[Path, typer.Option(metavar="DIR", help="Folder of the campaign; an unfinished one is resumed.")]
AttackOption = Annotated[
    list[str] | None,
    typer.Option("--attack", metavar="NAME", help="An attack; repeatable. Default: those that suit the victim."),
]
LevelOption = Annotated[
    list[float] | None,
    typer.Option("--level", metavar="N", help="A strength in grey levels of 255; repeatable. Default: 2, 4, 8."),
]
ShareOption = Annotated[
    list[float] | None,
    typer.Option("--share", metavar="X", help="A strength of patch and eyeglasses: share of the picture; repeatable."),
]
VictimOption = Annotated[
    list[str] | None,
    typer.Option("--victim", metavar="NAME", help="A further victim, for the transfer matrix; repeatable."),
]
StepsOption = Annotated[int, typer.Option(min=1, max=10_000, help="Gradients for one picture.")]
QueriesOption = Annotated[int, typer.Option(min=1, max=1_000_000, help="Answers for one picture, without gradients.")]
TransferOption = Annotated[str, typer.Option(metavar="NAME", help="The attack of the transfer matrix.")]
MostOption = Annotated[int, typer.Option(min=0, help="Pictures for each goal at most; 0 for all.")]
SeedOption = Annotated[int, typer.Option(help="Of everything random.")]
BatchOption = Annotated[int, typer.Option(min=1, max=1024, help="Pictures at a time.")]
GuidanceOption = Annotated[
    list[float] | None,
    typer.Option(metavar="S", help="A strength of adv-diffusion; repeatable. Default: 75, 150, 300."),
]
GeneratorOption = Annotated[
    str,
    typer.Option(metavar="PACK|DIR", help="What adv-diffusion paints with: a pack, or Stable Diffusion inpainting."),
]
Taef2Option = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Folder with the TAEF2 autoencoder, for adv-diffusion; taef2/ in --weights."),
]
WeightsOption = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Folder with the face parser, for adv-diffusion; weights/ in $UNMASK_DATA."),
]
SurrogateOption = Annotated[
    list[str] | None,
    typer.Option("--surrogate", metavar="NAME", help="A victim that adv-diffusion asks; repeatable. Default: others."),
]
ConstantOption = Annotated[bool, typer.Option("--constant", help="Guide adv-diffusion alike at every step.")]
CompositedOption = Annotated[
    bool, typer.Option("--composited", help="Lay the face as it was over what adv-diffusion paints.")
]
WhiteBoxOption = Annotated[bool, typer.Option("--white-box", help="Let adv-diffusion ask the attacked model too.")]
ThresholdOption = Annotated[float | None, typer.Option(help="Logit above which a face counts as forged.")]


@app.command()
def recogniser(
    target: Annotated[
        str,
        typer.Argument(metavar="TARGET", help="sface, facenet, mobilefacenet, faceres, dlib, or module:Class."),
    ],
    data: DataArgument,
    out: OutOption,
    goal: Annotated[
        Literal["impersonate", "dodge", "both"], typer.Option(help="Be taken for another, or not be recognised.")
    ] = "both",
    impostors: Annotated[
        Path | None,
        typer.Option(metavar="DIR|CSV", help="Manifest (path, subject) behind the thresholds; DATA if none."),
    ] = None,
    false_match_rate: Annotated[float, typer.Option(help="Of the thresholds, on the impostors.")] = 0.01,
    victim: VictimOption = None,
    attack: AttackOption = None,
    level: LevelOption = None,
    share: ShareOption = None,
    steps: StepsOption = 20,
    queries: QueriesOption = 500,
    transfer: TransferOption = "mi-fgsm",
    most: MostOption = 0,
    seed: SeedOption = 0,
    batch: BatchOption = 8,
    guidance: GuidanceOption = None,
    generator: GeneratorOption = "inpainting",
    taef2: Taef2Option = None,
    weights: WeightsOption = None,
    surrogate: SurrogateOption = None,
    constant: ConstantOption = False,
    composited: CompositedOption = False,
    white_box: WhiteBoxOption = False,
) -> None:
    """Attack a face recogniser: impersonation and dodging, at a stated false-match rate."""
    with extra("redteam", "unmask redteam"):
        from unmask.redteam.setup import plan_recogniser

        painting = _painting(generator, taef2, weights, surrogate, constant, composited, white_box)
        effort = _effort(
            *(attack, level, share, guidance, steps, queries, transfer, most, seed, batch), painting=painting
        )
        goals = ("impersonate", "dodge") if goal == "both" else (goal,)
        _carry_out(
            out,
            lambda progress: plan_recogniser(
                target, data, effort, victim or (), impostors, false_match_rate, goals, progress
            ),
        )


@app.command()
def detector(
    target: Annotated[str, typer.Argument(metavar="RUN[,RUN...]", help="A run folder, or several to fuse.")],
    data: DataArgument,
    out: OutOption,
    threshold: ThresholdOption = None,
    victim: VictimOption = None,
    attack: AttackOption = None,
    level: LevelOption = None,
    share: ShareOption = None,
    steps: StepsOption = 20,
    queries: QueriesOption = 500,
    transfer: TransferOption = "mi-fgsm",
    most: MostOption = 0,
    seed: SeedOption = 0,
    batch: BatchOption = 8,
    guidance: GuidanceOption = None,
    generator: GeneratorOption = "inpainting",
    taef2: Taef2Option = None,
    weights: WeightsOption = None,
    surrogate: SurrogateOption = None,
    constant: ConstantOption = False,
    composited: CompositedOption = False,
    white_box: WhiteBoxOption = False,
) -> None:
    """Attack a forgery detector of the lab with gradients: forged to real, and real to forged."""
    with extra("redteam", "unmask redteam"):
        from unmask.redteam.setup import plan_detector

        painting = _painting(generator, taef2, weights, surrogate, constant, composited, white_box)
        effort = _effort(
            *(attack, level, share, guidance, steps, queries, transfer, most, seed, batch), painting=painting
        )
        _carry_out(
            out, lambda progress: plan_detector("detector", target, data, effort, victim or (), threshold, progress)
        )


@app.command()
def pack(
    target: Annotated[str, typer.Argument(metavar="PACK", help="A pack's name or folder.")],
    data: DataArgument,
    out: OutOption,
    white_box: Annotated[
        bool, typer.Option("--white-box", help="Attack it with the gradients of its ONNX graph too.")
    ] = False,
    threshold: ThresholdOption = None,
    victim: VictimOption = None,
    attack: AttackOption = None,
    level: LevelOption = None,
    share: ShareOption = None,
    steps: StepsOption = 20,
    queries: QueriesOption = 500,
    transfer: TransferOption = "mi-fgsm",
    most: MostOption = 0,
    seed: SeedOption = 0,
    batch: BatchOption = 8,
    guidance: GuidanceOption = None,
    generator: GeneratorOption = "inpainting",
    taef2: Taef2Option = None,
    weights: WeightsOption = None,
    surrogate: SurrogateOption = None,
    constant: ConstantOption = False,
    composited: CompositedOption = False,
) -> None:
    """Attack a model pack as a black box, or with its gradients; a run named with --victim attacks it by transfer."""
    with extra("redteam", "unmask redteam"):
        from unmask.redteam.setup import plan_detector

        painting = _painting(generator, taef2, weights, surrogate, constant, composited, white_box)
        effort = _effort(
            *(attack, level, share, guidance, steps, queries, transfer, most, seed, batch), painting=painting
        )
        _carry_out(
            out,
            lambda progress: plan_detector("pack", target, data, effort, victim or (), threshold, progress, white_box),
        )


@app.command()
def card(
    campaign: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of a finished `unmask redteam pack`.")],
    pack: Annotated[str, typer.Argument(metavar="PACK", help="The pack that was attacked: its name or folder.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder of the new pack; it must not be there yet.")],
) -> None:
    """Put what a campaign measured on the card of the pack that it attacked, as a new pack."""
    with extra("redteam", "unmask redteam"):
        from unmask.packs.strength import in_words
        from unmask.redteam.pack_card import put_on_card

        made = put_on_card(campaign, pack, out)
    for line in in_words(made.card.strength):
        print(line)
    print(f"{made.folder}: {made.card.name} {made.card.version}, with its strength curve on the card")


def _effort(
    attacks: list[str] | None,
    levels: list[float] | None,
    shares: list[float] | None,
    guidance: list[float] | None,
    steps: int,
    queries: int,
    transfer: str,
    most: int,
    seed: int,
    batch: int,
    painting: "Painting",
) -> "Effort":
    from unmask.redteam.setup import Effort

    usual = Effort()
    return Effort(
        tuple(dict.fromkeys(attacks or ())),
        tuple(dict.fromkeys(levels or usual.levels)),
        tuple(dict.fromkeys(shares or usual.shares)),
        *(steps, queries, transfer, most, seed, batch),
        tuple(dict.fromkeys(guidance or usual.guidance)),
        painting,
    )


def _painting(
    generator: str,
    taef2: Path | None,
    weights: Path | None,
    surrogates: list[str] | None,
    constant: bool,
    composited: bool,
    white_box: bool,
) -> "Painting":
    from unmask.redteam.setup import Painting

    weights = weights or weights_at_hand()
    taef2 = taef2 or (weights / "taef2" if weights else None)
    chosen = tuple(dict.fromkeys(surrogates or ()))
    return Painting(generator, taef2, weights, chosen, not constant, composited, white_box)


def _carry_out(out: Path, made: "Callable[[Progress], Plan]") -> None:
    from rich.console import Console

    from unmask.redteam.campaign import run
    from unmask.redteam.measures import Lpips
    from unmask.redteam.report import curve_rows, write_report
    from unmask.redteam.summary import kid_features, summarise
    from unmask.tables import terminal

    lpips = Lpips.at_hand()  # before the work: a file that is none is refused
    with progress_bars() as progress:
        plan = made(progress)
        try:
            records = run(plan, out, progress)
        except KeyboardInterrupt:
            progress.note(f"interrupted; the same command goes on where it stopped: {command_line()}")
            raise
        progress.note("computing intervals")
        summary = summarise(plan, records, out, kid_features(), lpips)
    write_report(summary, out, command_line())
    heads = ("attack", "goal", "strength", "success", "95 % interval", "pictures")
    Console().print(terminal(heads, curve_rows(summary), right=heads[2:]))
    print(f"{out}: finished, see {out / 'report.html'}")
