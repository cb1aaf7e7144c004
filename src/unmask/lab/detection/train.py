"""From pictures to a trained detector: manifest, face store, zoo, twins, pool, training. All stages resume. Lab only.

Stages share a work folder (`store/`, `zoo/`, `twins/`, `pools/`), so that several runs prepare once and differ in
nothing but their protocol.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from safetensors.torch import load_file

from unmask.datasets.face_store import StoredFace, build_store, read_store
from unmask.datasets.layouts import detect_layout, read_layout
from unmask.datasets.layouts.collection import load_collection
from unmask.datasets.manifest import Sample, manifest_sha256
from unmask.errors import DataError
from unmask.forgery.detector import Learner
from unmask.lab.detection.feed import Pairs
from unmask.lab.detection.held_out import held_out
from unmask.lab.detection.pairs_pool import (
    MADE,
    MASK,
    Pool,
    PoolPlan,
    build_pool,
    family_shares,
    made_here,
    source_shares,
)
from unmask.lab.detection.reconstructions import make_twins, train_zoo, zoo_and_taef2
from unmask.lab.detection.scoring import family_aucs, logits_of
from unmask.lab.engine import fit, make_fabric
from unmask.lab.methods import build, options_of
from unmask.lab.run import Protocol, Run
from unmask.progress import SILENT
from unmask.provenance import sha256_of

_TWINNED_PER_SOURCE = 420


@dataclass(frozen=True)
class Workshop:
    """Where things lie: data folder or manifest, work folder for what is prepared, synthesised faces, TAEF2 weights."""

    data: Path
    work: Path
    synthetic: Path | None = None
    taef2: Path | None = None
    workers: int = 1

    def samples(self) -> list[Sample]:
        """The manifest's rows."""
        if detect_layout(self.data) == "collection":
            return load_collection(self.data, self.synthetic)
        return read_layout(self.data)

    def faces(self, progress: Progress | None = None) -> list[StoredFace]:
        """The face store, made if it is not there."""
        samples, folder = self.samples(), self.work / "store"
        done = folder / "manifest.sha256"
        mark = manifest_sha256(samples)
        if not done.is_file() or done.read_text() != mark:
            build_store(samples, folder, _Shown(progress) if progress else SILENT)
            done.write_text(mark)
        return read_store(folder)


class _Shown:
    """One bar for each stage."""

    def __init__(self, bars: Progress) -> None:
        self._bars, self._tasks = bars, dict[str, TaskID]()

    def update(self, stage: str, done: int, total: int | None = None, detail: str = "") -> None:
        if stage not in self._tasks:
            self._tasks[stage] = self._bars.add_task(stage, total=total)
        self._bars.update(self._tasks[stage], completed=done, total=total)

    def note(self, text: str) -> None:
        self._bars.console.print(text)


def progress_bars(console: Console) -> Progress:
    """The lab's progress display, on the console's stream."""
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    return Progress(*columns, console=console)


def find_or_make_pool(
    shop: Workshop, protocol: Protocol, families: Sequence[str], sources: Sequence[str], progress: Progress
) -> Pool:
    """A pool that holds the families: one that is there, finished and at least as rich, else a new one."""
    plan = PoolPlan(
        protocol.pairs, protocol.seed, protocol.size, protocol.margin, family_shares(families), source_shares(sources)
    )
    for path in sorted((shop.work / "pools").glob("*/plan.json")):
        found = PoolPlan.read(path.parent)
        rich = set(plan.families) <= set(found.families) and found.pairs >= plan.pairs
        alike = replace(found, families=plan.families, pairs=plan.pairs, seed=plan.seed) == plan
        if alike and rich and np.load(path.parent / "done.npy").all():
            return Pool.open(path.parent)
    name = hashlib.sha256(json.dumps(asdict(plan)).encode()).hexdigest()[:12]
    task = progress.add_task("making pairs", total=plan.pairs)
    return build_pool(
        shop.work / "store",
        shop.work / "twins",
        shop.work / "pools" / name,
        plan,
        shop.workers,
        lambda pairs: progress.advance(task, pairs),
    )


def twinned(faces: Sequence[StoredFace], most: int = _TWINNED_PER_SOURCE) -> list[StoredFace]:
    """The training reals that get twins: the first `most` of every source."""
    chosen: dict[str, list[StoredFace]] = {}
    for face in faces:
        if face.sample.split == "train" and not face.sample.label:
            chosen.setdefault(face.sample.source, []).append(face)
    return [face for group in chosen.values() for face in group[:most]]


def prepare_twins(shop: Workshop, protocol: Protocol, faces: Sequence[StoredFace], console: Console) -> None:
    """Train the zoo and make the twins, as far as they are not there."""
    device = make_fabric().device
    reals = twinned(faces)
    zoo = train_zoo(reals, shop.work / "zoo", protocol.zoo_steps, protocol.seed, device, progress=console.print)
    with progress_bars(console) as progress:
        task = progress.add_task("making twins", total=len(reals) * protocol.twin_draws, visible=False)
        nets = zoo_and_taef2(zoo, shop.taef2, device)
        make_twins(
            reals,
            nets,
            shop.work / "twins",
            protocol.twin_draws,
            protocol.seed,
            device,
            progress=lambda n: progress.update(task, advance=n, visible=True),
        )


def train(shop: Workshop, folder: Path, protocol: Protocol, start: Path | None, console: Console) -> Learner:
    """Prepare what is missing and train, or resume, one run; returns the averaged detector.

    Args:
        shop: where everything lies.
        folder: of the run.
        protocol: of the run; its `families`, `start` and `before` are filled in here.
        start: run folder whose weights to begin from; None for the method's own.
        console: for progress, on standard error.

    Raises:
        DataError: something about the data, the run folder, the method's options or the start; before training begins.
    """
    if start is not None:
        if not (start / "weights.safetensors").is_file():
            raise DataError(f"{start}: no weights.safetensors to start from; finish that run first")
        older = Run.protocol_of(start)
        seen = sorted({*older.before, *older.families})
        protocol = replace(protocol, start=sha256_of(start / "weights.safetensors"), before=tuple(seen))
    if protocol.window != protocol.size and (protocol.size % MASK or protocol.window % (protocol.size // MASK)):
        raise DataError(
            f"windows of {protocol.window} pixels do not fit faces of {protocol.size}; take --window 112 of 224"
        )
    with progress_bars(console) as progress:
        faces = shop.faces(progress)
    training = [face.sample for face in faces if face.sample.split == "train"]
    present = [*MADE, *dict.fromkeys(sample.family for sample in training if sample.label)]
    unknown = sorted(set(protocol.without) - set(present))
    if unknown:
        raise DataError(f"no family {', '.join(unknown)} to leave out; families are {', '.join(present)}")
    families = [name for name in family_shares(present) if name not in protocol.without]
    if not families:
        raise DataError("every family was left out; nothing forged remains to train on")
    sources = sorted({sample.source for sample in training if not sample.label})
    if not any(face.sample.split == "val" and not face.sample.label for face in faces):
        raise DataError(
            "no real face is in the split val, which training is watched on; put some subjects' rows there "
            "(`unmask manifest` writes rows to change)"
        )
    spectra = sorted({sample.spectrum for sample in training})
    protocol = replace(protocol, families=tuple(families), spectra=tuple(spectra))
    torch.manual_seed(protocol.seed)
    detector = new_detector(protocol, pretrained=start is None)
    run = Run(folder, protocol, manifest_sha256([face.sample for face in faces]))
    if "resynthesis" in made_here(families, training):
        prepare_twins(shop, protocol, faces, console)
    with progress_bars(console) as progress:
        pool = find_or_make_pool(shop, protocol, families, sources, progress)
    watched = {"selfblend", "swap", *(face.sample.family for face in faces if face.sample.split == "val")} - {"real"}
    held = held_out(faces, "val", watched, "as is", protocol.size, protocol.margin, most=40)
    crops = np.stack([face.crop for face in held])
    fabric = make_fabric()
    if start is not None:
        detector.load_state_dict(load_file(start / "weights.safetensors"))

    def validate(module: Learner) -> dict[str, float]:
        return family_aucs(held, logits_of(module, crops, fabric.device)[0])

    with progress_bars(console) as progress:
        task = progress.add_task("training", total=protocol.steps)

        def advance(step: int, loss: float) -> None:
            progress.update(task, completed=step, description=f"training (loss {loss:.3f})")

        return fit(fabric, detector, Pairs(pool, protocol, held), run, validate, progress=advance)


def new_detector(protocol: Protocol, pretrained: bool) -> Learner:
    """The untrained detector of a protocol; without `pretrained` its own first weights are random.

    Raises:
        DataError: no such method or option, or a size that it cannot take.
    """
    options = dict(protocol.options)
    if not pretrained and "weights" in options_of(protocol.method):
        options["weights"] = "none"
    detector = build(protocol.method, options, protocol.families, protocol.size)
    if not isinstance(detector, Learner):
        raise DataError(f"{protocol.method} reads sequences of edits; it is no detector")
    if protocol.window != protocol.size and not detector.windows:
        raise DataError(f"{protocol.method} learns from whole faces: --window must be its size, {protocol.size}")
    return detector


def load_run(folder: Path) -> Learner:
    """The averaged detector of a finished run.

    Raises:
        DataError: no such run, or it is not finished.
    """
    protocol = Run.protocol_of(folder)
    if not (folder / "weights.safetensors").is_file():
        raise DataError(f"{folder}: the run is not finished; start the same command again to resume it")
    detector = new_detector(protocol, pretrained=False)
    detector.load_state_dict(load_file(folder / "weights.safetensors"))
    return detector.eval()
