"""Fits the figures of a profile to timed steps: a rate, a bandwidth, a time per operation and an overhead per step.

Once it is known which part of each pass holds, a step's time is linear in their reciprocals,

    step = flop / rate + bytes / bandwidth + operations x dispatch + overhead,

so all four follow from least squares without negative solutions, on relative errors, since a step of a millisecond
counts as much as one of a second. Steps that are far off weigh less (Huber's weights), as a machine that was disturbed
is always slow. Under a law by which parts run side by side, which of them holds is found by turns: the law decides at
the present figures, and the figures are fitted to that.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from device_profiles.records import PowerMode, StepLaw
from emulator.calibration.measurement import MeasuredStep
from emulator.errors import UserError
from emulator.world.price.step import StepDemand
from emulator.world.price.step_kinds import step_of
from emulator.world.price.step_time import pass_time, step_time

FIGURES = ("flop_per_s", "memory_bytes_per_s", "dispatch_s", "step_overhead_s")
_FASTEST_BYTES_PER_S = 1e13
"""Where the steps do not tell a bandwidth from an infinite one, this stands for it: more than any memory has."""

MOST_SPREAD = 1.0
"""A figure that moves by more than itself, when the steps of one model are left out, is not determined."""
MOST_MEAN_ERROR_FRACTION = 0.25
"""Steps that are further off in the mean follow no figures; those of a machine that is left alone are 4 to 10 % off."""

_N_REWEIGHTED, _N_TURNS = 10, 20
_OUTLIER_FRACTION = 0.1  # errors beyond weigh less
_FIRST_DISPATCHES_S = (1e-6, 1e-5, 1e-4)

Vector = NDArray[np.float64]


class FitError(UserError):
    """The timed steps do not tell a profile."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Fit:
    """What fits best: the figures by the name of :data:`FIGURES`, how far each may be off, and how well steps follow.

    ``spread`` is the largest change of a figure, as a share of it, when the steps of one model are left out.
    ``errors`` are predicted over measured seconds less 1, in the order of the steps. ``like`` is the known board whose
    law was scaled to these steps, and empty where all figures are theirs.
    """

    law: StepLaw
    flop_per_s: float
    memory_bytes_per_s: float
    dispatch_s: float
    step_overhead_s: float
    spread: dict[str, float]
    errors: tuple[float, ...]
    like: str = ""

    @property
    def mean_error_fraction(self) -> float:
        return float(np.mean(np.abs(self.errors)))

    @property
    def not_determined(self) -> tuple[str, ...]:
        """Names of the figures that the steps do not tell: 0, at their bound, or of a spread beyond the limit."""
        return tuple(
            name
            for name in FIGURES
            if self.spread[name] > MOST_SPREAD
            or not 0 < getattr(self, name) < (_FASTEST_BYTES_PER_S if name == "memory_bytes_per_s" else np.inf)
        )

    @property
    def worst_error_fraction(self) -> float:
        return float(np.max(np.abs(self.errors)))


def fit_steps(steps: Sequence[MeasuredStep], law: StepLaw) -> Fit:
    """The figures under ``law`` with which the cost model is nearest to ``steps``, all of one precision.

    Raises:
        FitError: there are too few steps, or they do not tell a rate.
    """
    if len(steps) <= len(FIGURES):
        raise FitError(
            f"a profile has {len(FIGURES)} figures to be fitted and needs more settings than that, got {len(steps)}; "
            "does the machine have enough free memory for the others?"
        )
    precision = steps[0].precision
    demands = [step_of(step.setting.model, step.setting.work, precision).demand() for step in steps]
    seconds = np.array([step.step_s for step in steps])
    figures = _fitted(demands, seconds, law, precision)
    models = sorted({(step.setting.hidden_size, step.setting.n_layers) for step in steps})
    partial = []
    for model in models:
        kept = [n for n, step in enumerate(steps) if (step.setting.hidden_size, step.setting.n_layers) != model]
        if len(kept) > len(FIGURES):
            # Steps of one width alone may not tell a rate; then all rests on the model that was left out.
            with suppress(FitError):
                partial.append(_fitted([demands[n] for n in kept], seconds[kept], law, precision))
    changes = [np.abs(np.array(other) / np.maximum(figures, 1e-12) - 1) for other in partial]
    if len(partial) < len(models):
        changes.append(np.ones(len(FIGURES)))
    spread = np.max(changes, axis=0) if changes else np.zeros(len(FIGURES))
    mode = mode_of(law, figures, precision)
    predicted = np.array([step_time(demand, mode, precision).step_s for demand in demands])
    return Fit(
        law=law,
        flop_per_s=figures[0],
        memory_bytes_per_s=figures[1],
        dispatch_s=figures[2],
        step_overhead_s=figures[3],
        spread=dict(zip(FIGURES, map(float, spread), strict=True)),
        errors=tuple(map(float, predicted / seconds - 1)),
    )


def fit_rate(steps: Sequence[MeasuredStep], known: Fit) -> float:
    """FLOP per second in the precision of ``steps`` if all else is as ``known``: the one of the least mean error."""
    precision = steps[0].precision
    demands = [step_of(step.setting.model, step.setting.work, precision).demand() for step in steps]
    rates = known.flop_per_s * np.geomspace(0.2, 40, 400)
    rest = (known.memory_bytes_per_s, known.dispatch_s, known.step_overhead_s)

    def error(rate: float) -> float:
        mode = mode_of(known.law, (rate, *rest), precision)
        return sum(
            abs(step_time(demand, mode, precision).step_s / step.step_s - 1)
            for demand, step in zip(demands, steps, strict=True)
        )

    return float(min(rates, key=error))


def mode_of(law: StepLaw, figures: Sequence[float], precision: str) -> PowerMode:
    """A power mode with figures in the order of :data:`FIGURES` and no energy."""
    rate, bandwidth, dispatch_s, overhead_s = figures
    return PowerMode(
        name="fitted",
        mode_id=0,
        effective_flop_per_s={precision: rate},
        memory_bytes_per_s=bandwidth,
        step_overhead_s=overhead_s,
        dispatch_s=dispatch_s,
        step_law=law,
        idle_w=0.0,
        compute_w=0.0,
        transfer_w=0.0,
    )


def _fitted(demands: Sequence[StepDemand], seconds: Vector, law: StepLaw, precision: str) -> tuple[float, ...]:
    """The best figures; for a law with branches, of those found from several starts."""
    starts = _FIRST_DISPATCHES_S if law != "in_turn" else _FIRST_DISPATCHES_S[:1]
    found = [_fitted_from(start_s, demands, seconds, law, precision) for start_s in starts]
    return min(found, key=lambda figures: _cost(figures, demands, seconds, law, precision))


def _fitted_from(
    dispatch_s: float, demands: Sequence[StepDemand], seconds: Vector, law: StepLaw, precision: str
) -> tuple[float, ...]:
    flop = np.array([demand.forward_flop + demand.backward_flop for demand in demands])
    figures: tuple[float, ...] = (float(np.max(flop / seconds)), _FASTEST_BYTES_PER_S, dispatch_s, 0.0)
    for _ in range(_N_TURNS):
        rows = np.array([_row(demand, mode_of(law, figures, precision), precision) for demand in demands])
        before, figures = figures, _least_squares(rows, seconds)
        if np.allclose(before, figures, rtol=1e-6):
            break
    return figures


def _row(demand: StepDemand, mode: PowerMode, precision: str) -> list[float]:
    """What of a step counts under the law at the figures of ``mode``: FLOP, bytes, operations, and one overhead."""
    row = [0.0, demand.optimizer_bytes + 2 * demand.quantization_bytes, 0.0, 1.0]
    for each in (demand.forward, demand.backward):
        time = pass_time(each, mode, precision)
        parts = (time.arithmetic_s, time.memory_s, time.dispatch_s)
        n_bytes = each.weight_bytes + (each.element_bytes if mode.step_law != "roofline" else 0.0)
        groups = {"roofline": ((0,), (1,), (2,)), "queued": ((0, 1), (2,)), "in_turn": ((0, 1, 2),)}[mode.step_law]
        for part in max(groups, key=lambda group: sum(parts[part] for part in group)):
            row[part] += (each.flop, n_bytes, each.n_operations)[part]
    return row


def _least_squares(rows: NDArray[np.float64], seconds: Vector) -> tuple[float, ...]:
    """The figures whose steps are nearest to ``seconds``, by relative errors with Huber's weights."""
    weights = np.ones(len(seconds))
    solution = np.zeros(rows.shape[1])
    for _ in range(_N_REWEIGHTED):
        solution = _non_negative(rows / seconds[:, None] * weights[:, None], weights)
        errors = np.abs(rows @ solution / seconds - 1)
        weights = np.sqrt(np.minimum(1, _OUTLIER_FRACTION / np.maximum(errors, 1e-12)))
    per_flop, per_byte, per_operation, per_step = solution
    if per_flop <= 0:
        raise FitError(
            "the timed steps do not get slower with more arithmetic, so no rate can be fitted; was the machine busy "
            "with something else? Try again, without --quick"
        )
    bandwidth = min(1 / max(float(per_byte), 1e-30), _FASTEST_BYTES_PER_S)
    return float(1 / per_flop), bandwidth, float(per_operation), float(per_step)


def _non_negative(matrix: NDArray[np.float64], wanted: Vector) -> Vector:
    """Least squares without negative solutions: the best over all sets of unknowns that may be other than 0."""
    n_unknowns = matrix.shape[1]
    scale = np.maximum(matrix.max(axis=0), 1e-300)
    best, best_cost = np.zeros(n_unknowns), float(np.sum(wanted**2))
    for size in range(1, n_unknowns + 1):
        for chosen in map(list, combinations(range(n_unknowns), size)):
            part = (matrix / scale)[:, chosen]
            solution = np.linalg.lstsq(part, wanted, rcond=None)[0]
            cost = float(np.sum((part @ solution - wanted) ** 2))
            if np.all(solution >= 0) and cost < best_cost:
                best, best_cost = np.zeros(n_unknowns), cost
                best[chosen] = solution
    found: Vector = best / scale
    return found


def _cost(
    figures: Sequence[float], demands: Sequence[StepDemand], seconds: Vector, law: StepLaw, precision: str
) -> float:
    mode = mode_of(law, figures, precision)
    errors = [step_time(demand, mode, precision).step_s for demand in demands] / seconds - 1
    return float(np.mean(np.minimum(np.abs(errors), 1)))
