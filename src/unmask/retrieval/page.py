"""Answers as one self-contained HTML page: each drawing, its hits as thumbnails, and why they are where they are."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

import numpy as np
from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from unmask import __version__
from unmask.errors import Refused
from unmask.evidence.pictures import data_url
from unmask.evidence.report import restore_surrogates
from unmask.evidence.terminal import safe_text
from unmask.faces.alignment import context_crop
from unmask.files import begins_with, whole
from unmask.media.images import decode_image
from unmask.media.intake import take_in
from unmask.media.sources import Source, display_path
from unmask.retrieval.answers import Answer, Hit, why
from unmask.retrieval.index import Manifest
from unmask.retrieval.sketches import at_most

_SIDE = 176  # pixels of a thumbnail's long side
_MARGIN = 1.6  # about a face
_ORDERS = {
    "plain": "Plain order: by the distance to each picture alone",
    "clusters": "Order with clusters: by the distance to each picture and to the pictures that it resembles",
}


@dataclass(frozen=True)
class _Shown:
    """A hit with its thumbnail, or what became of the file."""

    hit: Hit
    picture: Markup | None
    missing: str
    why: str


class SearchPage:
    """Writes answers to a page that is open; see `search_page`."""

    def __init__(self, stream: IO[str], jinja: Environment) -> None:
        """Take an open stream."""
        self._stream, self._jinja = stream, jinja
        self._number = 0

    def add(self, answer: Answer, sketch: np.ndarray | None) -> None:
        """Append an answer.

        Args:
            answer: of a search.
            sketch: the drawing, uint8 (H, W, 3) RGB, if it was read.
        """
        self._number += 1
        rankings = [
            (_ORDERS[ranking.order], [_shown(hit, why(hit, ranking.order)) for hit in ranking.hits])
            for ranking in answer.rankings
        ]
        self._stream.write(
            self._jinja.get_template("answer.html.j2").render(
                answer=answer,
                number=self._number,
                sketch=None if sketch is None else data_url(at_most(sketch, 2 * _SIDE)),
                rankings=rankings,
            )
        )


@contextmanager
def search_page(path: Path, manifest: Manifest, command: str) -> Iterator[SearchPage]:
    """Write a page; it appears under its name when it is whole.

    Args:
        path: of the page.
        manifest: of the index.
        command: the command line that repeats the search.

    Raises:
        DataError: it cannot be written there.
    """
    jinja = Environment(
        loader=ChoiceLoader([PackageLoader("unmask.retrieval"), PackageLoader("unmask.evidence")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    jinja.filters["safe_text"] = safe_text
    with whole(path) as part, part.open("w", encoding="utf-8", newline="\n") as stream:
        written = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
        top = jinja.get_template("search.html.j2")
        stream.write(top.render(title="Which photos do these drawings show?", version=__version__, written=written))
        yield SearchPage(stream, jinja)
        stream.write(jinja.get_template("search_foot.html.j2").render(index=manifest, command=command))


def is_search_page(path: Path) -> bool:
    """Whether a file is a page of `search_page`.

    Raises:
        OSError: it cannot be read.
    """
    return begins_with(path, b'<meta name="generator" content="unmask search ')


def _shown(hit: Hit, reason: str) -> _Shown:
    file = Path(restore_surrogates(hit.path))
    try:
        media = take_in(Source(display_path(str(file)), file))
        if media.sha256 != hit.sha256:
            return _Shown(hit, None, "The file has changed since it was indexed: bring the index up to date.", reason)
        pixels = decode_image(media).pixels
    except Refused as refusal:
        return _Shown(hit, None, refusal.message, reason)
    if hit.box is not None:
        pixels = context_crop(pixels, hit.box, _MARGIN, _SIDE)[0]
    return _Shown(hit, data_url(at_most(pixels, _SIDE)), "", reason)
