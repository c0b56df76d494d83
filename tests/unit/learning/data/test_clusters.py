"""k-means finds what is far apart, follows from the seed, and takes points that coincide."""

import numpy as np

from emulator.learning.data.clusters import k_means


def test_groups_that_are_far_apart_are_found_whatever_the_seed() -> None:
    centres = np.array([[0.0, 0.0], [100.0, 0.0], [0.0, 100.0]])
    group = np.repeat(np.arange(3), 20)
    points = centres[group] + np.random.default_rng(0).normal(size=(60, 2))
    for seed in range(10):
        found = k_means(points, 3, np.random.default_rng(seed))
        assert len({(a, b) for a, b in zip(group, found, strict=True)}) == 3
        assert set(found.tolist()) == {0, 1, 2}


def test_it_ends_where_every_row_is_in_the_cluster_whose_mean_is_nearest() -> None:
    points = np.random.default_rng(1).normal(size=(200, 3))
    found = k_means(points, 5, np.random.default_rng(2))
    means = np.stack([points[found == cluster].mean(axis=0) for cluster in range(5)])
    distances = ((points[:, None] - means) ** 2).sum(axis=2)
    assert np.array_equal(distances.argmin(axis=1), found)


def test_the_seed_decides() -> None:
    points = np.random.default_rng(3).normal(size=(100, 2))
    first, again = (k_means(points, 4, np.random.default_rng(7)) for _ in range(2))
    assert np.array_equal(first, again)


def test_points_that_coincide_and_fewer_points_than_clusters_are_taken() -> None:
    assert set(k_means(np.ones((6, 2)), 3, np.random.default_rng(0)).tolist()) == {0}
    assert sorted(k_means(np.array([[0.0], [1.0]]), 9, np.random.default_rng(0)).tolist()) == [0, 1]
