"""A track by hand: which frames are scored, its mean, the frame that represents it, and that no pixels pile up."""

import gc
import weakref
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from unmask.evidence.report import Quality, Refusal
from unmask.faces.finding import FoundFace
from unmask.forgery.scoring import FaceScore, probability
from unmask.inspection.judging import CroppedFace, FaceCrop, MeasuredFace, PackAnswer, PackScorer, ScoredFace
from unmask.inspection.video_tracks import EVERY_DOUBLING, PersonTrack, is_due, mean_answer
from unmask.packs import load_pack
from unmask.packs.card import StretchLimit


@pytest.fixture(scope="module")
def leader(tiny_pack: Path) -> PackScorer:
    return PackScorer(load_pack(tiny_pack), "tiny")


def face_at(time: float, logit: float | None, quality: float) -> ScoredFace:
    """A face at a time that the leading pack scores with a logit, or refuses; a second pack judges from 80 on."""
    face = FoundFace((10.0, 20.0, 60.0, 70.0), np.zeros((5, 2), np.float32), 0.9)
    measured = MeasuredFace(time, face, Quality(unified=quality, components={}))
    crop = FaceCrop(np.full((64, 64, 3), round(100 * time) % 256, np.uint8), (0.0, 0.0, 90.0, 90.0))
    if logit is None:
        refusal = Refusal(code="too_small", message="Too small.")
        return ScoredFace(CroppedFace(measured, refusal, (None, None), crop, None), (None, None))
    score = FaceScore(logit, probability(logit), np.full((4, 4), 0.5, np.float32))
    second = score if quality >= 80 else None
    crops = (crop, crop if second else None)
    return ScoredFace(CroppedFace(measured, None, crops, crop, None), (score, second))


def test_a_long_track_has_as_many_scored_frames_in_each_doubling() -> None:
    due = [number for number in range(128 * EVERY_DOUBLING) if is_due(number)]
    assert due[: 2 * EVERY_DOUBLING] == list(range(2 * EVERY_DOUBLING))
    for doubling in range(1, 7):
        first = EVERY_DOUBLING * 2**doubling
        steps = {later - number for number, later in pairwise(n for n in due if first <= n < 2 * first)}
        assert steps == {2**doubling}
        assert sum(first <= number < 2 * first for number in due) == EVERY_DOUBLING
    assert len(due) == 8 * EVERY_DOUBLING


def test_the_mean_is_over_the_frames_that_a_pack_judged() -> None:
    assert mean_answer([], []) is None and mean_answer([None], [3]) is None
    answers = (PackAnswer(1.0, 60.0), None, PackAnswer(-4.0, 90.0))
    assert mean_answer(answers, [1, 1, 1]) == PackAnswer(-1.5, 75.0)
    assert mean_answer(answers, [1, 5, 4]) == PackAnswer(-3.0, 84.0)


def test_each_scored_frame_of_a_long_track_stands_for_those_up_to_the_next(leader: PackScorer) -> None:
    length = 5 * EVERY_DOUBLING + 3
    track, scored = PersonTrack(pictures=False), 0
    for number in range(length):
        if track.see():
            track.add(face_at(0.2 * number, number / length, 70.0), leader)
            scored += 1
    assert track.frames_seen == length and scored == len(track.points) == 3.25 * EVERY_DOUBLING + 1
    assert sum(point.frames for point in track.points) == length
    assert [point.frames for point in track.points[-2:]] == [4, 3]
    # The logit rises evenly: its mean over all frames is half of the last one's.
    logit = track.answers[0].logit
    assert logit == pytest.approx(0.5, abs=0.01)


def test_a_track_is_represented_by_its_most_suspect_frame_or_its_clearest(leader: PackScorer) -> None:
    track = PersonTrack(pictures=True)
    for time, logit, quality in ((0.0, -1.0, 70.0), (0.2, 0.5, 60.0), (0.4, None, 95.0), (0.6, 0.2, 85.0)):
        assert track.see()
        track.add(face_at(time, logit, quality), leader)
    assert track.representative(forged=True).measured.time == 0.2
    assert track.representative(forged=False).measured.time == 0.6
    assert [point.time for point in track.points] == [0.0, 0.2, 0.4, 0.6]
    assert [point.score for point in track.points] == [
        pytest.approx(probability(-1.0)),
        pytest.approx(probability(0.5)),
        None,
        pytest.approx(probability(0.2)),
    ]
    first, second = track.answers
    assert first == (pytest.approx(-0.1), pytest.approx(215 / 3), "") and second == PackAnswer(0.2, 85.0)


def test_a_refused_track_is_represented_by_its_clearest_frame(leader: PackScorer) -> None:
    track = PersonTrack(pictures=True)
    for time, quality in ((0.0, 10.0), (0.2, 30.0), (0.4, 20.0)):
        assert track.see()
        track.add(face_at(time, None, quality), leader)
    shown = track.representative(forged=False)
    assert shown.measured.time == 0.2 and shown.refusal is not None and shown.picture[:2] == b"\xff\xd8"
    assert track.answers == (None, None)


@pytest.mark.parametrize("pictures", [False, True])
def test_no_crop_outlives_its_frame(leader: PackScorer, pictures: bool) -> None:
    track, crops = PersonTrack(pictures=pictures), []
    for number in range(60):
        face = face_at(0.2 * number, None if number % 7 == 0 else number / 30 - 1, 60 + number % 30)
        assert face.cropped.picture is not None
        crops.append(weakref.ref(face.cropped.picture.pixels))
        assert track.see()
        track.add(face, leader)
        del face
    gc.collect()
    assert [crop() for crop in crops] == [None] * 60
    assert bool(track.representative(forged=True).picture) == pictures


LIMIT = StretchLimit(
    statistic=3.0, spread=1.0, false_alarms=0.02, low=0.0, high=0.07, videos=75, data="videos made to test"
)


def track_of(leader: PackScorer, logits: list[float | None], step: float = 0.2) -> PersonTrack:
    track = PersonTrack(pictures=False)
    for number, logit in enumerate(logits):
        assert track.see()
        track.add(face_at(number * step, logit, 90.0), leader)
    return track


@pytest.fixture
def limited(tiny_pack: Path) -> PackScorer:
    scorer = PackScorer(load_pack(tiny_pack), "tiny")
    scorer.stretch_limit = LIMIT
    return scorer


def test_a_stretch_that_stands_out_is_named_with_its_times(limited: PackScorer) -> None:
    stretch = track_of(limited, [-3.0] * 20 + [None] + [5.0] * 15 + [-3.0] * 20).stretch(limited, 5.0)
    assert stretch is not None
    assert (stretch.start, stretch.end) == (pytest.approx(4.2), pytest.approx(7.2))
    assert stretch.log10_lr > 0 > stretch.log10_lr_outside
    assert stretch.statistic > stretch.limit == 3.0 and stretch.false_alarms == 0.02


def test_a_stretch_at_the_end_ends_with_the_last_frame(limited: PackScorer) -> None:
    stretch = track_of(limited, [-3.0] * 30 + [5.0] * 10).stretch(limited, 5.0)
    assert stretch is not None and (stretch.start, stretch.end) == (pytest.approx(6.0), pytest.approx(8.0))


def test_no_stretch_is_named_within_the_limit_or_without_one(limited: PackScorer, leader: PackScorer) -> None:
    logits: list[float | None] = [-3.0] * 20 + [5.0] * 15 + [-3.0] * 20
    assert track_of(leader, logits).stretch(leader, 5.0) is None  # the card has no limit
    assert track_of(limited, [5.0] * 50).stretch(limited, 5.0) is None  # forged throughout
    assert track_of(limited, [-3.0, -2.9] * 25).stretch(limited, 5.0) is None
    assert track_of(limited, [None] * 30).stretch(limited, 5.0) is None


def test_no_stretch_is_named_that_is_itself_no_evidence_of_forgery(limited: PackScorer) -> None:
    logits: list[float | None] = [-9.0] * 20 + [-4.0] * 15 + [-9.0] * 20
    assert track_of(limited, logits).stretch(limited, 5.0) is None


def test_a_remark_is_made_of_a_track_if_it_holds_in_most_of_its_frames(leader: PackScorer) -> None:
    def seen(covered: int) -> PersonTrack:
        track = PersonTrack(pictures=False)
        for number in range(10):
            assert track.see()
            face = face_at(0.2 * number, 1.0, 90.0)
            remarks = ("covered_eyes",) if number < covered else ()
            track.add(replace(face, cropped=replace(face.cropped, remarks=remarks)), leader)
        return track

    assert seen(6).remarks == ("covered_eyes",) and seen(5).remarks == ()
