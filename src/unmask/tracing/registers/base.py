"""A register: who may be meant, and what is recorded of each. Every back end offers the same."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from unmask.tracing.attributes.dictionary import Dictionary
from unmask.tracing.attributes.models import Model
from unmask.tracing.registers.weighing import Likelihoods, RecordWeights


class Register(Protocol):
    """N records with an identifier each and coded attributes; `code 0` is "not recorded".

    Attributes:
        size: N.
        dictionary: what the columns are.
        models: of the attributes in use, by name.
        fingerprint: SHA-256 of the register, by which a case knows it again.
        notes: what was noticed on reading, for people.
    """

    size: int
    dictionary: Dictionary
    models: dict[str, Model]
    fingerprint: str
    notes: tuple[str, ...]

    def weigh(self, likelihoods: Likelihoods, before: RecordWeights | None = None) -> RecordWeights:
        """Weigh all records by what is known.

        Args:
            likelihoods: all of it, in any order.
            before: the same register weighed by the first of `likelihoods`, to go on from.
        """

    def codes(self, rows: np.ndarray, names: Sequence[str]) -> np.ndarray:
        """Codes of some records, (len(rows), len(names)), int64."""

    def ids(self, rows: np.ndarray) -> list[str]:
        """Identifiers of some records."""

    def row(self, identifier: str) -> int:
        """The record with an identifier.

        Raises:
            DataError: none has it.
        """

    def known(self, ids: Sequence[str]) -> int:
        """How many of these identifiers are in the register."""

    def sample(self, names: Sequence[str], most: int) -> np.ndarray:
        """Codes of `most` records from all over the register, or of all, (records, len(names)), int64."""
