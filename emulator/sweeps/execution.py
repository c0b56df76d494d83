"""Carries a sweep out: skips what is complete, runs the rest, and keeps the index up to date."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from emulator.coordinator import Progress
from emulator.errors import UserError
from emulator.execute import execute
from emulator.sweeps.expansion import PlannedRun, Sweep
from emulator.sweeps.folder import (
    RunState,
    clear_run,
    finished_runs,
    open_folder,
    read_info,
    run_dir,
    state_of,
    write_index,
)


class Display(Protocol):
    """Shows how far a sweep is."""

    def show(self, states: Mapping[str, RunState], progress: Mapping[str, Progress]) -> None: ...


class Ledger:
    """What is known of each run: written to the index when a run changes its state, shown at every sign of life."""

    def __init__(self, sweep: Sweep, sweep_dir: Path, finished: Mapping[str, RunState], display: Display) -> None:
        self.states: dict[str, RunState] = {run.name: finished.get(run.name, RunState()) for run in sweep.runs}
        self._sweep = sweep
        self._sweep_dir = sweep_dir
        self._display = display
        self._progress: dict[str, Progress] = {}

    def folder(self, run: PlannedRun) -> Path:
        return run_dir(self._sweep_dir, run.name)

    def started(self, run: PlannedRun) -> None:
        """A run begins; what an earlier attempt left of it is removed."""
        clear_run(self.folder(run))
        self._set(run, RunState(status="running"))

    def progressed(self, run: PlannedRun, progress: Progress) -> None:
        self._progress[run.name] = progress
        self._display.show(self.states, self._progress)

    def ended(self, run: PlannedRun, error: BaseException | None = None) -> None:
        """A run has ended by itself, or with ``error``."""
        info = read_info(self.folder(run))
        state = state_of(info) if info else RunState()
        if isinstance(error, KeyboardInterrupt):
            state = RunState(status="interrupted", n_rounds=state.n_rounds, wall_s=state.wall_s)
        elif error is not None:
            said = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
            state = RunState(status="failed", error=said, n_rounds=state.n_rounds, wall_s=state.wall_s)
        self._set(run, state)

    def _set(self, run: PlannedRun, state: RunState) -> None:
        self.states[run.name] = state
        self.write()
        self._display.show(self.states, self._progress)

    def write(self) -> None:
        write_index(self._sweep, self._sweep_dir, self.states)


def run_sweep(sweep: Sweep, sweep_dir: Path, display: Display) -> Mapping[str, RunState]:
    """Run what is not complete in ``sweep_dir`` yet; the state of every run in the end.

    Raises:
        UserError: the folder cannot be used. What goes wrong in a run is the run's.
        KeyboardInterrupt: the sweep was interrupted; what is finished stays.
    """
    finished = finished_runs(sweep, sweep_dir)
    open_folder(sweep, sweep_dir)
    ledger = Ledger(sweep, sweep_dir, finished, display)
    ledger.write()
    run_one_after_another([run for run in sweep.runs if run.name not in finished], ledger)
    return ledger.states


def run_one_after_another(runs: Sequence[PlannedRun], ledger: Ledger) -> None:
    """Run in this process, or with hosts of their own.

    Raises:
        KeyboardInterrupt: the sweep was interrupted.
    """
    for run in runs:
        ledger.started(run)
        try:
            execute(run.config, ledger.folder(run), lambda progress, run=run: ledger.progressed(run, progress))  # type: ignore[misc]
        except KeyboardInterrupt as error:
            ledger.ended(run, error)
            raise
        except Exception as error:
            # Whatever ends one run, the others are not to blame.
            ledger.ended(run, error)
        else:
            ledger.ended(run)
