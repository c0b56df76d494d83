"""The benchmark of scaling at sizes at which it tells nothing, but all of it runs."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def scaling(*arguments: str) -> str:
    command = [sys.executable, "-m", "benchmarks.scaling", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.ray
def test_runs_that_train_are_measured(tmp_path: Path) -> None:
    out = tmp_path / "scaling.md"
    said = scaling("--devices", "4", "40", "--hosts", "1", "--rounds", "2", "--out", str(out))
    assert "| 40 | 1 |" in said
    assert "First to stop scaling" in said
    assert said.strip() in out.read_text()


@pytest.mark.slow
def test_runs_without_training_are_measured() -> None:
    said = scaling("--timing-only", "--few", "10", "2", "--many", "50", "2")
    assert "| 50 | 2 |" in said
    assert "Ratio of a device-round" in said
