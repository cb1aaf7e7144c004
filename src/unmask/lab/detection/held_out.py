"""Held-out faces under one presentation: what validation, calibration and test look at, and never training.

Every picture, real or forged, passes the same steps: to a common size where a family is smaller than its reals, the
condition ("as is", "jpeg50", "half size"), one JPEG encoding, the context crop at the model's margin.
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
from unmask.lab.detection.pairs_pool import MASK, WHOLLY_SYNTHETIC, Twins, made_here

CONDITIONS = ("as is", "jpeg50", "half size")
_PLAIN_QUALITY = 95
_FLAGS = ("left_eye", "right_eye", "nose", "mouth")


@dataclass(frozen=True)
class Face:
    """A face as the detector meets it, with what is known about it.

    `crop` uint8 (S, S, 3); `picture`, `box` and `points` are those of the presented picture (for quality); `mask`
    float32 (28, 28) share of forged pixels per map cell, or None; `regions` are CIPLAB's four features as (28, 28)
    masks with whether each was edited.
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


def present(pixels: np.ndarray, condition: str, side: int | None = None) -> np.ndarray:
    """A picture as it is shown: resampled to `side` if given, the condition, one JPEG encoding; uint8 (N, N, 3)."""
    if side is not None and side < len(pixels):
        pixels = downscale(pixels, side / len(pixels))
    if condition == "half size":
        half = max(1, len(pixels) // 2)
        pixels = cv2.resize(pixels, (half, half), interpolation=cv2.INTER_AREA)
    elif condition not in CONDITIONS:
        raise ValueError(f"unknown condition {condition!r}; one of {CONDITIONS}")
    return jpeg(pixels, 50 if condition == "jpeg50" else _PLAIN_QUALITY)


@dataclass(frozen=True)
class Picture:
    """A held-out picture before it is shown: square pixels, the stored face it came from, what was done to it.

    `mask` float32 (H, W) or None if not known; `source` as in `Face`; `side` is what it is brought to when shown, if
    that is smaller.
    """

    pixels: np.ndarray
    face: StoredFace
    family: str
    source: str
    mask: np.ndarray | None
    side: int | None = None


def make_pictures(
    faces: Sequence[StoredFace],
    split: str,
    families: Iterable[str],
    twins: Twins | None = None,
    seed: int = 0,
    most: int = 400,
) -> list[Picture]:
    """The reals of a split and their forgeries, made once for every condition.

    Args:
        faces: a store's faces.
        split: "train", "val", "cal" or "test".
        families: of forgeries. "selfblend", "swap" and "resynthesis" (needs `twins`) are made here from the split's
            reals, unless the split holds pictures of that name. "pggan" comes with reals of its own source brought to
            its 128 px, and a twin with its real brought to the twin's resolution; their sources are named
            "celebamask@128" and "…@twin".
        seed: of the forgeries.
        most: reals per source, the first by store order.
    """
    reals: dict[str, list[StoredFace]] = {}
    for face in faces:
        if face.sample.split == split and not face.sample.label:
            reals.setdefault(face.sample.source, []).append(face)
    reals = {source: group[:most] for source, group in reals.items()}
    wanted = set(families)
    to_make = made_here(wanted, [face.sample for face in faces if face.sample.split == split])
    out: list[Picture] = []
    for source, group in reals.items():
        for number, face in enumerate(group):
            rng = np.random.default_rng([seed, zlib.crc32(face.sample.subject.encode())])
            pixels = face.pixels()
            untouched = np.zeros(pixels.shape[:2], np.float32)
            out.append(Picture(pixels, face, "real", source, untouched))
            if "pggan" in wanted and source == "celebamask":
                out.append(Picture(pixels, face, "real", f"{source}@128", untouched, 128))
            if "selfblend" in to_make:
                forged, mask = self_blend(rng, pixels, face.mesh)
                out.append(Picture(forged, face, "selfblend", source, mask))
            if "swap" in to_make and len(group) > 1:
                others = [group[(number + 1 + int(step)) % len(group)] for step in rng.integers(0, len(group) - 1, 10)]
                near = [pose_distance(other.mesh, face.mesh) for other in others]
                other = others[int(np.argmin(near))]
                forged, mask = swap_face(rng, pixels, face.mesh, other.pixels(), other.mesh)
                out.append(Picture(forged, face, "swap", source, mask))
            twin = twins.pick(rng, face) if "resynthesis" in to_make and twins is not None else None
            if twin is not None:
                same = cv2.resize(pixels, (len(twin), len(twin)), interpolation=cv2.INTER_AREA)
                out.append(Picture(same, face, "real", f"{source}@twin", np.zeros(twin.shape[:2], np.float32)))
                out.append(Picture(twin, face, "resynthesis", f"{source}@twin", np.ones(twin.shape[:2], np.float32)))
    for face in faces:
        family = face.sample.family
        if face.sample.split == split and face.sample.label and family in wanted:
            pixels, small = face.pixels(), 128 if family == "pggan" else None
            known = np.ones(pixels.shape[:2], np.float32) if family in WHOLLY_SYNTHETIC else face.mask()
            source = f"{face.sample.source}@{small}" if small else face.sample.source
            out.append(Picture(pixels, face, family, source, known, small))
    return out


def show(pictures: Iterable[Picture], condition: str, size: int, margin: float) -> list[Face]:
    """The pictures as the detector meets them under a condition (one of CONDITIONS), cropped to `size` at `margin`."""
    return [_show(picture, condition, size, margin) for picture in pictures]


def _show(picture: Picture, condition: str, size: int, margin: float) -> Face:
    face, pixels = picture.face, picture.pixels
    shown = present(pixels, condition, picture.side)
    scale = len(shown) / face.side
    box = scale_box(face.box, scale)
    crop, _ = context_crop(shown, box, margin, size)
    left, top, span = context_region(pixels.shape, scale_box(face.box, len(pixels) / face.side), margin)
    window = (slice(top, top + span), slice(left, left + span))
    regions: list[tuple[np.ndarray, bool]] = []
    if picture.family == "ciplab":
        for name, flag in zip(_FLAGS, face.sample.flags, strict=True):
            regions.append((_cells(region_mask(pixels.shape, face.mesh, name, 0.03)[window]), flag == "1"))
    return Face(
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


def held_out(
    faces: Sequence[StoredFace],
    split: str,
    families: Iterable[str],
    condition: str,
    size: int,
    margin: float,
    twins: Twins | None = None,
    seed: int = 0,
    most: int = 400,
) -> list[Face]:
    """`make_pictures` and `show` in one, for a single condition."""
    return show(make_pictures(faces, split, families, twins, seed, most), condition, size, margin)


def pairing(family: str, faces: Sequence[Face]) -> list[Face]:
    """The forgeries of one family with the reals of the same sources and size; for forgeries made here, all reals."""
    forged = [face for face in faces if face.family == family]
    sources = {face.source for face in forged}
    return [face for face in faces if not face.label and face.source in sources] + forged
