"""Approximate search: the recall it is built for, with no more lists than that takes."""

from pathlib import Path

import numpy as np
import pytest

from unmask.retrieval.shortlist import EXACT_UP_TO, ShortlistSearch, auto_kind, build_shortlist

WANTED = 0.95
QUERIES = 20


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    """4,000 unit vectors about 40 centres, so noisy that many lists have to be looked into."""
    generator = np.random.default_rng(0)
    rows = generator.normal(size=(40, 32))[generator.integers(0, 40, 4000)] + 1.5 * generator.normal(size=(4000, 32))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("kind", ["ivf", "pq", "hnsw"])
def test_a_query_alone_and_among_others_has_the_same_shortlist(kind: str, vectors: np.ndarray, tmp_path: Path) -> None:
    search, record = build_shortlist(vectors, kind)  # type: ignore[arg-type]
    search.write(tmp_path / "index")
    again = ShortlistSearch.read(tmp_path / "index", kind, record.effort)  # type: ignore[arg-type]
    queries = vectors[:QUERIES]
    together = search.search(queries, 200)
    for row, query in enumerate(queries):
        assert set(search.search(query[None], 200)[0]) == set(together[row])
        assert set(again.search(query[None], 200)[0]) == set(together[row])


def test_an_inverted_file_looks_into_as_many_lists_as_the_recall_takes(vectors: np.ndarray) -> None:
    search, record = build_shortlist(vectors, "ivf")
    assert record.recall >= WANTED
    assert 4 < record.effort < 63  # of 63 lists

    def recall(effort: int) -> float:
        generator = np.random.default_rng(1)
        chosen = vectors[generator.choice(len(vectors), 200, replace=False)]
        aside = generator.normal(size=chosen.shape)
        aside -= (aside * chosen).sum(1, keepdims=True) * chosen
        queries = 0.7 * chosen + 0.51**0.5 * aside / np.linalg.norm(aside, axis=1, keepdims=True)
        nearest = np.argsort(-queries @ vectors.T, axis=1)[:, :20]
        listed = ShortlistSearch(search._index, "ivf", effort).search(queries.astype(np.float32), 200)
        return float(np.mean([np.isin(exact, some).mean() for exact, some in zip(nearest, listed, strict=True)]))

    assert recall(record.effort) == pytest.approx(WANTED, abs=0.02)
    assert recall(record.effort // 2) < WANTED - 0.01


def test_the_kind_that_is_taken_unless_another_is_asked_for() -> None:
    assert [auto_kind(vectors) for vectors in (1, EXACT_UP_TO - 1, EXACT_UP_TO)] == ["exact", "exact", "pq"]
