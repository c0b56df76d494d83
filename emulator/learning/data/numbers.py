"""Texts, or pairs of them, each with a number."""

import math
from collections.abc import Sequence
from decimal import Decimal
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emulator.errors import DataError
from emulator.learning.data.annotated import Annotated, AnnotatedTexts, load_annotated
from emulator.learning.data.source import DataSource
from emulator.learning.data.tables import shown

N_BINS = 10
"""So many bins with about as many training rows each stand for labels."""
ROWS_PER_BIN = 10
"""Fewer bins where fewer rows would be in each."""
MOST = 1e30
"""Whose square a float32 still has."""


class Numbers:
    """Cells are numbers; strata are bins between quantiles of the training rows, at most :data:`N_BINS`."""

    kind = "regression"

    def __init__(self) -> None:
        self._edges = np.zeros(0)

    def value(self, cell: Any) -> float:
        if isinstance(cell, list | tuple | dict | set | np.ndarray | bytes | bool):
            raise ValueError(f"a {type(cell).__name__} for a number")
        if cell is None or (isinstance(cell, float) and math.isnan(cell)) or not str(cell).strip():
            raise ValueError("a missing number")
        try:
            number = float(cell) if isinstance(cell, int | float | Decimal) else float(str(cell).strip())
        except (ValueError, OverflowError):
            number = math.nan
        if not abs(number) <= MOST:
            raise ValueError(f"{shown(str(cell))!r}, which is no number,")
        return number

    def is_hidden(self, values: Sequence[float]) -> bool:
        return set(values) <= {-1.0}

    def learn(self, train: AnnotatedTexts, where: str) -> None:
        values = np.array(train.values)
        if len(np.unique(values)) < 2:
            raise DataError(f"{where} has the number {values[0]:g} in all rows, so that there is nothing to be learnt")
        n_bins = max(1, min(N_BINS, len(values) // ROWS_PER_BIN))
        edges = np.unique(np.quantile(values, np.arange(1, n_bins) / n_bins, method="higher"))
        self._edges = edges[edges > values.min()]

    def check(self, test: AnnotatedTexts, where: str) -> None:
        """Any number may be asked for."""

    def names(self) -> tuple[str, ...]:
        ends = [f"{edge:.6g}" for edge in self._edges]
        if not ends:
            return ()
        return (f"below {ends[0]}", *(f"{low} to {high}" for low, high in pairwise(ends)), f"{ends[-1]} or more")

    def strata(self, values: Sequence[float]) -> NDArray[np.int64]:
        bins: NDArray[np.int64] = np.searchsorted(self._edges, np.array(values), side="right").astype(np.int64)
        return bins


def load_numbers(data: DataSource, seed: int) -> Annotated:
    """The texts of ``data`` with their numbers.

    Raises:
        DataError: they cannot be read, or a cell is no number.
    """
    return load_annotated(data, Numbers(), seed)
