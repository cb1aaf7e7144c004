"""What is said of faces that were not edited step by step: drawn faces, and posteriors made by hand."""

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from edited_faces import edited_faces, scores
from fake_faces import make_face, make_faces
from tiny_edit_model import make_reading

from unmask.datasets.face_store import StoredFace
from unmask.edits.labels import TRACKS, all_sequences, place_of
from unmask.edits.prediction import EditPrediction
from unmask.errors import DataError
from unmask.lab.detection.held_out import EvalFace
from unmask.lab.edits.checks import (
    Others,
    check_others,
    check_own,
    made_by_part,
    other_faces,
    other_tables,
    own_table,
)
from unmask.lab.evaluate import as_markdown
from unmask.lab.task import Evaluation
from unmask.packs.card import Metric

pytestmark = pytest.mark.lab

SIZE, MARGIN = 64, 2.0
REALS = ("authentic ffhq", "authentic ciplab", "authentic celebamask", "authentic utkface")


@pytest.fixture(autouse=True)
def _few_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sets here are small; that few faces are marked is tested with the tables."""
    monkeypatch.setattr("unmask.tables.LEAST", 1)


def face(label: int = 0, family: str = "real", source: str = "ffhq", subject: str = "", flags: str = "") -> EvalFace:
    """A face of which nothing is seen; `flags` are CIPLAB's, as "1010"."""
    blank = np.zeros((8, 8, 3), np.uint8)
    return EvalFace(
        crop=blank,
        label=label,
        family=family,
        source=source,
        subject=subject,
        picture=blank,
        box=(0, 0, 8, 8),
        points=np.zeros((5, 2), np.float32),
        mask=None,
        regions=tuple((np.ones((28, 28), np.float32), flag == "1") for flag in flags),
    )


def others_of(*faces: EvalFace) -> Others:
    """Some faces, each another subject's where none is named."""
    return Others(tuple(replace(one, subject=one.subject or str(number)) for number, one in enumerate(faces)))


def edited_by(*shares: float, edits: Sequence[int] = (1,)) -> np.ndarray:
    """Scores by which each face was edited with a probability, in one way, or was not at all."""
    table = np.full((len(shares), len(all_sequences())), -1e3)
    table[:, 0] = np.log(1 - np.array(shares))
    table[:, place_of(edits)] = np.log(shares)
    return table


def of(result: Evaluation, dataset: str, name: str) -> Metric:
    metric = result.value(dataset, name, "other faces")
    assert metric is not None, (dataset, name)
    return metric


def checked(others: Others, score_rows: np.ndarray, **reading: Any) -> Evaluation:
    result = Evaluation("test")
    check_others(result, others, score_rows, make_reading(**reading))
    return result


# Faces


@pytest.fixture(scope="module")
def stored() -> list[StoredFace]:
    """Two of everything in the test split, and what is passed over: other forgeries, and other splits."""
    strange = [
        make_face(90, label=1, family="swap", split="test"),
        make_face(91, label=1, family="stylegan", split="val"),
        make_face(92, split="train"),
    ]
    return [*make_faces("test", count=2), *strange]


def test_faces_are_grouped_by_kind(stored: list[StoredFace]) -> None:
    others = other_faces(stored, "test", SIZE, MARGIN)
    groups = others.groups()
    synthetic = ("synthetic stylegan", "synthetic mobilestylegan", "synthetic pggan")
    assert groups.keys() == {*REALS, *synthetic, "ciplab"}
    for kind, numbers in groups.items():
        some = [others.faces[number] for number in numbers]
        assert len(some) == 2 and {one.label for one in some} == {int(kind not in REALS)}
        assert {one.source if kind in REALS else one.family for one in some} == {kind.split()[-1]}


def test_the_reals_that_stand_beside_pggan_are_no_faces_of_their_own(stored: list[StoredFace]) -> None:
    """They are the authentic ones again, made smaller."""
    others = other_faces(stored, "test", SIZE, MARGIN)
    smaller = [number for number, one in enumerate(others.faces) if "@" in one.source and not one.label]
    assert len(smaller) == 2
    assert not set(smaller) & {number for numbers in others.groups().values() for number in numbers.tolist()}


def test_faces_are_cropped_as_asked(stored: list[StoredFace]) -> None:
    crops = other_faces(stored, "test", SIZE, MARGIN).crops
    assert crops.dtype == np.uint8 and crops.shape == (18, SIZE, SIZE, 3)
    wider = other_faces(stored, "test", SIZE, 1.5).crops
    assert all((one != other).any() for one, other in zip(crops, wider, strict=True))


def test_nothing_is_made_and_other_forgeries_and_splits_are_passed_over(stored: list[StoredFace]) -> None:
    others = other_faces(stored, "test", SIZE, MARGIN)
    assert {one.family for one in others.faces} == {"real", "stylegan", "mobilestylegan", "pggan", "ciplab"}
    strange = {one.sample.subject for one in stored[-3:]}
    assert not strange & {one.subject for one in others.faces}
    held = other_faces(stored, "val", SIZE, MARGIN)
    assert [one.subject for one in held.faces] == [stored[-2].sample.subject]


def test_of_every_source_there_are_as_many_as_asked_at_most() -> None:
    few = other_faces(make_faces("test", count=3), "test", SIZE, MARGIN, most=2)
    assert {kind: len(numbers) for kind, numbers in few.groups().items()} == dict.fromkeys(few.groups(), 2)
    assert len(few.groups()) == 8


def test_a_split_without_such_faces_is_refused(stored: list[StoredFace]) -> None:
    message = "no authentic or wholly synthetic face is in the split cal; give data that have some"
    with pytest.raises(DataError, match=message):
        other_faces(stored, "cal", SIZE, MARGIN)
    with pytest.raises(DataError, match=message):
        other_faces([make_face(0, label=1, family="swap", split="cal")], "cal", SIZE, MARGIN)


# Parts


def test_a_part_was_edited_in_every_sequence_that_holds_it() -> None:
    shares = np.zeros((2, len(all_sequences())))
    for edits, share in (((), 0.1), ((1,), 0.2), ((2, 1), 0.3), ((5, 4, 3, 2, 1), 0.4)):
        shares[0, place_of(edits)] = share
    shares[1, 0] = 1
    np.testing.assert_allclose(made_by_part(shares), [[0.9, 0.7, 0.4, 0.4, 0.4], [0.0] * 5], atol=1e-12)


def test_the_share_of_a_part_is_the_one_that_is_reported_of_a_face() -> None:
    drawn = np.random.default_rng(0).dirichlet(np.ones(len(all_sequences())), 3)
    blank = np.zeros((8, 8, 3), np.uint8)
    readings = [EditPrediction(shares, np.zeros((5, 2, 2), np.float32), blank) for shares in drawn]
    expected = np.array([[reading.made(edit) for edit in range(1, 6)] for reading in readings])
    np.testing.assert_allclose(made_by_part(drawn), expected)


# How often edits are named


def test_false_edits_are_counted_by_kind() -> None:
    others = others_of(
        *[face()] * 4,
        face(source="utkface"),
        *[face(1, "stylegan")] * 2,
        face(1, "pggan", "celebamask@128"),
        face(0, "real", "celebamask@128"),
    )
    said = edited_by(0.95, 0.85, 0.5, 0.05, 0.02, 0.97, 0.5, 0.03, 0.99)
    result = checked(others, said, edited_at=0.8, untouched_at=0.1)
    expected = {  # edits named, "no local edit", authentic, synthetic
        "authentic ffhq": (2 / 4, 1 / 4, 4, 0),
        "authentic utkface": (0, 1, 1, 0),
        "synthetic stylegan": (1 / 2, 0, 0, 2),
        "synthetic pggan": (0, 1, 0, 1),
    }
    assert {metric.dataset for metric in result.metrics} == set(expected)
    for kind, (named, silent, *counts) in expected.items():
        metrics = [of(result, kind, name) for name in ("edits_named", "no_local_edit_said")]
        assert [metric.value for metric in metrics] == [named, silent]
        assert [[metric.n_real, metric.n_forged] for metric in metrics] == [counts] * 2


def test_what_lies_at_a_limit_is_said() -> None:
    others, half = others_of(face()), np.full((1, len(all_sequences())), -1e4)
    half[0, [0, 1]] = 0
    named = checked(others, half, edited_at=0.5, untouched_at=0.1)
    silent = checked(others, half, edited_at=0.9, untouched_at=0.5)
    for result, shares in ((named, [1, 0]), (silent, [0, 1])):
        assert [of(result, REALS[0], name).value for name in ("edits_named", "no_local_edit_said")] == shares


def test_posteriors_are_those_of_the_cards_temperature() -> None:
    """At twice the temperature, 0.99 becomes 0.909: the root of 99 to one."""
    others, said = others_of(face()), edited_by(0.99)
    for temperature, limit, named in ((1.0, 0.95, 1), (2.0, 0.95, 0), (2.0, 0.9, 1), (2.0, 0.91, 0)):
        result = checked(others, said, temperature=temperature, edited_at=limit)
        assert of(result, REALS[0], "edits_named").value == named


def test_intervals_resample_whole_subjects() -> None:
    """Of two people one is always said to be edited, the other never: a resample holds either, or both."""
    said = edited_by(*[0.99] * 20, *[0.01] * 20)
    of_two = checked(others_of(*[face(subject="a")] * 20, *[face(subject="b")] * 20), said)
    of_forty = checked(others_of(*[face()] * 40), said)
    for name in ("edits_named", "no_local_edit_said"):
        whole, apart = of(of_two, REALS[0], name), of(of_forty, REALS[0], name)
        assert whole.value == apart.value == 0.5 and (whole.low, whole.high) == (0, 1)
        # Of forty independent coins: 0.5 -+ 1.96 * sqrt(0.25 / 40).
        assert (apart.low, apart.high) == pytest.approx((0.345, 0.655), abs=0.05)


# CIPLAB

COMPOSITES = {  # flags of left eye, right eye, nose and mouth: what is said of the composite
    "1000": (2,),
    "0100": (2, 1),
    "1100": (1, 5),
    "0010": (1,),
    "0011": (4, 1),
    "0001": (),
}
"""The eyes were pasted in three, the nose in two, the mouth in two; hair and brows are not known."""


def composites(*flags: str) -> list[EvalFace]:
    return [face(1, "ciplab", "ciplab", flags=one) for one in flags]


@pytest.fixture(scope="module")
def ciplab() -> Evaluation:
    """Composites between other faces, which have no say in it."""
    others = others_of(face(), *composites(*COMPOSITES), face(1, "stylegan"))
    return checked(others, scores(*([place_of(edits)] for edits in ((1, 2, 4), *COMPOSITES.values(), (1, 2, 4)))))


@pytest.mark.parametrize(
    ("part", "agreement", "area", "constant", "pasted"),
    [
        # Said of two of three with and of none of three without.
        ("eye", 5 / 6, (2 * 3 + 1 * 3 / 2) / 9, 3 / 6, 3),
        # Said of both with and of two of four without.
        ("nose", 4 / 6, (2 * 2 + 2 * 2 / 2) / 8, 4 / 6, 2),
        # Said of one of two with and of none of four without.
        ("lip", 5 / 6, (1 * 4 + 1 * 4 / 2) / 8, 4 / 6, 2),
    ],
)
def test_the_parts_that_are_said_are_compared_with_those_that_were_pasted(
    ciplab: Evaluation, part: str, agreement: float, area: float, constant: float, pasted: int
) -> None:
    names = (f"agreement_{part}", f"auc_{part}", f"agreement_of_a_constant_{part}")
    metrics = [of(ciplab, "ciplab", name) for name in names]
    assert [metric.value for metric in metrics] == pytest.approx([agreement, area, constant], abs=5.1e-5)
    assert {(metric.n_real, metric.n_forged) for metric in metrics} == {(6 - pasted, pasted)}
    for metric in metrics[:2]:
        assert metric.low is not None and metric.high is not None and metric.low <= metric.value <= metric.high
    assert metrics[2].low is metrics[2].high is None


def test_agreement_is_that_of_all_parts_together(ciplab: Evaluation) -> None:
    metric = of(ciplab, "ciplab", "agreement")
    assert metric.value == pytest.approx((5 + 4 + 5) / 18, abs=5.1e-5) and (metric.n_real, metric.n_forged) == (0, 6)


def test_composites_are_a_kind_of_face_beside_the_others(ciplab: Evaluation) -> None:
    metric = of(ciplab, "ciplab", "edits_named")
    assert metric.value == pytest.approx(5 / 6, abs=5.1e-5) and (metric.n_real, metric.n_forged) == (0, 6)
    assert [of(ciplab, kind, "edits_named").value for kind in (REALS[0], "synthetic stylegan")] == [1, 1]


def test_a_part_is_said_from_one_half_on() -> None:
    others, said = others_of(*composites("0010", "0010")), np.full((2, len(all_sequences())), -1e4)
    said[0, [0, place_of((1,))]] = 0  # one half
    said[1, [0, place_of((1,)), place_of((2,))]] = 0  # a third
    assert of(checked(others, said), "ciplab", "agreement_nose").value == 0.5


def test_a_part_pasted_in_all_composites_or_in_none_has_no_area() -> None:
    result = checked(others_of(*composites("1010", "0110")), edited_by(0.99, 0.99, edits=(2,)))
    assert not [metric for metric in result.metrics if metric.name.startswith("auc")]
    shares = [of(result, "ciplab", f"agreement_{part}").value for part in ("eye", "nose", "lip")]
    assert shares == [1, 0, 1]
    constants = [of(result, "ciplab", f"agreement_of_a_constant_{part}").value for part in ("eye", "nose", "lip")]
    assert constants == [1, 1, 1]
    assert "| nose | – | 0.000 [0.000, 0.000] | 1.000 |" in as_markdown(other_tables(result)).splitlines()


def test_edits_of_another_track_are_not_compared_with_pasted_parts() -> None:
    edits = TRACKS["facial_attributes"].edits
    result = checked(others_of(*composites("1000", "0010")), edited_by(0.99, 0.01), edits=edits)
    assert [(metric.dataset, metric.name, metric.value) for metric in result.metrics] == [
        ("ciplab", "edits_named", 0.5),
        ("ciplab", "no_local_edit_said", 0.5),
    ]


def test_drawn_composites_carry_the_flags_of_their_rows(stored: list[StoredFace]) -> None:
    """Theirs is "1010": one eye and the nose."""
    others = other_faces(stored, "test", SIZE, MARGIN)
    right = [place_of((1, 2) if one.family == "ciplab" else ()) for one in others.faces]
    result = checked(others, scores(*([place] for place in right)))
    assert [of(result, "ciplab", f"agreement_{part}").value for part in ("eye", "nose", "lip")] == [1, 1, 1]
    assert of(result, "ciplab", "edits_named").value == 1
    assert {of(result, kind, "edits_named").value for kind in others.groups() if kind != "ciplab"} == {0}


# What is printed


def test_the_table_holds_every_kind_and_every_part(ciplab: Evaluation) -> None:
    table = as_markdown(other_tables(ciplab))
    first, second = table.split("\n\n")
    assert first.splitlines() == [
        '| faces | number | edits named [95 %] | "no local edit" |',
        "|---|---|---|---|",
        "| authentic ffhq | 1 | 1.000 [1.000, 1.000] | 0.000 [0.000, 0.000] |",
        f"| ciplab | 6 | 0.833 [{of(ciplab, 'ciplab', 'edits_named').low:.3f}, 1.000] | "
        f"0.167 [0.000, {of(ciplab, 'ciplab', 'no_local_edit_said').high:.3f}] |",
        "| synthetic stylegan | 1 | 1.000 [1.000, 1.000] | 0.000 [0.000, 0.000] |",
    ]
    assert re.sub(r" \[[^\]]*\]", "", second).splitlines() == [
        "| CIPLAB's part | AUC | agreement at one half | of a constant |",
        "|---|---|---|---|",
        "| eye | 0.833 | 0.833 | 0.500 |",
        "| nose | 0.750 | 0.667 | 0.667 |",
        "| lip | 0.750 | 0.833 | 0.667 |",
    ]


def test_the_table_of_faces_without_composites_has_no_parts() -> None:
    result = checked(others_of(face(), face(1, "stylegan")), edited_by(0.99, 0.01))
    assert as_markdown(other_tables(result)).splitlines()[2:] == [
        "| authentic ffhq | 1 | 1.000 [1.000, 1.000] | 0.000 [0.000, 0.000] |",
        "| synthetic stylegan | 1 | 0.000 [0.000, 0.000] | 1.000 [1.000, 1.000] |",
    ]


# The set's own faces


def test_what_is_said_of_the_sets_own_faces_is_counted_by_their_number_of_edits() -> None:
    rows = ("00000", "00000", "10000", "20000", "12000", "21000", "12300")
    faces = edited_faces(np.zeros((len(rows), 8, 8, 3), np.uint8), [[int(number) for number in row] for row in rows])
    said = edited_by(0.1, 0.9, 0.1, 0.5, 0.8, 0.95, 0.5)
    result = Evaluation("test")
    check_own(result, faces, said, make_reading(edited_at=0.75, untouched_at=0.15))
    named = {
        metric.dataset: (metric.value, metric.n_real, metric.n_forged)
        for metric in result.metrics
        if metric.name == "edits_named"
    }
    assert named == {"0 edits": (0.5, 2, 0), "1 edits": (0, 0, 2), "2 edits": (1, 0, 2), "3 edits": (0, 0, 1)}
    silent = [metric.value for metric in result.metrics if metric.name == "no_local_edit_said"]
    assert silent == [0.5, 0.5, 0, 0]
    assert {metric.condition for metric in result.metrics} == {"own faces"}
    lines = [re.sub(r" \[[^]]*\]", "", line) for line in as_markdown([own_table(result)]).splitlines()]
    assert lines[2:] == [
        "| 0 edits | 2 | 0.500 | 0.500 |",
        "| 1 edits | 2 | 0.000 | 0.500 |",
        "| 2 edits | 2 | 1.000 | 0.000 |",
        "| 3 edits | 1 | 0.000 | 0.000 |",
    ]
    assert len(as_markdown(other_tables(result)).splitlines()) == 2
