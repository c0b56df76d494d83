"""Max-min fair division of capacity: nobody can get more without someone who has less, or as much, getting less.

Every flow has a cap of its own (the rate of its link) and competes on up to two shared resources. Max-min fairness and
its algorithm, progressive filling, are those of Bertsekas and Gallager, Data Networks, 2nd edition 1992, section 6.5.2:
all flows rise together until a resource is full, its flows stay where they are, the others rise on.
"""

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]


def water_level(caps: Vector, capacity: float) -> float:
    """The level at which flows that are served up to ``min(cap, level)`` fill ``capacity``; infinite where all fit.

    Flows with a cap of 0 take no part. Starting with an equal share for all, what flows of small caps leave is divided
    among the others, until none of those has a smaller cap than its share.
    """
    if np.add.reduce(caps) <= capacity:
        return float("inf")
    n_above = int(np.count_nonzero(caps))
    level = capacity / n_above
    while True:
        n_still_above = int(np.count_nonzero(caps > level))
        if n_still_above in (0, n_above):  # 0 by rounding only: the caps add up to the capacity but for the last bit
            return level
        n_above = n_still_above
        level += (capacity - float(np.add.reduce(np.minimum(caps, level)))) / n_above


def cut_rates(alone: Vector, caps: Vector, resources: NDArray[np.int64], capacities: Vector) -> Vector | None:
    """What :func:`max_min_rates` gives, quickly, or None where it takes more than cutting down what is too much.

    ``alone`` are the fair rates on the first resource of each flow by itself. Where a second resource is short, rates
    are cut at its level. That is max-min fair as long as nobody on the first resources could use what is cut off.
    """
    levels = np.full(len(capacities), np.inf)
    for resource in np.flatnonzero(np.bincount(resources[1], alone, minlength=len(capacities)) > capacities):
        levels[resource] = water_level(np.where(resources[1] == resource, alone, 0.0), float(capacities[resource]))
    rates = np.minimum(alone, levels[resources[1]])
    is_cut = rates < alone
    leaves_room = np.zeros(len(capacities), np.bool_)
    leaves_room[resources[0, is_cut]] = True
    wants_more = ~is_cut & (alone < caps)
    return None if (leaves_room[resources[0]] & wants_more).any() else rates


def max_min_rates(caps: Vector, resources: NDArray[np.int64], capacities: Vector) -> Vector:
    """The max-min fair rates of flows that compete on two resources each.

    Args:
        caps: what each flow can use, shape ``(n_flows,)``.
        resources: the resources that each flow uses, shape ``(2, n_flows)``, as indices of ``capacities``.
        capacities: what each resource can serve, shape ``(n_resources,)``; infinite where it sets no limit.
    """
    rates = caps.copy()
    left = capacities.copy()
    is_open = caps > 0
    while True:
        levels = _levels(caps, resources, left, is_open)
        level_of_flow = levels[resources].min(axis=0)
        if not np.isfinite(level_of_flow[is_open]).any():
            return rates
        # A resource is settled when no flow of it is held lower by another one: more capacity elsewhere, which is all
        # that settling others can bring, does not change it any more.
        lowest = np.full(len(capacities), np.inf)
        for used in resources:
            np.minimum.at(lowest, used[is_open], level_of_flow[is_open])
        is_settled = np.isfinite(levels) & (levels <= lowest)
        is_served = is_open & is_settled[resources].any(axis=0)
        rates[is_served] = np.minimum(caps, level_of_flow)[is_served]
        for used in resources:
            left -= np.bincount(used, np.where(is_served, rates, 0.0), minlength=len(left))
        np.maximum(left, 0.0, out=left)
        is_open &= ~is_served


def _levels(caps: Vector, resources: NDArray[np.int64], left: Vector, is_open: NDArray[np.bool_]) -> Vector:
    """The water level of each resource, if it were the only one, for the flows that are still open."""

    def total(values: Vector) -> Vector:
        """Sums by resource of what each flow has, or has on its first and second resource."""
        first, second = np.broadcast_to(values, resources.shape)
        sums = np.bincount(resources[0], first, minlength=len(left))
        return np.asarray(sums + np.bincount(resources[1], second, minlength=len(left)), dtype=np.float64)

    wanted = np.where(is_open, caps, 0.0)
    is_scarce = total(wanted) > left
    n_above = total(is_open.astype(np.float64))
    levels = np.where(is_scarce, left / np.maximum(n_above, 1), np.inf)
    while True:
        is_above = is_open & (caps > levels[resources])
        n_still_above = total(is_above.astype(np.float64))
        changes = is_scarce & (n_still_above > 0) & (n_still_above < n_above)
        if not changes.any():
            return levels
        served = total(np.where(is_above, 0.0, wanted))
        levels[changes] = (left - served)[changes] / n_still_above[changes]
        n_above = np.where(changes, n_still_above, n_above)
