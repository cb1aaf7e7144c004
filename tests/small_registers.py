"""Registers small enough to check by hand or by enumeration."""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from unmask.tracing.attributes.dictionary import Dictionary
from unmask.tracing.registers.memory import MemoryRegister, coded


def dictionary_of(attributes: Mapping[str, Mapping[str, Any]], absent: float = 0.0, **more: Any) -> Dictionary:
    return Dictionary.model_validate({"id": "id", "absent": absent, "attributes": attributes, **more})


def table_of(columns: Mapping[str, Sequence[Any]]) -> pa.Table:
    size = len(next(iter(columns.values())))
    return pa.table({"id": [f"p{number}" for number in range(size)], **columns})


def register_of(
    columns: Mapping[str, Sequence[Any]], absent: float = 0.0, error: float = 0.05, **more: Any
) -> MemoryRegister:
    """Categorical columns, all with the same error; `absentees` is "independent" unless said otherwise."""
    attributes = {name: {"kind": "categorical", "error": error} for name in columns}
    dictionary = dictionary_of(attributes, absent, **{"absentees": "independent", **more})
    return coded(table_of(columns), dictionary, "small")


def cube(error: float = 1e-9, absent: float = 0.0) -> MemoryRegister:
    """Eight records, three bits: the sheet's first test."""
    return register_of({f"b{bit}": [str(n >> bit & 1) for n in range(8)] for bit in range(3)}, absent, error)
