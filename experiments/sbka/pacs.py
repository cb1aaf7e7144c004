"""What does each part of SBKA add on classes of objects that were never seen, and do clusters of the gallery help?

    PYTHONPATH=experiments python experiments/sbka/pacs.py RECORD.json --data PACS --wordnet DIR [--work DIR] \\
      [--runs DIR]

PACS-small: five classes, photos and sketches. Two classes are left out in turn, five times, so that each is left out
twice; a turn takes the place of a seed, and its number is the seed of everything random. All arms of a turn have the
same pictures, batches, steps and first weights (EfficientNet-Lite0, ImageNet).

The ladder: classification alone; with a fixed teacher, as SAKE has it; with the published modality loss, or the moments
in its place; with the bidirectional phase, targets detached or, as the code does, not; and triplets in its place.

Measured on all sketches of the two classes, against their photos, and against the photos of all five classes: the
interpolated AP, mean over classes, photos one by one and with clusters. Beside it, on the vectors of the bidirectional
arm: clusters in other numbers than are chosen without labels; and the negative control, random vectors.

Rules, written before the runs: a part helps if the 95 % interval of its paired difference from the arm before it, over
turns, lies above 0 (AP of photos one by one, unseen classes alone). Clusters help if that of clusters less one by one
does, on the bidirectional arm. Nothing is chosen by these numbers.
"""

import argparse
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import Record, one_thread, paired, read_record
from lightning_fabric import Fabric

from unmask.cli.options import progress_bars
from unmask.datasets.sketch_sets import SketchItem, read_items
from unmask.lab.engine import fit
from unmask.lab.methods import build
from unmask.lab.metrics import seed_interval
from unmask.lab.run import Run
from unmask.lab.search.config import SearchTrainConfig
from unmask.lab.search.feed import SketchFeed, SplitPictures, tensor_of
from unmask.lab.search.measuring import embed
from unmask.lab.search.pictures import picture_store
from unmask.lab.search.wordnet import WordNet, semantic_prior
from unmask.progress import SILENT
from unmask.retrieval.matching import ClusterMatcher, auto_clusters, squared_distances
from unmask.retrieval.metrics import RetrievalMetrics, blocks_of
from unmask.tables import markdown

TURNS = (("dog", "giraffe"), ("giraffe", "horse"), ("horse", "house"), ("house", "person"), ("person", "dog"))
CE, FIXED, NOISE = "classification", "+ fixed teacher", "+ modality loss"
MOMENTS, BOTH, LEAKING, TRIPLET = "+ moments instead", "+ bidirectional", "targets not detached", "triplets"
ARMS: dict[str, tuple[str, dict[str, Any]]] = {
    CE: ("sbka", {"alignment": "none", "modality_loss": "none"}),
    FIXED: ("sbka", {"alignment": "fixed", "modality_loss": "none"}),
    NOISE: ("sbka", {"alignment": "fixed"}),
    MOMENTS: ("sbka", {"alignment": "fixed", "modality_loss": "moments"}),
    BOTH: ("sbka", {}),
    LEAKING: ("sbka", {"detach_targets": False}),
    TRIPLET: ("sketch-triplet", {}),
}
BEFORE = {FIXED: CE, NOISE: FIXED, MOMENTS: FIXED, BOTH: NOISE, LEAKING: BOTH, TRIPLET: CE}
"""The arm that each is compared with; where that was not run, the one before it."""
SIZE, SKETCHES, PHOTOS = 128, 16, 32
PLAIN, CLUSTERS, MIXED, MIXED_CLUSTERS = "one by one", "clusters", "all classes", "all classes, clusters"
FACTORS = (0.25, 0.5, 1, 2, 4)
"""Numbers of clusters over that which is chosen without labels."""


def precision(vectors: np.ndarray, split: SplitPictures, tested: tuple[str, ...], clusters: int | None) -> float:
    """Interpolated AP, mean over classes; `clusters` 0 for photos one by one, None for the number chosen."""
    photos = split.of(False)
    sketches = np.array([place for place in split.of(True) if split.items[place].label in tested])
    labels, known = ([split.items[place].label for place in places] for places in (sketches, photos))
    gallery, metrics = vectors[photos], RetrievalMetrics()
    matcher = None if clusters == 0 else ClusterMatcher(clusters=clusters or "auto").fit(gallery)
    for block in blocks_of(len(sketches)):
        queries = vectors[sketches[block]]
        distances = squared_distances(queries, gallery) if matcher is None else matcher.score(queries)
        metrics.add(distances, labels[block], known)
    return metrics.averages()["AP interpolated"].over_classes


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("record", type=Path, help="JSON file to write; arms that it holds are not run again")
    options.add_argument("--data", type=Path, required=True, help="folder of PACS: photo/, sketch/")
    options.add_argument("--wordnet", type=Path, required=True, help="WordNet's database files")
    options.add_argument("--work", type=Path, default=Path("runs/work"))
    options.add_argument("--runs", type=Path, default=Path("runs/experiments"))
    options.add_argument("--steps", type=int, default=300)
    options.add_argument("--arm", action="append", choices=tuple(ARMS), help="run these alone; repeatable")
    chosen = options.parse_args()
    one_thread()
    items = tuple(sorted(read_items(chosen.data)[0], key=lambda item: item.name))
    with progress_bars() as progress:
        pixels = picture_store(items, SIZE, 0.0, chosen.work, 1, progress)
    arms = {name: {"method": method, **more} for name, (method, more) in ARMS.items()}
    fixed = {"steps": chosen.steps, "size": SIZE, "sketches": SKETCHES, "photos": PHOTOS, "turns": TURNS, "arms": arms}
    names = "\n".join(f"{item.label} {item.path.name} {item.path.stat().st_size}" for item in items)
    record = Record(chosen.record, fixed, hashlib.sha256(names.encode()).hexdigest())
    wordnet = WordNet(chosen.wordnet)
    for turn, tested in enumerate(TURNS):
        for name in chosen.arm or ARMS:
            if not record.has(arm=name, seed=turn):
                record.add(arm=name, seed=turn, **measured(chosen, name, turn, tested, items, pixels, wordnet))


def measured(
    chosen: argparse.Namespace,
    name: str,
    turn: int,
    tested: tuple[str, ...],
    items: tuple[SketchItem, ...],
    pixels: np.ndarray,
    wordnet: WordNet,
) -> dict[str, Any]:
    """Train an arm without two classes and measure it on them."""
    method, more = ARMS[name]
    seen = tuple(sorted({item.label for item in items} - set(tested)))

    def part(keep: Any) -> SplitPictures:
        rows = np.array([row for row, item in enumerate(items) if keep(item)])
        return SplitPictures(tuple(items[row] for row in rows), pixels, rows)

    training = part(lambda item: item.label in seen)
    config = SearchTrainConfig(
        method=method,
        options={"weights": "imagenet", **more},
        size=SIZE,
        steps=chosen.steps,
        sketches=SKETCHES,
        photos=PHOTOS,
        seed=turn,
        average=0.99,
        classes=seen,
        tested=tested,
    )
    torch.manual_seed(turn)
    network = build(method, config.options, seen, SIZE)
    feed = SketchFeed(config, training, training, semantic_prior(seen, wordnet))
    folder = chosen.runs / "sbka" / f"{turn}-{list(ARMS).index(name)}"
    network = fit(Fabric(accelerator="cpu", devices=1, precision="bf16-mixed"), network, feed, Run(folder, config, "0"))
    network.eval()

    @torch.no_grad()
    def vectors(some: np.ndarray) -> np.ndarray:
        return network(tensor_of(some)).float().numpy()

    unseen, mixed = part(lambda item: item.label in tested), part(lambda item: item.label in tested or not item.sketch)
    by_unseen, by_mixed = embed(vectors, unseen, SILENT), embed(vectors, mixed, SILENT)
    row: dict[str, Any] = {
        PLAIN: precision(by_unseen, unseen, tested, 0),
        CLUSTERS: precision(by_unseen, unseen, tested, None),
        MIXED: precision(by_mixed, mixed, tested, 0),
        MIXED_CLUSTERS: precision(by_mixed, mixed, tested, None),
    }
    if name == BOTH:
        number = auto_clusters(len(unseen.of(False)))
        row["by number"] = {
            f"{factor:g}": round(precision(by_unseen, unseen, tested, max(1, round(number * factor))), 4)
            for factor in FACTORS
        }
        noise = np.random.default_rng(turn).standard_normal(by_unseen.shape).astype(np.float32)
        noise /= np.linalg.norm(noise, axis=1, keepdims=True)
        row["random"] = [round(precision(noise, unseen, tested, clusters), 4) for clusters in (0, None)]
    return row


# --- The page ---

TEXT = """## SBKA on objects never seen

PACS-small (five classes), two left out in turn, {turns} times; EfficientNet-Lite0 at {size} pixels, {steps} steps of
{sketches} sketches and {photos} photos for every arm. Each rung of the ladder has all below it: classification, fixed
teacher, modality loss, bidirectional phase. Interpolated AP, mean over the two classes and over turns; in
brackets the paired difference from the arm named behind it, with its 95 % interval (Student's t). *One by one*: against
the photos of the two classes; *clusters*: the same with the one-to-many matching of the method, which sees the whole
gallery; *all classes*: against the photos of all five. `experiments/sbka/pacs.py` has the rules, written before.
"""


def section(root: Path) -> str:
    """What the record beside this script says; `root` is the repository's."""
    record = read_record(root, "sbka/pacs")
    settings, rows = record["settings"], record["rows"]
    lines, run = [], {row["arm"] for row in rows}
    for arm in (arm for arm in ARMS if arm in run):
        before = BEFORE.get(arm)
        while before is not None and before not in run:
            before = BEFORE.get(before)
        own = [row for row in rows if row["arm"] in (arm, before)]
        cells = []
        for metric in (PLAIN, CLUSTERS, MIXED, MIXED_CLUSTERS):
            (one,) = [one for one in paired(own, metric, before or arm) if one.arm == arm]
            text = f"{one.value[0]:.3f}"
            if one.difference is not None:
                text += " ({:+.3f} [{:+.3f}, {:+.3f}])".format(*one.difference)
            cells.append(text)
        lines.append([arm, before or "–", *cells])
    parts = [TEXT.format(**{**settings, "turns": len({row["seed"] for row in rows})})]
    parts.append(markdown(["arm", "compared with", PLAIN, CLUSTERS, MIXED, MIXED_CLUSTERS], lines) + "\n")
    if dropped := [arm for arm in ARMS if arm not in run]:
        parts.append(f"Not run, for their cost: {', '.join(dropped)}.\n")
    both = [row for row in rows if row["arm"] == BOTH]
    if both:
        gain = seed_interval([row[CLUSTERS] - row[PLAIN] for row in both])
        numbers = ", ".join(
            f"{factor} times: {np.mean([row['by number'][factor] for row in both]):.3f}"
            for factor in both[0]["by number"]
        )
        noise = [np.mean([row["random"][place] for row in both]) for place in (0, 1)]
        parts.append(
            "Clusters less one by one on the bidirectional arm: {:+.3f} [{:+.3f}, {:+.3f}]. ".format(*gain)
            + f"Clusters in other numbers than the one chosen without labels: {numbers}. Random vectors: "
            f"{noise[0]:.3f} one by one, {noise[1]:.3f} with clusters.\n"
        )
    return "\n".join(parts)


if __name__ == "__main__":
    main()
