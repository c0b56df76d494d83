"""Genetic search for a subset of devices: bit masks that cross over and mutate, repaired to what a budget allows."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Masks = NDArray[np.bool_]
Vector = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class SubsetSearch:
    """What a subset may hold, and how long the search goes on.

    ``weights (n_devices,)`` of its members add up to at most ``budget``, and it has at most ``n_most`` of them, but at
    least one. Where a subset exceeds either, members of the lowest ``priorities`` leave first, equal ones in random
    order. Members of the first population are drawn by priority (a roulette wheel).
    """

    weights: Vector
    priorities: Vector
    budget: float
    n_most: int
    population: int = 40
    n_generations: int = 60
    n_elite: int = 2

    def run(
        self, costs: Callable[[Masks], Vector], rng: np.random.Generator, good_enough: float = -np.inf
    ) -> NDArray[np.int64]:
        """The members of the best subset that was found, in ascending order.

        Parents are winners of tournaments between two; children come from one-point crossover, and each bit flips with
        a probability of one in ``n_devices``. The search ends early with a subset whose cost is at most
        ``good_enough``.

        Args:
            costs: gives ``(n_masks,)`` for ``(n_masks, n_devices)``; the less, the better.
            rng: the source of chance.
            good_enough: a cost that need not be improved on.
        """
        masks = self._repaired(self._roulette(rng), rng)
        found = costs(masks)
        for _ in range(self.n_generations):
            if found.min() <= good_enough:
                break
            elite = np.argsort(found, kind="stable")[: self.n_elite]
            children = self._repaired(self._children(masks, found, rng), rng)
            children[: self.n_elite] = masks[elite]
            masks, found = children, costs(children)
        return np.flatnonzero(masks[int(np.argmin(found))])

    def _roulette(self, rng: np.random.Generator) -> Masks:
        """``n_most`` members each, drawn without replacement in proportion to the priorities."""
        n_devices = len(self.priorities)
        # The largest of log-weights with Gumbel noise are such a draw (Efraimidis and Spirakis 2006, in logarithms).
        keys = np.log(self.priorities) + rng.gumbel(size=(self.population, n_devices))
        chosen = np.argsort(-keys, axis=1, kind="stable")[:, : self.n_most]
        masks = np.zeros((self.population, n_devices), dtype=bool)
        np.put_along_axis(masks, chosen, True, axis=1)
        return masks

    def _children(self, masks: Masks, found: Vector, rng: np.random.Generator) -> Masks:
        pairs = rng.integers(self.population, size=(2, self.population, 2))
        winners = np.where(found[pairs[..., 0]] <= found[pairs[..., 1]], pairs[..., 0], pairs[..., 1])
        n_devices = masks.shape[1]
        points = rng.integers(1, max(2, n_devices), size=(self.population, 1))
        children = np.where(np.arange(n_devices) < points, masks[winners[0]], masks[winners[1]])
        flipped: Masks = children ^ (rng.random(children.shape) < 1 / n_devices)
        return flipped

    def _repaired(self, masks: Masks, rng: np.random.Generator) -> Masks:
        """Members stay by priority, as many as the budget and ``n_most`` allow; the first one always does."""
        order = np.lexsort((rng.random(masks.shape), np.broadcast_to(-self.priorities, masks.shape)), axis=1)
        masks = masks.copy()
        empty = ~masks.any(axis=1)
        masks[empty, order[empty, 0]] = True
        sorted_masks = np.take_along_axis(masks, order, axis=1)
        position = np.cumsum(sorted_masks, axis=1)
        weight = np.cumsum(np.where(sorted_masks, self.weights[order], 0.0), axis=1)
        stays = sorted_masks & (position <= self.n_most) & ((weight <= self.budget) | (position == 1))
        kept = np.zeros_like(masks)
        np.put_along_axis(kept, order, stays, axis=1)
        return kept
