"""A run that is killed or interrupted keeps every round that it had reported, and leaves no process behind."""

import os
import signal
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

import emulator
from emulator.backends import watcher
from emulator.results import verify
from tests.command_line import settings, started
from tests.integration.conftest import N_ROUNDS, SMALL, digests


def stop_after_round(
    n_rounds: int, out: Path, send: int, *arguments: str, environment: Mapping[str, str] | None = None
) -> tuple[int, int, list[psutil.Process]]:
    """Send ``send`` to a run of its own process group once it has reported ``n_rounds``.

    Returns its exit status, the rounds that it had reported by then, and the processes that it had started.
    """
    command = ("run", "--rounds", "500", "--out", str(out), *settings(SMALL), *arguments)
    with started(*command, environment=environment) as process:
        assert process.stderr is not None
        reported, family = 0, []
        for line in process.stderr:
            if line.startswith("round "):
                reported = int(line.split()[1].partition("/")[0])
            if reported == n_rounds and not family:
                family = psutil.Process(process.pid).children(recursive=True)
                # A terminal sends Ctrl-C and its hang-up to the whole group; kill hits one process.
                to_one = send in (signal.SIGKILL, signal.SIGTERM)
                os.kill(process.pid, send) if to_one else os.killpg(process.pid, send)
                family.append(psutil.Process(process.pid))
        return process.wait(timeout=120), reported, family


def still_alive(processes: list[psutil.Process], within_s: float) -> list[psutil.Process]:
    """Those of ``processes`` that have not ended ``within_s`` from now."""
    deadline_s = time.monotonic() + within_s
    alive = processes
    while alive and time.monotonic() < deadline_s:
        alive = [process for process in alive if is_alive(process)]
        time.sleep(0.5)
    return alive


def is_alive(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["inline", pytest.param("ray", marks=pytest.mark.ray)])
def test_a_killed_run_keeps_every_round_that_it_had_reported_and_nothing_of_it_lives_for_longer_than_30_s(
    tmp_path: Path, backend: str
) -> None:
    status, reported, family = stop_after_round(
        3, tmp_path / "run", signal.SIGKILL, "--backend", backend, "--hosts", "1"
    )
    assert status == -signal.SIGKILL
    assert still_alive(family, within_s=30) == []
    frames = emulator.load(tmp_path / "run")
    assert len(frames.rounds) >= reported >= 3
    assert len(frames.devices) == 8 * len(frames.rounds)
    verify(frames)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backend", "send"),
    [
        ("inline", signal.SIGINT),
        pytest.param("ray", signal.SIGINT, marks=pytest.mark.ray),
        ("inline", signal.SIGHUP),
    ],
)
def test_an_interrupted_run_says_so_and_leaves_nothing_running(tmp_path: Path, backend: str, send: int) -> None:
    status, reported, family = stop_after_round(2, tmp_path / "run", send, "--backend", backend, "--hosts", "1")
    assert status == 130
    assert still_alive(family, within_s=60) == []
    frames = emulator.load(tmp_path / "run")
    assert frames.info["status"] == "interrupted"
    assert len(frames.rounds) >= reported
    verify(frames)


@pytest.mark.slow
@pytest.mark.ray
def test_a_run_without_a_cluster_starts_one_gives_the_same_bytes_and_leaves_nothing_running(
    inline_run: Path, tmp_path: Path
) -> None:
    on_ray = ("--backend", "ray", "--hosts", "1", *settings(SMALL))
    command = ("run", "--rounds", str(N_ROUNDS), "--out", str(tmp_path / "run"), *on_ray)
    with started(*command) as process:
        assert process.stderr is not None
        family, commands = [], ""
        for line in process.stderr:
            if line.startswith("round 1/"):
                family = psutil.Process(process.pid).children(recursive=True)
                commands = "".join(" ".join(child.cmdline()) for child in family)
        assert process.wait(timeout=120) == 0
    assert watcher.__file__ in commands
    assert still_alive(family, within_s=1) == []
    assert digests(tmp_path / "run") == digests(inline_run)
