"""Small runs of the whole emulator, made once and looked at by many tests."""

import contextlib
import hashlib
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from emulator.cli import main
from emulator.policy.catalog import policy_names
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

Finished = subprocess.CompletedProcess[str]


def jetbed(*arguments: str, cwd: Path | None = None, environment: Mapping[str, str] | None = None) -> Finished:
    """Run the command line in a process of its own, with ``environment`` on top of that of the tests."""
    return subprocess.run(
        [sys.executable, "-m", "emulator.cli", *arguments],
        cwd=cwd,
        env=os.environ | {"COLUMNS": "100"} | (environment or {}),
        capture_output=True,
        text=True,
        timeout=1800,
        check=False,
    )


def in_process(*arguments: str, cwd: Path | None = None) -> Finished:
    """As :func:`jetbed`, but in this process, which has loaded everything; what is no mistake of a user's is raised."""
    out, err, loaded = io.StringIO(), io.StringIO(), set(sys.modules)
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        patch.setattr(sys, "argv", ["jetbed", *arguments])
        patch.setattr(sys, "path", [*sys.path])
        patch.setenv("COLUMNS", "100")
        if cwd:
            patch.chdir(cwd)
        with pytest.raises(SystemExit) as ended:
            main.main()
    # Another test may have a policy of its own in a module of the same name.
    for name in set(sys.modules) - loaded:
        if cwd and str(getattr(sys.modules[name], "__file__", None)).startswith(str(cwd)):
            del sys.modules[name]
    assert ended.value.code is None or isinstance(ended.value.code, int)
    return subprocess.CompletedProcess(arguments, ended.value.code or 0, out.getvalue(), err.getvalue())


@contextlib.contextmanager
def started(*arguments: str, environment: Mapping[str, str] | None = None) -> Iterator[subprocess.Popen[str]]:
    """The command line in a process group of its own, with a standard error to read; it does not outlast the block.

    Tests may run under nohup or in the background, which ignore SIGHUP or SIGINT here and in all children.
    """

    def heed() -> None:
        for number in (signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)

    process = subprocess.Popen(
        [sys.executable, "-m", "emulator.cli", *arguments],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"COLUMNS": "100"} | (environment or {}),
        start_new_session=True,
        preexec_fn=heed,
    )
    try:
        yield process
    finally:
        process.kill()  # nothing where it has ended
        process.wait()
        # Not read to its end: what the process has started may hold the other end for a while.
        assert process.stderr is not None
        process.stderr.close()


def settings(overrides: Sequence[str]) -> list[str]:
    return [argument for override in overrides for argument in ("--set", override)]


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
        finished = jetbed(*command, "--backend", "inline")
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
    """A Ray cluster that lasts as long as the tests; for those that are marked ``ray``, which share a worker."""
    with started_cluster() as cluster:
        yield cluster
