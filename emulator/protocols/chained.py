"""Sequential rounds in groups: inside a group the model goes from device to device; groups work side by side.

The inner training of FedGSP (Zeng et al., "Heterogeneous Federated Learning via Grouped Sequential-to-Parallel
Training", arXiv 2201.12976): each member of a group starts from what the one before it has come to, by way of the
server. A group of one device is a device of FedAvg; one group of all is training one after another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

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
        chains = [_Chain(state) for _ in groups]
        yield testbed.all_of(
            [
                testbed.process(self._play_group(testbed, policy, plan, group, chain))
                for group, chain in zip(groups, chains, strict=True)
            ]
        )
        if not testbed.resolves:
            return state
        for place in range(max(len(chain.delivered) for chain in chains)):
            _go_on(testbed, policy, plan, [chain for chain in chains if chain.owes(place)])
        return policy.aggregate_groups(
            state,
            [group_contribution(testbed.form, state, chain.state, chain.updates) for chain in chains if chain.updates],
        )

    def _play_group(
        self, testbed: Testbed, policy: Aggregator, plan: RoundPlan, group: Group, chain: _Chain
    ) -> Process[None]:
        form, model = testbed.form, testbed.model
        for device_id in group.members:
            assignment = plan.assignments[device_id]
            testbed.hand_out(assignment, chain.state)
            try:
                yield testbed.download(device_id, testbed.download_bytes(assignment))
                yield testbed.compute(device_id, form.work(assignment, model))
                yield testbed.upload(device_id, testbed.upload_bytes(assignment))
            except DeviceLost:
                continue
            chain.delivered.append(device_id)
            if testbed.trains_at_once:
                _go_on(testbed, policy, plan, [chain])


@dataclass(slots=True, eq=False)
class _Chain:
    """The members of a group that have delivered, in their order, and what the model has come to with those merged."""

    state: Arrays
    delivered: list[int] = field(default_factory=list)
    updates: list[Update] = field(default_factory=list)

    def owes(self, place: int) -> bool:
        """Whether the member at ``place`` is the next to be merged."""
        return place == len(self.updates) < len(self.delivered)


def _go_on(testbed: Testbed, policy: Aggregator, plan: RoundPlan, chains: Sequence[_Chain]) -> None:
    """Let each chain go on by its next member that has delivered."""
    jobs = [testbed.job(plan.assignments[chain.delivered[len(chain.updates)]], chain.state) for chain in chains]
    for chain, update in zip(chains, testbed.resolve(jobs), strict=testbed.resolves):
        chain.state = policy.aggregate(chain.state, [update])
        chain.updates.append(update)
