"""A run survives the loss of a host, and is told in one line where there is no cluster."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.conftest import SMALL, digests, settings, small_run
from tests.integration.ray_cluster import RayCluster

N_ROUNDS = 6
DIES_AFTER = 2


def command(out: Path, rounds: int) -> list[str]:
    arguments = ["run", "--rounds", str(rounds), "--out", str(out), "--backend", "ray", "--hosts", "2"]
    return [sys.executable, "-m", "emulator.cli", *arguments, *settings(SMALL)]


@pytest.mark.slow
def test_a_run_that_loses_an_idle_host_gives_the_bytes_of_an_undisturbed_one(
    ray_cluster: RayCluster, tmp_path: Path
) -> None:
    undisturbed = small_run(tmp_path / "undisturbed", rounds=N_ROUNDS)
    environment = os.environ | ray_cluster.environment
    process = subprocess.Popen(
        command(tmp_path / "lossy", N_ROUNDS), stderr=subprocess.PIPE, text=True, env=environment
    )
    assert process.stderr is not None
    killed, lines = [], []
    for line in process.stderr:
        lines.append(line)
        if line.startswith(f"round {DIES_AFTER}/"):
            family = ray_cluster.process.children(recursive=True)
            hosts = [child for child in family if child.name().startswith("ray::HostActor")]
            # Without a method after its name, a host's process is waiting for a call.
            idle = [host for host in hosts if "." not in "".join(host.cmdline())] or hosts
            idle[0].kill()
            killed.append(idle[0].pid)
    assert process.wait(timeout=60) == 0, lines
    assert len(killed) == 1
    assert digests(tmp_path / "lossy") == digests(undisturbed)


@pytest.mark.parametrize("address", ["nonsense", "localhost:1", "ray://localhost:1"])
def test_no_cluster_at_ray_address_is_one_line(tmp_path: Path, address: str) -> None:
    finished = subprocess.run(
        command(tmp_path / "run", 1),
        env=os.environ | {"RAY_ADDRESS": address},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert finished.returncode == 2
    assert finished.stderr.startswith("jetbed: cannot connect to the Ray cluster at RAY_ADDRESS")
    assert finished.stderr.count("\n") == 1
    assert repr(address) in finished.stderr
