"""How fast jetbed trains, against a bare loop and Flower; what it needs to start, and how timing-only runs scale.

``python -m benchmarks.engine [--json FILE] [--flower-python PATH] [--rounds N] [--only NAME ...]``

All sides do the same work in one run of this program, in turns, each in processes of its own. Machines are noisy: look
at the ratios and their spread, not at the seconds. ``benchmarks/README.md`` has figures and their machine.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import tomli_w

from benchmarks.memory import peak_bytes_of
from benchmarks.workload import (
    FULL_DEPTH,
    LEARNING_RATE,
    MID_MODEL,
    TOP3,
    WEIGHT_DECAY,
    WIDE_MODEL,
    Workload,
    write_files,
)

BLOCKS = 2
"""Sides take turns this often, so that a slow spell of the machine hits all of them."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the medians to this file")
    parser.add_argument("--flower-python", help="the python of an environment that has flwr[simulation] and peft")
    parser.add_argument("--rounds", type=int, default=6, help="rounds per side and workload after the first")
    parser.add_argument("--only", nargs="*", choices=sorted(MEASUREMENTS), help="measure these alone")
    options = parser.parse_args()
    results: dict[str, float] = {}
    for name in options.only or MEASUREMENTS:
        for key, value, text in MEASUREMENTS[name](options):
            results[key] = value
            print(f"{key:32} {text}", flush=True)
    if options.json:
        options.json.write_text(json.dumps(results, indent=2) + "\n")


Line = tuple[str, float, str]


def full_depth(options: argparse.Namespace) -> Iterator[Line]:
    """80 devices, 12 thin layers, adapters everywhere; with start-up, memory and the share of the machine's peak."""
    sides = measure(FULL_DEPTH, options)
    yield ratio("full_depth_over_bare", sides["jetbed"], sides["bare"])
    if "flower" in sides:
        yield ratio("full_depth_over_flower", sides["jetbed"], sides["flower"])
    yield from peak_share("gemm_peak_fraction", FULL_DEPTH, sides["jetbed"])
    startup_s = statistics.median(sides["startup"])
    yield "startup_s", startup_s, f"{startup_s:.1f} s to the first job"
    memory = max(sides["memory"])
    yield "peak_memory_bytes", memory, f"{memory / 1e9:.2f} GB in all processes, 80 devices"


def many_devices(options: argparse.Namespace) -> Iterator[Line]:
    """Memory with 500 devices instead of 80."""
    with tempfile.TemporaryDirectory() as folder:
        workload = replace(FULL_DEPTH, n_devices=500)
        write_files(workload, Path(folder))
        _, _, memory = run_jetbed(workload, Path(folder), n_rounds=2)
    yield "peak_memory_500_bytes", memory, f"{memory / 1e9:.2f} GB in all processes, 500 devices"


def top3(options: argparse.Namespace) -> Iterator[Line]:
    """The same model with adapters in its three top layers only, on both sides."""
    sides = measure(TOP3, replace_flower(options))
    yield ratio("top3_over_bare", sides["jetbed"], sides["bare"])


def mid_model(options: argparse.Namespace) -> Iterator[Line]:
    """20 devices, 4 layers of 256."""
    sides = measure(MID_MODEL, replace_flower(options))
    yield ratio("mid_model_over_bare", sides["jetbed"], sides["bare"])
    yield from peak_share("mid_gemm_peak_fraction", MID_MODEL, sides["jetbed"])


def wide_model(options: argparse.Namespace) -> Iterator[Line]:
    """20 devices, 6 layers of 384."""
    sides = measure(WIDE_MODEL, replace_flower(options))
    yield ratio("wide_model_over_bare", sides["jetbed"], sides["bare"])
    yield from peak_share("wide_gemm_peak_fraction", WIDE_MODEL, sides["jetbed"])


def timing_only(options: argparse.Namespace) -> Iterator[Line]:
    """LEGEND without training, everything logged, on one core, start of the process included."""
    yield timed_run("timing_only_80x1000_s", n_devices=80, n_rounds=1000)
    few = timed_run("timing_only_100x200_s", n_devices=100, n_rounds=200)
    many = timed_run("timing_only_10000x20_s", n_devices=10_000, n_rounds=20)
    yield many
    # What starting costs does not belong to a device-round; a run of one round and device tells it.
    start = timed_run("start", n_devices=1, n_rounds=1)
    per_few, per_many = (few[1] - start[1]) / 20_000, (many[1] - start[1]) / 200_000
    text = f"{per_many * 1e6:.0f} us per device-round at 10,000 devices, {per_few * 1e6:.0f} us at 100"
    yield "timing_only_scaling", per_many / per_few, text


MEASUREMENTS = {
    "full_depth": full_depth,
    "top3": top3,
    "mid_model": mid_model,
    "wide_model": wide_model,
    "many_devices": many_devices,
    "timing_only": timing_only,
}


def replace_flower(options: argparse.Namespace) -> argparse.Namespace:
    """Flower is measured on one workload only."""
    return argparse.Namespace(**{**vars(options), "flower_python": None})


def measure(workload: Workload, options: argparse.Namespace) -> dict[str, list[float]]:
    """Seconds of each round after the first of each side, in turns; for jetbed also start-up seconds and peak bytes."""
    sides: dict[str, list[float]] = {"jetbed": [], "bare": [], "startup": [], "memory": []}
    n_rounds = -(-options.rounds // BLOCKS) + 1
    with tempfile.TemporaryDirectory() as folder:
        write_files(workload, Path(folder))
        for _ in range(BLOCKS):
            rounds_s, startup_s, memory = run_jetbed(workload, Path(folder), n_rounds)
            sides["jetbed"] += rounds_s[1:]
            sides["startup"].append(startup_s)
            sides["memory"].append(memory)
            command = [sys.executable, "-m", "benchmarks.bare_loop"]
            sides["bare"] += run_side([*command, "--threads", str(os.cpu_count())], workload, n_rounds)[1:]
            if options.flower_python:
                command = [options.flower_python, "-m", "benchmarks.flower_loop"]
                sides.setdefault("flower", []).extend(run_side(command, workload, n_rounds)[1:])
    return sides


def run_side(command: Sequence[str], workload: Workload, n_rounds: int) -> list[float]:
    """Run a program that prints ``{"round_s": ...}`` after each round."""
    arguments = [*command, json.dumps(asdict(workload)), "--rounds", str(n_rounds)]
    finished = subprocess.run(arguments, capture_output=True, text=True, check=False)
    if finished.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{finished.stderr}")
    output = finished.stdout
    return [json.loads(line)["round_s"] for line in output.splitlines() if line.startswith('{"round_s"')]


def run_jetbed(workload: Workload, folder: Path, n_rounds: int) -> tuple[list[float], float, float]:
    """Seconds of each round, seconds from the process's start to the first job, and peak bytes of all processes."""
    from emulator import load

    (folder / "run.toml").write_text(config_of_workload(workload, folder, n_rounds))
    with tempfile.TemporaryDirectory(dir=folder) as out:
        command = [sys.executable, "-m", "benchmarks.jetbed_run", str(folder / "run.toml"), out]
        process = subprocess.Popen([*command, "--started-s", str(time.time())], stdout=subprocess.PIPE, text=True)
        memory = peak_bytes_of(process.pid)
        output, _ = process.communicate()
        if process.returncode:
            raise SystemExit(f"{' '.join(command)} failed")
        host = load(out).host
    rounds_s = host[host["phase"] == "round"].sort_values("round_index")["wall_s"].tolist()
    return rounds_s[:n_rounds], json.loads(output.splitlines()[0])["startup_s"], memory()


def config_of_workload(workload: Workload, folder: Path, n_rounds: int) -> str:
    """A configuration, as TOML, that runs ``workload`` from its files in ``folder`` for ``n_rounds`` and one more."""
    config: dict[str, Any] = {
        "rounds": n_rounds + 1,  # the last one evaluates, and is left out
        "testbed": {"n_devices": workload.n_devices},
        "model": {"train": str(folder / "model"), "price": "trained"},
        "data": {
            "source": str(folder / "train.jsonl"),
            "test_source": str(folder / "test.jsonl"),
            "seq_len": workload.seq_len,
            "partition": {"scheme": "iid"},
        },
        "training": {
            "local_steps": workload.n_steps,
            "batch_size": workload.batch_size,
            "learning_rate": LEARNING_RATE,
            "weight_decay": WEIGHT_DECAY,
        },
        "evaluation": {"every_rounds": n_rounds + 1},
        "policy": {"path": "fedlora", "depth": workload.depth},
    }
    return tomli_w.dumps(config)


def timed_run(key: str, n_devices: int, n_rounds: int) -> Line:
    """A run without training on one core."""
    with tempfile.TemporaryDirectory() as folder:
        settings = {"training.enabled": "false", "testbed.n_devices": n_devices, "rounds": n_rounds}
        overrides = [argument for key, value in settings.items() for argument in ("--set", f"{key}={value}")]
        command = [
            sys.executable,
            "-m",
            "emulator.cli",
            "run",
            *overrides,
            "--policy",
            "legend",
            "--out",
            f"{folder}/run",
        ]
        one_core = ["taskset", "-c", "0"] if sys.platform == "linux" else []
        start_s = time.perf_counter()
        subprocess.run([*one_core, *command], check=True, capture_output=True)
        wall_s = time.perf_counter() - start_s
    return key, wall_s, f"{wall_s:.1f} s for {n_devices} devices x {n_rounds} rounds"


def ratio(key: str, own_s: Sequence[float], other_s: Sequence[float]) -> Line:
    """The ratio of the medians, with the range of the ratios of single rounds."""
    value = statistics.median(own_s) / statistics.median(other_s)
    ratios = sorted(own / other for own, other in zip(own_s, other_s, strict=True))
    seconds = f"{statistics.median(own_s):.2f} s / {statistics.median(other_s):.2f} s"
    return key, value, f"{value:.2f}  ({ratios[0]:.2f} to {ratios[-1]:.2f} over {len(ratios)} rounds; {seconds})"


def peak_share(key: str, workload: Workload, rounds_s: Sequence[float]) -> Iterator[Line]:
    """The share of the machine's float32 matrix-product peak that a round reaches, both measured now."""
    from benchmarks.peak import gemm_flop_per_s, round_flop

    peak = gemm_flop_per_s(os.cpu_count() or 1)
    flop = round_flop(workload)
    share = flop / statistics.median(rounds_s) / peak
    yield key, share, f"{share:.2f}  ({flop / 1e9:.0f} GFLOP a round; peak {peak / 1e9:.0f} GFLOP/s)"


if __name__ == "__main__":
    main()
