"""A manifest as a data set of its own: the file, or a folder that holds one."""

from pathlib import Path

from unmask.datasets.layouts.listing import TABLES
from unmask.datasets.manifest import Sample, read_manifest

MANIFEST = "manifest.csv"


class Manifest:
    """Loads a table of samples; `unmask.datasets.manifest` says what its columns mean."""

    def recognises(self, path: Path) -> bool:
        """Any table, and a folder with a manifest.csv."""
        if path.is_dir():
            return (path / MANIFEST).is_file()
        return path.suffix.lower() in (*TABLES, ".parquet")

    def load(self, path: Path) -> list[Sample]:
        """Its rows, as `read_manifest` reads them."""
        return read_manifest(path.absolute() / MANIFEST if path.is_dir() else path.absolute())
