"""Piecewise-affine warps: every triangle of a mesh takes its pixels from the same triangle of another mesh.

Points are (N, 2) in pixels, x before y.
"""

from dataclasses import dataclass

import cv2
import numpy as np

_LEAST_AREA = 0.25  # square pixels; a triangle seen edge-on has no map of its own


@dataclass(frozen=True)
class TriangleMap:
    """Where each pixel of a warped picture comes from.

    Attributes:
        inside: bool (H, W), whether a triangle covers the pixel.
        offset: float32 (H, W, 2), from the pixel to where it comes from; 0 outside.
    """

    inside: np.ndarray
    offset: np.ndarray

    def sample(self, pixels: np.ndarray) -> np.ndarray:
        """The warped picture, (H, W, ...) of the map; pixels outside the mesh come from their own place."""
        return sample(pixels, self.offset)

    def continued(self, reach: float) -> np.ndarray:
        """The offsets, continued smoothly around the mesh and into its holes.

        Args:
            reach: pixels over which they fall off to about a third.

        Returns:
            float32 (H, W, 2).
        """
        weight = self.inside.astype(np.float32)
        # Blurred at a quarter of the size: what is continued is smooth.
        height, width = weight.shape
        small = (max(width // 4, 1), max(height // 4, 1))
        stacked = cv2.resize(np.dstack([self.offset, weight]), small, interpolation=cv2.INTER_AREA)
        blurred = cv2.resize(cv2.GaussianBlur(stacked, (0, 0), max(reach / 8, 0.5)), (width, height))
        near = blurred[..., :2] / np.maximum(blurred[..., 2:], 1e-4)
        away = cv2.distanceTransform(np.uint8(1) - self.inside.astype(np.uint8), cv2.DIST_L2, 3)
        faded = near * np.exp(-((away / reach) ** 2))[..., None]
        return np.where(self.inside[..., None], self.offset, faded).astype(np.float32)


def triangle_map(
    target: np.ndarray,
    source: np.ndarray,
    triangles: np.ndarray,
    shape: tuple[int, ...],
    nearness: np.ndarray | None = None,
) -> TriangleMap:
    """The map that brings a source's triangles onto a target's.

    Args:
        target: (N, 2), where the points are to be.
        source: (N, 2), where they are.
        triangles: int (T, 3), rows of points.
        shape: of the warped picture, (H, W, ...).
        nearness: (N,), larger towards the camera: nearer triangles hide those behind them. None: the last given win.
    """
    corners = target[triangles]
    sides = corners[:, 1:] - corners[:, :1]
    wide = np.abs(sides[:, 0, 0] * sides[:, 1, 1] - sides[:, 0, 1] * sides[:, 1, 0]) > 2 * _LEAST_AREA
    order = np.flatnonzero(wide)
    if nearness is not None:
        order = order[np.argsort(nearness[triangles[order]].mean(axis=1), kind="stable")]
    index: np.ndarray = np.zeros(shape[:2], np.int16)
    scaled = np.round(corners * 16).astype(np.int32)
    for number, row in enumerate(order, start=1):
        cv2.fillConvexPoly(index, scaled[row], number, lineType=cv2.LINE_8, shift=4)
    ones = np.ones((len(order), 3, 1))
    flat = np.concatenate([corners[order], ones], axis=2)
    affine = np.linalg.solve(flat, source[triangles[order]].astype(np.float64))  # (T, 3, 2): [x, y, 1] -> source
    table = np.concatenate([np.zeros((1, 3, 2)), affine]).astype(np.float32)
    rows, columns = np.nonzero(index)
    chosen = table[index[rows, columns]]
    places = np.stack([columns, rows], axis=1).astype(np.float32)
    offset: np.ndarray = np.zeros((*shape[:2], 2), np.float32)
    offset[rows, columns] = chosen[:, 0] * places[:, :1] + chosen[:, 1] * places[:, 1:] + chosen[:, 2] - places
    return TriangleMap(index > 0, offset)


def sample(pixels: np.ndarray, offset: np.ndarray) -> np.ndarray:
    """A picture (H', W', ...) taken at each pixel's place plus its offset (H, W, 2); cubic, mirrored at the border."""
    height, width = offset.shape[:2]
    columns, rows = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    return cv2.remap(
        pixels, columns + offset[..., 0], rows + offset[..., 1], cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT
    )
