"""FedRA: random layers in the right numbers, and a uniform mean for each layer over those who had it."""

import numpy as np
import pytest

from emulator.errors import ConfigError
from emulator.forms.lora import LoraAssignment
from emulator.policy.catalog import build_policy
from emulator.records import RoundPlan, Update
from emulator.seeds import Seeds
from emulator.testing import small_testbed, tiny_model
from emulator.testing.small_world import tiny_state
from policies.fedra import FedRa, layer_counts


def layers(plan: RoundPlan) -> dict[int, tuple[int, ...]]:
    """The layers that each device has."""
    return {
        device: tuple(layer for layer, rank in enumerate(one.ranks) if rank)
        for device, one in plan.assignments.items()
        if isinstance(one, LoraAssignment)
    }


def test_of_twelve_layers_the_classes_get_the_numbers_of_the_authors_code() -> None:
    assert layer_counts(12, FedRa().layer_shares) == (3, 4, 6, 8, 10, 12)
    assert layer_counts(2, FedRa().layer_shares) == (1, 1, 1, 1, 2, 2)


def test_every_device_has_as_many_layers_as_its_class_and_other_ones_in_each_round() -> None:
    rounds = small_testbed(FedRa(), n_devices=12, n_layers=12).play(4)
    assert {len(had) for had in layers(rounds[0].plan).values()} == {6}  # nobody has been seen
    for played in rounds[1:]:
        found = layers(played.plan)
        assert sorted(len(had) for had in found.values()) == sorted([3, 4, 6, 8, 10, 12] * 2)
        # devices are 1, 2 and 4 times as fast in turn
        slow = [len(found[device]) for device in (0, 3, 6, 9)]
        fast = [len(found[device]) for device in (2, 5, 8, 11)]
        assert sorted(slow) == [3, 3, 4, 4]
        assert sorted(fast) == [10, 10, 12, 12]
    assert len({layers(played.plan)[0] for played in rounds}) > 1


def test_over_many_rounds_every_layer_is_had_equally_often() -> None:
    rounds = small_testbed(FedRa(layer_shares=(0.5,)), n_devices=12, n_layers=4, trains=False).play(100)
    counts = np.zeros(4)
    for played in rounds:
        for had in layers(played.plan).values():
            counts[list(had)] += 1
    # 1200 draws of 2 of 4: 600 each, with a standard deviation of sqrt(1200 / 4) = 17
    assert np.abs(counts - 600).max() < 4 * 17.4


def test_a_layer_is_the_uniform_mean_over_its_owners_and_the_head_over_all() -> None:
    policy, model = FedRa(rank=2), tiny_model(3)
    form = policy.form(model)
    state = tiny_state(form, model, Seeds(0))
    updates = []
    for device, (ranks, value, n_examples) in enumerate([((2, 0, 0), 1, 100), ((2, 2, 0), 5, 1)]):
        one = LoraAssignment(device_id=device, n_steps=1, batch_size=1, learning_rate=1.0, ranks=ranks, depth=3)
        payload = {name: np.full_like(array, value) for name, array in form.project(state, one).items()}
        updates.append(Update(device_id=device, assignment=one, payload=payload, n_examples=n_examples, metrics={}))
    merged = policy.aggregate(form, state, updates)
    for name, array in merged.items():
        if name.startswith("layers.2"):  # nobody had it
            assert (array == state[name]).all()
        else:
            assert (array == (5 if name.startswith("layers.1") else 3)).all()


def test_shares_that_are_no_shares_are_refused() -> None:
    for shares in ((0.5, 1.5), (0.0, 1.0), ()):
        with pytest.raises(ConfigError, match=r"policy\.layer_shares"):
            build_policy("fedra", {"layer_shares": shares})


def test_a_share_that_gives_no_layer_of_the_model_is_refused() -> None:
    FedRa(layer_shares=(0.125, 1.0)).form(tiny_model(4))
    with pytest.raises(ValueError, match=r"half of one of the model's 4 layers, 0\.125, got \(0\.12, 1\.0\)"):
        FedRa(layer_shares=(0.12, 1.0)).form(tiny_model(4))
