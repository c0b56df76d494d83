"""Starts a Ray cluster of this run's own, or joins one: what would stop it is found before, and it has a deadline."""

import logging
import os
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray

from emulator.backends.environment import set_environment
from emulator.backends.kinds import RAY_BYTES
from emulator.backends.ray_head import lean_head
from emulator.backends.ray_join import join
from emulator.backends.watcher import nothing_left_behind
from emulator.errors import UserError
from emulator.running.capacity import HOST_BYTES
from emulator.running.limits import memory_left_bytes, n_cores, tasks_left

OBJECT_STORE_BYTES = 512 * 2**20
"""Shared memory of a cluster of our own; updates are dropped round by round, models beyond it spill to disk."""
START_S = 120.0
"""So long Ray may take to start. Where it cannot start processes, it waits for them without end."""
GIVE_UP_S = 15.0
"""So long a start that is given up may take to notice, before the process ends as it is."""
JOIN_S = 60.0
"""So long a cluster that runs may take to let this process in; a few seconds are usual."""
RAY_TASKS, HOST_TASKS = 150, 24
"""Processes and threads of Ray with a coordinator, and of each host: measured 163 and 24 on a machine of two cores."""
LEAST_FREE_BYTES = 64 * 2**20
"""Ray's logs and sockets need little; a folder with less than this is full."""
MOST_SOCKET_BYTES = 107
"""Of the path of a socket (unix(7): 108 with the null byte)."""
_SOCKET = "ray/session_2000-01-01_00-00-00_000000_4194304/sockets/plasma_store"
"""The longest socket that Ray makes in its temporary folder; process ids end at 4194304 (proc(5))."""


def connect() -> None:
    """Connect to the cluster at ``RAY_ADDRESS``, or start one on this machine.

    Raises:
        UserError: there is none at that address, or none can be started here.
    """
    environment = set_environment()
    address = os.environ.get("RAY_ADDRESS")
    if address:
        message = (
            f"the Ray cluster at RAY_ADDRESS has not let this process in within {JOIN_S:.0f} s; see with ray status on "
            f"its head what it waits for, got {address!r}"
        )
        with _deadline(JOIN_S, message):
            join(address, environment)
    else:
        _start_here()


@contextmanager
def watched_over() -> Iterator[None]:
    """Within the block, a cluster that :func:`connect` starts here ends with the block, and with this process.

    Raises:
        UserError: Ray has no temporary folder.
    """
    if os.environ.get("RAY_ADDRESS"):
        yield
        return
    with nothing_left_behind(temporary_folder() / "ray"):
        yield


def check_room(n_hosts: int, model_bytes: int, stored_bytes: int) -> None:
    """Check that this machine has room for Ray, its hosts and a model, if a cluster is to be started on it.

    Args:
        n_hosts: so many are started.
        model_bytes: what the model takes while it is loaded.
        stored_bytes: what of it goes into Ray's object store.

    Raises:
        UserError: it has not; the message names what is short.
    """
    if os.environ.get("RAY_ADDRESS"):
        return
    left = tasks_left()
    needed = RAY_TASKS + HOST_TASKS * n_hosts
    if left is not None and left < needed:
        raise UserError(
            f"Ray with {_hosts(n_hosts)} starts about {needed} processes and threads, and {left} more are allowed here "
            "(pids.max of the control group, or ulimit -u); raise the limit, or use --backend inline"
        )
    free_bytes = memory_left_bytes()
    needed_bytes = RAY_BYTES + n_hosts * HOST_BYTES + model_bytes
    if free_bytes is not None and free_bytes < needed_bytes:
        raise UserError(
            f"Ray with {_hosts(n_hosts)} and the model needs about {needed_bytes / 2**30:.1f} GiB, and "
            f"{free_bytes / 2**30:.1f} GiB are left to this process (by its control group, where that has a limit); "
            "lower backend.hosts, raise the limit, or use --backend inline"
        )
    folder = temporary_folder()
    # What the object store has no room for goes to the disk of the temporary folder.
    disk_bytes = shutil.disk_usage(folder).free
    if stored_bytes > OBJECT_STORE_BYTES and disk_bytes < stored_bytes:
        raise UserError(
            f"the model of {stored_bytes / 1e9:.1f} GB fits neither into Ray's object store of "
            f"{OBJECT_STORE_BYTES / 1e9:.1f} GB nor into what {str(folder)!r} has free, {disk_bytes / 1e9:.1f} GB; set "
            "RAY_TMPDIR to a folder with more room, or use --backend inline"
        )


def _hosts(number: int) -> str:
    return "1 host" if number == 1 else f"{number} hosts"


def temporary_folder() -> Path:
    """The folder in which Ray keeps its sockets, logs and what does not fit into memory.

    It is what RAY_TMPDIR says; without it the system's, or another one where that cannot be used.

    Raises:
        UserError: it cannot be used, and no other one either.
    """
    if given := os.environ.get("RAY_TMPDIR"):
        folder = Path(given).expanduser().absolute()
        if reason := _why_unusable(folder):
            raise UserError(
                f"Ray cannot use the temporary folder that RAY_TMPDIR names, since {reason}; set RAY_TMPDIR to a short "
                f"folder of yours that has room, got {given!r}"
            )
        return folder
    own = [Path(tempfile.gettempdir()).absolute(), Path("/tmp"), Path(f"/tmp/ray-of-{os.getuid()}")]
    reasons = [_why_unusable(folder) for folder in own]
    for folder, reason in zip(own, reasons, strict=True):
        if not reason:
            return folder
    raise UserError(
        f"Ray cannot use the temporary folder {str(own[0])!r}, since {reasons[0]}; set RAY_TMPDIR to a short folder of "
        "yours that has room"
    )


def _why_unusable(folder: Path) -> str:
    """Why Ray cannot keep its session in ``folder``; nothing where it can."""
    text = str(folder)
    if not text.isascii():
        return "its path has letters beyond ASCII"
    if len(os.fsencode(f"{text}/{_SOCKET}")) > MOST_SOCKET_BYTES:
        most = MOST_SOCKET_BYTES - len(_SOCKET) - 1
        return f"its path has more than the {most} characters that leave room for the names of sockets"
    try:
        (folder / "ray").mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder / "ray"):
            pass
        free_bytes = shutil.disk_usage(folder).free
    except OSError as error:
        return f"{str(folder / 'ray')!r} cannot be written to ({error.strerror or error})"
    return f"it has {free_bytes / 2**20:.0f} MiB free" if free_bytes < LEAST_FREE_BYTES else ""


def _start_here() -> None:
    folder = temporary_folder() / "ray"
    options: dict[str, Any] = {}
    free_bytes = memory_left_bytes()
    if free_bytes is not None:
        # Ray itself looks at the machine, or at the group that a container sees as the root.
        options["_memory"] = max(2**20, free_bytes - RAY_BYTES)
    message = (
        f"Ray has not started within {START_S:.0f} s: it waits for processes of its own, which a limit on processes or "
        f"memory may keep from starting; its logs are in {str(folder / 'session_latest/logs')!r}; raise the limit, or "
        "use --backend inline"
    )
    with _deadline(START_S, message), lean_head():
        try:
            # "local" and not the default, which would join any cluster that happens to run on this machine.
            ray.init(
                address="local",
                include_dashboard=False,
                object_store_memory=OBJECT_STORE_BYTES,
                num_cpus=n_cores(),
                log_to_driver=False,
                logging_level=logging.ERROR,
                _temp_dir=str(folder),
                **options,
            )
        # Ray raises many kinds of error here and documents none.
        except Exception as error:
            said = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
            raise UserError(
                f"Ray cannot be started on this machine ({said}); its logs are in "
                f"{str(folder / 'session_latest/logs')!r}; free what is short, or use --backend inline"
            ) from error


@contextmanager
def _deadline(limit_s: float, message: str) -> Iterator[None]:
    """Ends the block after so many seconds, and the process where the block cannot be ended.

    Raises:
        UserError: the time is over; it says ``message``.
    """
    is_over = threading.Event()

    def end() -> None:
        is_over.set()
        # A signal, since the main thread may be waiting outside Python.
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        if not is_noticed.wait(GIVE_UP_S):
            print(f"jetbed: {message}", file=sys.stderr, flush=True)
            os._exit(2)

    is_noticed = threading.Event()
    timer = threading.Timer(limit_s, end)
    timer.daemon = True
    try:
        timer.start()
        yield
    except KeyboardInterrupt:
        if is_over.is_set():
            raise UserError(message) from None
        raise
    finally:
        is_noticed.set()
        timer.cancel()
