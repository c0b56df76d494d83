"""A testbed whose devices are live: what it is asked for is really done, and takes as long as that takes.

The emulated world is the law: how long a computation should take follows from its price, and how fast a payload may
flow from its link and what that shares. Devices keep to the law as throttles do, and what is booked is what was
measured. Energy, memory, availability and drop-outs are emulated as ever, over measured time.
"""

import math
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

from emulator.forms.cut import CutForm
from emulator.records import (
    ActivityKind,
    Arrays,
    Assignment,
    Evaluation,
    Job,
    JobKey,
    RoundReport,
    Status,
    Update,
    Work,
)
from emulator.running.live.bucket import TokenBucket
from emulator.running.live.clock import LiveClock
from emulator.running.live.devices import Computed, LiveDevices, Piece, Steps, TrainingOrder
from emulator.running.live.pace import DeviceDied, Done, Pace
from emulator.running.live.payloads import packed, part_of, unpacked
from emulator.running.live.watching import DeviceActivity
from emulator.world.clock import Event, Process
from emulator.world.ledger import Ongoing
from emulator.world.testbed import Testbed

PIECE_BYTES = 64 * 1024
MOST_PIECES = 32
"""A payload travels in pieces of so many bytes, or in so many pieces."""
POLL_S = 0.004
"""How often a sender looks for tokens, in seconds of the wall."""


BOTTOM_TASK = "emulator.learning.tasks.cut:compute_bottom"
"""What a device computes of a model that is cut."""


class LiveTestbed(Testbed):
    """Devices of a run that goes on on the wall. ``clock`` must be a :class:`LiveClock`."""

    clock: LiveClock

    def __init__(self, *args: Any, live: LiveDevices, task: str, **keywords: Any) -> None:
        """``live`` do what is asked, by the ``task`` of the policy; the rest is as for any testbed."""
        super().__init__(*args, **keywords)
        # Where the model is cut, a device has the bottom alone, and the server trains both when a round is resolved.
        self._is_cut = isinstance(self.form, CutForm)
        self._live, self._task = live, BOTTOM_TASK if self._is_cut else task
        self._worst_late = 0.0
        self._warm: set[int] = set()
        self._handed_out: dict[int, Job] = {}
        self._to_bring: dict[int, Job] = {}
        self._shares: dict[int, float] = {}
        self._has_update: set[int] = set()
        self._updates: dict[JobKey, Update] = {}
        self._n_payloads = 0
        self._poll_s = POLL_S * self.clock.speed
        self.clock.on_hold = self._hold
        self.clock.on_go = self._go_on

    @property
    def trains_at_once(self) -> bool:
        return True

    def hand_out(self, assignment: Assignment, state: Arrays, inner_round: int = 0) -> None:
        job = self.unsent.given(self.job(assignment, state, inner_round))
        self._has_update.discard(job.device_id)
        self._handed_out[job.device_id] = self._to_bring[job.device_id] = job
        if job.device_id not in self._warm:
            self.clock.hold()
            self._live.warm_up(job.device_id, self._order(job))
            self._warm.add(job.device_id)

    def compute(
        self, device_id: int, work: Work, *, forward_fraction: float = 1.0, backward_fraction: float = 1.0
    ) -> Event:
        self._shares[device_id] = forward_fraction
        return super().compute(device_id, work, forward_fraction=forward_fraction, backward_fraction=backward_fraction)

    def lose(self, device_id: int, status: Status) -> None:
        was_busy = device_id in self._ongoing
        super().lose(device_id, status)
        if was_busy:
            self._live.stop(device_id)

    def resolve(self, jobs: Sequence[Job]) -> Sequence[Update]:
        """The updates that the devices have sent; what no device can train alone is trained by the server now."""
        self.clock.hold()
        others = {
            update.key: update for update in super().resolve([job for job in jobs if job.key not in self._updates])
        }
        updates = [others.get(job.key) or self._updates.pop(job.key) for job in jobs if self.resolves]
        for update in updates:
            ledger = self.round.ledgers[update.device_id]
            ledger.n_examples = update.n_examples
            ledger.metrics.update(update.metrics)
        return updates

    def close_round(self, evaluation: Evaluation | None = None) -> RoundReport:
        lags, worst = self._live.lags, self._live.lags.worst_fraction()
        if worst > 2 * self._worst_late:
            self._worst_late = worst
            self.clock.on_late(lags.complaint(self.round.round_index))
        return super().close_round(evaluation)

    def _begin(self, device_id: int, ongoing: Ongoing) -> Event:
        law, ongoing.event, ongoing.is_live = ongoing.event, Event(), True
        event = super()._begin(device_id, ongoing)
        self._tell(device_id, ongoing)
        if ongoing.kind is ActivityKind.COMPUTE:
            self.clock.cancel(law)
            self.process(self._watched(device_id, ongoing, self._computing(device_id, ongoing)))
        else:
            self.process(self._watched(device_id, ongoing, self._carrying(device_id, ongoing, law)))
        return event

    def _watched(self, device_id: int, ongoing: Ongoing, activity: Process[float]) -> Process[None]:
        """Let an activity go on to its end; a device whose process dies on the way drops out of the round."""
        try:
            real_s = yield from activity
        except DeviceDied:
            self._live.restart(device_id)
            self._warm.discard(device_id)
            if self._is_under_way(device_id, ongoing):
                self.lose(device_id, Status.DROPPED)
            return
        if self._is_under_way(device_id, ongoing):
            due_s = ongoing.duration_s
            ongoing.ends_live(self.clock.now_s)
            self._live.lags.note(device_id, ongoing.kind, min(due_s, ongoing.duration_s), ongoing.duration_s, real_s)
            self.clock.succeed(ongoing.event)

    def _end(self, device_id: int, ongoing: Ongoing) -> None:
        super()._end(device_id, ongoing)
        self._tell(device_id, None)

    def _tell(self, device_id: int, ongoing: Ongoing | None) -> None:
        noted = self._live.lags.of_round.get(device_id)
        self._live.on_activity(
            DeviceActivity(
                device_id=device_id,
                board=self.devices[device_id].profile.name,
                round_index=self.round.round_index,
                kind=ongoing.kind if ongoing else None,
                due_s=ongoing.duration_s / self.clock.speed if ongoing else 0.0,
                wall_s=self.clock.pace.wall_at(self.clock.now_s),
                status=self.round.ledgers[device_id].status,
                lag_s=noted.lag_s if noted else 0.0,
            )
        )

    def _order(self, job: Job) -> TrainingOrder:
        return TrainingOrder(task=self._task, form=self.form, job=job)

    def _is_under_way(self, device_id: int, ongoing: Ongoing) -> bool:
        return self._ongoing.get(device_id) is ongoing

    def _computing(self, device_id: int, ongoing: Ongoing) -> Process[float]:
        """The device computes; gives the seconds of the wall in which it really did."""
        share, job = self._shares[device_id], self._handed_out.get(device_id)
        n_steps = round(share * job.assignment.n_steps) if job else 0
        steps = Steps(
            n_steps=n_steps,
            start_s=ongoing.start_s,
            duration_s=ongoing.duration_s,
            is_whole=job is not None and share == 1.0 and not self._is_cut,
            pace=self.clock.pace,
        )
        computed: Computed | None = yield self.clock.expect(self._live.compute(device_id, steps))
        if computed is None:
            return 0.0
        if computed.has_update:
            self._has_update.add(device_id)
        return computed.real_s

    def _carrying(self, device_id: int, ongoing: Ongoing, law: Event) -> Process[float]:
        """A payload goes piece by piece as its link lets it, and has arrived when the link would have carried it."""
        transfer, began_s = ongoing.transfer, self.clock.now_s
        assert transfer is not None
        law_ends: list[float] = []
        law.callbacks.append(lambda event: law_ends.append(self.clock.now_s))
        send = self._pieces_of(device_id, ongoing.kind, transfer.n_bytes)
        piece_bytes = transfer.n_bytes / n_pieces(transfer.n_bytes)
        bucket, arrivals = TokenBucket(burst_bytes=piece_bytes), []
        for index in range(n_pieces(transfer.n_bytes)):
            while not bucket.take(piece_bytes, self._network.arrived_bytes(transfer)):
                yield self.clock.timeout(self._poll_s)
                if not self._is_under_way(device_id, ongoing):
                    return 0.0
            arrivals.append(self.clock.expect(send(index)))
        arrived = yield self.clock.all_of(arrivals)
        if not law_ends:
            yield law
        ongoing.duration_s = law_ends[0] - began_s
        if ongoing.kind is ActivityKind.UPLOAD and device_id in self._has_update:
            self._has_update.discard(device_id)
            update: Update = unpacked(piece.content for piece in arrived)
            self._updates[update.key] = self.unsent.taken(update)
        return 0.0

    def _pieces_of(self, device_id: int, kind: ActivityKind, n_bytes: int) -> Callable[[int], Future[Done[Any]]]:
        """What sends the pieces of a payload by their numbers."""
        number, self._n_payloads = n_pieces(n_bytes), self._n_payloads + 1
        piece_bytes = math.ceil(n_bytes / number)
        if kind is ActivityKind.UPLOAD:
            return lambda index: self._live.send(device_id, index, number, piece_bytes)
        job, payload = self._to_bring.pop(device_id, None), self._n_payloads
        content = packed(self._order(job)) if job else b""

        def send(index: int) -> Future[Done[Any]]:
            own = part_of(content, index, number)
            return self._live.receive(
                device_id,
                Piece(
                    payload=payload,
                    index=index,
                    n_pieces=number,
                    content_bytes=len(own),
                    data=own + bytes(max(0, piece_bytes - len(own))),
                ),
            )

        return send

    def _hold(self) -> None:
        for device_id in self._at_work():
            self._live.hold(device_id)

    def _go_on(self, pace: Pace) -> None:
        for device_id in self._at_work():
            self._live.go_on(device_id, pace)

    def _at_work(self) -> list[int]:
        return [device_id for device_id, busy in self._ongoing.items() if busy.kind is ActivityKind.COMPUTE]


def n_pieces(n_bytes: int) -> int:
    """In how many pieces a payload travels."""
    return max(1, min(MOST_PIECES, math.ceil(n_bytes / PIECE_BYTES)))
