from pathlib import Path

import cv2
import numpy as np
import pytest
from fake_faces import make_picture
from hypothesis import given, settings
from hypothesis import strategies as st

from unmask.forging.perturbation import is_single_band
from unmask.forging.upsampling import FINGERPRINTS, Fingerprint, fingerprint

PICTURE = make_picture(96, 1)


@pytest.fixture(scope="module")
def photograph(portrait: Path) -> np.ndarray:
    """uint8 (256, 256, 3): a real face; cut out, for resampling would leave a fingerprint of its own."""
    bgr = cv2.imread(str(portrait))
    assert bgr is not None
    return cv2.cvtColor(np.ascontiguousarray(bgr[20:276, 60:316]), cv2.COLOR_BGR2RGB)


def power(pixels: np.ndarray) -> np.ndarray:
    """Power of the luminance over the two frequencies, windowed: row and column S / 2 are Nyquist's."""
    grey = pixels.astype(float).mean(axis=2)
    window = np.hanning(len(grey))
    return np.abs(np.fft.fft2((grey - grey.mean()) * window * window[:, None])) ** 2


def forge(photograph: np.ndarray, kind: Fingerprint, seed: int = 0, strength: float = 1.0) -> np.ndarray:
    return fingerprint(np.random.default_rng(seed), photograph, kind, strength)


@pytest.mark.parametrize("seed", range(4))
def test_a_checkerboard_peaks_at_nyquist(photograph: np.ndarray, seed: int) -> None:
    """At least one of the board's three frequencies, (0, N), (N, 0) and (N, N), stands out of what is around it."""
    middle = len(photograph) // 2
    heights = []
    for pixels in (photograph, forge(photograph, "checkerboard", seed)):
        spectrum = power(pixels)
        around = np.median(spectrum[middle - 12 : middle + 13, middle - 12 : middle + 13])
        heights.append(max(spectrum[middle, 0], spectrum[0, middle], spectrum[middle, middle]) / around)
    assert heights[1] > 50 * heights[0], heights


@pytest.mark.parametrize("seed", range(4))
def test_nearest_repeats_the_low_frequencies_next_to_nyquist(photograph: np.ndarray, seed: int) -> None:
    """A doubled row has the picture's spectrum mirrored about a quarter of the sampling rate."""
    size = len(photograph)
    low, mirrored = slice(2, 12), slice(size // 2 - 11, size // 2 - 1)
    likeness, energy = [], []
    for pixels in (photograph, forge(photograph, "nearest", seed)):
        spectrum = np.log(power(pixels) + 1)
        likeness.append(np.corrcoef(spectrum[low, :20].ravel(), spectrum[mirrored, :20][::-1].ravel())[0, 1])
        energy.append(power(pixels)[mirrored, :20].sum())
    assert energy[1] > 4 * energy[0], energy
    assert likeness[1] > max(likeness[0] + 0.3, 0.4), likeness


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("kind", "least"), [("nearest", 1.2), ("ringing", 0.3), ("checkerboard", 0.05)])
def test_steps_are_small_and_large_by_turns(photograph: np.ndarray, kind: Fingerprint, least: float, seed: int) -> None:
    """Interpolation by two shows in the size of first differences, which then alternates."""
    alternating = []
    for pixels in (photograph, forge(photograph, kind, seed)):
        step = np.abs(np.diff(pixels.astype(float).mean(axis=2), axis=1)).mean(axis=0)
        alternating.append(abs(step[0:-1:2].mean() - step[1::2].mean()) / step.mean())
    assert alternating[0] < 0.02 and alternating[1] > least, alternating


def test_ringing_overshoots_at_an_edge() -> None:
    edge = np.full((64, 64, 3), 60, np.uint8)
    edge[:, 30:] = 180
    spans = {kind: np.ptp(forge(edge, kind)[32, 20:44, 0].astype(int)) for kind in ("ringing", "blur")}
    assert spans["ringing"] > 140 and spans["blur"] <= 126


def test_blur_leaves_nothing_in_the_upper_half(photograph: np.ndarray) -> None:
    size = len(photograph)
    upper = np.hypot(*np.meshgrid(np.fft.fftfreq(size), np.fft.fftfreq(size))) > 0.3
    energies = {kind: power(forge(photograph, kind))[upper].sum() for kind in FINGERPRINTS}
    assert energies["blur"] < 0.1 * power(photograph)[upper].sum()
    assert energies["blur"] < 0.5 * min(value for kind, value in energies.items() if kind != "blur")


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(FINGERPRINTS), st.integers(0, 2**31), st.integers(2, 90), st.integers(2, 90), st.floats(0, 1))
def test_it_keeps_type_and_size_and_repeats(
    kind: Fingerprint, seed: int, height: int, width: int, strength: float
) -> None:
    picture = np.ascontiguousarray(PICTURE[:height, :width])
    one, two = (fingerprint(np.random.default_rng(seed), picture, kind, strength) for _ in range(2))
    assert one.shape == picture.shape and one.dtype == np.uint8
    np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("kind", FINGERPRINTS)
def test_strength_and_mask_bound_the_change(kind: Fingerprint, photograph: np.ndarray) -> None:
    changes = [
        np.abs(forge(photograph, kind, 2, strength).astype(int) - photograph).mean() for strength in (0.0, 0.5, 1.0)
    ]
    assert changes[0] == 0 < changes[1] < changes[2] < 20
    mask = np.zeros(photograph.shape[:2], np.float32)
    mask[60:120, 80:150] = 1
    masked = fingerprint(np.random.default_rng(2), photograph, kind, 1.0, mask)
    np.testing.assert_array_equal(masked[mask == 0], photograph[mask == 0])
    np.testing.assert_array_equal(masked[mask == 1], forge(photograph, kind, 2)[mask == 1])


@pytest.mark.parametrize("kind", FINGERPRINTS)
def test_it_stays_in_place_and_a_single_band_stays_one(kind: Fingerprint) -> None:
    spot = np.zeros((64, 64, 3), np.uint8)
    spot[28:36, 20:30] = 200
    out = forge(spot, kind).astype(float)[..., 0]
    rows, columns = np.indices(out.shape)
    assert (rows * out).sum() / out.sum() == pytest.approx(31.5, abs=0.2)
    assert (columns * out).sum() / out.sum() == pytest.approx(24.5, abs=0.2)
    assert is_single_band(forge(spot, kind))


def test_what_is_unknown_is_refused() -> None:
    with pytest.raises(ValueError, match="kinds are nearest"):
        forge(PICTURE, "cubic")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="strengths 0 to 1"):
        forge(PICTURE, "blur", strength=1.5)
