"""Detectors side by side on drawn faces, with detectors that know the truth, nothing, or the opposite."""

from pathlib import Path

import numpy as np
import pytest
from fake_faces import make_faces

from unmask.lab.detection.compare import Row, compare, comparison_table, shortest_names
from unmask.lab.detection.held_out import Picture, make_eval_images, show
from unmask.lab.detection.scoring import Scorer
from unmask.lab.detection.systems import EvaluatedSystem

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def pictures() -> list[Picture]:
    return make_eval_images(make_faces("test", count=6, size=128), "test", ("stylegan", "selfblend"))


def knowing(pictures: list[Picture], size: int, sign: float) -> Scorer:
    """Tells a crop's label times `sign`, with a little noise; the crops it knows are those of its own size."""
    known = {face.crop.tobytes(): float(face.label) for face in show(pictures, "as is", size, 1.4)}

    def score(crops: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        assert crops.shape[1:] == (size, size, 3)
        noise = 0.1 * np.random.default_rng(0).random(len(crops))
        return np.array([sign * known[crop.tobytes()] for crop in crops]) + noise, np.zeros((len(crops), 4, 4))

    return score


def test_the_first_is_what_the_others_are_held_against(pictures: list[Picture]) -> None:
    contenders = [EvaluatedSystem(name, knowing(pictures, size, sign), size, 1.4) for name, size, sign in CAST]
    told: list[str] = []
    rows = compare(contenders, pictures, ["as is"], told.append)
    assert len(told) == 3 and len(rows) == 6
    for row in rows:
        areas = {"right": 1.0, "smaller": 1.0, "wrong": 0.0}
        assert row.auc == (areas[row.detector],) * 3
        if row.detector == "right":
            assert row.difference is None
        else:
            assert row.difference == (areas[row.detector] - 1,) * 3
    assert {row.family: (row.n_real, row.n_forged) for row in rows} == {"selfblend": (24, 24), "stylegan": (6, 6)}


CAST = (("right", 64, 1.0), ("smaller", 48, 1.0), ("wrong", 64, -1.0))


def test_the_table_has_a_column_for_every_detector() -> None:
    rows = [
        Row("a", "swap", "as is", (0.9, 0.8, 0.95), None, 10, 12),
        Row("b", "swap", "as is", (0.7, 0.6, 0.8), (-0.2, -0.3, -0.1), 10, 12),
    ]
    head, _, line = comparison_table(rows).splitlines()
    assert head == "| family | condition | a | b | real / forged |"
    expected = "| swap | as is | 0.900 [0.800, 0.950] | 0.700 [0.600, 0.800]; -0.200 [-0.300, -0.100] | 10 / 12 |"
    assert line == expected


@pytest.mark.parametrize(
    ("names", "short"),
    [
        (["runs/a", "runs/b"], ["a", "b"]),
        (["one/plain", "two/plain", "x"], ["one/plain", "two/plain", "x"]),
        (["plain", "plain"], ["plain", "plain"]),
    ],
)
def test_names_are_as_short_as_they_can_be(names: list[str], short: list[str]) -> None:
    assert shortest_names([str(Path(name)) for name in names]) == short
