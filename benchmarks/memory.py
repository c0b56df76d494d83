"""Peak memory of a process and all its descendants, sampled while they run."""

import contextlib
import threading
from collections.abc import Callable

import psutil

PERIOD_S = 0.5


def peak_bytes_of(pid: int) -> Callable[[], float]:
    """Start watching ``pid``; call what is returned after the process has ended to get the peak in bytes.

    Memory that processes share, such as an object store, is counted once (proportional set size).
    """
    peak = 0.0

    def watch() -> None:
        nonlocal peak
        with contextlib.suppress(psutil.NoSuchProcess):
            root = psutil.Process(pid)
            while root.is_running() and root.status() != psutil.STATUS_ZOMBIE:
                peak = max(peak, sum(_proportional_bytes(p) for p in [root, *root.children(recursive=True)]))
                ended.wait(PERIOD_S)

    ended = threading.Event()
    thread = threading.Thread(target=watch, daemon=True)
    thread.start()

    def result() -> float:
        ended.set()
        thread.join()
        return peak

    return result


def _proportional_bytes(process: psutil.Process) -> float:
    try:
        return float(process.memory_full_info().pss)
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return 0.0
