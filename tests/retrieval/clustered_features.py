"""Synthetic features of photos and sketches: classes as clusters, and a shift between the modalities."""

from typing import NamedTuple

import numpy as np


class Features(NamedTuple):
    gallery: np.ndarray
    gallery_labels: np.ndarray
    queries: np.ndarray
    query_labels: np.ndarray


def unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def clustered(seed: int, classes: int = 25, photos: int = 60, sketches: int = 12, spread: float = 1.1) -> Features:
    """Classes of `photos` unit vectors each about their centre; sketches are farther off and moved by one direction."""
    generator = np.random.default_rng(seed)
    dimension = 64
    centres = generator.normal(size=(classes, dimension)) / np.sqrt(dimension)
    shift = generator.normal(size=dimension) / np.sqrt(dimension)
    labels, wanted = np.repeat(np.arange(classes), photos), np.repeat(np.arange(classes), sketches)
    gallery = centres[labels] + spread * generator.normal(size=(len(labels), dimension)) / np.sqrt(dimension)
    queries = centres[wanted] + 0.8 * shift + 1.3 * generator.normal(size=(len(wanted), dimension)) / np.sqrt(dimension)
    return Features(unit(gallery), labels, unit(queries), wanted)


def unrelated(seed: int) -> Features:
    """The same labels on features that know nothing of them."""
    generator = np.random.default_rng(seed)
    like = clustered(seed)
    return like._replace(
        gallery=unit(generator.normal(size=like.gallery.shape)), queries=unit(generator.normal(size=like.queries.shape))
    )
