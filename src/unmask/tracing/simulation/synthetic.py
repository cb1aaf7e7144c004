"""tit1000: registers of people who do not exist, for trials; ours, not the paper's. Nothing in them is personal data.

1000 records by 20 categorical attributes of 2 to 40 values with Zipf frequencies. Three latent factors make attributes
depend on one another; some records are near-twins of others; some values are not recorded.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from unmask.errors import DataError
from unmask.files import whole
from unmask.progress import SILENT, Progress
from unmask.tracing.attributes.dictionary import Attribute, Dictionary

CARDINALITIES = (2, 2, 2, 3, 3, 4, 4, 5, 6, 6, 8, 8, 10, 12, 15, 18, 20, 24, 30, 40)
_FACTORS = 3
_BLOCK = 250_000


@dataclass(frozen=True)
class RegisterSpec:
    """How a register is made.

    Attributes:
        records: N.
        seed: of everything random.
        dependence: strength of the latent factors; 0: attributes are independent.
        twins: share of records that repeat another in all but one to three attributes.
        missing: share of values that are not recorded.
        cardinalities: number of values of each attribute.
    """

    records: int = 1000
    seed: int = 0
    dependence: float = 1.0
    twins: float = 0.02
    missing: float = 0.02
    cardinalities: tuple[int, ...] = CARDINALITIES


def blocks(spec: RegisterSpec) -> Iterator[np.ndarray]:
    """Values of the records, in blocks of (n, m), int16; -1 is "not recorded"."""
    if not 0.0 <= spec.dependence < 1e6:
        raise DataError(f"dependence is the strength of latent factors, from 0 to some units, not {spec.dependence:g}")
    if spec.records < 1 or not all(0.0 <= share < 1.0 for share in (spec.twins, spec.missing)):
        raise DataError("a register is made of 1 record or more, with shares of twins and missing values in [0, 1)")
    shape = np.random.default_rng([spec.seed, 0])
    loadings = [spec.dependence * shape.normal(size=(_FACTORS, values)) for values in spec.cardinalities]
    base = [-shape.permutation(np.log(np.arange(1, values + 1))) for values in spec.cardinalities]
    for number, start in enumerate(range(0, spec.records, _BLOCK)):
        randomness = np.random.default_rng([spec.seed, 1, number])
        factors = randomness.normal(size=(_BLOCK if spec.records > _BLOCK else spec.records, _FACTORS))
        codes = np.empty((len(factors), len(base)), np.int16)
        for column, (logits, loading) in enumerate(zip(base, loadings, strict=True)):
            # Gumbel's trick: the largest of logits with that noise is a draw from their softmax.
            noise = randomness.gumbel(size=(len(factors), len(logits))).astype(np.float32)
            codes[:, column] = np.argmax(logits + factors @ loading + noise, axis=1)
        _twin(codes, spec, randomness)
        codes[randomness.random(codes.shape) < spec.missing] = -1
        yield codes[: spec.records - start]


def _twin(codes: np.ndarray, spec: RegisterSpec, randomness: np.random.Generator) -> None:
    """Make some records near-twins of others of the same block."""
    count = int(spec.twins * len(codes))
    if len(codes) < 2 or not count:
        return
    chosen = randomness.permutation(len(codes))
    for row, original in zip(chosen[:count], randomness.choice(chosen[count:], count), strict=True):
        kept = codes[row].copy()
        codes[row] = codes[original]
        count_changed = min(int(randomness.integers(1, 4)), codes.shape[1])
        changed = randomness.choice(codes.shape[1], count_changed, replace=False)
        codes[row, changed] = kept[changed]


def dictionary_of(
    spec: RegisterSpec, error: float = 0.05, availability: float = 1.0, absent: float = 0.2
) -> Dictionary:
    """The data dictionary of such a register."""
    attributes = {
        name: Attribute(kind="categorical", error=error, availability=availability) for name in names_of(spec)
    }
    return Dictionary(id="id", absent=absent, attributes=attributes)


def names_of(spec: RegisterSpec) -> list[str]:
    """The attributes: "a01_2" is the first and has 2 values."""
    return [f"a{place:02d}_{values}" for place, values in enumerate(spec.cardinalities, 1)]


def table_of(spec: RegisterSpec) -> pa.Table:
    """The register in memory."""
    return pa.concat_tables(_tables(spec)).unify_dictionaries()


def write_register(path: Path, spec: RegisterSpec, progress: Progress = SILENT) -> None:
    """Write the register as Parquet, in blocks; it appears under its name when it is whole.

    Args:
        path: to write.
        spec: how it is made.
        progress: counts the records.

    Raises:
        DataError: it cannot be written there.
    """
    with whole(path) as part:
        writer: pq.ParquetWriter | None = None
        done = 0
        try:
            for table in _tables(spec):
                writer = writer or pq.ParquetWriter(part, table.schema, compression="zstd")
                writer.write_table(table)
                done += table.num_rows
                progress.update("records", done, spec.records)
        finally:
            if writer is not None:
                writer.close()


def _tables(spec: RegisterSpec) -> Iterator[pa.Table]:
    start = 0
    names, sizes = names_of(spec), spec.cardinalities
    dictionaries = [pa.array([f"v{value:02d}" for value in range(size)]) for size in sizes]
    for block in blocks(spec):
        ids = pa.array([f"p{number:08d}" for number in range(start, start + len(block))])
        columns = [
            pa.DictionaryArray.from_arrays(pa.array(column, mask=column < 0), values)
            for column, values in zip(block.T, dictionaries, strict=True)
        ]
        yield pa.table([ids, *columns], names=["id", *names])
        start += len(block)
