"""A federation over several machines, from data to a run: the server's side and a client's. Lab only: torch, flwr."""

import hashlib
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from flwr.app import Message, RecordDict

from unmask.datasets.manifest import OneClassError, Sample, manifest_sha256
from unmask.errors import DataError
from unmask.federation.aggregation import ARRAYS, METRICS, record_of, state_in
from unmask.federation.certificates import CA, admitted_keys, client_key, server_certificate
from unmask.federation.client import Client, reused
from unmask.federation.link import Link, gone
from unmask.federation.members import Members
from unmask.federation.messages import AFTER, END, LOCAL, Joining, Setting
from unmask.federation.node import answer_messages, trusting
from unmask.federation.participant import AUC, Participant, Ready
from unmask.federation.plan import DEALT, QUICK, Share, with_validation
from unmask.federation.privacy import Privacy
from unmask.federation.rounds import FederationConfig, RoundRecord
from unmask.federation.training import (
    Holding,
    agreed,
    client_of,
    fabric_for,
    fitted_after,
    kept_local,
    mean_by_pictures,
    own_auc,
    prepared_share,
    rounds_of,
    training_pictures,
    untrained_network,
    watched_faces,
    watching,
    write_about,
    write_clients,
)
from unmask.federation.updates import State, UpdateError, averaged, check_update, load_state, state_of
from unmask.files import lock
from unmask.forging.families import draw_weights, kind_of, made_here
from unmask.lab.detection.config import DetectionPaths, DetectionTrainConfig
from unmask.lab.engine import save_weights
from unmask.lab.run import Run
from unmask.progress import Progress

_FAREWELL = 60.0  # seconds in which clients may fetch the result, where no time is given
_LOOPBACK = ("localhost", "127.0.0.1")


@dataclass(frozen=True, kw_only=True)
class Serving:
    """How a server is reached and how long it waits.

    Attributes:
        clients: that there are to be.
        hosts: names and addresses by which clients reach it; with none but this machine's own, nobody else can.
        port: 0 for any that is free.
        timeout: seconds of a round; None to wait for all clients that are connected.
        admit: folder with the public keys of the only clients that may join; None for anybody who reaches the port.
    """

    clients: int
    hosts: Sequence[str] = ("localhost", "127.0.0.1")
    port: int = 9092
    timeout: float | None = None
    admit: Path | None = None

    @property
    def address(self) -> str:
        """To listen on."""
        if all(host in _LOOPBACK for host in self.hosts):
            return "127.0.0.1"
        return "::" if any(":" in host for host in self.hosts) else "0.0.0.0"


def serve(
    folder: Path,
    config: DetectionTrainConfig,
    federation: FederationConfig,
    serving: Serving,
    paths: DetectionPaths | None,
    privacy: Callable[[int], Privacy] | None,
    progress: Progress,
    command: str = "",
) -> None:
    """Wait for the clients, train the rounds or the rest of them, and finish the run.

    Args:
        folder: of the run; the certificate is in its folder `tls`.
        config: as of a run on all data; families, kinds, sources and steps follow from the clients.
        federation: see there.
        serving: see there.
        paths: of validation data of the server's own, which rounds are watched on; None for none.
        privacy: given the fewest pairs that a client has, what is promised; None to promise nothing.
        progress: of every stage.
        command: the command line, for the run's record.

    Raises:
        DataError: the folder holds another run, a client cannot prepare, or a round has too few updates.
    """
    weights, ended = folder / "weights.safetensors", folder / "server" / "ended"
    if ended.is_file():
        return
    faces = [] if paths is None else paths.faces(progress)
    server_certificate(folder / "tls", serving.hosts)
    admitted = None if serving.admit is None else admitted_keys(serving.admit)
    if admitted is not None and len(admitted) < serving.clients:
        raise DataError(f"{serving.admit}: {len(admitted)} keys, and {serving.clients} clients are waited for")
    with _alone(folder, "server"), Link(folder / "tls", serving.address, serving.port, admitted) as link:
        host = serving.hosts[0]
        host = f"[{host}]" if ":" in host else host
        progress.note(f"listening on {host}:{link.port}; clients need {folder / 'tls' / CA}")
        members = Members(
            link, serving.clients, privacy is not None, folder / "server" / "members.json", admitted, progress
        )
        members.gather(serving.timeout)
        joinings = members.joinings
        config = agreed(
            config,
            federation,
            {name for one in joinings for name in one.families},
            {name for one in joinings for name in one.kinds},
            {name for one in joinings for name in one.sources},
            list(draw_weights({*made_here(), *(f.sample.family for f in faces if f.sample.label)})),
        )
        setting = Setting(number=0, clients=serving.clients, config=config, federation=federation)
        pairs = members.prepare(lambda number, name: replace(setting, number=number))
        promised = _promised(folder, privacy, pairs)
        if promised is not None:
            progress.note(promised.statement(federation.rounds))
        members.tell(lambda number, name: replace(setting, number=number, privacy=promised))
        members.keep()

        data = hashlib.sha256("".join(one.data_sha256 for one in joinings).encode()).hexdigest()
        run = Run(folder, config, data, "forgery_detection", command)
        holdings = [Holding(one.name, one.families, one.pictures) for one in joinings]
        about = {"split": "organisation", "alpha": 0.0, "held_out": "", "seed": config.seed}
        write_about(folder, federation, promised, about, holdings)
        network = untrained_network(config)
        rounds = rounds_of(folder, config, federation, network, holdings, promised)
        watched = watching(run, network, watched_faces(faces, config) if faces else (), federation)

        def after(record: RoundRecord, state: State) -> None:
            for why in record.refused.values():
                progress.note(f"round {record.number}, left out: {why}")
            watched(record, state)

        state = rounds.run(link, members.nodes, serving.timeout, progress, after)
        load_state(network, state)
        counts = {one.name: one.pictures for one in joinings}
        if federation.normalisation == "local":
            kept = _collected(members, LOCAL, state, serving.timeout, progress)
            load_state(network, mean_by_pictures((kept[name], counts[name]) for name in sorted(kept)))
        if promised is None:  # what is fitted afterwards would tell of the pictures without noise
            fitted = _collected(members, AFTER, state_of(network), serving.timeout, progress)
            load_state(network, mean_by_pictures((fitted[name], counts[name]) for name in sorted(fitted)))
        network.eval()
        save_weights(network, weights)
        aucs = {}
        result = RecordDict({ARRAYS: record_of(state_of(network))})
        for name, reply in members.ask(END, sorted(members.nodes), result, serving.timeout or _FAREWELL):
            aucs[name] = _auc(reply)
        write_clients(folder, holdings, aucs, rounds.records)
        ended.touch()


def _promised(folder: Path, privacy: Callable[[int], Privacy] | None, pairs: Mapping[str, int]) -> Privacy | None:
    """What is promised; of a run that goes on without some of its clients, what was."""
    if privacy is None:
        return None
    written = folder / "server" / "fewest_pairs"
    if not written.is_file():
        written.parent.mkdir(parents=True, exist_ok=True)
        written.write_text(f"{min(pairs.values())}\n", encoding="utf-8")
    return privacy(int(written.read_text(encoding="utf-8")))


def _collected(
    members: Members, kind: str, state: State, timeout: float | None, progress: Progress
) -> dict[str, State]:
    """The arrays that clients answer a question with, once they are seen to be the network's."""
    more = RecordDict({ARRAYS: record_of(state)}) if kind == AFTER else None
    reference, answers = averaged(state), {}
    for name, reply in members.ask(kind, sorted(members.nodes), more, timeout):
        try:
            answers[name] = _arrays(reply, reference, name)
        except UpdateError as error:
            progress.note(str(error))
    return answers


def _arrays(reply: Message, reference: State, name: str) -> State:
    if reply.has_error():
        raise UpdateError(f"{name}: {reply.error.reason}")
    try:
        arrays = state_in(reply.content.array_records[ARRAYS])
    except (KeyError, ValueError, TypeError) as error:
        raise UpdateError(f"{name}: its answer is not readable ({type(error).__name__})") from error
    check_update(arrays, {own: reference[own] for own in arrays if own in reference}, name)
    return arrays


def _auc(reply: Message) -> float:
    """The AUC in a client's last answer, NaN if it has none."""
    if reply.has_error() or gone(reply):
        return math.nan
    metrics = reply.content.metric_records.get(METRICS)
    value = None if metrics is None else metrics.get(AUC)
    return float(value) if isinstance(value, int | float) and 0 <= value <= 1 else math.nan


@dataclass(frozen=True, kw_only=True)
class OwnPaths(DetectionPaths):
    """Where a client's data lies; it may have real faces alone, for it can make forgeries of them."""

    def samples(self) -> list[Sample]:
        """The rows."""
        try:
            return super().samples()
        except OneClassError as error:
            if any(sample.label for sample in error.samples):
                raise
            return list(error.samples)


def take_part(
    paths: OwnPaths,
    folder: Path,
    name: str,
    address: str,
    certificate: Path,
    made: Sequence[str],
    progress: Progress,
    command: str = "",
) -> None:
    """Take part in a server's federation with one's own pictures, until its result has come.

    Args:
        paths: of the pictures and the work folder.
        folder: of this client's run: its key, what stays with it, in the end the trained weights.
        name: what server and tables call this client.
        address: HOST:PORT of the server.
        certificate: the server's `ca.pem`.
        made: families to make from the real faces; with none, the quick ones where no forged face is held.
        progress: of every stage.
        command: the command line, for the run's record.

    Raises:
        DataError: the data cannot be trained on, the server does not take this client, or it is not the one of the
            certificate.
    """
    if not re.fullmatch(r"(\[[0-9a-fA-F:]+\]|[^:/\s]+):\d{1,5}", address):
        raise DataError(f"--server {address}: not HOST:PORT, as in federation.example:9092")
    with _alone(folder, "client"):
        trusted, key = trusting(certificate), client_key(folder)
        share = share_of(paths, name, made)
        faces = {face.sample.path: face for face in paths.faces(progress)}
        data = manifest_sha256(share.rows)
        joining = Joining(
            name=name,
            pictures=training_pictures(share),
            families=dict(share.families),
            kinds=tuple(sorted({kind_of(row) for row in share.rows if row.label})),
            sources=tuple(sorted({row.source for row in share.rows if not row.label})),
            data_sha256=data,
        )

        def prepare(setting: Setting) -> Ready:
            config, federation = setting.config, setting.federation
            absent = share.families.keys() - set(config.families)
            if absent or config.steps != federation.rounds * federation.local_steps:
                raise DataError("the server's configuration does not fit what this client joined with")
            Run(folder, config, data, "forgery_detection", command)
            feed = prepared_share(paths, share, faces, config, setting.number, setting.clients, progress)
            fabric, network = fabric_for(config), reused(partial(untrained_network, config))

            def client(privacy: Privacy | None) -> Client:
                return client_of(share, feed, config, setting.number, fabric, network, privacy, None, folder)

            def after(state: State) -> State:
                network = untrained_network(config)
                load_state(network, state)
                return fitted_after(network, feed, config.steps)

            def end(state: State) -> float | None:
                network = untrained_network(config)
                kept = kept_local(folder, federation.rounds) if federation.normalisation == "local" else {}
                load_state(network, {**state, **kept})
                network.eval()
                save_weights(network, folder / "weights.safetensors")
                return own_auc(network, feed.faces)

            return Ready(len(feed.pool.pixels), client, lambda: kept_local(folder, federation.rounds), after, end)

        part = Participant(joining, prepare, progress)
        answer_messages(
            address, certificate, trusted, key, part.answer, lambda: part.over or part.failed is not None, progress
        )
        if part.failed is not None:
            raise part.failed


@contextmanager
def _alone(folder: Path, side: str) -> Iterator[None]:
    """Hold a folder, for one process at a time.

    Raises:
        DataError: another process has it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{side}.lock").open("w") as stream:
        if not lock(stream):
            raise DataError(f"{folder}: another {side} runs in this folder; name another --run, or end that one")
        yield


def share_of(paths: OwnPaths, name: str, made: Sequence[str]) -> Share:
    """What a client holds: its rows to train and to validate on, the families it reads and those it makes.

    Args:
        paths: of its data.
        name: of the client.
        made: families to make from the real faces; with none, the quick ones where no forged face is held.

    Raises:
        DataError: no real face to train on, or a family that is not made from real ones.
    """
    rows: list[Sample] = with_validation([row for row in paths.samples() if row.split in DEALT], 0)
    read = {row.family for row in rows if row.label and row.split == "train"}
    if not any(not row.label and row.split == "train" for row in rows):
        raise DataError(f"{paths.data}: no real face in train; add some")
    unknown = sorted(set(made) - set(made_here()))
    if unknown:
        raise DataError(f"--make {unknown[0]}: not made from real faces; {', '.join(made_here())} are")
    families = {*read, *(made or (() if read else QUICK))}
    return Share(name, dict.fromkeys(sorted(families), 1.0), tuple(rows))
