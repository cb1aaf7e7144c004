import sys

import cv2
import numpy as np
import pytest

from unmask.data.spectrum import SpectrumClassifier, radial_spectrum
from unmask.errors import MissingExtraError


def noises(seed: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """White noise (0) and the same kind blurred (1), equal in mean and spread."""
    rng = np.random.default_rng(seed)
    crops = []
    for number in range(count):
        noise = rng.normal(0, 1, (112, 112, 3))
        if number % 2:
            noise = cv2.GaussianBlur(noise, (0, 0), 1.0)
        crops.append(np.clip(128 + 30 * noise / noise.std(), 0, 255).astype(np.uint8))
    return np.stack(crops), np.arange(count) % 2


@pytest.mark.parametrize("size", [112, 128, 224])
def test_a_spectrum_has_56_finite_rings(size: int) -> None:
    crop = np.random.default_rng(0).integers(0, 256, (size, size, 3), np.uint8)
    for pixels in (crop, np.zeros_like(crop), np.full_like(crop, 255)):
        spectrum = radial_spectrum(pixels)
        assert spectrum.shape == (56,) and spectrum.dtype == np.float32
        assert np.isfinite(spectrum).all()


def test_a_wave_shows_at_its_ring() -> None:
    size, waves = 224, 40
    wave = 128 + 100 * np.sin(2 * np.pi * waves * np.arange(size) / size)
    crop = np.broadcast_to(wave[None, :, None], (size, size, 3)).astype(np.uint8)
    assert abs(int(radial_spectrum(crop).argmax()) - waves * 56 // (size // 2)) <= 1


def test_it_does_not_see_brightness() -> None:
    crop = np.random.default_rng(0).integers(50, 150, (112, 112, 3), np.uint8)
    np.testing.assert_allclose(radial_spectrum(crop), radial_spectrum(crop + np.uint8(60)), atol=0.05)


@pytest.mark.lab
def test_it_tells_white_noise_from_blurred() -> None:
    crops, labels = noises(0, 24)
    others, truth = noises(1, 16)
    logits = SpectrumClassifier().fit(crops, labels).logits(others)
    assert logits.shape == (16,)
    assert ((logits > 0) == truth).all()


@pytest.mark.lab
def test_what_does_not_differ_is_not_told_apart() -> None:
    from sklearn.metrics import roc_auc_score

    crops, _ = noises(2, 80)
    white = crops[::2]
    labels = np.arange(len(white)) % 2
    model = SpectrumClassifier().fit(white[:20], labels[:20])
    assert abs(roc_auc_score(labels[20:], model.logits(white[20:])) - 0.5) < 0.35


def test_without_scikit_learn_it_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.linear_model", None)
    with pytest.raises(MissingExtraError, match=r"unmask\[lab\]"):
        SpectrumClassifier()
