"""A case as a conversation: what is typed becomes events, and what follows from them is shown."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace

from rich.console import Console
from rich.text import Text

from unmask.errors import DataError
from unmask.evidence.terminal import safe_text
from unmask.tracing.attributes.values import not_recorded
from unmask.tracing.case.answers import Picture, Typed, parse_answer
from unmask.tracing.case.case_file import CaseFile, Event, now
from unmask.tracing.case.investigation import Investigation, shown
from unmask.tracing.report.console import SHOWN_QUESTIONS, print_questions, print_step

Happen = Callable[[Event], None]
_HELP = (
    "Answer with NAME=VALUE, NAME=? (not to be had) or NAME~A:0.7,B:0.3 (uncertain); with the number of a question; "
    "undo; or done."
)


def recorder(
    inquiry: Investigation, kept: CaseFile | None, held_back: Callable[[], AbstractContextManager[None]]
) -> Happen:
    """Takes an event in, and into the case file: both or neither, whenever it is interrupted."""

    def happen(event: Event) -> None:
        with held_back():
            inquiry.happened(event)  # what is no answer is refused before it is kept
            if kept is not None:
                kept.add(event)

    return happen


def check_text(*texts: str) -> None:
    """Refuse bytes that are no text, which no case file or report can hold."""
    for text in texts:
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise DataError(f"{text.encode(errors='replace').decode()!r} is not UTF-8; type it anew") from error


def _typed(inquiry: Investigation, text: str) -> Typed:
    """A typed answer; what stands for "not recorded" and is no value of the register is not to be had."""
    typed = parse_answer(text, inquiry.register.dictionary)
    model = inquiry.register.models.get(typed.attribute)
    if isinstance(typed.told, str) and model is not None and typed.told not in model.values:
        words, _ = not_recorded(typed.attribute, inquiry.register.dictionary.attributes[typed.attribute], [typed.told])
        return replace(typed, told=None) if words else typed
    return typed


def _event(inquiry: Investigation, text: str, pictures: Mapping[str, Picture], asked: bool) -> Event:
    """A typed answer as an event."""
    typed = _typed(inquiry, text)
    picture = pictures.get(typed.attribute)
    return Event(
        "answer",
        now(),
        typed.attribute,
        typed.told,
        1.0 if picture is None else picture.trust,
        shown(inquiry.questions()) if asked else (),
        None if picture is None else picture.sha256,
    )


def tell(inquiry: Investigation, answers: Sequence[str], pictures: Mapping[str, Picture], happen: Happen) -> None:
    """Take in the answers of the command line; one that a case already holds is passed over."""
    known = {answer.attribute: answer.told for answer in inquiry.belief.answers}
    for text in answers:
        typed = _typed(inquiry, text)
        if typed.attribute in known and known[typed.attribute] == typed.told:
            continue
        happen(_event(inquiry, text, pictures, asked=False))


def refuse_unused(inquiry: Investigation, pictures: Mapping[str, Picture]) -> None:
    """A picture given for an answer that does not heed it would count for nothing, without a word."""
    heeded = {entry.attribute for entry in inquiry.steps() if entry.picture is not None}
    unused = [name for name in pictures if name not in heeded]
    if unused:
        raise DataError(f"--picture {unused[0]}=...: no answer about {unused[0]} is given with it; give both together")


def converse(inquiry: Investigation, pictures: Mapping[str, Picture], happen: Happen, console: Console) -> None:
    """Ask until it is settled or the person has had enough."""
    console.print(Text(_HELP, style="dim"))
    settled = None
    while True:
        found = inquiry.conclusion()
        if found is not None and found != settled:
            console.print(Text(safe_text(f"{found.status.replace('_', ' ')}: {found.reason}"), style="bold"))
            settled = found
        questions = inquiry.questions()
        print_questions(console, questions)
        text = _line(console, "> ")
        if text is None or text.casefold() in ("done", "quit", "exit", "q") or (not text and found is not None):
            return
        if text.casefold() in ("help", "?"):
            console.print(Text(_HELP, style="dim"))
            continue
        if text.isascii() and text.isdecimal():
            best = questions[:SHOWN_QUESTIONS]
            if not 0 < int(text) <= len(best):
                console.print(f"there is no question {text}; they are numbered 1 to {len(best)}", style="yellow")
                continue
            name = best[int(text) - 1].attribute
            value = _line(console, f"{safe_text(name)} (? if not to be had): ")
            if value is None:
                return
            text = f"{name}{value}" if value.startswith("~") else f"{name}={value}" if value else ""
        if not text:
            continue
        try:
            check_text(text)
            happen(Event("undo", now()) if text == "undo" else _event(inquiry, text, pictures, asked=True))
        except DataError as error:
            console.print(Text(safe_text(str(error)), style="yellow"))
            continue
        steps = inquiry.steps()
        if text != "undo" and steps:
            print_step(console, steps[-1])


def _line(console: Console, prompt: str) -> str | None:
    """A line that was typed; None at the end of input. The prompt is never taken for markup."""
    try:
        return console.input(Text(prompt)).strip()
    except EOFError:
        console.print()
        return None
