"""The record of a set: finished pictures only, one writer, nothing left of what a kill cut short."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from unmask.errors import DataError
from unmask.forging.set_record import open_record, write_whole


def files(row: Mapping[str, Any]) -> list[str]:
    return [row["path"], row["mask"]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three pictures with masks, recorded."""
    with open_record(tmp_path, files) as record:
        for name in ("a", "b", "c"):
            for kind in ("path", "mask"):
                write_whole(tmp_path / kind / f"{name}.png", name.encode())
            record.add({"path": f"path/{name}.png", "mask": f"mask/{name}.png", "number": ord(name)})
    return tmp_path


def names(folder: Path) -> list[str]:
    with open_record(folder, files) as record:
        kept = list(record.rows)
    assert [json.loads(line)["path"] for line in (folder / "record.jsonl").read_text().splitlines()] == kept
    return kept


def test_what_is_finished_comes_back(folder: Path) -> None:
    before = (folder / "record.jsonl").read_bytes()
    assert names(folder) == ["path/a.png", "path/b.png", "path/c.png"]
    assert (folder / "record.jsonl").read_bytes() == before


def test_a_picture_without_one_of_its_files_is_not_finished(folder: Path) -> None:
    (folder / "mask" / "b.png").unlink()
    assert names(folder) == ["path/a.png", "path/c.png"]


@pytest.mark.parametrize("line", [b'{"path": "path/a', b"\xff\xfe", b"[]\n", b'{"mask": "x"}\n', b"7\n", b"\n"])
def test_a_line_that_is_none_of_ours_goes(folder: Path, line: bytes) -> None:
    before = (folder / "record.jsonl").read_bytes()
    with (folder / "record.jsonl").open("ab") as stream:
        stream.write(line)
    assert len(names(folder)) == 3
    assert (folder / "record.jsonl").read_bytes() == before


def test_two_at_once_are_refused(folder: Path) -> None:
    with open_record(folder, files), pytest.raises(DataError, match="another process is making this set"):
        names(folder)


def test_what_a_kill_left_of_a_file_goes(folder: Path) -> None:
    half = folder / "path" / ".d.png.x1y2.part"
    half.write_bytes(b"half")
    assert len(names(folder)) == 3 and not half.exists()
