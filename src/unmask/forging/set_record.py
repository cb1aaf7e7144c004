"""Folders of made pictures: whole files or none, a record of what is finished, never two orders in one. Lab only."""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from unmask.errors import DataError

_PNG = [cv2.IMWRITE_PNG_COMPRESSION, 3]


def png(pixels: np.ndarray) -> bytes:
    """PNG of uint8 (H, W, 3) RGB or (H, W) grey; the one setting for all pictures of a set."""
    _, data = cv2.imencode(".png", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR) if pixels.ndim == 3 else pixels, _PNG)
    return data.tobytes()


def write_whole(path: Path, data: bytes) -> None:
    """Write a file so that it is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_bytes(data)
    part.replace(path)


def refuse_another(out: Path, order: Any) -> None:
    """See that a folder, if it is there, holds a set of the same order or nothing.

    Args:
        out: the folder; its `set.json` says what it was asked to be.
        order: a dataclass. A field `pictures` of None is not looked at yet.

    Raises:
        DataError: it holds something else.
    """
    assert is_dataclass(order) and not isinstance(order, type)
    remedy = "name another folder or delete it"
    asked = json.loads(json.dumps(asdict(order)))
    try:
        old = json.loads((out / "set.json").read_text(encoding="utf-8"))
        differing = [name for name, value in asked.items() if old[name] != value]
    except FileNotFoundError:
        if out.is_dir() and any(out.iterdir()):
            raise DataError(f"{out} holds something that is no set of this command; {remedy}") from None
        return
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{out} is no folder with a readable set.json ({error}); {remedy}") from error
    if asked["pictures"] is None:
        differing.remove("pictures")
    elif "pictures" in differing:
        raise DataError(f"{out} holds a set made from other pictures; {remedy}")
    if differing:
        name = differing[0]
        raise DataError(f"{out} holds a set made with {name} {old[name]}, not {asked[name]}; {remedy}")


class Record:
    """The record of a set, a line for each finished picture. What a kill left of a line is taken off."""

    def __init__(self, out: Path, files: Callable[[Mapping[str, Any]], Iterable[str]]) -> None:
        """Open the record of a folder.

        Args:
            out: the set's folder; the record is its `record.jsonl`.
            files: the files that a row speaks of, relative to the folder. A row whose files are not all there does not
                count; one that lacks what this asks for (KeyError, TypeError) neither.
        """
        self._path = out / "record.jsonl"
        self.rows: dict[str, dict[str, Any]] = {}
        """Finished rows by their `path`."""
        lines = []
        for line in (
            self._path.read_text(encoding="utf-8", errors="replace").splitlines() if self._path.is_file() else ()
        ):
            try:
                row = json.loads(line)
                whole = all((out / name).is_file() for name in files(row))
                path = row["path"]
            except (json.JSONDecodeError, KeyError, TypeError):
                continue
            if whole:
                self.rows[path] = row
                lines.append(line + "\n")
        write_whole(self._path, "".join(lines).encode())
        self._stream = self._path.open("a", encoding="utf-8")

    def __enter__(self) -> "Record":
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()

    def add(self, row: dict[str, Any]) -> None:
        """Note a picture that is in place."""
        self._stream.write(json.dumps(row) + "\n")
        self._stream.flush()
        self.rows[row["path"]] = row
