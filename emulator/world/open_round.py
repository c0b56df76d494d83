"""A round under way: what it found when it was opened, and what has happened in it up to now."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from device_profiles.link_kinds.fluctuation import log_normal
from device_profiles.records import PowerMode
from emulator.records import Arrays, Job, RoundPlan, Update
from emulator.seeds import Seeds
from emulator.world.devices import Boards, Device
from emulator.world.ledger import ActivityLog, Ledger
from emulator.world.network.links import Links, Rates

Train = Callable[[Sequence[Job]], Sequence[Update]]
"""Trains jobs for real; updates come in the order of the jobs."""

CarriedBy = Callable[[int], Arrays]
"""What a device has kept of its own earlier rounds, by its id."""


def _nothing_carried(device_id: int) -> Arrays:
    return {}


@dataclass(frozen=True, slots=True)
class Conditions:
    """What a round finds: each device's power mode and link rates, drawn from the seeds.

    ``switched`` are the devices that have come into another mode with this round.
    """

    modes: Sequence[PowerMode]
    rates: Rates
    switched: frozenset[int] = frozenset()


def drawn_conditions(boards: Boards, links: Links, round_index: int, now_s: float) -> Conditions:
    """What a round finds that is opened at ``now_s``."""
    modes = boards.power_modes
    return Conditions(
        modes=[device.modes[index] for device, index in zip(boards.devices, modes.indices(round_index), strict=True)],
        rates=links.rates(round_index, now_s),
        switched=modes.switched(round_index) if boards.mode_switch_penalty_s else frozenset(),
    )


class Jitter:
    """Log-normal factors of mean 1 on the time of a round's computations, drawn for all devices at once."""

    def __init__(self, seeds: Seeds, round_index: int, fraction: float, n_devices: int) -> None:
        self._seeds, self._round_index, self._fraction, self._n_devices = seeds, round_index, fraction, n_devices
        self._factors: list[NDArray[np.float64]] = []

    def factor(self, device_id: int, n_computed: int) -> float:
        """That of a device which has computed ``n_computed`` pieces of work in this round already."""
        while len(self._factors) <= n_computed:
            rng = self._seeds.rng("compute_jitter", self._round_index, len(self._factors))
            self._factors.append(log_normal(self._fraction, rng.standard_normal(self._n_devices)))
        return float(self._factors[n_computed][device_id])


@dataclass(kw_only=True, slots=True, eq=False)
class OpenRound:
    """A round from its opening until it is closed; afterwards, a record of it.

    Attributes:
        round_index: from 0.
        start_s: emulated time at which it was opened.
        devices: the boards, by device id.
        conditions: what it found.
        jitter: how much faster or slower than its price a piece of work is.
        drop_shares: for devices that will drop out, the share of their work that they get done before.
        train: trains jobs; None in a round that trains nothing.
        carried_by: what devices bring to their jobs.
        ledgers: what each device has done, by device id.
        activities: all that is in the books.
        available: the devices that could be reached as it began, in ascending order.
        plan: what the server decided; until it has, nothing.
    """

    round_index: int
    start_s: float
    devices: tuple[Device, ...]
    conditions: Conditions
    jitter: Jitter
    drop_shares: Mapping[int, float]
    train: Train | None
    ledgers: list[Ledger]
    carried_by: CarriedBy = _nothing_carried
    activities: ActivityLog = field(default_factory=ActivityLog)
    available: tuple[int, ...] = ()
    plan: RoundPlan = field(default_factory=lambda: RoundPlan(assignments={}))
