"""Following faces: as good as searching every frame, at fewer searches; and a search whenever something is unclear."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from unmask.faces.finding import FaceFinder, FoundFace
from unmask.faces.following import FaceFollower


class Counting(FaceFinder):
    """Remembers how often a frame was searched."""

    searches = 0

    def find(self, pixels: np.ndarray) -> list[FoundFace]:
        self.searches += 1
        return super().find(pixels)


@pytest.fixture(scope="module")
def face(portrait: Path) -> np.ndarray:
    with Image.open(portrait) as picture:
        return np.asarray(picture.convert("RGB"))[:256, 32:288]


def frame(ground: int, *placed: tuple[np.ndarray, int, int]) -> np.ndarray:
    picture = np.full((480, 960, 3), ground, np.uint8)
    for patch, x, y in placed:
        height, width = patch.shape[:2]
        picture[y : y + height, x : x + width] = patch
    return picture


def follow(frames: list[np.ndarray], step: float = 0.2) -> tuple[list[list[tuple[int, FoundFace]]], int]:
    finder = Counting()
    follower = FaceFollower(finder)
    return [follower.update(step * i, pixels) for i, pixels in enumerate(frames)], finder.searches


def test_a_moving_face_is_where_a_search_finds_it(face: np.ndarray) -> None:
    frames = [frame(120, (face, 40 + 30 * i, 20 + 8 * i)) for i in range(12)]
    followed, searches = follow(frames)
    assert searches == 4  # every 0.6 s
    finder = FaceFinder()
    for pixels, numbered in zip(frames, followed, strict=True):
        ((number, seen),) = numbered
        (expected,) = finder.find(pixels)
        assert number == 0
        assert np.abs(np.subtract(seen.box, expected.box)).max() < 0.12 * expected.box[2]
        assert np.abs(seen.landmarks - expected.landmarks).max() < 0.06 * expected.box[2]


def test_every_frame_is_searched_when_they_are_far_apart(face: np.ndarray) -> None:
    assert follow([frame(120, (face, 40, 20))] * 5, step=1.0)[1] == 5


def test_a_newcomer_is_seen_at_the_next_search(face: np.ndarray) -> None:
    small = cv2.resize(face, (200, 200), interpolation=cv2.INTER_AREA)
    alone, both = frame(120, (face, 40, 20)), frame(120, (face, 40, 20), (small, 600, 100))
    followed, _ = follow([alone, both, both, both, both])
    assert [len(numbered) for numbered in followed] == [1, 1, 1, 2, 2]


def test_a_face_that_is_gone_or_has_jumped_is_searched_for(face: np.ndarray) -> None:
    here, there, nobody = frame(120, (face, 40, 20)), frame(120, (face, 640, 200)), frame(120)
    followed, searches = follow([here, there, nobody, nobody, here])
    assert [len(numbered) for numbered in followed] == [1, 1, 0, 0, 1]
    assert searches == 5


def test_a_cut_is_searched(face: np.ndarray) -> None:
    """The same face in the same place must not hide a second one that the new scene shows."""
    small = cv2.resize(face, (200, 200), interpolation=cv2.INTER_AREA)
    followed, searches = follow([frame(20, (face, 40, 20)), frame(230, (face, 40, 20), (small, 600, 100))])
    assert [len(numbered) for numbered in followed] == [1, 2] and searches == 2


def test_looking_again_for_many_faces_or_in_a_smaller_picture_is_left_to_a_search(face: np.ndarray) -> None:
    finder = FaceFinder()
    (seen,) = finder.find(frame(120, (face, 640, 200)))
    assert finder.find_again(frame(120, (face, 640, 200)), [seen] * 5) is None
    assert finder.find_again(face, [seen]) is None
