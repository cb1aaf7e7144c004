"""Held-out faces under a condition: what validation, calibration and test look at, and never training.

Every picture, real or forged, passes the same steps: to a common size where a family is smaller than its reals, the
condition (one of `ALL_CONDITIONS`), one JPEG encoding, the context crop at the model's margin.
"""

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from unmask.datasets.face_store import StoredFace
from unmask.faces.alignment import Box, context_crop, context_region, scale_box
from unmask.faces.mesh import region_mask
from unmask.forging.blending import pose_distance, self_blend, swap_face
from unmask.forging.degradation import downscale, jpeg
from unmask.forging.families import family
from unmask.forging.families import to_make as families_to_make
from unmask.forging.looks import enlarged, greyscale, video_frame
from unmask.lab.detection.pairs_pool import MASK
from unmask.lab.detection.reconstructions import Reconstructions

CLEAN, JPEG50, HALF_RESOLUTION = "clean", "jpeg50", "half_resolution"
VIDEO, ENLARGED, GREYSCALE = "video", "enlarged", "greyscale"
CONDITIONS = (CLEAN, JPEG50, HALF_RESOLUTION)
"""What the published detectors are compared under."""
ALL_CONDITIONS = (*CONDITIONS, VIDEO, ENLARGED, GREYSCALE)
"""What verdicts are calibrated and measured under."""
_PLAIN_QUALITY = 95
_CRF, _SMALL = 30, 96  # of the video; side in pixels that a picture is enlarged from


@dataclass(frozen=True)
class EvalFace:
    """A face as the detector sees it, with what is known about it.

    `crop` uint8 (S, S, 3); `picture`, `box` and `points` are those of the rendered picture (for quality); `mask`
    float32 (28, 28) share of forged pixels per map cell, or None; `regions` are the facial features
    that the family's flags speak of, as (28, 28) masks with whether each was edited.
    """

    crop: np.ndarray
    label: int
    family: str
    source: str
    subject: str
    picture: np.ndarray
    box: Box
    points: np.ndarray
    mask: np.ndarray | None
    regions: tuple[tuple[np.ndarray, bool], ...] = ()


def apply_condition(pixels: np.ndarray, condition: str, side: int | None = None) -> np.ndarray:
    """A picture under a condition: resampled to `side` if given, the condition, one JPEG encoding; uint8 (N, N, 3)."""
    if side is not None and side < len(pixels):
        pixels = downscale(pixels, side / len(pixels))
    if condition == HALF_RESOLUTION:
        half = max(1, len(pixels) // 2)
        pixels = cv2.resize(pixels, (half, half), interpolation=cv2.INTER_AREA)
    elif condition == VIDEO:
        return video_frame(pixels, "h264", _CRF)
    elif condition == ENLARGED:
        pixels = enlarged(pixels, _SMALL)
    elif condition == GREYSCALE:
        pixels = greyscale(pixels)
    elif condition not in ALL_CONDITIONS:
        raise ValueError(f"unknown condition {condition!r}; one of {ALL_CONDITIONS}")
    return jpeg(pixels, 50 if condition == JPEG50 else _PLAIN_QUALITY)


@dataclass(frozen=True)
class EvalImage:
    """A held-out picture before it is rendered: square pixels, the stored face it came from, what was done to it.

    `mask` float32 (H, W) or None if not known; `source` as in `EvalFace`; `side` is what it is brought to on rendering,
    if that is smaller.
    """

    pixels: np.ndarray
    face: StoredFace
    family: str
    source: str
    mask: np.ndarray | None
    side: int | None = None


def make_eval_images(
    faces: Sequence[StoredFace],
    split: str,
    families: Iterable[str],
    reconstructions: Reconstructions | None = None,
    seed: int = 0,
    most: int = 400,
) -> list[EvalImage]:
    """The reals of a split and their forgeries, made once for every condition.

    Args:
        faces: a store's faces.
        split: "train", "val", "cal" or "test".
        families: of forgeries. Those made here (`families.made_here`; re-synthesis needs `reconstructions`) are made
            from the split's reals, unless the split holds pictures of that name. A family whose pictures are smaller
            comes with reals of its own source brought to its size, and a reconstruction with its real brought to its
            resolution; their sources are named "SOURCE@128" and "SOURCE@twin".
        seed: of the forgeries.
        most: reals per source, the first by store order.
    """
    reals: dict[str, list[StoredFace]] = {}
    for face in faces:
        if face.sample.split == split and not face.sample.label:
            reals.setdefault(face.sample.source, []).append(face)
    reals = {source: group[:most] for source, group in reals.items()}
    wanted = set(families)
    own = [face.sample for face in faces if face.sample.split == split and face.sample.label]
    made = {family(name).kind: name for name in families_to_make(wanted, {sample.family for sample in own})}
    # Of every source, the sizes to which its reals are brought beside forgeries that are smaller.
    small = {(sample.source, family(sample.family).native_size) for sample in own if sample.family in wanted}
    out: list[EvalImage] = []
    for source, group in reals.items():
        for number, face in enumerate(group):
            rng = np.random.default_rng([seed, zlib.crc32(face.sample.subject.encode())])
            pixels = face.pixels()
            untouched = np.zeros(pixels.shape[:2], np.float32)
            out.append(EvalImage(pixels, face, "real", source, untouched))
            for side in sorted(side for name, side in small if name == source and side is not None):
                out.append(EvalImage(pixels, face, "real", f"{source}@{side}", untouched, side))
            if "blend" in made:
                forged, mask = self_blend(rng, pixels, face.mesh)
                out.append(EvalImage(forged, face, made["blend"], source, mask))
            if "swap" in made and len(group) > 1:
                others = [group[(number + 1 + int(step)) % len(group)] for step in rng.integers(0, len(group) - 1, 10)]
                near = [pose_distance(other.mesh, face.mesh) for other in others]
                other = others[int(np.argmin(near))]
                forged, mask = swap_face(rng, pixels, face.mesh, other.pixels(), other.mesh)
                out.append(EvalImage(forged, face, made["swap"], source, mask))
            drawn = reconstructions.pick(rng, face) if "re-synthesis" in made and reconstructions is not None else None
            if drawn is not None:
                same = cv2.resize(pixels, (len(drawn), len(drawn)), interpolation=cv2.INTER_AREA)
                nothing, everything = (fill(drawn.shape[:2], np.float32) for fill in (np.zeros, np.ones))
                out.append(EvalImage(same, face, "real", f"{source}@twin", nothing))
                out.append(EvalImage(drawn, face, made["re-synthesis"], f"{source}@twin", everything))
    for face in faces:
        name = face.sample.family
        if face.sample.split == split and face.sample.label and name in wanted:
            pixels, native = face.pixels(), family(name).native_size
            known = np.ones(pixels.shape[:2], np.float32) if family(name).wholly_synthetic else face.mask()
            source = f"{face.sample.source}@{native}" if native else face.sample.source
            out.append(EvalImage(pixels, face, name, source, known, native))
    return out


def render(pictures: Iterable[EvalImage], condition: str, size: int, margin: float) -> list[EvalFace]:
    """The pictures as the detector sees them under a condition of ALL_CONDITIONS, cropped to `size` at `margin`."""
    return [_render(picture, condition, size, margin) for picture in pictures]


def _render(picture: EvalImage, condition: str, size: int, margin: float) -> EvalFace:
    face, pixels = picture.face, picture.pixels
    shown = apply_condition(pixels, condition, picture.side)
    scale = len(shown) / face.side
    box = scale_box(face.box, scale)
    crop, _ = context_crop(shown, box, margin, size)
    left, top, span = context_region(pixels.shape, scale_box(face.box, len(pixels) / face.side), margin)
    window = (slice(top, top + span), slice(left, left + span))
    regions: list[tuple[np.ndarray, bool]] = []
    if family(picture.family).regions:
        for name, flag in zip(family(picture.family).regions, face.sample.flags, strict=True):
            regions.append((_cells(region_mask(pixels.shape, face.mesh, name, 0.03)[window]), flag == "1"))
    return EvalFace(
        crop=crop,
        label=int(picture.family != "real"),
        family=picture.family,
        source=picture.source,
        subject=face.sample.subject,
        picture=shown,
        box=box,
        points=face.landmarks * scale,
        mask=None if picture.mask is None else _cells(picture.mask[window]),
        regions=tuple(regions),
    )


def _cells(mask: np.ndarray) -> np.ndarray:
    return cv2.resize(mask.astype(np.float32), (MASK, MASK), interpolation=cv2.INTER_AREA)


def eval_faces(
    faces: Sequence[StoredFace],
    split: str,
    families: Iterable[str],
    condition: str,
    size: int,
    margin: float,
    reconstructions: Reconstructions | None = None,
    seed: int = 0,
    most: int = 400,
) -> list[EvalFace]:
    """`make_eval_images` and `show` in one, for a single condition."""
    return render(make_eval_images(faces, split, families, reconstructions, seed, most), condition, size, margin)


def select_pairs(name: str, faces: Sequence[EvalFace]) -> list[EvalFace]:
    """The forgeries of one family with the reals that stand beside them.

    These are those of the same sources and size, or of the family's partners for forgeries whose own source has no
    reals; for forgeries made here, all reals.
    """
    forged = [face for face in faces if face.family == name]
    own, present = {face.source for face in forged}, {face.source for face in faces if not face.label}
    sources = own & present
    if own - present:
        sources |= set(family(name).partners)
    return [face for face in faces if not face.label and face.source in sources] + forged
