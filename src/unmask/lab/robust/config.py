"""The settings of robust training and of its evaluation, as options of the command line. No torch."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from typing import Any, Literal

from unmask.errors import DataError
from unmask.lab.config import option

Base = Literal["none", "pgd-at", "trades", "mart"]
TITLES = {"pgd-at": "PGD adversarial training", "trades": "TRADES", "mart": "MART"}
_BETA = {"pgd-at": 0.0, "trades": 6.0, "mart": 5.0}  # as published
_GREY_LEVEL = Fraction(1, 255)


def budget(text: str, name: str = "--attack-epsilon") -> float:
    """A budget from text, "4/255" or "0.03".

    Raises:
        DataError: it is no number of at least 0.
    """
    try:
        value = Fraction(text)
    except (ValueError, ZeroDivisionError):
        value = Fraction(-1)
    if value < 0:
        raise DataError(f"{name} {text}: not a number of at least 0; write it as 4/255 or 0.016")
    return float(value)


@dataclass(frozen=True, kw_only=True)
class RobustOptions:
    """How a network is hardened; with `robust` "none" it is not.

    Defaults are those of the ANCRA sheet but for the budget: 4/255, half of what is usual on CIFAR-10.
    """

    robust: Base = option("none", "Harden the network by adversarial training on this base.")
    beta: float | None = option(
        None, "Weight of the divergence between natural and attacked pictures: 6 for trades, 5 for mart.", low=0
    )
    attack: Literal["pgd", "fast", "free"] = option(
        "pgd",
        "Attack in training: pgd; fast, one step of 1.25 epsilon from a random start (Wong et al. 2020); free, every "
        "batch several times, the step's own gradient moves the pictures (Shafahi et al. 2019; for pgd-at).",
    )
    attack_norm: Literal["linf", "l2"] = option("linf", "Norm of the budget.")
    attack_epsilon: str = option("4/255", "Budget, of pixel values in [0, 1]: a fraction or a decimal number.")
    attack_step: str | None = option(
        None, "Length of an attack's step; 0.223 of the budget as published, 1.25 if fast."
    )
    attack_steps: int = option(10, "Steps of the attack; one for fast and free.", low=1)
    attack_start: Literal["gaussian", "uniform", "none"] = option(
        "gaussian", "Where it starts: noise of deviation 0.001 as published, anywhere in the budget, or the picture."
    )
    attack_replays: int = option(4, "How often free takes a batch.", low=1)
    anc: bool = option(False, "Asymmetric negative contrast (ANCRA): push pictures of other classes away.")
    anc_weight: float = option(3.0, "Its weight, zeta.", low=0)
    anc_alpha: float = option(1.0, "1: the negative moves alone; 0.5: symmetric.", low=0, high=1)
    negatives: Literal["random", "adversarial", "hard"] = option(
        "adversarial",
        "Which pictures are negatives: random ones, attacked towards the anchor's class, or mistaken ones.",
    )
    ra: bool = option(
        False,
        "Reverse attention (ANCRA). It masks gradients: attacks on the final logits report a robustness that is not "
        "there. The first auxiliary logits are served; measure with `unmask evaluate --attacked`.",
    )
    ra_weight: float = option(2.0, "Weight of the auxiliary logits' losses, kappa.", low=0)

    @property
    def epsilon(self) -> float:
        """The budget."""
        return budget(self.attack_epsilon)

    @property
    def step(self) -> float:
        """Length of a step."""
        if self.attack_step is not None:
            return budget(self.attack_step, "--attack-step")
        return {"pgd": 0.223, "fast": 1.25, "free": 1.0}[self.attack] * self.epsilon

    @property
    def divergence_weight(self) -> float:
        """`beta`, or what is published for the base."""
        return _BETA[self.robust] if self.beta is None else self.beta

    def settings(self) -> dict[str, Any]:
        """What a run's record keeps: nothing for an ordinary run, else all that decides the outcome.

        Raises:
            DataError: the options do not go together.
        """
        if self.robust == "none":
            given = [name for name, value in asdict(self).items() if value != asdict(RobustOptions())[name]]
            if given:
                raise DataError(
                    f"--{given[0].replace('_', '-')} belongs to robust training; add --robust pgd-at, trades or mart"
                )
            return {}
        if not 0 < self.epsilon <= (1 if self.attack_norm == "linf" else float("inf")):
            raise DataError(f"--attack-epsilon {self.attack_epsilon}: training needs a budget above 0, such as 4/255")
        if self.step <= 0:
            raise DataError(
                f"--attack-step {self.attack_step}: a step is longer than 0; leave it out for the usual one"
            )
        if self.robust == "pgd-at" and self.beta is not None:
            raise DataError("--beta is the weight of a divergence, which pgd-at has not; take trades or mart")
        if self.attack == "free" and self.robust != "pgd-at":
            raise DataError("--attack free is defined for --robust pgd-at; take fast or pgd with trades and mart")
        if self.attack == "free" and self.anc and self.negatives == "adversarial":
            raise DataError("--attack free makes no adversarial negatives; add --negatives random or hard")
        steps = self.attack_steps if self.attack == "pgd" else 1
        start = self.attack_start if self.attack == "pgd" else "uniform"
        full = replace(
            self,
            beta=self.divergence_weight,
            attack_step=repr(self.step),
            attack_steps=steps,
            attack_start=start,
        )
        return asdict(full)

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> "RobustOptions":
        """The options of a run's record."""
        return cls(**settings)


def description(settings: Mapping[str, Any]) -> str:
    """How a network was hardened, in one sentence; empty for an ordinary run."""
    if not settings:
        return ""
    own = RobustOptions.of(settings)
    norm = {"linf": "L-infinity", "l2": "L2"}[own.attack_norm]
    steps = {"pgd": f"PGD of {own.attack_steps} steps", "fast": "one step from a random start", "free": "free replays"}
    parts = [
        f"Hardened by {TITLES[own.robust]}" + (f" (beta {own.divergence_weight:g})" if own.robust != "pgd-at" else ""),
        f"{norm} budget {own.attack_epsilon}, {steps[own.attack]}",
    ]
    if own.anc:
        kind = "asymmetric" if own.anc_alpha == 1 else f"alpha {own.anc_alpha:g}"
        parts.append(f"negative contrast ({kind}, weight {own.anc_weight:g}, {own.negatives} negatives)")
    if own.ra:
        parts.append("reverse attention, which masks gradients; the first auxiliary logits are served")
    return "; ".join(parts) + "."


@dataclass(frozen=True, kw_only=True)
class AttackedOptions:
    """How `unmask evaluate --attacked` attacks."""

    attack_norm: Literal["linf", "l2"] = option("linf", "Norm of the budget; Square goes with linf alone.")
    attack_epsilon: str | None = option(
        None, "Budget, a fraction or a decimal number; that of the run's training, else 4/255."
    )
    attack_steps: int = option(40, "Steps of the attacks by gradients.", low=1)
    attack_queries: int = option(300, "Queries of the black-box attack.", low=0)
    attack_pictures: int = option(200, "Pictures to attack, drawn evenly over the classes.", low=1)
    twin: str | None = option(
        None, "A run trained alike without reverse attention, whose adversarial pictures are tried too.", metavar="RUN"
    )
    attack_seed: int = option(0, "Of starts and of the black-box attack.")

    def epsilon(self, trained: Mapping[str, Any]) -> float:
        """The budget, of a run with some settings of robust training."""
        return budget(self.attack_epsilon or str(trained.get("attack_epsilon", "4/255")))


def below_a_grey_level(epsilon: float, norm: str) -> bool:
    """Whether no 8-bit picture but the same one is within a budget."""
    return norm == "linf" and 0 < epsilon < float(_GREY_LEVEL) * (1 - 1e-9)
