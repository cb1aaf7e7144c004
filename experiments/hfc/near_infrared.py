"""ForgeryNIR's grid of twelve cells and the step from one modality to the other, on simulated near-infrared faces.

This is a simulation: no picture comes from a near-infrared camera. `unmask.forging.near_infrared` gives pictures in
visible light the look of such a camera's, and says by what; four up-sampling operators stand in for the generators
(`unmask.forging.upsampling`). "single" and "multi" are forgeries from one and from several training epochs of each
generator: here an epoch is a fixed draw of the operator's parameters and its strength, of which "single" has one and
"multi" four. "std" is clean, "rand" perturbed once, "mix" two to four times.

One detector is trained for every subset and seed, and asked about all cells it belongs to: std about std, rand and mix;
rand about rand and mix; mix about mix; single and multi kept apart. Two more learn "std, multi" in visible light, and
in both modalities. Fusion weights are fitted on validation subjects of the training subset; all cells have the same
test subjects.

    PYTHONPATH=experiments python experiments/hfc/near_infrared.py experiments/hfc/near_infrared.json --data DATA
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from common import (
    Forge,
    Record,
    config_for,
    data_hash,
    make_held,
    make_pool,
    one_thread,
    paired_table,
    parser,
    read_record,
    train,
)
from hfc.sets import BATCH_PAIRS, SIZE, answers, build, classes_of, evenly, faces_of, perturbed, settings

from unmask.datasets.face_store import StoredFace
from unmask.forgery.hfc import HFC, class_report
from unmask.forging.near_infrared import simulate_nir
from unmask.forging.perturbation import RULES, Rule
from unmask.forging.upsampling import FINGERPRINTS, Fingerprint, fingerprint
from unmask.lab.detection.held_out import EvalFace
from unmask.lab.metrics import auc

BRANCHES = "both"
Variety = Literal["single", "multi"]
Modality = Literal["near-infrared", "visible", "both"]
STRENGTHS: dict[Variety, tuple[float, ...]] = {"single": (0.5,), "multi": (0.5, 0.3, 0.4, 0.6)}  # an epoch each
TESTED: dict[Rule, tuple[Rule, ...]] = {"std": ("std", "rand", "mix"), "rand": ("rand", "mix"), "mix": ("mix",)}
METRICS = {
    "accuracy": "accuracy",
    "generator accuracy": "generator_accuracy",
    "class accuracy": "class_accuracy",
}


@dataclass(frozen=True)
class Subset:
    """One of the sets of pictures, for training or test."""

    rule: Rule
    variety: Variety
    modality: Modality = "near-infrared"


GRID = tuple(Subset(rule, variety) for variety in STRENGTHS for rule in RULES)
NIR, VISIBLE, BOTH = (Subset("std", "multi", modality) for modality in ("near-infrared", "visible", "both"))


def tested_on(trained: Subset) -> list[Subset]:
    """The subsets that a detector is asked about."""
    cells = [replace(trained, rule=rule) for rule in TESTED[trained.rule]] if trained in GRID else []
    crossed = [NIR, VISIBLE] if trained in (NIR, VISIBLE, BOTH) else []
    return list(dict.fromkeys([*cells, *crossed]))


def infrared(faces: Sequence[StoredFace], seed: int) -> list[StoredFace]:
    """Faces as a near-infrared camera might show them, at the size at which they are used; real and forged share it."""
    simulated = []
    for number, face in enumerate(faces):
        pixels = simulate_nir(np.random.default_rng([seed, 4, number]), face.pixels(), face.mesh)
        encoded = cv2.imencode(".png", pixels)[1].ravel()
        simulated.append(replace(face, encoded=encoded, window=(0, 0, len(pixels))))
    return simulated


def generated(
    kind: Fingerprint, variety: Variety, rng: np.random.Generator, face: StoredFace
) -> tuple[np.ndarray, np.ndarray]:
    """A generator's picture, from one of its epochs."""
    pixels, strengths = face.pixels(), STRENGTHS[variety]
    epoch = int(rng.integers(len(strengths)))
    fixed = np.random.default_rng([FINGERPRINTS.index(kind), epoch])
    return fingerprint(fixed, pixels, kind, strengths[epoch]), np.ones(pixels.shape[:2], np.float32)


def kinds_of(variety: Variety) -> dict[str, Forge]:
    """The four generators."""
    return {kind: partial(generated, kind, variety) for kind in FINGERPRINTS}


class Faces:
    """Real faces of a split as one seed shows them in either modality."""

    def __init__(self, faces: Sequence[StoredFace], seed: int) -> None:
        self._faces: dict[Modality, list[StoredFace]] = {"visible": list(faces), "near-infrared": infrared(faces, seed)}
        # Every other face in the one modality, the rest in the other.
        self._faces["both"] = [pair[n % 2] for n, pair in enumerate(zip(*self._faces.values(), strict=True))]

    def of(self, subset: Subset) -> list[StoredFace]:
        """Those a subset is made from."""
        return self._faces[subset.modality]


def numbers(detector: HFC, faces: Sequence[EvalFace]) -> dict[str, float]:
    """All that is measured in a cell."""
    logits, classes = answers(detector, faces)
    families = classes_of(faces, FINGERPRINTS)
    report = class_report(classes, families)
    rows = evenly(families)
    balanced = class_report(classes[rows], families[rows])["balanced_accuracy"]
    measures = {name: report[key] for name, key in METRICS.items()}
    return {"AUC": auc((families > 0).numpy(), logits), **measures, "balanced accuracy": balanced}


def key_of(trained: Subset, shown: Subset, seed: int) -> dict[str, Any]:
    """What a row of the record is found by."""
    return {
        "arm": f"{trained.rule} to {shown.rule}",
        "variety": trained.variety,
        "trained on": trained.modality,
        "tested on": shown.modality,
        "seed": seed,
    }


def main() -> None:
    options = parser(__doc__ or "")
    options.add_argument("--pairs", type=int, default=1200)
    options.set_defaults(steps=200)
    chosen = options.parse_args()
    one_thread()
    splits = [faces_of(chosen, split) for split in ("train", "val", "test")]
    known = settings(chosen, branches=BRANCHES, strengths=STRENGTHS)
    record = Record(chosen.record, known, data_hash([face for faces in splits for face in faces]))
    for seed in range(chosen.seeds):
        left = {
            trained: [shown for shown in tested_on(trained) if not record.has(**key_of(trained, shown, seed))]
            for trained in (*GRID, VISIBLE, BOTH)
        }
        if not any(left.values()):
            continue
        training, validation, test = (Faces(faces, seed) for faces in splits)

        def held(faces: Faces, subset: Subset, seed: int = seed) -> list[EvalFace]:
            return make_held(faces.of(subset), kinds_of(subset.variety), SIZE, seed, partial(perturbed, subset.rule))

        for number, (trained, cells) in enumerate(left.items()):
            if not cells:
                continue
            degrade = partial(perturbed, trained.rule)
            pool = make_pool(training.of(trained), kinds_of(trained.variety), chosen.pairs, SIZE, seed, degrade)
            detector = build(HFC, seed, generators=FINGERPRINTS, branches=BRANCHES)
            config = config_for(
                "hfc", SIZE, pool, chosen.steps, seed, options={"branches": BRANCHES}, batch_pairs=BATCH_PAIRS
            )
            folder = chosen.runs / "hfc-near-infrared" / f"{seed}-{number}"
            train(detector, pool, folder, config, held(validation, trained))
            for shown in cells:
                record.add(**key_of(trained, shown, seed), **numbers(detector, held(test, shown)))


def section(root: Path) -> str:
    """What the record beside this script says; `root` is the repository's."""
    record = read_record(root, "hfc/near_infrared")
    settings, rows = record["settings"], record["rows"]
    metrics = ["AUC", *METRICS, "balanced accuracy"]

    def grid(variety: Variety) -> str:
        some = [
            row for row in rows if row["variety"] == variety and row["trained on"] == row["tested on"] == NIR.modality
        ]
        return paired_table(some, metrics, "std to std")

    def crossed(shown: Subset) -> str:
        arms = [
            row | {"arm": f"trained on {row['trained on']}"}
            for row in rows
            if row["variety"] == shown.variety and row["arm"] == "std to std" and row["tested on"] == shown.modality
        ]
        return paired_table(arms, metrics, f"trained on {shown.modality}")

    return f"""## HFC-MFFD: ForgeryNIR's grid, simulated

A simulation: pictures in visible light are given the look of a near-infrared camera's, and four up-sampling operators
stand in for generators; what is scored here says nothing about a near-infrared camera. The small trunk with image and
cosine branches at {settings["size"]} px, {settings["steps"]} steps of {settings["batch_pairs"]} pairs for every
training subset. std is clean, rand perturbed once, mix two to four times. Tested on other subjects, four forged
pictures, one of each generator, for every real one, as in ForgeryNIR; balanced accuracy counts both for a half. The
generator is named by the image branch alone (`second=no-dct`), so that the cosines have no say in it. In brackets: the
difference from training and testing on std, seed by seed, with its 95 % interval.

Forgeries of a single epoch, trained on one subset to be tested on another:

{grid("single")}

Forgeries of several epochs:

{grid("multi")}

From one modality to the other (std, several epochs), in brackets the difference from training on the tested one.
Tested on simulated near-infrared:

{crossed(NIR)}

Tested in visible light:

{crossed(VISIBLE)}
"""


if __name__ == "__main__":
    main()
