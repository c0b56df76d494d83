"""Links between devices and server: each device's rates in a round, drawn from its link's description and the seeds."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from device_profiles.link_kinds.base import LinkSampler, LinkSpec
from device_profiles.link_kinds.replay import Replay
from emulator.seeds import Seeds

Vector = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Rates:
    """Rates of all devices at the beginning of a round, in bytes/s, each of shape ``(n_devices,)``.

    They hold throughout the round, except on links that replay a trace.
    """

    down_bytes_per_s: Vector
    up_bytes_per_s: Vector


class Links:
    """The links of all devices. Rates depend on the run seed, the round or time, and the device's place alone."""

    def __init__(self, specs: Sequence[LinkSpec], seeds: Seeds) -> None:
        """``specs[device_id]`` describes the device's link."""
        self.latency_s: Vector = np.array([spec.latency_s for spec in specs])
        self.loss_fraction: Vector = np.array([spec.loss_fraction for spec in specs])
        self._groups: list[tuple[NDArray[np.int64], LinkSampler]] = []
        self.replays: dict[int, tuple[Replay, Replay]] = {}
        """The replays, down and up, of the devices that have any."""
        for spec in dict.fromkeys(specs):
            ids = np.array([device_id for device_id, other in enumerate(specs) if other == spec])
            sampler = spec.sampler(ids, len(specs), seeds)
            self._groups.append((ids, sampler))
            if replays := sampler.replays():
                self.replays.update(zip(ids.tolist(), replays, strict=True))

    def rates(self, round_index: int, now_s: float = 0.0) -> Rates:
        """The rates of a round that begins at ``now_s``, a time that matters for traces alone."""
        n_devices = len(self.latency_s)
        down, up = np.empty(n_devices), np.empty(n_devices)
        for ids, sampler in self._groups:
            down[ids], up[ids] = sampler.rates(round_index, now_s)
        return Rates(down, up)
