"""A track by hand: which frames are scored, its mean, the frame that represents it, and that no pixels pile up."""

import gc
import weakref
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
