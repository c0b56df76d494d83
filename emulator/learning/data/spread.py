"""Partitions by the name of their scheme: from settings, and what is known of the training rows, to rows by device."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from emulator.errors import DataError
from emulator.learning.data.clusters import k_means
from emulator.learning.data.owners import read_given, whole_owners
from emulator.learning.data.partition import Rows, dirichlet, dirichlet_shares, iid, raised
from emulator.learning.data.skew import by_size, by_speed, power_law_shares, shards
from emulator.learning.data.tables import Column

Scheme = Literal["dirichlet", "iid", "shards", "quantity", "natural", "given", "clusters", "speed"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Partition:
    """How training rows are spread over devices; see ``data.partition`` of a configuration for each of the fields.

    ``speeds`` are the devices' own, in any unit, for ``speed``.
    """

    scheme: Scheme = "iid"
    alpha: float = 1.0
    column: Column | None = None
    file: str | None = None
    shards_per_device: int = 2
    sizes: Literal["dirichlet", "power_law"] = "dirichlet"
    exponent: float = 1.0
    n_clusters: int = 10
    size_exponent: float = 1.0
    label_correlation: float = 0.0
    min_examples: int = 1
    speeds: tuple[float, ...] = ()

    @property
    def owner_column(self) -> Column:
        """The column that names the owner of a row.

        Raises:
            DataError: it is not given.
        """
        if self.column is None:
            raise DataError("data.partition.column must be given where data.partition.scheme is 'natural'")
        return self.column


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingRows:
    """What is known of the training rows, of which there are n.

    Attributes:
        labels: ``(n,)``; all 0 without labels.
        has_labels: whether there are any.
        source_rows: ``(n,)``, their numbers from 0 in the training part of ``data.source``.
        owners: reads who owns each row.
        embeddings: computes the rows' embeddings, ``(n, width)``.
    """

    labels: NDArray[np.int64]
    has_labels: bool
    source_rows: NDArray[np.int64]
    owners: Callable[[], Sequence[str]]
    embeddings: Callable[[], NDArray[np.float64]]


def spread(partition: Partition, rows: TrainingRows, n_devices: int, rng: np.random.Generator) -> list[Rows]:
    """The rows that each device holds, in ascending order: a pure function of its arguments and the state of ``rng``.

    Every row is held by one device, and every device holds at least ``partition.min_examples`` rows.

    Raises:
        ShortageError: there are too few rows or owners for so many devices.
        DataError: the rows do not have what the scheme goes by.
    """
    if partition.scheme in _BY_LABEL and not rows.has_labels:
        raise DataError(
            f"data.partition.scheme: {partition.scheme!r} goes by labels, and these examples have none; choose "
            "clusters, quantity, natural, given or iid"
        )
    parts = _SCHEMES[partition.scheme](partition, rows, n_devices, rng)
    return raised(parts, partition.min_examples, rng)


Scheming = Callable[[Partition, TrainingRows, int, np.random.Generator], list[Rows]]


def _quantity(partition: Partition, rows: TrainingRows, n_devices: int, rng: np.random.Generator) -> list[Rows]:
    if partition.sizes == "power_law":
        shares = power_law_shares(n_devices, partition.exponent, rng)
    else:
        shares = dirichlet_shares(n_devices, partition.alpha, rng)
    return by_size(len(rows.labels), shares, rng)


def _natural(partition: Partition, rows: TrainingRows, n_devices: int, rng: np.random.Generator) -> list[Rows]:
    return whole_owners(rows.owners(), n_devices, partition.min_examples, rng)


def _given(partition: Partition, rows: TrainingRows, n_devices: int, rng: np.random.Generator) -> list[Rows]:
    assert partition.file is not None
    return read_given(partition.file, rows.source_rows, n_devices, partition.min_examples)


def _clusters(partition: Partition, rows: TrainingRows, n_devices: int, rng: np.random.Generator) -> list[Rows]:
    clusters = k_means(rows.embeddings(), partition.n_clusters, rng)
    return dirichlet(clusters, n_devices, partition.alpha, rng)


def _speed(partition: Partition, rows: TrainingRows, n_devices: int, rng: np.random.Generator) -> list[Rows]:
    return by_speed(rows.labels, partition.speeds, partition.size_exponent, partition.label_correlation, rng)


_BY_LABEL = ("shards",)
_SCHEMES: Mapping[Scheme, Scheming] = {
    "iid": lambda partition, rows, n_devices, rng: iid(rows.labels, n_devices, rng),
    "dirichlet": lambda partition, rows, n_devices, rng: dirichlet(rows.labels, n_devices, partition.alpha, rng),
    "shards": lambda partition, rows, n_devices, rng: shards(rows.labels, n_devices, partition.shards_per_device, rng),
    "quantity": _quantity,
    "natural": _natural,
    "given": _given,
    "clusters": _clusters,
    "speed": _speed,
}
