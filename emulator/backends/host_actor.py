"""The actor of a host: what a process of its own is asked for, and how one is started."""

from __future__ import annotations

import gc
import importlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import ray

from emulator.algorithms.aggregation import Sums, contribution, coordinate_sums
from emulator.backends.content import load_content, own_arrays_of, weights_of, with_weights, without_weights
from emulator.backends.kept_updates import Shapes, fetched, is_kept, shapes_of
from emulator.backends.ray_cluster import here
from emulator.config import Config
from emulator.forms.base import AdapterForm, FrozenWeights, Site
from emulator.learning.settings import NumericSettings
from emulator.records import Arrays, EvaluationShard, Job, Prepared, Update
from emulator.running.hosts import HostTiming

if TYPE_CHECKING:
    from emulator.backends.content import Content
    from emulator.learning.cut.convnet import ConvNetHost
    from emulator.learning.host import DeviceHost

MOST_RESIDENT = 2
"""So many models with their data a host keeps built; another run of the same seed finds its own."""
REPLACED_CPUS = 0.0
"""CPUs that Ray reserves for a host in the place of one that died: with a machine its CPUs are lost, and one that waits
for as many would wait for ever."""
SentStack = tuple[Sequence[Job], Sequence[Any]]
"""The jobs of a stack without the states that they start from, and references to these."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Started:
    """What a host is started with: the settings of the run, and references to what ``HostActor.load`` gave."""

    key: str
    settings: NumericSettings
    content: Any
    weights: Any


class HostActor:
    """The actor around :class:`~emulator.learning.host.DeviceHost`. What a call does depends on its arguments alone."""

    def __init__(self, name: str, started: Started | None = None) -> None:
        self._name = name
        self._timings: list[HostTiming] = []
        # By what a run asks of a host, those that were asked for last, in that order.
        self._resident: dict[tuple[str, NumericSettings], DeviceHost | ConvNetHost] = {}
        start_s = time.perf_counter()
        # Now, and not in the first call: all hosts import torch at the same time, while the first one loads.
        _import_learning()
        self._timings.append(HostTiming.since(start_s, name, "import"))
        if started is not None:
            self.start(started.key, started.settings, *ray.get([started.content, started.weights]))

    def load(self, config: Config, n_devices: int, wants_weights: bool) -> tuple[Content, Arrays, Prepared]:
        """Load model and data; the pre-trained weights come apart, and only if they are asked for.

        As returns of a call all three belong to the caller, and outlive this host.
        """
        start_s = time.perf_counter()
        content, prepared = load_content(config, n_devices)
        content, weights = without_weights(content)
        self._timings.append(HostTiming.since(start_s, self._name, "load"))
        return content, weights if wants_weights else {}, prepared

    def start(self, key: str, settings: NumericSettings, content: Content, weights: Arrays) -> None:
        """Build the model over the shared arrays, unless it is resident under the same ``key`` and ``settings``."""
        start_s = time.perf_counter()
        if (key, settings) not in self._resident:
            while len(self._resident) >= MOST_RESIDENT:
                del self._resident[next(iter(self._resident))]
            self._resident[key, settings] = with_weights(content, weights).start(settings)
        self._host = self._resident[key, settings] = self._resident.pop((key, settings))
        self._timings.append(HostTiming.since(start_s, self._name, "start"))

    def train(
        self, task: str, form: AdapterForm, stacks: Sequence[SentStack]
    ) -> Iterator[list[Arrays] | tuple[list[Shapes], list[Update]]]:
        """Train stack after stack, handing each over as soon as it is done.

        For each there are the payloads that are kept, none where they are small, and then the updates, with the shapes
        of the payloads where these are kept and the updates come without.
        """
        for jobs, references in stacks:
            start_s = time.perf_counter()
            stack = [replace(job, state=state) for job, state in zip(jobs, ray.get(list(references)), strict=True)]
            updates = self._host.train(task, form, stack)
            self._timings.append(HostTiming.since(start_s, self._name, "train", len(stack), self._host.prefix()))
            if is_kept(updates):
                yield [update.payload for update in updates]
                yield [shapes_of(update.payload) for update in updates], [replace(one, payload={}) for one in updates]
            else:
                yield []
                yield [], updates

    def add_up(
        self,
        form: AdapterForm,
        state: Arrays,
        updates: Sequence[Update],
        weights: Sequence[float],
        bases: Sequence[Any],
        references: Sequence[Any],
        places: Sequence[tuple[int, int]],
    ) -> Sums:
        """The sums of one block of ``updates``, whose payloads lie at ``places`` of the lists behind ``references``.

        ``bases`` are references to the states that they started from, None where that is ``state``.
        """
        start_s = time.perf_counter()
        parts = zip(updates, weights, bases, fetched(references, places), strict=True)
        sums = coordinate_sums(
            state,
            (
                contribution(form, state, replace(update, payload=payload, base=base and ray.get(base)), weight)
                for update, weight, base, payload in parts
            ),
        )
        self._timings.append(HostTiming.since(start_s, self._name, "add_up", len(updates)))
        return sums

    def evaluate(self, form: AdapterForm, state: Arrays, shards: Sequence[range]) -> list[EvaluationShard]:
        start_s = time.perf_counter()
        evaluated = [self._host.evaluate(form, state, rows) for rows in shards]
        self._timings.append(HostTiming.since(start_s, self._name, "evaluate", len(shards), self._host.prefix()))
        return evaluated

    def weights(self, sites: Sequence[Site]) -> FrozenWeights:
        return weights_of(self._host.content, sites)

    def own_arrays(self, names: Sequence[str]) -> Arrays:
        return own_arrays_of(self._host.content, names)

    def export(self, form: AdapterForm, state: Arrays) -> dict[str, bytes]:
        """The exported files by their paths in the folder: this host may be on another machine than the results."""
        from emulator.learning.host import imported

        with TemporaryDirectory() as folder:
            imported(form.attachment).export(self._host.content.model, form, state, Path(folder))
            files = [path for path in Path(folder).rglob("*") if path.is_file()]
            return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}

    def timings(self) -> list[HostTiming]:
        timings, self._timings = self._timings, []
        return timings


def _import_learning() -> None:
    """Import torch and all that a task needs.

    Thousands of modules leave nothing behind that could be collected; looking for it again and again, then and later,
    takes a fifth of the time (measured).
    """
    gc.disable()
    try:
        importlib.import_module("emulator.learning.tasks.local")
        gc.freeze()
    finally:
        gc.enable()


def loading(host: Any) -> Any:
    """What loads model and data: an actor on this machine, where the user's files are.

    It is ``host`` where there is one machine only. What is loaded lies in this machine's part of the object store, from
    which hosts fetch it wherever they are, and stays there when others die.
    """
    machines = [machine for machine in ray.nodes() if machine["Alive"]]  # type: ignore[no-untyped-call]
    if len(machines) == 1:
        return host
    return ray.remote(HostActor).options(num_cpus=0, scheduling_strategy=here()).remote("loader")


def new_host(name: str, n_cpus: float, n_gpus: float, started: Started | None = None) -> Any:
    """A new host, which reserves so many CPUs and GPUs."""
    return ray.remote(HostActor).options(num_cpus=n_cpus, num_gpus=n_gpus).remote(name, started)
