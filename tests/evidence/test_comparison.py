"""What counts as a difference between two reports, and what does not."""

import json
from typing import Any

import pytest
from evidence_samples import make_face, make_report, make_track, refused_report
from hypothesis import given
from hypothesis import strategies as st

from unmask.evidence.comparison import TOLERANCES, compare_reports
from unmask.evidence.report import FileFinding


def as_json(report: Any) -> dict[str, Any]:
    return json.loads(report.model_dump_json())


def set_at(value: Any, place: str, new: Any) -> None:
    *outer, last = [int(part) if part.isdigit() else part for part in place.split(".")]
    for part in outer:
        value = value[part]
    value[last] = new


@pytest.mark.parametrize("report", [make_report(), refused_report(), make_report(faces=[make_face(), make_face(1)])])
def test_a_report_is_the_same_as_itself(report: Any) -> None:
    comparison = compare_reports(as_json(report), as_json(report))
    assert comparison.differences == () and not any(comparison.largest.values())


def test_what_says_when_and_where_is_not_compared() -> None:
    one, other = as_json(make_report()), as_json(make_report())
    other |= {"path": "elsewhere.jpg", "timings": {}, "identical_to": "x", "run": {"started": "now"}}
    other["notes"], other["case"] = [{"by": "A"}], {"case": "1"}
    other["tool"]["libraries"]["numpy"] = "0.1"
    other["media"]["modified"] = "2026-11-30T18:01:20+00:00"
    assert compare_reports(one, other).differences == ()


@pytest.mark.parametrize(
    ("place", "step", "tolerance"),
    [
        ("faces.0.log10_lr", 0.05, 0.05),
        ("faces.0.score", 0.05, 0.05),
        ("faces.0.box.2", 2.0, 2.0),
        ("faces.0.landmarks.4.1", 2.0, 2.0),
        ("faces.0.quality.components.pose", 2.0, 2.0),
        ("faces.0.detection_confidence", 0.02, 0.02),
        ("faces.0.decision.cllr", 0.000001, 1e-6),
    ],
)
def test_numbers_may_differ_by_their_tolerance_and_no_more(place: str, step: float, tolerance: float) -> None:
    one = as_json(make_report())
    value: Any = one
    for part in place.split("."):
        value = value[int(part) if part.isdigit() else part]
    within, beyond = as_json(make_report()), as_json(make_report())
    set_at(within, place, value + 0.9 * step)
    set_at(beyond, place, value + 1.1 * step)
    assert compare_reports(one, within).differences == ()
    (difference,) = compare_reports(one, beyond).differences
    assert (difference.field, difference.recorded, difference.tolerance) == (place, value, tolerance)
    assert difference.size == pytest.approx(1.1 * step)


@pytest.mark.parametrize(
    ("place", "new"),
    [
        ("verdict", "authentic"),
        ("support", "strong support for a forged face"),
        ("faces.0.verdict", "inconclusive"),
        ("faces.0.decision.worst_source", "another"),
        ("media.format", "png"),
        ("media.width", 641),
        ("speaker", None),
        ("propositions.0", "The face was not forged."),
        ("faces.0.index", 1),
    ],
)
def test_words_and_counts_must_be_equal(place: str, new: Any) -> None:
    one, other = as_json(make_report()), as_json(make_report())
    set_at(other, place, new)
    (difference,) = compare_reports(one, other).differences
    assert difference.field == place and difference.now == new and difference.tolerance is None


def test_another_number_of_faces_is_one_difference() -> None:
    one, other = as_json(make_report(faces=[make_face(), make_face(1)])), as_json(make_report(faces=[make_face()]))
    other["propositions"] = one["propositions"]  # they speak of the number as well
    (difference,) = compare_reports(one, other).differences
    assert difference.field == "faces, how many" and (difference.recorded, difference.now) == (2, 1)


def test_maps_are_compared_by_their_largest_difference_unless_they_were_left_out() -> None:
    one, other = as_json(make_report()), as_json(make_report())
    other["faces"][0]["map"]["values"][1][0] -= 0.3
    (difference,) = compare_reports(one, other).differences
    assert difference.field == "faces.0.map.values" and difference.size == pytest.approx(0.3)
    one["faces"][0]["map"] = None
    assert compare_reports(one, other).differences == ()


def test_fields_that_an_older_report_lacks_are_passed_over() -> None:
    old, new = as_json(make_report()), as_json(make_report())
    for face in old["faces"]:
        del face["decision"], face["naming"]
    del old["speaker"], old["findings"]
    assert compare_reports(old, new).differences == ()


def test_checks_that_cannot_be_made_here_are_passed_over() -> None:
    def finding(outcome: Any) -> FileFinding:
        return FileFinding(check="content_credentials", outcome=outcome, statement="s", meaning="m", details={})

    there = as_json(make_report(findings=[finding("absent")]))
    assert compare_reports(there, as_json(make_report(findings=[finding("not_checked")]))).differences == ()
    (difference,) = compare_reports(there, as_json(make_report(findings=[finding("notable")]))).differences
    assert difference.field == "findings.0.outcome"


def test_tracks_are_compared_point_by_point() -> None:
    one = make_report(kind="video", faces=[make_face(time=0.4, track=make_track([1.0, None, 2.0]))])
    other = make_report(kind="video", faces=[make_face(time=0.4, track=make_track([1.0, None, 2.3]))])
    differences = compare_reports(as_json(one), as_json(other)).differences
    assert "faces.0.track.2.log10_lr" in {difference.field for difference in differences}


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=5), st.lists, max_leaves=10))
def test_any_change_of_a_verdict_is_seen_and_nothing_breaks(new: Any) -> None:
    one, other = as_json(make_report()), as_json(make_report())
    other["verdict"] = new
    assert bool(compare_reports(one, other).differences) == (new != one["verdict"])


def test_every_quantity_has_a_positive_tolerance_and_fields_of_its_own() -> None:
    names = [name for one in TOLERANCES for name in one.names]
    assert len(names) == len(set(names)) and all(one.most > 0 for one in TOLERANCES)
