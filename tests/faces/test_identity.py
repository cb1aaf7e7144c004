from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from fake_faces import make_picture

from unmask.faces.finding import FaceFinder
from unmask.faces.identity import SAME_PERSON, FaceEmbedder, people_of
from unmask.packs.assets import SFACE, cache_folder


def directions(*degrees: float) -> list[np.ndarray]:
    """Unit vectors in a plane: the cosine of two is that of the angle between them."""
    return [np.array([np.cos(angle), np.sin(angle), 0], np.float32) for angle in np.radians(degrees)]


LINKED = float(np.degrees(np.arccos(SAME_PERSON)))
"""The widest angle between two faces that are taken for one person's: about 63 degrees."""


def test_no_faces_are_no_people() -> None:
    assert people_of([]) == []


def test_one_face_is_one_person() -> None:
    assert people_of(directions(10)) == [0]


def test_a_person_is_named_by_the_first_of_the_faces() -> None:
    assert people_of(directions(0, 180, 5, 175, 355, 185)) == [0, 1, 0, 1, 0, 1]


@pytest.mark.parametrize(("angle", "people"), [(LINKED - 0.5, [0, 0]), (LINKED + 0.5, [0, 1])])
def test_two_faces_are_one_persons_from_the_threshold_on(angle: float, people: list[int]) -> None:
    assert people_of(directions(0, angle)) == people


def test_faces_are_linked_in_chains() -> None:
    """The ends of a chain are unlike each other; without its middle they are two people."""
    assert people_of(directions(0, 100, 50)) == [0, 0, 0]
    assert people_of(directions(0, 100)) == [0, 1]
    assert people_of(directions(0, 180, 300, 240, 60)) == [0] * 5


def test_chains_do_not_depend_on_the_order_of_the_faces() -> None:
    degrees = (0, 50, 100, 170, 220, 285)
    groups = []
    for seed in range(8):
        order = np.random.default_rng(seed).permutation(len(degrees))
        people = people_of(directions(*(degrees[place] for place in order)))
        groups.append({frozenset(order[np.array(people) == person].tolist()) for person in people})
    assert groups == [{frozenset({0, 1, 2}), frozenset({3, 4}), frozenset({5})}] * 8


# The network


@pytest.fixture(scope="module")
def embedder() -> FaceEmbedder:
    file = cache_folder() / f"{SFACE.package}-{SFACE.version}" / Path(SFACE.member).name
    if not file.is_file():
        pytest.skip(f"the weights of SFace are not in the cache: {file}")
    return FaceEmbedder()


@pytest.fixture(scope="module")
def seen(portrait: Path) -> tuple[np.ndarray, np.ndarray]:
    """A real face, uint8 (H, W, 3) RGB, and its five points."""
    bgr = cv2.imread(str(portrait))
    assert bgr is not None
    pixels = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)
    (face,) = FaceFinder().find(pixels)
    return pixels, np.asarray(face.landmarks, np.float32)


def drawn(number: int) -> tuple[np.ndarray, np.ndarray]:
    points = np.array([[0.40, 0.42], [0.60, 0.42], [0.50, 0.55], [0.43, 0.68], [0.57, 0.68]], np.float32)
    return make_picture(160, number), points * 160


def test_an_embedding_is_a_unit_vector(embedder: FaceEmbedder, seen: tuple[Any, Any]) -> None:
    for pixels, points in (seen, drawn(1)):
        vector = embedder.embed(pixels, points)
        assert vector.shape == (128,) and vector.dtype == np.float32
        assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)
        assert np.array_equal(vector, embedder.embed(pixels, points))


def test_a_face_stays_the_same_persons_in_another_light_mirrored_and_smaller(
    embedder: FaceEmbedder, seen: tuple[Any, Any]
) -> None:
    pixels, points = seen
    own = embedder.embed(pixels, points)
    darker, brighter = (np.clip(pixels * gain, 0, 255).astype(np.uint8) for gain in (0.7, 1.3))
    mirrored = np.ascontiguousarray(pixels[:, ::-1])
    across = np.array([len(pixels[0]) - 1, 0], np.float32) + points[[1, 0, 2, 4, 3]] * (-1, 1)
    half = cv2.resize(pixels, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    for other, where in ((darker, points), (brighter, points), (mirrored, across), (half, points / 2)):
        assert float(own @ embedder.embed(other, where)) > 0.8


def test_a_drawn_face_is_someone_else(embedder: FaceEmbedder, seen: tuple[Any, Any]) -> None:
    own = embedder.embed(*seen)
    others = [embedder.embed(*drawn(number)) for number in range(3)]
    assert max(float(own @ other) for other in others) < SAME_PERSON
    assert people_of([own, others[0], own])[::2] == [0, 0]
    assert people_of([own, others[0]]) == [0, 1]
