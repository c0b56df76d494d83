"""Links between devices and server: each device's rates in a round, drawn from its link's description and the seeds."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from device_profiles.records import ConstantLink, LinkSpec, LogNormalLink, TraceLink, WifiRings
from emulator.seeds import Seeds
from emulator.world.trace_replay import Replay

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
        self.replays = _replays(specs, seeds)
        """The replays of the devices that have any: down, up."""
        self._seeds = seeds
        self._groups = [_group(spec, specs, seeds) for spec in dict.fromkeys(specs)]
        self._fluctuation = _Fluctuation(len(specs), seeds)

    def rates(self, round_index: int, now_s: float = 0.0) -> Rates:
        """The rates of a round that begins at ``now_s``, a time that matters for traces alone."""
        n_devices = len(self.latency_s)
        down, up = np.empty(n_devices), np.empty(n_devices)
        for group in self._groups:
            spec, ids = group.spec, group.device_ids
            if isinstance(spec, ConstantLink):
                down[ids], up[ids] = spec.download_bytes_per_s, spec.upload_bytes_per_s
            elif isinstance(spec, TraceLink):
                for device_id in ids.tolist():
                    down[device_id], up[device_id] = (replay.rate_at(now_s) for replay in self.replays[device_id])
            else:
                normal = self._fluctuation.at(round_index, spec.round_correlation)[:, ids]
                variations = (spec.download_variation_fraction, spec.upload_variation_fraction)
                means = group.mean_bytes_per_s
                for rates, mean, variation, deviate in zip((down, up), means, variations, normal, strict=True):
                    rates[ids] = np.clip(
                        mean * log_normal(variation, deviate), spec.min_bytes_per_s, spec.max_bytes_per_s
                    )
        return Rates(down, up)


def log_normal(variation_fraction: float, normal: Vector) -> Vector:
    """Log-normal factors of mean 1 and this coefficient of variation from standard normal deviates."""
    variance = np.log1p(variation_fraction**2)
    return np.asarray(np.exp(np.sqrt(variance) * normal - variance / 2))


@dataclass(frozen=True, slots=True)
class _Group:
    """The devices that share a description, with the mean rates of each, ``(2, n)``: download, upload."""

    spec: LinkSpec
    device_ids: NDArray[np.int64]
    mean_bytes_per_s: Vector


def _group(spec: LinkSpec, specs: Sequence[LinkSpec], seeds: Seeds) -> _Group:
    ids = np.array([device_id for device_id, other in enumerate(specs) if other == spec])
    means = np.empty((2, 0))
    if isinstance(spec, WifiRings):
        rings = [spec.ring_of(int(device_id)) for device_id in ids]
        low = np.array([ring.min_bytes_per_s for ring in rings])
        high = np.array([ring.max_bytes_per_s for ring in rings])
        mean = low + (high - low) * seeds.rng("link_mean").random(len(specs))[ids]
        means = np.array([mean, mean])
    elif isinstance(spec, LogNormalLink):
        deviates = seeds.rng("link_mean_normal").standard_normal(len(specs))[ids]
        factors = log_normal(spec.device_variation_fraction, deviates)
        means = np.outer([spec.download_bytes_per_s, spec.upload_bytes_per_s], factors)
    return _Group(spec, ids, means)


def _replays(specs: Sequence[LinkSpec], seeds: Seeds) -> dict[int, tuple[Replay, Replay]]:
    """Both directions begin at the same share of their steps: a place has good or bad reception for both."""
    if not any(isinstance(spec, TraceLink) for spec in specs):
        return {}
    shares = seeds.rng("trace_offset").random(len(specs))
    return {
        device_id: (
            Replay(spec.download, int(share * len(spec.download.start_s))),
            Replay(spec.upload, int(share * len(spec.upload.start_s))),
        )
        for device_id, (spec, share) in enumerate(zip(specs, shares, strict=True))
        if isinstance(spec, TraceLink)
    }


class _Fluctuation:
    """Standard normal deviates that follow an AR(1) process over rounds, for both directions of every device."""

    def __init__(self, n_devices: int, seeds: Seeds) -> None:
        self._shape = (2, n_devices)
        self._seeds = seeds
        self._paths: dict[float, tuple[int, Vector]] = {}

    def at(self, round_index: int, correlation: float) -> Vector:
        """The deviates of a round, shape ``(2, n_devices)``: download, upload. In order, a round costs one draw."""
        last, deviates = self._paths.get(correlation, (-1, np.zeros(self._shape)))
        if round_index < last:
            last, deviates = -1, np.zeros(self._shape)
        for step in range(last + 1, round_index + 1):
            # Drawn device by device: with more devices, the first ones still get the same numbers.
            fresh = self._seeds.rng("link_rate", step).standard_normal(self._shape[::-1]).T
            deviates = fresh if step == 0 else correlation * deviates + np.sqrt(1 - correlation**2) * fresh
        self._paths[correlation] = (round_index, deviates)
        return deviates
