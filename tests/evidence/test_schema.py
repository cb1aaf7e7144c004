import json
from pathlib import Path

import jsonschema
import pytest
from evidence_samples import (
    make_face,
    make_opinions,
    make_report,
    make_sequence,
    make_track,
    no_edits,
    refused_face,
    refused_report,
)
from pydantic import ValidationError

from unmask.evidence.report import (
    EditSequence,
    ExaminerNote,
    FaceFinding,
    Opinion,
    Report,
    SequenceFinding,
    escape_surrogates,
    percent,
    restore_surrogates,
)
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
        make_report(faces=[make_face(sequence=make_sequence()), make_face(1, sequence=make_sequence("hair"))]),
        make_report(faces=[make_face(sequence=no_edits("no_local_edit")), make_face(1)]),
        make_report(
            faces=[
                make_face(sequence=no_edits("cannot_tell", 0.5)),
                make_face(1, sequence=no_edits("cannot_tell", None)),
            ]
        ),
    ],
    ids=["judged", "refused", "partly refused", "video", "opinions", "edits", "no local edit", "cannot tell"],
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


@pytest.mark.parametrize(
    ("sequence", "changes"),
    [
        (make_sequence(), {"best": None}),
        (make_sequence(), {"steps": []}),
        (make_sequence(), {"best": None, "steps": []}),
        (make_sequence(), {"reason": "Because."}),
        (make_sequence(), {"outcome": "no_local_edit"}),
        (make_sequence(), {"outcome": "cannot_tell", "reason": "Because."}),
        (no_edits("no_local_edit"), {"outcome": "edits"}),
        (no_edits("no_local_edit"), {"best": make_sequence().best}),
        (no_edits("no_local_edit"), {"steps": make_sequence().steps}),
        (no_edits("no_local_edit"), {"best": make_sequence().best, "steps": make_sequence().steps}),
        (no_edits("no_local_edit"), {"reason": "Because."}),
        (no_edits("cannot_tell"), {"reason": None}),
        (no_edits("cannot_tell"), {"outcome": "edits", "reason": None}),
        (no_edits("cannot_tell"), {"best": make_sequence().best}),
        (no_edits("cannot_tell"), {"steps": make_sequence().steps}),
        (no_edits("cannot_tell"), {"best": make_sequence().best, "steps": make_sequence().steps}),
        (make_sequence(), {"edited": None}),
        (no_edits("no_local_edit"), {"edited": None}),
        (make_sequence(), {"steps": make_sequence().steps[:1]}),
        (make_sequence(), {"steps": make_sequence().steps[::-1]}),
        (make_sequence(), {"best": EditSequence(edits=[], posterior=0.6)}),
    ],
)
def test_what_is_said_of_edits_is_consistent(sequence, changes):
    values = sequence.model_dump()
    assert SequenceFinding(**values) == sequence
    with pytest.raises(ValidationError, match="SequenceFinding"):
        SequenceFinding(**{**values, **changes})


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"outcome": "perhaps"}, "outcome"),
        ({"edited": 1.1}, "edited"),
        ({"edited": float("nan")}, "edited"),
        ({"best": {"edits": ["nose"], "posterior": -0.1}}, "best.posterior"),
        ({"alternatives": [{"edits": None, "posterior": 0.1}]}, "alternatives.0.edits"),
        ({"pack": None}, "pack"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_what_is_said_of_edits_is_well_formed(changes, where):
    with pytest.raises(ValidationError) as refused:
        SequenceFinding(**{**make_sequence().model_dump(), **changes})
    assert ".".join(str(part) for part in refused.value.errors()[0]["loc"]) == where


SINCE_1_6 = ("called_authentic", "misses", "n_real", "n_forged", "held_out", "cllr", "cllr_min")


def test_reports_of_schema_1_5_can_be_read():
    new = make_report(faces=[make_face(), refused_face(1)])
    old = json.loads(new.model_dump_json()) | {"schema_version": "1.5"}
    assert old.pop("run") is None and old.pop("case") is None and old.pop("notes") == []
    assert old["tool"].pop("unchecked") == [] and old["media"].pop("modified") is None
    for name in SINCE_1_6:
        del old["faces"][0]["decision"][name]
    jsonschema.Draft202012Validator(report_schema()).validate(old)
    read = Report.model_validate(old)
    assert read.schema_version == "1.5" and read.faces[0].decision.false_alarms == new.faces[0].decision.false_alarms
    assert read.faces[0].decision.cllr is None


@pytest.mark.parametrize("time", ["2026-11-30T18:01:20", "2026-11-30T18:01:20Z", "2026-11-30T19:01:20+01:00", "now"])
def test_times_are_in_utc_with_their_offset(time):
    note = {"by": "A. Example", "conclusion": "authentic", "reason": "the original was there"}
    assert ExaminerNote(time="2026-11-30T18:01:20+00:00", **note).time == "2026-11-30T18:01:20+00:00"
    with pytest.raises(ValidationError, match="time"):
        ExaminerNote(time=time, **note)


@pytest.mark.parametrize("version", ["1.0", "1.1", "1.2", "1.3", "1.4"])
def test_reports_written_before_edits_were_read_can_be_read(version):
    face = make_face(opinions=make_opinions(make_face(), other=-0.7) if version != "1.0" else None)
    new = make_report(faces=[face, refused_face(1)])
    old = json.loads(new.model_dump_json()) | {"schema_version": version}
    assert old.pop("run") is None and old.pop("case") is None and old.pop("notes") == []
    assert old["tool"].pop("unchecked") == [] and old["media"].pop("modified") is None
    assert old.pop("speaker") == 0 and old.pop("inconclusive") is None
    assert old.pop("decision")["set_by"] == "card"
    assert old.pop("findings") == [] and old.pop("identical_to") is None
    assert all(face["sequence"] is None for face in old["faces"])
    assert version in ("1.3", "1.4") or old["media"].pop("synthetic_mark") is None
    for face in old["faces"]:
        assert face.pop("naming") is None
        face.pop("decision")
        assert face.pop("inconclusive") is None
        assert version == "1.4" or [face.pop(name) for name in ("frames_seen", "frames_scored")] == [None] * 2
        assert (
            version in ("1.3", "1.4") or [face["quality"].pop(name) for name in ("yaw", "pitch", "roll")] == [None] * 3
        )
    if version == "1.0":
        for face in old["faces"]:
            assert face.pop("opinions") is None
    jsonschema.Draft202012Validator(report_schema()).validate(old)
    read = Report.model_validate(old)
    assert [face.model_copy(update={"decision": None}) for face in new.faces] == read.faces
    assert read.schema_version == version and new.schema_version == "1.6"


def test_reports_written_before_there_were_opinions_can_be_read():
    old = json.loads(make_report().model_dump_json()) | {"schema_version": "1.0"}
    for face in old["faces"]:
        assert face.pop("opinions") is None
    jsonschema.Draft202012Validator(report_schema()).validate(old)
    assert Report.model_validate(old).faces == make_report().faces


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


@pytest.mark.parametrize("verdict", ["authentic", "refused"])
def test_edits_are_not_read_of_faces_judged_authentic_or_refused(verdict):
    face = make_face(logit=-6.0) if verdict == "authentic" else refused_face()
    assert face.verdict == verdict
    with pytest.raises(ValidationError, match="edits are read of faces judged forged or inconclusive alone"):
        FaceFinding(**{**face.model_dump(), "sequence": no_edits("no_local_edit").model_dump()})


@pytest.mark.parametrize(
    ("share", "words"),
    [(0, "0 %"), (0.0001, "<1 %"), (0.01, "1 %"), (0.374, "37 %"), (0.99, "99 %"), (0.997, ">99 %"), (1, "100 %")],
)
def test_what_is_not_quite_certain_is_not_shown_as_certain(share, words):
    assert percent(share) == words
