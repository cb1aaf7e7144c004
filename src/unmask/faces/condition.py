"""The condition that a face was published in, as far as its pixels tell: verdicts are calibrated for each apart."""

from functools import cache
from typing import Literal

import cv2
import numpy as np

Condition = Literal["still", "video frame", "enlarged", "greyscale"]
CONDITIONS: tuple[Condition, ...] = ("still", "video frame", "enlarged", "greyscale")

_COLOURLESS = 3.0  # standard deviation of the chroma planes in levels; toned prints keep a constant tint
# Between photographs of some 256 pixels and the same pictures enlarged from 96, in every collection that was at hand.
_EMPTY = -2.85


def condition_of(crop: np.ndarray, video: bool = False) -> Condition:
    """The condition of a face.

    Args:
        crop: of the face, uint8 (S, S, 3) RGB, S at least 32.
        video: whether it is a frame of a video.

    Returns:
        "greyscale" for a picture without colours or of one tint; else "video frame" for a frame; else "enlarged" for
        a picture whose fine detail is missing, as when it was brought up from half the size or less; else "still".
    """
    chroma = cv2.cvtColor(crop, cv2.COLOR_RGB2YCrCb)[..., 1:]
    if float(chroma.reshape(-1, 2).std(axis=0).max()) < _COLOURLESS:
        return "greyscale"
    if video:
        return "video frame"
    return "enlarged" if detail(crop) < _EMPTY else "still"


def detail(crop: np.ndarray) -> float:
    """How much of a picture's power is fine detail: log10 of that at .28 to .45 over that at .08 to .16 cycles a pixel.

    Args:
        crop: uint8 (S, S, 3) RGB, S at least 32.

    Returns:
        0 for white noise and for a picture of one colour, less the softer a picture is.
    """
    window, fine, coarse = _bands(len(crop))
    luma = crop @ np.array([0.299, 0.587, 0.114], np.float32)
    power = np.abs(np.fft.rfft2((luma - luma.mean()) * window)) ** 2
    return float(np.log10(power[fine].mean() + 1e-9) - np.log10(power[coarse].mean() + 1e-9))


@cache
def _bands(side: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    hann = np.hanning(side).astype(np.float32)
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None])
    fine = (frequency > 0.28) & (frequency < 0.45)
    coarse = (frequency > 0.08) & (frequency < 0.16)
    return hann[:, None] * hann[None], fine, coarse
