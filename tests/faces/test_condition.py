import cv2
import numpy as np
import pytest
from fake_faces import make_picture

from unmask.faces.condition import condition_of, detail

PICTURE = make_picture(224, 3)


def enlarged(pixels: np.ndarray, factor: float) -> np.ndarray:
    side = round(len(pixels) / factor)
    small = cv2.resize(pixels, (side, side), interpolation=cv2.INTER_AREA)
    return cv2.resize(small, pixels.shape[1::-1], interpolation=cv2.INTER_CUBIC)


def grey(pixels: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)


def test_pixels_tell_the_condition() -> None:
    assert condition_of(PICTURE) == "still"
    assert condition_of(PICTURE, video=True) == "video frame"
    assert condition_of(enlarged(PICTURE, 4)) == "enlarged"
    assert condition_of(enlarged(PICTURE, 4), video=True) == "video frame"
    assert condition_of(grey(PICTURE)) == "greyscale"
    assert condition_of(grey(PICTURE), video=True) == "greyscale"


def test_a_print_of_one_tint_is_greyscale() -> None:
    toned = np.clip(grey(PICTURE) * np.array([1.0, 0.98, 0.94]), 0, 255).astype(np.uint8)
    assert condition_of(toned) == "greyscale"


@pytest.mark.parametrize("factors", [(1.0, 1.5, 2.5, 5.0)])
def test_enlarging_leaves_ever_less_detail(factors: tuple[float, ...]) -> None:
    values = [detail(PICTURE if factor == 1 else enlarged(PICTURE, factor)) for factor in factors]
    assert values == sorted(values, reverse=True)


def test_noise_and_a_plain_picture_lack_nothing() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (128, 128, 3), np.uint8)
    assert detail(noise) == pytest.approx(0, abs=0.1)
    assert detail(np.full((64, 64, 3), 90, np.uint8)) == pytest.approx(0, abs=0.01)
