"""What the displays of a run have in common."""

from rich.console import Console

from emulator.objective.scores import SCORES
from emulator.observers.base import Progress
from emulator.report.terminal.units import duration, size
from emulator.running.live.watching import LiveObserver

STARTING = "starting hosts, loading model and data"


class RunDisplay(LiveObserver):
    """Shows a run within a ``with`` block; everything that it warns of has a line."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def __enter__(self) -> None:
        """Begin to show; by itself, nothing."""

    def __exit__(self, *error: object) -> None:
        """Show nothing more."""

    def warned(self, text: str) -> None:
        self._console.print(f"jetbed: {text}", soft_wrap=True)


def facts_of(progress: Progress) -> str:
    """A line about the last round."""
    score = "" if progress.score is None else f"{SCORES[progress.score_name].title} {progress.score:.3f}  "
    waiting = "" if progress.mean_waiting_s is None else f"waiting {duration(progress.mean_waiting_s)}  "
    return f"{score}emulated {duration(progress.now_s)}  {waiting}traffic {size(progress.transferred_bytes)}"
