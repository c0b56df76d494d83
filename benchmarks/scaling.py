"""What passes through driver, coordinator and object store as devices and hosts grow: ``python -m benchmarks.scaling``.

Runs a small model on Ray with 1 to 8 hosts, prints a table and names what will not scale first: from the slopes of
processor seconds, what stays in one process while the hosts' work is shared, and from the bytes that a device leaves in
the object store, how many fit. ``--timing-only`` compares 131,072 devices without training with 1,000. ``--out FILE``
writes all that was asked for as Markdown. On a machine with fewer cores than hosts, more hosts show their overhead and
nothing else.
"""

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.scaling_run import RoundCost, configuration
from emulator.algorithms.aggregation import BLOCK_DEVICES
from emulator.backends.ray_start import OBJECT_STORE_BYTES
from emulator.running.objectives import trained_spec
from emulator.running.resolve import policy_of
from emulator.seeds import Seeds

Key = tuple[int, int]
"""Devices and hosts."""
MOST_RATIO = 1.3
"""What a device-round may cost at most with many devices, over that with few."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Slopes:
    """What one device more costs in a round: processor seconds in each process, and bytes.

    ``host_s`` can be shared by any number of hosts, all else cannot.
    """

    host_s: float
    coordinator_s: float
    driver_s: float
    ray_s: float
    driver_bytes: float
    store_bytes: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--devices", type=int, nargs="+", default=[80, 500, 1000])
    parser.add_argument("--hosts", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--rounds", type=int, default=4, help="of which the first is left out")
    parser.add_argument("--timing-only", action="store_true", help="measure runs without training instead")
    parser.add_argument("--few", type=int, nargs=2, default=[1_000, 200], metavar=("DEVICES", "ROUNDS"))
    parser.add_argument("--many", type=int, nargs=2, default=[131_072, 5], metavar=("DEVICES", "ROUNDS"))
    parser.add_argument(
        "--out", type=Path, help="write the table into this Markdown file, in the place of its own part"
    )
    options = parser.parse_args()
    lines: list[str] = []
    for line in timing_lines(options.few, options.many) if options.timing_only else training_lines(options):
        print(line, flush=True)
        lines.append(line)
    if options.out:
        write_part(options.out, "Without training" if options.timing_only else "With training", lines)


def training_lines(options: argparse.Namespace) -> Iterator[str]:
    """The table of runs that train, and what follows from it."""
    yield f"{machine()}. Seconds are the processor's; bytes are measured, those in brackets on paper."
    yield ""
    yield "| devices | hosts | driver s | coordinator s | Ray s | hosts s | driver KB | store MB | coordinator MB |"
    yield "|---|---|---|---|---|---|---|---|---|"
    costs: dict[Key, RoundCost] = {}
    for n_devices in options.devices:
        for n_hosts in options.hosts:
            cost = costs[n_devices, n_hosts] = cost_of(n_devices, n_hosts, options.rounds)
            paper = paper_bytes(n_devices)
            yield (
                f"| {n_devices:,} | {n_hosts} | {cost.driver_s:.2f} | {cost.coordinator_s:.2f} | {cost.ray_s:.2f} "
                f"| {cost.hosts_s:.2f} | {cost.driver_bytes / 1e3:.0f} "
                f"| {cost.store_bytes / 1e6:.1f} ({paper / 1e6:.1f}) | {cost.coordinator_resident_bytes / 1e6:.0f} |"
            )
    yield ""
    if len(options.devices) > 1:
        yield from verdict(slopes(costs))
    if max(options.hosts) > (os.cpu_count() or 1):
        yield f"With {os.cpu_count()} cores, more hosts than that show what hosts cost, and no gain."


def cost_of(n_devices: int, n_hosts: int, n_rounds: int) -> RoundCost:
    """What a round takes, in a process of its own."""
    arguments = ["--devices", str(n_devices), "--hosts", str(n_hosts), "--rounds", str(n_rounds)]
    command = [sys.executable, "-m", "benchmarks.scaling_run", *arguments]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    if finished.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{finished.stderr}")
    return RoundCost(**json.loads(finished.stdout.splitlines()[-1]))


def paper_bytes(n_devices: int) -> float:
    """What a round puts into the object store: an adapter for each device, for each block of devices its sums in
    float64, and the server state once. The head counts for two labels, of which the built-in task has more."""
    config = configuration(n_devices, 1, 1)
    model = trained_spec(config)
    arrays = policy_of(config).form(model).initial(model, Seeds(0))
    adapter = sum(array.nbytes for array in arrays.values()) + 4 * model.n_head_parameters
    n_blocks = -(-n_devices // BLOCK_DEVICES)
    return float(adapter * (n_devices + 2 * n_blocks + 1))


def slopes(costs: Mapping[Key, RoundCost]) -> Slopes:
    """Of least squares over the devices; what the number of hosts adds is taken out as a constant for each."""

    def slope(name: str) -> float:
        hosts = sorted({n_hosts for _, n_hosts in costs})
        table = [[n_devices, *(float(n_hosts == each) for each in hosts)] for n_devices, n_hosts in costs]
        values = [getattr(cost, name) for cost in costs.values()]
        return float(np.linalg.lstsq(np.array(table, float), np.array(values), rcond=None)[0][0])

    return Slopes(
        host_s=slope("hosts_s"),
        coordinator_s=slope("coordinator_s"),
        driver_s=slope("driver_s"),
        ray_s=slope("ray_s"),
        driver_bytes=slope("driver_bytes"),
        store_bytes=slope("store_bytes"),
    )


def verdict(slope: Slopes) -> Iterator[str]:
    """What each device more costs, and the first thing that will not scale."""
    yield (
        f"A device more costs a round {slope.host_s * 1e3:.2f} ms on hosts, which share it, "
        f"{slope.coordinator_s * 1e3:.2f} ms in the coordinator, {slope.driver_s * 1e3:.2f} ms in the driver, "
        f"{slope.ray_s * 1e3:.2f} ms in Ray's processes, {slope.driver_bytes:.0f} bytes to the driver and "
        f"{slope.store_bytes / 1e3:.0f} KB in the object store."
    )
    name, seconds = max(
        (("coordinator", slope.coordinator_s), ("driver", slope.driver_s), ("Ray", slope.ray_s)),
        key=lambda serial: serial[1],
    )
    yield ""
    if seconds <= 0 or slope.host_s <= 0:
        yield "**First to stop scaling, in seconds**: not to be told from these few devices."
    else:
        yield (
            f"**First to stop scaling, in seconds**: the {name}, one process for all devices. It takes as long as the "
            f"hosts when {slope.host_s / seconds:.1f} cores train this small model; a model that costs the hosts k "
            "times as much for each device has room for k times as many."
        )
    if slope.store_bytes > 0:
        n_devices = OBJECT_STORE_BYTES / slope.store_bytes
        yield (
            f"**First in bytes**: the object store, which holds all updates of a round until they are added up. "
            f"{n_devices:,.0f} devices fill the {OBJECT_STORE_BYTES / 2**20:.0f} MiB of a cluster of one's own; beyond "
            "that Ray moves updates to the disk."
        )


def timing_lines(few: Sequence[int], many: Sequence[int]) -> Iterator[str]:
    """The table of runs without training, and whether a device-round costs the same."""
    yield f"{machine()}, LEGEND, everything logged; processor seconds, without what one device in one round takes."
    yield ""
    yield "| devices | rounds | us per device-round | peak MB | bytes of it per device |"
    yield "|---|---|---|---|---|"
    start_s, start_bytes = timed(1, 1)
    costs = []
    for n_devices, n_rounds in (few, many):
        seconds, peak_bytes = timed(n_devices, n_rounds)
        device_round_s = (seconds - start_s) / (n_devices * n_rounds)
        costs.append(device_round_s)
        yield (
            f"| {n_devices:,} | {n_rounds} | {device_round_s * 1e6:.0f} | {peak_bytes / 1e6:.0f} "
            f"| {(peak_bytes - start_bytes) / n_devices:,.0f} |"
        )
    ratio = costs[1] / costs[0]
    yield ""
    yield f"Ratio of a device-round: **{ratio:.2f}** (wanted: at most {MOST_RATIO})."


def timed(n_devices: int, n_rounds: int) -> tuple[float, int]:
    """Processor seconds and peak bytes of a run without training, its start included."""
    settings = ("training.enabled=false", f"testbed.n_devices={n_devices}", f"rounds={n_rounds}")
    overrides = [argument for setting in settings for argument in ("--set", setting)]
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "emulator.cli", "run", "--policy", "legend", *overrides]
        with (Path(folder) / "said").open("w+") as said:
            process = subprocess.Popen(
                [*command, "--out", f"{folder}/run"], stdout=subprocess.DEVNULL, stderr=said, text=True
            )
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            if process.returncode:
                said.seek(0)
                raise SystemExit(said.read())
    # Kilobytes on Linux, bytes on macOS (getrusage(2)).
    unit = 1 if sys.platform == "darwin" else 1024
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss * unit


def machine() -> str:
    """What this was measured on."""
    load = os.getloadavg()[0]
    return f"{os.cpu_count()} cores, load {load:.0f}, Python {platform.python_version()}, {platform.system()}"


def write_part(path: Path, title: str, lines: Sequence[str]) -> None:
    """Put ``lines`` under ``title`` into the Markdown file, and leave its other parts as they are."""
    text = path.read_text() if path.exists() else "# Scaling\n\nWritten by `python -m benchmarks.scaling --out`.\n"
    part = f"## {title}\n\n" + "\n".join(lines).strip() + "\n"
    before = re.split(rf"^## {re.escape(title)}$.*?(?=^## |\Z)", text, flags=re.MULTILINE | re.DOTALL)
    path.write_text("\n".join([before[0].rstrip() + "\n", part, *(rest for rest in before[1:] if rest)]))


if __name__ == "__main__":
    main()
