"""A recorded rate, replayed in a loop on the emulated clock: how long a transfer takes, and when its rate changes."""

import math
from collections.abc import Iterator

import numpy as np

from device_profiles.records import RateTrace


class Replay:
    """One device's replay of a trace in one direction: at emulated time 0 it is at the beginning of ``first_step``."""

    def __init__(self, trace: RateTrace, first_step: int) -> None:
        self._trace = trace
        self._offset_s = float(trace.start_s[first_step])
        lengths_s = np.diff(trace.start_s, append=trace.period_s)
        self._carried_bytes = np.concatenate([[0.0], np.cumsum(lengths_s * trace.bytes_per_s)])

    def rate_at(self, now_s: float) -> float:
        """Bytes per second now."""
        return float(self._trace.bytes_per_s[self._position(now_s)[1]])

    def carried_bytes(self, start_s: float, end_s: float) -> float:
        """What the link carries between two times."""
        return self._carried_until(end_s) - self._carried_until(start_s)

    def duration_s(self, start_s: float, n_bytes: float) -> float:
        """How long ``n_bytes`` take that begin at ``start_s``: until the rate's integral has reached them."""
        if n_bytes <= 0:
            return 0.0
        trace = self._trace
        position_s, step = self._position(start_s)
        per_period = float(self._carried_bytes[-1])
        before = float(self._carried_bytes[step] + (position_s - trace.start_s[step]) * trace.bytes_per_s[step])
        # The end is in the step before the first one by whose start enough was carried; that step's rate is above 0.
        n_periods = math.ceil((before + n_bytes) / per_period) - 1
        rest = min(before + n_bytes - n_periods * per_period, per_period)
        last = int(np.searchsorted(self._carried_bytes, rest, side="left")) - 1
        if last < 0:  # by rounding: the end is the very end of the period before
            return n_periods * trace.period_s - position_s
        within_s = (rest - float(self._carried_bytes[last])) / float(trace.bytes_per_s[last])
        if n_periods == 0 and last == step:
            return float(n_bytes / trace.bytes_per_s[step])
        return n_periods * trace.period_s + float(trace.start_s[last]) + within_s - position_s

    def steps(self, now_s: float) -> Iterator[tuple[float, float]]:
        """The rate now, in bytes/s, and the time at which the next one begins; then that one, and so on for ever."""
        trace = self._trace
        n_steps = len(trace.start_s)
        step = self._position(now_s)[1]
        n_periods = math.floor((now_s + self._offset_s) / trace.period_s)
        while True:
            end_s = float(trace.start_s[step + 1]) if step + 1 < n_steps else trace.period_s
            # Counted from the beginning of the replay, never from ``now_s``: then times strictly ascend.
            until_s = n_periods * trace.period_s + end_s - self._offset_s
            if until_s > now_s:
                yield float(trace.bytes_per_s[step]), until_s
            step += 1
            if step == n_steps:
                step, n_periods = 0, n_periods + 1

    def _position(self, now_s: float) -> tuple[float, int]:
        """The seconds since the trace began anew, and the step there."""
        position_s = math.fmod(now_s + self._offset_s, self._trace.period_s)
        return position_s, int(np.searchsorted(self._trace.start_s, position_s, side="right")) - 1

    def _carried_until(self, now_s: float) -> float:
        position_s, step = self._position(now_s)
        n_periods = round((now_s + self._offset_s - position_s) / self._trace.period_s)
        within = (position_s - float(self._trace.start_s[step])) * float(self._trace.bytes_per_s[step])
        return n_periods * float(self._carried_bytes[-1]) + float(self._carried_bytes[step]) + within
