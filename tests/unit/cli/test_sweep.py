"""What is shown of a sweep: counts, the time that is left, and one line for every run that starts or ends."""

import io
from collections.abc import Mapping
from pathlib import Path

import pytest
from rich.console import Console

from emulator.cli import sweep as shown
from emulator.observers.base import Progress
from emulator.sweeps.expansion import Sweep, expand
from emulator.sweeps.folder import RunState
from emulator.sweeps.spec import read_spec

PLANNED, RUNNING = RunState(), RunState(status="running")
FINISHED = RunState(status="finished", n_rounds=10, wall_s=20.0)
FAILED = RunState(status="failed", error="a reason [/]", n_rounds=3)


@pytest.fixture
def sweep(tmp_path: Path) -> Sweep:
    path = tmp_path / "study.toml"
    path.write_text("[base]\nrounds = 10\n[axes]\nseed = [0, 1, 2, 3]\n")
    return expand(read_spec(path))


def states(*of_runs: RunState) -> dict[str, RunState]:
    return {f"seed-{number}": state for number, state in enumerate(of_runs)}


def progress(rounds_done: int, jobs_done: int = 0) -> Progress:
    return Progress(rounds_done=rounds_done, n_rounds=10, jobs_done=jobs_done, n_jobs=8, now_s=90.0, score=0.5)


@pytest.mark.parametrize(
    ("of_runs", "now", "left_s"),
    [
        # 100 s for 10 rounds, 30 are left.
        ((FINISHED, PLANNED, PLANNED, PLANNED), {}, 300.0),
        # What was finished before the start says nothing about the pace: 5.5 of 10 rounds in 100 s.
        ((FINISHED, FINISHED, FINISHED, RUNNING), {"seed-3": progress(5, jobs_done=4)}, 100 * 4.5 / 5.5),
        ((RUNNING, PLANNED, PLANNED, PLANNED), {}, None),
        ((FAILED, FINISHED, FINISHED, FINISHED), {}, 0.0),
    ],
)
def test_the_time_left_follows_from_the_rounds_since_the_start(
    sweep: Sweep,
    monkeypatch: pytest.MonkeyPatch,
    of_runs: tuple[RunState, ...],
    now: Mapping[str, Progress],
    left_s: float | None,
) -> None:
    clock = iter([1000.0, 1100.0])
    monkeypatch.setattr(shown.time, "monotonic", lambda: next(clock))
    pace = shown._Pace(sweep)
    n_before = 3 if of_runs[:3] == (FINISHED,) * 3 else 0
    pace._complete = {f"seed-{number}" for number in range(n_before)}

    assert pace.left_s(states(*of_runs), now) == (None if left_s is None else pytest.approx(left_s))


def test_every_run_that_starts_or_ends_is_one_line(sweep: Sweep) -> None:
    said = io.StringIO()
    lines = shown._Lines(Console(file=said, width=200, markup=False), sweep)
    lines.show(states(FINISHED, PLANNED, PLANNED, PLANNED), {})
    lines.show(states(FINISHED, RUNNING, PLANNED, PLANNED), {})
    lines.show(states(FINISHED, RUNNING, PLANNED, PLANNED), {"seed-1": progress(3)})
    lines.show(states(FINISHED, FAILED, PLANNED, PLANNED), {})
    lines.show(states(FINISHED, FAILED, FINISHED, PLANNED), {})

    printed = said.getvalue().splitlines()
    assert printed[:2] == [
        "4 runs: 1 finished, 3 planned",
        "run seed-1: running (4 runs: 1 finished, 1 running, 2 planned)",
    ]
    assert printed[2].startswith("run seed-1: failed: a reason [/] (4 runs: 1 finished, 1 failed, 2 planned; about ")
    assert printed[3].startswith("run seed-2: finished in 20.0 s (4 runs: 2 finished, 1 failed, 1 planned; about ")
    assert len(printed) == 4


def test_the_live_table_shows_what_matters_now(sweep: Sweep) -> None:
    said = io.StringIO()
    console = Console(file=said, width=120, markup=False)
    table = shown._LiveTable(console, sweep)
    console.print(table._drawn(states(FINISHED, RUNNING, FAILED, PLANNED), {"seed-1": progress(3)}))

    printed = said.getvalue()
    assert "study: 4 runs: 1 finished, 1 running, 1 failed, 1 planned; about" in printed
    assert [line.split() for line in printed.splitlines() if "seed-1" in line] == [
        ["seed-1", "running", "3/10", "0.500", "90.0", "s"]
    ]
    assert "a reason [/]" in printed


def test_of_many_runs_those_that_wait_or_are_finished_are_counted_only() -> None:
    many = states(*[FINISHED] * 20, RUNNING, FAILED, *[PLANNED] * 30)
    listed = shown._listed(many)

    assert len(listed) == shown.MOST_ROWS
    assert {"seed-20", "seed-21"} <= set(listed)
    assert listed == sorted(listed, key=lambda name: int(name.removeprefix("seed-")))
