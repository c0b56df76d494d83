"""What one local step costs on one board, in all that is priced, with the bands that the figures behind it leave."""

from dataclasses import dataclass, replace

from device_profiles.provenance import Provenance
from device_profiles.records import DeviceProfile, PowerMode
from device_profiles.swap_file import SwapSpec
from emulator.compression.encodings import encoded_bytes
from emulator.records import (
    ADAMW,
    NO_COMPRESSION,
    NO_SAVERS,
    Compression,
    LocalOptimizer,
    MemorySavers,
    Work,
    WorkKind,
)
from emulator.shapes.spec import ModelSpec
from emulator.world.price.known_range import outside_known_range
from emulator.world.price.memory import peak_memory
from emulator.world.price.step import MemoryUse, PassDemand, StepDemand
from emulator.world.price.step_kinds import step_of
from emulator.world.price.step_time import BusyShares, StepTime, pass_time, step_time
from emulator.world.price.uncertainty import bounds

_MEMORY_UNIT = 2**30  # the uncertainty of usable memory is in the unit of the profiles' files


@dataclass(frozen=True, slots=True)
class Band:
    """A figure with the least and the most that it may be, where all that it rests on errs to the same side."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Figure:
    """A figure of the profile that the price rests on, under its key and in the unit of the profile's file."""

    key: str
    value: float
    origin: Provenance


@dataclass(frozen=True, kw_only=True, slots=True)
class StepPrice:
    """The price of one local step.

    ``download_bytes`` and ``upload_bytes`` are what crosses the network before and after a device's local steps,
    however many there are. ``memory`` is what the allocator of the profile holds for the step; whether it fits
    rests on it, as in a run. ``swap_s`` is what a step waits for swap, part of ``step_s`` and 0 without.
    ``compute_w`` is what the board draws in the step. ``outside`` is the first setting outside the range in which
    the profile is known.
    """

    profile: DeviceProfile
    mode: PowerMode
    model: ModelSpec
    work: Work
    precision: str
    optimizer: LocalOptimizer
    savers: MemorySavers
    compression: Compression
    demand: StepDemand
    time: StepTime
    step_s: Band
    compute_w: Band
    energy_j: Band
    memory: MemoryUse
    swap_s: Band
    usable_memory_bytes: Band
    download_bytes: int
    upload_bytes: int
    outside: str | None
    figures: tuple[Figure, ...]

    @property
    def fits(self) -> bool:
        return self.memory.total_bytes <= self.profile.memory_limit_bytes

    @property
    def process_bytes(self) -> int | None:
        """What the process holds at its peak, with its runtime; None where the profile does not say what that is."""
        runtime_bytes = self.profile.runtime_memory_bytes
        if runtime_bytes is None:
            return None
        return runtime_bytes + self.memory.total_bytes

    @property
    def forward_limit(self) -> str:
        """What the forward pass waits for, or for the most part."""
        return self._limit(self.demand.forward)

    @property
    def backward_limit(self) -> str:
        """What the backward pass waits for, or for the most part."""
        return self._limit(self.demand.backward)

    def _limit(self, demand: PassDemand) -> str:
        time = pass_time(demand, self.mode, self.precision)
        waits = {"arithmetic": time.arithmetic_s, "memory": time.memory_s, "dispatch": time.dispatch_s}
        return max(waits, key=lambda name: waits[name])


def price_step(
    profile: DeviceProfile,
    mode: PowerMode,
    model: ModelSpec,
    work: Work,
    precision: str,
    *,
    dropout: bool = False,
    optimizer: LocalOptimizer = ADAMW,
    savers: MemorySavers = NO_SAVERS,
    compression: Compression = NO_COMPRESSION,
) -> StepPrice:
    """The price of one step of ``work`` (its number of steps does not matter) on a board in one of its modes.

    ``dropout`` says whether the layers drop out, which takes memory.
    """
    step = step_of(model, work, precision, optimizer, savers)
    demand = step.demand()
    time = step_time(demand, mode, precision)
    slow, fast = _extremes(profile, mode, precision)
    slowest_s, fastest_s = (step_time(demand, each, precision).step_s for each in (slow, fast))
    watts = _watts(profile, mode, time.busy(precision))
    usable = profile.usable_memory_bytes
    memory_low, memory_high = bounds(usable / _MEMORY_UNIT, _uncertainty(profile, mode, "usable_memory_gib"))
    memory = peak_memory(
        model,
        work,
        precision,
        allocator=profile.allocator,
        dropout=dropout,
        optimizer=optimizer,
        savers=savers,
    )
    swap_s = _swap_s(profile.swap, profile.missing_bytes(memory.total_bytes))
    step_s = Band(time.step_s + swap_s.value, fastest_s + swap_s.low, slowest_s + swap_s.high)
    n_sent, n_received = (
        (0.0, 0.0) if work.kind is WorkKind.INFERENCE else (step.n_trained_parameters, step.n_held_parameters)
    )
    return StepPrice(
        profile=profile,
        mode=mode,
        model=model,
        work=work,
        precision=precision,
        optimizer=optimizer,
        savers=savers,
        compression=compression,
        demand=demand,
        time=time,
        step_s=step_s,
        compute_w=watts,
        energy_j=Band(step_s.value * watts.value, step_s.low * watts.low, step_s.high * watts.high),
        memory=memory,
        swap_s=swap_s,
        usable_memory_bytes=Band(usable, memory_low * _MEMORY_UNIT, memory_high * _MEMORY_UNIT),
        download_bytes=encoded_bytes(compression.download, round(n_received)),
        upload_bytes=encoded_bytes(compression.upload, round(n_sent)),
        outside=outside_known_range(profile, model, work, precision, savers),
        figures=_figures(profile, mode, precision),
    )


def _swap_s(swap: SwapSpec | None, missing_bytes: int) -> Band:
    """What a step waits for bytes that do not fit into the memory."""
    if swap is None or missing_bytes == 0:
        return Band(0.0, 0.0, 0.0)

    def rates(key: str, bytes_per_s: float) -> tuple[float, float]:
        low, high = bounds(bytes_per_s / 1e6, swap.provenance[key].uncertainty)
        return 1e6 * low, 1e6 * high

    n_bytes = swap.swapped_bytes(missing_bytes)
    slow, fast = zip(
        rates("read_mb_per_s", swap.read_bytes_per_s), rates("write_mb_per_s", swap.write_bytes_per_s), strict=True
    )
    return Band(swap.step_s(missing_bytes), sum(n_bytes / rate for rate in fast), sum(n_bytes / rate for rate in slow))


def _power_figures(mode: PowerMode, precision: str) -> dict[str, float]:
    """The watts that a price rests on, by their keys: of the power law where the mode has one."""
    law = mode.power_law
    if law is None:
        return {"compute_w": mode.compute_w}
    arithmetic_w = {f"{precision}_arithmetic_w": law.arithmetic_w[precision]}
    return {"awake_w": law.awake_w, **arithmetic_w, "memory_w": law.memory_w}


def _watts(profile: DeviceProfile, mode: PowerMode, busy: BusyShares) -> Band:
    """What the board draws while it is so busy; all of its power figures err to the same side."""
    weights = {"compute_w": 1.0, "awake_w": 1.0, "memory_w": busy.memory}
    ends = [
        [weights.get(key, busy.arithmetic) * end for end in bounds(value, _uncertainty(profile, mode, key))]
        for key, value in _power_figures(mode, busy.precision).items()
    ]
    low, high = (sum(each[side] for each in ends) for side in (0, 1))
    return Band(busy.drawn_w(mode), low, high)


def _figures(profile: DeviceProfile, mode: PowerMode, precision: str) -> tuple[Figure, ...]:
    values = {
        f"{precision}_tflop_per_s": mode.effective_flop_per_s[precision] / 1e12,
        "memory_gb_per_s": mode.memory_bytes_per_s / 1e9,
        "step_overhead_ms": mode.step_overhead_s * 1e3,
        "dispatch_us": mode.dispatch_s * 1e6,
        **_power_figures(mode, precision),
        "usable_memory_gib": profile.usable_memory_bytes / _MEMORY_UNIT,
        "runtime_memory_mib": (profile.runtime_memory_bytes or 0) / 2**20,
    }
    return tuple(
        Figure(key=key, value=value, origin=profile.provenance_of(key, mode.name))
        for key, value in values.items()
        if key in profile.provenance or f"{mode.name}.{key}" in profile.provenance
    )


def _extremes(profile: DeviceProfile, mode: PowerMode, precision: str) -> tuple[PowerMode, PowerMode]:
    """The mode at its slowest and at its fastest, as the uncertainty of each figure, in its file's unit, has it."""

    def either(key: str, value: float, unit: float) -> tuple[float, float]:
        low, high = bounds(value / unit, _uncertainty(profile, mode, key))
        return low * unit, high * unit

    rates = either(f"{precision}_tflop_per_s", mode.effective_flop_per_s[precision], 1e12)
    bandwidths = either("memory_gb_per_s", mode.memory_bytes_per_s, 1e9)
    overheads = either("step_overhead_ms", mode.step_overhead_s, 1e-3)
    dispatches = either("dispatch_us", mode.dispatch_s, 1e-6)
    slow, fast = (
        replace(
            mode,
            effective_flop_per_s={precision: rates[index]},
            memory_bytes_per_s=bandwidths[index],
            step_overhead_s=overheads[1 - index],
            dispatch_s=dispatches[1 - index],
        )
        for index in (0, 1)
    )
    return slow, fast


def _uncertainty(profile: DeviceProfile, mode: PowerMode, key: str) -> str:
    origin = profile.provenance.get(f"{mode.name}.{key}") or profile.provenance.get(key)
    return origin.uncertainty if origin else ""
