"""SplitFed: a random cohort with equal batches, whose tops and bottoms are averaged by examples."""

import numpy as np
import pytest

from emulator.errors import ConfigError
from emulator.policy.catalog import build_policy
from emulator.testing import small_testbed, tiny_model
from policies.splitfed import SplitFed


def test_cohorts_are_random_of_the_wanted_size_with_equal_batches() -> None:
    played = small_testbed(SplitFed(n_selected=3), n_devices=8).play(10)

    assert all(len(one.plan.assignments) == 3 for one in played)
    assert len({tuple(one.plan.assignments) for one in played}) > 5
    assert {assignment.batch_size for one in played for assignment in one.plan.assignments.values()} == {4}


def test_a_small_cluster_takes_part_as_a_whole() -> None:
    [played] = small_testbed(SplitFed(), n_devices=4).play(1)

    assert list(played.plan.assignments) == [0, 1, 2, 3]


def test_updates_are_averaged_by_examples() -> None:
    [played] = small_testbed(SplitFed(), n_devices=4).play(1)
    name = "layers.0.value.lora_B"
    total = sum(update.n_examples for update in played.updates)
    expected = sum(update.n_examples * update.payload[name].astype(float) for update in played.updates) / total

    assert played.after[name] == pytest.approx(expected, rel=1e-6)
    assert not np.array_equal(played.after[name], played.before[name])


def test_what_lies_above_the_cut_is_the_server_s_and_does_not_travel() -> None:
    [played] = small_testbed(SplitFed(cut=2), n_devices=2).play(1)

    assert {name.split(".")[1] for update in played.updates for name in update.payload} == {"0", "1"}


def test_impossible_parameters_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"n_selected .* greater than or equal to 1, got 0"):
        build_policy("splitfed", {"n_selected": 0})
    with pytest.raises(ValueError, match="cut must be a whole number from 1 to 3"):
        SplitFed(cut=4).form(tiny_model(4)).check_model(tiny_model(4))
