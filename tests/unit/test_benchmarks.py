"""Sweep files of the benchmarks are whole: every policy is in one, every gate finds its groups."""

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.claims.gates import GATES, Gate
from emulator.analysis.metrics import METRICS
from emulator.policy.catalog import policy_names
from emulator.sweeps.expansion import Sweep, expand
from emulator.sweeps.spec import read_spec

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def sweep(name: str) -> Sweep:
    return expand(read_spec(BENCHMARKS / name))


def test_the_table_of_systems_has_every_policy() -> None:
    assert sorted(str(run.labels["policy"]) for run in sweep("systems.toml").runs) == sorted(policy_names())


@pytest.mark.parametrize("gate", GATES, ids=lambda gate: gate.key)
def test_a_gate_compares_groups_that_its_sweep_has(gate: Gate) -> None:
    labels = {run.labels["policy"] for run in sweep(f"claims/{gate.system}.toml").runs}

    assert {gate.group, gate.baseline} <= labels
    assert gate.metric in METRICS
    assert (gate.at_least is None) != (gate.at_most is None)


@pytest.mark.parametrize("system", sorted({gate.system for gate in GATES}))
def test_claims_are_quoted_and_measured_over_three_seeds(system: str) -> None:
    first, *_ = (BENCHMARKS / f"claims/{system}.toml").read_text(encoding="utf-8").splitlines()

    assert "arXiv" in first
    assert {run.config.seed for run in sweep(f"claims/{system}.toml").runs} == {0, 1, 2}


@pytest.mark.slow
def test_what_measures_a_gpu_runs_without_one_and_then_writes_nothing() -> None:
    page = BENCHMARKS / "gpu.md"
    before = page.read_bytes() if page.exists() else None

    command = [sys.executable, "-m", "benchmarks.gpu", "--device", "cpu", "--small"]
    finished = subprocess.run(command, capture_output=True, text=True, cwd=BENCHMARKS.parent, check=False)

    assert finished.returncode == 0, finished.stderr
    rows = [line for line in finished.stdout.splitlines() if line.startswith("|")]
    assert len(rows) == (2 + 4) + (2 + 2) + (2 + 3)  # heads with their rules, then what was measured
    assert (page.read_bytes() if page.exists() else None) == before
