"""From a drawing to photos: embedding, indexes, one-to-many matching, and metrics of retrieval. Extra `search`.

>>> from unmask.retrieval import build_index, find
>>> build_index("photos", "photos.index")
>>> for answer in find("photos.index", ["sketch.png"]):
...     print([hit.path for hit in answer.rankings[0].hits])
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unmask.retrieval.answers import find
    from unmask.retrieval.building import build_index
    from unmask.retrieval.index import open_index

__all__ = ["build_index", "find", "open_index"]


def __getattr__(name: str) -> Any:
    # Imported on first use: who takes metrics or the matcher from here needs neither decoders nor faiss.
    if name in __all__:
        from unmask.retrieval import answers, building, index

        return {"build_index": building.build_index, "find": answers.find, "open_index": index.open_index}[name]
    raise AttributeError(f"module 'unmask.retrieval' has no attribute {name!r}")
