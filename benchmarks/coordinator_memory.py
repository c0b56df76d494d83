"""What the coordinator holds at most while it aggregates large adapters: ``python -m benchmarks.coordinator_memory``.

Runs a model of four layers of 1024 on Ray, with a rank that makes adapters as large as asked for, one round of one
step, and looks at the coordinator's process ten times a second. Adapters are trained and aggregated as ever.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from benchmarks.workload import Workload, write_files

POLL_S = 0.1
WIDTH, N_LAYERS, SEQ_LEN = 1024, 4, 8
RANK_BYTES = N_LAYERS * 2 * (WIDTH + WIDTH) * 4
"""Of a rank of LoRA on query and value, in float32."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--devices", type=int, nargs="+", default=[50, 200])
    parser.add_argument("--adapter-mb", type=float, default=10.0, help="of one device, in 10^6 bytes")
    options = parser.parse_args()
    rank = round(options.adapter_mb * 1e6 / RANK_BYTES)
    print(f"adapters of {rank * RANK_BYTES / 1e6:.1f} MB, rank {rank}")
    print("devices  updates_gb  coordinator_own_mb  coordinator_resident_mb  wall_s")
    for n_devices in options.devices:
        own, resident, wall_s = peak_of_run(n_devices, rank)
        total = n_devices * rank * RANK_BYTES / 1e9
        print(f"{n_devices:7d}  {total:10.2f}  {own / 1e6:18.0f}  {resident / 1e6:23.0f}  {wall_s:6.0f}", flush=True)


def peak_of_run(n_devices: int, rank: int) -> tuple[int, int, float]:
    """Peak bytes of the coordinator: its own, those with views into the object store; and the seconds of the run."""
    workload = Workload(
        n_devices=n_devices,
        n_steps=1,
        batch_size=1,
        seq_len=SEQ_LEN,
        n_layers=N_LAYERS,
        hidden_size=WIDTH,
        depth=N_LAYERS,
    )
    settings: dict[str, object] = {
        "testbed.n_devices": n_devices,
        "model.price": "trained",
        "data.seq_len": SEQ_LEN,
        "data.partition.scheme": "iid",
        "policy.rank": rank,
        "training.local_steps": 1,
        "training.batch_size": 1,
    }
    with tempfile.TemporaryDirectory() as folder:
        write_files(workload, Path(folder))
        settings |= {"model.train": f"{folder}/model"}
        settings |= {"data.source": f"{folder}/train.jsonl", "data.test_source": f"{folder}/test.jsonl"}
        overrides = [argument for key, value in settings.items() for argument in ("--set", f"{key}={value}")]
        command = [sys.executable, "-m", "emulator.cli", "run", "--policy", "fedlora", "--rounds", "1"]
        start_s = time.perf_counter()
        process = subprocess.Popen(
            [*command, *overrides, "--out", str(Path(folder) / "run")],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        own = resident = 0
        while process.poll() is None:
            for one in coordinators(process.pid):
                own, resident = max(own, one[0]), max(resident, one[1])
            time.sleep(POLL_S)
        assert process.stderr is not None
        if process.returncode:
            raise SystemExit(process.stderr.read())
        return own, resident, time.perf_counter() - start_s


def coordinators(pid: int) -> list[tuple[int, int]]:
    """Bytes of each coordinator below the process ``pid``: its own, and all that are resident."""
    found = []
    try:
        for child in psutil.Process(pid).children(recursive=True):
            try:
                if child.cmdline()[:1] and child.cmdline()[0].startswith("ray::CoordinatorActor"):
                    memory = child.memory_info()
                    found.append((memory.rss - memory.shared, memory.rss))
            except psutil.Error:
                continue
    except psutil.Error:
        pass
    return found


if __name__ == "__main__":
    main()
