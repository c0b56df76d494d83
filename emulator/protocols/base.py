"""The contract of a round protocol: who waits for whom, exchanging what."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING

from emulator.algorithms.aggregation import Contribution
from emulator.policy_calls import call_site, calling
from emulator.records import Arrays, RoundPlan, Update
from emulator.validation import aggregated
from emulator.world.clock import Process

if TYPE_CHECKING:  # a protocol calls these but needs neither to be imported
    from emulator.policy.base import Policy
    from emulator.world.testbed import Testbed


class RoundProtocol(ABC):
    """A generator over the testbed's verbs: download, compute, upload, all_of, and resolve for results.

    A protocol may leave devices at work when its round ends and find them at work in the next one; the testbed books
    what they do to the round in which they do it. What it keeps of them between rounds must be plain data, and an
    instance that keeps anything belongs to one run.
    """

    @abstractmethod
    def run_round(self, testbed: Testbed, policy: Policy, plan: RoundPlan, state: Arrays) -> Process[Arrays]:
        """Play one round in emulated time and return the server state after it."""


def aggregate(testbed: Testbed, policy: Policy, state: Arrays, updates: Sequence[Update]) -> Arrays:
    """What ``policy`` makes of ``updates``.

    Raises:
        AggregationError: it is no server state.
    """
    with calling(policy, "aggregate", testbed.round_index):
        merged = policy.aggregate(testbed.form, state, updates)
    return aggregated(state, merged, call_site(policy, testbed.round_index))


def aggregate_groups(testbed: Testbed, policy: Policy, state: Arrays, groups: Sequence[Contribution]) -> Arrays:
    """What ``policy`` makes of the ``groups`` of a round; errors as for :func:`aggregate`."""
    with calling(policy, "aggregate_groups", testbed.round_index):
        merged = policy.aggregate_groups(state, groups)
    return aggregated(state, merged, call_site(policy, testbed.round_index))
