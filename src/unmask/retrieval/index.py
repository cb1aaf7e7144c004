"""An index on disk: vectors of photos, what files they are from, their clusters; opened in no time, mapped, not loaded.

An index is a folder. `index.json` names the files of one generation, which are complete before it names them and are
never changed afterwards; whoever is killed at any moment leaves the generation before. Beside them the journal keeps
what a build has embedded so far (`unmask.retrieval.building`).

| file | holds |
|---|---|
| `index.json` | the manifest: model, folder, counts, hashes, the generation |
| `vectors-N.npy` | float32 (rows, D), one row a picture, or one a face; each of length 1 |
| `files-N.jsonl` | one line a file: path, SHA-256, size, faces, why it was refused |
| `files-N.npy` | where these lines begin, hashes to look files up by, and the files' rows |
| `clusters-N.npz` | centroids and each row's cluster |
| `shortlist-N.faiss` | of approximate kinds, faiss's index |
"""

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import BaseModel, ValidationError

from unmask.errors import DataError
from unmask.faces.alignment import Box
from unmask.provenance import shell_line
from unmask.retrieval.embedding import Embedder, load_embedder
from unmask.retrieval.matching import ClusterMatcher
from unmask.retrieval.shortlist import Kind, Shortlist, ShortlistSearch, shortlist_length

MANIFEST = "index.json"
JOURNAL = "journal.jsonl"
"""Records of a build that is under way; see `unmask.retrieval.journal`."""
Order = Literal["plain", "clusters"]

# `place` is a line's offset in bytes, `path` and `state` (path, size, time of change) are hashes, `content` the first
# eight bytes of the SHA-256; `first` is a file's first row of `rows`.
FILE = np.dtype(
    [("place", "<i8"), ("path", "<u8"), ("state", "<u8"), ("content", "<u8"), ("first", "<i8"), ("rows", "<i8")]
)
_BLOCK_FLOATS = 1 << 24  # distances held at a time


class Clusters(BaseModel, frozen=True, extra="forbid"):
    """How the gallery was clustered: `count` clusters of `rows` rows, with `seed`; `weight` of their distance."""

    count: int
    rows: int
    seed: int
    weight: float


class Manifest(BaseModel, frozen=True, extra="forbid"):
    """What an index is: its model by name, version and SHA-256, the folder of photos, counts and hashes.

    `pack` is how to load the model again. `data_sha256` is over the paths and SHA-256 of all files. `copies` counts the
    files whose content another file has as well. `refused` counts files by the code of their refusal.
    """

    schema_version: Literal["1.0"] = "1.0"
    unmask: str
    written: str
    photos: str
    pack: str
    pack_name: str
    pack_version: str
    pack_sha256: str
    faces: bool
    dimension: int
    generation: int
    files: int
    rows: int
    copies: int
    refused: dict[str, int]
    data_sha256: str
    kind: Kind
    shortlist: Shortlist | None
    clusters: Clusters | None


@dataclass(frozen=True)
class IndexedFile:
    """One file of an index.

    Attributes:
        path: below the folder of photos.
        sha256: of the file; None if it could not be read.
        size: its bytes.
        modified: when it was last changed, nanoseconds.
        rows: vectors of it: one, or one a face, the largest first; none of a refused file.
        boxes: of its faces, (x, y, width, height) in pixels; none where whole pictures are indexed.
        refusal: the code, if it was refused.
        message: why.
    """

    path: str
    sha256: str | None
    size: int
    modified: int
    rows: int
    boxes: tuple[Box, ...] = ()
    refusal: str | None = None
    message: str | None = None

    def line(self) -> bytes:
        """As a line of JSON in ASCII: bytes of a name that are not UTF-8 survive as escaped surrogates."""
        return json.dumps(asdict(self)).encode("ascii") + b"\n"

    @classmethod
    def parsed(cls, line: bytes) -> "IndexedFile":
        """From such a line."""
        return cls(**json.loads(line))


@dataclass(frozen=True)
class Ranked:
    """A row in its place.

    Attributes:
        row: number of the vector.
        distance: by which it is ordered.
        photo_distance: squared Euclidean distance to the photo or face; 2 - 2 cosine.
        centroid_distance: squared Euclidean distance to the centroid of its cluster; None without clusters.
        cluster: its cluster's number.
        cluster_size: rows in it.
        nearest_cluster: whether that is the cluster nearest to the query.
        other_rank: its rank in the other order; None where that is not known (without clusters, or in a shortlist).
    """

    row: int
    distance: float
    photo_distance: float
    centroid_distance: float | None
    cluster: int | None
    cluster_size: int | None
    nearest_cluster: bool | None
    other_rank: int | None


class SearchIndex:
    """An open index. What it holds is mapped into memory, not read, but for the clusters.

    It stays as it was opened, whatever a build does to the folder meanwhile.

    Attributes:
        folder: where it lies.
        manifest: what it is.
        vectors: float32 (rows, D).
        files: of dtype `FILE`, one entry a file.
    """

    def __init__(self, folder: Path) -> None:
        """Open an index.

        Args:
            folder: of `build_index`.

        Raises:
            DataError: there is no index, it is not whole, or of another version.
        """
        self.folder = folder
        self.manifest = read_manifest(folder)
        try:
            self.vectors = _mapped(self._file("vectors", "npy"))
            self.files = _mapped(self._file("files", "npy"))
            lines = self._file("files", "jsonl")
            self._lines = np.memmap(lines, np.uint8, "r") if self.manifest.files else np.empty(0, np.uint8)
            self._clusters = self._read_clusters()
            self._shortlist = self._read_shortlist()
        except (OSError, ValueError, RuntimeError) as error:  # faiss raises the last
            raise DataError(
                f"{folder}: a file of the index is missing or damaged ({error}): build it anew in another folder"
            ) from error
        wanted = (self.manifest.rows, self.manifest.dimension)
        if self.vectors.shape != wanted or self.files.shape != (self.manifest.files,) or self.files.dtype != FILE:
            raise DataError(f"{folder}: the files of the index do not fit each other: build it anew in another folder")

    def _file(self, name: str, ending: str) -> Path:
        return self.folder / generation_file(name, self.manifest.generation, ending)

    def __len__(self) -> int:
        """Rows: pictures, or faces."""
        return self.manifest.rows

    def embedder(self, pack: str | Path | None = None) -> Embedder:
        """The model that the index was made with.

        Args:
            pack: where to take it from; where the index was made from if None.

        Raises:
            PackError: there is no such pack.
            DataError: it is another model.
        """
        manifest = self.manifest
        embedder = load_embedder(pack or pack_reference(manifest.pack))
        card = embedder.pack.card
        if card.sha256 != manifest.pack_sha256:
            raise DataError(
                f"{self.folder}: made with pack {manifest.pack_name} {manifest.pack_version} "
                f"({manifest.pack_sha256[:8]}), not with {card.name} {card.version} ({card.sha256[:8]}): give that "
                "pack with --pack, or build an index with this one"
            )
        return embedder

    @property
    def matcher(self) -> ClusterMatcher | None:
        """The clusters of the gallery; None in an index without rows."""
        return self._clusters

    def _read_clusters(self) -> ClusterMatcher | None:
        if self.manifest.clusters is None:
            return None
        matcher = ClusterMatcher(weight=self.manifest.clusters.weight)
        with np.load(self._file("clusters", "npz")) as stored:
            return matcher.restore(stored["centroids"], self.vectors, stored["codes"])

    @cached_property
    def _cluster_sizes(self) -> np.ndarray:
        assert self.matcher is not None
        return np.bincount(self.matcher.codes[:, 0], minlength=self.matcher.centroids.shape[1])

    def _read_shortlist(self) -> ShortlistSearch | None:
        record = self.manifest.shortlist
        if record is None:
            return None
        return ShortlistSearch.read(self._file("shortlist", "faiss"), record.kind, record.effort)

    @cached_property
    def _firsts(self) -> np.ndarray:
        return np.ascontiguousarray(self.files["first"])  # or each look-up would copy the column

    @cached_property
    def _contents(self) -> np.ndarray:
        return np.ascontiguousarray(self.files["content"])

    def file_of(self, row: int) -> int:
        """The number of the file that a row is from."""
        return int(np.searchsorted(self._firsts, row, side="right")) - 1

    def described(self, number: int) -> IndexedFile:
        """A file by its number."""
        end = self.files["place"][number + 1] if number + 1 < len(self.files) else len(self._lines)
        return IndexedFile.parsed(self._lines[self.files["place"][number] : end].tobytes())

    def copies_of(self, number: int) -> list[int]:
        """The numbers of the files with the same content, the file itself among them."""
        if not self.manifest.copies:
            return [number]
        return np.flatnonzero(self._contents == self._contents[number]).tolist()

    def members(self, cluster: int, most: int) -> list[int]:
        """The first rows of a cluster, at most so many."""
        assert self.matcher is not None
        return np.flatnonzero(self.matcher.codes[:, 0] == cluster)[:most].tolist()

    def rank(self, queries: np.ndarray, top: int, orders: Sequence[Order]) -> Iterator[dict[Order, list[Ranked]]]:
        """The nearest rows of each query, in one order or both; files of the same content count once.

        Args:
            queries: float32 (nq, D) of length 1.
            top: hits of each, >= 1.
            orders: "plain", by the distance to the photo; "clusters", fused with that to its cluster.

        Yields:
            For each query, by order, at most `top` hits, nearest first; equal distances in the order of the rows.
        """
        queries = np.ascontiguousarray(queries, np.float32)  # of another type, all vectors would be converted
        if self._shortlist is None:
            step = max(1, _BLOCK_FLOATS // max(len(self), 1))
            for start in range(0, len(queries), step):
                some = queries[start : start + step]
                to_photos = self._photo_distances(some)
                for query, distances in zip(some, to_photos, strict=True):
                    yield self._ranked(query, np.arange(len(self)), distances, top, orders)
        else:
            length = min(shortlist_length(top), len(self))
            for query, listed in zip(queries, self._shortlist.search(queries, length), strict=True):
                rows = np.sort(listed[listed >= 0])
                distances = np.maximum(2 - 2 * (self.vectors[rows] @ query), 0)
                yield self._ranked(query, rows, distances, top, orders)

    def _photo_distances(self, queries: np.ndarray) -> np.ndarray:
        """Squared distances to all rows; all vectors are of length 1."""
        distances = queries @ self.vectors.T
        distances *= -2
        distances += 2
        return np.maximum(distances, 0, out=distances)

    def _ranked(
        self, query: np.ndarray, rows: np.ndarray, to_photos: np.ndarray, top: int, orders: Sequence[Order]
    ) -> dict[Order, list[Ranked]]:
        by_order = {"plain": to_photos}
        to_centroids = None
        nearest = -1
        if self.matcher is not None:
            of_clusters = ((self.matcher.centroids[0] - query) ** 2).sum(axis=1)
            nearest = int(of_clusters.argmin())
            to_centroids = of_clusters[self.matcher.codes[rows, 0]]
            by_order["clusters"] = self.matcher.fuse(to_centroids, to_photos)
        all_rows = len(rows) == len(self)
        ranked: dict[Order, list[Ranked]] = {}
        for order in orders:
            distances = by_order.get(order, to_photos)
            other = by_order.get("clusters" if order == "plain" else "plain")
            hits = []
            for place in self._first(rows, distances, top):
                row = int(rows[place])
                cluster = None if self.matcher is None else int(self.matcher.codes[row, 0])
                hits.append(
                    Ranked(
                        row=row,
                        distance=float(distances[place]),
                        photo_distance=float(to_photos[place]),
                        centroid_distance=None if to_centroids is None else float(to_centroids[place]),
                        cluster=cluster,
                        cluster_size=None if cluster is None else int(self._cluster_sizes[cluster]),
                        nearest_cluster=None if cluster is None else cluster == nearest,
                        other_rank=_rank_of(place, other) if all_rows and other is not None else None,
                    )
                )
            ranked[order] = hits
        return ranked

    def _first(self, rows: np.ndarray, distances: np.ndarray, top: int) -> list[int]:
        """Places of the nearest rows, `top` of different content if there are so many."""
        wanted = min(len(rows), 2 * top + 16)
        while True:
            within = np.arange(len(rows))
            if wanted < len(rows):
                within = np.flatnonzero(distances <= np.partition(distances, wanted - 1)[wanted - 1])
            within = within[np.argsort(distances[within], kind="stable")]
            places: list[int] = []
            contents: set[tuple[int, int]] = set()
            for place in within.tolist():
                number = self.file_of(rows[place])
                content = (int(self.files["content"][number]), int(rows[place] - self.files["first"][number]))
                if content not in contents:
                    contents.add(content)
                    places.append(place)
                    if len(places) == top:
                        return places
            if len(within) == len(rows):
                return places
            wanted = min(len(rows), 4 * wanted)


def _rank_of(place: int, distances: np.ndarray) -> int:
    """The rank of a row among all, from 1; of equal distances the first comes first."""
    value = distances[place]
    return int((distances < value).sum() + (distances[:place] == value).sum()) + 1


def generation_file(name: str, generation: int, ending: str) -> str:
    """The name of a file of a generation."""
    return f"{name}-{generation:06}.{ending}"


def pack_reference(pack: str) -> str | Path:
    """How a pack was asked for: a folder, which is kept with its whole path, or a name."""
    return Path(pack) if Path(pack).is_absolute() else pack


def read_manifest(folder: Path) -> Manifest:
    """Read `index.json`.

    Raises:
        DataError: there is none, or it is not one of this version.
    """
    path = folder / MANIFEST
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except FileNotFoundError as error:
        raise DataError(f"{folder}: no search index there; {_how_to_have_one(folder)}") from error
    except NotADirectoryError as error:
        raise DataError(f"{folder}: no search index, but a file; give the folder of one") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    except ValidationError as error:
        raise DataError(
            f"{path}: not the manifest of a search index of this version; build the index anew in another folder"
        ) from error


def _how_to_have_one(folder: Path) -> str:
    """What to do where no index is. A folder with something in it is taken for the photos: it cannot be the index."""
    make = "unmask search index"
    if not folder.is_dir() or not any(folder.iterdir()):
        return f"make one with: {make} PHOTOS --out {shell_line([str(folder)])}"
    if (folder / JOURNAL).exists():
        return f"it was begun; finish it with: {make} PHOTOS --out {shell_line([str(folder)])}"
    place = Path(os.path.realpath(folder)) if folder.name in ("", "..") else folder
    index = place.with_name(f"{place.name}.index")
    if (index / MANIFEST).exists():
        return f"there is one at {index}: --index {shell_line([str(index)])}"
    number = 2
    while index.exists():
        index, number = place.with_name(f"{place.name}.index{number}"), number + 1
    return f"if these are the photos, make one with: {make} {shell_line([str(folder), '--out', str(index)])}"


def open_index(folder: str | Path) -> SearchIndex:
    """Open an index to search in.

    Args:
        folder: of `build_index` or `unmask search index`.

    Raises:
        DataError: there is no whole index.
    """
    place = Path(folder)
    before = read_manifest(place).generation
    try:
        return SearchIndex(place)
    except DataError:
        if read_manifest(place).generation == before:
            raise
        return SearchIndex(place)  # a build put another generation in its place just then


def _mapped(path: Path) -> np.ndarray:
    """An array in a .npy file, mapped; an empty one, which cannot be mapped, is read."""
    try:
        return np.load(path, mmap_mode="r")
    except ValueError:
        return np.load(path)
