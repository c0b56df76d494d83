"""All settings of a run in one validated model."""

import math
import re
from collections.abc import Mapping
from typing import Any

from pydantic import field_validator, model_validator

from emulator.config.data import DataConfig
from emulator.config.execution import BackendConfig, ResultsConfig
from emulator.config.model import ModelConfig
from emulator.config.plugins import ObserverConfig, PolicyConfig
from emulator.config.section import Count, CountOrZero, Section
from emulator.config.server import ServerConfig
from emulator.config.stop_at import StopAtConfig
from emulator.config.task import TaskConfig
from emulator.config.testbed import TestbedConfig
from emulator.config.training import EvaluationConfig, TrainingConfig

REALTIME = re.compile(r"realtime\(\s*(?P<factor>\d+(\.\d*)?([eE][+-]?\d+)?)\s*\)")


class Config(Section):
    """A run."""

    rounds: Count = 20
    """How many rounds are run."""
    seed: CountOrZero = 0
    """Every random stream of the run is derived from it."""
    pace: str = "virtual"
    """virtual: emulated time never sleeps; realtime(x): it keeps pace with the wall at x emulated seconds per second,
    with the same results."""
    observers: tuple[ObserverConfig, ...] = ()
    """Who is told of each round, by import path, such as emulator.observers.tensorboard:TensorBoard; with parameters, a
    table {path = "package.module:Class", key = value}. Observers change no result."""
    testbed: TestbedConfig = TestbedConfig()
    task: TaskConfig = TaskConfig()
    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    training: TrainingConfig = TrainingConfig()
    server: ServerConfig = ServerConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    stop_at: StopAtConfig = StopAtConfig()
    backend: BackendConfig = BackendConfig()
    results: ResultsConfig = ResultsConfig()
    policy: PolicyConfig = PolicyConfig()

    @property
    def pace_factor(self) -> float | None:
        """The x of ``pace = "realtime(x)"``; None where emulated time never sleeps."""
        match = REALTIME.fullmatch(self.pace)
        return float(match["factor"]) if match else None

    @property
    def checkpoint_rounds(self) -> int:
        """Rounds between two checkpoints, a multiple of those of a Parquet part; 0 where there are none."""
        return math.ceil(self.results.checkpoint_rounds / self.rounds_per_part) * self.rounds_per_part

    @property
    def rounds_per_part(self) -> int:
        """``results.rounds_per_part``, or what it is where it is not given."""
        return self.results.rounds_per_part or (1 if self.training.enabled else 50)

    @field_validator("pace")
    @classmethod
    def _known_pace(cls, pace: str) -> str:
        match = REALTIME.fullmatch(pace)
        if pace != "virtual" and not (match and 0 < float(match["factor"]) < math.inf):
            raise ValueError(
                "pace must be 'virtual', or 'realtime(x)' with x emulated seconds per second of the wall, for example"
                f" 'realtime(10)', got {pace!r}"
            )
        return pace

    @field_validator("observers", mode="before")
    @classmethod
    def _paths_are_observers(cls, observers: Any) -> Any:
        paths = observers if isinstance(observers, list | tuple) else [None]
        paths = [each.get("path") if isinstance(each, Mapping) else each for each in paths]
        if not all(isinstance(path, str | ObserverConfig) for path in paths):
            raise ValueError(
                "observers must be a list of import paths and of tables with a path, for example "
                f"['emulator.observers.tensorboard:TensorBoard'], got {observers!r}"
            )
        return tuple({"path": each} if isinstance(each, str) else each for each in observers)

    @model_validator(mode="after")
    def _one_way_to_count_hosts(self) -> "Config":
        if self.backend.hosts and self.backend.devices_per_actor:
            raise ValueError("backend.hosts and backend.devices_per_actor exclude one another; give one of them")
        return self
