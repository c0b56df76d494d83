"""The program that kills whatever a study consists of finds it whole in the end."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.machines import why_no_machines

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.skipif(bool(why_no_machines()), reason=why_no_machines())
def test_runs_that_are_killed_end_with_the_bytes_of_undisturbed_ones() -> None:
    command = [sys.executable, "-m", "benchmarks.chaos", "--kills", "2", "--seed", "0"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=1800, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 kills (" in done.stdout
    assert "all runs are finished with the bytes of their twins" in done.stdout
