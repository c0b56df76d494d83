"""The boards of a testbed, and what their speed and their power depend on beside the work that they are asked for."""

from collections.abc import Sequence
from dataclasses import dataclass

from device_profiles.records import DeviceProfile, PowerMode, Thermal
from emulator.world.foreground import Foreground
from emulator.world.power_modes import PowerModes

HARDWARE_FACTS = ("memory_bytes", "allocator", "flop_per_s")
"""Facts about devices that every run knows; the rate is that of a board in its default power mode.

``memory_bytes`` is what a training process may fill, and ``allocator`` the name of who places its tensors there, both
as :func:`~emulator.world.price.memory.peak_memory` needs them.
"""
DEVICE_FACTS = (*HARDWARE_FACTS, "label_histogram", "n_examples")
"""What a policy may declare that it needs to know of devices; the last two come with the data, in runs that train."""


class DeviceLost(Exception):
    """Raised in a protocol when a device cannot go on in this round; the testbed has noted why."""


@dataclass(frozen=True, slots=True)
class Device:
    """One emulated board: its profile and the power modes that this cluster lets it be in."""

    device_id: int
    profile: DeviceProfile
    modes: tuple[PowerMode, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Boards:
    """All devices of a testbed, in the order of their ids.

    ``jitter_fraction`` is the variation of a piece of work's time. The first work after a change of power mode takes
    ``mode_switch_penalty_s`` longer; ``thermal`` makes hot boards slow, ``foreground`` those that do something else.
    """

    devices: Sequence[Device]
    power_modes: PowerModes
    jitter_fraction: float = 0.0
    mode_switch_penalty_s: float = 0.0
    thermal: Thermal | None = None
    foreground: Foreground | None = None
