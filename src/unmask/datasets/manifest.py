"""The data set manifest: one row per picture.

Label convention: forged = 1, real = 0. `family` names how a forgery was made ("real" for reals), `source` the
collection a picture comes from (what a detector must not learn), `subject` whatever must never stand on both sides of a
split.
"""

import hashlib
import importlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from PIL import Image

from unmask.delimited import known_names, read_table
from unmask.errors import DataError
from unmask.tables import write_csv

SPLITS = ("train", "val", "cal", "test")
SPECTRA = ("visible", "nir")
_REQUIRED = ("path", "label", "family", "source", "subject", "split")


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One row.

    - `video`: names the video a picture is a frame of, else empty.
    - `mask`: of a forgery, a grey picture of the same size, white where it was forged; of a real face, its parts: one
      label map of the same size, or the folder that holds one picture per part; else empty.
    - `sequence`: the edits in their order, joined by hyphens ("nose-eye-lip"), else empty.
    - `spectrum`: "visible" or "nir".
    - `original`: the untouched face that an edited one was made from, a picture of the same size, else empty.
    - `steps`: a folder with `1-mask.png` and so on, grey, white where each edit of the sequence was made, else empty.
    - `kind`: of a forgery, how its family forges, where the family has no record, else empty.
    - `flags`: CIPLAB's four region flags (left eye, right eye, nose, mouth) as "1011", else empty.
    """

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
    original: str = ""
    steps: str = ""
    kind: str = ""


def write_manifest(samples: Iterable[Sample], path: Path) -> None:
    """Write rows as CSV with a header.

    Raises:
        DataError: it cannot be written there.
    """
    names = [field.name for field in fields(Sample)]
    write_csv(path, names, ([getattr(sample, name) for name in names] for sample in samples))


def read_manifest(path: Path) -> list[Sample]:
    """Read and check a manifest: delimited text in any layout that `unmask.delimited` knows, or Parquet.

    Relative paths of pictures and masks are taken from the manifest's folder. Columns that are no field of `Sample` are
    passed over; an empty optional field has its default.

    Raises:
        DataError: naming row and remedy, for a missing column, an unknown label or split, and for all that
            `check_samples` refuses.
    """
    known = {field.name for field in fields(Sample)}
    samples: list[Sample] = []
    rows = _rows(path)
    for number, row in rows.items():
        where = f"{path}, row {number}"
        missing = set(_REQUIRED) - {name for name, value in row.items() if value}
        if missing:
            raise DataError(f"{where}: no {', '.join(sorted(missing))}; fill the column")
        label = row["label"].removesuffix(".0")  # as pandas writes whole numbers beside empty cells
        if label not in ("0", "1"):
            raise DataError(f"{where}: label {row['label']!r}; write 0 for real, 1 for forged")
        if row["split"] not in SPLITS:
            raise DataError(f"{where}: split {row['split']!r}; write one of {', '.join(SPLITS)}")
        values: dict[str, Any] = {key: value for key, value in row.items() if key in known and value}
        for name in {"path", "mask", "original", "steps"} & values.keys():
            values[name] = str(path.parent / values[name])
        samples.append(Sample(**{**values, "label": int(label)}))
    if not samples:
        raise DataError(f"{path}: the manifest has no rows")
    check_samples(samples, path, [f"row {number}" for number in rows])
    return samples


def _rows(path: Path) -> dict[int, dict[str, str]]:
    """The rows of a table as text, by their number: of text, that of the line; of Parquet, from 1."""
    if path.suffix.lower() != ".parquet":
        return read_table(path, _REQUIRED)
    try:
        pyarrow, parquet = (importlib.import_module(name) for name in ("pyarrow", "pyarrow.parquet"))
    except ModuleNotFoundError as error:
        raise DataError(f"{path}: Parquet needs pyarrow: pip install pyarrow, or save the table as CSV") from error
    try:
        table = parquet.read_table(path)
    except (OSError, pyarrow.ArrowException) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{path}: not a readable Parquet manifest ({reason})") from error
    table = table.rename_columns(known_names(table.column_names, _REQUIRED, str(path)))
    return {
        number: {name: "" if value is None else str(value).strip() for name, value in row.items()}
        for number, row in enumerate(table.to_pylist(), 1)
    }


class OneClassError(DataError):
    """A data set whose training split has one class alone; `samples` are its rows, which are well otherwise."""

    def __init__(self, message: str, samples: tuple[Sample, ...]) -> None:
        super().__init__(message)
        self.samples = samples


def check_samples(
    samples: Sequence[Sample], where: str | Path, rows: Sequence[str] | None = None, *, training: bool = True
) -> None:
    """Refuse samples that cannot be trained and tested on as they stand. Pictures are not decoded.

    Args:
        samples: what a loader has made of a data set.
        where: the file or folder they were read from, for messages.
        rows: what each sample is called there ("row 3"); its path if not given.
        training: whether "train", if any sample is in it, must hold both classes; False for a set of one class.

    Raises:
        DataError: no samples; an unknown spectrum; pictures or masks that are not there; a mask of another size than
            its picture; a subject or a picture on two sides of a split; a class without a sample in "train".
    """
    names = [sample.path for sample in samples] if rows is None else rows
    if not samples:
        raise DataError(f"{where}: no samples; give a folder or file that has some")
    for name, sample in zip(names, samples, strict=True):
        if sample.spectrum not in SPECTRA:
            raise DataError(f"{where}, {name}: spectrum {sample.spectrum!r}; write one of {', '.join(SPECTRA)}")
    pictures = [(name, Path(s.path)) for name, s in zip(names, samples, strict=True) if not Path(s.path).is_file()]
    masks = [(n, Path(s.mask)) for n, s in zip(names, samples, strict=True) if s.mask and not Path(s.mask).exists()]
    pairs = [(n, Path(kept)) for n, s in zip(names, samples, strict=True) for kept in (s.original, s.steps) if kept]
    for absent in (pictures, masks, [(name, path) for name, path in pairs if not path.exists()]):
        if absent:
            name, path = absent[0]
            others = f" (nor {len(absent) - 1} more)" if len(absent) > 1 else ""
            raise DataError(f"{where}, {name}: no file {path}{others}; correct the path or drop the row")
    for name, sample in zip(names, samples, strict=True):
        for kind, beside in (("mask", sample.mask), ("original", sample.original)):
            if beside and Path(beside).is_file():
                other, picture = (picture_size(Path(one), f"{where}, {name}") for one in (beside, sample.path))
                if other != picture:
                    raise DataError(
                        f"{where}, {name}: {kind} {beside} has {other[0]} x {other[1]} pixels, its picture "
                        f"{picture[0]} x {picture[1]}; scale it to the picture's size"
                    )
    side: dict[tuple[str, str], tuple[str, str]] = {}
    for name, sample in zip(names, samples, strict=True):
        for kind, value in (("subject", sample.subject), ("picture", sample.path)):
            split, first = side.setdefault((kind, value), (sample.split, name))
            if split != sample.split:
                raise DataError(
                    f"{where}, {name}: {kind} {value!r} is in {sample.split} here and in {split} in {first}; "
                    "put both on one side, or tell them apart by name if they are not the same"
                )
    labels = {sample.label for sample in samples if sample.split == "train"}
    if training and len(labels) == 1:
        absent_class = "forged" if 0 in labels else "real"
        why = f"{where}: no {absent_class} sample in train; add some, or move the others to another split"
        raise OneClassError(why, tuple(samples))


_ORIENTATION, _TURNED = 0x0112, 5  # EXIF tag; from this value on, width and height change places


def picture_size(path: Path, where: str) -> tuple[int, int]:
    """Width and height as OpenCV will decode it, from the header alone."""
    try:
        with Image.open(path) as picture:
            width, height = picture.size
            # Only for JPEG: of a PNG, Pillow would decode all pixels to look for EXIF behind them.
            turned = picture.format == "JPEG" and picture.getexif().get(_ORIENTATION, 1) >= _TURNED
    except (OSError, Image.DecompressionBombError) as error:
        raise DataError(f"{where}: {path} is no readable picture; replace it or drop the row") from error
    return (height, width) if turned else (width, height)


def manifest_sha256(samples: Sequence[Sample]) -> str:
    """SHA-256 over names, labels, families, splits and sequences of all rows, independent of where the files lie."""
    lines = sorted(
        f"{Path(s.path).name},{s.label},{s.family},{s.source},{s.subject},{s.split}"
        + (f",{s.sequence}" if s.sequence else "")
        for s in samples
    )
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
