"""The contract of a round protocol: who waits for whom, exchanging what."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Protocol

from emulator.algorithms.aggregation import Contribution
from emulator.errors import PlanError
from emulator.forms.base import AdapterForm
from emulator.forms.cut import CutForm
from emulator.records import Arrays, RoundPlan, Update
from emulator.world.clock import Process
from emulator.world.testbed import Testbed


class Aggregator(Protocol):
    """Who merges what comes back in a round, and gives nothing but server states."""

    def aggregate(self, state: Arrays, updates: Sequence[Update]) -> Arrays:
        """The server state after ``updates``, which come in the order of device ids."""

    def aggregate_groups(self, state: Arrays, groups: Sequence[Contribution]) -> Arrays:
        """The server state after the groups of a round have each aggregated among themselves."""


class RoundProtocol(ABC):
    """A generator over the testbed's verbs: download, compute, upload, all_of, and resolve for results.

    A protocol may leave devices at work when its round ends and find them at work in the next one; the testbed books
    what they do to the round in which they do it. What it keeps of them between rounds must be plain data: every run
    plays a copy of its own.
    """

    exchanges_steps: ClassVar[bool] = False
    """Whether devices send and await something at every local step, and not only before and after all of them."""

    @abstractmethod
    def run_round(self, testbed: Testbed, policy: Aggregator, plan: RoundPlan, state: Arrays) -> Process[Arrays]:
        """Play the round that is open in emulated time, and return the server state after it."""

    def check(self, form: AdapterForm, task: str) -> None:
        """Raise ``ValueError`` with a sentence if rounds of this protocol cannot train ``form`` by ``task``.

        Default: any task, and any form but those that cut the model, which price a device's bottom alone.
        """
        if isinstance(form, CutForm):
            raise ValueError(
                f"{type(self).__name__} trains whole models and {type(form).__name__} cuts them; give the policy the"
                " protocol CutRounds"
            )

    def states_in_use(self) -> Sequence[Arrays]:
        """The server states of earlier rounds from which devices are still at work when a round has ended."""
        return ()

    def refuse_groups_and_ends(self, testbed: Testbed, plan: RoundPlan, reason: str) -> None:
        """For protocols that know one flat cohort, and no end of a round but their own.

        Raises:
            PlanError: ``plan`` has groups, or says when the round ends.
        """
        if plan.groups or plan.deadline_s is not None or plan.n_wanted is not None:
            raise PlanError(
                f"round {testbed.round.round_index}: {type(self).__name__} has no groups, deadline_s or n_wanted;"
                f" {reason}"
            )
