"""`unmask federate`: one detector trained by several organisations, none of which shows its pictures."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from typer.core import TyperGroup

from unmask.cli.options import (
    Taef2Option,
    WorkersOption,
    WorkOption,
    command_line,
    extra,
    progress_bars,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    import click  # newer Typers bring one of their own

    from unmask.federation.plan import Plan
    from unmask.federation.privacy import Mechanism, Privacy
    from unmask.federation.rounds import FederationConfig
    from unmask.lab.detection.config import DetectionPaths, DetectionTrainConfig

_RUN = "run"


class _RunByDefault(TyperGroup):
    """`unmask federate DATA` is `unmask federate run DATA`: what is no subcommand's name is a data set's path."""

    def parse_args(self, ctx: "click.Context", args: list[str]) -> list[str]:
        """Put the default subcommand in front of what names none."""
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = [_RUN, *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_RunByDefault,
    help="Train one detector together without pooling faces.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

DataArgument = Annotated[
    Path, typer.Argument(metavar="DATA", help="Folder of known collections, a manifest, or any layout that is read.")
]
ClientsOption = Annotated[int, typer.Option(min=2, max=10_000, help="How many clients the data is dealt out to.")]
SplitOption = Annotated[
    Literal["type", "dirichlet", "source", "subject"],
    typer.Option(
        help="Who holds what: one client a family (type), families in uneven shares (dirichlet), collections (source), "
        "people at random (subject)."
    ),
]
AlphaOption = Annotated[float, typer.Option(min=0.01, max=1000, help="Of dirichlet: small for uneven shares.")]
HeldOutOption = Annotated[
    str, typer.Option(metavar="FAMILY", help="A family that no client holds, for the test on the unknown.")
]
MadeOption = Annotated[
    list[str] | None,
    typer.Option(
        "--make", metavar="FAMILY", help="A family made from real faces; repeatable. Default: the quick ones."
    ),
]
SyntheticOption = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Faces made by `unmask synthesise`, as one more family.")
]
SeedOption = Annotated[int, typer.Option(help="Of everything random.")]
RoundsOption = Annotated[
    int,
    typer.Option(min=1, help="Rounds of averaging."),
]
LocalStepsOption = Annotated[
    int,
    typer.Option(min=1, help="Optimiser steps of a client in a round."),
]
MethodOption = Annotated[
    str,
    typer.Option(metavar="METHOD", help="A detector; `unmask models` lists them."),
]
SettingsOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="An option of the method; repeatable."),
]
AggregatorOption = Annotated[
    str,
    typer.Option(help="fedavg, fedprox, fedavgm, fedadam, fedyogi, median, trimmed or krum."),
]
BadOption = Annotated[
    int,
    typer.Option(min=0, help="Bad clients a round that trimmed and krum are to withstand."),
]
ProximalOption = Annotated[
    float,
    typer.Option(min=0, help="FedProx: how firmly clients are held near the others."),
]
NormalisationOption = Annotated[
    Literal["shared", "local", "group"] | None,
    typer.Option(
        help="Average normalisations (shared), leave them with the clients (local: FedBN), or put group in place "
        "of batch normalisations. [default: shared; group with --privacy]",
    ),
]
CompressionOption = Annotated[
    Literal["none", "fp16", "int8"],
    typer.Option(help="Of the clients' updates, with error feedback."),
]
PerRoundOption = Annotated[
    int,
    typer.Option(min=0, help="Clients asked a round; 0 for all."),
]
SecureOption = Annotated[
    bool, typer.Option("--secure-aggregation", help="The server learns the sum of the updates, and none of them.")
]
PrivacyOption = Annotated[
    Literal["central", "local", "distributed", "dp-sgd"] | None,
    typer.Option(
        help="Who adds the noise: the server, every client to its update, every client a part of the server's "
        "(distributed: with --secure-aggregation), or every client to its pairs."
    ),
]
EpsilonOption = Annotated[
    float,
    typer.Option(help="Of --privacy, after all rounds."),
]
DeltaOption = Annotated[
    float,
    typer.Option(help="Of --privacy."),
]
ClipOption = Annotated[
    float,
    typer.Option(help="Of --privacy: length that updates or gradients are shortened to."),
]
PairsOption = Annotated[
    int,
    typer.Option(min=1, help="Training pairs to make, over all clients."),
]
BatchPairsOption = Annotated[
    int,
    typer.Option(min=1, help="Pairs in a step."),
]
SizeOption = Annotated[
    int | None,
    typer.Option(min=64, max=1024, help="Side of the faces; the method's own."),
]
LearningRateOption = Annotated[
    float,
    typer.Option(help="Peak learning rate, over all rounds."),
]


def _plan(
    paths: "DetectionPaths", clients: int, split: str, alpha: float, held_out: str, made: list[str] | None, seed: int
) -> "Plan":
    from unmask.federation.plan import QUICK, make_plan

    return make_plan(paths.samples(), clients, split, made or QUICK, alpha, held_out, seed)  # type: ignore[arg-type]


def _promise(
    mechanism: "Mechanism | None",
    epsilon: float,
    delta: float,
    clip: float,
    federation: "FederationConfig",
    clients: int,
    batch_pairs: int,
) -> "Callable[[int], Privacy] | None":
    """What is promised, given how many pairs the smallest client has; the noise follows from epsilon."""
    if mechanism is None:
        return None
    from unmask.federation.privacy import Privacy, noise_for
    from unmask.federation.secure import fewest_left

    asked = federation.per_round or clients
    sharers = fewest_left(asked) if mechanism == "distributed" else 1

    def promise(pairs: int) -> "Privacy":
        rounds, steps = federation.rounds, federation.local_steps
        rate, per_round = {
            "central": (asked / clients, 1),
            "local": (1.0, 1),
            "distributed": (asked / clients, 1),
            "dp-sgd": (min(1.0, batch_pairs / pairs), steps),
        }[mechanism]
        releases = rounds * per_round
        noise = noise_for(epsilon, delta, rate, releases)
        return Privacy(mechanism, clip, noise, delta, rate, releases, per_round, sharers)

    return promise


@app.command()
def plan(
    data: DataArgument,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for plan.json, plan.html and a manifest a client.")],
    clients: ClientsOption = 5,
    split: SplitOption = "type",
    alpha: AlphaOption = 0.5,
    held_out: HeldOutOption = "",
    make: MadeOption = None,
    synthetic: SyntheticOption = None,
    seed: SeedOption = 0,
) -> None:
    """Deal a data set out to clients: writes who holds what, and draws it."""
    with extra("federated", "unmask federate plan"):
        from rich.console import Console

        from unmask.federation.report import write_plan
        from unmask.lab.detection.config import DetectionPaths
        from unmask.tables import terminal

        made = _plan(
            DetectionPaths(data=data, work=out, synthetic=synthetic), clients, split, alpha, held_out, make, seed
        )
        made.write(out)
        write_plan(made, out / "plan.html")
        rows = [
            (
                name,
                str(sum(n for f, n in counts.items() if f != "real")),
                str(counts["real"]),
                ", ".join(share.families),
            )
            for (name, counts), share in zip(made.table(), made.shares, strict=True)
        ]
        Console().print(terminal(("client", "forged", "real", "families"), rows, right=("forged", "real")))
        print(f"{out}: plan.json, plan.html, {len(made.shares)} manifests")


@app.command(_RUN)
def run(
    data: DataArgument,
    run: Annotated[Path, typer.Option(metavar="DIR", help="Run folder; an unfinished run in it is resumed.")],
    clients: ClientsOption = 5,
    rounds: RoundsOption = 20,
    local_steps: LocalStepsOption = 20,
    method: MethodOption = "fedforgery",
    settings: SettingsOption = None,
    split: SplitOption = "type",
    alpha: AlphaOption = 0.5,
    held_out: HeldOutOption = "",
    make: MadeOption = None,
    aggregator: AggregatorOption = "fedavg",
    bad: BadOption = 0,
    proximal: ProximalOption = 0.0,
    normalisation: NormalisationOption = None,
    compression: CompressionOption = "none",
    per_round: PerRoundOption = 0,
    secure_aggregation: SecureOption = False,
    privacy: PrivacyOption = None,
    epsilon: EpsilonOption = 8.0,
    delta: DeltaOption = 1e-5,
    clip: ClipOption = 1.0,
    pairs: PairsOption = 4000,
    batch_pairs: BatchPairsOption = 16,
    size: SizeOption = None,
    learning_rate: LearningRateOption = 1e-3,
    leave_one_out: Annotated[
        bool,
        typer.Option(
            "--leave-one-out",
            help="Afterwards, train as often again as there are clients, each time without one: what each gives.",
        ),
    ] = False,
    work: WorkOption = Path("runs/work"),
    synthetic: SyntheticOption = None,
    taef2: Taef2Option = None,
    workers: WorkersOption = 2,
    seed: SeedOption = 0,
) -> None:
    """Train over clients on this machine: the data is dealt out, nothing leaves its client but updates."""
    with extra("federated", "unmask federate"):
        from unmask.federation.contributions import (
            CONTRIBUTIONS,
            check_leaving_out,
            contributions,
            write_contributions,
        )
        from unmask.federation.report import write_report
        from unmask.federation.rounds import FederationConfig
        from unmask.federation.training import federate, set_up
        from unmask.lab.detection.config import DetectionPaths

        config = _config(method, settings, size, learning_rate, pairs, batch_pairs, seed)
        federation = FederationConfig(
            rounds=rounds,
            local_steps=local_steps,
            aggregator=aggregator,
            bad=bad,
            proximal=proximal,
            normalisation=_normalisation(normalisation, privacy),
            compression=compression,
            per_round=per_round,
            secure_aggregation=secure_aggregation,
            seed=seed,
        )
        _check(federation, clients, privacy)
        paths = DetectionPaths(data=data, work=work, workers=workers, synthetic=synthetic, taef2=taef2)
        dealt = _plan(paths, clients, split, alpha, held_out, make, seed)
        with progress_bars() as progress:
            promise = _promise(privacy, epsilon, delta, clip, federation, len(dealt.shares), batch_pairs)
            setting = set_up(paths, run, config, federation, dealt, progress, promise)
            if setting.privacy is not None:
                progress.note(setting.privacy.statement(rounds))
            if leave_one_out:
                check_leaving_out(setting)
            network = federate(setting, run, progress, command_line())
            if leave_one_out:
                write_contributions(contributions(setting, run, network, progress), run / CONTRIBUTIONS)
        write_report(run)
        print(f"{run}: finished, see {run / 'report.html'}; next: unmask evaluate {run} --data {data} --work {work}")


@app.command()
def server(
    run: Annotated[Path, typer.Option(metavar="DIR", help="Run folder; an unfinished run in it is resumed.")],
    clients: Annotated[int, typer.Option(min=1, max=10_000, help="How many clients are waited for.")],
    data: Annotated[
        Path | None,
        typer.Option(metavar="DATA", help="Validation data of the server's own, which the rounds are watched on."),
    ] = None,
    host: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Name or address by which clients reach this machine, for the certificate; repeatable. Without it "
            "only this machine itself does.",
        ),
    ] = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="To listen on.")] = 9092,
    admit: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder with the keys, NAME.pub, of the only clients that may join."),
    ] = None,
    timeout: Annotated[
        float | None,
        typer.Option(min=1, help="Seconds of a round; who has not answered by then is left out. Default: no limit."),
    ] = None,
    rounds: RoundsOption = 20,
    local_steps: LocalStepsOption = 20,
    method: MethodOption = "fedforgery",
    settings: SettingsOption = None,
    aggregator: AggregatorOption = "fedavg",
    bad: BadOption = 0,
    proximal: ProximalOption = 0.0,
    normalisation: NormalisationOption = None,
    compression: CompressionOption = "none",
    per_round: PerRoundOption = 0,
    secure_aggregation: SecureOption = False,
    privacy: PrivacyOption = None,
    epsilon: EpsilonOption = 8.0,
    delta: DeltaOption = 1e-5,
    clip: ClipOption = 1.0,
    pairs: PairsOption = 4000,
    batch_pairs: BatchPairsOption = 16,
    size: SizeOption = None,
    learning_rate: LearningRateOption = 1e-3,
    work: WorkOption = Path("runs/work"),
    workers: WorkersOption = 2,
    seed: SeedOption = 0,
) -> None:
    """Train over clients on other machines: wait for them, average what they send, give them the result."""
    with extra("federated", "unmask federate server"):
        from unmask.federation.deployment import Serving, serve
        from unmask.federation.report import write_report
        from unmask.federation.rounds import FederationConfig
        from unmask.lab.detection.config import DetectionPaths

        config = _config(method, settings, size, learning_rate, pairs, batch_pairs, seed)
        federation = FederationConfig(
            rounds=rounds,
            local_steps=local_steps,
            aggregator=aggregator,
            bad=bad,
            proximal=proximal,
            normalisation=_normalisation(normalisation, privacy),
            compression=compression,
            per_round=per_round,
            secure_aggregation=secure_aggregation,
            seed=seed,
        )
        _check(federation, clients, privacy)
        paths = None if data is None else DetectionPaths(data=data, work=work, workers=workers)
        serving = Serving(
            clients=clients, hosts=tuple(host or ("localhost", "127.0.0.1")), port=port, timeout=timeout, admit=admit
        )
        promise = _promise(privacy, epsilon, delta, clip, federation, clients, batch_pairs)
        with progress_bars() as progress:
            serve(run, config, federation, serving, paths, promise, progress, command_line())
        write_report(run)
        print(f"{run}: finished, see {run / 'report.html'}; next: unmask evaluate {run} --data DATA")


@app.command()
def client(
    data: DataArgument,
    run: Annotated[
        Path,
        typer.Option(metavar="DIR", help="Folder of this client: its key, what stays with it, and the result."),
    ],
    server: Annotated[str, typer.Option(metavar="HOST:PORT", help="Where the server listens.")],
    certificate: Annotated[Path, typer.Option(metavar="FILE", help="The server's RUN/tls/ca.pem.")],
    name: Annotated[str, typer.Option(metavar="NAME", help="What server and tables call this client.")],
    make: Annotated[
        list[str] | None,
        typer.Option(
            "--make",
            metavar="FAMILY",
            help="A family made from real faces; repeatable. Default: the quick ones, where DATA has no forged face.",
        ),
    ] = None,
    work: WorkOption = Path("runs/work"),
    synthetic: SyntheticOption = None,
    taef2: Taef2Option = None,
    workers: WorkersOption = 2,
) -> None:
    """Take part in the training of a server on another machine; pictures stay here."""
    with extra("federated", "unmask federate client"):
        from unmask.federation.deployment import OwnPaths, take_part

        paths = OwnPaths(data=data, work=work, workers=workers, synthetic=synthetic, taef2=taef2)
        with progress_bars() as progress:
            take_part(paths, run, name, server, certificate, make or (), progress, command_line())
        print(f"{run}: finished; next: unmask evaluate {run} --data {data} --work {work}")


def _config(
    method: str,
    settings: list[str] | None,
    size: int | None,
    learning_rate: float,
    pairs: int,
    batch_pairs: int,
    seed: int,
) -> "DetectionTrainConfig":
    """What is trained, as asked for."""
    from unmask.errors import DataError
    from unmask.lab.detection.config import DetectionTrainConfig
    from unmask.lab.methods import input_size, method_named, read_options

    known = method_named(method)
    if known.task != "forgery_detection":
        raise DataError(f"{method} is a method of the task {known.task}; only forgery detectors are federated")
    options = read_options(method, settings or ())
    return DetectionTrainConfig(
        method=method,
        options=options,
        size=size or input_size(method, options),
        learning_rate=learning_rate,
        pairs=pairs,
        batch_pairs=batch_pairs,
        seed=seed,
    )


def _normalisation(asked: str | None, privacy: "Mechanism | None") -> str:
    """What is done with normalisations, as asked for or as privacy needs it."""
    from unmask.errors import DataError

    if privacy is not None and asked in ("shared", "local"):
        raise DataError("batch normalisations mix pictures and break under noise; take --normalisation group")
    return asked or ("shared" if privacy is None else "group")


def _check(federation: "FederationConfig", clients: int, privacy: "Mechanism | None") -> None:
    """Refuse what cannot be had, before any face is looked for."""
    from unmask.errors import DataError
    from unmask.federation.rounds import check_settings

    if federation.aggregator == "fedprox" and not federation.proximal:
        raise DataError("fedprox needs --proximal, say 0.1")
    check_settings(federation, clients, privacy)
