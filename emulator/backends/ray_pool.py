"""One pool of hosts for many runs: a run leases some of them, and what it loads is shared with runs that are alike."""

import math
import queue
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import RayTaskError

from emulator.backends.batch import BatchRun, pool_asks, pool_size
from emulator.backends.content import content_key, numeric_settings
from emulator.backends.host_actor import REPLACED_CPUS, Started, loading, new_host
from emulator.backends.ray import RayHosts
from emulator.backends.ray_calls import DIED, result
from emulator.backends.ray_cluster import cpus_per_host, free_resources
from emulator.config import Config
from emulator.errors import ConfigError
from emulator.forms.base import AdapterForm
from emulator.records import Job, Prepared, Update
from emulator.running.capacity import HOST_BYTES, hosts_on_gpus
from emulator.running.hosts import OnJobs
from emulator.running.paths import located

Granted = queue.SimpleQueue[tuple[str, Any]]
"""Hosts that a run is given while it goes on, by name; it takes them when it next trains."""
ANSWER_S = 1.0
"""So long a host that has nothing to do may take to answer."""


class Loaded:
    """References to what one host has loaded for all: by content what its runs need, by model and what its weights are
    stored in, the weights."""

    def __init__(self) -> None:
        # Each with the reference to what is prepared, which tells whether the call that gave both succeeded.
        self._weights: dict[tuple[str, str], tuple[Any, Any]] = {}
        self._contents: dict[str, tuple[Any, Any]] = {}

    def of(self, run: BatchRun, host: Any) -> tuple[Started, Any]:
        """What hosts are started with for ``run``, and the reference to what is prepared for it.

        Where it is not loaded yet, ``host`` or who stands in for it is asked to, and not waited for; only
        the first to load a model is.
        """
        key, model = key_of(run), _model_of(run)
        if model in self._weights and _failed(self._weights[model][1]):
            del self._weights[model]
        # Weights may have been lost with a run of another content.
        if key not in self._contents or model not in self._weights:
            load = loading(host).load.options(num_returns=3)
            content, weights, prepared = load.remote(located(run.config), run.n_devices, model not in self._weights)
            self._contents[key] = content, prepared
            self._weights.setdefault(model, (weights, prepared))
        content, prepared = self._contents[key]
        weights, _ = self._weights[model]
        settings = numeric_settings(run.config)
        return Started(key=key, settings=settings, content=content, weights=weights), prepared

    def keep(self, runs: Sequence[BatchRun]) -> None:
        """Drop what none of these runs needs."""
        keys, models = {key_of(run) for run in runs}, {_model_of(run) for run in runs}
        self._contents = {key: content for key, content in self._contents.items() if key in keys}
        self._weights = {model: weights for model, weights in self._weights.items() if model in models}

    def forget(self, run: BatchRun) -> None:
        """Have it loaded again, since it was lost with a host."""
        self._contents.pop(key_of(run), None)
        self._weights.pop(_model_of(run), None)


def key_of(run: BatchRun) -> str:
    """Runs with the same key share what is loaded for them."""
    return content_key(run.config, run.n_devices)


def _model_of(run: BatchRun) -> tuple[str, str]:
    """Runs of which this is the same share the weights of a model."""
    return run.config.model.train, run.config.model.base_precision


def _failed(reference: Any) -> bool:
    """Whether the call behind ``reference``, which is waited for, has raised."""
    try:
        ray.get(reference)
    except (RayTaskError, *DIED):
        return True
    return False


class HostPool:
    """Hosts that outlive the runs. All that use a pool reserve the same for a host."""

    def __init__(self, runs: Sequence[BatchRun]) -> None:
        """Start as many hosts as there is room for, or as are asked for.

        Raises:
            ConfigError: so many hosts as are asked for do not fit into the cluster.
        """
        number = checked_pool_size(runs, free_resources())
        self._config = runs[0].config
        self.cpus_per_host = cpus_per_host(self._config, number)
        self.hosts = {f"host-{index}": self._new(f"host-{index}", self.cpus_per_host) for index in range(number)}

    def renew(self, names: Sequence[str]) -> None:
        """Replace those of these hosts that are dead."""
        asked = {self.hosts[name].timings.remote(): name for name in names}
        # One that does not answer now has work to do, and lives.
        answered, _ = ray.wait(list(asked), num_returns=len(asked), timeout=ANSWER_S)
        for reference in answered:
            try:
                ray.get(reference)
            except DIED:
                name = asked[reference]
                ray.kill(self.hosts[name])
                self.hosts[name] = self._new(name, REPLACED_CPUS)

    def close(self) -> None:
        for host in self.hosts.values():
            ray.kill(host)

    def _new(self, name: str, n_cpus: float) -> Any:
        return new_host(name, n_cpus, self._config.backend.gpu_share)


def checked_pool_size(runs: Sequence[BatchRun], free: Mapping[str, float]) -> int:
    """How many hosts a pool for these runs has, given what is ``free`` by Ray's names of resources.

    Raises:
        ConfigError: so many hosts as are asked for do not fit.
    """
    backend = runs[0].config.backend
    free_bytes, free_gpus = free.get("memory", math.inf), free.get("GPU", 0.0)
    room = hosts_on_gpus(free_gpus, backend.gpu_share) if backend.gpu_share else None
    if room == 0:
        raise ConfigError(
            f"a host process needs {backend.gpu_share:g} GPUs, the cluster has {free_gpus:g} free; lower "
            f"backend.gpus_per_host, got {backend.gpu_share!r}"
        )
    asked = pool_asks(runs)
    if asked * HOST_BYTES > free_bytes or (room is not None and asked > room):
        raise ConfigError(
            f"{asked} host processes need about {asked * HOST_BYTES / 2**30:.1f} GB and "
            f"{asked * backend.gpu_share:g} GPUs, the cluster has {free_bytes / 2**30:.1f} GB and "
            f"{free_gpus:g} GPUs free; lower backend.hosts, got {asked!r}"
        )
    return pool_size(runs, free)


@dataclass(frozen=True, kw_only=True, slots=True)
class Lease:
    """The hosts that a run begins with, by name, and references to what is loaded for it."""

    hosts: Mapping[str, Any]
    cpus_per_host: float
    started: Started
    prepared: Any


class LeasedBackend(RayHosts):
    """The hosts of a lease, and those ``granted`` since. They live on when the run ends."""

    def __init__(self, config: Config, lease: Lease, granted: Granted) -> None:
        """Start the leased hosts.

        Raises:
            DataError: the model or the data cannot be used.
            UserError: hosts died more often than they are replaced.
        """
        super().__init__(config, lease.cpus_per_host)
        self._granted = granted
        self._names = list(lease.hosts)
        self._hosts = list(lease.hosts.values())
        self._started = lease.started
        self.prepared: Prepared = result(lease.prepared)
        self._start(range(len(self._hosts)))

    def hosts(self) -> dict[str, Any]:
        """The hosts by name, among them those that came in the place of dead ones."""
        return dict(zip(self._names, self._hosts, strict=True))

    def train(self, task: str, form: AdapterForm, jobs: Sequence[Job], on_jobs: OnJobs) -> list[Update]:
        first = len(self._hosts)
        with suppress(queue.Empty):
            while True:
                name, host = self._granted.get_nowait()
                self._names.append(name)
                self._hosts.append(host)
        self._start(range(first, len(self._hosts)))
        return super().train(task, form, jobs, on_jobs)

    def close(self) -> None:
        """The hosts are the pool's."""

    def _name(self, number: int) -> str:
        return self._names[number]
