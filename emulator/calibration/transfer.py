"""Transfers the law of a known board to a machine of which a dozen steps were timed.

A full calibration fits four figures to some fifty settings. Here the known board's figures are the shape, and three
factors are fitted: by how much slower the machine is in arithmetic, in memory, and in what it does for every operation
and every step. That such parts are scaled by nearly the same factor is the prior, so that a part that the steps hardly
tell goes with the others. PowerTrain (arXiv 2407.13944) transfers its networks between boards and loads in this way.

With ``s`` the logarithms of the factors, sought is the least of

    sum (log(priced / timed) / ERROR)^2 + sum ((s - mean s) / APART)^2,

by Gauss and Newton's method; steps that are far off weigh less (Huber's weights), since a disturbed step is slow.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from device_profiles.records import PowerMode
from emulator.calibration.fit import FIGURES, Fit, FitError, mode_of
from emulator.calibration.measurement import MeasuredStep
from emulator.calibration.step_settings import StepSetting, shape_of
from emulator.world.price.step import StepDemand
from emulator.world.price.step_kinds import step_of
from emulator.world.price.step_time import step_time

FACTORS = ("arithmetic", "memory", "overhead")
LEAST_SAMPLES = 4
"""One more than there are factors."""

ERROR = 0.05
"""By how much the cost model misses a step of a machine that it is fitted to: full calibrations are 4 to 10 % off."""
APART = 0.5
"""By how much the logarithms of the factors of one machine differ: a factor of 1.6. Assumed."""

_PRECISION = "fp32"
_OUTLIER = 2.0  # errors of so many times ERROR weigh less
_N_TURNS, _N_HALVINGS, _CLOSE = 50, 12, 1e-9
_DIFFERENCE = 1e-4
_VAGUE = 1e-3  # what is known beforehand of the factor that all parts have in common

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]

_PRIOR: Matrix = (np.eye(len(FACTORS)) - 1 / len(FACTORS)) / APART


def samples_like(known: PowerMode, settings: Sequence[StepSetting], n_samples: int) -> tuple[StepSetting, ...]:
    """The ``n_samples`` of ``settings`` that together tell the factors best, in the order of their shapes.

    Taken one by one: each is the one that adds most to the determinant of what is known (D-optimal design), as far as
    can be told with the known board's figures.
    """
    demands = _demands(settings)
    rows = _slopes(demands, known, np.zeros(len(FACTORS))) / ERROR
    information: Matrix = _PRIOR.T @ _PRIOR + _VAGUE * np.eye(len(FACTORS))
    left = list(range(len(settings)))
    chosen: list[int] = []
    while left and len(chosen) < n_samples:
        best = max(left, key=lambda n: float(rows[n] @ np.linalg.solve(information, rows[n])))
        information = information + np.outer(rows[best], rows[best])
        chosen.append(best)
        left.remove(best)
    return tuple(sorted((settings[n] for n in chosen), key=shape_of))


def fit_like(steps: Sequence[MeasuredStep], known: PowerMode, name: str = "a known board") -> Fit:
    """The figures of ``known``, called ``name``, scaled so that ``steps`` in fp32 are priced best; its law is kept.

    ``spread`` is the standard deviation of a figure, as a share of it, from the curvature at the best factors.

    Raises:
        FitError: there are too few steps.
    """
    if len(steps) < LEAST_SAMPLES:
        raise FitError(
            f"{len(FACTORS)} factors are fitted and need at least {LEAST_SAMPLES} settings, got {len(steps)}; does the "
            "machine have enough free memory for the others?"
        )
    demands = _demands([step.setting for step in steps])
    timed = np.log([step.step_s for step in steps])
    logs = np.full(len(FACTORS), float(np.median(timed - _priced(demands, known, np.zeros(len(FACTORS))))))
    for _ in range(_N_TURNS):
        errors = _priced(demands, known, logs) - timed
        weights = _weights(errors)
        rows = np.vstack([_slopes(demands, known, logs) * weights[:, None], _PRIOR])
        wanted = -np.concatenate([errors * weights, _PRIOR @ logs])
        move = np.linalg.lstsq(rows, wanted, rcond=None)[0]
        logs, moved = _moved(demands, timed, known, logs, move)
        if moved < _CLOSE:
            break
    errors = _priced(demands, known, logs) - timed
    fit = _as_fit(known, logs, errors, _deviations(demands, known, logs, errors))
    return replace(fit, like=name)


def _as_fit(known: PowerMode, logs: Vector, errors: Vector, deviations: Vector) -> Fit:
    rate, bandwidth, dispatch_s, overhead_s = _scaled(known, logs)
    arithmetic, memory, overhead = (float(each) for each in np.expm1(deviations))
    return Fit(
        law=known.step_law,
        flop_per_s=rate,
        memory_bytes_per_s=bandwidth,
        dispatch_s=dispatch_s,
        step_overhead_s=overhead_s,
        spread=dict(zip(FIGURES, (arithmetic, memory, overhead, overhead), strict=True)),
        errors=tuple(map(float, np.expm1(errors))),
    )


def _scaled(known: PowerMode, logs: Vector) -> tuple[float, float, float, float]:
    """The figures of a machine that is slower than ``known`` by these factors, in the order of :data:`FIGURES`."""
    arithmetic, memory, overhead = (float(each) for each in np.exp(logs))
    return (
        known.effective_flop_per_s[_PRECISION] / arithmetic,
        known.memory_bytes_per_s / memory,
        known.dispatch_s * overhead,
        known.step_overhead_s * overhead,
    )


def _demands(settings: Sequence[StepSetting]) -> list[StepDemand]:
    return [step_of(setting.model, setting.work, _PRECISION).demand() for setting in settings]


def _priced(demands: Sequence[StepDemand], known: PowerMode, logs: Vector) -> Vector:
    """Logarithms of the seconds that the steps are priced at."""
    mode = mode_of(known.step_law, _scaled(known, logs), _PRECISION)
    return np.log([step_time(demand, mode, _PRECISION).step_s for demand in demands])


def _slopes(demands: Sequence[StepDemand], known: PowerMode, logs: Vector) -> Matrix:
    """How the priced logarithms change with each factor's: the share of each part in each step. (steps x factors)"""
    columns = []
    for n in range(len(FACTORS)):
        change = np.zeros(len(FACTORS))
        change[n] = _DIFFERENCE
        columns.append(_priced(demands, known, logs + change) - _priced(demands, known, logs - change))
    return np.stack(columns, axis=1) / (2 * _DIFFERENCE)


def _weights(errors: Vector) -> Vector:
    """Square roots of Huber's weights, over the error that is expected."""
    far = np.abs(errors) / (_OUTLIER * ERROR)
    return np.sqrt(1 / np.maximum(1.0, far)) / ERROR


def _cost(demands: Sequence[StepDemand], timed: Vector, known: PowerMode, logs: Vector) -> float:
    far = np.abs(_priced(demands, known, logs) - timed) / ERROR
    huber = np.where(far <= _OUTLIER, far**2, _OUTLIER * (2 * far - _OUTLIER))
    return float(np.sum(huber) + np.sum((_PRIOR @ logs) ** 2))


def _moved(
    demands: Sequence[StepDemand], timed: Vector, known: PowerMode, logs: Vector, move: Vector
) -> tuple[Vector, float]:
    """Where the cost is less in the direction of ``move``, and how far that is; where it is not, all stays."""
    before = _cost(demands, timed, known, logs)
    for _ in range(_N_HALVINGS):
        if _cost(demands, timed, known, logs + move) < before:
            return logs + move, float(np.max(np.abs(move)))
        move = move / 2
    return logs, 0.0


def _deviations(demands: Sequence[StepDemand], known: PowerMode, logs: Vector, errors: Vector) -> Vector:
    """Standard deviations of the logarithms of the factors, with errors of at least ERROR."""
    error = max(ERROR, float(np.sqrt(np.mean(errors**2))))
    rows = np.vstack([_slopes(demands, known, logs) / error, _PRIOR])
    information = rows.T @ rows + _VAGUE * np.eye(len(FACTORS))
    return np.sqrt(np.diag(np.linalg.inv(information)))
