"""The known collections, in a folder with `forensics/` and `faces/`: what the embedded packs are trained on."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import cv2
import numpy as np

from unmask.datasets.layouts.index_table import INDEX, load_index
from unmask.datasets.layouts.listing import folder_names
from unmask.datasets.manifest import SHARES, Sample, split_of
from unmask.errors import DataError

UNSEEN_SHARES = {"val": 40, "test": 60}  # never trained on, never calibrated on
_WILD = "forensics/wild_256"
# Its families have as few as four groups: the seed is the one of 0 to 2999 that leaves the most of them on every side.
_WILD_SHARES, _WILD_SEED = {"train": 56, "val": 10, "cal": 12, "test": 22}, 54


@dataclass(frozen=True)
class _Part:
    """One folder of the collections: where it is, what it holds and how it is split."""

    folder: str
    family: str
    source: str
    shares: dict[str, int] = field(default_factory=lambda: SHARES)
    flagged: bool = False  # whether names end in flags
    has_copies: bool = False


_PARTS = (
    _Part("forensics/ffhq_stylegan_256/real", "real", "ffhq"),
    _Part("forensics/ffhq_stylegan_256/fake", "stylegan", "ffhq"),
    _Part("forensics/ciplab_256/real", "real", "ciplab"),
    _Part("forensics/ciplab_256/fake", "ciplab", "ciplab", flagged=True),
    _Part("forensics/gan2018/pggan", "pggan", "celebamask", UNSEEN_SHARES),
    _Part("faces/celebamask_256/images", "real", "celebamask"),
    _Part("faces/utkface_200", "real", "utkface", has_copies=True),
)


class Collection:
    """Loads the known collections; see `load_collection`."""

    def recognises(self, path: Path) -> bool:
        """By forensics/ or faces/."""
        return bool(folder_names(path) & {"forensics", "faces"})

    def load(self, path: Path) -> list[Sample]:
        """`load_collection`, without synthesised faces."""
        return load_collection(path.absolute())


def load_collection(root: Path, synthetic: Path | None = None, most_per_source: int = 3600) -> list[Sample]:
    """The collections of a data folder (`forensics/…`, `faces/…`) as a manifest with fixed, subject-disjoint splits.

    Args:
        root: folder that holds `forensics/ffhq_stylegan_256`, `forensics/ciplab_256`, `forensics/gan2018/pggan`,
            `faces/celebamask_256/images`, `faces/utkface_200` and `forensics/wild_256`, which has an index table; those
            that are absent are left out.
        synthetic: folder of pictures made by `unmask.forging.mobilestylegan`, if any.
        most_per_source: a source with more pictures is thinned to this many, by hash of the subject.

    Raises:
        DataError: none of the collections is there.
    """
    folders = [(root / part.folder, part) for part in _PARTS]
    if synthetic is not None:
        folders.append((synthetic, _Part("", "mobilestylegan", "ffhq")))
    samples = []
    for folder, part in folders:
        paths = sorted(folder.glob("*.jpg")) if folder.is_dir() else []
        paths.sort(key=lambda path: hashlib.sha256(path.name.encode()).digest())
        paths = sorted(paths[:most_per_source])
        first = _near_duplicates(paths) if part.has_copies else {}
        for path in paths:
            subject = f"{part.source}/{part.family}/{first.get(path.name, path.stem)}"
            samples.append(
                Sample(
                    path=str(path),
                    label=int(part.family != "real"),
                    family=part.family,
                    source=part.source,
                    subject=subject,
                    split=split_of(subject, part.shares),
                    flags=path.stem.rsplit("_", 1)[-1] if part.flagged else "",
                )
            )
    if (root / _WILD / INDEX).is_file():
        samples += _wild(root / _WILD, {sample.subject: sample.split for sample in samples})
    if not samples:
        raise DataError(f"{root}: none of the known collections is there; give a manifest CSV or set UNMASK_DATA")
    return samples


def _wild(folder: Path, split_of_subject: Mapping[str, str]) -> list[Sample]:
    """The rows of an index table whose FFHQ pictures may be in the other collections: those keep their side."""
    samples = []
    for sample in load_index(folder, _WILD_SHARES, _WILD_SEED):
        ffhq = re.fullmatch(r"(?:gpen_)?ffhq_?(\d{5})", sample.subject)
        subject = f"ffhq/real/{ffhq[1]}" if ffhq else f"wild/{sample.subject}"
        split = split_of_subject.get(subject, sample.split)
        samples.append(replace(sample, subject=subject, split=split))
    return samples


_DUPLICATE_BITS = 2  # linked at more, unlike faces of UTKFace chain into one large group


def _near_duplicates(paths: Sequence[Path]) -> dict[str, str]:
    """Name -> stem of its group's first picture; pictures close in a 64-bit difference hash are linked into groups."""
    from scipy.sparse.csgraph import connected_components  # of the lab: other layouts go without

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
