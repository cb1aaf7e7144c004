from collections import Counter
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
from fake_faces import make_picture
from hypothesis import given, settings
from hypothesis import strategies as st

from unmask.forging.perturbation import BLOCKS, KINDS, MIXED, NOISE, Kind, is_single_band, perturb, subset_of

PICTURE = make_picture(128, 1)
GREY = np.repeat(PICTURE[..., :1], 3, axis=2)


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(KINDS), st.integers(0, 5), st.integers(0, 2**31), st.integers(9, 150), st.integers(9, 150))
def test_a_perturbation_keeps_type_and_size_and_repeats(
    kind: Kind, level: int, seed: int, height: int, width: int
) -> None:
    picture = np.ascontiguousarray(make_picture(150)[:height, :width])
    before = picture.copy()
    first, second = (perturb(np.random.default_rng(seed), picture, kind, level) for _ in range(2))
    assert first.shape == picture.shape and first.dtype == np.uint8
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(picture, before)
    if level == 0:
        np.testing.assert_array_equal(first, picture)


@pytest.mark.parametrize("kind", KINDS)
def test_a_higher_level_changes_more(kind: Kind, portrait: Path) -> None:
    bgr = cv2.imread(str(portrait))
    assert bgr is not None
    changes = [
        np.square(perturb(np.random.default_rng(5), bgr, kind, level).astype(float) - bgr).mean() for level in range(6)
    ]
    assert changes[0] == 0
    assert all(low < high for low, high in pairwise(changes)), changes


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("level", range(6))
def test_a_single_band_stays_one(kind: Kind, level: int) -> None:
    assert is_single_band(perturb(np.random.default_rng(2), GREY, kind, level))
    assert not is_single_band(PICTURE)


@pytest.mark.parametrize("level", range(1, 6))
def test_blocks_are_as_many_as_told(level: int) -> None:
    dark = np.zeros((256, 300, 3), np.uint8)
    out = perturb(np.random.default_rng(0), dark, "block", level)
    area = float((out == 128).all(axis=2).sum())
    assert set(np.unique(out)) == {0, 128}
    assert 0.6 * 64 * BLOCKS[level - 1] < area <= 64 * BLOCKS[level - 1]  # some cover others


def test_noise_has_the_references_strength() -> None:
    """By the reference's own steps: narrow-range YCbCr over 255, noise, back."""
    grey = np.full((400, 400, 3), 128, np.uint8)
    for level, variance in enumerate(NOISE[:4], start=1):
        out = perturb(np.random.default_rng(0), grey, "noise", level).astype(float)
        assert out.std() == pytest.approx(255 * np.sqrt(variance) * 255 / 219, rel=0.03)
    colour = np.full((400, 400, 3), (120, 130, 128), np.uint8)
    noise = perturb(np.random.default_rng(0), colour, "noise", 1).astype(float) - colour
    luma = noise @ [0.299, 0.587, 0.114]
    assert luma.std() == pytest.approx(255 * np.sqrt(NOISE[0]) * 255 / 219, rel=0.05)
    assert np.corrcoef(noise[..., 0].ravel(), noise[..., 2].ravel())[0, 1] < 0.5  # the bands differ


def test_contrast_is_a_factor() -> None:
    np.testing.assert_array_equal(
        perturb(np.random.default_rng(0), PICTURE, "contrast", 5), (PICTURE * np.float32(0.35)).astype(np.uint8)
    )


def test_the_rules_of_the_subsets() -> None:
    counts: Counter[int] = Counter()
    kinds: Counter[str] = Counter()
    levels: Counter[int] = Counter()
    for seed in range(120):
        clean, none = subset_of(np.random.default_rng(seed), GREY, "std")
        assert none == () and clean is GREY
        _, one = subset_of(np.random.default_rng(seed), PICTURE[:32, :32], "rand")
        assert len(one) == 1
        kinds[one[0][0]] += 1
        levels[one[0][1]] += 1
        _, several = subset_of(np.random.default_rng(seed), PICTURE[:32, :32], "mix")
        assert len({kind for kind, _ in several}) == len(several)
        counts[len(several)] += 1
    assert set(counts) == set(MIXED) and set(kinds) == set(KINDS) and set(levels) == {1, 2, 3, 4, 5}
    assert min(*counts.values(), *kinds.values(), *levels.values()) > 10


def test_a_subsets_steps_make_the_picture_again() -> None:
    made, steps = subset_of(np.random.default_rng(4), PICTURE, "mix")
    fixed = [step for step in steps if step[0] in ("contrast", "blur", "jpeg")]
    assert fixed and (made != PICTURE).any()


def test_what_is_unknown_is_refused() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="levels 0 to 5"):
        perturb(rng, PICTURE, "blur", 6)
    with pytest.raises(ValueError, match="kinds are"):
        perturb(rng, PICTURE, "fog", 1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="std, rand, mix"):
        subset_of(rng, PICTURE, "all")  # type: ignore[arg-type]
