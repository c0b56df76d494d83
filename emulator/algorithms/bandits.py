"""A bandit over a continuous box that refines where it plays: a tree of boxes with discounted upper confidence bounds.

Upper confidence bounds with discounted rewards: Garivier and Moulines 2008, arXiv 0805.3415, section 2 (from memory).
Splitting a leaf at the played point, as in E-UCB of "FedMP" (Jiang et al. 2022): from memory.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Point = tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Box:
    """A leaf: all points ``p`` with ``low <= p < high``, and those on the upper border of the whole space."""

    low: Point
    high: Point

    @property
    def diameter(self) -> float:
        """The longest side."""
        return max(high - low for low, high in zip(self.low, self.high, strict=True))

    def holds(self, points: NDArray[np.float64]) -> NDArray[np.bool_]:
        """For each of ``points (n, n_dimensions)`` whether it lies in this box."""
        low, high = np.asarray(self.low), np.asarray(self.high)
        inside: NDArray[np.bool_] = ((low <= points) & ((points < high) | (high == 1.0))).all(axis=1)
        return inside

    def split(self, point: Sequence[float]) -> tuple["Box", "Box"]:
        """Two boxes, cut across the longest side at ``point``; in the middle if the point is too near to an end."""
        sides = [high - low for low, high in zip(self.low, self.high, strict=True)]
        axis = sides.index(max(sides))
        margin = 0.1 * sides[axis]
        at = point[axis]
        if not self.low[axis] + margin <= at <= self.high[axis] - margin:
            at = self.low[axis] + 0.5 * sides[axis]
        below = (*self.high[:axis], at, *self.high[axis + 1 :])
        above = (*self.low[:axis], at, *self.low[axis + 1 :])
        return Box(self.low, below), Box(above, self.high)


@dataclass(kw_only=True)
class PartitionBandit:
    """Chooses points of the unit box of ``n_dimensions``, from the rewards of earlier points.

    With discount ``λ``, a leaf ``j`` has the weight ``N_j = Σ λ^(t-s) 1{a_s in j}`` and the mean reward
    ``R_j = Σ λ^(t-s) R_s 1{a_s in j} / N_j`` over the plays ``s`` so far; the leaf with the largest
    ``R_j + c sqrt(2 ln(Σ N) / N_j)`` is played next, one without any play first. A point of it is drawn, and the leaf
    is split there once the reward is known, while its diameter is above ``smallest``. Time passes with each call of
    :meth:`record`, be it about one play or about several.

    Where several play side by side, each chooses as if those before it had brought what their leaf brings on average:
    what is not rewarded yet adds to ``N_j`` and leaves ``R_j`` alone (as in the batches of Desautels et al. 2014, where
    the confidence bound shrinks before the reward is known; from memory).

    Args:
        n_dimensions: of the box.
        discount: λ, for each record.
        exploration: c.
        smallest: θ, leaves of this diameter or less are not split.
    """

    n_dimensions: int
    discount: float
    exploration: float
    smallest: float
    leaves: list[Box] = field(init=False)
    _points: list[Point] = field(default_factory=list, init=False, repr=False)
    _rewards: list[float] = field(default_factory=list, init=False, repr=False)
    _times: list[int] = field(default_factory=list, init=False, repr=False)
    _now: int = field(default=0, init=False, repr=False)

    def __post_init__(self) -> None:
        self.leaves = [Box((0.0,) * self.n_dimensions, (1.0,) * self.n_dimensions)]

    def choose(self, rng: np.random.Generator) -> Point:
        """A point of the most promising leaf, drawn from ``rng``."""
        return self.choose_several(1, rng)[0]

    def choose_several(self, n_points: int, rng: np.random.Generator) -> list[Point]:
        """Points for ``n_points`` that play side by side."""
        statistics, points = self.statistics(), []
        for _ in range(n_points):
            bounds = self._bounds(statistics)
            index = bounds.index(max(bounds))
            leaf, (weight, mean) = self.leaves[index], statistics[index]
            points.append(tuple(float(at) for at in rng.uniform(leaf.low, leaf.high)))
            statistics[index] = (weight + 1, mean)
        return points

    def record(self, point: Sequence[float], reward: float) -> None:
        """What playing ``point`` was worth."""
        self.record_several([(tuple(point), reward)])

    def record_several(self, plays: Sequence[tuple[Point, float]]) -> None:
        """What playing each point was worth, of plays at one time."""
        self._now += 1
        for point, reward in plays:
            self._points.append(point)
            self._rewards.append(reward)
            self._times.append(self._now)
            index = next(number for number, leaf in enumerate(self.leaves) if leaf.holds(np.array([point]))[0])
            if self.leaves[index].diameter > self.smallest:
                self.leaves[index : index + 1] = self.leaves[index].split(point)

    def statistics(self) -> list[tuple[float, float]]:
        """``(N_j, R_j)`` of each leaf; ``R_j`` is 0 where nothing was played."""
        weights = self.discount ** (self._now - np.asarray(self._times, dtype=np.int64))
        points, rewards = np.reshape(self._points, (-1, self.n_dimensions)), np.asarray(self._rewards)
        found = []
        for leaf in self.leaves:
            inside = leaf.holds(points)
            weight = float(weights[inside].sum())
            total = float((weights * rewards)[inside].sum())
            found.append((weight, total / weight if weight else 0.0))
        return found

    def bounds(self) -> list[float]:
        """The upper confidence bound of each leaf."""
        return self._bounds(self.statistics())

    def _bounds(self, statistics: Sequence[tuple[float, float]]) -> list[float]:
        log_total = math.log(max(1.0, sum(weight for weight, _ in statistics)))
        return [
            mean + self.exploration * math.sqrt(2 * log_total / weight) if weight else math.inf
            for weight, mean in statistics
        ]
