"""The emulated network: a day of Wi-Fi and fairness among 20 transfers as plots, and what sharing costs in wall time.

``python -m benchmarks.world.network [--plots FOLDER] [--json FILE] [--only NAME ...]``

Plots need matplotlib, of the development tools. Look at the ratio of wall times, not at the seconds.
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
from typing import Any

import numpy as np

from device_profiles.catalog import load_cluster, load_link
from device_profiles.records import WifiRings
from emulator import load
from emulator.clock import Clock, Process
from emulator.seeds import Seeds
from emulator.world.links import Links
from emulator.world.network import Network
from emulator.world.shared_network import SharedCapacity
from emulator.world.transfers import Direction

ROUND_S = 300
"""Wi-Fi rings fluctuate from round to round; the plot of a day assumes rounds of this length."""
REPEATS = 5
MBIT_PER_S_PER_BYTE_PER_S = 8e-6

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
    parser.add_argument("--plots", type=Path, default=Path("plots"), help="the folder that plots are written to")
    parser.add_argument("--json", type=Path, help="write the measured numbers to this file")
    parser.add_argument("--only", nargs="*", choices=("wifi_day", "fairness", "slow_down"), help="do these alone")
    options = parser.parse_args()
    names = options.only or ("wifi_day", "fairness", "slow_down")
    if "wifi_day" in names:
        plot_wifi_day(options.plots)
    if "fairness" in names:
        plot_fairness(options.plots)
    if "slow_down" in names:
        found = slow_down()
        for part in ("command", "rounds"):
            plain_s, shared_s = found[f"{part}_plain_s"], found[f"{part}_shared_s"]
            print(f"{part}: {plain_s:.2f} s plain, {shared_s:.2f} s shared with traces; ratio {shared_s / plain_s:.2f}")
        if options.json:
            options.json.write_text(json.dumps(found, indent=2) + "\n")


def plot_wifi_day(folder: Path) -> None:
    """The download rate of one device of each ring over a day of rounds."""
    link = load_link("wifi-rings")
    assert isinstance(link, WifiRings)
    links = Links([link] * len(link.rings), Seeds(0))
    hours = np.arange(0, 86_400, ROUND_S) / 3600
    rates = np.array([links.rates(number).down_bytes_per_s for number in range(len(hours))])
    figure, axes = new_figure(f"wifi-rings, one device per ring, rounds of {ROUND_S} s")
    for number, ring in enumerate(link.rings):
        axes.step(hours, MBIT_PER_S_PER_BYTE_PER_S * rates[:, number], where="post", label=ring.name, linewidth=1)
    axes.set(xlabel="hour", ylabel="download rate, Mb/s", xlim=(0, 24), ylim=(0, None))
    axes.legend(title="distance", loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    save(figure, folder / "wifi_day.png")


def plot_fairness(folder: Path) -> None:
    """Rates of 20 transfers that start one after another at an access point of the example cluster."""
    cluster = load_cluster("jetson80-shared-wifi")
    assert cluster.access_points is not None
    capacity = cluster.access_points.bytes_per_s
    links = Links([entry.link for entry in cluster.entry_by_device[:20]], Seeds(0))
    clock, rates = Clock(), links.rates(0)
    shared = SharedCapacity(np.zeros(20, np.int64), (capacity,), (np.inf, np.inf))
    network = Network(clock, links, shared)
    every_s, times_s, seen = 0.02, list[float](), list[Any]()

    def send(device_id: int) -> Process[None]:
        yield clock.timeout(0.4 * device_id)
        yield network.start(device_id, Direction.DOWN, 12_000_000, float(rates.down_bytes_per_s[device_id])).event

    def watch() -> Process[None]:
        everyone = clock.all_of([clock.process(send(device_id)) for device_id in range(20)])
        while not everyone.processed:
            yield clock.timeout(every_s)
            times_s.append(clock.now_s)
            seen.append(network.rates_in_force())

    clock.run(watch())
    figure, axes = new_figure(f"20 downloads of 12 MB, one more each 0.4 s, at {capacity * 8e-6:g} Mb/s")
    axes.stackplot(times_s, MBIT_PER_S_PER_BYTE_PER_S * np.array(seen).T, linewidth=0.3, edgecolor="white")
    axes.axhline(MBIT_PER_S_PER_BYTE_PER_S * capacity, color="black", linestyle="--", linewidth=1)
    axes.set(xlabel="emulated time, s", ylabel="rates of all transfers, stacked, Mb/s", xlim=(0, 25))
    save(figure, folder / "fairness.png")


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


def new_figure(title: str) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4), layout="constrained")
    axes = figure.subplots()
    axes.set_title(title, loc="left", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def save(figure: Any, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    print(path)


if __name__ == "__main__":
    main()
