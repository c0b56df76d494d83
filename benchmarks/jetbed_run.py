"""The same work on jetbed, through its public interface. Run by ``benchmarks.engine`` in a process of its own.

Prints the seconds from the start of the process to the first job as a line of JSON; the rounds are in the run folder.
"""

import argparse
import json
import time
from pathlib import Path

from emulator.config import load_config
from emulator.execute import execute
from emulator.running.progress import Progress


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("config", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--started-s", type=float, required=True)
    options = parser.parse_args()
    has_started = False

    def show(progress: Progress) -> None:
        nonlocal has_started
        if progress.n_jobs and not has_started:
            has_started = True
            print(json.dumps({"startup_s": time.time() - options.started_s}), flush=True)

    execute(load_config(options.config), options.out, show)


if __name__ == "__main__":
    main()
