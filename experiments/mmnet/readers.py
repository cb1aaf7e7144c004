"""MMNet's claims, each as an arm that lacks what the claim is about; a plain classifier beside them.

    PYTHONPATH=experiments python experiments/mmnet/readers.py RECORD.json --data DATA --steps N [--arms ARM...]

The record `readers.json` is of MMNet and the classifier, in 1,200 steps from ImageNet's weights. `arms.json` is
of MMNet's parts, in 300 steps; so that these are enough, every arm of a seed begins with the same trunk: that of the
classifier of sequences after 1,200 steps (`--begin 1200`).

Two sets are made from DATA/faces/celebamask_256 if they are not there: one whose faces are drawn anew after every edit,
by TAEF2 or classically, and one whose faces never are (the order control). All arms of a seed see the same faces in the
same order; people are on one side of the split, and a fifth of the orders is in the test split alone. Processes that
are given different arms may share a record.
"""

import argparse
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import Record, command, one_thread, parser, settings_of
from lightning_fabric import Fabric
from mmnet.classifier import Classifier
from safetensors.torch import load_file
from torch import Tensor, nn

from unmask.cli.options import progress_bars
from unmask.datasets.layouts import read_layout
from unmask.datasets.manifest import manifest_sha256
from unmask.edits.labels import place_of
from unmask.edits.mmnet import MMNet
from unmask.edits.model import EditSequenceModel
from unmask.forging.component_edit_set import forge_component_edits
from unmask.forging.seq_deepfake_writer import Tools
from unmask.lab.edits.config import EditTrainConfig
from unmask.lab.edits.edited_faces import EditedFaces
from unmask.lab.edits.evaluate import SplitPredictions, decodings, evaluate
from unmask.lab.edits.feed import EditFeed, faces_between, load_edited_faces, predict
from unmask.lab.engine import fit
from unmask.lab.methods import build
from unmask.lab.run import Run
from unmask.progress import Progress

SIZE, COUNT, BATCH = 128, 6000, 16
TRUNK = {"trunk": "efficientnet_lite0", "weights": "imagenet"}


@dataclass(frozen=True)
class Arm:
    """A method ("classifier" is this folder's), its options, and the set it learns and is tested on.

    `traces`: whether MMNet is given how much fine detail and noise each cell holds.
    """

    method: str = "mmnet"
    options: Mapping[str, Any] = field(default_factory=dict)
    tools: Tools = "both"
    traces: bool = True


FULL, SHORTCUT = "MMNet", "classifier of sequences"
BASE, NEVER = "without recovery", "never drawn anew"
TOKENS, REGIONS, FORWARD, BACKWARD = "forward, backward, slots", "regions alone", "forward alone", "backward alone"
BARE, PRESENCE, BLIND = "tokens alone", "tokens and presence", "without traces"
PLAIN = {"recovery": False}
ARMS = {
    FULL: Arm(),
    SHORTCUT: Arm("classifier"),
    BASE: Arm(options=PLAIN),
    NEVER: Arm(options=PLAIN, tools="none"),
    TOKENS: Arm(options={**PLAIN, "readers": "tokens"}),
    REGIONS: Arm(options={**PLAIN, "readers": "regions"}),
    FORWARD: Arm(options={**PLAIN, "readers": "forward"}),
    BACKWARD: Arm(options={**PLAIN, "readers": "backward"}),
    BARE: Arm(options={**PLAIN, "readers": "tokens", "presence": False, "masks": False}),
    PRESENCE: Arm(options={**PLAIN, "readers": "tokens", "masks": False}),
    BLIND: Arm(options=PLAIN, traces=False),
}
PARTS = ("nose", "eye", "eyebrow", "lip", "hair")


def set_of(chosen: argparse.Namespace, tools: Tools) -> Path:
    """The set of one kind, made if it is not there or not finished."""
    out = chosen.work / f"edited-{SIZE}-{tools}"
    if (out / "facial_components" / "annotations").is_dir() and len(read_layout(out)) == COUNT:
        return out
    taef2 = chosen.data / "weights" / "taef2" if tools == "both" else None
    source = chosen.data / "faces" / "celebamask_256"
    forge_component_edits(source, out, COUNT, size=SIZE, tools=tools, taef2=taef2, workers=chosen.workers)
    return out


def faces_of(chosen: argparse.Namespace, tools: Tools, progress: Progress) -> EditedFaces:
    """The cropped faces of a set."""
    return load_edited_faces(set_of(chosen, tools), chosen.work, SIZE, 2.0, chosen.workers, progress)


def known_in(training: EditedFaces) -> tuple[int, ...]:
    """The sequences of the training split, as places in `labels.all_sequences()`."""
    return tuple(sorted({place_of(row) for row in training.sequences.tolist()}))


def fitted(
    chosen: argparse.Namespace,
    name: str,
    network: EditSequenceModel,
    training: EditedFaces,
    config: EditTrainConfig,
) -> EditSequenceModel:
    """A network after its run, in evaluation mode; a finished run is read, not made again.

    name: of the run's folder.
    """
    folder = chosen.runs / "mmnet" / name
    if not (folder / "weights.safetensors").is_file():
        with progress_bars() as progress:
            between = faces_between(training, chosen.work, config, chosen.workers, progress)
        run = Run(folder, config, manifest_sha256(training.samples), network.task, command())
        feed = EditFeed(training, config, between, network.colour_jitter)
        fit(Fabric(accelerator="cpu", devices=1, precision="32-true"), network, feed, run)
    network.load_state_dict(load_file(folder / "weights.safetensors"))
    return network.eval()


def trained(
    chosen: argparse.Namespace,
    name: str,
    faces: EditedFaces,
    seed: int,
    steps: int,
    trunk: Mapping[str, Tensor] | None = None,
) -> tuple[EditSequenceModel, tuple[int, ...]]:
    """The network of an arm, and the sequences that it was trained on; a finished one is read, not trained again.

    trunk: the state that its trunk begins with; ImageNet's if None.
    """
    arm, training = ARMS[name], faces.split("train")
    known = known_in(training)
    options = {**TRUNK, **arm.options}
    config = EditTrainConfig(
        method=arm.method, options=options, size=SIZE, steps=steps, batch=BATCH, seed=seed, known=known
    )
    torch.manual_seed(seed)
    network = Classifier(**TRUNK) if arm.method == "classifier" else build(arm.method, options, size=SIZE)
    assert isinstance(network, EditSequenceModel)
    if trunk is not None:
        network.trunk.load_state_dict(trunk)
    if not arm.traces:
        assert isinstance(network, MMNet)
        for parameter in network.pyramid.noticed.parameters():
            nn.init.zeros_(parameter).requires_grad_(False)
    folder = f"{name.replace(' ', '-')}-{chosen.begin if trunk else 0}-{steps}-{seed}"
    return fitted(chosen, folder, network, training, config), known


def measured(network: EditSequenceModel, known: tuple[int, ...], faces: EditedFaces) -> dict[str, float]:
    """Named numbers on the test split."""
    tested = faces.split("test")
    predictions = predict(network, tested.take(np.arange(len(tested))).faces, torch.device("cpu"))
    result = evaluate(SplitPredictions(tested, predictions, decodings(predictions, known), known), "test")
    measures: dict[str, float] = {}

    def take(name: str, dataset: str, metric: str, condition: str = "joint") -> None:
        value = result.value(dataset, metric, condition)
        if value is not None:
            measures[name] = value.value

    for decoding in ("joint", "closed set", "greedy", "nothing"):
        take(f"CSM, {decoding}", "all", "csm", decoding)
        take(f"CSM on orders seen, {decoding}", "orders seen in training", "csm", decoding)
        take(f"CSM on orders not seen, {decoding}", "orders not seen", "csm", decoding)
        take(f"Adaptive, {decoding}", "all", "adaptive_accuracy", decoding)
        take(f"Fixed, {decoding}", "all", "fixed_accuracy", decoding)
    for length in range(6):
        take(f"CSM, {length} edits", f"{length} edits", "csm")
    for name in (
        "parts_right",
        "order_right_of_right_parts",
        "order_of_pairs_right",
        "adjacent_swap",
        "untouched_called_edited",
    ):
        take(name.replace("_", " "), "all", name)
    for name in ("last", "1_before_last", "2_before_last", "3_before_last", "4_before_last"):
        take(f"step {name.replace('_', ' ')}", "all", f"step_right_{name}")
    for number, part in enumerate(PARTS, start=1):
        hit, false = result.value(f"edit {number}", "found", "joint"), result.value(f"edit {number}", "false", "joint")
        if hit is not None and false is not None:
            measures[f"{part}, balanced"] = (hit.value + 1 - false.value) / 2
    take("area IoU", "all", "area_iou")
    for name in ("l1_inside", "l1_outside", "psnr", "psnr_inside", "psnr_outside", "ssim"):
        take(f"{name}, recovered", "recovery", name, "recovered")
        take(f"{name}, do nothing", "recovery", name, "do nothing")
    return measures


def main() -> None:
    options = parser(__doc__ or "")
    options.add_argument(
        "--begin", type=int, default=0, help="steps of the classifier whose trunk the arms begin with; 0: ImageNet's"
    )
    options.add_argument("--workers", type=int, default=2, help="processes that make and crop faces")
    options.add_argument("--arms", nargs="*", default=list(ARMS), help="some of the arms; all by default")
    chosen = options.parse_args()
    one_thread()
    arms = {name: ARMS[name] for name in chosen.arms}
    kinds: tuple[Tools, ...] = tuple(dict.fromkeys(("both", *(arm.tools for arm in arms.values()))))
    with progress_bars() as progress:
        sets = {tools: faces_of(chosen, tools, progress) for tools in kinds}
    settings = settings_of(chosen, size=SIZE, count=COUNT, batch=BATCH)
    for name in ("arms", "workers"):
        settings.pop(name)
    record = Record(chosen.record, settings, manifest_sha256(sets["both"].samples))
    for seed in range(chosen.seeds):
        for name, arm in arms.items():
            if not record.has(arm=name, seed=seed):
                faces, trunk = sets[arm.tools], None
                if chosen.begin:
                    trunk = trained(chosen, SHORTCUT, sets["both"], seed, chosen.begin)[0].trunk.state_dict()
                network, known = trained(chosen, name, faces, seed, chosen.steps, trunk)
                about = {} if arm.tools == "both" else {"data_sha256": manifest_sha256(faces.samples)}
                record.add(arm=name, seed=seed, **about, **measured(network, known, faces))


if __name__ == "__main__":
    main()
