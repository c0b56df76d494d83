"""How far a run has come and what it warns of, told whenever that changes."""

from dataclasses import replace
from typing import Any

from emulator.observers.base import Progress, RunObserver


class LiveProgress:
    """The progress of one run.

    Attributes:
        latest: what was told last.
        warning: what was warned of last; None before.
    """

    def __init__(self, n_rounds: int, observers: RunObserver) -> None:
        self.latest = Progress(rounds_done=0, n_rounds=n_rounds)
        self.warning: str | None = None
        self._observers = observers

    def tell(self, **changes: Any) -> None:
        """Tell the latest progress with ``changes`` to its fields."""
        self.latest = replace(self.latest, **changes)
        self._observers.progressed(self.latest)

    def warn(self, text: str) -> None:
        """Tell the user something that changes no result."""
        self.warning = text
        self._observers.warned(text)
