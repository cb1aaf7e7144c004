"""One-to-many matching: its formulas, its limits, and what clusters do for features that form them and for others."""

import numpy as np
import pytest
from clustered_features import Features, clustered, unrelated

from unmask.errors import DataError
from unmask.retrieval.matching import ClusterMatcher, auto_clusters, squared_distances
from unmask.retrieval.metrics import RetrievalMetrics, ranking

pytest.importorskip("faiss")
SEEDS = (0, 1, 2)


def mean_ap(features: Features, matcher: ClusterMatcher) -> float:
    metrics = RetrievalMetrics()
    distances = matcher.fit(features.gallery).score(features.queries)
    metrics.add(distances, features.query_labels.tolist(), features.gallery_labels.tolist())
    return metrics.averages()["AP"].over_queries


@pytest.fixture(scope="module")
def small() -> Features:
    return clustered(0, classes=6, photos=20, sketches=4)


def test_each_photo_its_own_mean_gives_the_plain_distance(small: Features) -> None:
    matcher = ClusterMatcher(clusters=len(small.gallery), weight=1.0).fit(small.gallery)
    exact = ((small.queries[:, None].astype(float) - small.gallery[None]) ** 2).sum(axis=2)
    np.testing.assert_allclose(matcher.centroid_distances(small.queries), exact, atol=1e-5)
    np.testing.assert_allclose(matcher.score(small.queries), exact, atol=1e-5)


@pytest.mark.parametrize("legacy", [False, True])
def test_weight_zero_is_the_plain_ranking(small: Features, legacy: bool) -> None:
    matcher = ClusterMatcher(weight=0.0, clusters=6, legacy=legacy).fit(small.gallery)
    plain = ranking(squared_distances(small.queries, small.gallery))
    np.testing.assert_array_equal(ranking(matcher.score(small.queries)), plain)


def test_codes_do_not_depend_on_the_batch(small: Features, monkeypatch: pytest.MonkeyPatch) -> None:
    matcher = ClusterMatcher(sub_vectors=2, clusters=7).fit(small.gallery)
    one_by_one = np.concatenate([matcher.assign(small.gallery[i : i + 1]) for i in range(len(small.gallery))])
    np.testing.assert_array_equal(matcher.codes, one_by_one)
    monkeypatch.setattr("unmask.retrieval.matching._BLOCK", 100)
    np.testing.assert_array_equal(matcher.assign(small.gallery), one_by_one)
    scores = matcher.score(small.queries)
    monkeypatch.undo()
    np.testing.assert_allclose(matcher.score(small.queries), scores, atol=1e-6)


@pytest.mark.parametrize("sub_vectors", [1, 2, 4])
def test_the_published_formula_by_hand(small: Features, sub_vectors: int) -> None:
    matcher = ClusterMatcher(sub_vectors, clusters=5, weight=0.8, legacy=True).fit(small.gallery)
    query, item = small.queries[3], 17
    parts = np.split(np.arange(len(query)), sub_vectors)
    cluster = 0.0
    for number, part in enumerate(parts):
        means = matcher.centroids[number]
        code = ((small.gallery[item, part] - means) ** 2).sum(axis=1).argmin()
        cluster += float(((query[part] - means[code]) ** 2).sum())
    wanted = 0.8 * cluster + 0.2 * float(np.linalg.norm(query - small.gallery[item]))
    assert matcher.score(query[None])[0, item] == pytest.approx(wanted, abs=1e-5)


def test_candidates_get_the_scores_that_they_have_among_all(small: Features) -> None:
    matcher = ClusterMatcher(clusters=6).fit(small.gallery)
    some = np.array([40, 3, 77])
    np.testing.assert_allclose(matcher.score(small.queries, some), matcher.score(small.queries)[:, some], atol=1e-6)


def test_an_explanation_has_both_distances_and_the_members(small: Features) -> None:
    matcher = ClusterMatcher(clusters=6).fit(small.gallery)
    item = int(matcher.score(small.queries[:1]).argmin())
    why = matcher.explain(small.queries[0], item)
    assert why.nearest
    assert item in why.members and set(why.members) == set(np.flatnonzero(matcher.codes[:, 0] == why.clusters[0]))
    assert why.photo_distance == pytest.approx(((small.queries[0] - small.gallery[item]) ** 2).sum(), abs=1e-5)
    assert why.distance == pytest.approx(0.8 * why.centroid_distance + 0.2 * why.photo_distance)
    far = int(matcher.centroid_distances(small.queries[:1]).argmax())
    assert not matcher.explain(small.queries[0], far).nearest


@pytest.mark.parametrize(
    ("photos", "clusters"), [(1, 1), (3, 3), (8, 8), (100, 8), (1000, 25), (10_000, 250), (10**6, 4000)]
)
def test_clusters_are_counted_without_labels(photos: int, clusters: int) -> None:
    assert auto_clusters(photos) == clusters


@pytest.mark.slow
@pytest.mark.parametrize("method", ["gmm_diag", "gmm_full"])
def test_mixtures_give_means_of_the_same_kind(method: str, small: Features) -> None:
    pytest.importorskip("sklearn")
    assert mean_ap(small, ClusterMatcher(clusters=8, method=method)) > mean_ap(small, ClusterMatcher(weight=0.0))  # type: ignore[arg-type]


def test_the_same_seed_gives_the_same_clusters(small: Features) -> None:
    first, second = (ClusterMatcher(clusters=5, seed=3).fit(small.gallery) for _ in range(2))
    np.testing.assert_array_equal(first.centroids, second.centroids)


def test_clusters_help_where_classes_form_clusters_and_too_few_hurt_more_than_too_many() -> None:
    means = {
        count: np.mean([mean_ap(clustered(seed), ClusterMatcher(clusters=count)) for seed in SEEDS])
        for count in (6, 12, 25, 50, 100)
    }
    plain = np.mean([mean_ap(clustered(seed), ClusterMatcher(weight=0.0)) for seed in SEEDS])
    assert all(means[count] > plain + 0.05 for count in (25, 50, 100)), (plain, means)
    assert means[25] - means[12] > means[25] - means[50], means
    assert means[25] - means[6] > means[25] - means[100], means


def test_random_features_gain_nothing() -> None:
    gains = []
    for seed in SEEDS:
        features = unrelated(seed)
        gains.append(mean_ap(features, ClusterMatcher()) - mean_ap(features, ClusterMatcher(weight=0.0)))
    assert np.mean(gains) == pytest.approx(0.0, abs=0.005), gains


def test_shuffled_labels_give_chance() -> None:
    features = clustered(0)
    shuffled = features._replace(gallery_labels=np.random.default_rng(0).permutation(features.gallery_labels))
    assert mean_ap(shuffled, ClusterMatcher()) == pytest.approx(1 / 25, abs=0.01)


@pytest.mark.parametrize(
    "how", [{"sub_vectors": 0}, {"weight": 1.5}, {"method": "other"}, {"clusters": 0}], ids=lambda how: next(iter(how))
)
def test_values_out_of_range_are_refused(how: dict[str, object]) -> None:
    with pytest.raises(DataError):
        ClusterMatcher(**how)  # type: ignore[arg-type]


def test_galleries_that_do_not_fit_are_refused(small: Features) -> None:
    with pytest.raises(DataError, match="3 parts"):
        ClusterMatcher(sub_vectors=3).fit(small.gallery)
    with pytest.raises(DataError, match="clusters of 120 photos"):
        ClusterMatcher(clusters=121).fit(small.gallery)
    with pytest.raises(DataError):
        ClusterMatcher().fit(small.gallery[:0])
