"""Reads photos and embeds what is seen in them: in this process or in several, which a file may be the end of."""

from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from unmask.errors import PackError, RefusalCode, Refused, UnmaskError
from unmask.media.images import decode_image
from unmask.media.intake import open_regular_file, take_in
from unmask.media.kinds import HEAD_BYTES, sniff
from unmask.media.sources import Source, display_path
from unmask.packs import load_pack
from unmask.parallel import spread
from unmask.retrieval.embedding import BATCH, TASK, Embedder, View
from unmask.retrieval.index import IndexedFile, pack_reference
from unmask.retrieval.journal import state_of


@dataclass(frozen=True)
class PhotoFile:
    """A file to be read: its path, its name below the folder of photos, size and time of change."""

    path: str
    name: str
    size: int
    modified: int

    @property
    def state(self) -> int:
        """What tells whether it is as it was."""
        return state_of(self.name, self.size, self.modified)


def stated(path: Path, root: Path) -> PhotoFile:
    """A file below a folder, with its size and time of change; of one that is not there they are 0."""
    try:
        status = path.stat()
        size, modified = status.st_size, status.st_mtime_ns
    except OSError:  # a link that leads nowhere; `take_in` will say so
        size, modified = 0, 0
    return PhotoFile(str(path), str(path.relative_to(root)), size, modified)


_Result = tuple[IndexedFile, np.ndarray]
_embedder: Embedder | None = None  # of a worker process


def _start(pack: str) -> None:
    global _embedder
    _embedder = Embedder(load_pack(pack_reference(pack), task=TASK))


def _work(files: list[PhotoFile]) -> list[_Result]:
    assert _embedder is not None
    return read_files(files, _embedder)


def read_batch(files: list[PhotoFile], pack: str, sha256: str) -> list[_Result]:
    """Read and embed some files in a process that keeps its model from batch to batch.

    Args:
        files: to read.
        pack: the model, as `pack_reference` takes it.
        sha256: of the model.

    Raises:
        PackError: there is no such pack here, or it is another one.
    """
    if _embedder is None or _embedder.pack.card.sha256 != sha256:
        _start(pack)
        assert _embedder is not None
        if _embedder.pack.card.sha256 != sha256:
            raise PackError(f"pack {pack} is another one here: install the same version on every machine")
    return _work(files)


def read_all(files: Iterator[PhotoFile], embedder: Embedder, pack: str, jobs: int) -> Generator[_Result, None, None]:
    """Read and embed files, in this process or in others; in order."""
    batches = iter(lambda: list(islice(files, BATCH)), [])
    if jobs == 1:
        for some in batches:
            yield from read_files(some, embedder)
        return
    at_work: deque[list[PhotoFile]] = deque()

    def noted() -> Iterator[list[PhotoFile]]:
        for some in batches:
            at_work.append(some)
            yield some

    while True:
        try:
            for results in spread(_work, noted(), jobs, _start, (pack,)):
                at_work.popleft()
                yield from results
            return
        except BrokenProcessPool:  # one of the files at work was the end of its process
            yield from _read_singly(deque(file for some in at_work for file in some), pack)
            at_work.clear()


def _read_singly(files: deque[PhotoFile], pack: str) -> Iterator[_Result]:
    """Read files one at a time in one process, so that it is known which one a process dies of; that one is refused."""
    while files:
        started = False
        try:
            for results in spread(_work, [[], *([file] for file in files)], 1, _start, (pack,)):
                if started:
                    files.popleft()
                    yield from results
                started = True
        except BrokenProcessPool as error:
            if not started:
                raise UnmaskError(
                    "a worker process could not start: see that there is memory, or give --jobs 1"
                ) from error
            sentence = "The process that read this file died."
            yield _refused(files.popleft(), None, Refused(RefusalCode.CORRUPT, sentence)), np.empty((0, 0), np.float32)


def read_files(files: list[PhotoFile], embedder: Embedder) -> list[_Result]:
    """Read some files and embed what is seen in them, in one run of the network if they are whole pictures."""
    described: list[tuple[PhotoFile, IndexedFile, int]] = []
    views: list[View] = []
    for file in files:
        entry, some = _seen(file, embedder)
        described.append((file, entry, len(some)))
        views += some
    vectors = embedder.embed(views) if views else np.empty((0, 0), np.float32)
    results, first = [], 0
    for file, entry, count in described:
        own = vectors[first : first + count]
        first += count
        if count and not own.any(axis=1).all():
            refusal = Refused(RefusalCode.UNREADABLE, "The network gives no usable embedding for it.")
            entry, own = _refused(file, entry.sha256, refusal), own[:0]
        results.append((entry, own))
    return results


def _seen(file: PhotoFile, embedder: Embedder) -> tuple[IndexedFile, list[View]]:
    sha256 = None
    try:
        _require_picture(Path(file.path))
        media = take_in(Source(display_path(file.path), Path(file.path)))
        sha256 = media.sha256
        views = embedder.views(decode_image(media).pixels)
        if not views:
            raise Refused(RefusalCode.NO_FACE, "There is no face in it.")
    except Refused as refusal:
        return _refused(file, sha256, refusal), []
    boxes = tuple(view.box for view in views if view.box is not None)
    return IndexedFile(file.name, sha256, file.size, file.modified, len(views), boxes), views


def _refused(file: PhotoFile, sha256: str | None, refusal: Refused) -> IndexedFile:
    return IndexedFile(file.name, sha256, file.size, file.modified, 0, (), refusal.code.value, refusal.message)


def _require_picture(path: Path) -> None:
    """Refuse a video by its first bytes, before `take_in` would hash all of it."""
    with suppress(OSError), open_regular_file(path) as stream:  # what cannot be opened, `take_in` refuses
        file_type = sniff(stream.read(HEAD_BYTES))
        if file_type is not None and file_type.kind == "video":
            raise Refused(RefusalCode.UNSUPPORTED, "This is a video; only pictures are searched.")
