"""Carries groups of claims out, several side by side on two cores or on one GPU; each goes on where it was.

Every group is a ``jetbed sweep`` in a process of its own, without Ray: side by side they fill a GPU that one of them
would leave waiting, and whatever ends a process costs its own rounds since the last checkpoint alone.
"""

import subprocess
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import tomli_w

from benchmarks.claims.plan import Group
from emulator.running.interruption import interruptible


def carry_out(groups: Sequence[Group], out: Path, n_parallel: int) -> list[Group]:
    """Run what is not finished yet, at most ``n_parallel`` groups at a time; those that did not get to their end.

    What a sweep says is in a file beside its folder, ``<folder>.log``.

    Raises:
        KeyboardInterrupt: the sweeps under way have been interrupted and have ended; what they have done is kept.
    """
    failed, sweeps = [], _Sweeps(out)
    with ThreadPoolExecutor(n_parallel) as pool:
        futures = {pool.submit(sweeps.run, group): group for group in groups}
        try:
            for future in as_completed(futures):
                group, status = futures[future], future.result()
                print(f"{group.place}: {_said(group, out, status)}", flush=True)
                if status:
                    failed.append(group)
        except BaseException:
            sweeps.interrupt()
            raise
    return failed


def carry_out_or_exit(groups: Sequence[Group], out: Path, n_parallel: int) -> list[Group]:
    """As :func:`carry_out`; a program that is asked to stop ends in order, with status 130."""
    try:
        with interruptible():
            return carry_out(groups, out, n_parallel)
    except KeyboardInterrupt:
        print("interrupted; what is done is kept, and the same command goes on", file=sys.stderr)
        sys.exit(130)


class _Sweeps:
    """The processes of sweeps under way, which can be interrupted from another thread."""

    def __init__(self, out: Path) -> None:
        self._out = out
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[bytes]] = set()
        self._is_interrupted = False

    def run(self, group: Group) -> int | None:
        """The exit status of a group's sweep, once it has ended; None after an interrupt, when it is not started."""
        folder = self._out / group.place
        file = _beside(folder, "toml")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(tomli_w.dumps(dict(group.sweep)), encoding="utf-8")
        command = [
            sys.executable,
            "-m",
            "emulator.cli",
            "sweep",
            str(file),
            "--backend",
            "inline",
            "--out",
            str(folder),
        ]
        with _beside(folder, "log").open("w", encoding="utf-8") as log:
            with self._lock:
                if self._is_interrupted:
                    return None
                # In a session of its own, so that it is interrupted once: a second time would end it at once.
                process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
                self._running.add(process)
            status = process.wait()
        with self._lock:
            self._running.remove(process)
        return status

    def interrupt(self) -> None:
        """Interrupt what runs, and start nothing more. SIGTERM is heeded where a shell has SIGINT ignored, too."""
        with self._lock:
            self._is_interrupted = True
            for process in self._running:
                process.terminate()


def _said(group: Group, out: Path, status: int | None) -> str:
    if not status:
        return "finished"
    lines = _beside(out / group.place, "log").read_text(encoding="utf-8").splitlines()
    return f"ended with status {status}: {lines[-1] if lines else 'it said nothing'}"


def _beside(folder: Path, suffix: str) -> Path:
    return folder.with_name(f"{folder.name}.{suffix}")
