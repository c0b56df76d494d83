"""Draws of rows in which every class keeps its share."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from emulator.errors import DataError


def at_most(labels: NDArray[np.int64], n_most: int | None, rng: np.random.Generator) -> NDArray[np.int64]:
    """All rows, or a stratified draw of ``n_most`` of them; in ascending order."""
    if n_most is None or n_most >= len(labels):
        return np.arange(len(labels))
    return stratified(labels, n_most, rng)


def hold_out(
    labels: NDArray[np.int64], fraction: float, rng: np.random.Generator, source: str
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The rows of ``source`` for training, and those held out; a class with two rows or more has one of each.

    Raises:
        DataError: one of them would be empty.
    """
    held_out = stratified(labels, round(fraction * len(labels)), rng, leaves_all=True)
    if not 0 < len(held_out) < len(labels):
        left = "training; lower it" if len(held_out) else "evaluation, since no class has two; add rows"
        raise DataError(
            f"data.test_fraction: {fraction!r} of the {len(labels)} rows of {source!r} leaves none for {left}, or give "
            "data.test_source"
        )
    return np.setdiff1d(np.arange(len(labels)), held_out), held_out


def hold_out_of_each(
    parts: Sequence[NDArray[np.int64]], fraction: float | None, rng: np.random.Generator
) -> tuple[list[NDArray[np.int64]], list[NDArray[np.int64]]]:
    """What each device trains on, and what it holds out of its own rows, both in ascending order.

    It holds out ``fraction`` of them, at least one, and keeps one at least to train on; nothing without a fraction.
    """
    kept, held_out = [], []
    for part in parts:
        n_held_out = min(max(round(fraction * len(part)), 1), len(part) - 1) if fraction else 0
        order = rng.permutation(part) if n_held_out else part
        held_out.append(np.sort(order[:n_held_out]))
        kept.append(np.sort(order[n_held_out:]))
    return kept, held_out


def stratified(
    labels: NDArray[np.int64], n_chosen: int, rng: np.random.Generator, *, leaves_all: bool = False
) -> NDArray[np.int64]:
    """``n_chosen`` (at least 1) rows with the labels in proportion, by largest remainders; in ascending order.

    As far as there are enough rows, no class is left without one: a class that would be takes one from the class with
    the most. With ``leaves_all`` every class also keeps a row that is not drawn.
    """
    n_chosen = min(max(n_chosen, 1), len(labels))
    kinds, counts = np.unique(labels, return_counts=True)
    quotas = n_chosen * counts / len(labels)
    sizes = np.floor(quotas).astype(np.int64)
    sizes[np.argsort(sizes - quotas, kind="stable")[: n_chosen - sizes.sum()]] += 1
    sizes = _spread(sizes, counts - 1 if leaves_all and n_chosen < len(labels) else counts)
    drawn = [rng.permutation(np.flatnonzero(labels == kind))[:size] for kind, size in zip(kinds, sizes, strict=True)]
    return np.sort(np.concatenate(drawn))


def _spread(sizes: NDArray[np.int64], most: NDArray[np.int64]) -> NDArray[np.int64]:
    """``sizes`` with no more than ``most`` of each kind, and none of a kind only where there is no other way."""
    spread = np.minimum(sizes, most)
    left = int(sizes.sum() - spread.sum())
    for kind in np.argsort(spread - most, kind="stable"):  # where the most room is
        taken = min(left, int(most[kind] - spread[kind]))
        spread[kind] += taken
        left -= taken
    for kind in np.flatnonzero((spread == 0) & (most > 0)):
        richest = int(np.argmax(spread))
        if spread[richest] > 1:
            spread[richest] -= 1
            spread[kind] = 1
    return spread
