"""The number of hosts follows from the settings and from what is free."""

from typing import Any

import pytest
import torch

from emulator.config import load_config
from emulator.running import capacity
from emulator.running.capacity import available_bytes, has_gpu_torch, n_cores, n_gpus, n_hosts, with_gpus


@pytest.mark.parametrize(
    ("settings", "free", "expected"),
    [
        ({"backend.devices_per_actor": 1}, {}, 80),
        ({"backend.devices_per_actor": 3}, {}, 27),
        ({"backend.hosts": 7}, {"CPU": 2}, 7),
        ({}, {"CPU": 4}, 4),
        ({}, {"CPU": 64}, 5),  # more hosts than stacks of 16 devices would have nothing to do
        ({}, {"CPU": 0.5}, 1),
        ({"training.threads_per_host": 2}, {"CPU": 4}, 2),
        ({"backend.gpus_per_host": 0.25}, {"CPU": 64, "GPU": 1}, 4),
    ],
)
def test_hosts_are_as_many_as_asked_for_or_as_there_is_room(
    settings: dict[str, Any], free: dict[str, float], expected: int
) -> None:
    assert n_hosts(load_config(None, list(settings.items())), 80, 16, free) == expected


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
