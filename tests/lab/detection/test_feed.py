"""Batches of pairs: what a detector is shown, step by step."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_pool import CELLS, CONFIG, FAMILIES, PAIRS, SIDE, make_pool
from torch import Tensor, nn

from unmask.lab.detection.config import DetectionTrainConfig
from unmask.lab.detection.feed import batches, generators_of
from unmask.lab.detection.pairs_pool import Pool, PoolPlan

pytestmark = pytest.mark.lab
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def pool() -> Pool:
    return make_pool()


def take(pool: Pool, config: DetectionTrainConfig, count: int, first: int = 0, **share: int) -> list[dict[str, Tensor]]:
    stream = batches(pool, config, CPU, first, **share)
    return [next(stream) for _ in range(count)]


def family_of(batch: dict[str, Tensor]) -> list[str]:
    """The family of every pair, told by its mask."""
    names = []
    for mask in batch["masks"][1::2]:
        names.append("ciplab" if (mask == -1).all() else "stylegan" if (mask == 1).all() else "selfblend")
    return names


def test_a_batch_is_pairs_with_the_real_first(pool: Pool) -> None:
    whole, window = take(pool, CONFIG, 2)
    for batch, side in ((whole, 64), (window, 32)):  # every third step sees whole crops
        assert batch["faces"].shape == (4, 3, side, side) and batch["masks"].shape == (4, 1, side // 8, side // 8)
        assert batch["labels"].tolist() == [0, 1, 0, 1]
        assert batch["faces"].min() >= 0 and batch["faces"].max() <= 1
        assert (batch["masks"][::2] == 0).all()


def test_batches_depend_on_seed_and_step_alone(pool: Pool) -> None:
    straight = take(pool, CONFIG, 10)
    resumed = take(pool, CONFIG, 4, first=6)
    for one, two in zip(straight[6:], resumed, strict=True):
        for key in one:
            assert torch.equal(one[key], two[key])
    other = take(pool, replace(CONFIG, seed=6), 1)
    assert not torch.equal(straight[0]["faces"], other[0]["faces"])


def test_an_epoch_shows_every_pair_once(pool: Pool) -> None:
    seen = [name for batch in take(pool, CONFIG, PAIRS // 2) for name in family_of(batch)]
    assert {name: seen.count(name) for name in FAMILIES} == dict.fromkeys(FAMILIES, 4)


@pytest.mark.parametrize("without", [("stylegan",), ("selfblend", "ciplab")])
def test_families_left_out_are_never_shown(pool: Pool, without: tuple[str, ...]) -> None:
    seen = {name for batch in take(pool, replace(CONFIG, without=without), 12) for name in family_of(batch)}
    assert seen == set(FAMILIES) - set(without)


def test_leaving_out_a_family_the_pool_does_not_hold_is_no_matter(pool: Pool) -> None:
    one, two = take(pool, CONFIG, 1), take(pool, replace(CONFIG, without=("swap",)), 1)
    assert torch.equal(one[0]["faces"], two[0]["faces"])


def test_batches_say_which_family_a_forgery_is_of_and_how_far_training_is(pool: Pool) -> None:
    config = replace(CONFIG, without=("selfblend",), steps=4)
    own = generators_of(pool, config)
    assert own == ("stylegan", "ciplab")
    for step, batch in enumerate(take(pool, config, 6)):
        assert (batch["families"][::2] == 0).all()
        assert [own[kind - 1] for kind in batch["families"][1::2].tolist()] == family_of(batch)
        assert float(batch["progress"]) == min(1.0, step / 4)


def test_a_window_keeps_forged_cells(pool: Pool) -> None:
    """A selfblend's one forged cell is in every window, at the place where its pixels are."""
    for batch in take(pool, replace(CONFIG, whole_every=1000, without=("stylegan", "ciplab")), 30, first=1):
        for mask in batch["masks"][1::2]:
            assert (mask == 1).sum() == 1


def test_a_window_is_cut_alike_from_faces_and_mask() -> None:
    """Forged cells are white: wherever the window lies, white pixels and mask must agree."""
    pixels = np.full((8, 2, SIDE, SIDE, 3), 60, np.uint8)
    masks = np.zeros((8, CELLS, CELLS), np.uint8)
    masks[:, 2:4, 5:7] = 254
    pixels[:, 1, 16:32, 40:56] = 190
    plan = PoolPlan(8, 0, SIDE, 1.4, {"swap": 1.0}, {"ffhq": 1.0})
    white = Pool(plan, pixels, masks, *(np.zeros(8, np.uint8) for _ in range(3)))
    places = set()
    for batch in take(white, replace(CONFIG, whole_every=1000), 10, first=1):
        for forged, mask in zip(batch["faces"][1::2], batch["masks"][1::2], strict=True):
            grid = nn.functional.avg_pool2d(forged.mean(0)[None, None], 8)[0]
            assert torch.equal(grid > grid.min() + 0.1, mask == 1)
            places.add(tuple(torch.nonzero(mask[0])[0].tolist()))
    assert len(places) > 3  # it does move


def test_both_of_a_pair_are_varied_alike() -> None:
    pixels = np.repeat(np.random.default_rng(0).integers(60, 190, (8, 1, SIDE, SIDE, 3), np.uint8), 2, axis=1)
    plan = PoolPlan(8, 0, SIDE, 1.4, {"swap": 1.0}, {"ffhq": 1.0})
    masks = np.full((8, CELLS, CELLS), 254, np.uint8)
    alike = Pool(plan, pixels, masks, *(np.zeros(8, np.uint8) for _ in range(3)))
    for batch in take(alike, CONFIG, 6):
        assert torch.equal(batch["faces"][::2], batch["faces"][1::2])


def test_processes_share_a_batch(pool: Pool) -> None:
    whole = take(pool, CONFIG, 6)
    parts = [take(pool, CONFIG, 6, rank=rank, world=2) for rank in (0, 1)]
    for batch, one, two in zip(whole, *parts, strict=True):
        assert len(one["faces"]) == len(two["faces"]) == 2
        assert sorted(family_of(batch)) == sorted(family_of(one) + family_of(two))
