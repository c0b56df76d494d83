"""Events on their way from the process of a run to observers in another one."""

import threading
from collections.abc import Iterable
from typing import Any

from emulator.observers.base import Progress, RoundClosed, RunBegan, RunEnded, RunObserver

EVENTS = ("run_began", "progressed", "warned", "round_closed", "run_ended")

Event = tuple[str, Any]
"""The name of a method of :class:`RunObserver`, and what it is told."""


def wanted(observers: Iterable[RunObserver]) -> frozenset[str]:
    """The events that any of ``observers`` has a method of its own for; no other needs to be sent."""
    return frozenset(
        event
        for event in EVENTS
        for observer in observers
        if getattr(type(observer), event) is not getattr(RunObserver, event)
    )


def deliver(events: Iterable[Event], observer: RunObserver) -> None:
    """Tell ``observer`` what a mailbox has kept."""
    for event, what in events:
        getattr(observer, event)(what)


class Mailbox(RunObserver):
    """Keeps events, in their order, until they are fetched; of several signs of progress in a row only the last.

    It is filled and emptied by different threads.
    """

    def __init__(self, events: frozenset[str] = frozenset(EVENTS)) -> None:
        """``events`` are kept, and no others."""
        self._wanted = events
        self._events: list[Event] = []
        self._lock = threading.Lock()

    def run_began(self, began: RunBegan) -> None:
        self._keep("run_began", began)

    def progressed(self, progress: Progress) -> None:
        self._keep("progressed", progress)

    def warned(self, text: str) -> None:
        self._keep("warned", text)

    def round_closed(self, closed: RoundClosed) -> None:
        self._keep("round_closed", closed)

    def run_ended(self, ended: RunEnded) -> None:
        self._keep("run_ended", ended)

    def fetch(self) -> list[Event]:
        """Everything since the last call."""
        with self._lock:
            events, self._events = self._events, []
            return events

    def _keep(self, event: str, what: Any) -> None:
        if event not in self._wanted:
            return
        with self._lock:
            if event == "progressed" and self._events and self._events[-1][0] == event:
                self._events.pop()
            self._events.append((event, what))
