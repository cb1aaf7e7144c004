"""Builds an index of a folder of photos, and brings one up to date; may be killed at any moment and goes on from there.

A build walks the folder, embeds the files that are new or changed, and appends each to the journal: first the vectors,
then the line that names them. What a kill cuts short is cut off by the next run. At the end the generation that was
there and the journal become a new generation, which `index.json` names when it is whole.
"""

import hashlib
import os
from array import array
from collections import Counter
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import numpy as np

from unmask import __version__
from unmask.errors import DataError
from unmask.evidence.report import escape_surrogates
from unmask.files import whole
from unmask.media.sources import RefusedSource, walk
from unmask.packs import embedded_packs
from unmask.progress import SILENT, Progress
from unmask.records import record_file
from unmask.retrieval.embedding import Embedder, load_embedder
from unmask.retrieval.index import (
    FILE,
    JOURNAL,
    MANIFEST,
    Clusters,
    IndexedFile,
    Manifest,
    SearchIndex,
    generation_file,
    pack_reference,
    read_manifest,
)
from unmask.retrieval.journal import JOURNAL_VECTORS, Journal, Lookup, Settings, Table
from unmask.retrieval.matching import ClusterMatcher
from unmask.retrieval.reading import PhotoFile, read_all, stated
from unmask.retrieval.shortlist import Kind, Shortlist, auto_kind, build_shortlist

Engine = Literal["local", "spark"]
_REFIT = 0.2  # the share by which a gallery must have changed before its clusters are found anew
_COPIED = 1 << 16  # files whose rows are copied at a time
_SEED = 0


@dataclass(frozen=True)
class Built:
    """What a build did.

    Attributes:
        manifest: of the index as it is now.
        added: files that were embedded or refused in this generation and were not in the one before.
        removed: files of the generation before that are not there any more, or were changed since.
        unlisted: folders that could not be listed; what the index holds of them is kept.
    """

    manifest: Manifest
    added: int
    removed: int
    unlisted: tuple[str, ...]


def build_index(
    photos: str | Path,
    out: str | Path,
    pack: str | Path | None = None,
    faces: bool = False,
    kind: Kind | Literal["auto"] = "auto",
    jobs: int = 1,
    progress: Progress = SILENT,
    engine: Engine = "local",
) -> Built:
    """Build an index of a folder of photos, or bring it up to date.

    Args:
        photos: the folder, searched with its subfolders.
        out: folder of the index; made if it is not there. One that is there is brought up to date: new and changed
            files are embedded, those that are gone are left out.
        pack: the model, an embedded pack's name or a pack's folder; if None that of the index, or an embedded one.
        faces: index faces, with the embedded pack for them.
        kind: how vectors are searched; "auto" compares with all up to a million of them.
        jobs: processes that read and embed; 1 works in this one.
        progress: told of the stages.
        engine: "spark" has the workers of a Spark session read and embed, on this machine or on many; `jobs` says
            nothing then. Every worker needs unmask with the extra `search`, and sees the photos under the same path.

    Returns:
        What was done.

    Raises:
        DataError: there is no such folder, or no picture in it, `out` is something else's, another run is writing it,
            or it was made of another folder or with another model.
        PackError: there is no such pack.
        MissingExtraError: PySpark is not installed.
        UnmaskError: Spark cannot start, or one of its workers failed.
    """
    root, folder = Path(photos), Path(out)
    if not root.is_dir():
        raise DataError(f"{photos}: no folder of photos there; give one")
    _check_out(root, folder)
    if next(walk([root]), None) is None:  # nor is an index emptied because a disk is not there
        raise DataError(f"{photos}: no pictures there; give a folder with photos")
    there = read_manifest(folder) if (folder / MANIFEST).exists() else None
    if pack is None and there is not None and (there.faces or not faces):
        pack = pack_reference(there.pack)
    embedder = load_embedder(pack, faces)
    settings = Settings(
        escape_surrogates(os.path.realpath(root)), _reference(embedder, pack), embedder.pack.card.sha256
    )
    _check_same(folder, there, settings, embedder)
    folder.mkdir(parents=True, exist_ok=True)
    busy = "another run is building this index; wait for it, or give another folder"
    with record_file(folder / JOURNAL, busy) as record, (folder / JOURNAL_VECTORS).open("a+b", buffering=0) as stream:
        journal = Journal(record, stream, embedder.dimension, settings, folder)
        return _Build(root, folder, embedder, journal, settings, kind, jobs, progress, engine).run()


class _Build:
    """One run of `build_index`."""

    def __init__(
        self,
        root: Path,
        folder: Path,
        embedder: Embedder,
        journal: Journal,
        settings: Settings,
        kind: Kind | Literal["auto"],
        jobs: int,
        progress: Progress,
        engine: Engine,
    ) -> None:
        self._root, self._folder, self._embedder, self._journal = root, folder, embedder, journal
        self._settings, self._asked, self._jobs, self._progress = settings, kind, jobs, progress
        self._engine = engine
        # Only now, with the journal locked, is it sure that nobody writes another generation meanwhile.
        self._before = SearchIndex(folder) if (folder / MANIFEST).exists() else None
        before = np.empty(0, FILE) if self._before is None else np.asarray(self._before.files)
        self._old = Lookup(before["state"])
        self._kept = np.zeros(len(before), bool)
        self._entries = before

    def run(self) -> Built:
        total, unlisted = self._count()
        taken = self._embed(total)
        if unlisted:
            # What cannot be listed is not gone; what was changed elsewhere is.
            self._kept |= ~np.isin(self._entries["path"], self._journal.table.entries()["path"][taken])
            for place in unlisted:
                self._progress.note(f"{place}: cannot be listed; what the index holds of it is kept")
        before = None if self._before is None else self._before.manifest
        if before is not None and not len(taken) and self._kept.all() and self._kind(before.rows) == before.kind:
            self._journal.clear()
            return Built(before, 0, 0, tuple(unlisted))
        manifest = self._commit(taken)
        return Built(manifest, len(taken), int((~self._kept).sum()), tuple(unlisted))

    def _read(self, files: Iterator[PhotoFile]) -> Generator[tuple[IndexedFile, np.ndarray], None, None]:
        if self._engine == "spark":
            from unmask.retrieval.spark import read_with_spark

            return read_with_spark(files, self._settings.pack, self._settings.pack_sha256)
        return read_all(files, self._embedder, self._settings.pack, self._jobs)

    def _count(self) -> tuple[int, list[str]]:
        """How many files there are, and the folders that could not be listed."""
        files, unlisted = 0, []
        for item in walk([self._root]):
            if isinstance(item, RefusedSource):
                unlisted.append(item.path)
            else:
                files += 1
                if files % 1000 == 0:
                    self._progress.update("counting files", files)
        if unlisted and not files:
            raise DataError(f"{unlisted[0]}: cannot be listed; see that it is there and may be read")
        self._progress.update("counting files", files, files)
        return files, unlisted

    def _embed(self, total: int) -> np.ndarray:
        """See that every file is in the generation before or in the journal; the numbers of those in the journal."""
        known = Lookup(self._journal.table.entries()["state"])
        taken, resumed, done = array("q"), len(self._journal.table), 0
        new = array("q")

        def not_known() -> Iterator[PhotoFile]:
            nonlocal done
            for source in walk([self._root]):
                if isinstance(source, RefusedSource) or source.file is None:
                    continue
                file = stated(source.file, self._root)
                if (number := self._old.number(file.state)) is not None:
                    self._kept[number] = True
                elif (number := known.number(file.state)) is not None:
                    taken.append(number)
                else:
                    yield file
                    continue
                done += 1
                self._progress.update("embedding", min(done, total), total)

        with closing(self._read(not_known())) as results:
            for file, vectors in results:
                new.append(len(self._journal.table))
                self._journal.append(file, vectors)
                done += 1
                self._progress.update("embedding", min(done, total), total)
        if resumed and taken:
            self._progress.note(f"{len(taken)} files were embedded by an earlier run that was stopped")
        self._progress.update("embedding", total, total)
        return np.unique(np.concatenate([np.frombuffer(numbers, np.int64) for numbers in (taken, new)]))

    def _kind(self, rows: int) -> Kind:
        if self._asked != "auto":
            return self._asked
        chosen = auto_kind(rows)
        return self._before.manifest.kind if self._before is not None and chosen == "exact" else chosen

    def _commit(self, taken: np.ndarray) -> Manifest:
        """Write the next generation and name it."""
        before, journal = self._before, self._journal
        generation = 1 if before is None else before.manifest.generation + 1
        table, digest, refused = Table(), hashlib.sha256(), Counter[str]()
        with whole(self._path("files", generation, "jsonl")) as part, part.open("wb") as stream:
            for line in self._lines(taken):
                file = IndexedFile.parsed(line)
                table.add(file, stream.tell())
                stream.write(line)
                digest.update(f"{file.path}\0{file.sha256}\n".encode("utf-8", "surrogatepass"))
                if file.refusal is not None:
                    refused[file.refusal] += 1
        entries = table.entries()
        with whole(self._path("files", generation, "npy")) as part, part.open("wb") as stream:
            np.save(stream, entries)
        pieces = [(self._entries[self._kept], None if before is None else before.vectors)]
        pieces.append((journal.table.entries()[taken], journal.vectors()))
        vectors = self._write_vectors(generation, table.rows, pieces)
        clusters = self._cluster(generation, vectors, len(taken))
        kind, shortlist = self._kind(table.rows), None
        if kind != "exact" and table.rows:
            shortlist = self._shorten(generation, vectors, kind)
        contents, counts = np.unique(entries["content"][entries["rows"] > 0], return_counts=True)
        card = self._embedder.pack.card
        manifest = Manifest(
            unmask=__version__,
            written=datetime.now(UTC).isoformat(timespec="seconds"),
            photos=self._settings.photos,
            pack=self._settings.pack,
            pack_name=card.name,
            pack_version=card.version,
            pack_sha256=card.sha256,
            faces=self._embedder.faces,
            dimension=journal.dimension,
            generation=generation,
            files=len(entries),
            rows=table.rows,
            copies=int(counts.sum()) - len(contents),
            refused=dict(sorted(refused.items())),
            data_sha256=digest.hexdigest(),
            kind=kind if shortlist is not None else "exact",
            shortlist=shortlist,
            clusters=clusters,
        )
        with whole(self._folder / MANIFEST) as part:
            part.write_text(manifest.model_dump_json(indent=1) + "\n", encoding="utf-8")
        journal.clear()
        self._remove_others(generation)
        return manifest

    def _path(self, name: str, generation: int, ending: str) -> Path:
        return self._folder / generation_file(name, generation, ending)

    def _lines(self, taken: np.ndarray) -> Iterator[bytes]:
        """The lines of the files that stay, then of those that come."""
        if self._before is not None:
            path = self._path("files", self._before.manifest.generation, "jsonl")
            with path.open("rb") as stream:
                for line, stays in zip(stream, self._kept, strict=True):
                    if stays:
                        yield line
        yield from self._journal.lines(taken)

    def _write_vectors(
        self, generation: int, rows: int, pieces: Iterable[tuple[np.ndarray, np.ndarray | None]]
    ) -> np.ndarray:
        """The vectors of some files after one another, in a file of their own; mapped."""
        shape = (rows, self._journal.dimension)
        path = self._path("vectors", generation, "npy")
        done = 0
        with whole(path) as part, part.open("wb") as stream:
            header = {"descr": "<f4", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(stream, header)
            for entries, vectors in pieces:
                for block in _row_blocks(entries):
                    assert vectors is not None
                    stream.write(np.ascontiguousarray(vectors[block], "<f4").tobytes())
                    done += len(block)
                    self._progress.update("writing vectors", done, rows)
        return np.load(path, mmap_mode="r" if rows else None)

    def _cluster(self, generation: int, vectors: np.ndarray, added: int) -> Clusters | None:
        """Cluster the gallery, anew only if it has changed much."""
        if not len(vectors):
            return None
        matcher = ClusterMatcher(seed=_SEED)
        before = self._before
        fitted = None if before is None else before.manifest.clusters
        changed = added + int((~self._kept).sum())
        self._progress.update("clustering", 0, len(vectors))
        if before is not None and before.matcher is not None and fitted is not None and changed <= _REFIT * fitted.rows:
            matcher.restore(before.matcher.centroids, vectors)
            record = fitted
        else:
            matcher.fit(vectors)
            record = Clusters(count=matcher.centroids.shape[1], rows=len(vectors), seed=_SEED, weight=matcher.weight)
        with whole(self._path("clusters", generation, "npz")) as part, part.open("wb") as stream:
            np.savez(stream, centroids=matcher.centroids, codes=matcher.codes)
        self._progress.update("clustering", len(vectors), len(vectors))
        return record

    def _shorten(self, generation: int, vectors: np.ndarray, kind: Kind) -> Shortlist:
        def advance(done: int) -> None:
            self._progress.update("building the shortlist", done, len(vectors))

        search, record = build_shortlist(vectors, kind, _SEED, advance)
        search.write(self._path("shortlist", generation, "faiss"))
        return record

    def _remove_others(self, generation: int) -> None:
        """Remove the files of other generations: they are named no longer, or never were."""
        current = {generation_file(name, generation, ending) for name, ending in _GENERATION_FILES}
        for name, ending in _GENERATION_FILES:
            for path in self._folder.glob(f"{name}-*.{ending}"):
                if path.name not in current:
                    with suppress(OSError):  # on Windows, one that somebody searches in; the next build removes it
                        path.unlink()


_GENERATION_FILES = (
    *(("vectors", "npy"), ("files", "jsonl"), ("files", "npy"), ("clusters", "npz"), ("shortlist", "faiss")),
)


def _row_blocks(entries: np.ndarray) -> Iterator[np.ndarray]:
    """The rows of some files in blocks."""
    some = entries[entries["rows"] > 0]
    for start in range(0, len(some), _COPIED):
        block = some[start : start + _COPIED]
        counts = block["rows"]
        starts = np.repeat(block["first"] - np.concatenate([[0], np.cumsum(counts)[:-1]]), counts)
        yield starts + np.arange(counts.sum())


def _reference(embedder: Embedder, pack: str | Path | None) -> str:
    """How to load a pack again: by its name if it is embedded or installed, else by its folder."""
    if pack is None:
        return embedder.pack.folder.name
    if isinstance(pack, str) and (pack in embedded_packs() or not (Path(pack) / "card.json").is_file()):
        return pack
    return os.path.realpath(pack)


def _check_out(root: Path, folder: Path) -> None:
    """Refuse a folder that is something else's."""
    if folder.exists() and not folder.is_dir():
        raise DataError(f"--out {folder}: there is a file of this name; give a folder")
    if os.path.realpath(folder) == os.path.realpath(root):
        raise DataError(f"--out {folder}: these are the photos; give another folder for the index")
    ours = (folder / MANIFEST).exists() or (folder / JOURNAL).exists()
    if folder.is_dir() and not ours and any(folder.iterdir()):
        raise DataError(f"--out {folder}: is there already and holds no search index; give a new or an empty folder")


def _check_same(folder: Path, there: Manifest | None, settings: Settings, embedder: Embedder) -> None:
    """Refuse to mix models or folders in one index."""
    if there is None:
        return
    if there.pack_sha256 != settings.pack_sha256:
        card = embedder.pack.card
        raise DataError(
            f"{folder}: made with pack {there.pack_name} {there.pack_version} ({there.pack_sha256[:8]}), not with "
            f"{card.name} {card.version} ({card.sha256[:8]}): give that pack, or another --out"
        )
    if there.photos != settings.photos:
        raise DataError(f"{folder}: an index of {there.photos}, not of {settings.photos}: give another --out")
