"""A conversation applies what is typed, refuses what is no answer, and shows what follows, wherever it is held."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

import pytest
from small_registers import cube

from unmask.errors import DataError
from unmask.tracing.case.answers import AnswerPicture
from unmask.tracing.case.case_file import Event, Opened, case_file
from unmask.tracing.case.conversation import apply_answers, check_text, converse, recorder, refuse_unused
from unmask.tracing.case.investigation import Investigation
from unmask.tracing.inference.questions import OFFERED, Question
from unmask.tracing.report.trace_report import Step


class Script:
    """A dialogue in which lines are typed from a list; keeps what is shown."""

    def __init__(self, *lines: str) -> None:
        self._lines = iter(lines)
        self.prompts: list[str] = []
        self.helped = 0
        self.warnings: list[str] = []
        self.conclusions: list[str] = []
        self.questions: list[list[str]] = []
        self.steps: list[Step] = []

    def ask(self, prompt: str) -> str | None:
        self.prompts.append(prompt)
        return next(self._lines, None)

    def help(self, text: str) -> None:
        self.helped += 1

    def warn(self, text: str) -> None:
        self.warnings.append(text)

    def conclude(self, text: str) -> None:
        self.conclusions.append(text)

    def show_questions(self, questions: Sequence[Question]) -> None:
        self.questions.append([question.attribute for question in questions])

    def show_step(self, step: Step) -> None:
        self.steps.append(step)


def held(*lines: str, pictures: dict[str, AnswerPicture] | None = None) -> tuple[Investigation, Script]:
    inquiry, script = Investigation(cube(0.01, 0.2)), Script(*lines)
    converse(inquiry, pictures or {}, recorder(inquiry, None, nullcontext), script)
    return inquiry, script


def answers(inquiry: Investigation) -> dict[str, object]:
    return {answer.attribute: answer.value for answer in inquiry.belief.answers}


def test_answers_are_typed_by_name_by_number_or_with_shares() -> None:
    inquiry, script = held("b2=1", "1", "?", "b1~1:0.7,0:0.2", "done")
    first = script.questions[1][0]
    assert answers(inquiry) == {"b2": "1", first: None, "b1": {"1": 0.7, "0": 0.2}}
    assert script.prompts[2].startswith(first)
    assert [step.attribute for step in script.steps] == ["b2", first, "b1"]
    assert all(step.attribute not in left for step, left in zip(script.steps, script.questions[1:], strict=True))
    assert script.warnings == []


def test_what_is_no_answer_is_refused_and_nothing_is_applied() -> None:
    inquiry, script = held("colour=red", "b0=2", "9", "0", "", "undo", "b1=", "done")
    assert answers(inquiry) == {} and script.steps == []
    assert len(script.warnings) == 6  # an empty line asks anew
    assert all("b0" in warning for warning in (script.warnings[0], script.warnings[1]))


def test_an_answer_is_taken_back_and_given_anew() -> None:
    inquiry, script = held("b0=1", "b0=0", "undo", "b0=0")
    assert answers(inquiry) == {"b0": "0"}
    assert "answered before" in script.warnings[0]
    assert [step.told for step in script.steps] == ["1", "0"]  # what is taken back is no step


@pytest.mark.parametrize("end", [(), ("done",), ("Q",), ("1",)])
def test_it_ends_when_the_person_has_had_enough(end: tuple[str, ...]) -> None:
    inquiry, script = held("b0=1", *end)
    assert answers(inquiry) == {"b0": "1"}
    assert script.conclusions == []


def test_help_is_shown_at_first_and_on_request() -> None:
    assert held("help", "?", "done")[1].helped == 3


def test_a_conclusion_is_shown_once_and_an_empty_line_then_ends_it() -> None:
    inquiry, script = held("b0=1", "b1=1", "b2=1", "help", "", "b0=0")
    assert len(script.conclusions) == 1
    assert inquiry.conclusion() is not None
    assert len(script.prompts) == 5  # "b0=0" is not read


def test_no_more_numbers_than_questions_shown() -> None:
    inquiry, script = held(str(OFFERED + 1), "4", "done")
    for number, warning in zip((OFFERED + 1, 4), script.warnings, strict=True):
        assert f"question {number}" in warning and "1 to 3" in warning
    assert answers(inquiry) == {}


def test_a_picture_lowers_the_trust_in_its_answer_and_must_have_one() -> None:
    pictures = {"b0": AnswerPicture("abc", 0.25)}
    inquiry, script = held("b0=1", "b1=1", pictures=pictures)
    assert [(step.trust, step.picture) for step in script.steps] == [(0.25, "abc"), (1.0, None)]
    refuse_unused(inquiry, pictures)
    with pytest.raises(DataError, match="--picture b2"):
        refuse_unused(inquiry, {"b2": AnswerPicture("", 0.5)})


def test_answers_of_the_command_line_are_applied_unless_the_case_has_them() -> None:
    inquiry = Investigation(cube(0.01, 0.2))
    events: list[Event] = []

    def apply(event: Event) -> None:
        inquiry.apply(event)
        events.append(event)

    apply_answers(inquiry, ["b0=1", "b1=?"], {}, apply)
    apply_answers(inquiry, ["b0=1", "b1=?", "b2=0"], {}, apply)
    assert [(event.attribute, event.value, event.shown) for event in events] == [
        ("b0", "1", ()),
        ("b1", None, ()),
        ("b2", "0", ()),
    ]
    with pytest.raises(DataError, match="answered before"):
        apply_answers(inquiry, ["b0=0"], {}, apply)


def test_an_event_is_in_the_case_and_in_the_investigation_or_in_neither(tmp_path: Path) -> None:
    inside: list[bool] = []

    @contextmanager
    def held_back() -> Iterator[None]:
        inside.append(True)
        yield
        inside.append(False)

    guard: Callable[[], AbstractContextManager[None]] = held_back
    inquiry = Investigation(cube())
    opened = Opened("cube", "f", "d", "", "t")
    with case_file(tmp_path / "a.case", opened) as case:
        apply = recorder(inquiry, case, guard)
        apply(Event("answer", "t", "b0", "1"))
        assert inside == [True, False]
        with pytest.raises(DataError):
            apply(Event("answer", "t", "b0", "0"))
        assert len(case.events) == 1
    with case_file(tmp_path / "a.case", opened) as case:
        assert case.events == [Event("answer", "t", "b0", "1")]


def test_bytes_that_are_no_text_are_refused() -> None:
    check_text("ümläut", "日本")
    with pytest.raises(DataError, match="not UTF-8"):
        check_text("fine", "b0=\udcff")
