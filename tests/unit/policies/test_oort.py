"""Oort chooses the cohort of any policy, which decides all else."""

from dataclasses import replace

import pytest

from emulator.errors import ConfigError
from emulator.policy.catalog import build_policy
from emulator.records import Job, Update
from emulator.testing import PolicyConformance, small_testbed
from policies.hetlora import HetLora
from policies.oort import Oort


def test_the_inner_policy_plans_for_as_many_devices_as_are_wanted() -> None:
    played = small_testbed(Oort(n_selected=4), n_devices=9).play(4)

    assert [len(one.plan.assignments) for one in played] == [4, 4, 4, 4]
    assert {one.depth for one in played[0].plan.assignments.values()} == {4}  # type: ignore[attr-defined]


def test_form_task_and_facts_are_those_of_the_inner_policy() -> None:
    wrapped = Oort(policy="hetlora", parameters={"ranks": [2, 4], "tail_weight": 0.5})

    assert wrapped.task == HetLora.task
    assert Oort(policy="hierfedlora").declares == frozenset({"label_histogram"})
    played = small_testbed(wrapped, n_devices=6).play_round()
    assert {one.tail_weight for one in played.plan.assignments.values()} == {0.5}  # type: ignore[attr-defined]


def test_devices_with_large_losses_are_chosen_more_often() -> None:
    def reports(job: Job, update: Update) -> Update:
        return replace(update, n_examples=10, metrics={"train_loss": 5.0 if job.device_id < 6 else 0.1})

    policy = Oort(n_selected=4, exploration=0.5, least_exploration=0.0, slowness_penalty=0.0)
    played = small_testbed(policy, n_devices=12, reports=reports).play(30)
    late = [device for one in played[15:] for device in one.plan.assignments]

    assert sum(device < 6 for device in late) > 0.7 * len(late)


def test_an_inner_policy_that_there_is_not_or_that_refuses_its_parameters_is_told() -> None:
    with pytest.raises(ConfigError, match="no policy 'fedlore'"):
        build_policy("oort", {"policy": "fedlore"})
    with pytest.raises(ConfigError, match=r"policy\.rank"):
        build_policy("oort", {"parameters": {"rank": 0}})
    with pytest.raises(ConfigError, match="another than oort"):
        build_policy("oort", {"policy": "oort"})


class TestOortOfGroups(PolicyConformance):
    def policy(self) -> Oort:
        return Oort(policy="hierfedlora", n_selected=4)


class TestOortOfSplitLearning(PolicyConformance):
    def policy(self) -> Oort:
        return Oort(policy="mergesfl", n_selected=4)


class TestOortOfAsynchronousRounds(PolicyConformance):
    def policy(self) -> Oort:
        return Oort(policy="fedbuff", parameters={"buffer_size": 3}, n_selected=5)
