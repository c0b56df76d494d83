"""FedAdapter: lengths of trials as in the authors' code, the best cohort wins, and all go on from it."""

from dataclasses import replace

import numpy as np
import pytest

from emulator.errors import ConfigError
from emulator.forms.bottleneck import BottleneckAssignment
from emulator.policy.catalog import build_policy
from emulator.records import Assignment, Job, Status, Update
from emulator.testing import small_testbed
from emulator.testing.small_testbed import SmallTestbed
from policies.fedadapter import FedAdapter, Trial, mean_loss, rounds_within, trial_length_s, winner


def setting(assignment: Assignment) -> tuple[int, int]:
    assert isinstance(assignment, BottleneckAssignment)
    return assignment.depth, assignment.width


def with_losses(policy: FedAdapter, losses: dict[tuple[int, int], float], n_devices: int = 6) -> SmallTestbed:
    """A testbed on which a setting reports its loss; one that is not named has 9."""

    def reports(job: Job, update: Update) -> Update:
        return replace(update, metrics={"train_loss": losses.get(setting(job.assignment), 9.0)})

    return small_testbed(policy, n_devices=n_devices, reports=reports)


def test_a_trial_of_the_paper_has_the_rounds_of_its_code() -> None:
    """Depth 1, width 8, T = 90 s, 1 MB/s, 29 batches of 0.09 s for each layer: 156, 80 and 151 rounds."""
    length_s = trial_length_s(90, 1)

    def megabytes(depth: int, width: int) -> float:
        return 4 * (0.02 + depth * 0.05 * width / 32)

    round_s = [2 * megabytes(*each) + 29 * 0.09 * each[0] for each in ((1, 8), (2, 8), (1, 16))]
    assert length_s == 450
    assert round_s == pytest.approx([0.26 + 2.61, 0.36 + 5.22, 0.36 + 2.61])
    assert rounds_within(length_s, round_s, most=1000) == [156, 80, 151]
    assert rounds_within(length_s, round_s, most=39) == [39, 20, 37]
    assert rounds_within(length_s, [None, 1000.0], most=5) == [1, 1]


def test_the_lowest_loss_wins_and_ties_go_to_the_present_then_wider_then_deeper() -> None:
    present = Trial(depth=2, width=8)
    shallow, deep, wide = (Trial(depth=d, width=w, loss=1.0) for d, w in ((2, 8), (3, 8), (2, 16)))

    assert winner([shallow, replace(deep, loss=0.9), wide], present) == 1
    assert winner([shallow, deep, wide], present) == 0
    assert winner([replace(shallow, loss=2.0), deep, wide], present) == 2
    assert winner([replace(shallow, loss=None), deep], present) == 1


def test_losses_are_weighted_by_examples() -> None:
    [first, second] = small_testbed(FedAdapter(), n_devices=2).play_round().updates[:2]
    updates = [
        replace(first, n_examples=1, metrics={"train_loss": 4.0}),
        replace(second, n_examples=3, metrics={"train_loss": 2.0}),
    ]
    assert mean_loss(updates) == 2.5
    assert mean_loss([replace(first, metrics={})]) is None


def test_three_cohorts_divide_the_devices_and_try_the_present_a_deeper_and_a_wider_setting() -> None:
    plan = small_testbed(FedAdapter(), n_devices=7).play_round().plan

    assert [len(group.members) for group in plan.groups] == [3, 2, 2]
    tried = [{setting(plan.assignments[device]) for device in group.members} for group in plan.groups]
    assert tried == [{(1, 8)}, {(2, 8)}, {(1, 16)}]


def test_all_go_on_from_the_winner_and_keep_nothing_of_the_others() -> None:
    small = with_losses(FedAdapter(), {(2, 8): 0.5, (2, 16): 0.1})
    first, second, third = small.play(3)

    assert [setting(second.plan.assignments[group.members[0]]) for group in second.plan.groups] == [
        (2, 8),
        (3, 8),
        (2, 16),
    ]
    assert setting(third.plan.assignments[third.plan.groups[0].members[0]]) == (2, 16)
    deep = first.plan.groups[1].members
    own = [update for update in first.updates if update.device_id in deep]
    assert len(own) == 2
    name = "layers.3.mlp_down.down_weight"  # both held it, its first 8 units
    total = sum(update.n_examples for update in own)
    mean = sum(update.n_examples / total * update.payload[name] for update in own)
    assert np.allclose(first.after[name][:8], mean, atol=1e-6)
    assert np.array_equal(first.after[name][8:], first.before[name][8:])
    assert np.array_equal(first.after["layers.1.mlp_down.up_bias"], first.before["layers.1.mlp_down.up_bias"])


def test_a_longer_trial_has_more_inner_rounds_and_deeper_cohorts_fewer() -> None:
    policy = FedAdapter(trial_s=40.0, most_rounds=50)
    played = with_losses(policy, {(1, 8): 0.1}).play(3)[-1]
    shallow, deep, _ = played.plan.groups

    assert 1 < deep.inner_rounds <= shallow.inner_rounds


def test_at_its_bounds_the_setting_is_tried_alone() -> None:
    policy = FedAdapter(first_depth=4, first_width=8, most_width=8)
    plan = small_testbed(policy, n_layers=4).play_round().plan

    assert len(plan.groups) == 1
    assert {setting(one) for one in plan.assignments.values()} == {(4, 8)}


def test_a_cohort_that_is_lost_as_a_whole_cannot_win() -> None:
    lost = small_testbed(FedAdapter()).play_round().plan.groups[0].members  # by lot, from the seed alone

    def trouble(round_index: int) -> dict[int, Status]:
        return dict.fromkeys(lost, Status.DROPPED)

    small = small_testbed(FedAdapter(), trouble=trouble)
    first, second = small.play(2)
    assert first.plan.groups[0].members == lost
    assert setting(second.plan.assignments[second.plan.groups[0].members[0]]) == (1, 16)


def test_a_first_width_above_the_most_is_refused() -> None:
    with pytest.raises(ConfigError, match="first_width must be at most"):
        build_policy("fedadapter", {"first_width": 9, "most_width": 8})
