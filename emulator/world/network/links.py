"""Links between devices and server: each device's rates in a round, drawn from its link's description and the seeds."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from device_profiles.records import ConstantLink, LinkSpec, LogNormalLink, TraceLink, WifiRings
from emulator.seeds import Seeds
from emulator.world.network.trace_replay import RateCurve, Replay

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
        self._seeds = seeds
        self._groups = [_group(spec, specs, seeds) for spec in dict.fromkeys(specs)]
        self.replays = {device_id: pair for group in self._groups for device_id, pair in group.replays()}
        """The replays, down and up, of the devices that have any."""
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
                for rates, curve, offsets_s in zip((down, up), group.curves, group.offsets_s, strict=True):
                    rates[ids] = curve.rates_at(now_s, offsets_s)
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
    """The devices that share a description. Pairs, and arrays of shape ``(2, n)``, are download and upload.

    Links that fluctuate have the mean rate of each device, those that replay a trace its offset in the trace.
    """

    spec: LinkSpec
    device_ids: NDArray[np.int64]
    mean_bytes_per_s: Vector = field(default_factory=lambda: np.empty((2, 0)))
    curves: tuple[RateCurve, ...] = ()
    first_steps: NDArray[np.int64] = field(default_factory=lambda: np.empty((2, 0), np.int64))

    @property
    def offsets_s(self) -> list[Vector]:
        return [curve.trace.start_s[steps] for curve, steps in zip(self.curves, self.first_steps, strict=True)]

    def replays(self) -> Iterator[tuple[int, tuple[Replay, Replay]]]:
        if self.curves:
            down, up = self.curves
            for device_id, down_step, up_step in zip(self.device_ids.tolist(), *self.first_steps.tolist(), strict=True):
                yield device_id, (Replay(down, down_step), Replay(up, up_step))


def _group(spec: LinkSpec, specs: Sequence[LinkSpec], seeds: Seeds) -> _Group:
    ids = np.array([device_id for device_id, other in enumerate(specs) if other == spec])
    if isinstance(spec, WifiRings):
        rings = [spec.ring_of(int(device_id)) for device_id in ids]
        low = np.array([ring.min_bytes_per_s for ring in rings])
        high = np.array([ring.max_bytes_per_s for ring in rings])
        mean = low + (high - low) * seeds.rng("link_mean").random(len(specs))[ids]
        return _Group(spec, ids, np.array([mean, mean]))
    if isinstance(spec, LogNormalLink):
        factors = log_normal(
            spec.device_variation_fraction, seeds.rng("link_mean_normal").standard_normal(len(specs))[ids]
        )
        return _Group(spec, ids, np.outer([spec.download_bytes_per_s, spec.upload_bytes_per_s], factors))
    if isinstance(spec, TraceLink):
        curves = RateCurve(spec.download), RateCurve(spec.upload)
        # One share of the steps for both directions: a place has good or bad reception for both.
        shares = seeds.rng("trace_offset").random(len(specs))[ids]
        first_steps = np.array([np.floor(shares * len(curve.start_s)) for curve in curves]).astype(np.int64)
        return _Group(spec, ids, curves=curves, first_steps=first_steps)
    return _Group(spec, ids)


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
