"""Tracks over made-up motion, and over real faces moved about by hand."""

import random
from pathlib import Path

import cv2
import numpy as np
import pytest

from unmask.faces.finding import FaceFinder, FoundFace
from unmask.faces.tracking import Tracker

POINTS = np.array([[0.3, 0.4], [0.7, 0.4], [0.5, 0.6], [0.35, 0.8], [0.65, 0.8]], np.float32)


def face(x: float, y: float, side: float = 100) -> FoundFace:
    return FoundFace((x, y, side, side), np.float32([x, y]) + POINTS * side, 0.9)


def test_one_moving_person_is_one_track() -> None:
    tracker = Tracker()
    numbers = [tracker.update(i * 0.2, [face(100 + 40 * i, 100 + 5 * i, 100 + 3 * i)]) for i in range(20)]
    assert numbers == [[0]] * 20


def test_several_people_keep_their_numbers_whatever_their_order() -> None:
    tracker, shuffle = Tracker(), random.Random(0)
    for i in range(15):
        people = [(n, face(300 * n + 5 * i, 50 + 3 * i)) for n in range(5)]
        if i:
            shuffle.shuffle(people)
        assert tracker.update(i * 0.2, [f for _, f in people]) == [n for n, _ in people]


def test_crossing_people_keep_their_numbers_by_their_motion() -> None:
    tracker = Tracker()
    for i in range(21):
        left, right = face(30 * i, 100), face(600 - 30 * i, 140)
        assert tracker.update(i * 0.2, [left, right]) == [0, 1]


@pytest.mark.parametrize(("gap", "number"), [(0.6, 0), (0.95, 0), (1.05, 1), (5.0, 1)])
def test_a_missed_person_keeps_the_track_for_a_second(gap: float, number: int) -> None:
    tracker = Tracker(patience=1.0)
    tracker.update(0.0, [face(100, 100)])
    tracker.update(gap / 2, [])
    assert tracker.update(gap, [face(110, 100)]) == [number]


def test_one_person_in_frames_far_apart_is_one_track() -> None:
    """A time-lapse, or a gap in the pictures."""
    tracker = Tracker(patience=1.0)
    assert [tracker.update(30.0 * i, [face(100 + i, 100)]) for i in range(10)] == [[0]] * 10


def test_a_jump_begins_a_track() -> None:
    tracker = Tracker()
    tracker.update(0.0, [face(100, 100)])
    assert tracker.update(0.2, [face(900, 500)]) == [1]


def test_a_sudden_change_of_size_begins_a_track() -> None:
    tracker = Tracker()
    tracker.update(0.0, [face(100, 100, 100)])
    assert tracker.update(0.2, [face(0, 0, 300)]) == [1]


def test_numbers_are_never_used_twice_and_memory_stays_flat() -> None:
    tracker = Tracker(patience=0.5)
    seen = []
    for i in range(50):
        seen += tracker.update(float(i), [face(100, 100)])
        tracker.update(i + 0.3, [])
    assert seen == list(range(50))
    assert len(tracker._tracks) == 1


def test_no_faces_no_numbers() -> None:
    assert Tracker().update(0.0, []) == []


def test_the_same_time_twice_is_no_problem() -> None:
    tracker = Tracker()
    assert tracker.update(1.0, [face(10, 10)]) == tracker.update(1.0, [face(12, 10)]) == [0]


@pytest.fixture(scope="module")
def portraits(data_dir: Path) -> list[np.ndarray]:
    files = sorted((data_dir / "faces" / "celebamask_256").rglob("*.jpg"))
    return [cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB) for path in random.Random(5).sample(files, 20)]


def frame(background: int, *placed: tuple[np.ndarray, int, int]) -> np.ndarray:
    picture = np.full((400, 800, 3), background, np.uint8)
    for portrait, x, y in placed:
        picture[y : y + 256, x : x + 256] = portrait
    return picture


@pytest.mark.data
def test_a_cut_to_another_person_in_the_same_place_begins_a_track(portraits: list[np.ndarray]) -> None:
    """Shot and reverse shot with the same background: only looks can tell."""
    finder, kept = FaceFinder(), 0
    for one, other in zip(portraits[::2], portraits[1::2], strict=True):
        tracker = Tracker()
        for i in range(3):
            picture = frame(128, (one, 200 + 6 * i, 60))
            assert tracker.update(i * 0.2, finder.find(picture)[:1], picture) == [0]
        picture = frame(128, (other, 218, 60))
        kept += tracker.update(0.6, finder.find(picture)[:1], picture) == [0]
    assert kept <= 4


@pytest.mark.data
def test_a_cut_with_a_new_background_separates_people_and_joins_a_person(portraits: list[np.ndarray]) -> None:
    finder, kept = FaceFinder(), 0
    for one, other in zip(portraits[::2], portraits[1::2], strict=True):
        tracker = Tracker()
        pictures = [frame(20, (one, 100, 50)), frame(230, (one, 420, 90)), frame(20, (other, 400, 90))]
        first, again, another = (
            tracker.update(i * 0.2, finder.find(picture)[:1], picture) for i, picture in enumerate(pictures)
        )
        assert first == again == [0]
        kept += another == [0]
    assert kept <= 1


@pytest.mark.slow
@pytest.mark.data
def test_a_person_keeps_the_track_through_turns_light_and_blur(portraits: list[np.ndarray]) -> None:
    finder = FaceFinder()
    for portrait in portraits[:10]:
        tracker = Tracker()
        for i in range(8):
            turn = cv2.getRotationMatrix2D((128, 128), 4 * i, 0.95 - 0.01 * i)
            moved = cv2.warpAffine(portrait, turn, (256, 256), borderMode=cv2.BORDER_REFLECT)
            moved = np.clip(moved * (1 - 0.05 * i), 0, 255).astype(np.uint8)
            moved = cv2.GaussianBlur(moved, (0, 0), 0.3 + 0.2 * i)
            picture = frame(128, (moved, 100 + 30 * i, 40 + 8 * i))
            assert tracker.update(i * 0.2, finder.find(picture)[:1], picture) == [0]
