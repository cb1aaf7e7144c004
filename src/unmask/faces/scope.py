"""Is a face of the kind that detectors were made for: a photograph, with eyes and mouth to be seen?

Linear classifiers on simple features of the face as the leading detector sees it: oriented gradients, mean colours and
contrast on a grid, and a few shares over all of it. Their weights, limits and measured error rates are in `scope.json`
beside this file, written by `experiments/plain/scope.py`.
"""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import cv2
import numpy as np

from unmask.faces.alignment import Box, align

ScopeClass = Literal["drawing", "covered_eyes", "covered_mouth"]
SCOPE_CLASSES: tuple[ScopeClass, ...] = ("drawing", "covered_eyes", "covered_mouth")
_SIDE, _CELLS, _BINS = 64, 8, 9


@cache
def _cell_numbers() -> np.ndarray:
    cell = np.arange(_SIDE) // (_SIDE // _CELLS)
    return (cell[:, None] * _CELLS + cell[None]).ravel() * _BINS


def _oriented_gradients(luma: np.ndarray) -> np.ndarray:
    """Histograms of the gradients' directions in cells, normalised over blocks of 2 x 2 cells side by side.

    After Dalal and Triggs, "Histograms of Oriented Gradients for Human Detection" (2005), without overlap.

    Args:
        luma: uint8 (64, 64).

    Returns:
        float32 (576,), each in [0, 1].
    """
    x, y = cv2.Sobel(luma, cv2.CV_32F, 1, 0, ksize=1), cv2.Sobel(luma, cv2.CV_32F, 0, 1, ksize=1)
    size, angle = cv2.cartToPolar(x, y)
    bins = (angle * np.float32(_BINS / np.pi)).astype(np.int32).ravel() % _BINS
    counts = np.bincount(_cell_numbers() + bins, size.ravel(), minlength=_CELLS * _CELLS * _BINS)
    half = _CELLS // 2
    blocks = counts.reshape(half, 2, half, 2, _BINS).swapaxes(1, 2).reshape(half * half, -1)
    return (blocks / (np.linalg.norm(blocks, axis=1, keepdims=True) + 40.0)).astype(np.float32).ravel()


def scope_features(crop: np.ndarray, region: Box, landmarks: np.ndarray) -> np.ndarray | None:
    """What the classifiers look at.

    Args:
        crop: uint8 (S, S, 3) RGB, the context crop of a face.
        region: the (x, y, width, height) in the picture that it covers, pixels.
        landmarks: (5, 2) of the face, in pixels of the picture.

    Returns:
        float32 (N,); None where the landmarks coincide.
    """
    scale = len(crop) / region[2]
    points = (np.asarray(landmarks, np.float32) - np.asarray(region[:2], np.float32)) * np.float32(scale)
    try:
        face = align(crop, points, _SIDE)
    except ValueError:
        return None
    luma = cv2.cvtColor(face, cv2.COLOR_RGB2GRAY)
    gradients = _oriented_gradients(luma)
    ycc = cv2.cvtColor(face, cv2.COLOR_RGB2YCrCb).astype(np.float32) / 255
    means = cv2.resize(ycc, (_CELLS, _CELLS), interpolation=cv2.INTER_AREA)
    squares = cv2.resize(ycc[..., 0] ** 2, (_CELLS, _CELLS), interpolation=cv2.INTER_AREA)
    contrast = np.sqrt(np.maximum(squares - means[..., 0] ** 2, 0))
    steps = cv2.absdiff(luma[:, 1:], luma[:, :-1])
    counts = np.bincount(np.right_shift(luma.ravel(), 3), minlength=32) / luma.size
    chroma = ycc[..., 1:].reshape(-1, 2).std(axis=0)
    flat = np.bincount(np.minimum(steps, 31).ravel(), minlength=32)[[0, 1, 2, 4, 8, 16, 31]] / steps.size
    return np.concatenate([gradients, means.ravel(), contrast.ravel(), counts, chroma, flat]).astype(np.float32)


@dataclass(frozen=True)
class _Head:
    weights: np.ndarray
    bias: float
    limit: float


@cache
def _heads() -> dict[str, _Head]:
    stored = json.loads(Path(__file__).with_suffix(".json").read_text(encoding="utf-8"))["heads"]
    return {
        name: _Head(np.asarray(one["weights"], np.float32), one["bias"], one["limit"]) for name, one in stored.items()
    }


def out_of_scope(crop: np.ndarray, region: Box, landmarks: np.ndarray) -> tuple[ScopeClass, ...]:
    """The kinds, of those that were learnt, that a face is taken for; arguments as of `scope_features`."""
    features = scope_features(crop, region, landmarks)
    if features is None:
        return ()
    heads = _heads()
    return tuple(
        name for name in SCOPE_CLASSES if float(features @ heads[name].weights) + heads[name].bias >= heads[name].limit
    )
