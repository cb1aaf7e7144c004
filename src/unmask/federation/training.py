"""A federation on one machine, from data to a run: every client's pairs, the rounds, what is fitted after them.

The run folder is like any other's (`run.json`, `metrics.csv`, `weights.safetensors`), so that `evaluate`, `compare`
and `export` take it. Beside these it holds `federation.json` (who held what, how it was averaged), `rounds.json` and
`clients.csv`. Lab only: torch, flwr.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from lightning_fabric import Fabric
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
    """A client with all that it needs; `make` gives it, keeping what is its own in a folder."""

    share: Share
    make: Callable[[Path], Client]
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
    faces = paths.faces(progress)
    rows = [row for share in plan.shares for row in share.rows]
    families = list(draw_weights(plan.families))
    config = agreed(
        config,
        federation,
        families,
        {kind_of(row) for row in rows if row.label},
        {row.source for row in rows if not row.label},
        _everything(paths, [face.sample for face in faces]),
    )
    fabric, network = fabric_for(config), reused(partial(untrained_network, config))
    by_path = {face.sample.path: face for face in faces}
    feeds = [
        prepared_share(paths, share, by_path, config, number, len(plan.shares), progress)
        for number, share in enumerate(plan.shares)
    ]
    promised = None if privacy is None else privacy(min(len(feed.pool.pixels) for feed in feeds))

    members = []
    for number, (share, feed) in enumerate(zip(plan.shares, feeds, strict=True)):
        change = changes(share.name)
        make = partial(client_of, share, feed, config, number, fabric, network, promised, change)
        members.append(Member(share, make, feed, feed.faces, training_pictures(share)))
    held = watched_faces(faces, config)
    return Setting(
        paths,
        config,
        federation,
        plan,
        tuple(members),
        held,
        manifest_sha256(rows),
        partial(untrained_network, config),
        promised,
    )


def agreed(
    config: DetectionTrainConfig,
    federation: FederationConfig,
    families: Iterable[str],
    kinds: Iterable[str],
    sources: Iterable[str],
    everything: Iterable[str],
) -> DetectionTrainConfig:
    """The configuration of a federation's run, the same for all clients.

    Args:
        config: as asked for.
        federation: see there.
        families: of all clients; the network has a generator for each.
        kinds: of their forgeries.
        sources: of their reals.
        everything: every family that is known of; what no client has counts as left out.
    """
    held = list(draw_weights(families))
    return replace(
        config,
        steps=federation.rounds * federation.local_steps,
        families=tuple(held),
        kinds=tuple(sorted(kinds)),
        sources=tuple(sorted(sources)),
        window=config.window or config.size,
        normalisation="batch" if federation.normalisation != "group" else "group",
        without=tuple(name for name in everything if name not in held),
    )


def untrained_network(config: DetectionTrainConfig) -> Trainable:
    """The network of a federation's configuration, with random weights."""
    return new_network(task_named(method_named(config.method).task), config, pretrained=False)


def fabric_for(config: DetectionTrainConfig) -> Fabric:
    """What the clients of a configuration compute on."""
    return make_fabric(half_on_cpu=task_named(method_named(config.method).task).half_on_cpu)


def training_pictures(share: Share) -> int:
    """How many pictures a client trains on."""
    return sum(row.split == "train" for row in share.rows)


def watched_faces(faces: Sequence[StoredFace], config: DetectionTrainConfig) -> tuple[EvalFace, ...]:
    """The validation faces that the rounds are watched on."""
    families = families_of(faces, "val")
    return tuple(eval_faces(faces, "val", families, CLEAN, config.size, config.margin, most=_WATCHED))


def prepared_share(
    paths: DetectionPaths,
    share: Share,
    faces: Mapping[str, StoredFace],
    config: DetectionTrainConfig,
    number: int,
    clients: int,
    progress: Progress,
) -> Pairs:
    """A client's pairs and validation faces, the same on one machine with all other clients and on one of its own.

    Args:
        paths: of the data; a client's own store and pool go below its work folder.
        share: what the client holds.
        faces: of the pictures, by path.
        config: of `agreed`.
        number: of the client, from 0.
        clients: of the federation.
        progress: of every stage.

    Raises:
        DataError: as of `prepare.plan`, with the client's name.
    """
    asked = replace(
        for_client(config, number),
        families=(),
        pairs=max(config.batch_pairs, config.pairs // clients),
        without=tuple(name for name in _everything(paths, share.rows) if name not in share.families),
    )
    try:
        planned = preparing.plan(_paths_of(paths, share, faces), asked, None, progress)
        prepared = preparing.prepare(planned, progress, family_weights(share.families))
    except DataError as error:
        raise DataError(f"{share.name}: {error}") from error
    own = replace(prepared.config, steps=config.steps)
    return Pairs(prepared.pool, own, prepared.held, generators=config.families)


def client_of(
    share: Share,
    feed: Pairs,
    config: DetectionTrainConfig,
    number: int,
    fabric: Fabric,
    network: Callable[[], Trainable],
    privacy: Privacy | None,
    change: Change | None,
    home: Path,
) -> Client:
    """The client of a share, in process or on its own.

    Args:
        share: what it holds.
        feed: of `prepared_share`.
        config: of `agreed`.
        number: of the client, from 0.
        fabric: of `fabric_for`.
        network: gives a network of the configuration, see `Client`.
        privacy: what is promised.
        change: what happens to its updates before they are sent; for experiments.
        home: its folder.
    """
    pictures, own = training_pictures(share), for_client(config, number)
    return Client(share.name, fabric, network, feed, pictures, own, home, privacy, change)


def _everything(paths: DetectionPaths, rows: Iterable[Sample]) -> list[str]:
    """Every family that could be trained on with some rows: those that are read, and those made of reals."""
    read = {row.family for row in rows if row.label and row.split == "train"}
    return list(draw_weights({*read, *made_here(), *made_for_training(paths.published)}))


def _paths_of(paths: DetectionPaths, share: Share, by_path: Mapping[str, StoredFace]) -> DetectionPaths:
    """A client's own paths: its rows, and a work folder with a store of its own faces."""
    digest = manifest_sha256(share.rows)
    work = paths.work / "clients" / f"{share.name}-{digest[:12]}"
    mark = work / "store" / "manifest.sha256"
    if not mark.is_file():
        faces = [replace(by_path[row.path], sample=row) for row in share.rows if row.path in by_path]
        if not faces:
            raise DataError("no face is found in any of its pictures")
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
    plan = setting.plan
    about = {"split": plan.split, "alpha": plan.alpha, "held_out": plan.held_out, "seed": plan.seed}
    holdings = [Holding(m.share.name, m.share.families, m.pictures) for m in setting.members]
    write_about(folder, federation, setting.privacy, about, holdings)
    watched = watching(run, setting.network(), setting.held, federation, every)
    network, records = trained_network(setting, folder, progress, watched)
    write_clients(folder, holdings, {m.share.name: own_auc(network, m.held) for m in setting.members}, records)
    save_weights(network, folder / "weights.safetensors")
    return network


def trained_network(
    setting: Setting,
    folder: Path,
    progress: Progress,
    after: Callable[[RoundRecord, State], None] | None = None,
) -> tuple[Trainable, list[RoundRecord]]:
    """Train a federation's rounds, or the rest of them.

    Args:
        setting: of `set_up`.
        folder: where the server and the clients keep what is theirs.
        progress: of the stage "training".
        after: called with every round's record and the new global weights.

    Returns:
        The network after the last round, in evaluation mode, with what is fitted afterwards; and the rounds' records.

    Raises:
        DataError: a round has too few updates.
    """
    config, federation = setting.config, setting.federation
    holdings = [Holding(m.share.name, m.share.families, m.pictures) for m in setting.members]
    homes = {member.share.name: folder / "clients" / member.share.name for member in setting.members}
    network = setting.network()
    rounds = rounds_of(folder, config, federation, network, holdings, setting.privacy)
    grid = LocalGrid([partial(member.make, homes[member.share.name]) for member in setting.members])
    nodes = {name: number for number, name in enumerate(homes, start=1)}
    state = rounds.run(grid, nodes, progress=progress, after=after)
    load_state(network, state)
    if federation.normalisation == "local":
        kept = [(kept_local(homes[m.share.name], federation.rounds), m.pictures) for m in setting.members]
        load_state(network, mean_by_pictures(kept))
    if setting.privacy is None:  # what is fitted afterwards would tell of the pictures without noise
        fitted = [(fitted_after(network, m.feed, config.steps), m.pictures) for m in setting.members]
        load_state(network, mean_by_pictures(fitted))
    return network.eval(), rounds.records


@dataclass(frozen=True)
class Holding:
    """What the server knows of a client: its name, its families with their weights, how many pictures it trains on."""

    name: str
    families: Mapping[str, float]
    pictures: int


def rounds_of(
    folder: Path,
    config: DetectionTrainConfig,
    federation: FederationConfig,
    network: Trainable,
    holdings: Sequence[Holding],
    privacy: Privacy | None,
) -> Rounds:
    """The rounds of a run's folder, from the method's own first weights, which are the same for all.

    Args:
        folder: of the run.
        config: of `agreed`.
        federation: see there.
        network: of the configuration.
        holdings: of all clients.
        privacy: what is promised.
    """
    task = task_named(method_named(config.method).task)
    start = untrained(lambda: new_network(task, config, pretrained=True), config.seed)
    buffers = frozenset(name for name, _ in network.named_buffers())
    local = of_normalisations(network) if federation.normalisation == "local" else frozenset()
    counts = {one.name: one.pictures for one in holdings}
    return Rounds(folder / "server", federation, start, buffers, local, counts, privacy, network.uses())


def watching(
    run: Run[DetectionTrainConfig],
    network: Trainable,
    held: Sequence[EvalFace],
    federation: FederationConfig,
    every: int = 1,
) -> Callable[[RoundRecord, State], None]:
    """What is done after a round: its numbers go to metrics.csv, with the AUC of every family on the faces held.

    Args:
        run: where to.
        network: takes the round's weights.
        held: validation faces; none to log the round alone.
        federation: see there.
        every: rounds between two validations.
    """

    def after(record: RoundRecord, state: State) -> None:
        if record.number % every and record.number != federation.rounds:
            return
        row = {"step": float(record.number), **_summary(record)}
        if held:
            load_state(network, state)
            network.eval()
            logits, _ = logits_of(network, np.stack([face.crop for face in held]), torch.device("cpu"))
            row |= family_aucs(held, logits)
        run.log(row)

    return after


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


def mean_by_pictures(parts: Iterable[tuple[State, int]]) -> State:
    """The mean of clients' arrays weighted by pictures, over those clients that have any."""
    total, sums = 0, dict[str, np.ndarray]()
    for arrays, pictures in parts:
        if not arrays or not pictures:
            continue
        total += pictures
        for name, array in arrays.items():
            sums[name] = sums.get(name, 0) + array.astype(np.float64) * pictures
    return {name: (array / total).astype(np.float32) for name, array in sums.items()}


def kept_local(home: Path, number: int) -> State:
    """What of a round stayed with a client under FedBN, as far as it can be averaged; nothing if it was not in it."""
    path = home / f"local-{number}.safetensors"
    return averaged(load_file(path)) if path.is_file() else {}


def fitted_after(network: Trainable, feed: Pairs, steps: int) -> State:
    """What a method fits on the frozen network, by a client on its own faces; the network stays as it was.

    Args:
        network: with the weights of the last round.
        feed: of the client.
        steps: of the training, after which the batches that are looked at come.
    """
    before = state_of(network.eval())
    with torch.no_grad():
        training = islice(feed.batches(torch.device("cpu"), steps), _LOOKED_AT)
        network.fit_posthoc(training, feed.validation_batches(torch.device("cpu")))
    changed = {n: a for n, a in averaged(state_of(network)).items() if not np.array_equal(a, before[n])}
    load_state(network, before)
    return changed


def own_auc(network: Trainable, held: Sequence[EvalFace]) -> float:
    """The mean over families of the AUC on a client's own validation faces; NaN where it has none."""
    logits, _ = logits_of(network, np.stack([face.crop for face in held]), torch.device("cpu"))
    aucs = [value for key, value in family_aucs(held, logits).items() if key.startswith("auc_")]
    return float(np.mean(aucs)) if aucs else float("nan")


def write_about(
    folder: Path,
    federation: FederationConfig,
    privacy: Privacy | None,
    about: Mapping[str, object],
    holdings: Sequence[Holding],
) -> None:
    """Write `federation.json`, or see that the one that is there is the same.

    Args:
        folder: of the run.
        federation: see there.
        privacy: what is promised.
        about: how the data was dealt out: `split`, `alpha`, `held_out`, `seed`.
        holdings: of all clients.

    Raises:
        DataError: the folder holds another federation.
    """
    record = {
        "federation": asdict(federation),
        "privacy": None if privacy is None else asdict(privacy),
        **about,
        "clients": [{"name": h.name, "families": dict(h.families), "pictures": h.pictures} for h in holdings],
    }
    text = json.dumps(record, indent=1) + "\n"
    path = folder / "federation.json"
    if path.is_file() and path.read_text(encoding="utf-8") != text:
        raise DataError(f"{folder} holds a federation of another plan or other settings; name another folder")
    with whole(path) as part:
        part.write_text(text, encoding="utf-8")


def write_clients(
    folder: Path, holdings: Sequence[Holding], aucs: Mapping[str, float], records: Sequence[RoundRecord]
) -> None:
    """`clients.csv`: pictures, rounds, AUC on its own validation faces of every client.

    And the mean drift and cosine of its updates, where the server saw them.

    Args:
        folder: of the run.
        holdings: of all clients.
        aucs: of `own_auc`, by client; NaN for those that are not there.
        records: of all rounds.
    """
    seen = any(record.drift for record in records)
    rows = []
    for one in holdings:
        own = [record for record in records if one.name in record.clients]
        of_updates = [
            float(np.mean([values[one.name] for values in of_rounds])) if own else float("nan")
            for of_rounds in ([record.drift for record in own], [record.cosines for record in own])
            if seen
        ]
        numbers = (*of_updates, aucs.get(one.name, float("nan")))
        rows.append([one.name, str(one.pictures), str(len(own)), *(f"{value:.4f}" for value in numbers)])
    heads = ["drift", "cosine"] if seen else []
    write_csv(folder / "clients.csv", ["client", "pictures", "rounds", *heads, "auc_own"], rows)
