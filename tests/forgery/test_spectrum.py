import sys

import cv2
import numpy as np
import pytest

from unmask.errors import MissingExtraError
from unmask.forgery.spectrum import SpectrumClassifier, match_spectrum, radial_spectrum


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


@pytest.mark.parametrize("size", [96, 112, 160])
def test_a_matched_picture_has_the_spectrum_of_the_other(size: int) -> None:
    crops, _ = noises(0, 2)
    soft, crisp = cv2.GaussianBlur(crops[0], (0, 0), 0.6), noises(1, 1)[0][0][:96, :96]
    soft = cv2.resize(soft, (size, size), interpolation=cv2.INTER_NEAREST) if size > 112 else soft[:size, :size]

    def distance(pixels: np.ndarray) -> float:
        apart = (radial_spectrum(pixels) - 2 * np.log(len(pixels))) - (radial_spectrum(crisp) - 2 * np.log(len(crisp)))
        return float(np.abs(apart[6:]).mean())

    matched = match_spectrum(soft, crisp)
    assert matched.shape == soft.shape and matched.dtype == np.uint8
    assert distance(matched) < 0.3 * distance(soft)


def test_matching_a_picture_to_itself_changes_nothing() -> None:
    crop = np.random.default_rng(0).integers(0, 256, (112, 112, 3), np.uint8)
    np.testing.assert_array_equal(match_spectrum(crop, crop), crop)
    flat = np.full((64, 64, 3), 9, np.uint8)
    np.testing.assert_array_equal(match_spectrum(flat, flat), flat)


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
    with pytest.raises(MissingExtraError, match=r"\[lab\]"):
        SpectrumClassifier()
