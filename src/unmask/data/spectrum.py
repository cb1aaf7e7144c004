"""The trivial opponent: a linear classifier on the radial power spectrum.

What it can tell, a detector need not see a face for.
"""

import numpy as np

from unmask.errors import MissingExtraError


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
