"""A run's hosts as Ray actors: their calls, and who comes in the place of one that died; all share model and data."""

import math
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import ray
from ray.exceptions import ObjectLostError

from emulator.algorithms.aggregation import Sums, blocks_of, contribution, coordinate_sums
from emulator.backends.content import numeric_settings
from emulator.backends.deaths import why_died
from emulator.backends.evaluations import all_shards, evaluation_of
from emulator.backends.host_actor import REPLACED_CPUS, SentStack, Started, loading, new_host
from emulator.backends.kept_updates import KeptPayload, KeptStack, Shapes
from emulator.backends.ray_calls import DIED, LOST, result
from emulator.backends.ray_cluster import cpus_per_host, free_resources
from emulator.backends.shared_states import SharedStates
from emulator.backends.stacks import (
    declared_cost,
    in_order,
    longest_first,
    most_stacked,
    stack_jobs,
)
from emulator.config import Config
from emulator.errors import ConfigError, LostError
from emulator.forms.base import AdapterForm, FrozenWeights, Site
from emulator.records import Arrays, Evaluation, EvaluationShard, Job, Prepared, Update
from emulator.running.capacity import HOST_BYTES, asked_hosts, hosts_on_gpus, most_hosts, n_hosts
from emulator.running.hosts import Backend, HostTiming, OnJobs
from emulator.running.objectives import run_objective
from emulator.running.paths import located

MOST_REPLACEMENTS = 3
"""So often a host that died is replaced before the run gives up."""


class RayHosts(Backend):
    """Hosts as actors, wherever they come from, and the calls of them."""

    def __init__(self, config: Config, cpus_per_host: float) -> None:
        """Start nothing: a subclass fills in the hosts, what they are started with, and what is prepared."""
        self._config = config
        self._settings, self._objective = numeric_settings(config), run_objective(config)
        self._cpus_per_host = cpus_per_host
        self._states = SharedStates()
        self._n_replaced: Counter[int] = Counter()
        self._n_trained_again = 0
        self._hosts: list[Any] = []
        self._started: Started | None = None

    def train(self, task: str, form: AdapterForm, jobs: Sequence[Job], on_jobs: OnJobs) -> list[Update]:
        most = most_stacked(form, self._settings.devices_stacked)
        stacks = stack_jobs(jobs, most, self._config.backend.devices_per_actor)
        costs = [declared_cost(stack, form, self.prepared.model) for stack in stacks]
        updates: list[Update] = []
        # For each running call the host and the stacks that it still owes, in order.
        owed: dict[Any, tuple[int, list[list[Job]]]] = {}

        def call(host: int, own: list[list[Job]]) -> None:
            if own:
                owed[self._hosts[host].train.remote(task, form, [self._sent(stack) for stack in own])] = (host, own)

        for host, share in enumerate(self._shares(stacks, costs)):
            call(host, [stacks[index] for index in share])
        while owed:
            # Payloads stay on their machines: by default, waiting would bring them here.
            ready, _ = ray.wait(list(owed), num_returns=1, fetch_local=False)
            host, own = owed[ready[0]]
            try:
                updates += next_stack(ready[0], partial(self._train_again, task, form, own[0] if own else []))
            except StopIteration:
                del owed[ready[0]]
                continue
            except LOST as error:
                del owed[ready[0]]
                self._replace(host, error)
                call(host, own)
                continue
            own.pop(0)
            on_jobs(len(updates), len(jobs))
        return in_order(updates, jobs)

    def _sent(self, stack: Sequence[Job]) -> SentStack:
        """``stack`` as a host is given it: states are in the object store once, however many jobs start from them."""
        return [replace(job, state={}) for job in stack], [self._states.reference(job.state) for job in stack]

    def _train_again(self, task: str, form: AdapterForm, stack: Sequence[Job]) -> Any:
        """The reference to the payloads of ``stack``, of which the machine was lost that had trained it."""
        while True:
            number = self._n_trained_again % len(self._hosts)
            self._n_trained_again += 1
            stream = self._hosts[number].train.remote(task, form, [self._sent(stack)])
            try:
                return _handed_over(stream)[0]
            except LOST as error:
                self._replace(number, error)

    def add_up(
        self, form: AdapterForm, state: Arrays, updates: Sequence[Update], weights: Sequence[float]
    ) -> Iterable[Sums]:
        """Blocks are added up by the hosts, one each at a time, so that the coordinator never holds an update."""
        if not any(isinstance(update.payload, KeptPayload) for update in updates):
            yield from super().add_up(form, state, updates, weights)
            return
        shared, bases = self._states.reference(state), dict[int, Any]()
        for update in updates:
            if update.base is not None and id(update.base) not in bases:
                bases[id(update.base)] = self._states.reference(update.base)
        waits: deque[Callable[[], Sums]] = deque()
        for number, block in enumerate(blocks_of(updates)):
            own = [updates[at] for at in block]
            shares = [weights[at] for at in block]
            if not all(isinstance(update.payload, KeptPayload) for update in own):
                waits.append(partial(_sums_here, form, state, own, shares))
            else:
                references = [None if update.base is None else bases[id(update.base)] for update in own]
                waits.append(self._add_up_block(number % len(self._hosts), form, shared, own, shares, references))
            if len(waits) > len(self._hosts):
                yield waits.popleft()()
        while waits:
            yield waits.popleft()()

    def _add_up_block(
        self,
        number: int,
        form: AdapterForm,
        shared: Any,
        updates: Sequence[Update],
        weights: Sequence[float],
        bases: Sequence[Any],
    ) -> Callable[[], Sums]:
        """Let a host begin to add up a block; what is lost of it with a machine is trained again."""
        payloads = [cast(KeptPayload, update.payload) for update in updates]
        stacks = list(dict.fromkeys(payload.stack for payload in payloads))
        numbers = {stack: place for place, stack in enumerate(stacks)}
        references = [stack.reference for stack in stacks]
        call = self._call(
            number,
            "add_up",
            form,
            shared,
            [replace(update, payload={}, base=None) for update in updates],
            weights,
            bases,
            references,
            [(numbers[payload.stack], payload.place) for payload in payloads],
        )

        def wait() -> Sums:
            try:
                sums: Sums = call()
            except ObjectLostError:
                for stack, reference in zip(stacks, references, strict=True):
                    stack.replace(reference)
                return self._add_up_block(number, form, shared, updates, weights, bases)()
            return sums

        return wait

    def evaluate(self, form: AdapterForm, state: Arrays) -> Callable[[], Evaluation]:
        shards = all_shards(self.prepared, self._settings.eval_shard_size)
        shared = self._states.reference(state)
        shares = longest_first([len(rows) for rows in shards], len(self._hosts))
        waits = [
            self._call(host, "evaluate", form, shared, [shards[index] for index in share])
            for host, share in enumerate(shares)
        ]

        def wait() -> Evaluation:
            evaluated: dict[int, EvaluationShard] = {}
            for share, of_host in zip(shares, waits, strict=True):
                evaluated.update(zip(share, of_host(), strict=True))
            return evaluation_of(self._objective, self.prepared, [evaluated[index] for index in range(len(shards))])

        return wait

    def weights(self, sites: Sequence[Site]) -> FrozenWeights:
        found: FrozenWeights = self._call(0, "weights", sites)()
        return found

    def own_arrays(self, names: Sequence[str]) -> Arrays:
        found: Arrays = self._call(0, "own_arrays", names)()
        return found

    def export(self, form: AdapterForm, state: Arrays, path: Path) -> None:
        for name, content in self._call(0, "export", form, state)().items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(content)

    def timings(self) -> list[HostTiming]:
        timings: list[HostTiming] = []
        for reference in [host.timings.remote() for host in self._hosts]:
            # What a dead host measured died with it; the next call that needs the host replaces it.
            with suppress(*DIED):
                timings += result(reference)
        return timings

    def close(self) -> None:
        for host in self._hosts:
            ray.kill(host)

    def describe(self) -> Mapping[str, object]:
        return {
            "kind": "ray",
            "n_hosts": len(self._hosts),
            "cpus_per_host": self._cpus_per_host,
            "devices_stacked": self._settings.devices_stacked,
        }

    def _shares(self, stacks: Sequence[Sequence[Job]], costs: Sequence[float]) -> list[list[int]]:
        """For each host the indices of its stacks, longest first."""
        return longest_first(costs, len(self._hosts))

    def _name(self, number: int) -> str:
        return f"host-{number}"

    def _new_host(self, number: int) -> Any:
        n_cpus = REPLACED_CPUS if self._n_replaced[number] else self._cpus_per_host
        return new_host(self._name(number), n_cpus, self._config.backend.gpu_share, self._started)

    def _start(self, numbers: Iterable[int]) -> None:
        """Start these hosts with what was loaded, all at the same time."""
        assert self._started is not None
        started = self._started
        arguments = (started.key, started.settings, started.content, started.weights)
        for wait in [self._call(number, "start", *arguments) for number in numbers]:
            wait()

    def _call(self, number: int, method: str, *arguments: Any) -> Callable[[], Any]:
        """Begin a call of a host. Waiting for its result replaces a host that died and calls the new one."""
        host = self._hosts[number]
        reference = getattr(host, method).remote(*arguments)

        def wait() -> Any:
            try:
                return result(reference)
            except DIED as error:
                # Of several calls that one death ended, the first to be waited for has replaced the host.
                if self._hosts[number] is host:
                    self._replace(number, error)
                return self._call(number, method, *arguments)()

        return wait

    def _replace(self, number: int, error: Exception) -> None:
        """Start a host anew in the place of one that died; its work depends on nothing that died with it."""
        # Each for itself: all that were on a machine die with it, and that once.
        self._n_replaced[number] += 1
        if self._n_replaced[number] > MOST_REPLACEMENTS:
            raise LostError(
                f"a device host died {self._n_replaced[number]} times, the last time: {self._name(number)} "
                f"{why_died(error)}; what was written is whole and can go on; where memory is short, lower "
                "backend.hosts"
            ) from error
        # A host that is only out of reach counts as dead, and must not keep what Ray reserves for it.
        ray.kill(self._hosts[number])
        self._hosts[number] = self._new_host(number)


@dataclass(frozen=True, kw_only=True, slots=True)
class BegunHosts:
    """The hosts of a run, which import torch while its coordinator is still started, and the CPUs reserved for each."""

    hosts: Sequence[Any]
    cpus_per_host: float


def begin_hosts(config: Config, n_devices: int) -> BegunHosts:
    """As many hosts as asked for, on whatever cluster this process is connected to.

    Raises:
        ConfigError: so many do not fit into the cluster's memory.
    """
    number = _checked_n_hosts(config, n_devices, numeric_settings(config).devices_stacked)
    n_cpus = cpus_per_host(config, number)
    hosts = [new_host(f"host-{index}", n_cpus, config.backend.gpu_share) for index in range(number)]
    return BegunHosts(hosts=hosts, cpus_per_host=n_cpus)


class RayBackend(RayHosts):
    """The hosts that were begun for a run. Made inside the coordinator, which ends them."""

    def __init__(self, config: Config, begun: BegunHosts, n_devices: int) -> None:
        """Load model and data once, and start the hosts.

        Raises:
            DataError: the model or the data cannot be used.
            UserError: hosts died more often than they are replaced.
        """
        super().__init__(config, begun.cpus_per_host)
        self._hosts = list(begun.hosts)
        content, weights, self.prepared = self._load(n_devices)
        self._started = Started(key="", settings=self._settings, content=content, weights=weights)
        self._start(range(len(self._hosts)))

    def _shares(self, stacks: Sequence[Sequence[Job]], costs: Sequence[float]) -> list[list[int]]:
        """For each host the indices of its stacks: those of its own devices, or longest first where it owns none."""
        per_actor = self._config.backend.devices_per_actor
        if not per_actor:
            return super()._shares(stacks, costs)
        owners = [stack[0].device_id // per_actor for stack in stacks]
        return [[index for index, owner in enumerate(owners) if owner == host] for host in range(len(self._hosts))]

    def _load(self, n_devices: int) -> tuple[Any, Any, Prepared]:
        """Let model and data be loaded; content and weights stay references, which hosts share."""
        loader = loading(self._hosts[0])
        content, weights, prepared = loader.load.options(num_returns=3).remote(located(self._config), n_devices, True)
        try:
            return content, weights, result(prepared)
        except DIED as error:
            self._replace(0, error)
            return self._load(n_devices)


def next_stack(stream: Any, train_again: Callable[[], Any]) -> list[Update]:
    """The next stack of what :meth:`~emulator.backends.host_actor.HostActor.train` hands over.

    ``train_again`` gives the payloads once more, should they be lost.

    Raises:
        StopIteration: there is none.
    """
    kept, shapes, updates = _handed_over(stream)
    if not shapes:
        return updates
    stack = KeptStack(kept, train_again)
    return [
        replace(update, payload=KeptPayload(stack, place, own))
        for place, (update, own) in enumerate(zip(updates, shapes, strict=True))
    ]


def _handed_over(stream: Any) -> tuple[Any, list[Shapes], list[Update]]:
    """What a host hands over of its next stack: a reference to the payloads, and the others here."""
    kept = next(stream)
    try:
        shapes, updates = cast(tuple[list[Shapes], list[Update]], result(next(stream)))
    except StopIteration:
        result(kept)  # what ended the call
        raise
    return kept, shapes, updates


def _sums_here(form: AdapterForm, state: Arrays, updates: Sequence[Update], weights: Sequence[float]) -> Sums:
    """A block whose updates, or some of them, have come here."""
    return coordinate_sums(state, map(partial(contribution, form, state), updates, weights))


def _checked_n_hosts(config: Config, n_devices: int, devices_stacked: int) -> int:
    backend, free = config.backend, free_resources()
    most = most_hosts(n_devices, devices_stacked)
    number = n_hosts(config, free, asked=asked_hosts(config, n_devices), most=most)
    free_bytes, free_gpus = free.get("memory", math.inf), free.get("GPU", 0.0)
    if backend.gpu_share and number > hosts_on_gpus(free_gpus, backend.gpu_share):
        raise ConfigError(
            f"{number} host processes need {number * backend.gpu_share:g} GPUs, the cluster has {free_gpus:g} "
            f"free; lower backend.gpus_per_host or backend.hosts, got gpus_per_host {backend.gpu_share!r}"
        )
    if number * HOST_BYTES > free_bytes:
        raise ConfigError(
            f"{number} host processes need about {number * HOST_BYTES / 2**30:.1f} GB, the cluster has "
            f"{free_bytes / 2**30:.1f} GB free; raise backend.devices_per_actor or lower backend.hosts, got "
            f"devices_per_actor {backend.devices_per_actor!r}, hosts {backend.hosts!r}"
        )
    return number
