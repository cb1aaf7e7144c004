"""The pictures that may be attacked: a manifest that states consent or synthetic origin, and the face in each.

Columns: `path`, `subject` (whose face) and `consent`: "yes" for a person who agreed to this use, "synthetic" for a face
that belongs to nobody. Detectors need `label` too (1 = forged). `target`, where it is given, is the path of the picture
whose person a source is to be taken for.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from unmask.datasets.layouts.manifest_file import MANIFEST
from unmask.delimited import read_table
from unmask.errors import DataError, Refused
from unmask.faces.alignment import alignment_matrix, context_crop
from unmask.faces.finding import FaceFinder
from unmask.progress import SILENT, Progress

CONSENT = ("yes", "synthetic")


def is_remote(name: str) -> bool:
    """Whether a name is an address (a scheme of two letters or more) and no path."""
    return re.match(r"[A-Za-z][\w+.-]+:/", name) is not None


@dataclass(frozen=True)
class SourceRow:
    """One row of the manifest; `target` and `label` are empty where the column is."""

    path: Path
    name: str
    subject: str
    consent: str
    label: str
    target: str


@dataclass(frozen=True)
class Face:
    """A face with its surroundings, brought to the size at which it is attacked.

    Attributes:
        name: of the picture in the manifest.
        subject: whose it is.
        label: 1 = forged, 0 = real; None where the manifest does not say.
        picture: uint8 (3, S, S) RGB.
        landmarks: (5, 2) in pixels of `picture`.
        matrix: (2, 3), the alignment to ArcFace's template of 112 pixels.
        digest: SHA-256 of the file.
        target: the path of the target's picture in the manifest, else empty.
    """

    name: str
    subject: str
    label: int | None
    picture: Tensor
    landmarks: np.ndarray
    matrix: np.ndarray
    digest: str
    target: str


def read_sources(path: Path, *, labels: bool = False, consent: bool = True) -> list[SourceRow]:
    """The rows of a manifest.

    Args:
        path: a delimited table, or a folder with manifest.csv.
        labels: whether `label` must be there.
        consent: whether `consent` must be there and say so for every row.

    Raises:
        DataError: it is not there or lacks a column, a row lacks a value, or a row may not be attacked.
    """
    if is_remote(str(path)):
        raise DataError(f"{path}: only pictures and models on this machine are attacked")
    table = path / MANIFEST if path.is_dir() else path
    needed = ["path", "subject", *(["consent"] if consent else []), *(["label"] if labels else [])]
    if not table.is_file():
        raise DataError(f"{path}: no manifest; give a table with the columns {', '.join(needed)}")
    rows = []
    for number, row in read_table(table, needed).items():
        where = f"{table}, row {number}"
        empty = [name for name in needed if not row[name] and name != "consent"]
        if empty:
            raise DataError(f"{where}: no {', '.join(empty)}; fill the column")
        if consent and row["consent"].casefold() not in CONSENT:
            raise DataError(
                f"{where}: {row['path']}: consent {row['consent']!r}; only faces of people who agreed (yes) and faces "
                "of nobody (synthetic) are attacked: say which, or drop the row"
            )
        label = row.get("label", "").removesuffix(".0")
        if labels and label not in ("0", "1"):
            raise DataError(f"{where}: label {row['label']!r}; write 0 for real, 1 for forged")
        place = table.parent / row["path"]
        if not place.is_file():
            raise DataError(f"{where}: no file {place}; correct the path or drop the row")
        rows.append(SourceRow(place, row["path"], row["subject"], row.get("consent", ""), label, row.get("target", "")))
    if not rows:
        raise DataError(f"{table}: the manifest has no rows")
    return rows


def find_faces(
    rows: Sequence[SourceRow], size: int, margin: float, progress: Progress = SILENT, stage: str = "finding faces"
) -> tuple[list[Face], list[tuple[str, str]]]:
    """The largest face of every picture, cropped with its surroundings.

    Args:
        rows: of the manifest.
        size: side of a crop in pixels.
        margin: side of the crop over the longer side of the face box.
        progress: updated for every row.
        stage: what it is told.

    Returns:
        faces: one for each picture that has one.
        skipped: name and reason of the others.

    Raises:
        DataError: no picture has a face.
    """
    from unmask.media.images import decode_image
    from unmask.media.intake import take_in
    from unmask.media.sources import Source

    finder, faces, skipped = FaceFinder(), [], []
    for number, row in enumerate(rows, 1):
        try:
            media = take_in(Source(row.name, row.path))
            pixels = decode_image(media).pixels
            seen = finder.find(pixels)
            if seen:
                crop, (left, top, side, _) = context_crop(pixels, seen[0].box, margin, size)
                points = (seen[0].landmarks - (left, top)) * (size / side)
                faces.append(
                    Face(
                        row.name,
                        row.subject,
                        int(row.label) if row.label else None,
                        torch.from_numpy(crop.transpose(2, 0, 1).copy()),
                        points,
                        alignment_matrix(points),
                        hashlib.sha256(row.path.read_bytes()).hexdigest(),
                        row.target,
                    )
                )
            else:
                skipped.append((row.name, "no face was found"))
        except Refused as refusal:
            skipped.append((row.name, refusal.message))
        progress.update(stage, number, len(rows))
    if not faces:
        raise DataError(f"no face was found in any of {len(rows)} pictures, from {rows[0].name} on; give others")
    return faces, skipped


def pair_for_impersonation(faces: Sequence[Face]) -> list[tuple[int, int]]:
    """Sources and the faces that they are to be taken for, by their rows: the manifest's, else the next person's.

    Raises:
        DataError: a target that is the source itself or of the same person or not there; fewer than two people.
    """
    by_name = {face.name: row for row, face in enumerate(faces)}
    people = list(dict.fromkeys(face.subject for face in faces))
    first = {subject: next(row for row, face in enumerate(faces) if face.subject == subject) for subject in people}
    stated = any(face.target for face in faces)
    if len(people) < 2 and not stated:
        raise DataError(f"impersonation needs two people; all pictures are of {people[0]!r}")
    pairs = []
    for row, face in enumerate(faces):
        if stated and not face.target:
            continue
        if stated:
            if face.target not in by_name:
                raise DataError(f"{face.name}: its target {face.target} is no row with a face; add it, or drop the row")
            other = by_name[face.target]
        else:
            if first[face.subject] != row:
                continue  # one picture of a person is attacked
            other = first[people[(people.index(face.subject) + 1) % len(people)]]
        if faces[other].digest == face.digest or faces[other].subject == face.subject:
            raise DataError(f"{face.name}: its target {faces[other].name} is the same person; name another one")
        pairs.append((row, other))
    return pairs


def pair_for_dodging(faces: Sequence[Face]) -> list[tuple[int, int]]:
    """For one picture of every person who has two: its row and that of the other one.

    Raises:
        DataError: nobody has two pictures.
    """
    pairs: dict[str, tuple[int, int]] = {}
    seen: dict[str, int] = {}
    for row, face in enumerate(faces):
        before = seen.setdefault(face.subject, row)
        if before != row and faces[before].digest != face.digest:
            pairs.setdefault(face.subject, (before, row))
    if not pairs:
        raise DataError("dodging needs two different pictures of a person; nobody has them")
    return list(pairs.values())
