"""Who is there in the round under way, as the clock goes by: waits for devices, and tells when one of them goes."""

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from emulator.errors import UserError
from emulator.world.availability import Availability
from emulator.world.clock import Clock, Process


class Presence:
    """The devices' availability, looked at when a round begins. Who is not there then is not there in this round."""

    def __init__(self, clock: Clock, availability: Availability) -> None:
        self._clock = clock
        self._availability = availability
        self._until_s: list[float] = []
        self._watched_until_s: dict[int, float] = {}

    def await_somebody(self, round_index: int) -> NDArray[np.bool_]:
        """Let emulated time go by until some device is there; tells of each whether it is, shape ``(n_devices,)``.

        Raises:
            UserError: none ever will be.
        """
        until_s = self._availability.until_s(self._clock.now_s)
        while not (is_there := until_s > self._clock.now_s).any():
            next_s = self._availability.next_s(self._clock.now_s)
            if next_s == math.inf:
                raise UserError(
                    f"round {round_index}: from {self._clock.now_s:.0f} s of emulated time on no device can be reached"
                    " any more; run fewer rounds, give a longer trace in testbed.availability.trace, or let it begin"
                    " anew by testbed.availability.trace_loop = true"
                )
            self._clock.run(self._sleep_until(next_s))
            until_s = self._availability.until_s(self._clock.now_s)
        self._until_s = until_s.tolist()
        return is_there

    def has_gone(self, device_id: int) -> bool:
        """Whether a device has gone since the round began, even if it has come back."""
        return self._until_s[device_id] <= self._clock.now_s

    def watch(self, device_id: int, on_gone: Callable[[], None]) -> None:
        """Call ``on_gone`` when the device goes, after all else that happens at that time, and once for each time."""
        until_s = self._until_s[device_id]
        if until_s < math.inf and self._watched_until_s.get(device_id) != until_s:
            self._watched_until_s[device_id] = until_s
            self._clock.deadline(until_s).callbacks.append(lambda event: on_gone())

    def _sleep_until(self, time_s: float) -> Process[None]:
        yield self._clock.deadline(time_s)
