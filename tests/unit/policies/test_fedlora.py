"""FedLoRA: everybody the same, and the mistakes that its parameters allow."""

import pytest

from emulator.forms.lora import LoraAssignment
from emulator.testing import small_testbed, tiny_model
from policies.fedlora import FedLora


def assignments(policy: FedLora) -> list[LoraAssignment]:
    plan = small_testbed(policy, n_devices=3, n_layers=4).play_round().plan
    return [found for found in plan.assignments.values() if isinstance(found, LoraAssignment)]


def test_all_devices_train_all_layers_with_one_rank() -> None:
    found = assignments(FedLora(rank=5))

    assert [(each.device_id, each.depth, each.ranks) for each in found] == [(d, 4, (5, 5, 5, 5)) for d in range(3)]


def test_a_depth_adapts_the_layers_nearest_to_the_output_alone() -> None:
    policy = FedLora(rank=5, depth=2)

    assert {(each.depth, each.ranks) for each in assignments(policy)} == {(2, (0, 0, 5, 5))}
    assert policy.form(tiny_model(4)).ranks == (0, 0, 5, 5)


def test_local_training_is_that_of_the_run() -> None:
    small = small_testbed(FedLora(), n_devices=1)
    view = small.view()

    [found] = small.policy.plan(view).assignments.values()

    training = view.training
    assert (found.n_steps, found.batch_size, found.learning_rate) == (
        training.n_steps,
        training.batch_size,
        training.learning_rate,
    )


def test_plans_do_not_change_from_round_to_round() -> None:
    plans = [played.plan for played in small_testbed(FedLora()).play(3)]

    assert plans[0] == plans[1] == plans[2]


@pytest.mark.parametrize("depth", [-1, 5])
def test_a_depth_beyond_the_model_is_refused(depth: int) -> None:
    with pytest.raises(ValueError, match=f"depth must be between 1 and the model's 4 layers, got {depth}"):
        FedLora(depth=depth).form(tiny_model(4))


@pytest.mark.parametrize("rank", [0, -3])
def test_a_rank_below_one_is_refused(rank: int) -> None:
    with pytest.raises(ValueError, match=f"rank must be at least 1, got {rank}"):
        FedLora(rank=rank).form(tiny_model(4))
