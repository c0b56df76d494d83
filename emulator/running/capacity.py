"""How many host processes a run starts, and what they need: arithmetic that no backend has to be started for."""

import math
import os
import runpy
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from emulator.config import Config
from emulator.running.limits import memory_left_bytes as available_bytes
from emulator.running.limits import n_cores
from emulator.running.objectives import trained_spec
from emulator.shapes.model_folder import checkpoint_bytes

__all__ = [
    "HOST_BYTES",
    "asked_hosts",
    "available_bytes",
    "free_here",
    "has_gpu_torch",
    "hosts_on_gpus",
    "least_hosts",
    "most_hosts",
    "n_cores",
    "n_gpus",
    "n_hosts",
    "trained_bytes",
    "weights_bytes",
    "with_gpus",
]

HOST_BYTES = 300 * 2**20
"""What a host needs beside the shared model: torch and transformers loaded, and a stack's activations (measured)."""


_RAY_UNITS = 10_000


def n_hosts(config: Config, free: Mapping[str, float], *, asked: int, most: int) -> int:
    """How many hosts one run is given, or all runs that share a pool.

    Args:
        config: says what a host reserves; runs that share a pool reserve the same.
        free: what there is, by Ray's names of resources (``CPU``, ``GPU``, ``memory`` in bytes). Memory is no limit
            where it is not told.
        asked: so many there are, whatever is free; 0 where that is left open.
        most: more would have nothing to do.
    """
    if asked:
        return asked
    if share := config.backend.gpu_share:
        room: float = hosts_on_gpus(free.get("GPU", 0.0), share)
    else:
        room = free.get("CPU", 0.0) // config.training.threads_per_host
    if math.isfinite(free_bytes := free.get("memory", math.inf)):
        room = min(room, free_bytes // HOST_BYTES)
    return max(1, min(int(room), most))


def hosts_on_gpus(free_gpus: float, share: float) -> int:
    """How many hosts of a positive ``share`` of a GPU find room: one that needs less than a whole GPU lies on one.

    Shares are counted as Ray counts resources, in ten-thousandths, so that ten hosts of 0.1 fit.
    """
    free, each = round(free_gpus * _RAY_UNITS), round(share * _RAY_UNITS)
    if each >= _RAY_UNITS:
        return free // each
    whole, rest = divmod(free, _RAY_UNITS)
    return whole * (_RAY_UNITS // each) + rest // each


def asked_hosts(config: Config, n_devices: int) -> int:
    """How many hosts a run by itself asks for; 0 where it leaves that open."""
    backend = config.backend
    if config.is_live:
        return n_devices + 1  # every device is one, and so is the server's
    if backend.devices_per_actor:
        return math.ceil(n_devices / backend.devices_per_actor)
    return backend.hosts or 0


def most_hosts(n_devices: int, devices_stacked: int) -> int:
    """How many hosts a run can use: more than it has stacks of devices would have nothing to do."""
    return math.ceil(n_devices / devices_stacked)


def free_here(own_bytes: int) -> dict[str, float]:
    """What this machine has for hosts, by Ray's names of resources, beside ``own_bytes`` of their backend's own."""
    free = {"CPU": float(n_cores()), "GPU": float(n_gpus())}
    if (free_bytes := available_bytes()) is not None:
        free["memory"] = float(max(0, free_bytes - own_bytes))
    return free


def n_gpus() -> int:
    """NVIDIA GPUs of this machine that a process may use."""
    if (visible := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return len([name for name in visible.split(",") if name.strip() not in ("", "-1")])
    return len(list(Path("/dev").glob("nvidia[0-9]*")))


def has_gpu_torch() -> bool:
    """Whether the PyTorch that is installed can use NVIDIA GPUs; told without importing it, which takes seconds."""
    found = find_spec("torch")
    if found is None or not found.submodule_search_locations:
        return False
    told = Path(found.submodule_search_locations[0]) / "version.py"
    return told.is_file() and bool(runpy.run_path(str(told)).get("cuda"))


def with_gpus(config: Config, n_gpus: float) -> Config:
    """``config`` with ``backend.gpus_per_host`` as a number, where there are so many GPUs.

    It is settled once, before anything is started, and ``run.json`` tells it: results differ in their last bits.
    """
    if config.backend.gpus_per_host is not None:
        return config
    share = 1.0 if n_gpus and has_gpu_torch() else 0.0
    return config.model_copy(update={"backend": config.backend.model_copy(update={"gpus_per_host": share})})


def least_hosts(config: Config) -> int:
    """The fewest hosts with which a run begins."""
    return config.backend.hosts or 1


def weights_bytes(config: Config) -> int:
    """The trained model's weights as hosts share them: numbers of four bytes."""
    return 4 * trained_spec(config).n_parameters


def trained_bytes(config: Config) -> int:
    """The trained model's weights, as they are loaded once for all hosts, and the file that they come from."""
    # The file is mapped until its last weight has become a number of four bytes.
    return weights_bytes(config) + checkpoint_bytes(config.model.train)
