"""All settings of a run in one validated model."""

import math
import re
from collections.abc import Mapping
from typing import Any

from pydantic import field_validator, model_validator

from emulator.backends.kinds import backend_kind
from emulator.config.compression import CompressionConfig
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

BUILTIN_TASK, BUILTIN_DECODER = "builtin:intents", "builtin:tiny-llama-12"
REALTIME = re.compile(r"realtime\(\s*(?P<factor>\d+(\.\d*)?([eE][+-]?\d+)?)\s*\)")


class Config(Section):
    """A run."""

    rounds: Count = 30
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
    compression: CompressionConfig = CompressionConfig()
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
    def is_live(self) -> bool:
        """Whether devices are processes that compute and transfer at their own pace."""
        return backend_kind(self.backend.kind).is_live

    @property
    def checkpoint_rounds(self) -> int:
        """Rounds between two checkpoints, a multiple of those of a Parquet part; 0 where there are none."""
        if self.is_live:
            return 0  # where it was could not be played again
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

    @model_validator(mode="before")
    @classmethod
    def _built_in_decoder(cls, settings: Any) -> Any:
        """Where the built-in task is learnt word by word and no model is named, it is the one that gives words."""
        tables = settings if isinstance(settings, Mapping) else {}
        task, data, model = (tables.get(key, {}) for key in ("task", "data", "model"))
        if not all(isinstance(table, Mapping) for table in (task, data, model)):
            return settings
        if task.get("kind") != "causal" or "train" in model or data.get("source", BUILTIN_TASK) != BUILTIN_TASK:
            return settings
        return {**tables, "model": {**model, "train": BUILTIN_DECODER}}

    @model_validator(mode="after")
    def _one_way_to_count_hosts(self) -> "Config":
        if self.backend.hosts and self.backend.devices_per_actor:
            raise ValueError("backend.hosts and backend.devices_per_actor exclude one another; give one of them")
        return self

    @model_validator(mode="after")
    def _live_devices_have_a_pace(self) -> "Config":
        if not self.is_live:
            return self
        if self.pace_factor is None:
            raise ValueError(
                "backend.kind = 'live' needs pace = 'realtime(x)', with x emulated seconds per second of the wall, as "
                f"jetbed live --speed x gives it, got pace = {self.pace!r}"
            )
        if not self.training.enabled:
            raise ValueError(
                "backend.kind = 'live' has devices that really train, and training.enabled is false; set it to true,"
                " or choose another backend"
            )
        if self.backend.hosts or self.backend.devices_per_actor:
            raise ValueError(
                "backend.kind = 'live' gives every device a process of its own, so that backend.hosts and "
                "backend.devices_per_actor have no meaning; leave them out"
            )
        return self
