"""What federation costs beside training: seconds a round, memory against the number of clients, bytes of a message.

Three measurements, one process each where memory is measured:

- a round of five clients against the same steps by the trainer alone, alternating: their difference is the overhead;
- rounds of ten clients out of 10, 100 and 1,000: seconds a round, and the process's largest memory;
- the bytes of a message under every compression, and what follows for larger networks.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import finish, parser, spread

from unmask.federation.client import Client, for_client, reused, untrained
from unmask.federation.compression import COMPRESSIONS, compress
from unmask.federation.local import LocalGrid
from unmask.federation.rounds import FederationConfig, Rounds
from unmask.federation.updates import averaged, state_of
from unmask.lab.detection.config import DetectionTrainConfig
from unmask.lab.detection.feed import Pairs
from unmask.lab.detection.pairs_pool import MASK, Pool, PoolPlan
from unmask.lab.engine import Trainer, make_fabric
from unmask.lab.task import task_named
from unmask.lab.train import new_network
from unmask.networks.contract import Trainable

SIZE, PAIRS, BATCH, STEPS = 64, 64, 8, 10
CONFIG = DetectionTrainConfig(
    method="fedforgery",
    options={"backbone": "test_resnet", "weights": "none", "width": 16, "codes": 64},
    families=("swap",),
    size=SIZE,
    window=SIZE,
    pairs=PAIRS,
    batch_pairs=BATCH,
)
CLIENTS = (10, 100, 1000)
MODELS = {"efficientnet_lite0": 4.7e6, "resnet50": 25.6e6, "ViT-L/14": 304e6, "2.5 billion weights": 2.5e9}
"""Weights of networks that messages are worked out for."""


def network() -> Trainable:
    """The residual detector of small width."""
    return new_network(task_named("forgery_detection"), CONFIG, pretrained=False)


def pool_of(seed: int) -> Pool:
    """Noise in place of faces: what is learnt does not matter."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (PAIRS, 2, SIZE, SIZE, 3), np.uint8)
    zeros = np.zeros(PAIRS, np.uint8)
    plan = PoolPlan(PAIRS, seed, SIZE, 1.4, {"swap": 1.0}, {"noise": 1.0})
    return Pool(plan, pixels, np.zeros((PAIRS, MASK, MASK), np.uint8), zeros, zeros, zeros)


def rounds_of(clients: int, per_round: int, rounds: int, steps: int, folder: Path) -> tuple[Rounds, LocalGrid]:
    """A federation of noise; a client's pairs are made when it is asked, and dropped afterwards."""
    config = replace(CONFIG, steps=rounds * steps)
    fabric, kept = make_fabric(half_on_cpu=False), reused(network)
    names = [f"client-{number:04d}" for number in range(clients)]

    def maker(number: int) -> Client:
        own = for_client(config, number)
        return Client(names[number], fabric, kept, Pairs(pool_of(number), own), PAIRS, own, folder / names[number])

    federation = FederationConfig(rounds=rounds, local_steps=steps, per_round=per_round)
    start = untrained(network, 0)
    buffers = frozenset(name for name, _ in network().named_buffers())
    all_rounds = Rounds(folder / "server", federation, start, buffers, frozenset(), dict.fromkeys(names, PAIRS))
    return all_rounds, LocalGrid([lambda number=number: maker(number) for number in range(clients)])


def overhead(repeats: int, folder: Path) -> dict[str, Any]:
    """A round of five clients, and the same steps by five trainers, in turn."""
    clients = 5
    federated, grid = rounds_of(clients, 0, repeats + 1, STEPS, folder)
    nodes = {f"client-{number:04d}": number + 1 for number in range(clients)}
    fabric = make_fabric(half_on_cpu=False)
    configs = [for_client(replace(CONFIG, steps=(repeats + 1) * STEPS), number) for number in range(clients)]
    trainers = [Trainer(fabric, network(), Pairs(pool_of(n), own), own) for n, own in enumerate(configs)]
    seconds: dict[str, list[float]] = {"round": [], "training alone": []}

    def alone(*_: object) -> None:
        began = time.perf_counter()
        for trainer in trainers:
            trainer.advance(STEPS)
        seconds["training alone"].append(time.perf_counter() - began)

    federated.run(grid, nodes, after=alone)
    seconds["round"] = [record.seconds for record in federated.records]
    rest = {name: values[1:] for name, values in seconds.items()}  # the first ones warm up
    extra = [a - b for a, b in zip(rest["round"], rest["training alone"], strict=True)]
    return {
        "clients": clients,
        "steps": STEPS,
        "seconds": {name: spread(values) for name, values in rest.items()},
        "overhead": spread(extra),
    }


def simulated(clients: int, rounds: int, folder: Path) -> dict[str, Any]:
    """Rounds of ten clients of so many."""
    federated, grid = rounds_of(clients, 10, rounds, 2, folder)
    nodes = {f"client-{number:04d}": number + 1 for number in range(clients)}
    federated.run(grid, nodes)
    seconds = [record.seconds for record in federated.records][1:]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"clients": clients, "rounds": rounds, "seconds a round": spread(seconds), "largest memory, MB": round(peak)}


def messages() -> dict[str, Any]:
    """Bytes of the small network's update, and of larger ones by their number of weights."""
    update = averaged(state_of(network()))
    weights = sum(array.size for array in update.values())
    sent = {how: sum(array.nbytes for array in compress(update, how).values()) for how in COMPRESSIONS}
    each = {how: total / weights for how, total in sent.items()}
    larger = {
        name: {how: round(count * {"none": 4, "fp16": 2, "int8": 1}[how] / 1e6, 1) for how in COMPRESSIONS}
        for name, count in MODELS.items()
    }
    return {"weights": weights, "bytes": sent, "bytes a weight": each, "MB on paper": larger}


def main() -> None:
    arguments = parser(__doc__ or "")
    arguments.add_argument("--repeats", type=int, default=20)
    arguments.add_argument("--only", type=int, help="measure rounds of this many clients alone, for memory")
    chosen = arguments.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        if chosen.only:
            print(json.dumps(simulated(chosen.only, chosen.repeats, Path(folder))))
            return
        scale = []
        for clients in CLIENTS:
            command = [sys.executable, __file__, "--only", str(clients), "--repeats", str(chosen.repeats)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            scale.append(json.loads(done.stdout.splitlines()[-1]))
        results = {"overhead": overhead(chosen.repeats, Path(folder)), "clients": scale, "messages": messages()}
    finish(chosen, "federated", results)


if __name__ == "__main__":
    main()
