"""`mesonet`: Meso-4, a public peer. It takes the weights its authors published, or learns from scratch.

Afchar et al. 2018, "MesoNet: a Compact Facial Video Forgery Detection Network", arXiv 1809.00888, section 3.1; 27,977
parameters. The published weights (`Meso4_DF.h5`, `Meso4_F2F.h5`) are HDF5 files that Keras 2 wrote. They say 1 = real:
Keras numbers classes by their folders' names, and the authors' are "df" and "real". Published runs of `Meso4_DF.h5` on
twenty faces of each agree: low values for the forged ones. Here 1 = forged, so the last layer is negated on reading.
Lab only: torch, timm.
"""

import re
import struct
from collections.abc import Iterator, Mapping
from math import prod
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from unmask.errors import DataError
from unmask.forgery.detector import DetectorOutput, Learner
from unmask.networks.backbones import load_matching
from unmask.networks.contract import Batch

_BLOCKS = ((8, 3, 2), (8, 5, 2), (16, 5, 2), (16, 5, 4))  # channels, side of the kernel, side of the pooling
_CHANNELS, _CELLS, _HIDDEN = 16, 8, 16  # after the last block: channels and cells a side; then units
_SLOPE = 0.1


class MesoNet(Learner):
    """The detector.

    Its map splits the logit among the 8 x 8 cells that the dense layers see: these are linear but for a leaky ReLU,
    whose slope the picture fixes, so that the logit is a sum over cells and a constant. A cell's value is 64 times its
    share plus the constant; the mean of the map is the logit. A cell sees 90 x 90 pixels.

    Args:
        weights: a local file, as the authors published it; "none" for random ones.

    Input: float32 (B, 3, 256, 256) RGB in [0, 1], not normalised; no other size, for the dense layers know 8 x 8 cells.
    The authors' own pipeline turns the face upright and cuts a square of 2.86 times the distance between the eyes or
    from eyes to mouth, whichever is larger.

    Raises:
        DataError: there are no such weights, or they do not fit the network.
    """

    mean = (0.0, 0.0, 0.0)
    std = (1.0, 1.0, 1.0)
    size = 256
    step = 256

    def __init__(self, weights: str = "none") -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for width, kernel, pool in _BLOCKS:
            layers.append(
                nn.Sequential(
                    nn.Conv2d(channels, width, kernel, padding=kernel // 2),
                    nn.ReLU(),
                    nn.BatchNorm2d(width, eps=1e-3, momentum=0.01),  # Keras's, which counts momentum from the other end
                    nn.MaxPool2d(pool),
                )
            )
            channels = width
        self.blocks = nn.Sequential(*layers)
        self.dropout = nn.Dropout(0.5)
        self.hidden = nn.Linear(_CHANNELS * _CELLS * _CELLS, _HIDDEN)
        self.head = nn.Linear(_HIDDEN, 1)
        if weights != "none":
            load_matching(self, from_keras(read_hdf5(Path(weights)), weights), weights)

    def forward(self, faces: Tensor) -> DetectorOutput:
        """Score faces, (B, 3, 256, 256) in [0, 1].

        Raises:
            DataError: they are of another size.
        """
        if faces.shape[2:] != (self.size, self.size):
            raise DataError(f"Meso-4 takes faces of {self.size} x {self.size} pixels, not {tuple(faces.shape[2:])}")
        cells = self.dropout(self.blocks(faces).flatten(1))
        hidden = self.hidden(cells)
        # How much the logit moves with each hidden unit: the leaky ReLU's slope times the last layer's weight.
        pull = self.dropout(torch.where(hidden > 0, 1.0, _SLOPE)) * self.head.weight
        logit = (pull * hidden).sum(1) + self.head.bias
        constant = pull @ self.hidden.bias + self.head.bias
        shares = ((pull @ self.hidden.weight) * cells).unflatten(1, (_CHANNELS, _CELLS, _CELLS)).sum(1, keepdim=True)
        return DetectorOutput(logit, _CELLS * _CELLS * shares + constant[:, None, None, None])

    def training_losses(self, batch: Batch) -> dict[str, Tensor]:
        """The one term of the loss, "verdict": the mean squared error of the probability, as the authors' code has it.

        Args:
            batch: `faces` (B, 3, 256, 256) in [0, 1]; `labels` (B,) 0 or 1.
        """
        probability = self(batch["faces"]).logit.float().sigmoid()
        return {"verdict": functional.mse_loss(probability, batch["labels"].float())}


def from_keras(arrays: Mapping[str, np.ndarray], origin: str) -> dict[str, Tensor]:
    """The state of a `MesoNet` from the arrays of a Keras weight file.

    Kernels are turned from (height, width, in, out) to torch's order, the first dense layer from cells before channels
    to channels before cells, and the last one is negated, so that 1 is forged.

    Args:
        arrays: by path in the file, ending in LAYER_NUMBER/NAME:0; layers of one kind stand in the order of numbers.
        origin: what to call the file in errors.

    Raises:
        DataError: they are not those of Meso-4.
    """
    layers: dict[str, dict[int, dict[str, np.ndarray]]] = {"conv2d": {}, "batch_normalization": {}, "dense": {}}
    for path, array in arrays.items():
        layer, name = ["", *path.split("/")][-2:]
        parts = re.fullmatch(r"(conv2d|batch_normalization|dense)(?:_(\d+))?", layer)
        if parts:
            number = int(parts[2] or 0)
            layers[parts[1]].setdefault(number, {})[name.removesuffix(":0")] = array
    convolutions, norms, dense = ([kind[number] for number in sorted(kind)] for kind in layers.values())
    state: dict[str, np.ndarray] = {}
    try:
        for number, (convolution, norm) in enumerate(zip(convolutions, norms, strict=True)):
            state |= {
                f"blocks.{number}.0.weight": convolution["kernel"].transpose(3, 2, 0, 1),
                f"blocks.{number}.0.bias": convolution["bias"],
                f"blocks.{number}.2.weight": norm["gamma"],
                f"blocks.{number}.2.bias": norm["beta"],
                f"blocks.{number}.2.running_mean": norm["moving_mean"],
                f"blocks.{number}.2.running_var": norm["moving_variance"],
                f"blocks.{number}.2.num_batches_tracked": np.zeros((), np.int64),
            }
        first, last = dense
        cells = first["kernel"].reshape(_CELLS, _CELLS, _CHANNELS, _HIDDEN)
        state |= {
            "hidden.weight": cells.transpose(3, 2, 0, 1).reshape(_HIDDEN, -1),
            "hidden.bias": first["bias"],
            "head.weight": -last["kernel"].T,
            "head.bias": -last["bias"],
        }
    except (KeyError, ValueError) as error:
        raise DataError(f"weights {origin}: not those of Meso-4 ({error})") from error
    return {name: torch.from_numpy(array.copy()) for name, array in state.items()}


def read_hdf5(path: Path) -> dict[str, np.ndarray]:
    """The float arrays of an HDF5 file, by path in it.

    Reads what Keras 2 wrote: version 0 of the format, groups as trees of names, arrays in one uncompressed piece
    ("HDF5 File Format Specification Version 2.0", sections II to IV). For this one kind of file h5py would be a large
    dependency.

    Raises:
        DataError: there is no such file, or it is none of these.
    """
    if not path.is_file():
        raise DataError(f"{path}: no weight file there; give a file, or weights=none for random ones")
    data = path.read_bytes()
    # Signature, version 0, and addresses and lengths of eight bytes.
    if data[:9] != b"\x89HDF\r\n\x1a\n\0" or data[13:15] != b"\x08\x08":
        raise DataError(f"{path}: no HDF5 file of version 0, as Keras 2 writes weights")
    try:
        (root,) = struct.unpack_from("<Q", data, 64)
        return dict(_arrays(data, root, ""))
    except (struct.error, ValueError, OverflowError, RecursionError) as error:
        raise DataError(f"{path}: not a readable HDF5 file ({error})") from error


def _arrays(data: bytes, header: int, name: str) -> Iterator[tuple[str, np.ndarray]]:
    """What stands at and below the object whose header is at an address."""
    (length,) = struct.unpack_from("<8xI", data, header)
    messages = dict(_messages(data, header + 16, length))
    if 0x11 in messages:  # a group: the addresses of its tree and of its names
        tree, heap = struct.unpack_from("<QQ", data, messages[0x11])
        (names,) = struct.unpack_from("<Q", data, heap + 24)
        for offset, member in _members(data, tree):
            start = names + offset
            yield from _arrays(data, member, f"{name}/{data[start : data.index(0, start)].decode()}".lstrip("/"))
    elif {0x01, 0x03, 0x08} <= messages.keys():  # an array: its shape, type and place
        version, rank = struct.unpack_from("<BB", data, messages[0x01])
        shape = struct.unpack_from(f"<{rank}Q", data, messages[0x01] + (8 if version == 1 else 4))
        kind, order, size = struct.unpack_from("<BB2xI", data, messages[0x03])
        layout, place, start = struct.unpack_from("<BBQ", data, messages[0x08])
        if kind & 0x0F != 1 or order & 1 or size not in (4, 8):
            return  # no float, so no weight
        if (layout, place) != (3, 1):
            raise ValueError(f"{name} is not stored in one piece")
        yield name, np.frombuffer(data, f"<f{size}", prod(shape), start).reshape(shape).astype(np.float32)


def _messages(data: bytes, start: int, length: int) -> Iterator[tuple[int, int]]:
    """Kind and address of the messages in an object's header and in the pieces that continue it."""
    end = start + length
    while start + 8 <= end:
        kind, size = struct.unpack_from("<HH", data, start)
        yield kind, start + 8
        if kind == 0x10:
            yield from _messages(data, *struct.unpack_from("<QQ", data, start + 8))
        start += 8 + size


def _members(data: bytes, node: int) -> Iterator[tuple[int, int]]:
    """The members of a group from its tree: where their names start among the names, and their headers' addresses."""
    if data[node : node + 4] == b"SNOD":
        (count,) = struct.unpack_from("<H", data, node + 6)
        for number in range(count):
            yield struct.unpack_from("<QQ", data, node + 8 + 40 * number)
    elif data[node : node + 4] == b"TREE":
        (count,) = struct.unpack_from("<H", data, node + 6)
        for number in range(count):
            (child,) = struct.unpack_from("<Q", data, node + 32 + 16 * number)
            yield from _members(data, child)
    else:
        raise ValueError(f"no group at {node}")
