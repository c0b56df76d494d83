"""A run survives the loss of a host, and is told in one line where there is no cluster."""

from pathlib import Path

import pytest

from tests.command_line import jetbed, settings, started
from tests.integration.conftest import SMALL, digests, small_run
from tests.integration.ray_cluster import RayCluster

N_ROUNDS = 6
DIES_AFTER = 2


ON_TWO_HOSTS = ("--backend", "ray", "--hosts", "2", *settings(SMALL))


@pytest.mark.slow
def test_a_run_that_loses_an_idle_host_gives_the_bytes_of_an_undisturbed_one(
    ray_cluster: RayCluster, tmp_path: Path
) -> None:
    undisturbed = small_run(tmp_path / "undisturbed", rounds=N_ROUNDS)
    command = ("run", "--rounds", str(N_ROUNDS), "--out", str(tmp_path / "lossy"), *ON_TWO_HOSTS)
    killed, lines = [], []
    with started(*command, environment=ray_cluster.environment) as process:
        assert process.stderr is not None
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


@pytest.mark.slow
@pytest.mark.parametrize("address", ["nonsense", "localhost:1", "ray://localhost:1"])
def test_no_cluster_at_ray_address_is_one_line(tmp_path: Path, address: str) -> None:
    finished = jetbed("run", *ON_TWO_HOSTS, cwd=tmp_path, environment={"RAY_ADDRESS": address})
    assert finished.returncode == 2
    starting, message = finished.stderr.splitlines()
    assert starting == "starting hosts, loading model and data"
    assert message.startswith("jetbed: cannot connect to the Ray cluster at RAY_ADDRESS")
    assert repr(address) in finished.stderr
    assert list(tmp_path.glob("runs/*")) == []
