"""Sweep files of the benchmarks are whole: every policy is in one, every gate finds its groups."""

import runpy
import sys
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path

import pytest

from benchmarks import gpu
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
def test_what_measures_a_gpu_runs_without_one_and_then_writes_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Here the programs that it calls do not get processes of their own, in each of which torch would be imported."""
    page = BENCHMARKS / "gpu.md"
    before = page.read_bytes() if page.exists() else None
    monkeypatch.setattr(gpu, "_run", run_here)
    monkeypatch.setattr(sys, "argv", ["gpu", "--device", "cpu", "--small"])

    with pytest.raises(SystemExit) as ended:
        gpu.main()

    assert not ended.value.code
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert len(rows) == (2 + 4) + (2 + 2) + (2 + 3)  # heads with their rules, then what was measured
    assert (page.read_bytes() if page.exists() else None) == before


def run_here(python: str, option: str, module: str, *arguments: str) -> None:
    """``python -m MODULE ARGUMENTS`` in this process; what it prints is nobody's."""
    assert (python, option) == (sys.executable, "-m")
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        patch.setattr(sys, "argv", [module, *arguments])
        status: object = None
        try:
            runpy.run_module(module, run_name="__main__", alter_sys=True)
        except SystemExit as ended:
            status = ended.code
        assert not status
