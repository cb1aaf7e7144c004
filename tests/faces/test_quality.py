"""Every component must move the right way, and only real good pictures may be called good."""

import math
import random
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest

from unmask.faces.finding import FaceFinder, FoundFace
from unmask.faces.quality import _FACE_3D, WEIGHTS, assess_quality, head_pose, unify

pytestmark = pytest.mark.data


@pytest.fixture(scope="module")
def portraits(data_dir: Path) -> list[tuple[np.ndarray, FoundFace]]:
    files = sorted((data_dir / "forensics" / "ffhq_stylegan_256").rglob("*.jpg"))
    finder, faces = FaceFinder(), []
    for path in random.Random(2).sample(files, 12):
        pixels = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
        faces.append((pixels, finder.find(pixels)[0]))
    return faces


def jpeg(pixels: np.ndarray, quality: int) -> np.ndarray:
    _, data = cv2.imencode(".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    return cv2.cvtColor(cv2.imdecode(data, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


def scaled(pixels: np.ndarray, face: FoundFace, scale: float) -> tuple[np.ndarray, FoundFace]:
    x, y, w, h = (side * scale for side in face.box)
    small = cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return small, FoundFace((x, y, w, h), face.landmarks * np.float32(scale), face.confidence)


def falls(values: list[float]) -> bool:
    return all(a > b for a, b in pairwise(values))


def test_good_portraits_are_good(portraits: list[tuple[np.ndarray, FoundFace]]) -> None:
    values = [assess_quality(*portrait).unified for portrait in portraits]
    assert np.median(values) > 75 and min(values) > 55


def test_blur_lowers_sharpness_and_the_whole(portraits: list[tuple[np.ndarray, FoundFace]]) -> None:
    for pixels, face in portraits:
        steps = [assess_quality(cv2.GaussianBlur(pixels, (0, 0), sigma), face) for sigma in (0.1, 1, 2, 3.5)]
        assert falls([step.components["Sharpness"] for step in steps])
        assert assess_quality(cv2.GaussianBlur(pixels, (0, 0), 5), face).unified < 30


def test_motion_blur_in_one_direction_counts(portraits: list[tuple[np.ndarray, FoundFace]]) -> None:
    for pixels, face in portraits:
        sharp = assess_quality(pixels, face).components["Sharpness"]
        assert assess_quality(cv2.blur(pixels, (9, 1)), face).components["Sharpness"] < sharp - 15
        assert assess_quality(cv2.blur(pixels, (1, 9)), face).components["Sharpness"] < sharp - 15


def test_dark_and_bright_lower_exposure(portraits: list[tuple[np.ndarray, FoundFace]]) -> None:
    for pixels, face in portraits:
        dark = [assess_quality((pixels * gain).astype(np.uint8), face) for gain in (1, 0.4, 0.2, 0.05)]
        assert falls([step.components["UnderExposurePrevention"] for step in dark])
        bright = [assess_quality(np.clip(pixels * gain, 0, 255).astype(np.uint8), face) for gain in (1.0, 2.0, 6.0)]
        over = [step.components["OverExposurePrevention"] for step in bright]
        assert over[0] >= over[1] >= over[2] and over[2] < 50
        flat = (pixels * 0.1 + 110).astype(np.uint8)
        narrow, wide = assess_quality(flat, face), assess_quality(pixels, face)
        assert narrow.components["DynamicRange"] < wide.components["DynamicRange"] - 20


def test_side_light_lowers_uniformity(portraits: list[tuple[np.ndarray, FoundFace]]) -> None:
    for pixels, face in portraits:
        shade = np.clip((np.arange(256) - face.landmarks[2, 0]) / 20, -1, 1)[None, :, None] * 0.4 + 0.55
        lit = (pixels * shade).astype(np.uint8)
        before, after = (
            assess_quality(picture, face).components["IlluminationUniformity"] for picture in (pixels, lit)
        )
        assert after < max(before, 25)


@pytest.mark.parametrize("offset", [0, 3])
def test_stronger_compression_shows_wherever_the_grid_lies(
    portraits: list[tuple[np.ndarray, FoundFace]], offset: int
) -> None:
    for pixels, face in portraits:
        moved = FoundFace((face.box[0] - offset, *face.box[1:]), face.landmarks - np.float32([offset, 0]), 0.9)
        values = [
            assess_quality(jpeg(pixels, quality)[:, offset:].copy(), moved).components["CompressionArtifacts"]
            for quality in (90, 25, 10)
        ]
        assert falls(values) and values[2] < 45


def test_smaller_is_worse(portraits: list[tuple[np.ndarray, FoundFace]]) -> None:
    for portrait in portraits:
        steps = [assess_quality(*scaled(*portrait, scale)) for scale in (1, 0.5, 0.25, 0.12)]
        assert falls([step.components["InterEyeDistance"] for step in steps])
        assert falls([step.unified for step in steps[1:]])


@pytest.mark.parametrize(("axis", "index"), [("Yaw", 0), ("Pitch", 1), ("Roll", 2)])
@pytest.mark.parametrize("degrees", [-70, -30, 10, 45, 80])
def test_head_pose_of_a_turned_model_is_found(axis: str, index: int, degrees: float) -> None:
    angle = math.radians(degrees)
    c, s = math.cos(angle), math.sin(angle)
    turn = {
        "Yaw": [[c, 0, -s], [0, 1, 0], [s, 0, c]],
        "Pitch": [[1, 0, 0], [0, c, -s], [0, s, c]],
        "Roll": [[c, -s, 0], [s, c, 0], [0, 0, 1]],
    }[axis]
    points = 2.5 * (_FACE_3D @ np.array(turn).T)[:, :2] + 300
    expected = [0.0, 0.0, 0.0]
    expected[index] = degrees
    assert head_pose(points) == pytest.approx(expected, abs=1e-6)


def test_turned_heads_score_less(portraits: list[tuple[np.ndarray, FoundFace]]) -> None:
    pixels, face = portraits[0]
    for name, axis in (("HeadPoseYaw", 1), ("HeadPosePitch", 0)):
        values = []
        for degrees in (0, 30, 60, 85):
            turn = cv2.Rodrigues(np.eye(3)[axis] * math.radians(degrees))[0]
            points = (_FACE_3D @ turn.T)[:, :2].astype(np.float32) * 2 + 128
            values.append(assess_quality(pixels, FoundFace(face.box, points, 0.9)).components[name])
        assert falls(values) and values[0] > 99 and values[-1] < 5


def test_upside_down_is_useless(portraits: list[tuple[np.ndarray, FoundFace]]) -> None:
    pixels, face = portraits[0]
    turned = FoundFace(face.box, 256 - face.landmarks, 0.9)
    quality = assess_quality(np.ascontiguousarray(pixels[::-1, ::-1]), turned)
    assert quality.components["HeadPoseRoll"] == 0 and quality.unified < 20


def test_odd_faces_get_a_value() -> None:
    """Flat pictures, boxes of a pixel, points that coincide: numbers in range, no error."""
    rng = np.random.default_rng(0)
    for pixels in (
        np.zeros((1, 1, 3), np.uint8),
        np.full((3, 200, 3), 255, np.uint8),
        rng.integers(0, 256, (90, 60, 3), np.uint8),
    ):
        height, width = pixels.shape[:2]
        for points in (np.zeros((5, 2)), rng.normal(0, 500, (5, 2)), np.tile([[0.0], [1], [2], [3], [4]], 2)):
            face = FoundFace((0.0, 0.0, float(width), float(height)), points.astype(np.float32), 0.7)
            quality = assess_quality(pixels, face)
            assert set(quality.components) == set(WEIGHTS)


def test_one_terrible_component_pulls_the_value_down() -> None:
    perfect = dict.fromkeys(WEIGHTS, 100.0)
    assert unify(perfect) == 100
    for name in WEIGHTS:
        worse = unify({**perfect, name: 0.0})
        assert worse < 95
        if name not in ("DynamicRange", "IlluminationUniformity"):
            assert worse < 12
    assert unify(dict.fromkeys(WEIGHTS, 0.0)) == 1
