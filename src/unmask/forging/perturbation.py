"""What ForgeryNIR does to its pictures: five perturbations at five levels, and the subsets std, rand and mix.

Kinds and number of levels: Wang et al., "ForgeryNIR" (TIFS 2022). Its levels are not
published; those here are DeeperForensics-1.0's (Jiang et al., CVPR 2020; EndlessSora/DeeperForensics-1.0,
`perturbation/add_distortion_to_video.py` and `distortions.py`), which names the same five, but for JPEG: its function
of that name makes the picture smaller and larger again and encodes nothing. The qualities are ImageNet-C's
(Hendrycks & Dietterich, ICLR 2019).

Pictures are uint8 (H, W, 3) RGB. One whose three channels are equal, as a single-band camera gives it, keeps them
equal: noise then falls on its one band.
"""

from collections.abc import Callable
from typing import Literal

import cv2
import numpy as np

from unmask.forging.degradation import jpeg

Kind = Literal["block", "contrast", "blur", "noise", "jpeg"]
Rule = Literal["std", "rand", "mix"]
KINDS: tuple[Kind, ...] = ("block", "contrast", "blur", "noise", "jpeg")
RULES: tuple[Rule, ...] = ("std", "rand", "mix")

BLOCKS = (16, 32, 48, 64, 80)
"""Grey blocks of 8 x 8 pixels, per 256 pixels of the shorter side. (The reference counts whole 256 pixels only.)"""
CONTRAST = (0.85, 0.725, 0.6, 0.475, 0.35)
"""Factor on every pixel."""
BLUR = (7, 9, 13, 17, 21)
"""Side of the Gaussian kernel in pixels; its standard deviation is a sixth of that."""
NOISE = (0.001, 0.002, 0.005, 0.01, 0.05)
"""Variance in every component of YCbCr, on a scale on which the narrow range 16..235 is about [0, 0.86]."""
JPEG = (25, 18, 15, 10, 7)
"""Quality."""
MIXED = (2, 3, 4)
"""How many perturbations a picture of "mix" may get (DeeperForensics-1.0, `dataset/README.md`)."""

_BLOCK = 8


def perturb(rng: np.random.Generator, pixels: np.ndarray, kind: Kind, level: int) -> np.ndarray:
    """One perturbation.

    Args:
        rng: places the blocks and draws the noise; the others are fixed by their level.
        pixels: uint8 (H, W, 3) RGB.
        kind: of KINDS.
        level: 1 (weakest) to 5, or 0 for none.

    Returns:
        uint8 (H, W, 3); the same array at level 0.

    Raises:
        ValueError: no such kind or level.
    """
    if kind not in KINDS or not 0 <= level <= 5:
        raise ValueError(f"{kind} at level {level}: kinds are {', '.join(KINDS)}, levels 0 to 5")
    return _PERTURBATIONS[kind](rng, pixels, level - 1) if level else pixels


def subset_of(
    rng: np.random.Generator, pixels: np.ndarray, rule: Rule
) -> tuple[np.ndarray, tuple[tuple[Kind, int], ...]]:
    """A picture as a subset of ForgeryNIR holds it, and what was done to it, in order.

    "std" is the clean picture, "rand" one random kind at a random level, "mix" two to four different kinds in random
    order at random levels.

    Raises:
        ValueError: no such rule.
    """
    if rule not in RULES:
        raise ValueError(f"{rule}: the rules are {', '.join(RULES)}")
    many = 0 if rule == "std" else 1 if rule == "rand" else int(rng.choice(MIXED))
    steps = tuple((KINDS[kind], int(rng.integers(1, 6))) for kind in rng.permutation(len(KINDS))[:many])
    for kind, level in steps:
        pixels = perturb(rng, pixels, kind, level)
    return pixels, steps


def is_single_band(pixels: np.ndarray) -> bool:
    """Whether the three channels are equal everywhere."""
    return bool((pixels[..., :1] == pixels[..., 1:]).all())


def _block(rng: np.random.Generator, pixels: np.ndarray, level: int) -> np.ndarray:
    out = pixels.copy()
    height, width = pixels.shape[:2]
    count = max(1, round(BLOCKS[level] * min(height, width) / 256))
    tops, lefts = (rng.integers(0, max(1, side - _BLOCK + 1), count) for side in (height, width))
    for top, left in zip(tops, lefts, strict=True):
        out[top : top + _BLOCK, left : left + _BLOCK] = 128
    return out


def _contrast(_: np.random.Generator, pixels: np.ndarray, level: int) -> np.ndarray:
    return (pixels.astype(np.float32) * CONTRAST[level]).astype(np.uint8)


def _blur(_: np.random.Generator, pixels: np.ndarray, level: int) -> np.ndarray:
    side = BLUR[level]
    return np.asarray(cv2.GaussianBlur(pixels, (side, side), side / 6))


def _noise(rng: np.random.Generator, pixels: np.ndarray, level: int) -> np.ndarray:
    # The reference adds the noise to narrow-range components and brings them back to the full range, which widens it.
    spread = 255 * np.sqrt(NOISE[level])
    luma, blue, red = rng.normal(0.0, spread, (3, *pixels.shape[:2])).astype(np.float32) * np.float32(255 / 219)
    if is_single_band(pixels):
        added = np.stack([luma] * 3, axis=-1)
    else:
        blue, red = blue * np.float32(219 / 224), red * np.float32(219 / 224)
        added = np.stack([luma + 1.402 * red, luma - 0.344 * blue - 0.714 * red, luma + 1.772 * blue], axis=-1)
    return np.clip(pixels + added, 0, 255).astype(np.uint8)


def _jpeg(_: np.random.Generator, pixels: np.ndarray, level: int) -> np.ndarray:
    return jpeg(pixels, JPEG[level])


_PERTURBATIONS: dict[Kind, Callable[[np.random.Generator, np.ndarray, int], np.ndarray]] = {
    "block": _block,
    "contrast": _contrast,
    "blur": _blur,
    "noise": _noise,
    "jpeg": _jpeg,
}
