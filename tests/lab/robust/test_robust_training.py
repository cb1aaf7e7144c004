"""The objective: the published losses on a classifier, folded heads, contrast, free replays, resuming."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from digit_sets import SmallResNet
from resuming import resumes_as_if_nothing_had_happened
from torch import Tensor, nn
from torch.nn import functional

from unmask.errors import DataError
from unmask.forgery.fedforgery import FedForgery
from unmask.forgery.plain import Plain
from unmask.lab.config import TrainConfig
from unmask.lab.robust.config import RobustOptions
from unmask.lab.robust.losses import negative_contrast
from unmask.lab.robust.pgd import distance
from unmask.lab.robust.training import AdversarialTraining, Replayed
from unmask.networks.contract import Hardenable

pytestmark = pytest.mark.lab


@pytest.fixture(autouse=True)
def _without_onednn() -> Iterator[None]:
    """oneDNN's AVX2 kernels in torch 2.14 write out of bounds where one backward pass goes to weights and pictures."""
    with torch.backends.mkldnn.flags(enabled=False):
        yield


OPTIONS = RobustOptions(attack_epsilon="0.1", attack_steps=2)


def network(seed: int = 0, ra: bool = False) -> SmallResNet:
    torch.manual_seed(seed)
    made = SmallResNet(width=4, classes=("a", "b", "c"))
    made.reverse_attention = ra
    return made.train()


def batch(seed: int = 1, count: int = 9) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {"faces": torch.rand((count, 3, 8, 8), generator=generator), "labels": torch.arange(count) % 3}


class Given(AdversarialTraining):
    """Takes pictures that are given for the attacked ones: brighter ones, darker ones for negatives."""

    def attack(self, network: Hardenable, faces: Tensor, classes: Tensor, towards: bool = False) -> Tensor:
        return (faces + (-0.07 if towards else 0.05)).clamp(0, 1)


def objective(**changes: Any) -> Given:
    return Given(replace(OPTIONS, **changes))


def total(losses: dict[str, Tensor]) -> Tensor:
    assert all(value.shape == () and value.isfinite() for value in losses.values())
    return torch.stack(list(losses.values())).sum()


def moved(faces: Tensor) -> Tensor:
    return (faces + 0.05).clamp(0, 1)


# The bases


def test_pgd_at_is_the_cross_entropy_of_attacked_pictures() -> None:
    some = batch()
    expected = functional.cross_entropy(network()(moved(some["faces"])), some["labels"])
    torch.testing.assert_close(total(objective(robust="pgd-at")(network(), some)), expected)


def test_trades_as_its_authors_wrote_it() -> None:
    some, net = batch(), network()
    natural, attacked = net(some["faces"]), net(moved(some["faces"]))
    robust = nn.KLDivLoss(reduction="sum")(attacked.log_softmax(1), natural.softmax(1)) / len(natural)
    expected = functional.cross_entropy(natural, some["labels"]) + 6.0 * robust
    torch.testing.assert_close(total(objective(robust="trades")(network(), some)), expected)


def test_mart_as_its_authors_wrote_it() -> None:
    some, net = batch(), network()
    natural, attacked = net(some["faces"]), net(moved(some["faces"]))
    labels = some["labels"]
    probabilities = attacked.softmax(1)
    ranked = probabilities.argsort(1)[:, -2:]
    wrong = torch.where(ranked[:, -1] == labels, ranked[:, -2], ranked[:, -1])
    boosted = functional.cross_entropy(attacked, labels) + functional.nll_loss(
        (1.0001 - probabilities + 1e-12).log(), wrong
    )
    true = natural.softmax(1).gather(1, labels[:, None])[:, 0]
    kl = nn.KLDivLoss(reduction="none")((probabilities + 1e-12).log(), natural.softmax(1)).sum(1)
    expected = boosted + 5.0 * ((1.0000001 - true) * kl).mean()
    torch.testing.assert_close(total(objective(robust="mart")(network(), some)), expected, rtol=1e-3, atol=1e-3)


def test_beta_weighs_the_divergence() -> None:
    one, two = (objective(robust="trades", beta=beta)(network(), batch()) for beta in (1.0, 2.5))
    torch.testing.assert_close(two["divergence"], 2.5 * one["divergence"])
    torch.testing.assert_close(two["verdict"], one["verdict"])


def test_with_reverse_attention_losses_are_folded_over_heads() -> None:
    """CE(f) + 2 (CE(p0) + CE(p1)) / 2 of natural pictures, masks by the labels; the divergence likewise."""
    some, net = batch(), network(ra=True)
    labels = some["labels"]
    natural, attacked = net.heads(some["faces"], labels), net.heads(moved(some["faces"]), labels)
    assert len(natural) == 3 and torch.equal(net(some["faces"]), natural[1])  # what is served is p0

    def folded(values: list[Tensor]) -> Tensor:
        return values[0] + 2 * (values[1] + values[2]) / 2

    def divergence(one: Tensor, other: Tensor) -> Tensor:
        return functional.kl_div(other.log_softmax(1), one.softmax(1), reduction="batchmean")

    entropy = folded([functional.cross_entropy(one, labels) for one in natural])
    robust = folded([divergence(one, other) for one, other in zip(natural, attacked, strict=True)])
    losses = objective(robust="trades", ra=True)(network(ra=True), some)
    torch.testing.assert_close(total(losses), entropy + 6 * robust, rtol=1e-4, atol=1e-4)


def test_the_contrast_is_added_with_its_weight() -> None:
    some, net = batch(), network()
    torch.manual_seed(5)
    losses = objective(robust="trades", anc=True, anc_weight=3.0)(net, some)
    torch.manual_seed(5)
    rows = torch.multinomial((some["labels"][:, None] != some["labels"]).float(), 1)[:, 0]
    other = network()
    natural, negatives = other(some["faces"]), other((some["faces"][rows] - 0.07).clamp(0, 1))
    torch.testing.assert_close(losses["contrast"], 3 * negative_contrast(natural, negatives))
    assert losses.keys() - objective(robust="trades")(network(), some).keys() == {"contrast"}


@pytest.mark.parametrize("negatives", ["random", "adversarial", "hard"])
@pytest.mark.parametrize("base", ["pgd-at", "trades", "mart"])
def test_every_base_takes_every_kind_of_negative(base: Any, negatives: Any) -> None:
    net = network()
    losses = AdversarialTraining(replace(OPTIONS, robust=base, anc=True, negatives=negatives))(net, batch())
    total(losses).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


@pytest.mark.parametrize("ra", [False, True])
@pytest.mark.parametrize("base", ["pgd-at", "trades", "mart"])
def test_a_batch_of_one_class_has_no_contrast(base: Any, ra: bool) -> None:
    some = {**batch(), "labels": torch.ones(9, dtype=torch.long)}
    losses = AdversarialTraining(replace(OPTIONS, robust=base, anc=True, ra=ra))(network(ra=ra), some)
    assert losses["contrast"] == 0 and total(losses).requires_grad


# The attack of training


def test_the_attack_raises_the_loss_within_its_budget_and_leaves_the_mode() -> None:
    some, net = batch(), network()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    trainer = AdversarialTraining(replace(OPTIONS, robust="trades", attack_steps=5))
    attacked = trainer.attack(net, some["faces"], some["labels"])
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())  # statistics too
    assert net.training and distance(attacked, some["faces"], "linf").max() <= 0.1 + 1e-6
    assert all(parameter.grad is None for parameter in net.parameters())
    net.eval()
    entropy = [functional.cross_entropy(net(x), some["labels"]) for x in (some["faces"], attacked)]
    assert entropy[1] > entropy[0] + 1e-4
    towards = trainer.attack(net, some["faces"], (some["labels"] + 1) % 3, towards=True)
    aimed = [functional.cross_entropy(net(x), (some["labels"] + 1) % 3) for x in (some["faces"], towards)]
    assert aimed[1] < aimed[0] - 1e-4


def test_a_network_that_has_diverged_is_named_as_such() -> None:
    net = network()
    with torch.no_grad():
        net.head.weight.fill_(torch.nan)
    with pytest.raises(DataError, match="gradient that is not a finite number"):
        AdversarialTraining(replace(OPTIONS, robust="pgd-at"))(net, batch())


# The free variant, and resuming


@dataclass(frozen=True)
class Noise:
    """A feed of labelled noise, the same at every step with the same number."""

    count: int = 6
    unit: str = "pictures"

    def batches(self, device: torch.device, first: int, rank: int = 0, world: int = 1) -> Iterator[dict[str, Tensor]]:
        step = first
        while True:
            yield {**batch(step, self.count), "progress": torch.tensor(step / 100)}
            step += 1

    def validation_batches(self, device: torch.device) -> Iterator[dict[str, Tensor]]:
        yield from ()


def test_replayed_batches() -> None:
    plain = [b["faces"] for b, _ in zip(Noise().batches(torch.device("cpu"), 0), range(4), strict=False)]
    feed = Replayed(Noise(), 3, 10)
    for first in (0, 1, 5):
        stream = feed.batches(torch.device("cpu"), first)
        for step in range(first, 10):
            one = next(stream)
            assert torch.equal(one["faces"], plain[step // 3]) and float(one["progress"]) == pytest.approx(step / 10)


def test_free_moves_by_the_gradient_of_the_step_before() -> None:
    trainer = AdversarialTraining(RobustOptions.of(replace(OPTIONS, robust="pgd-at", attack="free").settings()))
    net, some = network(), batch()
    seen: list[Tensor] = []
    net.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    total(trainer(net, some)).backward()
    start, gradient = seen[0].detach().clone(), seen[0].grad
    assert gradient is not None and distance(start, some["faces"], "linf").max() <= 0.1 + 1e-6
    total(trainer(net, some)).backward()
    expected = (some["faces"] + (start - some["faces"] + 0.1 * gradient.sign()).clamp(-0.1, 0.1)).clamp(0, 1)
    inside = (start > 0) & (start < 1)  # where the range ended, the perturbation goes on from where it was
    torch.testing.assert_close(seen[1].detach()[inside], expected[inside])


@pytest.mark.parametrize(
    "changes",
    [
        {"robust": "pgd-at", "attack": "free", "attack_replays": 4},
        {"robust": "trades", "attack": "fast", "anc": True},
        {"robust": "mart", "attack_steps": 2, "anc": True, "ra": True, "negatives": "hard"},
    ],
    ids=["free", "fast", "all"],
)
def test_a_hardened_run_resumes_as_if_nothing_had_happened(changes: dict[str, Any], tmp_path: Path) -> None:
    settings = replace(OPTIONS, **changes).settings()
    options = RobustOptions.of(settings)

    def make() -> SmallResNet:
        net = network(ra=options.ra)
        net.objective = AdversarialTraining(options)
        return net

    config = TrainConfig(steps=6, learning_rate=0.01, robust=settings)
    feed = Replayed(Noise(), options.attack_replays, 6) if options.attack == "free" else Noise()
    assert resumes_as_if_nothing_had_happened(make, feed, config, tmp_path, steps=6)


# Detectors


def test_reverse_attention_on_a_detectors_last_layer() -> None:
    """What is served does not change; the final logits follow the mask."""
    torch.manual_seed(0)
    for made in (Plain("rgb", "none"), FedForgery("test_resnet", "none", width=8)):
        made.size = 64
        detector = made.eval()
        faces = torch.rand(3, 3, 64, 64)
        with torch.no_grad():
            logit = detector(faces).logit
            detector.check_reverse_attention()
            detector.reverse_attention = True
            final, served = detector.heads(faces)
            torch.testing.assert_close(served[:, 1] - served[:, 0], logit, rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(detector(faces).logit, logit)
            forged, real = (detector.heads(faces, torch.full((3,), j))[0].diff(dim=1) for j in (1, 0))
            assert (forged > real).all() and final.shape == (3, 2)
