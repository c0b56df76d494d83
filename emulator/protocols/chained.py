"""Sequential rounds in groups: inside a group the model goes from device to device; groups work side by side.

The inner training of FedGSP (Zeng et al., "Heterogeneous Federated Learning via Grouped Sequential-to-Parallel
Training", arXiv 2201.12976): each member of a group starts from what the one before it has come to, by way of the
server. A group of one device is a device of FedAvg; one group of all is training one after another.
"""

from __future__ import annotations

from emulator.algorithms.aggregation import group_contribution
from emulator.errors import PlanError
from emulator.protocols.base import Aggregator, RoundProtocol
from emulator.records import Arrays, Group, RoundPlan, Update
from emulator.world.clock import Process
from emulator.world.devices import DeviceLost
from emulator.world.testbed import Testbed


class ChainedRounds(RoundProtocol):
    """The members of a group train in the order in which the plan names them, each once; then groups are aggregated.

    A device begins when the one before it has delivered or is lost; who follows one that is lost goes on from what its
    predecessor gave. Without groups, all devices are one.
    """

    def run_round(self, testbed: Testbed, policy: Aggregator, plan: RoundPlan, state: Arrays) -> Process[Arrays]:
        where = f"round {testbed.round.round_index}: {type(self).__name__}"
        if plan.deadline_s is not None or plan.n_wanted is not None:
            raise PlanError(f"{where} has no deadline_s or n_wanted; a group ends with the last of its members")
        groups = plan.groups or (Group(members=tuple(plan.assignments)),)
        if any(group.inner_rounds > 1 for group in groups):
            raise PlanError(f"{where} has one inner round in each group; every member trains once")
        delivered: list[list[int]] = yield testbed.all_of(
            [testbed.process(self._play_group(testbed, plan, group)) for group in groups]
        )
        if not testbed.resolves:
            return state
        states = [state for _ in groups]
        updates: list[list[Update]] = [[] for _ in groups]
        for place in range(max(len(arrived) for arrived in delivered)):
            at_work = [number for number, arrived in enumerate(delivered) if place < len(arrived)]
            jobs = [testbed.job(plan.assignments[delivered[number][place]], states[number]) for number in at_work]
            for number, update in zip(at_work, testbed.resolve(jobs), strict=True):
                states[number] = policy.aggregate(states[number], [update])
                updates[number].append(update)
        return policy.aggregate_groups(
            state,
            [
                group_contribution(testbed.form, state, after, own)
                for after, own in zip(states, updates, strict=True)
                if own
            ],
        )

    def _play_group(self, testbed: Testbed, plan: RoundPlan, group: Group) -> Process[list[int]]:
        """The members that have delivered, in their order."""
        form, model, delivered = testbed.form, testbed.model, []
        for device_id in group.members:
            assignment = plan.assignments[device_id]
            try:
                yield testbed.download(device_id, form.download_bytes(assignment, model))
                yield testbed.compute(device_id, form.work(assignment, model))
                yield testbed.upload(device_id, form.upload_bytes(assignment, model))
            except DeviceLost:
                continue
            delivered.append(device_id)
        return delivered
