"""Observers for tests, some of which a configuration names by their import path."""

import json
from pathlib import Path
from typing import Any

from emulator.observers.base import Progress, RoundClosed, RunBegan, RunEnded, RunObserver


class Recorder(RunObserver):
    """Remembers the name of every event but those of progress, with what came with it."""

    def __init__(self) -> None:
        self.events: list[tuple[str, Any]] = []
        self.progress: list[Progress] = []

    def run_began(self, began: RunBegan) -> None:
        self.events.append(("run_began", began))

    def progressed(self, progress: Progress) -> None:
        self.progress.append(progress)

    def warned(self, text: str) -> None:
        self.events.append(("warned", text))

    def round_closed(self, closed: RoundClosed) -> None:
        self.events.append(("round_closed", closed))

    def run_ended(self, ended: RunEnded) -> None:
        self.events.append(("run_ended", ended))

    def names(self) -> list[str]:
        return [name for name, _ in self.events]

    def told(self, event: str) -> list[Any]:
        return [what for name, what in self.events if name == event]


class Failing(RunObserver):
    """Raises at every closed round, and counts how often it was asked to."""

    def __init__(self, error: BaseException) -> None:
        self._error = error
        self.n_told = 0

    def round_closed(self, closed: RoundClosed) -> None:
        self.n_told += 1
        raise self._error


class LinesOfJson(RunObserver):
    """One line for each round, written into the folder of the run.

    Args:
        name: of the file.
        fails_at: the round at which it raises; -1 for none.
    """

    def __init__(self, name: str = "rounds.jsonl", fails_at: int = -1) -> None:
        if not name:
            raise ValueError("name must not be empty")
        self._name = name
        self._fails_at = fails_at
        self._path = Path()

    def run_began(self, began: RunBegan) -> None:
        self._path = began.out_dir / self._name

    def round_closed(self, closed: RoundClosed) -> None:
        if closed.report.round_index == self._fails_at:
            raise OSError("no more paper")
        with self._path.open("a") as file:
            file.write(json.dumps({"round": closed.report.round_index, "end_s": closed.report.end_s}) + "\n")
