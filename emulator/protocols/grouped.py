"""Synchronous rounds in groups: members train, their group aggregates, several times; then the server aggregates.

One group with one inner round is the flat round of FedAvg. The timeline of a round does not depend on what training
yields, so it is played first, whole; then all training of an inner round is resolved in one call. Live devices have
trained when they deliver, so that an inner round of a group is merged at its barrier.

A plan may end a round before everybody has delivered: at a deadline, or with the first so many deliveries of a larger
cohort (over-selection, Bonawitz et al. 2019, arXiv 1902.01046, section 2.2: from memory). Who is still busy then is
late. A group whose round is cut in its second or a later inner round keeps what it has aggregated of the earlier ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from emulator.algorithms.aggregation import group_contribution
from emulator.protocols.base import Aggregator, RoundProtocol
from emulator.records import Arrays, Group, RoundPlan, Status, Update
from emulator.world.clock import Process
from emulator.world.devices import DeviceLost
from emulator.world.testbed import Testbed

Delivered = list[list[int]]  # for each inner round, the devices whose updates arrived, in ascending order


class GroupedRounds(RoundProtocol):
    """Groups work side by side; a barrier ends every inner round of a group, and another one the round."""

    def run_round(self, testbed: Testbed, policy: Aggregator, plan: RoundPlan, state: Arrays) -> Process[Arrays]:
        groups = plan.groups or (Group(members=tuple(plan.assignments)),)
        under_way = _RoundUnderWay(testbed, plan)
        if plan.deadline_s is not None:
            testbed.process(under_way.end_after(plan.deadline_s))
        learnt = [_Learnt(state) for _ in groups]
        yield testbed.all_of(
            [
                testbed.process(self._play_group(under_way, policy, group, own))
                for group, own in zip(groups, learnt, strict=True)
            ]
        )
        if not testbed.resolves:
            return state
        # A group's later inner round starts from what its earlier one gave, so inner rounds are resolved in order.
        for inner_round in range(max(len(own.delivered) for own in learnt)):
            self._learn(testbed, policy, plan, [own for own in learnt if own.n_merged == inner_round])
        if not plan.groups:
            return learnt[0].state
        return policy.aggregate_groups(
            state, [group_contribution(testbed.form, state, own.state, own.updates) for own in learnt if own.updates]
        )

    def _play_group(
        self, under_way: _RoundUnderWay, policy: Aggregator, group: Group, learnt: _Learnt
    ) -> Process[None]:
        alive, testbed = sorted(group.members), under_way.testbed
        for inner_round in range(group.inner_rounds):
            if under_way.is_over:
                break
            under_way.pending.update(alive)
            arrived: list[bool] = yield testbed.all_of(
                [testbed.process(self._play_device(under_way, id_, learnt.state, inner_round)) for id_ in alive]
            )
            alive = [device_id for device_id, ok in zip(alive, arrived, strict=True) if ok]
            learnt.delivered.append(alive)
            if testbed.trains_at_once:
                self._learn(testbed, policy, under_way.plan, [learnt])

    def _play_device(self, under_way: _RoundUnderWay, device_id: int, state: Arrays, inner_round: int) -> Process[bool]:
        assignment, testbed = under_way.plan.assignments[device_id], under_way.testbed
        form, model = testbed.form, testbed.model
        testbed.hand_out(assignment, state, inner_round)
        try:
            yield testbed.download(device_id, testbed.download_bytes(assignment))
            yield testbed.compute(device_id, form.work(assignment, model))
            yield testbed.upload(device_id, testbed.upload_bytes(assignment))
        except DeviceLost:
            under_way.pending.discard(device_id)
            return False
        under_way.deliver(device_id)
        return True

    def _learn(self, testbed: Testbed, policy: Aggregator, plan: RoundPlan, learnt: Sequence[_Learnt]) -> None:
        """Let groups go on by what their next inner round has delivered, if there is one."""
        jobs, owners = [], []
        for own in learnt:
            for device_id in own.delivered[own.n_merged] if own.n_merged < len(own.delivered) else ():
                jobs.append(testbed.job(plan.assignments[device_id], own.state, own.n_merged))
                owners.append(own)
        resolved = testbed.resolve(jobs)
        for own in learnt:
            updates = [update for update, owner in zip(resolved, owners, strict=testbed.resolves) if owner is own]
            own.n_merged += 1
            if updates:
                own.state = policy.aggregate(own.state, updates)
                own.updates += updates


@dataclass(slots=True, eq=False)
class _Learnt:
    """What a group has come to: for each inner round who has delivered, and the state after those that are merged."""

    state: Arrays
    delivered: Delivered = field(default_factory=list)
    n_merged: int = 0
    updates: list[Update] = field(default_factory=list)


class _RoundUnderWay:
    """A round under way: who still owes an update, and whether it is over for those who do."""

    def __init__(self, testbed: Testbed, plan: RoundPlan) -> None:
        self.testbed, self.plan = testbed, plan
        self.pending: set[int] = set()
        self.is_over = False
        self._n_delivered = 0

    def deliver(self, device_id: int) -> None:
        self.pending.discard(device_id)
        self._n_delivered += 1
        if self._n_delivered == self.plan.n_wanted:
            self.end()

    def end_after(self, delay_s: float) -> Process[None]:
        yield self.testbed.deadline(delay_s)
        self.end()

    def end(self) -> None:
        """Whoever still owes an update is late."""
        self.is_over = True
        for device_id in sorted(self.pending):
            self.testbed.lose(device_id, Status.LATE)
        self.pending.clear()
