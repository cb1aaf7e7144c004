"""Scoring crops with a tiny pack made here: its logit is a known linear function of the mean colour."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tiny_pack import write_pack

from unmask.forgery.scoring import BATCH, ForgeryScorer, probability
from unmask.packs import load_pack

SIZE = 16


@pytest.fixture
def scorer(tmp_path: Path) -> ForgeryScorer:
    return ForgeryScorer(load_pack(write_pack(tmp_path / "tiny", size=SIZE), task="forgery_detection"))


def crops(count: int) -> list[np.ndarray]:
    return list(np.random.default_rng(1).integers(0, 256, (count, SIZE, SIZE, 3), np.uint8))


@pytest.mark.parametrize(("logit", "expected"), [(0.0, 0.5), (1.0, 1 / (1 + math.exp(-1))), (-1e9, 0.0), (1e9, 1.0)])
def test_probability_is_the_logistic_function_and_never_overflows(logit: float, expected: float) -> None:
    assert probability(logit) == pytest.approx(expected, abs=1e-15)


def test_no_crops_no_scores(scorer: ForgeryScorer) -> None:
    assert scorer.score([]) == []


def test_scores_are_those_of_the_network(scorer: ForgeryScorer) -> None:
    """Mean of 1 R + 2 G - 3 B on (x - 0.5) / 0.25; the map is the red channel in 4 x 4."""
    (crop,) = crops(1)
    (scored,) = scorer.score([crop])
    means = (crop.reshape(-1, 3).mean(axis=0) / 255 - 0.5) / 0.25
    expected = float(means @ [1, 2, -3])
    assert scored.logit == pytest.approx(expected, abs=1e-4)
    assert scored.score == pytest.approx(1 / (1 + math.exp(-expected)), abs=1e-5)
    assert scored.map.shape == (4, 4) and scored.map.dtype == np.float32
    red = (crop[..., 0].reshape(4, 4, 4, 4).mean(axis=(1, 3)) / 255 - 0.5) / 0.25
    np.testing.assert_allclose(scored.map, 1 / (1 + np.exp(-red)), atol=1e-5)


@pytest.mark.parametrize("count", [1, 2, BATCH, BATCH + 1, 2 * BATCH + 3])
def test_a_score_does_not_depend_on_its_batch(scorer: ForgeryScorer, count: int) -> None:
    together = scorer.score(crops(count))
    alone = [scorer.score([crop])[0] for crop in crops(count)]
    assert len(together) == count
    np.testing.assert_allclose([a.logit for a in together], [b.logit for b in alone], atol=1e-5)
    np.testing.assert_allclose([a.map for a in together], [b.map for b in alone], atol=1e-5)


def test_never_runs_more_than_a_batch_at_once(scorer: ForgeryScorer, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    run: Callable = type(scorer._pack).run
    monkeypatch.setattr(type(scorer._pack), "run", lambda pack, pixels: sizes.append(len(pixels)) or run(pack, pixels))
    scorer.score(crops(40))
    assert sizes == [16, 16, 8]


@pytest.mark.parametrize(
    "wrong", [np.zeros((8, 8, 3), np.uint8), np.zeros((SIZE, SIZE), np.uint8), np.zeros((SIZE, SIZE, 3), np.float32)]
)
def test_refuses_other_shapes_and_types(scorer: ForgeryScorer, wrong: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"16, 16, 3"):
        scorer.score([*crops(1), wrong])


def test_refuses_another_kind_of_pack() -> None:
    with pytest.raises(ValueError, match="not a forgery detector"):
        ForgeryScorer(load_pack("yunet"))


def test_extreme_logits_stay_in_range(tmp_path: Path) -> None:
    gain = ForgeryScorer(load_pack(write_pack(tmp_path / "loud", size=SIZE, gain=1e5)))
    white_red = np.zeros((SIZE, SIZE, 3), np.uint8)
    white_red[..., :2] = 255
    high, low = gain.score([white_red, 255 - white_red])
    assert (high.score, low.score) == (1.0, 0.0)
