"""The options of robust training: what goes together, what a record keeps, what a card says."""

import pytest

from unmask.errors import DataError
from unmask.lab.robust.config import AttackedOptions, RobustOptions, below_a_grey_level, budget, description

pytestmark = pytest.mark.lab


@pytest.mark.parametrize(("text", "value"), [("4/255", 4 / 255), ("0.03", 0.03), ("0", 0.0), ("8/255", 8 / 255)])
def test_budgets(text: str, value: float) -> None:
    assert budget(text) == pytest.approx(value)


@pytest.mark.parametrize("text", ["", "eight", "-1/255", "1/0", "nan"])
def test_what_is_no_budget_is_refused(text: str) -> None:
    with pytest.raises(DataError, match="--attack-epsilon"):
        budget(text)


def test_an_ordinary_run_keeps_nothing() -> None:
    assert RobustOptions().settings() == {} and description({}) == ""


@pytest.mark.parametrize(
    ("base", "attack", "beta", "step", "steps", "start"),
    [
        ("pgd-at", "pgd", 0.0, 0.223 * 4 / 255, 10, "gaussian"),
        ("trades", "pgd", 6.0, 0.223 * 4 / 255, 10, "gaussian"),
        ("mart", "fast", 5.0, 1.25 * 4 / 255, 1, "uniform"),
        ("pgd-at", "free", 0.0, 4 / 255, 1, "uniform"),
    ],
)
def test_what_is_left_out_is_as_published(
    base: str, attack: str, beta: float, step: float, steps: int, start: str
) -> None:
    settings = RobustOptions(robust=base, attack=attack).settings()  # type: ignore[arg-type]
    again = RobustOptions.of(settings)
    assert (again.divergence_weight, again.attack_steps, again.attack_start) == (beta, steps, start)
    assert again.step == pytest.approx(step) and again.epsilon == pytest.approx(4 / 255)
    # What a record keeps decides the outcome, whatever the defaults become.
    assert settings.keys() == RobustOptions().__dataclass_fields__.keys() and None not in settings.values()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"anc": True}, "--anc belongs to robust training"),
        ({"attack_epsilon": "8/255"}, "--attack-epsilon belongs to robust training"),
        ({"robust": "trades", "attack": "free"}, "--attack free is defined for --robust pgd-at"),
        ({"robust": "pgd-at", "attack": "free", "anc": True}, "--negatives random or hard"),
        ({"robust": "pgd-at", "beta": 6.0}, "--beta"),
        ({"robust": "trades", "attack_epsilon": "0"}, "a budget above 0"),
        ({"robust": "trades", "attack_epsilon": "1.5"}, "a budget above 0"),
        ({"robust": "trades", "attack_step": "0"}, "--attack-step"),
    ],
)
def test_what_does_not_go_together_is_refused(given: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        RobustOptions(**given).settings()  # type: ignore[arg-type]


def test_a_card_says_how_and_that_reverse_attention_masks() -> None:
    text = description(RobustOptions(robust="trades", anc=True, ra=True, attack_epsilon="8/255").settings())
    assert "TRADES (beta 6)" in text and "8/255" in text and "masks gradients" in text and "asymmetric" in text
    assert "masks gradients" not in description(RobustOptions(robust="mart").settings())


def test_an_evaluation_attacks_as_training_did_unless_told_otherwise() -> None:
    trained = RobustOptions(robust="mart", attack_epsilon="8/255").settings()
    assert AttackedOptions().epsilon(trained) == pytest.approx(8 / 255)
    assert AttackedOptions().epsilon({}) == pytest.approx(4 / 255)
    assert AttackedOptions(attack_epsilon="0").epsilon(trained) == 0


def test_a_budget_below_a_grey_level() -> None:
    assert below_a_grey_level(0.5 / 255, "linf") and not below_a_grey_level(1 / 255, "linf")
    assert not below_a_grey_level(0.5 / 255, "l2") and not below_a_grey_level(0.0, "linf")
