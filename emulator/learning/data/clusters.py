"""Clusters of embeddings, which take the place of labels where texts have none: seeded k-means in plain numpy.

It is written out, as a partition must be the same bytes whatever version of a library is there.
"""

import numpy as np
from numpy.typing import NDArray

MOST_ROUNDS = 100
BLOCK_ROWS = 4096
"""Distances are computed for so many rows at a time."""


def k_means(points: NDArray[np.float64], n_clusters: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """The cluster of each of ``points (n, width)``, ``(n,)``.

    Lloyd's algorithm from centres that k-means++ draws (Arthur and Vassilvitskii 2007), until no row changes its
    cluster, or for :data:`MOST_ROUNDS` rounds. A cluster that has lost all rows takes the row that is furthest from the
    centre of its own. With fewer distinct points than clusters, some clusters are empty.
    """
    centres = _drawn(points, min(n_clusters, len(points)), rng)
    clusters = np.full(len(points), -1, dtype=np.int64)
    for _ in range(MOST_ROUNDS):
        nearest, distances = _nearest(points, centres)
        for empty in np.setdiff1d(np.arange(len(centres)), nearest):
            furthest = int(np.argmax(distances))
            if distances[furthest] > 0:
                nearest[furthest], distances[furthest] = empty, 0.0
        if np.array_equal(nearest, clusters):
            break
        clusters = nearest
        for cluster in np.unique(clusters):
            centres[cluster] = points[clusters == cluster].mean(axis=0)
    return clusters


def _drawn(points: NDArray[np.float64], n_clusters: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Centres among the points: each drawn with a chance that grows with the squared distance to those before it."""
    chosen = [int(rng.integers(len(points)))]
    distances = _squared(points, points[chosen])[:, 0]
    while len(chosen) < n_clusters:
        total = float(distances.sum())
        chance = distances / total if total > 0 else None
        chosen.append(int(rng.choice(len(points), p=chance)))
        distances = np.minimum(distances, _squared(points, points[chosen[-1:]])[:, 0])
    return points[chosen].copy()


def _nearest(
    points: NDArray[np.float64], centres: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The nearest centre of each point, the first of equals, and its squared distance."""
    nearest = np.empty(len(points), dtype=np.int64)
    distances = np.empty(len(points))
    for start in range(0, len(points), BLOCK_ROWS):
        squared = _squared(points[start : start + BLOCK_ROWS], centres)
        nearest[start : start + BLOCK_ROWS] = squared.argmin(axis=1)
        distances[start : start + BLOCK_ROWS] = squared.min(axis=1)
    return nearest, distances


def _squared(points: NDArray[np.float64], centres: NDArray[np.float64]) -> NDArray[np.float64]:
    """``(n, n_centres)``. Differences are squared one centre at a time, since expanding the square loses digits."""
    return np.stack([np.square(points - centre).sum(axis=1) for centre in centres], axis=1)
