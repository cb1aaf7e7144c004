"""The report of a case is what its published schema says, and never holds what is not a number."""

import json
from pathlib import Path

import jsonschema
import pytest
from pydantic import ValidationError
from small_registers import cube

from unmask.tracing.case.case_file import Event
from unmask.tracing.case.investigation import Investigation
from unmask.tracing.report.trace_report import TraceReport, report_schema

PUBLISHED = Path(__file__).parents[3] / "docs" / "trace-schema.json"


def report_of(**answers: str | None) -> TraceReport:
    inquiry = Investigation(cube(0.1, 0.2))
    for name, value in answers.items():
        inquiry.apply(Event("answer", "", name, value))
    return inquiry.report("cube", "0" * 64, "unmask trace find cube", "a test")


def test_the_published_schema_is_that_of_the_code() -> None:
    assert json.loads(PUBLISHED.read_text(encoding="utf-8")) == report_schema(), (
        "the report changed: raise TRACE_SCHEMA_VERSION if need be, then "
        "`python -m unmask.tracing.report.trace_report > docs/trace-schema.json`"
    )


@pytest.mark.parametrize("answers", [{}, {"b0": "1"}, {"b0": "1", "b1": None, "b2": "0"}])
def test_reports_obey_the_schema_and_come_back_from_json(answers: dict[str, str | None]) -> None:
    report = report_of(**answers)
    text = report.model_dump_json()
    jsonschema.Draft202012Validator(report_schema()).validate(json.loads(text))
    assert TraceReport.model_validate_json(text) == report


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_numbers_are_finite(number: float) -> None:
    with pytest.raises(ValidationError):
        TraceReport.model_validate(report_of().model_dump() | {"entropy": number})
