"""One run on Ray whose processes are looked at after each round. ``benchmarks.scaling`` runs it as a process.

Prints what a round took as a line of JSON: the mean over the rounds after the first.
"""

import argparse
import json
import pickle
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil
import ray

from emulator.config import Config
from emulator.launch.execute import execute
from emulator.observers.base import RoundClosed, RunObserver

NAMES = {"coordinator": "ray::CoordinatorActor", "hosts": "ray::HostActor", "raylet": "raylet", "gcs": "gcs_server"}
"""How the names of these processes begin."""
LOCAL_STEPS, BATCH_SIZE, SEQ_LEN = 1, 2, 16
EXAMPLES_PER_DEVICE = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class RoundCost:
    """What a round takes: processor seconds of each kind of process, and bytes.

    Attributes:
        driver_s, coordinator_s, hosts_s, ray_s: processor seconds; ``hosts_s`` of all hosts, ``ray_s`` of Ray's own.
        driver_bytes: what the driver is told of it.
        store_bytes: what is put into the object store.
        coordinator_resident_bytes: what the coordinator holds after the last round, shared memory included.
    """

    driver_s: float
    coordinator_s: float
    hosts_s: float
    ray_s: float
    driver_bytes: float
    store_bytes: float
    coordinator_resident_bytes: float


class _Meter(RunObserver):
    """Looks at all processes whenever a round is over."""

    def __init__(self) -> None:
        self.seen: list[dict[str, float]] = []
        self._told_bytes = 0

    def round_closed(self, closed: RoundClosed) -> None:
        self._told_bytes += len(pickle.dumps(closed, protocol=5))
        self.seen.append(self._look())

    def cost(self) -> RoundCost:
        """Of the rounds between the first look and the last."""
        first, last = self.seen[0], self.seen[-1]
        n_rounds = len(self.seen) - 1
        change = {name: (last[name] - first[name]) / n_rounds for name in first}
        return RoundCost(
            driver_s=change["driver"],
            coordinator_s=change["coordinator"],
            hosts_s=change["hosts"],
            ray_s=change["raylet"] + change["gcs"],
            driver_bytes=change["told"],
            store_bytes=change["store"],
            coordinator_resident_bytes=last["resident"],
        )

    def _look(self) -> dict[str, float]:
        me = psutil.Process()
        found = {"driver": _seconds(me), "told": float(self._told_bytes), "store": _stored_bytes(), "resident": 0.0}
        found |= dict.fromkeys(NAMES, 0.0)
        for process in me.children(recursive=True):
            try:
                name = process.cmdline()[0].rpartition("/")[2]
                kind = next((kind for kind, start in NAMES.items() if name.startswith(start)), None)
                if kind is not None:
                    found[kind] += _seconds(process)
                if kind == "coordinator":
                    found["resident"] = float(process.memory_info().rss)
            except (psutil.Error, IndexError):
                continue  # it has just ended
        return found


def _seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _stored_bytes() -> float:
    """All that was ever put into the object stores of the cluster."""
    from ray._private.internal_api import node_stats

    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    total = 0.0
    for node in nodes:
        stats = node_stats(node["NodeManagerAddress"], node["NodeManagerPort"], False)  # type: ignore[no-untyped-call]
        total += float(stats.store_stats.cumulative_created_bytes)
    return total


def configuration(n_devices: int, n_hosts: int, n_rounds: int) -> Config:
    """The built-in model under FedLoRA at full depth, one small step for each device; all are in every round."""
    return Config.model_validate(
        {
            "rounds": n_rounds,
            "testbed": {"n_devices": n_devices, "availability": {"kind": "always"}},
            "model": {"train": "builtin:tiny-12", "price": "trained"},
            "data": {
                "n_train": EXAMPLES_PER_DEVICE * n_devices,
                "n_test": 32,
                "seq_len": SEQ_LEN,
                "partition": {"scheme": "iid"},
            },
            "training": {"local_steps": LOCAL_STEPS, "batch_size": BATCH_SIZE},
            "evaluation": {"every_rounds": n_rounds},
            "backend": {"hosts": n_hosts},
            "policy": {"path": "fedlora"},
        }
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--devices", type=int, required=True)
    parser.add_argument("--hosts", type=int, required=True)
    parser.add_argument("--rounds", type=int, required=True)
    options = parser.parse_args()
    meter = _Meter()
    with tempfile.TemporaryDirectory() as folder:
        execute(configuration(options.devices, options.hosts, options.rounds), Path(folder) / "run", [meter])
    print(json.dumps(asdict(meter.cost())))


if __name__ == "__main__":
    main()
