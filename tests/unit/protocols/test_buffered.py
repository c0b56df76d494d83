"""Buffered asynchronous rounds: who arrives when, from which state, and that nothing is lost where a round ends."""

import copy
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from emulator.errors import PlanError
from emulator.forms.base import AdapterForm, Embedded
from emulator.policy import Policy
from emulator.policy.checked import CheckedPolicy
from emulator.policy.rounds import play_round
from emulator.protocols.buffered import BufferedAsync
from emulator.records import Arrays, Assignment, ClusterView, Group, Job, RoundPlan, RoundReport, Status, Update, Work
from emulator.seeds import Seeds
from emulator.shapes.spec import ModelSpec
from emulator.testing import exact_testbed, tiny_model
from emulator.world.availability import Availability, Trace

STEPS = (1, 3, 6)
"""Device d takes so many steps of 1 s. With 1 s of download and 1 s of upload it delivers every 3, 5 or 8 s."""


class OneNumber(AdapterForm):
    """One number, held whole by everybody, that pretends to be 100 bytes down and 50 bytes up."""

    attachment = "none:None"

    def initial(self, model: ModelSpec, seeds: Seeds) -> Arrays:
        return {"w": np.zeros(1, np.float32)}

    def project(self, state: Arrays, assignment: Assignment) -> Arrays:
        return state

    def embed(self, update: Update, state: Arrays) -> Embedded:
        return Embedded(update.payload)

    def work(self, assignment: Assignment, model: ModelSpec) -> Work:
        return Work(
            n_steps=assignment.n_steps,
            batch_size=1,
            seq_len=model.seq_len,
            forward_layers=model.n_layers,
            backward_layers=model.n_layers,
        )

    def download_bytes(self, assignment: Assignment, model: ModelSpec) -> int:
        return 100

    def upload_bytes(self, assignment: Assignment, model: ModelSpec) -> int:
        return 50


class Buffered(Policy):
    """Every reachable device of ``cohort`` in each round, and a record of what was aggregated."""

    def __init__(self, buffer_size: int, cohort: Sequence[Sequence[int]] = ()) -> None:
        self.protocol = BufferedAsync(buffer_size)
        self.cohort = cohort
        self.merged: list[list[tuple[int, int]]] = []

    def form(self, model: ModelSpec) -> OneNumber:
        return OneNumber()

    def plan(self, view: ClusterView) -> RoundPlan:
        wanted = self.cohort[view.round_index] if self.cohort else view.available
        return RoundPlan(
            assignments={
                device_id: Assignment(device_id=device_id, n_steps=STEPS[device_id], batch_size=1, learning_rate=0.1)
                for device_id in wanted
                if device_id in view.available
            }
        )

    def aggregate(self, form: AdapterForm, state: Arrays, updates: Sequence[Update]) -> Arrays:
        self.merged.append([(update.device_id, update.staleness) for update in updates])
        return super().aggregate(form, state, updates)


class Played:
    """Rounds of a policy on three devices whose times are whole seconds."""

    def __init__(
        self, policy: Policy, n_rounds: int, memory: Sequence[int] = (), availability: Availability | None = None
    ) -> None:
        self.testbed = exact_testbed(
            OneNumber(),
            tiny_model(),
            step_s=[1.0] * 3,
            download_bytes_per_s=[100.0] * 3,
            upload_bytes_per_s=[50.0] * 3,
            usable_memory_bytes=memory,
            availability=availability,
        )
        self.jobs: list[list[tuple[int, int, int]]] = []
        self.states: list[float] = []
        self.reports: list[RoundReport] = []
        self.energy_j = 0.0
        checked = CheckedPolicy(policy, OneNumber())
        state: Arrays = {"w": np.zeros(1, np.float32)}
        for round_index in range(n_rounds):
            played = play_round(self.testbed, checked, round_index, state, self.train)
            state = played.after
            self.reports.append(self.testbed.close_round())
            self.states.append(float(state["w"][0]))
            self.energy_j += sum(ledger.energy_j for ledger in played.opened.ledgers)

    def train(self, jobs: Sequence[Job]) -> list[Update]:
        """Device ``d`` adds ``10 ** d`` to what it started from."""
        self.jobs.append([(job.device_id, job.round_index, job.inner_round) for job in jobs])
        return [
            Update(
                device_id=job.device_id,
                round_index=job.round_index,
                inner_round=job.inner_round,
                assignment=job.assignment,
                payload={"w": job.state["w"] + np.float32(10**job.device_id)},
                n_examples=1,
                metrics={},
            )
            for job in jobs
        ]

    @property
    def ends_s(self) -> list[float]:
        return [report.end_s for report in self.reports]

    def statuses(self, round_index: int) -> list[str]:
        return [str(seen.status) for seen in self.reports[round_index].devices.values()]


def test_a_round_ends_with_the_arrival_that_fills_the_buffer() -> None:
    played = Played(Buffered(2), n_rounds=4)

    # Device 0 delivers at 3, 6, 9, 12, 15 s, device 1 at 5, 10, 15 s, device 2 at 8 s: 3 5 | 6 8 | 9 10 | 12 15.
    assert played.ends_s == [5.0, 8.0, 10.0, 15.0]


def test_a_device_starts_again_at_once_and_from_the_newest_state() -> None:
    policy = Buffered(2)
    played = Played(policy, n_rounds=4)

    # Device, round in which it started, number of the start within that round. Device 0's second start, at 3 s, is in
    # round 0; the third, at 6 s, in round 1. Device 1 starts anew at 5 s, as round 1 begins, and at 10 s, with round 3.
    assert played.jobs == [
        [(0, 0, 0), (1, 0, 0)],
        [(0, 0, 1), (2, 0, 0)],
        [(0, 1, 0), (1, 1, 0)],
        [(0, 2, 0), (1, 3, 0)],
    ]
    assert policy.merged == [[(0, 0), (1, 0)], [(0, 1), (2, 1)], [(0, 1), (1, 1)], [(0, 1), (1, 0)]]


def test_a_stale_change_is_made_to_the_newest_state_and_weighs_less() -> None:
    played = Played(Buffered(2), n_rounds=4)

    # Round 0: the mean of +1 and +10. Rounds 1 and 2: both are one aggregation late, which cancels out of a mean.
    first = (1 + 10) / 2
    second = first + (1 + 100) / 2
    third = second + (1 + 10) / 2
    # Round 3: device 0 is one late, with weight 1 / sqrt(2); device 1 is not.
    fourth = third + (1 / 2**0.5 * 1 + 10) / (1 / 2**0.5 + 1)
    assert played.states == pytest.approx([first, second, third, fourth], rel=1e-6)


def test_the_log_covers_each_round_and_adds_up_over_them() -> None:
    played = Played(Buffered(2), n_rounds=4)

    for report in played.reports:
        for seen in report.devices.values():
            total_s = seen.download_s + seen.compute_s + seen.upload_s + seen.waiting_s
            assert (total_s, seen.waiting_s) == (pytest.approx(report.end_s - report.start_s, abs=1e-12), 0.0)
    totals = {
        name: [sum(getattr(report.devices[device_id], name) for report in played.reports) for device_id in range(3)]
        for name in ("download_bytes", "compute_s", "upload_bytes")
    }
    # In 15 s device 0 works 5 times, device 1 3 times, device 2 once, and then downloads and computes for 6 s.
    assert (totals["download_bytes"], totals["upload_bytes"]) == ([500, 300, 200], [250, 150, 50])
    assert totals["compute_s"] == pytest.approx([5, 9, 12], rel=1e-12)
    # 3 devices for 15 s: 26 s of computation at 10 W, 19 s of transfers at 3 W, none of waiting.
    assert played.energy_j == pytest.approx(26 * 10 + 19 * 3, rel=1e-12)


def test_a_device_that_delivers_twice_into_one_buffer_is_trained_twice() -> None:
    policy = Buffered(4)
    played = Played(policy, n_rounds=1)

    # 3, 5, 6, 8 s: the two starts of device 0 are told apart, and go to the hosts in one call.
    assert played.jobs == [[(0, 0, 0), (0, 0, 1), (1, 0, 0), (2, 0, 0)]]
    assert policy.merged == [[(0, 0), (0, 0), (1, 0), (2, 0)]]


def test_a_device_that_is_out_of_memory_delivers_nothing_and_tries_again_in_the_next_round() -> None:
    played = Played(Buffered(2), n_rounds=2, memory=[1, 2**60, 2**60])

    # Without device 0: 5 8 | 10 15.
    assert played.ends_s == [8.0, 15.0]
    assert [played.statuses(number) for number in (0, 1)] == [["out_of_memory", "ok", "ok"]] * 2
    assert [report.devices[0].download_bytes for report in played.reports] == [100, 100]


def test_a_device_that_becomes_unreachable_is_lost_and_comes_back_with_a_round() -> None:
    away = Trace(3, {0: [(0, 100)], 1: [(0, 4), (7, 100)], 2: [(0, 100)]})
    policy = Buffered(2)
    played = Played(policy, n_rounds=3, availability=away)

    # Device 1 is gone from 4 to 7 s. Device 0 alone fills the first buffer at 6 s; the second round ends with devices 2
    # and 0 at 9 s; device 1 is back when the third begins and delivers at 14 s, after device 0 at 12 s.
    assert played.ends_s == [6.0, 9.0, 14.0]
    assert [played.statuses(number)[1] for number in range(3)] == ["dropped", "unavailable", "ok"]
    assert policy.merged[2] == [(0, 0), (1, 0)]


def test_a_round_ends_with_what_has_arrived_when_nobody_is_left_at_work() -> None:
    policy = Buffered(3)
    played = Played(policy, n_rounds=1, availability=Trace(3, {0: [(0, 4)], 1: [(0, 4)]}))

    assert (played.ends_s, policy.merged) == ([4.0], [[(0, 0)]])


def test_a_device_that_the_plan_leaves_out_finishes_and_rests() -> None:
    policy = Buffered(1, cohort=[(0, 1), (0,), (0,), (2,)])
    played = Played(policy, n_rounds=3)

    # Device 0 delivers at 3, 6 s; device 1, planned in the first round alone, at 5 s.
    assert played.ends_s == [3.0, 5.0, 6.0]
    assert policy.merged == [[(0, 0)], [(1, 1)], [(0, 1)]]
    assert played.statuses(2) == ["ok", "idle", "idle"]


def test_devices_that_arrive_at_the_same_time_fill_one_buffer_after_the_other() -> None:
    class Alike(Buffered):
        def plan(self, view: ClusterView) -> RoundPlan:
            plan = super().plan(view)
            alike = {
                device_id: Assignment(device_id=device_id, n_steps=2, batch_size=1, learning_rate=0.1)
                for device_id in plan.assignments
            }
            return RoundPlan(assignments=alike)

    policy = Alike(2)
    played = Played(policy, n_rounds=4)

    # All deliver at 4 s: device 0 starts again before device 1 fills the buffer, and the update of device 2 waits.
    # At 8 s, with the next three, there are two more buffers.
    assert played.ends_s == [4.0, 8.0, 8.0, 12.0]
    assert [len(updates) for updates in policy.merged] == [2, 2, 2, 2]
    assert policy.merged[1] == [(0, 1), (2, 1)]


def test_between_rounds_a_protocol_can_be_copied() -> None:
    protocol = BufferedAsync(2)
    policy = Buffered(2)
    policy.protocol = protocol
    Played(policy, n_rounds=2)

    assert copy.deepcopy(protocol).buffer_size == 2


def test_runs_whose_policies_have_one_protocol_in_common_know_nothing_of_one_another() -> None:
    class OfTheClass(Buffered):
        protocol = BufferedAsync(2)

        def __init__(self) -> None:
            self.cohort, self.merged = (), []

    # The first run ends with devices at work, which would never start in the second one if it believed so of its own.
    first, second = (Played(OfTheClass(), n_rounds=3) for _ in range(2))

    assert first.ends_s == second.ends_s == [5.0, 8.0, 10.0]
    assert first.jobs == second.jobs


@pytest.mark.parametrize("end", [{"deadline_s": 3.0}, {"n_wanted": 1}, {"groups": (Group(members=(0, 1, 2)),)}])
def test_what_belongs_to_rounds_with_barriers_is_refused(end: dict[str, object]) -> None:
    class Waiting(Buffered):
        def plan(self, view: ClusterView) -> RoundPlan:
            return RoundPlan(assignments=super().plan(view).assignments, **end)  # type: ignore[arg-type]

    with pytest.raises(PlanError, match="round 0: BufferedAsync has no groups, deadline_s or n_wanted"):
        Played(Waiting(2), n_rounds=1)


def test_a_buffer_holds_at_least_one_update() -> None:
    with pytest.raises(ValueError, match="buffer_size must be at least 1, got 0"):
        BufferedAsync(0)


def test_devices_at_work_are_ok() -> None:
    assert Played(Buffered(1), n_rounds=1).statuses(0) == [str(Status.OK)] * 3


def test_the_log_has_what_a_device_that_starts_again_is_asked_for_now() -> None:
    class Fewer(Buffered):
        def plan(self, view: ClusterView) -> RoundPlan:
            plan = super().plan(view)
            return replace(
                plan,
                assignments={i: replace(each, n_steps=7 - view.round_index) for i, each in plan.assignments.items()},
            )

    played = Played(Fewer(1), n_rounds=2)

    # All three deliver after 1 + 7 + 1 s, which fills two buffers at once: round 1 is over as they begin to download.
    assert played.ends_s == [9.0, 9.0]
    assert [seen.download_s for seen in played.reports[1].devices.values()] == [0.0] * 3
    assert [seen.n_steps for seen in played.reports[1].devices.values()] == [6] * 3
