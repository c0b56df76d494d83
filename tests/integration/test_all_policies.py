"""Every policy that ships with jetbed runs, to the same bytes wherever it does, and learns.

All policies are the runs of one sweep, so that hosts are started once.
"""

import json
from pathlib import Path

import pytest

import emulator
from emulator.policy.catalog import policy_names
from emulator.results import verify
from tests.integration.conftest import SMALL, jetbed, settings
from tests.integration.test_runs import digests

pytestmark = pytest.mark.slow

LEARNING = (
    "testbed.n_devices=8",
    "data.n_train=1600",
    "data.n_test=300",
    "training.local_steps=12",
    "training.learning_rate=3e-3",
)
"""Enough training to tell whether a policy learns at all: 8 devices with 200 examples each."""


def all_policies(folder: Path, rounds: int, overrides: tuple[str, ...], *arguments: str) -> Path:
    """Runs of all policies; returns the folder that has one for each, ``run=path-<policy>``."""
    file = folder / "policies.toml"
    file.write_text(f"base = {{ rounds = {rounds} }}\n[axes]\npolicy.path = {json.dumps(policy_names())}\n")
    finished = jetbed(
        "sweep", str(file), "--out", str(folder / "runs"), *settings(overrides), *arguments, timeout_s=3600
    )
    assert finished.returncode == 0, finished.stderr
    return folder / "runs"


@pytest.fixture(scope="module")
def inline_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return all_policies(tmp_path_factory.mktemp("inline"), 3, SMALL, "--backend", "inline")


@pytest.fixture(scope="module")
def ray_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return all_policies(tmp_path_factory.mktemp("ray"), 3, SMALL, "--backend", "ray", "--hosts", "2")


@pytest.fixture(scope="module")
def learning_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return all_policies(tmp_path_factory.mktemp("learning"), 4, LEARNING, "--backend", "inline")


@pytest.mark.parametrize("name", policy_names())
def test_hosts_on_ray_give_the_same_bytes_as_one_process(inline_runs: Path, ray_runs: Path, name: str) -> None:
    inline = digests(inline_runs / f"run=path-{name}")
    assert len(inline) == 3 * 3  # tables by rounds
    assert digests(ray_runs / f"run=path-{name}") == inline


@pytest.mark.parametrize("name", policy_names())
def test_the_books_of_every_policy_balance(inline_runs: Path, name: str) -> None:
    verify(emulator.load(inline_runs / f"run=path-{name}"))


@pytest.mark.parametrize("name", policy_names())
def test_every_policy_beats_the_majority_class_clearly(learning_runs: Path, name: str) -> None:
    run = learning_runs / f"run=path-{name}"
    majority = json.loads((run / "run.json").read_text())["majority_accuracy"]
    assert emulator.load(run).rounds["accuracy"].max() > majority + 0.15
