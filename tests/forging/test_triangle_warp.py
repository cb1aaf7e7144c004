"""Piecewise-affine warps."""

import numpy as np
from fake_faces import make_picture

from unmask.forging.triangle_warp import sample, triangle_map

SIZE = 64
SQUARE = np.array([(8.0, 8.0), (56.0, 8.0), (56.0, 56.0), (8.0, 56.0)])
HALVES = np.array([(0, 1, 2), (0, 2, 3)])


def test_a_moved_mesh_takes_its_pixels_along() -> None:
    pixels = make_picture(SIZE, 1)
    warp = triangle_map(SQUARE + np.array([3, -2]), SQUARE, HALVES, pixels.shape)
    assert warp.inside[7:54, 12:59].all() and not warp.inside[:5].any()
    assert np.abs(warp.offset[warp.inside] - (-3, 2)).max() < 1e-4
    assert np.array_equal(warp.sample(pixels)[8:52, 13:57], pixels[10:54, 10:54])


def test_a_scaled_mesh_is_an_affine_map() -> None:
    warp = triangle_map(SQUARE, SQUARE / 2, HALVES, (SIZE, SIZE))
    rows, columns = np.nonzero(warp.inside)
    places = np.stack([columns, rows], axis=1)
    assert np.abs(warp.offset[warp.inside] + places / 2).max() < 1e-3


def test_the_nearer_triangle_hides_the_other() -> None:
    target = np.concatenate([SQUARE[:3], SQUARE[:3]])
    source = np.concatenate([SQUARE[:3], SQUARE[:3] + 5])
    both = np.array([(0, 1, 2), (3, 4, 5)])
    for nearness, offset in (([1, 1, 1, 0, 0, 0], 0.0), ([0, 0, 0, 1, 1, 1], 5.0)):
        warp = triangle_map(target, source, both, (SIZE, SIZE), np.array(nearness, float))
        assert np.abs(warp.offset[warp.inside] - offset).max() < 1e-3


def test_triangles_seen_edge_on_are_left_out() -> None:
    flat = np.array([(8.0, 8.0), (30.0, 30.0), (50.0, 50.0)])
    warp = triangle_map(flat, SQUARE[:3], np.array([(0, 1, 2)]), (SIZE, SIZE))
    assert not warp.inside.any() and not warp.offset.any()


def test_offsets_are_continued_and_fall_off() -> None:
    offset = triangle_map(SQUARE / 2 + 16, SQUARE / 2 + np.array([12, 16]), HALVES, (SIZE, SIZE)).continued(8.0)
    along = offset[32, :, 0]
    assert abs(along[32] + 4) < 1e-3 and -4 <= along[15] < -2 and abs(along[0]) < 0.5
    assert np.array_equal(sample(make_picture(SIZE, 1), 0 * offset), make_picture(SIZE, 1))
