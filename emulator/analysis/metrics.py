"""The metrics of a run: their names, symbols and units, and how a run is measured by all of them at once.

``docs/metrics.md`` defines each of them, with the query that computes it from Parquet.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import pandas as pd

from emulator.analysis.costs import accuracy_within, best_accuracy, cost_to_target, final_accuracy, total
from emulator.analysis.devices import idle_fraction, lost_device_rounds, mean_waiting_s, peak_memory_bytes
from emulator.errors import ConfigError


@dataclass(frozen=True, kw_only=True, slots=True)
class Metric:
    """One figure of a run. ``unit`` is ``"1"`` for a plain number."""

    name: str
    symbol: str
    unit: str
    meaning: str


_DEFINED = [
    ("n_rounds", "R", "1", "rounds that are done"),
    ("time_s", "T", "s", "emulated time from the start to the end of the last round"),
    ("download_bytes", "D", "byte", "received by all devices"),
    ("upload_bytes", "U", "byte", "sent by all devices"),
    ("total_bytes", "B", "byte", "received and sent by all devices"),
    ("energy_j", "E", "J", "energy of all devices"),
    ("final_accuracy", "A_fin", "1", "accuracy of the last evaluated round"),
    ("best_accuracy", "A_max", "1", "highest accuracy of an evaluated round"),
    ("n_rounds_to_target", "R(a)", "1", "rounds until the target is reached"),
    ("time_to_target_s", "T(a)", "s", "emulated time until the target is reached"),
    ("download_to_target_bytes", "D(a)", "byte", "received by all devices until the target is reached"),
    ("upload_to_target_bytes", "U(a)", "byte", "sent by all devices until the target is reached"),
    ("total_to_target_bytes", "B(a)", "byte", "received and sent by all devices until the target is reached"),
    ("energy_to_target_j", "E(a)", "J", "energy of all devices until the target is reached"),
    ("accuracy_in_time", "A(T ≤ t)", "1", "accuracy under the budget of emulated time"),
    ("accuracy_in_bytes", "A(B ≤ b)", "1", "accuracy under the budget of bytes"),
    ("accuracy_in_energy", "A(E ≤ j)", "1", "accuracy under the budget of energy"),
    ("mean_waiting_s", "W", "s", "mean over rounds of the mean waiting time of the cohort"),
    ("idle_fraction", "w", "1", "share of the cohort's time that is spent waiting"),
    ("peak_memory_max_bytes", "M_max", "byte", "largest peak of memory of a device"),
    ("peak_memory_mean_bytes", "M_mean", "byte", "mean over devices of their peaks of memory"),
    ("n_device_rounds", "N", "1", "device-rounds in the cohort"),
    ("n_out_of_memory", "N_oom", "1", "device-rounds out of memory"),
    ("n_dropped", "N_drop", "1", "device-rounds that dropped out"),
    ("n_late", "N_late", "1", "device-rounds that came too late"),
    ("n_unavailable", "N_away", "1", "device-rounds out of reach when the round was planned"),
]

METRICS: Mapping[str, Metric] = MappingProxyType(
    {name: Metric(name=name, symbol=symbol, unit=unit, meaning=meaning) for name, symbol, unit, meaning in _DEFINED}
)
"""All metrics by name, in the order in which they are shown."""

TO_TARGET: Mapping[str, str] = MappingProxyType(
    {
        "n_rounds": "n_rounds_to_target",
        "time_s": "time_to_target_s",
        "download_bytes": "download_to_target_bytes",
        "upload_bytes": "upload_to_target_bytes",
        "total_bytes": "total_to_target_bytes",
        "energy_j": "energy_to_target_j",
    }
)
"""For what is spent in all, the metric of what is spent until the target is reached."""

IN_BUDGET: Mapping[str, str] = MappingProxyType(
    {"time_s": "accuracy_in_time", "total_bytes": "accuracy_in_bytes", "energy_j": "accuracy_in_energy"}
)
"""For what can be limited, the metric of the accuracy under that limit."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """What is asked of runs beside what every run tells: a target accuracy and budgets. None is not asked."""

    target: float | None = None
    budget_s: float | None = None
    budget_bytes: float | None = None
    budget_j: float | None = None
    interpolate: bool = False

    def __post_init__(self) -> None:
        """Raises ConfigError where a target is no accuracy or a budget is not positive."""
        if self.target is not None and not 0 <= self.target <= 1:
            raise ConfigError(f"the target is an accuracy from 0 to 1, got {self.target!r}")
        for name in ("budget_s", "budget_bytes", "budget_j"):
            budget = getattr(self, name)
            if budget is not None and not 0 < budget < math.inf:
                raise ConfigError(f"{name} must be a positive number, got {budget!r}")

    @property
    def budgets(self) -> dict[str, float | None]:
        """The budgets by what they limit."""
        return {"time_s": self.budget_s, "total_bytes": self.budget_bytes, "energy_j": self.budget_j}


NO_TARGET_NO_BUDGETS = Question()


def measure(
    rounds: pd.DataFrame, devices: pd.DataFrame, question: Question = NO_TARGET_NO_BUDGETS
) -> dict[str, float | None]:
    """All metrics of one run, by name; None is what the run does not tell, or nobody asked.

    Args:
        rounds: the table ``rounds`` of the run.
        devices: the table ``devices`` of the run, at least the columns ``MEMORY_COLUMNS``.
        question: the target and the budgets.
    """
    values: dict[str, float | None] = dict.fromkeys(METRICS)
    values["n_rounds"] = float(len(rounds))
    if not len(rounds):
        return values
    values |= total(rounds)
    values |= {"final_accuracy": final_accuracy(rounds), "best_accuracy": best_accuracy(rounds)}
    if question.target is not None:
        cost = cost_to_target(rounds, question.target, question.interpolate)
        values |= {TO_TARGET[name]: amount for name, amount in (cost or {}).items()}
    for limited, budget in question.budgets.items():
        values[IN_BUDGET[limited]] = None if budget is None else accuracy_within(rounds, limited, budget)
    peaks = peak_memory_bytes(devices)
    return values | {
        "mean_waiting_s": mean_waiting_s(rounds),
        "idle_fraction": idle_fraction(rounds),
        "peak_memory_max_bytes": float(peaks.max()) if len(peaks) else None,
        "peak_memory_mean_bytes": float(peaks.mean()) if len(peaks) else None,
        **{name: float(count) for name, count in lost_device_rounds(rounds).items()},
    }
