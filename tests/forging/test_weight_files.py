"""Published weights in a folder of the user's."""

import hashlib
from pathlib import Path

import pytest

from unmask.errors import DataError
from unmask.forging.weight_files import WeightFile

FILE = WeightFile("some/net.pth", hashlib.sha256(b"weights").hexdigest(), "MIT")


def test_a_file_is_found_or_absent_or_another(tmp_path: Path) -> None:
    assert FILE.find(None) is None and FILE.find(tmp_path) is None
    (tmp_path / "some").mkdir()
    (tmp_path / "some" / "net.pth").write_bytes(b"weights")
    assert FILE.find(tmp_path) == tmp_path / "some" / "net.pth"
    (tmp_path / "some" / "net.pth").write_bytes(b"others")
    with pytest.raises(DataError, match="sha256"):
        FILE.find(tmp_path)
