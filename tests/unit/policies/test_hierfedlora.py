"""HierFedLoRA: groups as data in the plan, and the joint choice of frequency and depth."""

from collections.abc import Mapping, Sequence

import numpy as np
import pytest

from emulator.algorithms.estimation import Capacities, measured_capacity
from emulator.config import load_config, parse_setting
from emulator.errors import ConfigError
from emulator.forms.lora import LoraAssignment, LoraForm, lora_assignment
from emulator.policy.catalog import build_policy
from emulator.records import RoundPlan, Status
from emulator.running.resolve import policy_of
from emulator.testing import small_testbed, tiny_model
from emulator.testing.small_testbed import PlayedRound
from policies.hierfedlora import HierFedLora, inner_steps, joint_choice, layer_importance, longest_s

EVENLY = (0.25, 0.25, 0.25, 0.25)


def depths_of(plan: RoundPlan) -> dict[int, int]:
    return {number: found.depth for number, found in plan.assignments.items() if isinstance(found, LoraAssignment)}


def played(n_rounds: int, policy: HierFedLora, **settings: object) -> list[PlayedRound]:
    return small_testbed(policy, **({"n_devices": 12, "n_layers": 12} | settings)).play(n_rounds)  # type: ignore[arg-type]


@pytest.mark.parametrize("grouping", ["near_iid", "random"])
def test_groups_divide_the_cohort_whoever_is_away(grouping: str) -> None:
    def trouble(round_index: int) -> Mapping[int, Status]:
        return dict.fromkeys(range(round_index % 5), Status.UNAVAILABLE)

    for each in played(6, HierFedLora(group_size=4, grouping=grouping, regroup_rounds=2), trouble=trouble):  # type: ignore[arg-type]
        members = [device for group in each.plan.groups for device in group.members]
        assert sorted(members) == list(each.view.available) == sorted(each.plan.assignments)
        assert len(each.plan.groups) <= 3
        assert all(len({depths_of(each.plan)[device] for device in group.members}) == 1 for group in each.plan.groups)


def test_before_anything_is_known_every_group_aggregates_once_and_trains_all_layers() -> None:
    [first] = played(1, HierFedLora(group_size=3))
    assert [group.inner_rounds for group in first.plan.groups] == [1] * 4
    assert set(depths_of(first.plan).values()) == {12}


def test_no_group_is_expected_to_take_longer_than_the_bound_unless_it_does_as_little_as_it_may() -> None:
    policy = HierFedLora(group_size=3, speed_weight=5.0, divergence_bound=100.0, shares_steps=False)
    rounds = played(4, policy)
    form, view = policy.form(rounds[-1].view.model), rounds[-1].view
    capacities = Capacities(policy.smoothing)
    for each in rounds:
        depths = depths_of(each.plan)
        often = {device: group.inner_rounds for group in each.plan.groups for device in group.members}
        capacities.observe(each.report, lambda device, seen: measured_capacity(seen, depths[device], 2 * often[device]))  # noqa: B023

    def inner_s(device: int, depth: int) -> float:
        setting = lora_assignment(device, view.training, form.ranks, depth)
        sent = form.download_bytes(setting, view.model), form.upload_bytes(setting, view.model)
        return capacities.known[device].completion_s(depth, *sent, times=2)

    plan = policy.plan(view)
    full_s = [max(inner_s(device, 12) for device in group.members) for group in plan.groups]
    bound_s = 1.2 * float(np.median(full_s))
    chosen = []
    for group in plan.groups:
        depth = depths_of(plan)[group.members[0]]
        seconds = group.inner_rounds * max(inner_s(device, depth) for device in group.members)
        assert seconds <= bound_s * (1 + 1e-9) or (group.inner_rounds, depth) == (1, 1)
        chosen.append((group.inner_rounds, depth))
    # Groups are of like speed here. The fastest, at a quarter of the slowest's time, aggregates more often.
    assert chosen[int(np.argmin(full_s))][0] > chosen[int(np.argmax(full_s))][0]


@pytest.mark.parametrize(
    ("bound_s", "power", "choice"),
    [
        (8.0, 0.5, (1, 4)),  # once is 8 s at full depth: worth 1; twice is 8 s at depth 2: sqrt(2) * 0.5
        (16.0, 0.5, (2, 4)),
        (12.0, 0.5, (2, 3)),  # sqrt(2) * 0.75 = 1.06 beats 1
        (12.0, 0.0, (1, 4)),
        (5.0, 0.0, (1, 2)),
        (7.9, 2.0, (2, 1)),  # 4 * 0.25 = 1 beats 0.75 of depth 3
        (1.0, 0.5, (1, 1)),  # nothing is short enough
    ],
)
def test_frequency_and_depth_are_chosen_together(bound_s: float, power: float, choice: tuple[int, int]) -> None:
    # An inner round takes 2 s for each layer.
    seconds = [0.0, 2.0, 4.0, 6.0, 8.0]
    assert joint_choice({1: seconds, 2: seconds, 4: seconds}, bound_s, EVENLY, power) == choice


def test_inner_rounds_that_share_the_local_steps_cost_only_their_transfers() -> None:
    # 1 s of transfers and 1 s for each of 4 steps and layer: 1 x 17 s, 2 x 9 s, 4 x 5 s at full depth.
    seconds = {often: [1.0 + inner_steps(4, often) * depth for depth in range(5)] for often in (1, 2, 4)}

    assert joint_choice(seconds, 17.0, EVENLY, 0.5) == (4, 3)  # 4 x 4 s: 2 * 0.75; all layers would take 18 or 20 s
    assert joint_choice(seconds, 20.0, EVENLY, 0.5) == (4, 4)
    # With all 4 steps in each, 2 x 9 s at depth 2 are too long: once at full depth is worth 1, twice at depth 1 0.35.
    assert joint_choice({1: seconds[1], 2: seconds[1], 4: seconds[1]}, 17.0, EVENLY, 0.5) == (1, 4)


@pytest.mark.parametrize(("n_steps", "frequency", "expected"), [(4, 1, 4), (4, 2, 2), (4, 4, 1), (4, 8, 1), (5, 2, 3)])
def test_an_inner_round_has_its_share_of_the_local_steps_and_one_at_least(
    n_steps: int, frequency: int, expected: int
) -> None:
    assert inner_steps(n_steps, frequency) == expected


@pytest.mark.parametrize("shares_steps", [True, False])
def test_a_device_takes_the_local_steps_once_in_a_round_or_in_every_inner_round(shares_steps: bool) -> None:
    policy = HierFedLora(group_size=3, frequencies=(2,), slack_fraction=100.0, shares_steps=shares_steps)
    first, second = played(2, policy)

    assert {each.n_steps for each in first.plan.assignments.values()} == {2}  # once, as nothing is known
    assert {group.inner_rounds for group in second.plan.groups} == {2}
    assert {each.n_steps for each in second.plan.assignments.values()} == {1 if shares_steps else 2}


def test_what_takes_less_wins_among_equals_and_layers_count_by_their_importance() -> None:
    # Twice at depth 1 is worth as much as once at depth 2, and takes longer.
    assert joint_choice({1: [0.0, 2.0, 3.0], 2: [0.0, 2.0, 3.0]}, 4.0, (0.5, 0.5), 1.0) == (1, 2)
    # Where nearly all importance is in the last layer, often and shallow is best.
    assert joint_choice({1: [0.0, 2.0, 4.0], 2: [0.0, 2.0, 4.0]}, 4.0, (0.05, 0.95), 0.5) == (2, 1)


def test_a_group_takes_as_long_as_its_slowest_member_at_each_depth() -> None:
    assert longest_s([[1.0, 5.0], [2.0, 3.0]]) == [2.0, 5.0]
    assert longest_s([]) == []


def test_importance_is_the_norm_of_a_layer_s_change_as_a_share() -> None:
    first, second = "layers.0.query.lora_A", "layers.1.query.lora_A"
    before = {"head.out.weight": np.zeros(2), first: np.zeros(2), second: np.zeros(1)}
    after = {"head.out.weight": np.ones(2), first: np.array([3.0, 4.0]), second: np.array([15.0])}  # norms 5 and 15
    assert layer_importance(before, after) == pytest.approx((0.25, 0.75))  # type: ignore[arg-type]
    assert layer_importance(before, before) == (0.5, 0.5)  # type: ignore[arg-type]


def test_groups_are_formed_anew_when_speeds_are_first_known_and_then_every_so_many_rounds() -> None:
    rounds = played(8, HierFedLora(group_size=4, grouping="random", regroup_rounds=3))
    members = [tuple(group.members for group in each.plan.groups) for each in rounds]
    changes = [number for number in range(1, 8) if members[number] != members[number - 1]]
    assert changes == [1, 4, 7]


def test_a_device_out_of_memory_holds_its_group_below_that_depth() -> None:
    policy = HierFedLora(group_size=3, slack_fraction=100.0, frequencies=(1,))
    rounds = played(3, policy, n_devices=6, trouble=lambda number: {0: Status.OUT_OF_MEMORY} if number == 1 else {})
    [group] = [group.members for group in rounds[2].plan.groups if 0 in group.members]
    assert depths_of(rounds[2].plan) == {device: 11 if device in group else 12 for device in range(6)}


def test_a_run_without_training_has_no_labels_and_says_so() -> None:
    given: Sequence[str] = ["policy.path=hierfedlora", "training.enabled=false"]
    config = load_config(None, [parse_setting(text) for text in given])
    with pytest.raises(
        ConfigError,
        match=r"in a run without training: memory_bytes, allocator, flop_per_s; train .* or choose another policy$",
    ):
        policy_of(config)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"smoothing": 1.5}, r"smoothing .* less than or equal to 1, got 1\.5"),
        ({"speed_weight": -1.0}, r"speed_weight .* greater than or equal to 0, got -1\.0"),
        ({"divergence_bound": -1.0}, r"divergence_bound .* greater than or equal to 0, got -1\.0"),
        ({"group_size": 0}, r"group_size .* greater than or equal to 1, got 0"),
        ({"frequency_power": 400.0}, r"frequency_power .* less than or equal to 10, got 400\.0"),
        ({"frequencies": (0, 2)}, r"frequencies .* greater than or equal to 1, got"),
        ({"frequencies": (1, 1001)}, r"frequencies .* less than or equal to 1000, got"),
    ],
)
def test_impossible_parameters_are_refused(given: dict[str, float], message: str) -> None:
    with pytest.raises((ConfigError, ValueError), match=message):
        build_policy("hierfedlora", given).form(tiny_model(4))


def test_the_form_is_that_of_a_uniform_rank() -> None:
    assert HierFedLora(rank=3).form(tiny_model(4)) == LoraForm(ranks=(3, 3, 3, 3))
