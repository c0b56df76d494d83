"""Programs in the foreground of a board, which take a share of its compute from training while they run.

A computation is like a transfer on a link whose rate changes: its seconds at full speed flow at a rate of 1, or of what
is left. What the foreground itself draws is nothing that a federation asks for, and is in no books; a board that trains
more slowly draws its watts for longer.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from device_profiles.link_kinds.replay import ChangingRate, RateCurve, RateTrace, Replay
from emulator.seeds import Seeds


class Foreground:
    """``speeds[device_id]`` is the share of a device's compute that is left to training, over emulated time."""

    def __init__(self, speeds: Sequence[ChangingRate]) -> None:
        self._speeds = speeds

    def stretched_s(self, device_id: int, start_s: float, duration_s: float) -> float:
        """How long a computation takes that begins now and would take ``duration_s`` at full speed."""
        return self._speeds[device_id].duration_s(start_s, duration_s)


def scheduled_load(
    n_devices: int, compute_fraction: float, *, from_s: float, until_s: float, period_s: float
) -> Foreground:
    """The same load on all devices from ``from_s`` to ``until_s`` of each period; across two where that is before."""
    bounds_s = sorted({0.0, from_s, until_s} - {period_s})
    if from_s < until_s:
        is_on = [from_s <= start_s < until_s for start_s in bounds_s]
    else:
        is_on = [start_s < until_s or start_s >= from_s for start_s in bounds_s]
    speeds = np.where(is_on, 1 - compute_fraction, 1.0)
    curve = RateCurve(RateTrace(start_s=np.array(bounds_s), bytes_per_s=speeds, period_s=period_s))
    return Foreground([Replay(curve, 0)] * n_devices)


def random_load(
    n_devices: int, compute_fraction: float, mean_on_s: float, mean_off_s: float, seeds: Seeds
) -> Foreground:
    """Each device by itself has the load and has it not in turns, for times that are exponentially distributed.

    A two-state Markov process in continuous time that starts in its steady state.
    """
    is_on = seeds.rng("foreground_start").random(n_devices) * (mean_on_s + mean_off_s) < mean_on_s
    spans = _Spans(n_devices, seeds)
    speeds_and_means_s = ((1.0, mean_off_s), (1 - compute_fraction, mean_on_s))
    return Foreground(
        [_InTurns(spans, device_id, int(is_on[device_id]), speeds_and_means_s) for device_id in range(n_devices)]
    )


class _Spans:
    """The lengths of each device's spans, in units of their mean. A span's draw depends on its number alone."""

    def __init__(self, n_devices: int, seeds: Seeds) -> None:
        self._n_devices = n_devices
        self._seeds = seeds
        self._drawn: list[NDArray[np.float64]] = []

    def length(self, device_id: int, number: int) -> float:
        while len(self._drawn) <= number:
            rng = self._seeds.rng("foreground_span", len(self._drawn))
            self._drawn.append(rng.standard_exponential(self._n_devices))
        return float(self._drawn[number][device_id])


class _InTurns(ChangingRate):
    """One device's speed, in spans of the one state and the other."""

    def __init__(
        self, spans: _Spans, device_id: int, first: int, speeds_and_means_s: Sequence[tuple[float, float]]
    ) -> None:
        self._spans = spans
        self._device_id = device_id
        self._first = first
        self._speeds_and_means_s = speeds_and_means_s
        self._ends_s: list[float] = []

    def steps(self, now_s: float) -> Iterator[tuple[float, float]]:
        while not self._ends_s or self._ends_s[-1] <= now_s:
            self._extend()
        number = bisect_right(self._ends_s, now_s)
        while True:
            if number == len(self._ends_s):
                self._extend()
            yield self._speeds_and_means_s[(self._first + number) % 2][0], self._ends_s[number]
            number += 1

    def _extend(self) -> None:
        number = len(self._ends_s)
        mean_s = self._speeds_and_means_s[(self._first + number) % 2][1]
        before_s = self._ends_s[-1] if self._ends_s else 0.0
        self._ends_s.append(before_s + mean_s * self._spans.length(self._device_id, number))
