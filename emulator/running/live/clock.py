"""The clock of a live run: what happens is what devices report from the wall, each at the time at which it happened.

Events of the world itself, such as a deadline, are due at their own emulated times, for which the clock waits. Reports
and these come in the order of their times. While the server computes, which is not emulated, the clock is held, and so
are the devices that are at work.
"""

import math
import queue
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from emulator.running.interruption import Interrupted, StopSignal
from emulator.running.live.pace import Done, Pace
from emulator.world.clock import Clock, Event, Process, Result

POLL_S = 0.2
"""How often a clock that waits looks whether the run shall stop."""


class LiveClock(Clock):
    """Emulated time that runs ``speed`` times as fast as the wall, and stands still between calls of :meth:`run`.

    Attributes:
        on_hold: called when time comes to a stand.
        on_go: called with the new pace when it goes on.
        on_late: called with a sentence for the user where devices fall behind.
    """

    def __init__(
        self,
        speed: float,
        stop: StopSignal,
        on_late: Callable[[str], None] = lambda text: None,
        wall_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """``stop`` ends a wait; ``wall_s`` reads the machine's monotonic clock."""
        super().__init__()
        self.speed = speed
        self.on_hold: Callable[[], None] = lambda: None
        self.on_go: Callable[[Pace], None] = lambda pace: None
        self.on_late = on_late
        self._stop = stop
        self._wall_s = wall_s
        self._pace: Pace | None = None
        self._reports: queue.SimpleQueue[tuple[Event, Future[Done[Any]]]] = queue.SimpleQueue()
        self._n_expected = 0

    @property
    def pace(self) -> Pace:
        """How emulated time lies on the wall; it goes on if it was held."""
        return self._pace or self._go_on()

    def expect(self, report: "Future[Done[Any]]") -> Event:
        """Happens with the value of ``report``, at the time at which that was done, or now if this has passed."""
        event = Event()
        self._n_expected += 1
        report.add_done_callback(lambda done: self._reports.put((event, done)))
        return event

    def run(self, generator: Process[Result]) -> Result:
        """Run ``generator``, and all that it starts, until it returns; give what it returned. Time is held afterwards.

        Raises:
            Interrupted: the run was asked to stop.
            RuntimeError: the process waits for something that can never happen.
            Exception: whatever a process raised and no other process caught.
        """
        finished = self.process(generator)
        finished.callbacks.append(lambda event: None)
        try:
            while not finished.processed:
                self._await()
                self._step()
        finally:
            self.hold()
        if finished.error is not None:
            raise finished.error
        result: Result = finished.value
        return result

    def hold(self) -> None:
        """Emulated time stands still, from the last event on, until the clock runs on."""
        if self._pace is not None:
            self._pace = None
            self.on_hold()

    def _go_on(self) -> Pace:
        self._pace = Pace(self._wall_s(), self.now_s, self.speed)
        self.on_go(self._pace)
        return self._pace

    def _await(self) -> None:
        """Wait until the next event has come on the wall, and put reports in their places up to then."""
        if self._pace is None:
            self._go_on()
        while True:
            self._take_reports()
            left_s = self._left_s()
            if left_s <= 0:
                return
            if left_s == math.inf and not self._n_expected:
                raise RuntimeError(f"at {self.now_s} s the process waits for an event that nothing will cause")
            if self._stop.is_set():
                raise Interrupted
            try:
                self._take(*self._reports.get(timeout=min(left_s, POLL_S)))
            except queue.Empty:
                continue

    def _left_s(self) -> float:
        """Until the next event, in seconds of the wall; infinite where none is due."""
        while self._due and self._due[0][2].due_serial != self._due[0][1]:
            self._step()  # one that was cancelled: nothing to wait for
        return self.pace.wall_at(self._due[0][0]) - self._wall_s() if self._due else math.inf

    def _take_reports(self) -> None:
        while True:
            try:
                self._take(*self._reports.get_nowait())
            except queue.Empty:
                return

    def _take(self, event: Event, report: "Future[Done[Any]]") -> None:
        self._n_expected -= 1
        event.error, done_s = report.exception(), self.now_s
        if event.error is None:
            done: Done[Any] = report.result()
            event.value, done_s = done.value, self.pace.time_at(done.wall_s)
        self._push(event, max(done_s, self.now_s))
