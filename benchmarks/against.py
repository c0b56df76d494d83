"""How fast this checkout is beside another one of jetbed: both do the same work in one run of this program, in turns.

``python -m benchmarks.against CHECKOUT [--rounds N] [--turns N]``

CHECKOUT is the root of the other one, such as ``git worktree add ../before COMMIT`` makes. A ratio below 1 means that
this one is faster, or smaller. Each side runs its own ``benchmarks.jetbed_run``, so the other must have one.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.engine import config_of_workload
from benchmarks.memory import peak_bytes_of
from benchmarks.workload import FULL_DEPTH, MID_MODEL, TOP3, Workload, write_files

HERE = Path(__file__).resolve().parents[1]
WORKLOADS = {"full_depth": FULL_DEPTH, "top3": TOP3, "mid_model": MID_MODEL}
TIMING_ONLY = {"timing_only_80x1000": (80, 1000), "timing_only_10000x5": (10_000, 5)}


@dataclass
class Side:
    """What was measured of one checkout, by name of the figure."""

    checkout: Path
    figures: dict[str, list[float]] = field(default_factory=dict)

    def add(self, name: str, value: float) -> None:
        self.figures.setdefault(name, []).append(value)

    def python(self, *arguments: str) -> "subprocess.Popen[str]":
        """A process that imports this checkout's packages."""
        environment = {**os.environ, "PYTHONPATH": str(self.checkout)}
        return subprocess.Popen(
            [sys.executable, *arguments],
            cwd=self.checkout,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkout", type=Path)
    parser.add_argument("--rounds", type=int, default=4, help="rounds of each workload and turn after the first")
    parser.add_argument("--turns", type=int, default=3, help="how often the sides take turns")
    options = parser.parse_args()
    sides = [Side(HERE), Side(options.checkout.resolve())]
    for turn in range(options.turns):
        # Who begins changes, so that what warms up or slows down over a turn hits both.
        for side in sides if turn % 2 == 0 else reversed(sides):
            for name, workload in WORKLOADS.items():
                train(side, name, workload, options.rounds)
            for name, (n_devices, n_rounds) in TIMING_ONLY.items():
                emulate(side, name, n_devices, n_rounds)
    for name, own in sides[0].figures.items():
        other = sides[1].figures[name]
        value = statistics.median(own) / statistics.median(other)
        print(f"{name:28} {value:.2f}  ({statistics.median(own):.4g} / {statistics.median(other):.4g})")


def train(side: Side, name: str, workload: Workload, n_rounds: int) -> None:
    """Rounds that train; the first warms up, and the last, which evaluates, is left out."""
    import pandas as pd

    with tempfile.TemporaryDirectory() as folder:
        write_files(workload, Path(folder))
        config, out = Path(folder) / "run.toml", Path(folder) / "out"
        config.write_text(config_of_workload(workload, Path(folder), n_rounds + 1))
        process = side.python("-m", "benchmarks.jetbed_run", str(config), str(out), "--started-s", str(time.time()))
        memory = peak_bytes_of(process.pid)
        output = _finished(process)
        host = pd.read_parquet(out / "host")
    rounds = host[host["phase"] == "round"].sort_values("round_index")
    for wall_s in rounds["wall_s"].tolist()[1 : n_rounds + 1]:
        side.add(f"{name}_round_s", wall_s)
    side.add(f"{name}_startup_s", json.loads(output.splitlines()[0])["startup_s"])
    side.add(f"{name}_memory_bytes", memory())


def emulate(side: Side, name: str, n_devices: int, n_rounds: int) -> None:
    """A run without training, the start of its process included."""
    with tempfile.TemporaryDirectory() as folder:
        settings = {"training.enabled": "false", "testbed.n_devices": n_devices, "rounds": n_rounds}
        overrides = [argument for key, value in settings.items() for argument in ("--set", f"{key}={value}")]
        start_s = time.perf_counter()
        _finished(side.python("-m", "emulator.cli", "run", *overrides, "--policy", "legend", "--out", f"{folder}/run"))
        side.add(f"{name}_s", time.perf_counter() - start_s)


def _finished(process: "subprocess.Popen[str]") -> str:
    output, errors = process.communicate()
    if process.returncode:
        raise SystemExit(f"{process.args!r} failed:\n{errors}")
    return output


if __name__ == "__main__":
    main()
