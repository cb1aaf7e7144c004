"""A case as a conversation: what is typed becomes events, and what follows from them is shown."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Protocol

from unmask.errors import DataError
from unmask.tracing.attributes.values import not_recorded
from unmask.tracing.case.answers import AnswerPicture, TypedAnswer, parse_answer
from unmask.tracing.case.case_file import CaseFile, Event, now
from unmask.tracing.case.investigation import Investigation, shown
from unmask.tracing.inference.questions import OFFERED, Question
from unmask.tracing.report.trace_report import Step

ApplyEvent = Callable[[Event], None]
_HELP = (
    "Answer with NAME=VALUE, NAME=? (not to be had) or NAME~A:0.7,B:0.3 (uncertain); with the number of a question; "
    "undo; or done."
)


class Dialogue(Protocol):
    """Where a conversation is held. Texts may hold what a register holds: they are shown harmlessly."""

    def ask(self, prompt: str) -> str | None:
        """A line that was typed, without spaces around it; None at the end of input."""

    def help(self, text: str) -> None:
        """How to answer."""

    def warn(self, text: str) -> None:
        """What is wrong with what was typed."""

    def conclude(self, text: str) -> None:
        """What can be concluded."""

    def show_questions(self, questions: Sequence[Question]) -> None:
        """The best questions, numbered from 1."""

    def show_step(self, step: Step) -> None:
        """What an answer did."""


def recorder(
    inquiry: Investigation, case: CaseFile | None, held_back: Callable[[], AbstractContextManager[None]]
) -> ApplyEvent:
    """Applies an event to the investigation and adds it to the case file: both or neither, even if interrupted."""

    def apply(event: Event) -> None:
        with held_back():
            inquiry.apply(event)  # what is no answer is refused before it is kept
            if case is not None:
                case.add(event)

    return apply


def check_text(*texts: str) -> None:
    """Refuse bytes that are no text, which no case file or report can hold."""
    for text in texts:
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise DataError(f"{text.encode(errors='replace').decode()!r} is not UTF-8; type it anew") from error


def _typed(inquiry: Investigation, text: str) -> TypedAnswer:
    """A typed answer; what stands for "not recorded" and is no value of the register is not to be had."""
    typed = parse_answer(text, inquiry.register.dictionary)
    model = inquiry.register.models.get(typed.attribute)
    if isinstance(typed.value, str) and model is not None and typed.value not in model.values:
        words, _ = not_recorded(typed.attribute, inquiry.register.dictionary.attributes[typed.attribute], [typed.value])
        return replace(typed, value=None) if words else typed
    return typed


def _event(inquiry: Investigation, text: str, pictures: Mapping[str, AnswerPicture], asked: bool) -> Event:
    """A typed answer as an event."""
    typed = _typed(inquiry, text)
    picture = pictures.get(typed.attribute)
    return Event(
        "answer",
        now(),
        typed.attribute,
        typed.value,
        1.0 if picture is None else picture.trust,
        shown(inquiry.questions()) if asked else (),
        None if picture is None else picture.sha256,
    )


def apply_answers(
    inquiry: Investigation, answers: Sequence[str], pictures: Mapping[str, AnswerPicture], apply: ApplyEvent
) -> None:
    """Apply the answers of the command line; one that a case already holds is passed over."""
    known = {answer.attribute: answer.value for answer in inquiry.belief.answers}
    for text in answers:
        typed = _typed(inquiry, text)
        if typed.attribute in known and known[typed.attribute] == typed.value:
            continue
        apply(_event(inquiry, text, pictures, asked=False))


def refuse_unused(inquiry: Investigation, pictures: Mapping[str, AnswerPicture]) -> None:
    """A picture given for an answer that does not heed it would count for nothing, without a word."""
    heeded = {entry.attribute for entry in inquiry.steps() if entry.picture is not None}
    unused = [name for name in pictures if name not in heeded]
    if unused:
        raise DataError(f"--picture {unused[0]}=...: no answer about {unused[0]} is given with it; give both together")


def converse(
    inquiry: Investigation, pictures: Mapping[str, AnswerPicture], apply: ApplyEvent, dialogue: Dialogue
) -> None:
    """Ask until there is a conclusion and the person has had enough."""
    dialogue.help(_HELP)
    concluded = None
    while True:
        conclusion = inquiry.conclusion()
        if conclusion is not None and conclusion != concluded:
            dialogue.conclude(f"{conclusion.status.replace('_', ' ')}: {conclusion.reason}")
            concluded = conclusion
        questions = inquiry.questions()
        dialogue.show_questions(questions)
        text = dialogue.ask("> ")
        if text is None or text.casefold() in ("done", "quit", "exit", "q") or (not text and conclusion is not None):
            return
        if text.casefold() in ("help", "?"):
            dialogue.help(_HELP)
            continue
        if text.isascii() and text.isdecimal():
            best = questions[:OFFERED]
            if not 0 < int(text) <= len(best):
                dialogue.warn(f"there is no question {text}; they are numbered 1 to {len(best)}")
                continue
            name = best[int(text) - 1].attribute
            value = dialogue.ask(f"{name} (? if not to be had): ")
            if value is None:
                return
            text = f"{name}{value}" if value.startswith("~") else f"{name}={value}" if value else ""
        if not text:
            continue
        try:
            check_text(text)
            apply(Event("undo", now()) if text == "undo" else _event(inquiry, text, pictures, asked=True))
        except DataError as error:
            dialogue.warn(str(error))
            continue
        steps = inquiry.steps()
        if text != "undo" and steps:
            dialogue.show_step(steps[-1])
