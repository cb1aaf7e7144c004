"""The trainer of prompts: it learns, resumes, measures, and saves prompts that fit other classes."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_clip import NAMES, task, tiny
from torch import Tensor

from unmask.errors import DataError
from unmask.lab.prompting import training
from unmask.lab.prompting.config import METHODS, PromptOptions
from unmask.lab.prompting.learners import new_learner
from unmask.lab.prompting.open_clip_models import OpenClipModel
from unmask.lab.prompting.training import (
    PROMPTS,
    encode_views,
    learn,
    load_prompts,
    probabilities,
    rate_of,
    save_prompts,
    score,
    sharpness,
)

pytestmark = pytest.mark.lab
SHORT = PromptOptions(method="coop", epochs=4, batch=8, learning_rate=0.05)


@pytest.fixture(scope="module")
def model() -> OpenClipModel:
    return tiny()


def state(learner: Any) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in learner.state_dict().items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.mark.parametrize("method", [name for name in METHODS if name != "zero-shot"])
def test_every_method_learns(method: Any, model: OpenClipModel) -> None:
    features, labels = task(model)
    options = PromptOptions(method=method, epochs=8, batch=12, learning_rate=0.003)
    learned = learn(model, NAMES, features, labels, options)
    losses = [row["loss"] for row in learned.history]
    assert len(losses) == 8 and losses[-1] < 0.9 * losses[0]
    zero = new_learner(model, NAMES, PromptOptions(method="zero-shot"))
    assert score(learned.learner, features[:, 0], labels).accuracy >= score(zero, features[:, 0], labels).accuracy
    assert ("cosine" in learned.history[0]) == (method in ("sam-coop", "gcscoop"))
    assert ("branch_sam" in learned.history[0]) == (method == "gcscoop")


def test_zero_shot_learns_nothing(model: OpenClipModel, tmp_path: Path) -> None:
    features, labels = task(model)
    learned = learn(model, NAMES, features, labels, PromptOptions(method="zero-shot"), tmp_path)
    assert learned.history == [] and [path.name for path in tmp_path.iterdir()] == [PROMPTS]
    logits = load_prompts(tmp_path / PROMPTS, model).logits(features[:, 0])
    assert torch.equal(logits, learned.learner.logits(features[:, 0]))


def test_a_step_is_sgds_with_momentum_and_decay(model: OpenClipModel) -> None:
    """Two epochs of one batch by hand: 1e-5, then the whole rate."""
    features, labels = task(model)
    learned = learn(model, NAMES, features, labels, replace(SHORT, epochs=2, batch=100))
    twin = new_learner(model, NAMES, SHORT)
    optimiser = torch.optim.SGD(twin.parameters(), lr=1e-5, momentum=0.9, weight_decay=5e-4)
    for rate in (1e-5, 0.05):
        optimiser.param_groups[0]["lr"] = rate
        optimiser.zero_grad()
        twin.backward(features[:, 0], labels)
        optimiser.step()
    torch.testing.assert_close(state(learned.learner)["context"], state(twin)["context"], rtol=1e-4, atol=1e-5)
    assert [row["rate"] for row in learned.history] == [1e-5, 0.05]


def test_gcscoop_without_a_move_is_coop(model: OpenClipModel) -> None:
    features, labels = task(model)
    coop = learn(model, NAMES, features, labels, SHORT).learner
    for method in ("gcscoop", "sam-coop"):
        still = learn(model, NAMES, features, labels, replace(SHORT, method=method, rho=0.0))
        assert same(state(still.learner), state(coop))
    moved = learn(model, NAMES, features, labels, replace(SHORT, method="sam-coop", rho=2.0)).learner
    assert not same(state(moved), state(coop))


def test_the_rate_warms_up_for_an_epoch_and_falls_by_a_cosine() -> None:
    options = PromptOptions(method="coop")
    rates = [rate_of(epoch, options) for epoch in range(200)]
    assert rates[:2] == [1e-5, 0.002] and rates[101] == pytest.approx(0.001)
    assert rates[199] == pytest.approx(0.001 * (1 + math.cos(math.pi * 198 / 200)))


@pytest.mark.parametrize("method", ["coop", "gcscoop", "cocoop"])
def test_learning_survives_a_kill(
    method: Any, model: OpenClipModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = replace(SHORT, method=method)
    features, labels = task(model, shots=4)
    features = torch.cat([features, features.flip(2)], 1)  # two views
    whole = learn(model, NAMES, features, labels, options)
    epoch = training._epoch

    def mortal(*given: Any) -> dict[str, float]:
        if given[-1] == 2:
            raise KeyboardInterrupt
        return epoch(*given)

    monkeypatch.setattr(training, "_epoch", mortal)
    with pytest.raises(KeyboardInterrupt):
        learn(model, NAMES, features, labels, options, tmp_path)
    monkeypatch.undo()
    assert not (tmp_path / PROMPTS).exists()
    resumed = learn(model, NAMES, features, labels, options, tmp_path)
    assert same(state(resumed.learner), state(whole.learner)) and resumed.history == whole.history
    assert same(load_file(tmp_path / PROMPTS), state(whole.learner))
    rows = (tmp_path / "metrics.csv").read_text().splitlines()
    assert rows[0].startswith("epoch,rate,loss") and len(rows) == 5
    # A finished one is not trained on, and another is refused.
    again = learn(model, NAMES, features, labels, options, tmp_path)
    assert same(state(again.learner), state(whole.learner))
    for change in ({"names": NAMES[::-1]}, {"options": replace(options, seed=9)}, {"labels": labels.flip(0)}):
        given = {"names": NAMES, "features": features, "labels": labels, "options": options, **change}
        with pytest.raises(DataError, match="another folder"):
            learn(model, folder=tmp_path, **given)  # type: ignore[arg-type]


def test_bfloat16_leaves_the_context_in_float32(model: OpenClipModel) -> None:
    features, labels = task(model)
    options = replace(SHORT, method="gcscoop", learning_rate=0.003)
    half = learn(model, NAMES, features, labels, replace(options, bfloat16=True))
    full = learn(model, NAMES, features, labels, options)
    context = state(half.learner)["context"]
    assert context.dtype == torch.float32 and not torch.equal(context, state(full.learner)["context"])
    assert half.history[-1]["loss"] < 0.9 * half.history[0]["loss"]


def test_one_shot_and_a_class_without_pictures(model: OpenClipModel) -> None:
    features, labels = task(model, shots=1)
    learned = learn(model, NAMES, features[:3], labels[:3], SHORT)
    scores = score(learned.learner, features[:2, 0], labels[:2])
    assert 0 <= scores.accuracy <= 1 and probabilities(learned.learner, features[:, 0]).shape == (4, 4)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"features": torch.zeros(0, 1, 16), "labels": torch.zeros(0).long()}, "zero-shot"),
        ({"names": ("cat",)}, "at least two"),
        ({"names": ("cat", "fox")}, "beyond"),
        ({"features": torch.zeros(24, 1, 12)}, "16"),
        ({"features": torch.full((24, 1, 16), math.nan)}, "not finite"),
    ],
)
def test_what_cannot_be_learned_from(change: dict[str, Any], reason: str, model: OpenClipModel) -> None:
    features, labels = task(model)
    with pytest.raises(DataError, match=reason):
        learn(model, **{"names": NAMES, "features": features, "labels": labels, "options": SHORT, **change})


@pytest.mark.parametrize("method", ["coop", "prograd", "sam-coop", "gcscoop"])
def test_a_gradient_that_is_not_finite_is_an_error(method: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny()
    features, labels = task(model)
    monkeypatch.setattr(model, "scale", lambda: torch.tensor(math.nan))
    with pytest.raises(DataError, match="not finite"):
        learn(model, NAMES, features, labels, replace(SHORT, method=method))


# Measuring


def test_scores_by_hand(model: OpenClipModel) -> None:
    """Right, wrong, right of classes 0, 0, 1: F1 of 2/3 and 2/3 or less; classes without pictures do not count."""
    learner = new_learner(model, NAMES, PromptOptions(method="zero-shot"))
    learner.template.copy_(torch.eye(16)[:4])
    scores = score(learner, torch.eye(16)[[0, 1, 1]], torch.tensor([0, 0, 1]))
    assert scores.accuracy == pytest.approx(2 / 3) and scores.macro_f1 == pytest.approx(2 / 3)
    with pytest.raises(DataError, match="measure"):
        score(learner, torch.zeros(0, 16), torch.zeros(0).long())


def test_sharpness_is_the_rise_of_the_loss_uphill(model: OpenClipModel) -> None:
    learner = new_learner(model, NAMES, PromptOptions(method="coop"))
    features, labels = task(model)
    before = state(learner)
    loss, rise = sharpness(learner, features[:, 0], labels, 0.01)
    assert rise > 0 and same(state(learner), before)
    assert loss == pytest.approx(float(torch.nn.functional.cross_entropy(learner.logits(features[:, 0]), labels)))
    assert sharpness(learner, features[:, 0], labels, 0.0)[1] == 0


def test_views_of_pictures(model: OpenClipModel) -> None:
    """One view is the middle square; several are random crops, the same for a seed."""
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, shape, np.uint8) for shape in ((16, 16, 3), (30, 20, 3))]
    one = encode_views(model, pictures)
    direct = model.encode_pictures(torch.from_numpy(pictures[0].transpose(2, 0, 1).copy())[None].float() / 255)
    assert one.shape == (2, 1, 16)
    torch.testing.assert_close(one[0], direct)
    three, again, other = (encode_views(model, pictures, 3, seed) for seed in (1, 1, 2))
    assert three.shape == (2, 3, 16) and torch.equal(three, again) and not torch.equal(three, other)
    with pytest.raises(DataError, match="no pictures"):
        encode_views(model, [])


# Files of prompts


def test_prompts_fit_other_classes_of_their_model(model: OpenClipModel, tmp_path: Path) -> None:
    features, labels = task(model)
    learner = learn(model, NAMES, features, labels, SHORT).learner
    save_prompts(learner, tmp_path / "a")
    loaded = load_prompts(tmp_path / "a", model, ("oak", "elm tree"))
    assert same(state(loaded), state(learner)) and loaded.names == ("oak", "elm tree")
    assert loaded.logits(features[:, 0]).shape == (len(labels), 2)
    own = load_prompts(tmp_path / "a", model)
    assert torch.equal(own.logits(features[:, 0]), learner.logits(features[:, 0]))


def test_prompts_that_do_not_fit_are_refused(model: OpenClipModel, tmp_path: Path) -> None:
    learner = new_learner(model, NAMES, PromptOptions(method="coop"))
    path = tmp_path / "a"
    save_prompts(learner, path)
    other = tiny()
    with torch.no_grad():
        other.tower.model.ln_final.bias.add_(0.1)
    with pytest.raises(DataError, match="another model"):
        load_prompts(path, other)
    text = {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2}
    with pytest.raises(DataError, match="24 wide"):
        load_prompts(path, tiny(text_cfg=text))
    monkeyed = new_learner(model, NAMES, PromptOptions(method="coop", random_tokens=3))
    monkeyed.options = PromptOptions(method="coop")
    save_prompts(monkeyed, path)
    with pytest.raises(DataError, match="number of tokens"):
        load_prompts(path, model)
    save_prompts(new_learner(model, NAMES, PromptOptions(method="coop", class_specific=True)), path)
    assert load_prompts(path, model).names == NAMES
    with pytest.raises(DataError, match="a context of its own"):
        load_prompts(path, model, ("oak", "elm"))


def test_files_that_hold_no_prompts(model: OpenClipModel, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no prompts there"):
        load_prompts(tmp_path / "none", model)
    (tmp_path / "a").write_bytes(b"nothing")
    save_file({"context": torch.zeros(2)}, tmp_path / "b")
    for name in ("a", "b"):
        with pytest.raises(DataError, match="not a file of learned prompts"):
            load_prompts(tmp_path / name, model)
