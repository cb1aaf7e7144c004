import json
from pathlib import Path

import jsonschema
import pytest
from evidence_samples import make_face, make_opinions, make_report, make_track, refused_face, refused_report
from pydantic import ValidationError

from unmask.evidence.report import FaceFinding, Opinion, Report, escape_surrogates, restore_surrogates
from unmask.evidence.schema import report_schema

PUBLISHED = Path(__file__).parents[2] / "docs" / "report-schema.json"


def test_published_schema_is_that_of_the_code():
    assert json.loads(PUBLISHED.read_text(encoding="utf-8")) == report_schema(), (
        "the report changed: raise SCHEMA_VERSION if need be, then "
        "`python -m unmask.evidence.schema > docs/report-schema.json`"
    )


@pytest.mark.parametrize(
    "report",
    [
        make_report(),
        refused_report(),
        make_report(faces=[make_face(), refused_face(1)]),
        make_report(kind="video", faces=[make_face(time=0.4, track=make_track([1.0, None, 2.0]))]),
        make_report(
            faces=[make_face(opinions=make_opinions(make_face(), other=-0.7, third=None)), refused_face(1)],
            tool=make_report().tool.model_copy(update={"options": {"pack": ["plain", "other", "third"]}}),
        ),
    ],
    ids=["judged", "refused", "partly refused", "video", "opinions"],
)
def test_reports_obey_the_published_schema_and_come_back_from_json(report):
    text = report.model_dump_json()
    jsonschema.Draft202012Validator(report_schema()).validate(json.loads(text))
    assert Report.model_validate_json(text) == report


@pytest.mark.parametrize("changes", [{"score": 0.5}, {"log10_lr": 0.0}, {"support": "weak"}, {"refusal": None}])
def test_a_refusal_never_has_a_score(changes):
    face = refused_face().model_dump()
    with pytest.raises(ValidationError, match="refused"):
        FaceFinding(**{**face, **changes})
    with pytest.raises(ValidationError, match="refused"):
        Report(**{**refused_report().model_dump(), **changes})


@pytest.mark.parametrize("changes", [{"score": None}, {"log10_lr": None}, {"refusal": refused_face().refusal}])
def test_a_judgement_never_lacks_its_numbers(changes):
    with pytest.raises(ValidationError, match="refused"):
        make_face(**changes)


@pytest.mark.parametrize("changes", [{"verdict": "refused"}, {"score": None}, {"log10_lr": None}, {"support": None}])
def test_an_opinion_has_its_numbers_or_is_refused(changes):
    first, refused = make_opinions(make_face(), other=None)
    with pytest.raises(ValidationError, match="refused"):
        Opinion(**{**first.model_dump(), **changes})
    with pytest.raises(ValidationError, match="refused"):
        Opinion(**{**refused.model_dump(), "log10_lr": 0.0})


def test_reports_written_before_there_were_opinions_can_be_read():
    old = json.loads(make_report().model_dump_json()) | {"schema_version": "1.0"}
    for face in old["faces"]:
        assert face.pop("opinions") is None
    jsonschema.Draft202012Validator(report_schema()).validate(old)
    assert Report.model_validate(old).faces == make_report().faces
    assert make_report().schema_version == "1.1"


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_numbers_are_finite(number):
    with pytest.raises(ValidationError):
        make_face(log10_lr=number)


def test_names_that_are_not_utf8_survive():
    name = b"caf\xe9 \xff.jpg".decode("utf-8", "surrogateescape")
    report = make_report(name)
    assert report.path == "caf\\udce9 \\udcff.jpg"
    assert Report.model_validate_json(report.model_dump_json().encode("utf-8")).path == report.path
    assert restore_surrogates(report.path) == name
    assert escape_surrogates("plain \\u0041 é 😀") == "plain \\u0041 é 😀"
