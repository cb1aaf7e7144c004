"""Whether a JPEG file was compressed before, at lower quality: the histograms of its DCT coefficients.

A first compression with step p leaves multiples of p; a second one with a finer step q leaves gaps and peaks among the
multiples of q, at the period p / q. What the histograms would be without the first compression is estimated from the
same picture moved by half a block, which breaks the grid of blocks (Lukáš and Fridrich, "Estimation of Primary
Quantization Matrix in Double Compressed JPEG Images", DFRWS 2003). Both hypotheses are then compared by likelihood.
"""

import io
import warnings
from functools import cache
from typing import NamedTuple

import numpy as np
from PIL import Image

from unmask.media.beside import Beside
from unmask.media.beside.compression import ijg_table, luminance_table
from unmask.media.truncation import refusing_truncated

LEAST_GAIN = 0.013
"""Nats a coefficient from which on a picture is said to be compressed twice;
`experiments/findings/recompression.py` says how it was chosen and measures the rates at it."""

LEAST_BLOCKS = 100
_MOST_BLOCKS = 4096
_FREQUENCIES = range(1, 10)  # in zigzag order; higher ones are mostly zero
_QUALITIES = np.arange(30, 99)  # of the first compression
_LARGEST = 300  # of a coefficient's absolute value, before quantisation
_SPREADS = np.array([0.8, 0.9, 1.0, 1.1])[:, None]  # of the histogram, relative to that of the moved picture
_BANDWIDTH = 0.35  # of the smoothed histogram, in steps of the quantisation
_ROUNDING = 0.4  # standard deviation of a coefficient's error by the rounding of pixels between the compressions
_OTHERWISE = 0.1  # share of coefficients that a first compression does not explain
_FLOOR = 1e-6


class Recompression(NamedTuple):
    """What speaks for an earlier compression.

    Attributes:
        gain: by how much the likeliest earlier compression explains a coefficient better than none, in nats.
        quality: its quality by the tables of the IJG library, 30 to 98.
        blocks: how many blocks of 8 x 8 pixels were looked at.
    """

    gain: float
    quality: int
    blocks: int


def recompression_finding(data: bytes) -> Beside | None:
    """Whether a JPEG file shows signs of an earlier compression at lower quality; None for other files."""
    if not data.startswith(b"\xff\xd8"):
        return None
    seen = recompression(data)
    if seen is None:
        return Beside(
            "double_compression",
            "not_checked",
            f"Fewer than {LEAST_BLOCKS} blocks of its brightness can be used.",
            "The picture is too small, flat or overexposed for it, or its colours are stored in a rare way.",
        )
    details = {"gain": f"{seen.gain:.4f} nats a coefficient", "blocks": str(seen.blocks)}
    if seen.gain < LEAST_GAIN:
        return Beside(
            "double_compression",
            "absent",
            "No sign of an earlier JPEG compression at lower quality.",
            "An earlier one at the same or a higher quality, or before a crop or a change of size, mostly leaves none.",
            details,
        )
    return Beside(
        "double_compression",
        "present",
        f"Its DCT coefficients show an earlier JPEG compression, at about quality {seen.quality} by the tables of the "
        "IJG library, lower than that of the file.",
        "It was opened and saved again, not written so by a camera. Editing programs do that, and so do websites and "
        "messengers to every picture: it is no sign of forgery by itself.",
        {**details, "first quality": str(seen.quality)},
    )


def recompression(data: bytes) -> Recompression | None:
    """What speaks for an earlier compression of a JPEG file; None if too little of it can be looked at."""
    table = luminance_table(data)
    brightness = _brightness(data)
    if table is None or brightness is None:
        return None
    coefficients = _coefficients(brightness)
    moved = _coefficients(brightness[4:, 4:])
    if min(len(coefficients), len(moved)) < LEAST_BLOCKS:
        return None
    gains = np.zeros(len(_QUALITIES))
    counted = 0.0
    for frequency in _FREQUENCIES:
        step = int(table[frequency])
        levels = np.abs(np.rint(coefficients[:, frequency] / step)).astype(np.int64)
        bins = _LARGEST // step + 1
        histogram = np.bincount(levels[levels < bins], minlength=bins).astype(np.float64)
        counted += histogram.sum()
        firsts = _first_steps()[:, frequency]
        candidates, place = np.unique(firsts, return_inverse=True)
        coarser = candidates > step
        if coarser.any():
            gain = np.zeros(len(candidates))
            gain[coarser] = _gains(histogram, moved[:, frequency], step, candidates[coarser])
            gains += gain[place]
    best = int(gains.argmax())
    return Recompression(max(0.0, float(gains[best] / max(counted, 1.0))), int(_QUALITIES[best]), len(coefficients))


def _gains(histogram: np.ndarray, moved: np.ndarray, step: int, firsts: np.ndarray) -> np.ndarray:
    """By how much earlier compressions explain a frequency's histogram better than none, in nats, (first steps,).

    Args:
        histogram: of the absolute quantised coefficients, (bins,).
        moved: the frequency's coefficients in the moved picture.
        step: of the file's quantisation.
        firsts: steps of the earlier ones, increasing.
    """
    cumulated = _smooth_distribution(moved, step)
    edges = np.maximum((np.arange(len(histogram) + 1) - 0.5) * step, 0)
    once = np.diff(_up_to(cumulated, edges / _SPREADS), axis=1) + _FLOOR
    once /= once.sum(axis=1, keepdims=True)
    likelihoods = np.log(once) @ histogram
    widest = int(likelihoods.argmax())
    spread = float(_SPREADS[widest, 0])
    bins, counts = len(histogram), _LARGEST // firsts + 1
    which = np.repeat(np.arange(len(firsts)), counts)
    multiple = np.arange(len(which)) - np.repeat(np.cumsum(counts) - counts, counts)
    value = multiple * firsts[which]
    half = firsts[which] / 2
    weight = np.diff(_up_to(cumulated, np.maximum([value - half, value + half], 0) / spread), axis=0)[0]
    nearest = np.rint(value / step).astype(np.int64)
    # The normal distribution function, by the logistic one.
    borders = (np.stack([nearest - 0.5, nearest + 0.5]) * step - value) * (1.702 / _ROUNDING)
    below = 1 / (1 + np.exp(-np.clip(borders, -60, 60)))
    twice = np.zeros(len(firsts) * bins)
    for level, share in ((nearest - 1, below[0]), (nearest, below[1] - below[0]), (nearest + 1, 1 - below[1])):
        inside = level < bins
        at = (which * bins + np.abs(level))[inside]
        twice += np.bincount(at, (weight * share)[inside], minlength=len(twice))
    shares = twice.reshape(-1, bins) + _FLOOR
    shares /= shares.sum(axis=1, keepdims=True)
    mixed = (1 - _OTHERWISE) * shares + _OTHERWISE * once[widest]
    return np.asarray(np.log(mixed) @ histogram - likelihoods[widest])


def _smooth_distribution(moved: np.ndarray, step: int) -> np.ndarray:
    """The distribution function of absolute coefficients at 0, 0.5, 1.5 … `_LARGEST` + 0.5, smoothed."""
    counts = np.bincount(np.minimum(np.rint(np.abs(moved)), _LARGEST).astype(np.int64), minlength=_LARGEST + 1) / 2
    both = np.concatenate([counts[:0:-1], [2 * counts[0]], counts[1:]])
    deviation = max(1.0, _BANDWIDTH * step)
    reach = np.arange(-int(4 * deviation), int(4 * deviation) + 1)
    kernel = np.exp(-(reach**2) / (2 * deviation**2))
    smooth = np.convolve(both, kernel, "same")[_LARGEST:]
    smooth[0] /= 2
    return np.concatenate([[0.0], np.cumsum(smooth / smooth.sum())])


def _up_to(cumulated: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The distribution function at values >= 0."""
    places = np.arange(len(cumulated)) - 0.5
    places[0] = 0
    return np.interp(values, places, cumulated)


def _brightness(data: bytes) -> np.ndarray | None:
    """The luminance of a JPEG file as stored, uint8 (H, W); None where it stores none."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Image.open(io.BytesIO(data)) as picture:
            stores_colours = picture.mode == "RGB" and picture.info.get("adobe_transform") == 0
            if picture.mode not in ("L", "RGB") or stores_colours:
                return None
            picture.draft("L", None)
            return refusing_truncated(lambda: np.asarray(picture)) if picture.mode == "L" else None


def _coefficients(brightness: np.ndarray) -> np.ndarray:
    """DCT coefficients of the blocks that are neither flat nor clipped, float32 (blocks, 10), in zigzag order."""
    height, width = (side // 8 for side in brightness.shape)
    blocks = brightness[: 8 * height, : 8 * width].reshape(height, 8, width, 8).swapaxes(1, 2).reshape(-1, 64)
    blocks = blocks[:: -(-len(blocks) // _MOST_BLOCKS) or 1]
    low, high = blocks.min(axis=1), blocks.max(axis=1)
    used = blocks[(low > 0) & (high < 255) & (low < high)]
    return (used.astype(np.float32) - 128) @ _basis()


@cache
def _basis() -> np.ndarray:
    """The DCT's first 10 basis functions in zigzag order, float32 (64, 10)."""
    waves = np.cos((2 * np.arange(8) + 1) * np.arange(8)[:, None] * np.pi / 16) / 2
    waves[0] /= np.sqrt(2)
    order = sorted(np.ndindex(8, 8), key=lambda at: (sum(at), at[0] if sum(at) % 2 else at[1]))
    return np.stack(
        [np.outer(waves[row], waves[column]).ravel() for row, column in order[: _FREQUENCIES.stop]], 1
    ).astype(np.float32)


@cache
def _first_steps() -> np.ndarray:
    """Luminance tables of the first compression, int64 (qualities, 64)."""
    return np.stack([ijg_table(int(quality)) for quality in _QUALITIES])
