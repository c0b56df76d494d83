"""Several observers as one, none of which can end a run."""

from collections.abc import Sequence
from typing import Any

from emulator.observers.base import Progress, RoundClosed, RunBegan, RunEnded, RunObserver
from emulator.policy.catalog import described, import_path


class Observers(RunObserver):
    """Tells each of them everything, in their order, until it raises.

    Attributes:
        failures: a sentence for each one that has raised.
    """

    def __init__(self, observers: Sequence[RunObserver]) -> None:
        self.failures: list[str] = []
        self._listening = list(observers)

    def run_began(self, began: RunBegan) -> None:
        self._tell("run_began", began)

    def progressed(self, progress: Progress) -> None:
        self._tell("progressed", progress)

    def warned(self, text: str) -> None:
        self._tell("warned", text)

    def round_closed(self, closed: RoundClosed) -> None:
        self._tell("round_closed", closed)

    def run_ended(self, ended: RunEnded) -> None:
        self._tell("run_ended", ended)

    def _tell(self, event: str, what: Any) -> None:
        for observer in tuple(self._listening):
            # One of them may have failed at a warning about another.
            if not any(observer is other for other in self._listening):
                continue
            try:
                getattr(observer, event)(what)
            except (Exception, SystemExit) as error:  # an observer's code is the user's: it may even call sys.exit
                self._give_up(observer, event, error)

    def _give_up(self, observer: RunObserver, event: str, error: BaseException) -> None:
        self._listening = [other for other in self._listening if other is not observer]
        text = (
            f"the observer {import_path(type(observer))} failed in {event} and is told nothing more, the run goes on "
            f"({described(error)})"
        )
        self.failures.append(text)
        self.warned(text)
