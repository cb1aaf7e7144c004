"""Does ANCRA make a network harder to fool, and does the published way of asking say so?

scikit-learn's digits, enlarged to 16 pixels, in the layout of Fashion-MNIST; the ResNet of the task
"image_classification" with two of its four stages and 8 channels, so that reverse attention stands behind both blocks
of the last stage. Three bases (PGD-AT, TRADES, MART), each alone, with the negative contrast (ANC), with reverse
attention (RA) and with both, and on TRADES the contrast symmetric too. Everything else is equal: budget, attack, steps,
batches, seeds. The weights of the last step are measured; nothing is chosen on the test pictures.

Measured on 300 test pictures, per arm and seed: natural accuracy; the accuracy that is left by PGD on the final logits,
judged by the final logits ("repo-style": what the reference code measures); the worst case per picture over all attacks
that fit the network (`unmask.lab.robust.evaluation`), judged by what is served. The twin of an arm with RA is the same
arm and seed without it.

Rules, written before the run:

1. Masking is reproduced if, on every seed, attacks on the final logits flatter RA alone by more than 15 points, and
   the base by less than 5 (the sheet's limits): the accuracy of the final logits that the best of these leaves, less
   what the best attack that looks past them leaves (`AttackedEvaluation.masking_gap`).
2. A part helps if the 95 % interval of the paired difference of worst cases from its base, over seeds, lies above 0.
3. The asymmetry helps if that of asymmetric minus symmetric does.
4. Repo-style numbers decide nothing; they stand beside the worst case.

Trials on seed 0 were seen before, of TRADES with and without RA at 220 steps and of thirteen arms at 200. They set the
budget, the learning rate and the number of steps: at 200 PGD-AT and MART had hardly begun to learn (natural accuracy
0.38 and 0.67). Look at the losses in `metrics.csv` before trusting a record: they should have flattened.

Budget: 600 steps of 64 pictures (thirty epochs), training attack of 5 steps, L-infinity 0.2; one seed's share has a
binomial error of at most 2.9 points. An arm takes one to three minutes of one core, the whole some ninety minutes. A
killed run goes on where it stood: training by its checkpoint, arms by the record.

    PYTHONPATH=experiments python experiments/ancra/robust.py experiments/ancra/robust.json
"""

import argparse
import struct
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from common import Record, one_thread, paired, read_record
from lightning_fabric import Fabric
from safetensors.torch import load_file
from sklearn.datasets import load_digits

from unmask.lab.classification.config import ClassificationTrainConfig
from unmask.lab.classification.data import PictureSet, read_pictures
from unmask.lab.classification.network import ResNet
from unmask.lab.classification.task import PictureFeed, PicturePlan
from unmask.lab.engine import fit
from unmask.lab.robust import evaluation
from unmask.lab.robust.config import AttackedOptions, RobustOptions
from unmask.lab.robust.pictures import AttackedPictures, as_pictures
from unmask.lab.robust.training import AdversarialTraining
from unmask.lab.run import Run
from unmask.tables import markdown

BASES = {"PGD-AT": "pgd-at", "TRADES": "trades", "MART": "mart"}
PARTS: dict[str, dict[str, Any]] = {
    "": {},
    "+ANC": {"anc": True},
    "+RA": {"ra": True},
    "+both": {"anc": True, "ra": True},
}
SYMMETRIC: dict[str, dict[str, Any]] = {
    "+ANC, symmetric": {"anc": True, "anc_alpha": 0.5},
    "+both, symmetric": {"anc": True, "ra": True, "anc_alpha": 0.5},
}
ARMS: dict[str, dict[str, Any]] = {
    f"{base} {part}".strip(): {"robust": name, **options}
    for base, name in BASES.items()
    for part, options in (PARTS | (SYMMETRIC if base == "TRADES" else {})).items()
}
EPSILON, ATTACK_STEPS, WIDTH, SIDE, TRAIN = "0.2", 5, 8, 16, 1_400
NATURAL, REPO, WORST, GAP = "natural", "repo-style", "worst case", "gap"


def base_of(arm: str) -> str:
    """An arm's base."""
    return arm.split(" +")[0]


class SmallResNet(ResNet):
    """Two stages in place of four."""

    stages = 2


def digits(folder: Path) -> PictureSet:
    """The digits as IDX files in a folder, read back."""
    loaded = load_digits()
    pictures = (loaded.images * 255 / 16).round().astype(np.uint8)
    pictures = np.stack([cv2.resize(one, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR) for one in pictures])
    order = np.random.default_rng(0).permutation(len(pictures))
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in (("train", order[:TRAIN]), ("t10k", order[TRAIN:])):
        for kind, array in (("images-idx3", pictures[rows]), ("labels-idx1", loaded.target[rows].astype(np.uint8))):
            head = struct.pack(f">{1 + array.ndim}I", 0x0800 + array.ndim, *array.shape)
            (folder / f"{name}-{kind}-ubyte").write_bytes(head + array.tobytes())
    return read_pictures(folder)


def train(data: PictureSet, arm: str, seed: int, chosen: argparse.Namespace) -> SmallResNet:
    """An arm's network in evaluation mode; one that is trained is read."""
    options = RobustOptions(attack_epsilon=EPSILON, attack_steps=ATTACK_STEPS, **ARMS[arm])
    config = ClassificationTrainConfig(
        options={"width": WIDTH},
        size=SIDE,
        steps=chosen.steps,
        batch=64,
        augment="none",
        learning_rate=0.02,
        average=0.9,
        robust=options.settings(),
        seed=seed,
        classes=data.classes,
    )
    torch.manual_seed(seed)
    network = SmallResNet(width=WIDTH, classes=data.classes)
    network.reverse_attention = options.ra
    network.objective = AdversarialTraining(RobustOptions.of(config.robust))
    folder = chosen.runs / "ancra" / f"{seed}-{list(ARMS).index(arm)}"
    run = Run(folder, config, data.sha256)
    if not (folder / "weights.safetensors").is_file():
        fit(
            Fabric(accelerator="cpu", devices=1, precision="32-true"),
            network,
            PictureFeed(PicturePlan(config, data)),
            run,
        )
    network.load_state_dict(load_file(folder / "weights.safetensors"))
    return network.eval()


def measure(data: PictureSet, arm: str, seed: int, chosen: argparse.Namespace) -> dict[str, Any]:
    """What an arm's row holds beside its name."""
    twin = arm.replace("+both", "+ANC").replace("+RA", "").strip()
    pictures = data.splits["test"].take(np.arange(chosen.pictures))
    masked = ARMS[arm].get("ra", False)
    subject = AttackedPictures(
        train(data, arm, seed, chosen),
        as_pictures(pictures.pixels),
        torch.from_numpy(pictures.labels),
        data.classes,
        RobustOptions(attack_epsilon=EPSILON, **ARMS[arm]).settings(),
        train(data, twin, seed, chosen) if masked else None,
    )
    result = evaluation.evaluate_attacked(subject, AttackedOptions(attack_steps=40, attack_queries=300))
    return {
        NATURAL: result.outcomes[0].accuracy,
        REPO: result.outcome(evaluation.FINAL).final_accuracy,
        WORST: result.worst.accuracy,
        GAP: result.masking_gap,
        "echo": result.echo,
        "attacks": {one.attack: round(one.accuracy, 4) for one in result.outcomes},
        "warnings": list(result.warnings),
    }


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("record", type=Path, help="JSON file to write; arms that it holds are not run again")
    options.add_argument("--runs", type=Path, default=Path("runs/experiments"), help="where runs are kept")
    options.add_argument("--seeds", type=int, default=3)
    options.add_argument("--steps", type=int, default=600, help="optimiser steps of every arm")
    options.add_argument("--pictures", type=int, default=300, help="test pictures")
    options.add_argument("--minutes", type=float, default=float("inf"), help="begin no arm after so many")
    options.add_argument("--base", action="append", choices=list(BASES), help="run arms of this base alone; repeatable")
    chosen = options.parse_args()
    one_thread()
    began, data = time.monotonic(), digits(chosen.runs / "ancra" / "digits")
    known = {"steps": chosen.steps, "pictures": chosen.pictures, "epsilon": EPSILON, "attack_steps": ATTACK_STEPS}
    known |= {"width": WIDTH, "arms": ARMS}
    record = Record(chosen.record, known, data.sha256)
    # Every arm of a seed before the next seed; TRADES first, which the rules speak of most.
    order = sorted(
        (arm for arm in ARMS if base_of(arm) in (chosen.base or BASES)), key=lambda arm: base_of(arm) != "TRADES"
    )
    for seed in range(chosen.seeds):
        for arm in order:
            if not record.has(arm=arm, seed=seed) and time.monotonic() - began < 60 * chosen.minutes:
                record.add(arm=arm, seed=seed, **measure(data, arm, seed, chosen))


# --- The page ---

TEXT = """## ANCRA on digits: what each part adds, repo-style and in the worst case

scikit-learn's digits at {side} pixels, a residual network of two stages, {steps} steps of 64 pictures, budget
{epsilon} (L-infinity) and {attack_steps} attack steps in training: this shows the mechanism, and does not measure the
published networks, whose weights are not to be had. {pictures} test pictures an arm and seed. *Repo-style*: PGD of 40
steps on the final logits, judged by them, as the reference code measures. *Worst case*: per picture over all attacks
that fit the network, judged by what is served (with reverse attention the first auxiliary logits). *Gap*: by how much
the best attack on the final logits is weaker than the best one that looks past them, on cross-entropies and judged by
the final logits; large where gradients are masked. Means over seeds; in brackets the paired difference from the base
with its 95 % interval (Student's t). One share has a binomial error of {error:.1f} points. The script
`experiments/ancra/robust.py` has the rules, written before the run.
"""


def section(root: Path) -> str:
    """What the record beside this script says; `root` is the repository's."""
    record = read_record(root, "ancra/robust")
    settings, rows = record["settings"], record["rows"]
    text = TEXT.format(side=SIDE, error=100 * (0.25 / settings["pictures"]) ** 0.5, **settings)
    run = [base for base in BASES if any(base_of(row["arm"]) == base for row in rows)]
    if left := [base for base in BASES if base not in run]:
        text += f"\nNot run: {', '.join(left)}, to give the other arms their steps and seeds.\n"
    parts = [text]
    for base in run:
        own = [row for row in rows if base_of(row["arm"]) == base]
        lines = []
        metrics = (NATURAL, REPO, WORST, GAP)
        by_metric = {metric: {one.arm: one for one in paired(own, metric, base)} for metric in metrics}
        for arm in dict.fromkeys(row["arm"] for row in own):
            cells = []
            for metric in metrics:
                one = by_metric[metric][arm]
                cell = f"{100 * one.value[0]:.1f}"
                if one.difference is not None and metric != GAP:
                    cell += " ({:+.1f} [{:+.1f}, {:+.1f}])".format(*(100 * value for value in one.difference))
                cells.append(cell)
            lines.append([arm, str(by_metric[WORST][arm].seeds), *cells])
        parts.append(markdown(["arm", "seeds", *metrics], lines) + "\n")
    parts.append(_outcomes(rows, run))
    return "\n".join(parts)


def _outcomes(rows: list[dict[str, Any]], run: list[str]) -> str:
    """What the rules say of the bases that were run, TRADES among them."""

    def gaps(arm: str) -> list[float]:
        return [row[GAP] for row in rows if row["arm"] == arm]

    masked = {base: min(gaps(f"{base} +RA")) > 0.15 and max(gaps(base)) < 0.05 for base in run}
    seen = ", ".join(f"{base} {'yes' if value else 'no'}" for base, value in masked.items())
    lines = [f"Rule 1, masking reproduced on every seed: {seen}."]
    for base in run:
        own = [row for row in rows if base_of(row["arm"]) == base]
        helps = [
            f"{one.arm.removeprefix(base).strip()} {'yes' if one.difference[1] > 0 else 'not seen'}"
            for one in paired(own, WORST, base)
            if one.difference is not None
        ]
        lines.append(f"Rule 2, helps in the worst case on {base}: {', '.join(helps)}.")
    asymmetry = []
    for part in ("+ANC", "+both"):
        symmetric = f"TRADES {part}, symmetric"
        pair = [row for row in rows if row["arm"] in (f"TRADES {part}", symmetric)]
        (one,) = [one for one in paired(pair, WORST, symmetric) if one.difference is not None]
        assert one.difference is not None
        asymmetry.append("{} {:+.1f} [{:+.1f}, {:+.1f}]".format(part, *(100 * value for value in one.difference)))
    lines.append(f"Rule 3, asymmetric less symmetric, worst case on TRADES: {'; '.join(asymmetry)}.")
    return "\n".join(f"- {line}" for line in lines) + "\n"


if __name__ == "__main__":
    main()
