"""How few facts single people out: an audit of a register, to argue for collecting less.

A person is unique on some attributes if these rule out every other record. "Not recorded" rules nobody out: what is
not recorded of the person cannot be used, and a rival of whom it is not recorded stays. kappa is the least number of
attributes on which a person is unique. That is a minimum set cover (our formalisation, methods/titf section
3.2), NP-hard in general: all small sets are looked at, larger ones are found by integer programming.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import comb
from typing import Any

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp

from unmask.errors import DataError
from unmask.progress import SILENT, Progress
from unmask.tracing.registers.columns import narrow
from unmask.tracing.registers.memory import MemoryRegister

_WORK = 2e9  # records looked at over all subsets, from which the audit's depth follows
_OVERHEAD = 20_000  # records in the time of which a subset is set up
_WIDEST = 1 << 26  # labels that are counted in a table; more are sorted
_PAIRS = 1 << 15  # pairs of records that are compared one by one
_SEARCHED = 5  # attributes of a cover up to which smaller ones are searched; beyond, integer programming is faster


@dataclass(frozen=True)
class SubsetSize:
    """What subsets of a given number of attributes tell.

    Attributes:
        attributes: how many.
        subsets: of that size.
        mean: share of people who are unique on a subset, mean over the subsets.
        best, best_share: the subset on which most are unique, and their share.
        anyhow: share of people who are unique on one of the subsets at least.
    """

    attributes: int
    subsets: int
    mean: float
    best: tuple[str, ...]
    best_share: float
    anyhow: float


@dataclass(frozen=True, eq=False)
class Audit:
    """How few facts single people out.

    Attributes:
        attributes: that may be asked for, and so were looked at.
        sizes: one entry per number of attributes, 1 to depth.
        kappas: (N,) kappa of each record if at most depth, else -1.
        class_sizes: (N,) records that none of the attributes rules out, the person's own included (the k of
            k-anonymity); 1: can be singled out.
        sampled: of those who can be singled out, but not by depth attributes: how many of a random sample have each
            kappa, exactly.
        core: attributes that rule out the same records as all of them do; see `register_core`.
        verifying: of verification-only attributes: share of records with a value that no other record has.
    """

    attributes: tuple[str, ...]
    sizes: tuple[SubsetSize, ...]
    kappas: np.ndarray
    class_sizes: np.ndarray
    sampled: dict[int, int]
    core: tuple[str, ...]
    verifying: dict[str, float]

    @property
    def deeper(self) -> int:
        """People who can be singled out, but not by as few attributes as were all tried."""
        return int(((self.kappas < 0) & (self.class_sizes == 1)).sum())

    @property
    def hidden(self) -> dict[int, int]:
        """People who cannot be singled out, by the size of their class."""
        return dict(sorted(Counter(self.class_sizes[self.class_sizes > 1].tolist()).items()))

    @property
    def people(self) -> dict[int, int]:
        """People by kappa, of those whose kappa is at most the depth."""
        return dict(sorted(Counter(self.kappas[self.kappas >= 0].tolist()).items()))

    def document(self) -> dict[str, Any]:
        """The audit for machines; keys are those of the class, and "people" the number of people by kappa."""
        return {
            "records": len(self.kappas),
            "attributes": list(self.attributes),
            "sizes": [asdict(size) for size in self.sizes],
            "people": self.people,
            "deeper": self.deeper,
            "sampled": self.sampled,
            "hidden": self.hidden,
            "core": list(self.core),
            "verifying": self.verifying,
        }


def audit(
    register: MemoryRegister,
    depth: int | None = None,
    sample: int = 200,
    seed: int = 0,
    progress: Progress = SILENT,
) -> Audit:
    """Look at all subsets of up to `depth` attributes that may be asked for.

    Takes time linear in the records for each subset; if values are missing, up to 2^k times as much for k attributes.

    Args:
        register: what to audit.
        depth: by default as many as take some tens of seconds (subsets times records up to about 2e9).
        sample: people with a larger kappa for whom it is found exactly.
        seed: of the sample.
        progress: counts the subsets.

    Raises:
        DataError: no attribute may be asked for, or depth is below 1.
    """
    columns = _Columns.of(register)
    if not columns.names:
        raise DataError('no attribute may be asked for: set use = "ask" in the data dictionary')
    if depth is not None and depth < 1:
        raise DataError(f"depth is a number of attributes, 1 or more, not {depth}")
    columns = columns.sorted()
    depth = min(depth or _depth(columns), len(columns.names))
    walk = _Walk(columns, depth, progress)
    kappas = np.where(walk.kappas > depth, -1, walk.kappas)
    class_sizes = np.ones(columns.size, np.int64)
    left = np.flatnonzero(kappas < 0)
    class_sizes[left] = _class_sizes(columns, left)
    deeper = left[class_sizes[left] == 1]
    drawn = np.random.default_rng(seed).choice(deeper, min(sample, len(deeper)), replace=False)
    exact = Counter(len(_least(columns, int(row)) or ()) for row in drawn)
    verifying = [name for name, model in register.models.items() if model.attribute.use == "verify" and model.values]
    return Audit(
        tuple(name for name in register.models if name in columns.names),
        walk.sizes(),
        kappas,
        class_sizes,
        dict(sorted(exact.items())),
        register_core(register),
        {name: float((register.models[name].counts[1:] == 1).sum() / register.size) for name in verifying},
    )


@dataclass(frozen=True, eq=False)
class _Columns:
    """Codes of the attributes that may be asked for, m arrays of (N,); codes of column j are below radices[j]."""

    names: tuple[str, ...]
    codes: tuple[np.ndarray, ...]
    radices: tuple[int, ...]
    size: int

    @classmethod
    def of(cls, register: MemoryRegister, names: Sequence[str] | None = None) -> "_Columns":
        if names is None:
            attributes = {name: model.attribute for name, model in register.models.items()}
            names = [name for name, one in attributes.items() if one.use == "ask" and one.kind != "score"]
        unknown = [name for name in names if name not in register.models or not register.models[name].values]
        if unknown:
            raise DataError(f"{unknown[0]!r} is no attribute of this register with values of its own")
        radices = tuple(len(register.models[name].counts) for name in names)
        codes = (narrow(register.column(name), radix) for name, radix in zip(names, radices, strict=True))
        return cls(tuple(names), tuple(codes), radices, register.size)

    def sorted(self) -> "_Columns":
        """The attribute that leaves the fewest records together last: most subsets are then built upon it."""
        together = [(np.bincount(codes).astype(float) ** 2).sum() for codes in self.codes]
        order = sorted(range(len(self.names)), key=lambda column: -together[column])
        names, codes, radices = self.names, self.codes, self.radices
        return _Columns(
            tuple(names[j] for j in order), tuple(codes[j] for j in order), tuple(radices[j] for j in order), self.size
        )

    def differing(self, row: int, column: int, rows: np.ndarray | slice = slice(None)) -> np.ndarray:
        """Whether an attribute rules out each record, if it is the person of `row`."""
        codes, own = self.codes[column][rows], self.codes[column][row]
        return (codes != own) & (codes != 0) if own else np.zeros(len(codes), bool)

    def alike(self, row: int, columns: Sequence[int]) -> np.ndarray:
        """Other records that none of the attributes rules out."""
        rows = np.delete(np.arange(self.size), row)
        for column in columns:
            rows = rows[~self.differing(row, column, rows)]
        return rows


class _Tables:
    """Finds equal labels in time linear in their number, in tables that are kept and never cleared."""

    def __init__(self) -> None:
        self._last = np.empty(0, np.int32)
        self._marks = np.empty(0, bool)

    def representatives(self, labels: np.ndarray, bound: int) -> np.ndarray:
        """The place of one record with the same label, the same for all that share it, (n,); labels are below bound."""
        if bound > len(self._last):
            self._last = np.empty(bound, np.int32)
        # Of places written to one label the last stays; what the table held before is never read.
        self._last[labels] = np.arange(len(labels), dtype=np.int32)
        return self._last[labels]

    def known(self, labels: np.ndarray, others: np.ndarray, bound: int) -> np.ndarray:
        """Which labels are among others."""
        if bound > len(self._marks):
            self._marks = np.zeros(bound, bool)
        self._marks[others] = True
        among = self._marks[labels]
        self._marks[others] = False
        return among


def _joined(labels: np.ndarray, bound: int, codes: np.ndarray, radix: int) -> tuple[np.ndarray, int]:
    """Labels of pairs of a label and a code, and a bound; too many for a table are renumbered, by sorting."""
    labels, bound = labels * radix + codes, bound * radix
    if bound > _WIDEST:
        labels, bound = np.unique(labels, return_inverse=True)[1], max(len(labels), 1)
    return labels, bound


@dataclass(frozen=True, eq=False)
class _Node:
    """A subset, and the records that it does not make unique, n of them.

    Attributes:
        columns: of the subset, descending.
        rows: (n,).
        labels: (n,) the same for those of which the same is recorded, below `bound`.
        missing: (n,) bit b is set if the column added b-th last is not recorded.
    """

    columns: tuple[int, ...]
    rows: np.ndarray
    labels: np.ndarray
    bound: int
    missing: np.ndarray


class _Walk:
    """All subsets of up to `depth` columns, each after all its own subsets.

    Who is unique on a subset is unique on all that contain it, and nobody's rival there either, since ruling out is
    mutual: further columns are joined for the others only.
    """

    def __init__(self, columns: _Columns, depth: int, progress: Progress) -> None:
        self._columns, self._depth, self._progress = columns, depth, progress
        self._tables = _Tables()
        self._gaps = any((codes == 0).any() for codes in columns.codes)
        self._left: dict[frozenset[int], np.ndarray] = {}  # packed bits of the records that a subset leaves not unique
        self._subsets = [comb(len(columns.names), size) for size in range(depth + 1)]
        self._done = 0
        self._together = [0] * (depth + 1)  # records that are not unique, summed over subsets
        self._best: list[tuple[int, tuple[int, ...]]] = [(columns.size + 1, ())] * (depth + 1)
        rivals = columns.size > 1
        self.kappas = np.full(columns.size, len(columns.names) + 1 if rivals else 0, np.int64)
        rows = np.arange(columns.size if rivals else 0)
        self._visit(_Node((), rows, np.zeros_like(rows), 1, np.zeros_like(rows)))

    def sizes(self) -> tuple[SubsetSize, ...]:
        """What was sizes, by size of subset."""
        sizes = []
        for size in range(1, self._depth + 1):
            most, best = self._best[size]
            mean = 1.0 - self._together[size] / (self._subsets[size] * self._columns.size)
            names = tuple(self._columns.names[column] for column in best)
            anyhow = float((self.kappas <= size).mean())
            sizes.append(SubsetSize(size, self._subsets[size], mean, names, 1.0 - most / self._columns.size, anyhow))
        return tuple(sizes)

    def _visit(self, node: _Node) -> None:
        for column in range(node.columns[-1] if node.columns else len(self._columns.names)):
            child = self._with(node, column)
            if len(child.columns) < self._depth:
                self._visit(child)

    def _with(self, node: _Node, column: int) -> _Node:
        columns, size = (*node.columns, column), len(node.columns) + 1
        codes, missing = self._columns.codes[column][node.rows], node.missing
        labels, bound = _joined(node.labels, node.bound, codes, self._columns.radices[column])
        first = self._tables.representatives(labels, bound)
        leading = first == np.arange(len(first))
        together = ~leading
        together[first[together]] = True
        if self._gaps:
            missing = missing << 1 | (codes == 0)
            self._heed_gaps(columns, node.rows, missing, together)
        alone = node.rows[~together]
        self.kappas[alone] = np.minimum(self.kappas[alone], size)
        rows = node.rows[together]
        self._count(columns, len(rows))
        if size == self._depth:
            return _Node(columns, rows, rows, 0, rows)
        if self._gaps:
            bits = np.zeros(self._columns.size, bool)
            bits[rows] = True
            self._left[frozenset(columns)] = np.packbits(bits)
        leading &= together
        numbers = np.cumsum(leading) - 1
        return _Node(columns, rows, numbers[first[together]], int(leading.sum()), missing[together])

    def _heed_gaps(self, columns: tuple[int, ...], rows: np.ndarray, missing: np.ndarray, together: np.ndarray) -> None:
        """Mark those as not unique who only seem so because "not recorded" was taken for a value of its own."""
        alone = np.flatnonzero(~together)
        for bit in range(len(columns)):
            lacking = (missing[alone] >> bit & 1).astype(bool)
            here, alone = alone[lacking], alone[~lacking]
            # A column that is not recorded of the person adds nothing: all is as it was without it.
            if bit == 0:
                together[here] = True
            elif len(here):
                packed, at = self._left[frozenset(columns) - {columns[-1 - bit]}], rows[here]
                together[here] = packed[at >> 3] >> (7 - (at & 7)).astype(np.uint8) & 1
        # The others have all of them recorded, but may have rivals who do not.
        for gap in np.unique(missing[missing > 0]).tolist():
            recorded = [column for bit, column in enumerate(reversed(columns)) if not gap >> bit & 1]
            both, bound = np.concatenate([rows[alone], rows[missing == gap]]), 1
            labels = np.zeros(len(both), np.int64)
            for column in recorded:
                radix = self._columns.radices[column]
                labels, bound = _joined(labels, bound, self._columns.codes[column][both], radix)
            met = self._tables.known(labels[: len(alone)], labels[len(alone) :], bound)
            together[alone[met]] = True
            alone = alone[~met]

    def _count(self, columns: tuple[int, ...], together: int) -> None:
        size = len(columns)
        self._together[size] += together
        self._best[size] = min(self._best[size], (together, columns[::-1]))
        self._done += 1
        total = sum(self._subsets[1:])
        if self._done % 64 == 0 or self._done == total:
            self._progress.update("subsets", self._done, total)


def _depth(columns: _Columns) -> int:
    """Largest size of which all subsets can be looked at in the work allowed."""
    gaps = any((codes == 0).any() for codes in columns.codes)
    work = 0.0
    for size in range(1, len(columns.names) + 1):
        work += comb(len(columns.names), size) * (columns.size * (2.0**size if gaps else 1.0) + _OVERHEAD)
        if work > _WORK:
            return max(size - 1, 1)
    return len(columns.names)


def _class_sizes(columns: _Columns, rows: np.ndarray) -> np.ndarray:
    """How many of `rows` no attribute rules out, if it is the person of each, (n,); themselves included."""
    counts = np.zeros(len(rows), np.int64)
    codes = [each[rows] for each in reversed(columns.codes)]
    every = np.arange(len(rows))
    stack = [(every, every, 0)]
    while stack:
        ours, theirs, start = stack.pop()
        if start == len(codes):
            counts[ours] += len(theirs)
        elif len(ours) * len(theirs) <= _PAIRS:
            alike = np.ones((len(ours), len(theirs)), bool)
            for each in codes[start:]:
                one, other = each[ours][:, None], each[theirs][None]
                alike &= (one == other) | (one == 0) | (other == 0)
            counts[ours] += alike.sum(axis=1)
        else:
            ours, theirs = (part[np.argsort(codes[start][part], kind="stable")] for part in (ours, theirs))
            own, other = codes[start][ours], codes[start][theirs]
            values, starts = np.unique(own, return_index=True)
            lows, highs = np.searchsorted(other, values, "left"), np.searchsorted(other, values, "right")
            unrecorded = theirs[: np.searchsorted(other, 0, "right")]
            for value, low, high, part in zip(values, lows, highs, np.split(ours, starts[1:]), strict=True):
                stack.append((part, np.concatenate([unrecorded, theirs[low:high]]) if value else theirs, start + 1))
    return counts


def exact_core(register: MemoryRegister, row: int, names: Sequence[str] | None = None) -> tuple[str, ...] | None:
    """A least set of attributes on which a person is unique; None if they are not unique on all of them.

    Args:
        register, row: whom it is about.
        names: attributes to choose from; all that may be asked for by default.

    Raises:
        DataError: a name is not an attribute of the register.
    """
    columns = _Columns.of(register, names)
    cover = _least(columns, row)
    return None if cover is None else tuple(columns.names[column] for column in cover)


def _least(columns: _Columns, row: int) -> list[int] | None:
    """Columns of a minimum cover, ascending; None if there is none."""
    masks = _minimal_differences(columns, row)
    if 0 in masks:
        return None
    bits = _first_cover(masks, len(columns.names))
    if len(bits) <= _SEARCHED:
        smaller = (_cover(masks, size) for size in range(len(bits)))
        bits = next((cover for cover in smaller if cover is not None), bits)
    else:
        table = np.array([[mask >> bit & 1 for bit in range(len(columns.names))] for mask in masks])
        count = table.shape[1]
        solved = milp(
            np.ones(count), integrality=np.ones(count), bounds=Bounds(0, 1), constraints=LinearConstraint(table, lb=1)
        )
        bits = np.flatnonzero(solved.x > 0.5).tolist()
    return sorted(bits)


def _minimal_differences(columns: _Columns, row: int) -> list[int]:
    """Sets of columns that rule out a rival, as bits; those that contain another such set are left out.

    A cover that meets the smaller set meets the larger one: the few that are left say it all.
    """
    words = np.zeros((-(-len(columns.names) // 64) or 1, columns.size), np.uint64)
    for column in range(len(columns.names)):
        words[column // 64] |= columns.differing(row, column).astype(np.uint64) << np.uint64(column % 64)
    words = np.delete(words, row, axis=1)
    masks = np.ascontiguousarray(np.unique(words, axis=1).T if len(words) > 1 else np.unique(words[0])[:, None])
    masks = masks[np.argsort(np.unpackbits(masks.view(np.uint8), axis=1).sum(axis=1), kind="stable")]
    minimal = []
    while len(masks):
        least = masks[0]
        minimal.append(sum(int(word) << 64 * place for place, word in enumerate(least)))
        masks = masks[((masks & least) != least).any(axis=1)]
    return minimal


def _first_cover(masks: list[int], columns: int) -> list[int]:
    """A cover by the bit that meets most of what is left, again and again: a bound for the least one."""
    bits: list[int] = []
    while masks:
        bits.append(max(range(columns), key=lambda bit: sum(mask >> bit & 1 for mask in masks)))
        masks = [mask for mask in masks if not mask >> bits[-1] & 1]
    return bits


def _cover(masks: list[int], size: int) -> list[int] | None:
    """Up to `size` bits that meet all masks; one of the first mask's is always among them."""
    if not masks:
        return []
    if not size:
        return None
    for bit in range(masks[0].bit_length()):
        if masks[0] >> bit & 1:
            rest = _cover([mask for mask in masks if not mask >> bit & 1], size - 1)
            if rest is not None:
                return [bit, *rest]
    return None


def greedy_core(register: MemoryRegister, row: int) -> tuple[str, ...] | None:
    """A set of attributes on which a person is unique and from which none can go; None if there is none.

    In hindsight: by the attribute that rules out most of the rivals left, then reverse deletion. In the order chosen.
    """
    columns = _Columns.of(register)
    rivals, chosen = columns.alike(row, ()), []
    while len(rivals):
        ruled_out = [int(columns.differing(row, column, rivals).sum()) for column in range(len(columns.names))]
        if not any(ruled_out):
            return None
        chosen.append(int(np.argmax(ruled_out)))
        rivals = rivals[~columns.differing(row, chosen[-1], rivals)]
    for column in chosen[::-1]:
        fewer = [one for one in chosen if one != column]
        if not len(columns.alike(row, fewer)):
            chosen = fewer
    return tuple(columns.names[column] for column in chosen)


def indispensable(register: MemoryRegister, row: int) -> tuple[str, ...]:
    """Attributes without which all others do not make a person unique; none if they are not unique on all."""
    columns = _Columns.of(register)
    ruling = np.zeros(columns.size, np.int64)
    for column in range(len(columns.names)):
        ruling += columns.differing(row, column)
    ruling[row] = len(columns.names) + 2
    if (ruling == 0).any():
        return ()
    rivals = np.flatnonzero(ruling == 1)
    return tuple(name for column, name in enumerate(columns.names) if columns.differing(row, column, rivals).any())


def _overlooks(columns: _Columns, chosen: Sequence[int], column: int) -> bool:
    """Whether a column rules out for somebody a record that none of the chosen does; ends at the first it meets."""
    every, recorded = np.arange(columns.size), columns.codes[column]
    stack = [(every, every, 0)]
    while stack:
        ours, theirs, start = stack.pop()
        one, other = recorded[ours], recorded[theirs]
        values = np.union1d(one[one > 0], other[other > 0])
        if len(values) < 2 or not one.any() or not other.any():
            continue  # here it rules nobody out
        if start == len(chosen):
            return True
        codes = columns.codes[chosen[start]]
        if len(ours) * len(theirs) <= _PAIRS:
            apart = (one[:, None] != other) & (one[:, None] > 0) & (other > 0)
            for each in (columns.codes[place] for place in chosen[start:]):
                mine, yours = each[ours][:, None], each[theirs]
                apart &= (mine == yours) | (mine == 0) | (yours == 0)
            if apart.any():
                return True
            continue
        ours, theirs = (part[np.argsort(codes[part], kind="stable")] for part in (ours, theirs))
        parts, starts = np.unique(codes[ours], return_index=True)
        unrecorded = theirs[: np.searchsorted(codes[theirs], 0, "right")]
        for value, part in zip(parts, np.split(ours, starts[1:]), strict=True):
            low, high = (np.searchsorted(codes[theirs], value, side) for side in ("left", "right"))
            stack.append((part, np.concatenate([unrecorded, theirs[low:high]]) if value else theirs, start + 1))
    return False


def register_core(register: MemoryRegister) -> tuple[str, ...]:
    """A set of attributes that rules out for everybody the records that all of them do, and none of which can go.

    Where all is recorded, H(I | A_S) = H(I | A_all). "Not recorded" rules nobody out, as in the rest of the audit.
    Greedy by entropy, then reverse deletion. In the order chosen.
    """
    columns, tables = _Columns.of(register), _Tables()
    gaps = any((codes == 0).any() for codes in columns.codes)

    def split(labels: np.ndarray, number: int, column: int) -> tuple[np.ndarray, int]:
        first = tables.representatives(*_joined(labels, number, columns.codes[column], columns.radices[column]))
        leading = first == np.arange(len(first))
        return (np.cumsum(leading) - 1)[first], int(leading.sum())

    def classes(chosen: Sequence[int]) -> tuple[np.ndarray, int]:
        labels, number = np.zeros(columns.size, np.int64), 1
        for column in chosen:
            labels, number = split(labels, number, column)
        return labels, number

    def left(labels: np.ndarray) -> float:
        counts = np.bincount(labels)
        return float(counts @ np.log2(counts))

    every = range(len(columns.names))
    whole, chosen = classes(every)[1], list[int]()
    labels, number = classes(())
    # By classes in which "not recorded" is one more value; a coarser partition with as many classes is the same one.
    while number < whole:
        chosen.append(min(every, key=lambda column: left(split(labels, number, column)[0])))
        labels, number = split(labels, number, chosen[-1])
    if gaps:  # records of one class may differ from those of another only where these are not recorded
        chosen += [column for column in every if column not in chosen and _overlooks(columns, chosen, column)]
    for column in chosen[::-1]:
        fewer = [one for one in chosen if one != column]
        if not (_overlooks(columns, fewer, column) if gaps else classes(fewer)[1] < whole):
            chosen = fewer
    return tuple(columns.names[column] for column in chosen)


@dataclass(frozen=True)
class Exposure:
    """How few facts single one person out.

    Attributes:
        id: whose.
        core: a least set of attributes on which the person is unique; None if they are on none.
        indispensable: attributes without which all others do not make the person unique.
        alike: records that none of the attributes rules out, the person's own included.
    """

    id: str
    core: tuple[str, ...] | None
    indispensable: tuple[str, ...]
    alike: int


def exposure(register: MemoryRegister, identifier: str) -> Exposure:
    """How few facts single one person out; DataError if no record has the identifier."""
    row = register.row(identifier)
    columns = _Columns.of(register)
    alike = len(columns.alike(row, range(len(columns.names)))) + 1
    return Exposure(identifier, exact_core(register, row), indispensable(register, row), alike)
