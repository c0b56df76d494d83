"""What the benchmark of scaling concludes from what it has measured."""

from pathlib import Path

import pytest

from benchmarks.scaling import Slopes, paper_bytes, slopes, verdict, write_part
from benchmarks.scaling_run import RoundCost


def cost(n_devices: int, n_hosts: int) -> RoundCost:
    """2 ms of hosts and 0.5 ms of the coordinator for each device, and a second for each host."""
    return RoundCost(
        driver_s=0.1,
        coordinator_s=0.0005 * n_devices + n_hosts,
        hosts_s=0.002 * n_devices + n_hosts,
        ray_s=0.0001 * n_devices,
        driver_bytes=100.0 * n_devices,
        store_bytes=1000.0 * n_devices + 5,
        coordinator_resident_bytes=1e8,
    )


COSTS = {(n_devices, n_hosts): cost(n_devices, n_hosts) for n_devices in (10, 30) for n_hosts in (1, 2)}


def test_a_slope_is_what_a_device_adds_whatever_the_hosts_add() -> None:
    found = slopes(COSTS)
    assert found.host_s == pytest.approx(0.002)
    assert found.coordinator_s == pytest.approx(0.0005)
    assert found.driver_s == pytest.approx(0.0, abs=1e-12)
    assert found.ray_s == pytest.approx(0.0001)
    assert found.driver_bytes == pytest.approx(100.0)
    assert found.store_bytes == pytest.approx(1000.0)


def test_what_takes_most_seconds_in_one_process_is_named_with_the_cores_that_it_can_feed() -> None:
    said = "\n".join(verdict(slopes(COSTS)))
    assert "in seconds**: the coordinator" in said
    assert "when 4.0 cores train" in said  # 2 ms / 0.5 ms


def test_nothing_is_named_where_no_process_grows() -> None:
    flat = Slopes(host_s=0.002, coordinator_s=0.0, driver_s=-1e-6, ray_s=0.0, driver_bytes=1.0, store_bytes=0.0)
    said = "\n".join(verdict(flat))
    assert "not to be told" in said
    assert "object store, which" not in said


def test_a_device_more_puts_an_adapter_more_into_the_store_and_a_block_its_sums() -> None:
    adapter = paper_bytes(2) - paper_bytes(1)
    assert paper_bytes(129) - paper_bytes(128) == 3 * adapter  # one adapter, and the sums of its block in float64


def test_a_part_takes_its_own_place_and_leaves_others(tmp_path: Path) -> None:
    file = tmp_path / "scaling.md"
    write_part(file, "First", ["one"])
    write_part(file, "Second", ["two"])
    write_part(file, "First", ["three", "four"])
    text = file.read_text()
    assert text.count("## First") == text.count("## Second") == 1
    assert "one" not in text
    assert text.index("three\nfour") < text.index("## Second") < text.index("two")
