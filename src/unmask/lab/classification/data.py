"""Readers of small labelled pictures: CIFAR-10's two layouts, and the IDX files of MNIST and Fashion-MNIST. No torch.

- CIFAR-10, Python version: `data_batch_1` to `data_batch_5`, `test_batch` and `batches.meta`, in the folder or in its
  `cifar-10-batches-py`. These are pickles; nothing but arrays, texts, numbers and containers is built from them.
- CIFAR-10, binary version: `data_batch_1.bin` to `data_batch_5.bin`, `test_batch.bin`, `batches.meta.txt`, or in
  `cifar-10-batches-bin`. A record is one byte of class and 3,072 of colours.
- IDX: `train-images-idx3-ubyte`, `train-labels-idx1-ubyte` and the same with `t10k`, each with `.gz` or without.
  Grey pictures become three equal colours, with a black frame to a side that is a multiple of 8 (28 becomes 32).

A tenth of the training pictures, drawn once and for all, is for validation.
"""

import gzip
import hashlib
import io
import pickle
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from unmask.errors import DataError

Arrays = tuple[np.ndarray, np.ndarray]
STEP = 8
"""Sides are multiples of this: three halvings."""
_BATCHES = tuple(f"data_batch_{number}" for number in range(1, 6))
_CIFAR_CLASSES: tuple[str, ...] = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)
_RECORD = 1 + 3 * 32 * 32
_VALIDATION = 10  # one in so many
_IDX = 0x0801, 0x0803  # bytes in one dimension, in three


@dataclass(frozen=True)
class Pictures:
    """Labelled pictures of one split.

    Attributes:
        pixels: uint8 (N, S, S, 3) RGB.
        labels: int64 (N,), places in the names of the classes.
    """

    pixels: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: np.ndarray) -> "Pictures":
        """Some of them."""
        return Pictures(self.pixels[rows], self.labels[rows])


@dataclass(frozen=True)
class PictureSet:
    """A data set of small pictures: the names of its classes, the splits "train", "val" and "test", and its hash."""

    classes: tuple[str, ...]
    splits: dict[str, Pictures]
    sha256: str

    @property
    def side(self) -> int:
        """Of the pictures, in pixels."""
        return int(self.splits["train"].pixels.shape[1])


def read_pictures(folder: Path) -> PictureSet:
    """The data set in a folder.

    Raises:
        DataError: it is in none of the layouts, or a file of it is broken.
    """
    for inner in (folder, folder / "cifar-10-batches-py", folder / "cifar-10-batches-bin"):
        for mark, read in _LAYOUTS:
            if (inner / mark).is_file() or (inner / f"{mark}.gz").is_file():
                return _split(*read(inner))
    raise DataError(
        f"{folder}: no data set of small pictures there; give a folder with CIFAR-10's batches (data_batch_1 or "
        "data_batch_1.bin) or IDX files (train-images-idx3-ubyte)"
    )


def _split(classes: tuple[str, ...], train: Arrays, test: Arrays) -> PictureSet:
    digest = hashlib.sha256()
    for pixels, labels in (train, test):
        if len(pixels) != len(labels) or not len(labels):
            raise DataError(f"{len(pixels)} pictures and {len(labels)} labels; both files must be of one set")
        if labels.min() < 0 or labels.max() >= len(classes):
            raise DataError(f"a label is {int(labels.max())}, but there are {len(classes)} classes; check the files")
        digest.update(pixels.tobytes())
        digest.update(labels.astype(np.int64).tobytes())
    if train[0].shape[1:] != test[0].shape[1:]:
        raise DataError("the pictures of training and test are of different sizes; they must be of one set")
    order = np.random.default_rng(0).permutation(len(train[1]))
    held = max(1, len(order) // _VALIDATION)
    everything = Pictures(train[0], train[1].astype(np.int64))
    splits = {
        "train": everything.take(np.sort(order[held:])),
        "val": everything.take(np.sort(order[:held])),
        "test": Pictures(test[0], test[1].astype(np.int64)),
    }
    return PictureSet(classes, splits, digest.hexdigest())


# --- CIFAR-10 ---


class _PlainUnpickler(pickle.Unpickler):
    """Builds arrays and the built-in containers; a pickle that asks for anything else is refused."""

    _ALLOWED = {
        (module, name)
        for module in ("numpy.core.multiarray", "numpy._core.multiarray")
        for name in ("_reconstruct", "scalar")
    } | {("numpy", "ndarray"), ("numpy", "dtype"), ("_codecs", "encode")}

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self._ALLOWED:
            raise pickle.UnpicklingError(f"asks for {module}.{name}")
        return super().find_class(module, name)


def _unpickled(path: Path) -> dict[str, Any]:
    try:
        raw = _PlainUnpickler(io.BytesIO(path.read_bytes()), encoding="bytes").load()
        return {key.decode() if isinstance(key, bytes) else str(key): value for key, value in raw.items()}
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); the set is not whole") from error
    except Exception as error:  # a broken pickle raises what it likes
        raise DataError(f"{path}: not a batch of CIFAR-10 ({error}); download it anew") from error


def _planes(flat: np.ndarray) -> np.ndarray:
    """Rows of 3,072 bytes, colour by colour, as uint8 (N, 32, 32, 3)."""
    return np.ascontiguousarray(flat.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))


def _cifar_python(folder: Path) -> tuple[tuple[str, ...], Arrays, Arrays]:
    def batch(name: str) -> Arrays:
        path = folder / name
        raw = _unpickled(path)
        try:
            pixels, labels = np.asarray(raw["data"], np.uint8), np.asarray(raw["labels"], np.int64)
            return _planes(pixels), labels
        except (KeyError, ValueError, TypeError) as error:
            raise DataError(f"{path}: not a batch of CIFAR-10 ({error}); download it anew") from error

    classes = _CIFAR_CLASSES
    if (folder / "batches.meta").is_file():
        named = _unpickled(folder / "batches.meta").get("label_names", classes)
        classes = tuple(name.decode() if isinstance(name, bytes) else str(name) for name in named)
    parts = [batch(name) for name in _BATCHES]
    return classes, _joined(parts), batch("test_batch")


def _cifar_binary(folder: Path) -> tuple[tuple[str, ...], Arrays, Arrays]:
    def batch(name: str) -> Arrays:
        path = folder / f"{name}.bin"
        data = _read(path)
        if not data or len(data) % _RECORD:
            raise DataError(f"{path}: its {len(data)} bytes are no records of {_RECORD}; download it anew")
        rows = np.frombuffer(data, np.uint8).reshape(-1, _RECORD)
        return _planes(rows[:, 1:]), rows[:, 0].astype(np.int64)

    classes = _CIFAR_CLASSES
    meta = folder / "batches.meta.txt"
    if meta.is_file():
        classes = tuple(line.strip() for line in meta.read_text(encoding="utf-8").splitlines() if line.strip())
    return classes, _joined([batch(name) for name in _BATCHES]), batch("test_batch")


def _joined(parts: list[Arrays]) -> Arrays:
    return np.concatenate([one[0] for one in parts]), np.concatenate([one[1] for one in parts])


# --- IDX ---


def _read(path: Path) -> bytes:
    try:
        if path.is_file():
            return path.read_bytes()
        return gzip.decompress(path.with_name(f"{path.name}.gz").read_bytes())
    except FileNotFoundError as error:
        raise DataError(f"{path}: not there; the set is not whole") from error
    except (OSError, EOFError) as error:
        raise DataError(f"{path}: cannot be read ({error}); download it anew") from error


def read_idx(path: Path) -> np.ndarray:
    """The bytes of an IDX file, uint8 (N,) or (N, H, W); `path` is without the ending ".gz" that it may have.

    Raises:
        DataError: it is not there, or not of bytes in one or three dimensions.
    """
    data = _read(path)
    magic = struct.unpack(">I", data[:4])[0] if len(data) >= 4 else 0
    rank = magic & 0xFF
    if magic not in _IDX or len(data) < 4 + 4 * rank:
        raise DataError(f"{path}: not an IDX file of bytes; download it anew")
    shape = struct.unpack(f">{rank}I", data[4 : 4 + 4 * rank])
    body = np.frombuffer(data, np.uint8, offset=4 + 4 * rank)
    if len(body) != int(np.prod(shape)):
        raise DataError(f"{path}: {len(body)} bytes for {shape}; download it anew")
    return body.reshape(shape)


def _idx(folder: Path) -> tuple[tuple[str, ...], Arrays, Arrays]:
    def part(name: str) -> Arrays:
        grey = read_idx(folder / f"{name}-images-idx3-ubyte")
        if grey.ndim != 3 or grey.shape[1] != grey.shape[2]:
            raise DataError(f"{folder}: pictures of shape {grey.shape[1:]}; square ones are read")
        missing = -grey.shape[1] % STEP
        frame = (missing // 2, missing - missing // 2)
        framed = np.pad(grey, ((0, 0), frame, frame))
        labels = read_idx(folder / f"{name}-labels-idx1-ubyte")
        return np.repeat(framed[..., None], 3, 3), labels.astype(np.int64)

    train, test = part("train"), part("t10k")
    count = 1 + max(int(labels.max(initial=0)) for _, labels in (train, test))
    return tuple(map(str, range(count))), train, test


_LAYOUTS: tuple[tuple[str, Callable[[Path], tuple[tuple[str, ...], Arrays, Arrays]]], ...] = (
    ("data_batch_1", _cifar_python),
    ("data_batch_1.bin", _cifar_binary),
    ("train-images-idx3-ubyte", _idx),
)
