"""Privacy and secure aggregation that break a network, and the same privacy where it learns.

A public fork of FedForgery stayed at chance under differential privacy with secure aggregation: updates clipped to 5 by
the clients, noise 0.2, Flower's secure aggregation as it is set by default (values to 8, weights to 1,000). Its cause
was not established. Here ten clients with people of their own train a small network of three convolutions that way and
in parts of it, and as `unmask federate --secure-aggregation --privacy distributed` does it: group normalisations,
differences instead of weights, no buffers, noise that fits the updates' length, ranges from the model. Epsilon is the
same wherever there is noise: it depends on the noise over the clipping, 0.2, and on the rounds alone.

The rule, written before the runs: fifteen rounds of ten steps of eight pairs, three seeds, all arms of a seed on the
same data and first weights. The learning rate is chosen among two by the AUC on the validation split after training
without privacy, for batch and group normalisations apart, and then the clipping among three with the noise, all with a
seed of its own. Measured on the test split: AUC, and accuracy at logit 0 with both classes for a half each; a logit
that is not a number counts as 0. A first network, without strides, took four times as long and was given up for that,
after five runs on the validation split and none on the test split.

Naive arms use Flower's own functions to clip, to add noise and to quantise; its masks, which cancel exactly, are left
out.

    PYTHONPATH=experiments python experiments/fedforgery/private_secure.py RECORD --data DATA
"""

import argparse
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
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
from fedforgery.residual import SOURCES, kinds_of, measured
from flwr.common.secure_aggregation.quantization import dequantize, quantize
from flwr.supercore.differential_privacy import add_gaussian_noise_inplace, compute_clip_model_update, compute_stdv
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.nn import functional

from unmask.datasets.face_store import StoredFace
from unmask.federation.client import Client, RoundConfig, for_client, untrained
from unmask.federation.local import LocalGrid
from unmask.federation.privacy import Privacy, epsilon_of, noise_for
from unmask.federation.rounds import FederationConfig, Rounds
from unmask.federation.secure import fewest_left
from unmask.federation.updates import State, averaged, load_state
from unmask.forgery.detector import DetectorOutput, Learner
from unmask.lab.detection.feed import Pairs
from unmask.lab.detection.held_out import EvalFace
from unmask.lab.detection.pairs_pool import Pool
from unmask.networks.contract import Batch
from unmask.networks.normalisation import with_group_norm

KINDS = ("checkerboard", "smooth", "noise")
CLIENTS, ROUNDS, STEPS, BATCH = 10, 15, 10, 8
NOISE, DELTA = 0.2, 1e-5
FORK = {"clip": 5.0, "reach": 8.0, "most": 1000, "levels": 2**22}
RATES, CLIPS = (3e-3, 1e-2), (0.1, 0.3, 1.0)
TUNING = 1000
BATCH_PLAIN, GROUP_SECURE, SOUND = (
    "batch norm., no privacy",
    "group norm., secure sum, no privacy",
    "as `federate` does",
)
NAIVE = "as the fork does"
ARMS: dict[str, dict[str, Any]] = {
    BATCH_PLAIN: {"normalisation": "shared"},
    GROUP_SECURE: {"normalisation": "group", "secure": True},
    SOUND: {"normalisation": "group", "secure": True, "private": True},
    NAIVE: {"normalisation": "shared", "naive": ("noise", "quantised")},
    f"{NAIVE}, without secure aggregation": {"normalisation": "shared", "naive": ("noise",)},
    f"{NAIVE}, without noise": {"normalisation": "shared", "naive": ("quantised",)},
    f"{NAIVE}, with group norm.": {"normalisation": "group", "naive": ("noise", "quantised")},
}


Pools = Callable[[int], Sequence[tuple[int, Pool]]]
"""For a seed, how many faces each client has and its training pairs."""


class Small(Learner):
    """Three convolutions of 24, 24 and 48 channels, each normalised, and a linear layer on their means."""

    size = 64
    step = 8

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in ((3, 24), (24, 24), (24, 48)):
            layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.BatchNorm2d(after), nn.ReLU()]
        self.layers = nn.Sequential(*layers)
        self.head = nn.Linear(48, 1)

    def forward(self, faces: Tensor) -> DetectorOutput:
        """The logit, and its share of each cell."""
        features = self.layers(self.normalised(faces))
        activation = functional.conv2d(features, self.head.weight[..., None, None], self.head.bias)
        return DetectorOutput(activation.mean((1, 2, 3)), activation)

    def training_losses(self, batch: Batch) -> dict[str, Tensor]:
        """The verdict's cross-entropy."""
        logit = self(batch["faces"]).logit
        return {"verdict": functional.binary_cross_entropy_with_logits(logit, batch["labels"].float())}


def network(normalisation: str) -> Learner:
    """An untrained network."""
    made = Small()
    return with_group_norm(made) if normalisation == "group" else made  # type: ignore[return-value]


def pools_of(faces: Sequence[StoredFace], seed: int, size: int, pairs: int) -> list[tuple[int, Pool]]:
    """How many faces each client has, of people of its own, and its training pairs."""
    subjects = sorted({face.sample.subject for face in faces})
    order = np.random.default_rng([seed, 5]).permutation(len(subjects))
    owner = {subjects[row]: place % CLIENTS for place, row in enumerate(order)}
    made = []
    for number in range(CLIENTS):
        own = [face for face in faces if owner[face.sample.subject] == number]
        kinds = {name: forge for name, forge in kinds_of(own).items() if name in KINDS}
        made.append((len(own), make_pool(own, kinds, pairs, size, seed * 100 + number)))
    return made


def clients_of(
    pools: Sequence[tuple[int, Pool]], arm: str, rate: float, seed: int, folder: Path, private: Privacy | None
) -> list[Client]:
    """The clients of an arm."""
    fabric = Fabric(accelerator="cpu", devices=1, precision="32-true")
    made = []
    for number, (pictures, pool) in enumerate(pools):
        size = pool.plan.size
        config = config_for("plain", size, pool, ROUNDS * STEPS, seed, learning_rate=rate, batch_pairs=BATCH)
        make = partial(network, ARMS[arm]["normalisation"])
        feed = Pairs(pool, for_client(config, number))
        home = folder / f"client-{number}"
        made.append(Client(f"client-{number}", fabric, make, feed, pictures, feed.config, home, private))
    return made


def naive(clients: Sequence[Client], state: State, parts: Sequence[str]) -> State:
    """Rounds as Flower's client-side clipping and its secure aggregation do them, on whole weights with buffers."""
    for number in range(1, ROUNDS + 1):
        names = list(averaged(state))
        before = [state[name] for name in names]
        total: list[np.ndarray] = [np.zeros(array.shape) for array in before]
        ratios = 0.0
        for client in clients:
            update, count, _ = client.fit(state, asdict(RoundConfig(number, STEPS)))
            after = [state[name] + update[name] for name in names]
            compute_clip_model_update(after, before, FORK["clip"])
            ratio = round(count / FORK["most"] * FORK["levels"]) / FORK["levels"]
            after = [array * ratio for array in after]
            if "quantised" in parts:
                after = dequantize(quantize(after, FORK["reach"], FORK["levels"]), FORK["reach"], FORK["levels"])
            ratios += ratio
            total = [one + other for one, other in zip(total, after, strict=True)]
        mean = [array / ratios for array in total]
        if "noise" in parts:
            add_gaussian_noise_inplace(mean, compute_stdv(NOISE, FORK["clip"], len(clients)))
        state = {**state, **{n: np.asarray(a, np.float32) for n, a in zip(names, mean, strict=True)}}
    return state


def trained(
    pools: Pools, arm: str, rate: float, clip: float, seed: int, chosen: argparse.Namespace
) -> tuple[Learner, Rounds | None]:
    """An arm's network."""
    settings = ARMS[arm]
    folder = chosen.runs / "private-secure" / f"{seed}-{list(ARMS).index(arm)}-{rate:g}-{clip:g}"
    private = None
    if settings.get("private"):
        private = Privacy("distributed", clip, NOISE, DELTA, 1.0, ROUNDS, 1, fewest_left(CLIENTS))
    clients = clients_of(pools(seed), arm, rate, seed, folder, private)
    make = partial(network, settings["normalisation"])
    start, rounds = untrained(make, seed), None
    if "naive" in settings:
        np.random.seed(seed)  # what Flower's noise and rounding are drawn from
        state = naive(clients, start, settings["naive"])
    else:
        config = FederationConfig(
            rounds=ROUNDS,
            local_steps=STEPS,
            normalisation=settings["normalisation"],
            secure_aggregation=settings.get("secure", False),
        )
        buffers = frozenset(name for name, _ in make().named_buffers())
        counts = {client.name: client.pictures for client in clients}
        rounds = Rounds(folder / "server", config, start, buffers, frozenset(), counts, private)
        grid = LocalGrid([partial(lambda one: one, client) for client in clients])
        state = rounds.run(grid, {client.name: number for number, client in enumerate(clients, start=1)})
    made = make()
    load_state(made, state)
    shutil.rmtree(folder, ignore_errors=True)
    return made.eval(), rounds


def numbers(detector: Learner, held: Sequence[EvalFace]) -> dict[str, float]:
    """AUC and accuracy on held-out faces, and how many logits are no number."""
    logits = score(detector, held)
    lost = ~np.isfinite(logits)
    area, right = measured(held, np.where(lost, 0.0, logits), KINDS)
    return {"AUC": area, "accuracy": right, "no number": float(lost.mean())}


def best(rows: Sequence[Mapping[str, Any]], arm: str, what: str) -> float:
    """The learning rate or the clipping with the highest AUC on the validation split."""
    tries = {row[what]: row["AUC"] for row in rows if row["split"] == "val" and row["arm"] == arm}
    return max(tries, key=lambda value: tries[value])


def fill(record: Record, pools: Pools, held: Sequence[EvalFace], chosen: argparse.Namespace, **row: Any) -> None:
    """Train and measure a row that the record lacks."""
    if record.has(**row):
        return
    began = time.process_time()
    detector, rounds = trained(pools, row["arm"], row["rate"], row["clip"], row["seed"], chosen)
    more: dict[str, float] = {}
    if rounds is not None:
        done = rounds.records
        more = {
            "megabytes a round": float(np.mean([one.bytes_sent + one.bytes_received for one in done])) / 1e6,
            "beyond": float(np.mean([c.get("beyond", 0.0) for one in done for c in one.clients.values()])),
        }
    record.add(**row, **numbers(detector, held), **more, **{"CPU seconds": time.process_time() - began})


def _has_noise(arm: str) -> bool:
    return "noise" in ARMS[arm].get("naive", ())


def section(root: Path) -> str:
    """The experiment's part of the results page."""
    record = read_record(root, "fedforgery/private_secure")
    settings, rows = record["settings"], record["rows"]
    tested = [row for row in rows if row["split"] == "test"]
    rates = {arm: best(rows, arm, "rate") for arm in (BATCH_PLAIN, GROUP_SECURE)}
    blurred = [row for row in tested if ARMS[row["arm"]]["normalisation"] == "shared" and _has_noise(row["arm"])]
    noisy, lost = len(blurred), sum(row["no number"] == 1 for row in blurred)
    epsilon = epsilon_of(NOISE, 1.0, ROUNDS, DELTA)
    eight = noise_for(8.0, DELTA, 1.0, ROUNDS)
    return f"""## Privacy noise and secure aggregation: where they break a network

{CLIENTS} clients with people of their own, {ROUNDS} rounds of {STEPS} steps of {BATCH} pairs; a network of three
convolutions, {settings["size"]} px, three families of local artifacts. "As the fork does" is what a public fork of
FedForgery was set to, where it stayed at chance: updates clipped to {FORK["clip"]:g} by the clients, noise {NOISE:g},
Flower's secure aggregation with its default range of {FORK["reach"]:g} and weights up to {FORK["most"]:,}, all on whole
weights with running statistics. "As `federate` does" is `--secure-aggregation --privacy distributed`: group
normalisations, differences, no buffers, ranges from the model, and updates clipped to
{best(rows, SOUND, "clip"):g}, chosen with another seed on the validation split, as the learning rates were (batch
normalisations {rates[BATCH_PLAIN]:g}, group normalisations {rates[GROUP_SECURE]:g}). In brackets: the difference from
the first arm, seed by seed, with its 95 % interval. Logits that are no number count as 0.

{paired_table(tested, ["AUC", "accuracy"], BATCH_PLAIN)}

It is the noise that breaks the network: without it, the fork's clipping, ranges and weights do no harm here. In
{lost} of {noisy} runs with noise and batch normalisations no logit was a number, for a running variance had fallen
below 0; but group normalisations alone do not help, as long as the noise is that of updates of length {FORK["clip"]:g}.

Wherever there is noise, epsilon is the same: {epsilon:.0f} at delta {DELTA:g} after all rounds, for whether an
organisation took part. **That is no protection to speak of**; with ten clients all of whom take part in every round,
noise that protects drowns what they learn. For epsilon 8 the noise over the clipping must be {eight:.2f}, and as the
mean has a client's noise over their number, {CLIENTS * eight / NOISE:.0f} clients of this kind would have the noise
that was borne here.
"""


def main() -> None:
    options = parser(__doc__ or "")
    options.add_argument("--size", type=int, default=64)
    options.add_argument("--faces", type=int, default=500, help="real faces of each source to train on, at most")
    options.add_argument("--held-faces", type=int, default=100, help="of each source to measure on, at most")
    options.add_argument("--pairs", type=int, default=200, help="of a client")
    options.set_defaults(steps=STEPS)
    chosen = options.parse_args()
    one_thread()
    faces = reals(chosen.data, chosen.work, "train", SOURCES, chosen.size, chosen.faces)
    splits = {s: reals(chosen.data, chosen.work, s, SOURCES, chosen.size, chosen.held_faces) for s in ("val", "test")}
    settings = settings_of(
        chosen,
        kinds=KINDS,
        clients=CLIENTS,
        rounds=ROUNDS,
        batch=BATCH,
        noise=NOISE,
        delta=DELTA,
        fork=FORK,
        rates=RATES,
        clips=CLIPS,
        tuning_seed=TUNING,
        arms=ARMS,
    )
    record = Record(chosen.record, settings, data_hash([*faces, *splits["val"], *splits["test"]]), ("flwr", "opacus"))

    def held(split: str, seed: int) -> list[EvalFace]:
        others = splits[split]
        return make_held(others, {n: f for n, f in kinds_of(others).items() if n in KINDS}, chosen.size, seed)

    @lru_cache(maxsize=1)
    def pools(seed: int) -> list[tuple[int, Pool]]:
        return pools_of(faces, seed, chosen.size, chosen.pairs)

    val = held("val", TUNING)
    for arm in (BATCH_PLAIN, GROUP_SECURE):
        for rate in RATES:
            fill(record, pools, val, chosen, split="val", arm=arm, seed=TUNING, rate=rate, clip=0.0)
    rates = {
        normalisation: best(record.content["rows"], arm, "rate")
        for normalisation, arm in (("shared", BATCH_PLAIN), ("group", GROUP_SECURE))
    }
    for clip in CLIPS:
        fill(record, pools, val, chosen, split="val", arm=SOUND, seed=TUNING, rate=rates["group"], clip=clip)
    clip = best(record.content["rows"], SOUND, "clip")
    for seed in range(chosen.seeds):
        test = held("test", seed)
        for arm, settings in ARMS.items():
            rate = rates[settings["normalisation"]]
            fill(record, pools, test, chosen, split="test", arm=arm, seed=seed, rate=rate, clip=clip)


if __name__ == "__main__":
    main()
