"""FeDeRA: the rounds of FedLoRA, from the principal part of the weights."""

import numpy as np

from emulator.forms.residual import ResidualAssignment
from emulator.testing import small_testbed
from policies.federa import FeDeRa
from policies.fedlora import FedLora
from tests.unit.policies.exact_means import one_round


def test_a_round_costs_the_bytes_of_fedlora_and_no_part_of_the_residual_travels() -> None:
    ours, plain = (small_testbed(policy, n_devices=4, n_layers=3) for policy in (FeDeRa(rank=3), FedLora(rank=3)))
    model = ours.testbed.model
    for played, other in zip(ours.play(3), plain.play(3), strict=True):
        for device, assignment in played.plan.assignments.items():
            assert isinstance(assignment, ResidualAssignment)
            reference = other.plan.assignments[device]
            for direction in ("download_bytes", "upload_bytes"):
                own, theirs = (
                    getattr(small.testbed.form, direction)(one, model)
                    for small, one in ((ours, assignment), (plain, reference))
                )
                assert own == theirs


def test_a_and_b_are_averaged_by_examples_and_the_frozen_part_stays() -> None:
    _, state, updates, merged = one_round(FeDeRa(rank=3))
    total = sum(update.n_examples for update in updates)

    for name in ("layers.0.query.lora_A", "layers.2.value.lora_B"):
        expected = sum(update.n_examples / total * update.payload[name] for update in updates)
        assert np.allclose(merged[name], expected, atol=1e-6)
    assert np.array_equal(merged["layers.1.value.residual"], state["layers.1.value.residual"])


def test_without_training_there_are_no_weights_to_decompose_and_rounds_go_on() -> None:
    played = small_testbed(FeDeRa(), n_devices=4, trains=False).play(2)

    assert all(one.before == {} and len(one.plan.assignments) == 4 for one in played)
