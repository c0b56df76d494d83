"""Runs that keep pace with the wall: as long as they should be, the same to the byte, and quick to stop."""

import signal
import time
from pathlib import Path

import pytest

import emulator
from emulator.config import load_config
from emulator.launch.execute import execute
from emulator.observers.base import RoundClosed, RunObserver
from tests.integration.conftest import SMALL, digests, small_run
from tests.integration.ray_cluster import RayCluster
from tests.integration.test_interruption import still_alive, stop_after_round


class Ends(RunObserver):
    """When each round ended: seconds on the wall, and emulated ones."""

    def __init__(self) -> None:
        self.seen: list[tuple[float, float]] = []

    def round_closed(self, closed: RoundClosed) -> None:
        self.seen.append((time.monotonic(), closed.report.end_s))


@pytest.mark.slow
def test_the_wall_follows_emulated_time_and_the_results_are_those_of_virtual_pace(tmp_path: Path) -> None:
    overrides = [("rounds", 12), ("training.enabled", False), ("testbed.n_devices", 8)]
    virtual = execute(load_config(None, overrides), tmp_path / "virtual")
    factor = float(emulator.load(virtual).rounds["end_s"].iloc[-1]) / 3.0
    ends = Ends()
    paced = execute(load_config(None, [*overrides, ("pace", f"realtime({factor!r})")]), tmp_path / "paced", [ends])

    assert digests(paced) == digests(virtual)
    (first_wall_s, first_s), (last_wall_s, last_s) = ends.seen[0], ends.seen[-1]
    # It never runs ahead of the wall; how closely it follows is what benchmarks/pace.py measures.
    assert last_wall_s - first_wall_s >= 0.95 * (last_s - first_s) / factor


@pytest.mark.slow
def test_training_on_hosts_does_not_change_a_paced_run(inline_run: Path, tmp_path: Path) -> None:
    # At this pace no machine keeps up, which the run says and its tables do not show.
    run = small_run(tmp_path / "paced", overrides=[*SMALL, "pace=realtime(1e6)"])

    assert digests(run) == digests(inline_run)
    assert "this machine is too slow for pace = 'realtime(1e+06)'" in emulator.load(run).info["warning"]


@pytest.mark.slow
@pytest.mark.parametrize(("backend", "send"), [("inline", signal.SIGINT), ("ray", signal.SIGTERM)])
def test_a_paced_run_can_be_interrupted_in_the_middle_of_a_wait(
    ray_cluster: RayCluster, tmp_path: Path, backend: str, send: int
) -> None:
    """Once the first round is reported, the second one waits for half as many seconds as it is long: a few."""
    arguments = ("--backend", backend, "--hosts", "1", "--set", "pace=realtime(2)")
    status, reported, family = stop_after_round(
        1, tmp_path / "run", send, *arguments, environment=ray_cluster.environment
    )

    assert (status, reported) == (130, 1)
    assert still_alive(family, within_s=60) == []
    frames = emulator.load(tmp_path / "run")
    assert frames.info["status"] == "interrupted"
    assert len(frames.rounds) == 1
