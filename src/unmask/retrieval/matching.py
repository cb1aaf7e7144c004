"""One-to-many matching: a query is compared with single photos and with the clusters that the gallery forms.

After SBKA (arXiv 2312.10320): the gallery is clustered, and the distance to a photo is fused with the distance to the
centre of its cluster. The matching is transductive: a photo's distance depends on the other photos of the gallery.

Let q be a query, g_j a photo and c_j its cluster in each of M contiguous parts of the vector. The cluster distance is
D_c(q, j) = sum_m ||q_m - mu_{m, c_jm}||^2, and D = w D_c + (1 - w) ||q - g_j||^2, both terms squared. The formula as
published, w D_c + (1 - w) ||q - g_j||, adds a square to a length; it is `legacy`.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from unmask.errors import DataError, MissingExtraError

Method = Literal["kmeans", "gmm_diag", "gmm_full"]
METHODS: tuple[str, ...] = get_args(Method)

_ITERATIONS = 25
_SAMPLED = 64  # vectors a cluster from which K-means learns; more move the centres of large galleries little
_BLOCK = 1 << 22  # floats of one block of distances


def auto_clusters(photos: int) -> int:
    """How many clusters, without labels: photos / 40, within 8 and 4 sqrt(photos), and never more than photos.

    Two to four times as many clusters as classes do little harm, too few do much.
    """
    return max(1, min(max(8, min(round(photos / 40), int(4 * math.sqrt(photos)))), photos))


@dataclass(frozen=True)
class Explanation:
    """Why a photo comes where it comes.

    Attributes:
        clusters: the photo's cluster in each part of the vector.
        nearest: whether these are the clusters nearest to the query.
        members: gallery positions of the photos that share all these clusters, the photo among them, ascending.
        centroid_distance: D_c, squared Euclidean.
        photo_distance: squared Euclidean distance to the photo itself.
        distance: as `score` gives it.
    """

    clusters: tuple[int, ...]
    nearest: bool
    members: np.ndarray
    centroid_distance: float
    photo_distance: float
    distance: float


class ClusterMatcher:
    """Distances of queries to the photos of a gallery, fused with those to the gallery's clusters.

    Attributes:
        centroids: float32 (M, K, D / M) once fitted.
        codes: int32 (n, M), each photo's cluster in each part.

    Example:
        >>> matcher = ClusterMatcher().fit(gallery)
        >>> distances = matcher.score(queries)  # (nq, n), smaller is better
    """

    def __init__(
        self,
        sub_vectors: int = 1,
        clusters: int | Literal["auto"] = "auto",
        weight: float = 0.8,
        method: Method = "kmeans",
        legacy: bool = False,
        seed: int = 0,
    ) -> None:
        """Choose how to match.

        Args:
            sub_vectors: contiguous parts M of the vector that are clustered apart, >= 1.
            clusters: K of each part, >= 1, at most the photos; "auto" as `auto_clusters`, which looks at no label.
            weight: w of the cluster distance, in [0, 1]. At 0 the order is the plain one.
            method: K-means, or the means of a Gaussian mixture with diagonal or full covariance.
            legacy: fuse by the published formula, which does not square the direct distance.
            seed: of the clustering.

        Raises:
            DataError: a value is out of its range.
        """
        if sub_vectors < 1 or not 0 <= weight <= 1 or method not in METHODS:
            raise DataError(
                f"cluster matching needs sub_vectors >= 1, a weight in [0, 1] and a method of {', '.join(METHODS)}"
            )
        if clusters != "auto" and clusters < 1:
            raise DataError(f'clusters is "auto" or at least 1, not {clusters}')
        self.sub_vectors, self.clusters, self.weight = sub_vectors, clusters, weight
        self.method, self.legacy, self.seed = method, legacy, seed
        self.centroids = np.empty((sub_vectors, 0, 0), np.float32)
        self.codes = np.empty((0, sub_vectors), np.int32)
        self._gallery: np.ndarray = np.empty((0, 0), np.float32)

    def fit(self, gallery: np.ndarray) -> "ClusterMatcher":
        """Cluster a gallery.

        Args:
            gallery: float32 (n, D), n >= 1, D a multiple of `sub_vectors`; kept, not copied.

        Returns:
            itself.

        Raises:
            DataError: of another shape, or more clusters than photos.
            MissingExtraError: the library of the method is not installed.
        """
        photos, dimension = gallery.shape
        if photos < 1 or dimension % self.sub_vectors:
            raise DataError(f"a gallery of shape {gallery.shape} cannot be clustered in {self.sub_vectors} parts")
        count = auto_clusters(photos) if self.clusters == "auto" else self.clusters
        if count > photos:
            raise DataError(f'{count} clusters of {photos} photos: give at most as many clusters, or "auto"')
        means = {"kmeans": _k_means, "gmm_diag": _mixture_diag, "gmm_full": _mixture_full}[self.method]
        sample = _sample(gallery, count * _SAMPLED, self.seed)
        parts = np.split(sample, self.sub_vectors, axis=1)
        return self.restore(np.stack([means(part, count, self.seed) for part in parts]), gallery)

    def restore(self, centroids: np.ndarray, gallery: np.ndarray, codes: np.ndarray | None = None) -> "ClusterMatcher":
        """Take centroids that were fitted before, for the same or a changed gallery.

        Args:
            centroids: float32 (M, K, D / M).
            gallery: float32 (n, D).
            codes: int32 (n, M) if they are known.

        Returns:
            itself.
        """
        self.centroids, self._gallery = centroids, gallery
        self.codes = self.assign(gallery) if codes is None else codes
        return self

    def assign(self, vectors: np.ndarray) -> np.ndarray:
        """The nearest centroid of each vector in each part, int32 (n, M); it does not depend on the other vectors."""
        codes = np.empty((len(vectors), self.sub_vectors), np.int32)
        step = max(1, _BLOCK // max(self.centroids.shape[1], vectors.shape[1], 1))
        for start in range(0, len(vectors), step):
            block = slice(start, start + step)
            codes[block] = self._to_centroids(np.asarray(vectors[block])).argmin(axis=2).T
        return codes

    def score(self, queries: np.ndarray, candidates: np.ndarray | None = None) -> np.ndarray:
        """Fused distances, smaller is better.

        Args:
            queries: float32 (nq, D).
            candidates: gallery positions, int (c,), to score only these.

        Returns:
            float32 (nq, n) or (nq, c).
        """
        return self.fuse(self.centroid_distances(queries, candidates), self.photo_distances(queries, candidates))

    def fuse(self, to_centroids: np.ndarray, to_photos: np.ndarray) -> np.ndarray:
        """D from both squared distances."""
        direct = np.sqrt(to_photos) if self.legacy else to_photos
        return self.weight * to_centroids + (1 - self.weight) * direct

    def centroid_distances(self, queries: np.ndarray, candidates: np.ndarray | None = None) -> np.ndarray:
        """D_c of queries, float32 (nq, D), to photos: float32 (nq, n), or (nq, c) of the candidates."""
        codes = self.codes if candidates is None else self.codes[candidates]
        return sum(part[:, codes[:, number]] for number, part in enumerate(self._to_centroids(queries)))

    def photo_distances(self, queries: np.ndarray, candidates: np.ndarray | None = None) -> np.ndarray:
        """Squared Euclidean distances of queries, float32 (nq, D), to photos: float32 (nq, n), or (nq, c)."""
        gallery = self._gallery
        photos = len(gallery) if candidates is None else len(candidates)
        distances = np.empty((len(queries), photos), np.float32)
        step = max(1, _BLOCK // max(gallery.shape[1], 1))  # a memory map is read block by block
        for start in range(0, photos, step):
            block = slice(start, min(start + step, photos))
            vectors = gallery[block] if candidates is None else gallery[candidates[block]]
            distances[:, block] = squared_distances(queries, np.asarray(vectors))
        return distances

    def explain(self, query: np.ndarray, item: int) -> Explanation:
        """Why a photo comes where it comes for a query.

        Args:
            query: float32 (D,).
            item: position in the gallery.
        """
        codes = self.codes[item]
        to_centroids = self._to_centroids(query[None])[:, 0]
        one = np.array([item])
        centroid = self.centroid_distances(query[None], one)
        photo = self.photo_distances(query[None], one)
        return Explanation(
            clusters=tuple(codes.tolist()),
            nearest=bool((to_centroids.argmin(axis=1) == codes).all()),
            members=np.flatnonzero((self.codes == codes).all(axis=1)),
            centroid_distance=float(centroid[0, 0]),
            photo_distance=float(photo[0, 0]),
            distance=float(self.fuse(centroid, photo)[0, 0]),
        )

    def _to_centroids(self, vectors: np.ndarray) -> np.ndarray:
        """Squared distances (M, n, K) of the parts of vectors to the centroids of their part."""
        parts = np.split(np.asarray(vectors, np.float32), self.sub_vectors, axis=1)
        return np.stack([squared_distances(part, means) for part, means in zip(parts, self.centroids, strict=True)])


def squared_distances(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Squared Euclidean distances, float32 (a, b), of float32 (a, D) to (b, D); never below 0."""
    products = one @ other.T
    lengths = np.einsum("ij,ij->i", one, one)[:, None] + np.einsum("ij,ij->i", other, other)[None]
    return np.maximum(lengths - 2 * products, 0).astype(np.float32, copy=False)


def _sample(gallery: np.ndarray, most: int, seed: int) -> np.ndarray:
    """Vectors to learn clusters from: all, or so many drawn at random, float32 and contiguous."""
    if len(gallery) <= most:
        return np.ascontiguousarray(gallery, np.float32)
    rows = np.sort(np.random.default_rng(seed).choice(len(gallery), most, replace=False))
    return np.ascontiguousarray(gallery[rows], np.float32)


def _k_means(vectors: np.ndarray, count: int, seed: int) -> np.ndarray:
    if count == len(vectors):  # faiss would begin from them in another order and may leave some empty
        return np.array(vectors, np.float32)
    try:
        import faiss
    except ModuleNotFoundError as error:
        raise MissingExtraError("search", "clustering by K-means") from error
    limits: dict[str, Any] = {"min_points_per_centroid": 1, "max_points_per_centroid": len(vectors)}
    fitted = faiss.Kmeans(vectors.shape[1], count, niter=_ITERATIONS, seed=seed, **limits)
    fitted.train(np.ascontiguousarray(vectors, np.float32))
    return np.array(fitted.centroids, np.float32).reshape(count, -1)


def _mixture_diag(vectors: np.ndarray, count: int, seed: int) -> np.ndarray:
    return _mixture(vectors, count, seed, "diag")


def _mixture_full(vectors: np.ndarray, count: int, seed: int) -> np.ndarray:
    return _mixture(vectors, count, seed, "full")


def _mixture(vectors: np.ndarray, count: int, seed: int, covariance: str) -> np.ndarray:
    try:
        from sklearn.mixture import GaussianMixture
    except ModuleNotFoundError as error:
        raise MissingExtraError("lab", "clustering by Gaussian mixtures") from error
    fitted = GaussianMixture(count, covariance_type=covariance, random_state=seed).fit(vectors)
    return np.asarray(fitted.means_, np.float32)
