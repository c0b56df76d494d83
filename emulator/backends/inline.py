"""Everything in this process, one stack after another: for small runs, debugging and most tests."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from emulator.backends.content import load_content, numeric_settings, own_arrays_of, weights_of
from emulator.backends.evaluations import all_shards, evaluation_of
from emulator.backends.stacks import in_order, most_stacked, stack_jobs
from emulator.config import Config
from emulator.forms.base import AdapterForm, FrozenWeights, Site
from emulator.learning.host import imported
from emulator.observers.base import RunObserver
from emulator.records import Arrays, Evaluation, Job, Update
from emulator.running.capacity import n_gpus, with_gpus
from emulator.running.compose import build_coordinator
from emulator.running.hosts import Backend, HostTiming, OnJobs
from emulator.running.objectives import run_objective
from emulator.storage.places import Place


def run_inline(config: Config, out_dir: Place, observers: Sequence[RunObserver]) -> None:
    """Run to the end in this process, in which ``observers`` are told.

    Raises:
        UserError: something that the user gave cannot be used.
        KeyboardInterrupt: the run was interrupted; what was written is whole.
    """
    config = with_gpus(config, n_gpus())
    build_coordinator(config, out_dir, partial(InlineBackend, config), observers, threading.Event()).run()


class InlineBackend(Backend):
    """One host that is not an actor."""

    def __init__(self, config: Config, n_devices: int) -> None:
        """Load model and data.

        Raises:
            DataError: the model or the data cannot be used.
        """
        self._settings, self._objective = numeric_settings(config), run_objective(config)
        self._devices_per_actor = config.backend.devices_per_actor
        self._timings: list[HostTiming] = []
        start_s = time.perf_counter()
        self._content, self.prepared = load_content(config, n_devices)
        self._host = self._content.start(self._settings)
        self._timings.append(HostTiming.since(start_s, "inline", "load"))

    def train(self, task: str, form: AdapterForm, jobs: Sequence[Job], on_jobs: OnJobs) -> list[Update]:
        start_s = time.perf_counter()
        updates: list[Update] = []
        for stack in stack_jobs(jobs, most_stacked(form, self._settings.devices_stacked), self._devices_per_actor):
            updates += self._host.train(task, form, stack)
            on_jobs(len(updates), len(jobs))
        self._timings.append(HostTiming.since(start_s, "inline", "train", len(jobs), self._host.prefix()))
        return in_order(updates, jobs)

    def evaluate(self, form: AdapterForm, state: Arrays) -> Callable[[], Evaluation]:
        start_s = time.perf_counter()
        shards = all_shards(self.prepared, self._settings.eval_shard_size)
        evaluated = [self._host.evaluate(form, state, rows) for rows in shards]
        evaluation = evaluation_of(self._objective, self.prepared, evaluated)
        self._timings.append(HostTiming.since(start_s, "inline", "evaluate", len(shards), self._host.prefix()))
        return lambda: evaluation

    def weights(self, sites: Sequence[Site]) -> FrozenWeights:
        return weights_of(self._content, sites)

    def own_arrays(self, names: Sequence[str]) -> Arrays:
        return own_arrays_of(self._content, names)

    def export(self, form: AdapterForm, state: Arrays, path: Path) -> None:
        imported(form.attachment).export(self._content.model, form, state, path)

    def timings(self) -> list[HostTiming]:
        timings, self._timings = self._timings, []
        return timings

    def close(self) -> None:
        """Nothing was started."""

    def describe(self) -> Mapping[str, object]:
        return {"kind": "inline", "n_hosts": 1, "devices_stacked": self._settings.devices_stacked}
