"""The data set manifest: one row per picture, and the layouts we can read into it.

Label convention: forged = 1, real = 0. `family` names how a forgery was made ("real" for reals), `source` the
collection a picture comes from (what a detector must not learn), `subject` whatever must never stand on both sides of a
split.
"""

import csv
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from scipy.sparse.csgraph import connected_components

from unmask.errors import DataError

SPLITS = ("train", "val", "cal", "test")


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One row. `flags` are CIPLAB's four region flags (left eye, right eye, nose, mouth) as "1011", else empty."""

    path: str
    label: int
    family: str
    source: str
    subject: str
    split: str
    video: str = ""
    mask: str = ""
    sequence: str = ""
    spectrum: str = "visible"
    flags: str = ""


def write_manifest(samples: Iterable[Sample], path: Path) -> None:
    """Write rows as CSV with a header."""
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, [field.name for field in fields(Sample)])
        writer.writeheader()
        writer.writerows(asdict(sample) for sample in samples)


def read_manifest(path: Path) -> list[Sample]:
    """Read and check a CSV manifest; relative picture paths are taken from the manifest's folder.

    Raises:
        DataError: naming row and remedy, for a missing column or file, an unknown label or split, or a subject on two
            sides.
    """
    known = {field.name for field in fields(Sample)}
    samples: list[Sample] = []
    side: dict[str, tuple[str, int]] = {}
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            rows = list(csv.DictReader(stream))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: not a readable CSV manifest ({error})") from error
    for number, row in enumerate(rows, start=2):
        where = f"{path}, row {number}"
        missing = {"path", "label", "family", "source", "subject", "split"} - {k for k, v in row.items() if v}
        if missing:
            raise DataError(f"{where}: no {', '.join(sorted(missing))}; fill the column")
        if row["label"] not in ("0", "1"):
            raise DataError(f"{where}: label {row['label']!r}; write 0 for real, 1 for forged")
        if row["split"] not in SPLITS:
            raise DataError(f"{where}: split {row['split']!r}; write one of {', '.join(SPLITS)}")
        picture = path.parent / row["path"]
        if not picture.is_file():
            raise DataError(f"{where}: no file {picture}; correct the path or drop the row")
        split, first = side.setdefault(row["subject"], (row["split"], number))
        if split != row["split"]:
            raise DataError(
                f"{where}: subject {row['subject']!r} is in {row['split']} here and in {split} in row {first}"
            )
        values: dict[str, Any] = {key: value for key, value in row.items() if key in known and value is not None}
        samples.append(Sample(**{**values, "path": str(picture), "label": int(row["label"])}))
    if not samples:
        raise DataError(f"{path}: the manifest has no rows")
    return samples


def manifest_sha256(samples: Sequence[Sample]) -> str:
    """SHA-256 over names, labels, families and splits of all rows, independent of where the files lie."""
    lines = sorted(f"{Path(s.path).name},{s.label},{s.family},{s.source},{s.subject},{s.split}" for s in samples)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def split_of(subject: str, shares: dict[str, int], seed: int = 0) -> str:
    """The split of a subject, by hash: `shares` are percentages that sum to 100."""
    point = int.from_bytes(hashlib.sha256(f"{seed}:{subject}".encode()).digest()[:8], "big") % 100
    for split, share in shares.items():
        if point < share:
            return split
        point -= share
    raise ValueError(f"shares sum to less than 100: {shares}")


SHARES = {"train": 62, "val": 6, "cal": 12, "test": 20}
UNSEEN_SHARES = {"val": 40, "test": 60}  # PGGAN: never trained on, never calibrated on


def read_collection(root: Path, synthetic: Path | None = None, most_per_source: int = 3600) -> list[Sample]:
    """The collections of a data folder (`forensics/…`, `faces/…`) as a manifest with fixed, subject-disjoint splits.

    Args:
        root: folder that holds `forensics/ffhq_stylegan_256`, `forensics/ciplab_256`, `forensics/gan2018/pggan`,
            `faces/celebamask_256/images` and `faces/utkface_200`; those that are absent are left out.
        synthetic: folder of pictures made by `unmask.data.synthesis`, if any.
        most_per_source: a source with more pictures is thinned to this many, by hash of the subject.

    Raises:
        DataError: none of the collections is there.
    """
    forensics, faces = root / "forensics", root / "faces"
    plan: list[tuple[Path, int, str, str, dict[str, int]]] = [
        (forensics / "ffhq_stylegan_256" / "real", 0, "real", "ffhq", SHARES),
        (forensics / "ffhq_stylegan_256" / "fake", 1, "stylegan", "ffhq", SHARES),
        (forensics / "ciplab_256" / "real", 0, "real", "ciplab", SHARES),
        (forensics / "ciplab_256" / "fake", 1, "ciplab", "ciplab", SHARES),
        (forensics / "gan2018" / "pggan", 1, "pggan", "celebamask", UNSEEN_SHARES),
        (faces / "celebamask_256" / "images", 0, "real", "celebamask", SHARES),
        (faces / "utkface_200", 0, "real", "utkface", SHARES),
    ]
    if synthetic is not None:
        plan.append((synthetic, 1, "mobilestylegan", "ffhq", SHARES))
    samples = []
    for folder, label, family, source, shares in plan:
        names = sorted(path for path in folder.glob("*.jpg")) if folder.is_dir() else []
        names.sort(key=lambda path: hashlib.sha256(path.name.encode()).digest())
        names = sorted(names[:most_per_source])
        twins = _near_duplicates(names) if source == "utkface" else {}
        for path in names:
            subject = f"{source}/{family}/{twins.get(path.name, path.stem)}"
            flags = path.stem.rsplit("_", 1)[-1] if family == "ciplab" else ""
            samples.append(
                Sample(
                    path=str(path),
                    label=label,
                    family=family,
                    source=source,
                    subject=subject,
                    split=split_of(subject, shares),
                    flags=flags,
                )
            )
    if not samples:
        raise DataError(f"{root}: none of the known collections is there; give a manifest CSV or set UNMASK_DATA")
    return samples


_DUPLICATE_BITS = 2  # linked at more, unlike faces of UTKFace chain into one large group


def _near_duplicates(paths: Sequence[Path]) -> dict[str, str]:
    """Name -> stem of its group's first picture; pictures close in a 64-bit difference hash are linked into groups."""
    bits = np.zeros((len(paths), 64), bool)
    for row, path in enumerate(paths):
        grey = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        if grey is not None:
            small = cv2.resize(grey, (9, 8), interpolation=cv2.INTER_AREA).astype(np.int16)
            bits[row] = (small[:, 1:] > small[:, :-1]).ravel()
    signs = bits.astype(np.float32) * 2 - 1
    _, group = connected_components((64 - signs @ signs.T) / 2 <= _DUPLICATE_BITS, directed=False)
    first: dict[int, str] = {}
    return {path.name: first.setdefault(int(label), path.stem) for path, label in zip(paths, group, strict=True)}
