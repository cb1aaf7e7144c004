"""The learners' losses and gradients by hand."""

import pytest
import torch
from tiny_clip import NAMES, task, tiny
from torch.nn import functional

from unmask.errors import DataError
from unmask.lab.prompting.config import METHODS, PromptOptions
from unmask.lab.prompting.learners import CoCoOp, CoOp, KgCoOp, ProGrad, new_learner, without_conflict
from unmask.lab.prompting.open_clip_models import OpenClipModel

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def model() -> OpenClipModel:
    return tiny()


@pytest.mark.parametrize("method", [name for name in METHODS if name != "cocoop"])
def test_before_the_first_step_all_are_the_template(method: str, model: OpenClipModel) -> None:
    features = task(model)[0][:, 0]
    zero = new_learner(model, NAMES, PromptOptions(method="zero-shot")).logits(features)
    made = new_learner(model, NAMES, PromptOptions(method=method))  # type: ignore[arg-type]
    torch.testing.assert_close(made.logits(features), zero, rtol=1e-4, atol=1e-4)


def test_contexts_shared_random_and_of_each_class(model: OpenClipModel) -> None:
    shapes = {
        (4, 24): PromptOptions(method="coop"),
        (7, 24): PromptOptions(method="coop", random_tokens=7),
        (4, 4, 24): PromptOptions(method="coop", class_specific=True),
        (4, 2, 24): PromptOptions(method="coop", class_specific=True, random_tokens=2),
    }
    for shape, options in shapes.items():
        one, other = (new_learner(model, NAMES, options) for _ in range(2))
        assert isinstance(one, CoOp) and tuple(one.context.shape) == shape
        assert torch.equal(one.context, other.state_dict()["context"])
        if options.random_tokens:
            assert 0.01 < float(one.context.std()) < 0.03
    another = new_learner(model, NAMES, PromptOptions(method="coop", random_tokens=7, seed=2))
    assert not torch.equal(another.state_dict()["context"][0], one.context[0, 0])


def test_kgcoop_adds_the_distance_from_the_template(model: OpenClipModel) -> None:
    learner = new_learner(model, NAMES, PromptOptions(method="kgcoop", knowledge_weight=8))
    assert isinstance(learner, KgCoOp)
    features, labels = task(model)
    first = learner.losses(features[:, 0], labels)
    assert float(first["knowledge"].detach()) == pytest.approx(0, abs=1e-5)
    with torch.no_grad():
        learner.context.add_(torch.randn(learner.context.shape, generator=torch.Generator().manual_seed(0)))
    losses = learner.losses(features[:, 0], labels)
    own = functional.normalize(learner.text_features(), dim=1)
    words = model.encode_texts([f"a photo of a {name.replace('_', ' ')}." for name in NAMES])
    expected = 8 * (1 - (own * words).sum(1).mean())
    torch.testing.assert_close(losses["knowledge"], expected, rtol=1e-4, atol=1e-5)
    assert float(expected) > 0.1


def test_prograds_rule_by_hand() -> None:
    """(1, -1) contradicts (0, 2): without its part along it, (1, 0). Half of it taken away: (1, -0.5)."""
    gradient, general = torch.tensor([1.0, -1.0]), torch.tensor([0.0, 2.0])
    assert without_conflict(gradient, general).tolist() == [1.0, 0.0]
    assert without_conflict(gradient, general, 0.5).tolist() == [1.0, -0.5]
    assert without_conflict(gradient, -general).tolist() == gradient.tolist()
    assert without_conflict(gradient, torch.zeros(2)).tolist() == gradient.tolist()


def test_prograd_uses_the_divergence_from_the_template(model: OpenClipModel) -> None:
    learner = new_learner(model, NAMES, PromptOptions(method="prograd"))
    assert isinstance(learner, ProGrad)
    features, labels = task(model)
    with torch.no_grad():
        learner.context.add_(0.5 * torch.randn(learner.context.shape, generator=torch.Generator().manual_seed(1)))
    logits = learner.logits(features[:, 0])
    zero = new_learner(model, NAMES, PromptOptions(method="zero-shot")).logits(features[:, 0])
    divergence = (zero.softmax(1) * (zero.log_softmax(1) - logits.log_softmax(1))).sum(1).mean()
    own = torch.autograd.grad(functional.cross_entropy(logits, labels), learner.context, retain_graph=True)[0]
    general = torch.autograd.grad(divergence, learner.context)[0]
    losses = learner.backward(features[:, 0], labels)
    torch.testing.assert_close(losses["divergence"], divergence.detach(), rtol=1e-4, atol=1e-5)
    expected = without_conflict(own, general)
    torch.testing.assert_close(learner.context.grad, expected, rtol=1e-3, atol=1e-5)


def test_cocoop_moves_the_context_by_the_picture(model: OpenClipModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each picture's row is that of CoOp with the context moved by the small network; in parts, the same."""
    learner = new_learner(model, NAMES, PromptOptions(method="cocoop"))
    assert isinstance(learner, CoCoOp)
    assert [tuple(one.shape) for one in learner.meta.parameters()] == [(1, 16), (1,), (24, 1), (24,)]
    features, labels = task(model, shots=2)
    features = features[:, 0]
    with torch.no_grad():
        logits = learner.logits(features)
        for row in (0, 5):
            alone = new_learner(model, NAMES, PromptOptions(method="coop"))
            assert isinstance(alone, CoOp)
            alone.context.add_(learner.meta(features[row]))
            expected = alone.logits(features[row : row + 1])
            torch.testing.assert_close(logits[row : row + 1], expected, rtol=1e-4, atol=1e-4)
    losses = learner.backward(features, labels)
    whole = [parameter.grad.clone() for parameter in learner.parameters() if parameter.grad is not None]
    monkeypatch.setattr("unmask.lab.prompting.learners._SEQUENCES", 12)  # three pictures at a time
    learner.zero_grad()
    parts = learner.backward(features, labels)
    torch.testing.assert_close(parts["class"], losses["class"])
    for parameter, expected in zip(learner.parameters(), whole, strict=True):
        torch.testing.assert_close(parameter.grad, expected, rtol=1e-3, atol=1e-5)


def test_options_that_do_not_go_together() -> None:
    for wrong in (
        {"method": "glow"},
        {"method": "cocoop", "class_specific": True},
        {"epochs": 0},
        {"batch": 0},
        {"learning_rate": 0.0},
        {"random_tokens": -1},
    ):
        with pytest.raises(DataError):
            PromptOptions(**wrong)  # type: ignore[arg-type]


def test_the_published_recipe() -> None:
    assert [
        (PromptOptions(method=one).epoch_count, PromptOptions(method=one).batch_size) for one in ("coop", "cocoop")
    ] == [
        (200, 128),
        (10, 1),
    ]
    assert PromptOptions().optimiser == {"optimiser": "gcsam", "rho": 0.1, "beta1": 0.5, "beta2": 0.8}
    assert PromptOptions(method="sam-coop").optimiser == {"optimiser": "sam", "rho": 0.1}
    assert PromptOptions(method="kgcoop").optimiser == {}
