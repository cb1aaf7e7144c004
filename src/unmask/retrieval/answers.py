"""From drawings to ranked photos: each query is read, checked, embedded and ranked, and each hit explained."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import BaseModel

from unmask.errors import RefusalCode, Refused
from unmask.evidence.report import escape_surrogates, restore_surrogates
from unmask.media.images import decode_image
from unmask.media.intake import take_in
from unmask.media.sources import RefusedSource, Source, display_path, walk
from unmask.retrieval.embedding import BATCH, View
from unmask.retrieval.index import Order, Ranked, SearchIndex, open_index
from unmask.retrieval.sketches import check_sketch

_MEMBERS = 5  # other pictures of a hit's cluster that are named

NOTHING = "The index holds no pictures."
ALONE = "The index holds one picture: that it comes first says nothing."
SEVERAL_FACES = "There are several faces in it: searched with the largest."
NO_FACE = "No face was found in the drawing: crop it to one head, upright, with eyes, nose and mouth."


class Hit(BaseModel, frozen=True):
    """A photo in its place, and why.

    Distances are squared Euclidean ones of embeddings of length 1, from 0 to 4: 2 - 2 cosine.

    Attributes:
        rank: from 1.
        path: of the photo; bytes of a name that are not UTF-8 are escaped (`unmask.evidence.report.escape_surrogates`).
        sha256: of the file when it was indexed.
        also_at: other files with the same content.
        box: of the face, (x, y, width, height) in pixels; None for a whole picture.
        distance: by which it is ordered.
        photo_distance: to the photo itself.
        centroid_distance: to the centre of its cluster.
        cluster: number of its cluster.
        cluster_size: pictures, or faces, in the cluster.
        nearest_cluster: whether no cluster is nearer to the drawing.
        members: some other photos of the cluster.
        other_rank: its rank in the other order; None in an approximate index.
    """

    rank: int
    path: str
    sha256: str | None
    also_at: tuple[str, ...]
    box: tuple[float, float, float, float] | None
    distance: float
    photo_distance: float
    centroid_distance: float | None
    cluster: int | None
    cluster_size: int | None
    nearest_cluster: bool | None
    members: tuple[str, ...]
    other_rank: int | None


class Ranking(BaseModel, frozen=True):
    """The hits in one order: "plain", by the distance to each photo; "clusters", fused with that to its cluster."""

    order: Order
    hits: tuple[Hit, ...]


class RefusedSketch(BaseModel, frozen=True):
    """Why a drawing was not searched with: a code of `unmask.errors.RefusalCode`, and a sentence."""

    code: str
    message: str


class Answer(BaseModel, frozen=True):
    """What a search for one drawing found.

    Attributes:
        path: of the drawing.
        sha256: of its file; None if it could not be read.
        notes: what was seen and done before the search, a sentence each.
        refusal: why there was no search, if so.
        index: folder of the index.
        data_sha256: of the index, over the paths and contents of its files.
        pack: the model, name and version.
        pack_sha256: of the model.
        searched: pictures, or faces, in the index.
        rankings: one, or both orders side by side; none of a refused drawing.
    """

    schema_version: Literal["1.0"] = "1.0"
    path: str
    sha256: str | None
    notes: tuple[str, ...]
    refusal: RefusedSketch | None
    index: str
    data_sha256: str
    pack: str
    pack_sha256: str
    searched: int
    rankings: tuple[Ranking, ...]


@dataclass(frozen=True)
class _Query:
    """A drawing on its way: what was noted of it, and what the network sees of it unless it was refused."""

    path: str
    sha256: str | None = None
    notes: tuple[str, ...] = ()
    refusal: Refused | None = None
    view: View | None = None
    picture: np.ndarray | None = None


def default_order(index: SearchIndex) -> Order:
    """The order that is given unasked: by clusters for whole pictures, plain for faces.

    Photos of one kind of object form clusters. A register has one photo or few of each person, so that a cluster holds
    several people, and its centre says little about any one of them.
    """
    return "plain" if index.manifest.faces else "clusters"


def find(
    index: SearchIndex | str | Path,
    sketches: Iterable[str | Path],
    top: int = 20,
    order: Order | Literal["both"] | None = None,
    pack: str | Path | None = None,
) -> Iterator[Answer]:
    """Find the photos that drawings show.

    Args:
        index: an open index, or the folder of one.
        sketches: pictures, folders of them, or "-" for standard input.
        top: hits for each, >= 1.
        order: "plain", "clusters" or both side by side; `default_order` if None.
        pack: the model, if it is no longer where the index was made from.

    Yields:
        An answer for each drawing, in their order.

    Raises:
        DataError: there is no index, or it is of another model.
        PackError: there is no such pack.
    """
    for answer, _ in Searcher(index, top, order, pack).answers(sketches):
        yield answer


class Searcher:
    """An index with its model, ready to answer.

    Attributes:
        index: the index.
        orders: the orders that answers have.
    """

    def __init__(
        self,
        index: SearchIndex | str | Path,
        top: int = 20,
        order: Order | Literal["both"] | None = None,
        pack: str | Path | None = None,
    ) -> None:
        """Open the index and load its model; arguments and errors as of `find`."""
        self.index = index if isinstance(index, SearchIndex) else open_index(index)
        self._embedder = self.index.embedder(pack)
        self._top = top
        first: Order = default_order(self.index) if order in (None, "both") else order  # type: ignore[assignment]
        other: Order = "plain" if first == "clusters" else "clusters"
        self.orders: tuple[Order, ...] = (first, other) if order == "both" else (first,)

    def answers(self, sketches: Iterable[str | Path]) -> Iterator[tuple[Answer, np.ndarray | None]]:
        """An answer for each drawing, and the drawing as it was searched with, uint8 (H, W, 3) RGB, if it was read."""
        sources = walk(sketches)
        while some := list(islice(sources, BATCH)):
            queries = [self._read(source) for source in some]
            views = [query.view for query in queries if query.view is not None]
            vectors = iter(self._embedder.embed(views)) if views else iter(())
            usable = []
            for number, query in enumerate(queries):
                if query.view is not None:
                    vector = next(vectors)
                    if vector.any():
                        usable.append(vector)
                    else:
                        refusal = Refused(RefusalCode.UNREADABLE, "The network gives no usable embedding for it.")
                        queries[number] = replace(query, refusal=refusal, view=None)
            ranked = self.index.rank(np.stack(usable), self._top, self.orders) if usable else iter(())
            for query in queries:
                rankings: tuple[Ranking, ...] = ()
                if query.view is not None:
                    by_order = next(ranked)
                    rankings = tuple(Ranking(order=order, hits=self._hits(by_order[order])) for order in self.orders)
                yield self._answer(query, rankings), query.picture

    def _read(self, source: Source | RefusedSource) -> _Query:
        path = display_path(source.path) if source.path == "-" else escape_surrogates(source.path)
        if isinstance(source, RefusedSource):
            return _Query(path, refusal=source.refusal)
        if source.file is not None:
            path = escape_surrogates(str(source.file))
        query = _Query(path)
        try:
            media = take_in(source)
            query = replace(query, sha256=media.sha256)
            still = decode_image(media)
            query = replace(query, picture=still.pixels, notes=still.warnings)
            checked = check_sketch(still.pixels)
            query = replace(query, picture=checked.pixels, notes=still.warnings + checked.notes)
            views = self._embedder.views(checked.pixels)
            if not views:
                raise Refused(RefusalCode.NO_FACE, NO_FACE)
            if len(views) > 1:
                query = replace(query, notes=(*query.notes, SEVERAL_FACES))
            return replace(query, view=views[0])
        except Refused as refusal:
            return replace(query, refusal=refusal)

    def _answer(self, query: _Query, rankings: Sequence[Ranking]) -> Answer:
        manifest, notes, refusal = self.index.manifest, query.notes, query.refusal
        if refusal is None and manifest.rows < 2:
            notes = (*notes, ALONE if manifest.rows else NOTHING)
        return Answer(
            path=query.path,
            sha256=query.sha256,
            notes=notes,
            refusal=None if refusal is None else RefusedSketch(code=refusal.code.value, message=refusal.message),
            index=escape_surrogates(str(self.index.folder)),
            data_sha256=manifest.data_sha256,
            pack=f"{manifest.pack_name} {manifest.pack_version}",
            pack_sha256=manifest.pack_sha256,
            searched=manifest.rows,
            rankings=tuple(rankings),
        )

    def _hits(self, ranked: Sequence[Ranked]) -> tuple[Hit, ...]:
        return tuple(self._hit(rank, one) for rank, one in enumerate(ranked, start=1))

    def _hit(self, rank: int, one: Ranked) -> Hit:
        index = self.index
        number = index.file_of(one.row)
        file = index.described(number)
        face = one.row - int(index.files["first"][number])
        also_at = [other for other in index.copies_of(number) if other != number]
        members: list[int] = []
        if one.cluster is not None:
            numbers = dict.fromkeys(index.file_of(row) for row in index.members(one.cluster, 4 * _MEMBERS))
            members = [other for other in numbers if other != number and other not in also_at][:_MEMBERS]
        return Hit(
            rank=rank,
            path=self._place(file.path),
            sha256=file.sha256,
            also_at=tuple(self._place(index.described(other).path) for other in also_at),
            box=file.boxes[face] if file.boxes else None,
            distance=round(one.distance, 6),
            photo_distance=round(one.photo_distance, 6),
            centroid_distance=None if one.centroid_distance is None else round(one.centroid_distance, 6),
            cluster=one.cluster,
            cluster_size=one.cluster_size,
            nearest_cluster=one.nearest_cluster,
            members=tuple(self._place(index.described(other).path) for other in members),
            other_rank=one.other_rank,
        )

    def _place(self, name: str) -> str:
        return escape_surrogates(str(Path(restore_surrogates(self.index.manifest.photos)) / name))


def why(hit: Hit, order: Order) -> str:
    """Why a photo is where it is, in a sentence or two."""
    parts = [f"Distance to the picture {hit.photo_distance:.3f}"]
    if hit.centroid_distance is not None:
        near = "the nearest to the drawing" if hit.nearest_cluster else "not the nearest to the drawing"
        parts.append(
            f", to the centre of its cluster {hit.centroid_distance:.3f}. Cluster {hit.cluster} of "
            f"{hit.cluster_size} is {near}"
        )
    sentence = "".join(parts) + "."
    if hit.other_rank is not None:
        other = "with clusters" if order == "plain" else "without clusters"
        sentence += f" Rank {hit.other_rank} {other}."
    return sentence
