"""What the cluster has that this process is connected to, and where on it an actor is placed."""

import math

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from emulator.config import Config


def here() -> NodeAffinitySchedulingStrategy:
    """Places an actor on this machine, where the user's files are and results are written."""
    return NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)


def cpus_per_host(config: Config, n_hosts: int) -> float:
    """CPUs that Ray reserves for a host: its threads, or less where more hosts are asked for than there are CPUs."""
    share = free_resources().get("CPU", 1.0) / n_hosts
    return min(float(config.training.threads_per_host), math.floor(share * 1000) / 1000)


def free_resources() -> dict[str, float]:
    """What the cluster has left, by Ray's names of resources (``CPU``, ``GPU``, ``memory`` in bytes)."""
    return dict(ray.available_resources())  # type: ignore[no-untyped-call]


def cluster_gpus() -> float:
    """How many GPUs the cluster has, whoever uses them."""
    return float(ray.cluster_resources().get("GPU", 0.0))  # type: ignore[no-untyped-call]
