"""One artist's drawings against another's pictures: does the embedded pack know things that it was never shown?

    unmask search concepts --out openmoji --sketches openmoji
    PYTHONPATH=experiments python experiments/sbka/drawn_concepts.py RECORD.json --data openmoji

OpenMoji's line drawings, a style that the pack was never trained on, of the concepts that it was never trained on, are
searched for among Fluent's shaded pictures of these concepts, and of all concepts. Beside the pack stands the network
that it began from, EfficientNet-Lite0 with ImageNet's weights, with the same pictures. Some concepts look alike (an
aeroplane, one taking off, one landing); each counts as a class of its own. Intervals are by bootstrap over concepts.
Nothing is chosen by these numbers.
"""

import argparse
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import Record, one_thread, read_record, rounded

from unmask.cli.options import progress_bars
from unmask.datasets.sketch_sets import read_items
from unmask.lab.methods import build
from unmask.lab.metrics import mean_interval
from unmask.lab.search.feed import SplitPictures, tensor_of
from unmask.lab.search.measuring import embed
from unmask.lab.search.pictures import picture_store
from unmask.lab.search.task import SearchTask
from unmask.packs import load_pack
from unmask.progress import SILENT
from unmask.retrieval.matching import squared_distances
from unmask.tables import markdown

PACK, BACKBONE = "sketch_objects", "the network it began from"
GALLERIES = ("concepts never seen", "all concepts")
RANKS = (1, 5, 10)


def backbone(size: int) -> Callable[[np.ndarray], np.ndarray]:
    """What the pack began from, from uint8 (n, size, size, 3) to vectors (n, D)."""
    network = build("sketch-triplet", {"weights": "imagenet"}, (), size).eval()

    @torch.no_grad()
    def vectors(pixels: np.ndarray) -> np.ndarray:
        return network(tensor_of(pixels)).numpy()

    return vectors


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("record", type=Path)
    options.add_argument("--data", type=Path, required=True, help="set of `unmask search concepts --sketches openmoji`")
    options.add_argument("--work", type=Path, default=Path("runs/work"))
    options.add_argument("--pack", default=PACK)
    chosen = options.parse_args()
    one_thread()
    card = load_pack(chosen.pack).card
    system = SearchTask().system(chosen.pack)
    items = tuple(sorted(read_items(chosen.data)[0], key=lambda item: item.name))
    items = tuple(item for item in items if item.sketch or item.path.stem == "shaded")
    with progress_bars() as progress:
        pixels = picture_store(items, system.config.size, 0.0, chosen.work, 1, progress)
    names = "\n".join(f"{item.label} {item.path.name} {item.path.stat().st_size}" for item in items)
    settings = {"pack": [card.name, card.version, card.sha256], "size": system.config.size}
    record = Record(chosen.record, settings, hashlib.sha256(names.encode()).hexdigest())
    every = SplitPictures(items, pixels, np.arange(len(items)))
    tested = set(system.config.tested)
    for name, network in ((BACKBONE, backbone(system.config.size)), (PACK, system.vectors)):
        if record.has(system=name):
            continue
        vectors = embed(network, every, SILENT)
        sketches = np.array([place for place in every.of(True) if items[place].label in tested])
        for gallery in GALLERIES:
            photos = np.array(
                [place for place in every.of(False) if gallery == GALLERIES[1] or items[place].label in tested]
            )
            record.add(system=name, gallery=gallery, **ranks(vectors, sketches, photos, every))


def ranks(vectors: np.ndarray, sketches: np.ndarray, photos: np.ndarray, every: SplitPictures) -> dict[str, Any]:
    """Shares of the sketches whose picture is among the first, and the mean reciprocal rank, with intervals."""
    labels = np.array([item.label for item in every.items])
    distances = squared_distances(vectors[sketches], vectors[photos])
    own = np.array([np.flatnonzero(labels[photos] == label)[0] for label in labels[sketches]])
    rank = (distances < np.take_along_axis(distances, own[:, None], 1)).sum(1) + 1
    numbers = {f"among the first {most}": (rank <= most).astype(float) for most in RANKS}
    numbers["mean reciprocal rank"] = 1 / rank
    measured = {
        name: rounded(mean_interval(values, labels[sketches].tolist(), 1000)) for name, values in numbers.items()
    }
    return {**measured, "sketches": len(sketches), "pictures": len(photos)}


TEXT = """## One artist's drawings against another's pictures

{sketches} line drawings by OpenMoji, of concepts that the embedded pack was never trained on and in a style that it
never saw, searched for among Fluent's shaded pictures of these concepts, and of all; beside it the network that it
began from. Shares with 95 % intervals (bootstrap over concepts). `experiments/sbka/drawn_concepts.py`, pack {pack}.
"""


def section(root: Path) -> str:
    """What the record beside this script says; `root` is the repository's."""
    record = read_record(root, "sbka/drawn_concepts")
    rows = record["rows"]
    metrics = [*(f"among the first {most}" for most in RANKS), "mean reciprocal rank"]
    lines = [
        [
            row["gallery"],
            str(row["pictures"]),
            row["system"],
            *("{:.2f} [{:.2f}, {:.2f}]".format(*row[m]) for m in metrics),
        ]
        for row in sorted(rows, key=lambda row: GALLERIES.index(row["gallery"]))
    ]
    head = TEXT.format(sketches=rows[0]["sketches"], pack=" ".join(record["settings"]["pack"][:2]))
    return f"{head}\n{markdown(['pictures of', 'number', 'system', *metrics], lines)}\n"


if __name__ == "__main__":
    main()
