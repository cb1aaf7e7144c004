"""Evaluation under attack: the worst case, and checks that catch an evaluation that is not to be trusted."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from digit_sets import SmallResNet, write_digits
from lightning_fabric import Fabric
from torch import Tensor, nn

from unmask.errors import DataError
from unmask.lab.classification.config import ClassificationTrainConfig
from unmask.lab.classification.data import read_pictures
from unmask.lab.classification.task import PictureFeed, PicturePlan
from unmask.lab.engine import fit
from unmask.lab.robust import evaluation
from unmask.lab.robust.config import AttackedOptions, RobustOptions
from unmask.lab.robust.evaluation import AttackedEvaluation, evaluate_attacked, report, share_interval, write_report
from unmask.lab.robust.pictures import AttackedPictures, as_pictures, even_rows
from unmask.lab.robust.square import square
from unmask.lab.robust.training import AdversarialTraining
from unmask.lab.run import Run

pytestmark = pytest.mark.lab
OPTIONS = AttackedOptions(attack_epsilon="0.1", attack_steps=10, attack_queries=30)
SIDE = 8


class Bright(nn.Module):
    """Two classes, dark and bright: linear in the mean grey level. `gain` says how steep, `noise` how random."""

    def __init__(self, gain: float = 20.0, noise: float = 0.0) -> None:
        super().__init__()
        self.gain, self.noise = gain, noise

    def heads(self, faces: Tensor, classes: Tensor | None = None, soft: bool = False) -> tuple[Tensor, ...]:
        logit = self.gain * (faces.mean((1, 2, 3)) - 0.5) + self.noise * torch.randn(len(faces))
        return (torch.stack([-logit, logit], 1),)


class Deaf(Bright):
    """The same without gradients: they are all zero."""

    def heads(self, faces: Tensor, classes: Tensor | None = None, soft: bool = False) -> tuple[Tensor, ...]:
        (logits,) = super().heads(faces)
        return (logits.detach() + 0 * logits,)


class Echo(Bright):
    """Final logits that repeat the choice of the auxiliary ones, without gradient, as reverse attention does."""

    def heads(self, faces: Tensor, classes: Tensor | None = None, soft: bool = False) -> tuple[Tensor, ...]:
        (auxiliary,) = super().heads(faces)
        chosen = auxiliary.argmax(1) if classes is None else classes
        weak = 1e-3 * (faces.amax((1, 2, 3)) - faces.amin((1, 2, 3)))
        sure = 2.0 * nn.functional.one_hot(chosen, 2) + weak[:, None]
        return sure, auxiliary


def subject(network: Any, count: int = 20, **more: Any) -> AttackedPictures:
    """Dark and bright pictures in turn, some of them hardly so."""
    labels = torch.arange(count) % 2
    generator = torch.Generator().manual_seed(0)
    level = 0.5 + (2 * labels - 1) * torch.linspace(0.02, 0.3, count)
    faces = level.view(-1, 1, 1, 1) + 0.1 * (torch.rand((count, 3, SIDE, SIDE), generator=generator) - 0.5)
    return AttackedPictures(network, faces.clamp(0, 1), labels, ("dark", "bright"), **more)


def named(result: AttackedEvaluation, *words: str) -> list[str]:
    return [text for text in result.warnings if any(word in text for word in words)]


def test_on_a_linear_network_gradients_find_what_can_be_found() -> None:
    """A picture falls if its mean is within the budget of one half; nothing is to be warned of."""
    pictures = subject(Bright())
    result = evaluate_attacked(pictures, OPTIONS)
    stands = (pictures.faces.mean((1, 2, 3)) - 0.5).abs() > 0.1
    for name in (evaluation.FGSM, evaluation.FINAL, evaluation.MARGIN, evaluation.TARGETED):
        assert ((result.outcome(name).margins > 0) == stands.numpy()).all(), name
    assert result.outcome(evaluation.CLEAN).accuracy == 1 and result.warnings == () and result.echo is None
    assert result.masking_gap == 0
    assert result.worst.accuracy == pytest.approx(float(stands.float().mean()))


def test_the_worst_case_is_at_most_every_attack() -> None:
    result = evaluate_attacked(subject(Echo(), twin=Bright(10)), OPTIONS)
    assert {one.attack for one in result.outcomes} == {
        *(evaluation.CLEAN, evaluation.FGSM, evaluation.FINAL, evaluation.MARGIN, evaluation.AUXILIARY),
        *(evaluation.OBJECTIVE, evaluation.SOFT, evaluation.TARGETED, evaluation.SQUARE, evaluation.TWIN),
    }
    for one in result.outcomes:
        assert (result.worst.margins <= one.margins).all() and result.worst.accuracy <= one.accuracy
        assert one.distances.max() <= 0.1 + 1e-6


def test_a_budget_of_zero_changes_nothing_and_is_said() -> None:
    result = evaluate_attacked(subject(Bright()), replace(OPTIONS, attack_epsilon="0"))
    assert all((one.margins == result.outcomes[0].margins).all() for one in result.outcomes)
    assert named(result, "budget is 0")


def test_a_final_head_that_echoes_is_caught() -> None:
    result = evaluate_attacked(subject(Echo()), OPTIONS)
    assert result.outcome(evaluation.FINAL).final_accuracy > result.outcome(evaluation.AUXILIARY).final_accuracy + 0.15
    assert named(result, "flatter") and result.echo == 1.0 and result.masking_gap > 0.15
    assert "no second opinion" in report(result)


def test_gradients_that_vanish_are_caught_and_so_is_a_black_box_that_is_stronger() -> None:
    result = evaluate_attacked(subject(Deaf()), replace(OPTIONS, attack_queries=200))
    assert named(result, "Gradients vanish: that of the final logits' loss is zero for 100%")
    assert named(result, "Square (black box) beats all attacks by gradients")


def test_random_outputs_are_caught() -> None:
    torch.manual_seed(0)
    assert named(evaluate_attacked(subject(Bright(noise=0.1)), OPTIONS), "stochastic")


def test_steps_that_are_too_short_are_caught() -> None:
    """One step of 0.223 of the budget from a random start; FGSM's one step is of the whole budget."""
    result = evaluate_attacked(subject(Bright()), replace(OPTIONS, attack_steps=1, attack_queries=0))
    assert named(result, "One step fools more")


class Ridge(Bright):
    """Pictures of 0.3 or 0.7 fall where their values rise by about 0.05: FGSM jumps over that, few steps stop short."""

    def heads(self, faces: Tensor, classes: Tensor | None = None, soft: bool = False) -> tuple[Tensor, ...]:
        bright = faces.mean((1, 2, 3)) > 0.5
        level = torch.where(bright, 0.7, 0.3).view(-1, 1, 1, 1)
        margin = 0.4 - (1 - (faces - level - 0.05).abs() / 0.05).mean((1, 2, 3))
        logit = torch.where(bright, 5.0, -5.0) * margin
        return (torch.stack([-logit, logit], 1),)


def test_steps_that_are_too_few_are_caught() -> None:
    labels = torch.arange(6) % 2
    faces = (0.3 + 0.4 * labels).view(-1, 1, 1, 1).expand(6, 3, SIDE, SIDE).clone()
    pictures = AttackedPictures(Ridge(), faces, labels, ("dark", "bright"))
    result = evaluate_attacked(pictures, replace(OPTIONS, attack_steps=1, attack_queries=0))
    assert result.worst.accuracy == 1 and named(result, "More steps help: 4 times as many fool another 100.0%")
    longer = evaluate_attacked(pictures, replace(OPTIONS, attack_steps=10, attack_queries=0))
    assert longer.worst.accuracy == 0 and not named(longer, "More steps help")


def test_a_violated_budget_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation, "pgd", lambda _, faces, *args, **more: (faces + 0.2).clamp(0, 1))
    assert named(evaluate_attacked(subject(Bright()), OPTIONS), "budget was violated")
    monkeypatch.setattr(evaluation, "pgd", lambda _, faces, *args, **more: faces - 0.35)
    assert named(evaluate_attacked(subject(Bright()), replace(OPTIONS, attack_epsilon="0.5")), "budget was violated")


def test_other_things_that_are_said() -> None:
    result = evaluate_attacked(subject(Bright()), replace(OPTIONS, attack_epsilon="0.001"))
    assert named(result, "less than one grey level")
    one = subject(Bright())
    dark = replace(one, faces=one.faces[one.labels == 0], labels=one.labels[one.labels == 0])
    result = evaluate_attacked(dark, OPTIONS)
    assert named(result, "one class") and result.auc(result.worst) is None


def test_a_network_that_does_not_look_is_refused() -> None:
    with pytest.raises(DataError, match="do not depend on the pictures"):
        evaluate_attacked(replace(subject(Bright()), network=Constant()), OPTIONS)


class Constant(Bright):
    def heads(self, faces: Tensor, classes: Tensor | None = None, soft: bool = False) -> tuple[Tensor, ...]:
        return (torch.zeros(len(faces), 2),)


def test_l2_has_no_square() -> None:
    result = evaluate_attacked(subject(Bright()), replace(OPTIONS, attack_norm="l2", attack_epsilon="0.5"))
    assert evaluation.SQUARE not in {one.attack for one in result.outcomes}
    assert max(one.distances.max() for one in result.outcomes) <= 0.5 + 1e-5


def test_an_evaluation_repeats_itself() -> None:
    one, again = (evaluate_attacked(subject(Bright()), OPTIONS) for _ in range(2))
    assert all((a.margins == b.margins).all() for a, b in zip(one.outcomes, again.outcomes, strict=True))


def test_the_auc_under_attack() -> None:
    """Every picture moved the same way keeps the order within a class and not between them."""
    result = evaluate_attacked(subject(Bright()), OPTIONS)
    clean, worst = result.auc(result.outcomes[0]), result.auc(result.worst)
    assert clean == 1 and worst is not None and 0 < worst < 1
    assert "| AUC |" in report(result)


def test_what_is_written_down(tmp_path: Path) -> None:
    result = evaluate_attacked(subject(Echo()), OPTIONS)
    write_report(result, "run", "test", "unmask evaluate run --attacked", tmp_path / "a.json")
    record = json.loads((tmp_path / "a.json").read_text())
    assert [row["attack"] for row in record["attacks"]][-1] == evaluation.WORST
    assert record["warnings"] == list(result.warnings) and record["number"] == 20 and record["echo"] == 1.0
    assert record["settings"]["attack_epsilon"] == pytest.approx(0.1) and record["settings"]["attack_steps"] == 10
    text = report(result)
    assert all(one.attack in text for one in result.outcomes) and all(warning in text for warning in result.warnings)


def test_shares_have_the_interval_of_wilson() -> None:
    value, low, high = share_interval(np.array([True] * 81 + [False] * 182))
    assert (value, low, high) == (
        pytest.approx(0.308, abs=1e-3),
        pytest.approx(0.2553, abs=1e-3),
        pytest.approx(0.3662, abs=1e-3),
    )


def test_square_lowers_margins_within_its_budget_and_asks_as_often_as_allowed() -> None:
    pictures, asked = subject(Bright()), []

    def margin_of(x: Tensor, rows: Tensor) -> Tensor:
        asked.extend(rows.tolist())
        (logits,) = pictures.network.heads(x)
        return evaluation.margin(logits, pictures.labels[rows])

    everything = torch.arange(20)
    moved = square(margin_of, pictures.faces, epsilon=0.1, queries=150, generator=torch.Generator().manual_seed(0))
    assert max(np.bincount(asked)) <= 150 + 1  # and once the picture as it is
    assert (moved - pictures.faces).abs().max() <= 0.1 + 1e-6 and moved.min() >= 0 and moved.max() <= 1
    assert (margin_of(moved, everything) <= margin_of(pictures.faces, everything)).all()
    assert (margin_of(moved, everything) < 0).sum() >= 2
    still = square(margin_of, pictures.faces, epsilon=0.0, queries=40, generator=torch.Generator())
    assert torch.equal(still, pictures.faces)


def test_pictures_are_drawn_evenly_over_the_classes() -> None:
    labels = np.array([0] * 50 + [1] * 5 + [2] * 50)
    rows = even_rows(labels, 30, seed=1)
    assert np.bincount(labels[rows]).tolist() == [13, 5, 12] and (np.diff(rows) > 0).all()
    assert (even_rows(labels, 30, seed=1) == rows).all() and len(even_rows(labels, 500, seed=1)) == 105


# The sheet's directions at its own scale


def trained(folder: Path, data: Path, ra: bool, seed: int = 0, steps: int = 200) -> SmallResNet:
    """TRADES on digits: some fifteen seconds of one core."""
    settings = RobustOptions(robust="trades", attack_epsilon="0.2", attack_steps=5, ra=ra).settings()
    config = ClassificationTrainConfig(
        size=16, steps=steps, batch=64, augment="none", learning_rate=0.02, robust=settings, seed=seed,
        classes=tuple("0123456789"), average=0.9,
    )  # fmt: skip
    plan = PicturePlan(config, read_pictures(data))
    torch.manual_seed(seed)
    net = SmallResNet(width=8, classes=config.classes)
    net.reverse_attention = ra
    net.objective = AdversarialTraining(RobustOptions.of(settings))
    fabric = Fabric(accelerator="cpu", devices=1, precision="32-true")
    return fit(fabric, net, PictureFeed(plan), Run(folder, config, "0"))


@pytest.mark.slow
def test_reverse_attention_masks_gradients_and_the_evaluator_catches_it(tmp_path: Path) -> None:
    """The sheet, section 10: attacks on the final logits flatter by more than 15 points with masks, by less than 5
    without."""
    data = write_digits(tmp_path / "digits")
    pictures = read_pictures(data).splits["test"].take(np.arange(150))
    options = AttackedOptions(attack_epsilon="0.2", attack_steps=20, attack_queries=0)
    for ra in (True, False):
        net = trained(tmp_path / f"run-{ra}", data, ra)
        attacked = AttackedPictures(
            net, as_pictures(pictures.pixels), torch.from_numpy(pictures.labels), tuple("0123456789")
        )
        result = evaluate_attacked(attacked, options)
        assert result.outcome(evaluation.CLEAN).accuracy > 0.8
        assert (result.masking_gap > 0.15) if ra else (abs(result.masking_gap) < 0.05), result.masking_gap
        if ra:
            auxiliary = result.outcome(evaluation.AUXILIARY).final_accuracy
            assert result.outcome(evaluation.FINAL).final_accuracy - auxiliary > 0.15
        assert bool(named(result, "flatter")) == ra
        assert (result.echo is None) == (not ra) and (not ra or (result.echo or 0) > 0.95)
