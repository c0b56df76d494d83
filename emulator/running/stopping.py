"""What ends a run before its last round: a score that is reached, or a budget that is spent."""

from collections.abc import Mapping
from dataclasses import dataclass

from emulator.config import Config
from emulator.errors import ConfigError
from emulator.objective.scores import SCORES
from emulator.records import Evaluation
from emulator.running.objectives import run_objective

BUDGETS = ("time_s", "upload_bytes", "total_bytes", "energy_j")
"""What can be spent: settings of ``stop_at`` that are no scores."""


@dataclass(frozen=True, slots=True)
class Stopping:
    """The targets and budgets of a run, by their names; both are empty where nothing ends it early."""

    targets: Mapping[str, float]
    budgets: Mapping[str, float]

    @staticmethod
    def of(config: Config) -> "Stopping":
        """What the section ``stop_at`` asks for.

        Raises:
            ConfigError: a target is no such score, or the run has none.
        """
        given = {name: value for name, value in config.stop_at.model_dump().items() if value is not None}
        targets = {name: value for name, value in given.items() if name not in BUDGETS}
        for name, value in targets.items():
            _check(config, name, value)
        return Stopping(targets, {name: value for name, value in given.items() if name in BUDGETS})

    def is_spent(self, spent: Mapping[str, float]) -> bool:
        """Whether some budget is, with so much ``spent`` by name."""
        return any(spent[name] >= budget for name, budget in self.budgets.items())

    def reason(self, evaluation: Evaluation | None, spent: Mapping[str, float]) -> str | None:
        """Why a run ends with the round that has this evaluation, up to which so much is spent; None if it goes on."""
        for name, target in self.targets.items():
            value = getattr(evaluation, name, None)
            if value is not None and SCORES[name].reaches(value, target):
                return f"stop_at.{name} = {target:g} is reached: {value:.6g}"
        for name, budget in self.budgets.items():
            if spent[name] >= budget:
                return f"stop_at.{name} = {budget:g} is spent: {spent[name]:.6g}"
        return None


def _check(config: Config, name: str, value: float) -> None:
    if not config.training.enabled:
        raise ConfigError(
            f"stop_at.{name} is a score, and nothing is trained that could have one; set training.enabled = true, or "
            f"give a budget ({', '.join(BUDGETS)})"
        )
    known = run_objective(config).scores
    if name not in known:
        raise ConfigError(
            f"stop_at.{name}: task.kind = {config.task.kind!r} has no such score; give one of: {', '.join(known)}"
        )
    SCORES[name].check(value, f"stop_at.{name}")
