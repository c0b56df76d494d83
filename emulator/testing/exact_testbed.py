"""A testbed whose times are round numbers, for tests of protocols and of anything that can be said in closed form."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from device_profiles.link_kinds.base import LinkSpec
from device_profiles.link_kinds.constant import ConstantLink
from device_profiles.records import DeviceProfile, PowerMode, Thermal
from emulator.forms.base import AdapterForm
from emulator.records import TrainingDefaults
from emulator.seeds import Seeds
from emulator.shapes.spec import ModelSpec
from emulator.world.availability import Availability, DropOuts
from emulator.world.clock import Clock
from emulator.world.devices import Boards, Device
from emulator.world.network.links import Links
from emulator.world.network.shared_network import SharedCapacity
from emulator.world.power_modes import PowerModes
from emulator.world.testbed import Testbed

IDLE_W, COMPUTE_W, TRANSFER_W = 1.0, 10.0, 3.0
"""What every device of an exact testbed draws."""


def exact_testbed(
    form: AdapterForm,
    model: ModelSpec,
    *,
    step_s: Sequence[float],
    download_bytes_per_s: Sequence[float],
    upload_bytes_per_s: Sequence[float],
    latency_s: float = 0.0,
    usable_memory_bytes: Sequence[int] = (),
    facts: Mapping[str, Sequence[Any]] | None = None,
    shared: SharedCapacity | None = None,
    availability: Availability | None = None,
    drop_outs: DropOuts | None = None,
    n_modes: int = 1,
    mode_switch_penalty_s: float = 0.0,
    thermal: Thermal | None = None,
    links: Sequence[LinkSpec] = (),
    server_flop_per_s: float = math.inf,
    dropout: bool = False,
    clock: Clock | None = None,
    make: Callable[..., Testbed] = Testbed,
) -> Testbed:
    """Devices whose local steps take ``step_s`` seconds whatever is computed in them, without jitter.

    The rate of computation is infinite, so that only the overhead per step is left, which counts as forward. Each
    sequence has one entry per device; ``usable_memory_bytes`` may be left out, for memory without end, and ``shared``,
    for links that nobody shares; ``links`` take the place of the constant ones of these rates. Where devices have more
    than one power mode, these are equal, and drawn anew each round; ``dropout`` is that of the training, whose masks
    take memory. ``make`` makes a testbed of another kind, which may need a ``clock`` of its own.
    """
    n_devices, seeds = len(step_s), Seeds(0)
    memory = usable_memory_bytes or [2**60] * n_devices
    constant = [
        ConstantLink(
            name=f"exact-{number}",
            download_bytes_per_s=down,
            upload_bytes_per_s=up,
            latency_s=latency_s,
            provenance={},
            sha256="",
        )
        for number, (down, up) in enumerate(zip(download_bytes_per_s, upload_bytes_per_s, strict=True))
    ]
    return make(
        boards=Boards(
            devices=[_device(number, step_s[number], memory[number], n_modes) for number in range(n_devices)],
            power_modes=PowerModes(np.full(n_devices, n_modes), int(n_modes > 1), seeds),
            mode_switch_penalty_s=mode_switch_penalty_s,
            thermal=thermal,
        ),
        links=Links(links or constant, seeds),
        model=model,
        form=form,
        training=TrainingDefaults(n_steps=1, batch_size=1, learning_rate=1e-3, dropout=dropout),
        seeds=seeds,
        facts=facts or {},
        shared=shared,
        availability=availability,
        drop_outs=drop_outs,
        server_flop_per_s=server_flop_per_s,
        clock=clock,
    )


def _device(device_id: int, step_s: float, usable_memory_bytes: int, n_modes: int) -> Device:
    modes = tuple(_mode(number, step_s) for number in range(n_modes))
    profile = DeviceProfile(
        name=f"exact-{device_id}",
        title="A board of known times",
        memory_bytes=usable_memory_bytes,
        usable_memory_bytes=usable_memory_bytes,
        power_modes=modes,
        default_mode=modes[0].name,
        provenance={},
        sha256="",
    )
    return Device(device_id, profile, modes)


def _mode(mode_id: int, step_s: float) -> PowerMode:
    return PowerMode(
        name=f"mode-{mode_id}",
        mode_id=mode_id,
        effective_flop_per_s={"fp32": math.inf, "amp": math.inf},
        memory_bytes_per_s=math.inf,
        step_overhead_s=step_s,
        idle_w=IDLE_W,
        compute_w=COMPUTE_W,
        transfer_w=TRANSFER_W,
    )
