"""Who holds which examples: seeded partitions by chance and by label, and what all partitions have in common."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from emulator.errors import DataError, ShortageError

Rows = NDArray[np.int64]
"""Row numbers of a data set; those that a device holds are in ascending order."""


def iid(labels: NDArray[np.int64], n_devices: int, rng: np.random.Generator) -> list[Rows]:
    """Shuffles the rows of ``labels`` (n,) and deals them out in ``n_devices`` parts whose sizes differ by at most one.

    Raises:
        ShortageError: fewer samples than devices.
    """
    _check(labels, n_devices)
    return [np.sort(part) for part in np.array_split(rng.permutation(len(labels)), n_devices)]


def dirichlet(labels: NDArray[np.int64], n_devices: int, alpha: float, rng: np.random.Generator) -> list[Rows]:
    """Deals out each label's rows by shares drawn from Dirichlet(``alpha``): the smaller alpha, the more skewed.

    As in Hsu et al. 2019 (arXiv 1909.06335) with the roles of label and device exchanged (Li et al. 2022, arXiv
    2102.02079, "distribution-based label imbalance"). A device that got nothing takes one row, drawn at random, from
    the device that holds the most (the lowest id among equals), so that no device is ever empty.

    Raises:
        ShortageError: fewer samples than devices.
        DataError: ``alpha`` is not positive.
    """
    _check(labels, n_devices)
    if not alpha > 0:
        raise DataError(f"the Dirichlet partition needs alpha above 0, got {alpha!r}")
    parts: list[list[int]] = [[] for _ in range(n_devices)]
    for label in np.unique(labels):
        rows = rng.permutation(np.flatnonzero(labels == label))
        cuts = np.round(np.cumsum(dirichlet_shares(n_devices, alpha, rng))[:-1] * len(rows)).astype(np.int64)
        for part, dealt in zip(parts, np.split(rows, cuts), strict=True):
            part.extend(dealt.tolist())
    _fill(parts, 1, rng)
    return [np.array(sorted(part), dtype=np.int64) for part in parts]


def label_histograms(labels: NDArray[np.int64], parts: Sequence[Rows], n_labels: int) -> NDArray[np.int64]:
    """How many rows of each label every device holds, ``(n_devices, n_labels)``."""
    counts = [np.bincount(labels[part], minlength=n_labels) for part in parts]
    return np.stack(counts).astype(np.int64)


def dirichlet_shares(n_devices: int, alpha: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """One draw of Dirichlet(alpha, ..., alpha); where a tiny alpha lets all gammas underflow, its limit: one device."""
    gammas = rng.gamma(alpha, size=n_devices)
    total = gammas.sum()
    if not total > 0:
        gammas[rng.integers(n_devices)] = total = 1.0
    shares: NDArray[np.float64] = gammas / total
    return shares


def _fill(parts: list[list[int]], least: int, rng: np.random.Generator) -> None:
    """Moves rows in place until each has ``least``: one at a time, from the lowest id among those with most."""
    sizes = np.array([len(part) for part in parts])
    for poor in np.flatnonzero(sizes < least):
        while sizes[poor] < least:
            donor = int(np.argmax(sizes))
            parts[poor].append(parts[donor].pop(int(rng.integers(sizes[donor]))))
            sizes[donor] -= 1
            sizes[poor] += 1


def raised(parts: Sequence[Rows], least: int, rng: np.random.Generator) -> list[Rows]:
    """``parts`` with at least ``least`` rows each: who has fewer takes rows, drawn at random, of whoever has most.

    Raises:
        ShortageError: there are not so many rows.
    """
    _check_minimum(sum(map(len, parts)), len(parts), least)
    held = [part.tolist() for part in parts]
    _fill(held, least, rng)
    return [np.array(sorted(part), dtype=np.int64) for part in held]


def apportioned(shares: NDArray[np.float64], n: int) -> NDArray[np.int64]:
    """``n`` rows in proportion to ``shares``, as whole numbers: by largest remainders, the first of equals first."""
    quotas = n * shares / shares.sum()
    sizes: NDArray[np.int64] = np.floor(quotas).astype(np.int64)
    sizes[np.argsort(sizes - quotas, kind="stable")[: n - int(sizes.sum())]] += 1
    return sizes


def _check(labels: NDArray[np.int64], n_devices: int) -> None:
    if n_devices < 1:
        raise DataError(f"a partition needs at least 1 device, got {n_devices!r}")
    _check_minimum(len(labels), n_devices, 1)


def _check_minimum(n_rows: int, n_devices: int, least: int) -> None:
    if n_rows < least * n_devices:
        needed = "one" if least == 1 else f"{least} (data.partition.min_examples)"
        raise ShortageError(
            f"{n_rows} training samples cannot be shared out among {n_devices} devices, each needs at least {needed}; "
            "use more data or fewer devices"
        )
