"""Every scheme covers every row once, holds the minimum, and follows from the seed alone."""

from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from emulator.errors import DataError
from emulator.learning.data.partition import Rows, dirichlet, iid, label_histograms
from emulator.learning.data.spread import Partition, Scheme, TrainingRows, spread

N, N_DEVICES = 120, 6
LABELS = np.random.default_rng(0).integers(0, 4, N)


def nothing() -> np.ndarray:
    raise AssertionError("asked for what the scheme does not need")


ROWS = TrainingRows(
    labels=LABELS,
    has_labels=True,
    source_rows=np.arange(1000, 1000 + N),
    owners=lambda: [f"u{number % 17}" for number in range(N)],
    embeddings=lambda: np.random.default_rng(1).normal(size=(N, 3)) + 20 * np.arange(N)[:, None] % 60,
)


@pytest.fixture(params=get_args(Scheme))
def partition(request: pytest.FixtureRequest, tmp_path: Path) -> Partition:
    given = tmp_path / "given.csv"
    given.write_text("row,device\n" + "".join(f"{1000 + row},{row % N_DEVICES}\n" for row in range(N)))
    return Partition(
        scheme=request.param, alpha=0.3, column="user", file=str(given), n_clusters=3, speeds=(1, 2, 3, 4, 5, 6)
    )


def spread_by(partition: Partition, seed: int, rows: TrainingRows = ROWS) -> list[Rows]:
    return spread(partition, rows, N_DEVICES, np.random.default_rng(seed))


def test_every_row_is_held_once_and_nobody_has_less_than_the_minimum(partition: Partition) -> None:
    for seed in range(5):
        parts = spread_by(replace(partition, min_examples=9), seed)
        assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(N))
        assert all(len(part) >= 9 and np.all(np.diff(part) > 0) for part in parts)


def test_the_seed_decides_and_nothing_else(partition: Partition) -> None:
    first, again, other = (spread_by(partition, seed) for seed in (0, 0, 1))
    assert all(np.array_equal(one, two) for one, two in zip(first, again, strict=True))
    is_other = any(not np.array_equal(one, two) for one, two in zip(first, other, strict=True))
    assert is_other == (partition.scheme != "given")


def test_what_a_scheme_does_not_need_is_not_read(partition: Partition) -> None:
    needs = {"natural": "owners", "clusters": "embeddings"}.get(partition.scheme)
    lazy = replace(ROWS, **{name: nothing for name in ("owners", "embeddings") if name != needs})
    spread_by(partition, 0, lazy)


def test_more_rows_than_there_are_cannot_be_a_minimum(partition: Partition) -> None:
    with pytest.raises(DataError, match=r"at least 21|of 6 devices has 21 rows"):
        spread_by(replace(partition, min_examples=21), 0)


def test_by_label_and_at_random_parts_are_those_of_the_functions() -> None:
    for found, wanted in (
        (spread_by(Partition(scheme="iid"), 4), iid(LABELS, N_DEVICES, np.random.default_rng(4))),
        (
            spread_by(Partition(scheme="dirichlet", alpha=0.2), 4),
            dirichlet(LABELS, N_DEVICES, 0.2, np.random.default_rng(4)),
        ),
    ):
        assert all(np.array_equal(one, two) for one, two in zip(found, wanted, strict=True))


def test_clusters_are_dealt_out_as_labels_are() -> None:
    clusters = np.arange(N) // 3 % 3  # what 20 * row % 60 comes to, in three groups 20 apart
    points = 20.0 * clusters[:, None] + np.zeros((N, 2))
    rows = replace(ROWS, embeddings=lambda: points, has_labels=False, labels=np.zeros(N, dtype=np.int64))
    own = label_histograms(clusters, spread_by(Partition(scheme="clusters", n_clusters=3, alpha=0.01), 0, rows), 3)
    assert (own.max(axis=1) / own.sum(axis=1)).mean() > 0.9


def test_dirichlet_sizes_have_the_mean_and_the_variance_of_the_distribution() -> None:
    # Dirichlet(a, ..., a) over k: mean 1/k, variance (1/k)(1 - 1/k)/(ka + 1).
    n, alpha = 100_000, 2.0
    rows = replace(ROWS, labels=np.zeros(n, dtype=np.int64))
    shares = np.array(
        [
            [len(part) / n for part in spread_by(Partition(scheme="quantity", alpha=alpha), seed, rows)]
            for seed in range(40)
        ]
    )
    k = N_DEVICES
    variance = (1 / k) * (1 - 1 / k) / (k * alpha + 1)
    assert shares.mean() == pytest.approx(1 / k)
    assert shares.var() == pytest.approx(variance, rel=0.3)  # of 240 shares


def test_power_law_sizes_fall_with_the_rank() -> None:
    sizes = [len(part) for part in spread_by(Partition(scheme="quantity", sizes="power_law", exponent=1.0), 0)]
    # 120 rows by 1, 1/2, ..., 1/6 over their sum 2.45: quotas 48.98, 24.49, 16.33, 12.24, 9.80, 8.16
    assert sorted(sizes, reverse=True) == [49, 25, 16, 12, 10, 8]


def test_shards_need_labels() -> None:
    with pytest.raises(DataError, match="'shards' goes by labels, and these examples have none; choose clusters"):
        spread_by(Partition(scheme="shards"), 0, replace(ROWS, has_labels=False))
