"""How a run is asked to stop, by whatever asks this process to end, and what is raised where it does.

SIGTERM and SIGHUP end a run as Ctrl-C does, so that what was written is whole and says so.
"""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Protocol

ENDING = (signal.SIGTERM, signal.SIGHUP)
"""Sent by kill, batch systems and containers, and by a terminal that is closed."""


@contextmanager
def interruptible() -> Iterator[None]:
    """Within the block the signals :data:`ENDING` raise KeyboardInterrupt; afterwards they do what they did before."""
    before = {number: signal.getsignal(number) for number in ENDING}
    heed_signals()
    try:
        yield
    finally:
        if _is_main_thread():
            for number, handler in before.items():
                # None stands for a handler that was not installed from Python, which cannot be put back.
                if handler is not None:
                    signal.signal(number, handler)


def heed_signals() -> None:
    """Install the handlers, again where a library has put its own in their place.

    An ignored signal stays ignored, since ``nohup`` says so; only the main thread of a process has handlers.
    """
    if _is_main_thread():
        for number in ENDING:
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, _interrupt)


@contextmanager
def hang_up_kept_from_children() -> Iterator[None]:
    """Processes that are started in the block do not get SIGHUP; this one may get it only at the end of the block.

    A terminal that is closed sends it to the whole process group, and a run needs its processes to end in order.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _is_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


class Interrupted(Exception):
    """The run was asked to stop; what was written stays."""


class StopSignal(Protocol):
    """Anything that can say whether the run shall stop, and be waited for, such as ``threading.Event``."""

    def is_set(self) -> bool: ...

    def wait(self, timeout: float) -> bool:
        """Wait for at most ``timeout`` seconds of the wall; whether the run shall stop."""
        ...


@contextmanager
def all_or_nothing() -> Iterator[None]:
    """Within the block, Ctrl-C, SIGTERM and SIGHUP end the command with one line and exit status 130."""
    try:
        with interruptible():
            yield
    except KeyboardInterrupt:
        print("jetbed: interrupted; nothing was written", file=sys.stderr)
        raise SystemExit(130) from None
