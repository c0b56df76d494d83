"""The same work on jetbed, through its public interface. Run by ``benchmarks.engine`` in a process of its own.

Prints the seconds from the start of the process to the first job as a line of JSON; the rounds are in the run folder.
"""

import argparse
import json
import time
from pathlib import Path

from emulator.config import load_config
from emulator.launch.execute import execute
from emulator.observers.base import Progress, RunObserver


class _FirstJob(RunObserver):
    """Prints how long it took from ``started_s``, on the clock of the wall, to the first job."""

    def __init__(self, started_s: float) -> None:
        self._started_s = started_s
        self._has_started = False

    def progressed(self, progress: Progress) -> None:
        if progress.n_jobs and not self._has_started:
            self._has_started = True
            print(json.dumps({"startup_s": time.time() - self._started_s}), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("config", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--started-s", type=float, required=True)
    options = parser.parse_args()
    execute(load_config(options.config), options.out, [_FirstJob(options.started_s)])


if __name__ == "__main__":
    main()
