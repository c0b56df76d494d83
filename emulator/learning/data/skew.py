"""Partitions that are uneven in one way: few labels for each device, unlike sizes, or by how fast a device is."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from emulator.errors import DataError, ShortageError
from emulator.learning.data.partition import Rows, apportioned


def shards(labels: NDArray[np.int64], n_devices: int, shards_per_device: int, rng: np.random.Generator) -> list[Rows]:
    """Sorts the rows by label, cuts them into ``n_devices * shards_per_device`` shards, and deals these out at random.

    The pathological partition of McMahan et al. 2017 (arXiv 1602.05629, section 3), who have two shards for each
    device. Sizes of shards differ by at most one. A shard may lie across the border of two labels, or of more where
    labels are rarer than a shard is long.

    Raises:
        ShortageError: fewer rows than shards.
    """
    n_shards = n_devices * shards_per_device
    if len(labels) < n_shards:
        raise ShortageError(
            f"data.partition.shards_per_device: {len(labels)} training samples cannot be cut into {n_shards} shards, "
            f"{shards_per_device} for each of {n_devices} devices; use more data, fewer devices or fewer shards"
        )
    shuffled = rng.permutation(len(labels))
    cut = np.array_split(shuffled[np.argsort(labels[shuffled], kind="stable")], n_shards)
    dealt = rng.permutation(n_shards).reshape(n_devices, shards_per_device)
    return [np.sort(np.concatenate([cut[shard] for shard in own])) for own in dealt]


def power_law_shares(n_devices: int, exponent: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Shares in all rows that fall as ``rank ** -exponent``, ranks 1 to ``n_devices`` dealt out at random."""
    ranks = rng.permutation(n_devices) + 1.0
    shares: NDArray[np.float64] = ranks**-exponent / np.sum(ranks**-exponent)
    return shares


def by_size(n_rows: int, shares: NDArray[np.float64], rng: np.random.Generator) -> list[Rows]:
    """Rows at random, so many for each device as its share says."""
    ends = np.cumsum(apportioned(shares, n_rows))[:-1]
    return [np.sort(part) for part in np.split(rng.permutation(n_rows), ends)]


def by_speed(
    labels: NDArray[np.int64],
    speeds: Sequence[float],
    size_exponent: float,
    label_correlation: float,
    rng: np.random.Generator,
) -> list[Rows]:
    """Rows by how fast devices are: fast ones hold more, or other labels.

    A device holds ``speed ** size_exponent`` of all rows, up to a factor: 0 gives all alike, 1 in proportion, a
    negative one more to the slow. Of each device's rows the share ``label_correlation`` comes from the rows in the
    order of their labels, dealt out in the order of speed, the slowest first; the rest at random. Devices of one speed
    hold alike labels: what is dealt to them is dealt to them together.
    """
    if len(speeds) == 0 or min(speeds) <= 0:
        raise DataError(f"a partition by speed needs speeds above 0, got {list(speeds)[:5]!r}")
    rates = np.asarray(speeds, np.float64) / max(speeds)
    sizes = apportioned(rates**size_exponent, len(labels))
    shuffled = rng.permutation(len(labels))
    n_sorted = np.floor(label_correlation * sizes).astype(np.int64)
    is_sorted = np.zeros(len(labels), dtype=bool)
    is_sorted[: n_sorted.sum()] = True
    # Which rows are dealt in order is a matter of chance, so that labels are the same among these and the rest.
    ordered, rest = shuffled[is_sorted], shuffled[~is_sorted]
    ordered = ordered[np.argsort(labels[ordered], kind="stable")]
    parts: list[list[int]] = [[] for _ in sizes]
    start = 0
    for rate in np.unique(rates):
        alike = np.flatnonzero(rates == rate)
        stop = start + int(n_sorted[alike].sum())
        own = rng.permutation(ordered[start:stop])
        for device, dealt in zip(alike, np.split(own, np.cumsum(n_sorted[alike])[:-1]), strict=True):
            parts[device].extend(dealt.tolist())
        start = stop
    for part, dealt in zip(parts, np.split(rest, np.cumsum(sizes - n_sorted)[:-1]), strict=True):
        part.extend(dealt.tolist())
    return [np.array(sorted(part), dtype=np.int64) for part in parts]
