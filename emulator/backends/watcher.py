"""Ends what a Ray of our own leaves behind when the process that started it dies, which Ray itself takes a minute for.

This file is also the program of the watcher: a small process without third-party libraries, which outlives the one that
it watches. It knows Ray's processes by what it saw while that one lived, each with the time of its start, so that it
never touches another that came to bear the same id.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from select import select

POLL_S = 0.1
"""How often the watcher looks whether all have ended, once it is their time."""
LOOK_S = 1.0
"""How often it looks for new processes until then."""
MOST_BUSY = 0.01
"""The share of a core that looking may take, on a machine of many processes."""
GRACE_S = 4.0
"""So long processes may take to end by themselves."""
TERMINATED_S = 4.0
"""So long they may take to do so after SIGTERM; then they are killed."""
ENDED_S = GRACE_S + TERMINATED_S + 4.0
"""How long the process that is watched waits for the watcher at most, where it ends in good order."""


@dataclass(frozen=True, slots=True)
class Process:
    """A process that cannot be mistaken for another.

    Attributes:
        pid: its id.
        start: when it started, in clock ticks after the machine did (proc(5), field 22 of ``stat``).
    """

    pid: int
    start: int


@contextmanager
def nothing_left_behind(folder: Path) -> Iterator[None]:
    """Within the block a watcher lives that ends what of Ray outlasts the block, or this process if it dies in it.

    Ray's are those children that name ``folder``, in which it keeps its sessions, and all that descend from them. Where
    there is no ``/proc``, or no watcher can be started, Ray is left to itself.
    """
    watcher = _started(folder) if sys.platform == "linux" else None
    if watcher is None:
        yield
        return
    assert watcher.stdin is not None
    try:
        yield
    finally:
        watcher.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            watcher.wait(ENDED_S)


def _started(folder: Path) -> subprocess.Popen[bytes] | None:
    try:
        return subprocess.Popen(
            # Neither the user's packages nor variables: it starts in a moment, and takes little memory.
            [sys.executable, "-I", "-S", __file__, str(os.getpid()), str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            # What is sent to the group of this process, such as Ctrl-C, is not meant for it.
            start_new_session=True,
        )
    except OSError:  # such as one process too many
        return None


def main() -> None:
    """Watch process ``argv[1]``, whose Ray keeps its sessions in ``argv[2]``, until it closes the standard input."""
    watched, folder = int(sys.argv[1]), os.fsencode(sys.argv[2])
    known: dict[int, Process] = {}
    is_over = False
    while not is_over:
        begin_s = time.monotonic()
        known = _still(known)
        known |= _family(watched, folder, known)
        wait_s = max(LOOK_S, (time.monotonic() - begin_s) / MOST_BUSY)
        is_over = bool(select([0], [], [], wait_s)[0])
    _end(known)


def _end(known: Mapping[int, Process]) -> None:
    """Wait until all have ended; those that do not are told to, and then killed."""
    for wait_s, number in ((GRACE_S, signal.SIGTERM), (TERMINATED_S, signal.SIGKILL)):
        deadline_s = time.monotonic() + wait_s
        while known := _with_descendants(_still(known)):
            if time.monotonic() > deadline_s:
                break
            time.sleep(POLL_S)
        for process in _still(known).values():
            with suppress(ProcessLookupError, PermissionError):
                os.kill(process.pid, number)


def _family(watched: int, folder: bytes, known: Mapping[int, Process]) -> dict[int, Process]:
    """Ray's processes under ``watched``, and those that descend from them or from those that are known."""
    parents = _parents()
    # The command of this process names the folder as well.
    del parents[os.getpid()]
    roots = [pid for pid, (parent, _) in parents.items() if parent == watched and folder in _command(pid)]
    return _descendants([*roots, *known], parents)


def _with_descendants(known: Mapping[int, Process]) -> dict[int, Process]:
    return _descendants(list(known), _parents()) if known else {}


def _descendants(roots: list[int], parents: Mapping[int, tuple[int, int]]) -> dict[int, Process]:
    """``roots`` and all below them, as far as they live."""
    children: dict[int, list[int]] = {}
    for pid, (parent, _) in parents.items():
        children.setdefault(parent, []).append(pid)
    found: dict[int, Process] = {}
    waiting = [root for root in roots if root in parents]
    while waiting:
        pid = waiting.pop()
        if pid not in found:
            found[pid] = Process(pid, parents[pid][1])
            waiting += children.get(pid, [])
    return found


def _still(known: Mapping[int, Process]) -> dict[int, Process]:
    """Those of the known that live, and are the same."""
    return {pid: process for pid, process in known.items() if (seen := _stat(pid)) and seen[1] == process.start}


def _parents() -> dict[int, tuple[int, int]]:
    """Of every living process the parent and the start."""
    pids = (int(name) for name in os.listdir("/proc") if name.isdigit())
    return {pid: seen for pid in pids if (seen := _stat(pid))}


def _stat(pid: int) -> tuple[int, int] | None:
    """Parent and start of a process; None if it has ended, though its parent may not have noticed yet."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # The name, in brackets, may hold anything.
            state, parent, *rest = file.read().rpartition(b")")[2].split()
    except OSError:
        return None
    return None if state in b"ZX" else (int(parent), int(rest[17]))


def _command(pid: int) -> bytes:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read()
    except OSError:
        return b""


if __name__ == "__main__":
    main()
