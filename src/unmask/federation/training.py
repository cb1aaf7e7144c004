"""A federation on one machine, from data to a run: every client's pairs, the rounds, what is fitted after them.

The run folder is like any other's (`run.json`, `metrics.csv`, `weights.safetensors`), so that `evaluate`, `compare`
and `export` take it. Beside these it holds `federation.json` (who held what, how it was averaged), `rounds.json` and
`clients.csv`. Lab only: torch, flwr.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import load_file

from unmask.datasets.face_store import StoredFace, write_store
from unmask.datasets.manifest import Sample, manifest_sha256
from unmask.errors import DataError
from unmask.federation.client import Change, Client, for_client, reused, untrained
from unmask.federation.local import LocalGrid
from unmask.federation.plan import Plan, Share, family_weights
from unmask.federation.privacy import Privacy
from unmask.federation.rounds import FederationConfig, RoundRecord, Rounds
from unmask.federation.updates import State, averaged, load_state, of_normalisations, state_of
from unmask.files import whole
from unmask.forging.families import draw_weights, kind_of, made_for_training, made_here
from unmask.lab.detection import prepare as preparing
from unmask.lab.detection.config import DetectionPaths, DetectionTrainConfig
from unmask.lab.detection.evaluate import families_of
from unmask.lab.detection.feed import Pairs
from unmask.lab.detection.held_out import CLEAN, EvalFace, eval_faces
from unmask.lab.detection.scoring import family_aucs, logits_of
from unmask.lab.engine import make_fabric, save_weights
from unmask.lab.methods import method_named
from unmask.lab.run import Run
from unmask.lab.task import task_named
from unmask.lab.train import new_network
from unmask.networks.contract import Trainable
from unmask.progress import Progress
from unmask.tables import write_csv

_WATCHED = 40  # reals per source, and as many forgeries of each family, that the rounds are watched on
_LOOKED_AT = 64  # batches of a client's that are looked at after the last round


@dataclass(frozen=True, kw_only=True)
class _OfClient(DetectionPaths):
    """A client's paths: its rows are known, and may lack forged ones, where it makes all of its forgeries itself."""

    rows: tuple[Sample, ...] = ()

    def samples(self) -> list[Sample]:
        """The rows."""
        return list(self.rows)


@dataclass(frozen=True)
class Member:
    """A client with all that it needs, made when it is asked."""

    share: Share
    make: Callable[[], Client]
    feed: Pairs
    held: Sequence[EvalFace]
    pictures: int


@dataclass(frozen=True)
class Setting:
    """What a federation is made of before its first round."""

    paths: DetectionPaths
    config: DetectionTrainConfig
    federation: FederationConfig
    plan: Plan
    members: tuple[Member, ...]
    held: tuple[EvalFace, ...]
    data_sha256: str
    network: Callable[[], Trainable]
    privacy: Privacy | None = None


def set_up(
    paths: DetectionPaths,
    folder: Path,
    config: DetectionTrainConfig,
    federation: FederationConfig,
    plan: Plan,
    progress: Progress,
    privacy: Callable[[int], Privacy] | None = None,
    changes: Callable[[str], Change | None] = lambda name: None,
) -> Setting:
    """Prepare every client: its store, its pool of pairs, its validation faces.

    Args:
        paths: of the data that the plan deals out, and of the work folder.
        folder: of the run; clients keep there what stays with them.
        config: as of a run on all the data; families, sources and steps are filled in.
        federation: see there.
        plan: who holds what.
        progress: of every stage.
        privacy: given the fewest pairs that a client has, what is promised; None to promise nothing.
        changes: what happens to the updates of a client of some name before they are sent; for experiments.

    Raises:
        DataError: as of `prepare.plan`, for any client, by name.
    """
    task = task_named(method_named(config.method).task)
    faces = paths.faces(progress)
    families = list(draw_weights(plan.families))
    sources = sorted({row.source for share in plan.shares for row in share.rows if not row.label})
    kinds = sorted({kind_of(row) for share in plan.shares for row in share.rows if row.label})
    steps = federation.rounds * federation.local_steps
    config = replace(
        config,
        steps=steps,
        families=tuple(families),
        kinds=tuple(kinds),
        sources=tuple(sources),
        window=config.window or config.size,
        normalisation="batch" if federation.normalisation != "group" else "group",
        without=tuple(n for n in _everything(paths, [face.sample for face in faces]) if n not in families),
    )
    fabric = make_fabric(half_on_cpu=task.half_on_cpu)
    by_path = {face.sample.path: face for face in faces}

    def network() -> Trainable:
        return new_network(task, config, pretrained=False)

    kept = reused(network)
    feeds = []
    for number, share in enumerate(plan.shares):
        own = _paths_of(paths, plan, share, by_path)
        pairs = max(config.batch_pairs, config.pairs // len(plan.shares))
        asked = replace(
            for_client(config, number),
            families=(),
            pairs=pairs,
            without=tuple(n for n in _everything(paths, share.rows) if n not in share.families),
        )
        try:
            planned = preparing.plan(own, asked, None, progress)
            prepared = preparing.prepare(planned, progress, family_weights(share.families))
        except DataError as error:
            raise DataError(f"{share.name}: {error}") from error
        feed = Pairs(prepared.pool, replace(prepared.config, steps=steps), prepared.held, generators=tuple(families))
        feeds.append(feed)
    promised = None if privacy is None else privacy(min(len(feed.pool.pixels) for feed in feeds))

    members = []
    for number, (share, feed) in enumerate(zip(plan.shares, feeds, strict=True)):
        pictures = sum(row.split == "train" for row in share.rows)
        client_config = for_client(config, number)

        def make(
            share: Share = share,
            feed: Pairs = feed,
            pictures: int = pictures,
            client_config: DetectionTrainConfig = client_config,
        ) -> Client:
            home, change = folder / "clients" / share.name, changes(share.name)
            return Client(share.name, fabric, kept, feed, pictures, client_config, home, promised, change)

        members.append(Member(share, make, feed, feed.faces, pictures))
    held = eval_faces(faces, "val", families_of(faces, "val"), CLEAN, config.size, config.margin, most=_WATCHED)
    data = manifest_sha256([row for share in plan.shares for row in share.rows])
    return Setting(paths, config, federation, plan, tuple(members), tuple(held), data, network, promised)


def _everything(paths: DetectionPaths, rows: Iterable[Sample]) -> list[str]:
    """Every family that could be trained on with some rows: those that are read, and those made of reals."""
    read = {row.family for row in rows if row.label and row.split == "train"}
    return list(draw_weights({*read, *made_here(), *made_for_training(paths.published)}))


def _paths_of(paths: DetectionPaths, plan: Plan, share: Share, by_path: dict[str, StoredFace]) -> DetectionPaths:
    """A client's own paths: its rows, and a work folder with a store of its own faces."""
    digest = manifest_sha256(share.rows)
    work = paths.work / "clients" / f"{share.name}-{digest[:12]}"
    mark = work / "store" / "manifest.sha256"
    if not mark.is_file():
        faces = [replace(by_path[row.path], sample=row) for row in share.rows if row.path in by_path]
        if not faces:
            raise DataError(f"{share.name}: no face is found in any of its pictures")
        write_store(faces, work / "store")
        mark.write_text(digest, encoding="utf-8")
    own = {each.name: getattr(paths, each.name) for each in fields(DetectionPaths)}
    return _OfClient(**{**own, "work": work}, rows=share.rows)


def federate(
    setting: Setting,
    folder: Path,
    progress: Progress,
    command: str = "",
    every: int = 1,
) -> Trainable:
    """Train a federation's rounds, or the rest of them, and finish its run; returns the network.

    Args:
        setting: of `set_up`.
        folder: of the run.
        progress: of the stage "training".
        command: the command line, for the run's record.
        every: rounds between two validations.

    Raises:
        DataError: the folder holds another run; a round has too few updates.
    """
    config, federation = setting.config, setting.federation
    run = Run(folder, config, setting.data_sha256, "forgery_detection", command)
    _write_about(folder, setting)
    start = _start(setting)
    network = setting.network()
    buffers = frozenset(name for name, _ in network.named_buffers())
    local = of_normalisations(network) if federation.normalisation == "local" else frozenset()
    counts = {member.share.name: member.pictures for member in setting.members}
    counted = network.uses()
    rounds = Rounds(folder / "server", federation, start, buffers, local, counts, setting.privacy, counted)

    def after(record: RoundRecord, state: State) -> None:
        if record.number % every and record.number != federation.rounds:
            return
        load_state(network, state)
        network.eval()
        row = {"step": float(record.number), **_summary(record)}
        logits, _ = logits_of(network, np.stack([face.crop for face in setting.held]), torch.device("cpu"))
        run.log({**row, **family_aucs(setting.held, logits)})

    grid = LocalGrid([member.make for member in setting.members])
    nodes = {member.share.name: number for number, member in enumerate(setting.members, start=1)}
    state = rounds.run(grid, nodes, progress=progress, after=after)
    load_state(network, {**state, **_of_clients(setting, folder, local)})
    if setting.privacy is None:  # what is fitted afterwards would tell of the pictures without noise
        _fit_after(setting, network)
    network.eval()
    _write_clients(folder, setting, network, rounds.records)
    save_weights(network, folder / "weights.safetensors")
    return network


def _start(setting: Setting) -> State:
    """The weights before the first round: the method's own, the same for all."""
    task = task_named(method_named(setting.config.method).task)
    return untrained(lambda: new_network(task, setting.config, pretrained=True), setting.config.seed)


def _summary(record: RoundRecord) -> dict[str, float]:
    """A round's numbers for metrics.csv."""
    losses = [row["loss"] for row in record.clients.values() if "loss" in row]
    return {
        "loss": float(np.mean(losses)) if losses else float("nan"),  # under privacy nobody tells
        "clients": float(len(record.clients)),
        "refused": float(len(record.refused)),
        "megabytes": (record.bytes_sent + record.bytes_received) / 1e6,
        "seconds": record.seconds,
    }


def _of_clients(setting: Setting, folder: Path, local: frozenset[str]) -> State:
    """What stayed with the clients under FedBN, as their mean weighted by pictures: for the one network of the run."""
    if not local:
        return {}
    total, sums = 0, dict[str, np.ndarray]()
    for member in setting.members:
        path = folder / "clients" / member.share.name / f"local-{setting.federation.rounds}.safetensors"
        if path.is_file():
            total += member.pictures
            for name, array in averaged(load_file(path)).items():
                sums[name] = sums.get(name, 0) + array.astype(np.float64) * member.pictures
    return {name: (array / total).astype(np.float32) for name, array in sums.items()}


def _fit_after(setting: Setting, network: Trainable) -> None:
    """What a method fits on the frozen network: by every client on its own faces, then averaged by pictures."""
    before = state_of(network.eval())
    total, sums = 0, dict[str, np.ndarray]()
    for member in setting.members:
        load_state(network, before)
        with torch.no_grad():
            steps = setting.config.steps
            training = islice(member.feed.batches(torch.device("cpu"), steps), _LOOKED_AT)
            network.fit_posthoc(training, member.feed.validation_batches(torch.device("cpu")))
        changed = {n: a for n, a in averaged(state_of(network)).items() if not np.array_equal(a, before[n])}
        total += member.pictures
        for name, array in changed.items():
            sums[name] = sums.get(name, 0) + array.astype(np.float64) * member.pictures
        if not changed:
            break
    load_state(network, before | {name: (array / total).astype(np.float32) for name, array in sums.items()})


def _write_about(folder: Path, setting: Setting) -> None:
    record = {
        "federation": asdict(setting.federation),
        "privacy": None if setting.privacy is None else asdict(setting.privacy),
        "split": setting.plan.split,
        "alpha": setting.plan.alpha,
        "held_out": setting.plan.held_out,
        "seed": setting.plan.seed,
        "clients": [
            {"name": m.share.name, "families": dict(m.share.families), "pictures": m.pictures} for m in setting.members
        ],
    }
    text = json.dumps(record, indent=1) + "\n"
    path = folder / "federation.json"
    if path.is_file() and path.read_text(encoding="utf-8") != text:
        raise DataError(f"{folder} holds a federation of another plan or other settings; name another folder")
    with whole(path) as part:
        part.write_text(text, encoding="utf-8")


def _write_clients(folder: Path, setting: Setting, network: Trainable, records: Sequence[RoundRecord]) -> None:
    """`clients.csv`: pictures, rounds, AUC on its own validation faces of every client.

    And the mean drift and cosine of its updates, where the server saw them.
    """
    seen = not setting.federation.secure_aggregation
    rows = []
    for member in setting.members:
        name = member.share.name
        own = [record for record in records if name in record.clients]
        logits, _ = logits_of(network, np.stack([face.crop for face in member.held]), torch.device("cpu"))
        aucs = [value for key, value in family_aucs(member.held, logits).items() if key.startswith("auc_")]
        of_updates = [
            float(np.mean([values[name] for values in of_rounds])) if own else float("nan")
            for of_rounds in ([record.drift for record in own], [record.cosines for record in own])
            if seen
        ]
        numbers = (*of_updates, float(np.mean(aucs)) if aucs else float("nan"))
        rows.append([name, str(member.pictures), str(len(own)), *(f"{value:.4f}" for value in numbers)])
    of_updates_heads = ["drift", "cosine"] if seen else []
    write_csv(folder / "clients.csv", ["client", "pictures", "rounds", *of_updates_heads, "auc_own"], rows)
