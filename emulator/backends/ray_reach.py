"""Ends what waits for a Ray that is gone: Ray itself would let it wait for a minute, or for ever."""

import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from ray.exceptions import RayError

from emulator.errors import LostError, UserError

GIVE_UP_S = 20.0
"""So long the block may take to close what it has written, before this process ends as it is."""
WATCH_S = 1.0
"""How often it is looked for what a block needs."""


@contextmanager
def ended_without(is_there: Callable[[], bool], patience_s: float, error: UserError) -> Iterator[None]:
    """Ends the block when ``is_there`` has denied it for ``patience_s``.

    Raises:
        UserError: it is ``error``, also in the place of what fails in the block for the same reason.
    """
    is_over, is_lost = threading.Event(), threading.Event()

    def watch() -> None:
        last_s = time.monotonic()
        while time.monotonic() - last_s < patience_s:
            if is_over.wait(WATCH_S):
                return
            if is_there():
                last_s = time.monotonic()
        is_lost.set()
        # A signal, since the main thread may be waiting outside Python.
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        if not is_over.wait(GIVE_UP_S):
            print(f"jetbed: {error}", file=sys.stderr, flush=True)
            os._exit(2)

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    except (KeyboardInterrupt, RayError, UserError) as raised:
        # What fails meanwhile fails for want of it, whatever it says itself.
        if is_lost.is_set() or not (isinstance(raised, KeyboardInterrupt) or is_there()):
            raise error from raised
        raise
    finally:
        is_over.set()


@contextmanager
def raylet_in_reach(advice: str) -> Iterator[None]:
    """Ends the block when the raylet has died through which this process speaks to its cluster.

    Raises:
        LostError: it has; the message ends with ``advice``.
    """
    raylet = _Raylet.of_this_process()
    if raylet is None:
        yield
        return
    error = LostError(f"the Ray process of this machine (raylet) has died; what was written is whole, and {advice}")
    with ended_without(raylet.lives, WATCH_S, error):
        yield


def has_raylet_died() -> bool:
    """Whether nothing can be asked of the cluster any more, since the raylet of this process has died."""
    path = _socket_of_raylet()
    return bool(path) and _connected(path) is None


class _Raylet:
    """A connection to a raylet that says nothing, and ends with it."""

    def __init__(self, path: str, connection: socket.socket) -> None:
        self._path = path
        self._connection: socket.socket | None = connection

    @classmethod
    def of_this_process(cls) -> "_Raylet | None":
        """None where this process speaks to none, such as through Ray's client, or to one that cannot be watched."""
        path = _socket_of_raylet()
        connection = _connected(path) if path else None
        return cls(path, connection) if connection else None

    def lives(self) -> bool:
        # A raylet may hang up and live; one that is dead takes no other connection.
        if self._connection is not None and _has_ended(self._connection):
            self._connection.close()
            self._connection = _connected(self._path)
        return self._connection is not None


def _socket_of_raylet() -> str:
    """Where the raylet of this process listens; nothing where there is none on a path."""
    worker: Any = import_module("ray._private.worker")
    path = str(getattr(worker._global_node, "raylet_socket_name", None) or "")
    return path if path.startswith("/") else ""


def _connected(path: str) -> socket.socket | None:
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(path)
    except OSError:
        connection.close()
        return None
    return connection


def _has_ended(connection: socket.socket) -> bool:
    waiting = select.poll()
    waiting.register(connection, select.POLLIN)
    if not waiting.poll(0):
        return False
    try:
        return not connection.recv(1)
    except OSError:
        return True
