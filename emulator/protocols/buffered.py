"""Buffered asynchronous rounds: nobody waits, and the server aggregates whenever so many updates have arrived.

FedBuff (Nguyen et al. 2022, arXiv 2106.06639, algorithm 1; from memory). A round is what lies between two aggregations.
It begins with a new server state and ends when the buffer is full: with the ``buffer_size``-th arrival. A device that
has delivered starts again at once, from the newest state; the one that fills the buffer starts again from what comes of
it. Devices that are at work when a round ends stay at work, on the state that they downloaded.

The timeline does not depend on what training yields, so it is only the updates in a full buffer that are ever trained.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from emulator.protocols.base import Aggregator, RoundProtocol
from emulator.records import Arrays, Job, RoundPlan, Update
from emulator.world.clock import Event, Process
from emulator.world.devices import DeviceLost
from emulator.world.testbed import Testbed


class BufferedAsync(RoundProtocol):
    """Keeps every device of the plan at work, and aggregates each ``buffer_size`` updates.

    A plan says who shall start from now on, and with which settings. A device that is still at work from an earlier
    round finishes that first; it goes on if the newest plan has it, and else comes to rest. A device that is lost
    starts again in the next round whose plan has it. The log has one row for each device and round, as ever: what a
    device does is split where a round ends, and its ``n_steps`` and ``depth`` are those of the work that it began last.

    A round ends early, with what has arrived, when nobody is left at work.
    """

    def __init__(self, buffer_size: int) -> None:
        """``buffer_size`` is the number of updates in an aggregation, K.

        Raises:
            ValueError: it is less than 1.
        """
        if buffer_size < 1:
            raise ValueError(f"buffer_size must be at least 1, got {buffer_size!r}")
        self.buffer_size = buffer_size
        self._at_work: set[int] = set()
        self._arrived: list[Job] = []
        self._under_way: dict[int, Job] = {}
        self._n_starts: Counter[int] = Counter()
        self._plan = RoundPlan(assignments={})
        self._state: Arrays = {}
        self._round_ends: Event | None = None

    def run_round(self, testbed: Testbed, policy: Aggregator, plan: RoundPlan, state: Arrays) -> Process[Arrays]:
        self.refuse_groups_and_ends(testbed, plan, "devices do not wait for one another")
        self._plan, self._state = plan, state
        self._n_starts.clear()
        for device_id in plan.assignments:
            if device_id not in self._at_work:
                self._at_work.add(device_id)
                testbed.process(self._keep_at_work(testbed, device_id))
        if not self._is_over:
            self._round_ends = Event()
            yield self._round_ends
            self._round_ends = None
        # Who delivers before the next round has begun comes to rest until then, and starts from its state.
        self._plan = RoundPlan(assignments={})
        arrived, self._arrived = self._arrived[: self.buffer_size], self._arrived[self.buffer_size :]
        updates = resolved(testbed, arrived, state)
        return policy.aggregate(state, updates) if updates else state

    def states_in_use(self) -> list[Arrays]:
        return [job.state for job in (*self._arrived, *self._under_way.values())]

    @property
    def _is_over(self) -> bool:
        return len(self._arrived) >= self.buffer_size or not self._at_work

    def _keep_at_work(self, testbed: Testbed, device_id: int) -> Process[None]:
        """One device, from its start until it is lost, is no longer in the plan, or the buffer is full."""
        while (assignment := self._plan.assignments.get(device_id)) is not None:
            job = self._under_way[device_id] = testbed.job(assignment, self._state, self._n_starts[device_id])
            self._n_starts[device_id] += 1
            try:
                yield from _work(testbed, job)
            except DeviceLost:
                break
            self._arrived.append(job)
            if self._is_over:
                break
        self._under_way.pop(device_id, None)
        self._at_work.discard(device_id)
        if self._is_over and self._round_ends is not None:
            testbed.clock.succeed(self._round_ends)


def resolved(testbed: Testbed, jobs: Sequence[Job], state: Arrays) -> list[Update]:
    """The updates of ``jobs`` by device id and then by start, with what they have missed on their way to ``state``."""
    ordered = sorted(jobs, key=lambda job: job.key)
    return [
        replace(
            update,
            staleness=testbed.round.round_index - job.round_index,
            base=None if job.state is state else job.state,
        )
        for job, update in zip(ordered, testbed.resolve(ordered), strict=testbed.resolves)
    ]


def _work(testbed: Testbed, job: Job) -> Process[None]:
    assignment, form, model = job.assignment, testbed.form, testbed.model
    device_id = job.device_id
    testbed.ask_device(assignment)
    testbed.hand_out(assignment, job.state, job.inner_round)
    yield testbed.download(device_id, testbed.download_bytes(assignment))
    yield testbed.compute(device_id, form.work(assignment, model))
    yield testbed.upload(device_id, testbed.upload_bytes(assignment))
