"""A display that shows nothing and remembers what it was told."""

from collections.abc import Mapping

from emulator.observers.base import Progress
from emulator.sweeps.folder import RunState


class Silent:
    """Remembers in which order runs came to which status."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str]] = []
        self._before: dict[str, str] = {}

    def warned(self, text: str) -> None: ...

    def show(self, states: Mapping[str, RunState], progress: Mapping[str, Progress]) -> None:
        for name, state in states.items():
            if self._before.get(name, state.status) != state.status:
                self.events.append((name, state.status))
            self._before[name] = state.status
