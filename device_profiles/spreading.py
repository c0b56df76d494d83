"""Heterogeneity as a dial: figures of devices spread wider or narrower about the same mean."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from device_profiles.records import PRECISIONS, ClusterSpec, PowerMode


@dataclass(frozen=True, slots=True)
class Spread:
    """Makes ``scale (x / centre)^exponent x`` of a value ``x``."""

    scale: float
    centre: float
    exponent: float

    def factor(self, value: float) -> float:
        """What to multiply a value by."""
        return self.scale * math.exp(self.exponent * math.log(value / self.centre))


def spread_about_mean(values: Sequence[float], heterogeneity: float, weights: Sequence[float] | None = None) -> Spread:
    """What spreads the logarithms of ``values`` ``heterogeneity`` times as wide, while their weighted mean stays.

    A value ``x`` becomes ``A x^heterogeneity``, with the one ``A`` that keeps the mean: with 0 all become the mean,
    with 1 all stay.
    """
    logs = np.log(values)
    centre = float(np.exp(np.average(logs, weights=weights)))
    unscaled = Spread(1.0, centre, heterogeneity - 1)
    spread = [value * unscaled.factor(value) for value in values]
    return replace(unscaled, scale=float(np.average(values, weights=weights) / np.average(spread, weights=weights)))


def spread_compute(cluster: ClusterSpec, heterogeneity: float) -> ClusterSpec:
    """The cluster with its rates of computation spread, over devices and their power modes, for each precision.

    The mean is that over devices, each of which is in one of its modes as often as in another.
    """
    pairs = [(mode, entry.count / len(entry.modes)) for entry in cluster.entries for mode in entry.modes]
    weights = [weight for _, weight in pairs]
    spreads = {
        precision: spread_about_mean(
            [mode.effective_flop_per_s[precision] for mode, _ in pairs], heterogeneity, weights
        )
        for precision in PRECISIONS
    }

    def scaled(modes: Sequence[PowerMode]) -> tuple[PowerMode, ...]:
        return tuple(
            mode.scaled({name: spread.factor(mode.effective_flop_per_s[name]) for name, spread in spreads.items()})
            for mode in modes
        )

    entries = []
    for entry in cluster.entries:
        profile = replace(entry.profile, power_modes=scaled(entry.profile.power_modes))
        entries.append(replace(entry, modes=scaled(entry.modes), profile=profile))
    return replace(cluster, entries=tuple(entries))


def spread_memory(cluster: ClusterSpec, heterogeneity: float) -> ClusterSpec:
    """The cluster with the memory of its boards spread: what a training process may fill, and the nameplate with it."""
    usable = [float(entry.profile.usable_memory_bytes) for entry in cluster.entries]
    spread = spread_about_mean(usable, heterogeneity, [entry.count for entry in cluster.entries])
    entries = []
    for entry in cluster.entries:
        profile, factor = entry.profile, spread.factor(entry.profile.usable_memory_bytes)
        profile = replace(
            profile,
            memory_bytes=round(profile.memory_bytes * factor),
            usable_memory_bytes=round(profile.usable_memory_bytes * factor),
        )
        entries.append(replace(entry, profile=profile))
    return replace(cluster, entries=tuple(entries))
