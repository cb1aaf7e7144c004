"""Approximate search by faiss, for galleries in which comparing with every photo takes too long.

What it finds is a shortlist; the exact distances are then computed. What it misses was measured when it was built.
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from pydantic import BaseModel

from unmask.errors import MissingExtraError
from unmask.files import whole
from unmask.retrieval.matching import squared_distances

Kind = Literal["exact", "ivf", "hnsw", "pq"]
KINDS: tuple[str, ...] = get_args(Kind)
EXACT_UP_TO = 1_000_000
"""Vectors from which `auto` takes product-quantised vectors instead of comparing with all."""

_BLOCK = 100_000  # vectors added at a time
_TRAINED_ON = 64  # vectors a list, or a code word
_WANTED = 0.95  # recall from which no more lists are looked into
_CHECKED, _DEPTH = 200, 20  # queries, and hits of each, on which recall is measured
_COSINE = 0.7  # of a query to the photo that it was made from


class Shortlist(BaseModel, frozen=True, extra="forbid"):
    """How approximate search was set up, and what it finds.

    `recall` is the share of the `depth` exactly nearest photos that are in a shortlist of `length`, mean over `queries`
    queries: photos of the gallery, each moved in a random direction until its cosine with itself is `cosine`.
    """

    kind: Kind
    faiss: str
    effort: int
    length: int
    recall: float
    depth: int
    queries: int
    cosine: float


def auto_kind(vectors: int) -> Kind:
    """`exact` up to `EXACT_UP_TO` vectors, else `pq`.

    Among a million it took half the time of `ivf` a query, at the same recall, and a seventh of its disk; `hnsw` was
    faster and fell short of the recall (benchmarks/results/search.json).
    """
    return "exact" if vectors < EXACT_UP_TO else "pq"


def shortlist_length(top: int) -> int:
    """How many photos are looked at exactly for so many hits."""
    return max(200, 10 * top)


class ShortlistSearch:
    """A faiss index of one of the approximate kinds."""

    def __init__(self, index: Any, kind: Kind, effort: int) -> None:
        """Take an index of `build_shortlist`, or one read from a file."""
        self._index, self._kind, self.effort = index, kind, effort

    @classmethod
    def read(cls, path: Path, kind: Kind, effort: int) -> "ShortlistSearch":
        """Open one that `write` wrote; large ones are mapped, not loaded."""
        faiss = _faiss()
        flags = faiss.IO_FLAG_READ_ONLY | (faiss.IO_FLAG_MMAP if kind != "hnsw" else 0)
        return cls(faiss.read_index(str(path), flags), kind, effort)

    def write(self, path: Path) -> None:
        """Write it; the file appears when it is whole."""
        with whole(path) as part:
            _faiss().write_index(self._index, str(part))

    def search(self, queries: np.ndarray, length: int) -> np.ndarray:
        """Gallery positions of the likely nearest: int64 (nq, length); -1 fills up where there are fewer.

        Args:
            queries: float32 (nq, D) of length 1.
            length: positions a query.
        """
        if self._kind == "hnsw":
            self._index.hnsw.efSearch = max(self.effort, length)
        else:
            self._index.nprobe = self.effort
            # Threads share the lists of a single query; of several queries each takes some.
            self._index.parallel_mode = 1 if len(queries) == 1 else 0
        _, places = self._index.search(np.ascontiguousarray(queries, np.float32), length)
        return places


def build_shortlist(
    vectors: np.ndarray, kind: Kind, seed: int = 0, advance: Callable[[int], None] = lambda done: None
) -> tuple[ShortlistSearch, Shortlist]:
    """Build an index of an approximate kind and measure its recall.

    Args:
        vectors: float32 (n, D) of length 1, n >= 1; may be a memory map, of which it reads blocks.
        kind: not "exact".
        seed: of the sample that it is trained on and of the queries.
        advance: told how many vectors are in it.

    Returns:
        The index, and its record. Of an inverted file, as many lists are looked into as a recall of 0.95 takes.
    """
    faiss = _faiss()
    photos, dimension = vectors.shape
    lists = max(1, min(round(math.sqrt(photos)), photos // 39 or 1))
    parts = next(parts for parts in (64, 48, 32, 16, 8, 4, 2, 1) if dimension % parts == 0)
    bits = min(8, max(1, int(math.log2(max(photos / 39, 2)))))
    name = {"ivf": f"IVF{lists},SQ8", "pq": f"IVF{lists},PQ{parts}x{bits}", "hnsw": "HNSW32,SQ8"}[kind]
    index = faiss.index_factory(dimension, name, faiss.METRIC_INNER_PRODUCT)
    generator = np.random.default_rng(seed)
    sample = min(photos, max(_TRAINED_ON * max(lists, 256), 10_000))
    index.train(np.ascontiguousarray(vectors[np.sort(generator.choice(photos, sample, replace=False))], np.float32))
    for start in range(0, photos, _BLOCK):
        index.add(np.ascontiguousarray(vectors[start : start + _BLOCK], np.float32))
        advance(min(start + _BLOCK, photos))
    queries = _queries(vectors, generator)
    depth = min(_DEPTH, photos)
    nearest = _nearest(vectors, queries, depth)
    length = min(shortlist_length(_DEPTH), photos)
    search = ShortlistSearch(index, kind, length if kind == "hnsw" else 1)
    recall = _recall(search, queries, nearest, length)
    too_few = 0
    while kind != "hnsw" and recall < _WANTED and search.effort < lists:
        too_few = search.effort
        search = ShortlistSearch(index, kind, min(2 * search.effort, lists))
        recall = _recall(search, queries, nearest, length)
    while kind != "hnsw" and search.effort - too_few > max(1, search.effort // 16):
        fewer = ShortlistSearch(index, kind, (search.effort + too_few) // 2)
        with_fewer = _recall(fewer, queries, nearest, length)
        if with_fewer < _WANTED:
            too_few = fewer.effort
        else:
            search, recall = fewer, with_fewer
    record = Shortlist(
        kind=kind,
        faiss=name,
        effort=search.effort,
        length=length,
        recall=round(recall, 4),
        depth=depth,
        queries=len(queries),
        cosine=_COSINE,
    )
    return search, record


def _queries(vectors: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Photos moved in random directions, as drawings of them lie apart from them."""
    chosen = np.sort(generator.choice(len(vectors), min(_CHECKED, len(vectors)), replace=False))
    photos = np.asarray(vectors[chosen], np.float32)
    aside = generator.normal(size=photos.shape).astype(np.float32)
    aside -= (aside * photos).sum(axis=1, keepdims=True) * photos
    aside /= np.maximum(np.linalg.norm(aside, axis=1, keepdims=True), 1e-12)
    return _COSINE * photos + math.sqrt(1 - _COSINE**2) * aside


def _nearest(vectors: np.ndarray, queries: np.ndarray, depth: int) -> np.ndarray:
    """The exactly nearest, int (nq, depth), block by block."""
    best = np.full((len(queries), depth), np.inf, np.float32)
    places = np.zeros((len(queries), depth), np.int64)
    for start in range(0, len(vectors), _BLOCK // 4):
        block = squared_distances(queries, np.asarray(vectors[start : start + _BLOCK // 4], np.float32))
        both = np.concatenate([best, block], axis=1)
        numbers = np.arange(start, start + block.shape[1])
        all_places = np.concatenate([places, np.broadcast_to(numbers, block.shape)], axis=1)
        kept = np.argpartition(both, depth - 1, axis=1)[:, :depth]
        best, places = np.take_along_axis(both, kept, 1), np.take_along_axis(all_places, kept, 1)
    return places


def _recall(search: ShortlistSearch, queries: np.ndarray, nearest: np.ndarray, length: int) -> float:
    listed = search.search(queries, length)
    return float(np.mean([np.isin(exact, some).mean() for exact, some in zip(nearest, listed, strict=True)]))


def _faiss() -> Any:
    try:
        import faiss
    except ModuleNotFoundError as error:
        raise MissingExtraError("search", "approximate search") from error
    return faiss
