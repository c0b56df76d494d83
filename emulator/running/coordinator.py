"""Runs the rounds of one run: view, plan, play, evaluate, observe, write."""

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial

from emulator.config import Config
from emulator.errors import LostError
from emulator.policy.checked import CheckedPolicy
from emulator.policy.rounds import play_round
from emulator.records import Arrays, Evaluation, Job, Update
from emulator.running.continuation import Continuation
from emulator.running.hosts import Backend
from emulator.running.interruption import Interrupted, StopSignal
from emulator.running.run_log import RunLog, evaluated_tables, round_tables
from emulator.running.stopping import Stopping
from emulator.world.testbed import Testbed


@dataclass(frozen=True, kw_only=True, slots=True)
class Emulation:
    """The server's policy, the boards and the hosts of a run: all of it but what is written and told.

    ``backend`` is None, and ``initial_state`` empty, in a run without training. ``initial_state`` is what round
    ``first_round`` begins with.
    """

    policy: CheckedPolicy
    testbed: Testbed
    backend: Backend | None
    initial_state: Arrays
    first_round: int = 0


class Coordinator:
    """The server of the emulated federation. A plain class: on Ray a thin actor wraps it."""

    def __init__(
        self, config: Config, emulation: Emulation, log: RunLog, continuation: Continuation, stop: StopSignal
    ) -> None:
        """``emulation`` may be in the middle of a run, whose next round is ``emulation.first_round``."""
        self._config = config
        self._policy, self._testbed, self._backend = emulation.policy, emulation.testbed, emulation.backend
        self._initial_state = emulation.initial_state
        self._first_round = emulation.first_round
        self._log = log
        self._continuation = continuation
        self._stop = stop
        self._stopping = Stopping.of(config)

    def run(self) -> None:
        """Run all rounds, then export the adapter. ``run.json`` tells how it ended, whatever ends it."""
        try:
            with _rare_collections():
                state = self._run_rounds()
            if self._backend is not None:
                self._log.write_adapter(partial(self._backend.export, self._policy.form, state))
            self._log.finish(self._log.latest.n_rounds)
        except (KeyboardInterrupt, Interrupted):
            self._log.end("interrupted")
            raise
        except LostError as error:
            # Nothing is wrong with the run, which can go on.
            self._log.end("interrupted", str(error))
            raise
        except BaseException as error:
            self._log.end("failed", f"{type(error).__name__}: {error}")
            raise
        finally:
            if self._backend is not None:
                self._backend.close()

    def _run_rounds(self) -> Arrays:
        state, train = self._initial_state, self._train if self._backend else None
        for round_index in range(self._first_round, self._config.rounds):
            self._log.begin_round()
            self._continuation.begin_round(round_index, state)
            played = play_round(self._testbed, self._policy, round_index, state, train, self._log.timed)
            state = played.after
            evaluation = self._evaluation(state, round_index)
            # The hosts evaluate while the rows are prepared.
            report = self._testbed.close_round()
            tables = round_tables(played.opened)
            spent, evaluated = self._log.spent(report, tables), evaluation()
            if evaluated is None and self._stopping.is_spent(spent):
                evaluated = self._last_evaluation(state)
            report, tables = replace(report, evaluation=evaluated), evaluated_tables(tables, evaluated)
            self._policy.observe(replace(report, evaluation=evaluated.of_server() if evaluated else None))
            timings = self._backend.timings() if self._backend else []
            self._log.write_round(report, tables, timings, self._testbed.outside_known_range)
            if reason := self._stopping.reason(evaluated, spent):
                # No checkpoint: a run that dies before it is exported comes by this round again, and ends with it.
                self._log.ends_early(reason)
                return state
            if self._continuation.is_due(round_index):
                self._log.flush()
            self._continuation.end_round(played.opened.plan, state, self._log.latest)
            if self._stop.is_set():
                raise Interrupted
        return state

    def _train(self, jobs: Sequence[Job]) -> Sequence[Update]:
        """What trains a round's jobs: the hosts."""
        assert self._backend is not None
        self._on_jobs(0, len(jobs))
        with self._log.timed("train"):
            return self._backend.train(self._policy.task, self._policy.form, jobs, self._on_jobs)

    def _on_jobs(self, n_done: int, n_jobs: int) -> None:
        if self._stop.is_set():
            raise Interrupted
        self._log.tell_jobs(n_done, n_jobs)

    def _evaluation(self, state: Arrays, round_index: int) -> Callable[[], Evaluation | None]:
        """Begin the evaluation that is due after this round, if any; calling what comes back waits for it."""
        n_done = round_index + 1
        is_due = n_done % self._config.evaluation.every_rounds == 0 or n_done == self._config.rounds
        if self._backend is None or not is_due:
            return lambda: None
        return self._backend.evaluate(self._policy.form, state)

    def _last_evaluation(self, state: Arrays) -> Evaluation | None:
        """That of a run which ends with a round that was not due."""
        return self._backend.evaluate(self._policy.form, state)() if self._backend else None


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
