"""Dividing devices into groups of near-equal size whose data, taken together, resemble the data of all.

How far label distributions are apart is said by Kullback-Leibler divergences of rows of probabilities.
"""

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]
Groups = NDArray[np.int64]
"""The number of each device's group, from 0."""

MOST_PASSES = 20
"""How often every device looks for a better place; a handful of passes is usually enough."""
MOST_PARTNERS = 256
"""How many others a device looks at in a pass, drawn at random where there are more."""
EXCESS_WEIGHT = 1000.0
"""What a nat beyond a bound on the divergence counts: more than any spread of speeds can."""


def random_groups(n_devices: int, n_groups: int, rng: np.random.Generator) -> Groups:
    """Groups by chance alone; their sizes differ by one at most."""
    return rng.permutation(np.arange(n_devices) % n_groups)


def near_iid_groups(
    histograms: Vector,
    log_speeds: Vector,
    n_groups: int,
    speed_weight: float,
    rng: np.random.Generator,
    divergence_bound: float = np.inf,
) -> Groups:
    """Groups that resemble one another in their labels, and whose members resemble one another in speed.

    Lowers ``sum_g KL(Phi_g || Phi_0) + speed_weight * std of g's log speeds`` (reconstructed from what HierFedLoRA,
    arXiv 2503.21213, aims at). Devices of like speed share a group to begin with. Then each device in turn, in random
    order, changes places with the device of another group that lowers the sum most, until nobody finds one.

    With a ``divergence_bound`` in nat, what a group's divergence exceeds it by counts :data:`EXCESS_WEIGHT` times more:
    a constraint, kept wherever exchanges can keep it, within which the sum is lowered as before.
    """
    n_devices = len(histograms)
    order = np.lexsort((rng.permutation(n_devices), -log_speeds))
    groups = np.empty(n_devices, dtype=np.int64)
    groups[order] = np.sort(np.arange(n_devices) % n_groups)
    exchange = _Exchange(np.asarray(histograms, np.float64), log_speeds, groups, speed_weight, divergence_bound)
    for _ in range(MOST_PASSES):
        changes = [exchange.improve(int(device), rng) for device in rng.permutation(n_devices)]
        if not any(changes):
            break
    return exchange.groups


class _Exchange:
    """Groups under improvement, with the sums over their members that their costs follow from.

    A row of ``sums`` holds the group's examples by label, its size, and the sums of its log speeds and their squares.
    """

    def __init__(
        self,
        histograms: Vector,
        log_speeds: Vector,
        groups: Groups,
        speed_weight: float,
        divergence_bound: float,
    ) -> None:
        self.groups = groups
        self._n_labels = histograms.shape[1]
        self._reference = _shares(histograms.sum(axis=0))
        self._speed_weight = speed_weight
        self._divergence_bound = divergence_bound
        speeds = np.stack((np.ones(len(log_speeds)), log_speeds, log_speeds**2), axis=1)
        self._members = np.concatenate((histograms, speeds), axis=1)
        self._sums = _sums_by_group(self._members, groups)
        self._costs = self._cost(self._sums)

    def improve(self, device: int, rng: np.random.Generator) -> bool:
        """Let ``device`` change places with whoever lowers the cost most, if anybody does."""
        own = self.groups[device]
        partners = np.flatnonzero(self.groups != own)
        if len(partners) > MOST_PARTNERS:
            partners = np.sort(rng.choice(partners, MOST_PARTNERS, replace=False))
        if not len(partners):
            return False
        others = self.groups[partners]
        change = self._members[partners] - self._members[device]
        own_sums, other_sums = self._sums[own] + change, self._sums[others] - change
        own_costs, other_costs = self._cost(own_sums), self._cost(other_sums)
        gains = self._costs[own] + self._costs[others] - own_costs - other_costs
        best = int(np.argmax(gains))
        if gains[best] < 1e-9:  # beyond rounding, or two might change places for ever
            return False
        other = others[best]
        self.groups[device], self.groups[partners[best]] = other, own
        self._sums[own], self._sums[other] = own_sums[best], other_sums[best]
        self._costs[own], self._costs[other] = own_costs[best], other_costs[best]
        return True

    def _cost(self, sums: Vector) -> Vector:
        labels, (sizes, speeds, squares) = sums[..., : self._n_labels], np.moveaxis(sums[..., self._n_labels :], -1, 0)
        variances = np.maximum(0.0, squares / sizes - (speeds / sizes) ** 2)
        divergences = kl_divergence(_shares(labels), self._reference)
        excess = np.maximum(0.0, divergences - self._divergence_bound)
        cost: Vector = divergences + self._speed_weight * np.sqrt(variances) + EXCESS_WEIGHT * excess
        return cost


def _sums_by_group(values: Vector, groups: Groups) -> Vector:
    sums = np.zeros((int(groups.max()) + 1, values.shape[1]))
    np.add.at(sums, groups, values)
    return sums


def _shares(counts: Vector) -> Vector:
    totals = counts.sum(axis=-1, keepdims=True)
    shares: Vector = counts / np.where(totals > 0, totals, 1.0)
    return shares


def label_distributions(histograms: NDArray[np.int64]) -> Vector:
    """Each row of counts ``(n_devices, n_labels)`` as shares of its sum, which is positive."""
    counts = np.asarray(histograms, np.float64)
    shares: Vector = counts / counts.sum(axis=1, keepdims=True)
    return shares


def kl_divergence(shares: Vector, reference: Vector) -> Vector:
    """``sum_k p_k log(p_k / q_k)`` in nat, for each row ``p`` of ``shares (..., n_labels)`` and one ``reference``.

    A label that a row lacks adds nothing; one that only the reference lacks makes the divergence infinite.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(shares > 0, shares * np.log(shares / reference), 0.0)
    total: Vector = terms.sum(axis=-1)
    return total


def mixtures(weights: Vector, shares: Vector) -> Vector:
    """The distributions of examples drawn by ``weights (..., n_devices)`` from rows of ``shares``: ``(..., n_labels)``.

    Weights that are all zero give zeros.
    """
    totals = weights.sum(axis=-1, keepdims=True)
    mixed: Vector = weights @ shares / np.where(totals > 0, totals, 1.0)
    return mixed
