"""FedGSP: how the number of groups grows, and groups with one device of each cluster."""

import numpy as np
import pytest

from emulator.seeds import Seeds
from emulator.testing import small_testbed
from policies.fedgsp import FedGsp, Growth, equal_clusters, inter_cluster_groups, n_groups


@pytest.mark.parametrize(
    ("growth", "rate", "expected"),
    [
        ("linear", 0.5, [2, 2, 4, 4, 6]),  # 1, 1.5, 2, 2.5, 3 rounded down, times 2
        ("log", 2.0, [2, 4, 6, 6, 8]),  # 1, 2.39, 3.20, 3.77, 4.22
        ("exp", 0.5, [2, 2, 4, 6, 10]),  # 1, 1.5, 2.25, 3.375, 5.06
    ],
)
def test_the_number_of_groups_by_round(growth: Growth, rate: float, expected: list[int]) -> None:
    assert [n_groups(number, growth, rate, first=2) for number in range(1, 6)] == expected
    assert n_groups(10**6, "exp", 5.0, first=1) > 10**15


@pytest.mark.parametrize("seed", range(10))
def test_clusters_are_of_equal_size_and_of_points_that_lie_close(seed: int) -> None:
    points = np.array([[0.0], [9.0], [0.0], [9.0], [0.0], [9.0], [100.0]])
    clusters = equal_clusters(points, 3, np.random.default_rng(seed))

    assert len(clusters) == 2
    assert all(len(set(cluster)) == 3 for cluster in clusters)
    near = [cluster for cluster in clusters if 6 not in cluster]
    assert all(len({float(points[place, 0]) for place in cluster}) == 1 for cluster in near)
    assert near


def test_each_group_has_one_device_of_each_cluster_and_the_rest_is_dealt_in_turn() -> None:
    """Three devices of either label, one group for each: every group sees both labels, and resembles all data."""
    histograms = np.array([[9, 0], [0, 9], [9, 0], [0, 9], [9, 0], [0, 9]], np.float64)
    for seed in range(20):
        rng = np.random.default_rng(seed)
        clusters = equal_clusters(histograms / 9, 3, np.random.default_rng(seed))
        groups = inter_cluster_groups(histograms, 3, rng)
        assert sorted(member for group in groups for member in group) == list(range(6))
        assert all({member % 2 for member in group} == {0, 1} for group in groups)
        for cluster in clusters:
            assert all(len(set(cluster) & set(group)) == 1 for group in groups)


def test_left_over_devices_make_groups_that_differ_by_one_at_most() -> None:
    groups = inter_cluster_groups(Seeds(0).rng("h").integers(1, 9, (11, 3)).astype(float), 4, np.random.default_rng(0))

    assert sorted(len(group) for group in groups) == [2, 3, 3, 3]
    assert sorted(member for group in groups for member in group) == list(range(11))


def test_there_are_more_and_shorter_chains_from_round_to_round() -> None:
    played = small_testbed(FedGsp(first_groups=2, growth="linear", growth_rate=1.0), n_devices=7).play(4)

    sizes = [sorted(len(group.members) for group in one.plan.groups) for one in played]
    assert sizes == [[3, 4], [1, 2, 2, 2], [1, 1, 1, 1, 1, 2], [1] * 7]
