"""How a run is asked to stop, and what is raised where it does."""

from typing import Protocol


class Interrupted(Exception):
    """The run was asked to stop; what was written stays."""


class StopSignal(Protocol):
    """Anything that can say whether the run shall stop, and be waited for, such as ``threading.Event``."""

    def is_set(self) -> bool: ...

    def wait(self, timeout: float) -> bool:
        """Wait for at most ``timeout`` seconds of the wall; whether the run shall stop."""
        ...
