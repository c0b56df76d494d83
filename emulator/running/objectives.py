"""What a run learns, by its configuration."""

from emulator.config import Config
from emulator.objective.base import Objective
from emulator.objective.causal import Causal
from emulator.objective.classification import Classification


def run_objective(config: Config) -> Objective:
    """The objective that the section ``task`` names."""
    kinds: dict[str, Objective] = {
        Classification.kind: Classification(),
        Causal.kind: Causal(response_len=config.task.price_response_len),
    }
    return kinds[config.task.kind]
