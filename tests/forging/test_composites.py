import numpy as np
import pytest
from fake_faces import make_mesh, make_picture

from unmask.faces.mesh import region_mask
from unmask.forging.composites import FEATURES, composite_region, draw_regions

SIZE = 128
MESH, OTHER_MESH = make_mesh(SIZE), make_mesh(160, turn=0.6)
PICTURE, OTHER = make_picture(SIZE, 1), make_picture(160, 2)


def composite(seed: int, regions: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray, str]:
    return composite_region(np.random.default_rng(seed), PICTURE, MESH, OTHER, OTHER_MESH, regions)


@pytest.mark.parametrize(
    ("regions", "flags"),
    [
        (("left_eye",), "1000"),
        (("right_eye",), "0100"),
        (("nose",), "0010"),
        (("mouth",), "0001"),
        (("nose", "left_eye"), "1010"),
        (FEATURES, "1111"),
    ],
)
@pytest.mark.parametrize("seed", range(4))
def test_the_named_features_change_and_nothing_else(seed: int, regions: tuple[str, ...], flags: str) -> None:
    pixels, mask, changed = composite(seed, regions)
    assert changed == flags
    assert pixels.shape == PICTURE.shape and pixels.dtype == np.uint8
    assert mask.shape == PICTURE.shape[:2] and mask.dtype == np.float32 and mask.min() >= 0 and mask.max() <= 1
    for name in FEATURES:
        core = region_mask(PICTURE.shape, MESH, name).astype(bool)
        assert mask[core].mean() > 0.6 if name in regions else mask[core].mean() < 0.35, name
    change = np.abs(pixels.astype(int) - PICTURE).mean(axis=2)
    assert change[mask > 0.9].mean() > 2
    # OpenCV's Poisson solver works on the bounding rectangle of what it clones and shifts its rest by some grey levels.
    assert change[mask == 0].mean() < 0.1


def test_it_stays_within_the_face() -> None:
    inside = region_mask(PICTURE.shape, MESH, "face", 0.08).astype(bool)
    assert all(composite(seed, FEATURES)[1][~inside].max() < 0.3 for seed in range(5))


def test_it_repeats_and_both_ways_of_blending_occur() -> None:
    hard = set()
    for seed in range(8):
        (a, mask, _), (b, again, _) = composite(seed, ("nose",)), composite(seed, ("nose",))
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(mask, again)
        hard.add(len(np.unique(mask)) == 2)
    assert hard == {True, False}


def test_neither_picture_is_touched() -> None:
    before = PICTURE.copy(), OTHER.copy()
    composite(1, FEATURES)
    np.testing.assert_array_equal(PICTURE, before[0])
    np.testing.assert_array_equal(OTHER, before[1])


def test_pasted_colours_match() -> None:
    """A much brighter donor does not leave a bright patch."""
    bright = (OTHER // 3 + 170).astype(np.uint8)
    gaps = []
    for seed in range(6):
        pixels, mask, _ = composite_region(np.random.default_rng(seed), PICTURE, MESH, bright, OTHER_MESH, ("mouth",))
        inside = mask > 0.9
        gaps.append(abs(pixels[inside].mean() - PICTURE[inside].mean()))
    assert np.mean(gaps) < 0.6 * abs(bright.mean() - PICTURE.mean())


def test_drawn_regions_are_all_there_is() -> None:
    drawn = {draw_regions(np.random.default_rng(seed)) for seed in range(200)}
    assert len(drawn) == 15 and () not in drawn


@pytest.mark.parametrize("regions", [(), ("ear",), ("nose", "hair")])
def test_what_is_unknown_is_refused(regions: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="name some of left_eye"):
        composite(0, regions)
