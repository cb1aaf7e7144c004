"""Does holding a detector to one attention help on forgeries of another family, and does masking move it less?

    PYTHONPATH=experiments python experiments/acmf/consistency.py experiments/acmf/consistency.json --data DATA

Two arms, mu = 0 and 1, mask at one half and learn the known decoders of `sets` from the same pairs, steps and first
weights; mu is the weight of the attention term. The first is the masking experiment's: with the same --runs and --steps
it is read, and its cost is in that record.

Rules, written before the runs. Both arms are compared only if their AUC on the known decoders, on validation subjects,
is at least 0.98 in the mean over seeds. The claim that the term makes attention independent of the mask reproduces if
the 95 % paired interval of the difference in distance, mu = 1 less 0, lies below 0; the claim that it helps on what was
not trained on, if that of the AUC on self-blends lies above 0; on the other side the claim is contradicted, else this
experiment does not decide it. Nothing is chosen here.
"""

from pathlib import Path

import numpy as np
import torch
from acmf.sets import (
    ENOUGH,
    TESTED,
    VALIDATED,
    Arm,
    faces_of,
    learnt,
    options,
    pool_of,
    rows_of,
    settings,
    sha256_of_faces,
    tensor_of,
    test_areas,
    test_of,
    trained,
    validation_areas,
    validation_of,
)
from common import (
    Laps,
    Record,
    as_dict,
    has_record,
    minutes_of,
    one_thread,
    paired_table,
    seeds_of,
    without_record,
)

from unmask.forgery.acmf import ACMF, attention_distance
from unmask.lab.detection.held_out import EvalFace

TITLE = "acmf: consistent attention"
WITHOUT = "mu = 0"
ARMS = {WITHOUT: Arm(0.5), "mu = 1": Arm(0.5, consistency=1.0)}
DISTANCE = "attention distance"
BATCH = 64
TEXT = """## {title}

AUC, and the mean squared distance between the attention on clean and on masked test faces (smaller is more consistent).
The `light` backbone learns known decoders, masked at 0.5, with and without the attention term, for {steps:,} steps, and
is tested on other subjects, on the same kinds of pictures as above. Rules, written before the runs: the arms are
compared if their AUC on known decoders is at least {enough:g} on validation subjects; the term makes attention
independent of the mask if the interval of the difference in distance lies below 0, and helps if that of the AUC on
self-blends lies above 0. {learnt} In brackets the difference from the first line, seed by seed, with its 95 % interval.
All runs took {cost}, beside those of the masking experiment.
"""


def distance(detector: ACMF, faces: list[EvalFace], seed: int) -> float:
    """Of all faces, real and forged; the masks are the same for all arms of a seed."""
    generator = torch.Generator().manual_seed(seed)
    crops = tensor_of(np.stack([face.crop for face in faces]))
    return sum(len(some) * attention_distance(detector, some, generator) for some in crops.split(BATCH)) / len(crops)


def main() -> None:
    laps, chosen = Laps(), options(__doc__ or "").parse_args()
    one_thread()
    training, validation, test = (faces_of(chosen, split) for split in ("train", "val", "test"))
    arms = {name: as_dict(arm) for name, arm in ARMS.items()}
    record = Record(chosen.record, settings(chosen, arms=arms), sha256_of_faces(training, validation, test))
    for seed in seeds_of(chosen):
        left = [name for name in ARMS if not record.has(arm=name, seed=seed)]
        if not left:
            continue
        pool, held, tested = pool_of(training, seed), validation_of(validation, seed), test_of(test, seed)
        for name in left:
            detector = trained(chosen, ARMS[name], pool, seed)
            areas = validation_areas(detector, held) | test_areas(detector, tested)
            record.add(arm=name, seed=seed, **areas, **{DISTANCE: distance(detector, tested, seed)}, **laps.lap())


def section(root: Path) -> str:
    """What the record beside this script says; `root` is the repository's."""
    if not has_record(root, "acmf/consistency"):
        return without_record(TITLE)
    settings, rows = rows_of(root, "consistency")
    text = TEXT.format(
        title=TITLE,
        steps=settings["steps"],
        enough=ENOUGH,
        learnt=learnt(rows, ARMS),
        cost=minutes_of(rows),
    )
    return f"{text}\n{paired_table(rows, (VALIDATED, *TESTED, DISTANCE), WITHOUT)}\n"


if __name__ == "__main__":
    main()
