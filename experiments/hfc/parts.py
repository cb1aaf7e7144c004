"""Which parts of the hierarchical classifier earn their place: branches, patches, their share of the loss, fusion.

All arms learn the four families of `sets` from the same pairs, in as many steps, and what two networks have in common
starts from the same weights. The test split's subjects are new; perturbed test pictures are those of ForgeryNIR's rand
and mix, training pictures are clean. Fusion weights are fitted on validation subjects; "equal fusion" is the whole
method's network with its weights set to zero, not another one.

    PYTHONPATH=experiments python experiments/hfc/parts.py experiments/hfc/parts.json --data DATA
"""

from functools import partial
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
    take_auc,
    train,
)
from hfc.sets import (
    BATCH_PAIRS,
    FAMILIES,
    SIZE,
    answers,
    build,
    classes_of,
    evenly,
    faces_of,
    kinds_of,
    perturbed,
    settings,
)

from unmask.forgery.hfc import HFC, class_report
from unmask.forging.perturbation import RULES, Rule
from unmask.lab.detection.held_out import EvalFace
from unmask.lab.metrics import auc

WHOLE, EQUAL = "all branches", "equal fusion"
BRANCHES: dict[str, dict[str, Any]] = {
    "image": {"branches": "image"},
    "cosines": {"branches": "dct"},
    "image and cosines": {"branches": "both"},
}
LOOKS: dict[str, dict[str, Any]] = {
    "whole picture, no patches": {"view": "global"},
    "no patch loss": {"patch_weight": 0.0},
    "patch loss alone": {"patch_weight": 1.0},
}
ARMS: dict[str, dict[str, Any]] = {WHOLE: {}, **BRANCHES, **LOOKS}
ACCURACIES = {
    "balanced accuracy": "balanced_accuracy",
    "generator accuracy": "generator_accuracy",
    "class accuracy": "class_accuracy",
}


def numbers(detector: HFC, tests: dict[Rule, list[EvalFace]]) -> dict[str, float]:
    """All that is measured of a detector."""
    measures: dict[str, float] = {}
    for rule, faces in tests.items():
        logits, classes = answers(detector, faces)
        families = classes_of(faces, FAMILIES)
        measures[f"AUC {rule}"] = auc((families > 0).numpy(), logits)
        if rule == "std":
            measures |= {f"AUC {family}": take_auc(faces, logits, family) for family in FAMILIES}
            rows = evenly(families)
            report = class_report(classes[rows], families[rows])
            measures |= {name: report[key] for name, key in ACCURACIES.items()}
    return measures


def main() -> None:
    options = parser(__doc__ or "")
    options.add_argument("--pairs", type=int, default=1500)
    options.set_defaults(steps=250)
    chosen = options.parse_args()
    one_thread()
    training, validation, test = (faces_of(chosen, split) for split in ("train", "val", "test"))
    record = Record(chosen.record, settings(chosen, arms=ARMS), data_hash([*training, *validation, *test]))
    for seed in range(chosen.seeds):
        left = [arm for arm in ARMS if not record.has(arm=arm, seed=seed)]
        if not record.has(arm=EQUAL, seed=seed) and WHOLE not in left:
            left.append(WHOLE)
        if not left:
            continue
        pool = make_pool(training, kinds_of(training), chosen.pairs, SIZE, seed)
        held = make_held(validation, kinds_of(validation), SIZE, seed)
        tests: dict[Rule, list[EvalFace]] = {
            rule: make_held(test, kinds_of(test), SIZE, seed, partial(perturbed, rule)) for rule in RULES
        }
        for arm in left:
            detector = build(HFC, seed, generators=FAMILIES, **ARMS[arm])
            config = config_for("hfc", SIZE, pool, chosen.steps, seed, options=ARMS[arm], batch_pairs=BATCH_PAIRS)
            folder = chosen.runs / "hfc-parts" / f"{seed}-{list(ARMS).index(arm)}"
            train(detector, pool, folder, config, held)
            if not record.has(arm=arm, seed=seed):
                shares = {
                    f"share of {name}": float(share)
                    for name, share in zip(detector.names, detector.first.fusion.softmax(0), strict=True)
                }
                size = sum(parameter.numel() for parameter in detector.parameters()) / 1e6
                record.add(arm=arm, seed=seed, **numbers(detector, tests), **shares, **{"million parameters": size})
            if arm == WHOLE:
                for level in (detector.first, detector.second):
                    assert level is not None
                    level.fusion.zero_()
                record.add(arm=EQUAL, seed=seed, **numbers(detector, tests))


def section(root: Path) -> str:
    """What the record beside this script says; `root` is the repository's."""
    record = read_record(root, "hfc/parts")
    settings, rows = record["settings"], record["rows"]
    perturbed, kinds = ["AUC std", "AUC rand", "AUC mix"], [f"AUC {family}" for family in FAMILIES]

    def some(*arms: str) -> list[dict[str, Any]]:
        return [row for row in rows if row["arm"] in (WHOLE, *arms)]

    named = np.mean([row["generator accuracy"] for row in rows if row["arm"] == "cosines"])
    shares = [f"share of {name}" for name in ("image", "dct", "descriptors")]
    return f"""## HFC-MFFD: branches, patches and fusion

The small trunk on faces of {settings["size"]} px, {settings["steps"]} steps of {settings["batch_pairs"]} pairs. Four
families stand in for generators: a transposed convolution's checkerboard and over-sharpening over the whole picture, a
low-pass over one feature of the face, and swapped faces. Test subjects appear in no training picture. "rand" and "mix"
perturb the test pictures once, or two to four times; "std" and all training pictures are clean. Beside other branches
the cosines have no say in naming the generator (`second=no-dct`), as in the reference code's script with fitted
weights; alone they name it, and are right in {named:.3f} of the forged pictures. In brackets: the
difference from a table's first arm, seed by seed, with its 95 % interval. The runs are short: what is compared is what
is learnt in that time.

{paired_table(some(*BRANCHES), [*perturbed, *ACCURACIES], WHOLE)}

Patches against the whole picture with as many parameters, and the share of the patches in the loss
({WHOLE}: 0.6). "smooth" is the local forgery.

{paired_table(some(*LOOKS), [*perturbed, *kinds, *ACCURACIES], WHOLE)}

Fusion weights fitted on validation subjects against equal ones, in the same networks:

{paired_table(some(EQUAL), [*perturbed, *ACCURACIES], WHOLE)}

The weights fitted at the first level, and sizes:

{paired_table([row for row in rows if row["arm"] != EQUAL], [*shares, "million parameters"], WHOLE)}
"""


if __name__ == "__main__":
    main()
