"""Which faces are out of scope: a photograph that is drawn over, and what the classifiers may cost."""

import time
from pathlib import Path

import cv2
import numpy as np
import pytest

import unmask
from unmask.faces.alignment import context_crop
from unmask.faces.finding import FaceFinder, FoundFace
from unmask.faces.scope import SCOPE_CLASSES, out_of_scope, scope_features

PORTRAIT = Path(unmask.__file__).parent / "demo" / "astronaut.jpg"


@pytest.fixture(scope="module")
def portrait() -> tuple[np.ndarray, FoundFace]:
    pixels = np.ascontiguousarray(cv2.imread(str(PORTRAIT))[..., ::-1])
    return pixels, FaceFinder().find(pixels)[0]


def kinds(pixels: np.ndarray, face: FoundFace) -> tuple[str, ...]:
    return out_of_scope(*context_crop(pixels, face.box, 1.4, 224), face.landmarks)


def painted(pixels: np.ndarray, points: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    out = pixels.copy()
    cv2.fillPoly(out, [np.round(points).astype(np.int32)], colour, cv2.LINE_AA)
    return out


def bar(face: FoundFace, down: float) -> np.ndarray:
    """A bar as wide as the face, `down` eye distances below the eyes."""
    right, left = face.landmarks[0].astype(float), face.landmarks[1].astype(float)
    across = left - right
    below = np.array([-across[1], across[0]])
    middle = (right + left) / 2 + down * below
    return np.array([middle + x * across + y * below for x, y in ((-1.1, -0.3), (1.1, -0.3), (1.1, 0.3), (-1.1, 0.3))])


def test_a_photograph_is_in_scope_in_colour_and_in_grey(portrait: tuple[np.ndarray, FoundFace]) -> None:
    pixels, face = portrait
    grey = cv2.cvtColor(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    assert kinds(pixels, face) == kinds(grey, face) == ()


def test_a_pencil_drawing_is_one(portrait: tuple[np.ndarray, FoundFace]) -> None:
    pixels, face = portrait
    luma = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY).astype(np.float32)
    drawn = np.clip(255 * (luma + 1) / (cv2.GaussianBlur(luma, (0, 0), 0.05 * face.box[2]) + 1), 0, 255)
    assert "drawing" in kinds(np.repeat(drawn.astype(np.uint8)[..., None], 3, 2), face)


def test_a_bar_over_the_eyes_covers_them(portrait: tuple[np.ndarray, FoundFace]) -> None:
    pixels, face = portrait
    assert "covered_eyes" in kinds(painted(pixels, bar(face, 0.0), (0, 0, 0)), face)


def test_a_cloth_over_the_mouth_covers_it(portrait: tuple[np.ndarray, FoundFace]) -> None:
    pixels, face = portrait
    cloth = np.vstack([bar(face, 0.85)[:2], bar(face, 1.6)[2:]])
    assert "covered_mouth" in kinds(painted(pixels, cloth, (120, 170, 200)), face)


def test_the_features_do_not_depend_on_where_in_the_picture_the_face_is(portrait: tuple[np.ndarray, FoundFace]) -> None:
    pixels, face = portrait
    x, y, w, h = face.box
    moved = cv2.copyMakeBorder(pixels, 40, 0, 64, 0, cv2.BORDER_CONSTANT)
    there = context_crop(moved, (x + 64, y + 40, w, h), 1.4, 224)
    one = scope_features(*context_crop(pixels, face.box, 1.4, 224), face.landmarks)
    other = scope_features(*there, face.landmarks + np.float32([64, 40]))
    np.testing.assert_allclose(one, other, atol=1e-5)


def test_coinciding_landmarks_have_no_features() -> None:
    crop = np.zeros((224, 224, 3), np.uint8)
    assert scope_features(crop, (0.0, 0.0, 224.0, 224.0), np.full((5, 2), 50.0, np.float32)) is None
    assert out_of_scope(crop, (0.0, 0.0, 224.0, 224.0), np.full((5, 2), 50.0, np.float32)) == ()


def test_a_face_costs_less_than_a_millisecond(portrait: tuple[np.ndarray, FoundFace]) -> None:
    pixels, face = portrait
    crop, region = context_crop(pixels, face.box, 1.4, 224)
    times = []
    for _ in range(50):
        start = time.process_time()
        out_of_scope(crop, region, face.landmarks)
        times.append(time.process_time() - start)
    assert min(times) < 0.001
    assert set(SCOPE_CLASSES) == {"drawing", "covered_eyes", "covered_mouth"}
