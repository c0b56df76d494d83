"""Rates that change within a round: how long a transfer takes on one, and when it changes; recordings in a loop."""

import math
from abc import ABC, abstractmethod
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


class ChangingRate(ABC):
    """A rate of one device in one direction that is constant between the moments at which it changes."""

    @abstractmethod
    def steps(self, now_s: float) -> Iterator[tuple[float, float]]:
        """The rate now, in bytes/s, and the time at which the next one begins; then that one, and so on for ever."""

    def carried_bytes(self, start_s: float, end_s: float) -> float:
        """What the link carries between two times: the integral of the rate."""
        carried_bytes = 0.0
        for bytes_per_s, until_s in self.steps(start_s):
            if until_s >= end_s:
                return carried_bytes + (end_s - start_s) * bytes_per_s
            carried_bytes += (until_s - start_s) * bytes_per_s
            start_s = until_s
        raise AssertionError("steps go on for ever")

    def duration_s(self, start_s: float, n_bytes: float) -> float:
        """How long ``n_bytes`` take that begin at ``start_s``: until the rate's integral has reached them."""
        now_s, left_bytes = start_s, n_bytes
        for bytes_per_s, until_s in self.steps(start_s):
            if left_bytes <= (until_s - now_s) * bytes_per_s:
                return now_s - start_s + (left_bytes / bytes_per_s if left_bytes else 0.0)
            left_bytes -= (until_s - now_s) * bytes_per_s
            now_s = until_s
        raise AssertionError("steps go on for ever")


class ScaledRate(ChangingRate):
    """``factor`` times another rate."""

    def __init__(self, rate: ChangingRate, factor: float) -> None:
        self._rate = rate
        self._factor = factor

    def steps(self, now_s: float) -> Iterator[tuple[float, float]]:
        return ((self._factor * bytes_per_s, until_s) for bytes_per_s, until_s in self._rate.steps(now_s))

    def carried_bytes(self, start_s: float, end_s: float) -> float:
        return self._factor * self._rate.carried_bytes(start_s, end_s)

    def duration_s(self, start_s: float, n_bytes: float) -> float:
        return self._rate.duration_s(start_s, n_bytes / self._factor)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class RateTrace:
    """A recorded rate as steps: ``bytes_per_s[k]`` from ``start_s[k]`` to the next step's start.

    ``start_s`` ascends from 0; the last step ends at ``period_s``, where the trace begins anew. Both arrays have the
    shape ``(n_steps,)``.
    """

    start_s: NDArray[np.float64]
    bytes_per_s: NDArray[np.float64]
    period_s: float

    @property
    def mean_bytes_per_s(self) -> float:
        lengths_s = np.diff(self.start_s, append=self.period_s)
        return float(lengths_s @ self.bytes_per_s) / self.period_s


class RateCurve:
    """A trace with its integral, made once for all devices that replay it."""

    def __init__(self, trace: RateTrace) -> None:
        lengths_s = np.diff(trace.start_s, append=trace.period_s)
        self.trace = trace
        # Lists: single numbers are looked up, and a list hands them out much faster than an array.
        self.start_s: list[float] = trace.start_s.tolist()
        self.bytes_per_s: list[float] = trace.bytes_per_s.tolist()
        self.end_s = [*self.start_s[1:], trace.period_s]
        self.period_s = trace.period_s
        self.carried_bytes: list[float] = [0.0, *np.cumsum(lengths_s * trace.bytes_per_s).tolist()]
        """What one period has carried at the start of each step, and at its end."""

    def rates_at(self, now_s: float, offsets_s: NDArray[np.float64]) -> NDArray[np.float64]:
        """Bytes per second now, for replays with these offsets."""
        positions_s = np.fmod(now_s + offsets_s, self.period_s)
        steps = np.searchsorted(self.trace.start_s, positions_s, side="right") - 1
        return np.asarray(self.trace.bytes_per_s[steps])


class Replay(ChangingRate):
    """One device's replay of a trace in one direction: at emulated time 0 it is at the beginning of ``first_step``."""

    def __init__(self, curve: RateCurve, first_step: int) -> None:
        self._curve = curve
        self.offset_s = curve.start_s[first_step]

    def carried_bytes(self, start_s: float, end_s: float) -> float:
        return self._carried_until(end_s) - self._carried_until(start_s)

    def duration_s(self, start_s: float, n_bytes: float) -> float:
        curve = self._curve
        _, position_s, step = self._position(start_s)
        if n_bytes <= (curve.end_s[step] - position_s) * curve.bytes_per_s[step]:
            return n_bytes / curve.bytes_per_s[step] if n_bytes else 0.0
        per_period = curve.carried_bytes[-1]
        until = curve.carried_bytes[step] + (position_s - curve.start_s[step]) * curve.bytes_per_s[step] + n_bytes
        # In the period in which it ends, the last step is the one that reaches ``rest``; so its rate is above 0.
        n_periods = math.ceil(until / per_period) - 1
        rest = min(max(until - n_periods * per_period, 0.0), per_period)
        last = bisect_left(curve.carried_bytes, rest) - 1
        if last < 0:  # by rounding: the end is the very end of the period before
            return n_periods * curve.period_s - position_s
        within_s = (rest - curve.carried_bytes[last]) / curve.bytes_per_s[last]
        return n_periods * curve.period_s + curve.start_s[last] + within_s - position_s

    def steps(self, now_s: float) -> Iterator[tuple[float, float]]:
        curve = self._curve
        n_periods, _, step = self._position(now_s)
        while True:
            # Counted from the beginning of the replay, never from ``now_s``: then times strictly ascend.
            until_s = n_periods * curve.period_s + curve.end_s[step] - self.offset_s
            if until_s > now_s:
                yield curve.bytes_per_s[step], until_s
            step += 1
            if step == len(curve.start_s):
                step, n_periods = 0, n_periods + 1

    def _position(self, now_s: float) -> tuple[int, float, int]:
        """How often the trace has begun anew, the seconds since then, and the step."""
        replayed_s = now_s + self.offset_s
        position_s = math.fmod(replayed_s, self._curve.period_s)
        step = bisect_right(self._curve.start_s, position_s) - 1
        return round((replayed_s - position_s) / self._curve.period_s), position_s, step

    def _carried_until(self, now_s: float) -> float:
        curve = self._curve
        n_periods, position_s, step = self._position(now_s)
        within = (position_s - curve.start_s[step]) * curve.bytes_per_s[step]
        return n_periods * curve.carried_bytes[-1] + curve.carried_bytes[step] + within
