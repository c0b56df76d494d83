"""A run on Ray: a coordinator actor, watched from this process, on a cluster that is left as it was found."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from emulator.backends.ray import DIED, RayBackend, first_line, result
from emulator.backends.ray_start import check_room, connect
from emulator.config import Config
from emulator.errors import UserError
from emulator.running.capacity import least_hosts, trained_bytes
from emulator.running.compose import build_coordinator
from emulator.running.interruption import hang_up_kept_from_children, heed_signals, interruptible
from emulator.running.progress import OnProgress, Progress

POLL_S = 0.2
"""How often the display is refreshed."""
GRACE_S = 30.0
"""How long an interrupted run may take to finish the stack that it is training."""


class CoordinatorActor:
    """The actor around :class:`~emulator.running.coordinator.Coordinator`; its other methods run beside :meth:`run`."""

    def __init__(self, config: Config, out_dir: Path, folder: Path) -> None:
        # A cluster that was started elsewhere has another working directory, and paths are relative to the user's.
        os.chdir(folder)
        self._config = config
        self._out_dir = out_dir
        self._stop = threading.Event()
        self._latest: Progress | None = None

    def run(self) -> None:
        start_backend = partial(RayBackend, self._config) if self._config.training.enabled else None
        coordinator = build_coordinator(self._config, self._out_dir, start_backend, self._note, self._stop)
        coordinator.run()

    def progress(self) -> Progress | None:
        return self._latest

    def stop(self) -> None:
        self._stop.set()

    def _note(self, progress: Progress) -> None:
        self._latest = progress


def run_on_ray(config: Config, out_dir: Path, on_progress: OnProgress) -> None:
    """Run to the end; ``on_progress`` is called from this thread.

    Raises:
        UserError: something that the user gave cannot be used.
        KeyboardInterrupt: the run was interrupted; what was written is whole.
    """
    if config.training.enabled:
        check_room(least_hosts(config), trained_bytes(config))
    on_progress(Progress(rounds_done=0, n_rounds=config.rounds))
    with connected():
        options = {"num_cpus": 0, "max_concurrency": 2, "scheduling_strategy": here()}
        remote: Any = ray.remote(CoordinatorActor).options(**options)
        actor = remote.remote(config, out_dir.absolute(), Path.cwd())
        running = actor.run.remote()
        try:
            is_done = False
            while not is_done:
                done, _ = ray.wait([running], timeout=POLL_S)
                is_done = bool(done)
                progress = ray.get(actor.progress.remote())
                if progress is not None:
                    on_progress(progress)
            result(running)
        except KeyboardInterrupt:
            actor.stop.remote()
            ray.wait([running], timeout=GRACE_S)
            raise
        except DIED as error:
            # An error inside the coordinator is one of its task, whatever its cause; its own death is not.
            if isinstance(error, RayTaskError):
                raise
            raise UserError(f"the coordinator died, most likely for want of memory ({first_line(error)})") from error


def here() -> NodeAffinitySchedulingStrategy:
    """Places an actor on this machine, where the user's files are and results are written."""
    return NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)


@contextmanager
def connected() -> Iterator[None]:
    """Connected to the cluster that RAY_ADDRESS names, else to one of our own, which ends with the block.

    Raises:
        UserError: there is no cluster at RAY_ADDRESS, or none can be started here.
    """
    if ray.is_initialized():
        yield
        return
    with interruptible():
        try:
            with hang_up_kept_from_children():
                connect()
            # Ray has put a handler of its own in the place of ours.
            heed_signals()
            yield
        finally:
            ray.shutdown()
