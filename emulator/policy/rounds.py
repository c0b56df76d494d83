"""One round of a policy on a testbed: view, plan, play. A run, the look before it and the small testbed all play it."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from emulator.policy.checked import CheckedPolicy
from emulator.records import Arrays, ClusterView, RoundPlan
from emulator.world.open_round import OpenRound, Train
from emulator.world.testbed import Testbed

Timed = Callable[[str], AbstractContextManager[None]]
"""What a part of a round, ``plan`` or ``play``, happens within; for whoever wants to know how long it takes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RoundToClose:
    """A round that has been played and is still open: ``testbed.close_round()`` ends it.

    ``before`` and ``after`` are the server state that it began with, and the one that it has come to.
    """

    opened: OpenRound
    view: ClusterView
    before: Arrays
    after: Arrays


def play_round(
    testbed: Testbed,
    policy: CheckedPolicy,
    round_index: int,
    state: Arrays,
    train: Train | None,
    timed: Timed = lambda part: nullcontext(),
) -> RoundToClose:
    """Open a round, let ``policy`` plan it, and play it to its end. ``train`` trains its jobs; None trains nothing.

    Raises:
        UserError: nobody can be reached any more, the plan cannot be played, or the policy failed.
    """
    opened = testbed.open_round(round_index, train)
    opened.carried_by = policy.carried_by
    view = testbed.view(state, policy.declares)
    with timed("plan"):
        plan = policy.plan(view)
    testbed.ask(plan)
    with timed("play"):
        merged = testbed.clock.run(policy.protocol.run_round(testbed, policy, plan, state))
        after = policy.stepped(state, merged)
    return RoundToClose(opened=opened, view=view, before=state, after=after)


def replay(testbed: Testbed, policy: CheckedPolicy, plans: Sequence[RoundPlan]) -> list[dict[str, Any]]:
    """Play ``plans`` on a fresh testbed without training; for each round what stands for its server state."""
    stand_ins: list[dict[str, Any]] = []
    with testbed.clock.unpaced():
        for round_index, plan in enumerate(plans):
            state: dict[str, Any] = {}
            testbed.open_round(round_index)
            testbed.ask(plan)
            testbed.clock.run(policy.protocol.run_round(testbed, policy, plan, state))
            testbed.close_round()
            stand_ins.append(state)
    return stand_ins
