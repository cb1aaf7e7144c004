from dataclasses import replace

import cv2
import numpy as np
import pytest
from fake_faces import make_picture
from hypothesis import given, settings
from hypothesis import strategies as st

from unmask.forging.degradation import (
    Degradation,
    downscale,
    independent_postprocessing,
    jpeg,
    publishing_scale,
    sharpen,
)

PICTURE = make_picture(96, 1)
GENTLE = Degradation(
    scale=1.0,
    down=0,
    blur=0.0,
    noise=0.0,
    qualities=(95,),
    full_chroma=True,
    last=-1,
    gain=(1.0, 1.0, 1.0),
    offset=0.0,
    saturation=1.0,
    mirror=False,
)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.integers(40, 120), st.sampled_from([28, 56, 96, 112]))
def test_equal_twins_stay_equal(seed: int, side: int, size: int) -> None:
    """What befalls a pair may not tell its halves apart: with the same noise, equal pictures end up equal."""
    fate = Degradation.draw(np.random.default_rng(seed))
    picture = make_picture(side, seed % 7)
    one, two = (fate.apply(np.random.default_rng(5), pixels, size) for pixels in (picture, picture.copy()))
    np.testing.assert_array_equal(one, two)
    assert one.shape == (size, size, 3) and one.dtype == np.uint8 and one.flags.c_contiguous


def test_only_the_noise_is_random_in_its_use() -> None:
    for seed in range(60):
        fate = Degradation.draw(np.random.default_rng(seed))
        one, two = (fate.apply(np.random.default_rng(n), PICTURE, 64) for n in (1, 2))
        assert (one == two).all() == (fate.noise == 0)


def test_a_degradation_is_drawn_from_its_generator_alone() -> None:
    draws = [Degradation.draw(np.random.default_rng(seed)) for seed in range(300)]
    assert draws == [Degradation.draw(np.random.default_rng(seed)) for seed in range(300)]
    assert len(set(draws)) == 300
    for fate in draws:
        assert 0.4 <= fate.scale <= 1 and all(30 <= quality <= 98 for quality in fate.qualities)
    assert {len(fate.qualities) for fate in draws} == {0, 1, 2}
    assert 0.4 < np.mean([fate.mirror for fate in draws]) < 0.6


def test_a_gentle_one_changes_next_to_nothing() -> None:
    out = GENTLE.apply(np.random.default_rng(0), PICTURE, 96)
    assert np.abs(out.astype(int) - PICTURE).mean() < 4  # one JPEG at 95


def test_a_mirrored_one_is_the_mirror_image() -> None:
    plain, mirrored = (
        replace(GENTLE, mirror=mirror).apply(np.random.default_rng(0), PICTURE, 64) for mirror in (False, True)
    )
    np.testing.assert_array_equal(mirrored, plain[:, ::-1])


def test_jpeg_loses_more_at_lower_quality() -> None:
    losses = [float(((jpeg(PICTURE, q).astype(float) - PICTURE) ** 2).mean()) for q in (98, 90, 70, 50, 30, 10)]
    assert losses == sorted(losses) and losses[0] < losses[-1] / 3


def test_jpeg_keeps_the_colours_apart_at_full_chroma() -> None:
    rng = np.random.default_rng(0)
    specks = (rng.integers(0, 2, (64, 64, 1)) * np.array([255, 0, 0]) + [0, 60, 60]).astype(np.uint8)
    half, full = (((jpeg(specks, 95, chroma).astype(float) - specks) ** 2).mean() for chroma in (False, True))
    assert full < half / 2


@pytest.mark.parametrize("quality", [1, 100])
def test_jpeg_takes_every_quality(quality: int) -> None:
    out = jpeg(PICTURE, quality)
    assert out.shape == PICTURE.shape and out.dtype == np.uint8


def test_sharpening_raises_and_softening_lowers_the_fine_detail() -> None:
    def detail(pixels: np.ndarray) -> float:
        return float(np.abs(np.diff(pixels.astype(int), axis=1)).mean())

    levels = [detail(sharpen(PICTURE, amount)) for amount in (-0.7, -0.3, 0.0, 0.4, 0.9)]
    assert levels == sorted(levels) and len(set(levels)) == 5
    np.testing.assert_array_equal(sharpen(PICTURE, 0.0), PICTURE)


def test_histories_are_drawn_apart_and_change_little() -> None:
    rng = np.random.default_rng(0)
    made = [independent_postprocessing(rng, PICTURE) for _ in range(200)]
    assert len({picture.tobytes() for picture in made}) > 120
    untouched = np.mean([(picture == PICTURE).all() for picture in made])
    assert 0.2 < untouched < 0.4  # neither sharpened nor encoded: five of ten times six of ten
    assert all(picture.shape == PICTURE.shape and picture.dtype == np.uint8 for picture in made)
    assert np.mean([np.abs(picture.astype(int) - PICTURE).mean() for picture in made]) < 12


@pytest.mark.parametrize("face", [40.0, 56.0, 70.0, 130.0, 1000.0])
def test_a_third_of_pairs_is_published_smaller_but_no_face_below_56_pixels(face: float) -> None:
    rng = np.random.default_rng(0)
    scales = np.array([publishing_scale(rng, face) for _ in range(2000)])
    assert (scales * face >= min(face, 56.0) - 1e-9).all() and (scales >= 0.35).all() and (scales <= 1).all()
    if face > 56:
        assert 0.3 < (scales < 1).mean() < 0.4


def test_downscaling_keeps_fine_detail_that_a_box_takes() -> None:
    wave = 128 + 100 * np.sin(2 * np.pi * 16 * (np.arange(96) + 0.5) / 96)  # two thirds of what 48 pixels can hold
    picture = np.broadcast_to(wave[None, :, None], (96, 96, 3)).astype(np.uint8)
    small, box = downscale(picture, 0.5), cv2.resize(picture, (48, 48), interpolation=cv2.INTER_AREA)
    assert small.shape == (48, 48, 3) and small.dtype == np.uint8
    assert small[:, 8:-8].std() > 1.1 * box[:, 8:-8].std()
    np.testing.assert_array_equal(downscale(PICTURE, 1.0), PICTURE)
