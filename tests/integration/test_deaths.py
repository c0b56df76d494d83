"""A coordinator that is killed comes back by itself, in a run and in a sweep, and nobody sees it in the results."""

from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.command_line import jetbed, settings, started
from tests.integration.conftest import SMALL, TABLES, digests, small_run, sweep_of
from tests.integration.ray_cluster import RayCluster

N_ROUNDS = 6
OFTEN_KEPT = (*SMALL, "training.local_steps=6", "results.checkpoint_rounds=1")
ON_RAY = ("--backend", "ray", "--hosts", "1", *settings(OFTEN_KEPT))
"""With a coordinator die the hosts that it has started, however many there are."""


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What a run of the usual policy must end with, as it does in one process."""
    found = digests(small_run(tmp_path_factory.mktemp("undisturbed") / "run", rounds=N_ROUNDS, overrides=OFTEN_KEPT))
    assert len(found) == len(TABLES) * N_ROUNDS
    return found


def coordinators(cluster: RayCluster) -> list[psutil.Process]:
    """Those that carry a run out at the moment."""
    family = cluster.process.children(recursive=True)
    return [child for child in family if child.name().startswith("ray::Coord")]


def lines_of(command: tuple[str, ...], cluster: RayCluster, on_line: Callable[[str], None]) -> list[str]:
    """What a command that must succeed says on standard error."""
    lines = []
    with started(*command, environment=cluster.environment) as process:
        assert process.stderr is not None
        for line in process.stderr:
            lines.append(line)
            on_line(line)
        assert process.wait(timeout=300) == 0, lines
    return lines


@pytest.mark.slow
def test_a_run_goes_on_by_itself_when_its_coordinator_is_killed_before_and_behind_its_first_checkpoint(
    undisturbed: dict[str, str], ray_cluster: RayCluster, tmp_path: Path
) -> None:
    killed: list[int] = []

    def kill_twice(line: str) -> None:
        # Checkpoints are behind the third round and the last: at first there is none to go on from, then one is.
        if line.startswith(("round 1/", "round 4/")[len(killed) : len(killed) + 1]):
            for process in coordinators(ray_cluster):
                process.kill()
                killed.append(process.pid)

    command = ("run", "--rounds", str(N_ROUNDS), "--out", str(tmp_path / "killed"), *ON_RAY)
    lines = lines_of((*command, "--set", "results.checkpoint_rounds=3"), ray_cluster, kill_twice)

    assert len(killed) == 2
    told = [line for line in lines if line.startswith("jetbed: the coordinator died; Ray says: ")]
    assert len(told) == 2, lines
    assert "it is started again, from round 0" in told[0]
    assert "it is started again, from round 3" in told[1]
    assert digests(tmp_path / "killed") == undisturbed


@pytest.mark.slow
def test_a_sweep_goes_on_by_itself_when_a_coordinator_is_killed(ray_cluster: RayCluster, tmp_path: Path) -> None:
    (tmp_path / "undisturbed").mkdir()
    sweep_of(("legend", "fedlora"), tmp_path / "undisturbed", rounds=3, overrides=OFTEN_KEPT)
    killed: list[int] = []

    def kill_one(line: str) -> None:
        # The second run is under way, and the slot that carries it out is the only one.
        if ": finished in " in line and not killed:
            for process in coordinators(ray_cluster):
                process.kill()
                killed.append(process.pid)

    file, out = str(tmp_path / "undisturbed" / "policies.toml"), str(tmp_path / "killed")
    command = ("sweep", file, "--out", out, "--max-parallel", "1", *ON_RAY)
    lines_of(command, ray_cluster, kill_one)

    assert killed
    assert digests(tmp_path / "killed") == digests(tmp_path / "undisturbed" / "runs")


@pytest.mark.slow
def test_a_run_whose_raylet_is_killed_ends_soon_and_can_be_resumed(
    undisturbed: dict[str, str], ray_cluster: RayCluster, tmp_path: Path
) -> None:
    out = tmp_path / "killed"
    killed: list[psutil.Process] = []
    told = []
    with started("run", "--rounds", str(N_ROUNDS), "--out", str(out), *ON_RAY) as process:
        assert process.stderr is not None
        for line in process.stderr:
            told.append(line)
            if line.startswith("round 2/") and not killed:
                family = psutil.Process(process.pid).children(recursive=True)
                killed = [child for child in family if child.name() == "raylet"]
                killed[0].kill()
        # Ray itself notices after half a minute, and then waits for a coordinator that has no place.
        assert process.wait(timeout=60) == 2, told
    assert "(raylet)" in told[-1]
    assert f"'jetbed resume' goes on: {str(out)!r}" in told[-1] or "'jetbed resume' goes on from round" in told[-1]
    resumed = jetbed("resume", str(out), environment=ray_cluster.environment)
    assert resumed.returncode == 0, resumed.stderr
    assert digests(out) == undisturbed
