"""Links between devices and server: each device's rates in a round, drawn from its link's description and the seeds."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from device_profiles.link_kinds.base import LinkSampler, LinkSpec, Walk
from device_profiles.link_kinds.replay import ChangingRate, ScaledRate
from device_profiles.spreading import spread_about_mean
from emulator.seeds import Seeds

Vector = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Rates:
    """Rates of all devices at the beginning of a round, in bytes/s, each of shape ``(n_devices,)``.

    They hold throughout the round, except on links that replay a trace, have a coherence time or roam.
    """

    down_bytes_per_s: Vector
    up_bytes_per_s: Vector


class Links:
    """The links of all devices. Rates depend on the run seed, the round or time, and the device's place alone.

    With another ``heterogeneity`` than 1, they depend on the other devices' mean rates too: see
    :func:`device_profiles.spreading.spread_about_mean`.
    """

    def __init__(self, specs: Sequence[LinkSpec], seeds: Seeds, heterogeneity: float = 1.0) -> None:
        """``specs[device_id]`` describes the device's link."""
        self.latency_s: Vector = np.array([spec.latency_s for spec in specs])
        self.loss_fraction: Vector = np.array([spec.loss_fraction for spec in specs])
        self._groups: list[tuple[NDArray[np.int64], LinkSampler]] = []
        self.replays: dict[int, tuple[ChangingRate, ChangingRate]] = {}
        """The rates, down and up, of the devices whose rates change within a round."""
        self.walks: dict[int, Walk] = {}
        """Where those devices are that go from one access point of their link to the next."""
        mean_bytes_per_s = np.empty((2, len(specs)))
        for spec in dict.fromkeys(specs):
            ids = np.array([device_id for device_id, other in enumerate(specs) if other == spec])
            sampler = spec.sampler(ids, len(specs), seeds)
            self._groups.append((ids, sampler))
            if replays := sampler.replays():
                self.replays.update(zip(ids.tolist(), replays, strict=True))
            if walks := sampler.walks():
                self.walks.update(zip(ids.tolist(), walks, strict=True))
            mean_bytes_per_s[:, ids] = sampler.mean_rates()
        self._factors: NDArray[np.float64] | None = None
        if heterogeneity != 1:
            self._factors = np.array([_spread_factors(means, heterogeneity) for means in mean_bytes_per_s.tolist()])
            factors = self._factors.T.tolist()
            self.replays = {
                device_id: (ScaledRate(down, factors[device_id][0]), ScaledRate(up, factors[device_id][1]))
                for device_id, (down, up) in self.replays.items()
            }

    def rates(self, round_index: int, now_s: float = 0.0) -> Rates:
        """The rates of a round that begins at ``now_s``, which matters to links that change within rounds."""
        n_devices = len(self.latency_s)
        down, up = np.empty(n_devices), np.empty(n_devices)
        for ids, sampler in self._groups:
            down[ids], up[ids] = sampler.rates(round_index, now_s)
        return Rates(down, up) if self._factors is None else Rates(down * self._factors[0], up * self._factors[1])


def _spread_factors(mean_bytes_per_s: Sequence[float], heterogeneity: float) -> list[float]:
    spread = spread_about_mean(mean_bytes_per_s, heterogeneity)
    return [spread.factor(mean) for mean in mean_bytes_per_s]
