"""Index tables: `index.csv` with pictures, families, kinds and groups, as research collections come."""

from collections.abc import Mapping
from pathlib import Path

from unmask import delimited
from unmask.datasets.manifest import SHARES, SPLITS, Sample, check_samples, picture_size, split_of
from unmask.errors import DataError

INDEX = "index.csv"
_COLUMNS = ("path", "label", "family", "kind", "group")


class IndexTable:
    """Loads index tables; see `load_index`."""

    def recognises(self, path: Path) -> bool:
        """A folder with an index.csv, or that file, with the columns of one."""
        table = path / INDEX if path.is_dir() else path
        if table.name != INDEX or not table.is_file():
            return False
        try:
            return set(_COLUMNS) <= {name.casefold() for name in delimited.layout_of(table).names}
        except (OSError, DataError):
            return False  # whoever reads it as a manifest says what is wrong with it

    def load(self, path: Path) -> list[Sample]:
        """`load_index`."""
        return load_index(path)


def load_index(path: Path, shares: Mapping[str, int] = SHARES, seed: int = 0) -> list[Sample]:
    """An index table::

        root/
          index.csv                      columns path, label, family, kind, group; perhaps split
          FAMILY/fake/NAME.jpg           whatever the table says
          FAMILY/real/NAME.jpg

    `path` is from the table's folder, `label` 1 for forged. `family` names how a picture was forged, and of genuine
    ones where they come from: it is the row's `source`, of both classes. `group` is what must stay on one side of a
    split: a person, a video, a seed; one name means one group in all families. `kind` is kept for families that have no
    record (`unmask.forging.families`). A forged picture whose family has a genuine one of the same group and name, as
    pairs cut out of one frame have, gets it as its `original`; names are compared without what follows the last "__"
    where they do not agree in full, and pictures of two sizes are no pair.

    Args:
        path: the table or its folder.
        shares: of the splits in percent, for tables without a column `split`.
        seed: of the draw of splits.

    Raises:
        DataError: a faulty row, a group in two splits, or what `check_samples` refuses.
    """
    table = (path / INDEX if path.is_dir() else path).absolute()
    rows = delimited.read_table(table, _COLUMNS)
    genuine: dict[tuple[str, str, str], str] = {}
    for number, row in rows.items():
        _check(row, f"{table}, row {number}")
        if row["label"] == "0":
            for name in _names(row["path"]):
                # A name that two pictures share pairs none of them.
                key = (row["family"], row["group"], name)
                genuine[key] = "" if key in genuine else row["path"]
    samples, sides = [], dict[str, str]()
    for number, row in rows.items():
        split = row.get("split") or split_of(row["group"], dict(shares), seed)
        if sides.setdefault(row["group"], split) != split:
            raise DataError(
                f"{table}, row {number}: group {row['group']} is in the splits {sides[row['group']]} and {split}; "
                "keep a group on one side"
            )
        forged = row["label"] == "1"
        twins = (genuine.get((row["family"], row["group"], name), "") for name in _names(row["path"]))
        original = next((twin for twin in twins if twin), "") if forged else ""
        if original and not _same_size(table.parent, row["path"], original, f"{table}, row {number}"):
            original = ""
        samples.append(
            Sample(
                path=str(table.parent / row["path"]),
                label=int(forged),
                family=row["family"] if forged else "real",
                source=row["family"],
                subject=row["group"],
                split=split,
                original=str(table.parent / original) if original else "",
                kind=row["kind"] if forged else "",
            )
        )
    check_samples(samples, table, [f"row {number}" for number in rows])
    return samples


def _check(row: Mapping[str, str], where: str) -> None:
    missing = [name for name in _COLUMNS if not row[name]]
    if missing:
        raise DataError(f"{where}: no {', '.join(missing)}; fill the column")
    if row["label"] not in ("0", "1"):
        raise DataError(f"{where}: label {row['label']!r}; write 0 for real, 1 for forged")
    if row.get("split") and row["split"] not in SPLITS:
        raise DataError(f"{where}: split {row['split']!r}; write one of {', '.join(SPLITS)}")


def _same_size(root: Path, path: str, other: str, where: str) -> bool:
    """Whether two pictures have one size; a file that is missing is left to `check_samples`."""
    files = [root / name for name in (path, other)]
    return not all(file.is_file() for file in files) or len({picture_size(file, where) for file in files}) == 1


def _names(path: str) -> tuple[str, ...]:
    """The name of a picture in full, and without what follows the last "__"; alike where there is no "__"."""
    stem = Path(path).stem
    return tuple(dict.fromkeys((f"{stem}|", stem.rpartition("__")[0] or stem)))
