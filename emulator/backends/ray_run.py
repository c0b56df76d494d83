"""A run on Ray: a coordinator actor, watched from this process, on a cluster that is left as it was found."""

import logging
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayTaskError

from emulator.backends.environment import set_environment
from emulator.backends.ray import DIED, RayBackend, first_line, result
from emulator.config import Config
from emulator.errors import UserError
from emulator.running.compose import build_coordinator
from emulator.running.interruption import hang_up_kept_from_children, heed_signals, interruptible
from emulator.running.progress import OnProgress, Progress

POLL_S = 0.2
"""How often the display is refreshed."""
GRACE_S = 30.0
"""How long an interrupted run may take to finish the stack that it is training."""
OBJECT_STORE_BYTES = 512 * 2**20
"""Shared memory of a cluster of our own; updates are dropped round by round, models beyond it spill to disk."""
REACH_S = 3.0
"""How long the address in RAY_ADDRESS may take to answer before Ray, which is more patient, is asked to connect."""


class CoordinatorActor:
    """The actor around :class:`~emulator.running.coordinator.Coordinator`; its other methods run beside :meth:`run`."""

    def __init__(self, config: Config, out_dir: Path) -> None:
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
    with connected():
        remote: Any = ray.remote(CoordinatorActor).options(num_cpus=0, max_concurrency=2)
        actor = remote.remote(config, out_dir.absolute())
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


@contextmanager
def connected() -> Iterator[None]:
    """Connected to the cluster that RAY_ADDRESS names, else to one of our own, which ends with the block.

    Raises:
        UserError: there is no cluster at RAY_ADDRESS.
    """
    if ray.is_initialized():
        yield
        return
    with interruptible():
        try:
            with hang_up_kept_from_children():
                _connect()
            # Ray has put a handler of its own in the place of ours.
            heed_signals()
            yield
        finally:
            ray.shutdown()


def _connect() -> None:
    environment = set_environment()
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    address = os.environ.get("RAY_ADDRESS")
    if not address:
        # "local" and not the default, which would join any cluster that happens to run on this machine.
        options |= {"address": "local", "include_dashboard": False, "object_store_memory": OBJECT_STORE_BYTES}
        ray.init(**options)
        return
    try:
        _check_reachable(address)
        ray.init(**options, address=address, runtime_env={"env_vars": environment})
    # Ray raises many kinds of error here, asserts among them, and documents none.
    except Exception as error:
        raise UserError(
            f"cannot connect to the Ray cluster at RAY_ADDRESS ({first_line(error)}); set it to the host:port of a "
            f"running cluster, or unset it to run on this machine, got {address!r}"
        ) from error


def _check_reachable(address: str) -> None:
    """Try the socket, where ``address`` names one.

    Raises:
        OSError: nothing listens there.
        OverflowError: there is no such port.
    """
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), timeout=REACH_S).close()
