"""What the layouts share: pictures in folders, listed in one order on every machine, and none left out in silence."""

from collections.abc import Iterator
from pathlib import Path

from unmask.errors import DataError
from unmask.media.sources import RefusedSource, walk

TABLES = (".csv", ".tsv", ".tab")
PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")


def existing_folder(path: Path) -> Path:
    """The folder with a path that holds from any working folder.

    Raises:
        DataError: there is none.
    """
    if not path.is_dir():
        raise DataError(f"{path}: no such folder; correct the path")
    return path.absolute()


def entries(folder: Path) -> list[Path]:
    """What is in a folder, sorted by name.

    Raises:
        DataError: it cannot be listed.
    """
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise DataError(f"{folder}: cannot be listed ({error.strerror}); change its permissions") from error


def pictures_below(folder: Path) -> Iterator[Path]:
    """Every picture in a folder and below, sorted by name within each folder; none if there is no such folder.

    Raises:
        DataError: a folder cannot be listed.
    """
    if not folder.is_dir():
        return
    for source in walk([folder]):
        if isinstance(source, RefusedSource):
            raise DataError(f"{source.path}: {source.refusal.message}")
        if source.file is not None and source.file.suffix.lower() in PICTURES:
            yield source.file


def refuse_other_folders(folder: Path, known: set[str]) -> None:
    """See that no picture is left out because its folder has a name that is not known.

    Raises:
        DataError: a folder outside `known` holds pictures.
    """
    for child in entries(folder):
        strange = child.is_dir() and child.name not in known and not child.name.startswith(".")
        if strange and any(pictures_below(child)):
            names = ", ".join(sorted(known))
            raise DataError(f"{child}: holds pictures, but its name is none of {names}; rename it or move it away")


def folder_names(folder: Path) -> set[str]:
    """Names of the folders in a folder; none of a file.

    Raises:
        DataError: it cannot be listed.
    """
    return {child.name for child in entries(folder) if child.is_dir()} if folder.is_dir() else set()
