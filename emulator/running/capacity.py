"""How many host processes a run starts, and what they need: arithmetic that no backend has to be started for."""

import math
import os
from collections.abc import Mapping
from pathlib import Path

from emulator.config import Config

HOST_BYTES = 300 * 2**20
"""What a host needs beside the shared model: torch and transformers loaded, and a stack's activations (measured)."""


def n_hosts(config: Config, n_devices: int, devices_stacked: int, free: Mapping[str, float]) -> int:
    """How many hosts share the devices, given what is ``free`` by Ray's names of resources."""
    backend = config.backend
    if backend.devices_per_actor:
        return math.ceil(n_devices / backend.devices_per_actor)
    if backend.hosts:
        return backend.hosts
    resource, per_host = (
        ("GPU", backend.gpus_per_host) if backend.gpus_per_host else ("CPU", config.training.threads_per_host)
    )
    return max(1, min(int(free.get(resource, 1) // per_host), most_hosts(n_devices, devices_stacked)))


def most_hosts(n_devices: int, devices_stacked: int) -> int:
    """How many hosts a run can use: more than it has stacks of devices would have nothing to do."""
    return math.ceil(n_devices / devices_stacked)


def n_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def n_gpus() -> int:
    """NVIDIA GPUs of this machine that a process may use."""
    if (visible := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return len([name for name in visible.split(",") if name.strip() not in ("", "-1")])
    return len(list(Path("/dev").glob("nvidia[0-9]*")))


def available_bytes() -> int | None:
    """Memory of this machine that a new process could take, None where the system does not tell (Linux does)."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    values = dict(line.split(":", 1) for line in lines)
    return 1024 * int(values["MemAvailable"].split()[0]) if "MemAvailable" in values else None
