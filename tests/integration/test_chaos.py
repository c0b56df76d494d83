"""The program that kills whatever a study consists of finds it whole in the end."""

import subprocess
import sys
from itertools import islice
from pathlib import Path

import pytest

from benchmarks.chaos.kills import WHAT, drawn
from benchmarks.chaos.works import WORKS
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


def test_what_is_hit_follows_from_the_seed() -> None:
    assert list(islice(drawn(0), 20)) == list(islice(drawn(0), 20))
    assert list(islice(drawn(0), 20)) != list(islice(drawn(1), 20))


def test_nothing_is_spared_for_long() -> None:
    drawn_works = list(islice(drawn(0), len(WORKS)))
    assert {work for work, _ in drawn_works} == set(WORKS)
    # At least one blow a work, and they come in shuffled rows of all kinds.
    first = [kill.what for _, kills in islice(drawn(0), 2 * len(WHAT)) for kill in kills]
    assert set(first) == set(WHAT)
    for _, kills in drawn_works:
        assert [kill.n_steps for kill in kills] == sorted(kill.n_steps for kill in kills)
