"""`unmask trace`: one command per question about who it is. What a command needs is imported only when it runs."""

import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

import typer

from unmask.cli.groups import Group
from unmask.cli.options import command_line, extra, print_json, progress_bars
from unmask.errors import DataError
from unmask.files import Output, check_outputs, whole

if TYPE_CHECKING:
    from rich.console import Console

    from unmask.tracing.attributes.dictionary import Dictionary

app = typer.Typer(
    cls=Group, no_args_is_help=True, help="Who is it? Traces a person in a lawful register by attributes."
)

RegisterArgument = Annotated[
    str,
    typer.Argument(
        metavar="REGISTER", help="CSV or other text, a spreadsheet, Parquet, Arrow, DuckDB or SQLite (FILE:TABLE)."
    ),
]
DictionaryOption = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Data dictionary (TOML) of `unmask trace profile`; guessed if left out."),
]
JsonOption = Annotated[str | None, typer.Option(metavar="FILE|-", help="Write the result as JSON.")]
SeedOption = Annotated[int, typer.Option(min=0, help="Of everything random.")]
Engine = Literal["memory", "duckdb", "spark"]
PolicyName = Literal["info_gain", "ec2", "two_step", "static", "random", "fixed"]


@app.command()
def find(
    register: RegisterArgument,
    answer: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE", help="What is known; NAME=? not to be had, NAME~A:0.7,B:0.3 uncertain; repeatable."
        ),
    ] = None,
    answers: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Answers, one a line, as --answer has them; before those.")
    ] = None,
    dictionary: DictionaryOption = None,
    case: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Case file: begun, or gone on with if it is there.")
    ] = None,
    purpose: Annotated[str, typer.Option(help="Why this person is looked for; kept in the case file.")] = "",
    picture: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=REPORT",
            help="The answer about NAME is from the picture of this `unmask inspect --json` report; repeatable.",
        ),
    ] = None,
    show: Annotated[
        str | None,
        typer.Option(metavar="NAME,NAME...", help="Columns of the register to show of each record that it may be."),
    ] = None,
    json: JsonOption = None,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Write one self-contained HTML page.")] = None,
    csv: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the records that it may be, all that are tied; CSV.")
    ] = None,
    policy: Annotated[PolicyName, typer.Option(help="How the next question is chosen.")] = "info_gain",
    ask: Annotated[
        str | None, typer.Option(metavar="NAME,NAME...", help="The questions of --policy fixed, in this order.")
    ] = None,
    identified: Annotated[float, typer.Option(min=0.5, max=0.999999, help="Probability that settles it.")] = 0.95,
    robust: Annotated[
        bool, typer.Option("--robust/--no-robust", help="Whether it must not hang on a single answer.")
    ] = True,
    budget: Annotated[float | None, typer.Option(min=0.0, help="Cost that may be spent.")] = None,
    absent: Annotated[
        float | None, typer.Option(min=0.0, max=0.999999, help="Prior that the person is not in the register.")
    ] = None,
    engine: Annotated[
        Engine, typer.Option(help="memory; duckdb for a register that is larger; spark for one larger than a machine.")
    ] = "memory",
    seed: SeedOption = 0,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but what --json - asks for.")] = False,
) -> None:
    """Who is it? Asks for the most useful fact next, says in bits why, and when it is settled, or cannot be.

    On a terminal and without an answer it asks; otherwise it answers once. Exit code 0: settled (identified, a set of
    candidates, not in the register); 1: not settled; 2: wrong usage or data; 130: interrupted.
    """
    with extra("trace", "unmask trace"):
        from unmask.interruption import Interruption
        from unmask.tracing.attributes.dictionary import dictionary_digest
        from unmask.tracing.case.answers import read_answers
        from unmask.tracing.case.candidates import is_candidates, with_columns, write_candidates
        from unmask.tracing.case.case_file import Opened, case_file, now
        from unmask.tracing.case.conversation import apply_answers, check_text, converse, recorder, refuse_unused
        from unmask.tracing.case.investigation import Investigation
        from unmask.tracing.inference.conclusion import StopRule
        from unmask.tracing.report.console import ConsoleDialogue, print_report
        from unmask.tracing.report.page import is_page
        from unmask.tracing.report.trace_report import is_report

        if (ask is None) == (policy == "fixed"):
            raise typer.BadParameter("--ask and --policy fixed go together")
        given = [*(read_answers(answers) if answers is not None else ()), *(answer or ())]
        _check_outputs(
            (register, dictionary, answers, *_files_in(given, picture)),
            _output("--html", html, is_page),
            _output("--json", json, is_report),
            _output("--csv", csv, is_candidates),
            _output("--case", case, lambda _: True),  # whether it is one of this register is looked at on opening
        )
        check_text(purpose, *given)
        shown = _columns(register, show)
        console = _console(json == "-", quiet)
        with console.status("reading the register") if console.is_terminal else nullcontext():
            searched = _register(register, dictionary, absent, engine, console)
        rule = StopRule(identified=identified, robust=robust, budget=budget)
        order = [name.strip() for name in (ask or "").split(",") if name.strip()]
        inquiry = Investigation(searched, rule, policy, order, seed)
        mark = dictionary_digest(searched.dictionary)
        opened = Opened(register, searched.fingerprint, mark, purpose, now())
        pictures = _pictures(picture or [], searched.dictionary)
        with Interruption() as interruption:
            file = case_file(case, opened) if case is not None else nullcontext()
            try:
                with file as kept:
                    if kept is not None:
                        for event in kept.events:
                            inquiry.apply(event)
                        if kept.mended:
                            console.print("note: the last line of the case was cut short and is dropped", style="dim")
                    apply = recorder(inquiry, kept, interruption.held_back)
                    apply_answers(inquiry, given, pictures, apply)
                    if given or not _at_a_terminal():
                        refuse_unused(inquiry, pictures)
                    if not given and _at_a_terminal() and json != "-" and not quiet:
                        shown_on = console if console.is_terminal else _console(stderr=True)
                        converse(inquiry, pictures, apply, ConsoleDialogue(shown_on))
            except KeyboardInterrupt:
                remedy = f"; go on with --case {case}" if case is not None else ""
                print(f"unmask: interrupted{remedy}", file=sys.stderr)
                raise typer.Exit(130) from None
            purpose = kept.opened.purpose if kept is not None else purpose
        with console.status("looking for what it rests on") if console.is_terminal else nullcontext():
            report = inquiry.report(register, mark, command_line(), purpose)
            report = with_columns(report, register, searched.dictionary.id, shown)
        if html is not None:
            from unmask.tracing.report.page import write_page

            write_page(report, html)
        if json is not None:
            _write_json(report.model_dump_json(indent=1), json)
        if csv is not None:
            write_candidates(inquiry, report, register, shown, csv)
        if json != "-":
            print_report(console, report)
            if report.status == "open":
                from unmask.tracing.report.console import print_questions

                print_questions(console, inquiry.questions())
        raise typer.Exit(1 if report.status in ("open", "undetermined") else 0)


@app.command()
def profile(
    register: RegisterArgument,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the data dictionary (TOML) here.")] = None,
    observed: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="Answers of known people (identifier and attributes): learns errors from them."
        ),
    ] = None,
    dictionary: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Data dictionary to learn into; guessed if left out.")
    ] = None,
) -> None:
    """Guess what the columns are and how often answers err, or learn the latter; write a data dictionary to edit."""
    with extra("trace", "unmask trace"):
        from unmask.tracing.attributes.dictionary import dictionary_text, read_dictionary
        from unmask.tracing.registers.memory import coded
        from unmask.tracing.registers.tables import fingerprint, read_table
        from unmask.tracing.report.tool_results import print_learned, print_profile
        from unmask.tracing.tools import profiling

        if dictionary is not None and observed is None:
            raise typer.BadParameter("--dictionary is what --observed learns into: give both")
        _check_outputs((register, dictionary, observed), _output("--out", out))
        console = _console(out is None)
        table = read_table(register)
        if dictionary is None:
            guessed = profiling.profile(table, register)
            described = guessed.dictionary
            print_profile(console, guessed)
        else:
            described = read_dictionary(dictionary)
        if observed is not None:
            searched = coded(table, described, fingerprint(register))
            learned = profiling.learn(described, searched, read_table(observed))
            print_learned(console, described, learned)
            described = learned
        if out is None:
            print(dictionary_text(described), end="")
        else:
            _write_text(dictionary_text(described), out)
            console.print(
                f"written: {out}; edit it, then: unmask trace find {register} --dictionary {out}", markup=False
            )


@app.command()
def audit(
    register: RegisterArgument,
    dictionary: DictionaryOption = None,
    depth: Annotated[
        int | None, typer.Option(min=1, help="Attributes taken together; as many as take about a minute if left out.")
    ] = None,
    sample: Annotated[int, typer.Option(min=1, help="People for whom a deeper core set is found exactly.")] = 200,
    person: Annotated[
        str | None, typer.Option(metavar="ID", help="Only this person: the fewest facts that single them out.")
    ] = None,
    json: JsonOption = None,
    seed: SeedOption = 0,
) -> None:
    """How few facts single people out, and which: to argue for collecting less."""
    with extra("trace", "unmask trace"):
        from dataclasses import asdict

        from unmask.tracing.report.tool_results import print_audit, print_exposure
        from unmask.tracing.tools import audit as auditing

        _check_outputs((register, dictionary), _output("--json", json))
        console = _console(json == "-")
        searched = _register(register, dictionary, None, "memory", console)
        _print_notes(searched.notes, console)
        if person is not None:
            exposed = auditing.exposure(searched, person)
            document = asdict(exposed)
        else:
            with progress_bars() as progress:
                audited = auditing.audit(searched, depth, sample, seed, progress)
            document = audited.document()
        if json is not None:
            _write_json(_as_json(document), json)
        if json != "-":
            if person is not None:
                print_exposure(console, exposed)
            else:
                print_audit(console, audited)


@app.command()
def simulate(
    register: RegisterArgument,
    dictionary: DictionaryOption = None,
    policy: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help=f"Policies to compare, of {', '.join(get_args(PolicyName))}; repeatable."),
    ] = None,
    targets: Annotated[
        int | None, typer.Option(min=1, help="People in the register to trace; 200, or half of a small one.")
    ] = None,
    absentees: Annotated[
        int | None,
        typer.Option(min=0, help="People to take out and trace all the same; 50, or an eighth of a small one."),
    ] = None,
    error: Annotated[
        float, typer.Option(min=0.0, help="Factor on the stated errors by which people really err.")
    ] = 1.0,
    missing: Annotated[float, typer.Option(min=0.0, max=0.99, help="Share of answers that are not to be had.")] = 0.0,
    adversarial: Annotated[int, typer.Option(min=0, help="Attributes about which each person lies.")] = 0,
    ask: Annotated[str | None, typer.Option(metavar="NAME,NAME...", help="The questions of --policy fixed.")] = None,
    robust: Annotated[bool, typer.Option("--robust/--no-robust", help="Must not hang on a single answer.")] = False,
    absent: Annotated[
        float | None, typer.Option(min=0.0, max=0.999999, help="Prior that the person is not in the register.")
    ] = None,
    json: JsonOption = None,
    seed: SeedOption = 0,
) -> None:
    """Try tracing on people of the register who answer with errors: how often it is right, wrong, or says so."""
    with extra("trace", "unmask trace"):
        from dataclasses import asdict

        from unmask.tracing.inference.conclusion import StopRule
        from unmask.tracing.registers.tables import read_table
        from unmask.tracing.report.tool_results import print_summaries
        from unmask.tracing.simulation import trials

        policies: list[Any] = list(policy or ["info_gain", "static", "random"])
        unknown = [one for one in policies if one not in get_args(PolicyName)]
        if unknown:
            raise typer.BadParameter(f"{unknown[0]!r} is not a policy: {', '.join(get_args(PolicyName))}")
        if (ask is None) == ("fixed" in policies):
            raise typer.BadParameter("--ask and --policy fixed go together")
        _check_outputs((register, dictionary), _output("--json", json))
        console = _console(json == "-")
        table = read_table(register)
        believed = _dictionary(register, dictionary, absent, table, console)
        noise = trials.AnswerNoise(error, missing, adversarial)
        traced = min(200, max(1, table.num_rows // 2)) if targets is None else targets
        held_out = min(50, table.num_rows // 8) if absentees is None else absentees
        benchmark = trials.benchmark_of(table, believed, traced, held_out, noise, seed)
        _print_notes(benchmark.register.notes, console)
        order = [name.strip() for name in (ask or "").split(",") if name.strip()]
        summaries = {}
        with progress_bars() as progress:
            for one in policies:
                traces = trials.run(benchmark, one, StopRule(robust=robust), noise, seed, order, progress)
                summaries[one] = trials.summary(traces, believed.absent)
        if json is not None:
            _write_json(_as_json({name: asdict(summary) for name, summary in summaries.items()}), json)
        if json != "-":
            print_summaries(console, summaries)


@app.command()
def deduplicate(
    register: RegisterArgument,
    out: Annotated[Path, typer.Option(metavar="FILE", help="The register without duplicates (Parquet or CSV).")],
    merged: Annotated[
        Path | None, typer.Option(metavar="FILE", help="What was merged; OUT.merged.csv if left out.")
    ] = None,
    dictionary: DictionaryOption = None,
    threshold: Annotated[
        float, typer.Option(min=0.5, max=0.9999, help="Match probability from which records are one.")
    ] = 0.95,
    learned: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the data dictionary with the errors that duplicates show."),
    ] = None,
    seed: SeedOption = 0,
) -> None:
    """Find records of the same person, which would share the belief and never be told apart, and keep one of each."""
    with extra("trace", "unmask trace"):
        from unmask.tracing.attributes.dictionary import dictionary_text
        from unmask.tracing.registers.tables import read_table
        from unmask.tracing.report.tool_results import print_duplicates
        from unmask.tracing.tools import linkage

        console = _console()
        place = merged or out.with_name(f"{out.stem}.merged.csv")
        linkage.check_places(out, place)
        _check_outputs(
            (register, dictionary), _output("--out", out), _output("--merged", place), _output("--learned", learned)
        )
        table = read_table(register)
        believed = _dictionary(register, dictionary, None, table, console)
        with console.status("comparing records") if console.is_terminal else nullcontext():
            duplicates = linkage.deduplicate(table, believed, threshold, seed)
        print_duplicates(console, duplicates)
        linkage.write_without_duplicates(table, duplicates, out, place)
        if learned is not None:
            _write_text(dictionary_text(linkage.with_errors(believed, duplicates)), learned)
        console.print(f"written: {out}, and what was merged: {place}", markup=False)


@app.command()
def generate(
    out: Annotated[
        Path, typer.Argument(metavar="FILE", help="Register to make (Parquet); FILE.toml is its dictionary.")
    ],
    records: Annotated[int, typer.Option(min=1, max=100_000_000, help="People who do not exist.")] = 1000,
    dependence: Annotated[float, typer.Option(min=0.0, help="How strongly attributes depend on one another.")] = 1.0,
    twins: Annotated[float, typer.Option(min=0.0, max=0.9, help="Share of near-twins of others.")] = 0.02,
    missing: Annotated[float, typer.Option(min=0.0, max=0.9, help="Share of values that are not recorded.")] = 0.02,
    seed: SeedOption = 0,
) -> None:
    """Make a register of people who do not exist (tit1000), for trials: 20 attributes that depend on one another."""
    with extra("trace", "unmask trace"):
        from unmask.tracing.attributes.dictionary import dictionary_text
        from unmask.tracing.simulation import synthetic

        spec = synthetic.RegisterSpec(records, seed, dependence, twins, missing)
        if out.suffix != ".parquet":
            raise typer.BadParameter("the register is a Parquet file: name it FILE.parquet")
        _check_outputs((), _output("FILE", out), _output("FILE", out.with_suffix(".toml")))
        with progress_bars() as progress:
            synthetic.write_register(out, spec, progress)
        _write_text(dictionary_text(synthetic.dictionary_of(spec)), out.with_suffix(".toml"))
        print(f"{records:,} synthetic records: {out}; data dictionary: {out.with_suffix('.toml')}")


def _dictionary(
    register: str, dictionary: Path | None, absent: float | None, table: Any, console: "Console"
) -> "Dictionary":
    """The data dictionary, read or guessed."""
    from unmask.tracing.attributes.dictionary import read_dictionary
    from unmask.tracing.tools.profiling import profile as guess

    if dictionary is not None:
        described = read_dictionary(dictionary)
    else:
        # How values are written is guessed again where they are read, and then said of the register.
        described = guess(table, register).dictionary.without_reading()
        note = "note: no data dictionary; kinds and errors are guessed. `unmask trace profile` writes one to edit"
        console.print(note, style="dim")
    return described if absent is None else described.model_copy(update={"absent": absent})


def _register(register: str, dictionary: Path | None, absent: float | None, engine: Engine, console: "Console") -> Any:
    """The register in the engine asked for."""
    from unmask.tracing.registers.tables import fingerprint, read_table

    if engine == "memory":
        from unmask.tracing.registers.memory import coded

        table = read_table(register)
        return coded(table, _dictionary(register, dictionary, absent, table, console), fingerprint(register))
    from unmask.tracing.registers.sql import open_sql

    if dictionary is None:
        raise DataError(
            f"--engine {engine} needs --dictionary: `unmask trace profile` on a part of the register writes one"
        )
    return open_sql(register, _dictionary(register, dictionary, absent, None, console), engine)


def _columns(register: str, show: str | None) -> list[str]:
    """The columns to show; each must be one of the register's."""
    if show is None:
        return []
    from unmask.tracing.registers.tables import column_names

    wanted = list(dict.fromkeys(filter(None, (name.strip() for name in show.split(",")))))
    there = column_names(register)
    absent = [name for name in wanted if name not in there]
    if absent or not wanted:
        raise DataError(f"--show: no column {', '.join(map(repr, absent))}; the register has {', '.join(there)}")
    return wanted


def _print_notes(notes: Sequence[str], console: "Console") -> None:
    """What people should know of a register, where no report says it."""
    from rich.text import Text

    from unmask.evidence.terminal import safe_text

    for note in notes:
        console.print(Text(safe_text(f"note: {note}"), style="dim"))


def _as_json(content: Any) -> str:
    import json

    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)


def _pictures(given: Sequence[str], dictionary: "Dictionary") -> dict[str, Any]:
    """The picture that each attribute's answer comes from."""
    from unmask.tracing.case.answers import parse_answer, picture_of

    pictures = {}
    for one in given:
        typed = parse_answer(one, dictionary.model_copy(update={"attributes": _as_text(dictionary)}))
        pictures[typed.attribute] = picture_of(Path(str(typed.value)))
    return pictures


def _as_text(dictionary: "Dictionary") -> dict[str, Any]:
    """The attributes as if all were text, so that NAME=FILE can be read for any."""
    from unmask.tracing.attributes.dictionary import Attribute

    return {name: Attribute(kind="string") for name in dictionary.used}


def _at_a_terminal() -> bool:
    return sys.stdin is not None and sys.stdin.isatty()


def _console(stderr: bool = False, quiet: bool = False) -> "Console":
    """Where people read."""
    from rich.console import Console

    return Console(stderr=stderr, quiet=quiet)


def _files_in(answers: Sequence[str] | None, pictures: Sequence[str] | None) -> list[str]:
    """Files that answers and pictures are read from."""
    scores = [text.partition("=@")[2] for text in answers or [] if "=@" in text]
    return [*scores, *(text.rpartition("=")[2] for text in pictures or [])]


def _check_outputs(inputs: Sequence[Path | str | None], *outputs: Output | None) -> None:
    """Refuse outputs that would overwrite an input (the first is the register), one another, or what is not ours."""
    from unmask.tracing.registers.databases import split_table

    read = [split_table(str(path))[0] if place == 0 else path for place, path in enumerate(inputs) if path is not None]
    check_outputs([output for output in outputs if output is not None], read)


def _output(option: str, place: Path | str | None, replaces: Callable[[Path], bool] = lambda _: False) -> Output | None:
    if place is None or place == "-":
        return None
    is_case = option == "--case"  # whose folder is made
    return Output(option, Path(place), replaces, stream=not is_case and option != "FILE", makes_folder=is_case)


def _write_json(text: str, place: str) -> None:
    if place == "-":
        print_json(text)
    else:
        _write_text(text + "\n", Path(place))


def _write_text(text: str, path: Path) -> None:
    with whole(path) as part:
        part.write_text(text, encoding="utf-8")
