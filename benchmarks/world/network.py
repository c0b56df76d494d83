"""What sharing the network costs in wall time: links alone, and shared capacity with traces.

``python -m benchmarks.world.network [--json FILE]``

Look at the ratio of wall times, not at the seconds.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from emulator import load
from emulator.seeds import Seeds

REPEATS = 5

CLUSTER = """
inherits = "jetson80-shared-wifi"
link = "fading.toml"
"""
LINK = """
kind = "trace"
format = "time_rate"
download = "fading.txt"
upload = "fading.txt"
latency_ms = 10

[provenance.all]
covers = ["download", "upload", "latency_ms"]
kind = "assumed"
source = "made up by benchmarks/world/network.py: log-normal about 14 Mb/s, a step each second"
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the measured numbers to this file")
    options = parser.parse_args()
    found = slow_down()
    for part in ("command", "rounds"):
        plain_s, shared_s = found[f"{part}_plain_s"], found[f"{part}_shared_s"]
        print(f"{part}: {plain_s:.2f} s plain, {shared_s:.2f} s shared with traces; ratio {shared_s / plain_s:.2f}")
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n")


def slow_down() -> dict[str, float]:
    """Medians of wall seconds, in turns: links alone, and shared capacity with traces.

    ``command`` is a whole command, ``rounds`` its rounds alone, without the start of the process.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        fading = 14 * np.exp(0.4 * Seeds(0).rng("fading").standard_normal(600))
        (folder / "fading.txt").write_text("".join(f"{second} {rate:.3f}\n" for second, rate in enumerate(fading)))
        (folder / "fading.toml").write_text(LINK)
        (folder / "shared.toml").write_text(CLUSTER)
        clusters = {"plain": "jetson80", "shared": str(folder / "shared.toml")}
        walls: dict[str, list[float]] = {}
        for number in range(REPEATS):
            for kind, cluster in clusters.items():
                command_s, rounds_s = timed_run(cluster, folder / f"{kind}{number}")
                walls.setdefault(f"command_{kind}_s", []).append(command_s)
                walls.setdefault(f"rounds_{kind}_s", []).append(rounds_s)
    return {key: statistics.median(seconds) for key, seconds in walls.items()}


def timed_run(cluster: str, out: Path) -> tuple[float, float]:
    """Wall seconds of 100 rounds of 80 devices without training: of the whole process, and of the rounds."""
    settings = ("training.enabled=false", "rounds=100", f"testbed.cluster={cluster}")
    overrides: Sequence[str] = [argument for setting in settings for argument in ("--set", setting)]
    command = [sys.executable, "-m", "emulator.cli", "run", "--policy", "legend", "--out", str(out), *overrides]
    start_s = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    command_s = time.perf_counter() - start_s
    host = load(out).host
    return command_s, float(host.loc[host["phase"] == "round", "wall_s"].sum())


if __name__ == "__main__":
    main()
