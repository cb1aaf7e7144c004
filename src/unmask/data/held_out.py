"""Held-out faces under one presentation: what validation, calibration and test look at, and never training.

Every picture, real or forged, passes the same steps: to a common size where a family is smaller than its reals, the
condition ("as is", "jpeg50", "half size"), one JPEG encoding, the context crop at the model's margin.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from unmask.data.blending import pose_distance, self_blend, swap_face
from unmask.data.degradation import jpeg
from unmask.data.landmarks import region_mask
from unmask.data.pool import MASK, Twins
from unmask.data.store import StoredFace
from unmask.faces.alignment import Box, context_crop, context_region

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
        pixels = cv2.resize(pixels, (side, side), interpolation=cv2.INTER_AREA)
    if condition == "half size":
        half = max(1, len(pixels) // 2)
        pixels = cv2.resize(pixels, (half, half), interpolation=cv2.INTER_AREA)
    elif condition not in CONDITIONS:
        raise ValueError(f"unknown condition {condition!r}; one of {CONDITIONS}")
    return jpeg(pixels, 50 if condition == "jpeg50" else _PLAIN_QUALITY)


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
    """The reals of a split and their forgeries.

    Args:
        faces: a store's faces.
        split: "val", "cal" or "test".
        families: of forgeries; "selfblend", "swap" and "resynthesis" (needs `twins`) are made here from the
            split's reals, "pggan" comes with reals of its own source brought to its 128 px, under the source name
            "celebamask@128".
        condition: one of CONDITIONS.
        size, margin: of the context crop.
        seed: of the forgeries; they are the same for every condition.
        most: reals per source, the first by store order.
    """
    reals: dict[str, list[StoredFace]] = {}
    for face in faces:
        if face.sample.split == split and not face.sample.label:
            reals.setdefault(face.sample.source, []).append(face)
    reals = {source: group[:most] for source, group in reals.items()}
    out: list[Face] = []

    def add(
        pixels: np.ndarray, face: StoredFace, family: str, mask: np.ndarray | None, side: int | None = None
    ) -> None:
        shown = present(pixels, condition, side)
        scale = len(shown) / face.side
        x, y, w, h = (value * scale for value in face.box)
        crop, _ = context_crop(shown, (x, y, w, h), margin, size)
        small = None
        left, top, span = context_region(pixels.shape, _scaled(face.box, len(pixels) / face.side), margin)
        if mask is not None:
            small = cv2.resize(mask[top : top + span, left : left + span], (MASK, MASK), interpolation=cv2.INTER_AREA)
        regions: list[tuple[np.ndarray, bool]] = []
        if family == "ciplab":
            for name, flag in zip(_FLAGS, face.sample.flags, strict=True):
                area = region_mask(pixels.shape, face.mesh, name, 0.03)[top : top + span, left : left + span]
                cells = cv2.resize(area.astype(np.float32), (MASK, MASK), interpolation=cv2.INTER_AREA)
                regions.append((cells, flag == "1"))
        source = face.sample.source if side is None else f"{face.sample.source}@{side}"
        label = int(family != "real")
        points = face.landmarks * scale
        subject = face.sample.subject
        out.append(Face(crop, label, family, source, subject, shown, (x, y, w, h), points, small, tuple(regions)))

    wanted = set(families)
    for source, group in reals.items():
        for number, face in enumerate(group):
            rng = np.random.default_rng([seed, _number(face.sample.subject)])
            pixels = face.pixels()
            add(pixels, face, "real", np.zeros(pixels.shape[:2], np.float32))
            if "pggan" in wanted and source == "celebamask":
                add(pixels, face, "real", np.zeros(pixels.shape[:2], np.float32), side=128)
            if "selfblend" in wanted:
                forged, mask = self_blend(rng, pixels, face.mesh)
                add(forged, face, "selfblend", mask)
            if "swap" in wanted and len(group) > 1:
                others = [group[(number + 1 + int(step)) % len(group)] for step in rng.integers(0, len(group) - 1, 10)]
                other = min(others, key=lambda candidate: pose_distance(candidate.mesh, face.mesh))
                forged, mask = swap_face(rng, pixels, face.mesh, other.pixels(), other.mesh)
                add(forged, face, "swap", mask)
            if "resynthesis" in wanted and twins is not None:
                twin = twins.pick(rng, face)
                if twin is not None:
                    twin = cv2.resize(twin, (face.side, face.side), interpolation=cv2.INTER_CUBIC)
                    add(twin, face, "resynthesis", np.ones(twin.shape[:2], np.float32))
    for face in faces:
        if face.sample.split == split and face.sample.label and face.sample.family in wanted:
            whole = None if face.sample.family == "ciplab" else np.ones((face.side, face.side), np.float32)
            side = 128 if face.sample.family == "pggan" else None
            add(face.pixels(), face, face.sample.family, whole, side)
    return out


def pairing(family: str, faces: Sequence[Face]) -> list[Face]:
    """The forgeries of one family with the reals of the same sources and size; for forgeries made here, all reals."""
    forged = [face for face in faces if face.family == family]
    sources = {face.source for face in forged}
    return [face for face in faces if not face.label and face.source in sources] + forged


def _scaled(box: Box, scale: float) -> Box:
    x, y, w, h = box
    return x * scale, y * scale, w * scale, h * scale


def _number(text: str) -> int:
    import zlib

    return zlib.crc32(text.encode())
