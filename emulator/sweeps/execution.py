"""Carries a sweep out: skips what is complete, runs the rest, and keeps the index up to date."""

from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Protocol

from emulator.backends.batch import BatchRun, Listener
from emulator.backends.kinds import KINDS, BackendKind, backend_kind
from emulator.backends.locks import exclusive, owned
from emulator.errors import ConfigError, UserError
from emulator.launch.execute import execute
from emulator.observers.base import Progress, RunObserver
from emulator.results.sweep_folder import is_sweep, run_dir
from emulator.results.writer import INFO_FILE
from emulator.storage.patience import Patience
from emulator.storage.places import Place
from emulator.sweeps.expansion import Sweep
from emulator.sweeps.folder import (
    WHAT,
    RunState,
    as_batch,
    finished_runs,
    info_of,
    make_sweep_folder,
    prepare_run,
    state_of,
    write_description,
    write_index,
)

SWEEP_LOCK, RUNS_LOCK = ".sweep.lock", ".runs.lock"
"""Held by whoever carries a sweep out, and by the processes that write its runs."""
PATIENCE_S = 30.0
"""So long the processes of a sweep that was killed may take to notice."""


class Display(Protocol):
    """Shows how far a sweep is: first what is complete already, then every sign of life."""

    def show(self, states: Mapping[str, RunState], progress: Mapping[str, Progress]) -> None: ...

    def warned(self, text: str) -> None:
        """Something that the user should know; it ends nothing."""
        ...


def run_sweep(sweep: Sweep, sweep_dir: Place, display: Display, max_parallel: int = 0) -> Mapping[str, RunState]:
    """Run what is not complete in ``sweep_dir`` yet, at most ``max_parallel`` runs at a time; 0 leaves that open.

    Returns the state of every run in the end.

    Raises:
        UserError: the folder cannot be used, or the hosts have no room. What goes wrong in a run is the run's.
        KeyboardInterrupt: the sweep was interrupted; what is finished stays.
    """
    _check_parallel({backend_kind(run.config.backend.kind) for run in sweep.runs}, max_parallel)
    finished_runs(sweep, sweep_dir)  # what cannot go on leaves the folder as it is
    with _alone(sweep_dir, display.warned) as lock:
        # Another sweep may have gone on here meanwhile; only from now on is the folder that of this one.
        finished = finished_runs(sweep, sweep_dir) if is_sweep(sweep_dir) else {}
        write_description(sweep, sweep_dir)
        progress = _RunStates(sweep, sweep_dir, finished, display)
        left = [run for run in sweep.runs if progress.states[run.name].status != "finished"]
        try:
            _carry_out(as_batch(left, sweep_dir), progress, max_parallel, lock)
        except BaseException:
            # What cannot be written now must not hide why the sweep has ended, nor hold it up.
            with suppress(UserError):
                progress.close(waits=False)
            raise
        progress.close()
    return progress.states


@contextmanager
def _alone(sweep_dir: Place, tell: Callable[[str], None]) -> Iterator[Path | None]:
    """No other sweep writes into the folder; gives what the processes that write its runs must hold, if anything.

    A storage has no locks. There the runs of a sweep that was killed end before its claim on the folder does.

    Raises:
        UserError: another one does, or the folder cannot be made.
    """
    if not isinstance(sweep_dir, Path):
        with owned(sweep_dir, tell):
            yield None
        return
    make_sweep_folder(sweep_dir, (SWEEP_LOCK, RUNS_LOCK))
    with exclusive(sweep_dir / SWEEP_LOCK, PATIENCE_S) as is_alone:
        with exclusive(sweep_dir / RUNS_LOCK, PATIENCE_S) as is_quiet:
            if not (is_alone and is_quiet):
                raise UserError(f"another sweep is writing into this folder; wait for its end: {str(sweep_dir)!r}")
        yield sweep_dir / RUNS_LOCK


def _check_parallel(kinds: Set[BackendKind], max_parallel: int) -> None:
    for kind in kinds:
        if max_parallel > 1 and not kind.is_side_by_side:
            others = " or ".join(repr(other.name) for other in KINDS if other.is_side_by_side)
            raise ConfigError(
                f"{kind.name} runs go one after another; use backend.kind = {others}, got --max-parallel {max_parallel}"
            )


def _carry_out(runs: Sequence[BatchRun], listener: Listener, max_parallel: int, lock: Path | None) -> None:
    by_kind: dict[BackendKind, list[BatchRun]] = {}
    for run in runs:
        by_kind.setdefault(backend_kind(run.config.backend.kind), []).append(run)
    # First those for which nothing has to be started.
    for kind, of_kind in sorted(by_kind.items(), key=lambda item: item[0].is_side_by_side):
        if kind.is_side_by_side:
            kind.load_run_batch()(of_kind, listener, max_parallel, lock.absolute() if lock else None)
        else:
            run_one_after_another(of_kind, listener)


def run_one_after_another(runs: Sequence[BatchRun], listener: Listener) -> None:
    """Run in this process.

    Raises:
        KeyboardInterrupt: the sweep was interrupted.
    """
    for run in runs:
        listener.started(run.name)
        try:
            goes_on = (run.out_dir / INFO_FILE).exists()
            execute(run.config, run.out_dir, [_ToListener(run.name, listener)], resumes=goes_on)
        except (Exception, SystemExit) as error:
            # Whatever ends one run, the others are not to blame.
            listener.ended(run.name, error)
        else:
            listener.ended(run.name, None)


class _ToListener(RunObserver):
    """Passes a run's progress on under its name."""

    def __init__(self, name: str, listener: Listener) -> None:
        self._name = name
        self._listener = listener

    def progressed(self, progress: Progress) -> None:
        self._listener.progressed(self._name, progress)

    def warned(self, text: str) -> None:
        self._listener.warned(self._name, text)


class _RunStates:
    """What is known of each run: in the index when a run changes its state, on the display at every sign of life."""

    def __init__(self, sweep: Sweep, sweep_dir: Place, finished: Mapping[str, RunState], display: Display) -> None:
        self.states: dict[str, RunState] = {run.name: finished.get(run.name, RunState()) for run in sweep.runs}
        self._configs = {run.name: run.config for run in sweep.runs}
        self._sweep = sweep
        self._sweep_dir = sweep_dir
        self._display = display
        self._latest: dict[str, Progress] = {}
        wait_s = sweep.base.results.wait_s
        self._patience = Patience(wait_s, display.warned, advice="the same command goes on")
        self._write()
        display.show(self.states, self._latest)

    def started(self, name: str) -> None:
        """A run begins, or goes on from where an earlier attempt has come to."""
        if remark := prepare_run(run_dir(self._sweep_dir, name), self._configs[name], self._patience):
            self.warned(name, f"begins anew, since {remark}")
        self._latest.pop(name, None)
        self._set(name, RunState(status="running"))

    def warned(self, name: str, text: str) -> None:
        self._display.warned(f"run {name}: {text}")

    def progressed(self, name: str, progress: Progress) -> None:
        self._latest[name] = progress
        self._display.show(self.states, self._latest)

    def ended(self, name: str, error: BaseException | None) -> None:
        state = self._on_disk(name)
        if error is not None:
            state = replace(state, status="failed", error=_reason(error))
        self._set(name, state)

    def close(self, *, waits: bool = True) -> None:
        """Whatever is still under way has been interrupted."""
        if not waits:
            self._patience.end()
        for name, state in self.states.items():
            if state.status == "running":
                on_disk = self._on_disk(name)
                is_finished = on_disk.status == "finished"
                self.states[name] = on_disk if is_finished else replace(on_disk, status="interrupted")
        self._write()

    def _on_disk(self, name: str) -> RunState:
        folder = run_dir(self._sweep_dir, name)
        info = self._patience.insist(partial(info_of, folder), WHAT, folder)
        return state_of(info) if info else RunState()

    def _set(self, name: str, state: RunState) -> None:
        self.states[name] = state
        self._write()
        self._display.show(self.states, self._latest)

    def _write(self) -> None:
        write_index(self._sweep, self._sweep_dir, self.states, self._patience)


def _reason(error: BaseException) -> str:
    """What ended a run, on one line."""
    said = " ".join(str(error).split())
    return said if isinstance(error, UserError) else f"{type(error).__name__}: {said}".removesuffix(": ")
