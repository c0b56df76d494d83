"""A clock that keeps pace with the wall: no event happens before the wall has reached its time.

For runs beside real software. Only when things happen on the wall differs from the virtual clock; what happens, and at
which emulated time, does not. Wall time is counted from the first event, never from the last one, so that what the host
spends on training and writing is part of the wait, and errors of single waits do not add up.
"""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from emulator.running.interruption import Interrupted, StopSignal
from emulator.world.clock import Clock, Process, Result

MOST_LATE_S = 0.1
MOST_LATE_FRACTION = 0.02
"""How late a run may be, as a share of the wall time that has passed or in seconds, before it says so."""


class PacedClock(Clock):
    """Emulated time that runs at ``factor`` emulated seconds per second of the wall.

    A host that trains for longer than a round takes at this pace falls behind. It then goes on as fast as it can, and
    ``on_late`` is called, once in a run, with a sentence for the user.
    """

    def __init__(
        self,
        factor: float,
        stop: StopSignal,
        on_late: Callable[[str], None] = lambda text: None,
        wall_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """``stop`` ends a wait at once; ``wall_s`` reads the wall clock, in seconds from any moment."""
        super().__init__()
        self.on_late = on_late
        self._factor = factor
        self._stop = stop
        self._wall_s = wall_s
        self._is_paced = True
        self._start_s: float | None = None
        self._least_late_s = math.inf
        self._is_known_late = False

    @contextmanager
    def unpaced(self) -> Iterator[None]:
        """As on the virtual clock; wall time is counted anew from the first event behind the block."""
        self._is_paced = False
        try:
            yield
        finally:
            self._is_paced, self._start_s = True, None

    def run(self, generator: Process[Result]) -> Result:
        """As on the virtual clock.

        Raises:
            Interrupted: the run was asked to stop while it waited.
        """
        self._least_late_s = math.inf
        result = super().run(generator)
        # Training at the end of a round is made up for in the next one. Who was late all through a round is too slow.
        if math.isfinite(self._least_late_s) and not self._is_known_late:
            self._check_late(self._least_late_s)
        return result

    def _step(self) -> None:
        if self._is_paced:
            self._follow(self._due[0][0])
        super()._step()

    def _follow(self, due_s: float) -> None:
        """Wait until the wall has reached ``due_s``."""
        now_s = self._wall_s()
        if self._start_s is None:
            self._start_s = now_s - self.now_s / self._factor
        late_s = now_s - (self._start_s + due_s / self._factor)
        if late_s < 0 and self._stop.wait(-late_s):
            raise Interrupted
        self._least_late_s = min(self._least_late_s, max(0.0, late_s))

    def _check_late(self, late_s: float) -> None:
        if late_s <= max(MOST_LATE_S, MOST_LATE_FRACTION * self.now_s / self._factor):
            return
        self._is_known_late = True
        self.on_late(
            f"this machine is too slow for pace = 'realtime({self._factor:g})': at {self.now_s:.0f} s of emulated time"
            f" the run is {late_s:.1f} s late and goes on as fast as it can; lower the factor to keep pace (results are"
            " the same at any pace)"
        )
