"""Curves over the course of a run, and their mean and range over the seeds of a group."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from emulator.analysis.costs import spent
from emulator.report.packing import MOST_POINTS, numbers, thinned

Floats = NDArray[np.float64]

AXES = ("time_s", "n_rounds", "total_bytes", "energy_j")
"""What a score is drawn over: columns of :func:`~emulator.analysis.costs.spent`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunCurves:
    """One value per evaluated round, or per round for the waiting time; ``over`` has the position on each axis."""

    over: Mapping[str, Floats]
    score: Floats
    waiting_over: Floats
    mean_waiting_s: Floats


def run_curves(rounds: pd.DataFrame, score: str = "accuracy") -> RunCurves:
    """The curves of a run from its table ``rounds``; ``score`` is the column that is drawn."""
    rows = spent(rounds, score)
    evaluated = rows.dropna(subset=score)
    waiting_s = rounds["mean_waiting_s"].to_numpy(np.float64)
    return RunCurves(
        over={axis: evaluated[axis].to_numpy(np.float64) for axis in AXES},
        score=evaluated[score].to_numpy(np.float64),
        waiting_over=rounds["round_index"].to_numpy(np.float64)[~np.isnan(waiting_s)],
        mean_waiting_s=waiting_s[~np.isnan(waiting_s)],
    )


def band(curves: Sequence[tuple[Floats, Floats]]) -> dict[str, Any] | None:
    """Mean, lowest and highest value over curves ``(x, y)`` with ascending ``x``, where all of them are known.

    Between two points a curve is straight. None where no position is common to all; a single curve is its own mean.
    """
    curves = [(x, y) for x, y in curves if len(x)]
    if not curves:
        return None
    first, last = max(x[0] for x, _ in curves), min(x[-1] for x, _ in curves)
    if first > last:
        return None
    grid = np.unique(np.concatenate([x[(x >= first) & (x <= last)] for x, _ in curves]))
    grid = grid[thinned(len(grid), MOST_POINTS)]
    values = np.stack([np.interp(grid, x, y) for x, y in curves])
    return {
        "x": numbers(grid),
        "mean": numbers(values.mean(axis=0)),
        "low": numbers(values.min(axis=0)),
        "high": numbers(values.max(axis=0)),
        "n": len(curves),
    }


def line(x: Floats, y: Floats) -> dict[str, Any]:
    """One curve as it was run, thinned where it is long."""
    kept = thinned(len(x)) if len(x) else slice(0)
    return {"x": numbers(x[kept]), "y": numbers(y[kept])}
