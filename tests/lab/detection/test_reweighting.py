"""Sources whose reals are hard are drawn more often, within bounds, and a restart draws alike."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lightning_fabric import Fabric
from tiny_pool import CELLS, CONFIG, PAIRS, SIDE, make_pool
from torch import Tensor

from unmask.forgery.detector import DetectorOutput
from unmask.forgery.plain import Plain
from unmask.lab import engine
from unmask.lab.detection.config import DetectionTrainConfig
from unmask.lab.detection.feed import Pairs, batches
from unmask.lab.detection.held_out import EvalFace
from unmask.lab.detection.pairs_pool import Pool
from unmask.lab.detection.reweighting import MOST, ReweightedPairs, SourceWeights
from unmask.lab.engine import Trainer, fit
from unmask.lab.run import Run

pytestmark = pytest.mark.lab
CPU = torch.device("cpu")
FABRIC = Fabric(accelerator="cpu", devices=1, precision="32-true")
SOURCES = {"dark": 1.0, "light": 1.0, "grey": 1.0}
REWEIGHTED = replace(CONFIG, reweight_sources=True, batch_pairs=4)


@pytest.fixture(scope="module")
def pool() -> Pool:
    """Whose pairs are of three sources in turn of four, and tell theirs by the brightness."""
    pool = make_pool()
    sources = (np.arange(PAIRS) // 4).astype(np.uint8)
    pixels = np.broadcast_to((60 + 60 * sources)[:, None, None, None, None], pool.pixels.shape).astype(np.uint8)
    return replace(pool, plan=replace(pool.plan, sources=SOURCES), pixels=pixels, sources=sources)


def real(source: str, value: int) -> EvalFace:
    crop = np.full((SIDE, SIDE, 3), value, np.uint8)
    return EvalFace(crop, 0, "real", source, "someone", crop, (0, 0, 9, 9), np.zeros((5, 2)), np.zeros((CELLS, CELLS)))


REALS = tuple(real(name, value) for name, value in (("dark", 10), ("light", 240), ("grey", 120)) for _ in range(8))


class Brightness(torch.nn.Module):
    """Calls forged what is bright."""

    def forward(self, faces: Tensor) -> DetectorOutput:
        return DetectorOutput(6 * faces.mean((1, 2, 3)) - 3, torch.zeros(len(faces), 1, CELLS, CELLS))


def drawn(pool: Pool, weights: SourceWeights, steps: int, config: DetectionTrainConfig = REWEIGHTED) -> np.ndarray:
    """How often each source was drawn, told by the brightness of the reals before they are varied by up to .23."""
    feed = replace(ReweightedPairs.of(Pairs(pool, config)), weights=weights)
    stream = feed.batches(CPU, 0)
    counts = np.zeros(3)
    for _ in range(steps):
        levels = next(stream)["faces"][::2].mean((1, 2, 3)).numpy()
        for level in levels:
            counts[np.abs(np.array([60, 120, 180]) / 255 - level).argmin()] += 1
    return counts


# Weights


def test_the_hardest_source_gets_the_greatest_weight() -> None:
    weights = SourceWeights(SOURCES)
    assert weights.of([*SOURCES]).tolist() == [1, 1, 1]
    weights.update({"dark": [0.1] * 20, "light": [0.9] * 20, "grey": [0.5] * 20})
    dark, light, grey = weights.of([*SOURCES])
    assert dark < grey < light and grey == pytest.approx(1)
    for _ in range(50):
        weights.update({"dark": [0.1] * 20, "light": [0.9] * 20, "grey": [0.5] * 20})
    assert weights.of(["light", "dark"]) == pytest.approx([MOST, 1 / MOST])


def test_a_source_with_few_faces_is_moved_less() -> None:
    weights = SourceWeights(["one", "many", "other"])
    weights.update({"one": [2.0], "many": [2.0] * 40, "other": [0.0] * 40})
    one, many, other = weights.of(["one", "many", "other"])
    assert other < one < many


def test_what_is_not_known_changes_nothing() -> None:
    weights = SourceWeights(SOURCES)
    weights.update({})
    weights.update({"elsewhere": [9.0], "dark": []})
    assert weights.of([*SOURCES, "elsewhere"]).tolist() == [1, 1, 1, 1]


@given(st.lists(st.lists(st.lists(st.floats(0, 60), max_size=5), min_size=3, max_size=3), min_size=1, max_size=6))
def test_weights_are_bounded_and_a_state_is_all_of_them(updates: list[list[list[float]]]) -> None:
    weights = SourceWeights(SOURCES)
    for losses in updates:
        weights.update(dict(zip(SOURCES, losses, strict=True)))
    values = weights.of([*SOURCES])
    assert (values >= 1 / MOST - 1e-9).all() and (values <= MOST + 1e-9).all()
    again = SourceWeights(SOURCES)
    again.load_state_dict(weights.state_dict())
    assert again.of([*SOURCES]).tolist() == values.tolist()


# Batches


def test_at_equal_weights_the_batches_are_those_of_the_plain_feed(pool: Pool) -> None:
    plain, reweighted = batches(pool, REWEIGHTED, CPU, 0), ReweightedPairs.of(Pairs(pool, REWEIGHTED)).batches(CPU, 0)
    for _ in range(9):
        one, other = next(plain), next(reweighted)
        assert all(torch.equal(one[key], other[key]) for key in one)


def test_pairs_are_drawn_in_proportion_to_the_weights(pool: Pool) -> None:
    weights = SourceWeights(SOURCES)
    weights.load_state_dict({"dark": -np.log(2), "light": np.log(2), "grey": 0.0})
    counts = drawn(pool, weights, 600)
    assert counts / counts.sum() == pytest.approx([0.5 / 3.5, 2 / 3.5, 1 / 3.5], abs=0.03)


def test_sources_left_out_are_neither_drawn_nor_looked_at(pool: Pool) -> None:
    config = replace(REWEIGHTED, without_sources=("light",))
    feed = ReweightedPairs.of(Pairs(pool, config, REALS))
    assert feed.numbers().keys() == {"weight_dark", "weight_grey"}
    feed.adapt(Brightness(), CPU)  # type: ignore[arg-type]
    dark, grey = feed.weights.of(["dark", "grey"])
    assert grey > 1 > dark
    assert drawn(pool, feed.weights, 60, config)[1] == 0


def test_what_the_detector_calls_forged_is_drawn_more_often(pool: Pool) -> None:
    """Reals brought to another size, and forgeries, count for nothing."""
    others = [replace(real("dark", 255), source="dark@128"), replace(real("dark", 255), label=1, family="swap")]
    feed = ReweightedPairs.of(Pairs(pool, REWEIGHTED, [*REALS, *others]))
    feed.adapt(Brightness(), CPU)  # type: ignore[arg-type]
    numbers = feed.numbers()
    assert numbers["weight_light"] > numbers["weight_grey"] > numbers["weight_dark"]
    without = ReweightedPairs.of(Pairs(pool, REWEIGHTED, REALS))
    without.adapt(Brightness(), CPU)  # type: ignore[arg-type]
    assert without.numbers() == numbers


def test_without_validation_reals_the_weights_stay(pool: Pool) -> None:
    feed = ReweightedPairs.of(Pairs(pool, REWEIGHTED))
    feed.adapt(Brightness(), CPU)  # type: ignore[arg-type]
    assert set(feed.numbers().values()) == {1.0}


def test_processes_share_what_is_drawn(pool: Pool) -> None:
    feed = ReweightedPairs.of(Pairs(pool, REWEIGHTED, REALS))
    feed.adapt(Brightness(), CPU)  # type: ignore[arg-type]
    whole, *parts = (
        sorted(float(v) for part in share for v in part["masks"].flatten(1).sum(1).tolist())
        for share in (
            [next(feed.batches(CPU, 3))],
            [next(feed.batches(CPU, 3, rank, 2)) for rank in (0, 1)],
        )
    )
    assert whole == parts[0] and len(whole) == 8


# Training


def train(pool: Pool, folder: Path, lives: int = 100) -> dict[str, float]:
    """A short run with a look every second step; ends by a KeyboardInterrupt after so many advances."""
    config = replace(REWEIGHTED, steps=8)
    torch.manual_seed(0)
    feed = ReweightedPairs.of(Pairs(pool, config, REALS))
    run = Run(folder, config, "0", "forgery_detection", "")

    def progress(step: int, _: float) -> None:
        if step >= 2 * lives:
            raise KeyboardInterrupt

    fit(FABRIC, Plain(view="residual", weights="none"), feed, run, None, 4, progress)
    return feed.numbers()


def test_a_restart_draws_as_if_nothing_had_happened(
    pool: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "_SAVE_EVERY", 2)
    numbers = train(pool, tmp_path / "whole")
    assert len(set(numbers.values())) > 1
    with pytest.raises(KeyboardInterrupt):
        train(pool, tmp_path / "killed", lives=3)
    assert train(pool, tmp_path / "killed") == numbers
    one, two = ((tmp_path / name / "weights.safetensors").read_bytes() for name in ("whole", "killed"))
    assert one == two
    header, *rows = (tmp_path / "whole/metrics.csv").read_text().splitlines()
    assert [name for name in header.split(",") if name.startswith("weight_")] == list(numbers)
    assert len(rows) == 2


def test_a_feed_that_does_not_adapt_has_no_state(pool: Pool, tmp_path: Path) -> None:
    """So that checkpoints of runs without the option stay as they were."""
    for pairs, keys in ((Pairs(pool, CONFIG), set()), (ReweightedPairs.of(Pairs(pool, CONFIG)), {"feed"})):
        torch.manual_seed(0)
        trainer = Trainer(FABRIC, Plain(view="residual", weights="none"), pairs, CONFIG, tmp_path / "c.ckpt")
        assert trainer.adapt().keys() == ({f"weight_{name}" for name in SOURCES} if keys else set())
        trainer.save()
        state = torch.load(tmp_path / "c.ckpt", weights_only=False)
        assert set(state) == {"model", "optimiser", "schedule", "average", "step", *keys}
        (tmp_path / "c.ckpt").unlink()
