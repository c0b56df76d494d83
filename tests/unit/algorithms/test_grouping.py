"""Groups whose data resemble the data of all."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from emulator.algorithms.grouping import Vector, kl_divergence, near_iid_groups, random_groups

N_DEVICES, N_GROUPS = 80, 8


def skewed_histograms(n_labels: int, rng: np.random.Generator) -> Vector:
    """Each label's 2000 examples are spread over the devices by a Dirichlet distribution of 0.1."""
    shares = rng.dirichlet(np.full(N_DEVICES, 0.1), size=n_labels)
    return np.round(2000 * shares.T) + np.eye(N_DEVICES, n_labels)  # nobody has nothing


def speeds(rng: np.random.Generator) -> Vector:
    """Boards of several kinds in several power modes, up to eight times as fast as the slowest."""
    return np.log(rng.choice([1.0, 1.5, 2.0, 3.0, 4.0, 8.0], N_DEVICES)) + 0.1 * rng.standard_normal(N_DEVICES)


def divergences(histograms: Vector, groups: NDArray[np.int64]) -> Vector:
    """How far each group's mixture of labels is from that of all devices, in nat."""
    counts = np.array([histograms[groups == group].sum(axis=0) for group in range(groups.max() + 1)])
    return kl_divergence(counts / counts.sum(axis=1, keepdims=True), counts.sum(axis=0) / counts.sum())


def sizes(groups: NDArray[np.int64]) -> list[int]:
    return np.bincount(groups).tolist()


@pytest.mark.parametrize("n_labels", [2, 4, 8, 10, 20])
def test_near_iid_groups_diverge_at_most_a_third_as_much_as_random_ones(n_labels: int) -> None:
    near, chance = [], []
    for seed in range(5):
        rng = np.random.default_rng(seed)
        histograms = skewed_histograms(n_labels, rng)
        groups = near_iid_groups(histograms, speeds(rng), N_GROUPS, speed_weight=0.1, rng=rng)
        assert sizes(groups) == [10] * N_GROUPS
        near.append(divergences(histograms, groups).mean())
        chance.append(divergences(histograms, random_groups(N_DEVICES, N_GROUPS, rng)).mean())
    assert np.mean(near) <= 0.35 * np.mean(chance)


def test_divergence_is_zero_where_a_group_has_the_mixture_of_all_and_log_two_where_it_has_one_of_two_labels() -> None:
    histograms = np.array([[3.0, 0.0], [0.0, 3.0], [2.0, 2.0]])
    assert divergences(histograms, np.array([0, 0, 0])) == pytest.approx([0.0])
    # Half of all examples are of either label; a group of one label is apart by 1 * log(1 / 0.5).
    assert divergences(histograms, np.array([0, 1, 2])) == pytest.approx([np.log(2), np.log(2), 0.0])


def test_where_all_have_the_same_labels_groups_are_of_like_speed() -> None:
    rng = np.random.default_rng(0)
    log_speeds = rng.permutation(np.repeat(np.arange(4.0), 5))
    groups = near_iid_groups(np.ones((20, 3)), log_speeds, 4, speed_weight=0.1, rng=rng)
    assert [set(log_speeds[groups == group]) for group in range(4)] == [{3.0}, {2.0}, {1.0}, {0.0}]


def test_a_speed_that_weighs_more_makes_groups_more_alike_in_speed() -> None:
    spreads = []
    for weight in (0.0, 1.0):
        rng = np.random.default_rng(3)
        histograms, log_speeds = skewed_histograms(8, rng), speeds(rng)
        groups = near_iid_groups(histograms, log_speeds, N_GROUPS, weight, rng)
        spreads.append(np.mean([log_speeds[groups == group].std() for group in range(N_GROUPS)]))
    assert spreads[1] < 0.5 * spreads[0]


@pytest.mark.parametrize("bound", [0.1, 0.2])
def test_speed_decides_as_far_as_the_bound_on_the_divergence_allows(bound: float) -> None:
    def formed(divergence_bound: float) -> tuple[float, float]:
        """The greatest divergence and the mean spread of log speeds."""
        rng = np.random.default_rng(3)
        histograms, log_speeds = skewed_histograms(8, rng), speeds(rng)
        groups = near_iid_groups(histograms, log_speeds, N_GROUPS, 10.0, rng, divergence_bound)
        spread = np.mean([log_speeds[groups == group].std() for group in range(N_GROUPS)])
        return float(divergences(histograms, groups).max()), float(spread)

    (free, least_spread), (bounded, spread) = formed(np.inf), formed(bound)
    assert bounded <= bound < free
    assert least_spread < spread


@given(st.integers(1, 30), st.integers(1, 6), st.integers(0, 5))
def test_everybody_is_in_a_group_and_sizes_differ_by_one_at_most(n_devices: int, n_groups: int, seed: int) -> None:
    n_groups = min(n_groups, n_devices)
    rng = np.random.default_rng(seed)
    histograms = rng.integers(0, 5, (n_devices, 3)).astype(float)
    log_speeds = rng.standard_normal(n_devices)
    for groups in (
        near_iid_groups(histograms, log_speeds, n_groups, 0.1, rng),
        random_groups(n_devices, n_groups, rng),
    ):
        assert len(groups) == n_devices
        assert len(sizes(groups)) == n_groups
        assert max(sizes(groups)) - min(sizes(groups)) <= 1


def test_the_same_stream_gives_the_same_groups() -> None:
    histograms = skewed_histograms(4, np.random.default_rng(0))
    first, second = (
        near_iid_groups(histograms, np.zeros(N_DEVICES), N_GROUPS, 0.1, np.random.default_rng(1)) for _ in range(2)
    )
    assert np.array_equal(first, second)
