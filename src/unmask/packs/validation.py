"""What a pack's likelihood ratios are worth on known faces: a part of its card, and the curves drawn from it.

Tippett plot: the share of faces of either class whose likelihood ratio is above a value. ECE plot: the empirical
cross-entropy, in bits, that is left for whoever combines the ratios with prior odds (Ramos & Gonzalez-Rodriguez 2013);
at even odds it is Cllr.
"""

import math
from dataclasses import dataclass

from unmask.errors import PackError


@dataclass(frozen=True, kw_only=True)
class LrValidation:
    """How the likelihood ratios of known faces are spread.

    Attributes:
        data: what the faces are, and how they were weighed.
        log10_lr: the values that occur, to two decimals, ascending.
        real, forged: for each value the share of authentic and of forged faces that have it; each sums to 1.
        best: for each value the log10 LR that the best monotone calibration (PAV) gives instead, within ±6.
        n_real, n_forged: faces behind the shares.
        refused_real, refused_forged: faces of the data that could not be judged, and are left out.
        command: that measured it.
        versions: of the libraries.
    """

    data: str
    log10_lr: tuple[float, ...]
    real: tuple[float, ...]
    forged: tuple[float, ...]
    best: tuple[float, ...]
    n_real: int
    n_forged: int
    refused_real: int
    refused_forged: int
    command: str
    versions: dict[str, str]

    def check(self, name: str) -> None:
        """Raise PackError, naming the pack, unless the numbers make sense."""
        lengths = {len(values) for values in (self.log10_lr, self.real, self.forged, self.best)}
        ascending = list(self.log10_lr) == sorted(set(self.log10_lr))
        whole = all(
            min(shares, default=-1.0) >= 0 and math.isclose(sum(shares), 1.0, abs_tol=0.01)
            for shares in (self.real, self.forged)
        )
        if len(lengths) > 1 or not ascending or not whole:
            raise PackError(
                f"card of pack {name!r}: validation needs ascending log10 LRs, each with a share of either class and "
                "its best value, and shares that sum to 1"
            )

    def above(self, log10_lr: float) -> tuple[float, float]:
        """The shares of authentic and of forged faces whose log10 LR is above a value, each in [0, 1]."""
        rows = zip(self.log10_lr, self.real, self.forged, strict=True)
        chosen = [(real, forged) for value, real, forged in rows if value > log10_lr]
        return math.fsum(real for real, _ in chosen), math.fsum(forged for _, forged in chosen)

    def cross_entropy(self, log10_odds: float) -> tuple[float, float, float]:
        """The empirical cross-entropy at prior odds, in bits.

        Args:
            log10_odds: log10 of the odds that a face is forged, before the picture is looked at.

        Returns:
            Of the likelihood ratios; of the best calibrated ones; of a system that always says LR 1.
        """
        chance = 1 / (1 + 10**-log10_odds)

        def cost(values: tuple[float, ...]) -> float:
            forged = math.fsum(s * _bits(-v - log10_odds) for s, v in zip(self.forged, values, strict=True))
            real = math.fsum(s * _bits(v + log10_odds) for s, v in zip(self.real, values, strict=True))
            return chance * forged + (1 - chance) * real

        nothing = tuple(0.0 for _ in self.log10_lr)
        return cost(self.log10_lr), cost(self.best), cost(nothing)

    @property
    def cllr(self) -> float:
        """The cost of the likelihood ratios: 0 is perfect, 1 what a system has that always says LR 1."""
        return self.cross_entropy(0.0)[0]

    @property
    def cllr_min(self) -> float:
        """The same after the best monotone calibration: what discrimination alone costs."""
        return self.cross_entropy(0.0)[1]


def _bits(log10_value: float) -> float:
    """log2(1 + 10 ** value)."""
    power = log10_value * math.log(10)
    return (max(power, 0.0) + math.log1p(math.exp(-abs(power)))) / math.log(2)
