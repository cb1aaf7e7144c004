"""A composite sketch against a register of photos: what does a recogniser gain from drawings, and from real pairs?

    unmask search draw PHOTOS --out drawn --size 224
    PYTHONPATH=experiments python experiments/sbka/faces.py RECORD.json --data CUFS --drawn drawn --others PHOTOS

CUFS (CUHK students, artists' drawings from photos): 88 people with a photo and a sketch. Five times half of them are
drawn at random to be tested on; the other half may be trained on. The register has the photos of the tested people, and
in a second measurement 1,000 photos of strangers beside them (`--others`, in no training set). The arms have one
network, MobileFaceNet with its published weights, and one loss (`sketch-face`): as it is; trained on drawings that
`unmask search draw` made from photos of other people; trained on the pairs of the other half; and first on the one,
then on the other. A seed decides the halves, and batches and variations of pairs; the drawings, which are of nobody
tested, are trained on once (seed 0). Steps and learning rates were fixed beforehand.

Measured: the share of sketches whose photo is among the first 1, 5 and 10; and Cllr, with likelihood ratios fitted on
one half of the tested people and measured on the other (`unmask.lab.search.likelihood`).

Rules, written before the run: an arm helps if the 95 % interval of the paired difference of rank-1 from the recogniser
as it is, over seeds, lies above 0. The aim is a rank-1 twice that of the recogniser as it is, where that is below .5.
Of two arms that help the one with the higher mean rank-1 among strangers is the one to ship. The seeds share people, so
that intervals speak of the choice of the half, not of other people.
"""

import argparse
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import Record, one_thread, paired, paired_table, read_record
from lightning_fabric import Fabric
from safetensors.torch import load_file

from unmask.cli.options import progress_bars
from unmask.datasets.sketch_sets import SketchItem, read_items
from unmask.lab.engine import fit
from unmask.lab.methods import build
from unmask.lab.run import Run
from unmask.lab.search.config import SearchTrainConfig
from unmask.lab.search.feed import SketchFeed, SplitPictures, tensor_of
from unmask.lab.search.likelihood import fit_ratios
from unmask.lab.search.measuring import embed
from unmask.lab.search.pictures import picture_store
from unmask.lab.search.sketch_face import SketchFace
from unmask.progress import SILENT
from unmask.retrieval.matching import squared_distances

METHOD, SIZE, MARGIN = "sketch-face", 112, 1.4
ARMS = ("as it is", "drawings", "pairs", "both")
AS_IS, DRAWINGS, PAIRS, BOTH = ARMS
RANKS = (1, 5, 10)
STRANGERS = 1_000
BATCH = 32  # sketches of a step, and as many photos


def read(folder: Path, chosen: argparse.Namespace, progress: Any) -> SplitPictures:
    """A set of pairs."""
    items = tuple(sorted(read_items(folder)[0], key=lambda item: item.name))
    return SplitPictures(items, picture_store(items, SIZE, MARGIN, chosen.work, 1, progress), np.arange(len(items)))


def strangers(chosen: argparse.Namespace, progress: Any) -> SplitPictures:
    """Photos of people that nothing else has, one item each."""
    used = {item.path.stem for item in read_items(chosen.drawn)[0]}
    paths = sorted(
        (path for path in chosen.others.rglob("*.jpg") if not any(name.endswith(path.stem) for name in used)),
        key=lambda path: hashlib.sha256(path.name.encode()).digest(),
    )
    items = tuple(SketchItem(path, f"stranger {number}", False) for number, path in enumerate(paths[:STRANGERS]))
    return SplitPictures(items, picture_store(items, SIZE, MARGIN, chosen.work, 1, progress), np.arange(len(items)))


def tested_half(people: Sequence[str], seed: int) -> set[str]:
    """The half of the people, sorted by name, that a seed tests on."""
    order = np.random.default_rng(seed).permutation(len(people))
    return {people[place] for place in order[: len(people) // 2]}


def part(split: SplitPictures, people: set[str]) -> SplitPictures:
    """The items of some people."""
    rows = [row for row, item in enumerate(split.items) if item.label in people]
    return SplitPictures(tuple(split.items[row] for row in rows), split.pixels, split.rows[rows])


def trained(
    name: str,
    training: SplitPictures,
    steps: int,
    rate: float,
    seed: int,
    chosen: argparse.Namespace,
    start: Path | None,
) -> tuple[SketchFace, Path]:
    """A network trained on pairs, in evaluation mode, and where its weights are; one that is finished is read."""
    classes = tuple(sorted({item.label for item in training.items}))
    config = SearchTrainConfig(
        method=METHOD,
        size=SIZE,
        margin=MARGIN,
        steps=steps,
        learning_rate=rate,
        sketches=BATCH,
        photos=BATCH,
        seed=seed,
        average=0.99,
        classes=classes,
        people=True,
        start="published" if start is None else hashlib.sha256(start.read_bytes()).hexdigest(),
    )
    torch.manual_seed(seed)
    network = build(METHOD, {}, classes, SIZE)
    if start is not None:
        network.load_state_dict(load_file(start))
    folder = chosen.runs / "sketch-faces" / f"{name}-{seed}"
    weights = folder / "weights.safetensors"
    if not weights.is_file():
        fabric = Fabric(accelerator="cpu", devices=1, precision="bf16-mixed")
        fit(fabric, network, SketchFeed(config, training, training), Run(folder, config, "0"))
    network.load_state_dict(load_file(weights))
    return network.eval(), weights


def measured(network: SketchFace, tested: SplitPictures, others: SplitPictures, seed: int) -> dict[str, float]:
    """Ranks among the tested people, and with strangers beside them; Cllr."""

    @torch.no_grad()
    def vectors_of(pixels: np.ndarray) -> np.ndarray:
        return network(tensor_of(pixels)).numpy()

    vectors, beside = embed(vectors_of, tested, SILENT), embed(vectors_of, others, SILENT)
    sketches, photos = tested.of(True), tested.of(False)
    label = np.array([item.label for item in tested.items])
    numbers: dict[str, float] = {}
    for name, gallery in (("", vectors[photos]), (", strangers", np.concatenate([vectors[photos], beside]))):
        distances = squared_distances(vectors[sketches], gallery)
        own = np.array([np.flatnonzero(label[photos] == one)[0] for one in label[sketches]])
        rank = (distances < np.take_along_axis(distances, own[:, None], 1)).sum(1) + 1
        numbers |= {f"rank-{most}{name}": float((rank <= most).mean()) for most in RANKS}
    ratios = fit_ratios(vectors, tested, seed)
    return {**numbers, "Cllr": ratios.cllr, "Cllr, minimum": ratios.cllr_min}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("record", type=Path, help="JSON file to write; arms that it holds are not run again")
    options.add_argument("--data", type=Path, required=True, help="folder of CUFS: photos/, sketches/")
    options.add_argument("--drawn", type=Path, required=True, help="set of `unmask search draw`")
    options.add_argument("--others", type=Path, required=True, help="folder of photos of strangers")
    options.add_argument("--work", type=Path, default=Path("runs/work"))
    options.add_argument("--runs", type=Path, default=Path("runs/experiments"))
    options.add_argument("--steps", type=int, default=600, help="on drawings")
    options.add_argument("--pair-steps", type=int, default=120, help="on pairs")
    options.add_argument("--rate", type=float, default=3e-4, help="learning rate on drawings")
    options.add_argument("--pair-rate", type=float, default=1e-4, help="learning rate on pairs")
    options.add_argument("--seeds", type=int, default=5)
    options.add_argument("--arm", action="append", choices=ARMS, help="run these alone; repeatable")
    chosen = options.parse_args()
    one_thread()
    with progress_bars() as progress:
        pairs, drawn, others = (
            read(chosen.data, chosen, progress),
            read(chosen.drawn, chosen, progress),
            strangers(chosen, progress),
        )
    settings = {"batch": BATCH, "margin": MARGIN, "strangers": len(others.items), "drawings": len(drawn.items) // 2}
    settings |= {"people": len(pairs.items) // 2}
    settings |= {key: getattr(chosen, key) for key in ("steps", "pair_steps", "rate", "pair_rate")}
    names = "\n".join(
        f"{item.path.name} {item.path.stat().st_size}" for split in (pairs, drawn) for item in split.items
    )
    record = Record(chosen.record, settings, hashlib.sha256(names.encode()).hexdigest())
    people = sorted({item.label for item in pairs.items})
    for seed in range(chosen.seeds):
        tested = tested_half(people, seed)
        held, seen = part(pairs, tested), part(pairs, set(people) - tested)
        for arm in chosen.arm or ARMS:
            if not record.has(arm=arm, seed=seed):
                network, weights = SketchFace().eval(), None
                if arm in (DRAWINGS, BOTH):
                    network, weights = trained(DRAWINGS, drawn, chosen.steps, chosen.rate, 0, chosen, None)
                if arm in (PAIRS, BOTH):
                    network, _ = trained(arm, seen, chosen.pair_steps, chosen.pair_rate, seed, chosen, weights)
                record.add(arm=arm, seed=seed, **measured(network, held, others, seed))


# --- The page ---

TEXT = """## A sketch of a face against a register of photos

CUFS, {people} people, half of them tested on, {seeds} times; MobileFaceNet as it is published, trained on {drawings:,}
drawings made from photos of other people, on the real pairs of the other half, and on both in turn. Shares of sketches
whose photo is among the first 1, 5 and 10 of the register, which has {tested} photos, and {more:,} more of strangers;
Cllr of likelihood ratios that are fitted on one half of the tested people and measured on the other, where 1 says
nothing. Means over seeds; in brackets the paired difference from the recogniser as it is with its 95 % interval
(Student's t; the seeds share people, and the network trained on drawings). `experiments/sbka/faces.py` has the rules,
written before the run.
"""


def section(root: Path) -> str:
    """What the record beside this script says; `root` is the repository's."""
    record = read_record(root, "sbka/faces")
    settings, rows = record["settings"], record["rows"]
    head = TEXT.format(
        **settings,
        seeds=len({row["seed"] for row in rows}),
        tested=settings["people"] // 2,
        more=settings["strangers"],
    )
    tables = [paired_table(rows, [f"rank-{most}{name}" for most in RANKS], AS_IS) for name in ("", ", strangers")] + [
        paired_table(rows, ("Cllr", "Cllr, minimum"), AS_IS)
    ]
    ranks = {one.arm: one for one in paired(rows, "rank-1", AS_IS)}
    helps = [arm for arm, one in ranks.items() if one.difference is not None and one.difference[1] > 0]
    twice = [f"{arm} {one.value[0] / ranks[AS_IS].value[0]:.2f}" for arm, one in ranks.items() if arm != AS_IS]
    lines = [
        f"Helps at rank 1: {', '.join(helps) or 'none seen'}.",
        f"Rank-1 over that of the recogniser as it is (aim: 2): {'; '.join(twice)}.",
    ]
    return "\n".join([head, *(table + "\n" for table in tables), *(f"- {line}" for line in lines)]) + "\n"


if __name__ == "__main__":
    main()
