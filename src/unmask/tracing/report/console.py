"""A case on the terminal: what to ask next, what an answer did, what follows."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from unmask.evidence.terminal import safe_text
from unmask.tables import terminal
from unmask.tracing.inference.conclusion import percent
from unmask.tracing.inference.questions import OFFERED, Question
from unmask.tracing.report.trace_report import Step, TraceReport

_COUNTED = 50  # records that a step names
_STYLES = {
    "identified": "bold magenta",
    "candidate_set": "yellow",
    "not_in_register": "cyan",
    "undetermined": "yellow",
    "open": "bold",
}
_WORDS = {
    "identified": "identified",
    "candidate_set": "a set of candidates",
    "not_in_register": "not in the register",
    "undetermined": "undetermined",
    "open": "open",
}


class ConsoleDialogue:
    """A conversation about a case on a terminal. Nothing that is shown is taken for markup or for commands to it."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def ask(self, prompt: str) -> str | None:
        """A line that was typed, without spaces around it; None at the end of input."""
        try:
            return self._console.input(Text(safe_text(prompt))).strip()
        except EOFError:
            self._console.print()
            return None

    def help(self, text: str) -> None:
        """How to answer."""
        self._console.print(Text(text, style="dim"))

    def warn(self, text: str) -> None:
        """What is wrong with what was typed."""
        self._console.print(Text(safe_text(text), style="yellow"))

    def conclude(self, text: str) -> None:
        """What can be concluded."""
        self._console.print(Text(safe_text(text), style="bold"))

    def show_questions(self, questions: Sequence[Question]) -> None:
        """The best questions, numbered from 1."""
        print_questions(self._console, questions)

    def show_step(self, step: Step) -> None:
        """What an answer did."""
        print_step(self._console, step)


def print_questions(console: Console, questions: Sequence[Question]) -> None:
    """The best questions, numbered, with what they are expected to tell."""
    heads = ("", "attribute", "expected bits", "to be had", "cost", "bits per cost")
    rows = [
        (
            str(number),
            safe_text(one.attribute),
            f"{one.bits:.2f}",
            f"{100 * one.availability:.0f} %",
            f"{one.cost:g}",
            f"{one.utility:.2f}",
        )
        for number, one in enumerate(questions[:OFFERED], 1)
    ]
    console.print(terminal(heads, rows, "What to ask next", right=heads[2:]))


def print_step(console: Console, step: Step) -> None:
    """What one answer did, in a line."""
    console.print(
        Text(
            f"{safe_text(step.attribute)}: {_answer(step)}. {step.bits:+.2f} bits; {step.entropy_after:.2f} left, "
            f"{_likely(step.candidates)}; first {safe_text(step.leader)} {percent(step.probability)}, "
            f"not in the register {percent(step.absent)}"
        )
    )


def print_report(console: Console, report: TraceReport) -> None:
    """The whole case."""
    console.print(Text(f"{_WORDS[report.status]}: {safe_text(report.reason)}", style=_STYLES[report.status]))
    console.print(Text(safe_text(report.statement)))
    if report.steps:
        console.print(_ledger(report))
    if report.candidates:
        _print_candidates(console, report)
    if report.core_set is not None:
        smallest = "the smallest one" if report.core_set.exact else "none of these can go"
        console.print(Text(f"Core identification set: {_names(report.core_set.names)} ({smallest})."))
        needed = report.core_set.indispensable
        console.print(Text(f"Indispensable: {_names(needed) if needed else 'none'}."))
    if report.counterfactuals and report.candidates and report.status != "open":
        absent = report.status == "not_in_register"
        worst = min(report.counterfactuals, key=lambda one: one.absent if absent else one.probability)
        left = worst.absent if absent else worst.probability
        console.print(Text(f"Without the answer about {safe_text(worst.without)} it would be {percent(left)}."))
    for apart in report.separators[:1] if report.status in ("open", "candidate_set", "undetermined") else ():
        text = f"{apart.attribute} would tell the first two apart: {apart.first} or {apart.second}."
        console.print(Text(safe_text(text)))
    for note in report.notes:
        console.print(Text(f"note: {safe_text(note)}", style="dim"))
    console.print(Text(report.limits[0], style="italic"))


def _print_candidates(console: Console, report: TraceReport) -> None:
    columns = tuple(report.candidates[0].shown)
    heads = ("record", "probability", "log10 LR", *map(safe_text, columns))
    most = 20 if report.status == "candidate_set" else 5
    rows = [
        (
            safe_text(one.id),
            percent(one.probability),
            f"{one.log10_lr:+.2f}",
            *(safe_text(one.shown[name] or "") for name in columns),
        )
        for one in report.candidates[:most]
    ]
    rows.append(("not in the register", percent(report.absent), "", *("" for _ in columns)))
    console.print(terminal(heads, rows, "Who it may be", right=heads[1:3]))
    if report.candidate_count > most:
        console.print(f"{report.candidate_count - most:,} more records are as likely; --csv FILE lists them all.")


def _likely(count: int) -> str:
    """Records of a tenth of a per cent or more; no more than the named ones are counted."""
    return f"{count if count < _COUNTED else f'{_COUNTED} or more'} likely" if count else "none above 0.1 %"


def _ledger(report: TraceReport) -> Table:
    heads = ("attribute", "answer", "expected", "bits", "weight", "left", "first")
    rows = [
        (
            safe_text(step.attribute) + (" *" if step.overrode else ""),
            _answer(step),
            "" if step.expected is None else f"{step.expected:.2f}",
            f"{step.bits:+.2f}",
            "" if step.weight is None else f"{step.weight:+.2f}",
            f"{step.entropy_after:.2f}",
            percent(step.probability),
        )
        for step in report.steps
    ]
    table = terminal(heads, rows, "Answers, and what each did", right=heads[2:])
    marks = ["bits: fall of the entropy", "weight: log2 LR for the record that leads, against anybody"]
    if any(step.overrode for step in report.steps):
        marks.append("*: another question was ranked first")
    table.caption, table.caption_justify = "; ".join(marks), "left"
    return table


def _answer(step: Step) -> str:
    if step.told is None:
        return "not to be had"
    if isinstance(step.told, str):
        return safe_text(step.told)
    return safe_text(", ".join(f"{value} {100 * share:.0f} %" for value, share in step.told.items()))


def _names(names: Sequence[str]) -> str:
    return safe_text(", ".join(names))
