"""The embedded detector before and after robust training: how much clean AUC for how much under attack?

`bash experiments/plain/hardening.sh WORKPLACE` trains the arms and calls this. One of the pack's two specialists, the
one for swaps, blends, composites, lip-sync and reenactment, goes on for 120 steps of 8 pairs from its shipped weights:
ordinarily, and by TRADES with one-step attacks (fast) of 2/255. Everything else is equal: pairs, steps, batches,
learning rate, seeds. Beside them stands the specialist as it is shipped.

Measured on faces of the test split, as many authentic as forged by the families it was trained on, drawn evenly, the
same for all arms: the AUC of clean crops; what the everyday attacker leaves, JPEG of quality 50 and half the
resolution; and that of clean crops attacked with the network's own gradients within 1, 2, 4 and 8 of 255 (PGD on the
margin of the two classes from a uniform start; of all steps the best is kept). All faces are attacked: forged ones to
pass for authentic, authentic ones for forged. On the first seed four times as many steps check that steps are enough.

Rules, written before the run:

1. Robust training helps if the 95 % interval of the paired difference of the AUC under attack at 2/255 from ordinary
   training, over seeds, lies above 0.
2. The pack is worth hardening (both specialists, their folds, the calibration) if in addition the mean clean AUC is at
   most 0.02 below that of ordinary training, and the mean AUC under attack at 2/255 is at least 0.6.
3. Nothing is chosen on these faces: steps, batch, budget and learning rate were fixed beforehand.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import Record, data_hash, one_thread, paired, paired_table, read_record
from torch import Tensor

from unmask.cli.options import progress_bars
from unmask.lab.detection.config import DetectionPaths, DetectionTrainConfig
from unmask.lab.detection.evaluate import families_of
from unmask.lab.detection.held_out import CLEAN, CONDITIONS, eval_faces
from unmask.lab.metrics import auc
from unmask.lab.robust.losses import margin
from unmask.lab.robust.pgd import pgd
from unmask.lab.robust.pictures import Attackable, as_pictures, even_rows
from unmask.lab.run import config_of
from unmask.lab.train import load_network

SHIPPED, ORDINARY, HARDENED = "as shipped", "ordinary training", "robust training"
LEVELS = (1, 2, 4, 8)
LONGER = 4  # times as many steps, to see whether more help
STEP = 0.223  # of the budget
BATCH = 16
ATTACKED = {level: f"attacked, {level}/255" for level in LEVELS}
CHECK = "attacked, 2/255, more steps"
CLEAN_AT_MOST, ATTACKED_AT_LEAST = 0.02, 0.6


def held_out(paths: DetectionPaths, config: DetectionTrainConfig, most: int) -> tuple[dict[str, Tensor], Tensor, str]:
    """By condition the same test faces, (N, 3, S, S) in [0, 1]; their labels (N,); the data's hash."""
    with progress_bars() as progress:
        faces = paths.faces(progress)
    known = [name for name in families_of(faces, "test") if name in config.families]
    pictures, labels = {}, torch.empty(0)
    for condition in CONDITIONS:
        shown = eval_faces(faces, "test", known, condition, config.size, config.margin, most=40)
        shown = [face for face in shown if face.label or "@" not in face.source]
        classes = np.array([face.label for face in shown], np.int64)
        rows = even_rows(classes, most, 0)
        pictures[condition] = as_pictures(np.stack([shown[row].crop for row in rows]))
        labels = torch.from_numpy(classes[rows])
    return pictures, labels, data_hash([face for face in faces if face.sample.split == "test"])


@torch.no_grad()
def score(network: Attackable, pictures: Tensor) -> np.ndarray:
    """The logit of "forged" over "real", (N,)."""
    logits = torch.cat([network.heads(part)[0] for part in pictures.split(BATCH)])
    return (logits[:, 1] - logits[:, 0]).numpy()


def attacked(network: Attackable, pictures: Tensor, labels: Tensor, level: int, steps: int) -> Tensor:
    """Pictures within level/255 that are judged wrongly, if the attack finds any."""
    epsilon, parts = level / 255, list[Tensor]()
    for number, rows in enumerate(torch.arange(len(pictures)).split(BATCH)):
        parts.append(
            pgd(
                network.heads,
                pictures[rows],
                lambda heads, rows=rows: -margin(heads[0], labels[rows]),  # type: ignore[misc]
                epsilon=epsilon,
                step=STEP * epsilon,
                steps=steps,
                generator=torch.Generator().manual_seed(number),
                best=True,
            )
        )
    return torch.cat(parts)


def measure(run: Path, pictures: dict[str, Tensor], labels: Tensor, steps: int, check: bool) -> dict[str, float]:
    """AUCs of a run's network."""
    network = load_network(run).eval()
    for weight in network.parameters():
        weight.requires_grad_(False)
    truth = labels.numpy()
    numbers = {name: auc(truth, score(network, shown)) for name, shown in pictures.items()}  # type: ignore[arg-type]

    def under_attack(level: int, steps: int) -> float:
        moved = attacked(network, pictures[CLEAN], labels, level, steps)  # type: ignore[arg-type]
        return auc(truth, score(network, moved))  # type: ignore[arg-type]

    numbers |= {ATTACKED[level]: under_attack(level, steps) for level in LEVELS}
    if check:
        numbers[CHECK] = under_attack(2, LONGER * steps)
    return numbers


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("record", type=Path, help="JSON file to write; arms that it holds are not run again")
    options.add_argument("--data", type=Path, required=True, help="folder of known collections")
    options.add_argument("--work", type=Path, default=Path("runs/work"), help="where the face store is")
    options.add_argument("--start", type=Path, required=True, help="run folder of the specialist as it is shipped")
    options.add_argument("--hardened", required=True, help="run folders after robust training, without -SEED")
    options.add_argument("--ordinary", required=True, help="run folders after ordinary training, without -SEED")
    options.add_argument("--seeds", type=int, default=3)
    options.add_argument("--faces", type=int, default=60, help="test faces")
    options.add_argument("--attack-steps", type=int, default=10)
    chosen = options.parse_args()
    one_thread()
    config = config_of(Path(f"{chosen.hardened}-0"))
    assert isinstance(config, DetectionTrainConfig)
    pictures, labels, digest = held_out(DetectionPaths(data=chosen.data, work=chosen.work), config, chosen.faces)
    settings: dict[str, Any] = {
        "faces": len(labels),
        "attack_steps": chosen.attack_steps,
        "families": config.families,
        "robust": config.robust,
        **{name: getattr(config, name) for name in ("steps", "batch_pairs", "learning_rate")},
    }
    record = Record(chosen.record, settings, digest)
    arms = {SHIPPED: chosen.start, ORDINARY: chosen.ordinary, HARDENED: chosen.hardened}
    for seed in range(chosen.seeds):
        for arm, run in arms.items():
            if not record.has(arm=arm, seed=seed) and (arm != SHIPPED or not seed):
                folder = run if arm == SHIPPED else Path(f"{run}-{seed}")
                numbers = measure(folder, pictures, labels, chosen.attack_steps, seed == 0)
                record.add(arm=arm, seed=seed, **numbers)


TEXT = """## The embedded detector before and after robust training

The specialist for swaps, blends, composites, lip-sync and reenactment, {steps} steps of {batch_pairs} pairs on from its
shipped weights: ordinarily, and by TRADES with one-step attacks of 2/255. AUC on {faces} faces of the test split, half
of them authentic: clean; after JPEG of quality 50 and at half the resolution, the everyday attacker; and attacked with
the network's own gradients, {attack_steps} steps. Means over seeds, in brackets the paired difference from ordinary
training with its 95 % interval (Student's t); what is shipped has no seed, and no interval. The faces are few: an AUC
has a standard error of some .05, differences on the same faces less. The other specialist was not trained. So many
steps are what two cores do in minutes: that longer robust training helps is not ruled out.
`experiments/plain/hardening.py` has the rules, written before the run.
"""


def section(root: Path) -> str:
    """What the record beside this script says; `root` is the repository's."""
    record = read_record(root, "plain/hardening")
    rows: Sequence[dict[str, Any]] = record["rows"]
    shipped = next(row for row in rows if row["arm"] == SHIPPED)
    # One row of what is shipped stands for all seeds.
    seeds = sorted({row["seed"] for row in rows if row["arm"] == HARDENED})
    everything = [*({**shipped, "seed": seed} for seed in seeds), *(row for row in rows if row["arm"] != SHIPPED)]
    by_arm = {name: {one.arm: one for one in paired(everything, name, ORDINARY)} for name in (CLEAN, ATTACKED[2])}
    clean, under = by_arm[CLEAN][HARDENED].difference, by_arm[ATTACKED[2]][HARDENED]
    assert clean is not None and under.difference is not None
    helps = under.difference[1] > 0
    worth = helps and clean[0] >= -CLEAN_AT_MOST and under.value[0] >= ATTACKED_AT_LEAST
    checks = {row["arm"]: row[CHECK] for row in rows if CHECK in row}
    longer = "; ".join(f"{arm} {value:.3f}" for arm, value in checks.items())
    outcome = [
        f"Rule 1, robust training helps at 2/255: {'yes' if helps else 'not seen'}.",
        f"Rule 2, worth hardening both specialists: {'yes' if worth else 'no'}.",
        f"With {LONGER} times as many steps at 2/255, first seed: {longer}.",
    ]
    parts = [TEXT.format(**record["settings"])]
    parts.append(paired_table(everything, CONDITIONS, ORDINARY) + "\n")
    parts.append(paired_table(everything, tuple(ATTACKED.values()), ORDINARY) + "\n")
    parts.append("\n".join(f"- {line}" for line in outcome) + "\n")
    return "\n".join(parts)


if __name__ == "__main__":
    main()
