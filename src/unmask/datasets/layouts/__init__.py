"""The layouts in which data sets come, each with a loader that turns it into manifest rows.

A layout is one file here and one line in `LAYOUTS`, or stands in another package: by an entry point of the group
`unmask.layouts`, or named in full (`module:Class`) on the command line.

Every loader converts to our labels (forged = 1), gives paths that hold from any working folder, and refuses what
`check_samples` refuses. A split that comes with the data set is kept; where there is none, subjects are split by hash
(`split_of`, `SHARES`), so that a data set gives the same splits on every machine.
"""

from pathlib import Path
from typing import Protocol

from unmask.datasets.layouts.manifest_file import MANIFEST
from unmask.datasets.manifest import Sample
from unmask.errors import DataError
from unmask.plugins import Entry, Table


class Loader(Protocol):
    """Loads data sets of one layout. Its class is called without arguments."""

    def recognises(self, path: Path) -> bool:
        """Whether a file or folder has this layout, from names and a table's first line alone.

        Args:
            path: it is there; absolute.

        Raises:
            DataError: a folder cannot be listed.
        """
        ...

    def load(self, path: Path) -> list[Sample]:
        """The rows of a data set.

        Args:
            path: file or folder.

        Raises:
            DataError: it is not as the layout has it, or `check_samples` refuses it.
        """
        ...


_HERE = "unmask.datasets.layouts"
# Tried in this order; the manifest comes last, for it takes every table.
LAYOUTS: Table[type[Loader]] = Table(
    "layout",
    "unmask.layouts",
    (
        Entry("celebamask_hq", f"{_HERE}.celebamask_hq:CelebAMaskHQ", "CelebAMask-HQ (CelebA-HQ-img/)"),
        Entry(
            "seq_deepfake",
            f"{_HERE}.seq_deepfake:SeqDeepFake",
            "Seq-DeepFake (facial_components/ or facial_attributes/, or one of its annotation files)",
        ),
        Entry("forgerynir", f"{_HERE}.forgerynir:ForgeryNIR", "ForgeryNIR (ForgeryNIR-std/ and the like)"),
        Entry("index", f"{_HERE}.index_table:IndexTable", "an index table (index.csv with families, kinds, groups)"),
        Entry("collection", f"{_HERE}.collection:Collection", "the known collections (forensics/, faces/)"),
        Entry("attacked", f"{_HERE}.attacked:Attacked", "attacked faces (a folder of unmask redteam detector or pack)"),
        Entry(
            "folders",
            f"{_HERE}.plain_folders:PlainFolders",
            "plain folders (real/ and fake/, or these in train/, val/, test/)",
        ),
        Entry("deepfakebench", f"{_HERE}.deepfakebench:DeepfakeBench", "DeepfakeBench (a .json of its preprocessing)"),
        Entry(
            "manifest",
            f"{_HERE}.manifest_file:Manifest",
            "a manifest (.csv, .parquet, or manifest.csv in a folder; path, label, family, source, subject, split)",
        ),
    ),
)


def detect_layout(path: Path) -> str:
    """The name of the layout of a file or folder.

    A folder's manifest.csv says more than any names of folders; layouts of other packages are tried before our own.

    Returns:
        One of `LAYOUTS.names()`.

    Raises:
        DataError: it is in none of them; the message lists them.
    """
    if not path.exists():
        raise DataError(f"{path}: no such file or folder; correct the path")
    here = path.absolute()
    if (here / MANIFEST).is_file():
        return "manifest"
    for name in (*LAYOUTS.installed, *LAYOUTS.own):
        if LAYOUTS.load(name)().recognises(here):
            return name
    known = "; ".join((*(entry.summary for entry in LAYOUTS.own.values()), *LAYOUTS.installed))
    raise DataError(f"{path}: not in a layout that can be read. These can: {known}")


def read_layout(path: Path, layout: str | None = None) -> list[Sample]:
    """Load a data set; its paths hold from any working folder.

    Args:
        path: file or folder.
        layout: one of `LAYOUTS.names()`, or "module:Class"; None for `detect_layout(path)`.

    Raises:
        DataError: no known layout, or what its loader refuses.
    """
    return LAYOUTS.load(layout or detect_layout(path))().load(path)
