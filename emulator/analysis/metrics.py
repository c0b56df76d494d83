"""The metrics of a run: their names, symbols and units, and how a run is measured by all of them at once.

``docs/metrics.md`` defines each of them, with the query that computes it from Parquet.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import pandas as pd

from emulator.analysis.costs import best_score, cost_to_target, final_score, score_within, total
from emulator.analysis.devices import idle_fraction, lost_device_rounds, mean_waiting_s, peak_memory_bytes
from emulator.analysis.heterogeneity import heterogeneity
from emulator.errors import ConfigError
from emulator.objective.scores import SCORES, Score, score_named


@dataclass(frozen=True, kw_only=True, slots=True)
class Metric:
    """One figure of a run. ``unit`` is ``"1"`` for a plain number; ``score`` what it is a value of, where it is one."""

    name: str
    symbol: str
    unit: str
    meaning: str
    score: Score | None = None


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
    ("device_time_variation", "v", "1", "coefficient of variation over devices of their mean time for a round"),
    ("devmc_r", "DevMC-R", "1", "FLHetBench's score of devices that report in time, 1 if all always do"),
    ("devmc_t", "DevMC-T", "1", "FLHetBench's time until most have reported, in times the least"),
    ("intermc_r", "InterMC-R", "1", "as DevMC-R, where who is away or lost does not report either"),
]

_SCORED = re.compile("final_accuracy|best_accuracy|accuracy_in_(time|bytes|energy)")


def metrics_of(score: str) -> Mapping[str, Metric]:
    """All metrics by name, in the order in which they are shown, for runs that are measured by this score."""
    measured_by, made = SCORES[score], {}
    for name, symbol, unit, meaning in _DEFINED:
        own = measured_by if _SCORED.fullmatch(name) else None
        if own:
            name, meaning = name.replace("accuracy", score), meaning.replace("accuracy", own.title)
            meaning = meaning if own.is_higher_better else meaning.replace("highest", "lowest")
        made[name] = Metric(name=name, symbol=symbol, unit=unit, meaning=meaning, score=own)
    return MappingProxyType(made)


METRICS: Mapping[str, Metric] = metrics_of("accuracy")
"""All metrics by name, in the order in which they are shown, for runs that are measured by accuracy."""


def metric_named(name: str) -> Metric:
    """A metric, whatever score it is of.

    Raises:
        KeyError: there is none.
    """
    return _ALL[name]


_ALL = {name: metric for score in SCORES for name, metric in metrics_of(score).items()}

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


def in_budget(score: str) -> dict[str, str]:
    """For what can be limited, the metric of the score under that limit."""
    return {"time_s": f"{score}_in_time", "total_bytes": f"{score}_in_bytes", "energy_j": f"{score}_in_energy"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """What is asked of runs beside what every run tells: a target and budgets. None is not asked.

    ``score`` is what runs are measured by; without one it is accuracy, or what people quote of runs that have none.
    """

    score: str | None = None
    target: float | None = None
    budget_s: float | None = None
    budget_bytes: float | None = None
    budget_j: float | None = None
    interpolate: bool = False

    def __post_init__(self) -> None:
        """Raises ConfigError where there is no such score, a target is none, or a budget is not positive."""
        score = score_named(self.measured_by, "the metric")
        if self.target is not None:
            score.check(self.target, "the target")
        for name in ("budget_s", "budget_bytes", "budget_j"):
            budget = getattr(self, name)
            if budget is not None and not 0 < budget < math.inf:
                raise ConfigError(f"{name} must be a positive number, got {budget!r}")

    @property
    def measured_by(self) -> str:
        """The score that is asked for, or accuracy."""
        return self.score or "accuracy"

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
        devices: the table ``devices`` of the run, at least ``MEMORY_COLUMNS`` and ``TIME_COLUMNS``.
        question: the score, the target and the budgets.
    """
    score = question.measured_by
    values: dict[str, float | None] = dict.fromkeys(metrics_of(score))
    values["n_rounds"] = float(len(rounds))
    if not len(rounds):
        return values
    values |= total(rounds)
    values |= {f"final_{score}": final_score(rounds, score), f"best_{score}": best_score(rounds, score)}
    if question.target is not None:
        cost = cost_to_target(rounds, question.target, question.interpolate, score)
        values |= {TO_TARGET[name]: amount for name, amount in (cost or {}).items()}
    for limited, budget in question.budgets.items():
        name = in_budget(score)[limited]
        values[name] = None if budget is None else score_within(rounds, limited, budget, score)
    peaks = peak_memory_bytes(devices)
    return values | {
        "mean_waiting_s": mean_waiting_s(rounds),
        "idle_fraction": idle_fraction(rounds),
        "peak_memory_max_bytes": float(peaks.max()) if len(peaks) else None,
        "peak_memory_mean_bytes": float(peaks.mean()) if len(peaks) else None,
        **{name: float(count) for name, count in lost_device_rounds(rounds).items()},
        **heterogeneity(devices),
    }
