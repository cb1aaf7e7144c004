"""scikit-learn's digits in the layout of Fashion-MNIST, and a network that is small enough for them."""

import struct
from pathlib import Path

import cv2
import numpy as np
from sklearn.datasets import load_digits

from unmask.lab.classification.network import ResNet


class SmallResNet(ResNet):
    """Two stages in place of four."""

    stages = 2


def write_idx(path: Path, array: np.ndarray) -> None:
    """An IDX file of bytes in one or three dimensions."""
    path.write_bytes(struct.pack(f">{1 + array.ndim}I", 0x0800 + array.ndim, *array.shape) + array.tobytes())


def write_digits(folder: Path, train: int = 1_400, test: int = 397, side: int = 16) -> Path:
    """Some of the digits, enlarged; returns the folder."""
    digits = load_digits()
    pictures = (digits.images * 255 / 16).round().astype(np.uint8)
    pictures = np.stack([cv2.resize(one, (side, side), interpolation=cv2.INTER_LINEAR) for one in pictures])
    order = np.random.default_rng(0).permutation(len(pictures))
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in (("train", order[:train]), ("t10k", order[-test:])):
        write_idx(folder / f"{name}-images-idx3-ubyte", pictures[rows])
        write_idx(folder / f"{name}-labels-idx1-ubyte", digits.target[rows].astype(np.uint8))
    return folder
