"""A run by hand whose every figure follows from a few lines: three rounds of 20 s, four devices.

Devices 0 to 2 download for 1 s, compute, upload for 2 s and wait for the rest. Device 3 is idle in round 0, drops out
after its download in round 1, and runs out of memory in round 2. A link carries 1,000 byte/s down and 500 byte/s up, so
1,000 bytes each way. Transfers take 5 W, computing 10 W, waiting 2 W.

========  =======  =======  ======  ===============================================
device    profile  compute  waits   energy
========  =======  =======  ======  ===============================================
0         slow     17 s     0 s     1 * 5 + 17 * 10 + 2 * 5 + 0 * 2 = 185 J
1         slow     12 s     5 s     1 * 5 + 12 * 10 + 2 * 5 + 5 * 2 = 145 J
2         fast     4 s      13 s    1 * 5 + 4 * 10 + 2 * 5 + 13 * 2 = 81 J
3, idle   fast     0 s      20 s    20 * 2 = 40 J
3, drops  fast     0 s      19 s    1 * 5 + 19 * 2 = 43 J
========  =======  =======  ======  ===============================================
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emulator.results.reader import RunFrames, load
from emulator.results.writer import RunWriter
from tests.columns import columns

N_ROUNDS = 3
ROUND_S = 20.0
COMPUTE_S = {0: 17.0, 1: 12.0, 2: 4.0}
FATES = ("idle", "dropped", "out_of_memory")
RATES = {"download": (1000, 5.0), "compute": (0, 10.0), "upload": (500, 5.0), "wait": (0, 2.0)}
RUN_INFO = {
    "policy": "by-hand",
    "seed": 7,
    "trained_model": "builtin:tiny-12",
    "priced_model": "roberta-base",
    "majority_accuracy": 0.25,
}

Tables = dict[str, dict[str, list[Any]]]


def _spans(round_index: int, device_id: int) -> list[tuple[str, float]]:
    """Kind and length of all activities of a device in a round."""
    if device_id in COMPUTE_S:
        spans = [("download", 1.0), ("compute", COMPUTE_S[device_id]), ("upload", 2.0)]
    else:
        spans = [("download", 1.0)] if FATES[round_index] == "dropped" else []
    rest_s = ROUND_S - sum(length_s for _, length_s in spans)
    return [*spans, ("wait", rest_s)] if rest_s else spans


def _activities(round_index: int) -> list[dict[str, Any]]:
    rows = []
    for device_id in range(4):
        now_s = ROUND_S * round_index
        for kind, length_s in _spans(round_index, device_id):
            bytes_per_s, watts = RATES[kind]
            rows.append(
                {
                    "round_index": round_index,
                    "device_id": device_id,
                    "kind": kind,
                    "start_s": now_s,
                    "end_s": now_s + length_s,
                    "n_bytes": int(length_s * bytes_per_s),
                    "energy_j": length_s * watts,
                }
            )
            now_s += length_s
    return rows


def _device(round_index: int, device_id: int) -> dict[str, Any]:
    length_s = dict.fromkeys(RATES, 0.0) | dict(_spans(round_index, device_id))
    works = device_id in COMPUTE_S
    status = "ok" if works else FATES[round_index]
    asked = status != "idle"
    return {
        "round_index": round_index,
        "device_id": device_id,
        "profile": "slow" if device_id < 2 else "fast",
        "power_mode": "maxn",
        "status": status,
        "group": 0 if asked else -1,
        "n_inner_rounds": 1,
        "depth": device_id + 1 if asked else 0,
        "ranks": [0, 8] if asked else [],
        "n_steps": 4 if asked else 0,
        "batch_size": 8 if asked else 0,
        "learning_rate": 1e-3 if asked else None,
        "start_s": ROUND_S * round_index,
        "download_s": length_s["download"],
        "forward_s": length_s["compute"] / 4,
        "backward_s": length_s["compute"] * 3 / 4,
        "compute_s": length_s["compute"],
        "upload_s": length_s["upload"],
        "waiting_s": length_s["wait"],
        "download_bytes": int(1000 * length_s["download"]),
        "upload_bytes": int(500 * length_s["upload"]),
        "downlink_bytes_per_s": 1000.0,
        "uplink_bytes_per_s": 500.0,
        "work_flop": 1e12 if asked else 0.0,
        "peak_memory_bytes": 6000 if status == "out_of_memory" else 3000 if asked else 0,
        "memory_limit_bytes": 4000,
        "energy_j": sum(length_s[kind] * watts for kind, (_, watts) in RATES.items()),
        "n_examples": 32 if works else 0,
        "train_loss": 1.0 + device_id if works else None,
        "metrics": {"grad_norm": 0.5} if works else {},
    }


def _round(round_index: int) -> dict[str, Any]:
    return {
        "round_index": round_index,
        "start_s": ROUND_S * round_index,
        "end_s": ROUND_S * (round_index + 1),
        "accuracy": (0.5, None, 0.75)[round_index],
        "loss": (1.5, None, 0.5)[round_index],
        "n_cohort": (3, 4, 4)[round_index],
        "n_ok": 3,
        "n_dropped": (0, 1, 0)[round_index],
        "n_out_of_memory": (0, 0, 1)[round_index],
        # Waiting of devices 0 to 2 is 0 + 5 + 13 = 18 s, device 3 adds its 19 or 20 s where it is in the cohort.
        "mean_waiting_s": (18 / 3, (18 + 19) / 4, (18 + 20) / 4)[round_index],
        "download_bytes": (3000, 4000, 3000)[round_index],
        "upload_bytes": 3000,
        # Devices 0 to 2 take 185 + 145 + 81 = 411 J.
        "energy_j": (411.0 + 40, 411.0 + 43, 411.0 + 40)[round_index],
        "train_loss": (1.0 + 2.0 + 3.0) / 3,
    }


def _host(round_index: int) -> list[dict[str, Any]]:
    """Two hosts train side by side, then one evaluates."""
    phases = [("host-0", "train", 0.5, 2), ("host-1", "train", 0.75, 1), ("host-0", "evaluate", 0.25, 1)]
    phases.append(("coordinator", "round", 1.25, 0))
    return [
        {"round_index": round_index, "host": host, "phase": phase, "wall_s": wall_s, "n_jobs": n, "memory_bytes": 10**8}
        for host, phase, wall_s, n in phases
    ]


def tables_of_round(round_index: int) -> Tables:
    """All columns of one round, in the order in which a run writes its tables."""
    return {
        "host": columns("host", _host(round_index)),
        "activities": columns("activities", _activities(round_index)),
        "devices": columns("devices", [_device(round_index, device_id) for device_id in range(4)]),
        "rounds": columns("rounds", [_round(round_index)]),
    }


@pytest.fixture
def round_tables() -> Callable[[int], Tables]:
    """The columns of each table for a round of the run by hand."""
    return tables_of_round


@pytest.fixture
def write_run() -> Callable[..., Path]:
    """Writes the run by hand into a folder and returns it."""

    def write(folder: Path, rounds_per_part: int = 1) -> Path:
        writer = RunWriter(folder, rounds_per_part)
        writer.open(RUN_INFO)
        for round_index in range(N_ROUNDS):
            for table, written in tables_of_round(round_index).items():
                writer.write(table, written)
        writer.close("finished")
        return folder

    return write


@pytest.fixture
def run_dir(tmp_path: Path, write_run: Callable[..., Path]) -> Path:
    """The folder of the run by hand."""
    return write_run(tmp_path / "run")


@pytest.fixture
def frames(run_dir: Path) -> RunFrames:
    """The run by hand, as it is read."""
    return load(run_dir)


@pytest.fixture
def one_device_columns() -> dict[str, Any]:
    """Columns of ``activities`` as numpy arrays, for one row."""
    return {
        "round_index": np.array([0]),
        "device_id": np.array([3]),
        "inner_round": np.array([0]),
        "kind": ["wait"],
        "start_s": np.array([0.0]),
        "end_s": np.array([20.0]),
        "n_bytes": np.array([0]),
        "energy_j": np.array([40.0]),
    }
