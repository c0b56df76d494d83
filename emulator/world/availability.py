"""When devices can be reached: always, on and off at random, or as a trace says; and who drops out of a round.

A device that becomes unreachable while it works is lost to its round at that moment. All draws are vectors over device
ids, so that they cost little and a device's fate does not depend on how many others there are.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from emulator.seeds import Seeds

Vector = NDArray[np.float64]
Intervals = Sequence[tuple[float, float]]
"""Spans of emulated time from a start to an end, in seconds, in ascending order and without overlap."""


class Availability(ABC):
    """Says of every device, at any moment of emulated time, whether and for how long it can be reached.

    Times that are asked about never decrease. A device is reachable from the start of a span up to, but without, its
    end.
    """

    notes: Sequence[str] = ()
    """What whoever runs it should know, in sentences."""

    @abstractmethod
    def until_s(self, now_s: float) -> Vector:
        """When each device will have gone, shape ``(n_devices,)``: ``now_s`` or before where it is not there now."""

    @abstractmethod
    def next_s(self, now_s: float) -> float:
        """The first moment after ``now_s`` at which a device that is away now comes back; infinite if none does."""


class Always(Availability):
    """Every device can be reached at any time."""

    def __init__(self, n_devices: int) -> None:
        self._until_s = np.full(n_devices, math.inf)

    def until_s(self, now_s: float) -> Vector:
        return self._until_s

    def next_s(self, now_s: float) -> float:
        return math.inf


class OnOff(Availability):
    """Each device by itself is on and off in turns, for times that are exponentially distributed.

    This is a two-state Markov process in continuous time. It starts in its steady state, in which a device is on with
    probability ``mean_on_s / (mean_on_s + mean_off_s)``.
    """

    def __init__(self, n_devices: int, mean_on_s: float, mean_off_s: float, seeds: Seeds) -> None:
        self._mean_s = np.array([mean_off_s, mean_on_s])
        self._seeds = seeds
        self._is_on = seeds.rng("availability_start").random(n_devices) * (mean_on_s + mean_off_s) < mean_on_s
        self._n_changes = np.zeros(n_devices, np.int64)
        self._draws: list[Vector] = []  # element k: each device's k-th span, in units of its mean
        self._change_s = np.zeros(n_devices)
        self._extend(np.ones(n_devices, np.bool_))

    def until_s(self, now_s: float) -> Vector:
        self._advance(now_s)
        return np.where(self._is_on, self._change_s, -math.inf)

    def next_s(self, now_s: float) -> float:
        self._advance(now_s)
        return float(np.min(self._change_s, where=~self._is_on, initial=math.inf))

    def _advance(self, now_s: float) -> None:
        while (is_due := self._change_s <= now_s).any():
            self._is_on = self._is_on ^ is_due
            self._extend(is_due)

    def _extend(self, is_due: NDArray[np.bool_]) -> None:
        """Let the spans of these devices end at their next change."""
        ids = np.flatnonzero(is_due)
        numbers = self._n_changes[ids]
        while len(self._draws) <= numbers.max():
            rng = self._seeds.rng("availability_span", len(self._draws))
            self._draws.append(rng.standard_exponential(len(is_due)))
        spans = np.array([self._draws[number][device_id] for device_id, number in zip(ids, numbers, strict=True)])
        change_s = self._change_s.copy()
        change_s[ids] += spans * self._mean_s[self._is_on[ids].astype(np.int64)]
        self._change_s = change_s
        self._n_changes[ids] += 1


class Trace(Availability):
    """Devices can be reached in given spans of time; one of which nothing is given, never."""

    def __init__(
        self,
        n_devices: int,
        spans: Mapping[int, Intervals],
        notes: Sequence[str] = (),
        *,
        offset_s: float = 0.0,
        period_s: float | None = None,
        time_scale: float = 1.0,
    ) -> None:
        """``spans[device_id]``; devices beyond ``n_devices`` are left out.

        The run begins ``offset_s`` into the trace. With ``period_s`` the trace begins anew after so many of its own
        seconds, over and over, and its spans lie between 0 and there. A second of it lasts ``time_scale`` emulated
        seconds.
        """
        self.notes = tuple(notes)
        self._offset_s, self._period_s, self._time_scale = offset_s, period_s, time_scale
        own = [spans.get(device_id, ()) for device_id in range(n_devices)]
        if period_s is not None:
            own = [_across_the_seam(each, period_s) for each in own]
        self._own_s = [(np.array([start for start, _ in each]), np.array([end for _, end in each])) for each in own]
        self._period = 0
        """The period that emulated time is in; the spans at hand are those of this one, the last and the next."""
        self._place()

    def until_s(self, now_s: float) -> Vector:
        self._advance(now_s)
        until_s = np.full(len(self._starts_s), -math.inf)
        for device_id, (starts_s, ends_s) in enumerate(zip(self._starts_s, self._ends_s, strict=True)):
            span = int(np.searchsorted(starts_s, now_s, side="right")) - 1
            if span >= 0 and ends_s[span] > now_s:
                until_s[device_id] = ends_s[span]
        return until_s

    def next_s(self, now_s: float) -> float:
        self._advance(now_s)
        later = [starts_s[np.searchsorted(starts_s, now_s, side="right") :] for starts_s in self._starts_s]
        return min((float(starts_s[0]) for starts_s in later if len(starts_s)), default=math.inf)

    def _advance(self, now_s: float) -> None:
        if self._period_s is None:
            return
        period = math.floor((now_s / self._time_scale + self._offset_s) / self._period_s)
        if period != self._period:
            self._period = period
            self._place()

    def _place(self) -> None:
        """Put the spans at their emulated times. All comparisons are with these, so that rounding never parts them."""
        bases_s = [0.0] if self._period_s is None else [(self._period + step) * self._period_s for step in (-1, 0, 1)]
        self._starts_s, self._ends_s = (
            [
                np.concatenate([(each[side] + (base_s - self._offset_s)) * self._time_scale for base_s in bases_s])
                for each in self._own_s
            ]
            for side in (0, 1)
        )


def _across_the_seam(spans: Intervals, period_s: float) -> Intervals:
    """Spans that are repeated after ``period_s``, the last joined to the first where they meet there."""
    if not spans or spans[0][0] > 0 or spans[-1][1] < period_s:
        return spans
    if len(spans) == 1:
        return [(0.0, math.inf)]
    return [*spans[1:-1], (spans[-1][0], period_s + spans[0][1])]


class DropOuts:
    """Devices that fail in the middle of a round, by chance, whatever their availability.

    In each round each device of the cohort fails with the same probability, on its own: in its first computation of the
    round, after a share of it that is uniformly distributed. Computing is where a board runs hot or out of power, and
    where it spends most of the round.
    """

    def __init__(self, n_devices: int, fraction: float, seeds: Seeds) -> None:
        self._n_devices, self._fraction, self._seeds = n_devices, fraction, seeds

    def shares(self, round_index: int) -> Mapping[int, float]:
        """The devices that would fail in this round, with the share of their computation after which they do."""
        if not self._fraction:
            return {}
        # A row for each device: with more devices, the first ones still get the same numbers.
        chance, share = self._seeds.rng("drop_out", round_index).random((self._n_devices, 2)).T
        return {int(device_id): float(share[device_id]) for device_id in np.flatnonzero(chance < self._fraction)}
