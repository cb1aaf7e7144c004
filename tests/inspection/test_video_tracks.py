"""A track by hand: its mean, the frame that represents it, and that no pixels pile up."""

import gc
import weakref
from pathlib import Path

import numpy as np
import pytest

from unmask.evidence.report import Quality, Refusal
from unmask.faces.finding import FoundFace
from unmask.forgery.scoring import FaceScore, probability
from unmask.inspection.judging import CroppedFace, FaceCrop, MeasuredFace, PackAnswer, PackScorer, ScoredFace
from unmask.inspection.video_tracks import PersonTrack, TrackAverage
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


def test_the_mean_is_over_the_frames_that_a_pack_judged() -> None:
    average = TrackAverage()
    assert average.answer is None
    for answer in (PackAnswer(1.0, 60.0), None, PackAnswer(-4.0, 90.0)):
        average.add(answer)
    assert average.answer == PackAnswer(-1.5, 75.0)


def test_a_track_is_represented_by_its_most_suspect_frame_or_its_clearest(leader: PackScorer) -> None:
    track = PersonTrack(2, pictures=True)
    for time, logit, quality in ((0.0, -1.0, 70.0), (0.2, 0.5, 60.0), (0.4, None, 95.0), (0.6, 0.2, 85.0)):
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
    first, second = (average.answer for average in track.averages)
    assert first == (pytest.approx(-0.1), pytest.approx(215 / 3), "") and second == PackAnswer(0.2, 85.0)


def test_a_refused_track_is_represented_by_its_clearest_frame(leader: PackScorer) -> None:
    track = PersonTrack(2, pictures=True)
    for time, quality in ((0.0, 10.0), (0.2, 30.0), (0.4, 20.0)):
        track.add(face_at(time, None, quality), leader)
    shown = track.representative(forged=False)
    assert shown.measured.time == 0.2 and shown.refusal is not None and shown.picture[:2] == b"\xff\xd8"
    assert [average.answer for average in track.averages] == [None, None]


@pytest.mark.parametrize("pictures", [False, True])
def test_no_crop_outlives_its_frame(leader: PackScorer, pictures: bool) -> None:
    track, crops = PersonTrack(2, pictures=pictures), []
    for number in range(60):
        face = face_at(0.2 * number, None if number % 7 == 0 else number / 30 - 1, 60 + number % 30)
        assert face.cropped.picture is not None
        crops.append(weakref.ref(face.cropped.picture.pixels))
        track.add(face, leader)
        del face
    gc.collect()
    assert [crop() for crop in crops] == [None] * 60
    assert bool(track.representative(forged=True).picture) == pictures
