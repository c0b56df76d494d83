"""The emulated testbed: the devices, what they are asked to do, and what it costs them in time, bytes, joules, memory.

A protocol speaks to it in verbs (download, compute, upload, all_of, resolve). A policy sees it through :meth:`view` and
:class:`~emulator.records.RoundReport` only.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from device_profiles.link_kinds.fluctuation import log_normal
from device_profiles.records import DeviceProfile, PowerMode, Thermal
from emulator.forms.base import AdapterForm
from emulator.records import (
    ActivityKind,
    Arrays,
    Assignment,
    ClusterView,
    DeviceReport,
    Evaluation,
    Job,
    RoundReport,
    Status,
    TrainingDefaults,
    Update,
    Work,
)
from emulator.seeds import Seeds
from emulator.shapes.spec import ModelSpec
from emulator.world.availability import Always, Availability, DropOuts
from emulator.world.clock import Clock, Event, Process
from emulator.world.heat import Heat
from emulator.world.ledger import ActivityLog, Ledger, Ongoing
from emulator.world.network.links import Links, Rates
from emulator.world.network.network import Network
from emulator.world.network.shared_network import SharedCapacity
from emulator.world.network.transfers import Direction
from emulator.world.power_modes import PowerModes
from emulator.world.presence import Presence
from emulator.world.price.cost import CostModel, backward_flop, forward_flop
from emulator.world.price.known_range import outside_known_range
from emulator.world.price.memory import peak_memory

HARDWARE_FACTS = ("memory_bytes",)
"""Facts about devices that every run knows."""
DEVICE_FACTS = (*HARDWARE_FACTS, "label_histogram", "n_examples")
"""What a policy may declare that it needs to know of devices; the last two come with the data, in runs that train."""


LOST = frozenset({Status.DROPPED, Status.OUT_OF_MEMORY, Status.LATE, Status.UNAVAILABLE})
"""What ends a device's part in a round."""

ROUNDING = 1e-9
"""Fractions of a piece of work that add up to less than one by no more than this are the whole of it."""


class DeviceLost(Exception):
    """Raised in a protocol when a device cannot go on in this round; the testbed has noted why."""


@dataclass(frozen=True, slots=True)
class Device:
    """One emulated board: its profile and the power modes that this cluster lets it be in."""

    device_id: int
    profile: DeviceProfile
    modes: tuple[PowerMode, ...]


@dataclass(frozen=True, slots=True)
class Conditions:
    """What a round finds: each device's power mode, link rates and speed, drawn from the seeds.

    ``switched`` are the devices that have come into another mode with this round.
    """

    modes: Sequence[PowerMode]
    rates: Rates
    switched: frozenset[int] = frozenset()


Resolver = Callable[[Sequence[Job]], Sequence[Update]]


class Testbed:
    """Devices, clock and costs of one run.

    ``model`` has the priced shapes. ``facts`` gives for each of :data:`DEVICE_FACTS` its value per device. ``resolver``
    trains jobs for real; it is None in a run without training. The server computes at ``server_flop_per_s`` where it
    has a part in local steps.
    """

    __test__ = False  # not a test class, whatever pytest makes of its name

    def __init__(
        self,
        devices: Sequence[Device],
        links: Links,
        power_modes: PowerModes,
        jitter_fraction: float,
        model: ModelSpec,
        form: AdapterForm,
        training: TrainingDefaults,
        precision: str,
        seeds: Seeds,
        facts: Mapping[str, Sequence[Any]],
        clock: Clock | None = None,
        mode_switch_penalty_s: float = 0.0,
        thermal: Thermal | None = None,
        availability: Availability | None = None,
        drop_outs: DropOuts | None = None,
        shared: SharedCapacity | None = None,
        server_flop_per_s: float = math.inf,
    ) -> None:
        self.devices = tuple(devices)
        self.model = model
        self.form = form
        self.clock = clock or Clock()
        self._links = links
        self._network = Network(self.clock, links, shared)
        self._power_modes = power_modes
        self._jitter_fraction = jitter_fraction
        self._training = training
        self._precision = precision
        self._mode_switch_penalty_s = mode_switch_penalty_s
        self._heat = Heat(thermal, len(self.devices)) if thermal else None
        self._seeds = seeds
        self._facts = facts
        self._server_flop_per_s = server_flop_per_s
        self.resolver: Resolver | None = None
        self._costs = CostModel(model, precision)
        self._memory_bytes: dict[Work, int] = {}
        self._in_known_range: dict[str, set[Work]] = {}
        self.outside_known_range: dict[str, str] = {}  # by device profile, the first setting that it is not known for
        self._presence = Presence(self.clock, availability or Always(len(self.devices)))
        self._drop_outs = drop_outs or DropOuts(len(self.devices), 0.0, seeds)
        self._ongoing: dict[int, Ongoing] = {}
        self.ledgers: list[Ledger] = []

    def view(self, round_index: int, state: Arrays, declares: frozenset[str]) -> ClusterView:
        """Open a round, wait in it until somebody can be reached, and show the policy what it may see of it.

        Raises:
            UserError: no device can ever be reached again.
        """
        self.round_index = round_index
        self.start_s = self.clock.now_s
        self.activities = ActivityLog()
        self.conditions = self._draw_conditions(round_index)
        self.ledgers = self._open_ledgers()
        self._speed_factors: list[NDArray[np.float64]] = []
        self._drop_shares = self._drop_outs.shares(round_index)
        available, n_devices = self._await_devices(), len(self.devices)
        return ClusterView(
            round_index=round_index,
            now_s=self.clock.now_s,
            model=self.model,
            state=state,
            training=self._training,
            n_devices=n_devices,
            available=available,
            declared={i: {fact: self._facts[fact][i] for fact in declares} for i in range(n_devices)}
            if declares
            else {},
            rng=self._seeds.rng("policy", round_index),
        )

    def download(self, device_id: int, n_bytes: int, *, begins_inner_round: bool = True) -> Event:
        """The server sends ``n_bytes`` to the device; happens when the last has arrived."""
        if not self._can_begin(device_id):
            return self.clock.failure(DeviceLost(device_id))
        self.ledgers[device_id].n_inner_rounds += begins_inner_round
        rate = float(self.conditions.rates.down_bytes_per_s[device_id])
        return self._transfer(device_id, ActivityKind.DOWNLOAD, n_bytes, rate)

    def compute(
        self, device_id: int, work: Work, *, forward_fraction: float = 1.0, backward_fraction: float = 1.0
    ) -> Event:
        """The device computes ``work``; happens when it has finished. Fails where the work does not fit in memory.

        Where it waits for others in between, a call asks for a fraction of the forward and of the backward passes; all
        fractions of a piece of work go equally fast, and a device that fails does so somewhere in the whole.
        """
        if not self._can_begin(device_id):
            return self.clock.failure(DeviceLost(device_id))
        ledger = self.ledgers[device_id]
        ledger.work = work
        ledger.peak_memory_bytes = max(ledger.peak_memory_bytes, self._peak_memory_bytes(work))
        if ledger.peak_memory_bytes > self.devices[device_id].profile.usable_memory_bytes:
            self.lose(device_id, Status.OUT_OF_MEMORY)
            return self.clock.failure(DeviceLost(device_id))
        self._note_range(device_id, work)
        mode = self.conditions.modes[device_id]
        cost = self._costs.price(work, mode)
        whole_s, before = cost.forward_s + cost.backward_s, ledger.computed_share
        forward_s, backward_s = cost.forward_s * forward_fraction, cost.backward_s * backward_fraction
        share = (forward_s + backward_s) / whole_s if whole_s > 0 else (forward_fraction + backward_fraction) / 2
        ledger.computed_share += share
        factor = self._speed_factor(device_id, math.floor(before + ROUNDING))
        is_first = before == 0 and device_id in self.conditions.switched
        switch_s = self._mode_switch_penalty_s if is_first else 0.0
        duration_s = switch_s + (forward_s + backward_s) * factor
        if self._heat and duration_s > 0:
            slowdown = self._heat.throttled_s(device_id, mode.compute_w, duration_s) / duration_s
            factor, switch_s, duration_s = factor * slowdown, switch_s * slowdown, duration_s * slowdown
        ongoing = Ongoing(
            kind=ActivityKind.COMPUTE,
            start_s=self.clock.now_s,
            duration_s=duration_s,
            event=self.clock.timeout(duration_s),
            forward_s=switch_s + forward_s * factor,
            backward_s=backward_s * factor,
            work_flop=cost.forward_flop * forward_fraction + cost.backward_flop * backward_fraction,
        )
        drop_share = self._drop_shares.get(device_id)
        if drop_share is not None and before <= drop_share < before + share:
            failure = self.clock.deadline(self.clock.now_s + (drop_share - before) / share * duration_s)
            failure.callbacks.append(lambda event: self._drop(device_id, ongoing))
        return self._begin(device_id, ongoing)

    def upload(self, device_id: int, n_bytes: int) -> Event:
        """The device sends ``n_bytes`` to the server; happens when the last has arrived."""
        if not self._can_begin(device_id):
            return self.clock.failure(DeviceLost(device_id))
        rate = float(self.conditions.rates.up_bytes_per_s[device_id])
        return self._transfer(device_id, ActivityKind.UPLOAD, n_bytes, rate)

    def serve(self, flop: float) -> Event:
        """The server computes; happens when it has finished."""
        return self.clock.timeout(flop / self._server_flop_per_s)

    def top_flop(self, whole: Work, bottom: Work) -> float:
        """FLOP that are left to the server in one step of ``whole`` where a device computes ``bottom``."""
        forward = forward_flop(self.model, whole) - forward_flop(self.model, bottom)
        return forward + backward_flop(self.model, whole) - backward_flop(self.model, bottom)

    def lose(self, device_id: int, status: Status) -> None:
        """The device takes no further part in this round, for the reason that ``status`` gives.

        What it was doing ends now: seconds, bytes and joules up to now count, and whoever waits for it gets a
        :class:`DeviceLost`, as does whoever asks it for anything until the next round.
        """
        if status not in LOST:
            raise ValueError(f"a device is lost as one of {', '.join(sorted(LOST))}, got {status!r}")
        ledger = self.ledgers[device_id]
        ledger.status, ledger.is_lost = status, True
        if ongoing := self._ongoing.pop(device_id, None):
            self._book(device_id, ongoing, has_ended=False)
            if ongoing.transfer is not None:
                self._network.stop(ongoing.transfer)
            self.clock.fail(ongoing.event, DeviceLost(device_id))

    def all_of(self, events: Iterable[Event]) -> Event:
        """Happens with the last of ``events``."""
        return self.clock.all_of(events)

    def deadline(self, delay_s: float) -> Event:
        """Happens ``delay_s`` from now, after all else that happens at that time."""
        return self.clock.deadline(self.clock.now_s + delay_s)

    def process(self, generator: Process[Any]) -> Event:
        """Let ``generator`` run beside the caller; happens when it returns."""
        return self.clock.process(generator)

    @property
    def resolves(self) -> bool:
        """Whether this run trains at all."""
        return self.resolver is not None

    def job(self, assignment: Assignment, state: Arrays, inner_round: int = 0) -> Job:
        """The training that a device owes after :meth:`compute`."""
        return Job(
            device_id=assignment.device_id,
            round_index=self.round_index,
            inner_round=inner_round,
            assignment=assignment,
            state=state,
        )

    def resolve(self, jobs: Sequence[Job]) -> Sequence[Update]:
        """Train ``jobs`` for real, now; emulated time stands still. Updates come in the order of ``jobs``."""
        if not jobs or self.resolver is None:
            return []
        updates = self.resolver(jobs)
        for update in updates:
            ledger = self.ledgers[update.device_id]
            ledger.n_examples = update.n_examples
            ledger.metrics.update(update.metrics)
        return updates

    def close_round(self, evaluation: Evaluation | None = None) -> RoundReport:
        """End the round now: whoever is not busy has waited until this moment.

        What a device is busy with goes on in the next round; this round has what was done of it so far.
        """
        end_s = self.clock.now_s
        for device_id, ongoing in self._ongoing.items():
            self._book(device_id, ongoing, has_ended=False)
        reports = {}
        for device_id, ledger in enumerate(self.ledgers):
            self._wait_until(device_id, ledger, end_s)
            if end_s == self.start_s:  # in a round of no length, each device has an activity of no length
                self._log(device_id, ledger, ActivityKind.WAIT, end_s, 0)
            reports[device_id] = DeviceReport(
                device_id=device_id,
                status=ledger.status,
                n_steps=ledger.work.n_steps if ledger.work else 0,
                batch_size=ledger.work.batch_size if ledger.work else 0,
                download_s=ledger.download_s,
                forward_s=ledger.forward_s,
                backward_s=ledger.backward_s,
                upload_s=ledger.upload_s,
                waiting_s=ledger.waiting_s,
                download_bytes=ledger.download_bytes,
                upload_bytes=ledger.upload_bytes,
                n_examples=ledger.n_examples,
                metrics=ledger.metrics,
            )
        return RoundReport(
            round_index=self.round_index, start_s=self.start_s, end_s=end_s, devices=reports, evaluation=evaluation
        )

    def _draw_conditions(self, round_index: int) -> Conditions:
        indices = self._power_modes.indices(round_index)
        modes = [device.modes[index] for device, index in zip(self.devices, indices, strict=True)]
        switched = self._power_modes.switched(round_index) if self._mode_switch_penalty_s else frozenset()
        return Conditions(modes, self._links.rates(round_index, self.clock.now_s), switched)

    def _speed_factor(self, device_id: int, n_computed: int) -> float:
        """Log-normal jitter of mean 1 on a device's compute time, drawn for all devices at once."""
        while len(self._speed_factors) <= n_computed:
            rng = self._seeds.rng("compute_jitter", self.round_index, len(self._speed_factors))
            self._speed_factors.append(log_normal(self._jitter_fraction, rng.standard_normal(len(self.devices))))
        return float(self._speed_factors[n_computed][device_id])

    def _note_range(self, device_id: int, work: Work) -> None:
        profile = self.devices[device_id].profile
        if profile.name in self.outside_known_range:
            return
        checked = self._in_known_range.setdefault(profile.name, set())
        if work not in checked:
            checked.add(work)
            if setting := outside_known_range(profile, self.model, work, self._precision):
                self.outside_known_range[profile.name] = setting

    def _peak_memory_bytes(self, work: Work) -> int:
        if work not in self._memory_bytes:
            use = peak_memory(self.model, work, self._precision, dropout=self._training.dropout)
            self._memory_bytes[work] = use.total_bytes
        return self._memory_bytes[work]

    def _open_ledgers(self) -> list[Ledger]:
        """Empty ledgers; a device that is still busy brings along what it was asked for."""
        last, ledgers = self.ledgers, [Ledger(busy_until_s=self.start_s) for _ in self.devices]
        for device_id in self._ongoing:
            ledgers[device_id].status = Status.OK
            ledgers[device_id].work = last[device_id].work
            ledgers[device_id].peak_memory_bytes = last[device_id].peak_memory_bytes
        return ledgers

    def _await_devices(self) -> tuple[int, ...]:
        """The devices that can be reached; while there are none, emulated time goes by."""
        is_there = self._presence.await_somebody(self.round_index)
        for device_id, ledger in enumerate(self.ledgers):
            if not is_there[device_id]:
                self.lose(device_id, Status.DROPPED if device_id in self._ongoing else Status.UNAVAILABLE)
            elif ledger.is_lost:  # it went after the round was opened, and came back before it began
                ledger.status, ledger.is_lost = Status.IDLE, False
        return tuple(np.flatnonzero(is_there).tolist())

    def _transfer(self, device_id: int, kind: ActivityKind, n_bytes: int, bytes_per_s: float) -> Event:
        direction = Direction.UP if kind is ActivityKind.UPLOAD else Direction.DOWN
        transfer = self._network.start(device_id, direction, n_bytes, bytes_per_s)
        ongoing = Ongoing(
            kind=kind,
            start_s=self.clock.now_s,
            duration_s=transfer.duration_s,
            event=transfer.event,
            transfer=transfer,
        )
        return self._begin(device_id, ongoing)

    def _can_begin(self, device_id: int) -> bool:
        """Whether the device is still in the round; it may have become unreachable while it had nothing to do."""
        if device_id in self._ongoing:
            raise RuntimeError(f"device {device_id} has not finished its {self._ongoing[device_id].kind}")
        ledger = self.ledgers[device_id]
        if not ledger.is_lost and self._presence.has_gone(device_id):
            self.lose(device_id, Status.DROPPED)
        return not ledger.is_lost

    def _begin(self, device_id: int, ongoing: Ongoing) -> Event:
        ledger = self.ledgers[device_id]
        ledger.status = Status.OK
        self._wait_until(device_id, ledger, self.clock.now_s)
        self._ongoing[device_id] = ongoing
        ongoing.event.callbacks.append(lambda event: self._end(device_id, ongoing))
        self._presence.watch(device_id, lambda: self._drop(device_id))
        return ongoing.event

    def _end(self, device_id: int, ongoing: Ongoing) -> None:
        if ongoing.event.error is None:
            del self._ongoing[device_id]
            self._book(device_id, ongoing, has_ended=True)

    def _drop(self, device_id: int, only: Ongoing | None = None) -> None:
        """The device is lost if it is busy: with ``only``, or else with anything."""
        busy_with = self._ongoing.get(device_id)
        if busy_with is not None and (only is None or only is busy_with):
            self.lose(device_id, Status.DROPPED)

    def _book(self, device_id: int, ongoing: Ongoing, has_ended: bool) -> None:
        ledger, now_s = self.ledgers[device_id], self.clock.now_s
        arrived_bytes = 0
        if ongoing.transfer is not None:
            ongoing.duration_s = ongoing.transfer.duration_s
            arrived_bytes = self._network.arrived_bytes(ongoing.transfer)
        spent_s, share, n_bytes = ongoing.book(now_s, has_ended, arrived_bytes)
        ledger.add(ongoing, spent_s, share, n_bytes)
        if spent_s > 0 or share > 0:
            self._log(device_id, ledger, ongoing.kind, now_s, n_bytes)

    def _wait_until(self, device_id: int, ledger: Ledger, now_s: float) -> None:
        if now_s > ledger.busy_until_s:
            ledger.waiting_s += now_s - ledger.busy_until_s
            self._log(device_id, ledger, ActivityKind.WAIT, now_s, 0)

    def _log(self, device_id: int, ledger: Ledger, kind: ActivityKind, end_s: float, n_bytes: int) -> None:
        mode = self.conditions.modes[device_id]
        if kind is ActivityKind.WAIT:
            watts = mode.idle_w
        else:
            watts = mode.compute_w if kind is ActivityKind.COMPUTE else mode.transfer_w
        if self._heat:
            self._heat.advance(device_id, watts, end_s - ledger.busy_until_s)
        inner_round = max(0, ledger.n_inner_rounds - 1)
        ledger.energy_j += self.activities.add(device_id, inner_round, kind, ledger.busy_until_s, end_s, n_bytes, watts)
        ledger.busy_until_s = end_s
