"""Our attacks are as strong as foolbox's and pyautoattack's on the same network, picture by picture within limits."""

import warnings
from typing import Any

import pytest
import torch
from small_victims import network, pictures

from unmask.redteam.attacks import ATTACKS
from unmask.redteam.attacks.contract import Budget, margin
from unmask.redteam.victims import Classifier, Inputs, Victim, pixels

pytestmark = [pytest.mark.lab, pytest.mark.slow]
COUNT, STEPS, QUERIES = 48, 20, 400
RATE = 3 / COUNT  # how far two success rates may lie apart


@pytest.fixture(scope="module")
def case() -> tuple[Victim, Inputs]:
    """A network that blurs first, and pictures of which it is surer than of most: a few grey levels fool it on some."""
    victim = Classifier(torch.nn.Sequential(torch.nn.AvgPool2d(5, 1, 2), network(4)), 4)
    shown = pictures(12 * COUNT)
    logits = victim.logits(Inputs(shown, torch.zeros(len(shown), dtype=torch.int64)))
    inputs = Inputs(shown, logits.argmax(1))
    sure = margin(logits, inputs.labels)
    return victim, inputs.rows(torch.argsort(sure, descending=True)[:COUNT])


def level_of(victim: Victim, inputs: Inputs, name: str, **budget: int) -> tuple[float, torch.Tensor]:
    """The epsilon, of a few, at which about half of the pictures are fooled, and which are."""
    levels = [level / 255 for level in (2, 3, 4, 6, 8, 12, 16)]
    results = [ATTACKS.load(name)().run(victim, inputs, Budget(level, **budget), batch=COUNT) for level in levels]
    middle = min(range(len(levels)), key=lambda n: abs(float(results[n].success.float().mean()) - 0.5))
    return levels[middle], results[middle].success


def fooled(victim: Victim, inputs: Inputs, x: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return victim.network(x).argmax(1) != inputs.labels  # type: ignore[attr-defined]


def agrees(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    first, second = float(ours.float().mean()), float(theirs.float().mean())
    print(f"ours {first:.3f}, theirs {second:.3f}, the same on {float((ours == theirs).float().mean()):.3f}")
    assert 0.1 < first < 0.95 and abs(first - second) <= RATE
    assert (ours == theirs).float().mean() >= 1 - 2 * RATE


@pytest.mark.parametrize(("name", "theirs"), [("fgsm", "FGSM"), ("pgd-ce", "LinfPGD")])
def test_foolbox(name: str, theirs: str, case: tuple[Victim, Inputs]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        foolbox: Any = pytest.importorskip("foolbox")
    victim, inputs = case
    epsilon, ours = level_of(victim, inputs, name, steps=STEPS)
    options = {} if theirs == "FGSM" else {"steps": STEPS, "rel_stepsize": 2.5 / STEPS}
    model = foolbox.PyTorchModel(victim.network, bounds=(0, 1), device="cpu")  # type: ignore[attr-defined]
    attack = getattr(foolbox.attacks, theirs)(**options)
    _, x, _ = attack(model, pixels(inputs.pictures), inputs.labels, epsilons=epsilon)
    agrees(ours, fooled(victim, inputs, x))


def test_apgd_of_pyautoattack(case: tuple[Victim, Inputs]) -> None:
    module: Any = pytest.importorskip("pyautoattack.autopgd_base")
    victim, inputs = case
    epsilon, ours = level_of(victim, inputs, "apgd", steps=STEPS)
    options = {"n_iter": STEPS, "norm": "Linf", "eps": epsilon, "loss": "dlr", "device": "cpu"}
    reference = module.APGDAttack(victim.network, **options)  # type: ignore[attr-defined]
    agrees(ours, fooled(victim, inputs, reference.perturb(pixels(inputs.pictures), inputs.labels)))


def test_square_of_pyautoattack(case: tuple[Victim, Inputs]) -> None:
    module: Any = pytest.importorskip("pyautoattack.square")
    victim, inputs = case
    epsilon, ours = level_of(victim, inputs, "square", queries=QUERIES)
    options = {"n_queries": QUERIES, "norm": "Linf", "eps": epsilon, "device": "cpu"}
    rates = []
    for seed in range(4):  # its squares are the same for all pictures of a batch: the rate varies much
        reference = module.SquareAttack(victim.network, seed=seed, **options)  # type: ignore[attr-defined]
        x = reference.perturb(pixels(inputs.pictures), inputs.labels)
        rates.append(float(fooled(victim, inputs, x).float().mean()))
    print(f"ours {float(ours.float().mean()):.3f}, theirs {rates}")
    assert 0.1 < ours.float().mean() < 0.8 and abs(float(ours.float().mean()) - sum(rates) / 4) <= 0.12


def test_hopskipjump_of_foolbox(case: tuple[Victim, Inputs]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        foolbox: Any = pytest.importorskip("foolbox")
    victim, inputs = case[0], case[1].rows(torch.arange(16))
    asked = 0
    network = victim.network  # type: ignore[attr-defined]
    plain = network.forward

    def counted(x: torch.Tensor) -> torch.Tensor:
        nonlocal asked
        asked += len(x)
        return plain(x)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(network, "forward", counted)
        torch.manual_seed(0)
        options = {"initial_gradient_eval_steps": 50, "max_gradient_eval_steps": 1000, "constraint": "linf"}
        attack = foolbox.attacks.HopSkipJumpAttack(steps=6, **options)
        model = foolbox.PyTorchModel(network, bounds=(0, 1), device="cpu")
        _, x, _ = attack(model, pixels(inputs.pictures), inputs.labels, epsilons=None)
    within = (x - pixels(inputs.pictures)).abs().flatten(1).amax(1)
    for level in (24, 32, 40):
        budget = Budget(level / 255, queries=asked // len(inputs))
        ours = float(ATTACKS.load("hopskipjump")().run(victim, inputs, budget).success.float().mean())
        theirs = float(((within <= level / 255) & fooled(victim, inputs, x)).float().mean())
        print(f"{level}/255 ours {ours:.3f}, theirs {theirs:.3f}, {budget.queries} questions")
        assert ours >= theirs - 0.2
