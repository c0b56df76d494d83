"""Ranks of adapters: schedules of a budget, votes and the final word, and the norms of products of low rank.

Products ``B A`` are never formed: only factors of a few rows are multiplied.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from emulator.records import Arrays

RankMask = NDArray[np.bool_]


def cubic_budget(round_index: int, first: int, last: int, warm_up: int, decline: int) -> int:
    """The ranks that are left in a round: ``first`` until ``warm_up``, then falling to ``last`` in ``decline`` rounds.

    ``b(t) = b_T + (b_0 - b_T) (1 - (t - t_i) / (T - t_i - t_f))^3`` in between, rounded down: AdaLoRA's schedule (Zhang
    et al. 2023, arXiv 2303.10512, equation 12, and PEFT's code), with rounds for its steps. ``t_i`` is ``warm_up`` and
    ``T - t_i - t_f`` is ``decline``.
    """
    done = round_index - warm_up
    if done <= 0:
        return first
    if done >= decline:
        return last
    return int((first - last) * (1 - done / decline) ** 3 + last)


def highest(scores: NDArray[np.floating], n: int) -> RankMask:
    """Marks the ``n`` highest of ``scores``; of equal ones, those that come first."""
    chosen = np.zeros(len(scores), dtype=bool)
    chosen[np.argsort(-scores, kind="stable")[:n]] = True
    return chosen


def arbitrated(
    held: RankMask, votes: Sequence[RankMask], weights: Sequence[float], sizes: NDArray[np.floating], n: int
) -> RankMask:
    """The ``n`` ranks of ``held`` that stay: those with the largest share of the votes, by ``sizes`` where equal.

    Args:
        held: which ranks there are; none that is not held comes back.
        votes: for each voter a mask over the held ranks alone, in their order.
        weights: of the voters.
        sizes: of all ranks, to decide between equal shares.
        n: the budget; where fewer ranks are held, all of them stay.

    Without a voter every rank stays.
    """
    if not votes:
        return held.copy()
    shares = np.average(np.stack(votes).astype(np.float64), axis=0, weights=np.asarray(weights, np.float64))
    ranking = np.lexsort((-sizes[held], -np.round(shares, 12)))  # shares that differ by rounding alone are equal
    places = np.flatnonzero(held)[ranking[:n]]
    kept = np.zeros_like(held)
    kept[places] = True
    return kept


def product_norm(lora_a: NDArray[np.float32], lora_b: NDArray[np.float32]) -> float:
    """``||B A||_F`` of ``lora_a (r, in)`` and ``lora_b (out, r)``: ``sqrt(tr((B'B)(A A')))``, in float64.

    Both inner products are symmetric ``(r, r)``, so the trace is the sum of their element-wise product.
    """
    a, b = lora_a.astype(np.float64), lora_b.astype(np.float64)
    squared = float(np.sum((b.T @ b) * (a @ a.T)))
    return math.sqrt(max(squared, 0.0))  # rounding may leave a tiny negative number where it should be 0


def adapters_norm(arrays: Arrays) -> float:
    """The Frobenius norm of all products ``B A`` of a payload together, the root of the sum of their squares."""
    pairs = [name.removesuffix("lora_A") for name in arrays if name.endswith("lora_A")]
    norms = [product_norm(arrays[f"{place}lora_A"], arrays[f"{place}lora_B"]) for place in pairs]
    return math.sqrt(sum(norm**2 for norm in norms))


def best_factors(
    product: NDArray[np.floating], rank: int, scaling: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """``lora_b (out, rank)`` and ``lora_a (rank, in)`` whose ``scaling · B A`` is nearest to ``product (out, in)``.

    ``B = U_r S_r / scaling`` and ``A = V_r'`` of the singular value decomposition ``U S V'``, largest values first: the
    best approximation of its rank (Eckart and Young 1936), and its first rows and columns are the best of any smaller
    rank. Each row of A has its largest entry positive, so that the signs, which are free, are always the same.

    Args:
        product: the matrix. Where a number in it is not finite, none of the factors is.
        rank: at most the smaller side.
        scaling: of the adapter.
    """
    if not np.isfinite(product).all():
        broken = np.full((sum(product.shape), rank), np.nan, np.float32)
        return broken[: len(product)], broken[len(product) :].T
    left, sizes, right = np.linalg.svd(product.astype(np.float64), full_matrices=False)
    lora_b, lora_a = left[:, :rank] * (sizes[:rank] / scaling), right[:rank]
    largest = np.take_along_axis(lora_a, np.abs(lora_a).argmax(axis=1)[:, None], axis=1)
    signs = np.where(largest < 0, -1.0, 1.0)
    return (lora_b * signs[:, 0]).astype(np.float32), (lora_a * signs).astype(np.float32)
