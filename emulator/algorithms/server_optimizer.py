"""Server optimizers: the mean that a round came to is a direction, in which the server takes a step of its own."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from emulator.records import Arrays

Moments = Mapping[str, Mapping[str, NDArray[np.float32]]]
"""What an optimizer keeps from round to round: by ``mean`` and ``square``, arrays of the server state's shapes."""

NO_MOMENTS: Moments = {}
ServerOptimizerName = Literal["fedavgm", "fedadagrad", "fedadam", "fedyogi"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerOptimizer:
    """One of FedAvgM (Hsu et al. 2019, arXiv 1909.06335) and FedAdagrad, FedAdam and FedYogi (Reddi et al. 2021, arXiv
    2003.00295, algorithm 2).

    With Delta what a round changed in the server state x, FedAvgM keeps ``m <- momentum m + Delta`` and takes the step
    ``x <- x + learning_rate m``. The others keep ``m <- momentum m + (1 - momentum) Delta`` and a second moment ``v``,
    which begins at ``adaptivity ** 2``, and take the step ``learning_rate m / (sqrt(v) + adaptivity)``. No moment is
    corrected for where it began.

    Attributes:
        learning_rate: eta of the papers.
        momentum: beta_1.
        decay: beta_2, of the second moment of FedAdam and FedYogi.
        adaptivity: tau.
    """

    name: ServerOptimizerName
    learning_rate: float
    momentum: float = 0.9
    decay: float = 0.99
    adaptivity: float = 1e-3

    def step(self, before: Arrays, after: Arrays, moments: Moments) -> tuple[Arrays, Moments]:
        """The server state and the moments after a round that began with ``before`` and came to ``after``.

        A round that changes nothing, as where no update comes back, is no step. What was not there in the round before
        begins anew. Computed in float64, kept in float32.
        """
        if all(np.array_equal(array, before[name]) for name, array in after.items()):
            return after, moments
        state: dict[str, NDArray[np.float32]] = {}
        means: dict[str, NDArray[np.float32]] = {}
        squares: dict[str, NDArray[np.float32]] = {}
        for name, array in after.items():
            old = before[name].astype(np.float64)
            change = array - old
            is_known = name in moments.get("mean", {}) and moments["mean"][name].shape == array.shape
            mean = moments["mean"][name].astype(np.float64) if is_known else np.zeros_like(change)
            if self.name == "fedavgm":
                mean = self.momentum * mean + change
                step = mean
            else:
                mean = self.momentum * mean + (1 - self.momentum) * change
                square = moments["square"][name].astype(np.float64) if is_known else np.full_like(change, self._start)
                square = self._renewed(square, np.square(change))
                step = mean / (np.sqrt(square) + self.adaptivity)
                squares[name] = square.astype(np.float32)
            means[name] = mean.astype(np.float32)
            state[name] = (old + self.learning_rate * step).astype(np.float32)
        return state, {"mean": means, "square": squares}

    @property
    def _start(self) -> float:
        return self.adaptivity**2

    def _renewed(self, square: NDArray[np.float64], latest: NDArray[np.float64]) -> NDArray[np.float64]:
        """The second moment, with the square of the latest change."""
        if self.name == "fedadagrad":
            return square + latest
        if self.name == "fedyogi":
            return square - (1 - self.decay) * latest * np.sign(square - latest)
        return self.decay * square + (1 - self.decay) * latest
