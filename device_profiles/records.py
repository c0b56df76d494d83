"""What is known of a device and of a cluster of them: frozen records in SI units, made by the catalog."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

from device_profiles.link_kinds.base import LinkSpec
from device_profiles.provenance import Provenance
from device_profiles.swap_file import SwapSpec

PRECISIONS = ("fp32", "amp")
"""Number formats that a rate of computation is given for: float32, and mixed float16/float32 on the tensor cores."""

StepLaw = Literal["roofline", "queued", "in_turn"]
STEP_LAWS: tuple[str, ...] = get_args(StepLaw)
"""How the parts of a pass add up; :func:`emulator.world.price.step_time.step_time` says what each law is."""

AllocatorName = Literal["glibc", "glibc_2_39", "pytorch_cuda"]
ALLOCATOR_NAMES: tuple[str, ...] = get_args(AllocatorName)
"""Whose rules place a training process's tensors; see :mod:`emulator.world.price.allocator`."""

WORK_KINDS = ("adapters", "weights", "inference")
"""What a step may train: adapters, the weights of whole layers (full fine-tuning), nothing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PowerLaw:
    """What a board draws while it computes, by how busy its parts are.

    ``awake_w`` is drawn by the whole board while it computes at all: clocks up, a CPU core that hands over operations.
    ``arithmetic_w``, in each of :data:`PRECISIONS`, comes on top where a step is arithmetic alone at the rate that
    whole steps reach; ``memory_w`` where it is passes through the memory alone. In between both count by the share of
    the step's time that they would take by themselves (the energy roofline of Choi et al., IPDPS 2013, as used for
    AGX Orin by Pagoda, arXiv 2509.20189: joules = a FLOP + b bytes + c seconds).
    """

    awake_w: float
    arithmetic_w: Mapping[str, float] = field(hash=False)
    memory_w: float


@dataclass(frozen=True, kw_only=True, slots=True)
class PowerMode:
    """One power mode of a board, under the board's own name and number.

    ``effective_flop_per_s`` is what whole training steps reach in each of :data:`PRECISIONS`, a multiply-add counted as
    2 FLOP. ``memory_bytes_per_s`` is the memory bandwidth that programs reach. ``step_overhead_s`` is the part of a
    local step that does not shrink with the work; ``dispatch_s`` is what the CPU takes to hand over one operation, the
    floor under a step of many small ones (0 where it is not known). ``step_law`` says how these make up the time of a
    pass: with ``roofline``, the rate is that of whole training steps, element-wise operations included; with ``queued``
    and ``in_turn`` it is that of matrix products alone, and element-wise operations pass through the memory.
    ``idle_w``, ``compute_w`` and ``transfer_w`` are what the whole board draws while it waits, trains, and sends or
    receives; ``power_law`` splits what it draws while it trains by how busy it is, and is None where that is not known,
    so that every step draws ``compute_w``. ``budget_w`` is the cap in the mode's name, None where there is none.
    ``n_cpu_threads`` is with how many threads it trains if it trains on its CPU, 0 where that is not said. The other
    fields are facts for readers and play no part in any cost.
    """

    name: str
    mode_id: int
    effective_flop_per_s: Mapping[str, float] = field(hash=False)
    memory_bytes_per_s: float
    step_overhead_s: float
    idle_w: float
    compute_w: float
    transfer_w: float
    dispatch_s: float = 0.0
    step_law: StepLaw = "roofline"
    n_cpu_threads: int = 0
    power_law: PowerLaw | None = None
    budget_w: float | None = None
    cpu: str = ""
    cpu_hz: float | None = None
    n_cuda_cores: int = 0
    gpu_hz: float | None = None
    memory_clock_hz: float | None = None
    peak_memory_bytes_per_s: float | None = None

    def computing_w(self, precision: str, arithmetic_share: float, memory_share: float) -> float:
        """What the board draws in steps that keep arithmetic and memory busy for these shares of their time."""
        law = self.power_law
        if law is None:
            return self.compute_w
        return law.awake_w + law.arithmetic_w[precision] * arithmetic_share + law.memory_w * memory_share

    @property
    def compute_range_w(self) -> tuple[float, float]:
        """The least and the most that the board draws in any step."""
        law = self.power_law
        if law is None:
            return self.compute_w, self.compute_w
        return law.awake_w, law.awake_w + max(law.arithmetic_w.values()) + law.memory_w

    def scaled(self, factors: Mapping[str, float]) -> "PowerMode":
        """This mode on a board that computes ``factors[precision]`` times as fast.

        Memory, step overhead and dispatch follow the factor of fp32; what the board draws stays the same.
        """
        rates = {precision: rate * factors[precision] for precision, rate in self.effective_flop_per_s.items()}
        return replace(
            self,
            effective_flop_per_s=rates,
            memory_bytes_per_s=self.memory_bytes_per_s * factors["fp32"],
            step_overhead_s=self.step_overhead_s / factors["fp32"],
            dispatch_s=self.dispatch_s / factors["fp32"],
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class KnownRange:
    """The settings for which a profile's rates are known, or believed to hold; beyond, a price is an extrapolation.

    Bounds are inclusive. ``step_tokens`` is batch size times sequence length, ``model_parameters`` counts the whole
    model without adapters. ``kinds`` are of ``adapters`` (LoRA and the like), ``weights`` (full fine-tuning) and
    ``inference``.
    """

    min_step_tokens: int
    max_step_tokens: int
    min_model_parameters: int
    max_model_parameters: int
    precisions: tuple[str, ...]
    kinds: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class DeviceProfile:
    """A kind of board.

    ``memory_bytes`` is the nameplate; ``usable_memory_bytes`` is what a training process may fill, after
    carve-outs, operating system and CUDA context. ``runtime_memory_bytes`` is what a training process holds before
    any model, such as libraries and CUDA context, beside the usable memory and not of it, None where the file does
    not say; ``allocator`` is who places its tensors. ``desktop_memory_bytes`` is what a desktop takes of the usable
    memory where one runs, None where that is not known; ``swap`` is what a process may fill beyond it, None where
    there is none. ``provenance`` is keyed by the file's key, such as ``compute_w``, or by mode and key, such as
    ``MAXN.compute_w``, where a mode's figure has an origin of its own. ``known_range`` is None where the file
    states none. ``sha256`` is the file's digest.
    """

    name: str
    title: str
    memory_bytes: int
    usable_memory_bytes: int
    power_modes: tuple[PowerMode, ...]
    default_mode: str
    known_range: KnownRange | None = None
    runtime_memory_bytes: int | None = None
    allocator: AllocatorName = "pytorch_cuda"
    desktop_memory_bytes: int | None = None
    swap: SwapSpec | None = None
    provenance: Mapping[str, Provenance] = field(hash=False, repr=False)
    sha256: str = field(repr=False)

    def mode(self, name: str) -> PowerMode:
        """The power mode of that name.

        Raises:
            KeyError: the board has no such mode.
        """
        return {mode.name: mode for mode in self.power_modes}[name]

    @property
    def memory_limit_bytes(self) -> int:
        """The most that a step may need: the usable memory, and what swap adds to it."""
        return self.usable_memory_bytes + (self.swap.gained_bytes if self.swap else 0)

    def missing_bytes(self, needed_bytes: int) -> int:
        """What of so many bytes is beyond the usable memory, and swapped."""
        return max(0, needed_bytes - self.usable_memory_bytes)

    def with_desktop(self) -> "DeviceProfile":
        """This board with a desktop, which takes of the usable memory.

        Raises:
            ValueError: what it takes is not known, or is all of it.
        """
        if self.desktop_memory_bytes is None:
            raise ValueError(f"what a desktop takes on {self.name} is not known: its profile has no desktop_memory_mib")
        usable_bytes = self.usable_memory_bytes - self.desktop_memory_bytes
        if usable_bytes <= 0:
            raise ValueError(
                f"a desktop takes {self.desktop_memory_bytes} bytes on {self.name}, all of the "
                f"{self.usable_memory_bytes} that training could use"
            )
        return replace(self, usable_memory_bytes=usable_bytes, desktop_memory_bytes=None)

    @property
    def mode_names(self) -> tuple[str, ...]:
        return tuple(mode.name for mode in self.power_modes)

    def provenance_of(self, key: str, mode_name: str | None = None) -> Provenance:
        """Where the figure under the file's ``key`` comes from, in that mode or for the board as a whole.

        Raises:
            KeyError: the file has no such figure.
        """
        return self.provenance.get(f"{mode_name}.{key}") or self.provenance[key]


@dataclass(frozen=True, kw_only=True, slots=True)
class Thermal:
    """How boards warm up and slow down.

    ``rise_k_per_w`` is the temperature above the surroundings that a watt brings in the end, ``time_constant_s`` how
    fast it gets there; at ``limit_k`` above the surroundings a board computes at ``throttled_speed_fraction``.
    """

    rise_k_per_w: float
    time_constant_s: float
    limit_k: float
    throttled_speed_fraction: float


@dataclass(frozen=True, kw_only=True, slots=True)
class ClusterEntry:
    """``count`` boards of one kind; ``modes`` are those that they may be in, already stretched by the cluster."""

    device: str
    count: int
    profile: DeviceProfile
    modes: tuple[PowerMode, ...]
    link: LinkSpec


@dataclass(frozen=True, kw_only=True, slots=True)
class AccessPoints:
    """Where devices share the air. Device ``i`` belongs to point ``(i // consecutive_devices) % count``.

    ``bytes_per_s`` is what one point carries for all of its devices, down and up together: they share one channel.
    """

    count: int
    consecutive_devices: int
    bytes_per_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerCapacity:
    """What the server's own link carries: ``egress`` to all devices together, ``ingress`` from them."""

    egress_bytes_per_s: float
    ingress_bytes_per_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class ClusterSpec:
    """A testbed. Devices are numbered from 0 in the order of ``entries``.

    Every device draws one of its modes anew each ``power_mode_redraw_rounds`` rounds, only once where that is 0.
    ``compute_jitter_fraction`` is the coefficient of variation of a device's compute time between rounds.
    ``mode_switch_penalty_s`` is how much longer the first work of a round takes in which the mode changed; ``thermal``
    says how boards slow down when they are hot, None where they do not.
    ``speed_spread`` is the fastest over the slowest rate of computation that the modes were stretched to, None where
    they are as the boards are. Without ``access_points`` or ``server``, nothing is shared there. ``provenance`` is
    keyed by the file's key. ``sha256`` is the digest of the file and of those that it inherits from.
    """

    name: str
    title: str
    entries: tuple[ClusterEntry, ...]
    power_mode_redraw_rounds: int
    compute_jitter_fraction: float
    speed_spread: float | None = None
    access_points: AccessPoints | None = None
    server: ServerCapacity | None = None
    mode_switch_penalty_s: float = 0.0
    thermal: Thermal | None = None
    provenance: Mapping[str, Provenance] = field(hash=False, repr=False)
    sha256: str = field(repr=False)

    @property
    def n_devices(self) -> int:
        return sum(entry.count for entry in self.entries)

    def resized(self, n_devices: int) -> "ClusterSpec":
        """This cluster with ``n_devices`` in the same proportions, as far as whole devices allow.

        Seats go by largest remainder; entries that get none are left out.
        """
        shares = [n_devices * entry.count / self.n_devices for entry in self.entries]
        counts = [int(share) for share in shares]
        by_remainder = sorted(range(len(shares)), key=lambda index: (counts[index] - shares[index], index))
        for index in by_remainder[: n_devices - sum(counts)]:
            counts[index] += 1
        resized = (replace(entry, count=count) for entry, count in zip(self.entries, counts, strict=True) if count)
        return replace(self, entries=tuple(resized))

    @property
    def entry_by_device(self) -> tuple[ClusterEntry, ...]:
        """The entry of every device, in the order of device ids."""
        return tuple(entry for entry in self.entries for _ in range(entry.count))
