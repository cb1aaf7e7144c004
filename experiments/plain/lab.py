"""The runs behind the embedded `plain` pack: one store, one zoo, one pool; then any number of runs on it.

    python experiments/plain/lab.py WORK --store STORE --run NAME:VIEW:STEPS[:WITHOUT+WITHOUT] ...

`unmask train plain` does the same for a single run. Here the pool is shared, so that runs differ in nothing but what their
names say, and checkpoints are left out: a run is minutes on a GPU.
"""

import argparse
import json
import os
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from unmask.data.held_out import held_out
from unmask.data.manifest import manifest_sha256
from unmask.data.pool import SHARES, SOURCE_SHARES, PoolPlan, Twins, build_pool
from unmask.data.store import read_store
from unmask.data.twins import make_twins, train_zoo, zoo_and_taef2
from unmask.forgery.plain import Plain
from unmask.training.engine import fit, make_fabric
from unmask.training.run import Protocol, Run
from unmask.training.scoring import family_aucs, logits_of


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--zoo", type=Path)
    parser.add_argument("--taef2", type=Path)
    parser.add_argument("--pairs", type=int, default=24_000)
    parser.add_argument("--batch-pairs", type=int, default=64)
    parser.add_argument("--rate", type=float, default=1.5e-3)
    parser.add_argument("--zoo-steps", type=int, default=1200)
    parser.add_argument("--draws", type=int, default=4)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--every", type=int, default=500)
    parser.add_argument("--run", action="append", default=[], help="NAME:VIEW:STEPS[:WITHOUT+WITHOUT]")
    options = parser.parse_args()
    began = time.monotonic()

    def say(text: str) -> None:
        print(f"[{time.monotonic() - began:7.1f} s] {text}", flush=True)

    faces = read_store(options.store)
    train = [face for face in faces if face.sample.split == "train"]
    reals = [face for face in train if not face.sample.label]
    say(f"{len(faces)} faces, {len(train)} to train on, {len(reals)} of them real")
    fabric = make_fabric()
    device = fabric.device
    zoo_folder = options.zoo or options.work / "zoo"
    zoo = train_zoo(reals, zoo_folder, options.zoo_steps, options.seed, device, progress=say)
    make_twins(
        reals, zoo_and_taef2(zoo, options.taef2, device), options.work / "twins", options.draws, options.seed, device
    )
    say("twins made")
    collected = {face.sample.family for face in train}
    shares = {name: share for name, share in SHARES.items() if name in collected or name[:4] in ("self", "swap", "resy")}
    plan = PoolPlan(options.pairs, options.seed, Plain.size, 1.4, shares, SOURCE_SHARES)
    counted, shown = 0, 0

    def count(pairs: int) -> None:
        nonlocal counted, shown
        counted += pairs
        if counted - shown >= options.pairs // 10:
            shown = counted
            say(f"{counted} pairs")

    pool = build_pool(options.store, options.work / "twins", options.work / "pool", plan, options.workers, count)
    say("pool made")
    if not options.run:
        return
    held = held_out(
        faces, "val", ("selfblend", "swap", "stylegan", "ciplab", "mobilestylegan", "pggan"), "as is", Plain.size, 1.4, Twins.open(Path())
    )
    crops = np.stack([face.crop for face in held])
    say(f"{len(held)} faces to validate on")
    data = manifest_sha256([face.sample for face in faces])
    base = Protocol(
        pairs=options.pairs,
        batch_pairs=options.batch_pairs,
        learning_rate=options.rate,
        zoo_steps=options.zoo_steps,
        twin_draws=options.draws,
        seed=options.seed,
    )
    for text in options.run:
        name, view, steps, *rest = text.split(":")
        protocol = replace(base, view=view, steps=int(steps), without=tuple(rest[0].split("+")) if rest else ())
        run = Run(options.work / "runs" / name, protocol, data)
        torch.manual_seed(options.seed)
        detector = Plain(view)

        def validate(module: torch.nn.Module) -> dict[str, float]:
            return family_aucs(held, logits_of(module, crops, device)[0])

        start = time.monotonic()
        average = fit(fabric, detector, pool, run, validate, options.every)
        found = validate(average)
        say(f"{name}: {time.monotonic() - start:.0f} s " + json.dumps({k: round(v, 3) for k, v in found.items()}))


if __name__ == "__main__":
    main()
