"""Runs by hand, whose every figure follows from a few lines: four devices of two types, rounds of 10 s.

Each device downloads 1,000 bytes for 1 s, computes for 2 s (fast) or 6 s (slow), uploads 500 bytes for 1 s and waits
for the rest: 6 s (fast) or 2 s (slow). Transfers take 5 W, computing 10 W, waiting 2 W, so a round costs a fast device
5 + 20 + 5 + 12 = 42 J and a slow one 5 + 60 + 5 + 4 = 74 J. Depth is 2 for fast devices, 1 for slow ones, of 2 layers.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import pytest

from emulator.results.writer import RunWriter
from tests.columns import columns

ROUND_S = 10.0
FAST, SLOW = "fast", "slow"
PROFILES = (FAST, SLOW, FAST, SLOW)
COMPUTE_S = {FAST: 2.0, SLOW: 6.0}
WAITING_S = {FAST: 6.0, SLOW: 2.0}
ENERGY_J = {FAST: 42.0, SLOW: 74.0}
DEPTH = {FAST: 2, SLOW: 1}
MEMORY_LIMIT_BYTES = {FAST: 4_000, SLOW: 2_000}
WATTS = {"download": 5.0, "compute": 10.0, "upload": 5.0, "wait": 2.0}
N_BYTES = {"download": 1000, "compute": 0, "upload": 500, "wait": 0}

MakeRun = Callable[..., Path]


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """``make_run(name, accuracy=(0.5, 0.7), policy="calm", ...)`` writes a run and returns its folder."""

    def make(name: str, **arguments: Any) -> Path:
        return write_run(tmp_path / name, **arguments)

    return make


def write_run(
    folder: Path,
    accuracy: Sequence[float] = (0.5, 0.7, 0.8),
    *,
    policy: str = "calm",
    seed: int = 0,
    status: Literal["finished", "failed", "interrupted", "running"] = "finished",
    error: str | None = None,
    config: dict[str, Any] | None = None,
    round_s: float = ROUND_S,
    class_f1: Sequence[float | None] | None = None,
    info: dict[str, Any] | None = None,
) -> Path:
    """A run with a round for each accuracy; waiting takes what a longer round leaves.

    Each round has the same ``class_f1``; ``info`` is more of ``run.json``.
    """
    writer = RunWriter(folder)
    data = {"source": "made-up", "partition": {"scheme": "iid"}}
    whole = {"rounds": len(accuracy), "seed": seed, "data": data, "policy": {"path": policy}} | (config or {})
    writer.open(
        {
            "policy": policy,
            "seed": seed,
            "trained_model": "tiny",
            "priced_model": "large",
            "cluster": "by-hand",
            "n_devices": len(PROFILES),
            "n_test_examples": 100,
            "majority_accuracy": 0.25,
            "label_names": ["yes", "no"],
            "config": whole,
            "versions": {"jetbed": "0"},
            "profile_sha256": {FAST: "f" * 64, SLOW: "5" * 64},
            "cluster_sha256": "c" * 64,
            **(info or {}),
        }
    )
    for round_index, reached in enumerate(accuracy):
        start_s = round_index * round_s
        activities = [row for device in range(4) for row in _activities(round_index, device, start_s, round_s)]
        devices = [_device(round_index, device, start_s, round_s) for device in range(4)]
        writer.write("activities", columns("activities", activities))
        writer.write("devices", columns("devices", devices))
        row = _round(round_index, devices, start_s, round_s, reached)
        writer.write("rounds", columns("rounds", [row | {"class_f1": class_f1}]))
    if status == "running":
        writer.flush()
    else:
        writer.close(status, error)
    return folder


def _lengths_s(device: int, round_s: float) -> dict[str, float]:
    busy_s = {"download": 1.0, "compute": COMPUTE_S[PROFILES[device]], "upload": 1.0}
    return busy_s | {"wait": round_s - sum(busy_s.values())}


def _activities(round_index: int, device: int, now_s: float, round_s: float) -> list[dict[str, Any]]:
    rows = []
    for kind, length_s in _lengths_s(device, round_s).items():
        rows.append(
            {
                "round_index": round_index,
                "device_id": device,
                "kind": kind,
                "start_s": now_s,
                "end_s": now_s + length_s,
                "n_bytes": N_BYTES[kind],
                "energy_j": WATTS[kind] * length_s,
            }
        )
        now_s += length_s
    return rows


def _device(round_index: int, device: int, start_s: float, round_s: float) -> dict[str, Any]:
    profile = PROFILES[device]
    lengths_s = _lengths_s(device, round_s)
    ranks = [4, 8] if DEPTH[profile] == 2 else [0, 8]
    return {
        "round_index": round_index,
        "device_id": device,
        "profile": profile,
        "power_mode": "full",
        "status": "ok",
        "n_inner_rounds": 1,
        "depth": DEPTH[profile],
        "ranks": ranks,
        "n_steps": 1,
        "batch_size": 8,
        "learning_rate": 0.1,
        "start_s": start_s,
        "download_s": lengths_s["download"],
        "forward_s": lengths_s["compute"] / 2,
        "backward_s": lengths_s["compute"] / 2,
        "compute_s": lengths_s["compute"],
        "upload_s": lengths_s["upload"],
        "waiting_s": lengths_s["wait"],
        "download_bytes": 1000,
        "upload_bytes": 500,
        "downlink_bytes_per_s": 1000.0,
        "uplink_bytes_per_s": 500.0,
        "work_flop": 1e9,
        "peak_memory_bytes": 1_000 + 100 * round_index,
        "memory_limit_bytes": MEMORY_LIMIT_BYTES[profile],
        "energy_j": sum(WATTS[kind] * length_s for kind, length_s in lengths_s.items()),
        "n_examples": 10,
        "train_loss": 1.0,
    }


def _round(
    round_index: int, devices: list[dict[str, Any]], start_s: float, round_s: float, accuracy: float
) -> dict[str, Any]:
    return {
        "round_index": round_index,
        "start_s": start_s,
        "end_s": start_s + round_s,
        "accuracy": accuracy,
        "loss": 1 - accuracy,
        "n_cohort": 4,
        "n_ok": 4,
        "mean_waiting_s": sum(row["waiting_s"] for row in devices) / 4,
        "download_bytes": 4000,
        "upload_bytes": 2000,
        "energy_j": sum(row["energy_j"] for row in devices),
        "train_loss": 1.0,
    }
