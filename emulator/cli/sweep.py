"""What ``jetbed sweep`` shows: its runs before they start, how far they are, and what they came to."""

import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress

import typer
from rich import box
from rich.console import Console, Group
from rich.live import Live
from rich.table import Column
from rich.text import Text

from emulator.objective.scores import SCORES
from emulator.observers.base import Progress
from emulator.report.terminal.console import FittedTable, terminal
from emulator.report.terminal.units import duration
from emulator.running.interruption import interruptible
from emulator.storage.places import Place
from emulator.sweeps.estimate import estimate
from emulator.sweeps.execution import run_sweep
from emulator.sweeps.expansion import Sweep, check_runs
from emulator.sweeps.folder import RunState

MOST_ROWS = 16
"""So many runs are listed one by one while a sweep runs; of the rest there are counts."""


def sweep_with_display(sweep: Sweep, sweep_dir: Place, max_parallel: int) -> None:
    """Run with a live table on standard error; print what became of the runs, and the folder, on standard output.

    Where standard error is not a terminal, each run that starts or ends is one line.

    Raises:
        UserError: something that was given cannot be used (exit status 2).
        typer.Exit: with status 1 where a run failed, with 130 where the sweep was interrupted.
    """
    check_runs(sweep)
    console = terminal(stderr=True)
    display = _LiveTable(console, sweep) if console.is_terminal else _Lines(console, sweep)
    try:
        with interruptible(), display:
            states = run_sweep(sweep, sweep_dir, display, max_parallel)
    except KeyboardInterrupt:
        # A terminal that has hung up takes no more lines.
        with suppress(OSError):
            console.print(
                f"jetbed: interrupted; finished runs are kept, and the same command goes on: {sweep_dir}",
                soft_wrap=True,
            )
        raise typer.Exit(130) from None
    print_outcome(states, sweep_dir)
    if any(state.status == "failed" for state in states.values()):
        raise typer.Exit(1)


def show_estimate(sweep: Sweep, sweep_dir: Place, max_parallel: int) -> None:
    """Print the runs, and what they are expected to take.

    Raises:
        UserError: something that was given cannot be used (exit status 2).
        typer.Exit: with status 1 where something will not fit.
    """
    check_runs(sweep)
    found = estimate(sweep, sweep_dir, max_parallel)
    console = terminal()
    table = FittedTable(
        Column("run", overflow="fold"),
        *sweep.runs[0].labels,
        Column("rounds", justify="right"),
        "",
        box=box.SIMPLE_HEAD,
    )
    for run in sweep.runs:
        expected = "finished" if run.name in found.finished else duration(found.wall_s[run.name])
        labels = (Text(str(label)) for label in run.labels.values())
        table.add_row(run.name, *labels, str(run.config.rounds), expected)
    console.print(table)
    hosts = f" on {found.n_hosts} hosts" if found.n_hosts else ""
    console.print(
        f"{len(found.wall_s)} of {len(sweep.runs)} runs left, {found.n_parallel} at a time{hosts}: about "
        f"{duration(found.total_s)}, of which {duration(found.start_s)} to start and load",
    )
    free = "" if found.free_bytes is None else f"; {found.free_bytes / 2**30:.1f} GiB are free"
    console.print(f"memory: {found.needed_bytes / 2**30:.1f} GiB{free}")
    for name, checks in found.problems.items():
        for check in checks:
            said = f"will not fit: {name}, {check.name}: {check.detail}"
            console.print(said, soft_wrap=True)
    if not found.will_fit:
        raise typer.Exit(1)


def print_outcome(states: Mapping[str, RunState], sweep_dir: Place) -> None:
    """Print how many runs ended in which way, and why the failed ones did."""
    console = terminal()
    console.print(_counts(states))
    for name, state in states.items():
        if state.status == "failed":
            console.print(f"failed: {name}: {state.error}", soft_wrap=True)
    console.print(f"results: {sweep_dir}", soft_wrap=True)


class _Pace:
    """How long the rest will take, from the rounds that were run since the start."""

    def __init__(self, sweep: Sweep) -> None:
        self._n_rounds = {run.name: run.config.rounds for run in sweep.runs}
        self._start_s = time.monotonic()
        self._complete: set[str] | None = None

    def left_s(self, states: Mapping[str, RunState], progress: Mapping[str, Progress]) -> float | None:
        """Seconds on the wall, None as long as nothing can be said."""
        if self._complete is None:
            self._complete = {name for name, state in states.items() if state.status == "finished"}
        done, left = 0.0, 0.0
        for name, n_rounds in self._n_rounds.items():
            if name in self._complete:
                continue
            if states[name].status not in ("planned", "running"):
                done += n_rounds
                continue
            now = _rounds_done(progress[name]) if name in progress else 0.0
            done += now
            left += n_rounds - now
        return (time.monotonic() - self._start_s) * left / done if done else None


def _rounds_done(progress: Progress) -> float:
    return progress.rounds_done + (progress.jobs_done / progress.n_jobs if progress.n_jobs else 0.0)


def _counts(states: Mapping[str, RunState]) -> str:
    counts = Counter(state.status for state in states.values())
    parts = [f"{counts[status]} {status}" for status in ("finished", "running", "failed", "interrupted", "planned")
             if counts[status]]  # fmt: skip
    return f"{len(states)} runs: {', '.join(parts)}"


def _left(left_s: float | None) -> str:
    return "" if left_s is None else f"; about {duration(left_s)} left"


class _Lines:
    """One line for every run that starts or ends."""

    def __init__(self, console: Console, sweep: Sweep) -> None:
        self._console = console
        self._pace = _Pace(sweep)
        self._shown: dict[str, RunState] | None = None

    def __enter__(self) -> None: ...

    def __exit__(self, *error: object) -> None: ...

    def warned(self, text: str) -> None:
        self._console.print(f"jetbed: {text}", soft_wrap=True)

    def show(self, states: Mapping[str, RunState], progress: Mapping[str, Progress]) -> None:
        if self._shown is None:
            self._shown = dict(states)
            self._console.print(_counts(states))
        for name, state in states.items():
            before, self._shown[name] = self._shown[name], state
            if state.status == before.status:
                continue
            what = f"run {name}: {state.status}"
            if state.status == "finished" and state.wall_s is not None:
                what += f" in {duration(state.wall_s)}"
            if state.error:
                what += f": {state.error}"
            rest = _left(self._pace.left_s(states, progress)) if state.status in ("finished", "failed") else ""
            self._console.print(f"{what} ({_counts(states)}{rest})", soft_wrap=True)


class _LiveTable:
    """The runs as a table that is drawn anew, under a line with the counts."""

    def __init__(self, console: Console, sweep: Sweep) -> None:
        self._pace = _Pace(sweep)
        self._sweep = sweep
        self._n_rounds = {run.name: run.config.rounds for run in sweep.runs}
        self._live = Live(console=console, refresh_per_second=4, transient=False)

    def __enter__(self) -> None:
        self._live.start()

    def __exit__(self, *error: object) -> None:
        # A terminal that has hung up cannot be drawn on, which must not hide why the sweep ended.
        with suppress(OSError):
            self._live.stop()

    def warned(self, text: str) -> None:
        self._live.console.print(f"jetbed: {text}", soft_wrap=True)

    def show(self, states: Mapping[str, RunState], progress: Mapping[str, Progress]) -> None:
        self._live.update(self._drawn(states, progress))

    def _drawn(self, states: Mapping[str, RunState], progress: Mapping[str, Progress]) -> Group:
        table = FittedTable(
            Column("run", overflow="ellipsis"),
            Column("", no_wrap=True),
            Column("rounds", justify="right", no_wrap=True),
            Column(_score_title(progress), justify="right", no_wrap=True),
            Column("emulated", justify="right", no_wrap=True),
            box=box.SIMPLE_HEAD,
        )
        for name in _listed(states):
            state, now = states[name], progress.get(name)
            n_done = state.n_rounds or (now.rounds_done if now else 0)
            score = f"{now.score:.3f}" if now and now.score is not None else ""
            table.add_row(
                name,
                Text(state.error or state.status),
                f"{n_done}/{self._n_rounds[name]}",
                score,
                duration(now.now_s) if now else "",
            )
        left = _left(self._pace.left_s(states, progress))
        return Group(Text(f"{self._sweep.name}: {_counts(states)}{left}"), table)


def _score_title(progress: Mapping[str, Progress]) -> str:
    """What the scores of the runs are called."""
    names = {now.score_name for now in progress.values() if now.score is not None}
    return SCORES[names.pop()].title if len(names) == 1 else "score" if names else "accuracy"


def _listed(states: Mapping[str, RunState]) -> list[str]:
    """The runs that are shown one by one, in the order of the sweep: where not all can be, those that matter now."""
    order = ("running", "failed", "interrupted", "planned", "finished")
    ranked = sorted(states, key=lambda name: order.index(states[name].status))[:MOST_ROWS]
    return [name for name in states if name in ranked]
