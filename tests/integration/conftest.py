"""Small runs of the whole emulator, made once and looked at by many tests."""

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

SMALL = (
    "testbed.n_devices=8",
    "data.n_train=400",
    "data.n_test=100",
    "training.local_steps=2",
    "training.devices_stacked=3",
)
"""A run that takes seconds: 8 devices in the proportions of the default testbed, in stacks that do not divide them."""

Jetbed = Callable[..., subprocess.CompletedProcess[str]]


def jetbed(*arguments: str, cwd: Path | None = None, timeout_s: float = 300) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own."""
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    return subprocess.run(
        [sys.executable, "-m", "emulator.cli", *arguments],
        cwd=cwd,
        env=environment | {"COLUMNS": "100", "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


def settings(overrides: Sequence[str]) -> list[str]:
    return [argument for override in overrides for argument in ("--set", override)]


def small_run(out: Path, *arguments: str, rounds: int = 3, overrides: Sequence[str] = SMALL) -> Path:
    """A small run that must succeed; returns its folder."""
    finished = jetbed("run", "--rounds", str(rounds), "--out", str(out), *settings(overrides), *arguments)
    assert finished.returncode == 0, finished.stderr
    return out


@pytest.fixture(scope="session")
def inline_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three rounds of LEGEND, in one process."""
    return small_run(tmp_path_factory.mktemp("inline") / "run", "--backend", "inline")
