"""Metrics of retrieval against values computed by hand, an independent evaluator, and their own definitions."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unmask.errors import DataError
from unmask.retrieval.metrics import RetrievalMetrics, blocks_of, query_metrics, ranking


def of(*relevance: int, ks: tuple[int, ...] = ()) -> dict[str, float]:
    return {name: values[0] for name, values in query_metrics(np.array([relevance]), ks).items()}


def test_average_precision_by_hand() -> None:
    # positives at ranks 1, 4, 5: precisions 1, 2/4, 3/5; the envelope lifts the second to 3/5
    values = of(1, 0, 0, 1, 1, 0)
    assert values["AP"] == pytest.approx((1 + 2 / 4 + 3 / 5) / 3)
    assert values["AP interpolated"] == pytest.approx((1 + 3 / 5 + 3 / 5) / 3)


def test_every_convention_at_k_by_hand() -> None:
    values = of(0, 1, 0, 1, 1, 0, 1, ks=(2, 4, 5))
    # four positives, at ranks 2, 4, 5 and 7
    assert values["AP@4"] == pytest.approx((1 / 2 + 2 / 4) / 4)
    assert values["AP@2"] == pytest.approx((1 / 2) / 2)  # divided by min(2, 4)
    assert values["AP@5"] == pytest.approx((1 / 2 + 2 / 4 + 3 / 5) / 4)
    # cut at 5, the envelope is 3/5 throughout, though over all ranks it would reach 4/7 only at the end
    assert values["AP@5 interpolated"] == pytest.approx(3 * (3 / 5) / 4)
    assert values["P@5"] == pytest.approx(3 / 5)
    assert values["P@5 of possible"] == pytest.approx(3 / 4)
    assert values["recall@2"] == pytest.approx(1 / 4)
    assert values["hit@2"] == 1.0
    assert of(0, 0, 1, ks=(2,))["hit@2"] == 0.0
    assert values["INP"] == pytest.approx(4 / 7)
    assert values["first rank"] == 2.0


def test_a_cut_off_beyond_the_gallery() -> None:
    values = of(1, 0, 1, ks=(10,))
    assert values["P@10"] == pytest.approx(0.2)
    assert values["P@10 of possible"] == 1.0
    assert values["AP@10"] == values["AP"]


def test_ties_keep_the_order_of_the_gallery() -> None:
    assert ranking(np.array([[1.0, 0.5, 1.0, 0.5, 1.0]])).tolist() == [[1, 3, 0, 2, 4]]
    metrics = RetrievalMetrics()
    metrics.add(np.zeros((1, 4)), ["b"], ["a", "b", "a", "b"])
    assert metrics.averages()["AP"].over_queries == pytest.approx((1 / 2 + 2 / 4) / 2)


def test_classes_and_queries_are_averaged_apart() -> None:
    metrics = RetrievalMetrics()
    gallery = ["a", "b", "b"]
    metrics.add(np.array([[0.0, 1, 2], [1, 0, 2], [0, 1, 2]]), ["a", "a", "b"], gallery)
    # "a": 1 and 1/2; "b": (1/2 + 2/3) / 2
    last = (1 / 2 + 2 / 3) / 2
    average = metrics.averages()["AP"]
    assert average.over_queries == pytest.approx((1 + 0.5 + last) / 3)
    assert average.over_classes == pytest.approx((0.75 + last) / 2)
    assert average.by_class == {"a": pytest.approx(0.75), "b": pytest.approx(last)}
    assert metrics.averages()["first rank"].over_queries == 2.0  # the median of 1, 2, 2


def test_blocks_of_queries_give_what_all_at_once_gives() -> None:
    generator = np.random.default_rng(0)
    distances = generator.random((23, 40)).round(1)  # with ties
    queries, gallery = generator.integers(0, 4, 23).tolist(), [*range(4), *generator.integers(0, 4, 36).tolist()]
    whole, streamed = RetrievalMetrics((5, 50)), RetrievalMetrics((5, 50))
    whole.add(distances, queries, gallery)
    for block in blocks_of(23, 5):
        streamed.add(distances[block], queries[block], gallery)
    for name, values in whole.per_query().items():
        np.testing.assert_array_equal(values, streamed.per_query()[name])


def test_shuffled_labels_give_chance() -> None:
    generator = np.random.default_rng(1)
    labels = np.repeat(np.arange(10), 40)
    metrics = RetrievalMetrics()
    metrics.add(generator.random((200, 400)), generator.integers(0, 10, 200).tolist(), generator.permutation(labels))
    assert metrics.averages()["AP"].over_queries == pytest.approx(0.1, abs=0.02)


@given(st.lists(st.booleans(), min_size=1, max_size=30).filter(any), st.integers(1, 40))
def test_metrics_keep_their_order_and_range(relevance: list[bool], k: int) -> None:
    values = of(*relevance, ks=(k,))
    assert 0 < values["AP"] <= values["AP interpolated"] <= 1 + 1e-12
    assert values[f"AP@{k}"] <= values[f"AP@{k} interpolated"] + 1e-12 <= 1 + 2e-12
    assert values[f"P@{k}"] <= values[f"P@{k} of possible"] <= 1
    assert values[f"recall@{k}"] <= values[f"P@{k} of possible"]
    assert values["INP"] <= values["AP interpolated"] + 1e-12


@pytest.mark.parametrize(
    ("relevance", "ks", "message"),
    [([[0, 0]], (), "no positive"), ([[1, 0]], (0,), "at least 1")],
)
def test_what_is_not_defined_is_refused(relevance: list[list[int]], ks: tuple[int, ...], message: str) -> None:
    with pytest.raises(DataError, match=message):
        query_metrics(np.array(relevance), ks)


def test_misfits_are_refused() -> None:
    metrics = RetrievalMetrics()
    with pytest.raises(DataError, match="shape"):
        metrics.add(np.zeros((2, 3)), ["a"], ["a", "b", "c"])
    with pytest.raises(DataError, match="not a number"):
        metrics.add(np.full((1, 2), np.nan), ["a"], ["a", "b"])
    with pytest.raises(DataError, match="nothing to average"):
        metrics.averages()


@pytest.mark.slow
def test_the_kind_that_is_not_interpolated_agrees_with_ranx() -> None:
    ranx = pytest.importorskip("ranx")
    generator = np.random.default_rng(2)
    distances = generator.random((12, 60))
    queries, gallery = generator.integers(0, 5, 12), np.r_[np.arange(5), generator.integers(0, 5, 55)]
    metrics = RetrievalMetrics((3, 10))
    metrics.add(distances, queries.tolist(), gallery.tolist())
    positives = {f"q{q}": {f"i{i}": 1 for i in np.flatnonzero(gallery == label)} for q, label in enumerate(queries)}
    scores = {f"q{q}": {f"i{i}": float(1 - value) for i, value in enumerate(row)} for q, row in enumerate(distances)}
    names = {"map": "AP", "precision@3": "P@3", "recall@10": "recall@10", "hit_rate@3": "hit@3"}
    theirs = ranx.evaluate(ranx.Qrels(positives), ranx.Run(scores), list(names))
    ours = metrics.averages()
    for name, value in theirs.items():
        assert value == pytest.approx(ours[names[name]].over_queries), name
    assert ranx.evaluate(ranx.Qrels(positives), ranx.Run(scores), "mrr") == pytest.approx(
        np.mean(1 / metrics.per_query()["first rank"])
    )
