"""The number of hosts follows from the settings and from what is free."""

import math
from typing import Any

import pytest
import torch

from emulator.config import load_config
from emulator.running import capacity
from emulator.running.capacity import (
    HOST_BYTES,
    asked_hosts,
    available_bytes,
    free_here,
    has_gpu_torch,
    hosts_on_gpus,
    most_hosts,
    n_cores,
    n_gpus,
    n_hosts,
    with_gpus,
)


@pytest.mark.parametrize(
    ("settings", "asked"),
    [
        ({"backend.devices_per_actor": 1}, 80),
        ({"backend.devices_per_actor": 3}, 27),
        ({"backend.hosts": 7}, 7),
        ({"backend.kind": "live", "pace": "realtime(2)"}, 81),
        ({}, 0),
    ],
)
def test_a_run_asks_for_hosts_by_their_number_or_by_their_devices(settings: dict[str, Any], asked: int) -> None:
    assert asked_hosts(load_config(None, list(settings.items())), 80) == asked


def test_hosts_that_are_asked_for_are_started_whatever_is_free() -> None:
    assert n_hosts(load_config(None), {"CPU": 2.0, "memory": 0.0}, asked=7, most=5) == 7


@pytest.mark.parametrize("most", [1, 5, 100])
@pytest.mark.parametrize("n_cpus", [0.5, 1.0, 7.0, 64.0])
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("memory_bytes", [0.5 * HOST_BYTES, 4.5 * HOST_BYTES, 1000.0 * HOST_BYTES, math.inf])
def test_hosts_are_what_the_scarcest_of_cpus_memory_and_stacks_allows_and_at_least_one(
    most: int, n_cpus: float, threads: int, memory_bytes: float
) -> None:
    config = load_config(None, [("training.threads_per_host", threads)])
    number = n_hosts(config, {"CPU": n_cpus, "memory": memory_bytes}, asked=0, most=most)

    def has_room(n: int) -> bool:
        return n * threads <= n_cpus and n * HOST_BYTES <= memory_bytes and n <= most

    assert number == max([1, *(n for n in range(1, most + 1) if has_room(n))])


def test_a_host_with_a_share_of_a_gpu_waits_for_no_cpu() -> None:
    config = load_config(None, [("backend.gpus_per_host", 0.25)])
    assert n_hosts(config, {"CPU": 1.0, "GPU": 2.0}, asked=0, most=80) == 8
    assert n_hosts(config, {"CPU": 64.0, "GPU": 1.0, "memory": 3.0 * HOST_BYTES}, asked=0, most=80) == 3


@pytest.mark.parametrize(
    ("gpus", "share", "n"),
    [(1.0, 0.1, 10), (1.0, 0.2, 5), (1.0, 0.7, 1), (2.0, 0.6, 2), (1.5, 0.25, 6), (4.0, 2.0, 2), (0.0, 0.5, 0)],
)
def test_hosts_share_a_gpu_as_ray_places_them(gpus: float, share: float, n: int) -> None:
    assert hosts_on_gpus(gpus, share) == n


def test_more_hosts_than_stacks_of_devices_have_no_use() -> None:
    assert [most_hosts(80, stacked) for stacked in (1, 16, 79, 80)] == [80, 5, 2, 1]


def test_what_is_free_here_leaves_the_backend_its_own_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capacity, "n_cores", lambda: 6)
    monkeypatch.setattr(capacity, "n_gpus", lambda: 2)
    monkeypatch.setattr(capacity, "available_bytes", lambda: 1000)
    assert free_here(300) == {"CPU": 6.0, "GPU": 2.0, "memory": 700.0}
    assert free_here(2000)["memory"] == 0.0
    monkeypatch.setattr(capacity, "available_bytes", lambda: None)
    assert "memory" not in free_here(300)


def test_gpus_are_used_where_the_cluster_has_some_and_torch_can(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capacity, "has_gpu_torch", lambda: True)
    default = load_config(None)
    asked = load_config(None, [("backend.gpus_per_host", 0.25)])

    assert default.backend.gpu_share == 0.0
    assert with_gpus(default, 4.0).backend.gpus_per_host == 1.0
    assert with_gpus(default, 0.0).backend.gpus_per_host == 0.0
    assert with_gpus(asked, 0.0).backend.gpu_share == 0.25

    monkeypatch.setattr(capacity, "has_gpu_torch", lambda: False)
    assert with_gpus(default, 4.0).backend.gpus_per_host == 0.0


def test_whether_torch_was_built_for_gpus_is_told_as_torch_tells_it() -> None:
    assert has_gpu_torch() == (torch.version.cuda is not None)


def test_what_this_machine_has_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    assert n_cores() >= 1
    free = available_bytes()
    assert free is None or free > 0
    for visible, number in (("", 0), ("0,1", 2), ("-1", 0)):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        assert n_gpus() == number
