"""Small runs of the whole emulator: how they are made, and what of them is compared."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tomli_w

from emulator.config import parse_setting
from tests.command_line import in_process, jetbed, settings
from tests.integration.ray_cluster import RayCluster

SMALL = (
    "testbed.n_devices=8",
    "data.n_train=400",
    "data.n_test=100",
    "training.local_steps=2",
    "training.batch_size=4",
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
    _succeed(["run", "--rounds", str(rounds), "--out", str(out), *settings(overrides), *arguments], cluster)
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
    _succeed(["sweep", str(file), "--out", str(folder / "runs"), *settings(overrides), *arguments], cluster)
    return {name: folder / "runs" / f"run=path-{name}" for name in policies}


def sweep_of_cases(
    cases: Mapping[str, Sequence[str]], folder: Path, *arguments: str, cluster: RayCluster | None = None
) -> dict[str, Path]:
    """A run for each of ``cases``, which are settings, as a sweep, so that hosts are started once; their folders."""
    tables: list[dict[str, Any]] = [{"name": name, **dict(map(parse_setting, case))} for name, case in cases.items()]
    file = folder / "cases.toml"
    file.write_text(tomli_w.dumps({"base": {"rounds": N_ROUNDS}, "cases": tables}))
    _succeed(["sweep", str(file), "--out", str(folder / "runs"), *arguments], cluster)
    return {name: folder / "runs" / f"run={name}" for name in cases}


def _succeed(command: Sequence[str], cluster: RayCluster | None) -> None:
    """Carry out a command in this process or on a cluster."""
    if cluster:
        finished = jetbed(*command, "--backend", "ray", environment=cluster.environment)
    else:
        finished = in_process(*command, "--backend", "inline")
    assert finished.returncode == 0, finished.stderr
