"""The radial power spectrum: a trivial opponent that reads nothing else, and a way to leave it nothing to read.

What the linear classifier here can tell, a detector need not see a face for.
"""

import numpy as np

from unmask.errors import MissingExtraError

_MOST = np.log(3)  # amplitudes are changed threefold at most: what is not there cannot be raised without raising noise


def radial_spectrum(crop: np.ndarray) -> np.ndarray:
    """Log power over 56 rings of spatial frequency, of the luminance of uint8 (S, S, 3); float32 (56,)."""
    grey = crop.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
    size = len(grey)
    window = np.hanning(size).astype(np.float32)
    power = np.abs(np.fft.fftshift(np.fft.fft2((grey - grey.mean()) * window * window[:, None]))) ** 2
    rows, columns = np.indices(power.shape) - size // 2
    ring = np.minimum((np.hypot(rows, columns) * (56 / (size / 2))).astype(int), 56)
    total = np.bincount(ring.ravel(), power.ravel(), 57)[:56]
    count = np.bincount(ring.ravel(), minlength=57)[:56]
    return np.log(total / np.maximum(count, 1) + 1e-6).astype(np.float32)


def match_spectrum(pixels: np.ndarray, like: np.ndarray) -> np.ndarray:
    """Filter a picture so that its luminance has the radial spectrum of another, but for the coarsest tenth of it.

    Decoders draw too little or too much fine detail, each in its way; this takes most of that difference away. Whether
    a detector trained on such pictures fares better on the next generator has not been measured apart.

    Args:
        pixels: uint8 (S, S, 3).
        like: uint8 (T, T, 3); frequencies are compared relative to either one's sampling.

    Returns:
        uint8 (S, S, 3).
    """
    size = len(pixels)
    wanted, own = radial_spectrum(like) - 2 * np.log(len(like)), radial_spectrum(pixels) - 2 * np.log(size)
    gain = np.exp(np.clip((wanted - own) / 2, -_MOST, _MOST))
    gain[: len(gain) // 10] = 1
    gain = np.convolve(np.pad(gain, 1, mode="edge"), (0.25, 0.5, 0.25), "valid")
    ring = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)) * (2 * len(gain)) - 0.5
    filtered = np.fft.irfft2(
        np.fft.rfft2(pixels.astype(np.float32), axes=(0, 1)) * np.interp(ring, np.arange(len(gain)), gain)[..., None],
        (size, size),
        axes=(0, 1),
    )
    return np.clip(filtered + 0.5, 0, 255).astype(np.uint8)


class SpectrumClassifier:
    """Standardised radial spectra under logistic regression."""

    def __init__(self) -> None:
        try:
            from sklearn.linear_model import LogisticRegression
            from sklearn.pipeline import make_pipeline
            from sklearn.preprocessing import StandardScaler
        except ImportError as error:
            raise MissingExtraError("lab", "the spectrum classifier") from error
        self._model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=2000, class_weight="balanced"))

    def fit(self, crops: np.ndarray, labels: np.ndarray) -> "SpectrumClassifier":
        """Fit on crops uint8 (N, S, S, 3) and labels (N,)."""
        self._model.fit(np.stack([radial_spectrum(crop) for crop in crops]), labels)
        return self

    def logits(self, crops: np.ndarray) -> np.ndarray:
        """Decision values (N,), higher = more likely forged."""
        return np.asarray(self._model.decision_function(np.stack([radial_spectrum(crop) for crop in crops])))
