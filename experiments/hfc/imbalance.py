"""Does asking for real or forged first, and for the generator second, help where real pictures are few?

Four networks of one branch (cosine transforms of patches) on the families of `sets`: two levels, or one softmax over
real and all generators, each with and without classes weighted inversely to their frequency. Real and forged pictures
are drawn at 1:1, 1:4 and 1:16: the engine draws pairs, of which the real picture is kept with probability 1, 1/4 or
1/16, the same ones in all arms; pairs a step are chosen so that about eight pictures are left. A flat network is read
in two ways: the likeliest class, or real against all generators together, as the two levels do. Tested on other
subjects, on as many real pictures as forged ones.

    PYTHONPATH=experiments python experiments/hfc/imbalance.py experiments/hfc/imbalance.json --data DATA
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
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
    train,
)
from hfc.sets import FAMILIES, SIZE, answers, build, classes_of, evenly, faces_of, kinds_of, settings
from torch import Tensor

from unmask.forgery.hfc import HFC, Rule, class_report
from unmask.lab.metrics import auc
from unmask.networks.contract import Batch

PAIRS_A_STEP = {1: 4, 4: 6, 16: 8}  # by how many forged pictures there are for a real one
BRANCH = "dct"
TWO = "two levels"
ARMS: dict[str, dict[str, Any]] = {
    TWO: {},
    "two levels, weighted": {"balance": True},
    "flat": {"hierarchy": "flat"},
    "flat, weighted": {"hierarchy": "flat", "balance": True},
}
METRICS = {
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


def readings(arm: str) -> dict[str, Rule]:
    """The ways to read an arm's probabilities, by the name of the row."""
    if ARMS[arm].get("hierarchy") != "flat":
        return {arm: "two-level"}
    return {f"{arm}, likeliest class": "argmax", f"{arm}, real or forged first": "two-level"}


def main() -> None:
    options = parser(__doc__ or "")
    options.add_argument("--pairs", type=int, default=2000)
    options.set_defaults(steps=250)
    chosen = options.parse_args()
    one_thread()
    training, test = (faces_of(chosen, split) for split in ("train", "test"))
    known = settings(chosen, arms=ARMS, branch=BRANCH, pairs_a_step=PAIRS_A_STEP)
    record = Record(chosen.record, known, data_hash([*training, *test]))
    wanted = [(imbalance, arm) for imbalance in PAIRS_A_STEP for arm in ARMS]
    for seed in range(chosen.seeds):
        left = [
            (imbalance, arm)
            for imbalance, arm in wanted
            if not all(record.has(arm=name, seed=seed, imbalance=imbalance) for name in readings(arm))
        ]
        if not left:
            continue
        pool = make_pool(training, kinds_of(training), chosen.pairs, SIZE, seed)
        held = make_held(test, kinds_of(test), SIZE, seed)
        families = classes_of(held, FAMILIES)
        rows = evenly(families)
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
            folder = chosen.runs / "hfc-imbalance" / f"{seed}-{imbalance}-{list(ARMS).index(arm)}"
            train(detector, pool, folder, config)
            logits, classes = answers(detector, held)
            for name, rule in readings(arm).items():
                if record.has(arm=name, seed=seed, imbalance=imbalance):
                    continue
                report = class_report(classes[rows], families[rows], rule)
                measures = {metric: report[key] for metric, key in METRICS.items()}
                area = auc((families > 0).numpy(), logits)
                record.add(arm=name, seed=seed, imbalance=imbalance, AUC=area, **measures)


def section(root: Path) -> str:
    """What the record beside this script says; `root` is the repository's."""
    record = read_record(root, "hfc/imbalance")
    settings, rows = record["settings"], record["rows"]
    parts = [
        f"""## HFC-MFFD: two levels or one, by how many real pictures there are

One branch (cosine transforms of patches, {settings["size"]} px), {settings["steps"]} steps of about eight pictures.
Real and forged ones are drawn at the ratio that stands above a table; the four families are equally frequent among the
forged. "weighted": classes weigh inversely to their frequency in the loss. A flat network is read in two ways, by the
likeliest class and by real against all generators together. Tested on other subjects, on as many real as forged
pictures. In brackets: the difference from {TWO}, seed by seed, with its 95 % interval.
"""
    ]
    for imbalance in PAIRS_A_STEP:
        some = [row for row in rows if row["imbalance"] == imbalance]
        parts.append(f"Real to forged 1:{imbalance}\n\n{paired_table(some, [*METRICS, 'AUC'], TWO)}\n")
    return "\n".join(parts)


if __name__ == "__main__":
    main()
