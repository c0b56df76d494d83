"""Batteries: what devices draw empties them, a charger fills them by a schedule, and with an empty one a device is off.

The level follows from what is entered into the books: between two entries it is a straight line wherever the draw and
the charger stay as they are, so that every crossing of a level has a closed form.
"""

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from device_profiles.records import PowerMode
from emulator.world.availability import Availability, Vector

RETURN_FRACTION = 0.01
"""A device that has gone off comes back with at least this charge: an assumption, so that it does not flicker."""
ROUNDING_FRACTION = 1e-9
"""Of its capacity: a level that a charger reaches at a computed moment may miss it by this much."""
MOST_PERIODS = 100_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Charger:
    """Gives ``watts`` from ``start_s`` up to ``end_s`` of each period of emulated time.

    That is from one period into the next where the end is before the start, and never where both are the same. The
    start is before ``period_s``, and the end no later.
    """

    watts: float
    start_s: float
    end_s: float
    period_s: float

    def at(self, now_s: float) -> tuple[float, float]:
        """The watts now, and when that changes: later than ``now_s``, infinite if never."""
        if not self.watts or self.start_s == self.end_s:
            return 0.0, math.inf
        if self.end_s - self.start_s >= self.period_s:
            return self.watts, math.inf
        first = math.floor(now_s / self.period_s) - 2
        changes = sorted(
            (period * self.period_s + offset_s, watts)
            for period in range(first, first + 5)
            for offset_s, watts in ((self.start_s, self.watts), (self.end_s, 0.0))
        )
        passed = [watts for change_s, watts in changes if change_s <= now_s]
        return passed[-1], next(change_s for change_s, _ in changes if change_s > now_s)


@dataclass(frozen=True, slots=True)
class Span:
    """A span of time in which a device draws ``watts``; it is off where ``is_on`` is false, and draws nothing."""

    start_s: float
    end_s: float
    watts: float
    is_on: bool


@dataclass(frozen=True, slots=True)
class _Charge:
    """What is in a battery at a time, and whether its device is on."""

    at_s: float
    level_j: float
    is_on: bool = True


class Battery(Availability):
    """A device is there while it is on, and offered to a round if its level is at least ``least_fraction``.

    It goes off when its battery is empty, in the middle of whatever it does, and comes on again when a charger has
    brought it to ``least_fraction``, or to one hundredth where that is more. Off, it draws nothing.
    """

    def __init__(
        self,
        n_devices: int,
        capacity_j: float,
        charger: Charger,
        *,
        start_fraction: float = 1.0,
        least_fraction: float = 0.0,
    ) -> None:
        self._capacity_j, self._charger = capacity_j, charger
        self._least_j = least_fraction * capacity_j
        self._charges = [_Charge(0.0, start_fraction * capacity_j, start_fraction > 0)] * n_devices
        self._idle_w: Sequence[float] = [0.0] * n_devices
        self._busy: Collection[int] = ()

    def begin_round(self, modes: Sequence[PowerMode], busy: Collection[int]) -> None:
        """A round begins with these power modes; ``busy`` devices are at work, and stay until they are empty."""
        self._idle_w, self._busy = [mode.idle_w for mode in modes], busy

    def level_j(self, device_id: int) -> float:
        """What is left up to where the device's books end."""
        return self._charges[device_id].level_j

    def draw(self, device_id: int, watts: float, end_s: float) -> list[Span]:
        """The device draws ``watts`` from where its books end up to ``end_s``, while it is on.

        Returns what it drew, in order: at least one span.
        """
        now = self._charges[device_id]
        if now.at_s >= end_s:
            return [Span(end_s, end_s, watts if now.is_on else 0.0, now.is_on)]
        spans: list[Span] = []
        for span, later in self._followed(now, watts, end_s):
            self._charges[device_id] = later
            if spans and spans[-1].is_on == span.is_on:
                spans[-1] = Span(spans[-1].start_s, span.end_s, span.watts, span.is_on)
            else:
                spans.append(span)
        return spans

    def goes_off_s(self, device_id: int, watts: float, until_s: float) -> float:
        """When a device that draws ``watts`` goes off, up to ``until_s``: infinite if it does not."""
        charge = self._charges[device_id]
        if not charge.is_on:
            return charge.at_s
        for _, later in self._followed(charge, watts, until_s):
            if not later.is_on:
                return later.at_s
        return math.inf

    def went_off(self, device_id: int, now_s: float) -> bool:
        """Whether a device that waits has gone off since its books ended."""
        return self.goes_off_s(device_id, self._idle_w[device_id], now_s) <= now_s

    @property
    def look_again_s(self) -> float:
        """How far ahead it is worth looking at once: a period of the charger."""
        return self._charger.period_s

    def until_s(self, now_s: float) -> Vector:
        is_there = [self._is_there(device_id, now_s) for device_id in range(len(self._charges))]
        return np.where(is_there, math.inf, -math.inf)

    def next_s(self, now_s: float) -> float:
        absent = [device_id for device_id in range(len(self._charges)) if not self._is_there(device_id, now_s)]
        return min((self._comes_back_s(device_id, now_s) for device_id in absent), default=math.inf)

    def _is_there(self, device_id: int, now_s: float) -> bool:
        charge = self._at(device_id, now_s)
        is_enough = device_id in self._busy or charge.level_j >= self._least_j - ROUNDING_FRACTION * self._capacity_j
        return charge.is_on and is_enough

    def _at(self, device_id: int, now_s: float) -> _Charge:
        found = self._charges[device_id]
        for _, later in self._followed(found, self._idle_w[device_id], now_s):
            found = later
        return found

    def _comes_back_s(self, device_id: int, now_s: float) -> float:
        charge = self._at(device_id, now_s)
        for _ in range(MOST_PERIODS):
            before = charge
            for span, later in self._followed(charge, self._idle_w[device_id], charge.at_s + self._charger.period_s):
                if later.is_on and later.level_j >= self._least_j - ROUNDING_FRACTION * self._capacity_j:
                    gain_w = self._charger.at(charge.at_s)[0] - span.watts
                    back_s = span.end_s if not charge.is_on else charge.at_s + (self._least_j - charge.level_j) / gain_w
                    return max(back_s, math.nextafter(now_s, math.inf))
                charge = later
            if charge.is_on == before.is_on and charge.level_j <= before.level_j:
                return math.inf  # a whole period has brought it no further, and none will
        return math.inf

    def _followed(self, charge: _Charge, watts: float, end_s: float) -> Iterator[tuple[Span, _Charge]]:
        """Spans of one rate of charge each up to ``end_s``, and what is in the battery after each."""
        return_j = max(self._least_j, RETURN_FRACTION * self._capacity_j)
        while charge.at_s < end_s:
            charger_w, change_s = self._charger.at(charge.at_s)
            drawn_w = watts if charge.is_on else 0.0
            net_w, until_s, is_on, level_j = charger_w - drawn_w, min(change_s, end_s), charge.is_on, None
            if is_on and net_w < 0 and (empty_s := charge.at_s - charge.level_j / net_w) <= until_s:
                until_s, is_on, level_j = empty_s, False, 0.0
            elif not is_on and net_w > 0 and (full_s := charge.at_s + (return_j - charge.level_j) / net_w) <= until_s:
                until_s, is_on, level_j = full_s, True, return_j
            if level_j is None:
                level_j = min(max(charge.level_j + net_w * (until_s - charge.at_s), 0.0), self._capacity_j)
            span = Span(charge.at_s, until_s, drawn_w, charge.is_on)
            charge = _Charge(until_s, level_j, is_on)
            yield span, charge
