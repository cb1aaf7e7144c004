"""Does holding a detector to one attention help on forgeries of another family, and does masking move it less?

    PYTHONPATH=experiments python experiments/acmf/consistency.py RECORD.json --data DATA [--work DIR] [--runs DIR]

Two arms, mu = 0 and 1, mask at one half and learn family A of `sets` from the same pairs, steps and first weights; mu
is the weight of the attention term. The first is the masking experiment's: with the same --runs and --steps it is read.
"""

from pathlib import Path

import numpy as np
import torch
from acmf.sets import (
    B_BLENDS,
    B_SWAPS,
    A,
    Arm,
    faces_of,
    options,
    pool_of,
    rows_of,
    settings,
    sha256_of_faces,
    tensor_of,
    test_of,
    trained,
)
from common import Record, as_dict, one_thread, paired_table, score, take_auc

from unmask.forgery.acmf import ACMF, attention_distance
from unmask.lab.detection.held_out import EvalFace

WITHOUT = "mu = 0"
ARMS = {WITHOUT: Arm(0.5), "mu = 1": Arm(0.5, consistency=1.0)}
DISTANCE = "attention distance"
BATCH = 64
TEXT = """## acmf: consistent attention

AUC, and the mean squared distance between the attention on clean and on masked test faces (smaller is more consistent).
The `light` backbone learns family A, masked at 0.5, with and without the attention term, and is tested on other
subjects, on A and on B. In brackets the difference from the first line, seed by seed, with its 95 % interval.
"""


def distance(detector: ACMF, faces: list[EvalFace], seed: int) -> float:
    """Of all faces, real and forged; the masks are the same for all arms of a seed."""
    generator = torch.Generator().manual_seed(seed)
    crops = tensor_of(np.stack([face.crop for face in faces]))
    return sum(len(some) * attention_distance(detector, some, generator) for some in crops.split(BATCH)) / len(crops)


def main() -> None:
    chosen = options(__doc__ or "").parse_args()
    one_thread()
    training, test = (faces_of(chosen, split) for split in ("train", "test"))
    arms = {name: as_dict(arm) for name, arm in ARMS.items()}
    record = Record(chosen.record, settings(chosen, arms=arms), sha256_of_faces(training, test))
    for seed in range(chosen.seeds):
        left = [name for name in ARMS if not record.has(arm=name, seed=seed)]
        if not left:
            continue
        pool, held = pool_of(training, seed), test_of(test, seed)
        for name in left:
            detector = trained(chosen, ARMS[name], pool, seed)
            logits = score(detector, held)
            areas = {family: take_auc(held, logits, family) for family in (A, B_BLENDS, B_SWAPS)}
            record.add(arm=name, seed=seed, **areas, **{DISTANCE: distance(detector, held, seed)})


def section(root: Path) -> str:
    """What the record beside this script says; `root` is the repository's."""
    rows = rows_of(root, "consistency")
    return f"{TEXT}\n{paired_table(rows, (A, B_BLENDS, B_SWAPS, DISTANCE), WITHOUT)}\n"


if __name__ == "__main__":
    main()
