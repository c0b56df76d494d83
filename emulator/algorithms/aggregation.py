"""How updates merge: pure functions over arrays in the server's coordinates and the support of each contribution."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from emulator.forms.base import AdapterForm
from emulator.records import Arrays, RemoteArrays, Update


@dataclass(frozen=True, kw_only=True, slots=True)
class Contribution:
    """One device's or group's part in an aggregation, in the server's coordinates.

    ``arrays`` leaves out what the contributor does not hold. ``support`` gives, for an array that is held in part, the
    boolean mask of the coordinates that are; an array without a mask is held whole.
    """

    weight: float
    arrays: Arrays
    support: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)


def contributions(form: AdapterForm, state: Arrays, updates: Sequence[Update]) -> list[Contribution]:
    """The updates in the server's coordinates, weighted by the devices' numbers of examples.

    A stale update counts as the change that it made to the state it started from, made to ``state`` instead, and its
    weight is discounted by :func:`staleness_discount`.
    """
    return [contribution(form, state, update, discounted_examples(update)) for update in updates]


def contribution(form: AdapterForm, state: Arrays, update: Update, weight: float) -> Contribution:
    """One update in the server's coordinates; a stale one as :func:`contributions` says."""
    embedded = form.embed(update, state)
    arrays: Arrays = embedded.arrays
    if (base := update.base) is not None:
        arrays = {name: array - base[name] + state[name] for name, array in arrays.items()}
    return Contribution(weight=weight, arrays=arrays, support=embedded.support)


def discounted_examples(update: Update) -> float:
    """The number of examples of a device, discounted by what its update has missed."""
    return update.n_examples * staleness_discount(update.staleness)


def staleness_discount(staleness: int) -> float:
    """``1 / sqrt(1 + staleness)``: what is left of the weight of an update after so many aggregations that it missed.

    FedBuff (Nguyen et al. 2022, arXiv 2106.06639, section on experiments; from memory).
    """
    return 1.0 / math.sqrt(1 + staleness)


@dataclass(frozen=True, slots=True)
class Sums:
    """What any number of contributions add up to, by array: all that their mean depends on.

    ``totals`` are the weighted sums, in float64 and the server's shapes; ``weights`` the sums of the weights, one
    number, or one for each coordinate where somebody holds the array in part. What nobody holds is absent.
    """

    totals: Mapping[str, NDArray[np.float64]]
    weights: Mapping[str, NDArray[np.float64]]


def coordinate_sums(state: Arrays, contributions: Iterable[Contribution]) -> Sums:
    """The sums over ``contributions``, in their order and in float64; each is looked at once and then let go."""
    totals: dict[str, NDArray[np.float64]] = {}
    weights: dict[str, NDArray[np.float64]] = {}
    for one in contributions:
        for name, held in one.arrays.items():
            if name not in state:
                continue
            mask = one.support.get(name)
            share = one.weight if mask is None else one.weight * mask
            if name not in totals:
                totals[name], weights[name] = np.zeros(state[name].shape), np.zeros(())
            # A plain product would be rounded to float32.
            totals[name] += np.multiply(share, held, dtype=np.float64)
            weights[name] = np.asarray(weights[name] + share)
    return Sums(totals, weights)


def added(blocks: Iterable[Sums]) -> Sums:
    """The sums over all ``blocks``, in their order; each is looked at once and then let go."""
    totals: dict[str, NDArray[np.float64]] = {}
    weights: dict[str, NDArray[np.float64]] = {}
    for block in blocks:
        for name, total in block.totals.items():
            totals[name] = totals[name] + total if name in totals else total
            weights[name] = np.asarray(weights[name] + block.weights[name]) if name in weights else block.weights[name]
    return Sums(totals, weights)


def mean_of(state: Arrays, sums: Sums) -> dict[str, NDArray[np.float32]]:
    """The mean that ``sums`` come to; a coordinate that nobody holds keeps its value in ``state``."""
    merged: dict[str, NDArray[np.float32]] = {}
    for name, old in state.items():
        if name not in sums.totals:
            merged[name] = old.astype(np.float32)
            continue
        total, weight = sums.totals[name], sums.weights[name]
        kept = np.broadcast_to(weight, old.shape) == 0
        mean = np.divide(total, weight, out=np.zeros_like(total), where=~kept)
        merged[name] = np.where(kept, old, mean).astype(np.float32)
    return merged


BLOCK_DEVICES = 128
"""Devices with neighbouring ids whose updates are added up by themselves, before the blocks are."""

Blocks = Callable[[AdapterForm, Arrays, Sequence[Update], Sequence[float]], Iterable[Sums]]
"""What adds updates up with these weights, and gives the sums of each block in the order of the device ids."""


def blocks_of(updates: Sequence[Update]) -> list[range]:
    """The places of ``updates``, which are in the order of device ids, block by block."""
    numbers = [update.device_id // BLOCK_DEVICES for update in updates]
    starts = [place for place, number in enumerate(numbers) if place == 0 or number != numbers[place - 1]]
    return [range(start, stop) for start, stop in pairwise([*starts, len(updates)])]


def block_sums(form: AdapterForm, state: Arrays, updates: Sequence[Update], weights: Sequence[float]) -> Iterator[Sums]:
    """The sums of each block of ``updates``: the same wherever a block is added up, and by however many."""
    for block in blocks_of(updates):
        yield coordinate_sums(state, (contribution(form, state, updates[at], weights[at]) for at in block))


def weighted_coordinate_mean(state: Arrays, contributions: Sequence[Contribution]) -> dict[str, NDArray[np.float32]]:
    """For each coordinate the weighted mean over those who hold it; a coordinate that nobody holds keeps its value.

    FedAvg (McMahan et al. 2017, arXiv 1602.05629, algorithm 1) where everybody holds everything; the per-layer mean
    over owners of depth-heterogeneous LoRA where not. Sums run in the order of ``contributions``, in float64.
    """
    return mean_of(state, coordinate_sums(state, contributions))


def mean_product(
    weights: Sequence[float], all_b: Sequence[NDArray[np.float32]], all_a: Sequence[NDArray[np.float32]]
) -> NDArray[np.float64]:
    """``sum p_k B_k A_k`` with ``p_k`` the share of the k-th weight: one product of the stacked factors.

    Stacking along the rank (FLoRA, Wang et al. 2024, arXiv 2409.05976, section 3) is exact, whatever the ranks.

    Args:
        weights: one number per device.
        all_b: ``(out, r_k)`` of each device.
        all_a: ``(r_k, in)`` of each device.
    """
    shares = np.asarray(weights, np.float64) / np.sum(weights)
    stacked_a = np.concatenate([share * lora_a for share, lora_a in zip(shares, all_a, strict=True)])
    product: NDArray[np.float64] = np.concatenate(all_b, axis=1).astype(np.float64) @ stacked_a
    return product


def joint_support(state: Arrays, contributions: Iterable[Contribution]) -> dict[str, NDArray[np.bool_]]:
    """The coordinates that at least one contributor holds, for each array that any of them holds in part or whole.

    Each contribution is looked at once and then let go.
    """
    joint: dict[str, NDArray[np.bool_]] = {}
    for one in contributions:
        for name in one.arrays:
            if name in state:
                mask = np.broadcast_to(one.support.get(name, np.True_), state[name].shape)
                joint[name] = joint[name] | mask if name in joint else mask.copy()
    return {name: joint[name] for name in state if name in joint}


def group_contribution(form: AdapterForm, before: Arrays, after: Arrays, updates: Sequence[Update]) -> Contribution:
    """A group's state ``after`` its inner rounds, with the coordinates that any of its ``updates`` touched."""
    support = joint_support(before, (contribution(form, before, outlined(update), 1.0) for update in updates))
    examples = {update.device_id: update.n_examples for update in updates}
    return Contribution(weight=sum(examples.values()), arrays={name: after[name] for name in support}, support=support)


def outlined(update: Update) -> Update:
    """``update`` with zeros in the place of its arrays: in their shapes, of no bytes, and fetched from nowhere.

    It supports the same coordinates, which follow from shapes and assignment alone.
    """
    payload = update.payload
    shapes = payload.shapes if isinstance(payload, RemoteArrays) else {n: array.shape for n, array in payload.items()}
    zero = np.float32(0)
    return replace(update, payload={name: np.broadcast_to(zero, shape) for name, shape in shapes.items()}, base=None)


def zero_padded_mean(state: Arrays, contributions: Sequence[Contribution]) -> dict[str, NDArray[np.float32]]:
    """For each array the weighted mean over those who hold any of it, where what a contributor lacks counts as zeros.

    The aggregation of HetLoRA (Cho et al. 2024, arXiv 2401.06432). A coordinate that nobody holds keeps its value.
    """
    padded = [
        Contribution(
            weight=contribution.weight,
            arrays={
                name: np.where(contribution.support.get(name, np.True_), array, np.float32(0))
                for name, array in contribution.arrays.items()
            },
        )
        for contribution in contributions
    ]
    held = joint_support(state, contributions)
    mean = weighted_coordinate_mean(state, padded)
    return {name: np.where(held.get(name, np.False_), mean[name], old) for name, old in state.items()}
