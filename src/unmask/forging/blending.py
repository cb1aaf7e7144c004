"""Forgeries by blending, with their masks: self-blended images and landmark face swaps.

Self-blending follows Shiohara & Yamasaki, "Detecting Deepfakes with Self-Blended Images" (CVPR 2022): a picture is
blended with a slightly changed copy of itself, so that only the traces of blending tell the two apart. Swaps put the
face of one person on another by a smooth warp between two face meshes, with colour matching and alpha or Poisson
blending.

Pictures are uint8 (H, W, 3) RGB; masks float32 (H, W) in [0, 1], 1 where the foreign pixels are; meshes (468, 2) in
pixels. Everything random comes from the generator that is passed in.
"""

import cv2
import numpy as np

from unmask.faces.mesh import FACE_OVAL, LEFT_BROW, LEFT_EYE, LIPS, NOSE, RIGHT_BROW, RIGHT_EYE

_INNER = RIGHT_BROW + LEFT_BROW + LIPS + NOSE + RIGHT_EYE + LEFT_EYE
# The points that carry a warp: enough to follow pose and expression, few enough to be quick.
_ANCHORS = np.array(FACE_OVAL + _INNER)
_REGIONS: tuple[tuple[tuple[int, ...], ...], ...] = (
    (RIGHT_EYE + RIGHT_BROW, LEFT_EYE + LEFT_BROW),
    (RIGHT_EYE + RIGHT_BROW + LEFT_EYE + LEFT_BROW,),
    (NOSE,),
    (LIPS,),
    (NOSE + LIPS,),
    (RIGHT_EYE + RIGHT_BROW,),
    (LEFT_EYE + LEFT_BROW,),
)


def smooth_field(rng: np.random.Generator, shape: tuple[int, int], cells: int, strength: float) -> np.ndarray:
    """A smooth random displacement field, float32 (H, W, 2) in pixels, standard deviation about `strength`."""
    coarse = rng.normal(0.0, strength, (cells, cells, 2)).astype(np.float32)
    return cv2.resize(coarse, (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC)


def displace(pixels: np.ndarray, field: np.ndarray) -> np.ndarray:
    """Move pixels by a displacement field (H, W, 2)."""
    rows, columns = np.mgrid[0 : pixels.shape[0], 0 : pixels.shape[1]].astype(np.float32)
    return cv2.remap(
        pixels, columns + field[..., 0], rows + field[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT
    )


def blending_mask(rng: np.random.Generator, shape: tuple[int, ...], mesh: np.ndarray, local: float = 0.3) -> np.ndarray:
    """A soft, randomly deformed mask of the face or, with probability `local`, of one of its features.

    Args:
        shape: of the picture, (H, W, ...).
        mesh: (468, 2) pixels.

    Returns:
        float32 (H, W) in [0, 1] whose maximum is 1.
    """
    height, width = shape[:2]
    face = float(np.ptp(mesh[:, 0]))
    hard: np.ndarray = np.zeros((height, width), np.uint8)
    if rng.random() < local:
        groups: tuple[tuple[int, ...], ...] = _REGIONS[rng.integers(len(_REGIONS))]
        grow = rng.uniform(0.02, 0.09)
    else:
        kind = rng.random()
        groups = (FACE_OVAL,) if kind < 0.5 else (_INNER,) if kind < 0.8 else (FACE_OVAL[9:28] + RIGHT_EYE + LEFT_EYE,)
        grow = rng.uniform(-0.10, 0.03)
    for group in groups:
        cv2.fillConvexPoly(hard, cv2.convexHull(np.round(mesh[list(group)]).astype(np.int32)), 1)
    reach = round(abs(grow) * face)
    if reach:
        kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
        hard = cv2.dilate(hard, kernel) if grow > 0 else cv2.erode(hard, kernel)
    soft = displace(hard.astype(np.float32), smooth_field(rng, (height, width), int(rng.integers(4, 9)), 0.03 * face))
    # Two blurs with a threshold between them give borders of varying width inside and outside the outline.
    for sigma in rng.uniform(0.004, 0.05, 2) * face:
        soft = cv2.GaussianBlur(soft, (0, 0), max(float(sigma), 0.5))
        peak = float(soft.max())
        if peak > 0:
            soft = np.clip(soft / peak, 0.0, 1.0)
    return soft.astype(np.float32)


def whole_or_part(rng: np.random.Generator, shape: tuple[int, ...], mesh: np.ndarray) -> tuple[np.ndarray, bool]:
    """Where to forge: the whole picture (60 %) or a `blending_mask`.

    Returns:
        mask: float32 (H, W) in [0, 1].
        whole: whether it is 1 throughout.
    """
    if rng.random() < 0.6:
        return np.ones(shape[:2], np.float32), True
    return blending_mask(rng, shape, mesh), False


def blend(target: np.ndarray, source: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Alpha blending: mask * source + (1 - mask) * target, uint8."""
    weight = mask[..., None]
    return (source.astype(np.float32) * weight + target.astype(np.float32) * (1 - weight) + 0.5).astype(np.uint8)


def poisson(target: np.ndarray, source: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Poisson blending (Perez et al. 2003) where the mask exceeds 0.5; alpha blending if that is next to nothing."""
    hard = (mask > 0.5).astype(np.uint8) * 255
    hard[:2], hard[-2:], hard[:, :2], hard[:, -2:] = 0, 0, 0, 0
    x, y, w, h = cv2.boundingRect(hard)
    if w < 4 or h < 4:
        return blend(target, source, mask)
    centre = (x + w // 2, y + h // 2)
    cloned = cv2.seamlessClone(
        np.ascontiguousarray(source), np.ascontiguousarray(target), hard.copy(), centre, cv2.NORMAL_CLONE
    )
    return np.where(hard[..., None] > 0, cloned, target)  # OpenCV touches pixels around the mask as well, and the mask


def multi_band(target: np.ndarray, source: np.ndarray, mask: np.ndarray, levels: int = 4) -> np.ndarray:
    """Blending of Laplacian pyramids (Burt & Adelson 1983): the coarser a structure, the wider its seam.

    Args:
        target: uint8 (H, W, 3).
        source: uint8 (H, W, 3).
        mask: (H, W) in [0, 1], 1 where the source is shown.
        levels: of the pyramids above the coarsest; fewer where the picture is too small.

    Returns:
        uint8 (H, W, 3).
    """
    a: np.ndarray = target.astype(np.float32)
    b: np.ndarray = source.astype(np.float32)
    weight: np.ndarray = mask.astype(np.float32)
    bands = []
    for _ in range(levels):
        if min(weight.shape) < 8:
            break
        size = weight.shape[::-1]
        below = [cv2.pyrDown(each) for each in (a, b, weight)]
        fine = [each - cv2.pyrUp(small, dstsize=size) for each, small in zip((a, b), below, strict=False)]
        bands.append(fine[0] + weight[..., None] * (fine[1] - fine[0]))
        a, b, weight = below
    out = a + weight[..., None] * (b - a)
    for band in bands[::-1]:
        out = cv2.pyrUp(out, dstsize=band.shape[1::-1]) + band
    return np.clip(out + 0.5, 0, 255).astype(np.uint8)


def change_look(rng: np.random.Generator, pixels: np.ndarray, strength: float = 1.0) -> np.ndarray:
    """A slight change of colour, contrast and sharpness, as between two photographs of one face; uint8 in and out."""
    out = pixels.astype(np.float32)
    if rng.random() < 0.7:
        out += rng.uniform(-18, 18, 3).astype(np.float32) * strength
    if rng.random() < 0.5:
        mean = out.mean()
        out = (out - mean) * (1 + rng.uniform(-0.15, 0.15) * strength) + mean + rng.uniform(-20, 20) * strength
    out = np.clip(out, 0, 255)
    if rng.random() < 0.4:
        hsv = cv2.cvtColor(out.astype(np.uint8), cv2.COLOR_RGB2HSV).astype(np.int16)
        hsv[..., 0] = (hsv[..., 0] + round(rng.uniform(-5, 5) * strength)) % 180
        hsv[..., 1:] = np.clip(hsv[..., 1:] + np.round(rng.uniform(-25, 25, 2) * strength).astype(np.int16), 0, 255)
        out = cv2.cvtColor(hsv.astype(np.uint8), cv2.COLOR_HSV2RGB).astype(np.float32)
    draw = rng.random()
    if draw < 0.35:  # sharpen
        soft = cv2.GaussianBlur(out, (0, 0), rng.uniform(0.7, 2.0))
        out = out + (out - soft) * rng.uniform(0.3, 1.0) * strength
    elif draw < 0.75:  # as if the inserted face had fewer pixels
        out = coarsen(rng, out, rng.uniform(0.35, 0.85))
    return np.clip(out + 0.5, 0, 255).astype(np.uint8)


def coarsen(rng: np.random.Generator, pixels: np.ndarray, scale: float) -> np.ndarray:
    """Down to `scale` of the size and back up, by random kernels."""
    height, width = pixels.shape[:2]
    small = (max(8, round(width * scale)), max(8, round(height * scale)))
    down = (cv2.INTER_AREA, cv2.INTER_LINEAR, cv2.INTER_CUBIC)[rng.integers(3)]
    up = (cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_LANCZOS4)[rng.integers(3)]
    return cv2.resize(cv2.resize(pixels, small, interpolation=down), (width, height), interpolation=up)


def self_blend(
    rng: np.random.Generator, pixels: np.ndarray, mesh: np.ndarray, inner: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """A self-blended image and its mask.

    Args:
        pixels: the real picture.
        mesh: its mesh.
        inner: a re-synthesised version of the same picture to take the face from, if there is one.
    """
    strength = rng.uniform(0.4, 1.0)
    source, target = (pixels if inner is None else inner), pixels
    if rng.random() < 0.5 and inner is None:
        target = change_look(rng, target, strength)
    else:
        source = change_look(rng, source, strength)
    face = float(np.ptp(mesh[:, 0]))
    centre = mesh.mean(axis=0)
    turn: np.ndarray = cv2.getRotationMatrix2D(
        (float(centre[0]), float(centre[1])), rng.uniform(-2, 2), 1 + rng.uniform(-0.05, 0.05) * strength
    )
    turn[:, 2] += rng.uniform(-0.035, 0.035, 2) * face * strength
    size = (pixels.shape[1], pixels.shape[0])
    source = cv2.warpAffine(source, turn, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    if rng.random() < 0.5:
        source = displace(source, smooth_field(rng, pixels.shape[:2], int(rng.integers(4, 8)), 0.008 * face))
    mask = blending_mask(rng, pixels.shape, mesh) * np.float32(rng.choice([0.5, 0.75, 1.0, 1.0, 1.0]))
    return blend(target, source, mask), mask


def match_colour(source: np.ndarray, target: np.ndarray, mask: np.ndarray, amount: float) -> np.ndarray:
    """Move the source's mean and spread per Lab channel inside the mask to the target's, by `amount` in [0, 1].

    After Reinhard et al., "Color Transfer between Images" (2001).
    """
    inside = mask > 0.5
    if not inside.any():
        return source
    a = cv2.cvtColor(source, cv2.COLOR_RGB2LAB).astype(np.float32)
    b = cv2.cvtColor(target, cv2.COLOR_RGB2LAB).astype(np.float32)
    mean_a, mean_b = a[inside].mean(axis=0), b[inside].mean(axis=0)
    gain = np.clip((b[inside].std(axis=0) + 1) / (a[inside].std(axis=0) + 1), 0.5, 2.0)
    moved = (a - mean_a) * gain + mean_b
    out = np.clip(a + amount * (moved - a) + 0.5, 0, 255).astype(np.uint8)
    return cv2.cvtColor(out, cv2.COLOR_LAB2RGB)


def warp_face(
    source: np.ndarray, source_mesh: np.ndarray, target_mesh: np.ndarray, shape: tuple[int, ...]
) -> np.ndarray:
    """Bring a face onto another face's mesh: an affine map plus a smooth residual that follows the anchors.

    Returns:
        uint8 (H, W, 3) of `shape`.
    """
    height, width = shape[:2]
    a, b = target_mesh[_ANCHORS], source_mesh[_ANCHORS]
    design = np.c_[a, np.ones(len(a), np.float32)]
    affine, *_ = np.linalg.lstsq(design, b, rcond=None)
    rest = b - design @ affine
    cells = 28
    rows, columns = np.mgrid[0:cells, 0:cells]
    grid = np.c_[columns.ravel() * ((width - 1) / (cells - 1)), rows.ravel() * ((height - 1) / (cells - 1))]
    reach = 0.09 * float(np.ptp(a[:, 0]))
    weight = np.exp(-((grid[:, None] - a[None]) ** 2).sum(-1) / (2 * reach**2))
    moved = (weight @ rest) / (weight.sum(1, keepdims=True) + 0.05)
    points = (np.c_[grid, np.ones(len(grid))] @ affine + moved).astype(np.float32).reshape(cells, cells, 2)
    # Corner-aligned upsampling of the coarse map: the grid points lie on the first and last pixel centres.
    fine_x = np.linspace(0, cells - 1, width, dtype=np.float32)
    fine_y = np.linspace(0, cells - 1, height, dtype=np.float32)
    dense = cv2.remap(points, *np.meshgrid(fine_x, fine_y), cv2.INTER_LINEAR)
    return cv2.remap(source, dense[..., 0], dense[..., 1], cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)


def swap_face(
    rng: np.random.Generator,
    target: np.ndarray,
    target_mesh: np.ndarray,
    source: np.ndarray,
    source_mesh: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """The source's face on the target's head, and its mask."""
    worn = warp_face(source, source_mesh, target_mesh, target.shape)
    if rng.random() < 0.4:
        worn = coarsen(rng, worn, rng.uniform(0.3, 0.8))
    mask = blending_mask(rng, target.shape, target_mesh, local=0.2)
    worn = match_colour(worn, target, mask, rng.uniform(0.5, 1.0))
    if rng.random() < 0.3:
        return poisson(target, worn, mask), (mask > 0.5).astype(np.float32)
    return blend(target, worn, mask), mask


def pose_distance(a: np.ndarray, b: np.ndarray) -> float:
    """How differently two meshes are posed: mean distance of their anchors, centred and scaled by the face width."""
    shapes = []
    for mesh in (a, b):
        points = mesh[_ANCHORS]
        shapes.append((points - points.mean(axis=0)) / (np.ptp(points[:, 0]) + 1e-6))
    return float(np.abs(shapes[0] - shapes[1]).mean())
