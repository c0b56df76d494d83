"""A run on Ray: a coordinator actor, watched from this process, on a cluster that is left as it was found."""

import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from emulator.backends.deaths import Lives
from emulator.backends.ray import BegunHosts, RayBackend, begin_hosts
from emulator.backends.ray_calls import DIED, result
from emulator.backends.ray_cluster import cluster_gpus, free_resources, here
from emulator.backends.ray_join import head_in_reach
from emulator.backends.ray_noise import only_python_speaks
from emulator.backends.ray_reach import has_raylet_died, raylet_in_reach
from emulator.backends.ray_start import check_room, connect, watched_over
from emulator.config import Config
from emulator.errors import LostError, UserError
from emulator.observers.base import Progress, RunEnded, RunObserver
from emulator.observers.mailbox import Event, Mailbox, deliver, wanted
from emulator.observers.many import Observers
from emulator.results.observer_failures import add_observer_failures
from emulator.running.capacity import least_hosts, trained_bytes, weights_bytes, with_gpus
from emulator.running.compose import build_coordinator
from emulator.running.interruption import hang_up_kept_from_children, heed_signals, interruptible
from emulator.running.resolve import cluster_of
from emulator.storage.places import Place, storage_variables

POLL_S = 0.2
"""How often this process asks what has happened."""
GRACE_S = 30.0
"""How long an interrupted run may take to finish the stack that it is training."""

FREE_S = 15.0
"""How long the hosts of a coordinator that died may take to end, once they are told to."""


class CoordinatorActor:
    """The actor around :class:`~emulator.running.coordinator.Coordinator`; its other methods run beside :meth:`run`."""

    def __init__(
        self,
        config: Config,
        out_dir: Place,
        events: frozenset[str],
        folder: Path,
        variables: Mapping[str, str],
        begun: BegunHosts | None,
    ) -> None:
        os.environ |= variables
        # A cluster that was started elsewhere has another working directory, and paths are relative to the user's.
        os.chdir(folder)
        self._config = config
        self._begun = begun
        self._out_dir = out_dir
        self._stop = threading.Event()
        self._mailbox = Mailbox(events)

    def run(self) -> None:
        start_backend = partial(RayBackend, self._config, self._begun) if self._begun else None
        coordinator = build_coordinator(self._config, self._out_dir, start_backend, [self._mailbox], self._stop)
        coordinator.run()

    def events(self) -> list[Event]:
        return self._mailbox.fetch()

    def stop(self) -> None:
        self._stop.set()


def run_on_ray(config: Config, out_dir: Place, observers: Sequence[RunObserver]) -> None:
    """Run to the end; ``observers`` are told in this thread, of each round a moment after it was closed.

    Raises:
        UserError: something that the user gave cannot be used.
        KeyboardInterrupt: the run was interrupted; what was written is whole.
    """
    if config.training.enabled:
        check_room(least_hosts(config), trained_bytes(config), weights_bytes(config))
    told = Observers(observers)
    told.progressed(Progress(rounds_done=0, n_rounds=config.rounds))
    try:
        with connected():
            _watch(with_gpus(config, cluster_gpus()), out_dir.absolute(), told, wanted(observers))
    finally:
        add_observer_failures(out_dir, told.failures)


def _watch(config: Config, out_dir: Place, told: RunObserver, events: frozenset[str]) -> None:
    """Let coordinators carry the run out, one after the death of the other, and pass on what they tell."""
    lives, free = Lives(out_dir), free_resources()
    options = {"num_cpus": 0, "max_concurrency": 2, "scheduling_strategy": here()}
    remote: Any = ray.remote(CoordinatorActor).options(**options)
    arguments = (config, out_dir, events, Path.cwd(), storage_variables())
    try:
        with raylet_in_reach(f"'jetbed resume' goes on: {str(out_dir)!r}"):
            while True:
                # Before the coordinator: what they import takes longer than all else until the first job.
                begun = begin_hosts(config, cluster_of(config).n_devices) if config.training.enabled else None
                death = _carried_out(remote, (*arguments, begun), told)
                if death is None:
                    return
                told.warned(lives.lose_one(death))
                _end(begun)
                await_free(free)
    except LostError as error:
        told.run_ended(RunEnded(status="failed", error=str(error)))
        raise


def _carried_out(remote: Any, arguments: tuple[Any, ...], told: RunObserver) -> BaseException | None:
    """Let one coordinator carry the run out; what its calls raised if it died. ``arguments`` end with its hosts."""
    try:
        return _follow(remote.remote(*arguments), told)
    except (UserError, RayTaskError):
        _end(arguments[-1])
        raise


def _end(begun: BegunHosts | None) -> None:
    """End the hosts whose coordinator has not come to it."""
    for host in begun.hosts if begun else ():
        with suppress(RayError):
            ray.kill(host)


def _follow(actor: Any, told: RunObserver) -> BaseException | None:
    """Pass on what a coordinator tells until it has ended; what its calls raised if it died."""
    running = actor.run.remote()
    try:
        is_done = False
        while not is_done:
            done, _ = ray.wait([running], timeout=POLL_S)
            is_done = bool(done)
            deliver(ray.get(actor.events.remote()), told)
        result(running)
    except KeyboardInterrupt:
        if has_raylet_died():
            raise
        actor.stop.remote()
        ray.wait([running], timeout=GRACE_S)
        with suppress(RayError):
            deliver(ray.get(actor.events.remote(), timeout=GRACE_S), told)
        raise
    except DIED as error:
        # An error inside the coordinator is one of its task, whatever its cause; its own death is not.
        if isinstance(error, RayTaskError):
            raise
        # One that is only out of reach counts as dead, and must not write any more.
        with suppress(RayError):
            ray.kill(actor)
        return error
    return None


def await_free(resources: Mapping[str, float]) -> None:
    """Wait until the hosts of a coordinator that died have left what they reserved, as far as others let them.

    ``resources`` were free before it was started.
    """
    deadline_s = time.monotonic() + FREE_S
    while time.monotonic() < deadline_s:
        free = free_resources()
        if all(free.get(name, 0.0) >= resources.get(name, 0.0) for name in ("CPU", "GPU")):
            return
        time.sleep(POLL_S)


@contextmanager
def connected() -> Iterator[None]:
    """Connected to the cluster that RAY_ADDRESS names, else to one of our own, which ends with the block.

    Raises:
        UserError: there is no cluster at RAY_ADDRESS, or none can be started here.
    """
    if ray.is_initialized():
        yield
        return
    with interruptible(), only_python_speaks(), watched_over():
        try:
            with hang_up_kept_from_children():
                connect()
            # Ray has put a handler of its own in the place of ours.
            heed_signals()
            with head_in_reach(os.environ.get("RAY_ADDRESS")):
                yield
        finally:
            ray.shutdown()
