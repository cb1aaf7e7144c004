import numpy as np
import pytest
from fake_faces import make_mesh, make_picture
from hypothesis import given, settings
from hypothesis import strategies as st

from unmask.forging.blending import (
    blend,
    blending_mask,
    change_look,
    coarsen,
    displace,
    match_colour,
    poisson,
    pose_distance,
    self_blend,
    smooth_field,
    swap_face,
    warp_face,
)

SIZE = 96
MESH = make_mesh(SIZE)
PICTURE = make_picture(SIZE, 1)
OTHER = make_picture(SIZE, 2)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.integers(64, 130), st.integers(64, 130), st.floats(0, 1))
def test_a_mask_is_soft_within_its_range_and_somewhere_full(seed: int, height: int, width: int, local: float) -> None:
    mask = blending_mask(np.random.default_rng(seed), (height, width, 3), make_mesh(min(height, width)), local)
    assert mask.shape == (height, width) and mask.dtype == np.float32
    assert mask.min() >= 0
    assert mask.max() == pytest.approx(1, abs=1e-6)


def test_a_mask_lies_on_the_face() -> None:
    inside = np.zeros((SIZE, SIZE), bool)
    left, top = np.floor(MESH.min(axis=0)).astype(int)
    right, bottom = np.ceil(MESH.max(axis=0)).astype(int)
    inside[top:bottom, left:right] = True
    shares = [
        mask[inside].sum() / mask.sum()
        for mask in (blending_mask(np.random.default_rng(seed), (SIZE, SIZE), MESH) for seed in range(30))
    ]
    assert min(shares) > 0.8


def test_local_masks_are_smaller() -> None:
    areas = [
        np.mean([blending_mask(np.random.default_rng(seed), (SIZE, SIZE), MESH, local).mean() for seed in range(15)])
        for local in (0.0, 1.0)
    ]
    assert areas[1] < 0.6 * areas[0]


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31))
def test_a_blend_changes_nothing_outside_its_mask(seed: int) -> None:
    mask = blending_mask(np.random.default_rng(seed), PICTURE.shape, MESH)
    out = blend(PICTURE, OTHER, mask)
    assert out.dtype == np.uint8 and out.shape == PICTURE.shape
    np.testing.assert_array_equal(out[mask == 0], PICTURE[mask == 0])
    np.testing.assert_array_equal(out[mask == 1], OTHER[mask == 1])
    low, high = np.minimum(PICTURE, OTHER), np.maximum(PICTURE, OTHER)
    assert ((out >= low) & (out <= high)).all()


def test_a_blend_of_a_picture_with_itself_is_itself() -> None:
    mask = blending_mask(np.random.default_rng(0), PICTURE.shape, MESH)
    np.testing.assert_array_equal(blend(PICTURE, PICTURE, mask), PICTURE)


def test_poisson_keeps_the_outside_and_takes_the_gradients_inside() -> None:
    mask = np.zeros((SIZE, SIZE), np.float32)
    mask[30:60, 30:60] = 1
    out = poisson(PICTURE, OTHER, mask)
    np.testing.assert_array_equal(out[mask == 0], PICTURE[mask == 0])
    here, there = (np.diff(x[35:55, 35:55].astype(float), axis=1).ravel() for x in (out, OTHER))
    assert np.corrcoef(here, there)[0, 1] > 0.9


@pytest.mark.parametrize("corner", [slice(0, 40), slice(SIZE - 40, SIZE)])
def test_poisson_at_the_border_stays_in_place(corner: slice) -> None:
    """A region that reaches the border must neither raise nor be shifted."""
    mask = np.zeros((SIZE, SIZE), np.float32)
    mask[corner, corner] = 1
    out = poisson(PICTURE, OTHER, mask)
    assert out.shape == PICTURE.shape
    np.testing.assert_array_equal(out[mask == 0], PICTURE[mask == 0])
    inner = slice(corner.start + 8, corner.stop - 8)
    here, there = (np.diff(x[inner, inner].astype(float), axis=1).ravel() for x in (out, OTHER))
    assert np.corrcoef(here, there)[0, 1] > 0.9


@pytest.mark.parametrize("area", [np.s_[0:0, 0:0], np.s_[40:42, 40:42], np.s_[0:2, :]])
def test_poisson_of_next_to_nothing_is_a_blend(area: tuple[slice, slice]) -> None:
    mask = np.zeros((SIZE, SIZE), np.float32)
    mask[area] = 1
    np.testing.assert_array_equal(poisson(PICTURE, OTHER, mask), blend(PICTURE, OTHER, mask))


def test_poisson_of_the_whole_picture() -> None:
    out = poisson(PICTURE, OTHER, np.ones((SIZE, SIZE), np.float32))
    assert out.shape == PICTURE.shape and out.dtype == np.uint8


def test_matching_colour_moves_the_mean_to_the_targets() -> None:
    mask = np.zeros((SIZE, SIZE), np.float32)
    mask[20:70, 20:70] = 1
    pale = (0.5 * OTHER + 100).astype(np.uint8)
    inside = mask > 0.5
    gaps = [
        np.abs(match_colour(pale, PICTURE, mask, amount)[inside].mean(0) - PICTURE[inside].mean(0)).mean()
        for amount in (0.0, 0.5, 1.0)
    ]
    assert gaps[0] > gaps[1] > gaps[2]
    assert gaps[2] < 6


def test_a_face_warped_onto_its_own_mesh_stays_as_it_is() -> None:
    out = warp_face(PICTURE, MESH, MESH, PICTURE.shape)
    assert out.shape == PICTURE.shape and out.dtype == np.uint8
    difference = np.abs(out.astype(int) - PICTURE)
    # OpenCV's remap knows positions to 1/32 pixel; on fine noise that is a few grey levels.
    assert difference.max() <= 6 and difference.mean() < 0.3


def test_a_warp_brings_the_face_where_the_target_is() -> None:
    spot = np.zeros((SIZE, SIZE, 3), np.uint8)
    nose = MESH[4]
    x, y = np.round(nose).astype(int)
    spot[y - 2 : y + 3, x - 2 : x + 3] = 255
    moved = warp_face(spot, MESH, MESH * 1.2 + np.float32([-8, 5]), spot.shape)[..., 0].astype(float)
    rows, columns = np.indices(moved.shape)
    centre = np.array([(columns * moved).sum(), (rows * moved).sum()]) / moved.sum()
    np.testing.assert_allclose(centre, nose * 1.2 + [-8, 5], atol=1.0)
    assert moved.sum() / spot[..., 0].sum() == pytest.approx(1.44, rel=0.15)


def test_a_warp_may_change_the_pictures_size() -> None:
    assert warp_face(PICTURE, MESH, make_mesh(128), (128, 140, 3)).shape == (128, 140, 3)


@pytest.mark.parametrize("seed", range(12))
def test_forgeries_repeat_and_change_the_masked_part_only(seed: int) -> None:
    def forge() -> list[tuple[np.ndarray, np.ndarray]]:
        rng = np.random.default_rng(seed)
        return [self_blend(rng, PICTURE, MESH), swap_face(rng, PICTURE, MESH, OTHER, make_mesh(SIZE, turn=1))]

    first, second = forge(), forge()
    for (pixels, mask), (pixels_again, mask_again) in zip(first, second, strict=True):
        np.testing.assert_array_equal(pixels, pixels_again)
        np.testing.assert_array_equal(mask, mask_again)
        assert pixels.dtype == np.uint8 and pixels.shape == PICTURE.shape
        assert np.issubdtype(mask.dtype, np.floating) and mask.shape == PICTURE.shape[:2]
        assert mask.min() >= 0 and mask.max() <= 1
    swapped, mask = first[1]
    # OpenCV's Poisson solver works on the mask's bounding rectangle and may shift the rest of it by a few grey levels.
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    beyond = np.ones(mask.shape, bool)
    beyond[rows[0] - 2 : rows[-1] + 3, columns[0] - 2 : columns[-1] + 3] = False
    np.testing.assert_array_equal(swapped[beyond], PICTURE[beyond])
    leak = np.abs(swapped[mask == 0].astype(int) - PICTURE[mask == 0])
    assert leak.mean() < 0.1 and leak.max() <= 16
    assert np.abs(swapped[mask > 0.9].astype(int) - PICTURE[mask > 0.9]).mean() > 3


def test_other_seeds_make_other_forgeries() -> None:
    a, b = (self_blend(np.random.default_rng(seed), PICTURE, MESH)[0] for seed in (0, 1))
    assert (a != b).any()


def test_a_self_blend_can_take_its_face_from_elsewhere() -> None:
    rng = np.random.default_rng(3)
    pixels, mask = self_blend(rng, PICTURE, MESH, inner=OTHER)
    np.testing.assert_array_equal(pixels[mask == 0], PICTURE[mask == 0])
    assert np.abs(pixels[mask > 0.9].astype(int) - PICTURE[mask > 0.9]).mean() > 10


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31), st.floats(0, 1))
def test_a_change_of_look_keeps_type_and_size(seed: int, strength: float) -> None:
    out = change_look(np.random.default_rng(seed), PICTURE, strength)
    assert out.dtype == np.uint8 and out.shape == PICTURE.shape
    assert np.abs(out.astype(float).mean() - PICTURE.mean()) < 50


def test_coarsening_takes_fine_texture_away() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), np.uint8)
    likeness = [
        np.mean(
            [
                np.corrcoef(coarsen(np.random.default_rng(seed), noise, scale).ravel(), noise.ravel())[0, 1]
                for seed in range(12)
            ]
        )
        for scale in (0.9, 0.5, 0.2)
    ]
    assert likeness[0] > likeness[1] > likeness[2]


def test_a_displacement_of_nothing_changes_nothing() -> None:
    np.testing.assert_array_equal(displace(PICTURE, np.zeros((SIZE, SIZE, 2), np.float32)), PICTURE)
    right = displace(PICTURE, np.full((SIZE, SIZE, 2), [1.0, 0.0], np.float32))
    np.testing.assert_array_equal(right[:, :-1], PICTURE[:, 1:])


def test_a_smooth_field_has_the_asked_strength() -> None:
    field = np.stack([smooth_field(np.random.default_rng(seed), (64, 80), 6, 3.0) for seed in range(40)])
    assert field.shape[1:] == (64, 80, 2) and field.dtype == np.float32
    assert 1.5 < field.std() < 4


def test_pose_distance_sees_the_pose_and_neither_place_nor_size() -> None:
    turned = make_mesh(SIZE, turn=1.0)
    assert pose_distance(MESH, MESH * 2 + np.float32([30, -4])) == pytest.approx(0, abs=1e-5)
    assert pose_distance(MESH, turned) > pose_distance(MESH, make_mesh(SIZE, turn=0.3)) > 0.005
    assert pose_distance(MESH, turned) == pytest.approx(pose_distance(turned, MESH))
