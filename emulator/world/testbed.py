"""The emulated testbed: the devices, what they are asked to do, and what it costs them in time, bytes, joules, memory.

A protocol speaks to it in verbs (download, compute, upload, all_of, resolve). A policy sees it through :meth:`view` and
:class:`~emulator.records.RoundReport` only.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from emulator.compression.payloads import download_bytes, upload_bytes
from emulator.forms.base import AdapterForm
from emulator.records import (
    ActivityKind,
    Arrays,
    Assignment,
    ClusterView,
    Evaluation,
    Job,
    RoundPlan,
    RoundReport,
    Status,
    TrainingDefaults,
    Update,
    Work,
)
from emulator.seeds import Seeds
from emulator.shapes.spec import ModelSpec
from emulator.world.availability import Always, Availability, DropOuts
from emulator.world.battery import Battery
from emulator.world.bookkeeper import Bookkeeper
from emulator.world.clock import Clock, Event, Process
from emulator.world.computation import Computations, Fractions
from emulator.world.devices import Boards, DeviceLost
from emulator.world.heat import Heat
from emulator.world.ledger import Ledger, Ongoing, opened_ledgers
from emulator.world.network.links import Links
from emulator.world.network.network import Network
from emulator.world.network.shared_network import SharedCapacity
from emulator.world.network.transfers import Direction
from emulator.world.open_round import Jitter, OpenRound, Train, drawn_conditions
from emulator.world.presence import Presence
from emulator.world.unsent import Unsent


class Testbed:
    """Devices, clock and costs of one run.

    ``model`` has the priced shapes. ``facts`` gives for each of :data:`~emulator.world.devices.DEVICE_FACTS` its value
    per device. The server computes at ``server_flop_per_s`` where it has a part in local steps.

    Attributes:
        unsent: what devices have trained and not sent yet, where they keep that.
    """

    __test__ = False  # not a test class, whatever pytest makes of its name

    def __init__(
        self,
        boards: Boards,
        links: Links,
        model: ModelSpec,
        form: AdapterForm,
        training: TrainingDefaults,
        seeds: Seeds,
        *,
        facts: Mapping[str, Sequence[Any]],
        clock: Clock | None = None,
        availability: Availability | None = None,
        drop_outs: DropOuts | None = None,
        shared: SharedCapacity | None = None,
        server_flop_per_s: float = math.inf,
    ) -> None:
        self.devices = boards.devices
        self.model = model
        self.form = form
        self.unsent = Unsent(is_kept=training.compression.error_feedback)
        self.clock = clock or Clock()
        n_devices = len(boards.devices)
        self._boards = boards
        self._links = links
        self._training = training
        self._seeds = seeds
        self._facts = facts
        self._server_flop_per_s = server_flop_per_s
        heat = Heat(boards.thermal, n_devices) if boards.thermal else None
        self._network = Network(self.clock, links, shared)
        self._battery = availability if isinstance(availability, Battery) else None
        self._bookkeeper = Bookkeeper(self.clock, self._network, heat, self._battery)
        self._computations = Computations(self.clock, boards, heat, model, training)
        self._presence = Presence(self.clock, availability or Always(n_devices))
        self._drop_outs = drop_outs or DropOuts(n_devices, 0.0, seeds)
        self._ongoing: dict[int, Ongoing] = {}
        self._round: OpenRound | None = None
        self._opened_s = 0.0
        self._busy: Mapping[int, Ledger] = {}

    @property
    def round(self) -> OpenRound:
        """The round under way."""
        if self._round is None:
            raise RuntimeError("no round is open")
        return self._round

    @property
    def outside_known_range(self) -> Mapping[str, str]:
        """By device profile, the first setting that was asked for and that it is not known for."""
        return self._computations.pricing.outside_known_range

    def open_round(self, round_index: int, train: Train | None = None) -> OpenRound:
        """Begin a round, and wait in it until somebody can be reached. ``train`` trains its jobs; None trains nothing.

        Raises:
            UserError: no device can ever be reached again.
        """
        if self._round is not None:
            raise RuntimeError(f"round {self._round.round_index} is still open")
        devices = tuple(self.devices)
        self._round = OpenRound(
            round_index=round_index,
            start_s=self.clock.now_s,
            devices=devices,
            conditions=drawn_conditions(self._boards, self._links, round_index, self.clock.now_s, self._opened_s),
            jitter=Jitter(self._seeds, round_index, self._boards.jitter_fraction, len(devices)),
            drop_shares=self._drop_outs.shares(round_index),
            train=train,
            ledgers=opened_ledgers(self.clock.now_s, len(devices), self._busy),
        )
        self._opened_s = self.clock.now_s
        if self._battery:
            self._battery.begin_round(self._round.conditions.modes, self._ongoing)
            for device_id, ongoing in list(self._ongoing.items()):
                self._watch_battery(device_id, ongoing)
        self._round.available = self._await_devices(self._round)
        return self._round

    def view(self, state: Arrays, declares: frozenset[str]) -> ClusterView:
        """What a policy that ``declares`` these facts may see of the round under way."""
        opened, n_devices = self.round, len(self.devices)
        return ClusterView(
            round_index=opened.round_index,
            now_s=self.clock.now_s,
            model=self.model,
            state=state,
            training=self._training.in_round(opened.round_index),
            n_devices=n_devices,
            available=opened.available,
            declared={i: {fact: self._facts[fact][i] for fact in declares} for i in range(n_devices)}
            if declares
            else {},
            rng=self._seeds.rng("policy", opened.round_index),
        )

    def ask(self, plan: RoundPlan) -> None:
        """The server decides on ``plan`` for the round under way.

        That is what its devices are asked for, whatever becomes of them; one that is busy with what an earlier round
        asked of it finishes that first.
        """
        self.round.plan = plan
        for assignment in plan.assignments.values():
            if assignment.device_id not in self._ongoing:
                self.ask_device(assignment)

    def ask_device(self, assignment: Assignment) -> None:
        """The server asks a device for the work of ``assignment``, which it has not begun yet."""
        self.round.ledgers[assignment.device_id].work = self.form.work(assignment, self.model)

    def close_round(self, evaluation: Evaluation | None = None) -> RoundReport:
        """End the round now: whoever is not busy has waited until this moment.

        What a device is busy with goes on in the next round; this round has what was done of it so far.
        """
        opened = self.round
        for device_id, ongoing in self._ongoing.items():
            self._bookkeeper.enter(opened, device_id, ongoing, has_ended=False)
        report = self._bookkeeper.close(opened, evaluation)
        self._busy = {device_id: opened.ledgers[device_id] for device_id in self._ongoing}
        self._round = None
        return report

    @property
    def trains_at_once(self) -> bool:
        """Whether devices have trained when their computation ends, so that what follows on it can be merged then.

        Here they have not: jobs are trained when they are resolved, as many at a time as can be.
        """
        return False

    def hand_out(self, assignment: Assignment, state: Arrays, inner_round: int = 0) -> None:
        """The device's next download brings it this job, which it then computes; for live devices alone."""

    def download_bytes(self, assignment: Assignment) -> int:
        """What the payload of ``assignment`` takes on its way to the device, as it is encoded."""
        return download_bytes(self.form, assignment, self.model, self._training.compression)

    def upload_bytes(self, assignment: Assignment) -> int:
        """What its update takes on its way back."""
        return upload_bytes(self.form, assignment, self.model, self._training.compression)

    def download(self, device_id: int, n_bytes: int, *, begins_inner_round: bool = True) -> Event:
        """The server sends ``n_bytes`` to the device; happens when the last has arrived."""
        if not self._can_begin(device_id):
            return self.clock.failure(DeviceLost(device_id))
        self.round.ledgers[device_id].n_inner_rounds += begins_inner_round
        rate = float(self.round.conditions.rates.down_bytes_per_s[device_id])
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
        self.round.ledgers[device_id].work = work
        if not self._computations.fits(self.round, device_id, work):
            self.lose(device_id, Status.OUT_OF_MEMORY)
            return self.clock.failure(DeviceLost(device_id))
        parts = Fractions(forward_fraction, backward_fraction)
        ongoing, fails_s = self._computations.begin(self.round, device_id, work, parts)
        if fails_s is not None:
            failure = self.deadline(fails_s)
            failure.callbacks.append(lambda event: self._drop(device_id, ongoing))
        return self._begin(device_id, ongoing)

    def upload(self, device_id: int, n_bytes: int) -> Event:
        """The device sends ``n_bytes`` to the server; happens when the last has arrived."""
        if not self._can_begin(device_id):
            return self.clock.failure(DeviceLost(device_id))
        rate = float(self.round.conditions.rates.up_bytes_per_s[device_id])
        return self._transfer(device_id, ActivityKind.UPLOAD, n_bytes, rate)

    def serve(self, flop: float) -> Event:
        """The server computes; happens when it has finished."""
        return self.clock.timeout(flop / self._server_flop_per_s)

    def top_flop(self, whole: Work, bottom: Work) -> float:
        """FLOP that are left to the server in one step of ``whole`` where a device computes ``bottom``."""
        return self._computations.pricing.top_flop(whole, bottom)

    def lose(self, device_id: int, status: Status) -> None:
        """The device takes no further part in this round, for the reason that ``status`` gives.

        What it was doing ends now: seconds, bytes and joules up to now count, and whoever waits for it gets a
        :class:`~emulator.world.devices.DeviceLost`, as does whoever asks it for anything until the next round.
        """
        if not status.is_lost:
            reasons = ", ".join(sorted(reason for reason in Status if reason.is_lost))
            raise ValueError(f"a device is lost as one of {reasons}, got {status!r}")
        self.round.ledgers[device_id].status = status
        if ongoing := self._ongoing.pop(device_id, None):
            self._bookkeeper.enter(self.round, device_id, ongoing, has_ended=False)
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
        """Whether anything is trained in this round."""
        return self.round.train is not None

    def job(self, assignment: Assignment, state: Arrays, inner_round: int = 0) -> Job:
        """The training that a device owes after :meth:`compute`."""
        return Job(
            device_id=assignment.device_id,
            round_index=self.round.round_index,
            inner_round=inner_round,
            assignment=assignment,
            state=state,
            carried=self.round.carried_by(assignment.device_id) if self.resolves else {},
        )

    def resolve(self, jobs: Sequence[Job]) -> Sequence[Update]:
        """Train ``jobs`` for real, now; emulated time stands still. Updates come in the order of ``jobs``."""
        if not jobs or self.round.train is None:
            return []
        updates = self.unsent.train(self.round.train, jobs)
        for update in updates:
            ledger = self.round.ledgers[update.device_id]
            ledger.n_examples = update.n_examples
            ledger.metrics.update(update.metrics)
        return updates

    def _await_devices(self, opened: OpenRound) -> tuple[int, ...]:
        """The devices that can be reached; while there are none, emulated time goes by."""
        is_there = self._presence.await_somebody(opened.round_index)
        if self._battery:  # who went off and came back before the round began is in it
            for device_id in range(len(opened.ledgers)):
                if device_id not in self._ongoing:
                    self._bookkeeper.enter_wait(opened, device_id)
        for device_id, ledger in enumerate(opened.ledgers):
            if not is_there[device_id]:
                self.lose(device_id, Status.DROPPED if device_id in self._ongoing else Status.UNAVAILABLE)
            elif ledger.status.is_lost:  # it went after the round was opened, and came back before it began
                ledger.status = Status.IDLE
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
        ledger = self.round.ledgers[device_id]
        is_off = self._battery is not None and self._battery.went_off(device_id, self.clock.now_s)
        if not ledger.status.is_lost and (is_off or self._presence.has_gone(device_id)):
            self.lose(device_id, Status.DROPPED)
        return not ledger.status.is_lost

    def _begin(self, device_id: int, ongoing: Ongoing) -> Event:
        self.round.ledgers[device_id].status = Status.OK
        self._bookkeeper.enter_wait(self.round, device_id)
        self._ongoing[device_id] = ongoing
        ongoing.event.callbacks.append(lambda event: self._end(device_id, ongoing))
        self._presence.watch(device_id, lambda: self._drop(device_id))
        self._watch_battery(device_id, ongoing)
        return ongoing.event

    def _watch_battery(self, device_id: int, ongoing: Ongoing) -> None:
        """Lose the device when its battery is empty, if it still does the same then."""
        if self._battery is None or self._ongoing.get(device_id) is not ongoing:
            return
        watts, now_s = ongoing.drawn_w(self.round.conditions.modes[device_id]), self.clock.now_s
        again_s = now_s + self._battery.look_again_s
        off_s = self._battery.goes_off_s(device_id, watts, again_s)
        if off_s <= now_s:
            self._drop(device_id, ongoing)
        elif min(off_s, again_s) < ongoing.start_s + ongoing.duration_s:
            event = self.clock.deadline(min(off_s, again_s))
            event.callbacks.append(lambda event: self._watch_battery(device_id, ongoing))

    def _end(self, device_id: int, ongoing: Ongoing) -> None:
        if ongoing.event.error is None:
            del self._ongoing[device_id]
            self._bookkeeper.enter(self.round, device_id, ongoing, has_ended=True)

    def _drop(self, device_id: int, only: Ongoing | None = None) -> None:
        """The device is lost if it is busy: with ``only``, or else with anything."""
        busy_with = self._ongoing.get(device_id)
        if busy_with is not None and (only is None or only is busy_with):
            self.lose(device_id, Status.DROPPED)
