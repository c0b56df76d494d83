"""What a policy raises becomes one message that says where, and what cannot be used is not handed on."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest

from emulator.algorithms.aggregation import Contribution
from emulator.errors import AggregationError, DataError, PlanError, PolicyError
from emulator.forms.base import AdapterForm
from emulator.forms.lora import LoraForm
from emulator.policy.checked import CheckedPolicy
from emulator.protocols.buffered import BufferedAsync
from emulator.records import Arrays, ClusterView, RoundPlan, RoundReport, TrainingDefaults, Update
from emulator.testing import tiny_model
from policies.fedlora import FedLora

FORM = LoraForm(ranks=(2,) * 4)
STATE: Arrays = {"w": np.zeros(2, np.float32)}
NAME = f"{__name__}:Raising"


def view(round_index: int = 3) -> ClusterView:
    return ClusterView(
        round_index=round_index,
        now_s=0.0,
        model=tiny_model(),
        state=STATE,
        training=TrainingDefaults(n_steps=1, batch_size=1, learning_rate=0.1),
        n_devices=3,
        available=(0, 1, 2),
        declared={},
        rng=np.random.default_rng(0),
    )


class Raising(FedLora):
    """Raises ``error`` in all but its plans."""

    error: BaseException = KeyError("seconds")

    def observe(self, report: RoundReport) -> None:
        raise self.error

    def aggregate(self, form: AdapterForm, state: Arrays, updates: Sequence[Update]) -> Arrays:
        raise self.error

    def aggregate_groups(self, state: Arrays, groups: Sequence[Contribution]) -> Arrays:
        raise self.error


def observe(policy: CheckedPolicy) -> None:
    policy.observe(RoundReport(round_index=3, start_s=0.0, end_s=1.0, devices={}, evaluation=None))


CALLS: dict[str, Callable[[CheckedPolicy], object]] = {
    "observe": observe,
    "aggregate": lambda policy: policy.aggregate(STATE, []),
    "aggregate_groups": lambda policy: policy.aggregate_groups(STATE, []),
}


def planned(policy: FedLora) -> CheckedPolicy:
    """``policy``, after it has planned round 3."""
    checked = CheckedPolicy(policy, FORM)
    checked.plan(view())
    return checked


@pytest.mark.parametrize("method", CALLS)
def test_what_a_policy_raises_says_policy_round_method_and_line(method: str) -> None:
    with pytest.raises(PolicyError) as caught:
        CALLS[method](planned(Raising(rank=2)))

    assert str(caught.value).startswith(f"{NAME}, round 3: {method}() raised KeyError: 'seconds' ({__file__}, line ")
    assert isinstance(caught.value.__cause__, KeyError)


def test_a_policy_cannot_end_the_process() -> None:
    policy = Raising(rank=2)
    policy.error = SystemExit(4)

    with pytest.raises(PolicyError, match=r"aggregate\(\) raised SystemExit: 4"):
        planned(policy).aggregate(STATE, [])


@pytest.mark.parametrize("error", [DataError("no such file"), KeyboardInterrupt()])
def test_what_the_user_can_mend_and_an_interrupt_are_handed_on(error: BaseException) -> None:
    policy = Raising(rank=2)
    policy.error = error

    with pytest.raises(type(error)) as caught:
        planned(policy).aggregate(STATE, [])
    assert caught.value is error


def test_a_plan_that_fails_says_so() -> None:
    class Failing(FedLora):
        def plan(self, view: ClusterView) -> RoundPlan:
            return RoundPlan(assignments={0: 1 / 0})  # type: ignore[dict-item]

    with pytest.raises(PolicyError, match=r"Failing, round 3: plan\(\) raised ZeroDivisionError"):
        CheckedPolicy(Failing(), FORM).plan(view())


def test_a_plan_is_refused_or_comes_in_the_order_of_device_ids() -> None:
    class Backwards(FedLora):
        def plan(self, view: ClusterView) -> RoundPlan:
            plan = super().plan(view)
            return replace(plan, assignments=dict(reversed(plan.assignments.items())))

    policy = CheckedPolicy(Backwards(rank=2), FORM)

    assert list(policy.propose(view()).assignments) == [2, 1, 0]
    assert list(policy.plan(view()).assignments) == [0, 1, 2]


def test_a_plan_that_cannot_be_played_is_refused() -> None:
    class PlansForEverybody(FedLora):
        def plan(self, view: ClusterView) -> RoundPlan:
            return super().plan(replace(view, available=(0, 1, 2)))

    with pytest.raises(PlanError, match="PlansForEverybody, round 5, device 1: is not available"):
        CheckedPolicy(PlansForEverybody(rank=2), FORM).plan(replace(view(5), available=(0, 2)))


def test_what_is_no_server_state_is_refused_in_the_round_that_was_planned() -> None:
    class Forgetful(FedLora):
        def aggregate(self, form: AdapterForm, state: Arrays, updates: Sequence[Update]) -> Arrays:
            return {}

        def aggregate_groups(self, state: Arrays, groups: Sequence[Contribution]) -> Arrays:
            return {"w": np.full(2, np.nan, np.float32)}

    policy = planned(Forgetful(rank=2))

    with pytest.raises(AggregationError, match="Forgetful, round 3: aggregation dropped 'w'"):
        policy.aggregate(STATE, [])
    with pytest.raises(AggregationError, match="Forgetful, round 3: 'w' holds numbers that are not finite"):
        policy.aggregate_groups(STATE, [])


def test_a_run_plays_a_copy_of_the_protocol() -> None:
    class OfTheClass(FedLora):
        protocol = BufferedAsync(3)

    first, second = (CheckedPolicy(OfTheClass(), FORM) for _ in range(2))

    assert first.protocol is not OfTheClass.protocol
    assert first.protocol is not second.protocol
    assert isinstance(first.protocol, BufferedAsync)
    assert first.protocol.buffer_size == 3
