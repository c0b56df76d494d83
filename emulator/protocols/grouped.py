"""Synchronous rounds in groups: members train, their group aggregates, several times; then the server aggregates.

One group with one inner round is the flat round of FedAvg. The timeline of a round does not depend on what training
yields, so it is played first, whole; then all training of an inner round is resolved in one call.

A plan may end a round before everybody has delivered: at a deadline, or with the first so many deliveries of a larger
cohort (over-selection, Bonawitz et al. 2019, arXiv 1902.01046, section 2.2: from memory). Who is still busy then is
late. A group whose round is cut in its second or a later inner round keeps what it has aggregated of the earlier ones.
"""

from __future__ import annotations

from collections.abc import Sequence

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
        delivered: list[Delivered] = yield testbed.all_of(
            [testbed.process(self._play_group(under_way, group)) for group in groups]
        )
        if not testbed.resolves:
            return state
        return self._learn(testbed, policy, plan, state, delivered)

    def _play_group(self, under_way: _RoundUnderWay, group: Group) -> Process[Delivered]:
        alive, testbed = sorted(group.members), under_way.testbed
        delivered: Delivered = []
        for _ in range(group.inner_rounds):
            if under_way.is_over:
                break
            under_way.pending.update(alive)
            arrived: list[bool] = yield testbed.all_of(
                [testbed.process(self._play_device(under_way, device_id)) for device_id in alive]
            )
            alive = [device_id for device_id, ok in zip(alive, arrived, strict=True) if ok]
            delivered.append(alive)
        return delivered

    def _play_device(self, under_way: _RoundUnderWay, device_id: int) -> Process[bool]:
        assignment, testbed = under_way.plan.assignments[device_id], under_way.testbed
        form, model = testbed.form, testbed.model
        try:
            yield testbed.download(device_id, form.download_bytes(assignment, model))
            yield testbed.compute(device_id, form.work(assignment, model))
            yield testbed.upload(device_id, form.upload_bytes(assignment, model))
        except DeviceLost:
            under_way.pending.discard(device_id)
            return False
        under_way.deliver(device_id)
        return True

    def _learn(
        self, testbed: Testbed, policy: Aggregator, plan: RoundPlan, state: Arrays, delivered: Sequence[Delivered]
    ) -> Arrays:
        # A group's later inner round starts from what its earlier one gave, so inner rounds are resolved in order.
        states = [state for _ in delivered]
        updates: list[list[Update]] = [[] for _ in delivered]
        for inner_round in range(max(len(rounds) for rounds in delivered)):
            jobs, owners = [], []
            for group, rounds in enumerate(delivered):
                for device_id in rounds[inner_round] if inner_round < len(rounds) else ():
                    assignment = plan.assignments[device_id]
                    jobs.append(testbed.job(assignment, states[group], inner_round))
                    owners.append(group)
            resolved = testbed.resolve(jobs)
            for group in sorted(set(owners)):
                own = [update for update, owner in zip(resolved, owners, strict=True) if owner == group]
                states[group] = policy.aggregate(states[group], own)
                updates[group] += own
        if not plan.groups:
            return states[0]
        return policy.aggregate_groups(
            state,
            [
                group_contribution(testbed.form, state, after, own)
                for after, own in zip(states, updates, strict=True)
                if own
            ],
        )


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
