"""What the chaos benchmark hits follows from its seed, and what it compares can differ."""

import json
from itertools import islice
from pathlib import Path

import pytest

from benchmarks.chaos.following import MARK, Struck, tell_said
from benchmarks.chaos.kills import WHAT, Kill, drawn
from benchmarks.chaos.works import N_ROUNDS, WORKS, Work

RUN = Work(name="legend")
SWEEP = Work(name="sweep", n_runs=6)


def finished_run(folder: Path, status: str = "finished") -> Path:
    for table in ("rounds", "devices", "activities", "adapter"):
        (folder / table).mkdir(parents=True)
        (folder / table / "part-00000.parquet").write_bytes(table.encode())
    (folder / "run.json").write_text(json.dumps({"status": status}))
    return folder


def test_what_is_hit_follows_from_the_seed() -> None:
    assert list(islice(drawn(0), 20)) == list(islice(drawn(0), 20))
    assert list(islice(drawn(0), 20)) != list(islice(drawn(1), 20))


@pytest.mark.parametrize("seed", range(3))
def test_nothing_is_spared_for_long(seed: int) -> None:
    works = list(islice(drawn(seed), len(WORKS)))
    assert {work for work, _ in works} == set(WORKS)
    # Blows come in shuffled rows of all kinds, at least two a work.
    assert {kill.what for _, kills in works for kill in kills} == set(WHAT)
    for work, kills in works:
        steps = [kill.n_steps for kill in kills]
        assert steps == sorted(steps)
        assert all(0 <= n_steps < work.n_steps for n_steps in steps)


@pytest.mark.parametrize(
    ("work", "line", "n_steps"),
    [
        (RUN, f"round 4/{N_ROUNDS}  accuracy 0.360  emulated 43.4 s", 4),
        (RUN, "starting hosts, loading model and data", None),
        (SWEEP, "6 runs: 2 finished, 1 running, 3 planned", 2),
        (SWEEP, "run policy-legend,seed-1: running (6 runs: 1 running, 5 planned)", 0),
        (SWEEP, "run policy-legend,seed-1: finished in 12 s (6 runs: 3 finished, 3 planned; about 1 min left)", 3),
        (SWEEP, "jetbed: the coordinator died", None),
    ],
)
def test_steps_are_read_from_what_commands_say(work: Work, line: str, n_steps: int | None) -> None:
    assert work.steps_told(line) == n_steps


def test_a_run_with_the_bytes_of_its_twin_is_as_wanted(tmp_path: Path) -> None:
    assert RUN.faults(finished_run(tmp_path / "run"), finished_run(tmp_path / "twin")) == []


@pytest.mark.parametrize("table", ["rounds", "devices", "activities", "adapter"])
def test_other_bytes_than_the_twins_are_a_fault(tmp_path: Path, table: str) -> None:
    run, twin = finished_run(tmp_path / "run"), finished_run(tmp_path / "twin")
    (run / table / "part-00000.parquet").write_bytes(b"other")
    assert RUN.faults(run, twin) == [f"other bytes than the twin's: {table}/part-00000.parquet"]
    (run / table / "part-00000.parquet").unlink()
    assert RUN.faults(run, twin) == [f"other bytes than the twin's: {table}/part-00000.parquet"]


def test_a_run_that_is_not_finished_is_a_fault_and_so_is_one_that_is_missing(tmp_path: Path) -> None:
    twin = finished_run(tmp_path / "twin" / "run=a")
    run = finished_run(tmp_path / "sweep" / "run=a", status="running")
    assert SWEEP.faults(run.parent, twin.parent) == ["1 of 6 runs are there", "run=a is running"]


def test_a_sweep_is_given_again_and_a_run_resumed_where_it_has_begun() -> None:
    assert RUN.command_again("out", has_begun=True) == ["resume", "out"]
    assert RUN.command_again("out", has_begun=False) == RUN.command("out")
    assert SWEEP.command_again("out", has_begun=True) == SWEEP.command("out")


@pytest.mark.parametrize("n_lines", [[], [1], [1, 3], [1, 1]])
def test_each_blow_is_told_the_first_that_was_said_before_the_next(n_lines: list[int]) -> None:
    kill = Kill(what="host", n_steps=0, delay=0.0, pick=0.0, full_s=0.0)
    struck = [Struck(kill=kill, at_step=0, at_s=0.0, n_lines=n) for n in n_lines]
    tell_said(struck, ["round 1/6", f"{MARK} one died", f"{MARK} waits", "round 2/6", f"{MARK} another died"])
    said = {(): [], (1,): ["one died"], (1, 3): ["one died", "another died"], (1, 1): ["", "one died"]}
    assert [blow.said for blow in struck] == said[tuple(n_lines)]
