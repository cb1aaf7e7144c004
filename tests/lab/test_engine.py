"""The engine: step by step from any weights, resumed as if nothing had happened, recorded as it went."""

import csv
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from safetensors.torch import load_file
from tiny_pool import CONFIG, SIDE, Noise, Tiny, make_pool
from torch import Tensor, nn

from unmask.errors import DataError
from unmask.forgery.plain import Plain
from unmask.lab import engine
from unmask.lab.config import TrainConfig
from unmask.lab.detection.feed import Pairs
from unmask.lab.detection.pairs_pool import Pool
from unmask.lab.engine import Trainer, fit
from unmask.lab.run import Run
from unmask.networks.contract import Batch

pytestmark = pytest.mark.lab
FABRIC = Fabric(accelerator="cpu", devices=1, precision="32-true")


@pytest.fixture(scope="module")
def pool() -> Pool:
    return make_pool()


TINY = TrainConfig(steps=8, learning_rate=0.05, average=0.9, seed=3)


def trainer_of(seed: int = 0, config: TrainConfig = TINY, checkpoint: Path | None = None) -> Trainer[Tiny]:
    """A trainer of a network that follows from the seed."""
    torch.manual_seed(seed)
    return Trainer(FABRIC, Tiny(), Noise(), config, checkpoint)


def assert_equal(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.equal(value, other[name]), name


# Step by step


@pytest.mark.parametrize("parts", [(4, 4), (1, 6, 1)])
def test_advances_that_follow_each_other_are_as_one(parts: tuple[int, ...]) -> None:
    whole, apart = trainer_of(), trainer_of()
    last = whole.advance(8)
    several = [apart.advance(steps) for steps in parts]
    assert_equal(several[-1].weights, last.weights)
    assert_equal(apart.average.state_dict(), whole.average.state_dict())
    assert [one.steps for one in several] == np.cumsum(parts).tolist() and last.steps == 8
    assert apart.network.losses == whole.network.losses


def test_two_advances_of_a_real_network_are_as_one(pool: Pool) -> None:
    """Its batches, its normalisation statistics and its dropout too."""
    networks = []
    for parts in ((4,), (2, 2)):
        torch.manual_seed(CONFIG.seed)
        trainer = Trainer(FABRIC, Plain(**CONFIG.options), Pairs(pool, CONFIG), CONFIG)  # type: ignore[arg-type]
        weights = [trainer.advance(steps) for steps in parts][-1].weights
        networks.append((weights, trainer.average.state_dict()))
    assert_equal(networks[0][0], networks[1][0])
    assert_equal(networks[0][1], networks[1][1])


def test_an_advance_counts_and_measures_its_own_steps() -> None:
    trainer = trainer_of()
    first, second = trainer.advance(3), trainer.advance(2)
    losses = trainer.network.losses
    for one, own in ((first, losses[:3]), (second, losses[3:])):
        assert one.units == 4 * len(own)
        assert one.metrics.keys() == {"loss", "loss_error", "loss_size", "rate", "faces_per_second"}
        assert one.metrics["loss"] == pytest.approx(np.mean(own), rel=1e-5)
        assert one.metrics["loss"] == pytest.approx(one.metrics["loss_error"] + one.metrics["loss_size"])
        assert one.metrics["faces_per_second"] > 0
    # After eight per cent of the steps the rate falls.
    assert 0.05 > first.metrics["rate"] > second.metrics["rate"] > 0
    trainer.advance(3)
    assert trainer.advance(0).metrics.keys() == {"rate"}


def test_no_advance_goes_beyond_the_last_step() -> None:
    trainer = trainer_of()
    assert trainer.advance(100).steps == trainer.step == 8
    kept = {name: value.clone() for name, value in trainer.network.state_dict().items()}
    none = trainer.advance(5)
    assert (none.steps, none.units) == (8, 0) and len(trainer.network.losses) == 8
    assert_equal(none.weights, kept)


def test_an_advance_begins_from_the_weights_that_are_given() -> None:
    """A trainer given another's weights does at its first step what that other does; its own are of no more account."""
    given, own = trainer_of(seed=1), trainer_of(seed=2)
    weights = {name: value.clone() for name, value in given.network.state_dict().items()}
    assert_equal(own.advance(2, weights).weights, given.advance(2).weights)
    assert_equal(own.average.state_dict(), given.average.state_dict())
    assert own.network.losses == given.network.losses != trainer_of(seed=2).network.losses


def test_what_an_advance_gave_stays_as_it_was() -> None:
    """So that several clients' weights can be averaged, and a round be undone."""
    trainer = trainer_of()
    first = trainer.advance(2)
    kept = {name: value.clone() for name, value in first.weights.items()}
    trainer.advance(2)
    assert_equal(first.weights, kept)
    fresh = trainer_of()
    fresh.advance(2)
    again = trainer.advance(0, first.weights)
    assert_equal(again.weights, fresh.network.state_dict())


def test_a_resumed_trainer_goes_on(tmp_path: Path) -> None:
    whole, killed = trainer_of(), trainer_of(checkpoint=tmp_path / "state.ckpt")
    killed.advance(3)
    killed.save()
    killed.advance(2)  # lost
    resumed = trainer_of(seed=9, checkpoint=tmp_path / "state.ckpt")
    assert resumed.step == 3
    expected, last = whole.advance(8), resumed.advance(5)
    assert_equal(last.weights, expected.weights)
    assert_equal(resumed.average.state_dict(), whole.average.state_dict())
    assert last.steps == 8 and last.metrics["rate"] == expected.metrics["rate"]
    assert resumed.network.losses == whole.network.losses[3:]
    assert [path.name for path in tmp_path.iterdir()] == ["state.ckpt"]


def test_a_checkpoint_of_another_network_is_refused(tmp_path: Path) -> None:
    trainer = trainer_of(checkpoint=tmp_path / "checkpoint.ckpt")
    trainer.advance(2)
    trainer.save()

    class Changed(Tiny):
        def __init__(self) -> None:
            super().__init__()
            self.more = nn.Parameter(torch.zeros(3, 3))

    with pytest.raises(DataError, match=r"not a checkpoint of plain as it is in this version; train anew in another"):
        Trainer(FABRIC, Changed(), Noise(), TINY, tmp_path / "checkpoint.ckpt")


def test_without_an_average_the_weights_are_those_of_the_last_step(tmp_path: Path) -> None:
    config = replace(TINY, average=0.0)
    trainer = trainer_of(config=config, checkpoint=tmp_path / "state.ckpt")
    last = trainer.advance(3)
    assert trainer.average is trainer.network and not trainer.network.training
    trainer.save()
    resumed = trainer_of(seed=9, config=config, checkpoint=tmp_path / "state.ckpt")
    assert resumed.step == 3
    assert_equal(resumed.average.state_dict(), last.weights)


def test_training_moves_every_weight_and_averages_all_that_it_moved_through(pool: Pool) -> None:
    """The average is that of Trainer's steps, w' = k w + (1 - k) new with k = min(decay, (1 + n) / (10 + n))."""
    torch.manual_seed(CONFIG.seed)
    network = Plain(**CONFIG.options)  # type: ignore[arg-type]
    fresh = {name: value.clone() for name, value in network.state_dict().items()}
    trainer = Trainer(FABRIC, network, Pairs(pool, CONFIG), CONFIG)
    states = [trainer.advance(1).weights for _ in range(4)]
    expected = {name: value.double() for name, value in states[0].items()}
    for count, state in enumerate(states[1:], start=1):
        keep = min(CONFIG.average, (1 + count) / (10 + count))
        expected = {name: keep * value + (1 - keep) * state[name].double() for name, value in expected.items()}
    averaged = trainer.average.state_dict()
    learned = {name for name, parameter in network.named_parameters() if parameter.requires_grad}
    for name, value in averaged.items():
        if not value.is_floating_point():  # how many batches a statistic is of: the last one's number
            assert torch.equal(value, states[-1][name]) and value == 4, name
            continue
        torch.testing.assert_close(value.double(), expected[name], rtol=1e-5, atol=1e-7)
        assert name not in learned or not torch.equal(value, fresh[name]), name
        assert not name.endswith(("running_mean", "running_var")) or not torch.equal(value, fresh[name]), name
    assert learned and any(name.endswith("running_var") for name in averaged)


# Whole runs


class Curious(Plain):
    """A detector that remembers what it is shown before the first step and after the last."""

    begun: ClassVar[list[int]] = []
    ended: ClassVar[list[tuple[int, list[int]]]] = []

    def fit_statistics(self, batches: Iterable[Batch]) -> None:
        Curious.begun.append(sum(len(batch["faces"]) for batch in batches))

    def fit_posthoc(self, training: Iterable[Batch], validation: Iterable[Batch]) -> None:
        assert not self.training and not torch.is_grad_enabled()
        shown = sum(len(batch["faces"]) for batch in training)
        Curious.ended.append((shown, [int(kind) for batch in validation for kind in batch["families"]]))


def test_a_detector_is_shown_the_data_before_and_after(pool: Pool, tmp_path: Path) -> None:
    def face(family: str) -> Any:
        crop = np.zeros((SIDE, SIDE, 3), np.uint8)
        return SimpleNamespace(crop=crop, family=family, label=int(family != "real"), source="ffhq")

    held = [face(name) for name in ("real", "ciplab", "pggan", "selfblend", "real")]
    run = Run(tmp_path, CONFIG, "0")
    for _ in range(2):
        fit(FABRIC, Curious(**CONFIG.options), Pairs(pool, CONFIG, held), run)  # type: ignore[arg-type]
    # Once each for a new run; a finished one that is found again is not begun anew. PGGAN is none of its families.
    assert len(Curious.begun) == 1 and Curious.begun[0] > 0
    assert Curious.ended[0][1] == [0, 3, 1, 0] and Curious.ended[0] == Curious.ended[1]


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
    torch.manual_seed(CONFIG.seed)
    detector = Mortal(**CONFIG.options)  # type: ignore[arg-type]
    return fit(FABRIC, detector, Pairs(pool, CONFIG), Run(folder, CONFIG, "0"), every=2, **how)


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
    modes = {(folder / name).stat().st_mode for name in ("weights.safetensors", "run.json")}
    assert len(modes) == 1  # who may read the record may read the weights


def test_weights_are_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "weights.safetensors"
    engine.save_weights(nn.Linear(2, 2), path)
    before = path.read_bytes()

    def cut(part: Path, data: bytes) -> int:
        with part.open("wb") as stream:
            stream.write(data[:10])
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_bytes", cut)
    with pytest.raises(KeyboardInterrupt):
        engine.save_weights(nn.Linear(2, 2), path)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_progress_and_validation_are_reported(pool: Pool, tmp_path: Path) -> None:
    steps: list[int] = []
    training: list[bool] = []

    def validate(network: nn.Module) -> dict[str, float]:
        training.append(network.training)
        return {}

    train(tmp_path, pool, validate=validate, progress=lambda step, _: steps.append(step))
    assert training == [False, False] and steps[-1] == CONFIG.steps


def test_a_term_may_begin_in_the_middle_of_a_run(tmp_path: Path) -> None:
    """As that of a second phase does; before, it is 0."""

    class Phased(Tiny):
        def training_losses(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
            losses = super().training_losses(batch)
            late = {"late": losses["size"] * 0 + 1.0} if len(self.losses) > 110 else {}
            return {**losses, **late}

    fit(FABRIC, Phased(), Noise(), Run(tmp_path, TrainConfig(steps=130, learning_rate=0.05), "0"), every=120)
    with (tmp_path / "metrics.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    # Ten of the first 120 steps have it, and all of the last ten; a checkpoint lies in between.
    assert [float(row["loss_late"]) for row in rows] == [pytest.approx(10 / 120, rel=1e-3), 1.0]


def test_a_row_of_the_record_is_of_all_steps_since_the_last(tmp_path: Path) -> None:
    """Though a checkpoint is written every hundred, and progress is told every twenty."""
    config = TrainConfig(steps=130, learning_rate=0.05)
    run, network, steps = Run(tmp_path, config, "0"), Tiny(), list[int]()
    fit(FABRIC, network, Noise(), run, every=120, progress=lambda step, _: steps.append(step))
    header, *rows = [line.split(",") for line in (tmp_path / "metrics.csv").read_text().splitlines()]
    assert header == ["step", "loss", "loss_error", "loss_size", "rate", "faces_per_second"]
    losses = network.losses
    assert [[float(row[0]), float(row[1])] for row in rows] == [
        [120, pytest.approx(np.mean(losses[:120]), rel=1e-4)],
        [130, pytest.approx(np.mean(losses[120:]), rel=1e-4)],
    ]
    assert steps == [20, 40, 60, 80, 100, 120, 130]
    assert np.mean(losses[-20:]) < 0.5 * np.mean(losses[:20])  # and it does learn
