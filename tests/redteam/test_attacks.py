"""One battery over all attacks: budgets hold in 8 bits, batches do not matter, success is what a fresh pass says."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_painter import painting_attack
from small_victims import BlackBox, classified, pictures, recognised

from unmask.errors import DataError
from unmask.redteam.attacks import ATTACKS
from unmask.redteam.attacks.contract import Attack, AttackResult, Budget, Problem, margin, read_back, to_8_bits
from unmask.redteam.attacks.pgd import APGD, PGD, resized_at_random
from unmask.redteam.victims import Inputs, Victim, pixels

pytestmark = pytest.mark.lab
NAMES = ATTACKS.names()
GRADIENTS = [name for name in NAMES if ATTACKS.load(name).gradients]
PAINTING = ("adv-diffusion", "inpainting")  # ask other models than the victim, or none
EPSILON = 12 / 255
CASES = {
    "two classes": lambda: classified(2),
    "four classes": lambda: classified(4),
    "impersonate": lambda: recognised("impersonate"),
    "dodge": lambda: recognised("dodge"),
}


def attack_named(name: str, victim: Victim | None = None) -> Attack:
    return painting_attack(name, victim) if name in PAINTING else ATTACKS.load(name)()


def budget_of(attack: Attack, epsilon: float = EPSILON) -> Budget:
    size = {"l0": 0.15, "guidance": 2.0, "none": 1.0}.get(attack.norm, epsilon) if epsilon else 0.0
    return Budget(size, steps=8, queries=120)


def attacked(name: str, victim: Victim, inputs: Inputs, **options: int) -> AttackResult:
    attack = attack_named(name, victim)
    return attack.run(victim, inputs, budget_of(attack), **options)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", NAMES)
def test_the_budget_holds_and_success_is_recomputed(name: str, case: str) -> None:
    victim, inputs = CASES[case]()
    attack = attack_named(name, victim)
    budget = budget_of(attack)
    result = attack.run(victim, inputs, budget, seed=1)
    assert result.pictures.dtype == torch.uint8 and result.pictures.shape == inputs.pictures.shape
    moved = (result.pictures.double() - inputs.pictures.double()) / 255
    sizes = {
        "linf": moved.abs().flatten(1).amax(1),
        "l2": moved.flatten(1).norm(dim=1),
        "l0": (moved != 0).any(1).flatten(1).double().mean(1),
    }
    assert name in PAINTING or (sizes[attack.norm] <= budget.epsilon + 1e-9).all()
    for norm, size in sizes.items():
        torch.testing.assert_close(getattr(result, norm).double(), size, atol=1e-6, rtol=1e-6)
    fresh = victim.logits(Inputs(**{**vars(inputs), "pictures": result.pictures}), batch=1)
    missed = margin(fresh, inputs.labels, inputs.targets)
    assert ((missed < 0) == result.success).all()
    torch.testing.assert_close(missed, result.margin, atol=1e-4, rtol=1e-4)
    assert not result.before.any() and ((result.queries > 0) == (name not in PAINTING)).all()
    assert (result.queries <= max(budget.queries, budget.steps + 3)).all()


@pytest.mark.parametrize("made", [PGD, APGD])
@pytest.mark.parametrize("case", CASES)
def test_euclidean_budgets(made: type[PGD] | type[APGD], case: str) -> None:
    victim, inputs = CASES[case]()
    results = [made(norm="l2").run(victim, inputs, Budget(size, steps=10)) for size in (0.5, 2.0)]
    for result, size in zip(results, (0.5, 2.0), strict=True):
        assert (result.l2 <= size + 1e-6).all() and (result.l2 > 0.5 * size).all()
    assert (results[1].margin <= results[0].margin + 1e-3).all()


def test_inputs_resized_at_random_are_the_same_where_chance_has_it() -> None:
    victim, inputs = classified(2)
    generators = [torch.Generator().manual_seed(n) for n in range(len(inputs))]
    problem = Problem(pixels(inputs.pictures), inputs, victim, generators)
    torch.testing.assert_close(resized_at_random(problem.x, problem, chance=0.0), problem.x, atol=1e-5, rtol=0)
    smaller = resized_at_random(problem.x, problem, least=0.5, chance=1.0)
    black = (smaller == 0).all(1).flatten(1).float().mean(1)
    assert (black > 0).all() and (black < 0.75).all() and black.unique().numel() > 1


@pytest.mark.parametrize("name", NAMES)
def test_no_budget_changes_nothing(name: str) -> None:
    victim, inputs = classified(2)
    attack = attack_named(name, victim)
    result = attack.run(victim, inputs, budget_of(attack, 0.0))
    assert torch.equal(result.pictures, inputs.pictures) and not result.success.any()
    assert not any(getattr(result, norm).any() for norm in ("linf", "l2", "l0"))


@pytest.mark.parametrize("name", NAMES)
def test_a_picture_is_attacked_alike_in_any_batch(name: str) -> None:
    victim, inputs = recognised("impersonate")
    together = attacked(name, victim, inputs, batch=3)
    for options, rows in (({"batch": 1}, [0, 1, 2]), ({"batch": 2}, [2, 0])):
        again = attacked(name, victim, inputs.rows(torch.tensor(rows)), **options)
        # Rounding may turn the sign of a gradient of nearly nothing.
        differing = (again.pictures != together.pictures[rows]).float().mean()
        assert differing < 0.005 and torch.equal(again.success, together.success[rows])


@pytest.mark.parametrize("name", NAMES)
def test_the_seed_decides(name: str) -> None:
    victim, inputs = classified(2)
    first, second = (attacked(name, victim, inputs, seed=3) for _ in range(2))
    assert torch.equal(first.pictures, second.pictures) and torch.equal(first.queries, second.queries)


@pytest.mark.parametrize("name", [n for n in NAMES if n not in ("corruptions", "inpainting")])
def test_it_finds_something(name: str) -> None:
    victim, inputs = classified(2, count=6)
    attack = attack_named(name, victim)
    size = {"l0": 0.4, "guidance": 20.0}.get(attack.norm, 40 / 255)
    result = attack.run(victim, inputs, Budget(size, steps=20, queries=400))
    assert result.success.float().mean() >= 0.5, result.margin


@pytest.mark.parametrize("name", NAMES)
def test_a_black_box_is_refused_by_name_or_attacked(name: str) -> None:
    victim, inputs = classified(2)
    if name in GRADIENTS:
        with pytest.raises(DataError, match=rf"{name} needs gradients, and black-small-2 has none"):
            attacked(name, BlackBox(victim), inputs)
    else:
        assert torch.equal(attacked(name, BlackBox(victim), inputs).pictures, attacked(name, victim, inputs).pictures)


@pytest.mark.parametrize("name", ["square", "hopskipjump"])
def test_a_black_box_asks_no_more_than_it_may(name: str) -> None:
    victim, inputs = classified(2)
    for queries in (1, 2, 17):
        result = attack_named(name).run(victim, inputs, Budget(1 / 255, queries=queries))
        assert (result.queries <= queries).all()


def test_more_budget_never_hurts_pgd() -> None:
    victim, inputs = classified(4, count=6)
    margins = [attack_named("pgd").run(victim, inputs, Budget(level / 255)).margin for level in (1, 4, 16)]
    assert (margins[1] <= margins[0] + 1e-3).all() and (margins[2] <= margins[1] + 1e-3).all()


def test_the_margin_survives_where_the_cross_entropy_saturates() -> None:
    victim, inputs = classified(2)
    victim.network[-1].weight *= 1e4  # type: ignore[attr-defined]
    victim.network[-1].bias *= 1e4  # type: ignore[attr-defined]
    budget = Budget(40 / 255)
    by_entropy = attack_named("pgd-ce").run(victim, inputs, budget)
    by_margin = attack_named("pgd").run(victim, inputs, budget)
    assert by_margin.success.sum() > by_entropy.success.sum()
    assert not by_margin.warnings and "vanished" in by_entropy.warnings[0]


@given(st.integers(0, 2**31 - 1), st.sampled_from(["linf", "l2", "l0"]), st.floats(1 / 255, 1.0), st.floats(0.0, 0.5))
@settings(max_examples=60, deadline=None)
def test_8_bits_stay_in_the_budget(seed: int, norm: str, epsilon: float, size: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    originals = torch.randint(0, 256, (2, 3, 7, 5), generator=generator, dtype=torch.uint8)
    change = (torch.rand(originals.shape, generator=generator) * 2 - 1) * min(size, epsilon)
    if norm == "l2":
        change *= epsilon / max(float(change.flatten(1).norm(dim=1).max()), 1e-9)
    rounded = to_8_bits((originals.float() / 255 + change).clamp(0, 1), originals, epsilon, norm)  # type: ignore[arg-type]
    moved = (rounded.double() - originals.double()) / 255
    if norm == "linf":
        assert moved.abs().max() <= epsilon + 1e-9
    if norm == "l2":
        assert (moved.flatten(1).norm(dim=1) <= epsilon + 1e-6).all()
    assert torch.equal(read_back(rounded), rounded)


def test_rounding_keeps_what_it_can() -> None:
    originals = torch.full((1, 3, 40, 40), 128, dtype=torch.uint8)
    change = torch.randn(originals.shape, generator=torch.Generator().manual_seed(0))
    change *= 1.0 / change.norm()
    rounded = to_8_bits(originals / 255 + change, originals, 1.0, "l2")
    assert 0.97 < float((rounded.double() - 128).norm() / 255) <= 1.0


@pytest.mark.parametrize("bad", [-0.1, math.nan, math.inf, 1.5])
def test_impossible_budgets(bad: float) -> None:
    with pytest.raises(DataError, match="give a number from 0 to 1"):
        attack_named("pgd").run(*classified(2), Budget(bad))


def test_less_than_a_grey_level() -> None:
    with pytest.raises(DataError, match="below one grey level"):
        attack_named("fgsm").run(*classified(2), Budget(0.5 / 255))
    attack_named("fgsm").run(*classified(2), Budget(1 / 255))


def test_a_victim_that_does_not_look() -> None:
    victim, inputs = classified(2)
    victim.network[-1].weight.zero_()  # type: ignore[attr-defined]
    for name in ("pgd", "square"):
        with pytest.raises(DataError, match="does not depend on the picture"):
            attacked(name, victim, inputs)


def test_answers_and_gradients_that_are_not_finite() -> None:
    victim, inputs = classified(2)
    victim.network[-1].bias.fill_(math.nan)  # type: ignore[attr-defined]
    with pytest.raises(DataError, match="not finite"):
        attacked("square", victim, inputs)

    class Root(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            level = (x * 0).sum((1, 2, 3)).sqrt() + x.mean((1, 2, 3))  # the slope of a root at 0
            return torch.stack([level, 1 - level], 1)

    victim.network = Root()  # type: ignore[attr-defined]
    with pytest.raises(DataError, match="a gradient is not finite"):
        attacked("pgd", victim, inputs)


def test_one_class_and_nothing_to_attack() -> None:
    victim, inputs = classified(2)
    victim.classes = 1
    with pytest.raises(DataError, match="one class only"):
        attacked("pgd", victim, inputs)
    with pytest.raises(DataError, match="no pictures"):
        attacked("pgd", classified(2)[0], inputs.rows(torch.tensor([], dtype=torch.int64)))


def test_inputs_that_do_not_fit() -> None:
    labels = torch.zeros(2, dtype=torch.int64)
    with pytest.raises(DataError, match="uint8"):
        Inputs(pictures(2).float(), labels)
    with pytest.raises(DataError, match="3 labels"):
        Inputs(pictures(2), torch.zeros(3, dtype=torch.int64))
    with pytest.raises(DataError, match="right already"):
        Inputs(pictures(2), labels, labels)


def test_glasses_need_eyes() -> None:
    victim, inputs = classified(2)
    with pytest.raises(DataError, match="landmarks"):
        attacked("eyeglasses", victim, Inputs(inputs.pictures, inputs.labels))


def test_glasses_lie_about_the_eyes() -> None:
    victim, inputs = classified(2)
    result = attacked("eyeglasses", victim, inputs)
    changed = (result.pictures != inputs.pictures).any(1)
    rows = changed.any(2).nonzero()[:, 1]
    assert changed.any() and rows.min() >= 3 and rows.max() <= 15  # of SIDE, eyes at 9


def test_hopskipjump_begins_at_the_start_that_is_given() -> None:
    victim, inputs = recognised("impersonate")
    budget = Budget(1.0, queries=60)
    result = attack_named("hopskipjump").run(victim, Inputs(**{**vars(inputs), "starts": inputs.references}), budget)
    assert result.success.all() and (result.linf < 1).all()
