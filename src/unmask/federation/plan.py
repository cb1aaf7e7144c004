"""Who holds what: a data set's subjects dealt out to clients, for studies on one machine.

A subject's pictures, frames of one video among them, always lie with one client. Rows of "train" and "val" are dealt
out; "cal" and "test" stay with who plans, to calibrate and to measure on.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from unmask.datasets.manifest import Sample, manifest_sha256, write_manifest
from unmask.errors import DataError
from unmask.files import whole
from unmask.forging.families import family, real_sources

Split = Literal["type", "dirichlet", "source", "subject"]
_LEAST_SHARE = 0.02  # of a type that is made from reals: a client with less of it makes none
DEALT = ("train", "val")
"""The splits whose rows go to clients."""
QUICK = ("selfblend", "swap")
"""Families that are made of reals without a network."""


@dataclass(frozen=True)
class Share:
    """What a client holds: its name, its families with their weights, and its rows."""

    name: str
    families: Mapping[str, float]
    rows: tuple[Sample, ...]


@dataclass(frozen=True)
class Plan:
    """A data set dealt out.

    Attributes:
        split: by what: "type" gives every family to one client, "dirichlet" deals families out in shares drawn from
            Dirichlet(`alpha`) (Hsu et al. 2019), "source" gives collections of reals with what stands beside them,
            "subject" deals people out evenly.
        alpha: of "dirichlet"; small for clients that hold little but one family.
        held_out: a family that no client holds, for the test on what nobody has seen.
        seed: of everything drawn.
        shares: of the clients.
    """

    split: Split
    alpha: float
    held_out: str
    seed: int
    shares: tuple[Share, ...]

    @property
    def families(self) -> tuple[str, ...]:
        """All that some client holds."""
        return tuple(sorted({name for share in self.shares for name in share.families}))

    def table(self) -> list[tuple[str, Counter[str]]]:
        """Each client's pictures of "train" by family ("real" for reals); of families made from reals the weight."""
        counts = []
        for share in self.shares:
            own = Counter(row.family for row in share.rows if row.split == "train")
            counts.append((share.name, own))
        return counts

    def write(self, folder: Path) -> None:
        """Write `plan.json`, and a manifest a client.

        Raises:
            DataError: the folder holds another plan.
        """
        record = {**asdict(self), "shares": [self._about(share) for share in self.shares]}
        text = json.dumps(record, indent=1) + "\n"
        path = folder / "plan.json"
        if path.is_file() and path.read_text(encoding="utf-8") != text:
            raise DataError(f"{folder} holds another plan; name another folder")
        folder.mkdir(parents=True, exist_ok=True)
        for share in self.shares:
            with whole(folder / f"{share.name}.csv") as part:
                write_manifest(share.rows, part)
        with whole(path) as part:
            part.write_text(text, encoding="utf-8")

    @staticmethod
    def _about(share: Share) -> dict[str, object]:
        return {
            "name": share.name,
            "families": dict(share.families),
            "rows": len(share.rows),
            "subjects": len({row.subject for row in share.rows}),
            "sha256": manifest_sha256(share.rows),
        }


def make_plan(
    samples: Sequence[Sample],
    clients: int,
    split: Split,
    made: Iterable[str],
    alpha: float = 0.5,
    held_out: str = "",
    seed: int = 0,
) -> Plan:
    """Deal a data set out.

    Args:
        samples: its rows, all splits.
        clients: how many.
        split, alpha, held_out, seed: see `Plan`.
        made: families that are made from reals, dealt out like those that are read.

    Raises:
        DataError: fewer than two clients, families or sources too few for them, a family to hold out that is not
            there, or a client that would have no real or no forged face.
    """
    if clients < 2:
        raise DataError(f"{clients} client(s): a federation has two or more")
    if split not in get_args(Split):
        raise DataError(f"no split by {split!r}; one of {', '.join(get_args(Split))}")
    rng = np.random.default_rng([seed, clients])
    dealt = [row for row in samples if row.split in DEALT]
    read = {row.family for row in dealt if row.label}
    families = sorted(read | set(made))
    if held_out:
        if held_out not in families:
            raise DataError(f"no family {held_out!r} to hold out; there are {', '.join(families)}")
        families.remove(held_out)
        dealt = [row for row in dealt if row.family != held_out]
    if split == "type" and len(families) < clients:
        raise DataError(f"{len(families)} families for {clients} clients; ask for fewer, or split by subject")
    groups: dict[str, list[Sample]] = defaultdict(list)
    for row in dealt:
        groups[row.subject].append(row)
    sources = sorted({row.source for row in dealt if not row.label})
    if split == "source" and len(sources) < clients:
        raise DataError(f"{len(sources)} sources of real faces for {clients} clients; ask for fewer")
    shares = _shares_of_families(families, dealt, sources, clients, split, alpha, rng)
    owner = _owners(groups, sources, shares, split, rng)
    made_of = [{name: share for name, share in own.items() if name not in read} for own in shares]
    out = []
    for number in range(clients):
        rows = [row for subject, rows in groups.items() if owner[subject] == number for row in rows]
        rows = with_validation(rows, seed)
        kept = {row.family for row in rows if row.label and row.split == "train"}
        own = {name: shares[number].get(name, 1.0) for name in sorted(kept)} | made_of[number]
        name = f"client-{number + 1:0{len(str(clients))}d}"
        if not own or not any(not row.label and row.split == "train" for row in rows):
            what = "forged" if not own else "real"
            raise DataError(f"{name} would have no {what} face to train on; ask for fewer clients or another split")
        out.append(Share(name, own, tuple(rows)))
    return Plan(split, alpha, held_out, seed, tuple(out))


def _shares_of_families(
    families: Sequence[str],
    rows: Sequence[Sample],
    sources: Sequence[str],
    clients: int,
    split: Split,
    alpha: float,
    rng: np.random.Generator,
) -> list[dict[str, float]]:
    """Of every client, which share of which family it holds."""
    shares: list[dict[str, float]] = [{} for _ in range(clients)]
    counts = Counter(row.family for row in rows)
    if split == "type":
        load = np.zeros(clients)
        for name in sorted(families, key=lambda name: (-counts[name], name)):
            number = int(np.argmin(load))
            shares[number][name] = 1.0
            load[number] += max(counts[name], 1)
    elif split == "dirichlet":
        for name in families:
            for number, share in enumerate(rng.dirichlet(np.full(clients, alpha))):
                if share >= _LEAST_SHARE:
                    shares[number][name] = float(share)
    else:
        for own in shares:
            own.update(dict.fromkeys(families, 1.0))
    return shares


def _owners(
    groups: Mapping[str, Sequence[Sample]],
    sources: Sequence[str],
    shares: Sequence[Mapping[str, float]],
    split: Split,
    rng: np.random.Generator,
) -> dict[str, int]:
    """The client of every subject."""
    clients = len(shares)
    order = [subject for _, subject in sorted(zip(rng.permutation(len(groups)), sorted(groups), strict=True))]
    of_source = {name: number % clients for number, name in enumerate(rng.permutation(list(sources)))}
    needed: dict[str, set[int]] = {name: set() for name in sources}
    for subject in order:
        for row in groups[subject]:
            if row.label:
                holders = {n for n, own in enumerate(shares) if row.family in own}
                for name in real_sources(row, sources):
                    needed[name] |= holders
    load: dict[tuple[str, int], int] = Counter()
    owner: dict[str, int] = {}
    for subject in order:
        rows = groups[subject]
        forged = [row for row in rows if row.label]
        kind = Counter(row.family for row in forged).most_common(1)[0][0] if forged else rows[0].source
        source = next(iter(real_sources(forged[0], sources)), rows[0].source) if forged else rows[0].source
        if split == "source":
            owner[subject] = of_source.get(source, 0)
            continue
        weights = np.array([own.get(kind, 0.0) for own in shares]) if forged else np.zeros(clients)
        if not forged or not weights.any():
            holders = needed.get(source) or set(range(clients))
            weights = np.array([float(number in holders) for number in range(clients)])
        # The one that is farthest behind its share.
        behind = [load[kind, number] / weight if weight else np.inf for number, weight in enumerate(weights)]
        owner[subject] = int(np.argmin(behind))
        load[kind, owner[subject]] += len(rows)
    return owner


def with_validation(rows: Sequence[Sample], seed: int) -> list[Sample]:
    """The rows; if none is real and in "val", an eighth of the subjects is put there, one of real faces at least."""
    if any(row.split == "val" and not row.label for row in rows):
        return list(rows)
    real = sorted({row.subject for row in rows if not row.label})
    order = np.random.default_rng([seed, len(real)]).permutation(len(real))
    watched = {real[place] for place in order[: max(1, len(real) // 8)]}
    return [replace(row, split="val" if row.subject in watched else row.split) for row in rows]


def family_weights(families: Mapping[str, float]) -> dict[str, float]:
    """How often a client draws its families: its share of each, times how often the family is drawn anywhere."""
    return {name: share * (family(name).draw_weight or 0.15) for name, share in families.items()}
