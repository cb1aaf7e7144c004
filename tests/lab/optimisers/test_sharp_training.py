"""The engine with a sharpness-aware optimiser: two looks at one batch, the rest of training as it was."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning_fabric import Fabric
from resuming import resumes_as_if_nothing_had_happened
from tiny_pool import CONFIG, Noise, Tiny, make_pool
from torch import Tensor

from unmask.errors import DataError
from unmask.forgery.plain import Plain
from unmask.lab.config import TrainConfig
from unmask.lab.detection.feed import Pairs
from unmask.lab.engine import Trainer, fit
from unmask.lab.optimisers.config import OptimiserOptions
from unmask.lab.run import Run, config_of

pytestmark = pytest.mark.lab
FABRIC = Fabric(accelerator="cpu", devices=1, precision="32-true")
TINY = TrainConfig(steps=6, learning_rate=0.05, average=0.9, seed=3)


def settings(optimiser: Any, **changes: Any) -> dict[str, Any]:
    return OptimiserOptions(optimiser=optimiser, **changes).settings()


def advanced(config: TrainConfig, fabric: Fabric = FABRIC, proximal: float = 0.0) -> tuple[dict[str, Tensor], ...]:
    """Weights and their average after all steps."""
    torch.manual_seed(0)
    trainer = Trainer(fabric, Tiny(), Noise(), config, proximal=proximal)
    return trainer.advance(config.steps).weights, dict(trainer.average.state_dict())


def assert_equal(one: tuple[dict[str, Tensor], ...], other: tuple[dict[str, Tensor], ...]) -> None:
    for first, second in zip(one, other, strict=True):
        assert all(torch.equal(value, second[name]) for name, value in first.items())


def test_without_settings_a_step_is_adamws() -> None:
    """The loop of the engine by hand: the learning rate's schedule, the shortened gradient."""
    torch.manual_seed(0)
    network, feed = Tiny(), Noise().batches(torch.device("cpu"), 0)
    groups = [
        {"params": [network.line.weight], "weight_decay": TINY.weight_decay},
        {"params": [network.line.bias], "weight_decay": 0.0},
    ]
    optimiser = torch.optim.AdamW(groups, lr=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 0.05, 6, pct_start=0.08, final_div_factor=100)
    for _ in range(6):
        optimiser.zero_grad()
        batch = next(feed)
        batch["faces"] = batch["faces"].contiguous(memory_format=torch.channels_last)
        torch.stack(list(network.training_losses(batch).values())).sum().backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 2.0)
        optimiser.step()
        schedule.step()
    assert_equal((advanced(TINY)[0],), (dict(network.state_dict()),))


@pytest.mark.parametrize("proximal", [0.0, 0.5])
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_a_move_of_no_length_gives_the_run_of_adamw(precision: Any, proximal: float) -> None:
    """So both looks have the same batch, and FedProx, precision, shortening, schedule and average are as they were."""
    fabric = Fabric(accelerator="cpu", devices=1, precision=precision)
    sharp = replace(TINY, optimiser=settings("gcsam", rho=0.0))
    assert_equal(advanced(sharp, fabric, proximal), advanced(TINY, fabric, proximal))


def test_a_real_network_keeps_its_statistics_and_its_dropout() -> None:
    """Normalisation statistics of the first look alone; dropout the same in both."""
    states = []
    for optimiser in ({}, settings("sam", rho=0.0)):
        config = replace(CONFIG, steps=2, optimiser=optimiser)
        torch.manual_seed(CONFIG.seed)
        trainer = Trainer(FABRIC, Plain(**CONFIG.options), Pairs(make_pool(), config), config)  # type: ignore[arg-type]
        states.append((trainer.advance(2).weights,))
    assert_equal(*states)
    assert any(name.endswith("running_mean") for name in states[0][0])


def test_a_long_gradient_is_shortened_after_both_looks() -> None:
    """The base optimiser gets 2 at most, whatever the loss."""
    torch.manual_seed(0)
    config = replace(TINY, optimiser=settings("gcsam"))
    network = Tiny()
    with torch.no_grad():
        network.line.weight.fill_(100.0)
    trainer = Trainer(FABRIC, network, Noise(), config)
    lengths: list[float] = []
    assert trainer._sharp is not None
    trainer._sharp.base.register_step_pre_hook(
        lambda *_: lengths.append(float(torch.cat([p.grad.flatten() for p in network.parameters()]).norm()))  # type: ignore[union-attr]
    )
    trainer.advance(1)
    assert trainer._sharp.statistics is not None and trainer._sharp.statistics.loss_norm > 10
    assert lengths == [pytest.approx(2.0, rel=1e-4)]


@pytest.mark.parametrize("optimiser", ["sam", "gsam", "sagm", "gcsam"])
def test_every_optimiser_learns_and_its_record_says_how(optimiser: str, tmp_path: Path) -> None:
    config = TrainConfig(steps=120, learning_rate=0.05, optimiser=settings(optimiser))
    network = Tiny()
    fit(FABRIC, network, Noise(), Run(tmp_path, config, "0"), every=60)
    looks = network.losses[::2]  # the first of each step
    assert sum(looks[-20:]) < 0.6 * sum(looks[:20])
    header, first, _ = [line.split(",") for line in (tmp_path / "metrics.csv").read_text().splitlines()]
    row = dict(zip(header, map(float, first), strict=True))
    assert row["loss"] == pytest.approx(sum(looks[:60]) / 60, rel=1e-4)
    assert -1 <= row["cosine"] <= 1 and row["relative_rho"] > 0
    branches = [value for name, value in row.items() if name.startswith("branch_")]
    assert sum(branches) == pytest.approx(1 if optimiser == "gcsam" else 0)
    record = json.loads((tmp_path / "run.json").read_text())
    assert record["protocol"]["optimiser"] == config.optimiser


@pytest.mark.parametrize("optimiser", ["sam", "gcsam"])
def test_a_run_resumes_as_if_nothing_had_happened(optimiser: str, tmp_path: Path) -> None:
    config = replace(TINY, optimiser=settings(optimiser))

    class Twice(Tiny):
        """One life a step: the second look costs none."""

        def objective_losses(self, batch: Any) -> dict[str, Tensor]:
            self.looks = getattr(self, "looks", 0) + 1
            return self.training_losses(batch) if self.looks % 2 else Tiny.training_losses(self, batch)

    assert resumes_as_if_nothing_had_happened(Twice, Noise(), config, tmp_path, steps=6)


def test_the_settings_that_a_record_keeps() -> None:
    assert OptimiserOptions().settings() == {}
    assert settings("sam") == {"optimiser": "sam", "rho": 0.05, "adaptive": False}
    assert settings("gsam", rho=0.2) == {"optimiser": "gsam", "rho": 0.2, "alpha": 0.4, "adaptive": False}
    assert settings("gcsam") == {
        "optimiser": "gcsam",
        "rho": 0.1,
        "beta1": 0.5,
        "beta2": 0.8,
        "scope": "tensor",
        "adaptive": False,
    }


@pytest.mark.parametrize(
    ("optimiser", "changes"), [("adamw", {"rho": 0.1}), ("sam", {"beta1": 0.2}), ("gcsam", {"alpha": 0.1})]
)
def test_options_of_another_optimiser_are_refused(optimiser: str, changes: dict[str, float]) -> None:
    with pytest.raises(DataError, match=next(iter(changes))):
        settings(optimiser, **changes)


def test_a_run_of_before_there_was_a_choice_is_one_of_adamw(tmp_path: Path) -> None:
    Run(tmp_path, CONFIG, "0")
    record = json.loads((tmp_path / "run.json").read_text())
    del record["protocol"]["optimiser"]
    (tmp_path / "run.json").write_text(json.dumps(record))
    assert config_of(tmp_path).optimiser == {}
    Run(tmp_path, CONFIG, "0")  # goes on
    with pytest.raises(DataError, match="another configuration"):
        Run(tmp_path, replace(CONFIG, optimiser=settings("sam")), "0")
