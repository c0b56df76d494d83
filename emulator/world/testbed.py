"""The emulated testbed: the devices, what they are asked to do, and what it costs them in time, bytes, joules, memory.

A protocol speaks to it in verbs (download, compute, upload, all_of, resolve). A policy sees it through :meth:`view` and
:class:`~emulator.records.RoundReport` only.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from device_profiles.records import DeviceProfile, PowerMode, Thermal
from emulator.clock import Clock, Event, Process
from emulator.forms.base import AdapterForm
from emulator.model_spec import ModelSpec
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
from emulator.world.cost import CostModel
from emulator.world.heat import Heat
from emulator.world.known_range import outside_known_range
from emulator.world.ledger import ActivityLog, Ledger
from emulator.world.links import Links, Rates, log_normal
from emulator.world.memory import peak_memory
from emulator.world.power import PowerModes

HARDWARE_FACTS = ("memory_bytes",)
"""Facts about devices that every run knows."""
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
    trains jobs for real; it is None in a run without training.
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
    ) -> None:
        self.devices = tuple(devices)
        self.model = model
        self.form = form
        self.clock = clock or Clock()
        self._links = links
        self._power_modes = power_modes
        self._jitter_fraction = jitter_fraction
        self._training = training
        self._precision = precision
        self._mode_switch_penalty_s = mode_switch_penalty_s
        self._heat = Heat(thermal, len(self.devices)) if thermal else None
        self._seeds = seeds
        self._facts = facts
        self.resolver: Resolver | None = None
        self._costs = CostModel(model, precision)
        self._memory_bytes: dict[Work, int] = {}
        self._in_known_range: dict[str, set[Work]] = {}
        self.outside_known_range: dict[str, str] = {}  # by device profile, the first setting that it is not known for

    def view(self, round_index: int, state: Arrays, declares: frozenset[str]) -> ClusterView:
        """Open a round and show the policy what it may see of it."""
        self.round_index = round_index
        self.start_s = self.clock.now_s
        self.activities = ActivityLog()
        self.conditions = self._draw_conditions(round_index)
        self.ledgers = [Ledger(busy_until_s=self.start_s) for _ in self.devices]
        self._speed_factors: list[NDArray[np.float64]] = []
        n_devices = len(self.devices)
        return ClusterView(
            round_index=round_index,
            now_s=self.clock.now_s,
            model=self.model,
            state=state,
            training=self._training,
            n_devices=n_devices,
            available=tuple(range(n_devices)),
            declared={i: {fact: self._facts[fact][i] for fact in declares} for i in range(n_devices)}
            if declares
            else {},
            rng=self._seeds.rng("policy", round_index),
        )

    def download(self, device_id: int, n_bytes: int) -> Event:
        """The server sends ``n_bytes`` to the device; happens when the last has arrived."""
        ledger = self._begin(device_id)
        ledger.n_inner_rounds += 1
        duration_s = float(self._links.latency_s[device_id]) + n_bytes / float(
            self.conditions.rates.down_bytes_per_s[device_id]
        )
        ledger.download_s += duration_s
        ledger.download_bytes += n_bytes
        self._spend(device_id, ActivityKind.DOWNLOAD, duration_s, n_bytes)
        return self.clock.timeout(duration_s)

    def compute(self, device_id: int, work: Work) -> Event:
        """The device computes ``work``; happens when it has finished. Fails where the work does not fit in memory."""
        ledger = self._begin(device_id)
        ledger.work = work
        ledger.peak_memory_bytes = max(ledger.peak_memory_bytes, self._peak_memory_bytes(work))
        if ledger.peak_memory_bytes > self.devices[device_id].profile.usable_memory_bytes:
            ledger.status = Status.OUT_OF_MEMORY
            return self.clock.failure(DeviceLost(device_id))
        self._note_range(device_id, work)
        mode = self.conditions.modes[device_id]
        cost = self._costs.price(work, mode)
        factor = self._speed_factor(device_id, ledger.n_computes)
        is_first = ledger.n_computes == 0 and device_id in self.conditions.switched
        switch_s = self._mode_switch_penalty_s if is_first else 0.0
        duration_s = switch_s + (cost.forward_s + cost.backward_s) * factor
        if self._heat and duration_s > 0:
            slowdown = self._heat.throttled_s(device_id, mode.compute_w, duration_s) / duration_s
            factor, switch_s, duration_s = factor * slowdown, switch_s * slowdown, duration_s * slowdown
        ledger.n_computes += 1
        ledger.forward_s += switch_s + cost.forward_s * factor
        ledger.backward_s += cost.backward_s * factor
        ledger.work_flop += cost.forward_flop + cost.backward_flop
        self._spend(device_id, ActivityKind.COMPUTE, duration_s, 0)
        return self.clock.timeout(duration_s)

    def upload(self, device_id: int, n_bytes: int) -> Event:
        """The device sends ``n_bytes`` to the server; happens when the last has arrived."""
        ledger = self._begin(device_id)
        duration_s = float(self._links.latency_s[device_id]) + n_bytes / float(
            self.conditions.rates.up_bytes_per_s[device_id]
        )
        ledger.upload_s += duration_s
        ledger.upload_bytes += n_bytes
        self._spend(device_id, ActivityKind.UPLOAD, duration_s, n_bytes)
        return self.clock.timeout(duration_s)

    def all_of(self, events: Iterable[Event]) -> Event:
        """Happens with the last of ``events``."""
        return self.clock.all_of(events)

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
        """End the round now: whoever is not busy has waited until this moment."""
        end_s = self.clock.now_s
        reports = {}
        for device_id, ledger in enumerate(self.ledgers):
            self._wait_until(device_id, ledger, end_s)
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
        return Conditions(modes, self._links.rates(round_index), switched)

    def _speed_factor(self, device_id: int, n_computes: int) -> float:
        """Log-normal jitter of mean 1 on a device's compute time, drawn for all devices at once."""
        while len(self._speed_factors) <= n_computes:
            rng = self._seeds.rng("compute_jitter", self.round_index, len(self._speed_factors))
            self._speed_factors.append(log_normal(self._jitter_fraction, rng.standard_normal(len(self.devices))))
        return float(self._speed_factors[n_computes][device_id])

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
            self._memory_bytes[work] = peak_memory(self.model, work, self._precision).total_bytes
        return self._memory_bytes[work]

    def _begin(self, device_id: int) -> Ledger:
        ledger = self.ledgers[device_id]
        ledger.status = Status.OK
        self._wait_until(device_id, ledger, self.clock.now_s)
        return ledger

    def _wait_until(self, device_id: int, ledger: Ledger, now_s: float) -> None:
        if now_s > ledger.busy_until_s:
            ledger.waiting_s += now_s - ledger.busy_until_s
            self._log(device_id, ledger, ActivityKind.WAIT, now_s, 0)

    def _spend(self, device_id: int, kind: ActivityKind, duration_s: float, n_bytes: int) -> None:
        self._log(device_id, self.ledgers[device_id], kind, self.clock.now_s + duration_s, n_bytes)

    def _log(self, device_id: int, ledger: Ledger, kind: ActivityKind, end_s: float, n_bytes: int) -> None:
        mode = self.conditions.modes[device_id]
        watts = {ActivityKind.WAIT: mode.idle_w, ActivityKind.COMPUTE: mode.compute_w}.get(kind, mode.transfer_w)
        if self._heat:
            self._heat.advance(device_id, watts, end_s - ledger.busy_until_s)
        inner_round = max(0, ledger.n_inner_rounds - 1)
        ledger.energy_j += self.activities.add(device_id, inner_round, kind, ledger.busy_until_s, end_s, n_bytes, watts)
        ledger.busy_until_s = end_s
