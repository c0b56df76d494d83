"""Partitions that are uneven in one way cover every row once, and are as uneven as their definition says."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.errors import DataError, ShortageError
from emulator.learning.data.partition import apportioned, label_histograms, raised
from emulator.learning.data.skew import by_size, by_speed, power_law_shares, shards

seeds = st.integers(0, 2**32)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def assert_covers(parts: list[np.ndarray], n: int) -> None:
    assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(n))
    assert all(np.all(np.diff(part) > 0) for part in parts)


@given(st.integers(1, 20), st.integers(1, 5), seeds)
def test_shards_cover_exactly_with_sizes_within_a_row_per_shard(n_devices: int, each: int, seed: int) -> None:
    labels = rng(seed).integers(0, 7, n_devices * each + 13)
    parts = shards(labels, n_devices, each, rng(seed))
    assert_covers(parts, len(labels))
    assert max(map(len, parts)) - min(map(len, parts)) <= each


def test_two_shards_give_at_most_two_labels_where_shards_end_with_labels() -> None:
    # McMahan et al. 2017: 10 labels, 100 devices, 200 shards, so that each label has 20 whole shards.
    labels = rng().permutation(np.repeat(np.arange(10), 60))
    own = label_histograms(labels, shards(labels, 100, 2, rng(1)), 10)
    assert (own.sum(axis=1) == 6).all()
    assert set((own > 0).sum(axis=1).tolist()) == {1, 2}
    assert set(own[own > 0].tolist()) == {3, 6}


def test_more_shards_than_rows_are_refused() -> None:
    with pytest.raises(ShortageError, match="5 training samples cannot be cut into 6 shards, 2 for each of 3 devices"):
        shards(np.zeros(5, dtype=np.int64), 3, 2, rng())


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=30).filter(any), st.integers(0, 5000))
def test_apportioned_rows_add_up_and_are_within_one_of_their_quota(shares: list[float], n: int) -> None:
    quotas = n * np.array(shares) / sum(shares)
    sizes = apportioned(np.array(shares), n)
    assert sizes.sum() == n
    assert np.all(np.abs(sizes - quotas) <= 1 + 1e-9 * n)


def test_the_largest_remainders_get_what_is_left() -> None:
    assert apportioned(np.array([0.5, 0.3, 0.2]), 7).tolist() == [4, 2, 1]  # of quotas 3.5, 2.1 and 1.4


def test_a_power_law_gives_the_second_device_half_of_the_first_at_exponent_one() -> None:
    shares = np.sort(power_law_shares(4, 1.0, rng()))[::-1]
    assert shares == pytest.approx(np.array([12, 6, 4, 3]) / 25)  # 1, 1/2, 1/3, 1/4 over their sum 25/12


def test_rows_by_size_have_the_sizes_that_shares_say() -> None:
    parts = by_size(100, np.array([0.7, 0.2, 0.1]), rng())
    assert_covers(parts, 100)
    assert [len(part) for part in parts] == [70, 20, 10]


def test_at_exponent_one_a_device_of_twice_the_speed_holds_twice_the_rows() -> None:
    labels = rng().integers(0, 3, 700)
    parts = by_speed(labels, [1e12, 2e12, 4e12], 1.0, 0.0, rng())
    assert_covers(parts, 700)
    assert [len(part) for part in parts] == [100, 200, 400]
    assert [len(part) for part in by_speed(labels, [1, 2, 4], -1.0, 0.0, rng())] == [400, 200, 100]


def test_at_exponent_zero_all_hold_alike_many() -> None:
    assert [len(part) for part in by_speed(np.zeros(9, np.int64), [1, 9, 3], 0.0, 0.5, rng())] == [3, 3, 3]


def test_at_full_correlation_devices_hold_labels_in_the_order_of_their_speed() -> None:
    labels = rng().permutation(np.repeat(np.arange(4), 25))
    own = label_histograms(labels, by_speed(labels, [4, 1, 3, 2], 0.0, 1.0, rng()), 4)
    assert own.tolist() == [[0, 0, 0, 25], [25, 0, 0, 0], [0, 0, 25, 0], [0, 25, 0, 0]]


def test_devices_of_one_speed_hold_alike_labels() -> None:
    labels = rng().permutation(np.repeat(np.arange(2), 4000))
    own = label_histograms(labels, by_speed(labels, [1, 1, 2, 2], 0.0, 1.0, rng()), 2)
    assert own.tolist() == [[2000, 0], [2000, 0], [0, 2000], [0, 2000]]


def test_without_correlation_labels_do_not_depend_on_speed() -> None:
    labels = rng().permutation(np.repeat(np.arange(2), 5000))
    own = label_histograms(labels, by_speed(labels, [1, 2, 3, 4], 0.0, 0.0, rng()), 2)
    # Hypergeometric: 2,500 of 10,000 rows, so that the deviation of a count is 21.7; five of them.
    assert np.all(np.abs(own - 1250) < 109)


@given(st.lists(st.floats(0.5, 50), min_size=1, max_size=12), st.floats(-3, 3), st.floats(0, 1), seeds)
def test_partitions_by_speed_cover_exactly(speeds: list[float], exponent: float, share: float, seed: int) -> None:
    labels = rng(seed).integers(0, 5, 60)
    assert_covers(by_speed(labels, speeds, exponent, share, rng(seed)), 60)


@given(st.integers(1, 8), st.integers(1, 12), seeds)
def test_a_minimum_is_held_and_rows_stay_where_there_are_enough(n_devices: int, least: int, seed: int) -> None:
    n = n_devices * least + 5
    parts = by_size(n, rng(seed).random(n_devices) ** 4 + 1e-9, rng(seed))
    enough = raised(parts, least, rng(seed))
    assert_covers(enough, n)
    assert min(map(len, enough)) >= least
    for before, after in zip(parts, enough, strict=True):
        assert len(before) >= least or len(after) == least
        assert set(after.tolist()) <= set(before.tolist()) or len(before) < least


def test_a_minimum_that_cannot_be_held_is_refused() -> None:
    with pytest.raises(ShortageError, match=r"7 training .* 2 devices, each needs at least 4 \(data.partition.min_ex"):
        raised([np.arange(7), np.arange(0)], 4, rng())


def test_a_speed_of_nothing_is_refused() -> None:
    with pytest.raises(DataError, match="needs speeds above 0"):
        by_speed(np.zeros(4, np.int64), [1.0, 0.0], 1.0, 0.0, rng())
