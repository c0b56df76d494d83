"""What a run leaves behind and tells as it goes: tables, ``run.json``, wall times, warnings, progress."""

import shlex
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from emulator.errors import UserError
from emulator.objective.scores import QUOTED
from emulator.observers.base import Progress, RoundClosed, RunBegan, RunEnded
from emulator.observers.many import Observers
from emulator.records import Evaluation, RoundReport
from emulator.results.observer_failures import add_observer_failures
from emulator.results.partition import write_partition
from emulator.results.rows import activity_columns, device_columns, round_columns, with_own_rows
from emulator.results.writer import RunWriter
from emulator.running.hosts import HostTiming
from emulator.running.progress import LiveProgress
from emulator.storage.claims import Claim
from emulator.storage.files import filled_folder
from emulator.storage.places import Place
from emulator.world.open_round import OpenRound

Tables = Mapping[str, Mapping[str, Any]]
"""Columns by the name of their table."""


class RunLog:
    """The log of one run, of which ``observers`` are told.

    ``run_info`` is what ``run.json`` says; ``start_timings`` what the hosts did to start; ``label_counts`` is how many
    examples of each label every device holds, None in a run without training, and ``strata`` these labels.
    """

    def __init__(
        self,
        writer: RunWriter,
        run_info: Mapping[str, Any],
        progress: LiveProgress,
        observers: Observers,
        start_timings: Sequence[HostTiming],
        label_counts: NDArray[np.int64] | None = None,
        strata: Sequence[str] = (),
    ) -> None:
        self._writer = writer
        self._run_info = run_info
        self._progress = progress
        self._observers = observers
        self._start_timings = start_timings
        self._label_counts, self._strata = label_counts, strata
        self._timings: list[HostTiming] = []
        self._round_start_s = time.perf_counter()
        self._n_outside_known_range = 0
        self._is_open = False
        self._n_written = 0
        self._before: Mapping[str, Any] | None = None
        self._noted: str | None = None
        self._claim = Claim()

    @property
    def out_dir(self) -> Place:
        """The run's folder."""
        return self._writer.out_dir

    @property
    def latest(self) -> Progress:
        """What was told last."""
        return self._progress.latest

    def goes_on(self, before: Mapping[str, Any], totals: Mapping[str, Any]) -> None:
        """The run goes on in a folder whose ``run.json`` says ``before``, with what it had come to."""
        self._before = before
        self._can_be_resumed()
        self._progress.tell(**{**totals, "n_rounds": self._progress.latest.n_rounds})

    def write_adapter(self, export: Callable[[Path], None]) -> None:
        """Let ``export`` write the adapter into the folder that it is given; it is called again where it failed.

        Raises:
            UserError: the disk cannot be written.
        """
        path = self.out_dir / "adapter"

        def write() -> None:
            with filled_folder(path) as folder:
                export(folder)

        self._writer.patience.insist(write, "the adapter", path)

    def begin_round(self) -> None:
        """The wall time of a round counts from here."""
        self._round_start_s = time.perf_counter()

    @contextmanager
    def timed(self, phase: str) -> Iterator[None]:
        """What happens within is a phase of the round under way."""
        start_s = time.perf_counter()
        yield
        self._timings.append(HostTiming.since(start_s, "coordinator", phase))

    def tell_jobs(self, n_done: int, n_jobs: int) -> None:
        """So many jobs of the call under way are done."""
        self._progress.tell(jobs_done=n_done, n_jobs=n_jobs)

    def spent(self, report: RoundReport, tables: Tables) -> dict[str, float]:
        """What all devices have spent up to the end of a round that is not written yet, by name."""
        before, devices = self._progress.latest, report.devices.values()
        upload_bytes = sum(device.upload_bytes for device in devices)
        return {
            "time_s": report.end_s,
            "upload_bytes": before.upload_bytes + upload_bytes,
            "total_bytes": before.transferred_bytes + upload_bytes + sum(device.download_bytes for device in devices),
            "energy_j": before.energy_j + float(sum(tables["devices"]["energy_j"])),
        }

    def ends_early(self, reason: str) -> None:
        """The run ends with the round that was written last; ``run.json`` says why."""
        self._writer.note("ended_by", reason)
        self._progress.tell(n_rounds=self._n_written)

    def write_round(
        self,
        report: RoundReport,
        tables: Tables,
        host_timings: Sequence[HostTiming],
        outside_known_range: Mapping[str, str],
    ) -> None:
        """Write a closed round, of which ``tables`` are the rows of activities and devices, and tell of it."""
        if not self._is_open:
            # Not earlier: a run that fails in its first round leaves no folder behind.
            self._open(report.round_index)
        self._note(outside_known_range)
        rounds = round_columns(report, float(sum(tables["devices"]["energy_j"])))
        with self.timed("write"):
            for name, columns in tables.items():
                self._writer.write(name, columns)
            self._writer.write("rounds", rounds)
        self._n_written = report.round_index + 1
        self._timings.append(HostTiming.since(self._round_start_s, "coordinator", "round"))
        self._write_timings(report.round_index, [*self._timings, *host_timings])
        self._timings = []
        self._observers.round_closed(RoundClosed(report=report, rows={"rounds": rounds, **tables}))
        self._tell_round(report, rounds)

    def claim(self, limit_s: float, pause: Callable[[float], object]) -> None:
        """Keep other processes from writing into the run's folder, which is there.

        Raises:
            UserError: another one does, for longer than ``limit_s``.
        """
        self._claim.take_within(self.out_dir, limit_s, pause)

    def release(self) -> None:
        """Let others write into the run's folder again."""
        self._claim.release()

    def _open(self, round_index: int) -> None:
        if self._before is None:
            self._writer.open(self._run_info)
            # Another command may be looking whether somebody writes here.
            self.claim(1.0, time.sleep)
            if self._label_counts is not None:
                write = partial(write_partition, self.out_dir, self._label_counts, self._strata)
                self._writer.patience.insist(write, "results", self.out_dir)
            self._write_timings(-1, self._start_timings)
        else:
            before = {key: value for key, value in self._before.items() if key != "ended_by"}
            info = {**before, **{key: self._run_info[key] for key in ("config", "backend")}}
            self._writer.go_on(info, round_index)
            self._timings += self._start_timings
        self._is_open = True
        self._can_be_resumed()
        self._observers.run_began(self._begin(round_index))

    def _can_be_resumed(self) -> None:
        self._writer.patience.advice = f"'jetbed resume {shlex.quote(str(self.out_dir))}' goes on"

    def flush(self) -> None:
        """Have all that was written on disk."""
        self._writer.flush()

    def finish(self, n_rounds: int) -> None:
        """All rounds are done and written."""
        if not self._is_open:
            # Only what comes after the last round was left to do.
            self._open(n_rounds)
        self._writer.close("finished")
        self._progress.tell(rounds_done=n_rounds)
        self._tell_end(RunEnded(status="finished"))

    def end(self, status: Literal["failed", "interrupted"], error: str | None = None) -> None:
        """The run has ended before its time. What is left is written if it can be, but nothing is waited for.

        A disk that takes no more must not hide why the run ended.
        """
        self._writer.patience.end()
        with suppress(UserError):
            self._writer.close(status, error)
        self._tell_end(RunEnded(status=status, error=error))

    def _begin(self, round_index: int) -> RunBegan:
        return RunBegan(
            info=self._run_info,
            config=self._run_info["config"],
            out_dir=self.out_dir,
            n_rounds=self._progress.latest.n_rounds,
            first_round=round_index,
        )

    def _tell_end(self, ended: RunEnded) -> None:
        """Tell how the run ended, and add to ``run.json`` which observers have failed."""
        try:
            self._observers.run_ended(ended)
            add_observer_failures(self.out_dir, self._observers.failures)
        finally:
            self.release()

    def _note(self, outside_known_range: Mapping[str, str]) -> None:
        """Put into ``run.json`` what the run has come to warn of."""
        if len(outside_known_range) > self._n_outside_known_range:
            self._n_outside_known_range = len(outside_known_range)
            self._writer.note("outside_known_range", dict(outside_known_range))
        if self._progress.warning != self._noted:
            self._noted = self._progress.warning
            self._writer.note("warning", self._noted)

    def _write_timings(self, round_index: int, timings: Sequence[HostTiming]) -> None:
        columns: dict[str, list[Any]] = {
            name: [getattr(timing, name) for timing in timings] for name in HostTiming.__slots__
        }
        self._writer.write("host", {"round_index": [round_index] * len(timings), **columns})

    def _tell_round(self, report: RoundReport, rounds: Mapping[str, Sequence[Any]]) -> None:
        before, n_done, evaluation = self._progress.latest, report.round_index + 1, report.evaluation
        score_name, score = _quoted(evaluation) or (before.score_name, before.score)
        self._progress.tell(
            rounds_done=n_done if n_done % self._writer.rounds_per_part == 0 else before.rounds_done,
            jobs_done=0,
            n_jobs=0,
            now_s=report.end_s,
            accuracy=evaluation.accuracy if evaluation else before.accuracy,
            score=score,
            score_name=score_name,
            mean_waiting_s=rounds["mean_waiting_s"][0],
            energy_j=before.energy_j + rounds["energy_j"][0],
            transferred_bytes=before.transferred_bytes + rounds["download_bytes"][0] + rounds["upload_bytes"][0],
            upload_bytes=before.upload_bytes + rounds["upload_bytes"][0],
        )


def _quoted(evaluation: Evaluation | None) -> tuple[str, float] | None:
    """What people quote of such an evaluation, with its name."""
    values = ((name, getattr(evaluation, name, None)) for name in QUOTED)
    return next(((name, float(value)) for name, value in values if value is not None), None)


def round_tables(closed: OpenRound) -> Tables:
    """The rows of a closed round that do not wait for its evaluation."""
    return {"activities": activity_columns(closed), "devices": device_columns(closed)}


def evaluated_tables(tables: Tables, evaluation: Evaluation | None) -> Tables:
    """The rows of :func:`round_tables` with what the evaluation of the round says of single devices."""
    return {**tables, "devices": with_own_rows(tables["devices"], evaluation)}
