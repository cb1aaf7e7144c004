"""Up-sampling fingerprints on real faces: the traces of four kinds of decoder without a decoder.

A picture is brought to half its size and back by one operator, as the last layer of a generator goes up by two. That
leaves the operator's marks and nothing else of a generator; stand-ins for families of generators,
not claims about any one of them.

| kind         | way up                                        | trace                                           |
|--------------|-----------------------------------------------|-------------------------------------------------|
| nearest      | every pixel twice, then a light smoothing     | the low frequencies once more, next to Nyquist  |
| checkerboard | transposed convolution, its phases unequal    | peaks at Nyquist itself (Odena et al. 2016)     |
| ringing      | bilinear, then over-sharpened                 | overshoot; steps small and large by turns        |
| blur         | cubic, then a low-pass                        | next to nothing in the upper half               |
"""

from typing import Literal

import cv2
import numpy as np

Fingerprint = Literal["nearest", "checkerboard", "ringing", "blur"]
FINGERPRINTS: tuple[Fingerprint, ...] = ("nearest", "checkerboard", "ringing", "blur")


def fingerprint(
    rng: np.random.Generator,
    pixels: np.ndarray,
    kind: Fingerprint,
    strength: float = 1.0,
    mask: np.ndarray | None = None,
) -> np.ndarray:
    """A forged picture: the real one, half down and up again.

    Args:
        rng: draws the operator's parameters, from a narrow range for each kind.
        pixels: uint8 (H, W, 3) RGB. Three equal channels stay equal.
        kind: of FINGERPRINTS.
        strength: share of the forged pixels in the result, in [0, 1].
        mask: float (H, W) in [0, 1], where to forge; None for everywhere.

    Returns:
        uint8 (H, W, 3).

    Raises:
        ValueError: no such kind, or a strength out of range.
    """
    if kind not in FINGERPRINTS or not 0 <= strength <= 1:
        raise ValueError(f"{kind} at {strength}: kinds are {', '.join(FINGERPRINTS)}, strengths 0 to 1")
    height, width = pixels.shape[:2]
    real = pixels.astype(np.float32)
    even = cv2.copyMakeBorder(real, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
    low = cv2.resize(even, (even.shape[1] // 2, even.shape[0] // 2), interpolation=cv2.INTER_AREA)
    made = _up(rng, low, kind)[:height, :width]
    weight: np.ndarray | float = strength if mask is None else strength * mask[..., None].astype(np.float32)
    return np.clip(real + weight * (made - real) + 0.5, 0, 255).astype(np.uint8)


def _up(rng: np.random.Generator, low: np.ndarray, kind: Fingerprint) -> np.ndarray:
    """Float32 (h, w, 3) to (2 h, 2 w, 3)."""
    size = (2 * low.shape[1], 2 * low.shape[0])
    if kind == "nearest":
        side = float(rng.uniform(0.02, 0.10))
        taps = np.array([side, 1 - 2 * side, side], np.float32)
        return cv2.sepFilter2D(low.repeat(2, axis=0).repeat(2, axis=1), -1, taps, taps)
    if kind == "blur":
        return cv2.GaussianBlur(cv2.resize(low, size, interpolation=cv2.INTER_CUBIC), (0, 0), rng.uniform(0.8, 1.3))
    up = cv2.resize(low, size, interpolation=cv2.INTER_LINEAR)
    if kind == "ringing":
        return up + rng.uniform(1.0, 2.0) * (up - cv2.GaussianBlur(up, (0, 0), rng.uniform(1.0, 1.5)))
    # A transposed convolution of stride 2 is four filters, one a phase of the output. Here all four are the bilinear
    # one; that learned ones weigh the phases unequally is what makes the board.
    gain = rng.uniform(-1, 1, (2, 2))
    gain -= gain.mean()
    gain *= rng.uniform(0.02, 0.05) / np.abs(gain).max()
    board = np.tile(1 + gain, low.shape[:2])[..., None].astype(np.float32)
    return np.asarray(up * board)
