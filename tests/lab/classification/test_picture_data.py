"""Readers of CIFAR-10's layouts and of IDX files: what they give, and what they refuse."""

import gzip
import os
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from unmask.errors import DataError
from unmask.lab.classification.data import read_idx, read_pictures

pytestmark = pytest.mark.lab
RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (60, 32, 32, 3), np.uint8)
LABELS = np.arange(60) % 10
CLASSES = [f"class {number}" for number in range(10)]


def flat(pixels: np.ndarray) -> np.ndarray:
    """As CIFAR stores them: red, green and blue planes."""
    return pixels.transpose(0, 3, 1, 2).reshape(len(pixels), -1)


def write_python(folder: Path) -> None:
    """Five batches of ten and a test batch; keys are bytes, as Python 2 wrote them."""
    folder.mkdir(parents=True)
    names = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]
    for number, name in enumerate(names):
        rows = slice(10 * number, 10 * number + 10)
        batch = {b"data": flat(PIXELS[rows]), b"labels": LABELS[rows].tolist(), b"batch_label": b"one"}
        (folder / name).write_bytes(pickle.dumps(batch, protocol=2))
    (folder / "batches.meta").write_bytes(pickle.dumps({b"label_names": [c.encode() for c in CLASSES]}, protocol=2))


def write_binary(folder: Path) -> None:
    folder.mkdir(parents=True)
    names = [*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin"]
    for number, name in enumerate(names):
        rows = slice(10 * number, 10 * number + 10)
        records = np.concatenate([LABELS[rows, None].astype(np.uint8), flat(PIXELS[rows])], 1)
        (folder / name).write_bytes(records.tobytes())
    (folder / "batches.meta.txt").write_text("\n".join(CLASSES) + "\n\n")


def write_grey(folder: Path, side: int = 28, packed: bool = True) -> None:
    folder.mkdir(parents=True)
    grey = PIXELS[:, :side, :side, 0]
    for name, rows in (("train", slice(0, 50)), ("t10k", slice(50, 60))):
        for kind, array in (("images-idx3", grey[rows]), ("labels-idx1", LABELS[rows].astype(np.uint8))):
            head = np.array([0x0800 + array.ndim, *array.shape], ">u4").tobytes()
            data, path = head + array.tobytes(), folder / f"{name}-{kind}-ubyte"
            if packed:
                path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(data))
            else:
                path.write_bytes(data)


@pytest.mark.parametrize("inner", ["", "cifar-10-batches-py"])
def test_cifar_as_python_wrote_it(inner: str, tmp_path: Path) -> None:
    write_python(tmp_path / "set" / inner)
    data = read_pictures(tmp_path / "set")
    assert data.classes == tuple(CLASSES) and data.side == 32
    assert {name: len(part) for name, part in data.splits.items()} == {"train": 45, "val": 5, "test": 10}
    assert (data.splits["test"].pixels == PIXELS[50:]).all() and (data.splits["test"].labels == LABELS[50:]).all()
    both = np.concatenate([data.splits[name].pixels for name in ("train", "val")])
    known = {picture.tobytes(): label for picture, label in zip(PIXELS[:50], LABELS, strict=False)}
    labels = np.concatenate([data.splits[name].labels for name in ("train", "val")])
    assert [known[picture.tobytes()] for picture in both] == labels.tolist()
    assert len({picture.tobytes() for picture in both}) == 50


def test_both_layouts_of_cifar_hold_the_same(tmp_path: Path) -> None:
    write_python(tmp_path / "one" / "cifar-10-batches-py")
    write_binary(tmp_path / "other" / "cifar-10-batches-bin")
    one, other = read_pictures(tmp_path / "one"), read_pictures(tmp_path / "other")
    assert one.sha256 == other.sha256 and one.classes == other.classes
    assert all((one.splits[name].pixels == other.splits[name].pixels).all() for name in one.splits)


@pytest.mark.parametrize("packed", [True, False])
def test_grey_pictures_get_a_frame_and_three_colours(packed: bool, tmp_path: Path) -> None:
    write_grey(tmp_path / "set", packed=packed)
    test = read_pictures(tmp_path / "set").splits["test"]
    assert test.pixels.shape == (10, 32, 32, 3)
    assert all((test.pixels[:, 2:30, 2:30, colour] == PIXELS[50:, :28, :28, 0]).all() for colour in range(3))
    assert test.pixels[:, :2].max() == test.pixels[:, :, 30:].max() == 0


def test_a_side_that_fits_gets_no_frame(tmp_path: Path) -> None:
    write_grey(tmp_path / "set", side=16)
    assert read_pictures(tmp_path / "set").side == 16


def test_a_pickle_that_would_run_something_is_not_opened(tmp_path: Path) -> None:
    write_python(tmp_path / "set")

    class Trap:
        def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
            return os.mkdir, (str(tmp_path / "sprung"),)

    (tmp_path / "set" / "data_batch_3").write_bytes(pickle.dumps({b"data": Trap()}))
    with pytest.raises(DataError, match=r"data_batch_3: not a batch of CIFAR-10 \(asks for posix.mkdir\)"):
        read_pictures(tmp_path / "set")
    assert not (tmp_path / "sprung").exists()


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


@pytest.mark.parametrize(
    ("write", "name", "harm", "message"),
    [
        (write_python, "data_batch_2", Path.unlink, "data_batch_2: cannot be read"),
        (write_python, "test_batch", cut, "test_batch: not a batch"),
        (
            write_python,
            "data_batch_1",
            lambda p: p.write_bytes(pickle.dumps({b"data": 1})),
            "data_batch_1: not a batch",
        ),
        (write_python, "data_batch_1", lambda p: p.write_bytes(pickle.dumps([1])), "data_batch_1: not a batch"),
        (write_binary, "data_batch_4.bin", cut, "data_batch_4.bin: its .* are no records"),
        (write_binary, "test_batch.bin", Path.unlink, "test_batch.bin: not there"),
        (write_binary, "data_batch_1.bin", lambda p: p.write_bytes(bytes([99]) + p.read_bytes()[1:]), "a label is 99"),
        (write_grey, "t10k-labels-idx1-ubyte.gz", Path.unlink, "t10k-labels-idx1-ubyte: not there"),
        (write_grey, "train-images-idx3-ubyte.gz", cut, "train-images-idx3-ubyte: cannot be read"),
        (write_grey, "t10k-labels-idx1-ubyte.gz", lambda p: p.write_bytes(gzip.compress(b"xx")), "not an IDX file"),
    ],
)
def test_a_set_that_is_broken_is_refused_with_the_file(
    write: Callable[[Path], None], name: str, harm: Callable[[Path], object], message: str, tmp_path: Path
) -> None:
    write(tmp_path / "set")
    harm(tmp_path / "set" / name)
    with pytest.raises(DataError, match=message):
        read_pictures(tmp_path / "set")


def test_labels_of_another_set_are_refused(tmp_path: Path) -> None:
    write_grey(tmp_path / "set", packed=False)
    labels = tmp_path / "set" / "train-labels-idx1-ubyte"
    head = np.array([0x0801, 3], ">u4").tobytes()
    labels.write_bytes(head + bytes(3))
    with pytest.raises(DataError, match="50 pictures and 3 labels"):
        read_pictures(tmp_path / "set")
    labels.write_bytes(head + bytes(2))
    with pytest.raises(DataError, match=r"2 bytes for \(3,\)"):
        read_idx(labels)


@pytest.mark.parametrize("name", ["nowhere", "."])
def test_a_folder_without_a_set_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no data set of small pictures"):
        read_pictures(tmp_path / name)
