"""Does it help to average a codebook by how often each client used its codes, instead of by pictures?

The residual detector over five clients, each with one family of local artifacts on people of its own, from one common
codebook. Two arms share data, seed, steps and first weights: rows of the codebook are weighted by the clients'
pictures, or by how often each client's pictures took them in the round. Three seeds, eight rounds of ten steps of eight
pairs, the learning rate that the residual arm of `residual` has; fixed before the runs. Measured on the test split: AUC
and accuracy over all families, the share of the pixels' variance that is not reproduced, and how many codes the real
faces take, as the exponential of the entropy of their use.

    PYTHONPATH=experiments python experiments/fedforgery/codebook.py RECORD --data DATA
"""

import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from common import (
    Record,
    config_for,
    data_hash,
    make_held,
    make_pool,
    one_thread,
    paired_table,
    parser,
    read_record,
    reals,
    score,
    settings_of,
)
from fedforgery.residual import FAMILIES, MODEL, SOURCES, kinds_of, measured, unexplained
from lightning_fabric import Fabric

from unmask.datasets.face_store import StoredFace
from unmask.federation.client import Client, for_client, untrained
from unmask.federation.local import LocalGrid
from unmask.federation.rounds import FederationConfig, Rounds
from unmask.federation.updates import load_state
from unmask.forgery.fedforgery import FedForgery
from unmask.lab.detection.feed import Pairs
from unmask.lab.detection.held_out import EvalFace

ROUNDS, STEPS, BATCH, RATE = 8, 10, 8, 3e-3
PICTURES, USES = "by pictures", "by uses"


def clients_of(
    faces: Sequence[StoredFace], seed: int, size: int, backbone: str, pairs: int, folder: Path
) -> list[Client]:
    """A client for every family."""
    subjects = sorted({face.sample.subject for face in faces})
    order = np.random.default_rng([seed, 5]).permutation(len(subjects))
    owner = {subjects[row]: place % len(FAMILIES) for place, row in enumerate(order)}
    fabric = Fabric(accelerator="cpu", devices=1, precision="32-true")
    made = []
    for number, family in enumerate(FAMILIES):
        own = [face for face in faces if owner[face.sample.subject] == number]
        pool = make_pool(own, {family: kinds_of(own)[family]}, pairs, size, seed * 100 + number)
        config = config_for("fedforgery", size, pool, ROUNDS * STEPS, seed, learning_rate=RATE, batch_pairs=BATCH)
        config = for_client(config, number)
        home = folder / f"client-{number}"
        make = partial(FedForgery, backbone, **MODEL)
        made.append(Client(f"client-{number}", fabric, make, Pairs(pool, config), len(own), config, home))
    return made


def trained(clients: Sequence[Client], arm: str, seed: int, backbone: str, folder: Path) -> FedForgery:
    """An arm's detector."""
    network = FedForgery(backbone, **MODEL)
    buffers = frozenset(name for name, _ in network.named_buffers())
    counts = {client.name: client.pictures for client in clients}
    rounds = Rounds(
        folder / "server",
        FederationConfig(rounds=ROUNDS, local_steps=STEPS),
        untrained(partial(FedForgery, backbone, **MODEL), seed),
        buffers,
        frozenset(),
        counts,
        counted=network.uses() if arm == USES else (),
    )
    grid = LocalGrid([partial(lambda one: one, client) for client in clients])
    load_state(network, rounds.run(grid, {client.name: number for number, client in enumerate(clients, start=1)}))
    shutil.rmtree(folder, ignore_errors=True)
    return network.eval()


@torch.no_grad()
def codes_taken(detector: FedForgery, faces: Sequence[EvalFace]) -> float:
    """The exponential of the entropy of the codes that the reals take."""
    pixels = torch.from_numpy(np.stack([face.crop for face in faces if not face.label])).permute(0, 3, 1, 2)
    codes = torch.cat([detector(some.float() / 255).extras["codes"].flatten() for some in pixels.split(64)])
    shares = torch.bincount(codes).double() / len(codes)
    return float(torch.exp(-(shares[shares > 0] * shares[shares > 0].log()).sum()))


def section(root: Path) -> str:
    """The experiment's part of the results page."""
    record = read_record(root, "fedforgery/codebook")
    metrics = ["AUC hybrid", "accuracy hybrid", "residual energy", "codes taken"]
    return f"""## The codebook averaged by uses or by pictures

The residual detector over {len(FAMILIES)} clients, each with one family of local artifacts on people of its own:
{record["settings"]["backbone"]} from random weights, {record["settings"]["size"]} px, {ROUNDS} rounds of {STEPS} steps
of {BATCH} pairs. By uses: a code's mean over clients is weighted by how often each client's pictures took it in the
round. "Codes taken" is the exponential of the entropy of the codes that real test faces take, of {MODEL["codes"]}.

{paired_table(record["rows"], metrics, PICTURES)}
"""


def main() -> None:
    options = parser(__doc__ or "")
    options.add_argument("--size", type=int, default=64)
    options.add_argument("--backbone", default="test_resnet", help="timm's name of the classifier")
    options.add_argument("--faces", type=int, default=500, help="real faces of each source to train on, at most")
    options.add_argument("--held-faces", type=int, default=100, help="of each source to measure on, at most")
    options.add_argument("--pairs", type=int, default=400, help="of a client")
    options.set_defaults(steps=STEPS)
    chosen = options.parse_args()
    one_thread()
    faces, test = (
        reals(chosen.data, chosen.work, split, SOURCES, chosen.size, most)
        for split, most in (("train", chosen.faces), ("test", chosen.held_faces))
    )
    settings = settings_of(chosen, model=MODEL, families=FAMILIES, rounds=ROUNDS, batch=BATCH, rate=RATE)
    record = Record(chosen.record, settings, data_hash([*faces, *test]), ("flwr",))
    for seed in range(chosen.seeds):
        arms = [arm for arm in (PICTURES, USES) if not record.has(arm=arm, seed=seed)]
        if not arms:
            continue
        folder = chosen.runs / "codebook" / f"{seed}"
        clients = clients_of(faces, seed, chosen.size, chosen.backbone, chosen.pairs, folder)
        held = make_held(test, kinds_of(test), chosen.size, seed)
        for arm in arms:
            detector = trained(clients, arm, seed, chosen.backbone, folder)
            area, right = measured(held, score(detector, held), FAMILIES)
            more = {"residual energy": unexplained(detector, held), "codes taken": codes_taken(detector, held)}
            record.add(arm=arm, seed=seed, **{"AUC hybrid": area, "accuracy hybrid": right}, **more)


if __name__ == "__main__":
    main()
