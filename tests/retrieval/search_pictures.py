"""Photos and drawings that a tiny pack for sketch search tells apart."""

import numpy as np

CELLS = 4


def pattern(number: int, noise: float = 0.0) -> np.ndarray:
    """A picture of as many dark as light cells, another for each number: uint8 (64, 64, 3)."""
    cells = (np.random.default_rng(number).permutation(CELLS * CELLS) % 2 == 0).reshape(CELLS, CELLS)
    pixels = np.repeat(np.repeat(np.where(cells, 60.0, 230.0), 16, 0), 16, 1)
    pixels = pixels + noise * np.random.default_rng(number + 10_000).normal(size=pixels.shape)
    return np.repeat(np.clip(pixels, 0, 255).astype(np.uint8)[..., None], 3, 2)


def hatched(number: int) -> np.ndarray:
    """A drawing of a pattern, its dark cells hatched: uint8 (192, 192, 3)."""
    dark = np.repeat(np.repeat(pattern(number), 3, 0), 3, 1)[..., 0] < 128
    strokes = dark & (np.arange(192) // 2 % 2 == 0)
    return np.repeat(np.where(strokes, 30, 255).astype(np.uint8)[..., None], 3, 2)
