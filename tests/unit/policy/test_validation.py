"""Impossible plans: each is refused with a message that names policy, round and device."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from emulator.errors import AggregationError, PlanError
from emulator.forms.lora import LoraAssignment, LoraForm
from emulator.policy.validation import aggregated, check_form, validated
from emulator.records import ClusterView, Group, MemorySavers, RoundPlan, TrainingDefaults
from emulator.testing import tiny_model

FORM = LoraForm(ranks=(2, 3, 4, 5))
VIEW = ClusterView(
    round_index=7,
    now_s=0.0,
    model=tiny_model(n_layers=4),
    state={},
    training=TrainingDefaults(n_steps=1, batch_size=1, learning_rate=0.1),
    n_devices=5,
    available=(0, 1, 3, 4),
    declared={},
    rng=np.random.default_rng(0),
)


def assignment(device_id: int, **changes: Any) -> LoraAssignment:
    good = LoraAssignment(device_id=device_id, n_steps=1, batch_size=8, learning_rate=0.1, ranks=(0, 3, 4, 5), depth=3)
    return replace(good, **changes)


def plan(*device_ids: int, groups: tuple[Group, ...] = (), **changes: Any) -> RoundPlan:
    return RoundPlan(
        assignments={device_id: assignment(device_id, **changes) for device_id in device_ids}, groups=groups
    )


def test_a_possible_plan_comes_back_in_the_order_of_device_ids() -> None:
    checked = validated(plan(3, 0, 1), VIEW, FORM, "mine")

    assert list(checked.assignments) == [0, 1, 3]
    assert checked == plan(0, 1, 3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_steps": 0}, "n_steps must be a whole number from 1 to 1000000, got 0"),
        ({"n_steps": 1.5}, "n_steps must be a whole number from 1 to 1000000, got 1.5"),
        ({"batch_size": -3}, "batch_size must be a whole number from 1 to 1000000, got -3"),
        ({"n_steps": True}, "n_steps must be a whole number from 1 to 1000000, got True"),
        ({"n_steps": 10**6 + 1}, "n_steps must be a whole number from 1 to 1000000, got 1000001"),
        ({"batch_size": 10**9}, "batch_size must be a whole number from 1 to 1000000, got 1000000000"),
        ({"learning_rate": True}, "learning_rate must be a positive number, got True"),
        ({"learning_rate": 10**400}, f"learning_rate must be a positive number, got 1{'0' * 199}…"),
        (
            {"learning_rate": 10**5000},
            "learning_rate must be a positive number, got a value of type int that cannot be shown",
        ),
        ({"depth": True}, "depth must be a whole number, got True"),
        ({"ranks": (2, True, 4, 5)}, "a rank must be a whole number, got True"),
        ({"learning_rate": 0.0}, "learning_rate must be a positive number, got 0.0"),
        ({"learning_rate": float("nan")}, "learning_rate must be a positive number, got nan"),
        ({"learning_rate": float("inf")}, "learning_rate must be a positive number, got inf"),
        ({"learning_rate": "fast"}, "learning_rate must be a positive number, got 'fast'"),
        ({"depth": 2.5}, "depth must be a whole number, got 2.5"),
        ({"depth": None}, "depth must be a whole number, got None"),
        ({"ranks": [2, 3, 4, 5]}, "ranks must be a tuple with one entry for each of 4 layers, got [2, 3, 4, 5]"),
        ({"ranks": (2, 3.0, 4, 5)}, "a rank must be a whole number, got 3.0"),
        ({"device_id": 1}, "its assignment is for another device, got device_id 1"),
        ({"depth": 5}, "depth must be between 0 and the model's 4 layers, got 5"),
        ({"depth": -1}, "depth must be between 0 and the model's 4 layers, got -1"),
        ({"ranks": (2, 3)}, "ranks must be a tuple with one entry for each of 4 layers, got (2, 3)"),
        ({"ranks": (2, 3, 9, 5)}, "rank at layer 2 must be between 0 and the server's 4, got 9"),
        ({"ranks": (-1, 3, 4, 5)}, "rank at layer 0 must be between 0 and the server's 2, got -1"),
        ({"quantized_layers": 4}, "quantized_layers must be a whole number from 0 to the depth of 3, got 4"),
        ({"quantized_layers": 0.5}, "quantized_layers must be a whole number from 0 to the depth of 3, got 0.5"),
        ({"activation_bits": 2}, "activation_bits must be 4 or 8, got 2"),
    ],
)
def test_impossible_settings_are_refused_with_policy_round_and_device(changes: dict[str, Any], message: str) -> None:
    bad = RoundPlan(assignments={0: assignment(0), 3: replace(assignment(3), **changes)})

    with pytest.raises(PlanError) as caught:
        validated(bad, VIEW, FORM, "mine:Mine")

    assert str(caught.value) == f"mine:Mine, round 7, device 3: {message}"


@pytest.mark.parametrize(
    ("device_id", "message"),
    [
        (2, "device 2: is not available; 4 of 5 devices are (view.available lists them)"),
        (5, "device 5: does not exist"),
        (-1, "device -1: does not exist"),
    ],
)
def test_a_device_that_cannot_be_reached_is_refused(device_id: int, message: str) -> None:
    with pytest.raises(PlanError) as caught:
        validated(plan(0, device_id), VIEW, FORM, "mine:Mine")

    assert str(caught.value).startswith(f"mine:Mine, round 7, {message}")


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ((Group(members=(0, 1)), Group(members=())), "round 7: group 1 has no members"),
        ((Group(members=(0, 1), inner_rounds=0),), "round 7: group 0 must have from 1 to 1000000 inner rounds, got 0"),
        (
            (Group(members=(0, 1), inner_rounds=10**7),),
            "round 7: group 0 must have from 1 to 1000000 inner rounds, got 10000000",
        ),
        (
            (Group(members=(0, 1), inner_rounds=True),),
            "round 7: group 0 must have from 1 to 1000000 inner rounds, got True",
        ),
        (None, "round 7: groups must be a tuple of Group, got None"),
        ({"a": 1}, "round 7: groups must be a tuple of Group, got {'a': 1}"),
        (((0, 1),), "round 7: group 0 must be a Group, got (0, 1)"),
        ((Group(members=None),), "round 7: the members of group 0 must be a tuple of device ids, got None"),
        ((Group(members=(0, "1")),), "round 7: the members of group 0 must be a tuple of device ids, got (0, '1')"),
        ((Group(members=(0, True)),), "round 7: the members of group 0 must be a tuple of device ids, got (0, True)"),
        ((Group(members=(0, 1)), Group(members=(1,))), "round 7, device 1: is in more than one group"),
        ((Group(members=(0,)),), "round 7, device 1: has an assignment but no group"),
        ((Group(members=(0, 1, 4)),), "round 7, device 4: has a group but no assignment"),
    ],
)
def test_groups_must_divide_the_cohort(groups: Any, message: str) -> None:
    with pytest.raises(PlanError) as caught:
        validated(plan(0, 1, groups=groups), VIEW, FORM, "mine:Mine")

    assert str(caught.value) == f"mine:Mine, {message}"


def test_quantized_activations_are_refused_where_a_layer_keeps_none() -> None:
    view = replace(VIEW, training=replace(VIEW.training, savers=MemorySavers(checkpointing=True)))
    assert validated(plan(0, 1), view, FORM, "mine") == plan(0, 1)
    with pytest.raises(PlanError, match=r"mine, round 7, device 1: 2 layers .* with training.checkpointing a layer"):
        validated(plan(1, quantized_layers=2), view, FORM, "mine")
    assert validated(plan(1, quantized_layers=2), VIEW, FORM, "mine") == plan(1, quantized_layers=2)


def test_groups_that_divide_the_cohort_are_kept() -> None:
    groups = (Group(members=(4,)), Group(members=(1, 0), inner_rounds=2))

    assert validated(plan(0, 1, 4, groups=groups), VIEW, FORM, "mine").groups == groups


@pytest.mark.parametrize("device_id", [True, 1.0, "1"])
def test_a_device_is_named_by_a_whole_number(device_id: Any) -> None:
    with pytest.raises(PlanError, match=f"mine, round 7, device {device_id!r}: does not exist"):
        validated(plan(0, device_id), VIEW, FORM, "mine")
    with pytest.raises(PlanError, match="device 1: its assignment is for another device"):
        validated(RoundPlan(assignments={1: assignment(device_id)}), VIEW, FORM, "mine")


def test_numbers_of_numpy_are_as_good_as_those_of_python() -> None:
    numbers = {"n_steps": np.int64(3), "batch_size": np.int32(2), "learning_rate": np.float32(0.1)}

    assert list(validated(plan(0, np.int64(3), **numbers), VIEW, FORM, "mine").assignments) == [0, 3]  # type: ignore[arg-type]


def test_what_is_no_form_is_refused() -> None:
    with pytest.raises(ValueError, match=r"form\(\) must return an AdapterForm, got None"):
        check_form(None, VIEW.model)
    with pytest.raises(ValueError, match="one entry for each of 4 layers"):
        check_form(LoraForm(ranks=(2,)), VIEW.model)
    check_form(FORM, VIEW.model)


def test_an_empty_cohort_is_refused_while_somebody_is_available() -> None:
    with pytest.raises(PlanError, match="mine, round 7: the plan has no assignment, although 4 devices are available"):
        validated(plan(), VIEW, FORM, "mine")


def test_an_empty_cohort_is_all_there_can_be_when_nobody_is_available() -> None:
    assert validated(plan(), replace(VIEW, available=()), FORM, "mine").assignments == {}


def test_what_is_no_plan_is_refused() -> None:
    with pytest.raises(PlanError, match=r"mine, round 7: plan\(\) must return a RoundPlan, got None"):
        validated(None, VIEW, FORM, "mine")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("end", "message"),
    [
        ({"deadline_s": 0.0}, "deadline_s must be a positive number of seconds or None, got 0.0"),
        ({"deadline_s": float("inf")}, "deadline_s must be a positive number of seconds or None, got inf"),
        ({"deadline_s": 10**400}, f"deadline_s must be a positive number of seconds or None, got 1{'0' * 199}…"),
        ({"n_wanted": True}, "n_wanted must be a whole number from 1 to the cohort's 2 devices, or None, got True"),
        ({"assignments": None}, "assignments must be a mapping from device id to Assignment, got None"),
        ({"assignments": [1]}, "assignments must be a mapping from device id to Assignment, got [1]"),
        ({"deadline_s": "soon"}, "deadline_s must be a positive number of seconds or None, got 'soon'"),
        ({"n_wanted": 0}, "n_wanted must be a whole number from 1 to the cohort's 2 devices, or None, got 0"),
        ({"n_wanted": 3}, "n_wanted must be a whole number from 1 to the cohort's 2 devices, or None, got 3"),
        ({"n_wanted": 1.5}, "n_wanted must be a whole number from 1 to the cohort's 2 devices, or None, got 1.5"),
        (
            {"n_wanted": 1, "groups": (Group(members=(0, 1)),)},
            "n_wanted is for flat rounds, without groups, got 1",
        ),
    ],
)
def test_an_impossible_end_of_a_round_is_refused(end: dict[str, Any], message: str) -> None:
    with pytest.raises(PlanError) as refused:
        validated(replace(plan(0, 1), **end), VIEW, FORM, "mine")
    assert str(refused.value) == f"mine, round 7: {message}"


def test_the_end_of_a_round_comes_back_with_its_plan() -> None:
    ending = replace(plan(0, 1), deadline_s=2.5, n_wanted=1)

    assert validated(ending, VIEW, FORM, "mine") == ending


@pytest.mark.parametrize(
    ("after", "message"),
    [
        ({}, "mine, round 3: aggregation dropped 'a'; it must return all arrays of the state"),
        (
            {"a": np.zeros(2), "b": np.zeros(1)},
            "mine, round 3: aggregation returned 'b', which the state does not have",
        ),
        ({"a": np.zeros(3)}, "mine, round 3: aggregation gave 'a' the shape (3,), in the state it is (2,)"),
        ({"a": np.array([0, np.nan])}, "mine, round 3: 'a' holds numbers that are not finite after aggregation"),
    ],
)
def test_what_is_no_server_state_is_not_handed_on(after: dict[str, Any], message: str) -> None:
    with pytest.raises(AggregationError) as caught:
        aggregated({"a": np.zeros(2, np.float32)}, after, "mine, round 3")

    assert str(caught.value).startswith(message)
