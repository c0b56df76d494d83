"""FedAdaLoRA: the budget of AdaLoRA on every device, and nothing left out of the traffic."""

import numpy as np
import pytest

from emulator.errors import ConfigError
from emulator.forms.diagonal import DiagonalAssignment
from emulator.policy.catalog import build_policy
from emulator.records import Assignment
from emulator.testing import small_testbed
from policies.fedadalora import FedAdaLora


def held(assignment: Assignment) -> DiagonalAssignment:
    assert isinstance(assignment, DiagonalAssignment)
    return assignment


def test_the_budget_is_that_of_equation_12_over_all_matrices() -> None:
    """Eight matrices: 32 ranks, then 16 + 16 (1 - n / 4)^3, then 16."""
    policy = FedAdaLora(first_rank=4, last_rank=2.0, warm_up_rounds=1, decline_rounds=4)
    played = small_testbed(policy, n_devices=2, n_layers=4).play(7)

    asked = [held(one.plan.assignments[0]).n_votes for one in played]
    assert asked == [0, 0, 22, 18, 16, 16, 16]  # 16 x 27/64 = 6.75, 16 / 8 = 2, 16 / 64 = 0.25, rounded down


def test_every_rank_travels_in_every_round_whatever_is_masked() -> None:
    small = small_testbed(FedAdaLora(first_rank=4, last_rank=1.0, decline_rounds=2), n_devices=2, n_layers=3)
    form, model = small.testbed.form, small.testbed.model
    whole = 4 * (3 * 2 * 4 * (16 + 16 + 1) + model.n_head_parameters)
    for played in small.play(5):
        for assignment in played.plan.assignments.values():
            assert form.download_bytes(assignment, model) == form.upload_bytes(assignment, model) == whole


def test_a_b_and_e_are_averaged_by_examples() -> None:
    played = small_testbed(FedAdaLora(first_rank=3, last_rank=1.0), n_devices=3, n_layers=2).play_round()
    total = sum(update.n_examples for update in played.updates)

    for matrix in ("lora_A", "lora_B", "lora_E"):
        name = f"layers.1.value.{matrix}"
        expected = sum(update.n_examples / total * update.payload[name] for update in played.updates)
        assert np.allclose(played.after[name], expected, atol=1e-6)


def test_a_last_rank_above_the_first_is_refused() -> None:
    with pytest.raises(ConfigError, match="last_rank must be at most first_rank"):
        build_policy("fedadalora", {"first_rank": 4, "last_rank": 5.0})
