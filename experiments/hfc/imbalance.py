"""Does asking for real or forged first, and for the generator second, help where real pictures are few?

Two networks of one branch (cosine transforms of patches) on the families of `sets`: two levels, or one softmax over
real and all generators. Real and forged pictures are drawn at 1:1, 1:4 and 1:16: the engine draws pairs, of which the
real picture is kept with probability 1, 1/4 or 1/16, the same ones in both arms; pairs a step are chosen so that about
eight pictures are left. Both say log P(forged) / P(real), the flat one by its generators together. How rare real
pictures were shifts that number for all pictures alike, so AUC is what decides, and accuracies are taken at the
threshold of the best balanced accuracy on validation subjects. Arms that weigh classes in the loss are left out: they
change that shift, which is measured by neither.

Rules, written before the runs. The claim is said to reproduce if the 95 % paired interval of the difference in AUC, two
levels less flat, lies above 0 at 1:4 and at 1:16; to be contradicted if it lies below 0 at both; else this experiment
does not decide it. 1:1 is shown to see whether the difference grows with the imbalance. Steps were chosen on one
seed at 1:4, on validation subjects and training pairs: with 500 both arms told the two families that are all over the
picture from real ones (AUC of at least 0.98), but the flat one was still learning (AUC on training pairs 0.82, two
levels 0.85; with 1,000 steps 0.87 and 0.88), so that 800 are run. Nothing else is chosen.

A difference that is there on training pairs too may be one of how fast an arm learns. A second record, of 2,000 steps
and four seeds, asks for that: where its interval, at a ratio at which the first record's lies above 0, does not, the
page says that what was seen is the speed.

    PYTHONPATH=experiments python experiments/hfc/imbalance.py experiments/hfc/imbalance.json --data DATA
    PYTHONPATH=experiments python experiments/hfc/imbalance.py experiments/hfc/imbalance_long.json --data DATA \\
        --steps 2000 --seeds 4
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import (
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
    paired,
    paired_table,
    parser,
    read_record,
    seeds_of,
    take_auc,
    train,
    without_record,
)
from hfc.sets import (
    FAMILIES,
    SIZE,
    answers,
    best_threshold,
    build,
    classes_of,
    decided,
    evenly,
    faces_of,
    kinds_of,
    settings,
)
from torch import Tensor

from unmask.forgery.hfc import HFC, class_report
from unmask.lab.detection.held_out import EvalFace
from unmask.lab.detection.pairs_pool import Pool
from unmask.lab.metrics import auc
from unmask.networks.contract import Batch

TITLE = "HFC-MFFD: two levels or one, by how many real pictures there are"
PAIRS_A_STEP = {1: 4, 4: 6, 16: 8}  # by how many forged pictures there are for a real one
BRANCH = "dct"
TWO, FLAT = "two levels", "flat"
ARMS: dict[str, dict[str, Any]] = {TWO: {}, FLAT: {"hierarchy": "flat"}}
SEEN = 200  # training pairs that a trained network is asked about
LEARNT = "AUC, training pairs"
ACCURACIES = {
    "balanced accuracy": "balanced_accuracy",
    "real recall": "real_recall",
    "generator accuracy": "generator_accuracy",
    "class accuracy": "class_accuracy",
}


class FewReals(HFC):
    """Learns from the forged pictures of a batch and from one real picture in `imbalance`."""

    imbalance: int = 1

    def _drawn(self, batch: Batch, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        labels = batch["labels"]
        kept = (labels > 0) | (torch.rand(len(labels), generator=generator) < 1 / self.imbalance)
        return {name: value[kept] if value.ndim else value for name, value in batch.items()}

    def fit_statistics(self, batches: Iterable[Batch]) -> None:
        generator = torch.Generator().manual_seed(0)
        super().fit_statistics(self._drawn(batch, generator) for batch in batches)

    def training_losses(self, batch: Batch) -> dict[str, Tensor]:
        # The engine seeds the global generator at every step: the same pictures are kept in all arms.
        return super().training_losses(self._drawn(batch))


def learnt(detector: HFC, pool: Pool) -> float:
    """AUC on some of the pairs that it was trained on."""
    crops = torch.from_numpy(pool.pixels[:SEEN].reshape(-1, SIZE, SIZE, 3)).permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        logits = torch.cat([detector(some).logit for some in crops.split(64)])
    return auc(np.tile([0, 1], len(crops) // 2), logits.numpy())


def numbers(detector: HFC, validation: list[EvalFace], test: list[EvalFace]) -> dict[str, float]:
    """All that is measured on subjects that were not trained on."""
    threshold = best_threshold(classes_of(validation, FAMILIES), answers(detector, validation)[0])
    logits, classes = answers(detector, test)
    families = classes_of(test, FAMILIES)
    rows = evenly(families)
    report = class_report(decided(classes, logits, threshold)[rows], families[rows])
    return {
        "AUC": auc((families > 0).numpy(), logits),
        **{f"AUC {family}": take_auc(test, logits, family) for family in FAMILIES},
        **{name: report[key] for name, key in ACCURACIES.items()},
        "threshold": threshold,
    }


def main() -> None:
    laps, options = Laps(), parser(__doc__ or "")
    by_seed(options)
    options.add_argument("--pairs", type=int, default=2000)
    options.set_defaults(steps=800, seeds=8)
    chosen = options.parse_args()
    one_thread()
    training, validation, test = (faces_of(chosen, split) for split in ("train", "val", "test"))
    known = settings(chosen, arms=ARMS, branch=BRANCH, pairs_a_step=PAIRS_A_STEP)
    record = Record(chosen.record, known, data_hash([*training, *validation, *test]))
    for seed in seeds_of(chosen):
        left = [
            (imbalance, arm)
            for imbalance in PAIRS_A_STEP
            for arm in ARMS
            if not record.has(arm=arm, seed=seed, imbalance=imbalance)
        ]
        if not left:
            continue
        pool = make_pool(training, kinds_of(training), chosen.pairs, SIZE, seed)
        held, tested = (make_held(faces, kinds_of(faces), SIZE, seed) for faces in (validation, test))
        for imbalance, arm in left:
            detector = build(FewReals, seed, generators=FAMILIES, branches=BRANCH, **ARMS[arm])
            detector.imbalance = imbalance
            config = config_for(
                "hfc",
                SIZE,
                pool,
                chosen.steps,
                seed,
                options={**ARMS[arm], "branches": BRANCH, "imbalance": imbalance},
                batch_pairs=PAIRS_A_STEP[imbalance],
            )
            name = f"{seed}-{imbalance}-{list(ARMS).index(arm)}-{chosen.steps}"
            folder = chosen.runs / "hfc-imbalance" / name
            train(detector, pool, folder, config)
            measures = {**numbers(detector, held, tested), LEARNT: learnt(detector, pool)}
            record.add(arm=arm, seed=seed, imbalance=imbalance, **measures, **laps.lap())


def section(root: Path) -> str:
    """What the record beside this script says; `root` is the repository's."""
    if not has_record(root, "hfc/imbalance"):
        return without_record(TITLE)
    record = read_record(root, "hfc/imbalance")
    settings, rows = record["settings"], record["rows"]
    parts = [
        f"""## {TITLE}

One branch (cosine transforms of patches, {settings["size"]} px), {settings["steps"]} steps of about eight pictures.
Real and forged ones are drawn at the ratio that stands above a table; the four families are equally frequent among the
forged. "flat" is one softmax over real and all generators; its logit is of all generators together against real.
Tested on other subjects. AUC decides: it does not depend on how frequent real pictures were in training, as an accuracy
at a fixed logit does. Accuracies, on as many real as forged pictures, are at the threshold that validation subjects
choose for each network. The last column says how well training pictures are told apart: where it differs, an arm has
learnt less in that time. Rule, written before the runs: the claim is said to reproduce if the interval of the AUC's
difference lies above 0 at 1:4 and at 1:16. In brackets: the difference from flat, seed by seed, with its 95 %
interval. All runs took {minutes_of(rows)}.
"""
    ]
    metrics = ["AUC", *(f"AUC {family}" for family in FAMILIES), *ACCURACIES, LEARNT]
    for imbalance in PAIRS_A_STEP:
        some = [row for row in rows if row["imbalance"] == imbalance]
        if some:
            parts.append(f"Real to forged 1:{imbalance}\n\n{paired_table(some, metrics, FLAT)}\n")
    return "\n".join([*parts, *long_run(root, rows)])


def above(rows: Sequence[Mapping[str, Any]], imbalance: int) -> bool:
    """Whether the interval of the difference in AUC lies above 0 at a ratio."""
    own = [row for row in rows if row["imbalance"] == imbalance]
    (one,) = [one for one in paired(own, "AUC", FLAT) if one.arm == TWO]
    return one.difference is not None and one.difference[1] > 0


def long_run(root: Path, before: Sequence[Mapping[str, Any]]) -> list[str]:
    """What the record of more steps says, if there is one."""
    if not has_record(root, "hfc/imbalance_long"):
        return [
            "Where the arms differ on test subjects they differ as much on training pairs: the two levels may only "
            "learn faster. Runs of 2,000 steps, which would tell, have not been made.\n"
        ]
    record = read_record(root, "hfc/imbalance_long")
    rows = record["rows"]
    ratios = [ratio for ratio in PAIRS_A_STEP if any(row["imbalance"] == ratio for row in rows)]
    speed = [f"1:{ratio}" for ratio in ratios if above(before, ratio) and not above(rows, ratio)]
    says = f" At {' and '.join(speed)} what was seen above is the speed of learning, by the rule." if speed else ""
    tables = (
        f"Real to forged 1:{ratio}\n\n"
        f"{paired_table([row for row in rows if row['imbalance'] == ratio], ['AUC', LEARNT], FLAT)}\n"
        for ratio in ratios
    )
    return [
        f"The same in {record['settings']['steps']:,} steps, to tell what is learnt from how fast.{says} All runs took "
        f"{minutes_of(rows)}.\n",
        *tables,
    ]


if __name__ == "__main__":
    main()
