"""Whole runs in which devices keep their activations quantized: the same bytes everywhere, and nobody out of memory."""

import pytest

import emulator
from tests.integration.conftest import digests
from tests.integration.twins import Twins


@pytest.mark.slow
def test_hosts_on_ray_give_the_same_bytes_as_one_process(twins: Twins) -> None:
    inline = twins.inline["short-of-memory"]
    assert digests(twins.on_ray["short-of-memory"]) == digests(inline)
    devices = emulator.load(inline).devices
    assert (devices["peak_memory_bytes"] <= 0.12 * devices["memory_limit_bytes"]).all()
    quantized = devices.groupby("profile")["quantized_layers"].max()
    assert quantized["jetson_agx_xavier"] == 0
    assert quantized["jetson_tx2"] > 0
    assert quantized["jetson_xavier_nx"] > quantized["jetson_tx2"]
    assert (devices["status"] == "ok").all()
