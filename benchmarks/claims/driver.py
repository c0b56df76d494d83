"""Carries groups of claims out, several side by side on two cores or on one GPU; each goes on where it was.

Every group is a ``jetbed sweep`` in a process of its own, without Ray: side by side they fill a GPU that one of them
would leave waiting, and whatever ends a process costs its own rounds since the last checkpoint alone.
"""

import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path

import tomli_w

from benchmarks.claims.plan import Group

INTERRUPTED = 130


def carry_out(groups: Sequence[Group], out: Path, n_parallel: int) -> list[Group]:
    """Run what is not finished yet, at most ``n_parallel`` groups at a time; those that did not get to their end.

    What a sweep says is in a file beside its folder, ``<folder>.log``.

    Raises:
        KeyboardInterrupt: of which the sweeps have been told by the terminal; what they have done is kept.
    """
    failed = []
    with _side_by_side(n_parallel) as pool:
        futures = {pool.submit(_sweep, group, out): group for group in groups}
        for future in as_completed(futures):
            group, status = futures[future], future.result()
            print(f"{group.place}: {_said(group, out, status)}", flush=True)
            if status == INTERRUPTED:
                raise KeyboardInterrupt
            if status:
                failed.append(group)
    return failed


@contextmanager
def _side_by_side(n_parallel: int) -> Iterator[ThreadPoolExecutor]:
    """Threads that wait for processes. After an interrupt those that run are waited for, and no more are started."""
    pool = ThreadPoolExecutor(n_parallel)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _sweep(group: Group, out: Path) -> int:
    """The exit status of a group's sweep."""
    folder = out / group.place
    file = folder.with_name(f"{folder.name}.toml")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(tomli_w.dumps(dict(group.sweep)), encoding="utf-8")
    command = [sys.executable, "-m", "emulator.cli", "sweep", str(file), "--backend", "inline", "--out", str(folder)]
    with _log(group, out).open("w", encoding="utf-8") as log:
        return subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, check=False).returncode


def _said(group: Group, out: Path, status: int) -> str:
    if not status:
        return "finished"
    lines = _log(group, out).read_text(encoding="utf-8").splitlines()
    return f"ended with status {status}: {lines[-1] if lines else 'it said nothing'}"


def _log(group: Group, out: Path) -> Path:
    folder = out / group.place
    return folder.with_name(f"{folder.name}.log")
