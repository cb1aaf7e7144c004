"""Federations for experiments: forgeries of five types dealt out to clients, and arms trained on them.

Every arm is a federation: pooled training is one client that has all the pairs, training alone one client that has its
own, so that arms differ in nothing but who averages with whom. All begin from the same weights and see as many pairs.

Three types are made on real faces within a mask, as in `residual`: face swaps, a transposed convolution's checkerboard,
over-smoothing. Two are whole pictures that are read: StyleGAN beside FFHQ, text-to-image beside portraits. People,
and the pictures of a type, are divided among the clients.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import MARGIN, Forge, at_size, config_for, crop_of, make_held, make_pool, reals
from fedforgery.residual import printed, swapped
from safetensors.numpy import load_file

from unmask.datasets.face_store import StoredFace, read_store
from unmask.faces.alignment import context_region
from unmask.federation.client import Client, for_client, untrained
from unmask.federation.local import LocalGrid
from unmask.federation.privacy import Privacy
from unmask.federation.rounds import FederationConfig, Rounds
from unmask.federation.updates import State, load_state, of_normalisations
from unmask.lab.detection.config import DetectionTrainConfig
from unmask.lab.detection.feed import Pairs
from unmask.lab.detection.held_out import EvalFace
from unmask.lab.detection.pairs_pool import Pool
from unmask.lab.detection.scoring import logits_of
from unmask.lab.engine import make_fabric
from unmask.lab.metrics import auc
from unmask.lab.task import task_named
from unmask.lab.train import new_network
from unmask.networks.contract import Trainable

READ = {"stylegan": ("ffhq",), "text-to-image": ("real_portraits", "real_300w")}
"""Types that are read, with the sources of the reals beside them."""
FAMILIES = ("swap", "checkerboard", "smooth", *READ)
SOURCES = ("ffhq", "celebamask", "utkface", "real_portraits", "real_300w")
MOST = {"train": 400, "val": 40, "test": 80}
"""Pictures of a split from each source and of each type that is read."""
_STORED = {"stylegan": "stylegan", "sfhq_t2i": "text-to-image"}
CENTRAL, ALONE, TOGETHER = "all data in one place", "each client alone", "federated"


@dataclass(frozen=True)
class Faces:
    """The faces of a split at the network's size: reals, and the forged ones of each type that is read."""

    real: tuple[StoredFace, ...]
    read: Mapping[str, tuple[StoredFace, ...]]


def faces_of(data: Path, work: Path, split: str, size: int) -> Faces:
    """Read a split."""
    real = reals(data, work, split, SOURCES, size, MOST[split])
    read: dict[str, list[StoredFace]] = {name: [] for name in READ}
    for face in read_store(work / "store"):
        group = read.get(_STORED.get(face.sample.family, "")) if face.sample.label else None
        if group is not None and face.sample.split == split and len(group) < MOST[split]:
            brought = at_size(face, size)
            if context_region((brought.side, brought.side), brought.box, MARGIN)[2] == size:
                group.append(brought)
    return Faces(tuple(real), {name: tuple(group) for name, group in read.items()})


def _in_place(
    others: Sequence[StoredFace], rng: np.random.Generator, face: StoredFace
) -> tuple[np.ndarray, np.ndarray]:
    """A forged picture that is read, in the place of a real one's crop."""
    pixels = face.pixels().copy()
    left, top, side = context_region(pixels.shape, face.box, MARGIN)
    other = others[int(rng.integers(len(others)))]
    pixels[top : top + side, left : left + side] = crop_of(other.pixels(), other, side)
    return pixels, np.ones(pixels.shape[:2], np.float32)


def kinds_of(faces: Faces) -> dict[str, Forge]:
    """How each type is made of some faces; swaps take donors among them."""
    kinds: dict[str, Forge] = {
        "swap": partial(swapped, faces.real),
        "checkerboard": partial(printed, "checkerboard"),
        "smooth": partial(printed, "blur"),
    }
    return {**kinds, **{name: partial(_in_place, group) for name, group in faces.read.items() if group}}


def shares_of(split: str, clients: int, families: Sequence[str], rng: np.random.Generator) -> list[dict[str, float]]:
    """Of each client, the shares of its pairs by type.

    Args:
        split: "one type each", "even", or "Dirichlet ALPHA", which draws each client's shares.
        clients: how many; with one type each, types go round.
        families: to deal out.
        rng: of the draw.
    """
    if split == "one type each":
        return [{families[number % len(families)]: 1.0} for number in range(clients)]
    if split == "even":
        return [dict.fromkeys(families, 1 / len(families)) for _ in range(clients)]
    alpha = float(split.split()[1])
    return [dict(zip(families, rng.dirichlet([alpha] * len(families)), strict=True)) for _ in range(clients)]


@dataclass(frozen=True)
class One:
    """A client of an arm: its name, what it is trained on, and the number that seeds its batches."""

    name: str
    pool: Pool
    number: int = 0


def deal(
    faces: Faces, split: str, clients: int, pairs: int, size: int, seed: int, without: str = ""
) -> tuple[One, ...]:
    """Pairs of each client, made of its own people and its own part of the pictures that are read.

    Args:
        faces: of the training split.
        split: see `shares_of`.
        clients: how many.
        pairs: of each.
        size: of the crops.
        seed: of all that is drawn.
        without: a type that nobody has.
    """
    rng = np.random.default_rng([seed, 5])
    families = [name for name in FAMILIES if name != without]
    shares = shares_of(split, clients, families, rng)
    subjects = sorted({face.sample.subject for face in faces.real})
    owner = dict(zip(rng.permutation(subjects).tolist(), np.arange(len(subjects)) % clients, strict=True))
    dealt = []
    for number, own in enumerate(shares):
        holders = {name: [n for n, other in enumerate(shares) if other.get(name)] for name in own}
        mine = Faces(
            tuple(face for face in faces.real if owner[face.sample.subject] == number),
            {
                name: faces.read[name][holders[name].index(number) :: len(holders[name])]
                for name in READ
                if own.get(name)
            },
        )
        kinds = {name: forge for name, forge in kinds_of(mine).items() if own.get(name)}
        pool = make_pool(mine.real, kinds, pairs, size, 1000 * seed + number, shares=own)
        dealt.append(One(f"client-{number + 1:02d}", pool, number))
    return tuple(dealt)


def central(clients: Sequence[One]) -> One:
    """One client with all clients' pairs."""
    pools = [one.pool for one in clients]
    names = [name for name in FAMILIES if any(name in pool.plan.families for pool in pools)]
    kinds = [np.array([names.index(n) for n in pool.plan.families], np.uint8)[pool.families] for pool in pools]
    plan = replace(pools[0].plan, pairs=sum(len(p.pixels) for p in pools), families=dict.fromkeys(names, 1.0))
    zeros = np.zeros(plan.pairs, np.uint8)
    pixels, masks = (np.concatenate([getattr(pool, name) for pool in pools]) for name in ("pixels", "masks"))
    return One("all", Pool(plan, pixels, masks, np.concatenate(kinds), zeros, zeros))


def configured(
    one: One, size: int, batch: int, seed: int, rate: float, options: dict[str, Any]
) -> DetectionTrainConfig:
    """The configuration of a network that learns all types, on a client's pool."""
    config = config_for("fedforgery", size, one.pool, 1, seed, options=options, learning_rate=rate, batch_pairs=batch)
    return replace(config, families=FAMILIES)


def trained(
    config: DetectionTrainConfig,
    federation: FederationConfig,
    clients: Sequence[One],
    folder: Path,
    privacy: Privacy | None = None,
    feeds: Mapping[str, Callable[[Pairs], Any]] | None = None,
    changes: Mapping[str, Any] | None = None,
    start: State | None = None,
) -> tuple[Trainable, float]:
    """Train an arm, or the rest of it.

    Args:
        config: of `configured`.
        federation: rounds, steps, and how updates are averaged; clients weigh alike.
        clients: of the arm.
        folder: of its rounds.
        privacy: what is promised, if anything.
        feeds: what some clients, by name, make of their batches.
        changes: what some clients, by name, make of their updates.
        start: the weights to begin from; those of the seed if None.

    Returns:
        The network with the weights after the last round, in evaluation mode; and the seconds of all rounds.
    """
    group = federation.normalisation == "group"
    steps = federation.rounds * federation.local_steps
    config = replace(config, normalisation="group" if group else "batch", steps=steps)
    task, fabric = task_named("forgery_detection"), make_fabric(half_on_cpu=False)

    def network() -> Trainable:
        return new_network(task, config, pretrained=False)

    blank = network()
    buffers = frozenset(name for name, _ in blank.named_buffers())
    local = of_normalisations(blank) if federation.normalisation == "local" else frozenset[str]()

    def maker(one: One) -> Callable[[], Client]:
        own = for_client(config, one.number)
        feed = (feeds or {}).get(one.name, lambda pairs: pairs)(Pairs(one.pool, own, generators=FAMILIES))
        home, change = folder / "clients" / one.name, (changes or {}).get(one.name)
        return lambda: Client(one.name, fabric, network, feed, 1, own, home, privacy, change)

    start = untrained(network, config.seed) if start is None else start
    counts = {one.name: 1 for one in clients}
    rounds = Rounds(folder / "server", federation, start, buffers, local, counts, privacy)
    nodes = {one.name: number for number, one in enumerate(clients, start=1)}
    state = rounds.run(LocalGrid([maker(one) for one in clients]), nodes)
    load_state(blank, {**state, **_normalisations(clients, folder, federation.rounds)} if local else state)
    return blank.eval(), sum(record.seconds for record in rounds.records)


def _normalisations(clients: Sequence[One], folder: Path, last: int) -> dict[str, np.ndarray]:
    """FedBN's normalisations as the clients' mean: for the one network that is measured."""
    states = [load_file(folder / "clients" / one.name / f"local-{last}.safetensors") for one in clients]
    return {
        name: np.mean([state[name] for state in states], 0, dtype=np.float32)
        for name, array in states[0].items()
        if array.dtype.kind == "f"
    }


def held_out(faces: Faces, size: int, seed: int) -> list[EvalFace]:
    """The faces of a split that arms are measured on: every real once, one forgery of each made type beside it."""
    made = {name: forge for name, forge in kinds_of(faces).items() if name not in READ}
    held = make_held(faces.real, made, size, seed)
    for name, group in faces.read.items():
        for face in group:
            crop = crop_of(face.pixels(), face, size)
            held.append(EvalFace(crop, 1, name, name, face.sample.subject, crop, face.box, face.landmarks, None))
    return [
        replace(face, source=real.sample.source)
        for face, real in zip((f for f in held if not f.label), faces.real, strict=True)
    ] + [face for face in held if face.label]


def measured(network: Trainable, held: Sequence[EvalFace]) -> dict[str, float]:
    """AUC of every type against its reals (of the sources beside it, if it is read), their mean and worst; accuracy.

    Accuracy is at logit 0, of reals and forged for a half each, every type alike.
    """
    logits = logits_of(network, np.stack([face.crop for face in held]), torch.device("cpu"))[0]
    labels = np.array([face.label for face in held])
    families, sources = (np.array([getattr(face, name) for face in held]) for name in ("family", "source"))
    aucs = {}
    for name in FAMILIES:
        beside = (labels == 0) & (np.isin(sources, READ[name]) if name in READ else True)
        rows = beside | (families == name)
        aucs[name] = auc(labels[rows], logits[rows])
    right = (logits > 0) == labels
    forged = float(np.mean([right[families == name].mean() for name in FAMILIES]))
    return {
        "AUC": float(np.mean(list(aucs.values()))),
        "worst AUC": min(aucs.values()),
        "accuracy": (float(right[labels == 0].mean()) + forged) / 2,
        **{f"AUC {name}": value for name, value in aucs.items()},
    }
