"""How far a run has come, told whenever that changes."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any


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


class LiveProgress:
    """The progress of one run.

    Attributes:
        latest: what was told last.
    """

    def __init__(self, n_rounds: int, on_progress: OnProgress) -> None:
        self.latest = Progress(rounds_done=0, n_rounds=n_rounds)
        self._on_progress = on_progress

    def tell(self, **changes: Any) -> None:
        """Tell the latest progress with ``changes`` to its fields."""
        self.latest = replace(self.latest, **changes)
        self._on_progress(self.latest)

    def warn(self, text: str) -> None:
        """Tell the user something that changes no result."""
        self.tell(warning=text)
