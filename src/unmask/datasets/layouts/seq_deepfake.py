"""Seq-DeepFake: faces edited step by step, with their sequences of edits."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from unmask import delimited
from unmask.datasets.layouts.listing import TABLES, folder_names
from unmask.datasets.manifest import SPLITS, Sample, check_samples
from unmask.edits.labels import LONGEST, TRACKS, checked
from unmask.errors import DataError


class SeqDeepFake:
    """Loads Seq-DeepFake; see `load_seq_deepfake`."""

    def recognises(self, path: Path) -> bool:
        """A folder by a track's name, a table by the columns of an annotation file."""
        if path.is_file():
            return path.suffix.lower() in TABLES and _is_annotation(path)
        inside = folder_names(path)
        return bool(inside & TRACKS.keys()) or (path.name in TRACKS and "annotations" in inside)

    def load(self, path: Path) -> list[Sample]:
        """`load_seq_deepfake`."""
        return load_seq_deepfake(path)


def load_seq_deepfake(path: Path) -> list[Sample]:
    """Seq-DeepFake (README of rshaojimmy/SeqDeepFake; Shao et al., ECCV 2022)::

        root/
          facial_components/             edits nose, eye, eyebrow, lip, hair, made by StyleMapGAN
            annotations/train.csv        also val.csv, test.csv
            images/train/nose-eye-lip/NAME.jpg
            images/train/original/NAME.jpg
          facial_attributes/             edits Bangs, Eyeglasses, Beard, Smiling, Young, made by Talk-to-Edit
          style_drift/                   not theirs: what `unmask synthesise --sequence` makes, all faces drawn

    An annotation file has the columns `file_path`, from the root, and `label`, five numbers in the order of the edits
    with zeros at the end: "[1, 2, 4, 0, 0]" is the `sequence` "nose-eye-lip", all zeros a real face. Its split
    is kept. What the names say about the person is documented nowhere, so that a subject is a name within one split.

    Three more columns, from the root as well, are read if they are there: `original`, the untouched face; `mask`, a
    grey picture of where it was edited; `steps`, a folder with `1-mask.png`, `2-mask.png` …, the same for each edit
    (`unmask forge --sequence` writes them). Pictures of one original are of one subject. A column that is filled for
    some edited faces must be filled for all of them.

    Args:
        path: the root, the folder of one track, or one annotation file.

    Raises:
        DataError: no annotation file, a faulty row, or what `check_samples` refuses.
    """
    here = path.absolute()
    if here.is_file():
        tables = [here]
    else:
        tracks = [here] if here.name in TRACKS else [here / track for track in TRACKS]
        tables = [track / "annotations" / f"{split}.csv" for track in tracks for split in SPLITS]
        tables = [table for table in tables if table.is_file()]
    if not tables:
        raise DataError(f"{path}: no annotations/train.csv, val.csv or test.csv of {' or '.join(TRACKS)}")
    samples: list[Sample] = []
    rows: list[str] = []
    for table in tables:
        track, split = table.parent.parent.name, table.stem
        if track not in TRACKS or split not in SPLITS:
            raise DataError(f"{table}: not at {' or '.join(TRACKS)}/annotations/train.csv, val.csv or test.csv")
        known = TRACKS[track]
        root = table.parents[2]
        table_rows = _table(table, ("file_path", "label"))
        _refuse_partly_filled(table, table_rows)
        for number, row in table_rows.items():
            place = f"{track}/annotations/{table.name}, row {number}"
            steps = known.names(_numbers(row["label"], f"{table}, row {number}"))
            extra = {name: str(root / row[name]) for name in _PAIRING if row.get(name)}
            subject = row.get("original") or Path(row["file_path"]).stem
            samples.append(
                Sample(
                    path=str(root / row["file_path"]),
                    label=int(bool(steps) or known.drawn),
                    family=known.generator if steps or known.drawn else "real",
                    source=f"seq-deepfake/{track}",
                    subject=f"{track}/{split}/{Path(subject).stem}",
                    split=split,
                    sequence="-".join(steps),
                    **extra,
                )
            )
            rows.append(place)
    check_samples(samples, path, rows, training=not all(TRACKS[table.parent.parent.name].drawn for table in tables))
    return samples


def _is_annotation(path: Path) -> bool:
    try:
        return {"file_path", "label"} <= {name.casefold() for name in delimited.layout_of(path).names}
    except (OSError, DataError):
        return False  # whoever reads it as a manifest says what is wrong with it


def _table(path: Path, columns: Sequence[str]) -> dict[int, dict[str, str]]:
    rows = delimited.read_table(path, columns)
    for number, row in rows.items():
        missing = [column for column in columns if not row[column]]
        if missing:
            raise DataError(f"{path}, row {number}: no {', '.join(missing)}; fill the column")
    return rows


_PAIRING = ("original", "mask", "steps")


def _refuse_partly_filled(table: Path, rows: Mapping[int, Mapping[str, str]]) -> None:
    """An edited face without what the others have would teach, and be measured, by another rule than they."""
    edited = [(number, row) for number, row in rows.items() if re.search("[1-5]", row["label"])]
    for name in _PAIRING:
        empty = [number for number, row in edited if not row.get(name)]
        if 0 < len(empty) < len(edited):
            others = f" (nor {len(empty) - 1} more)" if len(empty) > 1 else ""
            raise DataError(
                f"{table}, row {empty[0]}{others}: no {name}, which other edited faces have; fill it or drop the column"
            )


def _numbers(label: str, where: str) -> tuple[int, ...]:
    numbers = re.findall(r"-?\d+", label)
    if not re.fullmatch(r"\s*\[?\s*(-?\d+\s*,\s*)*-?\d+\s*\]?\s*", label) or len(numbers) < LONGEST:
        raise DataError(f"{where}: label {label!r}; write five numbers, 0 to 5, zeros last: [1, 2, 4, 0, 0]")
    try:
        return checked([int(number) for number in numbers])
    except ValueError as error:
        raise DataError(f"{where}: label {label!r}: {error}; correct it or drop the row") from error
