"""Bundles: whole ones are verified, and what was damaged, altered or made to do harm is refused."""

import io
import json
import shutil
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from unmask.errors import BundleError, DataError, PackError
from unmask.evidence.jsonl import JsonLines
from unmask.evidence.report import Report
from unmask.inspection import Inspector
from unmask.inspection import bundle as bundles
from unmask.inspection.bundle import MANIFEST, opened_bundle, write_bundle
from unmask.inspection.verification import MediaFiles, verify


@pytest.fixture(scope="module")
def folder(portrait: Path, tiny_pack: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Reports on three pictures: one twice, one that was refused and one that was not there; and their bundle."""
    folder = tmp_path_factory.mktemp("case")
    (folder / "photo ü.jpg").write_bytes(portrait.read_bytes())
    Image.fromarray(np.asarray(Image.open(portrait))[:, ::-1]).save(folder / "mirrored.png")
    (folder / "empty.jpg").touch()
    inspector = Inspector(tiny_pack, edit_pack=None)
    with JsonLines(folder / "reports.jsonl") as lines:
        for name in ("photo ü.jpg", "mirrored.png", "empty.jpg", "missing.jpg", "photo ü.jpg"):
            lines.write(inspector.inspect(folder / name))
    write_bundle(folder / "reports.jsonl", folder / "case.zip")
    return folder


@pytest.fixture
def altered(folder: Path, tmp_path: Path) -> Callable[..., Path]:
    """A copy of the bundle with entries replaced, added or (None) taken out, and its manifest changed."""

    def make(
        changes: dict[str, bytes | None] | None = None, manifest: Callable[[dict[str, Any]], None] | None = None
    ) -> Path:
        out = tmp_path / "altered.zip"
        with zipfile.ZipFile(folder / "case.zip") as old, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as new:
            contents: dict[str, bytes | None] = {name: old.read(name) for name in old.namelist()}
            if manifest is not None:
                values = json.loads(contents[MANIFEST] or b"")
                manifest(values)
                contents[MANIFEST] = json.dumps(values).encode()
            for name, content in (contents | (changes or {})).items():
                if content is not None:
                    new.writestr(name, content)
        return out

    return make


def refused(path: Path) -> str:
    with pytest.raises(BundleError) as error, opened_bundle(path):
        pass
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_bundle_holds_reports_media_packs_and_page_once_each(folder: Path) -> None:
    with opened_bundle(folder / "case.zip") as opened:
        names = sorted(entry.name for entry in opened.manifest.entries)
        assert names == [
            *("media/0001-photo_.jpg", "media/0002-mirrored.png", "media/0003-empty.jpg"),
            *("packs/1-tiny/card.json", "packs/1-tiny/model.onnx", "packs/2-yunet/card.json"),
            *("packs/2-yunet/model.onnx", "report.html", "reports.jsonl"),
        ]
        assert opened.reports.read_bytes() == (folder / "reports.jsonl").read_bytes()
        assert "<!doctype html>" in (opened.folder / "report.html").read_text(encoding="utf-8")[:20]
        assert opened.manifest.libraries["unmask"] == opened.manifest.version
    assert not opened.folder.exists()


@pytest.mark.parametrize("place", ["C:\\Users\\me\\photos\\", "/nowhere/", "photos/"])
def test_media_are_looked_for_beside_the_report_by_name_and_content(folder: Path, place: str) -> None:
    media = MediaFiles(folder / "reports.jsonl")
    report = Report.model_validate_json((folder / "reports.jsonl").read_bytes().splitlines()[0])
    elsewhere = report.model_copy(update={"path": place + Path(report.path).name})
    assert media.locate(elsewhere).source is not None
    other = media.locate(elsewhere.model_copy(update={"sha256": "0" * 64}))
    assert other.source is None and other.result == "media_changed"
    assert media.locate(elsewhere.model_copy(update={"path": place + "none.jpg"})).result == "media_missing"


def test_a_bundle_is_verified_without_the_media_and_packs_that_it_was_made_of(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    aside = tmp_path / "aside"
    shutil.move(folder / "photo ü.jpg", aside)
    try:
        assert verify(folder / "reports.jsonl").counts["media_missing"] == 2
        with opened_bundle(folder / "case.zip") as opened:
            result = verify(opened.reports, opened.media, jobs=2)
    finally:
        shutil.move(aside, folder / "photo ü.jpg")
    assert [one.result for one in result.files] == ["same"] * 5
    assert result.packs == {"tiny 1": False, "yunet 2023mar": True}


def test_media_that_changed_are_not_bundled(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "copy")
    reports = tmp_path / "copy" / "reports.jsonl"
    text = reports.read_text(encoding="utf-8").replace(str(folder), str(tmp_path / "copy"))
    reports.write_text(text, encoding="utf-8")
    (tmp_path / "copy" / "mirrored.png").write_bytes(b"another")
    with pytest.raises(DataError, match=r"mirrored\.png \(has changed\)"):
        write_bundle(reports, tmp_path / "new.zip")
    assert not (tmp_path / "new.zip").exists()


def test_a_file_that_is_there_is_kept(folder: Path) -> None:
    before = (folder / "mirrored.png").read_bytes()
    for name in ("mirrored.png", "reports.jsonl", "case.zip"):
        with pytest.raises(DataError, match=r"--out"):
            write_bundle(folder / "reports.jsonl", folder / name)
    assert (folder / "mirrored.png").read_bytes() == before


def test_another_pack_than_that_of_the_report_is_refused(folder: Path, make_pack: Any, tmp_path: Path) -> None:
    reports = tmp_path / "reports.jsonl"
    other = make_pack(min_face_px=40.0)
    line = json.loads((folder / "reports.jsonl").read_text(encoding="utf-8").splitlines()[0])
    line["packs"][1]["sha256"] = "0" * 64
    line["tool"]["options"]["pack"] = str(other)
    reports.write_text(json.dumps(line) + "\n", encoding="utf-8")
    with pytest.raises(PackError, match=r"the report was made with tiny 1 \(00000000\), and here is tiny 1"):
        verify(reports)


def test_an_altered_entry_is_refused(altered: Callable[..., Path]) -> None:
    assert "reports.jsonl has another length" in refused(altered({"reports.jsonl": b"{}\n"}))
    card = "packs/1-tiny/card.json"
    with zipfile.ZipFile(altered()) as archive:
        same_length = archive.read(card).replace(b"linear", b"linEar")
    assert f"{card} has another SHA-256" in refused(altered({card: same_length}))


def test_a_flipped_byte_is_refused(folder: Path, tmp_path: Path) -> None:
    data = bytearray((folder / "case.zip").read_bytes())
    place = data.index(b"\xff\xd8\xff") + 5000  # within a picture, which is stored as it is
    data[place] ^= 1
    (tmp_path / "flipped.zip").write_bytes(data)
    assert "damaged or truncated" in refused(tmp_path / "flipped.zip")


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.9, 0.999])
def test_a_truncated_bundle_is_refused(share: float, folder: Path, tmp_path: Path) -> None:
    data = (folder / "case.zip").read_bytes()
    (tmp_path / "cut.zip").write_bytes(data[: int(share * len(data))])
    assert "damaged or truncated" in refused(tmp_path / "cut.zip")


@pytest.mark.parametrize(
    "name",
    [
        *("../outside.txt", "/outside.txt", "media/../../outside.txt", "C:/outside.txt", "a\\..\\outside.txt"),
        *("media//x", "./x", "media/", ".hidden", "a b", "café", "media/.."),
    ],
)
def test_names_that_lead_outside_are_refused_and_nothing_is_written_there(
    name: str, altered: Callable[..., Path], tmp_path: Path
) -> None:
    def listed(manifest: dict[str, Any]) -> None:
        manifest["entries"].append({"name": name, "bytes": 1, "sha256": "0" * 64})

    before = set(tmp_path.rglob("*"))
    path = altered({name: b"x"}, listed)
    assert "whose name leads outside" in refused(path)
    assert set(tmp_path.rglob("*")) == before | {path}


def test_a_link_is_refused(altered: Callable[..., Path]) -> None:
    path = altered()
    with zipfile.ZipFile(path, "a") as archive:
        info = zipfile.ZipInfo("media/link")
        info.external_attr = 0o120777 << 16
        archive.writestr(info, "/etc/passwd")
    assert "no regular file" in refused(path)


def test_an_entry_twice_is_refused_also_in_other_letters(altered: Callable[..., Path]) -> None:
    assert "an entry twice" in refused(altered({"REPORT.html": b"x"}))
    path = altered()
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("report.html", b"x")
    assert "an entry twice" in refused(path)


def test_other_files_than_the_manifest_lists_are_refused(altered: Callable[..., Path]) -> None:
    assert "holds other files" in refused(altered({"more.txt": b"x"}))
    assert "holds other files" in refused(altered({"report.html": None}))
    assert f"has no {MANIFEST}" in refused(altered({MANIFEST: None}))


@pytest.mark.parametrize(
    "change",
    [
        lambda manifest: manifest.update(bundle_version=2),
        lambda manifest: manifest.update(more=1),
        lambda manifest: manifest.pop("packs"),
        lambda manifest: manifest["entries"][0].update(bytes=-1),
        lambda manifest: manifest.update(media={"a.jpg": "../../etc/passwd"}),
        lambda manifest: manifest.update(packs={"plain": "media"}),
    ],
)
def test_a_manifest_that_is_none_is_refused(change: Any, altered: Callable[..., Path]) -> None:
    message = refused(altered(manifest=change))
    assert "that is none" in message or "lacks files" in message


def test_a_zip_bomb_is_refused_before_it_is_unpacked(altered: Callable[..., Path]) -> None:
    assert "expands more than 200 times" in refused(altered({"report.html": bytes(30_000_000)}))


def test_entries_that_overlap_are_refused(tmp_path: Path) -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("a", bytes(1000))
    data = stream.getvalue()
    directory = data.index(b"PK\x01\x02")
    end = data.index(b"PK\x05\x06")
    one = data[directory:end]
    both = one + one.replace(b"a", b"b", 1)[: len(one)]
    tail = bytearray(data[end:])
    struct.pack_into("<HHII", tail, 8, 2, 2, len(both), directory)
    (tmp_path / "overlap.zip").write_bytes(data[:directory] + both + bytes(tail))
    assert "overlap" in refused(tmp_path / "overlap.zip").lower()


def test_what_does_not_fit_on_the_disk_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundles.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 9, 1))  # type: ignore[attr-defined]
    assert "make room or set TMPDIR" in refused(folder / "case.zip")


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_whatever_happens_to_its_bytes_a_bundle_is_opened_as_it_was_or_refused(
    data: st.DataObject, folder: Path
) -> None:
    import tempfile

    content = bytearray((folder / "case.zip").read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "any.zip"
        path.write_bytes(content)
        try:
            with opened_bundle(path) as opened:
                assert opened.reports.read_bytes() == (folder / "reports.jsonl").read_bytes()
        except BundleError:
            return
