"""Files of published weights in a folder of the user's, each pinned by its hash."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from unmask.errors import DataError


@dataclass(frozen=True)
class WeightFile:
    """One file below a folder of weights.

    Attributes:
        path: below the folder, with "/".
        sha256: of the whole file.
        licence: as its publisher states it.
    """

    path: str
    sha256: str
    licence: str

    def find(self, folder: Path | None) -> Path | None:
        """The file, checked; None where there is no such folder or file.

        Raises:
            DataError: the file has another hash, or cannot be read.
        """
        if folder is None or not (folder / self.path).is_file():
            return None
        file = folder / self.path
        try:
            digest = hashlib.sha256(file.read_bytes()).hexdigest()
        except OSError as error:
            raise DataError(f"{file} cannot be read ({error.strerror}); make it readable or remove it") from error
        if digest != self.sha256:
            raise DataError(f"{file} has the sha256 {digest[:16]}…, not {self.sha256[:16]}…; replace or remove it")
        return file
