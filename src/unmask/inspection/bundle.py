"""A case bundle: one zip file that another machine can verify.

It holds the reports as they were written, their media, the packs that were used with their cards, a page for people,
and a manifest with the SHA-256 of all of these and the versions that made it. What is read from a bundle may come from
anybody: names, sizes and hashes are checked before anything is opened.
"""

import hashlib
import re
import shutil
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Annotated, Any, BinaryIO, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from unmask._version import __version__
from unmask.errors import BundleError, DataError
from unmask.evidence.html import HtmlReport
from unmask.evidence.jsonl import read_reports
from unmask.evidence.pdf import PdfReport
from unmask.evidence.report import Report, UtcTime
from unmask.files import Output, check_outputs, whole
from unmask.inspection.inspector import Inspection
from unmask.inspection.verification import (
    Located,
    MediaFiles,
    inspector_arguments,
    located,
    pack_names,
    packs_of,
    repeat,
)
from unmask.media.intake import open_regular_file
from unmask.media.sources import STANDARD_INPUT, Source
from unmask.packs import Pack
from unmask.progress import SILENT, Progress
from unmask.provenance import sha256_of, utc_text

MANIFEST, REPORTS, PAGE, ANCHORS = "manifest.json", "reports.jsonl", "report.html", "anchors.pem"
_PACK_FILES = ("card.json", "model.onnx")
_NAME = re.compile(r"(?!.*\.\.)[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*")

MOST_ENTRIES = 200_000
MOST_OF_MANIFEST = 64 * 1024**2
"""Bytes of the manifest."""
MOST_EXPANSION = 200
"""How many times its packed length an entry may have; reports, cards and models have some ten times."""
_BLOCK = 1024**2


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class BundleEntry(_Strict):
    """A file in a bundle."""

    name: str
    bytes: Annotated[int, Field(ge=0)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class BundleManifest(_Strict):
    """What a bundle holds.

    Attributes:
        entries: every file in it but this one.
        media: by the path of a report, the entry of its file.
        packs: by what a report's options call a pack, the folder of entries that holds it.
    """

    format: Literal["unmask bundle"] = "unmask bundle"
    bundle_version: Literal[1] = 1
    created: UtcTime
    version: str
    libraries: dict[str, str]
    entries: list[BundleEntry]
    media: dict[str, str]
    packs: dict[str, str]


@dataclass(frozen=True)
class Bundled:
    """What was written.

    Attributes:
        sha256: of the bundle: note it elsewhere, for whoever has the bundle can make another.
        bytes: its length.
        manifest: what it holds.
        differing: paths of reports that did not repeat when the page was made; it has no pictures of these.
    """

    sha256: str
    bytes: int
    manifest: BundleManifest
    differing: tuple[str, ...]


def write_bundle(reports: Path, out: Path, *, jobs: int = 1, progress: Progress = SILENT) -> Bundled:
    """Put a file of reports, their media and packs into one file.

    Args:
        reports: JSON lines that `unmask inspect --json` wrote.
        out: the bundle, which must not be there yet.
        jobs: worker processes for the pictures of the page, for which the media are inspected again.
        progress: of the stages "hashes" and "inspections".

    Raises:
        DataError: the reports cannot be read, media are missing or have changed, or the bundle cannot be written.
        PackError: a pack is missing, or another one than that of the reports.
    """
    check_outputs([Output("--out", out)], [reports])
    places = MediaFiles(reports)
    media: dict[str, Source] = {}
    lost: list[str] = []
    packs: dict[str, Pack] = {}
    anchors: set[str] = set()
    libraries: dict[str, str] = {}
    for _, report in read_reports(reports):
        place = places.locate(report)
        if place.source is None:
            lost.append(f"{report.path} ({_why_lost(report, place)})")
        elif place.source.file is not None and place.source.file.is_file():
            media[report.path] = place.source
        arguments = places.arguments(report.tool.options)
        if not packs.keys() >= set(pack_names(arguments)):
            packs |= packs_of(arguments)
        libraries |= {"unmask": report.tool.version, **report.tool.libraries}
        if (own := arguments.get("c2pa_anchors")) is not None:
            anchors.add(str(own))
    if lost:
        more = f" and {len(lost) - 3} more" if len(lost) > 3 else ""
        raise DataError(
            f"{reports}: the media of some reports are not to be had: {', '.join(lost[:3])}{more}; give them back, or "
            "inspect again what there is"
        )
    if len(anchors) > 1:
        raise DataError(f"{reports}: was made with several --c2pa-anchors; inspect with one, or bundle them apart")
    check_outputs([Output("--out", out)], [reports, *(str(source.file) for source in media.values())])
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / PAGE
        differing = write_page(reports, places, page, jobs=jobs, progress=progress)
        with whole(out) as part:
            manifest = _write(part, reports, page, media, packs, next(iter(anchors), None), libraries)
        return Bundled(sha256_of(out), out.stat().st_size, manifest, differing)


def _why_lost(report: Report, place: Located) -> str:
    if report.path == STANDARD_INPUT:
        return "came through standard input"
    return "is not there" if place.result == "media_missing" else "has changed"


def write_page(
    reports: Path,
    media: MediaFiles,
    html: Path | None,
    pdf: Path | None = None,
    *,
    jobs: int = 1,
    progress: Progress = SILENT,
    **how: Any,
) -> tuple[str, ...]:
    """Write the page of a file of reports, with the pictures that a second inspection of the media gives.

    Args:
        reports: JSON lines.
        media: where the media and packs are.
        html, pdf: the files; None for none.
        jobs: worker processes.
        progress: see `verification.repeat`.
        how: as for `HtmlReport`.

    Returns:
        Paths of reports whose media are missing or have changed, or that did not repeat: the page has no pictures of
        these.

    Raises:
        DataError: the reports cannot be read, or the page cannot be written.
        PackError: a pack is missing, or another one than that of the reports.
    """
    without: list[str] = []
    packs: dict[str, Pack] = {}
    for _, report in read_reports(reports):
        arguments = media.arguments(report.tool.options)
        if not packs.keys() >= set(pack_names(arguments)):
            packs |= packs_of(arguments)
    cards = [pack.card for pack in packs.values()]
    pages: list[HtmlReport | PdfReport] = []
    if html is not None:
        pages.append(HtmlReport(html, cards, **how))
    if pdf is not None:
        pages.append(PdfReport(pdf, cards, **how))
    with ExitStack() as stack:
        for page in pages:
            stack.enter_context(page)
        for repeated in repeat(reports, media, jobs=jobs, pictures=True, progress=progress):
            inspection = repeated.inspection
            if repeated.verification.result != "same" or inspection is None:
                without.append(repeated.report.path)
                inspection = Inspection(repeated.report)
            for page in pages:
                page.add(repeated.report, inspection.pictures, inspection.strips, inspection.whole)
    return tuple(without)


def _write(
    path: Path,
    reports: Path,
    page: Path,
    media: Mapping[str, Source],
    packs: Mapping[str, Pack],
    anchors: str | None,
    libraries: Mapping[str, str],
) -> BundleManifest:
    """Write the zip file, the manifest last."""
    entries: dict[str, BundleEntry] = {}
    media_names: dict[str, str] = {}
    pack_folders: dict[str, str] = {}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, allowZip64=True) as archive:

        def add(name: str, file: Path, *, packed: bool = True) -> str:
            entries[name] = _add(archive, name, file, packed)
            return entries[name].sha256

        add(REPORTS, reports)
        add(PAGE, page)
        if anchors is not None:
            add(ANCHORS, Path(anchors))
        for number, (name, pack) in enumerate(packs.items(), start=1):
            pack_folders[name] = f"packs/{number}-{_safe(pack.card.name)}"
            for file in _PACK_FILES:
                add(f"{pack_folders[name]}/{file}", pack.folder / file)
        kept: dict[tuple[int, int], str] = {}  # one entry for a file that has several reports
        for number, (shown, source) in enumerate(media.items(), start=1):
            assert source.file is not None
            status = source.file.stat()
            identity = (status.st_dev, status.st_ino)
            if identity not in kept:
                kept[identity] = f"media/{number:04d}-{_safe(PurePosixPath(shown).name)}"
                add(kept[identity], source.file, packed=False)  # pictures and videos are compressed already
            media_names[shown] = kept[identity]
        manifest = BundleManifest(
            created=utc_text(),
            version=__version__,
            libraries=dict(libraries),
            entries=list(entries.values()),
            media=media_names,
            packs=pack_folders,
        )
        archive.writestr(_info(MANIFEST, packed=True), manifest.model_dump_json(indent=1))
    return manifest


def _add(archive: zipfile.ZipFile, name: str, file: Path, packed: bool) -> BundleEntry:
    digest, length = hashlib.sha256(), 0
    with open_regular_file(file) as source, archive.open(_info(name, packed), "w", force_zip64=True) as target:
        while block := source.read(_BLOCK):
            digest.update(block)
            length += len(block)
            target.write(block)
    return BundleEntry(name=name, bytes=length, sha256=digest.hexdigest())


def _info(name: str, packed: bool) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)  # of one date and mode, so that equal contents give equal files
    info.compress_type = zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED
    info.external_attr = 0o644 << 16
    return info


def _safe(name: str) -> str:
    """A name that every system takes, from one that may hold anything."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", re.sub(r"\.{2,}", ".", name))[-60:].lstrip("._-") or "file"


@dataclass(frozen=True)
class OpenedBundle:
    """A bundle whose names, sizes and hashes were checked, and that lies in a folder now.

    Attributes:
        manifest: what it holds.
        sha256: of the bundle itself.
        folder: where its entries lie.
    """

    manifest: BundleManifest
    sha256: str
    folder: Path

    @property
    def reports(self) -> Path:
        """The JSON lines."""
        return self.folder / REPORTS

    @property
    def media(self) -> MediaFiles:
        """Its media and packs."""
        return _BundledFiles(self)


class _BundledFiles(MediaFiles):
    def __init__(self, bundle: OpenedBundle) -> None:
        super().__init__(bundle.reports)
        self._bundle = bundle

    def locate(self, report: Report) -> Located:
        entry = self._bundle.manifest.media.get(report.path)
        file = self._bundle.folder / (entry or "not there")
        return located(report, [Source(report.path, file, is_copy=True)])

    def arguments(self, options: Mapping[str, Any]) -> dict[str, Any]:
        arguments = inspector_arguments(options)
        folders = self._bundle.manifest.packs
        try:
            there = {name: str(self._bundle.folder / folders[name]) for name in pack_names(arguments)}
        except KeyError as error:
            raise BundleError(f"the bundle lacks the pack {error.args[0]!r} of its reports: make it anew") from error
        for name in ("forgery_pack", "face_pack", "edit_pack"):
            value = arguments.get(name)
            if value is not None:
                arguments[name] = there[value] if isinstance(value, str) else [there[one] for one in value]
        if arguments.get("c2pa_anchors") is not None:
            arguments["c2pa_anchors"] = str(self._bundle.folder / ANCHORS)
        return arguments


def is_bundle(path: Path) -> bool:
    """Whether a file looks like a bundle: like a zip file, whole or not."""
    try:
        with path.open("rb") as stream:
            return stream.read(4) == b"PK\x03\x04"
    except OSError:
        return False


@contextmanager
def opened_bundle(path: Path) -> Iterator[OpenedBundle]:
    """Check a bundle and unpack it to a folder that is removed afterwards.

    Refused are damaged and truncated files, entries that lead outside, are links, are there twice, are not in the
    manifest or differ from it, expand to more than `MOST_EXPANSION` times their length or to more than the disk holds.

    Raises:
        BundleError: it is refused.
    """
    with tempfile.TemporaryDirectory(prefix="unmask-bundle-") as folder:
        yield _unpacked(path, Path(folder))


def _unpacked(path: Path, folder: Path) -> OpenedBundle:
    try:
        with path.open("rb") as stream, zipfile.ZipFile(stream) as archive:
            sha256 = sha256_of(path)
            infos = _checked_entries(path, archive)
            _check_room(path, infos, folder)
            manifest = _manifest(path, archive, infos)
            for entry in manifest.entries:
                _extract(path, archive, infos[entry.name], entry, folder / entry.name)
            return OpenedBundle(manifest, sha256, folder)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, struct.error) as error:
        raise _refuse(path, f"is damaged or truncated ({error})") from error
    except OSError as error:
        raise _refuse(path, f"cannot be unpacked ({error.strerror or error})") from error


def _checked_entries(path: Path, archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    infos = archive.infolist()
    if len(infos) > MOST_ENTRIES:
        raise _refuse(path, f"has {len(infos):,} entries, more than {MOST_ENTRIES:,}")
    checked: dict[str, zipfile.ZipInfo] = {}
    for info in infos:
        shown = repr(info.orig_filename)[:80]
        if not _NAME.fullmatch(info.orig_filename) or info.orig_filename != info.filename:
            raise _refuse(path, f"has an entry whose name leads outside or is none of a bundle's ({shown})")
        kind = info.external_attr >> 28
        if kind not in (0, 8):  # neither unsaid nor a regular file
            raise _refuse(path, f"has an entry that is no regular file ({shown})")
        if info.flag_bits & 1:
            raise _refuse(path, f"has an encrypted entry ({shown})")
        if info.file_size > max(_BLOCK, MOST_EXPANSION * info.compress_size):
            raise _refuse(path, f"has an entry that expands more than {MOST_EXPANSION} times ({shown})")
        checked[info.filename] = info
    if len({name.lower() for name in checked}) < len(infos):
        raise _refuse(path, "has an entry twice")
    if sum(info.compress_size for info in infos) > path.stat().st_size:
        raise _refuse(path, "has entries that overlap")
    return checked


def _check_room(path: Path, infos: Mapping[str, zipfile.ZipInfo], folder: Path) -> None:
    needed, free = sum(info.file_size for info in infos.values()), shutil.disk_usage(folder).free
    if needed > free:
        sizes = f"unpacks to {needed / 1e6:,.0f} MB, and {free / 1e6:,.0f} MB are free there"
        raise _refuse(path, sizes, "make room or set TMPDIR")


def _manifest(path: Path, archive: zipfile.ZipFile, infos: Mapping[str, zipfile.ZipInfo]) -> BundleManifest:
    info = infos.get(MANIFEST)
    if info is None:
        raise _refuse(path, f"has no {MANIFEST}: it is no bundle of unmask")
    if info.file_size > MOST_OF_MANIFEST:
        raise _refuse(path, f"has a {MANIFEST} of {info.file_size:,} bytes, more than {MOST_OF_MANIFEST:,}")
    try:
        manifest = BundleManifest.model_validate_json(archive.read(info))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "text"
        raise _refuse(path, f"has a {MANIFEST} that is none ({where}: {first['msg']})") from error
    names = [entry.name for entry in manifest.entries]
    others = set(names) ^ (set(infos) - {MANIFEST})
    if others or len(names) != len(set(names)):
        named = f" ({sorted(others)[0]!r})" if others else ""
        raise _refuse(path, f"holds other files than its {MANIFEST} says{named}")
    listed = set(names)
    folders = {f"{folder}/{file}" for folder in manifest.packs.values() for file in _PACK_FILES}
    if REPORTS not in listed or not set(manifest.media.values()) | folders <= listed:
        raise _refuse(path, f"lacks files that its {MANIFEST} speaks of")
    return manifest


def _extract(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo, entry: BundleEntry, target: Path) -> None:
    if info.file_size != entry.bytes:
        raise _refuse(path, f"was altered: {entry.name} has another length than its {MANIFEST} says")
    target.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    with archive.open(info) as source, target.open("xb") as out:
        _copy(source, out, digest)
    if digest.hexdigest() != entry.sha256:
        raise _refuse(path, f"was altered: {entry.name} has another SHA-256 than its {MANIFEST} says")


def _copy(source: IO[bytes], out: BinaryIO, digest: Any) -> None:
    while block := source.read(_BLOCK):
        digest.update(block)
        out.write(block)


def _refuse(path: Path, why: str, remedy: str = "take it anew from whoever made it") -> BundleError:
    return BundleError(f"{path}: {why}; {remedy}")
