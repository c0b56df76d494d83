"""Runs and sweeps written by hand, with the writer that runs use; every figure follows from a few numbers.

Two devices. Device 0 computes all through each round, device 1 for half of it, so that devices wait for a quarter of
their time on average, and a round's mean waiting time is a quarter of its length.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from emulator.results.writer import RunWriter
from tests.columns import columns

GB = 10**9
PEAKS_BYTES = (3 * GB, 1 * GB)
LIMIT_BYTES = 4 * GB


def write_run(
    folder: Path,
    accuracies: Sequence[float | None],
    *,
    policy: str = "a",
    seed: int = 0,
    round_s: float | Sequence[float] = 10.0,
    start_s: float = 0.0,
    down_bytes: int = 1000,
    up_bytes: int = 500,
    energy_j: float = 20.0,
    fates: Sequence[str] = (),
    status: str = "finished",
    error: str | None = None,
    settings: Mapping[str, Any] | None = None,
    info: Mapping[str, Any] | None = None,
) -> Path:
    """A run of one round for each of ``accuracies``; None is a round that was not evaluated.

    ``round_s`` is the length of all rounds or of each. Bytes and joules are those of all devices in a round. ``fates``
    are the states of device 1, in place of ok. ``settings`` is the config in ``run.json``, ``info`` more of it.
    """
    writer = RunWriter(folder)
    writer.open({"policy": policy, "seed": seed, **({"config": dict(settings)} if settings else {}), **(info or {})})
    lengths_s = [round_s] * len(accuracies) if isinstance(round_s, float) else round_s
    now_s = start_s
    for index, (accuracy, length_s) in enumerate(zip(accuracies, lengths_s, strict=True)):
        fate = fates[index] if index < len(fates) else "ok"
        devices = [_device(index, number, now_s, length_s, fate if number else "ok") for number in (0, 1)]
        for device in devices:
            device |= {"download_bytes": down_bytes // 2, "upload_bytes": up_bytes // 2, "energy_j": energy_j / 2}
        writer.write("devices", columns("devices", devices))
        row = {
            "round_index": index,
            "start_s": now_s,
            "end_s": now_s + length_s,
            "accuracy": accuracy,
            "loss": None if accuracy is None else 1 - accuracy,
            "n_cohort": sum(device["status"] not in ("idle", "unavailable") for device in devices),
            **{
                f"n_{name}": sum(device["status"] == name for device in devices)
                for name in ("ok", "dropped", "out_of_memory", "late", "unavailable")
            },
            "mean_waiting_s": length_s / 4,
            "download_bytes": down_bytes,
            "upload_bytes": up_bytes,
            "energy_j": energy_j,
        }
        writer.write("rounds", columns("rounds", [row]))
        now_s += length_s
    if status != "running":
        writer.close(status, error)  # type: ignore[arg-type]
    return folder


def _device(round_index: int, device_id: int, start_s: float, length_s: float, status: str) -> dict[str, Any]:
    compute_s = length_s / (1 + device_id)
    return {
        "round_index": round_index,
        "device_id": device_id,
        "profile": ("slow", "fast")[device_id],
        "power_mode": "maxn",
        "status": status,
        "n_inner_rounds": 1,
        "depth": 2,
        "ranks": [8, 8],
        "n_steps": 4,
        "batch_size": 8,
        "learning_rate": 1e-3,
        "start_s": start_s,
        "forward_s": compute_s / 2,
        "backward_s": compute_s / 2,
        "compute_s": compute_s,
        "waiting_s": length_s - compute_s,
        "work_flop": 1e12,
        "peak_memory_bytes": 2 * LIMIT_BYTES if status == "out_of_memory" else PEAKS_BYTES[device_id],
        "memory_limit_bytes": LIMIT_BYTES,
        "n_examples": 32,
    }


def write_sweep(folder: Path, runs: Mapping[str, Mapping[str, Any]], axes: Mapping[str, Mapping[str, Any]]) -> Path:
    """A sweep with the runs of the given names.

    ``runs`` holds for each run the arguments of :func:`write_run`; empty for a run that was not started. ``axes`` holds
    for each run its place on each axis.
    """
    folder.mkdir(parents=True)
    (folder / "sweep.json").write_text(json.dumps({"schema_version": 1, "name": folder.name}))
    states: dict[str, list[Any]] = {"run": [], "status": [], "error": []}
    for name, arguments in runs.items():
        if arguments:
            write_run(folder / f"run={name}", **arguments)
        states["run"].append(name)
        states["status"].append(arguments.get("status", "finished") if arguments else "planned")
        states["error"].append(arguments.get("error"))
    # Typed, since there may be no error at all.
    arrays = {name: pa.array(values, pa.string()) for name, values in states.items()}
    arrays |= {axis: pa.array([axes[name][axis] for name in runs]) for axis in next(iter(axes.values()))}
    pq.write_table(pa.table(arrays), folder / "index.parquet")
    return folder
