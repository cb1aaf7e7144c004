"""Answers as every back end weighs records by them: one likelihood per source, in tables over codes."""

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np


@dataclass(frozen=True)
class RecordRatios:
    """Log ratios given record by record (the scores of another method); `unlisted` is everybody else's."""

    ids: tuple[str, ...]
    log_ratios: np.ndarray  # (len(ids),)
    unlisted: float


@dataclass(frozen=True, eq=False)
class AnswerLikelihood:
    """Answers that are right or wrong together: about the person with probability `trust`, else about anybody.

    A record's weight is trust * product of ratios + (1 - trust); a single answer is a source of its own, with trust 1.

    Attributes:
        tables: log ratio of each code, (V + 1,), by attribute.
        scores: the same of score attributes, by name.
    """

    tables: dict[str, np.ndarray] = field(default_factory=dict)
    scores: dict[str, RecordRatios] = field(default_factory=dict)
    trust: float = 1.0

    @property
    def names(self) -> tuple[str, ...]:
        """Its attributes."""
        return (*self.tables, *self.scores)

    def trusted(self, log_ratios: np.ndarray) -> np.ndarray:
        """Log weights from summed log ratios."""
        if self.trust == 1.0:
            return log_ratios
        return np.logaddexp(np.log(self.trust) + log_ratios, np.log1p(-self.trust))


Likelihoods = tuple[AnswerLikelihood, ...]


@dataclass(frozen=True)
class LikelihoodPatterns:
    """Records grouped by what the answers say of them: all that subsets of the answers can tell apart.

    Attributes:
        names: attributes with an answer, A of them.
        log_ratios: (P, A), natural.
        counts: (P,) records of each pattern.
    """

    names: tuple[str, ...]
    log_ratios: np.ndarray
    counts: np.ndarray


class RecordWeights(Protocol):
    """All records weighed by the same evidence. Weights are exp of summed log ratios; each record's prior is equal.

    Attributes:
        log_mean: natural logarithm of the mean weight.
        entropy: of the weights as shares of their sum, in bits.
        rows, log_shares: the heaviest records, heaviest first, and the logarithm of their shares; equal ones by row.
        tied: records as heavy as the heaviest.
        neglected: bound on the share of mass that `tally` and `joint` leave out.
    """

    log_mean: float
    entropy: float
    rows: np.ndarray
    log_shares: np.ndarray
    tied: int
    neglected: float

    def tied_ids(self, most: int) -> list[str]:
        """Identifiers of records as heavy as the heaviest, `most` of them, in the order of `rows`."""

    def tally(self, names: tuple[str, ...]) -> dict[str, np.ndarray]:
        """Share of the mass at each code, (V + 1,), by attribute."""

    def squares(self, names: tuple[str, ...]) -> dict[str, np.ndarray]:
        """Sum of squared shares at each code, (V + 1,), by attribute."""

    def joint(self, one: str, other: str) -> np.ndarray:
        """Share of the mass at each pair of codes, (V1 + 1, V2 + 1)."""

    def patterns(self, neglect: float = 0.0) -> LikelihoodPatterns:
        """All records by what the evidence says of them; the lightest, with at most that share of mass, left out."""
