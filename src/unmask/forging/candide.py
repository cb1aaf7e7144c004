"""Face swaps and expression transfer with Candide-3 (Ahlberg 2001), a face model of 113 vertices, without a network.

Of the kind of FaceForensics++'s FaceSwap (a fitted model's texture, blended in) and Face2Face (Thies et al., CVPR 2016:
the model's expression is another's). A model is fitted to the 468-point mesh; what the model cannot follow, as it
knows expressions and no shapes of faces, is added to its vertices. The model and its correspondences to the 68-point
landmarks are those of the FaceSwap project (MIT).

Pictures are uint8 (H, W, 3) RGB; masks float32 (H, W) in [0, 1], 1 where pixels are forged; meshes (468, 2) in pixels.
"""

import warnings
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np

from unmask.errors import DataError
from unmask.forging.blending import blend, change_look, coarsen, match_colour, multi_band, poisson
from unmask.forging.mouth import draw_interior
from unmask.forging.triangle_warp import sample, triangle_map
from unmask.forging.weight_files import WeightFile

MODEL = WeightFile("candide/candide.npz", "7282e903b6df8360e43c09a61485003e7300b1b573f144acbb9dbb6edbfe57e5", "MIT")
"""The model's file in a folder of weights."""

# The points of the 468-point mesh that stand for the 68-point scheme of landmarks, in its order.
LANDMARKS_68 = (162, 234, 93, 58, 172, 136, 149, 148, 152, 377, 378, 365, 397, 288, 323, 454, 389,
                71, 63, 105, 66, 107, 336, 296, 334, 293, 301, 168, 197, 5, 4, 75, 97, 2, 326, 305,
                33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380,
                61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181,
                78, 82, 13, 312, 308, 317, 14, 87)  # fmt: skip
_MOUTH = (89, 82, 87, 81, 88, 83, 40, 84)  # vertices about the opening of the mouth, which has no triangles
_UNITS = 10  # expressions; the last blend shapes move single points of the brows
_RIDGE = 0.0003  # holds the expressions small where the landmarks do not ask for them
_ROUNDS = 4  # of pose and expression in turn


@dataclass(frozen=True)
class CandideFit:
    """The model on a face.

    Attributes:
        camera: (2, 3), from the model's space to pixels, and
        shift: (2,), pixels: a scaled orthographic projection.
        expression: (10,), amounts of the model's action units; 1 is a strong one.
        residual: (113, 2), pixels by which the vertices are moved after the projection.
    """

    camera: np.ndarray
    shift: np.ndarray
    expression: np.ndarray
    residual: np.ndarray


class Candide:
    """The face model.

    Attributes:
        neutral: (113, 3), its vertices without expression, y down, z towards the camera.
        units: (10, 113, 3), what each action unit adds to them.
        triangles: int (175, 3), rows of vertices.
        points: int (46,), points of the 468-point mesh, and
        seen: int (46,), the vertices that lie at them.

    Args:
        path: `candide.npz` of the FaceSwap project.

    Raises:
        DataError: the file is not the model.
    """

    def __init__(self, path: Path) -> None:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the file was written by Python 2, which NumPy remarks on
                data = np.load(path, allow_pickle=False)
                self.neutral = data["mean3DShape"].T
                self.units = data["blendshapes"].transpose(0, 2, 1)[:_UNITS]
                self.triangles = np.asarray(data["mesh"], np.int64)
                landmarks, self.seen = data["idxs2D"], np.asarray(data["idxs3D"], np.int64)
        except (OSError, ValueError, KeyError) as error:
            raise DataError(f"{path} is not the Candide model ({error}); name a folder that has it") from error
        self.points = np.array(LANDMARKS_68)[landmarks]
        away = ((self.neutral[:, None] - self.neutral[None, self.seen]) ** 2).sum(axis=2)
        weight = np.exp(-away / (2 * 0.2**2))
        self._spread = weight / (weight.sum(axis=1, keepdims=True) + 0.05)
        self._spread[self.seen] = np.eye(len(self.seen))

    def fit(self, mesh: np.ndarray) -> CandideFit:
        """Fit the model to a face's mesh (468, 2)."""
        points = np.asarray(mesh, np.float64)[self.points]
        expression = np.zeros(_UNITS)
        for _ in range(_ROUNDS):
            shape = self._shape(expression)[self.seen]
            camera, shift = _pose(shape, points)
            scale = float(np.linalg.norm(camera[0]))
            moves = (self.units[:, self.seen] @ camera.T).reshape(_UNITS, -1) / scale
            off = ((points - shift - self.neutral[self.seen] @ camera.T) / scale).ravel()
            expression = np.linalg.solve(moves @ moves.T + _RIDGE * len(points) * np.eye(_UNITS), moves @ off)
        off = points - shift - self._shape(expression)[self.seen] @ camera.T
        return CandideFit(camera, shift, expression, self._spread @ off)

    def project(self, fit: CandideFit, expression: np.ndarray | None = None) -> np.ndarray:
        """The vertices of a fit (113, 2) in pixels, with its own expression (10,) or another."""
        shape = self._shape(fit.expression if expression is None else expression)
        return shape @ fit.camera.T + fit.shift + fit.residual

    def swap(
        self,
        rng: np.random.Generator,
        pixels: np.ndarray,
        mesh: np.ndarray,
        donor_pixels: np.ndarray,
        donor_mesh: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray]:
        """The donor's face on the target's head, and its mask; colour, sharpness and seam are drawn.

        The real twin is the untouched target.

        Args:
            rng: for everything random.
            pixels: of the target, uint8 (H, W, 3).
            mesh: of the target, (468, 2).
            donor_pixels: uint8 (H', W', 3).
            donor_mesh: (468, 2).
        """
        target, donor = self.fit(mesh), self.fit(donor_mesh)
        places, sources = self.project(target), self.project(donor)
        triangles = self.triangles if rng.random() < 0.5 else np.concatenate([self.triangles, _mouth_fan()])
        warp = triangle_map(places, sources, triangles, pixels.shape, self._nearness(target))
        face = float(np.ptp(mesh[:, 0]))
        worn = sample(donor_pixels, warp.continued(0.1 * face))
        if rng.random() < 0.5:
            worn = coarsen(rng, worn, float(rng.uniform(0.3, 0.9)))
        outline = warp.inside
        if rng.random() < 0.5:  # without the forehead and its hair
            below: np.ndarray = np.zeros(outline.shape, np.uint8)
            hull = cv2.convexHull(np.round(mesh[list(LANDMARKS_68)]).astype(np.int32))
            outline = outline & (cv2.fillConvexPoly(below, hull, 1) > 0)
        mask = _seam(rng, outline, face)
        colour = rng.random()
        if colour < 0.7:
            worn = match_colour(worn, pixels, mask, float(rng.uniform(0.4, 1.0)))
        elif colour < 0.9:
            worn = _same_mean(worn, pixels, mask)
        return _pasted(rng, pixels, worn, mask, face)

    def reenact(
        self,
        rng: np.random.Generator,
        pixels: np.ndarray,
        mesh: np.ndarray,
        donor_pixels: np.ndarray | None = None,
        donor_mesh: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """The target's own face with another's expression, or a drawn one, and its mask.

        The real twin is the untouched target.

        Args:
            rng: for everything random.
            pixels: of the target, uint8 (H, W, 3).
            mesh: of the target, (468, 2).
            donor_pixels: of who gives the expression and, where the mouth opens, what is seen in it; None draws both.
            donor_mesh: (468, 2); None with `donor_pixels`.
        """
        fit = self.fit(mesh)
        if donor_mesh is None:
            goal = fit.expression + rng.normal(0, 0.45, _UNITS)
        else:
            other = self.fit(donor_mesh).expression
            goal = fit.expression + rng.uniform(0.7, 1.1) * (other - fit.expression) + rng.normal(0, 0.12, _UNITS)
        goal = np.clip(goal, -0.8, 1.3)
        places, sources = self.project(fit, goal), self.project(fit)
        warp = triangle_map(places, sources, self.triangles, pixels.shape, self._nearness(fit))
        face = float(np.ptp(mesh[:, 0]))
        drawn = sample(pixels, warp.continued(0.12 * face))
        opening, before = places[list(_MOUTH)], sources[list(_MOUTH)]
        # A mouth that was open is stretched; one that was shut has nothing to show.
        if _area(opening) > max(3 * _area(before), 0.002 * face**2):
            seen = None
            if donor_pixels is not None and donor_mesh is not None:
                seen = donor_pixels, self.project(self.fit(donor_mesh))[list(_MOUTH)]
            drawn = draw_interior(rng, drawn, opening, face, seen)
        if rng.random() < 0.5:
            drawn = coarsen(rng, drawn, float(rng.uniform(0.4, 0.95)))
        if rng.random() < 0.4:
            drawn = change_look(rng, drawn, 0.3)
        hull = warp.inside.astype(np.uint8)
        cv2.fillPoly(hull, [np.round(opening).astype(np.int32)], 1)
        return _pasted(rng, pixels, drawn, _seam(rng, hull > 0, face), face)

    def _shape(self, expression: np.ndarray) -> np.ndarray:
        shape: np.ndarray = self.neutral + np.tensordot(expression, self.units, 1)
        return shape

    def _nearness(self, fit: CandideFit) -> np.ndarray:
        """Of the vertices, larger towards the camera."""
        nearness: np.ndarray = self._shape(fit.expression) @ np.cross(fit.camera[0], fit.camera[1])
        return nearness


def _pose(shape: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The scaled orthographic camera (2, 3) and shift (2,) that bring a shape (N, 3) closest to points (N, 2)."""
    centre, middle = shape.mean(axis=0), points.mean(axis=0)
    linear, *_ = np.linalg.lstsq(shape - centre, points - middle, rcond=None)
    left, spread, right = np.linalg.svd(linear.T, full_matrices=False)
    camera = spread.mean() * (left @ right)
    return camera, middle - camera @ centre


def _mouth_fan() -> np.ndarray:
    """Triangles that close the opening of the mouth, (8, 3)."""
    first, *rest = _MOUTH
    return np.array([(first, a, b) for a, b in pairwise(rest)])


def _area(polygon: np.ndarray) -> float:
    return float(cv2.contourArea(polygon.astype(np.float32)))


def _seam(rng: np.random.Generator, inside: np.ndarray, face: float) -> np.ndarray:
    """A mask of the model's outline, drawn in by some and with a border of some width; float32 (H, W)."""
    reach = round(float(rng.uniform(0.0, 0.06)) * face)
    mask: np.ndarray = inside.astype(np.uint8)
    # What a fold of the outline leaves open is closed before the outline is drawn in.
    mask = cv2.morphologyEx(mask, cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8))
    if reach:
        padded = cv2.copyMakeBorder(mask, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
        mask = (cv2.distanceTransform(padded, cv2.DIST_L2, 3)[1:-1, 1:-1] > reach).astype(np.uint8)
    width = float(rng.uniform(0.003, 0.05)) * face
    return np.clip(cv2.GaussianBlur(mask.astype(np.float32), (0, 0), max(width, 0.5)), 0, 1)


def _same_mean(worn: np.ndarray, target: np.ndarray, mask: np.ndarray) -> np.ndarray:
    inside = mask > 0.5
    if not inside.any():
        return worn
    shift = target[inside].mean(axis=0) - worn[inside].mean(axis=0)
    return np.clip(worn + shift + 0.5, 0, 255).astype(np.uint8)


def _pasted(
    rng: np.random.Generator, target: np.ndarray, drawn: np.ndarray, mask: np.ndarray, face: float
) -> tuple[np.ndarray, np.ndarray]:
    """The drawn face on the target by one way of blending, softened at the seam at times, and the mask of it."""
    way = rng.random()
    if way < 0.2:
        pixels, mask = poisson(target, drawn, mask), (mask > 0.5).astype(np.float32)
    elif way < 0.4:
        pixels = multi_band(target, drawn, mask)
    else:
        pixels = blend(target, drawn, mask)
    if rng.random() < 0.3:  # the seam alone is blurred, as programs do that hide it
        border = cv2.GaussianBlur(4 * mask * (1 - mask), (0, 0), max(0.02 * face, 0.5))
        soft = cv2.GaussianBlur(pixels, (0, 0), max(float(rng.uniform(0.004, 0.015)) * face, 0.5))
        pixels = blend(pixels, soft, np.clip(border, 0, 1))
        mask = np.maximum(mask, np.clip(border, 0, 1))
    return pixels, mask.astype(np.float32)
