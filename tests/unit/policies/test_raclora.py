"""RAC-LoRA: a common frozen factor makes the mean exact, and every round begins with a new one."""

import numpy as np
import pytest

from emulator.forms.residual import ResidualAssignment, ResidualLoraForm
from emulator.records import Status
from emulator.testing import small_testbed
from policies.fedlora import FedLora
from policies.ffalora import FfaLora
from policies.raclora import RacLora
from tests.unit.policies.exact_means import SITES, mean_of_products, one_round


@pytest.mark.parametrize(("layer", "target"), SITES)
def test_the_weights_grow_by_the_mean_of_the_products_with_the_drawn_factor(layer: int, target: str) -> None:
    form, state, updates, merged = one_round(RacLora(rank=3))
    assert isinstance(form, ResidualLoraForm)
    drawn = form.project(state, updates[0].assignment)

    exact = form.scaling * mean_of_products(updates, layer, target, drawn)
    name = f"layers.{layer}.{target}.residual"
    assert np.allclose(merged[name].astype(np.float64) - state[name], exact, atol=1e-5)


def test_devices_of_a_round_share_the_draw_which_is_another_in_each_round() -> None:
    small = small_testbed(RacLora(rank=2), n_devices=3, n_layers=2)
    form = small.testbed.form
    draws = []
    for played in small.play(3):
        starts = [form.project(played.before, one) for one in played.plan.assignments.values()]
        assert len({start["layers.1.value.lora_A"].tobytes() for start in starts}) == 1
        assert not any(start["layers.1.value.lora_B"].any() for start in starts)
        draws.append(starts[0]["layers.1.value.lora_A"].tobytes())

    assert len(set(draws)) == 3


def test_a_is_neither_trained_nor_sent_so_that_half_of_fedloras_bytes_go_up() -> None:
    _, _, updates, _ = one_round(RacLora(rank=3))
    assert not any(name.endswith("lora_A") for update in updates for name in update.payload)
    ours, plain = (small_testbed(policy, n_devices=3, n_layers=2) for policy in (RacLora(rank=4), FedLora(rank=4)))
    model = ours.testbed.model  # all its adapted matrices are square
    own, theirs = (
        small.testbed.form.upload_bytes(small.play_round().plan.assignments[0], model) for small in (ours, plain)
    )
    head = 4 * model.n_head_parameters

    assert 2 * (own - head) == theirs - head


def test_who_missed_a_round_is_charged_for_its_b_and_for_no_drawn_factor() -> None:
    def trouble(round_index: int) -> dict[int, Status]:
        return {0: Status.DROPPED} if round_index == 1 else {}

    small = small_testbed(RacLora(rank=3), n_devices=3, n_layers=2, trouble=trouble)
    model, form = small.testbed.model, small.testbed.form
    down = []
    for played in small.play(3):
        lacking = [one.residual_rank for one in played.plan.assignments.values() if isinstance(one, ResidualAssignment)]
        down.append((lacking, form.download_bytes(played.plan.assignments[0], model) - 4 * model.n_head_parameters))

    # Four adapted matrices with 16 rows: a B of rank 3 has 48 numbers.
    assert down == [([0, 0, 0], 0), ([3, 3, 3], 4 * 4 * 48), ([6, 3, 3], 4 * 4 * 96)]


def test_of_one_round_it_is_ffa_lora_with_another_a() -> None:
    """From equal A, and B at zero, FFA-LoRA's mean of B is what is merged."""
    form, state, updates, merged = one_round(RacLora(rank=3))
    assert isinstance(form, ResidualLoraForm)
    drawn = form.project(state, updates[0].assignment)
    frozen = FfaLora(rank=3)
    start = {name: array for name, array in drawn.items() if not name.endswith("residual")}
    averaged = frozen.aggregate(frozen.form(small_testbed(frozen, n_layers=3).testbed.model), start, updates)

    added = form.scaling * averaged["layers.0.query.lora_B"] @ averaged["layers.0.query.lora_A"]
    assert np.allclose(merged["layers.0.query.residual"] - state["layers.0.query.residual"], added, atol=1e-5)
