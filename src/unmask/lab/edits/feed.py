"""What networks that read edits are trained on, and what they predict of faces. Lab only."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as transforms

from unmask.datasets.layouts import read_layout
from unmask.datasets.manifest import Sample
from unmask.edits.labels import all_sequences, place_of
from unmask.edits.model import ColourJitter, EditSequenceModel
from unmask.forging.degradation import jpeg
from unmask.lab.edits.config import EditTrainConfig
from unmask.lab.edits.edited_faces import PER_EDIT, UNION, Crops, EditedFaces, between_steps, crop_edited_faces
from unmask.progress import Progress


@dataclass(frozen=True)
class EditFeed:
    """A feed of the engine: the training split under a config.

    `between` are faces between the steps of a sequence. One of them may stand in for a face with as many edits: all
    that have so many are shown equally often, and every length as often as without them. `jitter` says how colours are
    varied; without it by a small gain and shift of all three alike.
    """

    faces: EditedFaces
    config: EditTrainConfig
    between: EditedFaces | None = None
    jitter: ColourJitter | None = None
    unit: str = "faces"

    @property
    def count(self) -> int:
        """Faces in a step."""
        return self.config.batch

    def batches(self, device: torch.device, first: int, rank: int = 0, world: int = 1) -> Iterator[dict[str, Tensor]]:
        """Endless batches of `edits.model.BATCH` from step `first` on, in shuffled epochs.

        A face and its original get the same colours and mirroring.
        """
        count, total = self.config.batch, len(self.faces)
        per_epoch = max(1, total // count)
        step, order = first, (-1, np.arange(total))
        while True:
            epoch, place = divmod(step, per_epoch)
            if order[0] != epoch:
                order = (epoch, np.random.default_rng([self.config.seed, epoch]).permutation(total))
            rows = np.sort(order[1][place * count : (place + 1) * count][rank::world])
            rng = np.random.default_rng([self.config.seed, step, rank])
            yield self._batch(rows, rng, device, min(1.0, step / self.config.steps))
            step += 1

    def _batch(
        self, rows: np.ndarray, rng: np.random.Generator, device: torch.device, done: float
    ) -> dict[str, Tensor]:
        crops, facts = self._taken(rows, rng)
        pixels = crops.faces
        if self.config.encoded:
            chosen = rng.random(len(rows)) < self.config.encoded
            qualities = rng.integers(60, 97, len(rows))
            pixels = np.stack(
                [jpeg(one, int(q)) if hit else one for one, q, hit in zip(pixels, qualities, chosen, strict=True)]
            )
        turned = rng.random(len(rows)) < 0.5
        colours = _jittered(self.jitter, rng, len(rows)) if self.jitter else _gain_and_shift(rng, len(rows))

        def varied(stack: np.ndarray) -> Tensor:
            x = torch.from_numpy(_mirrored(stack, turned, 2)).to(device).permute(0, 3, 1, 2).float() / 255
            return colours(x).clamp(0, 1)

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
        crops = self.faces.take(rows)
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

    def validation_batches(self, device: torch.device) -> Iterator[dict[str, Tensor]]:
        """Nothing: these networks fit nothing after the last step."""
        yield from ()


def _gain_and_shift(rng: np.random.Generator, count: int) -> Callable[[Tensor], Tensor]:
    gain, shift = (
        torch.from_numpy(rng.uniform(*range_, (count, 1, 1, 1)).astype(np.float32))
        for range_ in ((0.85, 1.15), (-0.08, 0.08))
    )
    return lambda x: (x - 0.5) * gain.to(x.device) + 0.5 + shift.to(x.device)


def _jittered(jitter: ColourJitter, rng: np.random.Generator, count: int) -> Callable[[Tensor], Tensor]:
    """Of each face other factors, in another order, as torchvision's ColorJitter draws them."""
    changes = (
        (transforms.adjust_brightness, jitter.brightness),
        (transforms.adjust_contrast, jitter.contrast),
        (transforms.adjust_saturation, jitter.saturation),
    )
    drawn = [
        [(changes[place][0], rng.uniform(*changes[place][1])) for place in rng.permutation(3)] for _ in range(count)
    ]

    def vary(x: Tensor) -> Tensor:
        faces = []
        for face, own in zip(x, drawn, strict=True):
            for change, factor in own:
                face = change(face, factor)
            faces.append(face)
        return torch.stack(faces)

    return vary


def _mirrored(stack: np.ndarray, turned: np.ndarray, axis: int) -> np.ndarray:
    out = stack.copy()
    out[turned] = np.flip(stack[turned], axis)
    return out


@dataclass(frozen=True)
class EditPredictions:
    """What a network predicts of N faces.

    `scores` float32 (N, 326), see `EditSequenceOutput`; `greedy` uint8 (N, 5); `areas` float32 (N, 5, h, w) in [0, 1]
    and `recovered` uint8 (N, S, S, 3), None where the network does not say.
    """

    scores: np.ndarray
    greedy: np.ndarray
    areas: np.ndarray | None
    recovered: np.ndarray | None


@torch.no_grad()
def predict(model: EditSequenceModel, crops: np.ndarray, device: torch.device, batch: int = 32) -> EditPredictions:
    """What a network in evaluation mode predicts of crops uint8 (N, S, S, 3)."""
    parts: dict[str, list[np.ndarray]] = {"scores": [], "greedy": [], "areas": [], "recovered": []}
    for start in range(0, len(crops), batch):
        x = torch.from_numpy(crops[start : start + batch]).to(device).permute(0, 3, 1, 2).float() / 255
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            out, greedy = model(x), model.greedy(x)
        parts["scores"].append(out.scores.float().cpu().numpy())
        parts["greedy"].append(greedy.cpu().numpy().astype(np.uint8))
        if out.areas is not None:
            parts["areas"].append(out.areas.float().sigmoid().cpu().numpy())
        if out.recovered is not None:
            pixels = (out.recovered.float() * 255 + 0.5).byte().permute(0, 2, 3, 1)
            parts["recovered"].append(pixels.cpu().numpy())
    joined = {name: np.concatenate(arrays) if arrays else None for name, arrays in parts.items()}
    assert joined["scores"] is not None and joined["greedy"] is not None
    return EditPredictions(joined["scores"], joined["greedy"], joined["areas"], joined["recovered"])


def load_edited_faces(
    data: Path | Sequence[Sample],
    work: Path,
    size: int,
    margin: float,
    workers: int,
    progress: Progress,
    stage: str = "cropping faces",
) -> EditedFaces:
    """The cropped faces of a data set in any layout that can be read, or of some rows; made if they are not there.

    Raises:
        DataError: as of `read_layout` and `crop_edited_faces`.
    """
    samples = read_layout(data) if isinstance(data, Path) else data
    return crop_edited_faces(samples, work, size, margin, workers, progress, stage)


def faces_between(
    training: EditedFaces, work: Path, config: EditTrainConfig, workers: int, progress: Progress
) -> EditedFaces | None:
    """The faces between the steps of those to train on, if they are stored: those alone whose sequence is known.

    So none shows an order that was held out of the training split.
    """
    rows = between_steps(training.samples)
    if not rows:
        return None
    stage = "cropping faces between steps"
    faces = load_edited_faces(rows, work, config.size, config.margin, workers, progress, stage)
    return faces.where(np.flatnonzero([place_of(row) in config.known for row in faces.sequences.tolist()]))


def decoded(scores: np.ndarray, known: tuple[int, ...] | None = None) -> np.ndarray:
    """The best sequence for scores (N, 326), uint8 (N, 5): of all, or of those at some places of the table."""
    if known is None:
        return all_sequences()[scores.argmax(axis=1)]
    places = np.asarray(known)
    return all_sequences()[places[scores[:, places].argmax(axis=1)]]
