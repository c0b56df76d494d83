"""The virtual clock: a discrete-event kernel in which any generator is a process and time never sleeps.

A process yields an :class:`Event` and is resumed, at the event's time, with the event's value. Events at the same time
are processed in the order in which they were scheduled, so a run is repeatable to the bit.
"""

from collections.abc import Callable, Generator, Iterable
from contextlib import AbstractContextManager, nullcontext
from heapq import heappop, heappush
from typing import Any, TypeAlias, TypeVar

Result = TypeVar("Result")
Process: TypeAlias = Generator["Event", Any, Result]

LAST = 2**62
"""Added to the serial number of an event that comes after all others of its time."""


class Event:
    """Something that happens once, at a time: it then has a value, or an error that is raised in whoever waits."""

    __slots__ = ("callbacks", "due_serial", "error", "processed", "value")

    def __init__(self) -> None:
        self.callbacks: list[Callable[[Event], None]] = []
        self.value: Any = None
        self.error: BaseException | None = None
        self.processed = False
        self.due_serial = 0  # its place in the order of scheduling; 0 while it has none


class Clock:
    """Emulated time in seconds, and the events that are due."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self._due: list[tuple[float, int, Event]] = []
        self._serial = 0

    def unpaced(self) -> AbstractContextManager[None]:
        """Within the block, time passes as fast as it can, also on a clock that otherwise keeps pace with the wall."""
        return nullcontext()

    def timeout(self, delay_s: float, value: Any = None) -> Event:
        """An event ``delay_s`` from now.

        Raises:
            ValueError: the delay is negative or not a number; time never runs backwards.
        """
        if not delay_s >= 0:
            raise ValueError(f"a delay must be at least 0 s, got {delay_s!r}")
        event = Event()
        event.value = value
        self._schedule(event, delay_s)
        return event

    def at(self, time_s: float) -> Event:
        """An event at an absolute time, to the bit: ``timeout(time_s - now_s)`` may be due a rounding error away.

        Raises:
            ValueError: the time has passed or is not a number.
        """
        if not time_s >= self.now_s:
            raise ValueError(f"at {self.now_s} s an event must not be due before, got {time_s!r}")
        event = Event()
        self._push(event, time_s)
        return event

    def deadline(self, time_s: float) -> Event:
        """An event at an absolute time that comes after everything else that is due then.

        What ends exactly at a deadline has ended in time, and so has all that it sets off in no time.

        Raises:
            ValueError: the time has passed or is not a number.
        """
        if not time_s >= self.now_s:
            raise ValueError(f"at {self.now_s} s a deadline must not be before, got {time_s!r}")
        event = Event()
        self._push(event, time_s, LAST)
        return event

    def succeed(self, event: Event) -> None:
        """Let an event happen now that has not happened yet, whenever it was due."""
        self._schedule(event, 0.0)

    def fail(self, event: Event, error: BaseException) -> None:
        """Let an event that has not happened yet raise ``error`` now in whoever waits for it."""
        event.error = error
        self._schedule(event, 0.0)

    def cancel(self, event: Event) -> None:
        """Take away an event's time: it will not happen, unless it is told to later, and time does not stop there."""
        event.due_serial = 0

    def failure(self, error: BaseException) -> Event:
        """An event of this moment that raises ``error`` in the process that waits for it."""
        event = Event()
        self.fail(event, error)
        return event

    def process(self, generator: Process[Any]) -> Event:
        """Start ``generator`` now; the event happens when it returns, with what it returns, or fails with it."""
        finished = Event()

        def resume(cause: Event) -> None:
            while True:
                try:
                    awaited = generator.throw(cause.error) if cause.error else generator.send(cause.value)
                except StopIteration as stop:
                    finished.value = stop.value
                    return self._schedule(finished, 0.0)
                except Exception as error:
                    finished.error = error
                    return self._schedule(finished, 0.0)
                if not awaited.processed:
                    return awaited.callbacks.append(resume)
                cause = awaited

        self.timeout(0.0).callbacks.append(resume)
        return finished

    def all_of(self, events: Iterable[Event]) -> Event:
        """An event at the time of the last of ``events``, with the list of their values; fails as soon as one fails."""
        events = list(events)
        together = Event()
        pending = sum(not event.processed for event in events)
        settled = False

        def settle(event: Event) -> None:
            nonlocal pending, settled
            pending -= 1
            if settled or (pending > 0 and event.error is None):
                return
            settled = True
            together.error = event.error
            together.value = [event.value for event in events]
            self._schedule(together, 0.0)

        for event in events:
            if not event.processed:
                event.callbacks.append(settle)
        if pending == 0:
            together.value = [event.value for event in events]
            self._schedule(together, 0.0)
        return together

    def run(self, generator: Process[Result]) -> Result:
        """Run ``generator``, and all that it starts, until it returns; give what it returned.

        Raises:
            RuntimeError: the process waits for something that can never happen.
            Exception: whatever a process raised and no other process caught: failures are never lost.
        """
        finished = self.process(generator)
        finished.callbacks.append(lambda event: None)  # this caller is the one who waits for it
        while not finished.processed:
            if not self._due:
                raise RuntimeError(f"at {self.now_s} s the process waits for an event that nothing will cause")
            self._step()
        if finished.error is not None:
            raise finished.error
        result: Result = finished.value
        return result

    def _schedule(self, event: Event, delay_s: float) -> None:
        self._push(event, self.now_s + delay_s)

    def _push(self, event: Event, time_s: float, after: int = 0) -> None:
        self._serial += 1
        event.due_serial = self._serial + after
        heappush(self._due, (time_s, event.due_serial, event))

    def _step(self) -> None:
        due_s, serial, event = heappop(self._due)
        if event.due_serial != serial:
            return  # cancelled, or due at another time now
        self.now_s = due_s
        event.processed = True
        if event.error is not None and not event.callbacks:
            raise event.error
        for callback in event.callbacks:
            callback(event)
