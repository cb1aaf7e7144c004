"""The evaluation of edit reading: faces and numbers worked out by hand, and runs on a small set on disk."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from edit_runs import write_run
from edited_faces import edited_faces, scores
from edited_portraits import write_edited
from fake_faces import make_picture
from kornia.metrics import ssim
from progress_log import ProgressLog

from unmask.edits.labels import TRACKS, place_of
from unmask.errors import DataError
from unmask.lab.config import LabPaths
from unmask.lab.edits.config import EditTrainConfig
from unmask.lab.edits.edited_faces import CELLS, NOT_KNOWN, PER_EDIT, UNION
from unmask.lab.edits.evaluate import (
    DECODINGS,
    SplitPredictions,
    decodings,
    evaluate,
    identity_likeness,
    predict_split,
    tables,
)
from unmask.lab.edits.feed import EditPredictions
from unmask.lab.edits.task import EditTask
from unmask.lab.evaluate import (
    Compared,
    as_markdown,
    compare,
    comparison_table,
    write_comparison,
    write_evaluation,
)
from unmask.lab.run import Run
from unmask.lab.task import Evaluation
from unmask.packs.card import Metric
from unmask.progress import SILENT

pytestmark = pytest.mark.lab

TASK = EditTask()
CASES = (
    # truth, joint, closed set, greedy
    ("00000", "00000", "00000", "00000"),
    ("00000", "20000", "20000", "00000"),
    ("10000", "10000", "10000", "11000"),
    ("20000", "00000", "00000", "20000"),
    ("12000", "21000", "12000", "12000"),
    ("31000", "31000", "31000", "13000"),
    ("12300", "32100", "12300", "12000"),
    ("12340", "12340", "12300", "12340"),
    ("12345", "12354", "12345", "12345"),
    ("54321", "54321", "12345", "00000"),
)
KNOWN = ("00000", "10000", "20000", "12000", "31000", "12300", "12345")


@pytest.fixture(autouse=True)
def _few_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sets here are small; that few faces are marked is tested with the tables."""
    monkeypatch.setattr("unmask.tables.LEAST", 1)


def numbers(*texts: str) -> np.ndarray:
    return np.array([[int(number) for number in text] for text in texts], np.uint8)


def places(*texts: str) -> tuple[int, ...]:
    return tuple(place_of(row) for row in numbers(*texts).tolist())


def predicted(
    cases: Sequence[tuple[str, str, str, str]],
    known: Sequence[str] = KNOWN,
    subjects: Sequence[str] | None = None,
    areas: np.ndarray | None = None,
    recovered: np.ndarray | None = None,
    **pixels: Any,
) -> SplitPredictions:
    """What is said of faces whose truth and decodings are given; `pixels` are of `edited_faces`."""
    truth, joint, closed, greedy = zip(*cases, strict=True)
    pixels.setdefault("faces", np.zeros((len(cases), 8, 8, 3), np.uint8))
    faces = edited_faces(sequences=numbers(*truth).tolist(), **pixels)
    if subjects is not None:
        samples = [replace(one, subject=who) for one, who in zip(faces.samples, subjects, strict=True)]
        faces = replace(faces, samples=tuple(samples))
    ranked = scores(*(list(dict.fromkeys(places(*both))) for both in zip(joint, closed, strict=True)))
    said = EditPredictions(ranked, numbers(*greedy), areas, recovered)
    return SplitPredictions(faces, said, decodings(said, places(*known)), places(*known))


def right(*truth: str) -> list[tuple[str, str, str, str]]:
    """Cases in which all is read as it is."""
    return [(one, one, one, one) for one in truth]


def of(result: Evaluation, dataset: str, name: str, condition: str = "joint") -> Metric:
    metric = result.value(dataset, name, condition)
    assert metric is not None, (dataset, name, condition)
    return metric


def shares(result: Evaluation, dataset: str, condition: str, *names: str) -> list[float]:
    return [of(result, dataset, name, condition).value for name in names]


def report(result: Evaluation) -> str:
    """An evaluation as it is printed."""
    return as_markdown(tables(result))


def close(*values: float) -> Any:
    """Numbers as an evaluation keeps them, to four decimals."""
    return pytest.approx(values, abs=5.1e-5)


@pytest.fixture(scope="module")
def result() -> Evaluation:
    return evaluate(predicted(CASES), "val")


def test_every_way_of_decoding_stands_under_its_own_name() -> None:
    truth, joint, closed, greedy = zip(*CASES, strict=True)
    sequences = predicted(CASES).sequences
    assert tuple(sequences) == DECODINGS
    expected = (joint, closed, greedy, ["00000"] * len(truth))
    for name, texts in zip(DECODINGS, expected, strict=True):
        assert sequences[name].dtype == np.uint8 and (sequences[name] == numbers(*texts)).all()


def test_the_closed_set_holds_none_but_the_sequences_seen_in_training() -> None:
    drawn = np.random.default_rng(0).normal(size=(200, 326)).astype(np.float32)
    seen = places("12000", "30000", "54000")
    sequences = decodings(EditPredictions(drawn, numbers(*["00000"] * 200), None, None), seen)
    assert [place_of(row) for row in sequences["closed set"].tolist()] == [
        seen[one] for one in drawn[:, seen].argmax(1)
    ]
    assert [place_of(row) for row in sequences["joint"].tolist()] == drawn.argmax(1).tolist()


@pytest.mark.parametrize(
    ("decoding", "csm", "adaptive", "fixed", "profile"),
    [
        ("joint", 5 / 10, 17 / 25, 42 / 50, (0.6, 0.6, 0.6, 0.5, 0.5)),
        ("closed set", 6 / 10, 18 / 25, 43 / 50, (0.7, 0.7, 0.7, 0.6, 0.6)),
        ("greedy", 6 / 10, 17 / 26, 41 / 50, (0.8, 0.7, 0.6, 0.6, 0.6)),
        ("nothing", 2 / 10, 2 / 25, 27 / 50, (0.2,) * 5),
    ],
)
def test_every_way_of_decoding_has_the_numbers_worked_out_by_hand(
    result: Evaluation, decoding: str, csm: float, adaptive: float, fixed: float, profile: Sequence[float]
) -> None:
    assert shares(result, "all", decoding, "csm", "adaptive_accuracy", "fixed_accuracy") == close(csm, adaptive, fixed)
    assert shares(result, "all", decoding, *(f"csm@{k}" for k in range(1, 6))) == close(*profile)
    metric = of(result, "all", "csm", decoding)
    assert (metric.n_real, metric.n_forged) == (2, 8) and result.split == "val"


@pytest.mark.parametrize(
    ("length", "faces", "joint", "closed", "greedy"),
    [
        (0, 2, (1 / 2, 1 / 2, 9 / 10), 1 / 2, 1),
        (1, 2, (1 / 2, 1 / 2, 9 / 10), 1 / 2, 1 / 2),
        (2, 2, (1 / 2, 2 / 4, 8 / 10), 1, 1 / 2),
        (3, 1, (0, 1 / 3, 3 / 5), 1, 0),
        (4, 1, (1, 1, 1), 0, 1),
        (5, 2, (1 / 2, 8 / 10, 8 / 10), 1 / 2, 1 / 2),
    ],
)
def test_every_length_has_its_own_numbers(
    result: Evaluation, length: int, faces: int, joint: tuple[float, ...], closed: float, greedy: float
) -> None:
    group = f"{length} edits"
    assert shares(result, group, "joint", "csm", "adaptive_accuracy", "fixed_accuracy") == close(*joint)
    assert [of(result, group, "csm", name).value for name in DECODINGS[1:3]] == close(closed, greedy)
    metric = of(result, group, "csm")
    assert (metric.n_real, metric.n_forged) == ((faces, 0) if length == 0 else (0, faces))


def test_orders_seen_in_training_stand_apart_from_those_that_were_not(result: Evaluation) -> None:
    seen, other = "orders seen in training", "orders not seen"
    assert [of(result, seen, "csm", name).value for name in DECODINGS] == close(1 / 4, 1, 2 / 4, 0)
    assert [of(result, other, "csm", name).value for name in DECODINGS] == close(1, 0, 1 / 2, 0)
    assert shares(result, seen, "joint", "adaptive_accuracy", "fixed_accuracy") == close(6 / 12, 14 / 20)
    assert shares(result, other, "closed set", "adaptive_accuracy", "fixed_accuracy") == close(4 / 9, 5 / 10)
    counts = [(of(result, group, "csm").n_real, of(result, group, "csm").n_forged) for group in (seen, other)]
    assert counts == [(0, 4), (0, 2)]


def test_where_training_showed_every_order_none_is_called_unseen() -> None:
    result = evaluate(predicted(CASES, known=sorted({case[0] for case in CASES})), "val")
    assert result.value("orders not seen", "csm", "joint") is None
    assert of(result, "orders seen in training", "csm").n_forged == 6


@pytest.mark.parametrize(
    ("name", "share", "counts"),
    [
        ("length_right", 8 / 10, (2, 8)),
        ("parts_right", 8 / 10, (2, 8)),
        ("order_right_of_right_parts", 3 / 6, (0, 6)),
        ("order_of_pairs_right", 26 / 31, (0, 6)),
        ("adjacent_swap", 2 / 6, (0, 6)),
        ("untouched_called_edited", 1 / 2, (2, 0)),
        ("edited_called_untouched", 1 / 8, (0, 8)),
        ("step_right_last", 4 / 8, (0, 8)),
        ("step_right_1_before_last", 4 / 6, (0, 6)),
        ("step_right_2_before_last", 3 / 4, (0, 4)),
        ("step_right_3_before_last", 3 / 3, (0, 3)),
        ("step_right_4_before_last", 2 / 2, (0, 2)),
    ],
)
def test_every_kind_of_mistake_is_counted_among_the_faces_that_can_show_it(
    result: Evaluation, name: str, share: float, counts: tuple[int, int]
) -> None:
    metric = of(result, "all", name)
    assert [metric.value] == close(share) and (metric.n_real, metric.n_forged) == counts


def test_order_is_judged_of_faces_with_several_edits_whose_parts_are_right() -> None:
    cases = (("12000", "12000"), ("34000", "43000"), ("12300", "45000"), ("10000", "10000"), ("00000", "00000"))
    result = evaluate(predicted([(truth, said, said, said) for truth, said in cases]), "val")
    metric = of(result, "all", "order_right_of_right_parts")
    assert metric.value == 0.5 and (metric.n_real, metric.n_forged) == (0, 2)


@pytest.mark.parametrize(
    ("edit", "hit", "false", "made"),
    [(1, 7 / 7, 0 / 3, 7), (2, 5 / 6, 1 / 4, 6), (3, 1, 0, 5), (4, 1, 0, 3), (5, 1, 0, 2)],
)
def test_every_edit_is_distinguished_from_its_absence(
    result: Evaluation, edit: int, hit: float, false: float, made: int
) -> None:
    assert shares(result, f"edit {edit}", "joint", "found", "false") == close(hit, false)
    there, away = (of(result, f"edit {edit}", name) for name in ("found", "false"))
    assert (there.n_real, there.n_forged) == (0, made) and (away.n_real, away.n_forged) == (2, 8 - made)


def test_an_edit_that_all_faces_hold_or_none_has_no_share_of_the_others() -> None:
    result = evaluate(predicted(right("10000", "12000", "31000")), "val")
    assert of(result, "edit 1", "found").value == 1 and result.value("edit 1", "false", "joint") is None
    for edit in (4, 5):
        assert of(result, f"edit {edit}", "false").value == 0 and result.value(f"edit {edit}", "found", "joint") is None
    assert "| 5 | – | 0.000 [0.000, 0.000] |" in report(result).splitlines()


def test_faces_that_are_all_untouched_are_measured_by_what_can_be() -> None:
    result = evaluate(predicted(right("00000", "00000")), "val")
    assert [of(result, group, "csm").value for group in ("all", "0 edits")] == [1, 1]
    assert of(result, "all", "untouched_called_edited").value == 0
    several = ("order_right_of_right_parts", "order_of_pairs_right", "adjacent_swap")
    absent = ("edited_called_untouched", *several, "step_right_last")
    assert not {metric.name for metric in result.metrics} & {*absent, "found"}
    assert {metric.dataset for metric in result.metrics} == {"all", "0 edits", *(f"edit {n}" for n in range(1, 6))}


def test_every_share_lies_in_its_interval(result: Evaluation) -> None:
    assert len(result.metrics) > 100
    for metric in result.metrics:
        assert metric.low is not None and metric.high is not None
        assert 0 <= metric.low <= metric.value <= metric.high <= 1


def test_intervals_resample_whole_subjects() -> None:
    """Of two people one is read right and the other wrong: a resample holds either, or both."""
    cases = [*right("12000") * 20, *[("12000", "21000", "21000", "21000")] * 20]
    of_two = evaluate(predicted(cases, subjects=["a"] * 20 + ["b"] * 20), "val")
    of_forty = evaluate(predicted(cases), "val")
    for group, name in (("all", "csm"), ("2 edits", "csm"), ("all", "adjacent_swap"), ("all", "step_right_last")):
        whole, apart = of(of_two, group, name), of(of_forty, group, name)
        assert whole.value == apart.value == 0.5
        assert (whole.low, whole.high) == (0, 1)
        # Of forty independent coins: 0.5 -+ 1.96 * sqrt(0.25 / 40).
        assert (apart.low, apart.high) == pytest.approx((0.345, 0.655), abs=0.06)


# Areas


def area(columns: Mapping[int, tuple[int, int]], grid: int = CELLS) -> np.ndarray:
    """(5, grid, grid): for some edits 1 from one column up to another, from the top to the bottom; else 0."""
    areas = np.zeros((5, grid, grid), np.float32)
    for edit, (left, end) in columns.items():
        areas[edit - 1, :, left:end] = 1
    return areas


def painted(
    cases: Sequence[str], said: Sequence[np.ndarray], made: Sequence[np.ndarray], **facts: Any
) -> SplitPredictions:
    """Faces whose sequences are read as they are, with areas said and made."""
    return predicted(right(*cases), areas=np.stack(said), masks=(255 * np.stack(made)).astype(np.uint8), **facts)


def test_areas_are_compared_with_those_of_the_edits_that_were_made() -> None:
    """Of the nose 32 of 48 columns are shared, of the eye all, of the lip none; hair is said where none was made."""
    made = [area({1: (0, 32), 2: (10, 26)}), area({4: (0, 20)}), area({})]
    said = [area({1: (0, 48), 2: (10, 26), 5: (0, 64)}), area({4: (20, 64), 1: (0, 64)}), area({1: (0, 64)})]
    metric = of(evaluate(painted(["12000", "40000", "00000"], said, made), "val"), "all", "area_iou")
    assert [metric.value] == close((32 / 48 + 1 + 0) / 3)
    assert (metric.n_real, metric.n_forged) == (0, 2)


@pytest.mark.parametrize(
    ("said", "share"),
    [(area({1: (0, 8)}, 16), 1.0), (0.6 * area({1: (0, 16)}, 16), 0.5), (0.4 * area({1: (0, 8)}, 16), 0)],
)
def test_an_area_counts_from_one_half_on_and_on_the_grid_of_the_masks(said: np.ndarray, share: float) -> None:
    """A coarser map is enlarged: 8 of 16 columns are 32 of 64."""
    given = painted(["10000"] * 2, [said] * 2, [area({1: (0, 32)})] * 2)
    assert [of(evaluate(given, "val"), "all", "area_iou").value] == close(share)


def test_areas_count_only_where_it_is_known_what_each_edit_changed() -> None:
    """Of several edits whose union alone is known none has its own area; of a single one the union is its own."""
    union = np.repeat(area({1: (0, 32)})[:1], 5, axis=0)
    said = [area({1: (0, 16)}), area({1: (0, 64)}), area({1: (0, 64)}), area({2: (0, 32)})]
    given = painted(
        ["10000", "12000", "10000", "20000"],
        said,
        [area({1: (0, 32)}), union, area({1: (0, 32)}), union],
        states=[PER_EDIT, UNION, NOT_KNOWN, UNION],
    )
    metric = of(evaluate(given, "val"), "all", "area_iou")
    assert [metric.value] == close((0.5 + 1) / 2) and metric.n_forged == 2


@pytest.mark.parametrize("states", [[NOT_KNOWN, NOT_KNOWN], [PER_EDIT, NOT_KNOWN]])
def test_where_no_edits_area_is_known_there_is_no_share(states: list[int]) -> None:
    given = painted(["00000", "10000"], [area({})] * 2, [area({})] * 2, states=states)
    assert evaluate(given, "val").value("all", "area_iou", "joint") is None


# Recovery

SIDE = CELLS
GREY = np.full((SIDE, SIDE, 3), 100, np.uint8)
QUARTER = area({1: (0, 16)})


def changed(inside: int, outside: int) -> np.ndarray:
    """The grey face, brighter by so much in the quarter that is edited and elsewhere."""
    face = GREY + np.uint8(outside)
    face[:, :16] = 100 + inside
    return face


def restored(
    faces: Sequence[tuple[np.ndarray, np.ndarray]], cases: Sequence[str], made: np.ndarray | None = None, **facts: Any
) -> SplitPredictions:
    """Faces of the grey original: as edited, and as recovered."""
    edited, recovered = (np.stack(column) for column in zip(*faces, strict=True))
    masks = np.repeat(QUARTER[None], len(faces), axis=0) if made is None else made
    given = {"faces": edited, "originals": np.repeat(GREY[None], len(faces), axis=0), **facts}
    return predicted(right(*cases), recovered=recovered, masks=(255 * masks).astype(np.uint8), **given)


def decibels(square: float) -> float:
    return float(-10 * np.log10(square))


def similarity(face: np.ndarray) -> float:
    """SSIM to the grey face by an implementation of others."""
    one, other = (torch.from_numpy(pixels / 255).permute(2, 0, 1)[None] for pixels in (face, GREY))
    return float(ssim(one, other, window_size=11).mean())


def test_recovery_stands_beside_doing_nothing_with_their_difference() -> None:
    edited, better = changed(51, 0), changed(20, 5)
    result = evaluate(restored([(edited, better), (edited, GREY)], ["10000", "10000"]), "val")
    expected = {  # the mean of both faces, of which the second is recovered exactly
        "l1_inside": (10 / 255, 51 / 255),
        "l1_outside": (2.5 / 255, 0.0),
        "psnr": ((decibels((400 / 4 + 25 * 3 / 4) / 255**2) + 60) / 2, decibels(51**2 / 4 / 255**2)),
        "psnr_inside": ((decibels(20**2 / 255**2) + 60) / 2, decibels(51**2 / 255**2)),
        "psnr_outside": ((decibels(5**2 / 255**2) + 60) / 2, 60.0),
        "ssim": ((similarity(better) + 1) / 2, similarity(edited)),
    }
    assert {metric.name for metric in result.metrics if metric.dataset == "recovery"} == set(expected)
    for name, (recovered, nothing) in expected.items():
        arms = [of(result, "recovery", name, arm) for arm in ("recovered", "do nothing", "difference")]
        assert [metric.value for metric in arms] == close(recovered, nothing, recovered - nothing)
        assert {(metric.n_real, metric.n_forged) for metric in arms} == {(0, 2)}


def test_recovery_is_measured_on_edited_faces_whose_original_and_places_are_known() -> None:
    wild = (changed(51, 0), changed(155, 155))
    given = restored(
        [(changed(51, 0), changed(20, 0)), wild, wild, wild],
        ["10000", "10000", "00000", "10000"],
        paired=[True, False, True, True],
        states=[PER_EDIT, PER_EDIT, PER_EDIT, NOT_KNOWN],
    )
    metric = of(evaluate(given, "val"), "recovery", "l1_inside", "recovered")
    assert [metric.value] == close(20 / 255) and (metric.n_real, metric.n_forged) == (0, 1)


def test_the_inside_of_a_recovery_is_the_union_of_all_edits() -> None:
    made = area({1: (0, 16), 2: (32, 48)})[None]
    edited = changed(51, 0)
    edited[:, 32:48] = 126
    result = evaluate(restored([(edited, edited)], ["12000"], made), "val")
    assert [of(result, "recovery", "l1_inside", "recovered").value] == close((51 + 26) / 2 / 255)
    assert of(result, "recovery", "l1_outside", "recovered").value == 0


def test_intervals_of_recovery_resample_whole_subjects_and_both_arms_together() -> None:
    """Ten faces of one person are recovered by half, ten of another not at all; both are as badly edited."""
    faces = [(changed(60, 0), changed(30, 0))] * 10 + [(changed(60, 0), changed(60, 0))] * 10
    given = restored(faces, ["10000"] * 20, subjects=["a"] * 10 + ["b"] * 10)
    result = evaluate(given, "val")
    arms = {arm: of(result, "recovery", "l1_inside", arm) for arm in ("recovered", "do nothing", "difference")}
    ends = {arm: (metric.low, metric.high) for arm, metric in arms.items()}
    assert ends["recovered"] == close(30 / 255, 60 / 255) and ends["do nothing"] == close(60 / 255, 60 / 255)
    assert ends["difference"] == close(-30 / 255, 0) and [arms["difference"].value] == close(-15 / 255)


def test_a_difference_of_recovery_is_paired() -> None:
    """Faces are edited more and less; each is recovered by the same amount, so that the difference has no spread."""
    faces = [(changed(step, 0), changed(step - 10, 0)) for step in range(20, 60)]
    result = evaluate(restored(faces, ["10000"] * 40), "val")
    nothing, difference = (of(result, "recovery", "l1_inside", arm) for arm in ("do nothing", "difference"))
    assert nothing.low is not None and nothing.high is not None and nothing.low < nothing.value < nothing.high
    assert (difference.low, difference.value, difference.high) == close(-10 / 255, -10 / 255, -10 / 255)


def test_a_face_edited_everywhere_has_no_outside_and_counts_for_the_inside_alone() -> None:
    """Resamples without the face that has an outside say nothing of it: the interval stays a number."""
    made = np.stack([QUARTER, area({1: (0, 64)})])
    faces = [(changed(51, 0), changed(20, 5)), (changed(51, 51), changed(40, 40))]
    result = evaluate(restored(faces, ["10000", "10000"], made), "val")
    outside, inside = (of(result, "recovery", name, "recovered") for name in ("l1_outside", "l1_inside"))
    assert (outside.low, outside.value, outside.high) == close(5 / 255, 5 / 255, 5 / 255) and outside.n_forged == 1
    assert [inside.value] == close(30 / 255) and inside.n_forged == 2


@pytest.mark.parametrize(
    "facts", [{"paired": [False, False]}, {"states": [NOT_KNOWN, NOT_KNOWN]}, {"paired": [False, True]}]
)
def test_where_no_edited_face_is_paired_there_is_no_recovery(facts: dict[str, Any]) -> None:
    given = restored([(changed(51, 0), GREY)] * 2, ["10000", "00000"], **facts)
    result = evaluate(given, "val", lambda *_: (1.0, 1.0))
    assert "recovery" not in {metric.dataset for metric in result.metrics}
    assert "recovery" not in report(result)


def test_a_network_that_gives_neither_areas_nor_recovery_is_measured_without(result: Evaluation) -> None:
    assert not {metric.name for metric in result.metrics} & {"area_iou", "psnr", "l1_inside", "identity"}
    assert "area" not in report(result) and "recovery" not in report(result)


def test_identities_are_compared_of_recovered_and_edited_face_to_the_original() -> None:
    """The likeness follows from the greys; where no face is found in the original the others count."""
    edited, recovered = changed(50, 0), changed(10, 0)
    asked = 0

    def likeness(first: np.ndarray, second: np.ndarray, original: np.ndarray) -> tuple[float, float] | None:
        nonlocal asked
        asked += 1
        assert (original == GREY).all()
        return None if asked == 2 else (1 - (first[0, 0, 0] - 100) / 100, 1 - (second[0, 0, 0] - 100) / 100)

    faces = [(edited, recovered), (edited, edited), (edited, changed(30, 0))]
    result = evaluate(restored(faces, ["10000"] * 3), "val", likeness)
    arms = [of(result, "recovery", "identity", arm) for arm in ("recovered", "do nothing", "difference")]
    assert [metric.value for metric in arms] == close((0.9 + 0.7) / 2, 0.5, 0.3)
    assert asked == 3 and {metric.n_forged for metric in arms} == {2}


def test_identities_are_left_out_where_no_face_is_found() -> None:
    result = evaluate(restored([(changed(50, 0), GREY)], ["10000"]), "val", lambda *_: None)
    assert result.value("recovery", "identity", "recovered") is None
    assert "| identity | – | – | – |" in report(result).splitlines()


@pytest.mark.usefixtures("sface")
def test_likeness_is_that_of_the_persons(portrait: Path) -> None:
    bgr = cv2.imread(str(portrait))
    assert bgr is not None
    own = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)
    darker, other = (own * 0.8).astype(np.uint8), make_picture(len(own), 1)
    compared = identity_likeness()
    assert compared(own, own, own) == pytest.approx((1, 1), abs=1e-5)
    alike = compared(darker, other, own)
    assert alike is not None and alike[0] > 0.8 and alike[1] < 0.4
    assert compared(own, own, np.zeros_like(own)) is None


# Runs on disk

SPLITS = {"train": ["", "nose"], "test": ["", "", "", "", "nose", "nose-eye", "lip-hair", "hair-lip-nose"]}
TRUTH = numbers("00000", "00000", "00000", "00000", "10000", "12000", "45000", "54100")


@pytest.fixture(scope="module")
def paths(portrait: Path, tmp_path_factory: pytest.TempPathFactory) -> LabPaths:
    """Four untouched faces of one person and four edited ones of another, to test on."""
    folder = tmp_path_factory.mktemp("data")
    return LabPaths(data=write_edited(folder / "edited", portrait, SPLITS, each=4), work=folder / "work")


def test_a_finished_run_reads_a_split(paths: LabPaths, tmp_path: Path) -> None:
    run = write_run(tmp_path / "silent", says=-10.0, known=places("12300"))
    read = predict_split(run, paths, "test", SILENT)
    assert len(read.faces) == 8 and {sample.split for sample in read.faces.samples} == {"test"}
    assert (read.faces.sequences == TRUTH).all() and read.known == places("12300")
    assert read.predictions.scores.shape == (8, 326)
    assert not read.sequences["joint"].any() and not read.sequences["greedy"].any()
    assert (read.sequences["closed set"] == numbers("12300")).all()
    result = evaluate(read, "test")
    assert shares(result, "all", "joint", "csm", "adaptive_accuracy", "fixed_accuracy") == close(0.5, 4 / 12, 32 / 40)
    nothing = of(result, "recovery", "l1_inside", "do nothing")
    assert 0 < nothing.value < 0.5 and nothing.n_forged == 4 and of(result, "all", "area_iou").n_forged == 4


def test_a_run_that_gives_neither_areas_nor_recovery_is_read_all_the_same(paths: LabPaths, tmp_path: Path) -> None:
    run = write_run(tmp_path / "seqfakeformer", method="seqfakeformer", options={})
    read = predict_split(run, paths, "test", SILENT)
    assert read.predictions.areas is None and read.predictions.recovered is None
    names = {metric.name for metric in evaluate(read, "test", lambda *_: (1.0, 1.0)).metrics}
    assert "csm" in names and not names & {"area_iou", "psnr", "identity"}


@pytest.mark.slow
@pytest.mark.usefixtures("sface")
def test_the_task_measures_a_run_with_identities(paths: LabPaths, tmp_path: Path) -> None:
    run = write_run(tmp_path / "silent", says=-10.0)
    result, made = TASK.evaluate(TASK.system(str(run)), paths, "test", SILENT)
    assert result == evaluate(predict_split(run, paths, "test", SILENT), "test", identity_likeness())
    assert made == tables(result) and 0 < of(result, "recovery", "identity", "do nothing").value < 1


def test_data_of_another_track_are_refused(portrait: Path, paths: LabPaths, tmp_path: Path) -> None:
    others = write_edited(tmp_path / "set", portrait, {"test": ["", "Bangs-Young"]}, TRACKS["facial_attributes"])
    run = write_run(tmp_path / "run")
    message = f"{run} reads facial_components, {others} holds facial_attributes; give data of its track"
    with pytest.raises(DataError, match=re.escape(message)):
        predict_split(run, replace(paths, data=others), "test", SILENT)


def test_data_without_the_split_are_refused(paths: LabPaths, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no face of these data is in the split val; give data that have some"):
        predict_split(write_run(tmp_path / "run"), paths, "val", SILENT)


def test_what_is_no_finished_run_is_refused(paths: LabPaths, tmp_path: Path) -> None:
    Run(tmp_path / "begun", EditTrainConfig(), "0")
    for name, message in (("begun", "the run is not finished"), ("nowhere", "not a run folder")):
        with pytest.raises(DataError, match=message):
            predict_split(tmp_path / name, paths, "test", SILENT)
        with pytest.raises(DataError, match=message):
            TASK.measurements([write_run(tmp_path / name[::-1]), tmp_path / name], paths, "test", SILENT)


def test_runs_are_compared_with_the_first_on_the_same_faces(paths: LabPaths, tmp_path: Path) -> None:
    """One network says that no face was edited, so does its copy, another that each was, in all of its parts.

    Of two people one is untouched, the other edited: a resample holds either, or both. The copy sees other crops.
    """
    names = ("silent", "copy", "loud")
    runs = [
        write_run(tmp_path / "silent", says=-10.0),
        write_run(tmp_path / "copy", says=-10.0, size=96, margin=1.5),
        write_run(tmp_path / "loud", says=10.0),
    ]
    loud = predict_split(runs[2], paths, "test", SILENT).sequences["joint"]
    assert (np.count_nonzero(loud, axis=1) == 5).all()
    log = ProgressLog()
    measured = TASK.measurements(runs, replace(paths, work=tmp_path / "work"), "test", log)
    log.check_bars_end()
    compared = compare(measured, names)
    rows = {(row.metric, row.system): row for row in compared}
    assert len(rows) == len(compared)
    metrics = ("csm", "adaptive_accuracy", "fixed_accuracy")
    assert list(rows) == [(metric, name) for metric in metrics for name in names]
    assert {(row.group, row.condition, row.n_real, row.n_forged) for row in compared} == {("all", "joint", 4, 4)}
    edited, everything = (loud == TRUTH)[4:].sum(), (loud == TRUTH).sum()
    assert everything == edited  # of an untouched face no place is right
    expected = {  # on all faces, on the worse person's alone, on the better one's; then the same of the difference
        "csm": ((4 / 8, 0, 1), (0, 0, 0), (-4 / 8, -1, 0)),
        "adaptive_accuracy": ((4 / 12, 0, 1), (edited / 40, 0, edited / 20), (edited / 40 - 4 / 12, -1, edited / 20)),
        "fixed_accuracy": (
            (32 / 40, 12 / 20, 1),
            (edited / 40, 0, edited / 20),
            (edited / 40 - 32 / 40, -1, edited / 20 - 12 / 20),
        ),
    }
    for metric, (first, last, difference) in expected.items():
        assert rows[metric, "silent"].value == rows[metric, "copy"].value == pytest.approx(first)
        assert rows[metric, "silent"].difference is None and rows[metric, "copy"].difference == (0, 0, 0)
        assert rows[metric, "loud"].value == pytest.approx(last)
        assert rows[metric, "loud"].difference == pytest.approx(difference)


# What is printed and written


def without_intervals(text: str) -> list[str]:
    return re.sub(r" \[[^\]]*\]", "", text).splitlines()


def test_the_table_holds_the_numbers(result: Evaluation) -> None:
    lines = without_intervals(report(result))
    profile = " | ".join(f"CSM@{k}" for k in range(1, 6))
    assert lines[0] == f"| decoding | CSM | Adaptive-Acc | Fixed-Acc | {profile} |"
    assert [line for line in lines if line.startswith(tuple(f"| {name} " for name in DECODINGS))] == [
        "| joint | 0.500 | 0.680 | 0.840 | 0.600 | 0.600 | 0.600 | 0.500 | 0.500 |",
        "| closed set | 0.600 | 0.720 | 0.860 | 0.700 | 0.700 | 0.700 | 0.600 | 0.600 |",
        "| greedy | 0.600 | 0.654 | 0.820 | 0.800 | 0.700 | 0.600 | 0.600 | 0.600 |",
        "| nothing | 0.200 | 0.080 | 0.540 | 0.200 | 0.200 | 0.200 | 0.200 | 0.200 |",
        "| joint decoding | share |",
    ]
    for line in (
        "| 3 edits | 1 | 0.000 | 0.333 | 0.600 | 1.000 | 0.000 |",
        "| orders seen in training | 4 | 0.250 | 0.500 | 0.700 | 1.000 | 0.500 |",
        "| orders not seen | 2 | 1.000 | 1.000 | 1.000 | 0.000 | 0.500 |",
        "| adjacent swap | 0.333 |",
        "| untouched called edited | 0.500 |",
        "| step right 1 before last | 0.667 |",
        "| 2 | 0.833 | 0.250 |",
    ):
        assert line in lines
    low, high = of(result, "all", "csm").low, of(result, "all", "csm").high
    assert f"| joint | 0.500 [{low:.3f}, {high:.3f}] |" in report(result)


def test_the_table_is_whole_whatever_was_measured(result: Evaluation) -> None:
    made = area({1: (0, 16)})
    everything = replace(
        restored([(changed(51, 0), GREY)], ["10000"]),
        predictions=EditPredictions(scores(places("10000")), numbers("10000"), made[None], GREY[None]),
    )
    full = evaluate(everything, "val", lambda *_: (0.75, 0.5))
    for evaluation, count in ((result, 4), (full, 5)):
        blocks = report(evaluation).split("\n\n")
        assert len(blocks) == count
        for block in blocks:
            head, rule, *rows = block.splitlines()
            assert rows and {line.count("|") for line in (head, rule, *rows)} == {head.count("|")}
    lines = report(full).splitlines()
    assert "| area iou | 1.000 |" in lines
    assert "| l1 inside | 0.000 [0.000, 0.000] | 0.200 [0.200, 0.200] | -0.200 [-0.200, -0.200] |" in lines
    assert "| identity | 0.750 [0.750, 0.750] | 0.500 [0.500, 0.500] | 0.250 [0.250, 0.250] |" in lines


def strict(path: Path) -> Any:
    """The JSON of a file, which holds nothing that is no number."""

    def refuse(text: str) -> None:
        raise AssertionError(text)

    return json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)


def test_the_numbers_of_an_evaluation_are_written_as_they_are(result: Evaluation, tmp_path: Path) -> None:
    write_evaluation(result, "my run", "unmask evaluate 'my run'", tmp_path / "numbers.json")
    record = strict(tmp_path / "numbers.json")
    assert record["metrics"] == [asdict(metric) for metric in result.metrics]
    assert (record["detector"], record["split"]) == ("my run", "val")
    assert record["command"] == "unmask evaluate 'my run'" and "torch" in record["versions"]


ROWS = [
    Compared("a", "csm", "all", "joint", (0.9, 0.8, 0.95), None, 4, 6),
    Compared("b", "csm", "all", "joint", (0.7, 0.6, 0.8), (-0.2, -0.3, 0.1), 4, 6),
    Compared("a", "fixed_accuracy", "all", "joint", (0.5, 0.4, 0.6), None, 4, 6),
    Compared("b", "fixed_accuracy", "all", "joint", (0.5, 0.4, 0.6), (0.0, -0.1, 0.1), 4, 6),
]


def test_the_table_of_a_comparison_has_a_row_for_every_metric_and_a_column_for_each_system() -> None:
    assert comparison_table(ROWS).splitlines() == [
        "| faces | condition | metric | a | b | real / forged |",
        "|---|---|---|---|---|---|",
        "| all | joint | csm | 0.900 [0.800, 0.950] | 0.700 [0.600, 0.800]; -0.200 [-0.300, +0.100] | 4 / 6 |",
        "| all | joint | fixed_accuracy | 0.500 [0.400, 0.600] | "
        "0.500 [0.400, 0.600]; +0.000 [-0.100, +0.100] | 4 / 6 |",
    ]


def test_a_comparison_is_written_as_it_is(tmp_path: Path) -> None:
    write_comparison(ROWS, "test", "unmask compare a 'my run'", tmp_path / "rows.json")
    record = strict(tmp_path / "rows.json")
    assert record["rows"] == json.loads(json.dumps([asdict(row) for row in ROWS]))
    assert record["split"] == "test" and record["command"] == "unmask compare a 'my run'"
    assert "torch" in record["versions"]
