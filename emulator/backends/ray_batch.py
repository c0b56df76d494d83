"""Runs side by side on Ray: a coordinator process for each that is under way, and one pool of hosts for all of them."""

import os
import queue
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from emulator.backends.batch import BatchRun, Listener, alike, lease_size, next_run
from emulator.backends.deaths import Lives, is_cluster_lost
from emulator.backends.environment import set_environment
from emulator.backends.locks import hold_shared
from emulator.backends.ray_calls import DIED, result
from emulator.backends.ray_cluster import cluster_gpus, here
from emulator.backends.ray_pool import Granted, HostPool, Lease, LeasedBackend, Loaded, key_of
from emulator.backends.ray_reach import has_raylet_died, raylet_in_reach
from emulator.backends.ray_run import GRACE_S, POLL_S, connected
from emulator.backends.ray_start import check_room
from emulator.errors import LostError, UserError
from emulator.observers.base import Progress, RunObserver
from emulator.observers.mailbox import Event, Mailbox, deliver
from emulator.running.capacity import least_hosts, n_cores, trained_bytes, weights_bytes, with_gpus
from emulator.running.compose import build_coordinator
from emulator.running.hosts import Backend
from emulator.storage.places import storage_variables

TOLD = frozenset({"progressed", "warned"})
"""The events of a run that the listener of a batch is told of."""


class CoordinatorSlot:
    """Carries out one run after another. Its other methods run beside :meth:`run`."""

    def __init__(self, lock: Path | None, folder: Path, variables: Mapping[str, str]) -> None:
        os.environ |= variables
        # Paths are relative to the user's working directory, wherever the cluster was started.
        os.chdir(folder)
        # As long as this process lives, nobody else takes its runs for abandoned.
        self._lock = hold_shared(lock) if lock else None
        set_environment()
        self._stop = threading.Event()
        self._granted: Granted = queue.SimpleQueue()
        self._backend: LeasedBackend | None = None
        self._mailbox = Mailbox(TOLD)

    def run(self, run: BatchRun, lease: Lease | None) -> None:
        def start(n_devices: int) -> Backend:
            assert lease is not None
            self._backend = LeasedBackend(run.config, lease, self._granted)
            return self._backend

        try:
            start_backend = start if run.config.training.enabled else None
            build_coordinator(run.config, run.out_dir, start_backend, [self._mailbox], self._stop).run()
        finally:
            self._granted = queue.SimpleQueue()

    def events(self) -> list[Event]:
        return self._mailbox.fetch()

    def grant(self, name: str, host: Any) -> None:
        self._granted.put((name, host))

    def hand_back(self) -> dict[str, Any]:
        """The hosts of the run that has ended, by name, as far as it has started them."""
        backend, self._backend = self._backend, None
        return backend.hosts() if backend else {}

    def stop(self) -> None:
        self._stop.set()


@dataclass(kw_only=True, slots=True)
class _ActiveRun:
    """A run under way: its slot, the reference to its end, the names of its hosts, and how often it may still die."""

    run: BatchRun
    slot: Any
    end: Any
    hosts: list[str]
    lives: Lives


def run_side_by_side(runs: Sequence[BatchRun], listener: Listener, max_parallel: int, lock: Path | None) -> None:
    """Carry out all runs, at most ``max_parallel`` at a time (0: as many as there are hosts, or cores without hosts).

    Raises:
        UserError: there is no cluster, or no room for the hosts. What goes wrong in a run is told to the listener.
        KeyboardInterrupt: the batch was interrupted; what was written is whole.
    """
    trained = [run.config for run in runs if run.config.training.enabled]
    if trained:
        check_room(max(map(least_hosts, trained)), max(map(trained_bytes, trained)), max(map(weights_bytes, trained)))
    with connected(), raylet_in_reach("the same command goes on"):
        settled = [replace(run, config=with_gpus(run.config, cluster_gpus())) for run in runs]
        for group in alike(settled):
            batch = _Batch(group, listener, max_parallel, lock)
            try:
                batch.carry_out()
            finally:
                batch.close()


class _Batch:
    """Runs that share a pool of hosts, or that need none."""

    def __init__(self, runs: Sequence[BatchRun], listener: Listener, max_parallel: int, lock: Path | None) -> None:
        self._waiting = list(runs)
        self._listener = listener
        self._lock = lock
        self._loaded = Loaded()
        self._pool = HostPool(runs) if runs[0].config.training.enabled else None
        self._free = list(self._pool.hosts) if self._pool else []
        self._resident: dict[str, str] = {}
        most = min(max_parallel or n_cores(), len(runs))
        if self._pool:
            most = min(max_parallel or len(self._free), len(self._free), len(runs))
        self._slots = [self._new_slot() for _ in range(most)]
        self._active: list[_ActiveRun] = []

    def carry_out(self) -> None:
        try:
            while self._waiting or self._active:
                while self._waiting and self._slots:
                    self._start()
                self._grant()
                self._wait()
        except KeyboardInterrupt:
            self._interrupt()
            raise

    def close(self) -> None:
        if self._pool:
            self._pool.close()
        for slot in [*self._slots, *(active.slot for active in self._active)]:
            ray.kill(slot)

    def _start(self) -> None:
        """Start the next run on a free slot, with its share of the free hosts."""
        slot, names = self._slots.pop(0), []
        index = 0
        if self._pool:
            keys = [key_of(run) for run in self._waiting]
            index = next_run(keys, {self._resident.get(name, "") for name in self._free})
            n_hosts = lease_size(len(self._free), min(len(self._slots) + 1, len(self._waiting)))
            # Hosts that have its content already come first.
            self._free.sort(key=lambda name: (self._resident.get(name) != keys[index], name))
            names, self._free = self._free[:n_hosts], self._free[n_hosts:]
        run = self._waiting.pop(index)
        self._listener.started(run.name)
        lives = Lives(run.out_dir, command="the same command")
        self._active.append(_ActiveRun(run=run, slot=slot, end=self._begin(run, slot, names), hosts=names, lives=lives))

    def _begin(self, run: BatchRun, slot: Any, names: Sequence[str]) -> Any:
        """Let ``slot`` carry ``run`` out on these hosts; the reference to its end."""
        lease = None
        if self._pool:
            hosts = {name: self._pool.hosts[name] for name in names}
            started, prepared = self._loaded.of(run, hosts[names[0]])
            self._resident |= dict.fromkeys(names, started.key)
            lease = Lease(hosts=hosts, cpus_per_host=self._pool.cpus_per_host, started=started, prepared=prepared)
        return slot.run.remote(run, lease)

    def _grant(self) -> None:
        """Give hosts that no run waits for to those under way, the fewest first."""
        while self._pool and self._free and self._active and not self._waiting:
            active = min(self._active, key=lambda active: len(active.hosts))
            name = self._free.pop(0)
            active.slot.grant.remote(name, self._pool.hosts[name])
            active.hosts.append(name)

    def _wait(self) -> None:
        """Wait for a run to end, but not for long; tell how far the others are."""
        ended, _ = ray.wait([active.end for active in self._active], timeout=POLL_S)
        self._tell_progress()
        for active in [active for active in self._active if active.end in ended]:
            self._active.remove(active)
            self._end(active)

    def _tell_progress(self) -> None:
        asked = {active.slot.events.remote(): active.run.name for active in self._active}
        answered, _ = ray.wait(list(asked), num_returns=len(asked), timeout=1.0)
        for reference in answered:
            # A death is told by the run's own reference.
            with suppress(*DIED):
                deliver(ray.get(reference), _Named(asked[reference], self._listener))

    def _end(self, active: _ActiveRun) -> None:
        """A run has ended, or its coordinator has died and another one goes on.

        Raises:
            LostError: the cluster is gone, and with it whatever was under way.
        """
        error, is_dead = _error_of(active.end)
        if is_dead:
            assert error is not None
            with suppress(RayError):
                ray.kill(active.slot)
            error = self._let_go_on(active, error)
            if error is None:
                return
        else:
            # All of it, so that nothing is left for the next run on this slot.
            deliver(result(active.slot.events.remote()), _Named(active.run.name, self._listener))
            if self._pool:
                self._pool.hosts |= result(active.slot.hand_back.remote())
        if error is not None:
            self._renew(active)
        if self._pool:
            self._loaded.keep([*self._waiting, *(other.run for other in self._active)])
        self._slots.append(active.slot)
        self._free += active.hosts
        self._listener.ended(active.run.name, error)

    def _let_go_on(self, active: _ActiveRun, death: BaseException) -> LostError | None:
        """Have a new coordinator go on with a run whose own has died; why not, where it has died too often."""
        try:
            told = active.lives.lose_one(death)
        except LostError as error:
            if is_cluster_lost(death):
                raise
            active.slot = self._new_slot()
            return error
        self._listener.warned(active.run.name, told)
        active.slot = self._new_slot()
        self._renew(active)
        active.end = self._begin(active.run, active.slot, active.hosts)
        self._active.append(active)
        return None

    def _renew(self, active: _ActiveRun) -> None:
        """Replace the dead among the hosts of a run; those that its coordinator had started died with it."""
        if self._pool:
            self._pool.renew(active.hosts)
            self._loaded.forget(active.run)
            self._resident = {name: key for name, key in self._resident.items() if name not in active.hosts}

    def _interrupt(self) -> None:
        """Ask the runs under way to stop, and wait for them to have written what they have."""
        if has_raylet_died():
            return
        for active in self._active:
            active.slot.stop.remote()
        if self._active:
            ray.wait([active.end for active in self._active], num_returns=len(self._active), timeout=GRACE_S)

    def _new_slot(self) -> Any:
        remote: Any = ray.remote(CoordinatorSlot).options(num_cpus=0, max_concurrency=2, scheduling_strategy=here())
        return remote.remote(self._lock, Path.cwd(), storage_variables())


def _error_of(end: Any) -> tuple[BaseException | None, bool]:
    """What a run ended with, and whether its coordinator died of it."""
    try:
        result(end)
    except UserError as error:
        return error, False
    except RayTaskError as error:
        return error.cause, False
    except DIED as error:
        return error, True
    return None, False


class _Named(RunObserver):
    """Passes what a run tells on to the listener, under the run's name."""

    def __init__(self, name: str, listener: Listener) -> None:
        self._name = name
        self._listener = listener

    def progressed(self, progress: Progress) -> None:
        self._listener.progressed(self._name, progress)

    def warned(self, text: str) -> None:
        self._listener.warned(self._name, text)
