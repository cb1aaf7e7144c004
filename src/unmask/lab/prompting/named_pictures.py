"""Pictures with names in words, to train a dual encoder on: drawn concepts, or faces by forgery family. Lab only."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from unmask.datasets.layouts import read_layout
from unmask.datasets.sketch_sets import SketchItem, read_sketches
from unmask.errors import DataError
from unmask.lab.prompting.config import VisionLanguageConfig
from unmask.lab.prompting.words import GENUINE, words_of
from unmask.lab.search.feed import SplitPictures, tensor_of
from unmask.lab.search.pictures import varied

FACE_MARGIN = 1.4
_BATCH = 64
_SPLITS = ("train", "val", "test")
_TEMPLATES = {"thing": ("a photo of a {}.", "{}"), "drawing": ("a drawing of a {}.", "{}"), "face": ("{}.", "{}")}


@dataclass(frozen=True)
class NamedSet:
    """A set.

    Attributes:
        splits: pictures by split; "test" may have classes that "train" has not.
        words: of every class, by its name.
        faces: whether they are faces, to be cut out.
    """

    splits: Mapping[str, tuple[SketchItem, ...]]
    words: Mapping[str, str]
    faces: bool

    @property
    def classes(self) -> tuple[str, ...]:
        """Those trained on, in the order of labels."""
        return tuple(sorted({item.label for item in self.splits["train"]}))

    @property
    def unseen(self) -> tuple[str, ...]:
        """Those of the test split that are not trained on."""
        return tuple(sorted({item.label for item in self.splits["test"]} - set(self.classes)))

    def digest(self) -> str:
        """Of the names, labels and sizes of all pictures."""
        lines = [
            f"{split},{item.path.name},{item.label},{item.path.stat().st_size}"
            for split, items in sorted(self.splits.items())
            for item in items
        ]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def read_named(folder: Path, seed: int = 0, most: int = 0) -> NamedSet:
    """Read a set.

    Args:
        folder: a set of sketches and photos in classes (`unmask search concepts`), whose folders are named in words; or
            faces with their families, in any layout of data that `unmask train` reads.
        seed: of the draws.
        most: pictures of a class in a split at most; 0 for all.

    Raises:
        DataError: neither, or a set that cannot be trained on.
    """
    if folder.is_dir() and any((folder / name).is_dir() for name in ("photo", "photos")):
        read = read_sketches(folder, (), seed, most)
        if read.people:
            raise DataError(f"{folder}: its classes are people, who have no names in words; give a set of things")
        labels = {item.label for items in read.splits.values() for item in items}
        words = {label: " ".join(label.replace("-", " ").replace("_", " ").split()) for label in labels}
        return NamedSet(read.splits, words, faces=False)
    return _families(folder, seed, most)


def _families(folder: Path, seed: int, most: int) -> NamedSet:
    by_class: dict[tuple[str, str], list[SketchItem]] = {}
    for sample in read_layout(folder):
        if sample.split in _SPLITS and sample.spectrum == "visible":
            label = sample.family if sample.label else GENUINE
            by_class.setdefault((sample.split, label), []).append(SketchItem(Path(sample.path), label, False))

    def order(item: SketchItem) -> bytes:
        return hashlib.sha256(f"{seed}:{item.path.name}".encode()).digest()

    splits: dict[str, list[SketchItem]] = {split: [] for split in _SPLITS}
    for (split, _), items in sorted(by_class.items()):
        splits[split] += sorted(items, key=order)[: most or None]
    words = {label: words_of(label) for _, label in by_class}
    return NamedSet({split: tuple(items) for split, items in splits.items()}, words, faces=True)


def texts_of(data: NamedSet, item: SketchItem) -> tuple[str, ...]:
    """What can be said of a picture."""
    kind = "face" if data.faces else "drawing" if item.sketch else "thing"
    return tuple(template.format(data.words[item.label]) for template in _TEMPLATES[kind])


def class_text(words: str, faces: bool) -> str:
    """The text that stands for a class when pictures are named."""
    return _TEMPLATES["face" if faces else "thing"][0].format(words)


@dataclass(frozen=True)
class NamedFeed:
    """A feed of the engine: pictures of classes drawn evenly, varied, with the vector of a text of each.

    Faces are mirrored alone: to turn and scale them would resample what forgers leave.

    Attributes:
        config: batch, seed and steps.
        data: what the pictures are.
        split: the training pictures.
        held: the validation pictures.
        vectors: unit vectors (384,) of texts.
    """

    config: VisionLanguageConfig
    data: NamedSet
    split: SplitPictures
    held: SplitPictures
    vectors: Mapping[str, np.ndarray]
    unit: str = "pictures"

    @property
    def count(self) -> int:
        """Pictures in a step."""
        return self.config.batch

    def batches(self, device: torch.device, first: int, rank: int = 0, world: int = 1) -> Iterator[dict[str, Tensor]]:
        """Endless batches from step `first` on; a step depends on seed and number alone."""
        config, items = self.config, self.split.items
        by_class: dict[str, list[int]] = {}
        for place, item in enumerate(items):
            by_class.setdefault(item.label, []).append(place)
        names = sorted(by_class)
        step = first
        while True:
            rng = np.random.default_rng([config.seed, step])
            chosen = _names(len(names), config.batch, rng)[rank::world]
            places = [int(rng.choice(by_class[names[one]])) for one in chosen]
            said = [self._text(items[place], rng) for place in places]
            batch = {
                "faces": tensor_of(np.stack([self._varied(one, rng) for one in self.split.take(places)])),
                "texts": torch.from_numpy(np.stack([self.vectors[text] for text in said])),
                "labels": torch.tensor(chosen),
                "progress": torch.tensor(min(1.0, step / config.steps)),
            }
            yield {name: tensor.to(device) for name, tensor in batch.items()}
            step += 1

    def _text(self, item: SketchItem, rng: np.random.Generator) -> str:
        texts = texts_of(self.data, item)
        return texts[int(rng.integers(len(texts)))]

    def _varied(self, pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        if not self.data.faces:
            return varied(pixels, rng)
        return pixels[:, ::-1] if rng.random() < 0.5 else pixels

    def validation_batches(self, device: torch.device) -> Iterator[dict[str, Tensor]]:
        """The validation split once."""
        for start in range(0, len(self.held.items), _BATCH):
            places = range(start, min(start + _BATCH, len(self.held.items)))
            yield {"faces": tensor_of(self.held.take(list(places))).to(device)}


def _names(classes: int, count: int, rng: np.random.Generator) -> Sequence[int]:
    """`count` classes, each as often as the others or once more."""
    whole, rest = divmod(count, classes)
    return [*(list(range(classes)) * whole), *rng.permutation(classes)[:rest].tolist()]
