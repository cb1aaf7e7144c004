from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from safetensors.torch import load_file
from torch import Tensor, nn

from unmask.forgery.plain import Plain
from unmask.lab.detection.feed import Pairs, batches, generators_of
from unmask.lab.detection.pairs_pool import UNKNOWN, Pool, PoolPlan
from unmask.lab.engine import fit
from unmask.lab.run import Protocol, Run
from unmask.networks.contract import Batch, normalise

pytestmark = pytest.mark.lab

SIDE, CELLS, PAIRS = 64, 8, 12
FAMILIES = {"selfblend": 0.5, "stylegan": 0.25, "ciplab": 0.25}
CPU = torch.device("cpu")
PROTOCOL = Protocol(
    options={"view": "residual", "weights": "none"},
    size=SIDE,
    window=32,
    whole_every=3,
    pairs=PAIRS,
    steps=4,
    batch_pairs=2,
    zoo_steps=1,
    seed=5,
)


@pytest.fixture(scope="module")
def pool() -> Pool:
    """Pairs whose first pixel, at every cell, says which pair it is; selfblends are forged in one cell only."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (PAIRS, 2, SIDE, SIDE, 3), np.uint8)
    families = np.arange(PAIRS, dtype=np.uint8) % 3
    masks = np.zeros((PAIRS, CELLS, CELLS), np.uint8)
    masks[families == 0, 6, 1] = 254
    masks[families == 1] = 254
    masks[families == 2] = UNKNOWN
    plan = PoolPlan(PAIRS, 5, SIDE, 1.4, FAMILIES, {"ffhq": 1.0})
    return Pool(plan, pixels, masks, families, *(np.zeros(PAIRS, np.uint8) for _ in range(2)))


def take(pool: Pool, protocol: Protocol, count: int, first: int = 0, **share: int) -> list[dict[str, Tensor]]:
    stream = batches(pool, protocol, CPU, first, **share)
    return [next(stream) for _ in range(count)]


def family_of(batch: dict[str, Tensor]) -> list[str]:
    """The family of every pair, told by its mask."""
    names = []
    for mask in batch["masks"][1::2]:
        names.append("ciplab" if (mask == -1).all() else "stylegan" if (mask == 1).all() else "selfblend")
    return names


def test_a_batch_is_pairs_with_the_real_first(pool: Pool) -> None:
    whole, window = take(pool, PROTOCOL, 2)
    for batch, side in ((whole, 64), (window, 32)):  # every third step sees whole crops
        assert batch["faces"].shape == (4, 3, side, side) and batch["masks"].shape == (4, 1, side // 8, side // 8)
        assert batch["labels"].tolist() == [0, 1, 0, 1]
        assert batch["faces"].min() >= 0 and batch["faces"].max() <= 1
        assert (batch["masks"][::2] == 0).all()


def test_batches_depend_on_seed_and_step_alone(pool: Pool) -> None:
    straight = take(pool, PROTOCOL, 10)
    resumed = take(pool, PROTOCOL, 4, first=6)
    for one, two in zip(straight[6:], resumed, strict=True):
        for key in one:
            assert torch.equal(one[key], two[key])
    other = take(pool, replace(PROTOCOL, seed=6), 1)
    assert not torch.equal(straight[0]["faces"], other[0]["faces"])


def test_an_epoch_shows_every_pair_once(pool: Pool) -> None:
    seen = [name for batch in take(pool, PROTOCOL, PAIRS // 2) for name in family_of(batch)]
    assert {name: seen.count(name) for name in FAMILIES} == dict.fromkeys(FAMILIES, 4)


@pytest.mark.parametrize("without", [("stylegan",), ("selfblend", "ciplab")])
def test_families_left_out_are_never_shown(pool: Pool, without: tuple[str, ...]) -> None:
    seen = {name for batch in take(pool, replace(PROTOCOL, without=without), 12) for name in family_of(batch)}
    assert seen == set(FAMILIES) - set(without)


def test_leaving_out_a_family_the_pool_does_not_hold_is_no_matter(pool: Pool) -> None:
    one, two = take(pool, PROTOCOL, 1), take(pool, replace(PROTOCOL, without=("swap",)), 1)
    assert torch.equal(one[0]["faces"], two[0]["faces"])


def test_batches_say_which_family_a_forgery_is_of_and_how_far_training_is(pool: Pool) -> None:
    protocol = replace(PROTOCOL, without=("selfblend",), steps=4)
    own = generators_of(pool, protocol)
    assert own == ("stylegan", "ciplab")
    for step, batch in enumerate(take(pool, protocol, 6)):
        assert (batch["families"][::2] == 0).all()
        assert [own[kind - 1] for kind in batch["families"][1::2].tolist()] == family_of(batch)
        assert float(batch["progress"]) == min(1.0, step / 4)


class Curious(Plain):
    """A detector that remembers what it is shown before the first step and after the last."""

    begun: ClassVar[list[int]] = []
    ended: ClassVar[list[tuple[int, list[int]]]] = []

    def begin(self, batches: Iterable[Batch]) -> None:
        Curious.begun.append(sum(len(batch["faces"]) for batch in batches))

    def finish(self, training: Iterable[Batch], validation: Iterable[Batch]) -> None:
        assert not self.training and not torch.is_grad_enabled()
        shown = sum(len(batch["faces"]) for batch in training)
        Curious.ended.append((shown, [int(kind) for batch in validation for kind in batch["families"]]))


def test_a_detector_is_shown_the_data_before_and_after(pool: Pool, tmp_path: Path) -> None:
    def face(family: str) -> Any:
        return SimpleNamespace(crop=np.zeros((SIDE, SIDE, 3), np.uint8), family=family, label=int(family != "real"))

    held = [face(name) for name in ("real", "ciplab", "pggan", "selfblend", "real")]
    fabric = Fabric(accelerator="cpu", devices=1, precision="32-true")
    run = Run(tmp_path, PROTOCOL, "0")
    for _ in range(2):
        fit(fabric, Curious(**PROTOCOL.options), Pairs(pool, PROTOCOL, held), run)  # type: ignore[arg-type]
    # Once each for a new run; a finished one that is found again is not begun anew. PGGAN is none of its families.
    assert len(Curious.begun) == 1 and Curious.begun[0] > 0
    assert Curious.ended[0][1] == [0, 3, 1, 0] and Curious.ended[0] == Curious.ended[1]


def test_a_window_keeps_forged_cells(pool: Pool) -> None:
    """A selfblend's one forged cell is in every window, at the place where its pixels are."""
    for batch in take(pool, replace(PROTOCOL, whole_every=1000, without=("stylegan", "ciplab")), 30, first=1):
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
    for batch in take(white, replace(PROTOCOL, whole_every=1000), 10, first=1):
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
    for batch in take(alike, PROTOCOL, 6):
        assert torch.equal(batch["faces"][::2], batch["faces"][1::2])


def test_processes_share_a_batch(pool: Pool) -> None:
    whole = take(pool, PROTOCOL, 6)
    parts = [take(pool, PROTOCOL, 6, rank=rank, world=2) for rank in (0, 1)]
    for batch, one, two in zip(whole, *parts, strict=True):
        assert len(one["faces"]) == len(two["faces"]) == 2
        assert sorted(family_of(batch)) == sorted(family_of(one) + family_of(two))


def test_normalising_uses_the_detectors_own_numbers() -> None:
    faces = torch.rand(2, 3, 4, 4)
    expected = (faces * 255 - 127) / 128
    torch.testing.assert_close(normalise(faces, Plain), expected, rtol=1e-5, atol=1e-6)


class Mortal(Plain):
    """A detector that kills its run when it has taken so many steps."""

    left = 10**9

    def training_losses(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        if Mortal.left == 0:
            raise KeyboardInterrupt
        Mortal.left -= 1
        return super().training_losses(batch)


def train(folder: Path, pool: Pool, lives: int = 10**9, **how: Any) -> nn.Module:
    Mortal.left = lives
    torch.manual_seed(PROTOCOL.seed)
    detector = Mortal(**PROTOCOL.options)  # type: ignore[arg-type]
    fabric = Fabric(accelerator="cpu", devices=1, precision="32-true")
    return fit(fabric, detector, Pairs(pool, PROTOCOL), Run(folder, PROTOCOL, "0"), every=2, **how)


@pytest.fixture(scope="module")
def uninterrupted(pool: Pool, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, nn.Module]:
    folder = tmp_path_factory.mktemp("run")
    return folder, train(folder, pool, validate=lambda _: {"auc": 0.5})


def columns(folder: Path) -> list[list[str]]:
    """metrics.csv without the speed."""
    lines = [line.split(",") for line in (folder / "metrics.csv").read_text().splitlines()]
    place = lines[0].index("pairs_per_second")
    return [line[:place] + line[place + 1 :] for line in lines]


@pytest.mark.parametrize("lives", [2, 3])
def test_a_resumed_run_ends_like_an_uninterrupted_one(
    pool: Pool, uninterrupted: tuple[Path, nn.Module], tmp_path: Path, lives: int
) -> None:
    """Killed at its checkpoint, or between two of them."""
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "run", pool, lives=lives, validate=lambda _: {"auc": 0.5})
    assert (tmp_path / "run/checkpoint.ckpt").exists() and not (tmp_path / "run/weights.safetensors").exists()
    resumed = train(tmp_path / "run", pool, lives=2, validate=lambda _: {"auc": 0.5})
    folder, whole = uninterrupted
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    one, two = (load_file(path / "weights.safetensors") for path in (folder, tmp_path / "run"))
    assert one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)
    assert columns(folder) == columns(tmp_path / "run")


def test_a_finished_run_is_not_trained_on(pool: Pool, uninterrupted: tuple[Path, nn.Module]) -> None:
    folder, whole = uninterrupted
    again = train(folder, pool, lives=0)
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in whole.state_dict().items())


def test_the_record_of_a_run(uninterrupted: tuple[Path, nn.Module]) -> None:
    folder, module = uninterrupted
    header, *rows = columns(folder)
    assert header == ["step", "loss", "loss_verdict", "loss_map", "rate", "auc"]
    for row in rows:
        assert float(row[1]) == pytest.approx(float(row[2]) + float(row[3]), rel=1e-4)
    assert [row[0] for row in rows] == ["2", "4"]
    assert not module.training
    weights = load_file(folder / "weights.safetensors")
    assert weights.keys() == module.state_dict().keys()
    assert {value.dtype for value in weights.values()} == {torch.float16, torch.int64}


def test_training_moves_the_averaged_weights(pool: Pool, uninterrupted: tuple[Path, nn.Module]) -> None:
    torch.manual_seed(PROTOCOL.seed)
    fresh = Plain(**PROTOCOL.options).state_dict()  # type: ignore[arg-type]
    _, whole = uninterrupted
    moved = [name for name, value in whole.state_dict().items() if not torch.equal(value, fresh[name])]
    assert len(moved) > 0.95 * len(fresh)


def test_progress_and_validation_are_told(pool: Pool, tmp_path: Path) -> None:
    told: list[int] = []
    seen: list[bool] = []

    def validate(module: nn.Module) -> dict[str, float]:
        seen.append(module.training)
        return {}

    note: Callable[[int, float], None] = lambda step, _: told.append(step)  # noqa: E731
    train(tmp_path, pool, validate=validate, progress=note)
    assert seen == [False, False] and told[-1] == PROTOCOL.steps
