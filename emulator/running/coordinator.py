"""Runs the rounds of one run: plan, play, evaluate, observe, write."""

import gc
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from emulator.config import Config
from emulator.policy.base import Policy
from emulator.policy.catalog import import_path
from emulator.policy_calls import calling
from emulator.records import Arrays, Evaluation, Job, RoundPlan, RoundReport, Update
from emulator.results.rows import Columns, activity_columns, device_columns, round_columns
from emulator.results.writer import RunWriter
from emulator.running.hosts import Backend, HostTiming
from emulator.running.interruption import Interrupted, StopSignal
from emulator.validation import validated
from emulator.world.testbed import Testbed


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """What a live display shows. Once ``rounds_done`` says that a round is done, its rows are safe on disk."""

    rounds_done: int
    n_rounds: int
    jobs_done: int = 0
    n_jobs: int = 0
    now_s: float = 0.0
    accuracy: float | None = None
    mean_waiting_s: float | None = None
    energy_j: float = 0.0
    transferred_bytes: int = 0
    warning: str | None = None
    remarks: tuple[str, ...] = ()
    """What was understood of data and model, from the start on."""


OnProgress = Callable[[Progress], None]


class Coordinator:
    """The server of the emulated federation. A plain class: on Ray a thin actor wraps it."""

    def __init__(
        self,
        config: Config,
        policy: Policy,
        testbed: Testbed,
        backend: Backend | None,
        initial_state: Arrays,
        writer: RunWriter,
        run_info: Mapping[str, Any],
        on_progress: OnProgress,
        stop: StopSignal,
    ) -> None:
        self.config = config
        self.policy = policy
        self.testbed = testbed
        self.backend = backend
        self.initial_state = initial_state
        self.writer = writer
        self._run_info = run_info
        self._on_progress = on_progress
        self._stop = stop
        self._progress = Progress(rounds_done=0, n_rounds=config.rounds)
        self._timings: list[HostTiming] = []
        self._start_timings = backend.timings() if backend else []
        self._n_outside_known_range = 0
        self._noted: str | None = None

    def run(self) -> None:
        """Run all rounds, then export the adapter. ``run.json`` tells how it ended, whatever ends it."""
        try:
            if self.backend is not None and self.backend.prepared.remarks:
                self._tell(remarks=self.backend.prepared.remarks)
            with _rare_collections():
                state = self._run_rounds()
            if self.backend is not None:
                self.backend.export(self.testbed.form, state, self.writer.out_dir / "adapter")
            self.writer.close("finished")
            self._tell(rounds_done=self.config.rounds)
        except (KeyboardInterrupt, Interrupted):
            self.writer.close("interrupted")
            raise
        except BaseException as error:
            self.writer.close("failed", f"{type(error).__name__}: {error}")
            raise
        finally:
            if self.backend is not None:
                self.backend.close()

    def _run_rounds(self) -> Arrays:
        state = self.initial_state
        for round_index in range(self.config.rounds):
            start_s = time.perf_counter()
            view = self.testbed.view(round_index, state, self.policy.declares)
            with self._timed("plan"):
                with calling(self.policy, "plan", round_index):
                    proposed = self.policy.plan(view)
                plan = validated(proposed, view, self.testbed.form, import_path(type(self.policy)))
            with self._timed("play"):
                state = self.testbed.clock.run(self.policy.protocol.run_round(self.testbed, self.policy, plan, state))
            evaluation = self._evaluation(state, round_index)
            # The hosts evaluate while the rows are prepared.
            report = self.testbed.close_round()
            tables = self._tables(plan)
            report = replace(report, evaluation=evaluation())
            with calling(self.policy, "observe", round_index):
                self.policy.observe(report)
            self._write(report, tables, start_s)
        return state

    def train(self, jobs: Sequence[Job]) -> Sequence[Update]:
        """Resolve jobs on the backend; the testbed's resolver."""
        assert self.backend is not None
        self._on_jobs(0, len(jobs))
        with self._timed("train"):
            return self.backend.train(self.policy.task, self.testbed.form, jobs, self._on_jobs)

    def warn(self, text: str) -> None:
        """Tell the user, at once and in ``run.json``, something that changes no result."""
        self._tell(warning=text)

    def _evaluation(self, state: Arrays, round_index: int) -> Callable[[], Evaluation | None]:
        """Begin the evaluation that is due after this round, if any; the hosts work on it while devices are written."""
        is_due = (round_index + 1) % self.config.evaluation.every_rounds == 0 or round_index + 1 == self.config.rounds
        if self.backend is None or not is_due:
            return lambda: None
        return self.backend.evaluate(self.testbed.form, state)

    def _on_jobs(self, done: int, total: int) -> None:
        if self._stop.is_set():
            raise Interrupted
        self._tell(jobs_done=done, n_jobs=total)

    def _tables(self, plan: RoundPlan) -> dict[str, Columns]:
        """The rows of a closed round that do not wait for its evaluation."""
        testbed = self.testbed
        devices = device_columns(
            testbed.round_index, testbed.start_s, testbed.devices, testbed.conditions, testbed.ledgers, plan
        )
        return {"activities": activity_columns(testbed.round_index, testbed.activities), "devices": devices}

    def _write(self, report: RoundReport, tables: Mapping[str, Columns], start_s: float) -> None:
        if report.round_index == 0:
            self._open()
        self._note()
        rounds = round_columns(report, float(sum(tables["devices"]["energy_j"])))
        with self._timed("write"):
            for name, columns in tables.items():
                self.writer.write(name, columns)
            self.writer.write("rounds", rounds)
        self._timings.append(HostTiming.since(start_s, "coordinator", "round"))
        self._write_timings(report.round_index, self._timings + (self.backend.timings() if self.backend else []))
        self._timings = []
        is_on_disk = (report.round_index + 1) % self.config.rounds_per_part == 0
        self._tell_round(report, rounds, report.round_index + 1 if is_on_disk else self._progress.rounds_done)
        if self._stop.is_set():
            raise Interrupted

    def _open(self) -> None:
        """Create the run's folder. Not earlier: a run that fails in its first round leaves none behind."""
        self.writer.open(self._run_info)
        self._write_timings(-1, self._start_timings)

    def _note(self) -> None:
        """Put into ``run.json`` what the run has come to warn of."""
        outside = self.testbed.outside_known_range
        if len(outside) > self._n_outside_known_range:
            self._n_outside_known_range = len(outside)
            self.writer.note("outside_known_range", dict(outside))
        if self._progress.warning != self._noted:
            self._noted = self._progress.warning
            self.writer.note("warning", self._noted)

    def _write_timings(self, round_index: int, timings: Sequence[HostTiming]) -> None:
        columns: dict[str, list[Any]] = {
            name: [getattr(timing, name) for timing in timings] for name in HostTiming.__slots__
        }
        self.writer.write("host", {"round_index": [round_index] * len(timings), **columns})

    @contextmanager
    def _timed(self, phase: str) -> Iterator[None]:
        start_s = time.perf_counter()
        yield
        self._timings.append(HostTiming.since(start_s, "coordinator", phase))

    def _tell_round(self, report: RoundReport, rounds: Mapping[str, Sequence[Any]], rounds_done: int) -> None:
        evaluation = report.evaluation
        self._tell(
            rounds_done=rounds_done,
            jobs_done=0,
            n_jobs=0,
            now_s=report.end_s,
            accuracy=evaluation.accuracy if evaluation else self._progress.accuracy,
            mean_waiting_s=rounds["mean_waiting_s"][0],
            energy_j=self._progress.energy_j + rounds["energy_j"][0],
            transferred_bytes=self._progress.transferred_bytes
            + rounds["download_bytes"][0]
            + rounds["upload_bytes"][0],
        )

    def _tell(self, **changes: Any) -> None:
        self._progress = replace(self._progress, **changes)
        self._on_progress(self._progress)


@contextmanager
def _rare_collections() -> Iterator[None]:
    """Let Python look for cyclic garbage rarely.

    What a round makes, events and records of every device, lives until its end. Going through all of it again and again
    would make a device-round dearer the more devices there are.
    """
    before = gc.get_threshold()
    gc.set_threshold(200_000, 20, 100)
    try:
        yield
    finally:
        gc.set_threshold(*before)
