"""Folders of made pictures: whole files or none, a record of what is finished, never two sets in one. Lab only."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from unmask.errors import DataError
from unmask.files import whole
from unmask.records import RecordFile, record_file

_PNG = [cv2.IMWRITE_PNG_COMPRESSION, 3]


def png(pixels: np.ndarray) -> bytes:
    """PNG of uint8 (H, W, 3) RGB or (H, W) grey; the one setting for all pictures of a set."""
    _, data = cv2.imencode(".png", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR) if pixels.ndim == 3 else pixels, _PNG)
    return data.tobytes()


def write_whole(path: Path, data: bytes) -> None:
    """Write a file so that it is there whole or not at all, in a folder that is made if absent.

    Raises:
        DataError: it cannot be written there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path) as part:
        part.write_bytes(data)


def write_specification(out: Path, specification: Any) -> None:
    """Write what a set is asked to be, a dataclass, to its `set.json`."""
    write_whole(out / "set.json", json.dumps(asdict(specification), indent=1).encode())


def refuse_another(out: Path, specification: Any) -> None:
    """See that a folder, if it is there, holds a set of the same specification or nothing.

    Args:
        out: the folder; its `set.json` says what it was asked to be.
        specification: a dataclass. A field `pictures` of None is not looked at yet.

    Raises:
        DataError: it holds something else.
    """
    assert is_dataclass(specification) and not isinstance(specification, type)
    remedy = "name another folder or delete it"
    asked = json.loads(json.dumps(asdict(specification)))
    try:
        old = json.loads((out / "set.json").read_text(encoding="utf-8"))
        differing = [name for name, value in asked.items() if old[name] != value]
    except FileNotFoundError:
        if out.is_dir() and any(out.iterdir()):
            raise DataError(f"{out} holds something that is no set of this command; {remedy}") from None
        return
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{out} is no folder with a readable set.json ({error}); {remedy}") from error
    if asked.get("pictures", "") is None:
        differing.remove("pictures")
    elif "pictures" in differing:
        raise DataError(f"{out} holds a set made from other pictures; {remedy}")
    if differing:
        name = differing[0]
        raise DataError(f"{out} holds a set made with {name} {old[name]}, not {asked[name]}; {remedy}")


class Record:
    """The record of a set, a line for each finished picture, open for this writer alone.

    Attributes:
        rows: finished ones by their `path`.
    """

    def __init__(self, stream: RecordFile, finished: Callable[[Mapping[str, Any]], bool]) -> None:
        self._stream = stream
        self.rows: dict[str, dict[str, Any]] = {}
        kept, size = [], 0
        for line in stream.lines():
            size += len(line)
            try:
                row = json.loads(line)
                if finished(row):
                    self.rows[row["path"]] = row
                    kept.append(line)
            except (ValueError, KeyError, TypeError):  # no line of ours
                continue
        if sum(map(len, kept)) == size:
            stream.cut(size)
        else:
            stream.cut(0)
            for line in kept:
                stream.append(line)

    def add(self, row: dict[str, Any]) -> None:
        """Note a picture that is in place."""
        self._stream.append(json.dumps(row).encode() + b"\n")
        self.rows[row["path"]] = row


@contextmanager
def open_record(out: Path, files: Callable[[Mapping[str, Any]], Iterable[str]]) -> Iterator[Record]:
    """Open the record of a set's folder, its `record.jsonl`; what a kill left of a line or a file is removed.

    Args:
        out: the folder.
        files: the files that a row speaks of, relative to the folder. A row whose files are not all there does not
            count; one that lacks what this asks for (KeyError, TypeError) neither.

    Raises:
        DataError: another process is making this set.
    """
    with record_file(out / "record.jsonl", "another process is making this set; wait for it to end") as stream:
        for part in out.rglob(".*.part"):  # of files that a kill cut short; nobody else is writing now
            part.unlink()
        yield Record(stream, lambda row: all((out / name).is_file() for name in files(row)))
