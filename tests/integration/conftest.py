"""Small runs of the whole emulator, made once and looked at by many tests."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from emulator.policy.catalog import policy_names
from tests.command_line import in_process, jetbed, settings
from tests.integration.ray_cluster import RayCluster, started_cluster

SMALL = (
    "testbed.n_devices=8",
    "data.n_train=400",
    "data.n_test=100",
    "training.local_steps=2",
    "training.devices_stacked=3",
)
"""A run that takes seconds: 8 devices in the proportions of the default testbed, in stacks that do not divide them."""
N_ROUNDS = 3
TABLES = ("rounds", "devices", "activities")
"""The tables that hold nothing measured on the wall."""


def small_run(
    out: Path,
    *arguments: str,
    rounds: int = N_ROUNDS,
    overrides: Sequence[str] = SMALL,
    cluster: RayCluster | None = None,
) -> Path:
    """A small run that must succeed, in this process or on a cluster; returns its folder."""
    command = ["run", "--rounds", str(rounds), "--out", str(out), *settings(overrides), *arguments]
    if cluster:
        finished = jetbed(*command, "--backend", "ray", environment=cluster.environment)
    else:
        finished = in_process(*command, "--backend", "inline")
    assert finished.returncode == 0, finished.stderr
    return out


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every Parquet part of a run's tables, or of those of all runs of a sweep; by path in the folder."""
    files = sorted(path for table in TABLES for path in folder.glob(f"**/{table}/*.parquet"))
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def sweep_of(
    policies: Sequence[str],
    folder: Path,
    *arguments: str,
    rounds: int = N_ROUNDS,
    overrides: Sequence[str] = SMALL,
    cluster: RayCluster | None = None,
) -> dict[str, Path]:
    """A run of each policy, as a sweep, so that hosts are started once; returns their folders."""
    file = folder / "policies.toml"
    file.write_text(f"base = {{ rounds = {rounds} }}\n[axes]\npolicy.path = {json.dumps(list(policies))}\n")
    command = ["sweep", str(file), "--out", str(folder / "runs"), *settings(overrides), *arguments]
    if cluster:
        finished = jetbed(*command, "--backend", "ray", environment=cluster.environment)
    else:
        finished = in_process(*command, "--backend", "inline")
    assert finished.returncode == 0, finished.stderr
    return {name: folder / "runs" / f"run=path-{name}" for name in policies}


@pytest.fixture(scope="session")
def inline_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three rounds of LEGEND, in one process."""
    return small_run(tmp_path_factory.mktemp("inline") / "run")


@pytest.fixture(scope="session")
def inline_runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Three rounds of every policy, in one process, by name."""
    return sweep_of(policy_names(), tmp_path_factory.mktemp("policies"))


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[RayCluster]:
    """A Ray cluster that lasts as long as the tests of this worker; those that are marked ``ray`` share it."""
    with started_cluster() as cluster:
        yield cluster
