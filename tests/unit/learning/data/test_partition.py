"""Partitions cover every sample once, leave no device empty, and follow from the seed."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.errors import DataError
from emulator.learning.data.partition import dirichlet, iid, label_histograms

sizes = st.integers(1, 40).flatmap(lambda devices: st.tuples(st.just(devices), st.integers(devices, 200)))
seeds = st.integers(0, 2**32)


def labels(n: int) -> np.ndarray:
    return np.random.default_rng(n).integers(0, 5, n)


def assert_exact_cover(parts: list[np.ndarray], n: int) -> None:
    assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(n))
    assert all(len(part) for part in parts)


@given(sizes, seeds)
def test_iid_covers_exactly_with_sizes_within_one(size: tuple[int, int], seed: int) -> None:
    n_devices, n = size
    parts = iid(labels(n), n_devices, np.random.default_rng(seed))
    assert_exact_cover(parts, n)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@given(sizes, seeds, st.sampled_from([1e-6, 0.01, 0.1, 1.0, 100.0]))
def test_dirichlet_covers_exactly_and_leaves_no_device_empty(size: tuple[int, int], seed: int, alpha: float) -> None:
    n_devices, n = size
    parts = dirichlet(labels(n), n_devices, alpha, np.random.default_rng(seed))
    assert len(parts) == n_devices
    assert_exact_cover(parts, n)


def test_the_seed_decides() -> None:
    first, again, other = (dirichlet(labels(200), 10, 0.5, np.random.default_rng(seed)) for seed in (0, 0, 1))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))


def test_a_small_alpha_skews_labels_more() -> None:
    def largest_share(alpha: float) -> float:
        own = label_histograms(labels(5000), dirichlet(labels(5000), 10, alpha, np.random.default_rng(0)), 5)
        return float((own.max(axis=1) / own.sum(axis=1)).mean())

    assert largest_share(0.05) > 0.6 > 0.3 > largest_share(100.0)


def test_histograms_count_labels() -> None:
    counts = label_histograms(np.array([0, 1, 1, 3]), [np.array([0, 1]), np.array([2, 3])], 4)
    assert counts.tolist() == [[1, 1, 0, 0], [0, 1, 0, 1]]


@pytest.mark.parametrize("scheme", [iid, lambda y, n, rng: dirichlet(y, n, 1.0, rng)])
def test_fewer_samples_than_devices_are_refused(scheme: object) -> None:
    with pytest.raises(DataError, match="3 training samples cannot be shared out among 4 devices"):
        scheme(labels(3), 4, np.random.default_rng(0))  # type: ignore[operator]


def test_alpha_must_be_positive() -> None:
    with pytest.raises(DataError, match="alpha above 0, got 0"):
        dirichlet(labels(9), 3, 0, np.random.default_rng(0))
