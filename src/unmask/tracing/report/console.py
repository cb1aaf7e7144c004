"""A case on the terminal: what to ask next, what an answer did, what follows."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from unmask.evidence.terminal import safe_text
from unmask.tracing.inference.conclusion import percent
from unmask.tracing.inference.questions import Question
from unmask.tracing.report.trace_report import Step, TraceReport

SHOWN_QUESTIONS = 5
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


def print_questions(console: Console, questions: Sequence[Question]) -> None:
    """The best questions, numbered, with what they are expected to tell."""
    table = Table(title="What to ask next", title_justify="left")
    for name in ("", "attribute", "expected bits", "to be had", "cost", "bits per cost"):
        table.add_column(name, justify="left" if name in ("", "attribute") else "right")
    for number, one in enumerate(questions[:SHOWN_QUESTIONS], 1):
        table.add_row(
            str(number),
            Text(safe_text(one.attribute)),
            f"{one.bits:.2f}",
            f"{100 * one.availability:.0f} %",
            f"{one.cost:g}",
            f"{one.worth:.2f}",
        )
    console.print(table)


def print_step(console: Console, step: Step) -> None:
    """What one answer did, in a line."""
    told = "not to be had" if step.told is None else _told(step.told)
    console.print(
        Text(
            f"{safe_text(step.attribute)}: {told}. {step.bits:+.2f} bits; {step.entropy_after:.2f} left, "
            f"{_likely(step.candidates)}; first {safe_text(step.leader)} {percent(step.probability)}, "
            f"nobody in the register {percent(step.absent)}"
        )
    )


def print_report(console: Console, report: TraceReport) -> None:
    """The whole case."""
    console.print(Text(f"{_WORDS[report.status]}: {safe_text(report.reason)}", style=_STYLES[report.status]))
    console.print(Text(safe_text(report.statement)))
    if report.steps:
        console.print(_ledger(report))
    if report.candidates:
        table = Table(title="Who it may be", title_justify="left")
        table.add_column("record")
        table.add_column("probability", justify="right")
        table.add_column("log10 LR", justify="right")
        most = 20 if report.status == "candidate_set" else 5
        for one in report.candidates[:most]:
            table.add_row(Text(safe_text(one.id)), percent(one.probability), f"{one.log10_lr:+.2f}")
        table.add_row(Text("nobody in the register", style="italic"), percent(report.absent), "")
        console.print(table)
        if report.candidate_count > most:
            console.print(f"{report.candidate_count - most:,} more records are as likely; --json has the first 50.")
    if report.core_set is not None:
        smallest = "the smallest set" if report.core_set.exact else "none of these can go"
        console.print(Text(f"Core set: {_names(report.core_set.names)} settle it ({smallest})."))
        needed = report.core_set.indispensable
        console.print(Text(f"Indispensable: {_names(needed) if needed else 'none'}."))
    if report.counterfactuals and report.candidates and report.status != "open":
        nobody = report.status == "not_in_register"
        worst = min(report.counterfactuals, key=lambda one: one.absent if nobody else one.probability)
        left = worst.absent if nobody else worst.probability
        console.print(Text(f"Without the answer about {safe_text(worst.without)} it would be {percent(left)}."))
    for apart in report.separators[:1] if report.status in ("open", "candidate_set", "undetermined") else ():
        told = f"{apart.attribute} would tell the first two apart: {apart.first} or {apart.second}."
        console.print(Text(safe_text(told)))
    for note in report.notes:
        console.print(Text(f"note: {safe_text(note)}", style="dim"))
    console.print(Text(report.limits[0], style="italic"))


def _likely(count: int) -> str:
    """Records of a tenth of a per cent or more; no more than the named ones are counted."""
    return f"{count if count < _COUNTED else f'{_COUNTED} or more'} likely" if count else "none above 0.1 %"


def _ledger(report: TraceReport) -> Table:
    table = Table(title="What was told, and what it did", title_justify="left")
    for name in ("attribute", "answer", "expected", "bits", "weight", "left", "first"):
        table.add_column(name, justify="left" if name in ("attribute", "answer") else "right")
    for step in report.steps:
        table.add_row(
            Text(safe_text(step.attribute) + (" *" if step.overrode else "")),
            Text("not to be had" if step.told is None else _told(step.told)),
            "" if step.expected is None else f"{step.expected:.2f}",
            f"{step.bits:+.2f}",
            "" if step.weight is None else f"{step.weight:+.2f}",
            f"{step.entropy_after:.2f}",
            percent(step.probability),
        )
    marks = ["bits: fall of the entropy", "weight: log2 LR for the record that leads, against anybody"]
    if any(step.overrode for step in report.steps):
        marks.append("*: another question was ranked first")
    table.caption, table.caption_justify = "; ".join(marks), "left"
    return table


def _told(told: str | dict[str, float]) -> str:
    if isinstance(told, str):
        return safe_text(told)
    return safe_text(", ".join(f"{value} {100 * share:.0f} %" for value, share in told.items()))


def _names(names: Sequence[str]) -> str:
    return safe_text(", ".join(names))
