"""BeamLoRA: which ranks count, and what becomes of those that do not."""

import numpy as np
import pytest

from emulator.forms.gated_lora import gate_mass
from emulator.records import Arrays
from emulator.testing import small_testbed
from policies.beamlora import BeamLora, expanded, important

T = 0.5
MASS = np.array([0.6, 0.03, 0.35, 0.02])


def state(mass: np.ndarray = MASS) -> Arrays:
    rng = np.random.default_rng(0)
    return {
        "layers.0.query.lora_A": rng.standard_normal((4, 3)).astype(np.float32),
        "layers.0.query.lora_B": rng.standard_normal((2, 4)).astype(np.float32),
        "layers.0.query.lora_gate": (T * np.log(mass) + 0.7)[:, None].astype(np.float32),
    }


def test_a_gate_says_a_rank_s_share() -> None:
    assert np.allclose(gate_mass(state()["layers.0.query.lora_gate"], T), MASS, atol=1e-6)
    assert np.allclose(gate_mass(np.full((5, 1), 3.0), T), 0.2)


def test_important_ranks_are_the_fewest_with_the_mass_over_all_matrices() -> None:
    kept = important([MASS, np.array([0.5, 0.5])], 0.95)  # 0.6, 0.5, 0.5 and 0.35 of 2 are 0.975

    assert [one.tolist() for one in kept] == [[True, False, True, False], [True, True]]
    assert [one.tolist() for one in important([np.full(4, 0.25)], 1.0)] == [[True] * 4]


def test_ranks_that_hardly_count_become_older_copies_of_the_most_important_and_share_their_mass() -> None:
    now, older = state(), {name: array + 1 for name, array in state().items()}
    after = expanded(now, older, T, 0.94)

    # Rank 3 counts least, rank 0 most; then rank 1 and rank 2.
    for lost, copied in ((3, 0), (1, 2)):
        assert np.array_equal(after["layers.0.query.lora_A"][lost], older["layers.0.query.lora_A"][copied])
        assert np.array_equal(after["layers.0.query.lora_B"][:, lost], older["layers.0.query.lora_B"][:, copied])
        assert np.array_equal(after["layers.0.query.lora_A"][copied], now["layers.0.query.lora_A"][copied])
    assert np.allclose(gate_mass(after["layers.0.query.lora_gate"], T), [0.31, 0.19, 0.19, 0.31], atol=1e-6)


def test_a_copy_of_the_present_state_changes_the_product_by_the_lost_ranks_alone() -> None:
    now = state()
    after = expanded(now, now, T, 0.94)

    def product(arrays: Arrays, masses: np.ndarray) -> np.ndarray:
        return (arrays["layers.0.query.lora_B"] * masses) @ arrays["layers.0.query.lora_A"]

    moved = np.array([MASS[0] + MASS[3], 0.0, MASS[2] + MASS[1], 0.0])  # their mass went to whom they now copy
    assert np.allclose(product(after, gate_mass(after["layers.0.query.lora_gate"], T)), product(now, moved), atol=1e-5)


def test_ranks_are_replaced_at_the_end_of_every_interval_alone() -> None:
    """Made-up training moves gates by 0.1, which at this temperature leaves some ranks without any mass."""
    small = small_testbed(BeamLora(rank=4, temperature=0.05, interval_rounds=3), n_devices=3, n_layers=2)
    name = "layers.1.value.lora_A"
    replaced = []
    for played in small.play(6):
        total = sum(update.n_examples for update in played.updates)
        mean = sum(update.n_examples / total * update.payload[name] for update in played.updates)
        replaced.append(not np.allclose(played.after[name], mean, atol=1e-6))

    assert replaced == [False, False, True, False, False, True]


def test_gates_travel_beside_the_factors() -> None:
    small = small_testbed(BeamLora(rank=4), n_devices=2, n_layers=3)
    form, model = small.testbed.form, small.testbed.model
    assignment = small.play_round().plan.assignments[0]

    expected = 4 * (3 * 2 * 4 * (16 + 16 + 1) + model.n_head_parameters)
    assert form.download_bytes(assignment, model) == form.upload_bytes(assignment, model) == expected


@pytest.mark.parametrize("temperature", [0.0, -1.0])
def test_a_temperature_that_is_not_positive_is_refused(temperature: float) -> None:
    model = small_testbed(BeamLora()).testbed.model
    with pytest.raises(ValueError, match="temperature must be above 0"):
        BeamLora(temperature=temperature).form(model).check_model(model)
