"""The losses: vectors of the sheet by hand, and independent implementations of the bases."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from unmask.forgery.detector import two_classes
from unmask.lab.robust import losses
from unmask.networks.reverse_attention import class_mask, reversed_logits, two_rows

pytestmark = pytest.mark.lab


def some_logits(seed: int, count: int = 6, classes: int = 4) -> Tensor:
    return 2 * torch.randn((count, classes), generator=torch.Generator().manual_seed(seed))


def log_of(*probabilities: list[float]) -> Tensor:
    """Logits with these softmaxes."""
    return torch.tensor(probabilities).log()


# Negative contrast


def test_similarity_by_hand() -> None:
    """sqrt(0.6 0.9) where both say the first class; 0 where they differ."""
    one = torch.tensor([[0.6, 0.3, 0.1], [0.6, 0.3, 0.1], [0.2, 0.2, 0.6]])
    other = torch.tensor([[0.9, 0.05, 0.05], [0.2, 0.7, 0.1], [0.0, 0.0, 1.0]])
    expected = torch.tensor([math.sqrt(0.54), 0.0, math.sqrt(0.6)])
    torch.testing.assert_close(losses.similarity(one, other), expected)


def test_contrast_by_hand() -> None:
    """Mean of sqrt(0.6 0.9), 0 and sqrt(0.5 0.5), whatever alpha: the value is the same, the gradient is not."""
    anchors = log_of([0.6, 0.3, 0.1], [0.6, 0.3, 0.1], [0.25, 0.5, 0.25])
    negatives = log_of([0.9, 0.05, 0.05], [0.2, 0.7, 0.1], [0.3, 0.5, 0.2])
    expected = (math.sqrt(0.54) + 0 + 0.5) / 3
    for alpha in (0.0, 0.5, 1.0):
        assert float(losses.negative_contrast(anchors, negatives, alpha)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("alpha", "moves"), [(1.0, "negative"), (0.0, "anchor"), (0.5, "both")])
def test_alpha_says_which_side_moves(alpha: float, moves: str) -> None:
    anchors = log_of([0.6, 0.3, 0.1]).requires_grad_()
    negatives = log_of([0.9, 0.05, 0.05]).requires_grad_()
    losses.negative_contrast(anchors, negatives, alpha).backward()
    # A side that is held fixed has no gradient, or one of zeros.
    moved = [side.grad is not None and bool(side.grad.abs().max() > 0) for side in (anchors, negatives)]
    assert moved == [moves in ("anchor", "both"), moves in ("negative", "both")]
    if alpha > 0:
        assert negatives.grad is not None and negatives.grad[0, 0] > 0  # descending lowers the shared class


def test_the_gradient_is_finite_where_the_predictions_differ() -> None:
    anchors, negatives = log_of([0.6, 0.4]), log_of([1e-30, 1.0]).requires_grad_()
    value = losses.negative_contrast(anchors, negatives)
    value.backward()
    assert float(value.detach()) == 0 and negatives.grad is not None and negatives.grad.isfinite().all()


def test_negatives_are_of_another_class() -> None:
    classes = torch.tensor([0, 0, 1, 2, 2, 2])
    matrix = losses.other_classes(classes)
    assert matrix.tolist() == [[bool(a != b) for b in classes] for a in classes]
    for seed in range(20):
        rows = losses.random_negatives(classes, torch.Generator().manual_seed(seed))
        assert rows is not None and (classes[rows] != classes).all()


def test_random_negatives_are_drawn_evenly() -> None:
    classes = torch.tensor([0, 1, 1, 1, 1])
    drawn = [losses.random_negatives(classes, torch.Generator().manual_seed(seed)) for seed in range(400)]
    counts = np.bincount([int(rows[0]) for rows in drawn if rows is not None], minlength=5)
    assert counts[0] == 0 and counts[1:].min() > 60


def test_a_batch_of_one_class_has_no_negatives() -> None:
    classes = torch.ones(4, dtype=torch.long)
    assert losses.random_negatives(classes) is None
    assert losses.hard_negatives(classes, some_logits(0, 4)) is None


def test_hard_negatives_are_those_that_are_taken_for_the_anchors_class() -> None:
    classes = torch.tensor([0, 1, 1, 2])
    # Rows 1 and 3 are taken for class 0, row 3 more surely; nothing of another class is taken for class 1 or 2.
    logits = torch.tensor([[5.0, 0.0, 0.0], [2.0, 1.0, 0.0], [0.0, 3.0, 0.0], [4.0, 0.0, 1.0]])
    rows = losses.hard_negatives(classes, logits, torch.Generator().manual_seed(0))
    assert rows is not None and rows[0] == 3
    assert (classes[rows] != classes).all()


# Bases, against plain implementations of their papers


def test_the_divergence_of_trades() -> None:
    """As its authors' code has it: KLDivLoss(log_softmax(adv), softmax(nat)), here per picture."""
    natural, moved = some_logits(1), some_logits(2)
    expected = functional.kl_div(moved.log_softmax(1), natural.softmax(1), reduction="none").sum(1)
    torch.testing.assert_close(losses.divergence(natural, moved), expected)
    assert losses.divergence(natural, natural).abs().max() < 1e-6


def test_the_loss_of_mart() -> None:
    """Wang et al. 2020, equations 7 to 11, picture by picture."""
    natural, moved, classes = some_logits(3), some_logits(4), torch.tensor([0, 1, 2, 3, 0, 1])
    boosted, weighted = [], []
    for row, true in enumerate(classes.tolist()):
        p, q = moved[row].softmax(0), natural[row].softmax(0)
        wrong = max(float(p[c]) for c in range(4) if c != true)
        boosted.append(-math.log(float(p[true])) - math.log(1 - wrong))
        weighted.append((1 - float(q[true])) * sum(float(q[c]) * math.log(float(q[c] / p[c])) for c in range(4)))
    ours = losses.cross_entropy(moved, classes) + losses.margin_entropy(moved, classes)
    torch.testing.assert_close(ours, torch.tensor(boosted), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(
        losses.weighted_divergence(natural, moved, classes), torch.tensor(weighted), rtol=1e-4, atol=1e-5
    )


def test_of_two_classes_marts_boosted_term_is_the_cross_entropy() -> None:
    """1 - p_wrong = p_true: the boosted cross-entropy is twice the usual one."""
    logits, classes = two_classes(torch.tensor([-2.0, 0.5, 3.0])), torch.tensor([0, 1, 0])
    torch.testing.assert_close(losses.margin_entropy(logits, classes), losses.cross_entropy(logits, classes))


@given(st.lists(st.floats(-20, 20, width=32), min_size=1, max_size=6), st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=30)
def test_a_logit_as_two_classes(values: list[float], random: object) -> None:
    logit = torch.tensor(values)
    labels = torch.arange(len(values)) % 2
    expected = functional.binary_cross_entropy_with_logits(logit, labels.float(), reduction="none")
    torch.testing.assert_close(losses.cross_entropy(two_classes(logit), labels), expected, rtol=1e-4, atol=1e-5)


def test_margins() -> None:
    logits, classes = torch.tensor([[1.0, 3.0, 2.5], [1.0, 3.0, 2.5]]), torch.tensor([1, 2])
    torch.testing.assert_close(losses.margin(logits, classes), torch.tensor([0.5, -0.5]))
    towards = losses.targeted_margin(logits, classes, torch.tensor([0, 1]))
    torch.testing.assert_close(towards, torch.tensor([-2.0, 0.5]))


def test_heads_are_folded_as_the_sheet_says() -> None:
    """l(f) + kappa times the mean of l(p^b); of one head alone l(f)."""
    final, first, second = torch.tensor([1.0]), torch.tensor([10.0]), torch.tensor([20.0])
    assert losses.fold(lambda one: one, (final, first, second), weight=2.0) == 1 + 2 * 15
    assert losses.fold(lambda one: one, (final,), weight=2.0) == 1
    both = losses.fold(lambda one, other: one * other, (final, first), (first, second), weight=0.5)
    assert both == 10 + 0.5 * 200


# Reverse attention


def test_the_final_logits_favour_the_class_of_the_mask() -> None:
    """f_j - f_c is the sum of (W_jk^2 - W_jk W_ck) h_k, and the difference of the biases."""
    torch.manual_seed(0)
    weight, bias, features = torch.randn(2, 5), torch.randn(2), torch.rand(7, 5)
    for j in (0, 1):
        final, _ = reversed_logits(features, weight, bias, torch.full((7,), j))
        expected = ((weight[j] ** 2 - weight[j] * weight[1 - j]) * features).sum(1) + bias[j] - bias[1 - j]
        torch.testing.assert_close(final[:, j] - final[:, 1 - j], expected)


def test_of_one_logit_either_class_is_favoured() -> None:
    """Rows -w/2 and w/2: f_j - f_c = sum w_k^2 h_k / 2, for both classes, where the bias is 0."""
    weight, bias, features = torch.randn(1, 5), torch.zeros(1), torch.rand(7, 5)
    rows, biases = two_rows(weight, bias)
    torch.testing.assert_close((features @ rows.T + biases).softmax(1)[:, 1], (features @ weight[0] + bias).sigmoid())
    for j in (0, 1):
        final, _ = reversed_logits(features, rows, biases, torch.full((7,), j))
        torch.testing.assert_close(final[:, j] - final[:, 1 - j], (weight[0] ** 2 * features).sum(1) / 2)


def test_masks_are_rows_of_the_weights() -> None:
    weight, logits = torch.randn(3, 4), torch.tensor([[0.0, 9.0, 1.0], [50.0, 0.0, 0.0]])
    assert torch.equal(class_mask(weight, logits), weight[[1, 0]])
    assert torch.equal(class_mask(weight, logits, torch.tensor([2, 2])), weight[[2, 2]])
    soft = class_mask(weight, logits, torch.tensor([2, 2]), soft=True)
    torch.testing.assert_close(soft, logits.softmax(1) @ weight)
    torch.testing.assert_close(soft[1], weight[0], rtol=1e-4, atol=1e-4)
