"""ForgeryNIR's grid of twelve cells and the step from one modality to the other, on simulated near-infrared faces.

This is a simulation: no picture comes from a near-infrared camera. `unmask.forging.near_infrared` gives pictures in
visible light the look of such a camera's, and says by what; four up-sampling operators stand in for the generators
(`unmask.forging.upsampling`). "single" and "multi" are forgeries from one and from several training epochs of each
generator: here an epoch is a fixed draw of the operator's parameters and its strength, of which "single" has one and
"multi" four. "std" is clean, "rand" perturbed once, "mix" two to four times.

One detector is trained for every subset and seed, and asked about all cells it belongs to: std about std, rand and mix;
rand about rand and mix; mix about mix; single and multi kept apart. Two more learn "std, multi" in visible light, and
in both modalities. Both branches name the generator (`second=all`). Fusion weights, and the threshold of the best
balanced accuracy, are of validation subjects of the training subset; all cells have the same test subjects.

Rules, written before the runs. The grid says what a perturbation costs only if a detector without one is good: the AUCs
of single or multi, or the generator accuracies, are called uninformative on the page unless std to std reaches an AUC
of 0.9, or names the generator of half the forged pictures (chance: a quarter), in every seed, on validation subjects. A
cell is below std to std if the 95 % paired interval of the difference in AUC lies below 0; two seeds seldom decide
that of small differences. Nothing is chosen but by these.

    PYTHONPATH=experiments python experiments/hfc/near_infrared.py experiments/hfc/near_infrared.json --data DATA
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from common import (
    Forge,
    Laps,
    Record,
    by_seed,
    config_for,
    data_hash,
    has_record,
    make_held,
    make_pool,
    minutes_of,
    one_thread,
    paired_table,
    parser,
    read_record,
    reals,
    seeds_of,
    train,
    without_record,
)
from hfc.sets import (
    MOST,
    SOURCES,
    answers,
    best_threshold,
    build,
    classes_of,
    decided,
    evenly,
    perturbed,
    settings,
)

from unmask.datasets.face_store import StoredFace
from unmask.forgery.hfc import HFC, class_report
from unmask.forging.near_infrared import simulate_nir
from unmask.forging.perturbation import RULES, Rule
from unmask.forging.upsampling import FINGERPRINTS, Fingerprint, fingerprint
from unmask.lab.detection.held_out import EvalFace
from unmask.lab.metrics import auc

TITLE = "HFC-MFFD: ForgeryNIR's grid, simulated"
SIZE = 128
BATCH_PAIRS = 8
OPTIONS: dict[str, Any] = {"branches": "both", "second": "all"}
KNOWS, NAMES = 0.9, 0.5  # AUC and generator accuracy of std to std on validation, from which on a grid is read
VALIDATED = ("AUC, validation", "generator accuracy, validation")
Variety = Literal["single", "multi"]
Modality = Literal["near-infrared", "visible", "both"]
STRENGTHS: dict[Variety, tuple[float, ...]] = {"single": (0.5,), "multi": (0.5, 0.3, 0.4, 0.6)}  # an epoch each
TESTED: dict[Rule, tuple[Rule, ...]] = {"std": ("std", "rand", "mix"), "rand": ("rand", "mix"), "mix": ("mix",)}
METRICS = {
    "accuracy": "accuracy",
    "generator accuracy": "generator_accuracy",
    "class accuracy": "class_accuracy",
}
COLUMNS = ("AUC", *METRICS, "balanced accuracy")


@dataclass(frozen=True)
class Subset:
    """One of the sets of pictures, for training or test."""

    rule: Rule
    variety: Variety
    modality: Modality = "near-infrared"


GRID = tuple(Subset(rule, variety) for variety in STRENGTHS for rule in RULES)
NIR, VISIBLE, BOTH = (Subset("std", "multi", modality) for modality in ("near-infrared", "visible", "both"))
PARTS: dict[str, tuple[Subset, ...]] = {"grid": GRID, "modalities": (VISIBLE, BOTH)}
DETECTORS = tuple(subset for part in PARTS.values() for subset in part)


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


def numbers(detector: HFC, validation: Sequence[EvalFace], faces: Sequence[EvalFace]) -> dict[str, float]:
    """All that is measured in a cell; the threshold is of the training subset's validation subjects."""
    known = classes_of(validation, FINGERPRINTS)
    logits, classes = answers(detector, validation)
    threshold = best_threshold(known, logits)
    named = class_report(classes, known)["generator_accuracy"]
    measures = dict(zip(VALIDATED, (auc((known > 0).numpy(), logits), named), strict=True))
    logits, classes = answers(detector, faces)
    families = classes_of(faces, FINGERPRINTS)
    judged = decided(classes, logits, threshold)
    rows = evenly(families)
    report, balanced = class_report(judged, families), class_report(judged[rows], families[rows])["balanced_accuracy"]
    measures |= {"AUC": auc((families > 0).numpy(), logits), **{name: report[key] for name, key in METRICS.items()}}
    return measures | {"balanced accuracy": balanced}


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
    laps, options = Laps(), parser(__doc__ or "")
    by_seed(options)
    options.add_argument("--part", choices=tuple(PARTS), help="run the detectors of one part alone")
    options.add_argument("--pairs", type=int, default=2000)
    options.set_defaults(steps=800, seeds=2)
    chosen = options.parse_args()
    one_thread()
    splits = [reals(chosen.data, chosen.work, split, SOURCES, SIZE, most) for split, most in MOST.items()]
    known = settings(chosen) | {"size": SIZE, "batch_pairs": BATCH_PAIRS, **OPTIONS, "strengths": STRENGTHS}
    record = Record(chosen.record, known, data_hash([face for faces in splits for face in faces]))
    for seed in seeds_of(chosen):
        left = {
            trained: [shown for shown in tested_on(trained) if not record.has(**key_of(trained, shown, seed))]
            for trained in (PARTS[chosen.part] if chosen.part else DETECTORS)
        }
        if not any(left.values()):
            continue
        training, validation, test = (Faces(faces, seed) for faces in splits)

        def held(faces: Faces, subset: Subset, seed: int = seed) -> list[EvalFace]:
            return make_held(faces.of(subset), kinds_of(subset.variety), SIZE, seed, partial(perturbed, subset.rule))

        for trained, cells in left.items():
            if not cells:
                continue
            degrade = partial(perturbed, trained.rule)
            pool = make_pool(training.of(trained), kinds_of(trained.variety), chosen.pairs, SIZE, seed, degrade)
            detector = build(HFC, seed, generators=FINGERPRINTS, **OPTIONS)
            config = config_for("hfc", SIZE, pool, chosen.steps, seed, options=OPTIONS, batch_pairs=BATCH_PAIRS)
            folder = chosen.runs / "hfc-near-infrared" / f"{seed}-{DETECTORS.index(trained)}"
            validated = held(validation, trained)
            train(detector, pool, folder, config, validated)
            for shown in cells:
                measures = numbers(detector, validated, held(test, shown))
                record.add(**key_of(trained, shown, seed), **measures, **laps.lap())


def uninformative(rows: Sequence[Mapping[str, Any]], variety: Variety) -> str:
    """What the rule says of a grid: which of its columns cannot be read, or nothing."""
    clean = [
        row
        for row in rows
        if (row["variety"], row["arm"], row["trained on"]) == (variety, "std to std", NIR.modality)
        and row["tested on"] == NIR.modality
    ]
    limits = dict(zip(VALIDATED, (KNOWS, NAMES), strict=True))
    poor = {name: min(row[name] for row in clean) for name in limits if any(row[name] < limits[name] for row in clean)}
    return "".join(
        f"**Uninformative**: {name} of std to std is only {value:.3f} in one of the seeds, below the "
        f"{limits[name]:g} that the rule asks for.\n\n"
        for name, value in poor.items()
    )


def modalities(rows: Sequence[Mapping[str, Any]]) -> str:
    """The tables from one modality to the other, if the detectors of the other one were trained."""
    if {row["trained on"] for row in rows} == {NIR.modality}:
        return "Detectors of visible light, and of both modalities, are left out for their cost."

    def crossed(shown: Subset) -> str:
        arms = [
            {**row, "arm": f"trained on {row['trained on']}"}
            for row in rows
            if row["variety"] == shown.variety and row["arm"] == "std to std" and row["tested on"] == shown.modality
        ]
        return paired_table(arms, COLUMNS, f"trained on {shown.modality}")

    return f"""From one modality to the other (std, several epochs), in brackets the difference from training on the
tested one. Tested on simulated near-infrared:

{crossed(NIR)}

Tested in visible light:

{crossed(VISIBLE)}"""


def section(root: Path) -> str:
    """What the record beside this script says; `root` is the repository's."""
    if not has_record(root, "hfc/near_infrared"):
        return without_record(TITLE)
    record = read_record(root, "hfc/near_infrared")
    settings, rows = record["settings"], record["rows"]

    def grid(variety: Variety) -> str:
        some = [
            row for row in rows if row["variety"] == variety and row["trained on"] == row["tested on"] == NIR.modality
        ]
        return uninformative(rows, variety) + paired_table(some, COLUMNS, "std to std")

    return f"""## {TITLE}

A simulation: pictures in visible light are given the look of a near-infrared camera's, and four up-sampling operators
stand in for generators; what is scored here says nothing about a near-infrared camera. The small trunk with image and
cosine branches at {settings["size"]} px, {settings["steps"]} steps of {settings["batch_pairs"]} pairs for every
training subset. std is clean, rand perturbed once, mix two to four times. Tested on other subjects, four forged
pictures, one of each generator, for every real one, as in ForgeryNIR; balanced accuracy counts both for a half. Both
branches name the generator (`second=all`); chance is a quarter. Accuracies are at the threshold that validation
subjects of the training subset choose. Rule, written before the runs: a grid is read if std to std has an AUC of
{KNOWS:g}, and a generator accuracy of {NAMES:g}, in every seed on validation subjects; else it is marked as
uninformative. In brackets: the difference from training and testing on std, seed by seed, with its 95 % interval, which
is wide with two seeds. All runs took {minutes_of(rows)}.

Forgeries of a single epoch, trained on one subset to be tested on another:

{grid("single")}

Forgeries of several epochs:

{grid("multi")}

{modalities(rows)}
"""


if __name__ == "__main__":
    main()
