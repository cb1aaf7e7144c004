"""Train and load readers of edit sequences, with the detectors' engine, run folder and checkpoints. Lab only."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from safetensors.torch import load_file
from torch import Tensor

from unmask.datasets.layouts import read_layout
from unmask.datasets.manifest import Sample, manifest_sha256
from unmask.edits.labels import all_sequences, place_of
from unmask.edits.metrics import adaptive_accuracy, complete_matching, fixed_accuracy
from unmask.edits.reader import SequenceReader
from unmask.errors import DataError
from unmask.forging.degradation import jpeg
from unmask.lab.detection.train import progress_bars
from unmask.lab.edits.edited_faces import PER_EDIT, UNION, Crops, SequenceFaces, between_steps, prepare_sequences
from unmask.lab.engine import fit, make_fabric
from unmask.lab.methods import build, options_of
from unmask.lab.run import Run, SequenceProtocol, read_settings
from unmask.networks.contract import Network, normalise
from unmask.provenance import sha256_of


@dataclass(frozen=True)
class Edited:
    """A feed of the engine: the training split under a protocol.

    `between` are faces between the steps of a sequence. One of them may stand in for a face with as many edits: all
    that have so many are shown equally often, and every length as often as without them.
    """

    faces: SequenceFaces
    protocol: SequenceProtocol
    between: SequenceFaces | None = None
    unit: str = "faces"

    @property
    def count(self) -> int:
        """Faces in a step."""
        return self.protocol.batch

    def batches(self, device: torch.device, first: int, rank: int = 0, world: int = 1) -> Iterator[dict[str, Tensor]]:
        """Endless batches of `sequence.reader.BATCH` from step `first` on, in shuffled epochs.

        A face and its original get the same gain, shift and mirroring.
        """
        count, total = self.protocol.batch, len(self.faces)
        per_epoch = max(1, total // count)
        step, order = first, (-1, np.arange(total))
        while True:
            epoch, place = divmod(step, per_epoch)
            if order[0] != epoch:
                order = (epoch, np.random.default_rng([self.protocol.seed, epoch]).permutation(total))
            rows = np.sort(order[1][place * count : (place + 1) * count][rank::world])
            rng = np.random.default_rng([self.protocol.seed, step, rank])
            yield self._batch(rows, rng, device, min(1.0, step / self.protocol.steps))
            step += 1

    def _batch(
        self, rows: np.ndarray, rng: np.random.Generator, device: torch.device, done: float
    ) -> dict[str, Tensor]:
        crops, facts = self._taken(rows, rng)
        pixels = crops.faces
        if self.protocol.encoded:
            chosen = rng.random(len(rows)) < self.protocol.encoded
            qualities = rng.integers(60, 97, len(rows))
            pixels = np.stack(
                [jpeg(one, int(q)) if hit else one for one, q, hit in zip(pixels, qualities, chosen, strict=True)]
            )
        turned = rng.random(len(rows)) < 0.5
        gain, shift = (
            torch.from_numpy(rng.uniform(*range_, (len(rows), 1, 1, 1)).astype(np.float32)).to(device)
            for range_ in ((0.85, 1.15), (-0.08, 0.08))
        )

        def varied(stack: np.ndarray) -> Tensor:
            x = torch.from_numpy(_mirrored(stack, turned, 2)).to(device).permute(0, 3, 1, 2).float() / 255
            return ((x - 0.5) * gain + 0.5 + shift).clamp(0, 1)

        masks = torch.from_numpy(_mirrored(crops.masks, turned, 3)).to(device).float() / 255
        states = torch.from_numpy(facts["states"]).to(device)[:, None, None, None]
        return {
            "faces": varied(pixels),
            "sequences": torch.from_numpy(facts["sequences"].astype(np.int64)).to(device),
            "masks": torch.where(states == PER_EDIT, masks, -1.0),
            "unions": torch.where(states >= UNION, masks.amax(1, keepdim=True), -1.0),
            "originals": varied(crops.originals),
            "paired": torch.from_numpy(facts["paired"].astype(np.float32)).to(device),
            "progress": torch.tensor(done, device=device),
        }

    def _taken(self, rows: np.ndarray, rng: np.random.Generator) -> tuple[Crops, dict[str, np.ndarray]]:
        """The pixels of some faces or of others in their stead, and what is known of them."""
        found = self.faces.take(rows)
        crops = Crops(found.faces, found.originals, found.masks)
        facts = {name: getattr(self.faces, name)[rows] for name in ("states", "paired", "sequences")}
        if self.between is None:
            return crops, facts
        lengths, own, others = (
            np.count_nonzero(some, axis=1)
            for some in (facts["sequences"], self.faces.sequences, self.between.sequences)
        )
        for place, length in enumerate(lengths):
            alike = np.flatnonzero(others == length)
            number = int(rng.integers(np.count_nonzero(own == length) + len(alike)))
            if number < len(alike):
                one = self.between.take(alike[number : number + 1])
                crops.faces[place], crops.originals[place], crops.masks[place] = (
                    stack[0] for stack in (one.faces, one.originals, one.masks)
                )
                for name, column in facts.items():
                    column[place] = getattr(self.between, name)[alike[number]]
        return crops, facts

    def held(self, network: Network, device: torch.device) -> Iterator[dict[str, Tensor]]:
        """Nothing: readers fit nothing after the last step."""
        yield from ()


def _mirrored(stack: np.ndarray, turned: np.ndarray, axis: int) -> np.ndarray:
    out = stack.copy()
    out[turned] = np.flip(stack[turned], axis)
    return out


@dataclass(frozen=True)
class Readings:
    """What a reader says of N faces.

    `scores` float32 (N, 326), see `SequenceOutput`; `greedy` uint8 (N, 5); `areas` float32 (N, 5, h, w) in [0, 1] and
    `recovered` uint8 (N, S, S, 3), None where the reader does not say.
    """

    scores: np.ndarray
    greedy: np.ndarray
    areas: np.ndarray | None
    recovered: np.ndarray | None


@torch.no_grad()
def readings_of(reader: SequenceReader, crops: np.ndarray, device: torch.device, batch: int = 32) -> Readings:
    """What a reader in evaluation mode says of crops uint8 (N, S, S, 3)."""
    parts: dict[str, list[np.ndarray]] = {"scores": [], "greedy": [], "areas": [], "recovered": []}
    for start in range(0, len(crops), batch):
        x = torch.from_numpy(crops[start : start + batch]).to(device).permute(0, 3, 1, 2).float() / 255
        x = normalise(x, reader)
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            out, greedy = reader(x), reader.greedy(x)
        parts["scores"].append(out.scores.float().cpu().numpy())
        parts["greedy"].append(greedy.cpu().numpy().astype(np.uint8))
        if out.areas is not None:
            parts["areas"].append(out.areas.float().sigmoid().cpu().numpy())
        if out.recovered is not None:
            pixels = (out.recovered.float() * 255 + 0.5).byte().permute(0, 2, 3, 1)
            parts["recovered"].append(pixels.cpu().numpy())
    joined = {name: np.concatenate(found) if found else None for name, found in parts.items()}
    assert joined["scores"] is not None and joined["greedy"] is not None
    return Readings(joined["scores"], joined["greedy"], joined["areas"], joined["recovered"])


def sequence_faces(
    data: Path | Sequence[Sample], work: Path, size: int, margin: float, workers: int, console: Console
) -> SequenceFaces:
    """The cropped faces of a data set in any layout that can be read, or of some rows; made if they are not there.

    Raises:
        DataError: as of `read_layout` and `prepare_sequences`.
    """
    samples = read_layout(data) if isinstance(data, Path) else data
    with progress_bars(console) as progress:
        task = progress.add_task("cropping faces", total=len(samples), visible=False)
        return prepare_sequences(
            samples,
            work,
            size,
            margin,
            workers,
            lambda done, total: progress.update(task, completed=done, total=total, visible=True),
        )


def train_reader(
    data: Path,
    work: Path,
    folder: Path,
    protocol: SequenceProtocol,
    start: Path | None,
    workers: int,
    console: Console,
    watch: int = 500,
) -> SequenceReader:
    """Prepare what is missing and train, or resume, one run; returns the averaged reader.

    Args:
        data: Seq-DeepFake folder, or any layout whose rows have sequences.
        work: folder for what is prepared.
        folder: of the run.
        protocol: of the run; `track`, `known` and `start` are filled in here.
        start: run folder whose weights to begin from; None for the method's own.
        workers: processes that crop faces.
        console: for progress, on standard error.
        watch: faces of the validation split that training is watched on, at most.

    Raises:
        DataError: something about the data, the run folder, the options or the start; before training begins.
    """
    if start is not None:
        if not (start / "weights.safetensors").is_file():
            raise DataError(f"{start}: no weights.safetensors to start from; finish that run first")
        protocol = replace(protocol, start=sha256_of(start / "weights.safetensors"))
    faces = sequence_faces(data, work, protocol.size, protocol.margin, workers, console)
    training, watched = faces.split("train"), faces.split("val")
    if protocol.limit:
        training = training.where(np.arange(min(protocol.limit, len(training))))
    watched = watched.where(np.arange(min(watch, len(watched))))
    known = sorted({place_of(row) for row in training.sequences.tolist()})
    protocol = replace(protocol, track=faces.track.name, known=tuple(known))
    between = faces_between(training, work, protocol, workers, console)
    torch.manual_seed(protocol.seed)
    reader = new_reader(protocol, pretrained=start is None)
    run = Run(folder, protocol, manifest_sha256(faces.samples))
    if start is not None:
        reader.load_state_dict(load_file(start / "weights.safetensors"))
    fabric = make_fabric(half_on_cpu=False)  # small batches of small faces are slower in half precision there
    crops = watched.take(np.arange(len(watched))).faces

    def validate(module: SequenceReader) -> dict[str, float]:
        told = decoded(readings_of(module, crops, fabric.device).scores)
        truth = watched.sequences
        return {
            "val_csm": complete_matching(truth, told),
            "val_adaptive": adaptive_accuracy(truth, told),
            "val_fixed": fixed_accuracy(truth, told),
        }

    with progress_bars(console) as progress:
        task = progress.add_task("training", total=protocol.steps)

        def advance(step: int, loss: float) -> None:
            progress.update(task, completed=step, description=f"training (loss {loss:.3f})")

        return fit(fabric, reader, Edited(training, protocol, between), run, validate, progress=advance)


def faces_between(
    training: SequenceFaces, work: Path, protocol: SequenceProtocol, workers: int, console: Console
) -> SequenceFaces | None:
    """The faces between the steps of those to train on, if they are stored: those alone whose sequence is known.

    So none shows an order that was held out of the training split.
    """
    rows = between_steps(training.samples)
    if not rows:
        return None
    found = sequence_faces(rows, work, protocol.size, protocol.margin, workers, console)
    return found.where(np.flatnonzero([place_of(row) in protocol.known for row in found.sequences.tolist()]))


def decoded(scores: np.ndarray, known: tuple[int, ...] | None = None) -> np.ndarray:
    """The best sequence for scores (N, 326), uint8 (N, 5): of all, or of those at some places of the table."""
    if known is None:
        return all_sequences()[scores.argmax(axis=1)]
    places = np.asarray(known)
    return all_sequences()[places[scores[:, places].argmax(axis=1)]]


def is_reader(folder: Path) -> bool:
    """Whether a folder is the run of a reader of sequences."""
    try:
        read_settings(folder, SequenceProtocol)
    except DataError:
        return False
    return True


def new_reader(protocol: SequenceProtocol, pretrained: bool) -> SequenceReader:
    """The untrained reader of a protocol; without `pretrained` its trunk starts from random weights.

    Raises:
        DataError: no such method or option, or a size that it cannot take.
    """
    options: dict[str, Any] = dict(protocol.options)
    if not pretrained and "weights" in options_of(protocol.method):
        options["weights"] = "none"
    reader = build(protocol.method, options, size=protocol.size)
    if not isinstance(reader, SequenceReader):
        raise DataError(f"{protocol.method} is a detector, no reader of sequences")
    return reader


def load_reader(folder: Path) -> tuple[SequenceReader, SequenceProtocol]:
    """The averaged reader of a finished run, and its protocol.

    Raises:
        DataError: no such run, or it is not finished.
    """
    protocol = read_settings(folder, SequenceProtocol)
    if not (folder / "weights.safetensors").is_file():
        raise DataError(f"{folder}: the run is not finished; start the same command again to resume it")
    reader = new_reader(protocol, pretrained=False)
    reader.load_state_dict(load_file(folder / "weights.safetensors"))
    return reader.eval(), protocol
