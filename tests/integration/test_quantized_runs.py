"""Whole runs in which devices keep their activations quantized: the same bytes everywhere, and nobody out of memory."""

from pathlib import Path

import pytest

import emulator
from tests.integration.conftest import SMALL, digests, small_run
from tests.integration.ray_cluster import RayCluster

SHORT_OF_MEMORY = (*SMALL, "policy.path=fedquad", "policy.memory_fraction=0.12")
"""RoBERTa's shapes fit whole into the largest of the boards only."""


@pytest.mark.slow
def test_hosts_on_ray_give_the_same_bytes_as_one_process(ray_cluster: RayCluster, tmp_path: Path) -> None:
    inline = small_run(tmp_path / "inline", overrides=SHORT_OF_MEMORY)
    on_ray = small_run(tmp_path / "ray", "--hosts", "2", overrides=SHORT_OF_MEMORY, cluster=ray_cluster)
    assert digests(on_ray) == digests(inline)
    devices = emulator.load(inline).devices
    assert (devices["peak_memory_bytes"] <= 0.12 * devices["memory_limit_bytes"]).all()
    quantized = devices.groupby("profile")["quantized_layers"].max()
    assert quantized["jetson_agx_xavier"] == 0
    assert quantized["jetson_tx2"] > 0
    assert quantized["jetson_xavier_nx"] > quantized["jetson_tx2"]
    assert (devices["status"] == "ok").all()
